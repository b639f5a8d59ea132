//! The guest of an attempt, apart from the test that runs in it: greeting, console, kernel log, notes, files,
//! power-off, and whose fault its end is. Pure.
//!
//! Deliberately not here: the meaning of any of it for the attempt ([`crate::attempt::state`]).

use std::time::Duration;

use protocol::event::{Blame, CollectedFile};
use protocol::evidence::{KernelReport, ReportKind};
use protocol::wire::{Message, Request, VERSION};

use crate::attempt::effect::Opening;
use crate::attempt::kernel_log::{KernelLog, LogRecord};
use crate::attempt::taint;
use crate::console::{AgentWords, Crash, Lines};
use crate::guest::end::{EndBlame, EndContext, EndWatch};
use crate::guest::files::{FileList, FileMessage};
use crate::machine::{HypervisorEvent, VmEnd};

/// Notes of the agent that are kept.
const NOTES_MAX: u32 = 50;
/// Longest text of the guest's in a remark or an error, characters.
const TEXT_MAX: usize = 1000;

/// The guest's end of an attempt.
#[derive(Debug)]
pub(super) struct Guest {
    opening: Opening,
    console: Lines,
    crash: Crash,
    agent_words: AgentWords,
    /// The kernel's reports, on the console and in the agent's copy of its log.
    kernel_log: KernelLog,
    end: EndWatch,
    files: FileList,
    n_notes: u32,
    /// When the agent last spoke.
    last_word: Duration,
    is_ready: bool,
    is_killed: bool,
}

/// The meaning of a greeting's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// The agent has answered.
    Answered,
    /// The agent speaks another version of the protocol.
    OtherVersion,
    /// The agent answers somebody else's greeting.
    NotOurs,
}

/// News of the console.
#[derive(Debug, Default)]
pub(super) struct ConsoleNews {
    /// Reports of the kernel that are complete.
    pub(super) reports: Vec<KernelReport>,
    /// Kinds of the reports that have begun, in their order.
    pub(super) begun: Vec<ReportKind>,
    /// The kernel says that a task or a processor does not get on.
    pub(super) says_hung: bool,
    /// A line came that is not blank.
    pub(super) has_words: bool,
}

impl Guest {
    /// A guest that has not answered yet.
    pub(super) fn new(attempt: u32, opening: Opening) -> Self {
        Guest {
            agent_words: AgentWords::new(opening.session),
            opening,
            console: Lines::default(),
            crash: Crash::default(),
            kernel_log: KernelLog::default(),
            end: EndWatch::default(),
            files: FileList::new(attempt),
            n_notes: 0,
            last_word: Duration::ZERO,
            is_ready: false,
            is_killed: false,
        }
    }

    // ---- greeting ----------------------------------------------------------------------------

    /// The greeting, which is sent once the VM has been started.
    pub(super) fn hello(&self) -> Request {
        let Opening { session, entropy } = &self.opening;
        Request::Hello { version: VERSION, session: *session, entropy: entropy.clone() }
    }

    /// Takes the answer to the greeting.
    pub(super) fn greeted(&mut self, version: u32, session: u64) -> Greeting {
        if session != self.opening.session {
            return Greeting::NotOurs;
        }
        if version != VERSION {
            return Greeting::OtherVersion;
        }
        self.is_ready = true;
        Greeting::Answered
    }

    /// True once the agent has answered the greeting.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    // ---- the agent's words -------------------------------------------------------------------

    /// The agent spoke; for how long it had been silent.
    pub(super) fn spoke(&mut self, at: Duration) -> Duration {
        self.end.agent_spoke(at);
        let silent = self.silent_for(at);
        self.last_word = at;
        silent
    }

    /// Time for which the agent has been silent.
    pub(super) fn silent_for(&self, at: Duration) -> Duration {
        at.saturating_sub(self.last_word)
    }

    /// When the agent last spoke.
    pub(super) fn last_word(&self) -> Duration {
        self.last_word
    }

    /// A note of the agent's, as it is remarked; nothing once there were too many.
    pub(super) fn note(&mut self, text: &str) -> Option<String> {
        if self.n_notes >= NOTES_MAX {
            return None;
        }
        self.n_notes += 1;
        Some(format!("guest agent: {}", clip(text)))
    }

    /// Why the agent gave up, if it did.
    pub(super) fn gave_up(&self) -> Option<&str> {
        self.agent_words.gave_up(self.is_ready)
    }

    /// Since when nobody serves the guest, because the agent gave up.
    pub(super) fn unserved_since(&self) -> Option<Duration> {
        self.agent_words.gone_since()
    }

    // ---- console and kernel log --------------------------------------------------------------

