//! The shell: a program of the user's, on a terminal or on pipes, whose bytes go both ways.
//!
//! Its process is supervised like a test's ([`crate::process::supervised`]); its output is read only as fast
//! as the host takes it, so that nothing is dropped and nothing piles up. Nothing here blocks: every
//! descriptor says so, and a terminal is never closed, because closing one may wait for those who use it.
//! Deliberately not here: the loop ([`crate::serve`]) and the arithmetic of windows ([`protocol::window`]).

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use protocol::program::{Exit, Program};
use protocol::shell::{INPUT_WINDOW, OUTPUT_WINDOW, ShellMessage, ShellRequest, Stream, TerminalSize};
use protocol::window::{ReceiveWindow, SendWindow};
use protocol::wire::MAX_CHUNK;
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::process::cgroup::Cgroup;
use crate::process::launch::{self, Launched};
use crate::process::spawn::pipe;
use crate::process::supervised::{Change, Supervised};

/// The shell's attempt number, for its cgroup and for remarks: a guest has one shell and no test beside it.
const ATTEMPT: u32 = 1;

/// How long processes that outlive the shell may hold its output before they are killed.
const GRACE: Duration = Duration::from_millis(500);

/// A terminal that nobody has open answers at once, always: how often it is looked at.
const NOBODY_PAUSE: Duration = Duration::from_millis(50);

/// A descriptor of the shell's that is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShellPart {
    Report,
    Process,
    Input,
    Outlet(Stream),
}

/// The running shell.
#[derive(Debug)]
pub(crate) struct Shell {
    process: Supervised,
    /// Our end of its terminal, if it has one.
    terminal: Option<OwnedFd>,
    input: Inlet,
    outlets: Vec<Outlet>,
    output_window: SendWindow,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    /// It is over; what it wrote may still wait.
    Known(Exit),
    Told,
}

/// Bytes on their way to the shell.
#[derive(Debug)]
struct Inlet {
    /// Gone once nobody can read it, or all of it has been written.
    fd: Option<OwnedFd>,
    /// The reading end, which the launcher opens by our number for it.
    reading_end: Option<OwnedFd>,
    waiting: VecDeque<u8>,
    ends: bool,
    window: ReceiveWindow,
}

/// Bytes on their way from the shell.
#[derive(Debug)]
struct Outlet {
    stream: Stream,
    is_terminal: bool,
    /// Gone once nobody can write to it.
    fd: Option<OwnedFd>,
    waiting: VecDeque<u8>,
    resume: Instant,
}

impl Shell {
    /// Starts it.
    pub(crate) fn open(program: &Program, size: Option<TerminalSize>, now: Instant) -> io::Result<Self> {
        let cgroup = Cgroup::create(ATTEMPT)?;
        match size {
            Some(size) => {
                let (terminal, name) = open_terminal(size)?;
                let launched = launch::launch(program, cgroup.path(), &name, Stdio::null(), Stdio::null())?;
                let input = Inlet::new(terminal.try_clone()?, None);
                let outlets = vec![Outlet::new(Stream::Output, terminal.try_clone()?, true, now)];
                Ok(Self::new(launched, cgroup, Some(terminal), input, outlets, now))
            }
            None => {
                let (reading_end, writing_end) = pipe()?;
                rustix::fs::fcntl_setfl(&writing_end, OFlags::NONBLOCK)?;
                let (output, output_end) = pipe()?;
                let (errors, errors_end) = pipe()?;
                let name = format!("/proc/{}/fd/{}", std::process::id(), raw(reading_end.as_fd()));
                let launched =
                    launch::launch(program, cgroup.path(), &name, output_end.into(), errors_end.into())?;
                let input = Inlet::new(writing_end, Some(reading_end));
                let outlets = vec![
                    Outlet::new(Stream::Output, output, false, now),
                    Outlet::new(Stream::Errors, errors, false, now),
                ];
                Ok(Self::new(launched, cgroup, None, input, outlets, now))
            }
        }
    }

