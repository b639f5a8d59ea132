//! Tests of known issues on cases: logs that others published, and reports as the kernel writes them. Which
//! bug each is, and which it is not though it looks the same.

use protocol::event::AttemptFacts;
use protocol::evidence::ReportKind;
use protocol::wire::Survivor;

use super::tests::{crash_on, hang_on, matches, test};
use super::*;
use crate::testing::{self, stack};

/// Tasks as linux-raid has them of 6.1.55 on arm64: a writer stands as in another bug, but the daemon stands
/// in itself.
fn raid5d_that_waits_for_itself() -> [TaskStack; 4] {
    [
        stack(
            2619,
            "md127_raid5",
            false,
            "__switch_to+0xc0/0x100 ← __schedule+0x2a0/0x6b0 ← schedule+0x54/0xb4 ← raid5d+0x358/0x56c ← \
             md_thread+0xa8/0x15c ← kthread+0x104/0x110 ← ret_from_fork+0x10/0x20",
        ),
        stack(
            2620,
            "md127_resync",
            false,
            "__switch_to+0xc0/0x100 ← __schedule+0x2a0/0x6b0 ← schedule+0x54/0xb4 ← \
             raid5_get_active_stripe+0x1f4/0x454 ← raid5_sync_request+0x350/0x390 ← md_do_sync+0x8ac/0xcc4 ← \
             md_thread+0xa8/0x15c ← kthread+0x104/0x110",
        ),
        stack(
            2675,
            "jbd2/md127-8",
            false,
            "__switch_to+0xc0/0x100 ← __schedule+0x2a0/0x6b0 ← schedule+0x54/0xb4 ← md_write_start+0xfc/0x360 ← \
             raid5_make_request+0x68/0x117c ← md_handle_request+0x21c/0x354 ← md_submit_bio+0x74/0xb0 ← \
             __submit_bio+0x100/0x27c ← submit_bio_noacct_nocheck+0xdc/0x260",
        ),
        stack(
            2677,
            "ext4lazyinit",
            false,
            "__switch_to+0xc0/0x100 ← __schedule+0x2a0/0x6b0 ← io_schedule+0x3c/0x60 ← bit_wait_io+0x18/0x70 ← \
             do_get_write_access+0x1e4/0x3c0 [jbd2] ← ext4_init_inode_table+0x228/0x3d0 [ext4]",
        ),
    ]
}

#[test]
fn a_daemon_that_waits_for_itself_is_told_from_an_update_that_never_ends() {
    let stacks = raid5d_that_waits_for_itself();
    assert_eq!(hang_on("6.1.55", &stacks), ["raid5d-waits-for-itself present"]);
    assert_eq!(hang_on("6.1.94", &stacks), ["raid5d-waits-for-itself fixed"]);
    // Nobody but the writer: the update of the superblock that it waits for is never done.
    assert_eq!(hang_on("6.1.55", &stacks[2..3]), ["change-pending-for-ever present"]);
    assert_eq!(hang_on("6.1.55", &stacks[1..3]), [""; 0], "the sync thread may be what it waits for");
}

/// A report of a hung task; `frames` is innermost first.
fn hung_task(title: &str, frames: &str) -> KernelReport {
    KernelReport {
        kind: ReportKind::HungTask,
        title: title.to_owned(),
        alt_titles: vec![],
        corrupted: false,
        causes: vec![],
        starved: false,
        frames: frames.split(" ← ").map(str::to_owned).collect(),
    }
}

/// Ids and standings of what an attempt that came to `outcome` looks like, on a kernel of this version.
fn came_to(
    outcome: &Outcome,
    version: &str,
    stacks: &[TaskStack],
    reports: &[KernelReport],
    has_unkillable: bool,
) -> Vec<String> {
    let version = Version::parse(version);
    matches(&Symptoms { test: &test(), outcome, stacks, reports, has_unkillable, version: version.as_ref() })
}

fn hang() -> Outcome {
    Outcome::Hang { kind: HangKind::HungTask, silent_ms: 120_000, seen: None }
}

