//! Several tries of one test on one kernel become one verdict, with what each came to.
//!
//! Tries that were asked for are trials: the worst of them decides, because that is what was looked for. A
//! retry belongs to the try that it repeats: a pass there makes both of them one flaky trial, if what went
//! wrong is what the test itself said. A race in md strikes now and then, so that a crash, a hang or changed
//! data stands, however many retries pass.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use protocol::TestId;

use crate::judge::judged::{Judged, Try};
use crate::judge::verdict::Verdict;
use crate::record::RunRecord;

/// Folds what each attempt means into a verdict a test and kernel, in the order of their first attempts.
pub(crate) fn fold(record: &RunRecord, each: Vec<Judged>) -> Vec<Judged> {
    let mut subjects: Vec<Vec<Judged>> = Vec::new();
    let mut places: BTreeMap<(TestId, u32), usize> = BTreeMap::new();
    for judged in each {
        let place = *places.entry((judged.test.clone(), judged.kernel_idx)).or_insert_with(|| {
            subjects.push(Vec::new());
            subjects.len() - 1
        });
        subjects[place].push(judged);
    }
    subjects.into_iter().filter_map(|tries| fold_one(record, tries)).collect()
}

fn fold_one(record: &RunRecord, mut all: Vec<Judged>) -> Option<Judged> {
    if all.len() < 2 {
        return all.pop();
    }
    let tries: Vec<Try> = all
        .iter()
        .filter_map(|judged| {
            let attempt = judged.attempt?;
            Some(Try {
                attempt,
                retry_of: record.attempt(attempt).and_then(|attempt| attempt.retry_of),
                verdict: judged.verdict,
                came_to: judged.came_to.clone(),
                is_redeemable: judged.is_redeemable(),
                in_short: judged.in_short(),
                detail: judged.detail.clone(),
                signature: judged.signature.clone(),
                known_issues: judged.known_issues.clone(),
            })
        })
        .collect();
    let (verdict, evidence) = verdict_of(&tries, record.run.policy.flaky_fails)?;
    let judged = all.into_iter().find(|judged| judged.attempt == Some(evidence))?;
    Some(Judged { verdict, tries, ..judged })
}

/// The verdict of all tries together, and the attempt that shows it best.
fn verdict_of(tries: &[Try], flaky_fails: bool) -> Option<(Verdict, u32)> {
    // A trial: what was asked for, and then its retries.
    let mut trials: BTreeMap<u32, Vec<&Try>> = BTreeMap::new();
    let mut roots: BTreeMap<u32, u32> = BTreeMap::new();
    for one in tries {
        let root = one.retry_of.and_then(|before| roots.get(&before).copied()).unwrap_or(one.attempt);
        roots.insert(one.attempt, root);
        trials.entry(root).or_default().push(one);
    }
    let judged = trials.values().filter_map(|trial| verdict_of_trial(trial, flaky_fails));
    let (verdict, evidence) =
        judged.min_by_key(|(verdict, evidence)| (Reverse(verdict.rank()), *evidence))?;
    // Now as expected and now not: neither is the whole truth.
    let has = |verdict| tries.iter().any(|one| one.verdict == verdict);
    if verdict == Verdict::KnownFailure && has(Verdict::UnexpectedPass) {
        return Some((Verdict::Flaky, evidence));
    }
    Some((verdict, evidence))
}

fn verdict_of_trial(trial: &[&Try], flaky_fails: bool) -> Option<(Verdict, u32)> {
    let worst_first = |one: &&&Try| (Reverse(one.verdict.rank()), one.attempt);
    let lasting =
        trial.iter().filter(|one| one.verdict.is_bad() && !one.is_redeemable).min_by_key(worst_first);
    if let Some(lasting) = lasting {
        return Some((lasting.verdict, lasting.attempt));
    }
    let worst = trial.iter().min_by_key(worst_first)?;
    // The last that came to anything: a retry that never ran changes nothing.
    let last = trial.iter().rfind(|one| one.verdict.says_something()).unwrap_or(worst);
    let redeemed = !last.verdict.went_wrong() && last.verdict.says_something();
    Some(match worst.verdict {
        // A host that failed once says nothing of the kernel.
        Verdict::Infra if redeemed => (last.verdict, last.attempt),
        verdict if verdict.is_bad() && redeemed && !flaky_fails => (Verdict::Flaky, worst.attempt),
        verdict => (verdict, worst.attempt),
    })
}

#[cfg(test)]
#[path = "tries_tests.rs"]
mod tests;