    fn new(
        launched: Launched,
        cgroup: Cgroup,
        terminal: Option<OwnedFd>,
        input: Inlet,
        outlets: Vec<Outlet>,
        now: Instant,
    ) -> Self {
        let process = Supervised::new(ATTEMPT, launched, cgroup, GRACE, now);
        let output_window = SendWindow::new(OUTPUT_WINDOW);
        Self { process, terminal, input, outlets, output_window, end: End::NotYet }
    }

    /// Its own process.
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// True while something may change without any descriptor becoming readable.
    pub(crate) fn is_ending(&self) -> bool {
        self.process.is_ending()
            || (self.is_over() && self.outlets.iter().any(|outlet| outlet.fd.is_some() && outlet.has_room()))
    }

    /// How long until a terminal that nobody has open is looked at again.
    pub(crate) fn resume_in(&self, now: Instant) -> Option<Duration> {
        let outlets = self.outlets.iter().filter(|outlet| outlet.fd.is_some() && outlet.resume > now);
        outlets.map(|outlet| outlet.resume.saturating_duration_since(now)).min()
    }

    /// Hands each descriptor that is to be polled now to `each`.
    pub(crate) fn polled<'a>(
        &'a self,
        now: Instant,
        mut each: impl FnMut(ShellPart, BorrowedFd<'a>, PollFlags),
    ) {
        if let Some(fd) = self.process.report_fd() {
            each(ShellPart::Report, fd, PollFlags::IN);
        }
        if let Some(fd) = self.process.process_fd() {
            each(ShellPart::Process, fd, PollFlags::IN);
        }
        if let Some(fd) = self.input.fd.as_ref().filter(|_| !self.input.waiting.is_empty()) {
            each(ShellPart::Input, fd.as_fd(), PollFlags::OUT);
        }
        for outlet in self.outlets.iter().filter(|outlet| outlet.has_room() && now >= outlet.resume) {
            if let Some(fd) = &outlet.fd {
                each(ShellPart::Outlet(outlet.stream), fd.as_fd(), PollFlags::IN);
            }
        }
    }

    /// Handles what became of a polled descriptor. Returns remarks.
    pub(crate) fn ready(&mut self, part: ShellPart, now: Instant) -> Vec<String> {
        match part {
            ShellPart::Report => return self.process.read_report(),
            ShellPart::Process => self.process.ended(),
            ShellPart::Input => self.input.write(),
            ShellPart::Outlet(stream) => {
                let ended = self.process.has_ended();
                let outlets = self.outlets.iter_mut().filter(|outlet| outlet.stream == stream);
                outlets.for_each(|outlet| outlet.read(ended, false, now));
            }
        }
        Vec::new()
    }

    /// Its own process was waited for. Returns remarks.
    pub(crate) fn reaped(&mut self, exit: Exit, now: Instant) -> Vec<String> {
        for outlet in &mut self.outlets {
            outlet.resume = now;
        }
        self.process.reaped(exit, now)
    }

