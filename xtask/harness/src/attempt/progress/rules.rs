//! When a test is said to hang, as a table: what must stand, beside whom, for how many samples; what
//! lengthens that, and what excuses it. The table in docs/how/hang-detection.md is made from it (`UPDATE=1
//! cargo test -p harness hang_rules`).
//!
//! Deliberately not here: what has been seen so far ([`super::motion`]), and how a row is held against that
//! ([`super::judge`]).

use protocol::HangKind;

/// A row of the table.
#[derive(Debug)]
pub(super) struct Rule {
    /// Kind of the hang.
    pub(super) kind: HangKind,
    /// The task that stands still, or spins.
    pub(super) what: What,
    /// The rest of the test, which does no more than this meanwhile.
    pub(super) beside: Beside,
    /// Samples in a row for which both must be so, each a second of the guest's own time.
    pub(super) samples: u32,
    /// Circumstances that lengthen that.
    pub(super) longer: &'static [Longer],
    /// A circumstance that keeps it from being a hang.
    pub(super) excuse: Excuse,
}

/// A task that stands still or spins. It stands if it is given no processor, and nothing is done on the
/// device that it waits for: work on other devices counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A task of the test, in D state or in a wait of md's or dm's.
    Task(Where),
    /// A task, or a thread of an array's, that spends its time in md or dm.
    Spin,
    /// Several of these together: each waits for the other now and then.
    SpinTogether,
    /// A task that the kernel has reported as hung.
    Reported,
    /// The thread of a resync, recovery or reshape that should move, in D state.
    SyncThread,
    /// The thread of a resync, recovery or reshape that should move, asleep: whoever should have woken it has
    /// not.
    SyncThreadAsleep,
}

/// The place where a task of the test waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// For a device that the guest has told of, wherever it stands.
    AtKnownDevice,
    /// In a function of md or dm, or for a device that has taken a request and not answered it, or whose
    /// array has a thread that stands in md.
    Inside,
    /// [`Where::Inside`], for a device that the guest has told of.
    InsideKnown,
    /// Elsewhere in the kernel.
    Outside,
    /// Elsewhere in the kernel, for a device that the guest has told of.
    OutsideKnown,
}

/// Activity of the rest of the test, each variant more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// No task of the test is given a processor.
    NobodyMoves,
    /// It polls: it runs the same programs again and again, and computes little. Whatever it prints is said
    /// by these.
    Polls,
    /// It polls, and prints nothing.
    PollsSilently,
    /// It computes, or prints, and takes no program that it has not had: a poll may be busy.
    SamePrograms,
    /// Whatever it likes.
    Anything,
}

/// A circumstance that makes a window longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Longer {
    /// A request that the host's disk has not answered: so many times as long.
    Host(u32),
    /// A program that the kernel runs for a task (`modprobe`, say), which nobody sees: so many times as long.
    Helper(u32),
    /// dm-delay is at work, and nobody has said how long it holds requests back: so many times as long.
    Delay(u32),
    /// The kernel ends the wait by itself: by as much as that takes.
    Kernel,
    /// Memory is short and the task waits for some, or for a page of its own that was swapped out: at least
    /// so many samples.
    Memory(u32),
    /// A device that it waits for, or one below it, is suspended, and a test that goes on may resume it: at
    /// least so many samples.
    Suspended(u32),
    /// Nobody has said whether one is suspended, and the test sleeps from time to time: at least so many
    /// samples.
    Steps(u32),
}

/// A circumstance that keeps a row from being met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excuse {
    /// Nothing.
    Never,
    /// A task of the test sleeps, by its own word, for less time than a test may be silent.
    Sleep,
    /// A task of the test sleeps so, and has done so for [`LONG_SLEEP`] samples: who waits may wait for its
    /// end.
    LongSleep,
}

/// Circumstances that lengthen the window of any wait: of a task of the test's, and of a sync thread's.
pub(super) const WAITS: &[Longer] =
    &[Longer::Host(4), Longer::Helper(6), Longer::Delay(2), Longer::Kernel, Longer::Memory(120)];

