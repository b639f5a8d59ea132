//! One shell as a pure state machine: what user and VM do comes in with its time, effects go out.
//!
//! It does no I/O and reads no clock. [`super`] carries the effects out.

use std::collections::VecDeque;
use std::time::Duration;

use protocol::event::CollectedFile;
use protocol::program::{Exit, Program};
use protocol::shell::{INPUT_WINDOW, OUTPUT_WINDOW, ShellMessage, ShellRequest, Stream, TerminalSize};
use protocol::window::{ReceiveWindow, SendWindow};
use protocol::wire::{Message, Request};

use super::keys::{self, EscapeKeys};
use crate::attempt::TimeLimits;
use crate::guest::end::EndBlame;
use crate::guest::files::FileMessage;
use crate::guest::session::{GuestSession, Heard};
use crate::machine::Input;
use crate::machine::greeting::Opening;
use crate::machine::start::{self, Decide};

/// Most input that waits for a guest that takes none, bytes; what is typed beyond that is lost.
const TYPED_AHEAD_MAX: usize = 1 << 20;

/// Lines of the console that are shown when the kernel crashes.
const LAST_LINES: usize = 20;

/// Number of the attempt that its files belong to.
const ATTEMPT: u32 = 1;

/// An event of the terminal, the streams or the VM.
#[derive(Debug)]
pub(crate) enum Event {
    /// The VM told something.
    Vm(Input),
    /// A piece of standard input.
    Typed(Vec<u8>),
    /// Standard input has ended.
    TypedEnd,
    /// The terminal's size may have changed.
    Resized(TerminalSize),
    /// A piece of output has been written, or is wanted by nobody.
    Written {
        /// Its length.
        n_bytes: usize,
    },
    /// Nobody reads this any more.
    OutputGone(Stream),
    /// All output has been written, and none follows.
    WrittenAll,
}

impl From<Input> for Event {
    fn from(input: Input) -> Self {
        Event::Vm(input)
    }
}

/// A step that the caller is to take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Send this to the guest.
    Send(Request),
    /// Plug in the modules that take the place of the kernel's.
    PlugModules { serial: String },
    /// End the VM.
    Kill,
    /// The shell runs: the terminal is its, if it has one, and input is read.
    Opened,
    /// Read a piece of input.
    ReadOn,
    /// Write this for the user.
    Write(Stream, Vec<u8>),
    /// Append to the kernel log.
    KernelLog(String),
    /// Pass on to the keeper of collected files.
    File(Message),
    /// Tell the user.
    Say(String),
}

impl start::Effect for Effect {
    fn asks_the_vm(&self) -> bool {
        match self {
            Effect::Send(_) | Effect::PlugModules { .. } => true,
            Effect::Kill
            | Effect::Opened
            | Effect::ReadOn
            | Effect::Write(..)
            | Effect::KernelLog(_)
            | Effect::File(_)
            | Effect::Say(_) => false,
        }
    }
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The shell's own process ended.
    Exited(Exit),
    /// The user ended the VM.
    Escaped,
    /// A signal did, or the user's terminal went away.
    Interrupted,
    /// The kernel crashed or does not boot, or the guest went away by its own doing.
    Crashed {
        /// The line that names it.
        title: String,
    },
    /// Nobody is there to see it, and the guest no longer answers.
    Hung {
        /// For how long.
        silent: Duration,
    },
    /// The host or the harness failed.
    Infra {
        /// The error.
        error: String,
    },
}

/// The result of a shell, when all is over.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub end: End,
    /// The kernel complained, and did not die of it, or that is what it died of.
    pub fault: Option<String>,
    /// The console's last lines, as they came.
    pub last_lines: Vec<String>,
    /// Files that came back.
    pub files: Vec<CollectedFile>,
    /// Files that did not come back, because there were too many.
    pub n_files_left_out: u32,
    /// Nobody wanted the rest of its output.
    pub output_gone: bool,
    /// The guest answered.
    pub ready: bool,
    /// It did not in time, and nothing says why.
    pub late: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for the agent's answer.
    Booting,
    /// The shell is being prepared.
    Opening,
    /// It runs.
    Open,
    /// It has ended, files come back.
    Collecting { since: Duration },
    /// The guest powers off, or we kill it.
    Ending { since: Duration },
    /// The VM is gone.
    Ended,
}

