//! A process that the agent runs for the harness, with everything it starts: from its launcher's
//! first word to the removal of its cgroup.
//!
//! Never waits. [`crate::process::life`] decides what happens when; this carries it out. Deliberately
//! not here: what the process prints, which is read in different ways ([`crate::process::test`],
//! [`crate::process::shell`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use protocol::program::{Exit, LoadedModule};
use protocol::wire::Finished;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::process::cgroup::Cgroup;
use crate::process::launch::Launched;
use crate::process::life::{Launch, Life, MAX_SURVIVORS, Observed, Step};
use crate::process::report::ReportReader;

/// The process, its launcher and its cgroup.
#[derive(Debug)]
pub(crate) struct Supervised {
    life: Life,
    pid: Pid,
    /// Readable when its own process has ended; gone once that is known.
    pidfd: Option<OwnedFd>,
    report: ReportReader,
    launch: Launch,
    probed: Option<LoadedModule>,
    cgroup: Cgroup,
    /// User and system time that its preparation used, milliseconds.
    cpu_ms_before: (u64, u64),
}

/// How far the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The launcher has become what was asked for.
    Started,
    /// It has ended, and so has all that could be ended with it.
    Over,
}

impl Supervised {
    /// Where its processes are.
    pub(crate) fn cgroup(&self) -> &std::path::Path {
        self.cgroup.path()
    }

    /// Takes a program that was launched into `cgroup`.
    pub(crate) fn new(
        attempt: u32,
        launched: Launched,
        cgroup: Cgroup,
        grace: Duration,
        now: Instant,
    ) -> Self {
        let pid = launched.pid;
        Self {
            life: Life::new(attempt, pid.as_raw_nonzero().get().unsigned_abs(), grace, now),
            pid,
            pidfd: pidfd_open(pid, PidfdFlags::empty()).ok(),
            report: ReportReader::new(launched.report),
            launch: Launch::Pending,
            probed: None,
            cgroup,
            cpu_ms_before: (0, 0),
        }
    }

    /// The number of the attempt.
    pub(crate) fn attempt(&self) -> u32 {
        self.life.attempt()
    }

    /// The module that took the place of the kernel's own, as the kernel has it, once the launcher has asked.
    pub(crate) fn probed(&self) -> Option<LoadedModule> {
        self.probed.clone()
    }

    /// Its own process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable when the launcher says something: then [`Self::read_report`].
    pub(crate) fn report_fd(&self) -> Option<BorrowedFd<'_>> {
        self.report.fd()
    }

    /// Readable when its own process has ended: then [`Self::ended`], and it is to be reaped.
    pub(crate) fn process_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// True while something may change without any descriptor becoming readable.
    pub(crate) fn is_ending(&self) -> bool {
        self.life.is_ending()
    }

    /// True once its own process has been waited for.
    pub(crate) fn has_ended(&self) -> bool {
        self.life.has_ended()
    }

    /// Its own process has ended: the descriptor would be readable for ever.
    pub(crate) fn ended(&mut self) {
        self.pidfd = None;
    }

    /// Its own process was waited for. Returns remarks.
    pub(crate) fn reaped(&mut self, exit: Exit, now: Instant) -> Vec<String> {
        self.life.reaped(exit, now);
        self.pidfd = None;
        self.read_report()
    }

    /// Reads what the launcher has to say, and decides when it has said everything. Returns remarks.
    pub(crate) fn read_report(&mut self) -> Vec<String> {
        let attempt = self.attempt();
        let Some(report) = self.report.read() else { return Vec::new() };
        self.probed = report.probed;
        let mut remarks: Vec<_> =
            report.remarks.into_iter().map(|remark| format!("attempt {attempt}: {remark}")).collect();
        self.launch = match report.failure {
            Some((errno, what)) => {
                let error = Errno::from_raw_os_error(errno);
                remarks.push(format!("attempt {attempt} could not be started: cannot {what}: {error}"));
                Launch::Failed(errno)
            }
            None => Launch::Done,
        };
        remarks
    }

    /// The harness wants it to end.
    pub(crate) fn stop(&mut self, now: Instant) {
        if self.life.stop(now) == Some(Step::Kill) {
            self.kill();
        }
    }

    /// Takes it as far as it goes now. To be called until it returns nothing.
    pub(crate) fn advance(&mut self, pipe_open: bool, now: Instant) -> Option<Change> {
        while !self.life.is_over() {
            let observed = Observed {
                launch: self.launch,
                pipe_open,
                // Only then does it matter, and looking is not free.
                populated: !self.life.has_ended() && !self.life.is_ending() || self.cgroup.is_populated(),
            };
            match self.life.step(observed, now) {
                Some(Step::Started) => {
                    // One that is already over was too fast to tell it from its preparation.
                    if !self.life.has_ended() {
                        self.cpu_ms_before = self.cgroup.cpu_ms().unwrap_or_default();
                    }
                    return Some(Change::Started);
                }
                Some(Step::NoteAndKill) => {
                    self.life.survived(self.cgroup.processes(MAX_SURVIVORS));
                    self.kill();
                }
                Some(Step::Kill) => self.kill(),
                Some(Step::Finish) => return Some(Change::Over),
                None => {
                    // Whoever joined since is met too: a launcher that was late, or, where the
                    // kernel cannot kill a cgroup at once, a child that was just forked.
                    if self.life.is_killing() {
                        self.kill();
                    }
                    return None;
                }
            }
        }
        None
    }

    /// Its report, once it is over. Removes the cgroup.
    pub(crate) fn finish(&mut self, output_bytes: u64, now: Instant) -> Finished {
        self.pidfd = None;
        self.report.close();
        let left = self.cgroup.processes(MAX_SURVIVORS);
        let before = self.cpu_ms_before;
        let cpu_ms = self.cgroup.cpu_ms();
        let cpu_ms = cpu_ms.map(|(user, sys)| (user.saturating_sub(before.0), sys.saturating_sub(before.1)));
        let finished = self.life.finished(left, cpu_ms, output_bytes, now);
        self.cgroup.remove();
        finished
    }

    fn kill(&self) {
        self.cgroup.kill();
        // The launcher may not have joined yet.
        if !self.life.has_ended() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}
