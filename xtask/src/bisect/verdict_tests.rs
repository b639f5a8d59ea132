//! Tests of what counts, and of what a verdict is to a search.

use super::*;

fn wrong(class: Class, signature: &[&str]) -> Wrong {
    Wrong {
        class,
        detail: "no progress for 7 s".into(),
        signature: signature.iter().map(|&line| line.to_owned()).collect(),
        known_issues: vec![],
        last_lines: vec!["## DEBUG: device busy".into()],
    }
}

fn ran(came: Came) -> Trial {
    let sighting = |test: &str, came| Sighting { test: test.into(), dir: "d".into(), reproduce: None, came };
    let seen = vec![sighting("lvm2:shell/x.sh", came), sighting("lvm2:shell/other.sh", Came::Passed)];
    Trial::Ran { run: "r".into(), seen }
}

const STOP: &str = "lvm: stop_sync_thread ← md_stop ← raid_dtr";

fn check(seen: Came, expect: &str) {
    let failing = ran(Came::Wrong(wrong(Class::Hang, &[STOP, "mdX_resync: md_do_sync"])));
    let lock = Lock::from_trials(None, &[&ran(Came::Passed), &failing], &[]).unwrap();
    let observed = match lock.observe(&ran(seen)) {
        Observation::Failed => "failed".to_owned(),
        Observation::Passed => "passed".to_owned(),
        Observation::Other(why) => format!("other: {why}"),
        Observation::Untestable(why) => format!("untestable: {why}"),
    };
    assert_eq!(observed, expect);
}

#[test]
fn only_the_same_hang_counts() {
    check(Came::Wrong(wrong(Class::Hang, &[STOP])), "failed");
    let by_another_task = "dmsetup: stop_sync_thread ← md_stop ← raid_dtr";
    check(Came::Wrong(wrong(Class::Hang, &["jbd2: md_write_start", by_another_task])), "failed");
    check(Came::Wrong(wrong(Class::Timeout, &[STOP])), "failed");
    let other = "lvm: raise_barrier ← raid1_sync_request";
    check(Came::Wrong(wrong(Class::Hang, &[other])), &format!("other: hung ({other})"));
    check(Came::Wrong(wrong(Class::Hang, &[])), "other: hung (no progress for 7 s)");
    check(
        Came::Wrong(wrong(Class::Crash, &["page fault in md_run"])),
        "other: crashed (page fault in md_run)",
    );
}

#[test]
fn a_known_issue_in_common_is_the_same_bug() {
    let of = |line| Wrong { known_issues: vec!["sync-without-done".into()], ..wrong(Class::Hang, &[line]) };
    let lock = Lock::from_trials(None, &[&ran(Came::Wrong(of(STOP)))], &[]).unwrap();
    assert_eq!(lock.observe(&ran(Came::Wrong(of("lvm: md_stop")))), Observation::Failed);
}

#[test]
fn what_did_not_run_tells_nothing() {
    check(Came::Passed, "passed");
    check(Came::Skipped { reason: "too old".into() }, "untestable: skipped: too old");
    check(Came::NoBoot { title: "panic".into() }, "other: does not boot: panic");
    let lock = Lock::Anything;
    let error = "raid modules do not build\n  | md.c:1:2: error: x\n  | more".to_owned();
    let expect = Observation::Untestable("does not build: md.c:1:2: error: x".into());
    assert_eq!(lock.observe(&Trial::Unbuildable { error }), expect);
}

#[test]
fn a_complaint_counts_only_if_it_is_searched_for() {
    let warning = "WARNING in md_run: md_run ← raid_ctr";
    let complained = || Came::Complained(wrong(Class::Complaint, &[warning]));
    check(complained(), "passed");
    let words = Lock::words("WARNING in md_run".to_owned());
    assert_eq!(words.observe(&ran(complained())), Observation::Failed);
    // The same report, where it ended the kernel.
    let lock = Lock::from_trials(None, &[&ran(Came::Wrong(wrong(Class::Crash, &[warning])))], &[]).unwrap();
    assert_eq!(lock.observe(&ran(complained())), Observation::Failed);
    assert_eq!(Lock::Anything.observe(&ran(complained())), Observation::Passed);
}

#[test]
fn a_chance_failure_is_not_what_is_searched_for() {
    let hung = || ran(Came::Wrong(wrong(Class::Hang, &[STOP])));
    let chance = ran(Came::Wrong(wrong(Class::Failure, &[])));
    let lock = |trials: &[&Trial]| Lock::from_trials(None, trials, &[]).unwrap().in_short();
    let of_hang = format!("lvm2:shell/x.sh hung ({STOP})");
    assert_eq!(lock(&[&chance, &hung(), &hung()]), of_hang);
    assert_eq!(lock(&[&hung(), &chance]), of_hang);
    assert_eq!(lock(&[&chance, &hung()]), "lvm2:shell/x.sh failed (no progress for 7 s)");
}

