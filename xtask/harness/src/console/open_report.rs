//! Reads one kernel report, from the line that opens it to its last.
//!
//! Pure and bounded. Deliberately not here: which lines open a report (`openings.rs`), and what happens to a
//! complete one (`reports.rs`).

use std::sync::LazyLock;

use protocol::evidence::{FRAMES_MAX, ReportKind, TaskStack};
use regex::Regex;

use super::line::LogLine;
use super::openings::{Opening, Part, Tail};
use super::stack::{frame, instruction_pointer, is_doubtful_frame, kept};
use super::tasks::{stack_of, task_line};
use super::workqueue::StalledWork;

/// Maximum number of lines after its title that may belong to a report. That many, because the backtrace
/// trails the title, and lockdep prints its whole chain before.
const LINES_MAX: usize = 300;

/// Lines of other callers after which an unfinished backtrace counts as over.
const FOREIGN_MAX: usize = 5;

/// Maximum number of links of lockdep's chain whose stacks are kept.
const CHAIN_MAX: usize = 24;

/// Maximum number of lines between the stacks of a race's two accesses: with `CONFIG_KCSAN_VERBOSE` these are
/// the held locks, and where interrupts were last enabled.
const BETWEEN_ACCESSES_MAX: usize = 16;

/// Maximum number of lines after `cut here` until a WARNING's own line.
const CUT_HERE_MAX: usize = 12;

/// A report that is not complete yet.
#[derive(Debug)]
pub(super) struct OpenReport {
    pub(super) opening: Opening,
    caller: Option<String>,
    /// Caller id of another processor that prints its stack for this report.
    deputy: Option<String>,
    pub(super) frames: Vec<String>,
    /// Stacks of the causes that the kernel names: the other side of a race, or the links of a lock cycle.
    causes: Vec<TaskStack>,
    /// Description of the link of lockdep's chain whose stack comes next, and whether that stack has begun.
    next_link: Option<String>,
    is_in_link: bool,
    pub(super) stage: Stage,
    work: StalledWork,
    /// Function that took the lock that lockdep names first.
    pub(super) held_at: Option<String>,
    expects_held_at: bool,
    n_lines: usize,
    n_foreign: usize,
    /// True if a stamp in the middle of a line, or a second report inside this one, was seen.
    pub(super) is_mangled: bool,
    has_headline: bool,
    has_exception: bool,
    /// True after `<TASK>` or a similar mark: then `</TASK>` ends the stack.
    has_marks: bool,
    /// True if the kernel may name, after the stack, the holder of the lock that the task waits for.
    may_name_blocker: bool,
}

/// The part of a report that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The words before the stack.
    Words,
    /// The stack.
    Stack,
    /// All necessary parts were read; the holder of the lock may follow.
    Done,
    /// The stack of that holder.
    Cause,
}

/// The effect of a line on the open report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The report goes on; the line belongs to it or is ignored.
    Goes,
    /// The report ends, with this line or before it.
    Ends,
}

impl OpenReport {
    pub(super) fn new(opening: Opening, line: &LogLine<'_>) -> Self {
        OpenReport {
            caller: line.caller.map(str::to_owned),
            deputy: None,
            frames: Vec::new(),
            causes: Vec::new(),
            next_link: None,
            is_in_link: false,
            stage: Stage::Words,
            work: StalledWork::of(opening.pool.clone()),
            held_at: None,
            expects_held_at: false,
            n_lines: 0,
            n_foreign: 0,
            is_mangled: line.is_cut || opening.is_clipped && opening.part != Part::CutHere,
            has_headline: opening.part == Part::Headline,
            has_exception: opening.part == Part::Exception,
            has_marks: false,
            may_name_blocker: false,
            opening,
        }
    }

    /// True if lines of this caller belong to this report; `None` for lines that name none.
    pub(super) fn is_by(&self, caller: Option<&str>) -> bool {
        caller == self.caller.as_deref() || caller.is_some() && caller == self.deputy.as_deref()
    }

