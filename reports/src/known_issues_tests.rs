//! Tests of known issues: what a failure looks like, what a version says, how errors read.

use super::*;
use crate::testing::{self, stack};
use protocol::event::AttemptFacts;
use protocol::evidence::ReportKind;
use protocol::wire::Survivor;

/// Ids and standings of what a hang with these stacks looks like on a kernel of this version.
fn hang_on(version: &str, stacks: &[TaskStack]) -> Vec<String> {
    let version = Version::parse(version);
    let outcome = Outcome::Hang { kind: HangKind::NoProgress, silent_ms: 41_000, seen: None };
    matches(&Evidence {
        test: &test(),
        outcome: &outcome,
        stacks,
        reports: &[],
        has_unkillable: false,
        version: version.as_ref(),
    })
}

fn crash_on(version: &str, report: KernelReport) -> Vec<String> {
    let version = Version::parse(version);
    let outcome = Outcome::KernelCrash { title: report.title.clone() };
    let reports = &[report];
    matches(&Evidence {
        test: &test(),
        outcome: &outcome,
        stacks: &[],
        reports,
        has_unkillable: false,
        version: version.as_ref(),
    })
}

fn matches(evidence: &Evidence<'_>) -> Vec<String> {
    let matches = testing::known_issues().matching(evidence);
    matches.iter().map(|matched| format!("{} {}", matched.about.id, matched.standing.name())).collect()
}

fn test() -> TestId {
    "lvm2:shell/lvconvert-raid-reshape.sh".parse().unwrap()
}

fn check_error(entry: &str, expect: &str) {
    let error = KnownIssues::parse(entry, "known-issues.toml").unwrap_err().to_string();
    assert_eq!(error, expect);
}

#[test]
fn the_seed_s_deadlock_is_recognised_where_it_is() {
    let stacks = testing::hung_stacks();
    assert_eq!(hang_on("6.1.192", &stacks), ["dm-raid-stop-and-barrier present"]);
    assert_eq!(hang_on("6.12.117", &stacks), ["dm-raid-stop-and-barrier unknown"]);
    // One half alone is another bug.
    assert_eq!(hang_on("6.1.192", &stacks[1..]), Vec::<String>::new());
}

#[test]
fn a_sync_thread_that_nobody_reaps_is_told_from_a_stuck_one() {
    let mut stacks = vec![stack(
        1,
        "lvm",
        true,
        "stop_sync_thread ← md_frozen_sync_thread ← raid_presuspend ← dm_table_presuspend_targets ← \
         __dm_suspend ← dm_suspend ← dev_suspend",
    )];
    assert_eq!(hang_on("6.7.4", &stacks), ["sync-without-done present"]);
    assert_eq!(hang_on("6.12.117", &stacks), ["sync-without-done fixed"]);
    assert_eq!(hang_on("6.1.192", &stacks), ["sync-without-done older"]);
    assert_eq!(hang_on("", &stacks), ["sync-without-done unknown"]);
    stacks.push(stack(2, "mdX_resync", false, "raid5_get_active_stripe ← reshape_request ← md_do_sync"));
    assert!(!hang_on("6.7.4", &stacks).iter().any(|matched| matched.starts_with("sync-without-done")));
}

#[test]
fn a_stable_branch_is_judged_by_its_own_fix() {
    let reader = [stack(1, "cat", true, "_wait_barrier ← raid1_read_request ← raid1_make_request")];
    assert_eq!(hang_on("6.12.107", &reader), ["takeover-leaves-array-frozen present"]);
    assert_eq!(hang_on("6.12.110", &reader), ["takeover-leaves-array-frozen fixed"]);
    // What 6.12.107 of Debian's really says: the wait is inlined.
    let inlined = [stack(1, "dd", true, "raid1_read_request ← raid1_make_request ← md_handle_request")];
    assert_eq!(hang_on("6.12.107", &inlined), ["takeover-leaves-array-frozen present"]);
    let issues = testing::known_issues();
    let matched = |version: &str| {
        let issue = issues.issues.iter().find(|issue| issue.about.id == "takeover-leaves-array-frozen");
        issue.unwrap().matched(Version::parse(version).as_ref())
    };
    assert_eq!(
        matched("6.12.107").fix_sentence(),
        "fixed by dc386aa0ac0a; first in 6.12.110; in Debian since 6.12.111"
    );
    assert!(matched("6.12.115").sentence().contains("which this kernel should have fixed"));
}

