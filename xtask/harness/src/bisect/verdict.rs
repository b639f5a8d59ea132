//! What a trial means for a search: only what fails as the failing end did counts. Pure.
//!
//! The host's and the harness's errors never come here: they end a search, which can be resumed, and say nothing of a
//! commit.

use protocol::Outcome;
use reports::judge::signature::Signature;
use reports::{Judged, RunRecord, Verdict};
use serde::{Deserialize, Serialize};

use super::decide::Observation;

/// What came of testing one kernel: facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "came", rename_all = "kebab-case")]
pub enum Trial {
    /// There is no such kernel, by its source's doing.
    Unbuildable {
        /// In the compiler's words.
        error: String,
    },
    /// Tests ran.
    Ran {
        /// Folder of the run.
        run: String,
        /// Each test's, in the order of the plan.
        seen: Vec<Sighting>,
    },
}

/// What one test came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Name of the test.
    pub test: String,
    /// Folder of its logs, within the run's.
    pub dir: String,
    /// The command that tries it again.
    pub(crate) reproduce: Option<String>,
    /// Called `came` in files of searches (state.json).
    #[serde(rename = "came")]
    pub(crate) result: TrialResult,
}

/// What a test came to, as far as a search cares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "kebab-case")]
pub(crate) enum TrialResult {
    /// It passed.
    Passed,
    /// It passed, and the kernel or the test complained of something: that is a pass, unless it is searched for.
    Complained(Failure),
    /// It could not run on this kernel.
    Skipped { reason: String },
    /// The kernel never came so far as to run it.
    NoBoot { title: String },
    /// It went wrong.
    Wrong(Failure),
}

impl TrialResult {
    /// What went wrong, or was complained of.
    pub(crate) fn wrong(&self) -> Option<&Failure> {
        match self {
            TrialResult::Wrong(wrong) | TrialResult::Complained(wrong) => Some(wrong),
            TrialResult::Passed | TrialResult::Skipped { .. } | TrialResult::NoBoot { .. } => None,
        }
    }
}

/// How a test went wrong, or what it complained of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub(crate) class: Class,
    /// In a line.
    pub(crate) detail: String,
    /// A line for each task, or the kernel's report; may be empty.
    pub(crate) signature: Vec<String>,
    /// Known issues that it looks like.
    pub(crate) known_issues: Vec<String>,
    /// What it printed last.
    pub(crate) last_lines: Vec<String>,
}

/// In which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Class {
    Hang,
    Crash,
    Corruption,
    Failure,
    Timeout,
    Complaint,
}

impl Class {
    /// `hung`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Class::Hang => "hung",
            Class::Crash => "crashed",
            Class::Corruption => "corrupted",
            Class::Failure => "failed",
            Class::Timeout => "timed out",
            Class::Complaint => "passed, with complaints",
        }
    }
}

impl Failure {
    /// In a line, with what names it.
    pub(crate) fn in_short(&self) -> String {
        match self.signature.first() {
            Some(signature) => format!("{} ({signature})", self.class.word()),
            None if self.detail.is_empty() => self.class.word().to_owned(),
            None => format!("{} ({})", self.class.word(), self.detail),
        }
    }

    /// True if what names it holds these words.
    fn is_named_by(&self, words: &str) -> bool {
        self.signature.iter().chain(&self.known_issues).any(|text| text.contains(words))
    }

    fn mentions(&self, words: &str) -> bool {
        let texts = [&self.signature, &self.known_issues, &self.last_lines].into_iter().flatten();
        texts.chain([&self.detail]).any(|text| text.contains(words))
    }
}

impl Sighting {
    /// What an attempt came to; an error if that says nothing of the kernel.
    pub(crate) fn of(record: &RunRecord, judged: &Judged) -> Result<Sighting, NothingKnown> {
        let test = judged.test.to_string();
        let Some(attempt) = judged.attempt.and_then(|number| record.attempt(number)) else {
            let result = TrialResult::Skipped { reason: judged.detail.clone() };
            return Ok(Sighting { test, dir: String::new(), reproduce: None, result });
        };
        let dir = attempt.dir.clone();
        let reproduce = reports::render::words::reproduce::command(record, attempt);
        let (outcome, facts) = attempt.finished().ok_or(NothingKnown::Interrupted)?;
        let said = judged.came_to.as_ref().unwrap_or(outcome).detail();
        let what = |class| Failure {
            class,
            detail: match class {
                Class::Complaint => judged.detail.clone(),
                // Where the test itself says that all is well, the verdict says why it is not.
                _ if said.is_empty() => judged.detail.clone(),
                Class::Hang | Class::Crash | Class::Corruption | Class::Failure | Class::Timeout => {
                    said.clone()
                }
            },
            signature: judged.signature.as_ref().map(Signature::lines).unwrap_or_default(),
            known_issues: judged.known_issues.iter().map(|known| known.info.id.clone()).collect(),
            last_lines: facts.last_lines.clone(),
        };
        let result = match meaning(judged, judged.came_to.as_ref().unwrap_or(outcome))? {
            Meaning::Passed => TrialResult::Passed,
            Meaning::Wrong(Class::Complaint) => TrialResult::Complained(what(Class::Complaint)),
            Meaning::Skipped => TrialResult::Skipped { reason: judged.detail.clone() },
            // The guest was never ready, or md or what the test needs did not load.
            Meaning::Wrong(Class::Crash | Class::Hang | Class::Timeout) if !attempt.started => {
                TrialResult::NoBoot {
                    title: if said.is_empty() { judged.detail.clone() } else { said.clone() },
                }
            }
            Meaning::Wrong(class) => TrialResult::Wrong(what(class)),
            Meaning::Infra => return Err(NothingKnown::Infra(format!("{test}: {}", judged.detail))),
        };
        Ok(Sighting { test, dir, reproduce, result })
    }

