//! Several tries, folded and shown.

use std::collections::BTreeMap;

use protocol::event::{AttemptFacts, PlannedAttempt};
use protocol::evidence::{KernelReport, ReportKind};
use protocol::outcome::HangKind;
use protocol::{Event, Outcome, Record};

use super::*;
use crate::judge::expectations::Expectations;
use crate::judge::known_issues::KnownIssues;
use crate::judge::rate::Rate;
use crate::judge::result::RunResult;
use crate::render::style::TerminalStyle;
use crate::render::{junit, summary, terminal, verdicts_json};
use crate::testing;

fn fail() -> Outcome {
    Outcome::Fail { how: "exit status 1".to_owned() }
}

fn hang() -> Outcome {
    Outcome::Hang { kind: HangKind::NoProgress, silent_ms: 9000, seen: None }
}

fn infra() -> Outcome {
    Outcome::Infra { error: "QEMU died".to_owned() }
}

/// A run that tried one test so often; each try with what it repeats.
fn run(tries: &[(Outcome, Option<u32>)]) -> RunRecord {
    record_of(run_events(tries))
}

fn record_of(events: Vec<Event>) -> RunRecord {
    RunRecord::from_events(events.into_iter().map(|event| Record { at_ms: 1, event }))
}

fn run_events(tries: &[(Outcome, Option<u32>)]) -> Vec<Event> {
    let test: TestId = "lvm2:shell/x.sh".parse().unwrap();
    let plan = (1..).zip(tries).map(|(attempt, (_, retry_of))| PlannedAttempt {
        attempt,
        test: test.clone(),
        kernel_idx: 0,
        dir: format!("6.12/x~{attempt}"),
        again: vec![],
        retry_of: *retry_of,
        allow: vec![],
    });
    let mut events: Vec<Event> =
        testing::sample_events().into_iter().take(5).map(|record| record.event).collect();
    events.remove(3);
    events.push(Event::Planned { attempts: plan.collect() });
    for (attempt, (outcome, _)) in (1..).zip(tries) {
        let facts =
            AttemptFacts { test_ms: Some(1000), last_lines: vec!["]]> <&".into()], ..Default::default() };
        events.push(Event::VmStarting { attempt });
        events.push(Event::AttemptFinished { attempt, outcome: outcome.clone(), facts });
    }
    events.push(Event::RunFinished { interrupted: false });
    events
}

fn judged(record: &RunRecord, expectations: &str) -> Judged {
    let expectations = BTreeMap::from([(
        "lvm2".to_owned(),
        Expectations::parse(expectations, "e", &KnownIssues::default()).unwrap(),
    )]);
    let mut all = crate::judge(record, &expectations, &KnownIssues::default());
    assert_eq!(all.len(), 1, "one verdict for all tries");
    all.remove(0)
}

/// Verdict, and the attempt that shows it.
fn check(tries: &[(Outcome, Option<u32>)], verdict: Verdict, attempt: u32, result: RunResult) {
    let record = run(tries);
    let judged = judged(&record, "");
    assert_eq!((judged.verdict, judged.attempt), (verdict, Some(attempt)), "{tries:?}");
    assert_eq!(RunResult::of(&record, &[judged]), result, "{tries:?}");
}

#[test]
fn of_trials_the_worst_decides() {
    let pass = || (Outcome::Pass, None);
    check(&[pass(), pass()], Verdict::Passed, 1, RunResult::Passed);
    check(
        &[pass(), (fail(), None), (hang(), None), (hang(), None)],
        Verdict::Hung,
        3,
        RunResult::TestsFailed,
    );
    check(&[pass(), (infra(), None)], Verdict::Infra, 2, RunResult::InfraError);
    // The host is not to be trusted, whatever else was seen.
    check(&[(fail(), None), (infra(), None)], Verdict::Failed, 1, RunResult::InfraError);
}

#[test]
fn a_pass_after_a_failure_makes_both_flaky() {
    check(&[(fail(), None), (Outcome::Pass, Some(1))], Verdict::Flaky, 1, RunResult::Passed);
    check(
        &[(fail(), None), (fail(), Some(1)), (Outcome::Pass, Some(2))],
        Verdict::Flaky,
        1,
        RunResult::Passed,
    );
    check(&[(fail(), None), (hang(), Some(1))], Verdict::Hung, 2, RunResult::TestsFailed);
    check(&[(fail(), None), (Outcome::Interrupted, Some(1))], Verdict::Failed, 1, RunResult::Interrupted);
    check(&[(infra(), None), (Outcome::Pass, Some(1))], Verdict::Passed, 2, RunResult::Passed);
}

/// A race that strikes now and then is what is looked for.
#[test]
fn no_retry_makes_up_for_a_hang_a_crash_or_changed_data() {
    let title = || "x".to_owned();
    for (outcome, verdict) in [
        (hang(), Verdict::Hung),
        (Outcome::KernelCrash { title: title() }, Verdict::Crashed),
        (Outcome::DataCorruption { title: title() }, Verdict::Corrupted),
    ] {
        check(&[(outcome.clone(), None), (Outcome::Pass, Some(1))], verdict, 1, RunResult::TestsFailed);
        check(
            &[(fail(), None), (outcome, Some(1)), (Outcome::Pass, Some(2))],
            verdict,
            2,
            RunResult::TestsFailed,
        );
    }
}

