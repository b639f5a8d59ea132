//! Target of a search: the failure that is searched for, and the meaning of a trial for it. Pure.

use super::decide::Observation;
use super::observe::{Class, Failure, Sighting, Trial, TrialResult, first_error};

/// The failure that is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The failure that the failing end showed.
    Seen {
        /// Name of the test that failed.
        test: String,
        /// The failure.
        wrong: Failure,
    },
    /// Any failure that mentions some words.
    Words {
        /// Words that the user gave.
        words: String,
        /// Names of the tests that showed such a failure at the failing end. Empty if no end was tested: then
        /// any test counts.
        tests: Vec<String>,
        /// True if the kernel's own signature contains the words, false if only a test's output does.
        is_signed: bool,
    },
    /// Any failure: for users who know what else the tests do.
    Anything,
}

impl Target {
    /// The target that any test meets whose failure mentions `words`.
    pub fn words(words: String) -> Target {
        Target::Words { words, tests: Vec::new(), is_signed: false }
    }

    /// The target, from the trials of both ends in order. Without `words` it is the failure that most trials
    /// of the failing end show, so that a chance failure does not become the question; of two equally
    /// frequent ones, the first. A failure that the passing end shows, too, is chosen only if there is no
    /// other. `None` if the failing end showed no failure yet.
    pub(crate) fn from_trials(words: Option<&str>, failing: &[&Trial], passing: &[&Trial]) -> Option<Target> {
        if let Some(words) = words {
            let mentioning = failing.iter().flat_map(|trial| trial.seen()).filter_map(|sighting| {
                let wrong = sighting.result.wrong().filter(|wrong| wrong.mentions(words))?;
                Some((sighting.test.clone(), wrong))
            });
            let (mut tests, signed): (Vec<_>, Vec<_>) =
                mentioning.map(|(test, wrong)| (test, wrong.is_named_by(words))).unzip();
            tests.sort();
            tests.dedup();
            let is_signed = !signed.is_empty() && !signed.contains(&false);
            return Some(Target::Words { words: words.to_owned(), tests, is_signed });
        }
        let failures = |trials: &[&'_ Trial]| -> Vec<(String, Failure)> {
            let sightings = trials.iter().flat_map(|trial| trial.seen());
            let wrong = sightings.filter_map(|sighting| match &sighting.result {
                TrialResult::Wrong(wrong) => Some((sighting.test.clone(), wrong.clone())),
                TrialResult::Passed
                | TrialResult::Complained(_)
                | TrialResult::Skipped { .. }
                | TrialResult::NoBoot { .. } => None,
            });
            wrong.collect()
        };
        let (seen, at_other) = (failures(failing), failures(passing));
        let n_like = |all: &[(String, Failure)], (test, wrong): &(String, Failure)| {
            all.iter().filter(|(other, of_other)| other == test && is_same(wrong, of_other)).count()
        };
        // `max_by_key` returns the last of equals, hence the reverse order.
        let meant = seen.iter().rev().max_by_key(|one| (n_like(&at_other, one) == 0, n_like(&seen, one)))?;
        Some(Target::Seen { test: meant.0.clone(), wrong: meant.1.clone() })
    }

    /// True if only failures with a kernel signature meet this target. Another bug hardly has the same one,
    /// so these are no chance failures.
    pub(crate) fn is_signed(&self) -> bool {
        match self {
            Target::Seen { wrong, .. } => match wrong.class {
                Class::Hang | Class::Timeout | Class::Crash | Class::Complaint => !wrong.signature.is_empty(),
                // Failures without a signature count as the same.
                Class::Failure | Class::Corruption => false,
            },
            Target::Words { is_signed, .. } => *is_signed,
            Target::Anything => false,
        }
    }

