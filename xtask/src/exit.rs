//! Exit codes: the one place that defines them. They are classes, never counts.

use std::process::ExitCode;

use reports::RunResult;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done, and every test that ran did as expected.
    Passed,
    /// At least one test failed, hung, crashed, corrupted data, or skipped unexpectedly.
    TestsFailed,
    /// The command line, a configuration file, a name in it or a checkout of the user's makes no sense.
    Usage,
    /// No test ran, though nothing went wrong: all were expected skips, or none matched.
    NothingRan,
    /// The harness or the host failed; nothing is known about the kernel.
    Infra,
    /// The user or a signal ended it.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Passed => 0,
            Exit::TestsFailed => 1,
            Exit::Usage => 2,
            Exit::NothingRan => 3,
            Exit::Infra => 4,
            Exit::Interrupted => 130,
        }
    }
}

impl From<RunResult> for Exit {
    fn from(result: RunResult) -> Exit {
        match result {
            RunResult::Passed => Exit::Passed,
            RunResult::TestsFailed => Exit::TestsFailed,
            RunResult::NothingRan => Exit::NothingRan,
            RunResult::InfraError => Exit::Infra,
            RunResult::Interrupted => Exit::Interrupted,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// How `bisect-step` ends: what `git bisect run` makes of each code is git's. From 128 on it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepExit {
    /// The commit is good.
    Good,
    /// It is bad.
    Bad,
    /// It cannot be told.
    Skip,
    /// Nothing is known: an error of the host's, the harness's, or of the command line.
    Stop,
    /// The user ended it.
    Interrupted,
}

impl StepExit {
    /// The number that git sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            StepExit::Good => 0,
            StepExit::Bad => 1,
            StepExit::Skip => 125,
            StepExit::Stop => 129,
            StepExit::Interrupted => 130,
        }
    }
}

impl From<StepExit> for ExitCode {
    fn from(exit: StepExit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// The codes, for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    passed
  1    tests failed, hung, crashed, corrupted data or skipped unexpectedly
  2    the command line, a configuration file or a checkout that is given is no good
  3    nothing ran
  4    the harness or the host failed; nothing is known about the kernel
  130  interrupted";
