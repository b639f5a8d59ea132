//! What `test` and `replay` do alike once the events are there: read them, judge them, write the
//! reports, show them, and say how the command ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use reports::events::ReadError;
use reports::{Expectations, Judged, KnownIssues, RunRecord, RunResult};

use crate::exit::{Exit, usage};
use crate::run_order;
use crate::session::workspace;
use crate::terminal::{Terminal, out};

/// A run, as far as it went, and what it means.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Folder of its events and logs.
    pub(crate) dir: PathBuf,
    pub(crate) record: RunRecord,
    pub(crate) judged: Vec<Judged>,
}

/// What runs are judged by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// By suite; of one without an entry, every test is expected to pass.
    pub(crate) expectations: BTreeMap<String, Expectations>,
    pub(crate) known_issues: KnownIssues,
}

/// Where runs are written to, and looked for, unless the user names another folder.
pub(crate) fn default_runs() -> PathBuf {
    workspace().join("reports/out")
}

/// What happened in the run whose folder this is.
pub(crate) fn read_record(run_dir: &Path) -> Result<RunRecord, ReadError> {
    Ok(reports::read_events(&run_dir.join("events.jsonl"))?.into_record())
}

/// What `suites/SUITE/expectations.toml` of this work tree says; a suite without one expects passes.
pub(crate) fn expectations_of(suite: &str) -> Result<Expectations> {
    let path = workspace().join("suites").join(suite).join("expectations.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", path.display())),
    };
    let shown = path.strip_prefix(workspace()).unwrap_or(&path);
    Expectations::parse(&text, &shown.to_string_lossy()).map_err(|error| usage(error.into()))
}

/// What `suites/known-issues.toml` of this work tree says.
pub(crate) fn known_issues() -> Result<KnownIssues> {
    let path = workspace().join("suites/known-issues.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let shown = path.strip_prefix(workspace()).unwrap_or(&path);
    KnownIssues::parse(&text, &shown.to_string_lossy()).map_err(|error| usage(error.into()))
}

/// The folder that is meant: a bare name is first of all a run's. Links are followed once, so that
/// `latest` stays the same run while the next one begins.
pub(crate) fn find_run(named: &Path, runs: &Path) -> Result<PathBuf> {
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

/// Names of a few runs, the newest first.
fn newest_runs(runs: &Path) -> Vec<String> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    let is_run = |entry: &fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.path().join("events.jsonl").is_file()
    };
    let mut dirs: Vec<_> = entries.filter(is_run).map(|entry| entry.path()).collect();
    run_order::sort(&mut dirs);
    let names = dirs.iter().rev().filter_map(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()));
    names.take(3).collect()
}

impl Ran {
    /// Judges a record by what is known.
    pub(crate) fn judge(dir: PathBuf, record: RunRecord, known: &Known) -> Self {
        let judged = reports::judge(&record, &known.expectations, &known.known_issues);
        Ran { dir, record, judged }
    }

    /// Writes all reports into `dir`, which exists.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        reports::write_all(dir, &self.record, &self.judged)?;
        Ok(())
    }

    /// Shows what came of it, and that the reports are in `reports_dir`.
    pub(crate) fn show(&self, terminal: &Terminal, reports_dir: &Path) -> Exit {
        let shown = reports::terminal::Options {
            color: terminal.colour(),
            width: terminal.width(),
            run_dir: shown_path(&self.dir),
            reports_dir: shown_path(reports_dir),
        };
        out(&reports::terminal::render(&self.record, &self.judged, &shown));
        self.exit()
    }

    /// How a command ends that has this to say.
    pub(crate) fn exit(&self) -> Exit {
        match RunResult::of(&self.record, &self.judged) {
            RunResult::Passed => Exit::Passed,
            RunResult::TestsFailed => Exit::TestsFailed,
            RunResult::NothingRan => Exit::NothingRan,
            RunResult::InfraError => Exit::Infra,
            RunResult::Interrupted => Exit::Interrupted,
        }
    }
}

/// Relative to where the user stands, if that is shorter.
pub(crate) fn shown_path(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
