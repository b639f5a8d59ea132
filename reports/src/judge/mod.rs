//! What a record means: verdicts, and all that they are derived from.
//!
//! In the order in which an attempt is judged:
//! - [`expectations`] say what a test is known to do (one of the `expected_outcome`s), `allowance` what it
//!   causes on purpose, by [`title_pattern`]s;
//! - `came_to` puts what the kernel reported, and what the test left behind, beside what the test says
//!   itself;
//! - [`signature`] names a hang or a crash by its stacks; [`known_issues`] recognises known bugs by them, and
//!   [`kernel_version`] says which kernels have these;
//! - [`attempt`] judges each attempt by all of this: it has a [`verdict`](verdict::Verdict), and is
//!   [`judged`];
//! - `tries` makes several tries of a test one verdict, [`rate`] says what their number shows;
//! - [`result`] is what all verdicts of a run come to; [`staleness`] is what many runs say of an expectation.
//!
//! Pure, so that a finished run can be judged again by newer expectations and known issues. Deliberately not
//! here: how verdicts are shown ([`crate::render`]), and comparison with earlier runs.

use std::collections::BTreeMap;

use crate::record::RunRecord;
use attempt::judge_one;
use expectations::Expectations;
use judged::Judged;
use known_issues::KnownIssues;
use verdict::Verdict;

pub(crate) mod allowance;
pub mod attempt;
pub(crate) mod came_to;
pub(crate) mod data_file;
pub mod expectations;
pub mod expected_outcome;
pub mod judged;
pub mod kernel_version;
pub mod known_issues;
pub mod rate;
pub mod result;
pub mod signature;
pub mod staleness;
pub mod title_pattern;
pub(crate) mod tries;
pub mod verdict;

/// Judges every test, in the order of the plan: all tries of one on one kernel together. Then every test that
/// was not planned. `expectations` are by suite; a suite without an entry expects every test to pass.
pub fn judge(
    record: &RunRecord,
    expectations: &BTreeMap<String, Expectations>,
    known_issues: &KnownIssues,
) -> Vec<Judged> {
    let attempts =
        record.attempts.iter().map(|attempt| judge_one(record, attempt, expectations, known_issues));
    let not_planned = record.not_planned.iter().map(|test| Judged {
        attempt: None,
        test: test.test.clone(),
        kernel_idx: test.kernel_idx,
        verdict: Verdict::NotRun,
        detail: test.reason.clone(),
        expectation: None,
        allowed: BTreeMap::new(),
        signature: None,
        known_issues: Vec::new(),
        missing_issues: Vec::new(),
        came_to: None,
        has_kernel_fault: false,
        tries: Vec::new(),
    });
    tries::fold(record, attempts.collect()).into_iter().chain(not_planned).collect()
}