    /// Notes that another processor prints its stack from here on, on the kernel's request
    /// (`NMI backtrace for cpu 1`), under its own caller id. Returns true if `line` is of that processor.
    pub(super) fn delegates_to(&mut self, line: &LogLine<'_>) -> bool {
        let asks = self.opening.kind.is_of_hang() || self.opening.kind == ReportKind::Lockdep;
        if asks && self.stage == Stage::Words && line.text.starts_with("NMI backtrace for cpu") {
            self.deputy = line.caller.map(str::to_owned);
        }
        self.deputy.is_some() && self.deputy.as_deref() == line.caller
    }

    /// True if `next` continues this report: for one fault the kernel prints several opening lines.
    pub(super) fn goes_on_with(&self, next: &Opening) -> bool {
        use ReportKind::{Bug, Oops, Panic, RcuStall, Warning};
        if self.stage != Stage::Words {
            return false;
        }
        let own = &self.opening;
        let fits = match next.part {
            Part::Headline => !self.has_headline && !self.has_exception,
            Part::Exception => !self.has_exception,
            Part::Whole | Part::Reason | Part::CutHere => true,
        };
        // The kernel names all stalled pools before the works.
        if own.tail == Tail::Nothing && own.kind == ReportKind::WorkqueueStall && next.kind == own.kind {
            return next.tail == Tail::Nothing && self.work.is_untold();
        }
        match (own.part, next.part) {
            // Any opening continues `cut here`, unless a stack has shown that it was a WARNING.
            (Part::CutHere, _) => {
                self.frames.is_empty() && (next.part != Part::Whole || next.kind == Warning)
            }
            // A corrupted list, followed by `kernel BUG at lib/list_debug.c` or a WARNING there.
            (Part::Reason, Part::Headline | Part::Exception) => fits,
            (Part::Reason, Part::Whole) => next.kind == Warning,
            (Part::Reason, Part::CutHere) => true,
            // Since 7.0 the words of a WARNING follow its line.
            (Part::Whole, Part::Reason) => own.kind == Warning && self.frames.is_empty(),
            _ => match (own.kind, next.kind) {
                // `BUG: …`, then `Oops: …`.
                (Oops | Bug, Oops) => fits,
                // Several stalls in one grace period, or several lines of one panic.
                (RcuStall, RcuStall) | (Panic, Panic) => true,
                _ => false,
            },
        }
    }

    /// True if `next` is a fault of another processor whose lines are interleaved with this report's: their
    /// callers cannot tell the two apart, and each has words of its own.
    pub(super) fn is_mixed_with(&self, next: &Opening) -> bool {
        self.stage == Stage::Words
            && self.frames.is_empty()
            && self.opening.kind == ReportKind::Oops
            && next.kind == ReportKind::Oops
    }

    /// Adds from a further opening line of this report what is not known yet.
    pub(super) fn deepen(&mut self, next: Opening) {
        self.n_lines += 1;
        self.has_headline |= next.part == Part::Headline;
        self.has_exception |= next.part == Part::Exception;
        self.is_mangled |= next.is_clipped && next.part != Part::CutHere;
        self.work.add_pool(next.pool.clone());
        self.opening.deepen(next);
    }

    /// Takes the frame of the instruction pointer as the innermost, if no frame is known yet.
    pub(super) fn take_pointer(&mut self, text: &str) -> bool {
        let found = instruction_pointer(text).filter(|_| self.frames.is_empty());
        if let Some(found) = &found {
            self.add(found.text);
        }
        found.is_some()
    }

    /// True if the opening line is the whole report.
    pub(super) fn is_complete(&self) -> bool {
        self.opening.tail == Tail::Nothing
            && matches!(self.opening.kind, ReportKind::Bug | ReportKind::Lockdep | ReportKind::RcuStall)
    }

    /// True if all necessary parts were read, so that only silence can show that nothing more comes.
    pub(super) fn is_told(&self) -> bool {
        match self.stage {
            Stage::Words => self.opening.tail == Tail::Nothing,
            Stage::Stack => !self.has_marks && !self.frames.is_empty(),
            Stage::Done | Stage::Cause => true,
        }
    }