#[test]
fn no_retry_makes_up_for_what_the_kernel_reported() {
    for outcome in [fail(), infra()] {
        what_the_kernel_reported_stands(outcome);
    }
}

fn what_the_kernel_reported_stands(outcome: Outcome) {
    let mut events = run_events(&[(outcome, None), (Outcome::Pass, Some(1))]);
    let report = KernelReport {
        kind: ReportKind::Warning,
        title: "WARNING in md_run".to_owned(),
        alt_titles: vec![],
        corrupted: false,
        frames: vec![],
        causes: vec![],
        starved: false,
    };
    let at =
        events.iter().position(|event| matches!(event, Event::AttemptFinished { attempt: 1, .. })).unwrap();
    events.insert(at, Event::KernelReported { attempt: 1, report });
    let judged = judged(&record_of(events), "");
    assert_eq!((judged.verdict, judged.attempt), (Verdict::Failed, Some(1)));
}

#[test]
fn what_was_redeemed_fails_the_run_where_that_is_asked_for() {
    let mut record = run(&[(fail(), None), (Outcome::Pass, Some(1))]);
    record.run.policy = crate::Policy::of(&[], true).unwrap();
    let judged = judged(&record, "");
    assert_eq!((judged.verdict, judged.attempt), (Verdict::Failed, Some(1)));
    assert_eq!(judged.tries_lines()[0], "2 tries: 1 failed, 1 passed");
    // A host that failed is nobody's flaky test.
    let mut record = run(&[(infra(), None), (Outcome::Pass, Some(1))]);
    record.run.policy = crate::Policy::of(&[], true).unwrap();
    assert_eq!(self::judged(&record, "").verdict, Verdict::Passed);
}

#[test]
fn what_is_expected_to_fail_and_sometimes_passes_is_flaky() {
    let record = run(&[(fail(), None), (Outcome::Pass, None)]);
    let expect =
        "[[expect]]\ntests = [\"shell/x.sh\"]\noutcome = \"fail\"\nbecause = \"test\"\nreason = \"r\"\n";
    assert_eq!(judged(&record, expect).verdict, Verdict::Flaky);
    assert_eq!(judged(&record, expect).rate().unwrap(), Rate { n_failed: 1, n: 2 });
}

#[test]
fn the_rate_counts_what_came_to_anything_and_no_retries() {
    let record = run(&[(Outcome::Pass, None), (fail(), None), (infra(), None), (Outcome::Interrupted, None)]);
    assert_eq!(judged(&record, "").rate(), Some(Rate { n_failed: 1, n: 2 }));
    let retried = run(&[(fail(), None), (Outcome::Pass, Some(1))]);
    assert_eq!(judged(&retried, "").rate(), None);
}

#[test]
fn every_report_says_what_the_tries_came_to() {
    let mut tries = vec![(Outcome::Pass, None); 38];
    tries.extend([(hang(), None), (fail(), None)]);
    let record = run(&tries);
    let judged = [judged(&record, "")];
    let shown = terminal::render(&record, &judged, &TerminalStyle::plain("reports/out/x"));
    for text in [shown, summary::render(&record, &judged)] {
        assert!(text.contains("40 tries: 1 hung, 1 failed, 38 passed"), "{text}");
        assert!(text.contains("2 of 40 failed: rate between 0.61 % and 16.9 % at 95 %"), "{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&verdicts_json::render(&record, &judged)).unwrap();
    assert_eq!(json["verdicts"][0]["tries"].as_array().unwrap().len(), 40);
    assert_eq!(json["verdicts"][0]["rate"]["n_failed"], 2);
    assert_eq!(json["verdicts"][0]["attempt"], 39);
}

#[test]
fn junit_has_the_other_tries_as_surefire_does() {
    let xml = |tries: &[(Outcome, Option<u32>)]| {
        let record = run(tries);
        let xml = junit::render(&record, &[judged(&record, "")]).unwrap();
        let names: Vec<String> = elements(&xml);
        (xml, names)
    };
    let (text, names) = xml(&[(fail(), None), (Outcome::Pass, Some(1))]);
    assert_eq!(names, ["testcase", "flakyFailure", "stackTrace", "system-out"], "{text}");
    assert!(text.contains("failures=\"0\"") && text.contains("attempt 1: exit status 1"), "{text}");
    assert!(text.contains("]]&gt; &lt;&amp;"), "{text}");
    let (text, names) = xml(&[(fail(), None), (hang(), Some(1)), (infra(), Some(2))]);
    let expect =
        ["testcase", "failure", "rerunFailure", "stackTrace", "rerunError", "stackTrace", "system-out"];
    assert_eq!(names, expect, "{text}");
}

/// The names of all elements from the first case on.
fn elements(xml: &str) -> Vec<String> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut names = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Eof => break,
            Event::Start(start) | Event::Empty(start) => {
                names.push(String::from_utf8(start.name().as_ref().to_vec()).unwrap());
            }
            _ => {}
        }
    }
    let first = names.iter().position(|name| name == "testcase").unwrap();
    names.split_off(first)
}
