//! Recognises the line by which a report in a kernel's log begins.
//!
//! Pure. The formats are those of 5.10 to 7.3 on x86, arm64 and powerpc; `xtask/testdata/kernel-formats.txt` says where
//! in the kernel's sources each comes from, and a test holds every rule against it. Deliberately not here: which lines
//! belong to a report (`reports.rs`), what it is called (`titles.rs`), and lines that are a report by themselves
//! (`storage.rs`).

use std::sync::LazyLock;

use protocol::evidence::ReportKind;
use regex::{Captures, Regex};

use super::titles::lasting;

/// What the first line of a report says, before its stack has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) kind: ReportKind,
    /// `BUG: kernel NULL pointer dereference`.
    pub(super) words: String,
    /// Words that other lines of the same report have for it.
    pub(super) other_words: Vec<String>,
    /// The function that the line itself names.
    pub(super) function: Option<String>,
    /// A function that has to do with it, to be named if the stack has none: the callback of a timer that was freed.
    pub(super) hint: Option<String>,
    /// The source file that the line names.
    pub(super) file: Option<String>,
    /// The task that it struck, `lvm`.
    pub(super) comm: Option<String>,
    /// Its process id.
    pub(super) pid: Option<u32>,
    /// The pool that a workqueue stalls in, `cpus=0 node=0 flags=0x0 nice=0`.
    pub(super) pool: Option<String>,
    pub(super) tail: Tail,
    pub(super) part: Part,
    /// The beginning of the line is missing.
    pub(super) is_clipped: bool,
}

/// What follows the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// ` in FUNCTION`: a report without a stack was cut.
    Stack,
    /// ` in FUNCTION`, if there is a stack.
    MaybeStack,
    /// Nothing: the words say all.
    Nothing,
}

/// Which part of a report a line is: a fault is told in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A report of its own.
    Whole,
    /// Why there will be a WARNING or a BUG, or just was: `list_del corruption…`, `refcount_t: underflow…`. It names
    /// the bug better than they do.
    Reason,
    /// What the kernel was about when the processor objected: `BUG: kernel NULL pointer dereference`, `kernel BUG at`.
    Headline,
    /// The processor's exception: `Oops: 0000 [#1]`.
    Exception,
    /// `cut here`: something follows, and it is a WARNING if its line was lost.
    CutHere,
}

/// How reports begin.
struct Rule {
    kind: ReportKind,
    /// The groups `function`, `hint`, `file`, `comm`, `pid` and `pool` mean what [`Opening`] says.
    pattern: &'static str,
    /// `$name` stands for a group of the pattern.
    words: &'static str,
    tail: Tail,
    part: Part,
}

const fn rule(kind: ReportKind, tail: Tail, part: Part, pattern: &'static str, words: &'static str) -> Rule {
    Rule { kind, pattern, words, tail, part }
}

