//! Tests of signatures: what is kept of a stack, and that nothing else changes it.

use super::*;
use crate::testing::{self, stack};
use proptest::prelude::*;
use protocol::HangKind;

fn check_frames(stack: &str, expect: &str) {
    let frames: Vec<String> = stack.split(ARROW).map(str::to_owned).collect();
    assert_eq!(telling_frames(&frames).join(ARROW), expect, "{stack}");
}

fn hang() -> Outcome {
    Outcome::Hang { kind: HangKind::NoProgress, silent_ms: 41_000, seen: None }
}

fn report(kind: ReportKind, title: &str, frames: &[&str]) -> KernelReport {
    KernelReport {
        kind,
        title: title.to_owned(),
        alt_titles: vec![],
        corrupted: false,
        causes: vec![],
        starved: false,
        frames: frames.iter().map(|frame| (*frame).to_owned()).collect(),
    }
}

fn headline(stacks: &[TaskStack]) -> String {
    Signature::of(&hang(), stacks, &[]).map_or_else(|| "none".to_owned(), |signature| signature.headline())
}

#[test]
fn frames_of_md_and_dm_are_kept_bare() {
    check_frames(
        "__schedule+0x351/0xa20 ← schedule+0x5d/0xe0 ← stop_sync_thread+0x1b2/0x230 [md_mod] ← \
         __md_stop_writes.isra.0+0x12/0x20 [md_mod] ← md_stop+0x1b/0x30 [md_mod] ← raid_dtr+0x10/0x20 [dm_raid]",
        "stop_sync_thread ← __md_stop_writes ← md_stop ← raid_dtr",
    );
    check_frames(
        "[<0>] md_super_wait+0xa1/0xe0 ← ? md_wakeup_thread+0x1/0x2 ← 0xffffffffc0401234 ← raid5d.cold+0x1/0x2",
        "md_super_wait ← raid5d",
    );
    // The one function that md waits in is telling; what that waits in is not.
    check_frames(
        "schedule_timeout ← wait_for_completion ← __synchronize_srcu ← __dm_suspend ← dm_suspend ← dev_suspend",
        "__synchronize_srcu ← __dm_suspend ← dev_suspend",
    );
    check_frames(
        "wait_woken ← raid5_make_request ← md_handle_request ← raid_map ← __map_bio",
        "wait_woken ← raid5_make_request ← md_handle_request ← raid_map ← __map_bio",
    );
    check_frames(
        "__mutex_lock.constprop.0 ← mddev_suspend ← md_start_sync",
        "mutex_lock ← mddev_suspend ← md_start_sync",
    );
    check_frames("io_schedule ← wait_barrier ← raid1_read_request", "wait_barrier ← raid1_read_request");
    check_frames("_wait_barrier ← wait_barrier ← raid1_read_request", "_wait_barrier ← raid1_read_request");
}

#[test]
fn who_is_at_rest_says_nothing() {
    check_frames("schedule ← md_thread ← kthread ← ret_from_fork_asm", "");
    check_frames("schedule ← dm_wait_event ← dev_wait ← ctl_ioctl ← dm_ctl_ioctl ← __x64_sys_ioctl", "");
    check_frames("do_wait ← kernel_wait4 ← do_syscall_64", "");
    assert_eq!(headline(&[stack(7, "md0_raid1", false, "schedule ← md_thread ← kthread")]), "none");
    assert_eq!(Signature::of(&Outcome::Pass, &testing::hung_stacks(), &[]), None);
}

#[test]
fn both_halves_of_a_deadlock_show() {
    assert_eq!(
        headline(&testing::hung_stacks()),
        "lvm in kthread_stop ← md_unregister_thread ← __md_stop_writes ← md_stop ← raid_dtr; \
         mdX_resync in _wait_barrier ← raid1_sync_request ← md_do_sync"
    );
}

