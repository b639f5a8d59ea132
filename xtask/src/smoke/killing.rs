//! What is killed leaves nothing running and loses nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use protocol::Event;
use reports::record::RunEnd;
use rustix::process::{Pid, Signal, kill_process};
use vm_images::host::die_with_parent;

use super::{Scratch, read_record, wait_until};
use crate::session::Session;

pub(super) fn sigkill(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let mut run = RunningTest::start(session, &out)?;
    let family = run.descendants();
    ensure!(!family.is_empty(), "a running test has no processes");
    let temporary = run.temporary_folders(session);
    ensure!(!temporary.is_empty(), "a running test has no temporary folder");
    kill_process(run.pid()?, Signal::KILL).context("failed to kill the run")?;
    run.child.wait().context("failed to wait for the run")?;
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
    kill_process(run.pid()?, Signal::INT).context("failed to interrupt the run")?;
    let status = run.child.wait().context("failed to wait for the run")?;
    ensure!(status.code() == Some(130), "an interrupted run ended with {status}");
    ensure!(family.iter().all(|&pid| is_gone(pid)), "an interrupted run left processes");
    let dir = run.run_dir()?;
    ensure!(read_record(&dir)?.end == RunEnd::Interrupted, "the record does not say that it was interrupted");
    ensure!(dir.join("junit.xml").is_file() && dir.join("summary.md").is_file(), "it left no report");
    Ok(())
}

/// Another `xtask` that runs a test which does not end by itself for a while.
struct RunningTest {
    child: Child,
    out: PathBuf,
    /// Temporary folders in the store that were there before it: of other runs.
    folders_before: Vec<PathBuf>,
}

impl RunningTest {
    /// Starts it, and waits until its test runs.
    fn start(session: &Session, out: &Scratch) -> Result<Self> {
        let folders_before = temporary_folders(session);
        #[expect(clippy::disallowed_methods, reason = "it is killed here as a user would, without our help")]
        let mut command = Command::new(std::env::current_exe()?);
        // Were we killed ourselves, it would go on for minutes.
        die_with_parent(&mut command);
        let child = command
            .arg("--store")
            .arg(session.store.root())
            .args(["test", "--suite", "canary", "must-stay-alive", "--out"])
            .arg(&out.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start another xtask")?;
        let run = RunningTest { child, out: out.0.clone(), folders_before };
        let started = || {
            session.host.cancel().is_cancelled()
                || run.run_dir().is_ok_and(|dir| has_started(&dir.join("events.jsonl")))
        };
        wait_until("its test runs", started)?;
        Ok(run)
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(i32::try_from(self.child.id())?).context("a child has a process id")
    }

    fn run_dir(&self) -> Result<PathBuf> {
        Ok(fs::canonicalize(self.out.join("latest"))?)
    }

    /// All processes below it, but for the janitor, whose work begins when it is gone.
    fn descendants(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut idx = 0;
        while let Some(&parent) = family.get(idx) {
            family.extend(processes().into_iter().filter(|&(_, ppid)| ppid == parent).map(|(pid, _)| pid));
            idx += 1;
        }
        family.remove(0);
        family.retain(|&pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            !String::from_utf8_lossy(&command).contains(crate::session::JANITOR_COMMAND)
        });
        family
    }

    /// Its own temporary folder in the store.
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

impl Drop for RunningTest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has_started(events: &Path) -> bool {
    let Ok(log) = reports::read_events(events) else { return false };
    log.records.iter().any(|record| matches!(record.event, Event::TestStarted { .. }))
}

/// Process ids with their parents'.
fn processes() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let ppid = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, ppid))
    })
    .collect()
}

/// Gone, or a zombie that only its new parent has still to reap.
fn is_gone(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}