/// The first that matches counts.
const RULES: &[Rule] = {
    use Part::{Exception, Headline, Reason, Whole};
    use ReportKind as K;
    use Tail::{MaybeStack, Nothing, Stack};
    &[
        // The checkers of memory, of undefined behaviour and of races.
        rule(
            K::DataRace,
            Stack,
            Whole,
            r"^BUG: KCSAN: (?<what>[\w: -]+?) in (?<function>.+)$",
            "KCSAN: $what",
        ),
        rule(
            K::MemoryError,
            Stack,
            Whole,
            r"^BUG: (?<what>K\w+: [\w -]+?) in (?<function>[A-Za-z_][\w.]*)",
            "$what",
        ),
        rule(K::MemoryError, Stack, Whole, r"^BUG: (?<what>K(?:ASAN|FENCE|MSAN): [\w -]+)", "$what"),
        rule(
            K::Undefined,
            Stack,
            Whole,
            r"^UBSAN: (?<what>[\w -]+?) in (?<file>[\w./+-]+):\d+",
            "UBSAN: $what",
        ),
        rule(
            K::MemoryError,
            Stack,
            Reason,
            r"^usercopy: (?<what>Kernel memory \w+ attempt) detected",
            "usercopy: $what",
        ),
        rule(
            K::MemoryError,
            Stack,
            Reason,
            r"^(?:detected buffer overflow in |\w+: detected buffer overflow\b)",
            "fortify: buffer overflow",
        ),
        // Faults. x86, arm64 and powerpc each have their words; the title is the same.
        rule(
            K::Oops,
            Stack,
            Headline,
            r"^(?:BUG: [Kk]ernel|BUG: unable to handle kernel|Unable to handle kernel) NULL pointer dereference",
            "BUG: kernel NULL pointer dereference",
        ),
        rule(
            K::Oops,
            Stack,
            Headline,
            r"^(?:BUG: [Uu]nable to handle |Unable to handle kernel )",
            "BUG: unable to handle page fault",
        ),
        rule(
            K::Oops,
            Stack,
            Headline,
            r"^BUG: (?:\w+ )?stack guard page was hit",
            "BUG: stack guard page was hit",
        ),
        rule(
            K::Oops,
            Stack,
            Exception,
            r"^(?:Oops: )?general protection fault\b",
            "general protection fault",
        ),
        rule(
            K::Oops,
            Stack,
            Headline,
            r"^kernel BUG at (?:(?<file>[\w./+-]+):\d+!|(?<function>[A-Za-z_][\w.]*)\+0x)",
            "kernel BUG",
        ),
        rule(K::Oops, Stack, Headline, r"^(?:traps: )?PANIC: double fault", "double fault"),
        rule(
            K::Oops,
            Stack,
            Exception,
            r"^(?:Oops: )?(?<what>stack segment|double fault|divide error|invalid opcode|int3|alignment check|control protection fault|bounds|stack guard page|invalid TSS|segment not present|iret exception|fpu exception|simd exception|unexpected #NM exception)\b.*\[#\d+\]",
            "$what",
        ),
        rule(K::Oops, Stack, Exception, r"^Internal error: Oops(?: - BUG)?: ", "Oops"),
        rule(
            K::Oops,
            Stack,
            Exception,
            r"^Internal error: (?:Oops - )?(?<what>[\w ,/()-]{1,60}): [0-9a-f]+ \[#\d+\]",
            "$what",
        ),
        rule(K::Oops, Stack, Exception, r"^Oops: .*\[#\d+\]", "Oops"),
        rule(K::Oops, Stack, Reason, r"^rust_\w+: panicked at (?<file>[\w./+-]+):\d+", "Rust panic"),
        // What a WARNING or a BUG says of its reason.
        rule(
            K::Bug,
            Stack,
            Reason,
            r"^(?:list_(?<what>add|del) corruption|list_(?<double>add) double add)\b",
            "list_$what$double corruption",
        ),
        rule(K::Bug, Stack, Reason, r"^refcount_t: (?<what>[a-z0-9 ;-]+)", "refcount_t: $what"),
        rule(
            K::Warning,
            Stack,
            Reason,
            r"^ODEBUG: (?<what>.+?) \(active state \d+\) (?:object: \S+ )?object type: (?<type>\S+)(?: hint: (?<hint>[A-Za-z_][\w.]*)\+0x)?",
            "ODEBUG: $what $type",
        ),
        rule(
            K::Bug,
            MaybeStack,
            Reason,
            r"^VFS: Busy inodes after unmount",
            "VFS: busy inodes after unmount",
        ),
        rule(
            K::Bug,
            MaybeStack,
            Reason,
            r"^kmem_cache_destroy (?<what>\S+): Slab cache still has objects(?: when called from (?<function>[A-Za-z_][\w.]*)\+0x)?",
            "slab cache $what destroyed with objects in it",
        ),
        // Lockups and stalls.
        rule(
            K::Lockup,
            Stack,
            Whole,
            r"^(?:watchdog: )?BUG: soft lockup - CPU#\d+ stuck for \d+s! \[(?<comm>.+):\d+\]",
            "soft lockup",
        ),
        rule(
            K::Lockup,
            Stack,
            Whole,
            r"^(?:NMI )?(?:watchdog: )?(?:CPU ?\d+:? )?(?:Watchdog detected hard LOCKUP on cpu|self-detected hard LOCKUP @|detected hard LOCKUP on other CPUs|Hard LOCKUP)(?: (?<function>[A-Za-z_][\w.]*)\+0x)?",
            "hard lockup",
        ),
        rule(
            K::WorkqueueStall,
            Nothing,
            Whole,
            r"^BUG: workqueue lockup(?: - pool (?<pool>.*?) stuck for)?",
            "workqueue lockup",
        ),
        rule(
            K::WorkqueueStall,
            MaybeStack,
            Whole,
            r"^workqueue: (?<function>[A-Za-z_]\w*)(?: \[\w+\])? hogged CPU for",
            "workqueue: work hogs a CPU",
        ),
        rule(
            K::RcuStall,
            MaybeStack,
            Whole,
            r"^(?:rcu: )?INFO: \w+ (?:self-detected stall on CPU|detected (?:expedited )?stalls? ?(?:on |, but |\?))",
            "RCU stall",
        ),
        rule(
            K::RcuStall,
            Nothing,
            Whole,
            r"^rcu: \w+ kthread (?:starved for|timer wakeup didn't happen for)",
            "RCU stall: its thread is starved",
        ),
        rule(
            K::RcuStall,
            MaybeStack,
            Whole,
            r"^(?:smp: )?csd: (?:Detected|Continued) non-responsive CSD lock \(#\d+\) on CPU#\d+, waiting \d+ ns for CPU#\d+ (?<function>[A-Za-z_][\w.]*)?",
            "CSD lock: a CPU does not answer",
        ),
        rule(
            K::HungTask,
            Stack,
            Whole,
            r"^INFO: task (?<comm>.+):(?<pid>\d+) blocked (?:in I/O wait )?for(?: more)?(?: than \d+ seconds|$)",
            "hung task",
        ),
        // Debugging checks that begin with BUG.
        rule(
            K::Bug,
            Stack,
            Whole,
            r"^BUG: (?<what>(?:sleeping function called from invalid|assuming atomic|assuming non migratable) context)",
            "BUG: $what",
        ),
        rule(
            K::Bug,
            Stack,
            Whole,
            r"^BUG: (?<what>scheduling while atomic|scheduling in a non-blocking section): (?<comm>[^/]+)/",
            "BUG: $what",
        ),
        rule(
            K::Bug,
            Stack,
            Whole,
            r"^BUG: using (?<what>\w+\(\)) in preemptible",
            "BUG: $what in preemptible code",
        ),
        rule(
            K::Bug,
            MaybeStack,
            Whole,
            r"^BUG: (?<what>Bad page (?:state|map|cache)|Bad rss-counter state)",
            "BUG: $what",
        ),
        rule(K::Bug, Stack, Whole, r"^BUG: (?<what>(?:spinlock|rwlock) [a-z ]+?) on CPU", "BUG: $what"),
        rule(
            K::Bug,
            MaybeStack,
            Whole,
            r"^BUG: workqueue leaked (?:atomic|lock)",
            "BUG: workqueue leaked atomic or lock",
        ),
        rule(
            K::Bug,
            MaybeStack,
            Whole,
            r"^BUG (?<what>\S+) \((?:Not tainted|Tainted)[^)]*\): Objects remaining",
            "slab cache $what destroyed with objects in it",
        ),
        rule(
            K::Bug,
            MaybeStack,
            Whole,
            r"^BUG (?<what>\S+) \((?:Not tainted|Tainted)[^)]*\): ",
            "BUG: slab cache $what corrupted",
        ),
        rule(
            K::Bug,
            MaybeStack,
            Whole,
            r"^(?:Slab corruption \([^)]*\): (?<what>\S+) start=|slab error in \w+\(\): cache `(?<name>[^']+)')",
            "BUG: slab cache $what$name corrupted",
        ),
        rule(
            K::Bug,
            Nothing,
            Whole,
            r"^kmemleak: \d+ new suspected memory leaks",
            "memory leak found by kmemleak",
        ),
        // Locks.
        rule(
            K::Lockdep,
            Stack,
            Whole,
            r"^(?:WARNING: |\[ BUG: |BUG: )(?:.{1,40}/\d+ )?(?<what>possible (?:circular locking|recursive locking|irq lock inversion) dependency detected|possible recursive locking detected|inconsistent lock state|suspicious RCU usage|bad unlock balance detected|bad contention detected|held lock freed|Nested lock was not taken|still has locks held|lock held when returning to user space|[Ii]nvalid wait context|\S+-safe -> \S+-unsafe lock order detected|chain_key collision)",
            "lockdep: $what",
        ),
        rule(
            K::Lockdep,
            Stack,
            Whole,
            r"^(?:INFO: |BUG: )(?<what>trying to register non-static key|looking up invalid subclass)",
            "lockdep: $what",
        ),
        rule(
            K::Lockdep,
            MaybeStack,
            Whole,
            r"^BUG: key \S+ has not been registered",
            "lockdep: key has not been registered",
        ),
        rule(K::Lockdep, Nothing, Whole, r"^BUG: (?<what>MAX_[A-Z_]+) too low", "lockdep: $what too low"),
        // WARN() up to 6.18, with and without CONFIG_DEBUG_BUGVERBOSE, and since 6.19, where the condition may
        // stand before the file.
        rule(
            K::Warning,
            Stack,
            Whole,
            r"^WARNING: CPU: \d+ PID: \d+ at (?:(?<file>[\w./+-]+):\d+ ?)?(?:(?<function>[A-Za-z_][\w.]*)\+0x)?",
            "WARNING",
        ),
        rule(
            K::Warning,
            Stack,
            Whole,
            r"^WARNING: (?:\[.*\] )?(?:(?<file>[\w./+-]+):\d+ )?at (?:(?<function>[A-Za-z_][\w.]*)\+0x|0x[0-9a-f]+,|.*, CPU#\d+: )",
            "WARNING",
        ),
        // What has a stack and no word.
        rule(
            K::Warning,
            MaybeStack,
            Whole,
            r"^sysfs: cannot create duplicate filename '",
            "sysfs duplicate filename",
        ),
        rule(
            K::Warning,
            MaybeStack,
            Whole,
            r"^kobject: .* (?<what>tried to init an initialized object|tried to add an uninitialized object|attempted to be registered with empty name)",
            "kobject: $what",
        ),
        rule(
            K::Warning,
            MaybeStack,
            Whole,
            r"^kobject: kobject_add_internal failed for .* \(error: -\d+ parent: ",
            "kobject: could not be added",
        ),
        rule(
            K::Warning,
            MaybeStack,
            Whole,
            r"^unchecked MSR access error: .*\((?<function>[A-Za-z_][\w.]*)\+0x",
            "unchecked MSR access error",
        ),
        rule(K::Panic, Nothing, Whole, r"^Kernel panic - not syncing", ""),
        rule(K::Bug, MaybeStack, Whole, r"^BUG: (?<what>\S.*)$", "BUG: $what"),
    ]
};