/// The state of one shell.
#[derive(Debug)]
pub(crate) struct ShellState {
    guest: GuestSession,
    program: Program,
    /// The terminal's size, if there is one.
    terminal: Option<TerminalSize>,
    limits: TimeLimits,
    phase: Phase,
    keys: EscapeKeys,
    /// Input that was typed and is not sent yet.
    typed: VecDeque<u8>,
    typed_end: bool,
    /// The guest has been told that no more input follows.
    input_ended: bool,
    /// A piece of input was asked for and has not come.
    reading: bool,
    /// A size that the guest has not been told.
    resized: Option<TerminalSize>,
    input_window: SendWindow,
    output_window: ReceiveWindow,
    output_gone: bool,
    last_word: Duration,
    told_silence: bool,
    last_lines: VecDeque<String>,
    n_files_left_out: u32,
    /// The guest did not answer in time, and nothing says why.
    late: bool,
    end: Option<End>,
}

impl ShellState {
    /// A guest that has not answered yet; `terminal` is the size of the user's, if the shell gets one.
    pub(crate) fn new(
        opening: Opening,
        program: Program,
        terminal: Option<TerminalSize>,
        limits: TimeLimits,
    ) -> Self {
        ShellState {
            guest: GuestSession::new(opening, ATTEMPT),
            program,
            terminal,
            limits,
            phase: Phase::Booting,
            keys: EscapeKeys::default(),
            typed: VecDeque::new(),
            typed_end: false,
            input_ended: false,
            reading: false,
            resized: None,
            input_window: SendWindow::new(INPUT_WINDOW),
            output_window: ReceiveWindow::new(OUTPUT_WINDOW),
            output_gone: false,
            last_word: Duration::ZERO,
            told_silence: false,
            last_lines: VecDeque::new(),
            n_files_left_out: 0,
            late: false,
            end: None,
        }
    }

    /// The first effects, once the VM has been started.
    pub(crate) fn begin(&self) -> Vec<Effect> {
        vec![Effect::Send(self.guest.hello())]
    }

    /// The result, once the shell is over.
    pub(crate) fn finish(mut self) -> Finished {
        assert!(self.is_over(), "a shell finished while its VM lives");
        let error = "the VM ended for no known reason".to_owned();
        Finished {
            end: self.end.unwrap_or(End::Infra { error }),
            fault: self.guest.fault().map(str::to_owned),
            last_lines: self.last_lines.into(),
            files: self.guest.take_files(),
            n_files_left_out: self.n_files_left_out,
            output_gone: self.output_gone,
            ready: self.guest.is_ready(),
            late: self.late,
        }
    }
}

impl Decide for ShellState {
    type Event = Event;
    type Effect = Effect;

    fn apply(&mut self, at: Duration, event: Event) -> Vec<Effect> {
        match event {
            Event::Vm(input) => self.vm(at, input),
            Event::Typed(bytes) => self.typed(at, &bytes),
            // A terminal that ends has been taken away.
            Event::TypedEnd if self.terminal.is_some() => self.interrupt(),
            Event::TypedEnd => {
                self.typed_end = true;
                self.pump()
            }
            Event::Resized(size) => {
                if self.terminal.is_some_and(|known| known != size) {
                    self.terminal = Some(size);
                    self.resized = Some(size);
                }
                self.pump()
            }
            Event::Written { n_bytes } => {
                self.output_window.took(n_bytes);
                let say = self.output_window.say();
                say.map(|total| shell(ShellRequest::OutputTaken { total })).into_iter().collect()
            }
            Event::OutputGone(stream) => {
                self.output_gone = true;
                vec![shell(ShellRequest::CloseOutput { stream })]
            }
            Event::WrittenAll => vec![],
        }
    }

