//! `cargo xtask replay`: judges a run again from its events, without a VM.
//!
//! Never changes the events. The criteria are those of this work tree, as it is now.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use harness::error::usage;
use harness::run::finished::{self, FinishedRun};
use harness::run::{
    criteria::{self, Criteria},
    folder,
};
use harness::suite::script;
use harness::suite::suite_names;
use harness::symbols::{self, DebugFiles, Located};
use harness::terminal::{Terminal, outln};
use harness::workspace::shown_path;
use reports::judge::result::counts_line;
use reports::record::events::ReadError;
use reports::render::recheck::KeptVerdicts;
use reports::{Policy, RunRecord};
use vm_images::host::progress::Progress;

use crate::exit::Exit;
use crate::options::{FlakyChoice, class};

pub(crate) const REPLAY_HELP: &str = "\
Examples:
  cargo xtask replay                                 the newest run
  cargo xtask replay 2026-11-22T18-45-53Z --check    would the verdicts be the same?
  cargo xtask replay ~/from-ci/run --out /tmp/again  a run from elsewhere, left as it is

A run that was killed is judged as far as its events go. The exit code is the one that `test`
would have given; with --check it is 0 if the verdicts are the same, and 1 if one differs.";

#[derive(Debug, Args)]
pub(crate) struct ReplayOptions {
    /// Folder of a run, or its name among the runs
    #[arg(default_value = "latest")]
    pub(crate) run: PathBuf,
    /// Write the reports into this folder, and leave those of the run as they are
    #[arg(id = "reports", long = "out", value_name = "DIR", conflicts_with = "check")]
    pub(crate) reports: Option<PathBuf>,
    /// Write nothing; fail if a verdict is not the one in the run's verdicts.json
    #[arg(long)]
    pub(crate) check: bool,
    /// Judge by these classes, and not by those that the run was given (as for `test`)
    #[arg(id = "replay_fail_on", long = "fail-on", value_name = "CLASS", value_delimiter = ',', value_parser = class)]
    pub(crate) fail_on: Option<Vec<String>>,
    /// The same of what passed when it was tried again
    #[arg(id = "replay_flaky", long = "flaky", value_enum, value_name = "WHAT")]
    pub(crate) flaky: Option<FlakyChoice>,
    /// Folder with debug information, for stacks with lines: `vmlinux`, modules as `*.ko` or `*.ko.debug`. As
    /// -dbg packages unpack it (/usr/lib/debug), or a kernel tree; may be given several times. The run's
    /// events are left as they are
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_DEBUG_INFO")]
    pub(crate) debug_info: Vec<PathBuf>,
    /// Folder that runs are looked for in (default: reports/out)
    #[arg(id = "out", long = "runs", value_name = "DIR", env = "MD_REGRESS_OUT")]
    pub(crate) runs: Option<PathBuf>,
}

impl ReplayOptions {
    /// The policy for judging: the recorded one, except where these options differ.
    pub(crate) fn policy(&self, recorded: &Policy) -> Policy {
        let flaky_fails = self.flaky.map_or(recorded.flaky_fails, |flaky| flaky == FlakyChoice::Fail);
        let words = self.fail_on.as_deref().unwrap_or(recorded.words());
        Policy::of(words, flaky_fails).expect("each word was looked at when it was read")
    }
}

pub(crate) fn run(terminal: &Terminal, options: &ReplayOptions) -> Result<Exit> {
    let runs = options.runs.clone().unwrap_or_else(folder::default_runs);
    let policy = |recorded: &Policy| options.policy(recorded);
    let Replayed { ran, notes } =
        judge_again(&folder::find_run(&options.run, &runs)?, &options.debug_info, policy)?;
    for note in notes {
        terminal.note(&note);
    }
    if options.check {
        let differences = differences(&ran)?;
        for line in &differences {
            outln!("{line}");
        }
        return Ok(if differences.is_empty() {
            outln!("the verdicts are the same: {}", counts_line(&ran.judged));
            Exit::Passed
        } else {
            Exit::TestsFailed
        });
    }
    let reports_dir = options.reports.as_ref().unwrap_or(&ran.dir);
    fs::create_dir_all(reports_dir)
        .with_context(|| format!("failed to create output folder `{}`", reports_dir.display()))?;
    ran.write(reports_dir)?;
    Ok(ran.show(terminal, reports_dir).into())
}

/// A run that was judged again, and notes for the user.
#[derive(Debug)]
struct Replayed {
    ran: FinishedRun,
    notes: Vec<String>,
}

fn judge_again(dir: &Path, debug_info: &[PathBuf], policy: impl Fn(&Policy) -> Policy) -> Result<Replayed> {
    let mut record = finished::read_record(dir).map_err(blame)?;
    record.run.policy = policy(&record.run.policy);
    let suites = suite_names()?;
    let mut criteria = Criteria { known_issues: criteria::known_issues()?, ..Criteria::default() };
    let mut notes = Vec::new();
    for kernel_idx in record.kernel_idxs() {
        let release = record.kernels.get(&kernel_idx).map(|kernel| kernel.release.clone());
        let files = DebugFiles { folders: debug_info.to_vec(), release: release.unwrap_or_default() };
        let Located { frames, remarks } = symbols::locate(&record, kernel_idx, &files);
        record.add_lines(kernel_idx, frames);
        notes.extend(remarks);
    }
    for suite in suites_of(&record) {
        // The name comes from a file: it is looked up, and never used as a path. The user's own scripts are
        // no suite, and are only expected to pass.
        if suite == script::SUITE {
            continue;
        }
        if suites.contains(&suite) {
            let expectations = criteria::expectations_of(&suite, &criteria.known_issues)?;
            criteria.expectations.insert(suite.clone(), expectations);
        } else {
            notes.push(format!(
                "this work tree has no suite `{suite}`: its tests are judged as if all were expected to pass"
            ));
        }
    }
    let ran = FinishedRun::judge(dir.to_owned(), record, &criteria);
    Ok(Replayed { ran, notes })
}

/// Names of all suites in the run.
fn suites_of(record: &RunRecord) -> BTreeSet<String> {
    let attempted = record.attempts.iter().map(|attempt| &attempt.test);
    let not_planned = record.not_planned.iter().map(|test| &test.test);
    attempted.chain(not_planned).map(|test| test.suite().to_owned()).collect()
}

/// A folder without a run is the user's error; a disk that cannot be read is the host's.
fn blame(error: ReadError) -> anyhow::Error {
    match &error {
        ReadError::Io { cause, .. } if cause.kind() == ErrorKind::NotFound => usage(error.into()),
        ReadError::Io { .. } => error.into(),
        ReadError::Empty { .. }
        | ReadError::NotARun { .. }
        | ReadError::TooNew { .. }
        | ReadError::Damaged { .. } => usage(error.into()),
    }
}

/// Compares the verdicts with those in the run's verdicts.json; returns a line for each difference.
fn differences(ran: &FinishedRun) -> Result<Vec<String>> {
    let path = ran.dir.join("verdicts.json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(usage(anyhow!(
                "there is no `{}` to check: the run was killed before it was written; \
                 `cargo xtask replay` without --check writes it",
                shown_path(&path)
            )));
        }
        Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", path.display())),
    };
    let kept = KeptVerdicts::parse(&text, &path).map_err(|error| usage(error.into()))?;
    Ok(kept.differences(&ran.record, &ran.judged))
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
