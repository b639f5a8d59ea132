//! What all verdicts together come to: one result for the run, and counts.
//!
//! Deliberately not here: exit codes, which are xtask's.

use std::collections::BTreeMap;
use std::fmt;

use crate::judge::judged::Judged;
use crate::judge::verdict::Verdict;
use crate::record::{RunEnd, RunRecord};

/// The result of a whole run; decides the exit code.
///
/// The first that applies, in this order:
/// 1. `Interrupted`: whatever else is known, the plan was not carried out, and the user knows why.
///    Errors of the host in such a run are often the interruption's own doing.
/// 2. `InfraError`: a host that fails cannot be trusted about the tests that it did run. Ranked
///    above failures so that neither a bisection nor a developer blames a commit for it.
/// 3. `TestsFailed`: at least one verdict [is bad](crate::Verdict::is_bad).
/// 4. `NothingRan`: nothing went wrong because nothing was tried: all was skipped, or nothing was
///    selected. Not a pass, or a typing error in a filter would be green for ever.
/// 5. `Passed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunResult {
    /// At least one test ran, and none went wrong in a way that is not known.
    Passed,
    /// Something about a kernel or a test is wrong.
    TestsFailed,
    /// No test ran.
    NothingRan,
    /// The harness or the host failed.
    InfraError,
    /// The run did not come to its end.
    Interrupted,
}

impl RunResult {
    /// The result of a run; see the type for the order.
    pub fn of(record: &RunRecord, judged: &[Judged]) -> RunResult {
        let has = |verdict: Verdict| judged.iter().any(|judged| judged.has(verdict));
        let interrupted = match record.end {
            RunEnd::Interrupted | RunEnd::Cut => true,
            RunEnd::Finished => false,
        };
        // Nobody ended the run, and it still left out what it had planned: the harness's fault.
        let left_out = judged.iter().any(|judged| judged.has(Verdict::NotRun) && judged.attempt.is_some());
        if interrupted || has(Verdict::Interrupted) {
            RunResult::Interrupted
        } else if has(Verdict::Infra) || left_out {
            RunResult::InfraError
        } else if judged.iter().any(|judged| judged.verdict.is_bad()) {
            RunResult::TestsFailed
        } else if !judged.iter().any(|judged| judged.verdict.says_something()) {
            RunResult::NothingRan
        } else {
            RunResult::Passed
        }
    }

    /// The result's name in files, `tests-failed`.
    pub fn name(self) -> &'static str {
        match self {
            RunResult::Passed => "passed",
            RunResult::TestsFailed => "tests-failed",
            RunResult::NothingRan => "nothing-ran",
            RunResult::InfraError => "infra-error",
            RunResult::Interrupted => "interrupted",
        }
    }
}

/// The result in words, `tests failed`.
impl fmt::Display for RunResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name().replace('-', " "))
    }
}

/// How many times each verdict was given; those never given are left out.
pub fn counts(judged: &[Judged]) -> Vec<(Verdict, usize)> {
    let count = |verdict| judged.iter().filter(|judged| judged.verdict == verdict).count();
    Verdict::ALL.into_iter().map(|verdict| (verdict, count(verdict))).filter(|(_, n)| *n > 0).collect()
}

/// The counts in one line: `2 passed, 0 failed, 1 hung`. Passed and failed are always there.
pub fn counts_line(judged: &[Judged]) -> String {
    let counts: BTreeMap<Verdict, usize> = counts(judged).into_iter().collect();
    let parts = Verdict::ALL.into_iter().filter_map(|verdict| match counts.get(&verdict) {
        Some(n) => Some(format!("{n} {verdict}")),
        None => matches!(verdict, Verdict::Passed | Verdict::Failed).then(|| format!("0 {verdict}")),
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::judge;
    use crate::judge::known_issues::KnownIssues;
    use crate::testing;
    use protocol::TestId;

    fn result(verdicts: &[Verdict], end: RunEnd) -> RunResult {
        let record = RunRecord { end, ..RunRecord::default() };
        let judged: Vec<Judged> = verdicts
            .iter()
            .map(|verdict| Judged {
                attempt: None,
                test: TestId::new("s", "t").unwrap(),
                kernel_idx: 0,
                verdict: *verdict,
                detail: String::new(),
                expectation: None,
                allowed: BTreeMap::new(),
                signature: None,
                known_issues: vec![],
                missing_issues: vec![],
                came_to: None,
                has_kernel_fault: false,
                tries: vec![],
            })
            .collect();
        RunResult::of(&record, &judged)
    }

    #[test]
    fn the_worst_decides_the_result() {
        use Verdict::*;
        let all = [Passed, Failed, Infra, Interrupted];
        for (verdicts, end, expect) in [
            (&all[..], RunEnd::Finished, RunResult::Interrupted),
            (&all[..3], RunEnd::Cut, RunResult::Interrupted),
            (&all[..3], RunEnd::Interrupted, RunResult::Interrupted),
            (&all[..3], RunEnd::Finished, RunResult::InfraError),
            (&all[..2], RunEnd::Finished, RunResult::TestsFailed),
            (&all[..1], RunEnd::Finished, RunResult::Passed),
            (&[UnexpectedSkip], RunEnd::Finished, RunResult::TestsFailed),
            (&[KnownFailure, UnexpectedPass, Flaky], RunEnd::Finished, RunResult::Passed),
            (&[Skipped, NotRun], RunEnd::Finished, RunResult::NothingRan),
            (&[], RunEnd::Finished, RunResult::NothingRan),
        ] {
            assert_eq!(result(verdicts, end), expect, "{verdicts:?}, {end:?}");
        }
    }

    #[test]
    fn a_finished_run_that_left_out_planned_tests_is_the_harness_s_fault() {
        let mut events = testing::sample_events();
        events.retain(|record| !matches!(record.event, protocol::Event::AttemptFinished { attempt: 8, .. }));
        events.last_mut().unwrap().event = protocol::Event::RunFinished { interrupted: false };
        let record = RunRecord::from_events(events);
        let judged = judge(&record, &BTreeMap::new(), &KnownIssues::default());
        assert_eq!(judged[7].verdict, Verdict::Infra);
        assert_eq!(judged[9].verdict, Verdict::NotRun);
        assert_eq!(RunResult::of(&record, &judged), RunResult::InfraError);
    }

    #[test]
    fn counts_always_say_how_many_passed_and_failed() {
        assert_eq!(counts_line(&[]), "0 passed, 0 failed");
        let (_, judged) = testing::sample();
        assert_eq!(
            counts_line(&judged),
            "1 passed, 1 complained, 1 failed, 1 hung, 1 known failure, 1 skipped, 1 unexpected skip, 2 not run, \
             1 interrupted, 1 infra error"
        );
    }
}