    fn tick(&mut self, at: Duration) -> Vec<Effect> {
        let late = |since: Duration| at > since + self.limits.grace_period;
        if self.guest.panicked_since().is_some_and(late) {
            return self.kill();
        }
        match self.phase {
            Phase::Booting if at > self.limits.boot_timeout => {
                self.late = self.guest.fault().is_none();
                let title = match self.guest.fault() {
                    Some(title) => title.to_owned(),
                    None => format!(
                        "does not boot: no answer from the guest for {} s",
                        self.limits.boot_timeout.as_secs()
                    ),
                };
                self.conclude(End::Crashed { title });
                self.kill()
            }
            Phase::Opening | Phase::Open => self.listen_for_silence(at),
            Phase::Collecting { since } if late(since) => self.power_off(at),
            Phase::Ending { since } if late(since) => self.kill(),
            Phase::Booting | Phase::Collecting { .. } | Phase::Ending { .. } | Phase::Ended => vec![],
        }
    }

    fn interrupt(&mut self) -> Vec<Effect> {
        self.conclude(End::Interrupted);
        self.kill()
    }

    fn fail(&mut self, error: String) -> Vec<Effect> {
        self.conclude(End::Infra { error });
        self.kill()
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Ended
    }
}

impl ShellState {
    /// A person is told and decides; without one, the VM ends.
    fn listen_for_silence(&mut self, at: Duration) -> Vec<Effect> {
        let silent = at.saturating_sub(self.last_word);
        if silent <= self.limits.heartbeat_timeout {
            return vec![];
        }
        if self.terminal.is_none() {
            self.conclude(End::Hung { silent });
            return self.kill();
        }
        if std::mem::replace(&mut self.told_silence, true) {
            return vec![];
        }
        let words = format!("the guest has not answered for {} s; {} ends it", silent.as_secs(), keys::HOW);
        vec![Effect::Say(words)]
    }

    fn typed(&mut self, at: Duration, bytes: &[u8]) -> Vec<Effect> {
        self.reading = false;
        if self.terminal.is_some() {
            if self.keys.look(bytes, at) {
                self.conclude(End::Escaped);
                return self.kill();
            }
            let room = TYPED_AHEAD_MAX.saturating_sub(self.typed.len());
            self.typed.extend(&bytes[..bytes.len().min(room)]);
        } else {
            self.typed.extend(bytes);
        }
        self.pump()
    }

    /// Sends what may be sent, and reads on where there is room.
    fn pump(&mut self) -> Vec<Effect> {
        if self.phase != Phase::Open {
            return vec![];
        }
        let mut effects = Vec::new();
        while let Some(room) = self.input_window.room() {
            if let Some(size) = self.resized.take() {
                self.input_window.sent(0);
                effects.push(shell(ShellRequest::Resize { size }));
            } else if !self.typed.is_empty() {
                let data: Vec<u8> = self.typed.drain(..self.typed.len().min(room)).collect();
                self.input_window.sent(data.len());
                effects.push(shell(ShellRequest::Input { data }));
            } else {
                break;
            }
        }
        // A terminal is always read: the keys that end the VM may come.
        let has_room = self.typed.is_empty() || self.terminal.is_some();
        if self.typed_end {
            if self.typed.is_empty() && !std::mem::replace(&mut self.input_ended, true) {
                effects.push(shell(ShellRequest::InputEnd));
            }
        } else if has_room && !std::mem::replace(&mut self.reading, true) {
            effects.push(Effect::ReadOn);
        }
        effects
    }

    fn vm(&mut self, at: Duration, input: Input) -> Vec<Effect> {
        match input {
            Input::Console(bytes) => self.console(at, &bytes),
            Input::Agent(Ok(message)) => {
                self.last_word = at;
                self.told_silence = false;
                self.guest.spoke(at);
                let heard = self.guest.message(message);
                self.heard(at, heard)
            }
            Input::Files(Ok(message)) => self.file(at, message),
            // It is in the logs of a test; here, a person sees what is missing.
            Input::Agent(Err(_)) | Input::Files(Err(_)) => vec![],
            Input::Hypervisor(event) => match self.guest.hypervisor(at, event) {
                Ok(()) => vec![],
                Err(error) => self.fail(error),
            },
            // It is asked nothing.
            Input::Answer(_) => vec![],
            Input::Ended(end) => {
                let fault = self.guest.fault().map(str::to_owned);
                match self.guest.ended(end, fault.as_deref(), self.end.is_some()) {
                    Some(EndBlame::Kernel { title }) => self.conclude(End::Crashed { title }),
                    Some(EndBlame::Infra { error }) => self.conclude(End::Infra { error }),
                    None => {}
                }
                self.phase = Phase::Ended;
                vec![]
            }
        }
    }