    /// Takes it as far as it goes now. Returns true when it has just begun.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        let mut started = false;
        let open = |outlets: &[Outlet]| outlets.iter().any(|outlet| outlet.fd.is_some());
        while let Some(change) = self.process.advance(open(&self.outlets), now) {
            match change {
                Change::Started => {
                    started = true;
                    // The shell has its own now; with ours open, nobody would learn that it closed that.
                    self.input.reading_end = None;
                }
                Change::Over => {
                    self.input.close();
                    self.end = End::Known(self.process.finish(0, now).exit);
                }
            }
        }
        if self.is_over() {
            // Nobody is left to write: what there is can be read to its end.
            self.outlets.iter_mut().for_each(|outlet| outlet.read(true, true, now));
        }
        started
    }

    fn is_over(&self) -> bool {
        self.end != End::NotYet
    }

    /// Takes a request about it. Returns why it makes no sense, if it does not.
    pub(crate) fn handle(&mut self, request: ShellRequest, now: Instant) -> Result<(), &'static str> {
        match request {
            ShellRequest::Open { .. } => return Err("a shell is open"),
            ShellRequest::Input { data } => return self.input.take(&data),
            ShellRequest::InputEnd => {
                self.input.ends = true;
                self.input.write();
            }
            ShellRequest::Resize { size } => {
                if !self.input.window.arrived(0) {
                    return Err("more input than the window holds");
                }
                if let Some(terminal) = &self.terminal {
                    // The kernel tells the foreground job.
                    let _ = tcsetwinsize(terminal, winsize(size));
                }
            }
            ShellRequest::OutputTaken { total } => self.output_window.taken(total),
            ShellRequest::CloseOutput { stream } => {
                if self.terminal.is_some() {
                    self.process.stop(now);
                }
                for outlet in self.outlets.iter_mut().filter(|outlet| outlet.stream == stream) {
                    outlet.fd.take_if(|_| !outlet.is_terminal);
                    outlet.waiting.clear();
                }
            }
        }
        Ok(())
    }

    /// The next message to the host, as far as the window allows.
    pub(crate) fn next_message(&mut self) -> Option<ShellMessage> {
        if let Some(total) = self.input.window.say() {
            return Some(ShellMessage::InputTaken { total });
        }
        let room = self.output_window.room()?;
        let outlet = self.outlets.iter_mut().find(|outlet| !outlet.waiting.is_empty())?;
        let n = outlet.waiting.len().min(room);
        let data: Vec<u8> = outlet.waiting.drain(..n).collect();
        self.output_window.sent(data.len());
        Some(ShellMessage::Output { stream: outlet.stream, data })
    }

    /// How it ended, once, when all that it wrote has been handed out.
    pub(crate) fn next_end(&mut self) -> Option<Exit> {
        let End::Known(exit) = self.end else { return None };
        let done = self.outlets.iter().all(|outlet| outlet.fd.is_none() && outlet.waiting.is_empty());
        done.then(|| {
            self.end = End::Told;
            exit
        })
    }
}

impl Inlet {
    fn new(fd: OwnedFd, reading_end: Option<OwnedFd>) -> Self {
        let window = ReceiveWindow::new(INPUT_WINDOW);
        Self { fd: Some(fd), reading_end, waiting: VecDeque::new(), ends: false, window }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), &'static str> {
        if !self.window.arrived(data.len()) {
            return Err("more input than the window holds");
        }
        self.waiting.extend(data);
        self.write();
        Ok(())
    }

    /// Writes the waiting bytes, as far as the shell takes them.
    fn write(&mut self) {
        while let Some(fd) = &self.fd
            && !self.waiting.is_empty()
        {
            match rustix::io::write(fd, self.waiting.as_slices().0) {
                Ok(0) | Err(Errno::AGAIN) => return,
                Ok(n) => {
                    self.waiting.drain(..n);
                    self.window.took(n);
                }
                Err(Errno::INTR) => {}
                // A terminal that nobody has open now may be opened again; what was typed is void.
                Err(Errno::IO) => break,
                Err(_) => self.fd = None,
            }
        }
        // Nobody will ever read this.
        self.window.took(self.waiting.len());
        self.waiting.clear();
        if self.ends {
            self.fd = None;
        }
    }

    fn close(&mut self) {
        self.ends = true;
        self.fd = None;
        self.reading_end = None;
        self.write();
    }
}

impl Outlet {
    fn new(stream: Stream, fd: OwnedFd, is_terminal: bool, now: Instant) -> Self {
        Self { stream, is_terminal, fd: Some(fd), waiting: VecDeque::new(), resume: now }
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < MAX_CHUNK
    }

    /// Reads as much as is there and as there is room for. `ended`: the shell's own process has ended.
    /// `last`: and nobody else writes any more.
    fn read(&mut self, ended: bool, last: bool, now: Instant) {
        let mut buffer = [0; 16 * 1024];
        while let Some(fd) = &self.fd
            && self.has_room()
        {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => self.fd = None,
                Ok(n) => self.waiting.extend(&buffer[..n]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if last => self.fd = None,
                Err(Errno::AGAIN) => return,
                // Nobody has the terminal open, and yet the shell lives: it may be opened again.
                Err(Errno::IO) if self.is_terminal && !ended => {
                    self.resume = now + NOBODY_PAUSE;
                    return;
                }
                Err(_) => self.fd = None,
            }
        }
    }
}