#[test]
fn those_who_wait_for_an_io_come_after_those_who_hold_it_up() {
    let reader = stack(3, "cat", true, "wait_woken ← raid5_make_request ← md_handle_request ← raid_map");
    let lvm = stack(4, "lvm", true, "__synchronize_srcu ← __dm_suspend ← dev_suspend");
    assert_eq!(
        headline(&[reader, lvm]),
        "lvm in __synchronize_srcu ← __dm_suspend ← dev_suspend; \
         cat in wait_woken ← raid5_make_request ← md_handle_request ← raid_map"
    );
}

#[test]
fn without_md_the_test_s_own_blocked_tasks_are_named() {
    let frames = "io_schedule ← folio_wait_bit_common ← filemap_get_pages ← vfs_read";
    let others = stack(1, "kworker/0:1", false, "io_schedule ← blk_wait");
    assert_eq!(
        headline(&[others, stack(2, "cat", true, frames)]),
        "cat in folio_wait_bit_common ← filemap_get_pages ← vfs_read"
    );
}

#[test]
fn names_lose_their_numbers() {
    for (comm, expect) in [
        ("md127_raid5", "mdX_raid5"),
        ("mdX_resync", "mdX_resync"),
        ("kworker/u8:2-md_misc", "kworker"),
        ("mdadm", "mdadm"),
        ("md_foo", "md_foo"),
        ("lvm", "lvm"),
    ] {
        assert_eq!(plain_comm(comm), expect);
    }
}

#[test]
fn a_crash_is_named_by_its_worst_report() {
    let warning = report(ReportKind::Warning, "WARNING in md_stop", &[]);
    let panic = report(ReportKind::Panic, "Kernel panic - not syncing: Fatal exception", &[]);
    let oops = report(
        ReportKind::Oops,
        "BUG: kernel NULL pointer dereference in raid5_make_request",
        &["raid5_make_request+0x1/0x2 [raid456]", "md_handle_request+0x1/0x2", "submit_bio_noacct+0x1/0x2"],
    );
    let mut cut = oops.clone();
    cut.corrupted = true;
    let crash = Outcome::KernelCrash { title: "Kernel panic".to_owned() };
    let reports = [warning.clone(), cut, oops.clone(), panic];
    assert_eq!(
        Signature::of(&crash, &[], &reports).unwrap().headline(),
        "BUG: kernel NULL pointer dereference in raid5_make_request, in raid5_make_request ← md_handle_request"
    );
    // An oops is why the others wait.
    assert_eq!(Signature::of(&hang(), &testing::hung_stacks(), &[oops]).unwrap().lines().len(), 1);
    // A warning is not.
    assert_eq!(Signature::of(&hang(), &testing::hung_stacks(), &[warning]).unwrap().lines().len(), 3);
}

#[test]
fn a_hang_without_stacks_is_named_by_the_kernel_s_own_detector() {
    let hung_task =
        report(ReportKind::HungTask, "task lvm blocked", &["stop_sync_thread+0x1/0x2", "md_stop"]);
    assert_eq!(
        Signature::of(&hang(), &[], &[hung_task]).unwrap().headline(),
        "task lvm blocked, in stop_sync_thread ← md_stop"
    );
}

/// A stack as another build of the kernel would show it.
fn rebuilt(stack: &TaskStack, offset: u32, module: &str, suffix: &str, pid: u32) -> TaskStack {
    let frame = |frame: &String| {
        let name = frame.split(['+', '.', ' ']).next().unwrap();
        format!("{name}{suffix}+{offset:#x}/0xfff{module}")
    };
    TaskStack { pid, frames: stack.frames.iter().map(frame).collect(), ..stack.clone() }
}

