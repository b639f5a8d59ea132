//! Tests of the verdicts: which outcome and expectation come to what.

use super::*;
use crate::judge::judge;
use crate::testing;
use protocol::event::PlannedAttempt;
use protocol::evidence::ReportKind;
use protocol::{Event, HangKind, TestId};

/// Judges one outcome by entries of a file, written as `outcome`, or `outcome flaky`.
fn judged(outcome: Outcome, entries: &[&str]) -> Judging {
    judged_with(outcome, entries, &[])
}

fn judged_with(outcome: Outcome, entries: &[&str], remarks: &[Remark]) -> Judging {
    let text: String = entries
        .iter()
        .map(|entry| {
            let (outcome, flaky) = entry.split_once(' ').map_or((*entry, false), |(o, _)| (o, true));
            format!(
                "[[expect]]\ntests = [\"*\"]\noutcome = \"{outcome}\"\nbecause = \"test\"\nreason = \"why\"\nflaky = {flaky}\n"
            )
        })
        .collect();
    let expectations = Expectations::parse(&text, "e.toml", &KnownIssues::default()).unwrap();
    let entries: Vec<&Expectation> = expectations.entries().iter().collect();
    judge_seen(&outcome, &AttemptFacts::default(), remarks, &[], &Policy::default(), &entries)
}

/// Judges an outcome beside what was seen; a report whose title begins with `allowed` is allowed.
fn judge_seen(
    outcome: &Outcome,
    facts: &AttemptFacts,
    remarks: &[Remark],
    reports: &[KernelReport],
    policy: &Policy,
    entries: &[&Expectation],
) -> Judging {
    let allowed = |title: &str| title.starts_with("allowed");
    let reports: Vec<_> = reports
        .iter()
        .filter(|report| !allowed(&report.title))
        .map(|report| (report, policy.severity_of(report)))
        .collect();
    let came_to = came_to::came_to(outcome, &Observations { facts, stacks: &[], reports: &reports });
    let recognised = Recognised::default();
    let context = JudgingContext {
        recognised: &recognised,
        remarks,
        reports: &reports,
        allowed: &allowed,
        policy,
        version: None,
    };
    judge_outcome(outcome, &came_to, facts, &context, entries)
}

fn check(outcome: Outcome, entries: &[&str], expect: Verdict, met: Option<bool>) {
    let (verdict, _, expectation) = judged(outcome.clone(), entries);
    assert_eq!(verdict, expect, "{outcome:?} by {entries:?}");
    assert_eq!(expectation.map(|judgement| judgement.met), met, "{outcome:?} by {entries:?}");
}

fn fail() -> Outcome {
    Outcome::Fail { how: "exit status 1".to_owned() }
}

fn skip() -> Outcome {
    Outcome::Skip { reason: "no brd".to_owned() }
}

fn warn() -> Outcome {
    Outcome::Warn { warning: "TEST WARNING: slow".to_owned() }
}

fn hang() -> Outcome {
    Outcome::Hang { kind: HangKind::HungTask, silent_ms: 30_000, seen: None }
}

/// A bug that was planted to be found, and was not, is no good news.
#[test]
fn a_pass_of_what_must_go_wrong_fails() {
    let text = "[[expect]]\ntests = [\"*\"]\noutcome = \"hang\"\nbecause = \"kernel\"\nreason = \"planted\"\nmust = true\n";
    let expectations = Expectations::parse(text, "e.toml", &KnownIssues::default()).unwrap();
    let entries: Vec<&Expectation> = expectations.entries().iter().collect();
    let policy = Policy::default();
    let judge = |outcome| judge_seen(&outcome, &AttemptFacts::default(), &[], &[], &policy, &entries);
    let (verdict, detail, _) = judge(Outcome::Pass);
    assert_eq!((verdict, detail.as_str()), (Verdict::Failed, "it passed"));
    assert_eq!(judge(hang()).0, Verdict::KnownFailure);
}

