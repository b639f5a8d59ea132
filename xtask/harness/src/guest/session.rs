//! One guest from its greeting to its end, whatever runs in it: the agent's answer, the console and what it
//! says of the kernel, the kernel's log, the agent's remarks, the files that come back, the power-off. Pure.
//!
//! Deliberately not here: what runs in the guest, and what its end means for that ([`crate::attempt`],
//! [`crate::shell::state`]).

use std::time::Duration;

use protocol::event::CollectedFile;
use protocol::wire::{GuestFacts, Message, Request};

use crate::console::{AgentWords, Crash, Lines};
use crate::guest::end::{EndBlame, EndContext, EndWatch};
use crate::guest::files::{FileList, FileMessage};
use crate::machine::greeting::Opening;
use crate::machine::{HypervisorEvent, VmEnd};

/// Notes of the agent that are passed on.
const NOTES_MAX: u32 = 50;
/// Longest text of the guest's in a note or an error, characters.
const TEXT_MAX: usize = 1000;

/// One guest.
#[derive(Debug)]
pub(crate) struct GuestSession {
    opening: Opening,
    console: Lines,
    crash: Crash,
    agent_words: AgentWords,
    end: EndWatch,
    files: FileList,
    n_notes: u32,
    is_ready: bool,
    is_killed: bool,
}

/// News of a message of the agent's.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// The guest is up.
    Ready(GuestFacts),
    /// A line for the kernel's log.
    KernelLog(String),
    /// A note of the agent's own.
    Note(String),
    /// The agent cannot do what it was asked for, or cannot be talked to.
    Failed(String),
    /// It makes no sense at this time, or there were too many.
    Garbage,
    /// It is about the program that runs in the guest.
    Other(Message),
}

impl GuestSession {
    /// A guest that is greeted with `opening`, and hands over files as those of attempt `attempt`.
    pub(crate) fn new(opening: Opening, attempt: u32) -> Self {
        GuestSession {
            agent_words: AgentWords::new(opening.session),
            opening,
            console: Lines::default(),
            crash: Crash::default(),
            end: EndWatch::default(),
            files: FileList::new(attempt),
            n_notes: 0,
            is_ready: false,
            is_killed: false,
        }
    }

    // ---- greeting ----------------------------------------------------------------------------

    /// The greeting, which is sent once the VM has been started.
    pub(crate) fn hello(&self) -> Request {
        self.opening.hello()
    }

    /// Takes the answer to a greeting: true if it answers ours. An error if the agent cannot be talked to.
    fn greeted(&mut self, version: u32, session: u64) -> Result<bool, String> {
        let is_ours = self.opening.is_answered(version, session)?;
        self.is_ready |= is_ours;
        Ok(is_ours)
    }