proptest! {
    #[test]
    fn neither_build_nor_order_changes_a_signature(
        offset in any::<u32>(),
        module in "( \\[[a-z0-9_]{1,8}( [0-9a-f]{4})?\\])?",
        suffix in "(\\.isra\\.[0-9]|\\.constprop\\.[0-9]|\\.cold|\\.part\\.0)?",
        pid in any::<u32>(),
        order in Just(vec![0_usize, 1, 2, 3]).prop_shuffle(),
    ) {
        let stacks = testing::hung_stacks();
        let expect = Signature::of(&hang(), &stacks, &[]);
        let other: Vec<TaskStack> =
            order.iter().map(|stack_idx| rebuilt(&stacks[*stack_idx], offset, &module, &suffix, pid)).collect();
        prop_assert_eq!(Signature::of(&hang(), &other, &[]), expect);
    }

    /// Whatever a guest sends, frames are names and a signature is short.
    #[test]
    fn frames_are_names(frames in proptest::collection::vec("(md_|raid5_)?.{0,12}|\\PC{0,200}", 0..60)) {
        let stacks = [TaskStack { frames, ..stack(1, "x", true, "") }];
        for (_, task) in telling_tasks(&stacks) {
            prop_assert!(task.frames.iter().all(|frame| frame.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')));
            prop_assert!(shown(&task.frames).len() <= MAX_SHOWN_FRAMES);
        }
    }
}

fn headline_of(outcome: &Outcome, reports: &[(ReportKind, &str)]) -> Option<String> {
    let report = |&(kind, title): &(ReportKind, &str)| report(kind, title, &[]);
    let reports: Vec<_> = reports.iter().map(report).collect();
    Signature::of(outcome, &[], &reports).map(|signature| signature.headline())
}

#[test]
fn changed_data_is_named_by_what_says_that_it_changed() {
    use ReportKind::{Corruption, Oops, StorageError, Warning};
    let cmp = "/mnt/a /tmp/tmp.x8Kd02/a differ: byte 4097, line 3 is 101 A 132 Z";
    let corrupted = Outcome::DataCorruption { title: cmp.to_owned() };
    let failed = (StorageError, "md/raid1: disk failure, device disabled");
    let of = |reports: &[_]| headline_of(&corrupted, reports).unwrap();
    let plain = "/mnt/a /tmp/tmp.X/a differ: byte N, line N";
    // The script failed the disk itself: that is no name for what went wrong.
    assert_eq!(of(&[failed]), plain);
    assert_eq!(of(&[]), plain);
    assert_eq!(of(&[failed, (Warning, "WARNING in md_run")]), plain);
    assert_eq!(of(&[failed, (Corruption, "md: mismatch found")]), "md: mismatch found");
    assert_eq!(of(&[(Corruption, "md: mismatch found"), (Oops, "BUG: in raid1d")]), "BUG: in raid1d");
}

#[test]
fn lost_members_name_no_outcome() {
    let failed = [(ReportKind::StorageError, "md/raid1: disk failure, device disabled")];
    let crash = Outcome::KernelCrash { title: "the machine went away by itself".to_owned() };
    for outcome in [
        Outcome::Pass,
        Outcome::Warn { warning: String::new() },
        Outcome::Fail { how: String::new() },
        Outcome::Timeout { limit_ms: 1 },
        hang(),
        crash,
    ] {
        assert_eq!(headline_of(&outcome, &failed), None, "{outcome:?}");
    }
}

#[test]
fn a_tests_own_line_is_the_same_on_every_run() {
    for (line, plain) in [
        ("mismatch_cnt: 128", "mismatch_cnt: N"),
        (
            "md5sum: WARNING: 1 computed checksum did NOT match",
            "md5sum: WARNING: N computed checksum did NOT match",
        ),
        (
            "Metadata corruption detected at 0x55d0c1f0a2e3, xfs_inode block 0x80/0x2000",
            "Metadata corruption detected at 0xN, xfs_inode block 0xN/0xN",
        ),
        (
            "/dev/md0: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.",
            "/dev/md0: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.",
        ),
        (
            "cat: LVMTEST2311.8oCzXGfvYy/mnt/fileA: Structure needs cleaning",
            "cat: LVMTEST/mnt/fileA: Structure needs cleaning",
        ),
    ] {
        assert_eq!(without_numbers(line), plain);
    }
}
