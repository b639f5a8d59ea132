//! Exit codes: the one place that defines them. They are classes, never counts.

use std::process::ExitCode;

use reports::RunResult;

/// The way a command ended.
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
    /// The exit code.
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

/// The way `bisect-step` ended. The meaning of each code is defined by `git bisect run`, which stops at 128
/// and above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepExit {
    /// The commit is good.
    Good,
    /// The commit is bad.
    Bad,
    /// The commit cannot be tested.
    Skip,
    /// Nothing is known of the commit: an error of the host, the harness, or in the command line.
    Stop,
    /// The user ended it.
    Interrupted,
}

impl StepExit {
    /// The exit code.
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

/// The exit codes, for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    passed
  1    tests failed, hung, crashed, corrupted data or skipped unexpectedly
  2    the command line, a configuration file or a checkout that is given is no good
  3    nothing ran
  4    the harness or the host failed; nothing is known about the kernel
  130  interrupted";
