//! Recognises the line by which a report in a kernel's log begins, and makes the report's title.
//!
//! Pure. A title is the same for the same bug: it names the fault and the function, never an address, a
//! process id, a CPU, a count. Nor the task: lvm, dmsetup and a worker come to the same wait, and it is
//! one bug; an alternative title has the task. Of a hang it names the innermost function of md or dm, for
//! what is stuck there is what was waited for. Deliberately not here: which lines belong to a report
//! (`reports.rs`), and lines that are a report by themselves (`storage.rs`).

use std::sync::LazyLock;

use protocol::evidence::ReportKind;
use regex::Regex;

use super::stack::{guilty, is_generic};

/// Longest title, characters.
const TITLE_MAX: usize = 160;

/// What the first line of a report says, before its stack has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) kind: ReportKind,
    /// `BUG: kernel NULL pointer dereference`.
    words: String,
    /// The function that the line itself names.
    function: Option<String>,
    /// The source file that the line names.
    file: Option<String>,
    /// The task that it struck, `lvm`.
    comm: Option<String>,
    tail: Tail,
}

/// What follows the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// ` in FUNCTION`: a report without a stack was cut.
    Stack,
    /// ` in FUNCTION`, if there is a stack.
    MaybeStack,
    /// Nothing: the words say all.
    Nothing,
}

