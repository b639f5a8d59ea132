//! The kernel's log, read whole: `/dev/kmsg`, which the guest agent sends, and the serial console as one.
//!
//! Either alone fails. The console is muted by a `dmesg -n 1`, drops what it can't print in time, and is
//! written to by tests; the agent's copy stops with the agent, before a panic's last words. What is read is
//! the records of `/dev/kmsg` in their order: they are clean, are numbered, and say who wrote them. The
//! console has what these lack, and only that is read from it: what was said in a gap of the numbers, and
//! after the last of them. Both bear the same stamps, in microseconds, so that it is known what a console's
//! line stands beside ([`Coverage`]). It waits until that is known, at the longest until the log's end.
//!
//! So each line is read once; a line that is mangled on the console is read from the records; and words that
//! a test writes to `/dev/kmsg` or to the console, even the kernel's own, are no report.
//!
//! Pure and bounded. Deliberately not here: what a line means ([`crate::console`]), the decision whether the
//! machine is dead (that needs the console at once: [`crate::console::Crash`]), and where the lines come
//! from.

mod coverage;
mod line;
mod losses;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coverage::{Coverage, Place};
use line::{Digest, as_on_console, stamped, unescaped};
use losses::Losses;
use protocol::event::Blame;
use protocol::evidence::{KernelReport, ReportKind};
use reports::faults::is_of_storage;

use crate::console::{Reports, dropped_messages};

/// Lines of the console that wait for the other log at most, and their bytes. A longer one is the guest's
/// that has lost its agent: then the oldest is read as it is.
const WAITING_MAX: usize = 8192;
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Newest lines of `/dev/kmsg` whose texts are known, for consoles without stamps.
const RECENT_MAX: usize = 4096;
/// Lines that others than the kernel wrote there.
const USERS_MAX: usize = 1024;

/// A record of `/dev/kmsg`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRecord<'a> {
    pub(crate) seq: u64,
    pub(crate) at_us: u64,
    /// 0 is the kernel.
    pub(crate) facility: u8,
    pub(crate) caller: Option<&'a str>,
    /// Records directly before it that the agent left out.
    pub(crate) left_out: u64,
    /// Its text, as the kernel escaped it.
    pub(crate) text: &'a str,
}

/// News that a line of the console brings.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Reports that are complete, and are the kernel's as far as can be known.
    pub(crate) reports: Vec<KernelReport>,
    /// The console says that a task or a processor does not get on. At once, and before it is known who says
    /// so.
    pub(crate) says_hung: bool,
    /// Kinds of the reports that the line begins. At once as well: a report is complete when its last line
    /// was read, which may be at the log's end.
    pub(crate) begun: Vec<ReportKind>,
}

/// A line of the console that the other log may still bring.
#[derive(Debug)]
struct Waiting {
    us: Option<u64>,
    digest: Digest,
    text: String,
    /// It has come, or is not the kernel's.
    is_settled: bool,
}

/// Both logs of one attempt.
#[derive(Debug, Default)]
pub(crate) struct KernelLog {
    /// Reads the log.
    reports: Reports,
    /// Reads what turns up after its place has passed: it must not stand in the middle of another's report.
    late: Reports,
    /// Reads the console alone, for what cannot wait.
    console: Reports,
    /// Titles of what either of them has told, and whether with md or dm in it.
    told: BTreeMap<String, bool>,
    told_late: BTreeMap<String, bool>,
    kinds: BTreeSet<ReportKind>,
    coverage: Coverage,
    next_seq: Option<u64>,
    n_missing: u64,
    /// One beyond the newest record of which it is known that there is one, how often that was told, and how
    /// far it was when all had come.
    end: Option<u64>,
    n_ends: u32,
    whole_to: Option<u64>,
    waiting: VecDeque<Waiting>,
    /// Those of them that have a stamp.
    stamps: VecDeque<(u64, Digest)>,
    waiting_bytes: usize,
    n_bare: usize,
    /// The console has had a line with a stamp: the kernel's lines have one.
    has_stamps: bool,
    /// The stretch that the console's newest settled line with a stamp is in.
    console_in: Option<u64>,
    recent: VecDeque<Digest>,
    users: VecDeque<Digest>,
    /// Up to here the console was read in the place of the other log.
    given_us: Option<u64>,
    losses: Losses,
    /// Stamp of the newest line that was read.
    newest_us: Option<u64>,
}

