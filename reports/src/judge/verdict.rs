//! Judges a record: what each outcome means, given what was expected.
//!
//! Pure, so that a finished run can be judged again by newer expectations and known issues. A known
//! issue explains a verdict and never changes it. Deliberately not here: comparison with earlier runs.

use std::collections::BTreeMap;
use std::fmt;

use protocol::event::{AttemptFacts, Blame};
use protocol::evidence::{KernelReport, ReportKind};
use protocol::{Outcome, TestId};

use crate::faults::{Class, Policy, Weight};
use crate::judge::allowance::Allowances;
use crate::judge::came_to::{self, Beside};
use crate::judge::expectations::{Expectation, Expectations, Shown};
use crate::judge::kernel_version::Version;
use crate::judge::known_issues::{About, Evidence, KnownIssues, Match};
use crate::judge::signature::Signature;
use crate::judge::tries::{self, Try};
use crate::record::{Attempt, AttemptState, Remark, RunEnd, RunRecord};

/// What an attempt means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It passed, and nothing was wrong.
    Passed,
    /// It passed, and the test or the kernel complained of something that fails no run.
    PassedWithComplaints,
    /// It failed, or was still busy at its time limit (slow is not stuck), or the kernel found a fault in md or dm.
    Failed,
    /// It stopped moving, or left behind what nobody can kill.
    Hung,
    /// The kernel crashed, or ran into a fault after which nothing can be relied on.
    Crashed,
    /// Data came back changed.
    Corrupted,
    /// It went wrong in the way that an expectation names.
    KnownFailure,
    /// It passed, though an expectation says that it does not.
    UnexpectedPass,
    /// It went wrong in the way of an expectation that allows a pass as well; or it went wrong, and passed when it
    /// was tried again.
    Flaky,
    /// It could not run here, as an expectation says.
    Skipped,
    /// It could not run here, and nothing says why: what looks like a pass tested nothing.
    UnexpectedSkip,
    /// It was never tried.
    NotRun,
    /// It was ended before it came to anything.
    Interrupted,
    /// The harness or the host failed it.
    Infra,
}

/// One attempt, or one test that was never planned, and its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Number of the attempt, of several the one that shows most; `None` for a test that was selected and not planned.
    pub attempt: Option<u32>,
    /// Which test.
    pub test: TestId,
    /// On which kernel.
    pub kernel_idx: u32,
    /// What it means.
    pub verdict: Verdict,
    /// One short line for people; may hold a guest's words, as they came.
    pub detail: String,
    /// The expectation that was met or missed.
    pub expectation: Option<Judgement>,
    /// Titles of the kernel's reports that the test causes on purpose, with the reason.
    pub allowed: BTreeMap<String, String>,
    /// What names the hang or the crash, if one was seen.
    pub signature: Option<Signature>,
    /// Known issues that it looks like, the likeliest first.
    pub known_issues: Vec<Match>,
    /// Known issues that this test should have met on this kernel, and did not.
    pub not_struck: Vec<About>,
    /// What it really came to, by all that was seen; nothing if it came to nothing.
    pub came_to: Option<Outcome>,
    /// True if the kernel's own reports alone would make it bad, whatever the test says.
    pub is_the_kernels: bool,
    /// What each try came to, if there were several.
    pub tries: Vec<Try>,
}

/// What an expectation had to do with a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// True if what happened is what was expected.
    pub met: bool,
    /// What was expected, `fail`.
    pub outcome: String,
    /// Why it was expected.
    pub reason: String,
    /// File and line of the entry.
    pub place: String,
}

impl Verdict {
    /// All verdicts, in the order in which reports count them.
    pub const ALL: [Verdict; 14] = [
        Verdict::Passed,
        Verdict::PassedWithComplaints,
        Verdict::Failed,
        Verdict::Hung,
        Verdict::Crashed,
        Verdict::Corrupted,
        Verdict::KnownFailure,
        Verdict::UnexpectedPass,
        Verdict::Flaky,
        Verdict::Skipped,
        Verdict::UnexpectedSkip,
        Verdict::NotRun,
        Verdict::Interrupted,
        Verdict::Infra,
    ];

