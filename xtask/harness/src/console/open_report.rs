//! Reads one report of the kernel's, from the line that opens it to its last.
//!
//! Pure and bounded. Deliberately not here: which line opens a report (`openings.rs`), and what becomes of
//! one that is complete (`reports.rs`).

use std::sync::LazyLock;

use protocol::evidence::{FRAMES_MAX, ReportKind, TaskStack};
use regex::Regex;

use super::line::LogLine;
use super::openings::{Opening, Part, Tail};
use super::stack::{frame, instruction_pointer, is_doubtful_frame, kept};
use super::tasks::{stack_of, task_line};
use super::workqueue::StalledWork;

/// Lines after its title that may belong to a report. Wait that long: the backtrace trails it, and
/// lockdep tells its whole chain before.
const LINES_MAX: usize = 300;

/// Lines of somebody else that may stand in a backtrace before it counts as over.
const FOREIGN_MAX: usize = 5;

/// Links of lockdep's chain whose stacks are kept.
const CHAIN_MAX: usize = 24;

/// Lines between the stacks of a race's two accesses: with `CONFIG_KCSAN_VERBOSE` the locks that are held and
/// when interrupts were last on.
const BETWEEN_ACCESSES_MAX: usize = 16;

/// Lines after `cut here` by which a WARNING must show itself.
const CUT_HERE_MAX: usize = 12;

/// A report that is still being told.
#[derive(Debug)]
pub(super) struct OpenReport {
    pub(super) opening: Opening,
    caller: Option<String>,
    /// A processor that prints its stack on behalf of the caller.
    deputy: Option<String>,
    pub(super) frames: Vec<String>,
    /// Whom the kernel names as the reason; of a race the other side, of a cycle of locks its links.
    causes: Vec<TaskStack>,
    /// The link of lockdep's chain whose stack is to come, and whether one is being told.
    next_link: Option<String>,
    is_in_link: bool,
    pub(super) stage: Stage,
    work: StalledWork,
    /// Where the lock was taken that lockdep speaks of first.
    pub(super) held_at: Option<String>,
    expects_held_at: bool,
    n_lines: usize,
    n_foreign: usize,
    /// A stamp in the middle of a line, a second report inside.
    pub(super) is_mangled: bool,
    has_headline: bool,
    has_exception: bool,
    /// `<TASK>` or its like has been seen, so that `</TASK>` is to come.
    has_marks: bool,
    /// The kernel may say, behind the stack, who holds what the task waits for.
    may_name_blocker: bool,
}

/// How far a report has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its words; the stack is to come.
    Words,
    /// Its stack.
    Stack,
    /// All there must be; who blocks the task may follow.
    Done,
    /// The stack of who does.
    Cause,
}

