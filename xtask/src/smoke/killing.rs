//! Checks that a killed run leaves nothing running and loses nothing.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use harness::run::finished::read_record;
use harness::session::Session;
use protocol::Event;
use reports::record::RunEnd;
use rustix::process::Signal;

use super::other_xtask::{OtherXtask, RunningXtask};
use super::{Scratch, wait_until};
use crate::children::{descendants_of, is_gone};

pub(super) fn sigkill(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let mut run = RunningTest::start(session, &out)?;
    let family = run.descendants();
    ensure!(!family.is_empty(), "a running test has no processes");
    let temporary = run.temporary_folders(session);
    ensure!(!temporary.is_empty(), "a running test has no temporary folder");
    run.child.signal(Signal::KILL)?;
    run.child.child.wait().context("failed to wait for the run")?;
    wait_until("its processes are gone", || family.iter().all(|&pid| is_gone(pid)))?;
    wait_until("its temporary files are gone", || temporary.iter().all(|folder| !folder.exists()))?;
    let record = read_record(&run.run_dir()?)?;
    ensure!(record.end == RunEnd::Cut, "a killed run's record says {:?}", record.end);
    ensure!(record.attempts.iter().any(|attempt| attempt.guest.is_some()), "what was recorded is lost");
    Ok(())
}

pub(super) fn sigint(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let mut run = RunningTest::start(session, &out)?;
    let family = run.descendants();
    run.child.signal(Signal::INT)?;
    let status = run.child.child.wait().context("failed to wait for the run")?;
    ensure!(status.code() == Some(130), "an interrupted run ended with {status}");
    ensure!(family.iter().all(|&pid| is_gone(pid)), "an interrupted run left processes");
    let dir = run.run_dir()?;
    ensure!(read_record(&dir)?.end == RunEnd::Interrupted, "the record does not say that it was interrupted");
    ensure!(dir.join("junit.xml").is_file() && dir.join("summary.md").is_file(), "it left no report");
    Ok(())
}

/// An `xtask` that runs a test of some length.
struct RunningTest {
    child: RunningXtask,
    out: PathBuf,
    /// Temporary folders in the store that belong to other runs.
    folders_before: Vec<PathBuf>,
}

impl RunningTest {
    /// Starts it, and waits until its test runs.
    fn start(session: &Session, out: &Scratch) -> Result<Self> {
        let folders_before = temporary_folders(session);
        let words = ["test", "--suite", "canary", "must-stay-alive", "--out"].map(OsStr::new);
        let child = OtherXtask::new(session).start(out, words.into_iter().chain([out.0.as_os_str()]))?;
        let run = RunningTest { child, out: out.0.clone(), folders_before };
        let started = || {
            session.host.cancel().is_cancelled()
                || run.run_dir().is_ok_and(|dir| has_started(&dir.join("events.jsonl")))
        };
        wait_until("its test runs", started)?;
        Ok(run)
    }

    fn run_dir(&self) -> Result<PathBuf> {
        Ok(fs::canonicalize(self.out.join("latest"))?)
    }

    /// All descendants of its process.
    fn descendants(&self) -> Vec<u32> {
        descendants_of(self.child.child.id())
    }

    /// Temporary folders in the store that belong to this run.
    fn temporary_folders(&self, session: &Session) -> Vec<PathBuf> {
        let mut folders = temporary_folders(session);
        folders.retain(|folder| !self.folders_before.contains(folder));
        folders
    }
}

fn temporary_folders(session: &Session) -> Vec<PathBuf> {
    let entries = session.store.temporary().parent().and_then(|tmp| fs::read_dir(tmp).ok());
    entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

pub(super) fn has_started(events: &Path) -> bool {
    let Ok(log) = reports::read_events(events) else { return false };
    log.records.iter().any(|record| matches!(record.event, Event::TestStarted { .. }))
}
