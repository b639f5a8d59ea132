//! Facts about one kernel: how each of its tests ended, and whether that counts as a pass, a failure or a
//! skip. Pure.
//!
//! Deliberately not here: which failure is searched for ([`super::target`]); errors of the host and the
//! harness, which end a search that can be continued, and say nothing of a commit (`NothingKnown`).

use protocol::Outcome;
use reports::judge::signature::Signature;
use reports::{Judged, RunRecord, Verdict};
use serde::{Deserialize, Serialize};

/// Result of testing one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "came", rename_all = "kebab-case")]
pub enum Trial {
    /// The kernel could not be built, because of its source.
    Unbuildable {
        /// Output of the compiler.
        error: String,
    },
    /// The kernel was built, and a run tested it.
    Ran {
        /// Folder of the run.
        run: String,
        /// Result of each test, in the order of the plan.
        seen: Vec<Sighting>,
    },
}

impl Trial {
    /// Results of the tests; none if the kernel could not be built.
    pub(crate) fn seen(&self) -> &[Sighting] {
        match self {
            Trial::Unbuildable { .. } => &[],
            Trial::Ran { seen, .. } => seen,
        }
    }
}

/// Result of one test on one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Name of the test.
    pub test: String,
    /// Folder of its logs, relative to the run's folder.
    pub dir: String,
    /// Command that runs the test again on this kernel.
    pub(crate) reproduce: Option<String>,
    /// How the test ended. Called `came` in state.json.
    #[serde(rename = "came")]
    pub(crate) result: TrialResult,
}

/// How a test ended, as far as a search needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "kebab-case")]
pub(crate) enum TrialResult {
    /// The test passed.
    Passed,
    /// The test passed, but the kernel or the test complained. That is a pass, unless the complaint is
    /// searched for.
    Complained(Failure),
    /// The test could not run on this kernel.
    Skipped { reason: String },
    /// The guest was never ready to run the test.
    NoBoot { title: String },
    /// The test failed, hung, crashed the kernel or corrupted data.
    Wrong(Failure),
}

impl TrialResult {
    /// The failure or complaint, if there is one.
    pub(crate) fn wrong(&self) -> Option<&Failure> {
        match self {
            TrialResult::Wrong(wrong) | TrialResult::Complained(wrong) => Some(wrong),
            TrialResult::Passed | TrialResult::Skipped { .. } | TrialResult::NoBoot { .. } => None,
        }
    }
}

/// A failure, or a complaint of a test that passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub(crate) class: Class,
    /// Description in one line.
    pub(crate) detail: String,
    /// Kernel signature: a line for each blocked task, or the title of the kernel's report. Empty if the
    /// kernel said nothing.
    pub(crate) signature: Vec<String>,
    /// Ids of known issues that the failure looks like.
    pub(crate) known_issues: Vec<String>,
    /// Last lines of the test's output.
    pub(crate) last_lines: Vec<String>,
}

/// Kind of a failure.
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
    /// The kind as a word in a sentence, such as `hung`.
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
    /// The failure in one line, with its signature or else its description.
    pub(crate) fn in_short(&self) -> String {
        match self.signature.first() {
            Some(signature) => format!("{} ({signature})", self.class.word()),
            None if self.detail.is_empty() => self.class.word().to_owned(),
            None => format!("{} ({})", self.class.word(), self.detail),
        }
    }

    /// True if the signature or a known issue contains `words`.
    pub(super) fn is_named_by(&self, words: &str) -> bool {
        self.signature.iter().chain(&self.known_issues).any(|text| text.contains(words))
    }

    pub(super) fn mentions(&self, words: &str) -> bool {
        let texts = [&self.signature, &self.known_issues, &self.last_lines].into_iter().flatten();
        texts.chain([&self.detail]).any(|text| text.contains(words))
    }
}

impl Sighting {
    /// The result of a judged test; an error if it says nothing of the kernel.
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
                // The outcome has no text of its own if the test itself reported a pass; then the verdict
                // says what was wrong.
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
            // The guest was not ready, or md or a module that the test needs did not load.
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

    /// The result in one line.
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

/// Meaning of a verdict for a search and for a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Passed,
    Wrong(Class),
    Skipped,
    /// The attempt says nothing of the kernel.
    Infra,
}

/// The one place that decides between good, bad and skip: by the verdict of a run, whatever the test itself
/// reported. A kernel that oopsed during a passing test is bad. An expected failure is a failure, too; the
/// expectation tells its class.
fn meaning(judged: &Judged, outcome: &Outcome) -> Result<Meaning, NothingKnown> {
    Ok(match judged.verdict {
        Verdict::Passed => Meaning::Passed,
        Verdict::PassedWithComplaints => Meaning::Wrong(Class::Complaint),
        // The detail of an unexpected pass is the complaint, if there was one.
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

/// Class of a failure that an expectation names.
fn expected_class(judged: &Judged, outcome: &Outcome) -> Class {
    match outcome {
        Outcome::Hang { .. } => Class::Hang,
        Outcome::KernelCrash { .. } => Class::Crash,
        Outcome::DataCorruption { .. } => Class::Corruption,
        Outcome::Timeout { .. } => Class::Timeout,
        Outcome::Fail { .. } => Class::Failure,
        // The test itself passed, and was judged by what else was observed.
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

/// Why a run says nothing of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NothingKnown {
    /// The user interrupted it.
    #[error("interrupted")]
    Interrupted,
    /// The harness or the host failed, in these words.
    #[error("{0}")]
    Infra(String),
}

/// The compiler's first error, or else the first non-empty line.
pub(crate) fn first_error(text: &str) -> &str {
    let lines = || text.lines().map(|line| line.trim_start_matches([' ', '|']).trim());
    let complaint = lines().find(|line| line.contains("error:"));
    complaint.or_else(|| lines().find(|line| !line.is_empty())).unwrap_or("without a word")
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