    fn console(&mut self, at: Duration, bytes: &[u8]) -> Vec<Effect> {
        let last_lines = &mut self.last_lines;
        self.guest.console(at, bytes, |line| {
            if last_lines.len() == LAST_LINES {
                last_lines.pop_front();
            }
            last_lines.push_back(line.to_owned());
        });
        if self.guest.cries_panic() {
            self.guest.console_panics(at);
        }
        vec![]
    }

    fn heard(&mut self, at: Duration, heard: Heard) -> Vec<Effect> {
        match heard {
            Heard::Ready(_) => {
                self.phase = Phase::Opening;
                let (program, terminal) = (self.program.clone(), self.terminal);
                let replaced = program.replaced.as_ref();
                let serial = replaced.map(|replaced| replaced.serial.clone());
                let plug = serial.map(|serial| Effect::PlugModules { serial });
                plug.into_iter().chain([shell(ShellRequest::Open { program, terminal })]).collect()
            }
            Heard::KernelLog(line) => vec![Effect::KernelLog(line)],
            Heard::Note(text) => vec![Effect::Say(format!("note: {text}"))],
            Heard::Failed(error) => self.fail(error),
            Heard::Other(Message::Shell(message)) => self.shell(at, message),
            Heard::Other(_) | Heard::Garbage => vec![],
        }
    }

    fn shell(&mut self, at: Duration, message: ShellMessage) -> Vec<Effect> {
        match message {
            ShellMessage::Opened if self.phase == Phase::Opening => {
                self.phase = Phase::Open;
                let mut effects = vec![Effect::Opened];
                effects.extend(self.pump());
                effects
            }
            // The guest is not trusted: what exceeds the window is not kept.
            ShellMessage::Output { stream, data } if self.output_window.arrived(data.len()) => {
                vec![Effect::Write(stream, data)]
            }
            ShellMessage::InputTaken { total } => {
                self.input_window.taken(total);
                self.pump()
            }
            ShellMessage::Ended { exit } if matches!(self.phase, Phase::Opening | Phase::Open) => {
                self.conclude(End::Exited(exit));
                self.phase = Phase::Collecting { since: at };
                vec![Effect::Send(self.guest.ask_for_files())]
            }
            ShellMessage::Opened | ShellMessage::Output { .. } | ShellMessage::Ended { .. } => vec![],
        }
    }

    fn file(&mut self, at: Duration, message: Message) -> Vec<Effect> {
        let Phase::Collecting { .. } = self.phase else { return vec![] };
        match self.guest.file(&message) {
            FileMessage::Part => {
                self.phase = Phase::Collecting { since: at };
                vec![Effect::File(message)]
            }
            FileMessage::All { n_left_out } => {
                self.n_files_left_out = n_left_out;
                self.power_off(at)
            }
            FileMessage::Garbage => vec![],
        }
    }

    fn power_off(&mut self, at: Duration) -> Vec<Effect> {
        self.phase = Phase::Ending { since: at };
        vec![Effect::Send(self.guest.power_off())]
    }

    /// The first conclusion stands, but for a panic: it explains whatever was seen before.
    fn conclude(&mut self, end: End) {
        let explains = self.guest.panicked_since().is_some() && matches!(end, End::Crashed { .. });
        if self.end.is_none() || (explains && self.end != Some(End::Escaped)) {
            self.end = Some(end);
        }
    }

    fn kill(&mut self) -> Vec<Effect> {
        if self.guest.kill() { vec![Effect::Kill] } else { vec![] }
    }
}

fn shell(request: ShellRequest) -> Effect {
    Effect::Send(Request::Shell(request))
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
