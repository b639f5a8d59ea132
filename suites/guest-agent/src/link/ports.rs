//! The virtio-serial ports: finding, opening, reading requests, writing lines.
//!
//! A host that goes away shows as `POLLHUP`, which cannot be masked: a port without a host is
//! left out of the poll set and looked at by the clock. Nothing is written between a host's
//! arrival and its `Hello`, because it would take that for the tail of another session.
//! Deliberately not here: what is written, and in which order ([`crate::serve`]).

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use protocol::codec::{Garbage, LineDecoder};
use protocol::wire::Request;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// How much is handed to one `write`. The driver takes 32 KiB at a time and waits for the host
/// after each, so small lines travel together.
const BATCH: usize = 24 * 1024;

/// Reads of 16 KiB in one go: requests never keep a test's pipe waiting for long.
const READS_AT_ONCE: usize = 8;

/// How long opening waits for the port to appear.
const APPEAR: Duration = Duration::from_secs(10);

/// Opens the port that the harness named `name`.
pub(crate) fn open(name: &str) -> Result<OwnedFd, String> {
    let deadline = Instant::now() + APPEAR;
    loop {
        if let Some(node) = find(name) {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
            match rustix::fs::open(&node, flags, Mode::empty()) {
                Ok(fd) => return Ok(fd),
                Err(Errno::NOENT | Errno::NXIO) => {}
                Err(error) => return Err(format!("cannot open {node} for port `{name}`: {error}")),
            }
        }
        if Instant::now() >= deadline {
            return Err(format!("no virtio-serial port `{name}`"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn find(name: &str) -> Option<String> {
    // There is no udev in the guest, so no links with the ports' names either.
    fs::read_dir("/sys/class/virtio-ports").ok()?.flatten().find_map(|entry| {
        let found = fs::read_to_string(entry.path().join("name")).ok()?;
        (found.trim() == name).then(|| format!("/dev/{}", entry.file_name().to_string_lossy()))
    })
}

/// Lines on their way to the host. Pure.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

impl Outgoing {
    /// True if nothing waits to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// True if another line may join the batch.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.len() < BATCH
    }

    /// Adds a whole line.
    pub(crate) fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
    }

    /// The bytes to be written next.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// `n` bytes of [`Self::rest`] have been written.
    pub(crate) fn advance(&mut self, n: usize) {
        self.written += n;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
    }

    /// The reader is another one now: begins the half-written line again, after `first` and a
    /// newline that ends what the old half may have left in between.
    pub(crate) fn restart(&mut self, first: &[u8]) {
        self.rewind();
        let rest = std::mem::take(&mut self.bytes);
        self.bytes = [b"\n", first, &rest].concat();
    }

    /// Forgets whole written lines, and that a half-written one was begun.
    pub(crate) fn rewind(&mut self) {
        let line = self.bytes[..self.written].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        self.bytes.drain(..line);
        self.written = 0;
    }
}

/// The result of a [`Port::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// All of it.
    All,
    /// The host must read first.
    Blocked,
    /// The host is gone.
    Gone,
}

/// The port for requests and messages.
#[derive(Debug)]
pub(crate) struct Port {
    fd: OwnedFd,
    decoder: LineDecoder,
    /// The batch that is being written.
    pub(crate) out: Outgoing,
    connected: bool,
    session: bool,
    progressed: Instant,
}

impl Port {
    /// Takes an open port.
    pub(crate) fn new(fd: OwnedFd, now: Instant) -> Self {
        Self {
            fd,
            decoder: LineDecoder::new(),
            out: Outgoing::default(),
            connected: false,
            session: false,
            progressed: now,
        }
    }

    /// The descriptor to poll while a host is there.
    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.connected.then(|| self.fd.as_fd())
    }

    /// True after a host's `Hello`, until it goes.
    pub(crate) fn has_session(&self) -> bool {
        self.session
    }

    /// True if the host has taken nothing for `patience`, though there was something.
    pub(crate) fn is_stalled(&self, patience: Duration, now: Instant) -> bool {
        !self.session || (!self.out.is_empty() && now.saturating_duration_since(self.progressed) > patience)
    }

    /// Looks whether a host has come. Returns true if one is there.
    pub(crate) fn look_for_host(&mut self) -> bool {
        if !self.connected {
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            self.connected = poll(&mut fds, Some(&at_once)).is_ok()
                && !fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        }
        self.connected
    }

    /// The host has gone: half-sent lines in either direction are void.
    pub(crate) fn host_left(&mut self) {
        self.connected = false;
        self.session = false;
        self.decoder.reset();
        self.out.rewind();
    }

    /// A host said `Hello`; `answer` goes before anything that waits.
    pub(crate) fn open_session(&mut self, answer: &[u8], now: Instant) {
        self.out.restart(answer);
        self.session = true;
        self.progressed = now;
    }

    /// Reads requests, within bounds.
    pub(crate) fn read(&mut self) -> Vec<Result<Request, Garbage>> {
        let mut requests = Vec::new();
        let mut buffer = [0; 16 * 1024];
        for _ in 0..READS_AT_ONCE {
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(0) => {
                    self.host_left();
                    break;
                }
                Ok(n) => self.decoder.push(&buffer[..n], |request| requests.push(request)),
                Err(Errno::INTR) => {}
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        self.host_left();
                    }
                    break;
                }
            }
        }
        requests
    }

    /// Writes the batch [`Self::out`], as far as the host takes it.
    pub(crate) fn write(&mut self, now: Instant) -> Wrote {
        while !self.out.is_empty() {
            match rustix::io::write(&self.fd, self.out.rest()) {
                Ok(n) => {
                    self.out.advance(n);
                    self.progressed = now;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Wrote::Blocked,
                Err(_) => {
                    self.host_left();
                    return Wrote::Gone;
                }
            }
        }
        Wrote::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_new_reader_gets_the_answer_first_and_the_half_line_whole() {
        let mut out = Outgoing::default();
        out.push(b"one\n");
        out.push(b"two\n");
        out.push(b"three\n");
        out.advance(6);
        out.restart(b"hello\n");
        assert_eq!(out.rest(), b"\nhello\ntwo\nthree\n");
    }

    #[test]
    fn a_batch_that_was_written_is_not_repeated() {
        let mut out = Outgoing::default();
        out.push(b"one\n");
        out.advance(4);
        out.rewind();
        assert!(out.is_empty());
        out.push(b"one\ntwo\n");
        out.advance(4);
        out.rewind();
        assert_eq!(out.rest(), b"two\n");
    }

    proptest! {
        /// However writes are cut and however often readers change, the last reader, who only
        /// heeds what follows its `hello`, gets every line that no reader has got whole.
        #[test]
        fn no_line_is_lost(cuts in proptest::collection::vec((1usize..9, any::<bool>()), 0..20)) {
            let lines = ["a\n", "bcd\n", "efghij\n", "k\n"];
            let mut out = Outgoing::default();
            lines.iter().for_each(|line| out.push(line.as_bytes()));
            let mut readers = vec![String::new()];
            for (n, change) in cuts {
                let n = n.min(out.rest().len());
                readers.last_mut().unwrap().push_str(std::str::from_utf8(&out.rest()[..n]).unwrap());
                out.advance(n);
                if change {
                    out.restart(b"hello\n");
                    readers.push(String::new());
                }
            }
            readers.last_mut().unwrap().push_str(std::str::from_utf8(out.rest()).unwrap());
            let got = |line: &&str| readers.iter().any(|r| format!("\n{r}").contains(&format!("\n{line}")));
            prop_assert!(lines.iter().all(got), "{readers:?}");
        }
    }
}