/// How reports begin, and their words; `$name` stands for a group of the pattern. The groups `function`,
/// `file` and `comm` mean what [`Opening`] says. The first that matches counts.
const OPENINGS: [(ReportKind, &str, &str, Tail); 34] = {
    use ReportKind as K;
    use Tail::{MaybeStack, Nothing, Stack};
    [
        (K::DataRace, r"^BUG: KCSAN: (?<what>[\w: -]+?) in (?<function>.+)$", "KCSAN: $what", Stack),
        (K::MemoryError, r"^BUG: (?<what>K\w+: [\w -]+?) in (?<function>[A-Za-z_][\w.]*)", "$what", Stack),
        (K::MemoryError, r"^BUG: (?<what>K(?:ASAN|FENCE|MSAN): [\w -]+)", "$what", Stack),
        (K::Undefined, r"^UBSAN: (?<what>[\w -]+?) in (?<file>[\w./-]+):\d+", "UBSAN: $what", Stack),
        (
            K::Oops,
            r"^(?:BUG: kernel|BUG: unable to handle kernel|Unable to handle kernel) NULL pointer dereference",
            "BUG: kernel NULL pointer dereference",
            Stack,
        ),
        (
            K::Oops,
            r"^(?:BUG: unable to handle (?:page fault|kernel paging)|Unable to handle kernel paging)",
            "BUG: unable to handle page fault",
            Stack,
        ),
        (K::Oops, r"^(?:Oops: )?general protection fault\b", "general protection fault", Stack),
        (K::Oops, r"^kernel BUG at (?<file>[\w./-]+):\d+!", "kernel BUG", Stack),
        (
            K::Oops,
            r"^(?:Oops: )?(?<what>stack segment|double fault|divide error|invalid opcode|int3|alignment check)\b.*\[#\d+\]",
            "$what",
            Stack,
        ),
        (K::Oops, r"^Oops: .*\[#\d+\]", "Oops", Stack),
        (K::Bug, r"^(?<what>list_(?:add|del) corruption)\b", "$what", Stack),
        (K::Bug, r"^refcount_t: (?<what>[a-z0 -]+)", "refcount_t: $what", Stack),
        (
            K::Lockup,
            r"^(?:watchdog: )?BUG: soft lockup - CPU#\d+ stuck for \d+s! \[(?<comm>.+):\d+\]",
            "soft lockup",
            Stack,
        ),
        (
            K::Lockup,
            r"^(?:NMI )?(?:watchdog: )?(?:CPU\d+: )?Watchdog detected hard LOCKUP on cpu",
            "hard lockup",
            Stack,
        ),
        (K::WorkqueueStall, r"^BUG: workqueue lockup", "workqueue lockup", Nothing),
        (
            K::WorkqueueStall,
            r"^workqueue: (?<function>[A-Za-z_]\w*)(?: \[\w+\])? hogged CPU for",
            "workqueue: work hogs a CPU",
            MaybeStack,
        ),
        (
            K::Bug,
            r"^BUG: sleeping function called from invalid context",
            "BUG: sleeping function called from invalid context",
            Stack,
        ),
        (K::Bug, r"^BUG: scheduling while atomic: (?<comm>[^/]+)/", "BUG: scheduling while atomic", Stack),
        (K::Bug, r"^BUG: using (?<what>\w+\(\)) in preemptible", "BUG: $what in preemptible code", Stack),
        (
            K::Bug,
            r"^BUG: (?<what>Bad page (?:state|map|cache)|Bad rss-counter state)",
            "BUG: $what",
            MaybeStack,
        ),
        (K::Bug, r"^BUG: (?<what>(?:spinlock|rwlock) [a-z ]+?) on CPU", "BUG: $what", Stack),
        (
            K::Bug,
            r"^BUG: workqueue leaked (?:atomic|lock)",
            "BUG: workqueue leaked atomic or lock",
            MaybeStack,
        ),
        (
            K::Bug,
            r"^BUG (?<what>[\w-]+) \((?:Not tainted|Tainted)[^)]*\): ",
            "BUG: slab cache $what corrupted",
            MaybeStack,
        ),
        (
            K::Lockdep,
            r"^(?:WARNING: |\[ BUG: |BUG: )(?<what>possible (?:circular locking|recursive locking|irq lock inversion) dependency detected|possible recursive locking detected|inconsistent lock state|suspicious RCU usage|bad unlock balance detected|bad contention detected|held lock freed|Nested lock was not taken|still has locks held|lock held when returning to user space|[Ii]nvalid wait context|\S+-safe -> \S+-unsafe lock order detected)",
            "lockdep: $what",
            Stack,
        ),
        (K::Lockdep, r"^INFO: (?<what>trying to register non-static key)", "lockdep: $what", Stack),
        (K::Lockdep, r"^BUG: (?<what>MAX_[A-Z_]+) too low", "lockdep: $what too low", Nothing),
        (
            K::Warning,
            r"^WARNING: CPU: \d+ PID: \d+ at (?<file>[\w./-]+):\d+(?: (?<function>[A-Za-z_][\w.]*)\+0x)?",
            "WARNING",
            Stack,
        ),
        (
            K::Warning,
            r"^WARNING: (?<file>[\w./-]+):\d+ at (?<function>[A-Za-z_][\w.]*)\+0x",
            "WARNING",
            Stack,
        ),
        (
            K::HungTask,
            r"^INFO: task (?<comm>.+):\d+ blocked (?:in I/O wait )?for more than \d+ seconds",
            "hung task",
            Stack,
        ),
        (
            K::RcuStall,
            r"^(?:rcu: )?INFO: \w+ (?:self-detected stall on CPU|detected (?:expedited )?stalls on )",
            "RCU stall",
            MaybeStack,
        ),
        (
            K::RcuStall,
            r"^rcu: \w+ kthread (?:starved for|timer wakeup didn't happen for)",
            "RCU stall: its thread is starved",
            Nothing,
        ),
        (K::Panic, r"^Kernel panic - not syncing", "", Nothing),
        (K::Bug, r"^BUG: (?<what>\S.*)$", "BUG: $what", MaybeStack),
        (K::Bug, r"^VFS: Busy inodes after unmount", "VFS: busy inodes after unmount", Nothing),
    ]
};

static PATTERNS: LazyLock<Vec<(ReportKind, Regex, &'static str, Tail)>> = LazyLock::new(|| {
    let compiled = |pattern| Regex::new(pattern).expect("a regular expression of our own");
    OPENINGS.iter().map(|&(kind, pattern, words, tail)| (kind, compiled(pattern), words, tail)).collect()
});

/// Beginnings that all of them have, so that any other line costs next to nothing.
const BEGINNINGS: [&str; 23] = [
    "BUG",
    "[ BUG: ",
    "WARNING: ",
    "INFO: ",
    "rcu: ",
    "UBSAN: ",
    "Oops: ",
    "Unable to handle kernel",
    "general protection",
    "kernel BUG at",
    "list_",
    "refcount_t: ",
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
    "CPU",
];

