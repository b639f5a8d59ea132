//! Judges one attempt: what its outcome means, given what the kernel reported and what was expected.
//!
//! A known issue explains a verdict and never changes it. Deliberately not here: what several tries of one
//! test come to (`tries.rs`).

use std::collections::BTreeMap;

use protocol::Outcome;
use protocol::event::{AttemptFacts, Blame};
use protocol::evidence::{KernelReport, ReportKind};

use crate::faults::{FaultClass, Policy, Severity};
use crate::judge::allowance::Allowances;
use crate::judge::came_to::{self, Observations};
use crate::judge::expectations::{AttemptTexts, Expectation, Expectations, KernelFacts};
use crate::judge::judged::{ExpectationMatch, Judged};
use crate::judge::kernel_version::Version;
use crate::judge::known_issues::{IssueInfo, IssueMatch, KnownIssues, Symptoms};
use crate::judge::signature::Signature;
use crate::judge::verdict::Verdict;
use crate::record::{Attempt, AttemptState, Remark, RunEnd, RunRecord};

/// Judges one attempt of `record`, as far as it has come.
pub fn judge_one(
    record: &RunRecord,
    attempt: &Attempt,
    expectations: &BTreeMap<String, Expectations>,
    known_issues: &KnownIssues,
) -> Judged {
    let release = record.kernels.get(&attempt.kernel_idx).map(|kernel| kernel.release.as_str());
    let version = record.kernels.get(&attempt.kernel_idx).and_then(Version::of);
    let facts_of_kernel = KernelFacts { release, version: version.as_ref() };
    let entries: Vec<&Expectation> = expectations
        .get(attempt.test.suite())
        .map_or_else(Vec::new, |suite| suite.about(&attempt.test, facts_of_kernel).collect());
    // What the test causes on purpose says nothing.
    let allowances = Allowances::of(attempt, release, expectations.get(attempt.test.suite()));
    let allowed = |title: &str| allowances.reason(title).is_some();
    let policy = &record.run.policy;
    let reports: Vec<_> = attempt
        .kernel_reports
        .iter()
        .filter(|report| !allowed(&report.title))
        .map(|report| (report, policy.severity_of(report)))
        .collect();
    let (came_to, recognised, (verdict, detail, expectation)) = match &attempt.state {
        AttemptState::Finished { outcome, facts } => {
            let observed = Observations { facts, stacks: &attempt.stacks, reports: &reports };
            let came_to = came_to::came_to(outcome, &observed);
            let recognised =
                recognise(attempt, (outcome, facts), &came_to, version.as_ref(), known_issues, &allowed);
            let remarks = &attempt.remarks;
            let context = JudgingContext {
                recognised: &recognised,
                remarks,
                reports: &reports,
                allowed: &allowed,
                policy,
                version: version.as_ref(),
            };
            let judging = judge_outcome(outcome, &came_to, facts, &context, &entries);
            (Some(came_to), recognised, judging)
        }
        AttemptState::NotStarted => (None, Recognised::default(), judge_unfinished(false, record.end)),
        AttemptState::Running => (None, Recognised::default(), judge_unfinished(true, record.end)),
    };
    let Recognised { signature, known_issues, missing_issues } = recognised;
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
        missing_issues,
        came_to,
        has_kernel_fault: reports.iter().any(|(_, severity)| *severity < Severity::Complaint),
        tries: Vec::new(),
    }
}

/// Signature and known issues of an attempt.
#[derive(Default)]
struct Recognised {
    signature: Option<Signature>,
    known_issues: Vec<IssueMatch>,
    missing_issues: Vec<IssueInfo>,
}

