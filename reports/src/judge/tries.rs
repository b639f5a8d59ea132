//! Several tries of one test on one kernel become one verdict, with what each came to.
//!
//! Tries that were asked for are trials: the worst of them decides, because that is what was looked for. A retry
//! belongs to the try that it repeats: a pass there makes both of them one flaky trial, if what went wrong is what the test
//! itself said. A race in md strikes now and then, so that a crash, a hang or changed data stands, however many retries pass.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use protocol::{Outcome, TestId};

use crate::judge::known_issues::Match;
use crate::judge::rate::Rate;
use crate::judge::signature::Signature;
use crate::judge::verdict::{Judged, Verdict};
use crate::record::RunRecord;

/// Ways to fail that a line names at most.
const MAX_WAYS: usize = 6;

/// One of several tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// Number of its attempt.
    pub attempt: u32,
    /// The attempt that it repeats, because that one went wrong.
    pub retry_of: Option<u32>,
    /// What it means by itself.
    pub verdict: Verdict,
    /// What it really came to, by all that was seen.
    pub came_to: Option<Outcome>,
    /// True if a retry that passes makes up for it.
    pub is_redeemable: bool,
    /// In a line; may hold a guest's words, as they came.
    pub in_short: String,
    /// One short line for people, as of [`Judged::detail`].
    pub detail: String,
    /// What names its hang or crash.
    pub signature: Option<Signature>,
    /// Known issues that it looks like.
    pub known_issues: Vec<Match>,
}

impl Judged {
    /// Each try by itself; without those that only the host's failure ended, if another took their place.
    pub fn each_try(&self) -> Vec<Judged> {
        if self.tries.is_empty() {
            return vec![self.clone()];
        }
        let counts = |one: &&Try| one.verdict != Verdict::Infra || self.verdict == Verdict::Infra;
        let alone = |one: &Try| Judged {
            attempt: Some(one.attempt),
            verdict: one.verdict,
            came_to: one.came_to.clone(),
            detail: one.detail.clone(),
            signature: one.signature.clone(),
            known_issues: one.known_issues.clone(),
            tries: Vec::new(),
            ..self.clone()
        };
        self.tries.iter().filter(counts).map(alone).collect()
    }
}

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

/// What all tries come to, and the attempt that shows it best.
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
        judged.min_by_key(|(verdict, evidence)| (Reverse(weight(*verdict)), *evidence))?;
    // Now as expected and now not: neither is the whole truth.
    let has = |verdict| tries.iter().any(|one| one.verdict == verdict);
    if verdict == Verdict::KnownFailure && has(Verdict::UnexpectedPass) {
        return Some((Verdict::Flaky, evidence));
    }
    Some((verdict, evidence))
}

fn verdict_of_trial(trial: &[&Try], flaky_fails: bool) -> Option<(Verdict, u32)> {
    let worst_first = |one: &&&Try| (Reverse(weight(one.verdict)), one.attempt);
    let lasting =
        trial.iter().filter(|one| one.verdict.is_bad() && !one.is_redeemable).min_by_key(worst_first);
    if let Some(lasting) = lasting {
        return Some((lasting.verdict, lasting.attempt));
    }
    let worst = trial.iter().min_by_key(worst_first)?;
    // The last that came to anything: a retry that never ran changes nothing.
    let last = trial.iter().rfind(|one| one.verdict.says_something()).unwrap_or(worst);
    let redeemed = !went_wrong(last.verdict) && last.verdict.says_something();
    Some(match worst.verdict {
        // A host that failed once says nothing of the kernel.
        Verdict::Infra if redeemed => (last.verdict, last.attempt),
        verdict if verdict.is_bad() && redeemed && !flaky_fails => (Verdict::Flaky, worst.attempt),
        verdict => (verdict, worst.attempt),
    })
}

/// True if a try failed, whether or not anybody expected it to.
pub(crate) fn went_wrong(verdict: Verdict) -> bool {
    match verdict {
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

/// The heaviest of several verdicts is the one that is told.
fn weight(verdict: Verdict) -> u32 {
    match verdict {
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

impl Judged {
    /// True if a retry that passes makes up for it: the test itself said that it failed, or the host did. A crash, a
    /// hang, changed data, and a fault that the kernel reported, have happened.
    pub fn is_redeemable(&self) -> bool {
        match self.verdict {
            Verdict::Infra | Verdict::Failed | Verdict::UnexpectedSkip => !self.is_the_kernels,
            Verdict::Hung
            | Verdict::Crashed
            | Verdict::Corrupted
            | Verdict::Passed
            | Verdict::PassedWithComplaints
            | Verdict::KnownFailure
            | Verdict::UnexpectedPass
            | Verdict::Flaky
            | Verdict::Skipped
            | Verdict::NotRun
            | Verdict::Interrupted => false,
        }
    }

    /// True if it failed, and passed when it was tried again.
    pub fn is_redeemed(&self) -> bool {
        self.verdict == Verdict::Flaky && self.tries.iter().any(|one| one.retry_of.is_some())
    }

    /// True if this, or one of its tries that no retry made up for, is a verdict of that kind.
    pub fn has(&self, verdict: Verdict) -> bool {
        let made_up_for = |one: &Try| self.tries.iter().any(|other| other.retry_of == Some(one.attempt));
        self.verdict == verdict || self.tries.iter().any(|one| one.verdict == verdict && !made_up_for(one))
    }

    /// How often it failed; nothing of one try, and nothing of retries, which are made only of what failed.
    pub fn rate(&self) -> Option<Rate> {
        if self.tries.len() < 2 || self.tries.iter().any(|one| one.retry_of.is_some()) {
            return None;
        }
        let said = || self.tries.iter().filter(|one| one.verdict.says_something());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let n_failed = count(said().filter(|one| went_wrong(one.verdict)).count());
        Some(Rate { n_failed, n: count(said().count()) }).filter(|rate| rate.n > 0)
    }

    /// What several tries came to and what that shows; nothing of one try.
    pub fn tries_lines(&self) -> Vec<String> {
        if self.tries.is_empty() {
            return Vec::new();
        }
        let mut ways: BTreeMap<(Reverse<u32>, Verdict, String), usize> = BTreeMap::new();
        for one in &self.tries {
            let name = one.signature.as_ref().map(Signature::title).unwrap_or_default();
            *ways.entry((Reverse(weight(one.verdict)), one.verdict, name)).or_default() += 1;
        }
        let n_ways = ways.len();
        let mut parts: Vec<String> =
            ways.into_iter()
                .take(MAX_WAYS)
                .map(|((_, verdict, name), n)| {
                    if name.is_empty() { format!("{n} {verdict}") } else { format!("{n} {verdict} ({name})") }
                })
                .collect();
        if n_ways > MAX_WAYS {
            parts.push(format!("{} more ways", n_ways - MAX_WAYS));
        }
        let mut lines = vec![format!("{} tries: {}", self.tries.len(), parts.join(", "))];
        lines.extend(self.rate().map(Rate::sentence));
        lines
    }

    /// ` (3 of 40 failed)`, ` (40 tries)`; nothing of one try.
    pub(crate) fn tries_mark(&self) -> String {
        match self.rate() {
            Some(rate) if rate.n_failed > 0 => format!(" ({} of {} failed)", rate.n_failed, rate.n),
            _ if self.tries.is_empty() => String::new(),
            _ => format!(" ({} tries)", self.tries.len()),
        }
    }
}

#[cfg(test)]
#[path = "tries_tests.rs"]
mod tests;
