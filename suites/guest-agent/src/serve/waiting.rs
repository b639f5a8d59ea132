//! The loop's one wait: which descriptors are polled, and for how long.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Agent;
use super::sending::MAX_CONTROL;
use crate::process::shell::ShellPart;
use crate::watch::witness::Witness;

/// The loop comes round at least this often: orphans announce their end to nobody.
const TICK: Duration = Duration::from_millis(200);
/// How often the end of a test is looked at: an emptied cgroup tells nobody either.
const ENDING_TICK: Duration = Duration::from_millis(10);
/// A host that took nothing for this long does not make a test wait.
const STALL: Duration = Duration::from_millis(100);

/// The kinds of descriptors that are polled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Port,
    Kmsg,
    Pipe,
    Report,
    TestProcess,
    Shell(ShellPart),
    Collector,
    Sampler,
    Diagnosis,
}

impl Agent {
    /// Polls all descriptors that matter now. Returns those that are ready.
    pub(super) fn poll(&mut self, now: Instant) -> rustix::io::Result<Vec<(Source, PollFlags)>> {
        let timeout = self.timeout(now);
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let session = self.port.has_session();
        // Without a host, the kernel's buffer is where its log waits.
        let read_kmsg = session && self.kmsg.as_mut().is_some_and(|kmsg| kmsg.wants_read(now));
        let stalled = self.port.is_stalled(STALL, now);
        let read_pipe = self.test.as_mut().is_some_and(|test| test.wants_output(stalled, now));

        let mut polled: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::with_capacity(6);
        if let Some(fd) = self.port.poll_fd() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.control.len() < MAX_CONTROL);
            flags.set(PollFlags::OUT, session && !self.port.out.is_empty());
            polled.push((Source::Port, fd, flags));
        }
        if let Some(kmsg) = self.kmsg.as_ref().filter(|_| read_kmsg) {
            polled.push((Source::Kmsg, kmsg.fd(), PollFlags::IN));
        }
        if let Some(test) = &self.test {
            if let Some(pipe) = test.pipe().filter(|_| read_pipe) {
                polled.push((Source::Pipe, pipe.as_fd(), PollFlags::IN));
            }
            polled.extend(test.process.report_fd().map(|fd| (Source::Report, fd, PollFlags::IN)));
            polled.extend(test.process.process_fd().map(|fd| (Source::TestProcess, fd, PollFlags::IN)));
        }
        if let Some(shell) = &self.shell {
            shell.polled(now, |part, fd, flags| polled.push((Source::Shell(part), fd, flags)));
        }
        if let Some(fd) = self.sampler.as_ref().and_then(Witness::fd) {
            polled.push((Source::Sampler, fd, PollFlags::IN));
        }
        if let Some(fd) = self.diagnosis.as_ref().and_then(|(diagnosis, _)| diagnosis.fd()) {
            polled.push((Source::Diagnosis, fd, PollFlags::IN));
        }
        if let Some(pidfd) = self.collector.as_ref().and_then(|collector| collector.pidfd.as_ref()) {
            polled.push((Source::Collector, pidfd.as_fd(), PollFlags::IN));
        }
        let mut fds: Vec<_> =
            polled.iter().map(|&(_, fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        poll(&mut fds, Some(&timeout))?;
        let flags = fds.iter().map(PollFd::revents);
        Ok(polled
            .iter()
            .map(|&(source, ..)| source)
            .zip(flags)
            .filter(|(_, flags)| !flags.is_empty())
            .collect())
    }

    /// How long to wait if nothing happens.
    fn timeout(&mut self, now: Instant) -> Duration {
        if self.write_again {
            return Duration::ZERO;
        }
        let mut due = vec![TICK];
        let mut at = |instant: Instant| due.push(instant.saturating_duration_since(now));
        self.power_off_at.into_iter().for_each(&mut at);
        if self.port.poll_fd().is_none() {
            at(self.next_host_check);
        }
        let session = self.port.has_session();
        if session {
            at(self.next_heartbeat);
        }
        if let Some(test) = &self.test {
            if test.process.is_ending() {
                due.push(ENDING_TICK);
            }
            if test.pipe().is_some() {
                // While the test is held back, nothing but a stall lets it go on.
                let resume = test.resume_in(now);
                due.push(if resume.is_zero() { STALL } else { resume });
            }
        }
        if let Some(shell) = &self.shell {
            if shell.is_ending() {
                due.push(ENDING_TICK);
            }
            due.extend(shell.resume_in(now));
        }
        // What waits while a batch is under way is looked at when the host has taken that.
        if session && self.port.out.is_empty() {
            due.extend(self.test.as_mut().and_then(|test| test.output.next_chunk_in(now)));
            due.extend(self.kmsg.as_mut().and_then(|kmsg| kmsg.backlog.next_in(now)));
        }
        if session {
            due.extend(self.kmsg.as_ref().and_then(|kmsg| kmsg.resume_in(now)));
        }
        due.into_iter().min().unwrap_or(TICK)
    }
}