    /// In a line.
    pub fn in_short(&self) -> String {
        match &self.result {
            TrialResult::Passed => "passed".to_owned(),
            TrialResult::Complained(wrong) => wrong.in_short(),
            TrialResult::Skipped { reason } => format!("skipped: {reason}"),
            TrialResult::NoBoot { title } => format!("does not boot: {title}"),
            TrialResult::Wrong(wrong) => wrong.in_short(),
        }
    }
}

/// What a verdict is to a search and to a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Passed,
    Wrong(Class),
    Skipped,
    /// Nothing: it is no trial.
    Infra,
}

/// The one place where good, bad and skip come from: the verdict of a run, whatever the test said of itself. A kernel
/// that oopsed under a test that passed is bad. What is expected somewhere is none the less wrong, and what was expected
/// says in which way.
fn meaning(judged: &Judged, outcome: &Outcome) -> Result<Meaning, NothingKnown> {
    Ok(match judged.verdict {
        Verdict::Passed => Meaning::Passed,
        Verdict::PassedWithComplaints => Meaning::Wrong(Class::Complaint),
        // A surprise is a pass, and its detail what was complained of.
        Verdict::UnexpectedPass if judged.detail.is_empty() => Meaning::Passed,
        Verdict::UnexpectedPass => Meaning::Wrong(Class::Complaint),
        Verdict::Failed => Meaning::Wrong(match outcome {
            Outcome::Timeout { .. } => Class::Timeout,
            Outcome::Pass
            | Outcome::Fail { .. }
            | Outcome::Skip { .. }
            | Outcome::Warn { .. }
            | Outcome::Hang { .. }
            | Outcome::KernelCrash { .. }
            | Outcome::DataCorruption { .. }
            | Outcome::Interrupted
            | Outcome::Infra { .. } => Class::Failure,
        }),
        Verdict::Hung => Meaning::Wrong(Class::Hang),
        Verdict::Crashed => Meaning::Wrong(Class::Crash),
        Verdict::Corrupted => Meaning::Wrong(Class::Corruption),
        Verdict::KnownFailure | Verdict::Flaky => Meaning::Wrong(expected_class(judged, outcome)),
        Verdict::Skipped | Verdict::UnexpectedSkip | Verdict::NotRun => Meaning::Skipped,
        Verdict::Interrupted => return Err(NothingKnown::Interrupted),
        Verdict::Infra => Meaning::Infra,
    })
}

/// In which way something went wrong that an expectation names.
fn expected_class(judged: &Judged, outcome: &Outcome) -> Class {
    match outcome {
        Outcome::Hang { .. } => Class::Hang,
        Outcome::KernelCrash { .. } => Class::Crash,
        Outcome::DataCorruption { .. } => Class::Corruption,
        Outcome::Timeout { .. } => Class::Timeout,
        Outcome::Fail { .. } => Class::Failure,
        // The test passed, and was judged by what was seen beside it.
        Outcome::Pass
        | Outcome::Warn { .. }
        | Outcome::Skip { .. }
        | Outcome::Interrupted
        | Outcome::Infra { .. } => match judged.expectation.as_ref().map(|entry| entry.outcome.as_str()) {
            Some("hang") => Class::Hang,
            Some("kernel-crash") => Class::Crash,
            Some("data-corruption") => Class::Corruption,
            Some("timeout") => Class::Timeout,
            Some(_) | None => Class::Failure,
        },
    }
}

/// Why nothing is known of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NothingKnown {
    /// The user ended it.
    #[error("interrupted")]
    Interrupted,
    /// The harness or the host failed.
    #[error("{0}")]
    Infra(String),
}

/// The failure that is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// As it was seen at the failing end.
    Seen {
        /// Of this test.
        test: String,
        /// In this way.
        wrong: Failure,
    },
    /// What mentions these words.
    Words {
        /// Words of the report that is searched for.
        words: String,
        /// Of these tests, which showed it at the failing end; of any, where no end is known.
        tests: Vec<String>,
        /// True if it was the kernel's own report that mentions them, and not a test's.
        is_signed: bool,
    },
    /// Whatever goes wrong: for whoever knows what the tests do otherwise.
    Anything,
}