    /// True if this alone makes a run fail. An unexpected pass does not (it is good news, and a
    /// stale entry), nor does a flaky test; infra errors and interruptions are told apart by
    /// [`RunResult`](crate::RunResult).
    pub fn is_bad(self) -> bool {
        match self {
            Verdict::Failed
            | Verdict::Hung
            | Verdict::Crashed
            | Verdict::Corrupted
            | Verdict::UnexpectedSkip => true,
            Verdict::Passed
            | Verdict::PassedWithComplaints
            | Verdict::KnownFailure
            | Verdict::UnexpectedPass
            | Verdict::Flaky
            | Verdict::Skipped
            | Verdict::NotRun
            | Verdict::Interrupted
            | Verdict::Infra => false,
        }
    }

    /// True if a report should explain it at length: all that is bad, and broken machinery.
    pub fn needs_explaining(self) -> bool {
        self.is_bad() || self == Verdict::Infra
    }

    /// True if the test was carried out, so that its verdict says something about the kernel.
    pub fn says_something(self) -> bool {
        match self {
            Verdict::Passed
            | Verdict::PassedWithComplaints
            | Verdict::Failed
            | Verdict::Hung
            | Verdict::Crashed
            | Verdict::Corrupted
            | Verdict::KnownFailure
            | Verdict::UnexpectedPass
            | Verdict::Flaky => true,
            Verdict::Skipped
            | Verdict::UnexpectedSkip
            | Verdict::NotRun
            | Verdict::Interrupted
            | Verdict::Infra => false,
        }
    }

    /// The verdict's name in files, `known-failure`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::PassedWithComplaints => "passed-with-complaints",
            Verdict::Failed => "failed",
            Verdict::Hung => "hung",
            Verdict::Crashed => "crashed",
            Verdict::Corrupted => "corrupted",
            Verdict::KnownFailure => "known-failure",
            Verdict::UnexpectedPass => "unexpected-pass",
            Verdict::Flaky => "flaky",
            Verdict::Skipped => "skipped",
            Verdict::UnexpectedSkip => "unexpected-skip",
            Verdict::NotRun => "not-run",
            Verdict::Interrupted => "interrupted",
            Verdict::Infra => "infra",
        }
    }
}

/// The verdict in words, `known failure`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Infra => f.pad("infra error"),
            Verdict::PassedWithComplaints => f.pad("complained"),
            Verdict::Passed
            | Verdict::Failed
            | Verdict::Hung
            | Verdict::Crashed
            | Verdict::Corrupted
            | Verdict::KnownFailure
            | Verdict::UnexpectedPass
            | Verdict::Flaky
            | Verdict::Skipped
            | Verdict::UnexpectedSkip
            | Verdict::NotRun
            | Verdict::Interrupted => f.pad(&self.name().replace('-', " ")),
        }
    }
}

/// Judges every test, in the order of the plan: all tries of one on one kernel together. Then every test that was not
/// planned.
/// `expectations` are by suite; a suite without an entry expects every test to pass.
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
        not_struck: Vec::new(),
        came_to: None,
        is_the_kernels: false,
        tries: Vec::new(),
    });
    tries::fold(record, attempts.collect()).into_iter().chain(not_planned).collect()
}

