//! `cargo xtask bench`: the figures of docs/figures.md, each measured on the spot. Compared alternatives take
//! turns within one call, and ratios of medians are printed, because the speed of machines drifts.

mod bisect;
mod build;
mod edits;
mod hang;
mod model;
mod page;
mod step;
pub(crate) mod suite;
mod virtme;
mod vm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use harness::machine::Tuning;
use harness::run::begin::command_line;
use harness::run::{self, Options};
use harness::session::Session;
use harness::suite::select::Selection;
use harness::suite::suite_named;
use harness::workspace::{cargo, workspace};
use reports::Verdict;
use reports::record::AttemptState;
use reports::render::words::reproduce::shell_line;
use vm_images::host::die_with_parent;
use vm_images::spec::KernelSpec;
use vm_images::store::STORE_VARIABLE;
use vm_images::store::space::bytes_of;

use crate::bench::page::figure;
use crate::bench::suite::BenchSuiteOptions;
use crate::exit::Exit;

pub(crate) const BENCH_VM_HELP: &str = "\
Examples:
  cargo xtask bench vm
  cargo xtask bench vm --rounds 20 --no-virtme
  cargo xtask bench vm --no-virtme --kernel deb:6.12     the kernel that tests run on

virtme-ng comes from PyPI by pip, into the store; it is given the same QEMU, kernel, memory and processor.";

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Set up an empty store; then from the second start to the first test's first line
    Setup,
    /// What the harness costs a test, and what memory a flood of output costs the harness
    Overhead {
        /// Pairs of runs to take the median of
        #[arg(long, default_value_t = 4)]
        pairs: usize,
    },
    /// What a step of a search over commits of md takes, against a boot and a build from nothing, and with
    /// --kernel-tree against make in a whole tree; with --simulate how often whole searches are right, and
    /// what they cost, against repeating each step until it is sure
    Bisect {
        /// Whole searches by lot: no kernel is built, no VM runs
        #[arg(long)]
        simulate: bool,
        /// Real steps of each kind
        #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "simulate")]
        rounds: usize,
        /// A whole kernel tree, to run make in a copy of it: as it stands a step, and once from nothing
        #[arg(long, value_name = "DIR", conflicts_with = "simulate")]
        kernel_tree: Option<PathBuf>,
        /// Searches
        #[arg(long, value_name = "N", default_value_t = 2000)]
        searches: u64,
        /// Commits to search
        #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=100_000))]
        commits: usize,
        /// How often a trial of a bad commit fails
        #[arg(long, value_name = "P", default_value_t = 0.3)]
        rate: f64,
        /// How often any trial fails by chance, for the table of searches whose failures bear no mark
        #[arg(
            long,
            value_name = "P,…",
            default_value = "0,0.02,0.05,0.1",
            value_delimiter = ',',
            requires = "simulate"
        )]
        noise: Vec<f64>,
        /// Searches of each line of that table
        #[arg(long, value_name = "N", default_value_t = 400, requires = "simulate")]
        cell: u64,
        /// The number that the first search's random numbers start from
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
    },
    /// The model: the whole table, states per second, memory; and the quick part of it that `selftest` runs
    Model {
        /// Only the quick part
        #[arg(long)]
        quick: bool,
    },
    /// What an edit of md costs until its modules can be plugged in, and the same from nothing, which must
    /// give the same modules
    Build {
        /// Edits of each file to take the median of
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Ask for a VM, have a command's output, VM gone: ours and virtme-ng's; memory of VMs, disk of a
    /// snapshot
    #[command(after_help = BENCH_VM_HELP)]
    Vm {
        /// Times that each way is gone; medians are shown
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: u32,
        /// Leave virtme-ng out
        #[arg(long)]
        no_virtme: bool,
        /// Kernel that both boot; one for any machine, because virtme-ng's root wants 9p, which those for the
        /// cloud lack
        #[arg(long, value_name = "SPEC", default_value = "deb:6.12-amd64")]
        kernel: KernelSpec,
    },
    /// 20 RAID tests of LVM2's by our scheduler and by LVM2's own runner in one VM: wall times, verdicts side
    /// by side
    #[command(after_help = suite::BENCH_SUITE_HELP)]
    Suite(BenchSuiteOptions),
    /// Make a git repository of the real drivers/md with a bug planted in one of 37 commits, to search it
    #[command(alias = "history")]
    Commits {
        /// Folder to make it in
        dir: PathBuf,
        /// The bug, of suites/planted/plants
        #[arg(long, value_name = "NAME", default_value = "e3")]
        plant: String,
    },
    /// From a test's last move to the verdict and to the evidence; what watching costs
    Hang {
        /// Hangs of each kind
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Pairs of runs, watched and not, to take the median of
        #[arg(long, default_value_t = 3)]
        pairs: usize,
    },
}