#[test]
fn io_that_waits_for_a_reshape_is_told_from_a_suspend_that_waits_for_the_io() {
    // Ubuntu's 6.5.0-14, while a raid5 became a raid6 (linux-raid, February 2024).
    let frames = "__schedule+0x2cc/0x770 ← schedule+0x63/0x110 ← schedule_timeout+0x157/0x170 ← wait_woken+0x5f/0x70 ← \
                  raid5_make_request+0x225/0x450 [raid456] ← md_handle_request+0x139/0x220 ← md_submit_bio+0x63/0xb0 ← \
                  __submit_bio+0xe4/0x1c0 ← submit_bio_noacct_nocheck+0x1ac/0x1f0 ← submit_bh_wbc+0x124/0x150";
    let worker = [stack(2934, "(udev-worker)", false, frames)];
    assert_eq!(hang_on("6.5.0", &worker), ["ahead-of-reshape-counts-q present"]);
    assert_eq!(hang_on("6.6.15", &worker), ["ahead-of-reshape-counts-q fixed"]);
    // The kernel's report is enough, whatever the test came to.
    let report = [hung_task("hung task in raid5_make_request", frames)];
    for outcome in [hang(), Outcome::Pass, Outcome::Timeout { limit_ms: 1 }] {
        let found = came_to(&outcome, "6.5.0", &[], &report, false);
        assert_eq!(found, ["ahead-of-reshape-counts-q present"], "{outcome:?}");
    }
}

#[test]
fn a_circle_of_other_locks_is_no_known_one() {
    let lockdep = |title: &str, frames: &[&str]| KernelReport {
        kind: ReportKind::Lockdep,
        title: title.to_owned(),
        frames: frames.iter().map(|frame| (*frame).to_owned()).collect(),
        ..hung_task("", "f")
    };
    let circular = "lockdep: possible circular locking dependency detected";
    // 5.15-rc1 of Fedora: the disk is added under the lock that opens it.
    for title in [format!("{circular} in md_open"), "possible circular locking in md_open".to_owned()] {
        let report = lockdep(&title, &["md_open+0x4f/0x110", "blkdev_get_by_dev.part.0+0xf2/0x320"]);
        for version in ["5.15-rc1", "6.7.4", "6.12.117"] {
            assert_eq!(crash_on(version, report.clone()), [""; 0]);
        }
    }
    let hot_add = lockdep(
        &format!("{circular} in mddev_suspend"),
        &["mddev_suspend", "raid1_add_disk", "remove_and_add_spares", "md_start_sync", "process_one_work"],
    );
    assert_eq!(crash_on("6.7.4", hot_add.clone()), ["hot-add-suspends present"]);
    assert_eq!(crash_on("6.7.12", hot_add.clone()), ["hot-add-suspends fixed"]);
    assert_eq!(crash_on("6.12.117", hot_add), ["hot-add-suspends fixed"]);
    // As 2aa72276fab9 quotes it.
    let recursive = "lockdep: possible recursive locking detected in __kernfs_remove";
    let clear = lockdep(recursive, &["kernfs_drain", "__kernfs_remove", "kobject_put", "md_attr_store"]);
    assert_eq!(crash_on("7.0.9", clear.clone()), ["clear-locks-kernfs-twice present"]);
    assert_eq!(crash_on("6.12.117", clear), ["clear-locks-kernfs-twice older"]);
}

#[test]
fn waits_for_a_device_below_are_no_known_ones() {
    // Arch's 5.0.13 (linux-block, May 2019): the scheduler below md never finishes a request.
    let daemon = "schedule+0x32/0x80 ← md_super_wait+0x69/0xa0 [md_mod] ← md_bitmap_wait_writes+0x8e/0xa0 [md_mod] ← \
                  md_bitmap_unplug+0xf9/0x110 [md_mod] ← flush_bio_list+0x1e/0xe0 [raid1] ← \
                  flush_pending_writes+0x81/0xc0 [raid1] ← raid1d+0xa3/0x12d0 [raid1] ← md_thread+0xf9/0x160 [md_mod]";
    let sync = "schedule+0x32/0x80 ← raid1_sync_request+0x97f/0xb90 [raid1] ← \
                md_do_sync.cold.53+0x43c/0x98f [md_mod] ← md_thread+0xf9/0x160 [md_mod] ← kthread+0x112/0x130";
    let journal = "schedule+0x32/0x80 ← jbd2_journal_commit_transaction+0x250/0x18c0 [jbd2] ← \
                   kjournald2+0xc0/0x270 [jbd2] ← kthread+0x112/0x130";
    let stacks = [
        stack(435, "md0_raid1", false, daemon),
        stack(443, "md0_resync", false, sync),
        stack(498, "jbd2/md0-8", false, journal),
    ];
    let reports = [
        hung_task("hung task in md_super_wait", daemon),
        hung_task("hung task in raid1_sync_request", sync),
        hung_task("hung task in jbd2_journal_commit_transaction", journal),
    ];
    for version in ["5.0.13", "6.1.55", "6.1.192", "6.5.0", "6.7.4", "6.12.107", "7.3.4"] {
        assert_eq!(hang_on(version, &stacks), [""; 0], "{version}");
        for outcome in [hang(), Outcome::Pass, Outcome::Timeout { limit_ms: 1 }] {
            assert_eq!(came_to(&outcome, version, &[], &reports, false), [""; 0], "{version} {outcome:?}");
        }
    }
}

