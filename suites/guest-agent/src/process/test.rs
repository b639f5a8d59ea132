//! The running test: its process ([`crate::process::supervised`]), and the pipe that it prints to.
//!
//! Reads all that the test prints. Deliberately not here: what of it is kept ([`crate::process::output`]),
//! and when it is read and sent ([`crate::serve`]).

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use protocol::wire::{Finished, Message, StartTest};
use rustix::io::Errno;

use crate::process::cgroup::Cgroup;
use crate::process::launch;
use crate::process::output::OutputLog;
use crate::process::supervised::Supervised;

/// Pause between reads of a pipe that holds little: a test that prints letter by letter is not
/// interrupted letter by letter.
const PIPE_PAUSE: Duration = Duration::from_millis(5);
/// Reads of the pipe in one round.
const READS_AT_ONCE: usize = 16;

/// The running test.
#[derive(Debug)]
pub(crate) struct RunningTest {
    pub(crate) process: Supervised,
    pub(crate) output: OutputLog,
    pipe: Option<OwnedFd>,
    pipe_resume: Instant,
    /// The report, which follows the last of the output.
    finished: Option<Finished>,
}

impl RunningTest {
    /// Starts it.
    pub(crate) fn start(request: &StartTest, now: Instant) -> io::Result<Self> {
        let cgroup = Cgroup::create(request.attempt)?;
        let (launched, output) = launch::launch_test(&request.program, cgroup.path())?;
        let grace = Duration::from_millis(request.grace_ms);
        Ok(Self {
            process: Supervised::new(request.attempt, launched, cgroup, grace, now),
            output: OutputLog::new(request.output, now),
            pipe: Some(output),
            pipe_resume: now,
            finished: None,
        })
    }

    /// The pipe that it prints to, until everybody has closed it.
    pub(crate) fn pipe(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref()
    }

    /// True if the pipe should be read now.
    pub(crate) fn wants_output(&mut self, host_stalled: bool, now: Instant) -> bool {
        now >= self.pipe_resume
            && (self.process.is_ending() || !self.output.should_hold_back(host_stalled, now))
    }

    /// How long until the pipe may be read; zero if it may be.
    pub(crate) fn resume_in(&self, now: Instant) -> Duration {
        self.pipe_resume.saturating_duration_since(now)
    }

    /// Reads the pipe, within bounds, by way of `buffer`.
    pub(crate) fn drain_pipe(&mut self, buffer: &mut [u8], now: Instant) {
        for _ in 0..READS_AT_ONCE {
            let Some(pipe) = &self.pipe else { return };
            match rustix::io::read(pipe, &mut *buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => {
                    self.output.push(&buffer[..n], now);
                    if n < buffer.len() {
                        self.pipe_resume = now + PIPE_PAUSE;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    /// The pipe is to be read at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.pipe_resume = now;
    }

    /// The test is over: closes its books. The report follows the last of its output.
    pub(crate) fn finish(&mut self, now: Instant) {
        self.pipe = None;
        self.output.finish();
        self.finished = Some(self.process.finish(self.output.total(), now));
    }

    /// The next piece of output, as far as the budget goes.
    pub(crate) fn next_output(&mut self, now: Instant) -> Option<Message> {
        let (offset, data) = self.output.next_chunk(now)?;
        Some(Message::Output { attempt: self.process.attempt(), offset, data })
    }

    /// True if only the report is left to be sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.finished.is_some() && self.output.is_drained()
    }

    /// The report, if it is over.
    pub(crate) fn into_report(self) -> Option<Finished> {
        self.finished
    }
}