#[test]
fn without_expectations_an_outcome_is_what_it_is() {
    let title = || "BUG: kernel NULL pointer dereference".to_owned();
    check(Outcome::Pass, &[], Verdict::Passed, None);
    check(warn(), &[], Verdict::PassedWithComplaints, None);
    check(fail(), &[], Verdict::Failed, None);
    check(Outcome::Timeout { limit_ms: 60_000 }, &[], Verdict::Failed, None);
    check(hang(), &[], Verdict::Hung, None);
    check(Outcome::KernelCrash { title: title() }, &[], Verdict::Crashed, None);
    check(Outcome::DataCorruption { title: title() }, &[], Verdict::Corrupted, None);
    check(skip(), &[], Verdict::UnexpectedSkip, None);
    check(Outcome::Interrupted, &[], Verdict::Interrupted, None);
    check(Outcome::Infra { error: title() }, &[], Verdict::Infra, None);
}

#[test]
fn what_was_expected_is_known() {
    check(fail(), &["fail"], Verdict::KnownFailure, Some(true));
    check(hang(), &["fail", "hang"], Verdict::KnownFailure, Some(true));
    check(Outcome::Timeout { limit_ms: 1 }, &["timeout"], Verdict::KnownFailure, Some(true));
    check(skip(), &["skip"], Verdict::Skipped, Some(true));
    check(warn(), &["warn"], Verdict::PassedWithComplaints, Some(true));
    check(fail(), &["fail flaky"], Verdict::Flaky, Some(true));
    check(skip(), &["skip flaky"], Verdict::Skipped, Some(true));
}

#[test]
fn what_was_expected_otherwise_is_news() {
    check(hang(), &["fail"], Verdict::Hung, Some(false));
    check(Outcome::Timeout { limit_ms: 1 }, &["fail"], Verdict::Failed, Some(false));
    check(skip(), &["fail"], Verdict::UnexpectedSkip, Some(false));
    check(fail(), &["skip"], Verdict::Failed, Some(false));
    check(Outcome::Interrupted, &["fail"], Verdict::Interrupted, None);
    check(Outcome::Infra { error: String::new() }, &["fail"], Verdict::Infra, None);
}

#[test]
fn a_pass_is_a_surprise_unless_an_entry_is_flaky() {
    check(Outcome::Pass, &["fail"], Verdict::UnexpectedPass, Some(false));
    check(Outcome::Pass, &["skip"], Verdict::UnexpectedPass, Some(false));
    check(warn(), &["fail"], Verdict::UnexpectedPass, Some(false));
    check(Outcome::Pass, &["fail flaky"], Verdict::Passed, None);
    check(Outcome::Pass, &["fail", "hang flaky"], Verdict::Passed, None);
    check(warn(), &["fail flaky"], Verdict::PassedWithComplaints, None);
}

#[test]
fn a_pass_over_kernel_complaints_is_no_plain_pass() {
    let remark = |blame| Remark { blame, text: "raid5: 14 members failed".to_owned() };
    let (verdict, detail, _) = judged_with(Outcome::Pass, &[], &[remark(Blame::Kernel)]);
    assert_eq!((verdict, detail.as_str()), (Verdict::PassedWithComplaints, "raid5: 14 members failed"));
    for blame in [Blame::Test, Blame::Harness, Blame::Host] {
        assert_eq!(judged_with(Outcome::Pass, &[], &[remark(blame)]).0, Verdict::Passed);
    }
}

/// A report of this kind under this title, with these frames.
fn report(kind: ReportKind, title: &str, frames: &[&str]) -> KernelReport {
    KernelReport {
        kind,
        title: title.to_owned(),
        alt_titles: vec![],
        corrupted: false,
        causes: vec![],
        starved: false,
        frames: frames.iter().map(|&frame| frame.to_owned()).collect(),
    }
}

/// Judges an outcome while the kernel reports these; a title that begins with `allowed` is allowed.
fn with_reports(outcome: Outcome, kinds: &[(ReportKind, &str)]) -> (Verdict, String) {
    with_reports_by(outcome, kinds, &[])
}

fn with_reports_by(outcome: Outcome, kinds: &[(ReportKind, &str)], fail_on: &[&str]) -> (Verdict, String) {
    let reports: Vec<_> = kinds.iter().map(|(kind, title)| report(*kind, title, &[])).collect();
    let fail_on: Vec<_> = fail_on.iter().map(|&word| word.to_owned()).collect();
    let policy = Policy::of(&fail_on, false).unwrap();
    let (verdict, detail, _) = judge_seen(&outcome, &AttemptFacts::default(), &[], &reports, &policy, &[]);
    (verdict, detail)
}