/// Test whose overhead is measured: a test of dm-raid, short enough for several pairs, and as talkative as
/// all of them.
const TEST: &str = "shell/component-raid.sh";
/// Memory of a compared VM, MiB; as much as LVM2's tests need.
const BENCH_RAM_MIB: u32 = 2048;
/// A quick test; only the time until it begins matters.
const QUICK_TEST: &str = "shell/000-basic.sh";

/// Parameters of a bench, and the destination of its figures.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
    /// Also put what is printed into a page of figures, between its markers (default: docs/figures.md)
    #[arg(long, global = true, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub(crate) markdown: Option<Option<PathBuf>>,
}

impl BenchCommand {
    /// Name of its markers in the page of figures.
    fn name(&self) -> &'static str {
        match self {
            BenchCommand::Setup => "setup",
            BenchCommand::Overhead { .. } => "overhead",
            BenchCommand::Build { .. } => "build",
            BenchCommand::Bisect { simulate: false, .. } => "bisect",
            BenchCommand::Bisect { simulate: true, .. } => "bisect-simulate",
            BenchCommand::Model { .. } => "model",
            BenchCommand::Vm { .. } => "vm",
            BenchCommand::Suite(_) => "suite",
            BenchCommand::Commits { .. } => "commits",
            BenchCommand::Hang { .. } => "hang",
        }
    }
}

pub(crate) fn run(session: &Session, options: &BenchOptions) -> Result<Exit> {
    let exit = measure_all(session, &options.command)?;
    if let Some(page) = &options.markdown {
        let page = page.clone().unwrap_or_else(|| workspace().join("docs/figures.md"));
        let words =
            command_line(std::env::args_os()).into_iter().filter(|word| !word.starts_with("--markdown"));
        page::write(&page, options.command.name(), &shell_line(&words.collect::<Vec<_>>()))?;
    }
    Ok(exit)
}

fn measure_all(session: &Session, command: &BenchCommand) -> Result<Exit> {
    match command {
        BenchCommand::Setup => setup(session),
        BenchCommand::Overhead { pairs } => overhead(session, *pairs),
        BenchCommand::Build { rounds } => build::build(session, *rounds),
        BenchCommand::Bisect { simulate: false, rounds, kernel_tree, .. } => {
            step::steps(session, *rounds, kernel_tree.as_deref())
        }
        BenchCommand::Bisect { simulate: true, searches, cell, commits, rate, noise, seed, .. } => {
            bisect::simulate(&bisect::Simulation {
                n_searches: *searches,
                n_of_cell: *cell,
                n_commits: *commits,
                rate: *rate,
                noise: noise.clone(),
                seed: *seed,
            })
        }
        BenchCommand::Model { quick } => model::model(*quick),
        BenchCommand::Vm { rounds, no_virtme, kernel } => vm::vm(session, kernel, *rounds, !no_virtme),
        BenchCommand::Suite(options) => suite::suite(session, &options.asked()),
        BenchCommand::Commits { dir, plant } => bisect::commits(session, dir, plant),
        BenchCommand::Hang { rounds, pairs } => hang::hang(session, *rounds, *pairs),
    }
}

/// Measures the set-up of an empty store, then the start of a test with a full one.
fn setup(session: &Session) -> Result<Exit> {
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(session.store.temporary())?.keep();
    let store = scratch.join("store");
    figure!("{:<58} {:>8}", "from `cargo xtask test` to the first test's first line", "s");
    for (what, n_runs) in [("empty store", 1), ("full store", 3)] {
        let mut seconds = Vec::new();
        for _ in 0..n_runs {
            seconds.push(time_to_first_line(session, &store, &scratch.join("out"))?.as_secs_f64());
        }
        figure!("{what:<58} {:>8.1}", median(&mut seconds));
    }
    figure!("{:<58} {:>8}", "store, MB", bytes_of(&store) / 1_000_000);
    vm_images::host::tree::remove_tree(&scratch)?;
    Ok(Exit::Passed)
}

