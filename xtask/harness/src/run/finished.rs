//! A run whose events are there: read them, judge them, write the reports, show them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use reports::record::events::ReadError;
use reports::{Judged, RunRecord, RunResult};

use crate::run::known::Known;
use crate::terminal::{Terminal, out};
use crate::workspace::shown_path;

/// A run, as far as it went, and what it means.
#[derive(Debug)]
pub struct FinishedRun {
    /// Folder of its events and logs.
    pub dir: PathBuf,
    /// What happened.
    pub record: RunRecord,
    /// The verdicts.
    pub judged: Vec<Judged>,
}

/// What happened in the run whose folder this is.
pub fn read_record(run_dir: &Path) -> Result<RunRecord, ReadError> {
    Ok(reports::read_events(&run_dir.join("events.jsonl"))?.into_record())
}

impl FinishedRun {
    /// Judges a record by what is known.
    pub fn judge(dir: PathBuf, record: RunRecord, known: &Known) -> Self {
        let judged = reports::judge(&record, &known.expectations, &known.known_issues);
        FinishedRun { dir, record, judged }
    }

    /// Writes all reports into `dir`, which exists.
    pub fn write(&self, dir: &Path) -> Result<()> {
        reports::write_all(dir, &self.record, &self.judged)?;
        Ok(())
    }

    /// Shows what came of it, and that the reports are in `reports_dir`.
    pub fn show(&self, terminal: &Terminal, reports_dir: &Path) -> RunResult {
        let shown = reports::render::style::TerminalStyle {
            color: terminal.colour(),
            width: terminal.width(),
            run_dir: shown_path(&self.dir),
            reports_dir: shown_path(reports_dir),
        };
        out(&reports::render::terminal::render(&self.record, &self.judged, &shown));
        self.result()
    }

    /// What the run came to as a whole.
    pub fn result(&self) -> RunResult {
        RunResult::of(&self.record, &self.judged)
    }
}