static PATTERNS: LazyLock<Vec<(&'static Rule, Regex)>> = LazyLock::new(|| {
    let compiled =
        |rule: &'static Rule| (rule, Regex::new(rule.pattern).expect("a regular expression of our own"));
    RULES.iter().map(compiled).collect()
});

/// Beginnings that all of them have, so that any other line costs next to nothing.
const BEGINNINGS: &[&str] = &[
    "BUG",
    "[ BUG: ",
    "WARNING: ",
    "INFO: ",
    "rcu: ",
    "UBSAN: ",
    "Oops: ",
    "Unable to handle kernel",
    "Internal error: ",
    "general protection",
    "kernel BUG at",
    "list_",
    "refcount_t: ",
    "ODEBUG: ",
    "watchdog: ",
    "NMI watchdog: ",
    "Watchdog detected",
    "workqueue: ",
    "Kernel panic",
    "VFS: Busy",
    "stack segment",
    "double fault",
    "divide error",
    "invalid opcode",
    "int3",
    "alignment check",
    "control protection",
    "bounds",
    "stack guard",
    "invalid TSS",
    "segment not",
    "iret exception",
    "fpu exception",
    "simd exception",
    "unexpected #NM",
    "traps: PANIC",
    "PANIC: double",
    "CPU",
    "csd: ",
    "smp: csd: ",
    "sysfs: cannot",
    "kobject: ",
    "kmemleak: ",
    "kmem_cache_destroy ",
    "Slab corruption",
    "slab error",
    "rust_",
    "usercopy: ",
    "detected buffer",
    "unchecked MSR",
    "mem",
    "str",
];