#[test]
fn a_raid6_of_256_members_is_known_wherever_it_was_seen() {
    let report = KernelReport {
        kind: ReportKind::Oops,
        title: "kernel BUG in async_syndrome_val".to_owned(),
        ..hung_task("", "async_syndrome_val ← raid_run_ops ← handle_stripe ← handle_active_stripes ← raid5d")
    };
    for version in ["6.1.192", "6.12.117", "7.3.4"] {
        assert_eq!(crash_on(version, report.clone()), ["raid6-of-256-members present"], "{version}");
        // Who waits for the thread that died is its consequence.
        let waiter = [stack(7, "cat", true, "md_do_sync ← md_thread")];
        let found = came_to(&hang(), version, &waiter, std::slice::from_ref(&report), false);
        assert_eq!(found, ["raid6-of-256-members present"], "{version}");
    }
    assert_eq!(crash_on("7.4", report), ["raid6-of-256-members unknown"]);
}

#[test]
fn an_array_that_is_put_twice_has_no_helper_s_name() {
    let frames = "kobject_put+0x29c/0x430 ← mddev_delayed_delete+0x14/0x20 ← process_one_work+0x7cc/0x18d4";
    for title in ["refcount bug in mddev_delayed_delete", "refcount_t: underflow in mddev_delayed_delete"] {
        let report = KernelReport { kind: ReportKind::Bug, ..hung_task(title, frames) };
        assert_eq!(crash_on("6.16", report), ["deleted-array-put-twice unknown"]);
    }
}

#[test]
fn a_hang_is_one_whatever_the_attempt_came_to() {
    let stacks = testing::hung_stacks();
    let expect = ["dm-raid-stop-and-barrier present"];
    let found = |outcome: &Outcome, stacks: &[TaskStack], has_unkillable| {
        came_to(outcome, "6.1.192", stacks, &[], has_unkillable)
    };
    // The limit of time came before the detector.
    let timeout = Outcome::Timeout { limit_ms: 60_000 };
    assert_eq!(found(&timeout, &stacks, false), expect);
    // What was merely slow: the tasks go on.
    let mut moving = stacks.clone();
    for stack in &mut moving {
        (stack.state, stack.still_ms) = ('S', 40);
    }
    assert_eq!(found(&timeout, &moving, false), [""; 0]);
    assert_eq!(found(&hang(), &moving, false), expect, "the detector has judged");
    // The script went on, and left a process behind that nothing kills.
    let fail = Outcome::Fail { how: "exit status 1".to_owned() };
    for outcome in [Outcome::Pass, fail] {
        assert_eq!(found(&outcome, &stacks, true), expect, "{outcome:?}");
        assert_eq!(found(&outcome, &stacks, false), [""; 0], "{outcome:?}");
    }
    // The kernel panics because a task hangs.
    let frames = |idx: usize| stacks[idx].frames.join(" ← ");
    let reports =
        [hung_task("hung task in _wait_barrier", &frames(0)), hung_task("hung task in md_stop", &frames(3))];
    let panic =
        Outcome::KernelCrash { title: "Kernel panic - not syncing: hung_task: blocked tasks".to_owned() };
    assert_eq!(came_to(&panic, "6.1.192", &[], &reports, false), expect);
    // After an oops they are its consequence.
    let oops = KernelReport {
        kind: ReportKind::Oops,
        ..hung_task(
            "BUG: kernel NULL pointer dereference in raid1_sync_request",
            "raid1_sync_request ← md_do_sync",
        )
    };
    for outcome in [timeout, Outcome::Pass, panic] {
        let reports = std::slice::from_ref(&oops);
        let found = came_to(&outcome, "6.1.192", &stacks, reports, true);
        assert!(!found.iter().any(|id| id.starts_with("dm-raid-stop")), "{outcome:?}: {found:?}");
    }
}