/// Names what went wrong. `outcome` is what was recorded, `came_to` what it really came to.
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
        known_issues.matching(&Symptoms { test, outcome, stacks, reports, has_unkillable, version })
    };
    // A hang behind a task that died is a crash, and the issue that hangs is known by the hang.
    let matching =
        || Some(matching(came_to)).filter(|found| !found.is_empty()).unwrap_or_else(|| matching(outcome));
    let missing_issues = || known_issues.expected_from(&attempt.test, version).cloned().collect();
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
            Recognised { signature, known_issues, missing_issues: missing_issues() }
        }
        Outcome::Fail { .. }
        | Outcome::Timeout { .. }
        | Outcome::Hang { .. }
        | Outcome::KernelCrash { .. }
        | Outcome::DataCorruption { .. } => {
            Recognised { signature, known_issues: matching(), missing_issues: Vec::new() }
        }
        Outcome::Skip { .. } | Outcome::Interrupted | Outcome::Infra { .. } => Recognised::default(),
    }
}

/// A verdict, its detail in words, and the expectation that was met or missed.
type Judging = (Verdict, String, Option<ExpectationMatch>);

/// Judges an attempt that did not finish.
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

/// All that a verdict depends on beside the outcome.
struct JudgingContext<'a> {
    recognised: &'a Recognised,
    remarks: &'a [Remark],
    /// Kernel reports that nobody allows, and how bad each is.
    reports: &'a [(&'a KernelReport, Severity)],
    /// True for the title of a report that the test causes on purpose.
    allowed: &'a dyn Fn(&str) -> bool,
    policy: &'a Policy,
    version: Option<&'a Version>,
}

impl JudgingContext<'_> {
    /// The kernel's complaints in a line; `None` if there are none.
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

    /// A report that fails a run, and that an entry which is met does not excuse: neither does the entry name
    /// it, nor does what it expects bring it along.
    fn beyond(&self, came_to: &Outcome, entry: &Expectation) -> Option<&KernelReport> {
        let faults = self.reports.iter().filter(|(_, severity)| *severity < Severity::Complaint);
        faults
            .map(|(report, _)| *report)
            .find(|report| !comes_along(came_to, report.kind) && !entry.names(&report.title))
    }

    /// Remarks of the harness about the kernel, of things that it did not report itself.
    fn remarks_on_the_kernel(&self) -> impl Iterator<Item = &String> {
        self.remarks.iter().filter(|remark| remark.blame == Blame::Kernel).map(|remark| &remark.text)
    }

    /// A test's warning, or a remark about the kernel, that `--fail-on` makes a failure of.
    fn failing_otherwise(&self, came_to: &Outcome) -> Option<String> {
        let fails = |class| self.policy.severity_of_class(class, false) < Severity::Complaint;
        let warning = match came_to {
            Outcome::Warn { warning } if fails(FaultClass::TestWarning) => Some(warning.clone()),
            _ => None,
        };
        warning
            .or_else(|| self.remarks_on_the_kernel().next().filter(|_| fails(FaultClass::KernelLog)).cloned())
    }
}

/// True if reports of this kind are no news beside what an attempt came to: after a crash any may follow, a
/// hang is what the kernel's own watchdogs speak of, and changed data shows in more than one place.
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