/// A new terminal: our end, and the name of the other.
fn open_terminal(size: TerminalSize) -> io::Result<(OwnedFd, String)> {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&terminal, OFlags::RDWR | OFlags::NONBLOCK)?;
    unlockpt(&terminal)?;
    tcsetwinsize(&terminal, winsize(size))?;
    // As terminals are today: erasing a character erases all of its bytes.
    let mut settings = tcgetattr(&terminal)?;
    settings.input_modes |= InputModes::IUTF8;
    tcsetattr(&terminal, OptionalActions::Now, &settings)?;
    let name: CString = ptsname(&terminal, Vec::new())?;
    let name = name.into_string().map_err(|_| io::Error::other("a terminal's name is no text"))?;
    Ok((terminal, name))
}

fn winsize(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn raw(fd: BorrowedFd<'_>) -> i32 {
    use std::os::fd::AsRawFd;
    fd.as_raw_fd()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe_ends() -> (OwnedFd, OwnedFd) {
        let (reader, writer) = pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        (reader, writer)
    }

    #[test]
    fn input_that_is_not_read_waits_and_is_not_said_to_be_taken() {
        let (reader, writer) = pipe_ends();
        rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
        let mut inlet = Inlet::new(writer, None);
        inlet.take(&[b'x'; 30_000]).unwrap();
        inlet.take(&[b'x'; 30_000]).unwrap();
        assert!(inlet.take(&[b'x'; 30_000]).is_err(), "more than the window holds");
        assert_eq!(inlet.window.say(), None);
        let mut read = 0;
        let mut buffer = [0; 8192];
        while read < 60_000 {
            read += rustix::io::read(&reader, &mut buffer).unwrap();
            inlet.write();
        }
        assert!(inlet.window.say().is_some());
        inlet.ends = true;
        inlet.write();
        assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(0), "the end is passed on");
    }

    #[test]
    fn input_that_nobody_reads_any_more_is_taken() {
        let (reader, writer) = pipe_ends();
        drop(reader);
        let mut inlet = Inlet::new(writer, None);
        inlet.take(&[b'x'; 30_000]).unwrap();
        inlet.take(&[b'x'; 30_000]).unwrap();
        assert!(inlet.waiting.is_empty() && inlet.window.say().is_some());
    }

    #[test]
    fn output_is_read_only_as_far_as_there_is_room() {
        let now = Instant::now();
        let (reader, writer) = pipe_ends();
        let mut outlet = Outlet::new(Stream::Output, reader, false, now);
        assert_eq!(rustix::io::write(&writer, &[b'x'; 65_536]), Ok(65_536));
        outlet.read(false, false, now);
        assert!(!outlet.has_room() && outlet.waiting.len() < 65_536);
        drop(writer);
        let mut n = 0;
        while outlet.fd.is_some() || !outlet.waiting.is_empty() {
            n += std::mem::take(&mut outlet.waiting).len();
            outlet.read(true, true, now);
        }
        assert_eq!(n, 65_536, "nothing is dropped");
    }

    #[test]
    fn a_terminal_that_nobody_has_open_is_left_alone_for_a_moment() {
        let now = Instant::now();
        let (terminal, name) = open_terminal(TerminalSize { rows: 30, columns: 90 }).unwrap();
        let mut outlet = Outlet::new(Stream::Output, terminal.try_clone().unwrap(), true, now);
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let other = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
        let size = rustix::termios::tcgetwinsize(&other).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (30, 90));
        rustix::io::write(&other, b"last").unwrap();
        drop(other);
        // What was written comes first.
        while outlet.resume == now {
            outlet.read(false, false, now);
        }
        assert!(outlet.waiting.iter().eq(b"last") && outlet.fd.is_some());
        outlet.read(true, false, now);
        assert!(outlet.fd.is_none(), "once the shell has ended, that is the end");
    }
}