impl KernelLog {
    /// The next line of the console.
    pub(crate) fn console(&mut self, line: &str) -> News {
        let heard = self.console.look(line);
        let says_hung = heard.iter().any(|report| report.kind.is_of_hang());
        let begun = self.console.begun().to_vec();
        let mut reports = Vec::new();
        let found = stamped(line);
        let us = found.map(|(us, _)| us);
        let digest = Digest::of(found.map_or(line, |(_, text)| text));
        let is_known = us.is_none() && dropped_messages(line).is_none() && self.recent.contains(&digest);
        if !is_known {
            self.waiting_bytes += line.len();
            self.n_bare += usize::from(us.is_none());
            self.has_stamps |= us.is_some();
            self.stamps.extend(us.map(|us| (us, digest)));
            self.waiting.push_back(Waiting { us, digest, text: line.to_owned(), is_settled: false });
            self.settle(&mut reports);
            while self.waiting.len() > WAITING_MAX || self.waiting_bytes > WAITING_BYTES_MAX {
                let Some(oldest) = self.pop() else { break };
                self.give_up_waiting(&oldest, &mut reports);
            }
        }
        News { reports, says_hung, begun }
    }

    /// The next record of `/dev/kmsg`. One that came before is none.
    pub(crate) fn record(&mut self, record: &LogRecord<'_>) -> Vec<KernelReport> {
        let mut reports = Vec::new();
        let LogRecord { seq, at_us, facility, caller, left_out, text } = *record;
        let n_missing = match self.next_seq {
            Some(next) if seq < next => return reports,
            Some(next) => seq - next,
            None => 0,
        };
        self.next_seq = Some(seq.saturating_add(1));
        let text = unescaped(text);
        let digests: Vec<_> = text.split('\n').map(Digest::of).collect();
        self.know(&digests, facility != 0);
        if n_missing > 0 {
            self.n_missing = self.n_missing.saturating_add(n_missing);
            self.coverage.begin(at_us, &digests, n_missing, left_out);
            // What the console has of it comes first.
            self.settle(&mut reports);
            if self.coverage.gap_mut(self.coverage.newest()).is_some_and(|gap| gap.n_found < gap.n_missing) {
                // Whose lines follow, nobody knows.
                let rest = self.reports.finish();
                reports.extend(rest.into_iter().filter_map(|report| self.tell(report)));
            }
        } else {
            self.coverage.extend(at_us, &digests);
        }
        // Others than the kernel write here as well.
        if facility == 0 {
            for line in text.split('\n') {
                let line = as_on_console(at_us, caller, line);
                if self.given_us.is_some_and(|given| at_us < given) {
                    self.read_late(&line, &mut reports);
                } else {
                    self.read(Some(at_us), &line, &mut reports);
                }
            }
        }
        self.settle(&mut reports);
        self.settle_bare();
        reports
    }

    /// The guest agent has read the log up to here, and sends all of it.
    pub(crate) fn ends_at(&mut self, end: u64) {
        self.end = self.end.max(Some(end));
        self.n_ends = self.n_ends.saturating_add(1);
        self.whole_to = None;
        self.settle_bare();
    }

    /// Both have ended: gives what was still being told.
    pub(crate) fn finish(&mut self) -> Vec<KernelReport> {
        let mut reports = Vec::new();
        self.settle(&mut reports);
        // Told of once more than in the beginning: of the test's end. What a test wrote to the console may
        // come later.
        let mut is_whole = self.n_ends > 1 && self.has_stamps && self.is_whole();
        while let Some(line) = self.pop() {
            let place = line.us.map(|us| self.coverage.place(us, line.digest));
            match place {
                Some(Place::Read(_)) => {}
                Some(Place::Gap(number)) => self.read_console(&line, Some(number), &mut reports),
                Some(Place::Ahead) => {
                    // From here on the kernel spoke to the console alone.
                    is_whole = false;
                    self.losses.ahead += 1;
                    self.read_console(&line, None, &mut reports);
                }
                None if is_whole || line.is_settled => {}
                None => self.read_console(&line, None, &mut reports),
            }
        }
        let rest = self.reports.finish();
        reports.extend(rest.into_iter().filter_map(|report| self.tell(report)));
        let rest = self.late.finish();
        reports.extend(rest.into_iter().filter_map(|report| self.tell_late(report)));
        reports
    }