/// Judges one attempt of `record`, as far as it has come.
pub fn judge_one(
    record: &RunRecord,
    attempt: &Attempt,
    expectations: &BTreeMap<String, Expectations>,
    known_issues: &KnownIssues,
) -> Judged {
    let release = record.kernels.get(&attempt.kernel_idx).map(|kernel| kernel.release.as_str());
    let about: Vec<&Expectation> = expectations
        .get(attempt.test.suite())
        .map_or_else(Vec::new, |suite| suite.about(&attempt.test, release).collect());
    // What the test causes on purpose says nothing.
    let allowances = Allowances::of(attempt, release, expectations.get(attempt.test.suite()));
    let allowed = |title: &str| allowances.reason(title).is_some();
    let version = record.kernels.get(&attempt.kernel_idx).and_then(Version::of);
    let policy = &record.run.policy;
    let reports: Vec<_> = attempt
        .kernel_reports
        .iter()
        .filter(|report| !allowed(&report.title))
        .map(|report| (report, policy.weigh(report)))
        .collect();
    let (came_to, recognised, (verdict, detail, expectation)) = match &attempt.state {
        AttemptState::Finished { outcome, facts } => {
            let beside = Beside { facts, stacks: &attempt.stacks, reports: &reports };
            let came_to = came_to::came_to(outcome, &beside);
            let recognised =
                recognise(attempt, (outcome, facts), &came_to, version.as_ref(), known_issues, &allowed);
            let remarks = &attempt.remarks;
            let seen =
                Seen { recognised: &recognised, remarks, reports: &reports, allowed: &allowed, policy };
            let judging = judge_outcome(outcome, &came_to, facts, &seen, &about);
            (Some(came_to), recognised, judging)
        }
        AttemptState::NotStarted => (None, Recognised::default(), judge_unfinished(false, record.end)),
        AttemptState::Running => (None, Recognised::default(), judge_unfinished(true, record.end)),
    };
    let Recognised { signature, known_issues, not_struck } = recognised;
    Judged {
        attempt: Some(attempt.number),
        test: attempt.test.clone(),
        kernel_idx: attempt.kernel_idx,
        verdict,
        detail,
        expectation,
        allowed: attempt
            .kernel_reports
            .iter()
            .filter_map(|report| Some((report.title.clone(), allowances.reason(&report.title)?.to_owned())))
            .collect(),
        signature,
        known_issues,
        not_struck,
        came_to,
        is_the_kernels: reports.iter().any(|(_, weight)| *weight < Weight::Complaint),
        tries: Vec::new(),
    }
}

/// What is known of what was seen.
#[derive(Default)]
struct Recognised {
    signature: Option<Signature>,
    known_issues: Vec<Match>,
    not_struck: Vec<About>,
}

/// `came_to` is what the attempt that finished with `outcome` really came to.
fn recognise(
    attempt: &Attempt,
    (outcome, facts): (&Outcome, &AttemptFacts),
    came_to: &Outcome,
    version: Option<&Version>,
    known_issues: &KnownIssues,
    allowed: &dyn Fn(&str) -> bool,
) -> Recognised {
    let Attempt { test, stacks, kernel_reports: reports, .. } = attempt;
    let has_unkillable = facts.survivors.iter().any(|survivor| survivor.unkillable);
    let matching = |outcome: &Outcome| {
        known_issues.matching(&Evidence { test, outcome, stacks, reports, has_unkillable, version })
    };
    // A hang behind a task that died is a crash, and the issue that hangs is known by the hang.
    let matching =
        || Some(matching(came_to)).filter(|found| !found.is_empty()).unwrap_or_else(|| matching(outcome));
    let not_struck = || known_issues.that_strike(&attempt.test, version).cloned().collect();
    // What a test causes on purpose does not name what went wrong.
    let on_its_own: Vec<_> = reports.iter().filter(|report| !allowed(&report.title)).cloned().collect();
    let other_failure = Outcome::Fail { how: String::new() };
    let named_by = match came_to {
        Outcome::DataCorruption { title } if allowed(title) => &other_failure,
        other => other,
    };
    let signature = Signature::of(named_by, stacks, &on_its_own);
    match came_to {
        Outcome::Pass | Outcome::Warn { .. } => {
            // A pass says nothing of hangs, but a kernel that complained may have shown a bug.
            let known_issues = if reports.is_empty() { Vec::new() } else { matching() };
            Recognised { signature, known_issues, not_struck: not_struck() }
        }
        Outcome::Fail { .. }
        | Outcome::Timeout { .. }
        | Outcome::Hang { .. }
        | Outcome::KernelCrash { .. }
        | Outcome::DataCorruption { .. } => {
            Recognised { signature, known_issues: matching(), not_struck: Vec::new() }
        }
        Outcome::Skip { .. } | Outcome::Interrupted | Outcome::Infra { .. } => Recognised::default(),
    }
}

/// What an attempt means, in words, and the expectation that was met or missed.
type Judging = (Verdict, String, Option<Judgement>);