    /// False for a `cut here` that nothing followed.
    pub(super) fn is_something(&self) -> bool {
        self.opening.part != Part::CutHere || self.opening.file.is_some() || !self.frames.is_empty()
    }

    /// True if something else came where the stack was to come.
    pub(super) fn breaks_off(&self) -> bool {
        match self.stage {
            Stage::Words => self.opening.needs_stack(),
            Stage::Stack => self.has_marks,
            Stage::Done | Stage::Cause => false,
        }
    }

    /// The causes that the kernel named, and the function for the title of a workqueue stall.
    pub(super) fn take_causes(&mut self) -> (Vec<TaskStack>, Option<String>) {
        if self.opening.kind == ReportKind::WorkqueueStall {
            return std::mem::take(&mut self.work).causes();
        }
        (std::mem::take(&mut self.causes), None)
    }

    /// Counts a line that was read since the title, of whatever caller; ends the report if there are too
    /// many.
    pub(super) fn ages(&mut self) -> Step {
        self.n_lines += 1;
        if self.n_lines <= LINES_MAX {
            return Step::Goes;
        }
        self.is_mangled |= self.opening.needs_stack() && self.frames.is_empty();
        Step::Ends
    }

    pub(super) fn step(&mut self, line: &LogLine<'_>) -> Step {
        if self.ages() == Step::Ends {
            return Step::Ends;
        }
        let text = line.text.trim();
        if text.starts_with("---[ end ") {
            return Step::Ends;
        }
        if self.opening.part == Part::CutHere && self.frames.is_empty() {
            self.opening.take_place(text);
            if self.n_lines > CUT_HERE_MAX {
                return Step::Ends;
            }
        }
        match self.opening.kind {
            ReportKind::WorkqueueStall if self.opening.tail == Tail::Nothing => {
                if !self.work.look(text) {
                    self.n_foreign += 1;
                }
                return if self.n_foreign > FOREIGN_MAX { Step::Ends } else { Step::Goes };
            }
            ReportKind::HungTask => {
                if let Some(step) = self.look_for_blocker(text) {
                    return step;
                }
            }
            ReportKind::Lockdep => {
                self.look_for_link(text);
                self.look_for_lock(text);
            }
            ReportKind::DataRace => {
                if let Some(step) = self.look_for_access(text) {
                    return step;
                }
            }
            ReportKind::Panic
            | ReportKind::Oops
            | ReportKind::Bug
            | ReportKind::Warning
            | ReportKind::MemoryError
            | ReportKind::Undefined
            | ReportKind::Lockup
            | ReportKind::RcuStall
            | ReportKind::WorkqueueStall
            | ReportKind::StorageError
            | ReportKind::Corruption => {}
        }
        self.step_in_stack(text, line.is_cut)
    }

    fn step_in_stack(&mut self, text: &str, is_cut: bool) -> Step {
        if instruction_pointer(text).is_some() {
            // The innermost function is the one that faulted or spins; on x86 the trace does not have it.
            self.take_pointer(text);
            return Step::Goes;
        }
        if matches!(text, "Call Trace:" | "Call trace:" | "Backtrace:") {
            // A second stack belongs to another task.
            let is_second = self.stage == Stage::Done || self.stage == Stage::Stack && self.frames.len() > 1;
            if is_second {
                return Step::Ends;
            }
            if self.stage == Stage::Words {
                self.stage = Stage::Stack;
            }
            return Step::Goes;
        }
        if let Some(found) = frame(text) {
            // KCSAN and KFENCE print functions without a heading.
            if self.stage == Stage::Words && self.is_listed_bare() {
                self.stage = Stage::Stack;
            }
            match self.stage {
                Stage::Words | Stage::Done => {}
                Stage::Stack => self.add(found.text),
                Stage::Cause => self.add_to_cause(found.text),
            }
            return Step::Goes;
        }
        if self.stage == Stage::Words || is_doubtful_frame(text) || text.is_empty() {
            return Step::Goes;
        }
        match text {
            "<TASK>" | "<IRQ>" | "</IRQ>" | "<NMI>" | "</NMI>" | "<#DF>" | "</#DF>" | "<SOFTIRQ>"
            | "</SOFTIRQ>" => {
                self.has_marks = true;
                Step::Goes
            }
            "</TASK>" if self.stage == Stage::Stack && self.may_name_blocker && self.waits_for_a_lock() => {
                self.stage = Stage::Done;
                self.n_foreign = 0;
                Step::Goes
            }
            "</TASK>" => Step::Ends,
            // Registers stand in a trace where the kernel was entered.
            _ if is_register_line(text) => Step::Goes,
            _ if self.is_past_its_stack(text) => Step::Ends,
            _ => {
                self.n_foreign += 1;
                self.is_mangled |= is_cut && self.stage == Stage::Stack;
                if self.n_foreign > FOREIGN_MAX || self.is_listed_bare() { Step::Ends } else { Step::Goes }
            }
        }
    }