/// What begins with this line, which has no time stamp any more.
pub(super) fn opening(line: &str) -> Option<Opening> {
    if BEGINNINGS.iter().any(|start| line.starts_with(start)) {
        return matching(line).map(|(_, opening)| opening);
    }
    let whole = restored(line)?;
    let (rule, mut opening) = matching(&whole)?;
    // The rule for what has no rule would take any line.
    if RULES.last().is_some_and(|last| std::ptr::eq(last, rule)) {
        return None;
    }
    opening.is_clipped = true;
    Some(opening)
}

fn matching(line: &str) -> Option<(&'static Rule, Opening)> {
    PATTERNS.iter().find_map(|(rule, pattern)| Some((*rule, rule.opening(line, &pattern.captures(line)?))))
}

/// The pattern that a line matches first, with what it opens: for the test that no rule is idle.
#[cfg(test)]
pub(super) fn recognised(line: &str) -> Option<(&'static str, Opening)> {
    opening(line)?;
    matching(line).map(|(rule, opening)| (rule.pattern, opening))
}

#[cfg(test)]
pub(super) fn patterns() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.pattern)
}

impl Rule {
    fn opening(&self, line: &str, found: &Captures<'_>) -> Opening {
        let group = |name| found.name(name).map(|group| group.as_str().trim().to_owned());
        let mut words = String::new();
        found.expand(self.words, &mut words);
        if self.kind == ReportKind::Panic {
            line.clone_into(&mut words);
        }
        Opening {
            kind: self.kind,
            words: lasting(&words),
            other_words: Vec::new(),
            function: group("function"),
            hint: group("hint"),
            file: group("file"),
            comm: group("comm"),
            pid: found.name("pid").and_then(|pid| pid.as_str().parse().ok()),
            pool: group("pool"),
            tail: self.tail,
            part: self.part,
            is_clipped: false,
        }
    }
}