/// The same of one that came to nothing.
fn judge_unfinished(has_begun: bool, end: RunEnd) -> Judging {
    let words = |finished: &str, interrupted: &str, cut: &str| match end {
        RunEnd::Finished => finished.to_owned(),
        RunEnd::Interrupted => interrupted.to_owned(),
        RunEnd::Cut => cut.to_owned(),
    };
    if !has_begun {
        let detail = words(
            "planned, but never started",
            "the run was interrupted before it",
            "the events end before it",
        );
        return (Verdict::NotRun, detail, None);
    }
    let detail = words(
        "the run ended and this attempt never did",
        "the run was interrupted during it",
        "the events end during it",
    );
    let verdict = match end {
        RunEnd::Finished => Verdict::Infra,
        RunEnd::Interrupted | RunEnd::Cut => Verdict::Interrupted,
    };
    (verdict, detail, None)
}

/// What was seen beside the outcome.
struct Seen<'a> {
    recognised: &'a Recognised,
    remarks: &'a [Remark],
    /// What the kernel reported and nobody allows, and what it weighs.
    reports: &'a [(&'a KernelReport, Weight)],
    /// True for the title of a report that the test causes on purpose.
    allowed: &'a dyn Fn(&str) -> bool,
    policy: &'a Policy,
}

impl Seen<'_> {
    /// What the kernel complained of, in a line.
    fn complaint(&self) -> Option<String> {
        let all: Vec<_> = self
            .reports
            .iter()
            .map(|(report, _)| &report.title)
            .chain(self.remarks_on_the_kernel())
            .collect();
        match all.as_slice() {
            [] => None,
            [one] => Some((*one).clone()),
            [first, rest @ ..] => Some(format!("{first}, and {} more", rest.len())),
        }
    }

    /// A report that fails a run, and that an entry which is met does not excuse: neither does the entry name it, nor does
    /// what it expects bring it along.
    fn beyond(&self, came_to: &Outcome, entry: &Expectation) -> Option<&KernelReport> {
        let faults = self.reports.iter().filter(|(_, weight)| *weight < Weight::Complaint);
        faults
            .map(|(report, _)| *report)
            .find(|report| !comes_along(came_to, report.kind) && !entry.names(&report.title))
    }

    /// What the harness noticed of the kernel, which it did not report itself.
    fn remarks_on_the_kernel(&self) -> impl Iterator<Item = &String> {
        self.remarks.iter().filter(|remark| remark.blame == Blame::Kernel).map(|remark| &remark.text)
    }

    /// What `--fail-on` makes a failure of, and is no report of the kernel's.
    fn failing_otherwise(&self, came_to: &Outcome) -> Option<String> {
        let fails = |class| self.policy.weigh_class(class, false) < Weight::Complaint;
        let warning = match came_to {
            Outcome::Warn { warning } if fails(Class::TestWarning) => Some(warning.clone()),
            _ => None,
        };
        warning.or_else(|| self.remarks_on_the_kernel().next().filter(|_| fails(Class::KernelLog)).cloned())
    }
}

/// True if reports of this kind are no news beside what an attempt came to: after a crash any may follow, a hang is what the
/// kernel's own watchdogs speak of, and changed data shows in more than one place.
fn comes_along(came_to: &Outcome, kind: ReportKind) -> bool {
    match came_to {
        Outcome::KernelCrash { .. } => true,
        Outcome::Hang { .. } => kind.is_a_stall(),
        Outcome::DataCorruption { .. } => kind == ReportKind::Corruption,
        Outcome::Pass
        | Outcome::Fail { .. }
        | Outcome::Skip { .. }
        | Outcome::Warn { .. }
        | Outcome::Timeout { .. }
        | Outcome::Interrupted
        | Outcome::Infra { .. } => false,
    }
}

