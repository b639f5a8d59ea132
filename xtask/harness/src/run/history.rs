//! Reads and appends to the history file, which has a line for each attempt. The meaning of the lines is in
//! [`reports::history`].
//!
//! Lines that belong together are appended by one `write(2)` under a lock, so that concurrent runs do not
//! mix. After a partial write the file is cut back to its old length.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use protocol::Event;
use protocol::event::Blame;
use reports::history::{Durations, History, HistoryLine};
use reports::{Judged, RunRecord, judge_one};
use rustix::fs::{FlockOperation, flock};
use vm_images::progress::Progress;

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

/// Reads the whole history; it is empty if there is no file yet.
pub fn read(file: &Path) -> Result<History> {
    let mut bytes = Vec::new();
    match File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(History::parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(History::default()),
        Err(error) => Err(error).with_context(|| format!("failed to read the history `{}`", file.display())),
    }
}

/// Appends `lines`: all of them or none.
pub(crate) fn append(path: &Path, lines: &[HistoryLine]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line).context("failed to write a line of history")?;
        bytes.push(b'\n');
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| OpenOptions::new().read(true).append(true).create(true).open(path))
        .and_then(|mut file| {
            // The lock is released when the file is closed.
            flock(&file, FlockOperation::LockExclusive)?;
            append_locked(&mut file, bytes)
        })
        .with_context(|| {
            format!("failed to append to the history `{}`; what it holds is whole", path.display())
        })
}

/// Appends the attempts of a run that the history lacks: the run was killed before it wrote them, or ran
/// elsewhere.
pub(crate) fn catch_up(file: &Path, record: &RunRecord, criteria: &Criteria) -> Result<()> {
    let Criteria { expectations, known_issues } = criteria;
    let lines = record.attempts.iter().filter_map(|attempt| {
        let judged = judge_one(record, attempt, expectations, known_issues);
        // The best known time of such an attempt.
        HistoryLine::of(record, &judged, &record.run.started_at)
    });
    append(file, &read(file)?.lacks(lines.collect()))
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
            && let Err(error) = append(file, &lines)
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

fn append_locked(file: &mut File, mut bytes: Vec<u8>) -> io::Result<()> {
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    // A partial last line is ended first, or the next line would be lost with it.
    if last != *b"\n" {
        bytes.insert(0, b'\n');
    }
    let written = loop {
        match file.write(&bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => break written,
        }
    };
    let error = match written {
        Ok(n) if n == bytes.len() => return Ok(()),
        Ok(_) => io::Error::from(io::ErrorKind::StorageFull),
        Err(error) => error,
    };
    file.set_len(len)?;
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(attempt: u32) -> HistoryLine {
        let text = format!(
            r#"{{"format":1,"at":"","run":"r","attempt":{attempt},"test":"lvm2:x","kernel":"deb:6.12","release":"6.12",
            "kernel_digest":"","image_digest":"","accel":"tcg","vcpus":1,"host_cpus":2,"n_vms":2,"outcome":"pass",
            "verdict":"passed","test_ms":1,"vm_ms":2,"signature":null}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_torn_line_costs_itself_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made/history.jsonl");
        assert_eq!(read(&file).unwrap(), History::default());
        append(&file, &[line(1), line(2)]).unwrap();
        let whole = std::fs::metadata(&file).unwrap().len();
        OpenOptions::new().write(true).open(&file).unwrap().set_len(whole - 9).unwrap();
        append(&file, &[line(3)]).unwrap();
        let history = read(&file).unwrap();
        assert_eq!(history.lines.iter().map(|line| line.attempt).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(history.n_passed_over, 1);
    }

    #[test]
    fn runs_at_once_do_not_mix_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history.jsonl");
        std::thread::scope(|scope| {
            for run in 0..8 {
                let file = &file;
                scope.spawn(move || (0..50).for_each(|n| append(file, &[line(run * 50 + n)]).unwrap()));
            }
        });
        let history = read(&file).unwrap();
        assert_eq!((history.lines.len(), history.n_passed_over), (400, 0));
    }

    /// Writing to `/dev/full` always fails (full(4)); the smoke checks have a file system that is really
    /// full.
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let error = append(Path::new("/dev/full"), &[line(1)]).unwrap_err();
        assert!(format!("{error:#}").starts_with("failed to append to the history `/dev/full`"), "{error:#}");
    }
}