/// Judges an attempt that finished. `outcome` is what was recorded, `came_to` what it really came to.
fn judge_outcome(
    outcome: &Outcome,
    came_to: &Outcome,
    facts: &AttemptFacts,
    context: &JudgingContext<'_>,
    entries: &[&Expectation],
) -> Judging {
    let detail = match (came_to.detail(), came_to::own_words(outcome)) {
        (detail, _) if came_to == outcome => detail,
        (detail, own) if detail.contains(&own) => detail,
        (detail, own) => format!("{detail}; {own}"),
    };
    let signature = context.recognised.signature.as_ref().map(Signature::lines).unwrap_or_default();
    let known_issues: Vec<_> =
        context.recognised.known_issues.iter().map(|issue| issue.info.id.as_str()).collect();
    let shown = AttemptTexts {
        last_lines: &facts.last_lines,
        signature: &signature,
        known_issues: &known_issues,
        version: context.version,
    };
    let met = entries.iter().copied().find(|entry| entry.is_met_by(came_to, shown));
    // It went wrong as it was expected to, and the kernel reports another fault: that is news.
    let beyond = met.and_then(|entry| context.beyond(came_to, entry));
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
        if let (None, Some(told)) = (met, excuse(came_to, facts, context)) {
            return (Verdict::KnownFailure, detail.clone(), Some(ExpectationMatch::of_authors(told)));
        }
        // One that was missed is worth naming: the test fails in another way than it used to.
        let entry = met.or(entries.first().copied());
        (verdict, detail.clone(), entry.map(|entry| ExpectationMatch::of(entry, met.is_some())))
    };
    match came_to {
        Outcome::Pass | Outcome::Warn { .. } if let Some(how) = context.failing_otherwise(came_to) => {
            (Verdict::Failed, format!("{how}; {}", came_to::own_words(outcome)), None)
        }
        Outcome::Pass => match context.complaint() {
            None => judge_pass(Verdict::Passed, String::new(), None, entries),
            Some(complaint) => judge_pass(Verdict::PassedWithComplaints, complaint, None, entries),
        },
        Outcome::Warn { .. } => judge_pass(Verdict::PassedWithComplaints, detail, met, entries),
        Outcome::Skip { .. } => match met {
            Some(entry) => (Verdict::Skipped, detail, Some(ExpectationMatch::of(entry, true))),
            None => {
                let missed = entries.first().map(|entry| ExpectationMatch::of(entry, false));
                (Verdict::UnexpectedSkip, detail, missed)
            }
        },
        Outcome::Fail { .. } | Outcome::Timeout { .. } => went_wrong(Verdict::Failed),
        Outcome::Hang { .. } => went_wrong(Verdict::Hung),
        Outcome::KernelCrash { .. } => went_wrong(Verdict::Crashed),
        // A test that corrupts on purpose shows what it corrupted when it fails of something else.
        Outcome::DataCorruption { title } if (context.allowed)(title) => went_wrong(Verdict::Failed),
        Outcome::DataCorruption { .. } => went_wrong(Verdict::Corrupted),
        Outcome::Interrupted => (Verdict::Interrupted, "the run was interrupted during it".to_owned(), None),
        Outcome::Infra { .. } => (Verdict::Infra, detail, None),
    }
}

/// Why the test's authors know it to fail, where that excuses what it came to: a plain failure, while the
/// kernel reports no fault. What an author wrote of a test once explains no hang, no crash and no changed
/// data.
fn excuse<'a>(came_to: &Outcome, facts: &'a AttemptFacts, context: &JudgingContext<'_>) -> Option<&'a str> {
    let is_fault = |severity: &Severity| *severity < Severity::Complaint;
    let is_plain =
        matches!(came_to, Outcome::Fail { .. }) && !context.reports.iter().any(|(_, each)| is_fault(each));
    facts.known_to_fail.as_deref().filter(|_| is_plain)
}

/// Judges a pass: it is a surprise if something else is expected and no entry allows it.
fn judge_pass(
    verdict: Verdict,
    detail: String,
    met: Option<&Expectation>,
    entries: &[&Expectation],
) -> Judging {
    match (met, entries.first()) {
        (Some(entry), _) => (verdict, detail, Some(ExpectationMatch::of(entry, true))),
        (None, Some(entry)) if entry.must && !entry.flaky => {
            let detail =
                if detail.is_empty() { "it passed".to_owned() } else { format!("it passed; {detail}") };
            (Verdict::Failed, detail, Some(ExpectationMatch::of(entry, false)))
        }
        (None, Some(entry)) if entries.iter().all(|entry| !entry.flaky) => {
            (Verdict::UnexpectedPass, detail, Some(ExpectationMatch::of(entry, false)))
        }
        (None, Some(_) | None) => (verdict, detail, None),
    }
}

#[cfg(test)]
#[path = "attempt_tests.rs"]
mod tests;