/// `outcome` is what was recorded, `came_to` what it really came to.
fn judge_outcome(
    outcome: &Outcome,
    came_to: &Outcome,
    facts: &AttemptFacts,
    seen: &Seen<'_>,
    about: &[&Expectation],
) -> Judging {
    let detail = match (came_to.detail(), came_to::own_words(outcome)) {
        (detail, _) if came_to == outcome => detail,
        (detail, own) if detail.contains(&own) => detail,
        (detail, own) => format!("{detail}; {own}"),
    };
    let signature = seen.recognised.signature.as_ref().map(Signature::lines).unwrap_or_default();
    let known_issues: Vec<_> =
        seen.recognised.known_issues.iter().map(|issue| issue.about.id.as_str()).collect();
    let shown = Shown { last_lines: &facts.last_lines, signature: &signature, known_issues: &known_issues };
    let met = about.iter().copied().find(|entry| entry.is_met_by(came_to, shown));
    // It went wrong as it was expected to, and the kernel reports another fault: that is news.
    let beyond = met.and_then(|entry| seen.beyond(came_to, entry));
    let met = met.filter(|_| beyond.is_none());
    let detail = match beyond {
        Some(report) if !detail.contains(&report.title) => format!("{detail}; {}", report.title),
        Some(_) | None => detail,
    };
    let went_wrong = |verdict| {
        let verdict = match met {
            Some(entry) if entry.flaky => Verdict::Flaky,
            Some(_) => Verdict::KnownFailure,
            None => verdict,
        };
        // One that was missed is worth naming: the test fails in another way than it used to.
        let entry = met.or(about.first().copied());
        (verdict, detail.clone(), entry.map(|entry| Judgement::of(entry, met.is_some())))
    };
    match came_to {
        Outcome::Pass | Outcome::Warn { .. } if let Some(how) = seen.failing_otherwise(came_to) => {
            (Verdict::Failed, format!("{how}; {}", came_to::own_words(outcome)), None)
        }
        Outcome::Pass => match seen.complaint() {
            None => judge_pass(Verdict::Passed, String::new(), None, about),
            Some(complaint) => judge_pass(Verdict::PassedWithComplaints, complaint, None, about),
        },
        Outcome::Warn { .. } => judge_pass(Verdict::PassedWithComplaints, detail, met, about),
        Outcome::Skip { .. } => match met {
            Some(entry) => (Verdict::Skipped, detail, Some(Judgement::of(entry, true))),
            None => {
                let missed = about.first().map(|entry| Judgement::of(entry, false));
                (Verdict::UnexpectedSkip, detail, missed)
            }
        },
        Outcome::Fail { .. } | Outcome::Timeout { .. } => went_wrong(Verdict::Failed),
        Outcome::Hang { .. } => went_wrong(Verdict::Hung),
        Outcome::KernelCrash { .. } => went_wrong(Verdict::Crashed),
        // A test that corrupts on purpose shows what it corrupted when it fails of something else.
        Outcome::DataCorruption { title } if (seen.allowed)(title) => went_wrong(Verdict::Failed),
        Outcome::DataCorruption { .. } => went_wrong(Verdict::Corrupted),
        Outcome::Interrupted => (Verdict::Interrupted, "the run was interrupted during it".to_owned(), None),
        Outcome::Infra { .. } => (Verdict::Infra, detail, None),
    }
}

/// A pass is a surprise if something else is expected and no entry allows it.
fn judge_pass(
    verdict: Verdict,
    detail: String,
    met: Option<&Expectation>,
    about: &[&Expectation],
) -> Judging {
    match (met, about.first()) {
        (Some(entry), _) => (verdict, detail, Some(Judgement::of(entry, true))),
        (None, Some(entry)) if entry.must && !entry.flaky => {
            let detail =
                if detail.is_empty() { "it passed".to_owned() } else { format!("it passed; {detail}") };
            (Verdict::Failed, detail, Some(Judgement::of(entry, false)))
        }
        (None, Some(entry)) if about.iter().all(|entry| !entry.flaky) => {
            (Verdict::UnexpectedPass, detail, Some(Judgement::of(entry, false)))
        }
        (None, Some(_) | None) => (verdict, detail, None),
    }
}

impl Judgement {
    fn of(entry: &Expectation, met: bool) -> Judgement {
        Judgement {
            met,
            outcome: entry.outcome.to_string(),
            reason: entry.reason.clone(),
            place: entry.place.clone(),
        }
    }
}

impl Judged {
    /// Detail and expectation in one line.
    pub fn explanation(&self) -> String {
        let Some(expectation) = &self.expectation else { return self.detail.clone() };
        let Judgement { met, outcome, reason, place } = expectation;
        let about = if self.verdict == Verdict::UnexpectedPass {
            format!("expected `{outcome}` ({reason}); if it is fixed, remove {place}")
        } else if *met {
            format!("known: {reason}")
        } else {
            format!("not the expected `{outcome}` ({reason}), see {place}")
        };
        if self.detail.is_empty() { about } else { format!("{}; {about}", self.detail) }
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
