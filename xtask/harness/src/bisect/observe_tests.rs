//! Tests of the class and meaning that a verdict has for a search.

use super::super::decide::Observation;
use super::super::target::Target;
use super::*;

/// A record of one attempt that ended with `outcome`.
fn record(outcome: Outcome) -> RunRecord {
    let attempt = protocol::event::PlannedAttempt {
        attempt: 1,
        test: "lvm2:shell/x.sh".parse().unwrap(),
        kernel_idx: 0,
        dir: "x".into(),
        again: vec![],
        retry_of: None,
        allow: vec![],
    };
    let facts = protocol::event::AttemptFacts::default();
    let events = [
        protocol::Event::Planned { attempts: vec![attempt] },
        protocol::Event::VmStarting { attempt: 1 },
        protocol::Event::TestStarted { attempt: 1 },
        protocol::Event::AttemptFinished { attempt: 1, outcome, facts },
    ];
    RunRecord::from_events(events.into_iter().map(|event| protocol::Record { at_ms: 0, event }))
}

fn judged(
    verdict: Verdict,
    detail: &str,
    expectation: Option<reports::judge::judged::ExpectationMatch>,
) -> Judged {
    Judged {
        attempt: Some(1),
        test: "lvm2:shell/x.sh".parse().unwrap(),
        kernel_idx: 0,
        verdict,
        detail: detail.into(),
        expectation,
        allowed: Default::default(),
        signature: None,
        known_issues: vec![],
        missing_issues: vec![],
        came_to: None,
        has_kernel_fault: false,
        tries: vec![],
    }
}

#[test]
fn a_search_counts_as_the_verdict_does_whatever_the_test_said() {
    let check = |outcome: Outcome, verdict, expect: Result<Observation, NothingKnown>| {
        let sighting =
            Sighting::of(&record(outcome), &judged(verdict, "KASAN: use-after-free in md_run", None));
        let seen =
            sighting.map(|one| Target::Anything.observe(&Trial::Ran { run: "r".into(), seen: vec![one] }));
        assert_eq!(seen, expect, "{verdict}");
    };
    let failed = || Outcome::Fail { how: "exit code 1".into() };
    check(Outcome::Pass, Verdict::Passed, Ok(Observation::Passed));
    check(Outcome::Pass, Verdict::PassedWithComplaints, Ok(Observation::Passed));
    // An oops, a process that cannot be killed, changed data, a warning in md, while the test itself passed.
    for verdict in
        [Verdict::Crashed, Verdict::Hung, Verdict::Corrupted, Verdict::Failed, Verdict::KnownFailure]
    {
        check(Outcome::Pass, verdict, Ok(Observation::Failed));
    }
    check(failed(), Verdict::Crashed, Ok(Observation::Failed));
    check(failed(), Verdict::Flaky, Ok(Observation::Failed));
    let infra = NothingKnown::Infra("lvm2:shell/x.sh: KASAN: use-after-free in md_run".into());
    check(failed(), Verdict::Infra, Err(infra));
    check(failed(), Verdict::Interrupted, Err(NothingKnown::Interrupted));
}

#[test]
fn the_class_is_the_verdicts() {
    let class = |outcome, verdict, expectation| {
        let sighting = Sighting::of(&record(outcome), &judged(verdict, "why", expectation)).unwrap();
        let wrong = sighting.result.wrong().cloned().unwrap();
        (wrong.class, wrong.detail)
    };
    assert_eq!(class(Outcome::Pass, Verdict::Crashed, None), (Class::Crash, "why".into()));
    let timeout = || Outcome::Timeout { limit_ms: 600_000 };
    assert_eq!(class(timeout(), Verdict::Failed, None).0, Class::Timeout);
    assert_eq!(class(timeout(), Verdict::Hung, None).0, Class::Hang);
    let expected = reports::judge::judged::ExpectationMatch {
        met: true,
        outcome: "kernel-crash".into(),
        reason: "x".into(),
        because: "test",
        place: "expectations.toml:1".into(),
    };
    assert_eq!(class(Outcome::Pass, Verdict::KnownFailure, Some(expected)).0, Class::Crash);
    assert_eq!(class(Outcome::Pass, Verdict::UnexpectedPass, None).0, Class::Complaint);
}
