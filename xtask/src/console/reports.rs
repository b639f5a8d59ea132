//! Finds the reports of something wrong in a kernel's log, line by line.
//!
//! Pure and bounded: it holds one report that is still being told, and the titles of those that were told.
//! Deliberately not here: what a report means for a verdict, and the decision whether the machine is dead
//! ([`super::Crash`]).

use std::collections::BTreeSet;

use protocol::evidence::{FRAMES_MAX, KernelReport, ReportKind};

use super::stack::{frame, instruction_pointer, is_doubtful_frame};
use super::storage::storage_line;
use super::titles::{Opening, opening};

/// Reports of one attempt at most. A kernel with more to say has said what matters.
pub(crate) const REPORTS_MAX: usize = 50;

/// Lines after its title that may belong to a report. Wait that long: the backtrace trails it, and
/// lockdep tells its whole chain before.
const LINES_MAX: usize = 300;

/// Lines of somebody else that may stand in a backtrace before it counts as over.
const FOREIGN_MAX: usize = 5;

/// Longest frame that is kept, characters.
const FRAME_MAX: usize = 200;

/// Reads a console or a kernel log, and gives each bug once.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    open: Option<Open>,
    told: BTreeSet<String>,
    /// The newest title of each kind that a panic may be the end of.
    newest: Vec<(ReportKind, String)>,
    first_oops: Option<String>,
    /// What ended the kernel, if a panic did.
    ended_by: Option<String>,
}

/// A report that is still being told.
#[derive(Debug)]
struct Open {
    opening: Opening,
    caller: Option<String>,
    frames: Vec<String>,
    n_lines: usize,
    n_foreign: usize,
    /// `Call Trace:` has been seen.
    in_stack: bool,
    /// A stamp in the middle of a line, a second report inside.
    is_mangled: bool,
}

/// What a line does to the report that is open.
enum Step {
    /// It belongs to it, or it does not matter.
    Goes,
    /// It is the report's last.
    Ends,
}

impl Reports {
    /// Takes the next line, with or without a time stamp; gives what is complete with it.
    pub(crate) fn look(&mut self, line: &str) -> Vec<KernelReport> {
        let line = LogLine::of(line);
        let mut done = Vec::new();
        match opening(line.text) {
            Some(next) if self.belongs_to_open(&next) => self.deepen(next),
            Some(next) => {
                if let Some(open) = &mut self.open {
                    // Its stack was to come, and something else came.
                    open.is_mangled |= open.opening.needs_stack() && !open.in_stack;
                }
                done.extend(self.close());
                self.open = Some(Open::new(next, &line));
            }
            None => {
                if let Some(open) = &mut self.open
                    && matches!(open.step(&line), Step::Ends)
                {
                    done.extend(self.close());
                }
                if let Some((kind, title)) = storage_line(line.text) {
                    let report = KernelReport {
                        kind,
                        title,
                        alt_titles: vec![],
                        corrupted: line.is_mangled(),
                        frames: vec![],
                        causes: vec![],
                    };
                    done.extend(self.tell(report));
                }
            }
        }
        done
    }

    /// The log has ended, or the machine has: gives what was still being told.
    pub(crate) fn finish(&mut self) -> Vec<KernelReport> {
        self.close().into_iter().collect()
    }

    /// What killed the kernel, if it is dead: the report that its panic is the end of, the panic itself, or
    /// without one the first fault.
    pub(crate) fn fatal_title(&self) -> Option<&str> {
        self.ended_by.as_deref().or(self.first_oops.as_deref())
    }

    /// True if this line goes on with the report that is open: a fault tells the same several times.
    fn belongs_to_open(&self, next: &Opening) -> bool {
        use ReportKind::{Bug, Oops, Panic, RcuStall, Warning};
        let Some(open) = &self.open else { return false };
        if open.in_stack {
            return false;
        }
        match (open.opening.kind, next.kind) {
            // `BUG: …`, then `Oops: …`; a corrupted list, then `kernel BUG at lib/list_debug.c` or its WARNING.
            (Oops, Oops) | (Bug, Oops | Warning) => true,
            // The stalls of one grace period.
            (RcuStall, RcuStall) => true,
            // Only a panic of its own; one that follows a fault is decided when the fault is complete.
            (Panic, Panic) => true,
            _ => false,
        }
    }

    /// Takes from a further line of the same report what the first did not say.
    fn deepen(&mut self, next: Opening) {
        let Some(open) = &mut self.open else { return };
        open.n_lines += 1;
        // What the processor says is less than what the kernel says.
        if open.opening.says_less_than(&next) {
            open.opening = next;
        }
    }