    /// Takes bytes of the console; `each` is given every line.
    pub(super) fn console(&mut self, at: Duration, bytes: &[u8], mut each: impl FnMut(&str)) -> ConsoleNews {
        let mut news = ConsoleNews::default();
        let (crash, log, agent_words) = (&mut self.crash, &mut self.kernel_log, &mut self.agent_words);
        self.console.push(bytes, |line| {
            each(line);
            crash.look(line);
            agent_words.look(at, line);
            let told = log.console(line);
            news.reports.extend(told.reports);
            news.says_hung |= told.says_hung;
            news.begun.extend(told.begun);
            news.has_words |= !line.trim().is_empty();
        });
        news
    }

    /// True if the console has spoken of a panic.
    pub(super) fn cries_panic(&self) -> bool {
        self.crash.panicked()
    }

    /// The console's words are taken for a panic.
    pub(super) fn console_panics(&mut self, at: Duration) {
        self.end.console_panics(at);
    }

    /// The console's newest line that is not blank.
    pub(super) fn newest_line(&self) -> &str {
        self.crash.newest()
    }

    /// The console's last lines.
    pub(super) fn console_tail(&self) -> Vec<String> {
        self.crash.tail()
    }

    /// Takes a record of the kernel's log, as the agent read it.
    pub(super) fn kernel_record(&mut self, record: &LogRecord<'_>) -> Vec<KernelReport> {
        self.kernel_log.record(record)
    }

    /// Records of the kernel's log that did not come.
    pub(super) fn n_records_missing(&self) -> u64 {
        self.kernel_log.n_missing()
    }

    /// The kernel's log ends before this record.
    pub(super) fn kernel_log_ends_at(&mut self, end: u64) {
        self.kernel_log.ends_at(end);
    }

    /// The console is at its end: gives the reports that were not complete yet.
    pub(super) fn finish_reports(&mut self) -> Vec<KernelReport> {
        let rest = self.console.rest();
        let mut told = if rest.is_empty() { vec![] } else { self.kernel_log.console(&rest).reports };
        told.extend(self.kernel_log.finish());
        told
    }

    /// Remarks about the kernel's log: its gaps, and a taint of which it says nothing. `taint` is that from
    /// before the test, and that from after it.
    pub(super) fn log_remarks(&self, taint: Option<(u64, u64)>) -> Vec<(Blame, String)> {
        let unreported =
            taint.and_then(|(before, after)| taint::unreported(before, after, self.kernel_log.kinds()));
        let mut remarks = self.kernel_log.losses();
        remarks.extend(unreported.map(|words| (Blame::Kernel, words)));
        remarks
    }

    /// Title of the fault that the kernel died of: the classified report, else the console's first fault as
    /// it stands.
    pub(super) fn crash_title(&self) -> Option<&str> {
        let seen = self.crash.title().filter(|title| !self.kernel_log.is_users(title));
        self.kernel_log.fatal_title().or(seen)
    }

    // ---- files -------------------------------------------------------------------------------

    /// The request for the guest's files.
    pub(super) fn ask_for_files(&self) -> Request {
        self.files.request()
    }

    /// Takes a message of the files port.
    pub(super) fn file(&mut self, message: &Message) -> FileMessage {
        self.files.take(message)
    }

    /// The files that came.
    pub(super) fn take_files(&mut self) -> Vec<CollectedFile> {
        std::mem::take(&mut self.files.files)
    }

    // ---- its end -----------------------------------------------------------------------------

    /// The request to power off.
    pub(super) fn power_off(&mut self) -> Request {
        self.end.asked_to_power_off();
        Request::PowerOff
    }

    /// The VM is to be killed; true the first time.
    pub(super) fn kill(&mut self) -> bool {
        !std::mem::replace(&mut self.is_killed, true)
    }

    /// True once the VM is to be killed.
    pub(super) fn is_killed(&self) -> bool {
        self.is_killed
    }

    /// When the kernel panicked, if it did.
    pub(super) fn panicked_since(&self) -> Option<Duration> {
        self.end.panicked_since()
    }

    /// Takes the hypervisor's word; an error if the VM cannot go on, by the host's doing.
    pub(super) fn hypervisor(&mut self, at: Duration, event: HypervisorEvent) -> Result<(), String> {
        self.end.hypervisor(at, event)
    }

    /// The VM has ended: whose fault that is; nothing if `is_explained` by something that is known already.
    pub(super) fn ended(&mut self, end: VmEnd, is_explained: bool) -> Option<EndBlame> {
        let fault = self.crash_title().map(str::to_owned);
        let context = EndContext {
            fault: fault.as_deref(),
            agent_gave_up: self.agent_words.gave_up(self.is_ready),
            is_explained,
        };
        self.end.ended(end, context)
    }
}

/// The beginning of a text of the guest's, as long as a remark may be.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}