#[test]
fn versions_between_the_bug_and_its_fix_have_it() {
    let standing = |id: &str, version: &str| {
        let issue = testing::known_issues().issues.iter().find(|issue| issue.about.id == id);
        issue.unwrap().standing(Version::parse(version).as_ref())
    };
    // 7.1 has 418b3e64e445, 7.2 has 1d24d4c1ea1d: the sources of 7.2.13 show both. Stable releases of 7.0 may.
    for (id, fixed) in [("raid5-bio-after-free", "7.1"), ("reshape-position-eio", "7.2")] {
        let standings = ["6.1.192", "6.9", "6.12.117", "7.0.13", fixed, "7.2.4", "7.3"];
        let expect = [
            Standing::Older,
            Standing::Present,
            Standing::Present,
            Standing::Unknown,
            Standing::Fixed,
            Standing::Fixed,
            Standing::Fixed,
        ];
        assert_eq!(standings.map(|version| standing(id, version)), expect, "{id}");
    }
    // Not told of branches that nobody looked at, nor of those to come.
    let retries = ["6.8.12", "6.9", "6.14.2", "7.1", "7.3.4", "7.4"];
    let expect = [
        Standing::Unknown,
        Standing::Present,
        Standing::Present,
        Standing::Present,
        Standing::Present,
        Standing::Unknown,
    ];
    assert_eq!(retries.map(|version| standing("frozen-reshape-retries", version)), expect);
    let suspend_lo = ["6.1.192", "6.12.90", "6.12.91", "6.16", "6.18.33", "7.0.9", "7.0.10", "7.1", "7.4"];
    let expect = [
        Standing::Present,
        Standing::Present,
        Standing::Fixed,
        Standing::Present,
        Standing::Fixed,
        Standing::Present,
        Standing::Fixed,
        Standing::Fixed,
        Standing::Fixed,
    ];
    assert_eq!(suspend_lo.map(|version| standing("frozen-reshape-suspend-lo", version)), expect);
    // The model hangs up to 6.6 (suites/raid-core/ANSWERS.md [1]).
    let barrier = ["5.10", "6.1.192", "6.5.13", "6.6.15", "6.7"];
    let expect =
        [Standing::Unknown, Standing::Present, Standing::Present, Standing::Present, Standing::Unknown];
    assert_eq!(barrier.map(|version| standing("dm-raid-stop-and-barrier", version)), expect);
    assert_eq!(barrier.map(|version| standing("dm-raid-stop-and-stripes", version)), expect);
    // 6.12 has one of the two commits that it takes.
    let flush = ["6.12.117", "6.18.15", "6.18.16", "7.0"];
    let expect = [Standing::Present, Standing::Present, Standing::Fixed, Standing::Fixed];
    assert_eq!(flush.map(|version| standing("bitmap-flush-into-suspended", version)), expect);
    // A mainline release has what it fixed for all that are newer.
    let raid5d = ["6.1.93", "6.1.94", "6.12", "6.14.2", "7.3.4"];
    let expect = [Standing::Present, Standing::Fixed, Standing::Fixed, Standing::Fixed, Standing::Fixed];
    assert_eq!(raid5d.map(|version| standing("raid5d-waits-for-itself", version)), expect);
    assert_eq!(standing("takeover-leaves-array-frozen", "6.1.192"), Standing::Older);
}

#[test]
fn a_short_stack_only_looks_like_an_issue_and_gives_way_to_a_longer_one() {
    let text = r#"
[[issue]]
id = "wide"
title = "any write waits"
stacks = ["md_write_start"]
present = ["6.1"]

[[issue]]
id = "exact"
title = "this write waits for that reader"
stacks = ["md_write_start", "raid1_read_request"]
present = ["6.1"]
"#;
    let issues = KnownIssues::parse(text, "x").unwrap();
    let test: TestId = "lvm2:a".parse().unwrap();
    let outcome = Outcome::Hang { kind: HangKind::NoProgress, silent_ms: 1, seen: None };
    let version = Version::parse("6.1.192");
    let sentences = |stacks: &[TaskStack]| {
        let evidence = Evidence {
            test: &test,
            outcome: &outcome,
            stacks,
            reports: &[],
            has_unkillable: false,
            version: version.as_ref(),
        };
        issues.matching(&evidence).iter().map(Match::sentence).collect::<Vec<_>>()
    };
    let write = stack(1, "dd", true, "md_write_start ← raid1_make_request");
    assert_eq!(
        sentences(std::slice::from_ref(&write)),
        ["looks like wide, which this kernel has, by a stack that other bugs may share: any write waits"]
    );
    assert_eq!(
        sentences(&[write, stack(2, "cat", true, "raid1_read_request ← raid1_make_request")]),
        ["known issue exact, which this kernel has: this write waits for that reader"]
    );
}

