//! `cargo xtask bench suite`: a sample of LVM2's RAID tests by our scheduler, and by LVM2's own runner in one
//! VM, on the same host; with other numbers of VMs, and with each VM booted.
//!
//! Results are kept in a folder, so that a bench that was cut off continues with the missing parts.
//! Deliberately not here: the choice of tests ([`sample`]), the call of the other runner ([`runner`]).

mod compare;
mod runner;
mod sample;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use harness::error::usage;
use harness::machine::Tuning;
use harness::machine::accel::AccelChoice;
use harness::run::finished::FinishedRun;
use harness::run::history;
use harness::run::{self, Options};
use harness::session::Session;
use harness::suite::select::Selection;
use harness::workspace::shown_path;
use reports::{Judged, Verdict};
use serde::{Deserialize, Serialize};

use self::sample::SAMPLE;
use super::{options, prepared};
use crate::bench::AccelOption;
use crate::bench::figures::Figures;
use crate::children::{descendants_of, pss_kib};
use crate::exit::Exit;

pub(crate) const BENCH_SUITE_HELP: &str = "\
Examples:
  cargo xtask bench suite                                   both runners, about a quarter of an hour
  cargo xtask bench suite --out /var/tmp/bench              the same, and goes on there if it was cut off
  cargo xtask bench suite --out /var/tmp/bench --cold       only what is missing there: each VM booted
  cargo xtask bench suite -j 2 -j 3 -j 4 -j 6 --no-runner   how many VMs at a time pay off
  cargo xtask bench suite --tests raid10 --tests vgsplit    some of the sample
  cargo xtask bench suite --accel kvm --markdown            KVM or an error; a report to send";

#[derive(Debug, Args)]
pub(crate) struct BenchSuiteOptions {
    /// Only tests of the sample whose names hold this; may be given several times
    #[arg(long, value_name = "PART")]
    tests: Vec<String>,
    /// VMs at a time (default: as for `test`); may be given several times, for a run each
    #[arg(short = 'j', long = "jobs", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    n_vms: Vec<u16>,
    /// Also boot each VM rather than restore it: the verdicts must be the same
    #[arg(long)]
    cold: bool,
    /// Leave LVM2's own runner out
    #[arg(long)]
    no_runner: bool,
    /// Folder that what was measured is kept in; what it has is not measured again
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// File that tells how long tests take, and that attempts are appended to (default:
    /// reports/history.jsonl)
    #[arg(long, value_name = "FILE", env = "MD_REGRESS_HISTORY")]
    history: Option<PathBuf>,
    #[command(flatten)]
    accel: AccelOption,
}

impl BenchSuiteOptions {
    /// The options in the bench's form.
    pub(crate) fn asked(&self) -> SuiteBench {
        SuiteBench {
            tests: self.tests.clone(),
            n_vms: self.n_vms.clone(),
            cold: self.cold,
            no_runner: self.no_runner,
            out: self.out.clone(),
            history: self.history.clone().unwrap_or_else(history::default_file),
            accel: self.accel.accel,
        }
    }
}

/// Parameters of the bench.
#[derive(Clone, Debug)]
pub(crate) struct SuiteBench {
    /// Only tests of the sample whose names contain one of these; empty for all.
    pub(crate) tests: Vec<String>,
    /// Numbers of VMs at a time, one part each; empty for the default number.
    pub(crate) n_vms: Vec<u16>,
    /// True for a further part in which each VM is booted.
    pub(crate) cold: bool,
    /// True to leave out LVM2's own runner.
    pub(crate) no_runner: bool,
    /// Folder that parts are kept in.
    pub(crate) out: Option<PathBuf>,
    /// History file that has the durations of tests.
    pub(crate) history: PathBuf,
    /// Accelerator of both runners' VMs.
    pub(crate) accel: AccelChoice,
}

/// Part of the bench: one run of the sample, as it is kept in the folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SampleRun {
    name: String,
    /// Conditions of the measurement; only parts with the same ones are compared.
    conditions: String,
    /// Time from the start of the run to its end, seconds.
    wall_s: f64,
    n_vms: u32,
    /// Peak memory of all VMs together (Pss), MiB.
    peak_mib: u64,
    /// Number of VMs that were restored from a snapshot.
    n_restored: usize,
    tests: BTreeMap<String, SampleTest>,
}