    /// The meaning of a trial for this search.
    pub fn observe(&self, trial: &Trial) -> Observation {
        let seen = match trial {
            Trial::Unbuildable { error } => {
                return Observation::Untestable(format!("does not build: {}", first_error(error)));
            }
            Trial::Ran { seen, .. } => seen,
        };
        if self.met_by(trial).is_some() {
            return Observation::Failed;
        }
        let (mut other, mut untestable, mut passed) = (None, None, false);
        for sighting in seen.iter().filter(|sighting| self.counts(sighting)) {
            match &sighting.result {
                TrialResult::Passed | TrialResult::Complained(_) => passed = true,
                // Not a skip: a kernel that did not boot may do so the next time, for instance when the host
                // is less busy.
                TrialResult::Wrong(_) | TrialResult::NoBoot { .. } => {
                    other = other.or(Some(sighting.in_short()))
                }
                TrialResult::Skipped { .. } => untestable = untestable.or(Some(sighting.in_short())),
            }
        }
        // Another failure may have hidden the target, and the skipped test may be the one that would show it.
        match (other, untestable) {
            (Some(other), _) => Observation::Other(other),
            (None, Some(untestable)) => Observation::Untestable(untestable),
            (None, None) if passed => Observation::Passed,
            (None, None) => Observation::Untestable("no test ran".to_owned()),
        }
    }

    /// The first test of a trial that failed as searched for.
    pub fn met_by<'t>(&self, trial: &'t Trial) -> Option<&'t Sighting> {
        trial.seen().iter().filter(|sighting| self.counts(sighting)).find(|sighting| {
            let wrong = sighting.result.wrong();
            wrong.is_some_and(|wrong| match self {
                Target::Anything => wrong.class != Class::Complaint,
                Target::Words { words, .. } => wrong.mentions(words),
                Target::Seen { wrong: of_end, .. } => is_same(of_end, wrong),
            })
        })
    }

    /// True if the result of this test matters for the target.
    fn counts(&self, sighting: &Sighting) -> bool {
        match self {
            Target::Seen { test, .. } => sighting.test == *test,
            Target::Words { tests, .. } => tests.is_empty() || tests.contains(&sighting.test),
            Target::Anything => true,
        }
    }

    /// The target in one line, for people.
    pub(crate) fn in_short(&self) -> String {
        match self {
            Target::Anything => "anything that goes wrong".to_owned(),
            Target::Words { words, .. } => format!("what mentions `{words}`"),
            Target::Seen { test, wrong } => format!("{test} {}", wrong.in_short()),
        }
    }
}

/// True if two failures are the same bug, as far as can be told.
fn is_same(a: &Failure, b: &Failure) -> bool {
    let stands_still: fn(Class) -> bool = |class| matches!(class, Class::Hang | Class::Timeout);
    // Whether a kernel report ends the guest (panic_on_warn and such) depends on settings, not on the bug.
    let is_report: fn(Class) -> bool = |class| matches!(class, Class::Crash | Class::Complaint);
    let both = |is: fn(Class) -> bool| is(a.class) && is(b.class);
    let same_class = a.class == b.class || both(stands_still) || both(is_report);
    if !same_class {
        return false;
    }
    match a.class {
        // Luck decides which data are damaged, and who notices first.
        Class::Corruption => true,
        Class::Failure => a.signature.is_empty() || b.signature.is_empty() || same_signature(a, b),
        Class::Hang | Class::Timeout | Class::Crash | Class::Complaint => {
            a.signature.is_empty() && a.class == b.class && b.signature.is_empty() || same_signature(a, b)
        }
    }
}

/// True if the first signature line of one failure is among those of the other, whichever task it belongs to;
/// or if both look like the same known issue.
fn same_signature(a: &Failure, b: &Failure) -> bool {
    let frames = |line: &str| line.split_once(": ").map_or(line, |(_, frames)| frames).to_owned();
    let has = |of: &Failure, first: Option<&String>| {
        first.is_some_and(|first| of.signature.iter().any(|line| frames(line) == frames(first)))
    };
    has(b, a.signature.first())
        || has(a, b.signature.first())
        || a.known_issues.iter().any(|issue| b.known_issues.contains(issue))
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
