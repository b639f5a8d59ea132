//! `cargo xtask replay`: judges a run again from its events, without a VM.
//!
//! Never changes the events. What is judged by is this work tree's, as it is now.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use reports::RunRecord;
use reports::events::ReadError;
use reports::recheck::KeptVerdicts;
use reports::result::counts_line;
use vm_images::progress::Progress;

use crate::cli::ReplayOptions;
use crate::exit::{Exit, usage};
use crate::report::{self, Known, Ran, shown_path};
use crate::script;
use crate::symbols::{self, DebugFiles, Located};
use crate::terminal::{Terminal, outln};
use crate::test::suite_names;

pub(crate) fn run(terminal: &Terminal, options: &ReplayOptions) -> Result<Exit> {
    let runs = options.runs.clone().unwrap_or_else(report::default_runs);
    let Replayed { ran, notes } = judge_again(&find_run(&options.run, &runs)?, &options.debug_info)?;
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
    Ok(ran.show(terminal, reports_dir))
}

/// A run that was judged again, and what the user should know of how.
#[derive(Debug)]
struct Replayed {
    ran: Ran,
    notes: Vec<String>,
}

fn judge_again(dir: &Path, debug_info: &[PathBuf]) -> Result<Replayed> {
    let mut record = report::read_record(dir).map_err(blame)?;
    let suites = suite_names()?;
    let mut known = Known { known_issues: report::known_issues()?, ..Known::default() };
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
            known.expectations.insert(suite.clone(), report::expectations_of(&suite)?);
        } else {
            notes.push(format!(
                "this work tree has no suite `{suite}`: its tests are judged as if all were expected to pass"
            ));
        }
    }
    let ran = Ran::judge(dir.to_owned(), record, &known);
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
fn differences(ran: &Ran) -> Result<Vec<String>> {
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

/// The folder that is meant: a bare name is first of all a run's. Links are followed once, so that
/// `latest` stays the same run while the next one begins.
fn find_run(named: &Path, runs: &Path) -> Result<PathBuf> {
    let mut components = named.components();
    let is_name = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    let places = if is_name { vec![runs.join(named), named.to_owned()] } else { vec![named.to_owned()] };
    for place in &places {
        match fs::canonicalize(place) {
            Ok(folder) if folder.is_dir() => return Ok(folder),
            Ok(file) => {
                return Err(usage(anyhow!(
                    "`{}` is no folder; name the folder of a run, the one that holds events.jsonl",
                    shown_path(&file)
                )));
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error).with_context(|| format!("failed to find `{}`", place.display())),
        }
    }
    let named = named.display();
    Err(usage(if is_name {
        let newest = newest_runs(runs);
        let known = match newest.as_slice() {
            [] => "there are no runs: `cargo xtask test` makes one".to_owned(),
            names => format!("the newest are {}", names.join(", ")),
        };
        anyhow!("no run `{named}` in `{}`, and no such folder; {known}", shown_path(runs))
    } else {
        anyhow!("there is no folder `{named}`; name the folder of a run, or a run in `{}`", shown_path(runs))
    }))
}

/// Names of a few runs, the newest first: they are named by the time.
fn newest_runs(runs: &Path) -> Vec<String> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    let is_run = |entry: &fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.path().join("events.jsonl").is_file()
    };
    let mut names: Vec<_> =
        entries.filter(is_run).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.truncate(3);
    names
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
