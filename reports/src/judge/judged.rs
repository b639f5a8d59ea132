//! A test as it was judged: its verdict, what it rests on, what each of several tries came to; and these in
//! words.
//!
//! Deliberately not here: how the verdict comes about ([`super::attempt`], `tries.rs`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use protocol::{Outcome, TestId};

use crate::judge::expectations::{Because, Expectation};
use crate::judge::expected_outcome::ExpectedOutcome;
use crate::judge::known_issues::{IssueInfo, IssueMatch};
use crate::judge::rate::Rate;
use crate::judge::signature::{Signature, without_numbers};
use crate::judge::verdict::Verdict;

/// Ways to fail that a line names at most.
const MAX_WAYS: usize = 6;

/// One attempt, or one test that was never planned, and its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Number of the attempt, of several the one that shows most; `None` for a test that was selected and not
    /// planned.
    pub attempt: Option<u32>,
    /// Which test.
    pub test: TestId,
    /// On which kernel.
    pub kernel_idx: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// One short line for people; may hold a guest's words, as they came.
    pub detail: String,
    /// The expectation that was met or missed.
    pub expectation: Option<ExpectationMatch>,
    /// Titles of the kernel's reports that the test causes on purpose, with the reason.
    pub allowed: BTreeMap<String, String>,
    /// Signature of the hang or the crash, if one was seen.
    pub signature: Option<Signature>,
    /// Known issues that it looks like, the likeliest first.
    pub known_issues: Vec<IssueMatch>,
    /// Known issues that this test always runs into on this kernel, and did not this time.
    pub missing_issues: Vec<IssueInfo>,
    /// The outcome that the attempt really came to, by all that was seen; `None` if it did not finish.
    pub came_to: Option<Outcome>,
    /// True if the kernel's own reports alone would make it bad, whatever the test says.
    pub has_kernel_fault: bool,
    /// Each try by itself, if there were several; else empty.
    pub tries: Vec<Try>,
}

/// The expectation that a verdict met or missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectationMatch {
    /// True if what happened is what the entry expects.
    pub met: bool,
    /// The expected outcome, `fail`.
    pub outcome: String,
    /// Whose fault that is: `test`, `kernel` or `environment`.
    pub because: &'static str,
    /// Why it was expected.
    pub reason: String,
    /// File and line of the entry.
    pub place: String,
}

/// One of several tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// Number of its attempt.
    pub attempt: u32,
    /// The attempt that it repeats, because that one went wrong.
    pub retry_of: Option<u32>,
    /// The verdict on this try alone.
    pub verdict: Verdict,
    /// The outcome that the try really came to, by all that was seen.
    pub came_to: Option<Outcome>,
    /// True if a retry that passes makes up for it.
    pub is_redeemable: bool,
    /// The try in a line; may hold a guest's words, as they came.
    pub in_short: String,
    /// One short line for people, as of [`Judged::detail`].
    pub detail: String,
    /// Signature of its hang or crash.
    pub signature: Option<Signature>,
    /// Known issues that it looks like.
    pub known_issues: Vec<IssueMatch>,
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

    /// True if a retry that passes makes up for it: the test itself said that it failed, or the host did. A
    /// crash, a hang, changed data, and a fault that the kernel reported, have happened.
    pub fn is_redeemable(&self) -> bool {
        match self.verdict {
            Verdict::Infra | Verdict::Failed | Verdict::UnexpectedSkip => !self.has_kernel_fault,
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
        let n_failed = count(said().filter(|one| one.verdict.went_wrong()).count());
        Some(Rate { n_failed, n: count(said().count()) }).filter(|rate| rate.n > 0)
    }

    /// Lines about several tries: how each ended, and what their number shows; none for one try.
    pub fn tries_lines(&self) -> Vec<String> {
        if self.tries.is_empty() {
            return Vec::new();
        }
        let mut ways: BTreeMap<(Reverse<u32>, Verdict, String), usize> = BTreeMap::new();
        for one in &self.tries {
            let name = one.signature.as_ref().map(Signature::title).unwrap_or_default();
            *ways.entry((Reverse(one.verdict.rank()), one.verdict, name)).or_default() += 1;
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

/// In words.
impl Judged {
    /// Detail and expectation in one line.
    pub fn explanation(&self) -> String {
        let Some(expectation) = &self.expectation else { return self.detail.clone() };
        let ExpectationMatch { met, outcome, because: _, reason, place } = expectation;
        let about = if self.verdict == Verdict::UnexpectedPass {
            format!("expected `{outcome}` ({reason}); if it is fixed, remove {place}")
        } else if *met {
            format!("known: {reason}")
        } else {
            format!("not the expected `{outcome}` ({reason}), see {place}")
        };
        if self.detail.is_empty() { about } else { format!("{}; {about}", self.detail) }
    }

    /// Explanation, signature and known issue in one line.
    pub(crate) fn in_short(&self) -> String {
        let explanation = self.explanation();
        let headline = self.signature.as_ref().map_or_else(String::new, Signature::headline);
        let issue = self.issue_lines().into_iter().next().unwrap_or_default();
        // A crash's explanation is mostly the title of its report, which the signature begins with.
        let parts = if headline.starts_with(&explanation) {
            vec![headline, issue]
        } else if explanation.contains(&headline) || without_numbers(&explanation).contains(&headline) {
            vec![explanation, issue]
        } else {
            vec![explanation, headline, issue]
        };
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// A line for each known issue that the failure looks like; of a hang that looks like none, a line that
    /// says so.
    pub(crate) fn issue_lines(&self) -> Vec<String> {
        if !self.known_issues.is_empty() {
            return self.known_issues.iter().map(|matched| matched.sentence()).collect();
        }
        let is_news = match self.verdict {
            Verdict::Hung | Verdict::Crashed => self.signature.is_some(),
            Verdict::Passed
            | Verdict::PassedWithComplaints
            | Verdict::Failed
            | Verdict::Corrupted
            | Verdict::KnownFailure
            | Verdict::UnexpectedPass
            | Verdict::Flaky
            | Verdict::Skipped
            | Verdict::UnexpectedSkip
            | Verdict::NotRun
            | Verdict::Interrupted
            | Verdict::Infra => false,
        };
        if is_news { vec!["unknown signature: no known issue has it".to_owned()] } else { Vec::new() }
    }

    /// A line for each known issue that should have shown itself, and did not.
    pub(crate) fn missing_issue_lines(&self) -> Vec<String> {
        let line = |id: &str, title: &str| format!("known issue {id} did not strike this time: {title}");
        self.missing_issues.iter().map(|info| line(&info.id, &info.title)).collect()
    }
}

impl ExpectationMatch {
    /// A failure that the test's authors expect by their own word, `told`: no entry of ours says so.
    pub(crate) fn of_authors(told: &str) -> ExpectationMatch {
        ExpectationMatch {
            met: true,
            outcome: ExpectedOutcome::Fail.to_string(),
            // What they write is about their test, whatever they hold to be at fault.
            because: Because::Test.name(),
            reason: told.to_owned(),
            place: "the test's own output".to_owned(),
        }
    }

    /// The entry as a report shows it; `met` if what happened is what it expects.
    pub(crate) fn of(entry: &Expectation, met: bool) -> ExpectationMatch {
        ExpectationMatch {
            met,
            outcome: entry.outcome.to_string(),
            because: entry.because.name(),
            reason: entry.reason.clone(),
            place: entry.place.clone(),
        }
    }
}
