//! The guest of an attempt, apart from the test that runs in it: greeting, console, kernel log, notes, files,
//! power-off, and whose fault its end is. Pure.
//!
//! Deliberately not here: the meaning of any of it for the attempt ([`crate::attempt::state`]).

use std::time::Duration;

use protocol::event::Blame;
use protocol::evidence::{KernelReport, ReportKind};

use crate::attempt::kernel_log::{KernelLog, LogRecord};
use crate::attempt::taint;
use crate::guest::end::EndBlame;
use crate::guest::session::GuestSession;
use crate::machine::VmEnd;
use crate::machine::greeting::Opening;

/// The guest's end of an attempt.
#[derive(Debug)]
pub(super) struct Guest {
    /// Greeting, console, notes, files, power-off.
    pub(super) session: GuestSession,
    /// The kernel's reports, on the console and in the agent's copy of its log.
    kernel_log: KernelLog,
    /// When the agent last spoke.
    last_word: Duration,
    /// When the console last printed something.
    last_printed: Duration,
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
            session: GuestSession::new(opening, attempt),
            kernel_log: KernelLog::default(),
            last_word: Duration::ZERO,
            last_printed: Duration::ZERO,
        }
    }

    /// The agent spoke; for how long it had been silent.
    pub(super) fn spoke(&mut self, at: Duration) -> Duration {
        self.session.spoke(at);
        let silent = self.silent_for(at);
        self.last_word = at;
        silent
    }

    /// Time for which the agent has been silent.
    pub(super) fn silent_for(&self, at: Duration) -> Duration {
        at.saturating_sub(self.last_word)
    }

    /// When the agent last spoke, or the kernel printed.
    pub(super) fn last_sign(&self) -> Duration {
        self.last_word.max(self.last_printed)
    }

    /// Takes bytes of the console; `each` is given every line.
    pub(super) fn console(&mut self, at: Duration, bytes: &[u8], mut each: impl FnMut(&str)) -> ConsoleNews {
        self.last_printed = at;
        let mut news = ConsoleNews::default();
        let log = &mut self.kernel_log;
        self.session.console(at, bytes, |line| {
            each(line);
            let told = log.console(line);
            news.reports.extend(told.reports);
            news.says_hung |= told.says_hung;
            news.begun.extend(told.begun);
            news.has_words |= !line.trim().is_empty();
        });
        news
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
        let rest = self.session.console_rest();
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
        let seen = self.session.fault().filter(|title| !self.kernel_log.is_users(title));
        self.kernel_log.fatal_title().or(seen)
    }

    /// The VM has ended: whose fault that is; nothing if `is_explained` by something that is known already.
    pub(super) fn ended(&mut self, end: VmEnd, is_explained: bool) -> Option<EndBlame> {
        let fault = self.crash_title().map(str::to_owned);
        self.session.ended(end, fault.as_deref(), is_explained)
    }
}
