//! Where the history file is, and when attempts are appended to it: each as soon as it is over. The file is
//! read and written in [`reports::history`].

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use protocol::Event;
use protocol::event::Blame;
use reports::history::{Durations, HistoryLine, append, read};
use reports::{Judged, RunRecord, judge_one};
use vm_images::host::progress::Progress;

use crate::clock::rfc3339_now;
use crate::event_log::EventLog;
use crate::machine::Accel;
use crate::run::criteria::Criteria;
use crate::session::Session;
use crate::terminal::Terminal;
use crate::words::count;
use crate::workspace::workspace;

/// Default path of the history. It is in the work tree: not among the runs, which are removed when they are
/// old, nor in the store, which can be made again.
pub fn default_file() -> PathBuf {
    workspace().join("reports/history.jsonl")
}

/// Appends what the history lacks of a run: it was killed before it did, or ran elsewhere.
pub(crate) fn catch_up(file: &Path, record: &RunRecord, criteria: &Criteria) -> Result<()> {
    let Criteria { expectations, known_issues } = criteria;
    let lines = record.attempts.iter().filter_map(|attempt| {
        let judged = judge_one(record, attempt, expectations, known_issues);
        // The best known time of such an attempt.
        HistoryLine::of(record, &judged, &record.run.started_at)
    });
    Ok(append(file, &read(file)?.lacks(lines.collect()))?)
}

/// The durations of tests, as far as the history has them.
pub(crate) fn durations(session: &Session, file: Option<&Path>, accel: Accel) -> Result<Durations> {
    let Some(file) = file else { return Ok(Durations::default()) };
    let history = read(file)?;
    if history.n_passed_over > 0 {
        let (n, file) = (count(history.n_passed_over, "line"), file.display());
        session.terminal.note(&format!("{n} of `{file}` cannot be read and was passed over"));
    }
    Ok(history.durations(&accel.to_string()))
}

/// Judges each attempt when it is over, and appends it to the history.
pub(crate) struct HistoryKeeper<'a> {
    file: Option<&'a Path>,
    criteria: &'a Criteria,
    events: &'a EventLog,
    terminal: &'a Terminal,
    /// True after an attempt could not be appended, which is reported once.
    failed: AtomicBool,
}

impl<'a> HistoryKeeper<'a> {
    /// A keeper for one run; without a file it only judges.
    pub(crate) fn new(
        file: Option<&'a Path>,
        criteria: &'a Criteria,
        events: &'a EventLog,
        terminal: &'a Terminal,
    ) -> Self {
        HistoryKeeper { file, criteria, events, terminal, failed: AtomicBool::new(false) }
    }

    /// Judges a finished attempt by itself, and appends it. If the history cannot be written, a remark says
    /// so, and the run goes on: its own record has everything.
    pub(crate) fn take(&self, attempt: u32) -> Result<Judged> {
        let Criteria { expectations, known_issues } = self.criteria;
        let (judged, line) = self
            .events
            .look(|record| {
                let judged = judge_one(record, record.attempt(attempt)?, expectations, known_issues);
                let line = HistoryLine::of(record, &judged, &rfc3339_now());
                Some((judged, line))
            })
            .with_context(|| format!("attempt {attempt} is over and was never planned"))?;
        let lines: Vec<_> = line.into_iter().collect();
        if let Some(file) = self.file
            && let Err(error) = append(file, &lines).map_err(anyhow::Error::from)
            && !self.failed.swap(true, Ordering::SeqCst)
        {
            let text = format!("{error:#}; the history lacks attempts of this run");
            self.terminal.note(&text);
            let remark = Event::Remark { attempt: None, blame: Blame::Host, text };
            self.events.append(remark).context(crate::event_log::FAILED)?;
        }
        Ok(judged)
    }
}