fn two(first: Came, second: Came) -> Trial {
    let sighting = |test: &str, came| Sighting { test: test.into(), dir: "d".into(), reproduce: None, came };
    Trial::Ran { run: "r".into(), seen: vec![sighting("a", first), sighting("b", second)] }
}

#[test]
fn what_the_passing_end_shows_too_is_not_meant() {
    let always = || Came::Wrong(wrong(Class::Failure, &[]));
    let hung = || Came::Wrong(wrong(Class::Hang, &[STOP]));
    let (failing, passing) = (two(always(), hung()), two(always(), Came::Passed));
    let lock = Lock::from_trials(None, &[&failing], &[&passing]).unwrap();
    assert_eq!(lock.in_short(), format!("b hung ({STOP})"));
    assert_eq!(lock.met_by(&failing).unwrap().test, "b");
    assert_eq!(lock.observe(&passing), Observation::Passed);
    let nothing_else = Lock::from_trials(None, &[&passing], &[&passing]).unwrap();
    assert_eq!(nothing_else.observe(&passing), Observation::Failed);
}

#[test]
fn a_skip_beside_a_pass_is_no_pass() {
    let trial = two(Came::Skipped { reason: "too old".into() }, Came::Passed);
    let skipped = Observation::Untestable("skipped: too old".into());
    assert_eq!(Lock::Anything.observe(&trial), skipped);
    assert_eq!(Lock::words("stop".into()).observe(&trial), skipped);
    // Only the test that shows it matters, where that is known.
    let failing = two(Came::Passed, Came::Wrong(wrong(Class::Hang, &[STOP])));
    let lock = Lock::from_trials(Some("stop_sync"), &[&failing], &[]).unwrap();
    assert!(lock.is_signed());
    assert_eq!(lock.observe(&trial), Observation::Passed);
    let lock = Lock::from_trials(Some("device busy"), &[&failing], &[]).unwrap();
    assert!(!lock.is_signed(), "a test's own words are no mark");
}

#[test]
fn any_corruption_is_the_same_corruption() {
    let lock =
        Lock::from_trials(None, &[&ran(Came::Wrong(wrong(Class::Corruption, &["fsck found errors"])))], &[])
            .unwrap();
    let other = ran(Came::Wrong(wrong(Class::Corruption, &["checksums differ"])));
    assert_eq!(lock.observe(&other), Observation::Failed);
    let failure = ran(Came::Wrong(wrong(Class::Failure, &[])));
    assert_eq!(lock.observe(&failure), Observation::Other("failed (no progress for 7 s)".into()));
}

#[test]
fn words_say_what_counts() {
    let lock = Lock::words("stop_sync_thread".to_owned());
    assert_eq!(lock.observe(&ran(Came::Wrong(wrong(Class::Hang, &[STOP])))), Observation::Failed);
    assert!(matches!(lock.observe(&ran(Came::Wrong(wrong(Class::Hang, &[])))), Observation::Other(_)));
}

/// A record of one attempt that came to `outcome`.
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

fn judged(verdict: Verdict, detail: &str, expectation: Option<reports::verdict::Judgement>) -> Judged {
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
        is_the_kernels: false,
        tries: vec![],
    }
}

#[test]
fn a_search_counts_as_the_verdict_does_whatever_the_test_said() {
    let check = |outcome: Outcome, verdict, expect: Result<Observation, NothingKnown>| {
        let sighting =
            Sighting::of(&record(outcome), &judged(verdict, "KASAN: use-after-free in md_run", None));
        let seen =
            sighting.map(|one| Lock::Anything.observe(&Trial::Ran { run: "r".into(), seen: vec![one] }));
        assert_eq!(seen, expect, "{verdict}");
    };
    let failed = || Outcome::Fail { how: "exit code 1".into() };
    check(Outcome::Pass, Verdict::Passed, Ok(Observation::Passed));
    check(Outcome::Pass, Verdict::PassedWithComplaints, Ok(Observation::Passed));
    // An oops, a survivor that nothing kills, changed data, a warning in md: the test passed all the same.
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
        let wrong = sighting.came.wrong().cloned().unwrap();
        (wrong.class, wrong.detail)
    };
    assert_eq!(class(Outcome::Pass, Verdict::Crashed, None), (Class::Crash, "why".into()));
    let timeout = || Outcome::Timeout { limit_ms: 600_000 };
    assert_eq!(class(timeout(), Verdict::Failed, None).0, Class::Timeout);
    assert_eq!(class(timeout(), Verdict::Hung, None).0, Class::Hang);
    let expected = reports::verdict::Judgement {
        met: true,
        outcome: "kernel-crash".into(),
        reason: "x".into(),
        place: "expectations.toml:1".into(),
    };
    assert_eq!(class(Outcome::Pass, Verdict::KnownFailure, Some(expected)).0, Class::Crash);
    assert_eq!(class(Outcome::Pass, Verdict::UnexpectedPass, None).0, Class::Complaint);
}
