//! Tests of the target: which failures are the same, and what a trial means.

use super::*;

fn wrong(class: Class, signature: &[&str]) -> Failure {
    Failure {
        class,
        detail: "no progress for 7 s".into(),
        signature: signature.iter().map(|&line| line.to_owned()).collect(),
        known_issues: vec![],
        last_lines: vec!["## DEBUG: device busy".into()],
    }
}

fn ran(result: TrialResult) -> Trial {
    let sighting =
        |test: &str, came| Sighting { test: test.into(), dir: "d".into(), reproduce: None, result: came };
    let seen =
        vec![sighting("lvm2:shell/x.sh", result), sighting("lvm2:shell/other.sh", TrialResult::Passed)];
    Trial::Ran { run: "r".into(), seen }
}

const STOP: &str = "lvm: stop_sync_thread ← md_stop ← raid_dtr";

fn check(seen: TrialResult, expect: &str) {
    let failing = ran(TrialResult::Wrong(wrong(Class::Hang, &[STOP, "mdX_resync: md_do_sync"])));
    let target = Target::from_trials(None, &[&ran(TrialResult::Passed), &failing], &[]).unwrap();
    let observed = match target.observe(&ran(seen)) {
        Observation::Failed => "failed".to_owned(),
        Observation::Passed => "passed".to_owned(),
        Observation::Other(why) => format!("other: {why}"),
        Observation::Untestable(why) => format!("untestable: {why}"),
    };
    assert_eq!(observed, expect);
}

#[test]
fn only_the_same_hang_counts() {
    check(TrialResult::Wrong(wrong(Class::Hang, &[STOP])), "failed");
    let by_another_task = "dmsetup: stop_sync_thread ← md_stop ← raid_dtr";
    check(TrialResult::Wrong(wrong(Class::Hang, &["jbd2: md_write_start", by_another_task])), "failed");
    check(TrialResult::Wrong(wrong(Class::Timeout, &[STOP])), "failed");
    let other = "lvm: raise_barrier ← raid1_sync_request";
    check(TrialResult::Wrong(wrong(Class::Hang, &[other])), &format!("other: hung ({other})"));
    check(TrialResult::Wrong(wrong(Class::Hang, &[])), "other: hung (no progress for 7 s)");
    check(
        TrialResult::Wrong(wrong(Class::Crash, &["page fault in md_run"])),
        "other: crashed (page fault in md_run)",
    );
}

#[test]
fn a_known_issue_in_common_is_the_same_bug() {
    let of = |line| Failure { known_issues: vec!["sync-without-done".into()], ..wrong(Class::Hang, &[line]) };
    let target = Target::from_trials(None, &[&ran(TrialResult::Wrong(of(STOP)))], &[]).unwrap();
    assert_eq!(target.observe(&ran(TrialResult::Wrong(of("lvm: md_stop")))), Observation::Failed);
}

#[test]
fn what_did_not_run_tells_nothing() {
    check(TrialResult::Passed, "passed");
    check(TrialResult::Skipped { reason: "too old".into() }, "untestable: skipped: too old");
    check(TrialResult::NoBoot { title: "panic".into() }, "other: does not boot: panic");
    let target = Target::Anything;
    let error = "raid modules do not build\n  | md.c:1:2: error: x\n  | more".to_owned();
    let expect = Observation::Untestable("does not build: md.c:1:2: error: x".into());
    assert_eq!(target.observe(&Trial::Unbuildable { error }), expect);
}

#[test]
fn a_complaint_counts_only_if_it_is_searched_for() {
    let warning = "WARNING in md_run: md_run ← raid_ctr";
    let complained = || TrialResult::Complained(wrong(Class::Complaint, &[warning]));
    check(complained(), "passed");
    let words = Target::words("WARNING in md_run".to_owned());
    assert_eq!(words.observe(&ran(complained())), Observation::Failed);
    // A crash by the same kernel report: there it ended the guest.
    let target =
        Target::from_trials(None, &[&ran(TrialResult::Wrong(wrong(Class::Crash, &[warning])))], &[]).unwrap();
    assert_eq!(target.observe(&ran(complained())), Observation::Failed);
    assert_eq!(Target::Anything.observe(&ran(complained())), Observation::Passed);
}