/// `RNING: CPU: 0 PID: 7 at …` → `WARNING: CPU: 0 PID: 7 at …`: a console with several writers loses the first
/// letters of a line.
fn restored(line: &str) -> Option<String> {
    const WORDS: [&str; 3] = ["WARNING: ", "BUG: K", "INFO: task "];
    // By the letter that each could begin with, lest every line be compared with all.
    if !line.starts_with(['A', 'R', 'N', 'I', 'G', 'U', 'F', 'O', ':', 'C']) {
        return None;
    }
    if line.starts_with("CPU: ") && line.contains(" at ") {
        return Some(format!("WARNING: {line}"));
    }
    WORDS.iter().find_map(|word| {
        let clipped = (1..word.len() - 2).find(|&from| line.starts_with(&word[from..]))?;
        Some(format!("{}{line}", &word[..clipped]))
    })
}

impl Opening {
    /// What `cut here` announces, as long as nobody says what it is.
    pub(super) fn cut_here() -> Opening {
        Opening {
            kind: ReportKind::Warning,
            words: "WARNING".into(),
            other_words: Vec::new(),
            function: None,
            hint: None,
            file: None,
            comm: None,
            pid: None,
            pool: None,
            tail: Tail::Stack,
            part: Part::CutHere,
            is_clipped: true,
        }
    }

    /// Takes file and function from what is left of a WARNING's line: `…ID: 4049 at drivers/md/dm-raid.c:4105
    /// raid_resume+0xee/0x100`.
    pub(super) fn take_place(&mut self, text: &str) {
        static PLACE: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"(?<file>[\w./+-]+\.(?:[chS]|rs)):\d+ ?(?:at )?(?:(?<function>[A-Za-z_][\w.]*)\+0x)?")
                .expect("a regular expression of our own")
        });
        if let Some(found) = PLACE.captures(text).filter(|_| self.file.is_none()) {
            self.file = Some(found["file"].to_owned());
            self.function = found.name("function").map(|function| function.as_str().to_owned());
        }
    }

    /// True if a report without a stack was cut.
    pub(super) fn needs_stack(&self) -> bool {
        self.tail == Tail::Stack
    }

    /// Goes on with a further line of the same report, and keeps whatever says more: a reason more than the
    /// WARNING that it is of, what the kernel says more than the exception that it took.
    pub(super) fn deepen(&mut self, next: Opening) {
        let is_more = match (self.part, next.part) {
            (Part::CutHere, _) => true,
            // Of a panic in Rust, what matters is the BUG that it ends in: its stack is the panic's.
            (Part::Reason, Part::Headline) => self.words == "Rust panic",
            (Part::Reason | Part::Headline, _) => false,
            (Part::Whole, Part::Reason) => self.kind == ReportKind::Warning,
            (Part::Whole, Part::Headline | Part::Exception) => false,
            (Part::Exception, Part::Headline | Part::Exception) => {
                self.words == "Oops" && next.words != "Oops"
            }
            (Part::Whole | Part::Exception, _) => false,
        };
        if is_more {
            let old = std::mem::replace(self, next);
            self.file = self.file.take().or(old.file);
            if old.part != Part::CutHere {
                self.other_words.push(old.words);
            }
        } else if self.part == Part::Reason
            && next.part != Part::CutHere
            && matches!(next.words.as_str(), "WARNING" | "kernel BUG")
        {
            self.other_words.push(next.words);
        }
    }
}

#[cfg(test)]
#[path = "openings_tests.rs"]
mod tests;