    /// Completes the report that is open.
    fn close(&mut self) -> Option<KernelReport> {
        let open = self.open.take()?;
        let titled = open.opening.title(&open.frames);
        let report = KernelReport {
            kind: open.opening.kind,
            title: titled.title,
            alt_titles: titled.alt_titles,
            corrupted: open.is_mangled || titled.is_cut,
            frames: open.frames,
            causes: vec![],
        };
        if report.kind == ReportKind::Panic {
            let cause = self.cause_of(&report.title);
            self.ended_by.get_or_insert_with(|| cause.clone().unwrap_or_else(|| report.title.clone()));
            // The end of what has been told already is no report of its own.
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
        self.tell(report)
    }

    /// The report that a panic is the end of, by the panic's words.
    fn cause_of(&self, panic: &str) -> Option<String> {
        let newest = |kind| self.newest.iter().find(|(of, _)| *of == kind).map(|(_, title)| title.clone());
        let words = panic.trim_start_matches("Kernel panic - not syncing: ");
        if words.starts_with("Fatal exception") || words.contains("panic_on_oops") {
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

    /// Gives a report, unless it has been given.
    fn tell(&mut self, report: KernelReport) -> Option<KernelReport> {
        if self.told.len() >= REPORTS_MAX || self.told.contains(&report.title) {
            return None;
        }
        self.told.insert(report.title.clone());
        Some(report)
    }
}

impl Open {
    fn new(opening: Opening, line: &LogLine<'_>) -> Self {
        Open {
            opening,
            caller: line.caller.map(str::to_owned),
            frames: Vec::new(),
            n_lines: 0,
            n_foreign: 0,
            in_stack: false,
            is_mangled: line.is_mangled(),
        }
    }

    fn step(&mut self, line: &LogLine<'_>) -> Step {
        self.n_lines += 1;
        if self.n_lines > LINES_MAX {
            self.is_mangled |= self.opening.needs_stack() && self.frames.is_empty();
            return Step::Ends;
        }
        // With CONFIG_PRINTK_CALLER it is known whose line it is.
        if line.caller.is_some() && self.caller.is_some() && line.caller != self.caller.as_deref() {
            return Step::Goes;
        }
        let text = line.text.trim();
        if text.starts_with("---[ end ") {
            return Step::Ends;
        }
        if let Some(found) = instruction_pointer(text) {
            // What faulted, or spins, is the innermost function, and is in no trace.
            if self.frames.is_empty() {
                self.add(found.text);
            }
            return Step::Goes;
        }
        if matches!(text, "Call Trace:" | "Call trace:" | "Backtrace:") {
            self.in_stack = true;
            return Step::Goes;
        }
        if let Some(found) = frame(text) {
            // KCSAN and KFENCE list functions without a heading.
            self.in_stack |= self.is_listed_bare();
            if self.in_stack {
                self.add(found.text);
            }
            return Step::Goes;
        }
        if !self.in_stack || is_doubtful_frame(text) || text.is_empty() {
            return Step::Goes;
        }
        match text {
            "<TASK>" | "<IRQ>" | "</IRQ>" | "<NMI>" | "</NMI>" | "<#DF>" | "</#DF>" => Step::Goes,
            "</TASK>" => Step::Ends,
            // Registers stand in a trace where it enters the kernel.
            _ if self.is_register_line(text) => Step::Goes,
            _ => {
                self.n_foreign += 1;
                self.is_mangled |= line.is_mangled();
                if self.n_foreign > FOREIGN_MAX || self.is_listed_bare() { Step::Ends } else { Step::Goes }
            }
        }
    }

    fn is_listed_bare(&self) -> bool {
        match self.opening.kind {
            ReportKind::DataRace | ReportKind::MemoryError => true,
            ReportKind::Panic
            | ReportKind::Oops
            | ReportKind::Bug
            | ReportKind::Warning
            | ReportKind::Undefined
            | ReportKind::Lockdep
            | ReportKind::HungTask
            | ReportKind::Lockup
            | ReportKind::RcuStall
            | ReportKind::WorkqueueStall
            | ReportKind::StorageError
            | ReportKind::Corruption => false,
        }
    }

    fn is_register_line(&self, text: &str) -> bool {
        const REGISTERS: [&str; 9] =
            ["RIP:", "RSP:", "RAX:", "RDX:", "RBP:", "R10:", "R13:", "Code:", "ORIG_RAX"];
        REGISTERS.iter().any(|register| text.starts_with(register))
    }

    fn add(&mut self, text: &str) {
        if self.frames.len() < FRAMES_MAX {
            self.frames.push(text.chars().take(FRAME_MAX).collect());
        }
    }
}

/// A line of a log without its stamps.
struct LogLine<'a> {
    /// `T1` or `C0`, of a kernel that says whose line it is.
    caller: Option<&'a str>,
    text: &'a str,
}

impl<'a> LogLine<'a> {
    fn of(line: &'a str) -> Self {
        let text = super::without_time(line);
        let stamps = &line[..line.len() - text.len()];
        let caller =
            stamps.rsplit('[').find_map(|stamp| Some(stamp.split_once(']')?.0.trim())).filter(|stamp| {
                stamp.starts_with(['T', 'C']) && stamp[1..].bytes().all(|byte| byte.is_ascii_digit())
            });
        LogLine { caller, text: text.trim_end() }
    }

    /// True if another line begins in the middle of this one: two writers shared the console.
    fn is_mangled(&self) -> bool {
        self.text.match_indices('[').any(|(at, _)| {
            let rest = self.text[at + 1..].trim_start();
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let after = &rest[digits..];
            let decimals =
                after.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
            digits > 0 && decimals == 6 && after[1 + decimals..].starts_with(']')
        })
    }
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