#[test]
fn a_chance_failure_is_not_what_is_searched_for() {
    let hung = || ran(TrialResult::Wrong(wrong(Class::Hang, &[STOP])));
    let chance = ran(TrialResult::Wrong(wrong(Class::Failure, &[])));
    let target = |trials: &[&Trial]| Target::from_trials(None, trials, &[]).unwrap().in_short();
    let of_hang = format!("lvm2:shell/x.sh hung ({STOP})");
    assert_eq!(target(&[&chance, &hung(), &hung()]), of_hang);
    assert_eq!(target(&[&hung(), &chance]), of_hang);
    assert_eq!(target(&[&chance, &hung()]), "lvm2:shell/x.sh failed (no progress for 7 s)");
}

fn two(first: TrialResult, second: TrialResult) -> Trial {
    let sighting =
        |test: &str, came| Sighting { test: test.into(), dir: "d".into(), reproduce: None, result: came };
    Trial::Ran { run: "r".into(), seen: vec![sighting("a", first), sighting("b", second)] }
}

#[test]
fn what_the_passing_end_shows_too_is_not_meant() {
    let always = || TrialResult::Wrong(wrong(Class::Failure, &[]));
    let hung = || TrialResult::Wrong(wrong(Class::Hang, &[STOP]));
    let (failing, passing) = (two(always(), hung()), two(always(), TrialResult::Passed));
    let target = Target::from_trials(None, &[&failing], &[&passing]).unwrap();
    assert_eq!(target.in_short(), format!("b hung ({STOP})"));
    assert_eq!(target.met_by(&failing).unwrap().test, "b");
    assert_eq!(target.observe(&passing), Observation::Passed);
    let nothing_else = Target::from_trials(None, &[&passing], &[&passing]).unwrap();
    assert_eq!(nothing_else.observe(&passing), Observation::Failed);
}

#[test]
fn a_skip_beside_a_pass_is_no_pass() {
    let trial = two(TrialResult::Skipped { reason: "too old".into() }, TrialResult::Passed);
    let skipped = Observation::Untestable("skipped: too old".into());
    assert_eq!(Target::Anything.observe(&trial), skipped);
    assert_eq!(Target::words("stop".into()).observe(&trial), skipped);
    // Only the test that showed the target matters, where that is known.
    let failing = two(TrialResult::Passed, TrialResult::Wrong(wrong(Class::Hang, &[STOP])));
    let target = Target::from_trials(Some("stop_sync"), &[&failing], &[]).unwrap();
    assert!(target.is_signed());
    assert_eq!(target.observe(&trial), Observation::Passed);
    let target = Target::from_trials(Some("device busy"), &[&failing], &[]).unwrap();
    assert!(!target.is_signed(), "a test's own words are no mark");
}

#[test]
fn any_corruption_is_the_same_corruption() {
    let target = Target::from_trials(
        None,
        &[&ran(TrialResult::Wrong(wrong(Class::Corruption, &["fsck found errors"])))],
        &[],
    )
    .unwrap();
    let other = ran(TrialResult::Wrong(wrong(Class::Corruption, &["checksums differ"])));
    assert_eq!(target.observe(&other), Observation::Failed);
    let failure = ran(TrialResult::Wrong(wrong(Class::Failure, &[])));
    assert_eq!(target.observe(&failure), Observation::Other("failed (no progress for 7 s)".into()));
}

#[test]
fn words_say_what_counts() {
    let target = Target::words("stop_sync_thread".to_owned());
    assert_eq!(target.observe(&ran(TrialResult::Wrong(wrong(Class::Hang, &[STOP])))), Observation::Failed);
    assert!(matches!(
        target.observe(&ran(TrialResult::Wrong(wrong(Class::Hang, &[])))),
        Observation::Other(_)
    ));
}
