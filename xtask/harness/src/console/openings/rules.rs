//! The rules for lines by which reports begin: pattern, words of the title, and its end.
//!
//! Deliberately not here: the code that applies them.

use protocol::evidence::ReportKind;

use super::{Detail, Part, Tail};

/// A rule for lines that open a report.
pub(super) struct Rule {
    pub(super) kind: ReportKind,
    /// Regular expression; see [`super::Opening`] for its groups `function`, `hint`, `file`, `comm`, `pid`
    /// and `pool`.
    pub(super) pattern: &'static str,
    /// Words of the title; `$name` is replaced by that group of the pattern.
    pub(super) words: &'static str,
    pub(super) tail: Tail,
    pub(super) part: Part,
    pub(super) detail: Detail,
}

const fn rule(kind: ReportKind, tail: Tail, part: Part, pattern: &'static str, words: &'static str) -> Rule {
    Rule { kind, pattern, words, tail, part, detail: Detail::Named }
}

impl Rule {
    /// A rule whose words name no certain fault.
    const fn vague(self, detail: Detail) -> Rule {
        Rule { detail, ..self }
    }
}

/// All rules; the first match counts.
pub(super) const RULES: &[Rule] = {
    use Part::{Exception, Headline, Reason, Whole};
    use ReportKind as K;
    use Tail::{MaybeStack, Nothing, Stack};
    &[
        // Checkers of memory, undefined behaviour and races.
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
        // Faults. x86, arm64 and powerpc have different words; the title is the same.
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
        )
        .vague(Detail::Unnamed),
        rule(K::Oops, Stack, Headline, r"^(?:traps: )?PANIC: double fault", "double fault"),
        rule(
            K::Oops,
            Stack,
            Exception,
            r"^(?:Oops: )?(?<what>stack segment|double fault|divide error|invalid opcode|int3|alignment check|control protection fault|bounds|stack guard page|invalid TSS|segment not present|iret exception|fpu exception|simd exception|unexpected #NM exception)\b.*\[#\d+\]",
            "$what",
        ),
        rule(K::Oops, Stack, Exception, r"^Internal error: Oops(?: - BUG)?: ", "Oops")
            .vague(Detail::Exception),
        rule(
            K::Oops,
            Stack,
            Exception,
            r"^Internal error: (?:Oops - )?(?<what>[\w ,/()-]{1,60}): [0-9a-f]+ \[#\d+\]",
            "$what",
        ),
        rule(K::Oops, Stack, Exception, r"^Oops: .*\[#\d+\]", "Oops").vague(Detail::Exception),
        rule(K::Oops, Stack, Reason, r"^rust_\w+: panicked at (?<file>[\w./+-]+):\d+", "Rust panic")
            .vague(Detail::RustPanic),
        // Reasons for a WARNING or a BUG.
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
        // WARN() up to 6.18, with and without CONFIG_DEBUG_BUGVERBOSE; and since 6.19, where the condition
        // may stand before the file.
        rule(
            K::Warning,
            Stack,
            Whole,
            r"^WARNING: CPU: \d+ PID: \d+ at (?:(?<file>[\w./+-]+):\d+ ?)?(?:(?<function>[A-Za-z_][\w.]*)\+0x)?",
            "WARNING",
        )
        .vague(Detail::Unnamed),
        rule(
            K::Warning,
            Stack,
            Whole,
            r"^WARNING: (?:\[.*\] )?(?:(?<file>[\w./+-]+):\d+ )?at (?:(?<function>[A-Za-z_][\w.]*)\+0x|0x[0-9a-f]+,|.*, CPU#\d+: )",
            "WARNING",
        )
        .vague(Detail::Unnamed),
        // Reports with a stack but no words of their own.
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

/// First words of all these lines, so that any other line is cheap.
pub(super) const BEGINNINGS: &[&str] = &[
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
