//! The threads between the user and the shell's loop: what is typed, what is printed, what the terminal
//! signals. Each only passes on; what to do is decided in [`super::state`].

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread;

use anyhow::{Context, Result};
use protocol::shell::Stream;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGCONT, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;

use super::host_terminal;
use super::state::Event;

/// How much is read at once.
const READ: usize = 16 * 1024;

/// Waits until a descriptor that does not block, because another process made it so, is ready.
fn wait_for(fd: BorrowedFd<'_>, flags: PollFlags) {
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None);
}

/// Reads standard input, one piece for each permission. Lives until the process ends, because a read cannot
/// be taken back. Returns where to permit.
pub(crate) fn read_input(events: SyncSender<Event>) -> Result<Sender<()>> {
    let (permit, permits) = channel();
    let read = move || {
        let stdin = rustix::stdio::stdin();
        let mut buffer = vec![0; READ];
        for () in permits {
            let event = loop {
                match rustix::io::read(stdin, &mut buffer) {
                    Ok(n) if n > 0 => break Event::Typed(buffer[..n].to_vec()),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => wait_for(stdin, PollFlags::IN),
                    Ok(_) | Err(_) => break Event::TypedEnd,
                }
            };
            let ends = matches!(event, Event::TypedEnd);
            if events.send(event).is_err() || ends {
                return;
            }
        }
    };
    thread::Builder::new().name("stdin".into()).spawn(read).context("failed to start a thread")?;
    Ok(permit)
}

/// Writes to standard output and error, in a thread of its own, because whoever reads them may pause.
#[derive(Debug)]
pub(crate) struct Writer(Sender<(Stream, Vec<u8>)>);

impl Writer {
    /// Starts it. Each piece that was written is an event, and so is the end of its last ([`Self::finish`]).
    pub(crate) fn start(events: SyncSender<Event>) -> Result<Self> {
        let (pieces, to_write) = channel();
        let write = move || {
            write_pieces(&to_write, &events);
            let _ = events.send(Event::WrittenAll);
        };
        thread::Builder::new().name("stdout".into()).spawn(write).context("failed to start a thread")?;
        Ok(Writer(pieces))
    }

    /// Has a piece written, in turn.
    pub(crate) fn write(&self, stream: Stream, data: Vec<u8>) {
        // It lives as long as we do.
        let _ = self.0.send((stream, data));
    }

    /// Nothing follows: [`Event::WrittenAll`] comes when all is written.
    pub(crate) fn finish(self) {}
}

fn write_pieces(pieces: &Receiver<(Stream, Vec<u8>)>, events: &SyncSender<Event>) {
    let mut gone = Vec::new();
    for (stream, data) in pieces {
        if !gone.contains(&stream) && write_all(stream, &data).is_err() {
            gone.push(stream);
            let _ = events.send(Event::OutputGone(stream));
        }
        if events.send(Event::Written { n_bytes: data.len() }).is_err() {
            return;
        }
    }
}

/// Not through [`io::stdout`], which waits for the end of a line.
fn write_all(stream: Stream, mut data: &[u8]) -> io::Result<()> {
    let fd = match stream {
        Stream::Output => rustix::stdio::stdout(),
        Stream::Errors => rustix::stdio::stderr(),
    };
    while !data.is_empty() {
        match rustix::io::write(fd, data) {
            Ok(n) => data = &data[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(fd, PollFlags::OUT),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Hears what the terminal signals; until it is dropped.
#[derive(Debug)]
pub(crate) struct TerminalSignals(signal_hook::iterator::Handle);

impl TerminalSignals {
    /// Starts to listen.
    pub(crate) fn listen(events: SyncSender<Event>) -> Result<Self> {
        let mut signals =
            Signals::new([SIGWINCH, SIGCONT, SIGTSTP]).context("failed to install signal handlers")?;
        let handle = signals.handle();
        let listen = move || {
            for signal in signals.forever() {
                if signal == SIGTSTP {
                    // Ctrl-Z is the guest's; this came from another process. Whoever has the terminal
                    // while we are stopped wants it as it was.
                    host_terminal::lend();
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                } else {
                    if signal == SIGCONT {
                        let _ = host_terminal::again();
                    }
                    if events.send(Event::Resized(host_terminal::size())).is_err() {
                        return;
                    }
                }
            }
        };
        thread::Builder::new().name("terminal".into()).spawn(listen).context("failed to start a thread")?;
        Ok(TerminalSignals(handle))
    }
}

impl Drop for TerminalSignals {
    fn drop(&mut self) {
        self.0.close();
    }
}
