//! `cargo xtask replay`: judges a run again from its events, without a VM.
//!
//! Never changes the events. What is judged by is this work tree's, as it is now.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use reports::events::ReadError;
use reports::recheck::KeptVerdicts;
use reports::result::counts_line;
use reports::{Policy, RunRecord};
use vm_images::progress::Progress;

use crate::cli::ReplayOptions;
use crate::exit::Exit;
use harness::error::usage;
use harness::run::finished::{self, FinishedRun};
use harness::run::{
    folder,
    known::{self, Known},
};
use harness::suite::script;
use harness::suite::suite_names;
use harness::symbols::{self, DebugFiles, Located};
use harness::terminal::{Terminal, outln};
use harness::workspace::shown_path;

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

/// A run that was judged again, and what the user should know of how.
#[derive(Debug)]
struct Replayed {
    ran: FinishedRun,
    notes: Vec<String>,
}

fn judge_again(dir: &Path, debug_info: &[PathBuf], policy: impl Fn(&Policy) -> Policy) -> Result<Replayed> {
    let mut record = finished::read_record(dir).map_err(blame)?;
    record.run.policy = policy(&record.run.policy);
    let suites = suite_names()?;
    let mut known = Known { known_issues: known::known_issues()?, ..Known::default() };
    let mut notes = Vec::new();
    for kernel_idx in record.kernel_idxs() {
        let release = record.kernels.get(&kernel_idx).map(|kernel| kernel.release.clone());
        let files = DebugFiles { folders: debug_info.to_vec(), release: release.unwrap_or_default() };
        let Located { frames, remarks } = symbols::locate(&record, kernel_idx, &files);
        record.add_lines(kernel_idx, frames);
        notes.extend(remarks);
    }
    for suite in suites_of(&record) {
        // A name that comes from a file is looked up, never made a path.
        // A user's own scripts: nobody expects anything of them but a pass.
        if suite == script::SUITE {
            continue;
        }
        if suites.contains(&suite) {
            known.expectations.insert(suite.clone(), known::expectations_of(&suite)?);
        } else {
            notes.push(format!(
                "this work tree has no suite `{suite}`: its tests are judged as if all were expected to pass"
            ));
        }
    }
    let ran = FinishedRun::judge(dir.to_owned(), record, &known);
    Ok(Replayed { ran, notes })
}

/// Every suite that the run speaks of.
fn suites_of(record: &RunRecord) -> BTreeSet<String> {
    let attempted = record.attempts.iter().map(|attempt| &attempt.test);
    let not_planned = record.not_planned.iter().map(|test| &test.test);
    attempted.chain(not_planned).map(|test| test.suite().to_owned()).collect()
}

/// A folder that holds no run was named by the user; a disk that cannot be read is the host's fault.
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

/// Holds the verdicts against those that the run's verdicts.json kept; a line for each that differs.
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
