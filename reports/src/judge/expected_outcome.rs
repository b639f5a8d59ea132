//! The outcomes that can be expected of a test, and that a known bug can make of one.
//!
//! Deliberately not here: what an attempt came to (`came_to.rs`), and whether it was expected.

use std::fmt;

use protocol::Outcome;
use serde::Deserialize;

/// An outcome that can be expected. A pass is what is expected without an entry, and nobody can
/// expect an interruption or a broken host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectedOutcome {
    /// [`Outcome::Fail`].
    Fail,
    /// [`Outcome::Skip`].
    Skip,
    /// [`Outcome::Warn`].
    Warn,
    /// [`Outcome::Timeout`].
    Timeout,
    /// [`Outcome::Hang`].
    Hang,
    /// [`Outcome::KernelCrash`].
    KernelCrash,
    /// [`Outcome::DataCorruption`].
    DataCorruption,
}

impl ExpectedOutcome {
    /// The kind of an outcome, if it can be expected.
    pub fn of(outcome: &Outcome) -> Option<ExpectedOutcome> {
        match outcome {
            Outcome::Pass | Outcome::Interrupted | Outcome::Infra { .. } => None,
            Outcome::Fail { .. } => Some(ExpectedOutcome::Fail),
            Outcome::Skip { .. } => Some(ExpectedOutcome::Skip),
            Outcome::Warn { .. } => Some(ExpectedOutcome::Warn),
            Outcome::Timeout { .. } => Some(ExpectedOutcome::Timeout),
            Outcome::Hang { .. } => Some(ExpectedOutcome::Hang),
            Outcome::KernelCrash { .. } => Some(ExpectedOutcome::KernelCrash),
            Outcome::DataCorruption { .. } => Some(ExpectedOutcome::DataCorruption),
        }
    }

    /// The name in files, `kernel-crash`.
    pub fn name(self) -> &'static str {
        match self {
            ExpectedOutcome::Fail => "fail",
            ExpectedOutcome::Skip => "skip",
            ExpectedOutcome::Warn => "warn",
            ExpectedOutcome::Timeout => "timeout",
            ExpectedOutcome::Hang => "hang",
            ExpectedOutcome::KernelCrash => "kernel-crash",
            ExpectedOutcome::DataCorruption => "data-corruption",
        }
    }
}

impl fmt::Display for ExpectedOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