fn time_to_first_line(session: &Session, store: &Path, out: &Path) -> Result<Duration> {
    let started = Instant::now();
    #[expect(clippy::disallowed_methods, reason = "started as a user would, and looked at while it runs")]
    let mut command = Command::new(cargo());
    die_with_parent(&mut command);
    let mut child = command
        .args(["xtask", "test", "--accel", "tcg", "--no-history", "--out"])
        .arg(out)
        .arg(QUICK_TEST)
        .env(STORE_VARIABLE, store)
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("failed to start cargo")?;
    let before = newest_run(out);
    let first_line = loop {
        let run = newest_run(out);
        if run != before && run.is_some_and(|run| has_output(&run)) {
            break started.elapsed();
        }
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("the run ended before its test printed a line ({status})");
        }
        if session.host.cancel().is_cancelled() {
            let _ = child.kill();
            anyhow::bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let status = child.wait()?;
    ensure!(status.success(), "the run failed ({status})");
    Ok(first_line)
}

fn newest_run(out: &Path) -> Option<PathBuf> {
    fs::canonicalize(out.join("latest")).ok()
}

fn has_output(run: &Path) -> bool {
    let kernels = fs::read_dir(run).into_iter().flatten().flatten();
    let tests = kernels.flat_map(|kernel| fs::read_dir(kernel.path()).into_iter().flatten().flatten());
    tests.into_iter().any(|test| fs::metadata(test.path().join("output.log")).is_ok_and(|log| log.len() > 0))
}

/// Compares a test that the harness listens to with the same test writing to a file in the guest.
fn overhead(session: &Session, pairs: usize) -> Result<Exit> {
    let (mut ours, mut plain, mut around) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=pairs {
        session.terminal.timed(&format!("pair {pair} of {pairs}: {TEST}"));
        let with_us = one(session, "lvm2", TEST, Tuning::default())?;
        ours.push(with_us.test_s);
        around.push(with_us.around_s);
        plain.push(one_unheard(session, TEST)?.test_s);
    }
    let (ours, plain, around) = (median(&mut ours), median(&mut plain), median(&mut around));
    figure!("{TEST}, medians of {pairs}");
    figure!("  with output streamed to the harness        {ours:>8.1} s");
    figure!("  output to a file in the guest              {plain:>8.1} s");
    figure!("  ratio                                      {:>8.3}", ours / plain);
    figure!(
        "  around the test (start, files, power off)  {around:>8.2} s, {:.2} % of it",
        100.0 * around / ours
    );
    session.terminal.timed("a test that prints 1 GB");
    let flood = one(session, "canary", "flood-a-gigabyte", Tuning::default())?;
    figure!("a test that prints 1 GB: {:.1} s, peak memory of xtask {} MB", flood.test_s, peak_memory_mb()?);
    Ok(Exit::Passed)
}

struct RunTimes {
    test_s: f64,
    /// Time from the agent's answer to the end of the VM, without the test's, seconds.
    around_s: f64,
    /// CPU time that sampling took in the guest, seconds; `None` if the test was not watched.
    sampling_s: Option<f64>,
}

/// Options for one test of a suite, or for none of its tests, in a VM of its own.
fn options(suite: &str, name: Option<&str>, out: &Path) -> Result<Options> {
    Ok(Options {
        kernels: vec!["deb:6.12".parse()?],
        selection: Selection {
            patterns: name.iter().map(|&name| name.to_owned()).collect(),
            ..Selection::default()
        },
        n_vms: Some(1),
        out: Some(out.to_owned()),
        ..Options::new(suite)
    })
}

fn one(session: &Session, suite: &str, name: &str, tuning: Tuning) -> Result<RunTimes> {
    let out = scratch(session)?;
    measure(session, &Options { tuning, ..options(suite, Some(name), out.path())? })
}

/// Runs a test with its output going to a file in the guest, so that nobody listens until it ends.
fn one_unheard(session: &Session, test: &str) -> Result<RunTimes> {
    let out = scratch(session)?;
    let script = out.path().join("unheard.sh");
    let line =
        format!("exec bash -noprofile -norc /usr/share/lvm2-testsuite/{test} >/run/unheard.log 2>&1\n");
    fs::write(&script, line).with_context(|| format!("failed to write `{}`", script.display()))?;
    let needs = format!("silence={}s", suite_named("lvm2")?.example()?.test_timeout.as_secs());
    measure(
        session,
        &Options { scripts: vec![script], script_needs: Some(needs), ..options("lvm2", None, out.path())? },
    )
}

fn scratch(session: &Session) -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(session.store.temporary());
    folder.context("failed to make a folder")
}

fn measure(session: &Session, options: &Options) -> Result<RunTimes> {
    let ran = run::run(session, options)?.context("no test was selected")?;
    let judged = ran.judged.first().context("nothing was judged")?;
    ensure!(
        matches!(judged.verdict, Verdict::Passed | Verdict::PassedWithComplaints),
        "{} came out {}: {}",
        judged.test,
        judged.verdict,
        judged.explanation()
    );
    let attempt = ran.record.attempts.first().context("nothing was tried")?;
    let AttemptState::Finished { facts, .. } = &attempt.state else {
        anyhow::bail!("the test did not finish")
    };
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    let test_ms = facts.test_ms.context("the test was not timed")?;
    let ready_ms = attempt.ready_after_ms.context("the VM was not ready")?;
    Ok(RunTimes {
        test_s: seconds(test_ms),
        sampling_s: facts.sampling_ms.map(seconds),
        around_s: seconds(facts.vm_ms.saturating_sub(ready_ms + test_ms)),
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Peak memory of this process, MB (`VmHWM`, proc(5)).
fn peak_memory_mb() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }
}