impl Target {
    /// What mentions `words`, of any test.
    pub fn words(words: String) -> Target {
        Target::Words { words, tests: Vec::new(), is_signed: false }
    }

    /// The failure that is meant, from the trials of the failing end, in order. Without `words` it is the one that most of
    /// them show, lest a chance failure becomes the question; of two that are as frequent, the one that came first.
    /// What `passing`, the trials of the other end, show as well is meant only if there is nothing else.
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
        // The last of equals is taken, so from behind.
        let meant = seen.iter().rev().max_by_key(|one| (n_like(&at_other, one) == 0, n_like(&seen, one)))?;
        Some(Target::Seen { test: meant.0.clone(), wrong: meant.1.clone() })
    }

    /// True if only a failure counts that bears the kernel's own mark, which another bug hardly has.
    pub(crate) fn is_signed(&self) -> bool {
        match self {
            Target::Seen { wrong, .. } => match wrong.class {
                Class::Hang | Class::Timeout | Class::Crash | Class::Complaint => !wrong.signature.is_empty(),
                // What has none counts as the same.
                Class::Failure | Class::Corruption => false,
            },
            Target::Words { is_signed, .. } => *is_signed,
            Target::Anything => false,
        }
    }

    /// What a trial means.
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
                // It may boot the next time: on a host that starves, the best kernel takes too long.
                TrialResult::Wrong(_) | TrialResult::NoBoot { .. } => {
                    other = other.or(Some(sighting.in_short()))
                }
                TrialResult::Skipped { .. } => untestable = untestable.or(Some(sighting.in_short())),
            }
        }
        // What failed otherwise may have hidden what is searched for, and it may be the test that was skipped that shows it.
        match (other, untestable) {
            (Some(other), _) => Observation::Other(other),
            (None, Some(untestable)) => Observation::Untestable(untestable),
            (None, None) if passed => Observation::Passed,
            (None, None) => Observation::Untestable("no test ran".to_owned()),
        }
    }

    /// What shows in a trial that it failed in the way that is searched for.
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

    /// True if what this test comes to matters.
    fn counts(&self, sighting: &Sighting) -> bool {
        match self {
            Target::Seen { test, .. } => sighting.test == *test,
            Target::Words { tests, .. } => tests.is_empty() || tests.contains(&sighting.test),
            Target::Anything => true,
        }
    }

    /// In a line, for people.
    pub(crate) fn in_short(&self) -> String {
        match self {
            Target::Anything => "anything that goes wrong".to_owned(),
            Target::Words { words, .. } => format!("what mentions `{words}`"),
            Target::Seen { test, wrong } => format!("{test} {}", wrong.in_short()),
        }
    }
}

impl Trial {
    /// What each test came to.
    pub(crate) fn seen(&self) -> &[Sighting] {
        match self {
            Trial::Unbuildable { .. } => &[],
            Trial::Ran { seen, .. } => seen,
        }
    }

    /// What it means before any failure was seen: of the failing end only.
    pub(crate) fn observe_unlocked(&self) -> Observation {
        Target::Anything.observe(self)
    }
}

/// True if both are the same bug, as far as can be told.
fn is_same(a: &Failure, b: &Failure) -> bool {
    let stands_still: fn(Class) -> bool = |class| matches!(class, Class::Hang | Class::Timeout);
    // Whether a report ends the kernel is a setting's choice.
    let is_report: fn(Class) -> bool = |class| matches!(class, Class::Crash | Class::Complaint);
    let both = |is: fn(Class) -> bool| is(a.class) && is(b.class);
    let same_class = a.class == b.class || both(stands_still) || both(is_report);
    if !same_class {
        return false;
    }
    match a.class {
        // What is damaged, and who notices first, is a matter of luck.
        Class::Corruption => true,
        Class::Failure => a.signature.is_empty() || b.signature.is_empty() || same_signature(a, b),
        Class::Hang | Class::Timeout | Class::Crash | Class::Complaint => {
            a.signature.is_empty() && a.class == b.class && b.signature.is_empty() || same_signature(a, b)
        }
    }
}

/// The most telling line of one is among those of the other; which task it is does not matter. Or both look like the
/// same known issue.
fn same_signature(a: &Failure, b: &Failure) -> bool {
    let frames = |line: &str| line.split_once(": ").map_or(line, |(_, frames)| frames).to_owned();
    let has = |of: &Failure, first: Option<&String>| {
        first.is_some_and(|first| of.signature.iter().any(|line| frames(line) == frames(first)))
    };
    has(b, a.signature.first())
        || has(a, b.signature.first())
        || a.known_issues.iter().any(|issue| b.known_issues.contains(issue))
}

/// The compiler's first complaint, or else the first words.
pub(crate) fn first_error(text: &str) -> &str {
    let lines = || text.lines().map(|line| line.trim_start_matches([' ', '|']).trim());
    let complaint = lines().find(|line| line.contains("error:"));
    complaint.or_else(|| lines().find(|line| !line.is_empty())).unwrap_or("without a word")
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
