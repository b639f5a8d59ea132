//! Where the history file is, when attempts are appended to it (each as soon as it is over), and what a run
//! remarks of it at its end. The file is read and written in [`reports::history`].

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use protocol::Event;
use protocol::event::Blame;
use reports::history::{Durations, HistoryLine, append, read};
use reports::judge::expectations::KernelFacts;
use reports::judge::kernel_version::Version;
use reports::judge::staleness::{STALE_AFTER, Stale};
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

/// The expectations that the last `n_attempts` of a test did not meet, as the history in `file` tells, and
/// how many of its lines cannot be read.
///
/// # Errors
///
/// The file is there and cannot be read.
pub fn stale<'a>(file: &Path, criteria: &'a Criteria, n_attempts: usize) -> Result<(Vec<Stale<'a>>, usize)> {
    let history = read(file)?;
    Ok((history.stale(&criteria.expectations, n_attempts), history.n_passed_over))
}

/// Remarks the stale expectations of a run's own tests. It is over: a history that cannot be read is a note.
pub(crate) fn remark_stale(
    file: Option<&Path>,
    criteria: &Criteria,
    events: &EventLog,
    terminal: &Terminal,
) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let stale = match stale(file, criteria, STALE_AFTER) {
        Ok((stale, _)) => stale,
        Err(error) => {
            terminal.note(&format!("{error:#}; stale expectations are not looked for"));
            return Ok(());
        }
    };
    let of_run = events.look(|record| of_run(record, stale));
    for stale in of_run {
        let remark = Event::Remark { attempt: None, blame: Blame::Test, text: stale.sentence() };
        events.append(remark).context(crate::event_log::FAILED)?;
    }
    Ok(())
}

/// Those that are about what the run tried: its tests, on a kernel of its own on which they hold.
fn of_run<'a>(record: &RunRecord, stale: Vec<Stale<'a>>) -> Vec<Stale<'a>> {
    let was_tried = |stale: &Stale<'_>| {
        let mut tries = record.attempts.iter().filter(|attempt| attempt.test == stale.test);
        tries.any(|attempt| {
            let kernel = record.kernels.get(&attempt.kernel_idx);
            let version = kernel.and_then(Version::of);
            let release = kernel.map(|kernel| kernel.release.as_str());
            attempt.finished().is_some()
                && stale.entry.holds_on(KernelFacts { release, version: version.as_ref() })
        })
    };
    stale.into_iter().filter(was_tried).collect()
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::workspace::workspace;

    /// The recorded run's first attempt that met an expectation, `n` times, as if it had passed.
    fn passed(record: &RunRecord, criteria: &Criteria, n: u32) -> Vec<HistoryLine> {
        let mut all = record.attempts.iter().map(|attempt| {
            let judged = judge_one(record, attempt, &criteria.expectations, &criteria.known_issues);
            HistoryLine::of(record, &judged, "2026-11-22T17:06:00Z")
        });
        let expected = all.find_map(|line| line.filter(|line| line.met.is_some())).unwrap();
        let line = |attempt| HistoryLine {
            run: "earlier".into(),
            attempt,
            met: None,
            verdict: "unexpected-pass".into(),
            ..expected.clone()
        };
        (0..n).map(line).collect()
    }

    #[test]
    fn a_run_remarks_what_is_stale_of_its_own_tests() {
        let run = workspace().join("xtask/harness/testdata/run");
        let record = crate::run::finished::read_record(&run).unwrap();
        let suites: BTreeSet<_> = record.attempts.iter().map(|attempt| attempt.test.suite()).collect();
        let suites: Vec<_> = suites.into_iter().map(str::to_owned).collect();
        let criteria = Criteria::of_suites(&suites).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history.jsonl");
        append(&file, &passed(&record, &criteria, 9)).unwrap();
        assert_eq!(stale(&file, &criteria, STALE_AFTER).unwrap().0.len(), 0);
        append(&file, &passed(&record, &criteria, 1)).unwrap();
        let (stale, n_passed_over) = stale(&file, &criteria, STALE_AFTER).unwrap();
        assert_eq!((stale.len(), n_passed_over), (1, 0));
        assert_eq!(of_run(&record, stale.clone()).len(), 1);
        assert_eq!(of_run(&RunRecord::default(), stale).len(), 0);
    }
}
