//! `cargo xtask matrix`: the same tests with several versions of mdadm, on several kernels.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use harness::machine::accel::AccelChoice;
use harness::run;
use harness::run::finished::FinishedRun;
use harness::run::folder::{create_folder, default_runs};
use harness::run::options::Options;
use harness::session::Session;
use harness::terminal::{out, outln};
use harness::workspace::shown_path;
use reports::RunResult;
use reports::render::matrix::{Column, markdown};
use vm_images::build::checkout::Sources;
use vm_images::spec::KernelSpecs;

use crate::exit::Exit;
use crate::options::{SelectionOptions, all, parse_mdadm};

pub(crate) const MATRIX_HELP: &str = "\
Examples:
  cargo xtask matrix --mdadm deb:4.2 --mdadm deb:4.4 --kernel deb:6.1 --kernel deb:6.12 --tag bitmap
  cargo xtask matrix --mdadm deb:4.2 --mdadm deb:4.4 --kernel deb:6.12 25raid456-reshape-deadlock

Each version brings its own tests. The exit code is that of the run that went worst.";

/// `cargo xtask matrix`.
#[derive(Debug, Args)]
pub(crate) struct MatrixOptions {
    #[command(flatten)]
    selection: SelectionOptions,
    /// One of Debian's versions of mdadm; may be given several times
    #[arg(long, value_name = "deb:VERSION", value_parser = parse_mdadm, required = true)]
    mdadm: Vec<String>,
    /// Kernel to test, as for `test`; may be given several times
    #[arg(long = "kernel", value_name = "SPEC", default_value = "deb:6.12", env = "MD_REGRESS_KERNEL")]
    kernels: Vec<KernelSpecs>,
    /// Suite to take tests from
    #[arg(long, default_value = "mdadm")]
    suite: String,
    /// How guest code is executed
    #[arg(long, value_enum, default_value_t, env = "MD_REGRESS_ACCEL")]
    accel: AccelChoice,
    /// VMs at a time (default: as many as the processors bear)
    #[arg(short = 'j', long = "jobs", value_name = "N", env = "MD_REGRESS_JOBS", value_parser = clap::value_parser!(u16).range(1..))]
    n_vms: Option<u16>,
    /// Folder that is written to
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_OUT")]
    out: Option<PathBuf>,
}

pub(crate) fn run(session: &Session, options: MatrixOptions) -> Result<Exit> {
    let dir = create_folder(&options.out.clone().unwrap_or_else(default_runs), "matrix-")?;
    let path = dir.join("matrix.md");
    let tests = Options {
        kernels: all(options.kernels),
        selection: options.selection.into_selection(),
        accel: options.accel,
        n_vms: options.n_vms.map(usize::from),
        out: Some(dir.join("runs")),
        ..Options::new(&options.suite)
    };
    let mut runs: Vec<FinishedRun> = Vec::new();
    for version in &options.mdadm {
        session.terminal.timed(&format!("mdadm {version}"));
        let sources = Sources { mdadm_version: Some(version.clone()), ..Sources::default() };
        let finished = run::run(session, &Options { sources, ..tests.clone() })?;
        let Some(finished) = finished else { continue };
        finished.show(&session.terminal, &finished.dir);
        let result = finished.result();
        runs.push(finished);
        // Written after each run, so that it is not lost if a later one fails.
        fs::write(&path, table(&runs)).with_context(|| format!("failed to write `{}`", path.display()))?;
        if result == RunResult::Interrupted {
            break;
        }
    }
    if runs.is_empty() {
        session.terminal.say("nothing to run: no test is selected");
        return Ok(Exit::NothingRan);
    }
    out(&table(&runs));
    outln!("report: {}", shown_path(&path));
    Ok(worst(runs.iter().map(FinishedRun::result)).into())
}

fn table(runs: &[FinishedRun]) -> String {
    let columns: Vec<_> =
        runs.iter().map(|run| Column { record: &run.record, judged: &run.judged }).collect();
    markdown(&columns)
}

/// The result of all runs together: the first of these that one of them has.
fn worst(results: impl Iterator<Item = RunResult>) -> RunResult {
    let all: Vec<_> = results.collect();
    let by_weight =
        [RunResult::Interrupted, RunResult::InfraError, RunResult::TestsFailed, RunResult::Passed];
    by_weight.into_iter().find(|result| all.contains(result)).unwrap_or(RunResult::NothingRan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_run_decides() {
        let check = |results: &[RunResult], expect| assert_eq!(worst(results.iter().copied()), expect);
        check(&[RunResult::Passed, RunResult::TestsFailed], RunResult::TestsFailed);
        check(&[RunResult::InfraError, RunResult::TestsFailed], RunResult::InfraError);
        check(&[RunResult::NothingRan, RunResult::Passed], RunResult::Passed);
        check(&[RunResult::NothingRan], RunResult::NothingRan);
    }
}