#[test]
fn a_livelock_is_known_before_the_kernel_reports_it() {
    let spin = |comm: &str, frames: &str| {
        let test: TestId = "lvm2:a".parse().unwrap();
        let outcome = Outcome::Hang { kind: HangKind::Livelock, silent_ms: 12_000, seen: None };
        let version = Version::parse("6.1.90");
        let stacks = [TaskStack { state: 'R', ..stack(9, comm, false, frames) }];
        let evidence = Evidence {
            test: &test,
            outcome: &outcome,
            stacks: &stacks,
            reports: &[],
            has_unkillable: false,
            version: version.as_ref(),
        };
        let found = testing::known_issues().matching(&evidence);
        found.iter().map(|matched| matched.about.id.clone()).collect::<Vec<_>>()
    };
    assert!(
        spin("md0_raid5", "raid5_get_active_stripe ← retry_aligned_read ← raid5d ← md_thread")
            .contains(&"aligned-read-livelock".to_owned())
    );
    assert!(
        spin("md0_resync", "md_bitmap_start_sync ← raid1_sync_request ← md_do_sync ← md_thread")
            .contains(&"short-bitmap-livelock".to_owned())
    );
}

#[test]
fn a_wait_for_a_task_that_died_is_no_known_wait() {
    let outcome = Outcome::Hang { kind: HangKind::NoProgress, silent_ms: 7_000, seen: None };
    let stacks = [stack(
        270,
        "dmsetup",
        true,
        "__flush_work ← stop_sync_thread ← __md_stop_writes ← md_stop_writes ← raid_postsuspend ← \
         dm_table_postsuspend_targets ← dm_suspend ← dev_suspend",
    )];
    let found = |reports: &[KernelReport]| {
        matches(&Evidence {
            test: &test(),
            outcome: &outcome,
            stacks: &stacks,
            reports,
            has_unkillable: false,
            version: None,
        })
    };
    assert_eq!(found(&[]), ["sync-without-done unknown"]);
    let fault = KernelReport {
        kind: ReportKind::Oops,
        title: "BUG: kernel NULL pointer dereference in md_start_sync".into(),
        alt_titles: vec![],
        corrupted: false,
        causes: vec![],
        frames: vec!["md_start_sync".into(), "process_one_work".into()],
    };
    assert_eq!(found(&[fault]), [""; 0]);
}

#[test]
fn the_issues_that_a_kernel_has_come_before_those_that_it_should_not_have() {
    let stacks = [
        stack(
            1,
            "cat",
            true,
            "wait_woken ← raid5_make_request ← md_handle_request ← raid_map ← dm_submit_bio",
        ),
        stack(2, "lvm", true, "__synchronize_srcu ← __dm_suspend ← dm_suspend ← dev_suspend"),
    ];
    assert_eq!(hang_on("6.1.192", &stacks), ["io-waits-for-frozen-reshape present"]);
    assert_eq!(
        hang_on("6.12.117", &stacks),
        ["io-waits-for-frozen-reshape fixed", "ahead-of-reshape-counts-q fixed"]
    );
}

#[test]
fn a_crash_is_recognised_by_title_and_frames() {
    let mut report = KernelReport {
        kind: ReportKind::Lockup,
        title: "BUG: soft lockup".to_owned(),
        alt_titles: vec![],
        corrupted: false,
        causes: vec![],
        frames: ["raid5_get_active_stripe+0x1/0x2", "retry_aligned_read", "raid5d"]
            .map(str::to_owned)
            .to_vec(),
    };
    assert_eq!(crash_on("6.12.85", report.clone()), ["aligned-read-lockup present"]);
    report.frames.clear();
    assert_eq!(crash_on("6.12.85", report.clone()), Vec::<String>::new());
    report.alt_titles = vec!["soft lockup in retry_aligned_read".to_owned()];
    assert_eq!(crash_on("6.12.86", report), ["aligned-read-lockup fixed"]);
}

