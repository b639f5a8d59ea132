//! What `test` and `replay` do alike once the events are there: read them, judge them, write the
//! reports, show them, and say how the command ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use reports::events::ReadError;
use reports::{Expectations, Judged, KnownIssues, RunRecord, RunResult};

use crate::exit::{Exit, usage};
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
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
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