    /// Looks for `INFO: task cat:1301 is blocked on a mutex likely owned by task mdadm:1290.` and similar
    /// lines (`debug_show_blocker`, kernel/hung_task.c, since 6.16), which the stack of the holder follows.
    fn look_for_blocker(&mut self, text: &str) -> Option<Step> {
        static BLOCKER: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(
                r"^INFO: task .+ blocked on an? [\w-]+,? (?:likely (?:owned by|last held by) task (?<comm>.+?):(?<pid>\d+)(?: <\w+>)?\.?$|but the )",
            )
            .expect("a regular expression of our own")
        });
        if let Some(task) = task_line(text) {
            match self.stage {
                Stage::Words => self.may_name_blocker = task.is_recent,
                Stage::Cause => {
                    if let Some(cause) = self.causes.last_mut()
                        && cause.pid == task.pid
                    {
                        cause.state = task.state;
                        return Some(Step::Goes);
                    }
                    return Some(Step::Ends);
                }
                Stage::Stack | Stage::Done => return Some(Step::Ends),
            }
            return Some(Step::Goes);
        }
        if !text.starts_with("INFO: task ") {
            return None;
        }
        let found = BLOCKER.captures(text)?;
        let (Some(comm), Some(pid)) = (found.name("comm"), found.name("pid")) else {
            return Some(Step::Ends);
        };
        let Ok(pid) = pid.as_str().parse() else { return Some(Step::Ends) };
        self.causes.push(stack_of(pid, comm.as_str(), '?'));
        self.stage = Stage::Cause;
        self.n_foreign = 0;
        Some(Step::Goes)
    }

    /// True if the task waits for a lock with a known holder.
    fn waits_for_a_lock(&self) -> bool {
        const LOCKS: [&str; 6] = ["mutex_lock", "ww_mutex", "rwsem_down", "down_read", "down_write", "down"];
        self.frames.iter().take(8).any(|frame| {
            let bare = frame.trim_start_matches('_');
            LOCKS.iter().any(|lock| bare.starts_with(lock))
        })
    }

    /// Looks for the lock that lockdep objects to, which it names first, with the function that takes it, as
    /// in `…, at: md_open+0x4f/0x110` or on the next line.
    fn look_for_lock(&mut self, text: &str) {
        if self.held_at.is_some() || self.stage != Stage::Words {
            return;
        }
        let place =
            if self.expects_held_at { Some(text) } else { text.split_once(", at: ").map(|(_, at)| at) };
        self.held_at = place.and_then(frame).map(|found| found.text.to_owned());
        self.expects_held_at = text.ends_with(" at:");
    }

    /// Looks for a link of the chain that a new lock would close. Each link's stack comes before the stack of
    /// the task that is about to take the lock (`print_circular_bug_entry`,
    /// `print_shortest_lock_dependencies` and `print_usage_bug`, kernel/locking/lockdep.c):
    /// `-> #1 (&mddev->reconfig_mutex){+.+.}-{3:3}:`, `... acquired at:`,
    /// `... which became HARDIRQ-irq-unsafe at:`, `{IN-SOFTIRQ-W} state was registered at:`. The place where
    /// a lock was first used, which these reports print, too, is no link.
    fn look_for_link(&mut self, text: &str) {
        const HEADINGS: [&str; 4] = [" acquired at:", "-safe at:", "-unsafe at:", "state was registered at:"];
        if self.stage != Stage::Words {
            return;
        }
        let is_entry = text.starts_with("-> #") && text.ends_with(':');
        if is_entry || HEADINGS.iter().any(|heading| text.ends_with(heading)) {
            let class = text.split_once('(').and_then(|(_, rest)| rest.split_once("){"));
            self.next_link = Some(class.filter(|_| is_entry).map_or("", |(class, _)| class).to_owned());
            self.is_in_link = false;
        } else if let Some(found) = frame(text) {
            if let Some(class) = self.next_link.take()
                && self.causes.len() < CHAIN_MAX
            {
                self.causes.push(stack_of(0, &class, '?'));
                self.is_in_link = true;
            }
            if self.is_in_link {
                self.add_to_cause(found.text);
            }
        } else if text.ends_with(':') || text.contains(" at: ") {
            self.next_link = None;
            self.is_in_link = false;
        }
    }

    /// Looks for `read to 0xffff… of 8 bytes by task 21 on cpu 1:` (`print_report`, kernel/kcsan/report.c):
    /// the second access of a race, after the stack of the first.
    fn look_for_access(&mut self, text: &str) -> Option<Step> {
        static ACCESS: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r" of \d+ bytes by (?:task (?<pid>\d+)|interrupt) on cpu \d+:$")
                .expect("a regular expression of our own")
        });
        if self.stage != Stage::Stack || frame(text).is_some() {
            return None;
        }
        if text.starts_with("value changed: ")
            || text.starts_with("Reported by ")
            || text.starts_with("=====")
        {
            return Some(Step::Ends);
        }
        if let Some(found) = ACCESS.captures(text) {
            let pid = found.name("pid").and_then(|pid| pid.as_str().parse().ok()).unwrap_or(0);
            let comm = if found.name("pid").is_some() { "task" } else { "interrupt" };
            self.causes.push(stack_of(pid, comm, '?'));
            self.stage = Stage::Cause;
            self.n_foreign = 0;
            return Some(Step::Goes);
        }
        if text.is_empty() || is_doubtful_frame(text) || text.starts_with('<') || text.starts_with("</") {
            return None;
        }
        self.n_foreign += 1;
        Some(if self.n_foreign > BETWEEN_ACCESSES_MAX { Step::Ends } else { Step::Goes })
    }

    fn is_listed_bare(&self) -> bool {
        matches!(self.opening.kind, ReportKind::DataRace | ReportKind::MemoryError)
    }

    /// True if a line begins KASAN's or KMSAN's notes on the memory, which have stacks of their own.
    fn is_past_its_stack(&self, text: &str) -> bool {
        const BEGINNINGS: [&str; 7] = [
            "Allocated by task",
            "Freed by task",
            "The buggy address",
            "Uninit was",
            "Local variable",
            "Last potentially related",
            "Memory state around",
        ];
        self.is_listed_bare() && BEGINNINGS.iter().any(|start| text.starts_with(start))
    }

    fn add(&mut self, text: &str) {
        // On arm64 and powerpc the trace repeats the function of the instruction pointer first.
        if self.frames.len() == 1 && self.frames[0] == text {
            return;
        }
        if self.frames.len() < FRAMES_MAX {
            self.frames.push(kept(text));
        }
    }

    fn add_to_cause(&mut self, text: &str) {
        if let Some(cause) = self.causes.last_mut()
            && cause.frames.len() < FRAMES_MAX
        {
            cause.frames.push(kept(text));
        }
    }
}

fn is_register_line(text: &str) -> bool {
    const REGISTERS: [&str; 16] = [
        "RIP:",
        "RSP:",
        "RAX:",
        "RDX:",
        "RBP:",
        "R10:",
        "R13:",
        "Code:",
        "ORIG_RAX",
        "FS:",
        "CS:",
        "CR2:",
        "--- interrupt",
        "NIP:",
        "REGS:",
        "GPR",
    ];
    REGISTERS.iter().any(|register| text.starts_with(register))
}