/// Result of one test in a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SampleTest {
    /// Verdict in one word.
    verdict: String,
    /// Reason; may be empty.
    why: String,
    test_s: f64,
}

/// Measures the missing parts, and prints the comparison.
pub(super) fn suite(session: &Session, figures: &Figures, asked: &SuiteBench) -> Result<Exit> {
    let tests: Vec<&str> = SAMPLE
        .iter()
        .map(|&(name, _)| name)
        .filter(|name| asked.tests.is_empty() || asked.tests.iter().any(|part| name.contains(part.as_str())))
        .collect();
    if tests.is_empty() {
        let all: Vec<_> = SAMPLE.iter().map(|(name, _)| *name).collect();
        return Err(usage(anyhow::anyhow!("no test of the sample matches; it has {}", all.join(", "))));
    }
    let folder = match &asked.out {
        Some(folder) => folder.clone(),
        None => tempfile::Builder::new().prefix("bench-").tempdir_in(session.store.temporary())?.keep(),
    };
    fs::create_dir_all(&folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    let (conditions, accel) = conditions(session, figures, asked.accel, &tests)?;
    let bench = Bench { session, figures, conditions, accel, tests, folder, asked };

    let mut parts = Vec::new();
    let n_vms: Vec<Option<u16>> = match asked.n_vms.as_slice() {
        [] => vec![None],
        all => all.iter().copied().map(Some).collect(),
    };
    if !asked.no_runner {
        parts.push(bench.part("lvm2-testsuite, stock VM", |folder| bench.theirs(folder, true))?);
        parts.push(bench.part("lvm2-testsuite, our VM", |folder| bench.theirs(folder, false))?);
    }
    for n in &n_vms {
        let name = n.map_or("md-regress".to_owned(), |n| format!("md-regress -j {n}"));
        parts.push(bench.part(&name, |folder| bench.ours(folder, *n, true))?);
    }
    if asked.cold {
        let n = n_vms.first().copied().flatten();
        parts.push(bench.part("md-regress, booted", |folder| bench.ours(folder, n, false))?);
    }
    compare::show(figures, &parts, !asked.no_runner);
    figures.aside(&format!("parts and logs: {}", shown_path(&bench.folder)));
    Ok(Exit::Passed)
}

/// The conditions on which the figures depend, in one line; and the accelerator, so that it is chosen only
/// once.
fn conditions(
    session: &Session,
    figures: &Figures,
    accel: AccelChoice,
    tests: &[&str],
) -> Result<(String, AccelChoice)> {
    let (prepared, settled) = prepared(session, figures, accel)?;
    let kernel = prepared.kernels.first().context("no kernel to boot")?;
    let n_cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let lvm2 = prepared.versions.get("lvm2").map(String::as_str).unwrap_or_default();
    let (accel, release) = (prepared.chosen.accel, &kernel.kernel.release);
    let words = format!("{} tests of lvm2 {lvm2} on {release}, {accel}, {n_cpus} cores", tests.len());
    Ok((words, settled))
}

struct Bench<'a> {
    session: &'a Session,
    figures: &'a Figures,
    conditions: String,
    accel: AccelChoice,
    tests: Vec<&'a str>,
    folder: PathBuf,
    asked: &'a SuiteBench,
}

