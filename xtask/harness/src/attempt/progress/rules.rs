//! When a test is called stuck, as a table: what must stand, beside whom, for how many samples; what makes that longer,
//! and what excuses it.
//!
//! Deliberately not here: what has been seen so far ([`super::motion`]), and how a row is held against that
//! ([`super::Progress`]).

use protocol::HangKind;

/// A row of the table.
#[derive(Debug)]
pub(super) struct Rule {
    /// What it is called.
    pub(super) kind: HangKind,
    /// What stands still, or spins.
    pub(super) what: What,
    /// What the rest of the test does meanwhile, at most.
    pub(super) beside: Beside,
    /// For so many samples in a row, each a second of the guest's own time.
    pub(super) samples: u32,
    /// What makes that longer.
    pub(super) longer: &'static [Longer],
    /// What keeps it from being a hang.
    pub(super) excuse: Excuse,
}

/// What stands still or spins. A task stands if it is given no processor, and nothing is done on the device that it waits
/// for: what is done on others counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A task of the test, in D state or in a wait of md's or dm's.
    Task(Where),
    /// A task, or a thread of an array's, that spends its time in md or dm.
    Spin,
    /// Several of these together: each waits for the other now and then.
    SpinTogether,
    /// What the kernel has reported as hung.
    Reported,
    /// The thread of a resync, recovery or reshape that should move, in D state.
    SyncThread,
    /// The same, asleep: whoever should have woken it has not.
    SyncThreadAsleep,
}

/// Where a task of the test waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// For a device that the guest has told of, wherever it stands.
    AtKnownDevice,
    /// In a function of md or dm, or for a device that has taken a request and not answered it, or whose array has a thread
    /// that stands in md.
    Inside,
    /// The same, for a device that the guest has told of.
    InsideKnown,
    /// Elsewhere in the kernel.
    Outside,
    /// The same, for a device that the guest has told of.
    OutsideKnown,
}

/// What the rest of the test does meanwhile, each more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// No task of the test is given a processor.
    NobodyMoves,
    /// It polls: it runs the same programs again and again, and computes little. Whatever it prints is said by
    /// these.
    Polls,
    /// The same, and prints nothing.
    PollsSilently,
    /// It computes, or prints, and takes no program that it has not had: a poll may be busy.
    SamePrograms,
    /// Whatever it likes.
    Anything,
}

/// What makes a window longer.
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
    /// Memory is short and the task waits for some, or for a page of its own that was swapped out: at least so many samples.
    Memory(u32),
    /// A device that it waits for, or one below it, is suspended, and a test that goes on may resume it: at least so
    /// many samples.
    Suspended(u32),
    /// Nobody has said whether one is suspended, and the test sleeps from time to time: at least so many samples.
    Steps(u32),
}

/// What keeps a rule from being met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excuse {
    /// Nothing.
    Never,
    /// A task of the test sleeps, by its own word, for less time than a test may be silent.
    Sleep,
    /// The same, and has done so for some samples: what waits may wait for that.
    LongSleep,
}

/// What lengthens the window of a task of the test's, and of a sync thread's.
macro_rules! longer {
    ($($more:expr),*) => {
        &[Longer::Host(4), Longer::Helper(6), Longer::Delay(2), Longer::Kernel, Longer::Memory(120), $($more),*]
    };
}

/// No number of samples is enough: the limit of the test's time ends it.
const NEVER: u32 = u32::MAX;
/// Samples after which a task that stands at a test's limit has stood too long, whatever else was done on its device, and
/// wherever in the kernel it waits for that. As long as the kernel's own detector takes (`hung_task_timeout_secs`).
pub(super) const STOOD_FOR_EVER: u32 = 120;
/// The same for one inside of md or dm, if nothing was done on its device.
pub(super) const STOOD_AT_LIMIT: u32 = 15;
/// The same if a device is suspended, which somebody may have meant to resume.
pub(super) const STOOD_SUSPENDED: u32 = 40;
/// Samples after which a task that stands in md or dm makes others, which wait for its array, wait inside.
pub(super) const TROUBLE: u32 = 12;
/// Samples without work after which a silent test is no longer getting on.
pub(super) const IDLES: u32 = 15;
/// Samples after which a sleep that a test's task named the end of is a long one.
pub(super) const LONG_SLEEP: u32 = 3;

/// The table. The first row that is met names the hang.
pub(super) const RULES: &[Rule] = &[
    // Nobody is there who could change anything.
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::AtKnownDevice),
        beside: Beside::NobodyMoves,
        samples: 7,
        longer: longer!(),
        excuse: Excuse::Sleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::Inside),
        beside: Beside::NobodyMoves,
        samples: 7,
        longer: longer!(),
        excuse: Excuse::Sleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::Outside),
        beside: Beside::NobodyMoves,
        samples: 15,
        longer: longer!(),
        excuse: Excuse::Sleep,
    },
    // Others of the test look on.
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::Inside),
        beside: Beside::Polls,
        samples: 12,
        longer: longer!(Longer::Suspended(40)),
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::InsideKnown),
        beside: Beside::SamePrograms,
        samples: 12,
        longer: longer!(Longer::Suspended(120)),
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::InsideKnown),
        beside: Beside::Anything,
        samples: 120,
        longer: longer!(Longer::Suspended(NEVER)),
        excuse: Excuse::LongSleep,
    },
    // Who waits outside of md and dm may wait for a resume, and who sleeps again and again may be about to do that.
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::Outside),
        beside: Beside::PollsSilently,
        samples: 40,
        longer: longer!(),
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::OutsideKnown),
        beside: Beside::SamePrograms,
        samples: 60,
        longer: longer!(Longer::Suspended(NEVER)),
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::NoProgress,
        what: What::Task(Where::OutsideKnown),
        beside: Beside::Anything,
        samples: 120,
        longer: longer!(Longer::Suspended(NEVER)),
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
        longer: longer!(),
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::SyncStalled,
        what: What::SyncThread,
        beside: Beside::Anything,
        samples: 16,
        longer: longer!(Longer::Suspended(40), Longer::Steps(40)),
        excuse: Excuse::LongSleep,
    },
    Rule {
        kind: HangKind::SyncStalled,
        what: What::SyncThreadAsleep,
        beside: Beside::Anything,
        samples: 30,
        longer: longer!(Longer::Suspended(40)),
        excuse: Excuse::LongSleep,
    },
];
