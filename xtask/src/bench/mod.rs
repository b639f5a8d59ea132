//! `cargo xtask bench`: the figures of README.md, each from a run on the spot. What is compared runs
//! in turn within one call, and ratios of medians are printed: machines drift.

mod bisect;
mod build;
mod edits;
mod hang;
mod model;
mod step;
pub(crate) mod suite;
mod virtme;
mod vm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reports::Verdict;
use reports::record::AttemptState;
use vm_images::host::die_with_parent;
use vm_images::store::STORE_VARIABLE;
use vm_images::store_space::bytes_of;

use crate::cli::BenchCommand;
use crate::exit::Exit;
use harness::machine::Tuning;
use harness::run::{self, Options};
use harness::session::Session;
use harness::suite::select::Selection;
use harness::suite::suite_named;
use harness::terminal::outln;
use harness::workspace::workspace;

/// The test whose overhead is measured: one of dm-raid, short enough for several pairs, chatty as they all are.
const TEST: &str = "shell/component-raid.sh";
/// Memory of a VM that is compared, MiB: as LVM2's tests want it.
const BENCH_RAM_MIB: u32 = 2048;
/// A quick test: what matters is when it begins.
const QUICK_TEST: &str = "shell/000-basic.sh";

pub(crate) fn run(session: &Session, command: &BenchCommand) -> Result<Exit> {
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
        BenchCommand::History { dir, plant } => bisect::edits(session, dir, plant),
        BenchCommand::Hang { rounds, pairs } => hang::hang(session, *rounds, *pairs),
    }
}

/// An empty store, then a full one.
fn setup(session: &Session) -> Result<Exit> {
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(session.store.temporary())?.keep();
    let store = scratch.join("store");
    outln!("{:<58} {:>8}", "from `cargo xtask test` to the first test's first line", "s");
    for (what, n_runs) in [("empty store", 1), ("full store", 3)] {
        let mut seconds = Vec::new();
        for _ in 0..n_runs {
            seconds.push(time_to_first_line(session, &store, &scratch.join("out"))?.as_secs_f64());
        }
        outln!("{what:<58} {:>8.1}", median(&mut seconds));
    }
    outln!("{:<58} {:>8}", "store, MB", bytes_of(&store) / 1_000_000);
    vm_images::store::remove_tree(&scratch)?;
    Ok(Exit::Passed)
}

fn time_to_first_line(session: &Session, store: &Path, out: &Path) -> Result<Duration> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let started = Instant::now();
    #[expect(clippy::disallowed_methods, reason = "started as a user would, and looked at while it runs")]
    let mut command = Command::new(cargo);
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

/// One test with us listening, and the plain way: its output to a file in the guest, nobody listening.
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
    outln!("{TEST}, medians of {pairs}");
    outln!("  with output streamed to the harness        {ours:>8.1} s");
    outln!("  output to a file in the guest              {plain:>8.1} s");
    outln!("  ratio                                      {:>8.3}", ours / plain);
    outln!(
        "  around the test (start, files, power off)  {around:>8.2} s, {:.2} % of it",
        100.0 * around / ours
    );
    session.terminal.timed("a test that prints 1 GB");
    let flood = one(session, "canary", "flood-a-gigabyte", Tuning::default())?;
    outln!("a test that prints 1 GB: {:.1} s, peak memory of xtask {} MB", flood.test_s, peak_memory_mb()?);
    Ok(Exit::Passed)
}

struct Measured {
    test_s: f64,
    /// From the agent's answer to the end of the VM, without the test.
    around_s: f64,
    /// Processor time that watching it cost the guest, if it was watched.
    sampling_s: Option<f64>,
}

/// One test of a suite, or none of it, in a VM of its own.
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

fn one(session: &Session, suite: &str, name: &str, tuning: Tuning) -> Result<Measured> {
    let out = scratch(session)?;
    measure(session, &Options { tuning, ..options(suite, Some(name), out.path())? })
}

/// A test with its output going to a file in the guest: nobody listens until it ends.
fn one_unheard(session: &Session, test: &str) -> Result<Measured> {
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

fn measure(session: &Session, options: &Options) -> Result<Measured> {
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
    Ok(Measured {
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

/// The most memory that this process has had, MB (`VmHWM`, proc(5)).
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