#[test]
fn links_are_of_checked_commits_only() {
    for KnownIssue { about, .. } in testing::known_issues().issues.clone() {
        assert!(!(about.unchecked && about.link.is_some()), "{}", about.id);
        assert!(about.link.is_none_or(|link| is_link(&link)), "{}", about.id);
    }
}

#[test]
fn patterns_want_a_task_each() {
    let pattern = |text: &str| check_pattern(&Spanned::new(0..0, text.to_owned())).unwrap();
    let frames = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut tasks = vec![frames("a b c"), frames("b")];
    assert!(assign(&[pattern("b"), pattern("a ← c")], &mut tasks));
    assert!(assign(&[pattern("__b|x"), pattern("b")], &mut tasks));
    assert!(!assign(&[pattern("a"), pattern("c")], &mut tasks));
    assert!(!assign(&[pattern("c ← a")], &mut tasks));
    assert!(assign(&[pattern("^b")], &mut tasks));
    assert!(!assign(&[pattern("^c")], &mut tasks));
    assert_eq!(tasks.len(), 2);
}

#[test]
fn errors_name_file_and_line() {
    let entry = |lines: &str| format!("[[issue]]\nid = \"x\"\ntitle = \"t\"\n{lines}\n");
    check_error(
        &entry("stack = [\"a\"]"),
        "known-issues.toml:4: unknown field `stack`, expected one of `id`, `title`, `stacks`, \
         `without-stacks`, `sync-at-rest`, `report`, `outcome`, `hang-kind`, `tests`, `present`, `absent`, `fixed-in`, \
         `debian`, `fix`, `subject`, `unchecked`, `seen`, `bug`, \
         `link`, `strikes`",
    );
    for (lines, expect) in [
        ("", "1: nothing to recognise it by: give `stacks`, `report` or `tests`"),
        ("tests = [\"lvm2:*\"]", "1: `tests` alone would excuse every failure; give `outcome` as well"),
        ("stacks = [\"a b\"]", "4: `a b` is no stack: expected function names, `f ← g|h`"),
        ("stacks = [\"a ← \"]", "4: `a ←` is no stack: expected function names, `f ← g|h`"),
        ("report = \"(\"", "4: `report` is no regular expression: unclosed group"),
        (
            "report = \"r\"\npresent = [\"6.1\",\n  \">6.7\"]",
            "6: `>6.7` is no range of versions: expected `>=6.7, <6.8`, `6.1` or `6.9 to 7.3`",
        ),
        ("report = \"r\"\nfixed-in = { \"6.12\" = \"6.1.5\" }", "5: `6.1.5` is not of the branch `6.12`"),
        ("report = \"r\"\nfix = \"HEAD\"", "5: `HEAD` is no commit: expected 12 to 40 hexadecimal digits"),
        ("report = \"r\"\nlink = \"http://x\"", "5: `http://x` is no link: expected `https://…`"),
        (
            "report = \"r\"\nstrikes = [\"lvm2:x\"]",
            "5: `strikes` says nothing without `present` or `fixed-in`",
        ),
        (
            "report = \"r\"\npresent = [\"6.1\"]\nstrikes = [\"shell/x\"]",
            "6: `shell/x` names no suite: expected `lvm2:shell/x.sh`",
        ),
    ] {
        check_error(&entry(lines), &format!("known-issues.toml:{expect}"));
    }
    let twice = entry("report = \"r\"").repeat(2);
    check_error(&twice, "known-issues.toml:6: `x` is taken by the entry at known-issues.toml:1");
}

/// Tasks as linux-raid has them of 6.1.55 on arm64: a writer stands as in another bug, but the daemon stands in itself.
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
    matches(&Evidence { test: &test(), outcome, stacks, reports, has_unkillable, version: version.as_ref() })
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
    assert_eq!(crash_on("6.7.12", hot_add), ["hot-add-suspends fixed"]);
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
fn a_pattern_that_excludes_wants_one_that_includes() {
    let entry = "[[issue]]\nid = \"x\"\ntitle = \"t\"\nreport = \"r\"\nwithout-stacks = [\"a\"]\n";
    check_error(entry, "known-issues.toml:5: `without-stacks` says nothing without `stacks`");
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
        let judged = crate::verdict::judge(&record, &Default::default(), testing::known_issues());
        judged[0].known_issues.iter().map(|known| known.about.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(known(true), ["dm-raid-stop-and-barrier"]);
    assert_eq!(known(false), [""; 0]);
}

/// A title as the console's classifier writes it, the frames of the report, a kernel, and what that must be known as.
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
