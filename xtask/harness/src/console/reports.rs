//! Finds kernel reports (oopses, warnings, hung tasks and so on) in a log, line by line.
//!
//! Pure and bounded: it keeps the open reports, one for each caller, and the titles of those given.
//! Deliberately not here: how a report is read (`open_report.rs`), its meaning for a verdict, and the
//! decision whether the machine is dead ([`super::Crash`]).

use std::collections::{BTreeMap, BTreeSet};

use protocol::evidence::{KernelReport, ReportKind, TaskStack};
use protocol::frames::is_storage_frame;
use reports::faults::is_of_storage;

use super::line::LogLine;
use super::open_report::{OpenReport, Stage, Step};
use super::openings::{Opening, Part, opening};
use super::stack::{instruction_pointer, telling_apart};
use super::storage::storage_line;

/// Maximum number of reports of one kind in one attempt, counted separately with and without md or dm. Kinds
/// have separate limits because under KCSAN each race has a title of its own, and an oops after the fiftieth
/// race must still be reported.
pub(crate) const REPORTS_MAX: usize = 50;

/// Maximum number of reports with one title and different stacks; after that only the first with md or dm in
/// it.
const VARIANTS_MAX: usize = 4;

/// Maximum number of open reports, each of its own caller.
const OPEN_MAX: usize = 8;

/// Maximum number of hung tasks whose stacks are remembered.
const HUNG_MAX: usize = 64;

/// Reads a console or a kernel log, and gives each bug once.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// Reports that are not complete yet, the oldest first.
    open: Vec<OpenReport>,
    /// Reports already given, by title.
    told: BTreeMap<String, Vec<Variant>>,
    /// Number of reports given, by kind and by whether md or dm is in them.
    n_told: BTreeMap<(ReportKind, bool), usize>,
    /// Kinds of which some reports were left out.
    cut: BTreeSet<ReportKind>,
    /// Stacks of hung tasks, by process id: a later report may name one as its cause.
    hung: BTreeMap<u32, TaskStack>,
    /// The newest title of each kind that a panic may end.
    newest: Vec<(ReportKind, String)>,
    /// Kinds of the reports that began with the newest line.
    begun: Vec<ReportKind>,
    first_oops: Option<String>,
    /// Title of the report that ended the kernel, if a panic did.
    ended_by: Option<String>,
}

/// A report that was given, as one of those with its title.
#[derive(Debug)]
struct Variant {
    /// Frames that distinguish it from others with this title.
    apart: Vec<String>,
    /// True if a frame of md or dm is in its stack, or in those of its causes.
    has_storage: bool,
}

impl Variant {
    fn of(report: &KernelReport) -> Variant {
        let causes = report.causes.iter().flat_map(|cause| &cause.frames);
        Variant {
            apart: apart(report).into_iter().map(str::to_owned).collect(),
            has_storage: report.frames.iter().chain(causes).any(|frame| is_storage_frame(frame)),
        }
    }

    /// True if `other`, with the same title, adds nothing to this one. A report that was cut short adds
    /// nothing, but one that shows md or dm adds something to a cut one that did not reach those frames.
    fn covers(&self, other: &Variant) -> bool {
        let is_same = self.apart.starts_with(&other.apart) || other.apart.starts_with(&self.apart);
        let is_empty = self.apart.is_empty() && !other.apart.is_empty();
        is_same && (!other.has_storage || self.has_storage && !is_empty)
    }
}

impl Reports {
    /// Takes the next line, with or without a time stamp; returns reports that are complete with it.
    pub(crate) fn look(&mut self, line: &str) -> Vec<KernelReport> {
        let mut done = Vec::new();
        self.begun.clear();
        for piece in LogLine::pieces(line) {
            self.look_at(&piece, &mut done);
        }
        done
    }

    /// Ends the log; returns the reports that were still open.
    pub(crate) fn finish(&mut self) -> Vec<KernelReport> {
        let mut done = Vec::new();
        while !self.open.is_empty() {
            done.extend(self.close(0));
        }
        done
    }

    /// Title of what killed the kernel, if it is dead: the report that its panic ended, the panic itself, or
    /// without a panic the first fault.
    pub(crate) fn fatal_title(&self) -> Option<&str> {
        self.ended_by.as_deref().or(self.first_oops.as_deref())
    }

    /// Kinds of the reports that began with the newest line, which may be complete much later.
    pub(crate) fn begun(&self) -> &[ReportKind] {
        &self.begun
    }

    /// Kinds of which some reports were left out.
    pub(crate) fn cut(&self) -> &BTreeSet<ReportKind> {
        &self.cut
    }

