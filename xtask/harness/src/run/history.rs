//! Where the history is, and when an attempt is appended to it: as soon as it is over. How the file is read and
//! written is [`reports::history`]'s.

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
use crate::run::known::Known;
use crate::session::Session;
use crate::terminal::Terminal;
use crate::words::count;
use crate::workspace::workspace;

/// Where the history is, unless the user names another place. In the work tree, not among the runs, which are
/// removed when they are old; not in the store, which can be made again.
pub fn default_file() -> PathBuf {
    workspace().join("reports/history.jsonl")
}

/// Appends what the history lacks of a run: it was killed before it did, or ran elsewhere.
pub(crate) fn catch_up(file: &Path, record: &RunRecord, known: &Known) -> Result<()> {
    let Known { expectations, known_issues } = known;
    let lines = record.attempts.iter().filter_map(|attempt| {
        let judged = judge_one(record, attempt, expectations, known_issues);
        // Nobody knows better when it was over.
        HistoryLine::of(record, &judged, &record.run.started_at)
    });
    Ok(append(file, &read(file)?.lacks(lines.collect()))?)
}

/// How long tests take, as far as it is known.
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
pub(crate) struct Keeper<'a> {
    file: Option<&'a Path>,
    known: &'a Known,
    events: &'a EventLog,
    terminal: &'a Terminal,
    /// An attempt could not be appended, which is said once.
    failed: AtomicBool,
}

impl<'a> Keeper<'a> {
    /// For one run; without a file it only judges.
    pub(crate) fn new(
        file: Option<&'a Path>,
        known: &'a Known,
        events: &'a EventLog,
        terminal: &'a Terminal,
    ) -> Self {
        Keeper { file, known, events, terminal, failed: AtomicBool::new(false) }
    }

    /// An attempt is over: what it means, by itself. A history that cannot be kept is remarked and ends no run,
    /// whose own record has everything.
    pub(crate) fn take(&self, attempt: u32) -> Result<Judged> {
        let Known { expectations, known_issues } = self.known;
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
