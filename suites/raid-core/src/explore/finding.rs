//! The findings of an exploration, and the invariants that they break.

use std::fmt;
use std::time::Duration;

/// One thing that is wrong, or odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An IO failed with EIO.
    Eio,
    /// The sync thread is registered, does nothing and is reaped, again and again, until a user acts.
    Churn,
    /// An invariant is broken, of those that have no kind of their own.
    Broken(Invariant),
    /// A user's command or IO never ends, though something still runs (I2).
    Livelock,
    /// A user's command or IO never ends, and nothing runs (I1).
    Deadlock,
    /// A restart from the superblocks would return what was not written last (I8).
    Restart,
    /// A read returns what was not written last (I7).
    Corruption,
}

/// An invariant that a finding breaks ([`Kind::Broken`]), by its number in docs/md/invariants.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Invariant {
    /// One reap per registered thread, under `reconfig_mutex`; never two sync threads on one mddev.
    I3 = 3,
    /// At rest, RUNNING implies a queued work item or a live thread.
    I4 = 4,
    /// No sync IO while dm has the device suspended.
    I5 = 5,
    /// Only one raid_set writes the members.
    I6 = 6,
    /// A restart from the superblocks reads right, here of what was written between a reshape's end and the
    /// superblocks that say so. Any other restart that does not is [`Kind::Restart`].
    I8 = 8,
    /// Nobody sleeps on a true condition.
    I10 = 10,
    /// No unlock of a lock that is not held.
    I11 = 11,
    /// FROZEN persists after message "frozen".
    I12 = 12,
    /// Nothing freed is referenced.
    I13 = 13,
    /// A work item that is about to return uses no freed raid_set: apart from I13, because no kernel waits
    /// for it.
    I14 = 14,
    /// A command is refused as busy only because of a sync thread that is there.
    I15 = 15,
    /// raid5d does not wait for superblocks that nobody else is about to write.
    I16 = 16,
    /// A resume finds the array frozen, and no sync thread (`WARN_ON_ONCE` in `raid_resume`, v6.9).
    I17 = 17,
}

impl Invariant {
    const ALL: [Invariant; 13] = [
        Invariant::I3,
        Invariant::I4,
        Invariant::I5,
        Invariant::I6,
        Invariant::I8,
        Invariant::I10,
        Invariant::I11,
        Invariant::I12,
        Invariant::I13,
        Invariant::I14,
        Invariant::I15,
        Invariant::I16,
        Invariant::I17,
    ];

    /// The invariant of this number; `None` for those that have a [`Kind`] of their own.
    pub(crate) fn numbered(number: u8) -> Option<Invariant> {
        Invariant::ALL.into_iter().find(|invariant| *invariant as u8 == number)
    }

    /// The rule that must hold, in words.
    pub fn in_words(self) -> &'static str {
        match self {
            Invariant::I3 => "a sync thread is reaped once, under reconfig_mutex, and is the only one",
            Invariant::I4 => "at rest, RUNNING implies a queued work item or a live thread",
            Invariant::I5 => "no sync IO while dm has the device suspended",
            Invariant::I6 => "only one raid_set writes the members",
            Invariant::I8 => "a restart reads what was written after the reshape's end",
            Invariant::I10 => "nobody sleeps on a true condition",
            Invariant::I11 => "no unlock of a lock that is not held",
            Invariant::I12 => "FROZEN persists after message \"frozen\"",
            Invariant::I13 => "nothing freed is referenced",
            Invariant::I14 => "a work item that is about to return uses no freed raid_set",
            Invariant::I15 => "a command is refused as busy only because of a sync thread that is there",
            Invariant::I16 => "raid5d does not wait for superblocks that nobody else is about to write",
            Invariant::I17 => "a resume finds the array frozen and without a sync thread",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}", *self as u8)
    }
}

/// A finding, and the way to it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// The steps that lead to it: task and choice.
    pub trace: Vec<(usize, u8)>,
    /// How many of the last steps repeat, for a finding that does.
    pub repeats: usize,
}

/// The result of exploring a scenario in an era.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The findings, worst first; each kind once, with a shortest trace.
    pub findings: Vec<Finding>,
    /// How many states there are.
    pub n_states: usize,
    /// True if all states were seen.
    pub complete: bool,
    /// Number of random walks that were taken instead; 0 if all states were explored.
    pub n_walks: u32,
    /// How long it took.
    pub elapsed: Duration,
}