    /// True once the agent has answered the greeting.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready
    }

    // ---- the agent's words -------------------------------------------------------------------

    /// Takes a message of the agent's port, of which [`Self::spoke`] was told.
    pub(crate) fn message(&mut self, message: Message) -> Heard {
        match message {
            Message::Hello { version, session, guest } if !self.is_ready => {
                match self.greeted(version, session) {
                    Ok(true) => Heard::Ready(guest),
                    Ok(false) => Heard::Garbage,
                    Err(why) => Heard::Failed(why),
                }
            }
            Message::Hello { .. } => Heard::Garbage,
            Message::Kmsg { at_us, text, .. } => Heard::KernelLog(kernel_log_line(at_us, &text)),
            Message::Refused { reason } => {
                Heard::Failed(format!("the guest agent refused: {}", clip(&reason)))
            }
            Message::Note { text } => self.note(&text).map_or(Heard::Garbage, Heard::Note),
            Message::Started { .. }
            | Message::Output { .. }
            | Message::Finished(_)
            | Message::KernelState { .. }
            | Message::Heartbeat { .. }
            | Message::FileStart { .. }
            | Message::FileData { .. }
            | Message::FileEnd { .. }
            | Message::Collected { .. }
            | Message::Sample(_)
            | Message::Evidence { .. }
            | Message::Diagnosed { .. }
            | Message::Shell(_) => Heard::Other(message),
        }
    }

    /// The agent spoke.
    pub(crate) fn spoke(&mut self, at: Duration) {
        self.end.agent_spoke(at);
    }

    /// A note of the agent's, as it is passed on; nothing once there were too many.
    fn note(&mut self, text: &str) -> Option<String> {
        if self.n_notes >= NOTES_MAX {
            return None;
        }
        self.n_notes += 1;
        Some(format!("guest agent: {}", clip(text)))
    }

    /// Why the agent gave up, if it did.
    pub(crate) fn gave_up(&self) -> Option<&str> {
        self.agent_words.gave_up(self.is_ready)
    }

    /// Since when nobody serves the guest, because the agent gave up.
    pub(crate) fn unserved_since(&self) -> Option<Duration> {
        self.agent_words.gone_since()
    }

    // ---- console -----------------------------------------------------------------------------

    /// Takes bytes of the console; `each` is given every line.
    pub(crate) fn console(&mut self, at: Duration, bytes: &[u8], mut each: impl FnMut(&str)) {
        let (crash, agent_words) = (&mut self.crash, &mut self.agent_words);
        self.console.push(bytes, |line| {
            each(line);
            crash.look(line);
            agent_words.look(at, line);
        });
    }

    /// The beginning of a line of the console whose end has not come.
    pub(crate) fn console_rest(&self) -> String {
        self.console.rest()
    }

    /// True if the console has spoken of a panic.
    pub(crate) fn cries_panic(&self) -> bool {
        self.crash.panicked()
    }

    /// The console's words are taken for a panic.
    pub(crate) fn console_panics(&mut self, at: Duration) {
        self.end.console_panics(at);
    }

    /// The console's first line that names a fault of the kernel's.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.crash.title()
    }

    /// The console's newest line that is not blank.
    pub(crate) fn newest_line(&self) -> &str {
        self.crash.newest()
    }

    /// The console's last lines.
    pub(crate) fn console_tail(&self) -> Vec<String> {
        self.crash.tail()
    }

    // ---- files -------------------------------------------------------------------------------

    /// The request for the guest's files.
    pub(crate) fn ask_for_files(&self) -> Request {
        self.files.request()
    }

    /// Takes a message of the files port.
    pub(crate) fn file(&mut self, message: &Message) -> FileMessage {
        self.files.take(message)
    }

    /// The files that came.
    pub(crate) fn take_files(&mut self) -> Vec<CollectedFile> {
        std::mem::take(&mut self.files.files)
    }

    // ---- its end -----------------------------------------------------------------------------

    /// The request to power off.
    pub(crate) fn power_off(&mut self) -> Request {
        self.end.asked_to_power_off();
        Request::PowerOff
    }

    /// The VM is to be killed; true the first time.
    pub(crate) fn kill(&mut self) -> bool {
        !std::mem::replace(&mut self.is_killed, true)
    }

    /// True once the VM is to be killed.
    pub(crate) fn is_killed(&self) -> bool {
        self.is_killed
    }

    /// When the kernel panicked, if it did.
    pub(crate) fn panicked_since(&self) -> Option<Duration> {
        self.end.panicked_since()
    }

    /// Takes the hypervisor's word; an error if the VM cannot go on, by the host's doing.
    pub(crate) fn hypervisor(&mut self, at: Duration, event: HypervisorEvent) -> Result<(), String> {
        self.end.hypervisor(at, event)
    }

    /// The VM has ended: whose fault that is; nothing if `is_explained` by something that is known already.
    /// `fault` names a fault of the kernel's.
    pub(crate) fn ended(&mut self, end: VmEnd, fault: Option<&str>, is_explained: bool) -> Option<EndBlame> {
        let agent_gave_up = self.agent_words.gave_up(self.is_ready);
        self.end.ended(end, EndContext { fault, agent_gave_up, is_explained })
    }
}

/// The beginning of a text of the guest's, as long as a note may be.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// A line of the kernel log, as `dmesg` shows it.
pub(crate) fn kernel_log_line(at_us: u64, text: &str) -> String {
    let (s, us) = (at_us / 1_000_000, at_us % 1_000_000);
    let stamp = format!("[{s:5}.{us:06}] ");
    // `/dev/kmsg` writes a line end within a record as `\x0a` and a backslash as `\x5c`
    // (Documentation/ABI/testing/dev-kmsg); other escapes stay, for a terminal's sake.
    let text = text.replace("\\x0a", &format!("\n{stamp}")).replace("\\x5c", "\\");
    format!("{stamp}{text}\n")
}

#[cfg(test)]
mod tests {
    use protocol::wire::VERSION;

    use super::*;
    use crate::testing::guest_facts;

    fn session() -> GuestSession {
        GuestSession::new(Opening { session: 7, entropy: vec![] }, 1)
    }

    fn hello(version: u32, session: u64) -> Message {
        Message::Hello { version, session, guest: guest_facts() }
    }

    #[test]
    fn a_guest_is_up_once_it_answers_its_own_greeting() {
        let mut guest = session();
        let mut hears = |message| guest.message(message);
        assert_eq!(hears(hello(VERSION, 8)), Heard::Garbage);
        assert_eq!(hears(hello(VERSION, 7)), Heard::Ready(guest_facts()));
        assert_eq!(hears(hello(VERSION, 7)), Heard::Garbage);
        assert!(guest.is_ready());
    }

    #[test]
    fn an_agent_of_another_version_cannot_be_talked_to() {
        let heard = session().message(hello(VERSION + 1, 7));
        assert!(matches!(heard, Heard::Failed(why) if why.contains("speaks version")));
    }

    #[test]
    fn an_agent_that_remarks_without_end_is_not_passed_on() {
        let mut guest = session();
        let heard = (0..60).map(|_| guest.message(Message::Note { text: "x".into() }));
        assert_eq!(heard.filter(|heard| matches!(heard, Heard::Note(_))).count(), 50);
    }
}
