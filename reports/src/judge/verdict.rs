//! The verdicts: what an attempt can mean, and what follows for a run.
//!
//! Deliberately not here: how an attempt comes to one ([`super::attempt`]).

use std::fmt;

/// The judgement on a test, or on one attempt at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It passed, and nothing was wrong.
    Passed,
    /// It passed, and the test or the kernel complained of something that fails no run.
    PassedWithComplaints,
    /// It failed, or was still busy at its time limit (slow is not stuck), or the kernel found a fault in md
    /// or dm.
    Failed,
    /// It stopped moving, or left behind what nobody can kill.
    Hung,
    /// The kernel crashed, or ran into a fault after which nothing can be relied on.
    Crashed,
    /// Data came back changed.
    Corrupted,
    /// It went wrong in the way that an expectation names.
    KnownFailure,
    /// It passed, though an expectation says that it does not.
    UnexpectedPass,
    /// It went wrong in the way of an expectation that allows a pass as well; or it went wrong, and passed
    /// when it was tried again.
    Flaky,
    /// It could not run here, as an expectation says.
    Skipped,
    /// It could not run here, and nothing says why: what looks like a pass tested nothing.
    UnexpectedSkip,
    /// It was never tried.
    NotRun,
    /// It was ended before it came to anything.
    Interrupted,
    /// The harness or the host failed it.
    Infra,
}

impl Verdict {
    /// All verdicts, in the order in which reports count them.
    pub const ALL: [Verdict; 14] = [
        Verdict::Passed,
        Verdict::PassedWithComplaints,
        Verdict::Failed,
        Verdict::Hung,
        Verdict::Crashed,
        Verdict::Corrupted,
        Verdict::KnownFailure,
        Verdict::UnexpectedPass,
        Verdict::Flaky,
        Verdict::Skipped,
        Verdict::UnexpectedSkip,
        Verdict::NotRun,
        Verdict::Interrupted,
        Verdict::Infra,
    ];

    /// True if this alone makes a run fail. An unexpected pass does not (it is good news, and a
    /// stale entry), nor does a flaky test; infra errors and interruptions are told apart by
    /// [`RunResult`](crate::RunResult).
    pub fn is_bad(self) -> bool {
        match self {
            Verdict::Failed
            | Verdict::Hung
            | Verdict::Crashed
            | Verdict::Corrupted
            | Verdict::UnexpectedSkip => true,
            Verdict::Passed
            | Verdict::PassedWithComplaints
            | Verdict::KnownFailure
            | Verdict::UnexpectedPass
            | Verdict::Flaky
            | Verdict::Skipped
            | Verdict::NotRun
            | Verdict::Interrupted
            | Verdict::Infra => false,
        }
    }

    /// True if a report should explain it at length: all that is bad, and broken machinery.
    pub fn needs_explaining(self) -> bool {
        self.is_bad() || self == Verdict::Infra
    }

    /// True if the test was carried out, so that its verdict says something about the kernel.
    pub fn says_something(self) -> bool {
        match self {
            Verdict::Passed
            | Verdict::PassedWithComplaints
            | Verdict::Failed
            | Verdict::Hung
            | Verdict::Crashed
            | Verdict::Corrupted
            | Verdict::KnownFailure
            | Verdict::UnexpectedPass
            | Verdict::Flaky => true,
            Verdict::Skipped
            | Verdict::UnexpectedSkip
            | Verdict::NotRun
            | Verdict::Interrupted
            | Verdict::Infra => false,
        }
    }

    /// The verdict's name in files, `known-failure`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::PassedWithComplaints => "passed-with-complaints",
            Verdict::Failed => "failed",
            Verdict::Hung => "hung",
            Verdict::Crashed => "crashed",
            Verdict::Corrupted => "corrupted",
            Verdict::KnownFailure => "known-failure",
            Verdict::UnexpectedPass => "unexpected-pass",
            Verdict::Flaky => "flaky",
            Verdict::Skipped => "skipped",
            Verdict::UnexpectedSkip => "unexpected-skip",
            Verdict::NotRun => "not-run",
            Verdict::Interrupted => "interrupted",
            Verdict::Infra => "infra",
        }
    }

    /// True if a try failed, whether or not anybody expected it to.
    pub(crate) fn went_wrong(self) -> bool {
        match self {
            Verdict::Failed
            | Verdict::Hung
            | Verdict::Crashed
            | Verdict::Corrupted
            | Verdict::KnownFailure
            | Verdict::Flaky => true,
            Verdict::Passed
            | Verdict::PassedWithComplaints
            | Verdict::UnexpectedPass
            | Verdict::Skipped
            | Verdict::UnexpectedSkip
            | Verdict::NotRun
            | Verdict::Interrupted
            | Verdict::Infra => false,
        }
    }

    /// Rank among the verdicts of several tries: the highest is the one that is told.
    pub(crate) fn rank(self) -> u32 {
        match self {
            Verdict::Corrupted => 14,
            Verdict::Crashed => 13,
            Verdict::Hung => 12,
            Verdict::Failed => 11,
            Verdict::UnexpectedSkip => 10,
            Verdict::Infra => 9,
            Verdict::KnownFailure => 8,
            Verdict::Flaky => 7,
            Verdict::UnexpectedPass => 6,
            Verdict::PassedWithComplaints => 5,
            Verdict::Passed => 4,
            Verdict::Skipped => 3,
            Verdict::Interrupted => 2,
            Verdict::NotRun => 1,
        }
    }
}

/// The verdict in words, `known failure`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Infra => f.pad("infra error"),
            Verdict::PassedWithComplaints => f.pad("complained"),
            Verdict::Passed
            | Verdict::Failed
            | Verdict::Hung
            | Verdict::Crashed
            | Verdict::Corrupted
            | Verdict::KnownFailure
            | Verdict::UnexpectedPass
            | Verdict::Flaky
            | Verdict::Skipped
            | Verdict::UnexpectedSkip
            | Verdict::NotRun
            | Verdict::Interrupted => f.pad(&self.name().replace('-', " ")),
        }
    }
}
