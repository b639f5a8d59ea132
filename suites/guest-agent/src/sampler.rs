//! The agent's end of the sampler and of the diagnosis: processes that may come to a standstill themselves,
//! so nobody waits for them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use protocol::codec::LineDecoder;
use protocol::sample::Sample;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::launch;

/// The sampler of one test. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Sampler {
    pid: Pid,
    pipe: Option<OwnedFd>,
    decoder: LineDecoder,
}

impl Sampler {
    /// Starts it, to look at the processes of `cgroup`.
    pub(crate) fn start(cgroup: &Path) -> std::io::Result<Self> {
        let (pid, pipe) = launch::sampler(cgroup)?;
        Ok(Sampler { pid, pipe: Some(pipe), decoder: LineDecoder::new() })
    }

    /// The descriptor to poll, until it has closed.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// The newest of the samples that have come.
    pub(crate) fn read(&mut self) -> Option<Sample> {
        let mut newest = None;
        let mut buffer = [0; 16 * 1024];
        while let Some(pipe) = &self.pipe {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => self.decoder.push(&buffer[..n], |sample| newest = sample.ok()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.pipe = None,
            }
        }
        newest
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // Reaped by the agent, like every orphan.
        let _ = kill_process(self.pid, Signal::KILL);
    }
}