#[test]
fn what_the_kernel_reports_decides_whatever_the_test_says() {
    use ReportKind::{Corruption, HungTask, Lockup, MemoryError, Oops, StorageError, Warning};
    let pass = |kinds: &[_]| with_reports(Outcome::Pass, kinds);
    let passed = |verdict, title: &str| (verdict, format!("{title}; the test itself passed"));
    assert_eq!(pass(&[(Warning, "WARNING in md_run")]), passed(Verdict::Failed, "WARNING in md_run"));
    assert_eq!(pass(&[(Oops, "BUG: x in md_do_sync")]), passed(Verdict::Crashed, "BUG: x in md_do_sync"));
    assert_eq!(pass(&[(Lockup, "soft lockup in raid5d")]).0, Verdict::Crashed);
    assert_eq!(
        pass(&[(Corruption, "md: x"), (MemoryError, "KASAN: y")]),
        passed(Verdict::Crashed, "KASAN: y")
    );
    assert_eq!(
        pass(&[(Corruption, "ext4: error in ext4_lookup")]),
        passed(Verdict::Corrupted, "ext4: error in ext4_lookup")
    );
    // Of others, and what a test may cause.
    let complained = |detail: &str| (Verdict::PassedWithComplaints, detail.to_owned());
    assert_eq!(pass(&[(Warning, "WARNING in foo")]), complained("WARNING in foo"));
    assert_eq!(pass(&[(HungTask, "hung task in md_run")]), complained("hung task in md_run"));
    assert_eq!(
        pass(&[(Warning, "a"), (StorageError, "b"), (StorageError, "allowed")]),
        complained("a, and 1 more")
    );
    assert_eq!(
        pass(&[(Corruption, "allowed"), (StorageError, "allowed too"), (Oops, "allowed as well")]),
        (Verdict::Passed, String::new())
    );
}

#[test]
fn an_oops_comes_before_what_follows_from_it() {
    let oops = [(ReportKind::Oops, "BUG: x in raid5d")];
    let crashed = |outcome: Outcome| with_reports(outcome, &oops);
    assert_eq!(crashed(hang()).0, Verdict::Crashed);
    assert_eq!(crashed(hang()).1, "BUG: x in raid5d; the kernel reports a hung task for 30 s");
    assert_eq!(crashed(fail()), (Verdict::Crashed, "BUG: x in raid5d; exit status 1".to_owned()));
    assert_eq!(crashed(skip()).0, Verdict::Crashed);
    assert_eq!(crashed(Outcome::Timeout { limit_ms: 1 }).0, Verdict::Crashed);
    assert_eq!(crashed(Outcome::DataCorruption { title: "a b differ".into() }).0, Verdict::Crashed);
    assert_eq!(crashed(Outcome::Infra { error: "QEMU died".into() }).0, Verdict::Crashed);
    assert_eq!(crashed(Outcome::Interrupted).0, Verdict::Interrupted);
}

