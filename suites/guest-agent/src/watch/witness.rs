//! The agent's end of the sampler and of the diagnosis: helper processes that may come to a standstill
//! themselves, so nobody waits for them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use protocol::codec::LineDecoder;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

/// A helper process that says what it sees, a line each. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Witness {
    pid: Pid,
    pipe: Option<OwnedFd>,
    decoder: LineDecoder,
}

impl Witness {
    /// Takes a process that was started, and the pipe that it writes to.
    pub(crate) fn new((pid, pipe): (Pid, OwnedFd)) -> Self {
        Witness { pid, pipe: Some(pipe), decoder: LineDecoder::new() }
    }

    /// The helper's process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The descriptor to poll, until it has closed.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads the lines that the process has written since the last call.
    pub(crate) fn read<T: DeserializeOwned>(&mut self) -> Vec<T> {
        let mut said = Vec::new();
        let mut buffer = [0; 16 * 1024];
        while let Some(pipe) = &self.pipe {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => self.decoder.push(&buffer[..n], |line| said.extend(line.ok())),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.pipe = None,
            }
        }
        said
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // Reaped by the agent, like every orphan.
        let _ = kill_process(self.pid, Signal::KILL);
    }
}