#[test]
fn a_kernel_is_not_told_of_bugs_that_its_stable_release_fixed() {
    // A recorded run of 6.7.12: its release notes of 6.7.7 have the fixes.
    let lvm = [stack(
        812,
        "lvm",
        true,
        "stop_sync_thread+0x11c/0x1f0 [md_mod] ← md_stop+0x12/0x20 [md_mod] ← raid_dtr+0x27/0x60 [dm_raid] ← \
         dm_table_destroy+0x5e/0x130 [dm_mod] ← table_clear+0x69/0xf0 [dm_mod]",
    )];
    for version in ["6.7.7", "6.7.12", "6.8", "6.12.117"] {
        let found = hang_on(version, &lvm);
        assert!(found.iter().all(|issue| issue.ends_with(" fixed")), "{version}: {found:?}");
    }
    let found = hang_on("6.7.6", &lvm);
    assert!(!found.is_empty() && found.iter().all(|issue| issue.ends_with(" present")), "{found:?}");
}

#[test]
fn a_pass_that_leaves_a_stuck_process_is_recognised_in_a_record() {
    let events = |unkillable: bool| {
        let stacks: Vec<serde_json::Value> =
            testing::hung_stacks().iter().map(|stack| serde_json::to_value(stack).unwrap()).collect();
        let facts = AttemptFacts {
            survivors: vec![Survivor { pid: 812, comm: "lvm".into(), state: 'D', unkillable }],
            ..AttemptFacts::default()
        };
        let (facts, outcome) =
            (serde_json::to_value(&facts).unwrap(), serde_json::to_value(Outcome::Pass).unwrap());
        let kernel = serde_json::json!({
            "at_ms": 1, "event": "kernel-ready", "kernel_idx": 0, "spec": "deb:6.1", "exact_spec": "deb:6.1",
            "release": "6.1.0-56-amd64", "package_version": "6.1.192-2", "digest": "0"
        });
        let attempt = serde_json::json!({"attempt": 1, "test": "lvm2:a", "kernel_idx": 0, "dir": "a"});
        let lines = [
            kernel,
            serde_json::json!({"at_ms": 2, "event": "planned", "attempts": [attempt]}),
            serde_json::json!({"at_ms": 3, "event": "test-started", "attempt": 1}),
            serde_json::json!({"at_ms": 4, "event": "stacks-seen", "attempt": 1, "stacks": stacks}),
            serde_json::json!({
                "at_ms": 5, "event": "attempt-finished", "attempt": 1, "outcome": outcome, "facts": facts
            }),
            serde_json::json!({"at_ms": 6, "event": "run-finished", "interrupted": false}),
        ];
        lines.map(|line| serde_json::from_value(line).unwrap())
    };
    let known = |unkillable| {
        let record = crate::record::RunRecord::from_events(events(unkillable));
        let judged = crate::judge::judge(&record, &Default::default(), testing::known_issues());
        judged[0].known_issues.iter().map(|known| known.info.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(known(true), ["dm-raid-stop-and-barrier"]);
    assert_eq!(known(false), [""; 0]);
}

/// A title as the console's classifier writes it, the frames of the report, a kernel, and what that must be
/// known as.
#[test]
fn reports_are_recognised_as_the_kernel_writes_them() {
    for (title, frames, version, expect) in [
        (
            "BUG: kernel NULL pointer dereference in rdev_addable",
            "rdev_addable+0x4d/0xf0 ← md_start_sync+0x329/0x480 ← process_one_work",
            "6.12.107",
            "rdev-addable-null-dereference present",
        ),
        (
            "BUG: kernel NULL pointer dereference in rdev_addable",
            "rdev_addable ← md_start_sync",
            "6.1.192",
            "rdev-addable-null-dereference older",
        ),
        (
            "general protection fault in md_notify_reboot",
            "md_notify_reboot ← notifier_call_chain ← blocking_notifier_call_chain ← kernel_restart",
            "6.12.20",
            "all-mddevs-after-free present",
        ),
        (
            "general protection fault in bdi_unregister",
            "bdi_unregister+0x4b/0x170 ← __del_gendisk+0x356/0x3e0 ← mddev_unlock+0x351/0x360 ← rdev_attr_store",
            "6.18.1",
            "gendisk-deleted-twice present",
        ),
        (
            "general protection fault in __wake_up_common",
            "__wake_up_common ← mempool_free ← raid_end_bio_io ← raid1_end_write_request ← bio_endio",
            "6.12.38",
            "raid1-pool-on-the-stack present",
        ),
        (
            "KASAN: stack-out-of-bounds in mempool_alloc_noprof",
            "mempool_alloc_noprof ← raid1_write_request ← raid1_make_request",
            "6.1.146",
            "raid1-pool-on-the-stack fixed",
        ),
        (
            "BUG: kernel NULL pointer dereference in sync_request_write",
            "sync_request_write ← raid1d ← md_thread",
            "6.1.135",
            "raid1-check-without-source present",
        ),
        (
            "general protection fault in bitmap_get_stats",
            "bitmap_get_stats ← md_seq_show ← seq_read_iter",
            "6.12.38",
            "bitmap-stats-fault present",
        ),
        (
            "WARNING in raid10_handle_discard",
            "raid10_handle_discard ← raid10_make_request ← md_handle_request",
            "6.12.63",
            "raid10-discard-nowait present",
        ),
        (
            "divide error in setup_geo",
            "setup_geo ← setup_conf ← raid10_run ← md_run",
            "6.12.87",
            "raid10-no-far-copies present",
        ),
        (
            "BUG: kernel NULL pointer dereference in raid5_store_group_thread_cnt",
            "raid5_store_group_thread_cnt ← md_attr_store ← sysfs_kf_write",
            "6.12.63",
            "group-thread-cnt-null-dereference present",
        ),
        (
            "lockdep: suspicious RCU usage in md_wakeup_thread",
            "md_wakeup_thread ← md_write_start",
            "6.12.62",
            "wakeup-outside-rcu present",
        ),
        (
            "KASAN: slab-use-after-free in ppl_do_flush",
            "ppl_do_flush ← ppl_write_stripe_run ← handle_active_stripes",
            "6.1.187",
            "ppl-flush-after-free present",
        ),
        (
            "BUG: kernel NULL pointer dereference in raid5_free_percpu",
            "raid5_free_percpu ← free_conf ← setup_conf ← raid5_run ← md_run",
            "7.3.3",
            "raid5-percpu-null-dereference present",
        ),
        (
            "soft lockup in md_do_sync",
            "md_do_sync ← md_thread ← kthread",
            "6.12.116",
            "sync-skips-without-a-pause present",
        ),
        (
            "BUG: kernel NULL pointer dereference in process_metadata_update",
            "process_metadata_update ← process_recvd_msg ← recv_daemon ← md_thread",
            "6.12.74",
            "cluster-metadata-null-dereference present",
        ),
        (
            "BUG: kernel NULL pointer dereference in __dm_suspend",
            "__dm_suspend ← dm_suspend ← dev_suspend ← ctl_ioctl",
            "6.12.52",
            "dm-suspend-null-dereference present",
        ),
        (
            "KASAN: slab-use-after-free in do_resume",
            "do_resume ← ctl_ioctl",
            "6.12.111",
            "dm-resume-after-free present",
        ),
        (
            "soft lockup in integrity_metadata",
            "integrity_metadata ← process_one_work ← worker_thread",
            "6.12.114",
            "integrity-discard-never-ends present",
        ),
        (
            "KASAN: slab-out-of-bounds in memcpy",
            "memcpy ← dm_integrity_map_inline ← dm_integrity_map ← __map_bio",
            "6.12.113",
            "integrity-inline-overflow present",
        ),
        (
            "WARNING in raid_resume",
            "raid_resume ← dm_table_resume_targets ← __dm_resume",
            "6.10-rc2",
            "resume-warns-of-a-sync-thread present",
        ),
        (
            "WARNING in raid_resume",
            "raid_resume ← dm_table_resume_targets ← __dm_resume",
            "6.12.117",
            "resume-warns-of-a-sync-thread fixed",
        ),
    ] {
        let report = KernelReport { kind: ReportKind::Oops, ..hung_task(title, frames) };
        let found = crash_on(version, report);
        assert!(found.iter().any(|id| id == expect), "{title} on {version}: {found:?}");
        assert!(found.len() == 1, "{title} on {version} is more than one: {found:?}");
    }
}