/// A test that is known to fail is no cover for another fault.
#[test]
fn an_expectation_excuses_what_it_names_and_no_other_report() {
    use ReportKind::{Corruption, Lockdep, RcuStall, StorageError, Warning};
    let judge = |outcome: Outcome, entry: &str, kind, title: &str| {
        let text = format!("[[expect]]\ntests = [\"*\"]\nbecause = \"test\"\nreason = \"why\"\n{entry}\n");
        let expectations = Expectations::parse(&text, "e.toml", &KnownIssues::default()).unwrap();
        let entries: Vec<&Expectation> = expectations.entries().iter().collect();
        let reports = [report(kind, title, &["md_run+0x1/0x2 [md_mod]"])];
        let facts = AttemptFacts::default();
        let (verdict, detail, _) = judge_seen(&outcome, &facts, &[], &reports, &Policy::default(), &entries);
        (verdict, detail)
    };
    let fails = "outcome = \"fail\"";
    let found = judge(fail(), fails, Warning, "WARNING in md_start_sync");
    assert_eq!(found, (Verdict::Failed, "exit status 1; WARNING in md_start_sync".to_owned()));
    assert_eq!(judge(fail(), fails, StorageError, "md: x").0, Verdict::KnownFailure);
    assert_eq!(judge(Outcome::Pass, fails, Warning, "WARNING in md_run").0, Verdict::Failed);
    let named = "outcome = \"fail\"\nmatch = \"WARNING in md_run\"";
    assert_eq!(judge(Outcome::Pass, named, Warning, "WARNING in md_run").0, Verdict::KnownFailure);
    let hangs = "outcome = \"hang\"";
    assert_eq!(judge(hang(), hangs, Corruption, "xfs: metadata CRC error in f").0, Verdict::Hung);
    assert_eq!(judge(hang(), hangs, Lockdep, "lockdep: x in md_open").0, Verdict::Hung);
    assert_eq!(judge(hang(), hangs, RcuStall, "RCU stall in md_run").0, Verdict::KnownFailure);
}

#[test]
fn fail_on_moves_the_line_for_a_class() {
    use ReportKind::{Lockdep, Oops, StorageError, Warning};
    let pass = |kinds: &[_], fail_on: &[&str]| with_reports_by(Outcome::Pass, kinds, fail_on).0;
    assert_eq!(pass(&[(StorageError, "md: x")], &["storage-error"]), Verdict::Failed);
    assert_eq!(pass(&[(StorageError, "md: x")], &["warning"]), Verdict::PassedWithComplaints);
    assert_eq!(pass(&[(Warning, "WARNING in foo")], &["complaints"]), Verdict::Failed);
    assert_eq!(pass(&[(Lockdep, "lockdep: x in md_open")], &["no-lockdep"]), Verdict::PassedWithComplaints);
    assert_eq!(pass(&[(Oops, "x")], &["no-oops"]), Verdict::PassedWithComplaints);
    assert_eq!(pass(&[(Oops, "x")], &["complaints"]), Verdict::Crashed, "never less than by default");
    assert_eq!(
        pass(&[(Warning, "WARNING in foo")], &["complaints", "no-warning"]),
        Verdict::PassedWithComplaints
    );
    assert_eq!(with_reports_by(warn(), &[], &["test-warning"]).0, Verdict::Failed);
    let remark = Remark { blame: Blame::Kernel, text: "12 messages are lost".to_owned() };
    let policy = Policy::of(&["kernel-log".to_owned()], false).unwrap();
    let judging = judge_seen(&Outcome::Pass, &AttemptFacts::default(), &[remark], &[], &policy, &[]);
    assert_eq!(judging.0, Verdict::Failed);
}

#[test]
fn corruption_that_the_kernel_reports_is_why_a_test_failed() {
    use ReportKind::{Corruption, StorageError};
    let failed = |kinds: &[_]| with_reports(fail(), kinds);
    assert_eq!(failed(&[(Corruption, "ext4: x")]), (Verdict::Corrupted, "ext4: x; exit status 1".to_owned()));
    assert_eq!(failed(&[(StorageError, "md: x")]).0, Verdict::Failed);
    assert_eq!(failed(&[(Corruption, "allowed")]).0, Verdict::Failed);
    assert_eq!(with_reports(hang(), &[(Corruption, "ext4: x")]).0, Verdict::Hung);
    let corrupted = |title: &str| Outcome::DataCorruption { title: title.to_owned() };
    assert_eq!(with_reports(corrupted("a b differ: byte 1"), &[]).0, Verdict::Corrupted);
    assert_eq!(with_reports(corrupted("allowed: a b differ"), &[]).0, Verdict::Failed);
}