/// What a line does to the report that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It belongs to it, or it does not matter.
    Goes,
    /// It is the report's last, or the first that is not its own.
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

    /// True if a line of this caller, or of none, is this report's.
    pub(super) fn is_by(&self, caller: Option<&str>) -> bool {
        caller == self.caller.as_deref() || caller.is_some() && caller == self.deputy.as_deref()
    }

    /// A processor prints its stack because the kernel asked it to, from here on (`NMI backtrace for cpu 1`):
    /// under its own name.
    pub(super) fn delegates_to(&mut self, line: &LogLine<'_>) -> bool {
        let asks = self.opening.kind.is_of_hang() || self.opening.kind == ReportKind::Lockdep;
        if asks && self.stage == Stage::Words && line.text.starts_with("NMI backtrace for cpu") {
            self.deputy = line.caller.map(str::to_owned);
        }
        self.deputy.is_some() && self.deputy.as_deref() == line.caller
    }

    /// True if `next` goes on with this report: a fault tells the same several times.
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
        // Every pool that stalls is named before the works are.
        if own.tail == Tail::Nothing && own.kind == ReportKind::WorkqueueStall && next.kind == own.kind {
            return next.tail == Tail::Nothing && self.work.is_untold();
        }
        match (own.part, next.part) {
            // Whatever was cut from here, unless a stack has said already that it was a WARNING.
            (Part::CutHere, _) => {
                self.frames.is_empty() && (next.part != Part::Whole || next.kind == Warning)
            }
            // A corrupted list, then `kernel BUG at lib/list_debug.c` or its WARNING.
            (Part::Reason, Part::Headline | Part::Exception) => fits,
            (Part::Reason, Part::Whole) => next.kind == Warning,
            (Part::Reason, Part::CutHere) => true,
            // Since 7.0 a WARNING's words come behind it.
            (Part::Whole, Part::Reason) => own.kind == Warning && self.frames.is_empty(),
            _ => match (own.kind, next.kind) {
                // `BUG: …`, then `Oops: …`.
                (Oops | Bug, Oops) => fits,
                // The stalls of one grace period; the lines of one panic.
                (RcuStall, RcuStall) | (Panic, Panic) => true,
                _ => false,
            },
        }
    }

    /// True if `next` is a fault of another processor, told in between: the two cannot be told apart by their
    /// callers, and each has its words.
    pub(super) fn is_mixed_with(&self, next: &Opening) -> bool {
        self.stage == Stage::Words
            && self.frames.is_empty()
            && self.opening.kind == ReportKind::Oops
            && next.kind == ReportKind::Oops
    }

    /// Takes from a further line of the same report what the first did not say.
    pub(super) fn deepen(&mut self, next: Opening) {
        self.n_lines += 1;
        self.has_headline |= next.part == Part::Headline;
        self.has_exception |= next.part == Part::Exception;
        self.is_mangled |= next.is_clipped && next.part != Part::CutHere;
        self.work.add_pool(next.pool.clone());
        self.opening.deepen(next);
    }

    /// The instruction pointer's frame, if this report has none yet.
    pub(super) fn take_pointer(&mut self, text: &str) -> bool {
        let found = instruction_pointer(text).filter(|_| self.frames.is_empty());
        if let Some(found) = &found {
            self.add(found.text);
        }
        found.is_some()
    }

    /// True if its first line is all of it.
    pub(super) fn is_complete(&self) -> bool {
        self.opening.tail == Tail::Nothing
            && matches!(self.opening.kind, ReportKind::Bug | ReportKind::Lockdep | ReportKind::RcuStall)
    }

    /// True if it has told all that it must, so that only silence shows that no more comes.
    pub(super) fn is_told(&self) -> bool {
        match self.stage {
            Stage::Words => self.opening.tail == Tail::Nothing,
            Stage::Stack => !self.has_marks && !self.frames.is_empty(),
            Stage::Done | Stage::Cause => true,
        }
    }

    /// False for a `cut here` that nothing came of.
    pub(super) fn is_something(&self) -> bool {
        self.opening.part != Part::CutHere || self.opening.file.is_some() || !self.frames.is_empty()
    }

    /// Its stack was to come, and something else came.
    pub(super) fn breaks_off(&self) -> bool {
        match self.stage {
            Stage::Words => self.opening.needs_stack(),
            Stage::Stack => self.has_marks,
            Stage::Done | Stage::Cause => false,
        }
    }

    /// Whom the kernel names as the reason, and the function that the title of a stalled workqueue names.
    pub(super) fn take_causes(&mut self) -> (Vec<TaskStack>, Option<String>) {
        if self.opening.kind == ReportKind::WorkqueueStall {
            return std::mem::take(&mut self.work).causes();
        }
        (std::mem::take(&mut self.causes), None)
    }

    /// One more line was read, of somebody else.
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
            // What faulted, or spins, is the innermost function, and on x86 is in no trace.
            self.take_pointer(text);
            return Step::Goes;
        }
        if matches!(text, "Call Trace:" | "Call trace:" | "Backtrace:") {
            // A second stack is another's.
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
            // KCSAN and KFENCE list functions without a heading.
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
            // Registers stand in a trace where it enters the kernel.
            _ if is_register_line(text) => Step::Goes,
            _ if self.is_past_its_stack(text) => Step::Ends,
            _ => {
                self.n_foreign += 1;
                self.is_mangled |= is_cut && self.stage == Stage::Stack;
                if self.n_foreign > FOREIGN_MAX || self.is_listed_bare() { Step::Ends } else { Step::Goes }
            }
        }
    }

    /// `INFO: task cat:1301 is blocked on a mutex likely owned by task mdadm:1290.` and its kin
    /// (`debug_show_blocker`, kernel/hung_task.c, since 6.16), then the stack of who holds it.
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

    /// Of a lock the kernel knows who holds it.
    fn waits_for_a_lock(&self) -> bool {
        const LOCKS: [&str; 6] = ["mutex_lock", "ww_mutex", "rwsem_down", "down_read", "down_write", "down"];
        self.frames.iter().take(8).any(|frame| {
            let bare = frame.trim_start_matches('_');
            LOCKS.iter().any(|lock| bare.starts_with(lock))
        })
    }

    /// Lockdep names first the lock that it objects to, with where it is taken: `…, at: md_open+0x4f/0x110`,
    /// or on the next line.
    fn look_for_lock(&mut self, text: &str) {
        if self.held_at.is_some() || self.stage != Stage::Words {
            return;
        }
        let place =
            if self.expects_held_at { Some(text) } else { text.split_once(", at: ").map(|(_, at)| at) };
        self.held_at = place.and_then(frame).map(|found| found.text.to_owned());
        self.expects_held_at = text.ends_with(" at:");
    }

    /// The links of the chain that a new lock would close, each with the stack that took it, come before the
    /// stack of who is about to (`print_circular_bug_entry`, `print_shortest_lock_dependencies` and
    /// `print_usage_bug`, kernel/locking/lockdep.c): `-> #1 (&mddev->reconfig_mutex){+.+.}-{3:3}:`, `...
    /// acquired at:`, `... which became HARDIRQ-irq-unsafe at:`, `{IN-SOFTIRQ-W} state was registered at:`.
    /// Where a lock was used first, of which the same reports tell, is no link.
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

    /// `read to 0xffff… of 8 bytes by task 21 on cpu 1:` (`print_report`, kernel/kcsan/report.c): the second
    /// of a race's accesses, once the first has told its stack.
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

    /// What KASAN and KMSAN tell of the memory has stacks of its own.
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
        // arm64 and powerpc begin the trace with what their instruction pointer said.
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