/// What begins with this line, which has no time stamp any more.
pub(super) fn opening(line: &str) -> Option<Opening> {
    if !BEGINNINGS.iter().any(|start| line.starts_with(start)) {
        return None;
    }
    PATTERNS.iter().find_map(|(kind, pattern, template, tail)| {
        let found = pattern.captures(line)?;
        let group = |name| found.name(name).map(|group| group.as_str().trim().to_owned());
        let mut words = String::new();
        found.expand(template, &mut words);
        if *kind == ReportKind::Panic {
            line.clone_into(&mut words);
        }
        Some(Opening {
            kind: *kind,
            words: lasting(&words),
            function: group("function"),
            file: group("file"),
            comm: group("comm"),
            tail: *tail,
        })
    })
}

/// A title, other titles, and whether a part that belongs into it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Title {
    pub(super) title: String,
    pub(super) alt_titles: Vec<String>,
    pub(super) is_cut: bool,
}

impl Opening {
    /// True if a report without a stack was cut.
    pub(super) fn needs_stack(&self) -> bool {
        self.tail == Tail::Stack
    }

    /// True if `next`, which tells of the same, names it better: a fault that the kernel raised itself is more than
    /// the exception that this took.
    pub(super) fn says_less_than(&self, next: &Opening) -> bool {
        self.words == "Oops" && next.words != "Oops"
    }

    /// The title, once the stack is known, innermost frame first.
    pub(super) fn title(&self, frames: &[String]) -> Title {
        // What waits for md or dm, or spins, names it; a fault names where it happened.
        let wants_md = match self.kind {
            ReportKind::HungTask | ReportKind::Lockup | ReportKind::RcuStall => true,
            ReportKind::Panic
            | ReportKind::Oops
            | ReportKind::Bug
            | ReportKind::Warning
            | ReportKind::MemoryError
            | ReportKind::Undefined
            | ReportKind::DataRace
            | ReportKind::Lockdep
            | ReportKind::WorkqueueStall
            | ReportKind::StorageError
            | ReportKind::Corruption => false,
        };
        let named = self.function.as_deref().map(plain_functions).filter(|function| !is_generic(function));
        let found = || guilty(frames, wants_md).map(str::to_owned);
        let place = match self.tail {
            Tail::Nothing => None,
            Tail::Stack | Tail::MaybeStack => named.or_else(found).or_else(|| self.file.clone()),
        };
        let with = |words: &str| match &place {
            Some(place) => clip(&format!("{words} in {place}")),
            None => clip(words),
        };
        let mut alt_titles = Vec::new();
        if let Some(comm) = &self.comm {
            alt_titles.push(with(&format!("{} of {}", self.words, lasting_comm(comm))));
        }
        if let Some(file) = &self.file {
            alt_titles.push(clip(&format!("{} at {file}", self.words)));
        }
        let title = with(&self.words);
        alt_titles.retain(|alt| *alt != title);
        Title { title, alt_titles, is_cut: self.needs_stack() && place.is_none() }
    }
}

/// `f.isra.0 / g` → `f / g`, in alphabetical order: of a data race either side may come first.
fn plain_functions(functions: &str) -> String {
    let plain = |function: &str| function.trim().split(['.', '+']).next().unwrap_or_default().to_owned();
    let mut all: Vec<_> = functions.split(" / ").map(plain).collect();
    all.sort_unstable();
    all.join(" / ")
}

/// Words without what differs from boot to boot: addresses, ids of processes, counts.
fn lasting(words: &str) -> String {
    static CHANGING: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b0x[0-9a-f]+\b|\b[0-9a-f]{8,}\b|(?:/|#|\b)\d+\b")
            .expect("a regular expression of our own")
    });
    let text = CHANGING.replace_all(words, "N");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `kworker/0:1+md` → `kworker`, `md127_raid5` → `mdN_raid5`: a task's name without what differs.
fn lasting_comm(comm: &str) -> String {
    static ARRAY: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^md\d+_").expect("a regular expression of our own"));
    let name = comm.split(['/', ':']).next().unwrap_or(comm);
    ARRAY.replace(name, "mdN_").into_owned()
}

fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TITLE_MAX).collect()
}
