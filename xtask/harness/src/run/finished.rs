//! A finished run: reads its events, judges them, writes the reports, shows the result.

use std::path::{Path, PathBuf};

use anyhow::Result;
use protocol::Outcome;
use reports::record::events::ReadError;
use reports::{Judged, RunRecord, RunResult};

use crate::run::criteria::Criteria;
use crate::terminal::{Terminal, out};
use crate::workspace::shown_path;

/// A run, as far as it went, and its verdicts.
#[derive(Debug)]
pub struct FinishedRun {
    /// Folder of its events and logs.
    pub dir: PathBuf,
    /// The record that its events add up to.
    pub record: RunRecord,
    /// The verdicts.
    pub judged: Vec<Judged>,
}

/// Reads the record of the run in the folder `run_dir`.
pub fn read_record(run_dir: &Path) -> Result<RunRecord, ReadError> {
    Ok(reports::read_events(&run_dir.join("events.jsonl"))?.into_record())
}

impl FinishedRun {
    /// Judges a record by these criteria.
    pub fn judge(dir: PathBuf, record: RunRecord, criteria: &Criteria) -> Self {
        let judged = reports::judge(&record, &criteria.expectations, &criteria.known_issues);
        FinishedRun { dir, record, judged }
    }

    /// True if an attempt came to nothing by the host's or the harness's fault.
    pub(crate) fn has_infra_error(&self) -> bool {
        let mut outcomes = self.record.attempts.iter().filter_map(|attempt| attempt.finished());
        outcomes.any(|(outcome, _)| matches!(outcome, Outcome::Infra { .. }))
    }

    /// Writes all reports into `dir`, which must exist.
    pub fn write(&self, dir: &Path) -> Result<()> {
        reports::write_all(dir, &self.record, &self.judged)?;
        Ok(())
    }

    /// Prints the verdicts and the place of the reports, `reports_dir`.
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

    /// The result of the whole run.
    pub fn result(&self) -> RunResult {
        RunResult::of(&self.record, &self.judged)
    }
}