#[test]
fn explanations_name_the_entry() {
    let (record, judged) = testing::sample();
    let explanations: Vec<String> = judged.iter().map(Judged::explanation).collect();
    assert_eq!(explanations[4], "exit status 1; known: 6.1 lacks the fix of the reshape position");
    let test = judged[0].test.clone();
    let of = |outcome, entries: &[&str]| {
        let (verdict, detail, expectation) = self::judged(outcome, entries);
        let (signature, known_issues, missing_issues) = (None, vec![], vec![]);
        let test = test.clone();
        Judged {
            attempt: None,
            test,
            kernel_idx: 0,
            verdict,
            detail,
            expectation,
            allowed: BTreeMap::new(),
            signature,
            known_issues,
            missing_issues,
            came_to: None,
            has_kernel_fault: false,
            tries: vec![],
        }
        .explanation()
    };
    assert_eq!(of(Outcome::Pass, &["fail"]), "expected `fail` (why); if it is fixed, remove e.toml:1");
    assert_eq!(of(fail(), &["hang"]), "exit status 1; not the expected `hang` (why), see e.toml:1");
    assert_eq!(record.attempts.len() + 1, judged.len());
}

#[test]
fn what_the_end_left_open_is_told_apart() {
    for (n_events_left_out, end) in [(0, "the run was interrupted"), (1, "the events end")] {
        let mut events = testing::sample_events();
        events.truncate(events.len() - n_events_left_out);
        let judged = judge(&RunRecord::from_events(events), &BTreeMap::new(), &KnownIssues::default());
        assert_eq!(judged[8].verdict, Verdict::Interrupted);
        assert_eq!(judged[8].detail, format!("{end} during it"));
        assert_eq!(judged[9].verdict, Verdict::NotRun);
        assert_eq!(judged[9].detail, format!("{end} before it"));
        assert_eq!(judged[10].detail, "needs dm-crypt, which 6.1 lacks");
    }
}

#[test]
fn a_known_issue_never_excuses_a_hang() {
    let (_, judged) = testing::hung();
    assert_eq!(judged[0].verdict, Verdict::Hung);
    assert_eq!(judged[0].known_issues[0].info.id, "dm-raid-stop-and-barrier");
    let (_, judged) = testing::passed_on_6_1();
    assert_eq!(judged[0].verdict, Verdict::Passed);
    assert_eq!(judged[0].missing_issues[0].id, "dm-raid-stop-and-barrier");
}

#[test]
fn a_hang_that_nobody_knows_is_said_to_be_news() {
    let (record, _) = testing::hung();
    let judged = judge(&record, &BTreeMap::new(), &KnownIssues::default());
    assert!(judged[0].in_short().ends_with("; unknown signature: no known issue has it"));
}

#[test]
fn a_title_is_said_once() {
    let (_, mut judged) = testing::hung();
    let mut crashed = judged.remove(0);
    crashed.known_issues.clear();
    crashed.verdict = Verdict::Crashed;
    crashed.detail = "BUG: bad page state".to_owned();
    let frames = vec!["raid5d".to_owned()];
    crashed.signature = Some(Signature::Report { title: crashed.detail.clone(), frames });
    let expect = "BUG: bad page state, in raid5d; unknown signature: no known issue has it";
    assert_eq!(crashed.in_short(), expect);
    crashed.signature = Some(Signature::Report { title: "page state".to_owned(), frames: vec![] });
    assert_eq!(crashed.in_short(), "BUG: bad page state; unknown signature: no known issue has it");
}

/// A script's run, read back from the lines of its events.
fn of_script(allow: &[&str], reports: &[(ReportKind, &str)], outcome: Outcome) -> Judged {
    let plan = PlannedAttempt {
        attempt: 1,
        test: TestId::new("script", "repro.sh").unwrap(),
        kernel_idx: 0,
        dir: "x".to_owned(),
        again: vec![],
        retry_of: None,
        allow: allow.iter().map(|text| (*text).to_owned()).collect(),
    };
    let reported = reports.iter().map(|&(kind, title)| Event::KernelReported {
        attempt: 1,
        report: KernelReport {
            kind,
            title: title.to_owned(),
            alt_titles: vec![],
            corrupted: false,
            causes: vec![],
            starved: false,
            frames: vec![],
        },
    });
    let events = [Event::Planned { attempts: vec![plan] }, Event::VmStarting { attempt: 1 }];
    let finished = Event::AttemptFinished { attempt: 1, outcome, facts: AttemptFacts::default() };
    let lines: Vec<String> = events
        .into_iter()
        .chain(reported)
        .chain([finished])
        .map(|event| serde_json::to_string(&protocol::Record { at_ms: 1, event }).unwrap())
        .collect();
    let record = RunRecord::from_events(lines.iter().map(|line| serde_json::from_str(line).unwrap()));
    judge_one(&record, &record.attempts[0], &BTreeMap::new(), &KnownIssues::default())
}

