//! The three regressions of v6.7 that "[PATCH v2 00/11] dm-raid: fix v6.7 regressions" is about: found in
//! v6.7, and gone with their fixes.

use raid_core::era;
use raid_core::explore::{Kind, Limits, Outcome, explore};
use raid_core::scenario::{self, SCENARIOS};
use raid_core::story::{self, Page, Story};
use raid_core::table;

fn run(scenario: &str, era: &str) -> Outcome {
    explore(scenario::named(scenario).unwrap(), era::named(era).unwrap(), Limits::default())
}

fn verdict(scenario: &str, era: &str) -> String {
    table::verdict(&run(scenario, era))
}

fn tell(scenario: &str, era: &str, kind: Kind) -> Story {
    let outcome = run(scenario, era);
    let finding = outcome.findings.iter().find(|finding| finding.kind == kind).unwrap();
    story::tell(scenario::named(scenario).unwrap(), era::named(era).unwrap(), finding)
}

#[test]
fn a_suspended_array_was_no_longer_reaped_in_v6_7() {
    assert_eq!(verdict("S1", "6.7"), "DL");
    assert!(table::is_as_expected(&table::expected("S1", "P1-4").unwrap(), &verdict("S1", "P1-4")));
    assert_eq!(verdict("S1", "6.9"), "ok");
}

#[test]
fn a_reshape_that_has_to_wait_hung_the_next_suspend_in_v6_7() {
    assert_eq!(verdict("S3", "6.6"), "ok");
    assert_eq!(verdict("S3", "6.7"), "DL");
    assert_eq!(verdict("S3", "6.9"), "churn");
}

#[test]
fn an_interrupted_reshape_hung_the_destructor_in_v6_7() {
    assert_eq!(verdict("S4", "6.6"), "ok");
    assert_eq!(verdict("S4", "6.7"), "DL");
    assert_eq!(verdict("S4", "P1-4"), "ok");
}

#[test]
fn the_stacks_are_those_of_the_v2_series() {
    let s1 = tell("S1", "6.7", Kind::Deadlock);
    let lvm = &s1.waiting[0];
    assert_eq!(lvm.task, "lvm");
    assert_eq!(
        lvm.stack.join(" ← "),
        "stop_sync_thread ← __md_stop_writes ← md_stop ← raid_dtr ← dm_table_destroy ← __dm_destroy ← dev_remove"
    );
    assert_eq!(lvm.wait, "waits on resync_wait for !RUNNING");
    let s3 = tell("S3", "6.7", Kind::Deadlock);
    let stack = s3.waiting[0].stack.join(" ← ");
    assert!(
        stack.starts_with("stop_sync_thread ← __md_stop_writes ← md_stop_writes ← raid_postsuspend"),
        "{stack}"
    );
}

/// The hang of Debian's 6.1 in integrity-caching.sh, see docs/md/answers.md: the work item runs, so it is not
/// pending, and there is no thread yet; it starts one after mddev_suspend has quiesced the array.
#[test]
fn before_v6_7_a_work_item_that_runs_was_overlooked() {
    let story = tell("S1", "6.6", Kind::Deadlock);
    let waits = |task: &str| story.waiting.iter().find(|waiting| waiting.task == task).unwrap();
    assert!(
        waits("lvm")
            .stack
            .join(" ← ")
            .starts_with("md_unregister_thread ← md_reap_sync_thread ← __md_stop_writes")
    );
    assert_eq!(waits("sync").wait, "waits on wait_for_quiescent for !quiesce");
    let what_if = era::V6_6.with(&[era::Switch::WorkBusy]);
    let outcome = explore(scenario::named("S1").unwrap(), what_if, Limits::default());
    assert_eq!(table::verdict(&outcome), "ok");
}

/// raid10's sync thread, told to stop, waits for the barrier at its end (close_sync), which the suspend
/// holds: the stack is raid1's of integrity-caching.sh on 6.1.
#[test]
fn a_sync_of_raid10_ends_only_when_the_barrier_is_down() {
    let story = tell("S1r", "6.6", Kind::Deadlock);
    let sync = story.waiting.iter().find(|waiting| waiting.task == "sync").unwrap();
    assert_eq!(sync.stack.join(" ← "), "wait_barrier ← close_sync ← md_do_sync ← md_thread");
    assert_eq!(verdict("S1r", "6.9"), "ok");
}

/// Since v6.7 the daemon has the worker look at a read-only array's spares, frozen or not; since v6.9
/// raid_dtr waits for no worker; and a suspended array is read-only on 7.3 (docs/md/answers.md [12]).
#[test]
fn a_worker_that_looks_at_spares_outlives_its_raid_set() {
    assert_eq!(verdict("S18", "6.6"), "ok");
    assert_eq!(verdict("S18", "6.8"), "ok");
    for name in ["6.9", "6.12", "7.3"] {
        assert_eq!(verdict("S18", name), "V I13", "{name}");
        let stops = era::named(name).unwrap().with(&[era::Switch::DtrStops]);
        let outcome = explore(scenario::named("S18").unwrap(), stops, Limits::default());
        assert_eq!(table::verdict(&outcome), "ok", "{name}");
    }
    assert_eq!(verdict("S19", "6.12"), "ok");
    assert_eq!(verdict("S19", "7.3"), "V I13");
}

#[test]
fn a_trace_is_a_shortest_one_and_can_be_told() {
    for scenario in &SCENARIOS {
        let limits = Limits { max_states: 20_000, ..Limits::default() };
        let outcome = explore(scenario, era::V6_7, limits);
        for finding in &outcome.findings {
            let story = story::tell(scenario, era::V6_7, finding);
            assert_eq!(story.lines.len(), finding.trace.len());
            assert!(story.to_text(Page::default()).contains(scenario.name));
        }
    }
}
