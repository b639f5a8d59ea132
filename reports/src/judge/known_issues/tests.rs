//! Tests of known issues: what a failure looks like, what a version says, how errors read.

use super::file::{check_pattern, is_link};
use super::*;
use crate::testing::{self, stack};
use protocol::evidence::ReportKind;
use toml::Spanned;

/// Ids and standings of what a hang with these stacks looks like on a kernel of this version.
pub(super) fn hang_on(version: &str, stacks: &[TaskStack]) -> Vec<String> {
    let version = Version::parse(version);
    let outcome = Outcome::Hang { kind: HangKind::NoProgress, silent_ms: 41_000, seen: None };
    matches(&Symptoms {
        test: &test(),
        outcome: &outcome,
        stacks,
        reports: &[],
        has_unkillable: false,
        version: version.as_ref(),
    })
}

pub(super) fn crash_on(version: &str, report: KernelReport) -> Vec<String> {
    let version = Version::parse(version);
    let outcome = Outcome::KernelCrash { title: report.title.clone() };
    let reports = &[report];
    matches(&Symptoms {
        test: &test(),
        outcome: &outcome,
        stacks: &[],
        reports,
        has_unkillable: false,
        version: version.as_ref(),
    })
}

pub(super) fn matches(symptoms: &Symptoms<'_>) -> Vec<String> {
    let matches = testing::known_issues().matching(symptoms);
    matches.iter().map(|matched| format!("{} {}", matched.info.id, matched.standing.name())).collect()
}

pub(super) fn test() -> TestId {
    "lvm2:shell/lvconvert-raid-reshape.sh".parse().unwrap()
}

fn check_error(entry: &str, expect: &str) {
    let error = KnownIssues::parse(entry, "known-issues.toml").unwrap_err().to_string();
    assert_eq!(error, expect);
}

#[test]
fn the_deadlock_of_v6_7_regressions_is_recognised_where_it_is() {
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
        let issue = issues.issues.iter().find(|issue| issue.info.id == "takeover-leaves-array-frozen");
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
        let issue = testing::known_issues().issues.iter().find(|issue| issue.info.id == id);
        issue.unwrap().standing(Version::parse(version).as_ref())
    };
    // 7.1 has 418b3e64e445, 7.2 has 1d24d4c1ea1d: the sources of 7.2.13 show both. Stable releases of 7.0
    // may.
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
    // The model hangs up to 6.6 (docs/md/answers.md [1]).
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
        let evidence = Symptoms {
            test: &test,
            outcome: &outcome,
            stacks,
            reports: &[],
            has_unkillable: false,
            version: version.as_ref(),
        };
        issues.matching(&evidence).iter().map(IssueMatch::sentence).collect::<Vec<_>>()
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
        let evidence = Symptoms {
            test: &test,
            outcome: &outcome,
            stacks: &stacks,
            reports: &[],
            has_unkillable: false,
            version: version.as_ref(),
        };
        let found = testing::known_issues().matching(&evidence);
        found.iter().map(|matched| matched.info.id.clone()).collect::<Vec<_>>()
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
        matches(&Symptoms {
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
        starved: false,
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
        starved: false,
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
    for KnownIssue { info, .. } in testing::known_issues().issues.clone() {
        assert!(!(info.unchecked && info.link.is_some()), "{}", info.id);
        assert!(info.link.is_none_or(|link| is_link(&link)), "{}", info.id);
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

#[test]
fn a_pattern_that_excludes_wants_one_that_includes() {
    let entry = "[[issue]]\nid = \"x\"\ntitle = \"t\"\nreport = \"r\"\nwithout-stacks = [\"a\"]\n";
    check_error(entry, "known-issues.toml:5: `without-stacks` says nothing without `stacks`");
}