    /// Title of the report of what killed the kernel, if it is dead.
    pub(crate) fn fatal_title(&self) -> Option<&str> {
        self.reports.fatal_title().or(self.late.fatal_title())
    }

    /// True if this line of the console, without its stamp, is somebody's that wrote it to `/dev/kmsg`.
    pub(crate) fn is_users(&self, text: &str) -> bool {
        self.users.contains(&Digest::of(text))
    }

    /// Kinds of what was reported.
    pub(crate) fn kinds(&self) -> &BTreeSet<ReportKind> {
        &self.kinds
    }

    /// Records that did not come from `/dev/kmsg`.
    pub(crate) fn n_missing(&self) -> u64 {
        self.n_missing
    }

    /// Sentences about lines that neither log has, once both have ended, and about reports that were too
    /// many; and who is to blame for each.
    pub(crate) fn losses(&self) -> Vec<(Blame, String)> {
        let unsent = self.end.unwrap_or(0).saturating_sub(self.next_seq.unwrap_or(0));
        let mut said = Losses { unsent, ..self.losses }.told(self.coverage.gaps());
        let cut: BTreeSet<_> = self.reports.cut().union(self.late.cut()).copied().collect();
        said.extend(losses::untold(&cut));
        said
    }

    // ---- what is known of a line -------------------------------------------------------------

    fn know(&mut self, digests: &[Digest], by_user: bool) {
        for digest in digests {
            push_bounded(&mut self.recent, *digest, RECENT_MAX);
            if by_user {
                push_bounded(&mut self.users, *digest, USERS_MAX);
            }
            if self.n_bare > 0 {
                let is_it =
                    |line: &&mut Waiting| line.us.is_none() && !line.is_settled && line.digest == *digest;
                if let Some(line) = self.waiting.iter_mut().find(is_it) {
                    line.is_settled = true;
                }
            }
        }
    }

    /// True if all of the log has come.
    fn is_whole(&self) -> bool {
        self.coverage.is_in_one_piece() && self.end.is_some_and(|end| self.next_seq >= Some(end))
    }

    /// Once all of the log has come, a line without a stamp that is not in it is not the kernel's.
    fn settle_bare(&mut self) {
        if self.whole_to.is_none() && self.is_whole() {
            self.whole_to = self.end;
            self.waiting.iter_mut().filter(|line| line.us.is_none()).for_each(|line| line.is_settled = true);
        }
    }

    /// Takes from the front what need not wait any longer.
    fn settle(&mut self, reports: &mut Vec<KernelReport>) {
        while let Some(front) = self.waiting.front() {
            // Without a stamp it was said between the lines around it.
            let anchor = self.stamps.front();
            let place = anchor.map_or(Place::Ahead, |&(us, digest)| self.coverage.place(us, digest));
            let (is_bare, is_settled) = (front.us.is_none(), front.is_settled);
            match place {
                Place::Ahead if is_settled => {
                    self.pop();
                }
                Place::Ahead => return,
                Place::Read(number) => {
                    let Some(line) = self.pop() else { return };
                    if is_bare {
                        // The lines around it lie on either side of a gap.
                        if !is_settled && self.console_in.is_some_and(|before| before < number) {
                            self.read_console(&line, Some(number), reports);
                        }
                    } else {
                        self.console_in = Some(number);
                    }
                }
                Place::Gap(number) => {
                    let Some(line) = self.pop() else { return };
                    if !is_settled {
                        self.read_console(&line, Some(number), reports);
                    }
                    // What follows without a stamp is of the gap as well, until the next stretch's first
                    // line.
                    self.console_in = number.checked_sub(1);
                }
            }
        }
    }