    fn look_at(&mut self, line: &LogLine<'_>, done: &mut Vec<KernelReport>) {
        let next = if line.text.contains("--[ cut here ]--") {
            Some(Opening::cut_here())
        } else {
            opening(line.text)
        };
        if let Some(next) = next {
            self.open_or_deepen(next, line, done);
            return;
        }
        if !self.open.is_empty() {
            // The lost lines may belong to any of the open reports.
            if super::dropped_messages(line.text).is_some() {
                self.open.iter_mut().filter(|open| !open.is_told()).for_each(|open| open.is_mangled = true);
            }
            self.go_on(line, done);
        }
        if let Some((kind, title)) = storage_line(line.text) {
            let report = KernelReport {
                kind,
                title,
                alt_titles: vec![],
                corrupted: line.is_cut,
                frames: vec![],
                causes: vec![],
                starved: false,
            };
            done.extend(self.tell(report));
        }
    }

    /// Open reports that a line of this caller may belong to, the oldest first. More than one only if two
    /// were mixed.
    fn of(&self, caller: Option<&str>) -> Vec<usize> {
        let own: Vec<_> = (0..self.open.len()).filter(|&idx| self.open[idx].is_by(caller)).collect();
        if !own.is_empty() {
            return own;
        }
        // If the log or the line names no caller, it may be anybody's.
        let may_be = |&idx: &usize| caller.is_none() || self.open[idx].is_by(None);
        (0..self.open.len()).rev().find(may_be).into_iter().collect()
    }

    fn open_or_deepen(&mut self, next: Opening, line: &LogLine<'_>, done: &mut Vec<KernelReport>) {
        let own = self.of(line.caller);
        let goes_on = own.iter().copied().find(|&idx| self.open[idx].goes_on_with(&next));
        if let Some(idx) = goes_on {
            self.open[idx].deepen(next);
            return;
        }
        let (mut is_mixed, has_room) = (false, self.open.len() < OPEN_MAX);
        for idx in own.into_iter().rev() {
            let open = &mut self.open[idx];
            // A second `cut here` is reported once it is known what it is.
            if next.part == Part::CutHere && open.stage == Stage::Words && open.is_something() {
                return;
            }
            if open.is_mixed_with(&next) && has_room {
                (open.is_mangled, is_mixed) = (true, true);
                continue;
            }
            // A fault in the middle of another's stack: nobody can tell which of the two the further lines
            // belong to.
            is_mixed |= open.stage == Stage::Stack && open.breaks_off() && next.kind == ReportKind::Oops;
            open.is_mangled |= open.breaks_off();
            done.extend(self.close(idx));
        }
        if self.open.len() == OPEN_MAX {
            done.extend(self.close(0));
        }
        let mut open = OpenReport::new(next, line);
        open.is_mangled |= is_mixed;
        self.begun.push(open.opening.kind);
        let is_complete = open.is_complete();
        self.open.push(open);
        if is_complete {
            done.extend(self.close(self.open.len() - 1));
        }
    }

    fn go_on(&mut self, line: &LogLine<'_>, done: &mut Vec<KernelReport>) {
        let own = self.of(line.caller);
        let mut ends = Vec::new();
        match own[..] {
            [] => {
                let _is_deputy = self.open.iter_mut().any(|open| open.delegates_to(line));
            }
            [idx] => ends.extend((self.open[idx].step(line) == Step::Ends).then_some(idx)),
            // For two mixed reports only the instruction pointers can be assigned, by their order.
            [first, ..] => {
                let text = line.text.trim();
                if instruction_pointer(text).is_some() {
                    let _is_taken = own.iter().any(|&idx| self.open[idx].take_pointer(text));
                }
                ends.extend((text == "</TASK>" || text.starts_with("---[ end ")).then_some(first));
            }
        }
        // A report ends even if its caller prints nothing more.
        let is_stepped = |idx: usize| own.len() == 1 && own[0] == idx;
        for idx in 0..self.open.len() {
            if !is_stepped(idx) && self.open[idx].ages() == Step::Ends && !ends.contains(&idx) {
                ends.push(idx);
            }
        }
        ends.sort_unstable();
        for idx in ends.into_iter().rev() {
            done.extend(self.close(idx));
        }
    }