impl Bench<'_> {
    /// The part of this name: the kept one, or one measured now.
    fn part(&self, name: &str, measure: impl FnOnce(&Path) -> Result<SampleRun>) -> Result<SampleRun> {
        let slug = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let file = self.folder.join(format!("{slug}.json"));
        if let Ok(text) = fs::read_to_string(&file) {
            let part: SampleRun = serde_json::from_str(&text)
                .with_context(|| format!("`{}` is damaged; remove it", file.display()))?;
            let wanted: Vec<&str> = part.tests.keys().map(String::as_str).collect();
            let mut tests = self.tests.clone();
            tests.sort_unstable();
            ensure!(
                part.conditions == self.conditions && wanted == tests,
                "`{}` was measured otherwise ({}, now {}); name another folder by --out",
                file.display(),
                part.conditions,
                self.conditions
            );
            self.figures.note(format!("kept from an earlier call: {name}"));
            return Ok(part);
        }
        self.session.terminal.timed(&format!("{name}: {}", self.conditions));
        let part = SampleRun { name: name.to_owned(), ..measure(&self.folder.join(&slug))? };
        let text = serde_json::to_string_pretty(&part)?;
        fs::write(&file, text).with_context(|| format!("failed to write `{}`", file.display()))?;
        Ok(part)
    }

    /// Measures our scheduler, with each test in a VM of its own.
    fn ours(&self, out: &Path, n_vms: Option<u16>, snapshots: bool) -> Result<SampleRun> {
        let options = Options {
            selection: Selection {
                patterns: self.tests.iter().map(|&name| name.to_owned()).collect(),
                ..Selection::default()
            },
            n_vms: n_vms.map(usize::from),
            history: Some(self.asked.history.clone()),
            snapshots,
            ..options(self.accel, "lvm2", None, out)?
        };
        let (ran, wall, peak_mib) = self.watched(&options)?;
        let tests = ran.judged.iter().map(|judged| (judged.test.name().to_owned(), test_part(&ran, judged)));
        Ok(SampleRun { tests: tests.collect(), ..self.whole(&ran, wall, peak_mib) })
    }

    /// Measures LVM2's own runner, with all tests in one booted VM of two processors: a `stock` one, or one
    /// with our settings.
    fn theirs(&self, out: &Path, stock: bool) -> Result<SampleRun> {
        fs::create_dir_all(out).with_context(|| format!("failed to create `{}`", out.display()))?;
        let script = out.join("lvm2-testsuite.sh");
        fs::write(&script, runner::script(&self.tests))
            .with_context(|| format!("failed to write `{}`", script.display()))?;
        let options = Options {
            scripts: vec![script],
            // No sampling, so that it takes no CPU time.
            tuning: Tuning { stock_machine: stock, unwatched: true },
            snapshots: false,
            ..options(self.accel, "lvm2", None, out)?
        };
        let (ran, wall, peak_mib) = self.watched(&options)?;
        let tests = runner::results(&ran)?;
        Ok(SampleRun { tests, ..self.whole(&ran, wall, peak_mib) })
    }

    fn whole(&self, ran: &FinishedRun, wall: Duration, peak_mib: u64) -> SampleRun {
        let finished = || ran.record.attempts.iter().filter_map(|attempt| attempt.finished());
        SampleRun {
            name: String::new(),
            conditions: self.conditions.clone(),
            wall_s: wall.as_secs_f64(),
            n_vms: ran.record.run.host.get("vms").and_then(|text| text.parse().ok()).unwrap_or_default(),
            peak_mib,
            n_restored: finished().filter(|(_, facts)| facts.restored).count(),
            tests: BTreeMap::new(),
        }
    }

    /// Runs tests; returns the run, its duration, and its peak memory, MiB.
    fn watched(&self, options: &Options) -> Result<(FinishedRun, Duration, u64)> {
        let (over, peak_kib) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let watch = || {
                while !over.load(Ordering::SeqCst) {
                    let family = descendants_of(std::process::id());
                    peak_kib.fetch_max(
                        family.into_iter().filter_map(|pid| pss_kib(pid).ok()).sum(),
                        Ordering::SeqCst,
                    );
                    std::thread::park_timeout(Duration::from_secs(3));
                }
            };
            let watcher = std::thread::Builder::new().name("memory".into()).spawn_scoped(scope, watch)?;
            let started = Instant::now();
            let ran = run::run(self.session, options);
            let wall = started.elapsed();
            over.store(true, Ordering::SeqCst);
            watcher.thread().unpark();
            let ran = ran?.context("no test was selected")?;
            self.session.host.cancel().check()?;
            Ok((ran, wall, peak_kib.load(Ordering::SeqCst) / 1024))
        })
    }
}

fn test_part(ran: &FinishedRun, judged: &Judged) -> SampleTest {
    let attempt = ran.record.attempts.iter().find(|attempt| Some(attempt.number) == judged.attempt);
    let test_ms = attempt.and_then(|attempt| attempt.finished()).and_then(|(_, facts)| facts.test_ms);
    let why = match judged.verdict {
        Verdict::Passed => String::new(),
        _ => judged.explanation(),
    };
    SampleTest {
        verdict: judged.verdict.to_string(),
        why,
        test_s: test_ms.unwrap_or_default() as f64 / 1000.0,
    }
}