    /// The other log does not come: reads the console in its place.
    fn give_up_waiting(&mut self, line: &Waiting, reports: &mut Vec<KernelReport>) {
        match line.us.map(|us| self.coverage.place(us, line.digest)) {
            Some(Place::Read(_)) => {}
            Some(Place::Gap(number)) => self.read_console(line, Some(number), reports),
            None if line.is_settled => {}
            Some(Place::Ahead) | None => {
                self.given_us = self.given_us.max(line.us);
                self.read_console(line, None, reports);
            }
        }
    }

    fn pop(&mut self) -> Option<Waiting> {
        let line = self.waiting.pop_front()?;
        self.waiting_bytes -= line.text.len();
        match line.us {
            Some(_) => drop(self.stamps.pop_front()),
            None => self.n_bare -= 1,
        }
        Some(line)
    }

    // ---- reading -----------------------------------------------------------------------------

    /// Reads a line that only the console has: before this stretch, or where there is none.
    fn read_console(&mut self, line: &Waiting, before: Option<u64>, reports: &mut Vec<KernelReport>) {
        if let Some(n_dropped) = dropped_messages(&line.text) {
            match before.and_then(|number| self.coverage.gap_mut(number)) {
                Some(gap) => gap.n_dropped = gap.n_dropped.saturating_add(n_dropped),
                None => {
                    self.losses.dropped = self.losses.dropped.saturating_add(n_dropped);
                    self.losses.dropped_after_us = self.losses.dropped_after_us.or(self.newest_us);
                }
            }
            // Whose lines follow, nobody knows.
            let rest = self.reports.finish();
            reports.extend(rest.into_iter().filter_map(|report| self.tell(report)));
            return;
        }
        if let Some(gap) = before.and_then(|number| self.coverage.gap_mut(number)) {
            gap.n_found += 1;
        }
        // The clocks of two processors differ: what is ahead of all records is in its place.
        let is_late = before.is_some() && line.us.zip(self.newest_us).is_some_and(|(us, newest)| us < newest);
        if is_late {
            self.read_late(&line.text, reports);
        } else {
            self.read(line.us, &line.text, reports);
        }
    }

    fn read(&mut self, us: Option<u64>, line: &str, reports: &mut Vec<KernelReport>) {
        self.newest_us = self.newest_us.max(us);
        let told = self.reports.look(line);
        reports.extend(told.into_iter().filter_map(|report| self.tell(report)));
    }

    fn read_late(&mut self, line: &str, reports: &mut Vec<KernelReport>) {
        let told = self.late.look(line);
        reports.extend(told.into_iter().filter_map(|report| self.tell_late(report)));
    }

    fn tell(&mut self, report: KernelReport) -> Option<KernelReport> {
        let is_known = has_told(&self.told_late, &report);
        note_told(&mut self.told, &report);
        self.give(report, is_known)
    }

    /// Tells a report that turned up late, unless its title was told before: the rest of it may have been
    /// elsewhere. The first to show md or dm is told all the same.
    fn tell_late(&mut self, report: KernelReport) -> Option<KernelReport> {
        let is_known = has_told(&self.told, &report) || has_told(&self.told_late, &report);
        note_told(&mut self.told_late, &report);
        self.give(report, is_known)
    }

    fn give(&mut self, report: KernelReport, is_known: bool) -> Option<KernelReport> {
        if is_known {
            return None;
        }
        self.kinds.insert(report.kind);
        Some(report)
    }
}

fn has_told(told: &BTreeMap<String, bool>, report: &KernelReport) -> bool {
    told.get(&report.title).is_some_and(|of_storage| *of_storage || !is_of_storage(report))
}

fn note_told(told: &mut BTreeMap<String, bool>, report: &KernelReport) {
    *told.entry(report.title.clone()).or_default() |= is_of_storage(report);
}

fn push_bounded(ring: &mut VecDeque<Digest>, digest: Digest, max: usize) {
    if ring.len() == max {
        ring.pop_front();
    }
    ring.push_back(digest);
}

#[cfg(test)]
#[path = "kernel_log_tests.rs"]
mod tests;