#[test]
fn what_a_script_says_it_causes_is_no_complaint_when_the_record_is_read_again() {
    use ReportKind::{MemoryError, StorageError};
    let failed = [(StorageError, "md/raid1: disk failure, device disabled")];
    assert_eq!(of_script(&[], &failed, Outcome::Pass).verdict, Verdict::PassedWithComplaints);
    let allow = ["^md/raid1: disk failure, .*disabled$", " differ: byte"];
    let judged = of_script(&allow, &failed, Outcome::Pass);
    assert_eq!(judged.verdict, Verdict::Passed);
    assert_eq!(judged.allowed[failed[0].1], "the script's own header");
    // What is not named still counts, and a damaged pattern allows nothing.
    let kasan = [failed[0], (MemoryError, "KASAN: use-after-free in raid1d")];
    assert_ne!(of_script(&["disk failure", "raid1"], &kasan, Outcome::Pass).verdict, Verdict::Passed);
    assert_eq!(of_script(&["("], &failed, Outcome::Pass).verdict, Verdict::PassedWithComplaints);
    // What it causes on purpose names nothing that went wrong.
    let fail = || Outcome::Fail { how: "exit status 1".to_owned() };
    let checksum = [(ReportKind::Corruption, "dm-integrity: checksum failed")];
    assert!(of_script(&[], &checksum, fail()).signature.is_some());
    assert_eq!(of_script(&["^dm-integrity: checksum failed$"], &checksum, fail()).signature, None);
    // Lines of its own output, as a suite may allow them.
    let differ = || Outcome::DataCorruption { title: "a b differ: byte 1, line 1".to_owned() };
    let judged = of_script(&allow, &[], differ());
    assert_eq!((judged.verdict, judged.signature), (Verdict::Failed, None));
    let judged = of_script(&[], &[], differ());
    assert_eq!(judged.verdict, Verdict::Corrupted);
    assert_eq!(judged.in_short(), "a b differ: byte 1, line 1");
}

/// What a test's authors say of it excuses a plain failure, in their words, and nothing that may be a bug.
#[test]
fn what_its_authors_know_excuses_a_failure_alone() {
    let told = "tests/x.broken says: always fails";
    let facts = AttemptFacts { known_to_fail: Some(told.to_owned()), ..AttemptFacts::default() };
    let seen = |outcome: &Outcome, reports: &[KernelReport], entries: &[&Expectation]| {
        let (verdict, _, expectation) =
            judge_seen(outcome, &facts, &[], reports, &Policy::default(), entries);
        (verdict, expectation.map(|entry| (entry.met, entry.reason)))
    };
    assert_eq!(seen(&fail(), &[], &[]), (Verdict::KnownFailure, Some((true, told.to_owned()))));
    assert_eq!(seen(&Outcome::Pass, &[], &[]), (Verdict::Passed, None));
    assert_eq!(seen(&hang(), &[], &[]).0, Verdict::Hung);
    let corrupted = Outcome::DataCorruption { title: "a b differ: byte 1, line 1".to_owned() };
    assert_eq!(seen(&corrupted, &[], &[]).0, Verdict::Corrupted);
    let warning = report(ReportKind::Warning, "WARNING in md_wakeup", &["md_wakeup"]);
    assert_eq!(seen(&fail(), &[warning], &[]).0, Verdict::Failed, "the kernel's fault is news");
    // An entry of ours that is met says more.
    let ours = "[[expect]]\ntests = [\"*\"]\noutcome = \"fail\"\nbecause = \"test\"\nreason = \"ours\"\n";
    let expectations = Expectations::parse(ours, "e.toml", &KnownIssues::default()).unwrap();
    let entries: Vec<&Expectation> = expectations.entries().iter().collect();
    assert_eq!(seen(&fail(), &[], &entries), (Verdict::KnownFailure, Some((true, "ours".to_owned()))));
}