    /// Completes an open report.
    fn close(&mut self, idx: usize) -> Option<KernelReport> {
        let mut open = self.open.remove(idx);
        if !open.is_something() {
            return None;
        }
        let (mut causes, blamed) = open.take_causes();
        for cause in &mut causes {
            // A cause that is hung itself was printed only once (hung_task.c).
            if let Some(known) = self.hung.get(&cause.pid).filter(|known| known.comm == cause.comm)
                && cause.frames.is_empty()
            {
                cause.clone_from(known);
            }
        }
        let held_at = open.held_at.take();
        let held_by = held_at.as_deref().map(|text| text.split('+').next().unwrap_or(text));
        let titled = open.opening.title(&open.frames, held_by, blamed.as_deref());
        let is_known = self.is_known_hung(&open);
        if open.frames.is_empty() {
            open.frames.extend(held_at);
        }
        let report = KernelReport {
            kind: open.opening.kind,
            title: titled.title,
            alt_titles: titled.alt_titles,
            corrupted: open.is_mangled || titled.is_cut || open.opening.part == Part::CutHere,
            frames: open.frames,
            causes,
            starved: false,
        };
        if report.kind == ReportKind::Panic {
            let cause = self.cause_of(&report.title);
            self.ended_by.get_or_insert_with(|| cause.clone().unwrap_or_else(|| report.title.clone()));
            // A panic that ends a report already given is no report of its own.
            if cause.is_some() {
                return None;
            }
        } else {
            if report.kind == ReportKind::Oops {
                self.first_oops.get_or_insert_with(|| report.title.clone());
            }
            self.newest.retain(|(kind, _)| *kind != report.kind);
            self.newest.push((report.kind, report.title.clone()));
        }
        if is_known {
            return None;
        }
        self.tell(report)
    }

    /// True for a further report of a hung task that was cut short before it added anything. Remembers the
    /// stack of any other.
    fn is_known_hung(&mut self, open: &OpenReport) -> bool {
        let (ReportKind::HungTask, Some(pid), Some(comm)) =
            (open.opening.kind, open.opening.pid, open.opening.comm.as_deref())
        else {
            return false;
        };
        if open.frames.is_empty() {
            return self.hung.get(&pid).is_some_and(|known| known.comm == comm);
        }
        if self.hung.len() < HUNG_MAX {
            let mut stack = super::tasks::stack_of(pid, comm, 'D');
            stack.frames.clone_from(&open.frames);
            self.hung.insert(pid, stack);
        }
        false
    }

    /// Title of the report that a panic ends, found by the panic's words.
    fn cause_of(&self, panic: &str) -> Option<String> {
        let newest = |kind| self.newest.iter().find(|(of, _)| *of == kind).map(|(_, title)| title.clone());
        let words = panic.trim_start_matches("Kernel panic - not syncing: ");
        if words.contains("Fatal exception") || words.contains("panic_on_oops") {
            self.first_oops.clone().or_else(|| newest(ReportKind::Bug))
        } else if words.starts_with("hung_task") {
            newest(ReportKind::HungTask)
        } else if words.starts_with("softlockup") || words.to_ascii_lowercase().starts_with("hard lockup") {
            newest(ReportKind::Lockup)
        } else if words.starts_with("RCU Stall") {
            newest(ReportKind::RcuStall)
        } else if words.contains("panic_on_warn") {
            self.newest.last().map(|(_, title)| title.clone())
        } else {
            None
        }
    }

    /// Gives a report, unless it was given before. Two bugs may have one title; then their stacks distinguish
    /// them, unless those differ by chance.
    fn tell(&mut self, report: KernelReport) -> Option<KernelReport> {
        let variant = Variant::of(&report);
        let variants = self.told.get(&report.title).map_or(&[][..], Vec::as_slice);
        let is_first_of_storage = variant.has_storage && !variants.iter().any(|known| known.has_storage);
        if variants.len() >= VARIANTS_MAX && !is_first_of_storage
            || variants.iter().any(|known| known.covers(&variant))
        {
            return None;
        }
        let n_told = self.n_told.entry((report.kind, is_of_storage(&report))).or_default();
        if *n_told >= REPORTS_MAX {
            self.cut.insert(report.kind);
            return None;
        }
        *n_told += 1;
        self.told.entry(report.title.clone()).or_default().push(variant);
        Some(report)
    }
}

/// Key that identifies a bug: the title, and the frames that distinguish it from others with that title.
/// Reports from two logs of one kernel are matched by it.
#[cfg(test)]
pub(crate) fn identity(report: &KernelReport) -> String {
    format!("{} {}", report.title, apart(report).join(" "))
}

/// The frames that distinguish a report from others with its title.
fn apart(report: &KernelReport) -> Vec<&str> {
    if tells_by_stack(report.kind) { telling_apart(&report.frames) } else { Vec::new() }
}

/// True if the stack identifies the bug. A spinning or starved processor is interrupted anywhere, and either
/// side of a race may come first.
fn tells_by_stack(kind: ReportKind) -> bool {
    match kind {
        ReportKind::Oops
        | ReportKind::Bug
        | ReportKind::Warning
        | ReportKind::MemoryError
        | ReportKind::Undefined
        | ReportKind::Lockdep
        | ReportKind::HungTask => true,
        ReportKind::Panic
        | ReportKind::DataRace
        | ReportKind::Lockup
        | ReportKind::RcuStall
        | ReportKind::WorkqueueStall
        | ReportKind::StorageError
        | ReportKind::Corruption => false,
    }
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