/// [`WAITS`], and further circumstances.
macro_rules! waits_and {
    ($($more:expr),*) => {
        &[WAITS[0], WAITS[1], WAITS[2], WAITS[3], WAITS[4], $($more),*]
    };
}

/// No number of samples is enough: the limit of the test's time ends it.
pub(super) const NEVER: u32 = u32::MAX;
/// Samples after which a task that stands at a test's limit has stood too long, wherever in the kernel it
/// waits, and whatever else was done on its device. As long as the kernel's own detector takes
/// (`hung_task_timeout_secs`).
pub(super) const STOOD_FOR_EVER: u32 = 120;
/// Samples after which a task that stands inside of md or dm at a test's limit has stood too long, if nothing
/// was done on its device.
pub(super) const STOOD_AT_LIMIT: u32 = 15;
/// Samples after which a task that stands at a test's limit has stood too long if a device is suspended,
/// which somebody may have meant to resume.
pub(super) const STOOD_SUSPENDED: u32 = 40;
/// Samples after which a task that stands in md or dm makes others that wait for its array wait inside of md.
pub(super) const TROUBLE: u32 = 12;
/// Samples without work after which a silent test is no longer getting on.
pub(super) const IDLES: u32 = 15;
/// Samples after which a sleep whose end a test's task named is a long one.
pub(super) const LONG_SLEEP: u32 = 3;

/// The table. The first row that is met names the hang.
pub(super) static RULES: &[Rule] = &[
    // Nobody is there who could change anything.
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::AtKnownDevice),
        beside: Beside::NobodyMoves,
        samples: 7,
        longer: WAITS,
        excuse: Excuse::Sleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::Inside),
        beside: Beside::NobodyMoves,
        samples: 7,
        longer: WAITS,
        excuse: Excuse::Sleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::Outside),
        beside: Beside::NobodyMoves,
        samples: 15,
        longer: WAITS,
        excuse: Excuse::Sleep,
    },
    // Others of the test look on.
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::Inside),
        beside: Beside::Polls,
        samples: 12,
        longer: waits_and!(Longer::Suspended(40)),
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::InsideKnown),
        beside: Beside::SamePrograms,
        samples: 12,
        longer: waits_and!(Longer::Suspended(120)),
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::InsideKnown),
        beside: Beside::Anything,
        samples: 120,
        longer: waits_and!(Longer::Suspended(NEVER)),
        excuse: Excuse::LongSleep,
    },
    // A task that waits outside of md and dm may wait for a resume, and a test that sleeps again and again
    // may be about to do that.
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::Outside),
        beside: Beside::PollsSilently,
        samples: 40,
        longer: WAITS,
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::OutsideKnown),
        beside: Beside::SamePrograms,
        samples: 60,
        longer: waits_and!(Longer::Suspended(NEVER)),
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::OutsideKnown),
        beside: Beside::Anything,
        samples: 120,
        longer: waits_and!(Longer::Suspended(NEVER)),
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::Livelock,
        what: What::Spin,
        beside: Beside::Anything,
        samples: 12,
        longer: &[],
        excuse: Excuse::Never,
    },
    Rule {
        kind: HangKind::Livelock,
        what: What::SpinTogether,
        beside: Beside::Anything,
        samples: 12,
        longer: &[],
        excuse: Excuse::Never,
    },
    Rule {
        kind: HangKind::HungTask,
        what: What::Reported,
        beside: Beside::Anything,
        samples: 15,
        longer: &[],
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::SyncStalled,
        what: What::SyncThread,
        beside: Beside::NobodyMoves,
        samples: 16,
        longer: WAITS,
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::SyncStalled,
        what: What::SyncThread,
        beside: Beside::Anything,
        samples: 16,
        longer: waits_and!(Longer::Suspended(40), Longer::Steps(40)),
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::SyncStalled,
        what: What::SyncThreadAsleep,
        beside: Beside::Anything,
        samples: 30,
        longer: waits_and!(Longer::Suspended(40)),
        excuse: Excuse::LongSleep,
    },
];
