//! What an exploration finds.

use std::time::Duration;

/// One thing that is wrong, or odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An IO failed with EIO.
    Eio,
    /// The sync thread is registered, does nothing and is reaped, again and again, until a user acts.
    Churn,
    /// An invariant is broken, by its number.
    Broken(u8),
    /// A user's command or IO never ends, though something still runs (I2).
    Livelock,
    /// A user's command or IO never ends, and nothing runs (I1).
    Deadlock,
    /// A restart from the superblocks would return what was not written last (I8).
    Restart,
    /// A read returns what was not written last (I7).
    Corruption,
}

/// Something that was found, and where.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The steps that lead to it: task and choice.
    pub trace: Vec<(usize, u8)>,
    /// For what repeats: how many of the last steps do.
    pub repeats: usize,
}

/// All that a scenario comes to in an era.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was found, worst first; each kind once, with a shortest trace.
    pub findings: Vec<Finding>,
    /// How many states there are.
    pub n_states: usize,
    /// All of them were seen.
    pub complete: bool,
    /// So many random walks were taken instead.
    pub n_walks: u32,
    /// How long it took.
    pub elapsed: Duration,
}
