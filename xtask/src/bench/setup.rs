//! `cargo xtask bench setup`: from the command to the first test's first line, with an empty store and with a
//! full one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use harness::machine::accel::AccelChoice;
use harness::run::finished::read_record;
use harness::session::Session;
use harness::workspace::{cargo, workspace};
use vm_images::host::die_with_parent;
use vm_images::store::STORE_VARIABLE;
use vm_images::store::space::bytes_of;

use super::median;
use crate::bench::figures::{Figures, left, right};
use crate::exit::Exit;

/// A quick test; only the time until it begins matters.
const QUICK_TEST: &str = "shell/000-basic.sh";

/// Measures the set-up of an empty store, then the start of a test with a full one.
pub(super) fn setup(session: &Session, figures: &Figures, accel: AccelChoice) -> Result<Exit> {
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(session.store.temporary())?.keep();
    let (store, runs) = (scratch.join("store"), scratch.join("out"));
    let columns = vec![left("from `cargo xtask test` to the first test's first line", 58), right("s", 8)];
    let table = figures.table("", columns);
    for (what, n_runs) in [("empty store", 1), ("full store, median of 3", 3)] {
        let mut seconds = Vec::new();
        for _ in 0..n_runs {
            seconds.push(time_to_first_line(session, accel, &store, &runs)?.as_secs_f64());
        }
        table.row([what.to_owned(), format!("{:.1}", median(&mut seconds))]);
    }
    figures.value("store", format!("{} MB", bytes_of(&store) / 1_000_000));
    let run = newest_run(&runs).context("there is no run")?;
    figures.ran(&read_record(&run)?);
    vm_images::host::tree::remove_tree(&scratch)?;
    Ok(Exit::Passed)
}

fn time_to_first_line(session: &Session, accel: AccelChoice, store: &Path, out: &Path) -> Result<Duration> {
    let accel = accel.to_possible_value().context("each choice has a name")?;
    let started = Instant::now();
    #[expect(clippy::disallowed_methods, reason = "started as a user would, and looked at while it runs")]
    let mut command = Command::new(cargo());
    die_with_parent(&mut command);
    let mut child = command
        .args(["xtask", "test", "--accel", accel.get_name(), "--no-history", "--out"])
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
