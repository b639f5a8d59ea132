//! Tests with reports of kernels that no distribution ships (KASAN, lockdep, KCSAN, UBSAN), and with reports
//! that are cut short, interleaved or too many.
//!
//! The texts are composed from the kernel's printk formats, not taken from a boot; for those see
//! `xtask/harness/testdata/kernel-logs/`.

use super::*;
use proptest::prelude::*;
use protocol::evidence::FRAMES_MAX;

fn read(log: &str) -> Vec<KernelReport> {
    let mut reports = Reports::default();
    let mut all: Vec<_> = log.lines().flat_map(|line| reports.look(line)).collect();
    all.extend(reports.finish());
    all
}

/// Checks that the log is one report of this kind and title.
#[track_caller]
fn check(log: &str, kind: ReportKind, title: &str) -> KernelReport {
    let all = read(log);
    let found: Vec<_> = all.iter().map(|report| (report.kind, report.title.as_str())).collect();
    assert_eq!(found, [(kind, title)], "{log}");
    assert!(!all[0].corrupted, "{log}");
    all[0].clone()
}

const STACK: &str = "[    9.1][  T77] Call Trace:
[    9.1][  T77]  <TASK>
[    9.1][  T77]  dump_stack_lvl+0x5d/0x80
[    9.1][  T77]  ? printk+0x1/0x2
[    9.1][  T77]  raid5_make_request+0x1f4/0xe40 [raid456]
[    9.1][  T77]  md_handle_request+0x154/0x270 [md_mod]
[    9.1][  T77]  </TASK>
";

fn with_stack(line: &str) -> String {
    format!("[    9.0][  T77] {line}\n{STACK}")
}

#[test]
fn memory_errors_are_named_by_the_function_that_is_no_helper() {
    let log = with_stack("BUG: KASAN: slab-use-after-free in raid5_make_request+0x1f4/0xe40 [raid456]");
    let report = check(&log, ReportKind::MemoryError, "KASAN: slab-use-after-free in raid5_make_request");
    assert_eq!(
        report.frames,
        [
            "dump_stack_lvl+0x5d/0x80",
            "raid5_make_request+0x1f4/0xe40 [raid456]",
            "md_handle_request+0x154/0x270 [md_mod]"
        ]
    );
    check(
        &with_stack("BUG: KASAN: slab-out-of-bounds in memcpy+0x3d/0x60"),
        ReportKind::MemoryError,
        "KASAN: slab-out-of-bounds in raid5_make_request",
    );
    let kfence = "BUG: KFENCE: use-after-free read in raid1_end_read_request+0x40/0x120 [raid1]\n\n\
        Use-after-free read at 0x(ptrval) (in kfence-#12):\n raid1_end_read_request+0x40/0x120 [raid1]\n\
        blk_update_request+0x1/0x2\n\nkfence-#12: 0x1-0x2, size=32, cache=kmalloc-32\n";
    let title = "KFENCE: use-after-free read in raid1_end_read_request";
    check(kfence, ReportKind::MemoryError, title);
}

#[test]
fn both_sides_of_a_race_give_one_title() {
    let race = |functions: &str| {
        format!(
            "BUG: KCSAN: data-race in {functions}\n\nwrite to 0xffff888 of 8 bytes by task 12 on cpu 0:\n md_thread+0x1/0x2\n kthread+0x1/0x2\n\n==========\n"
        )
    };
    for functions in ["md_thread / md_wakeup_thread", "md_wakeup_thread / md_thread.isra.0"] {
        check(&race(functions), ReportKind::DataRace, "KCSAN: data-race in md_thread / md_wakeup_thread");
    }
}

/// A race has two stacks, and md may be only in the second.
#[test]
fn the_other_side_of_a_race_is_a_cause() {
    let log = |between: &str, other: &str| {
        format!(
            "BUG: KCSAN: data-race in set_a / set_b

write (marked) to 0xffff888107a3c2d8 of 8 bytes by task 12 on cpu 0:
 set_a+0x1/0x2
 xfs_log+0x1/0x2
{between}
read to 0xffff888107a3c2d8 of 8 bytes by {other} on cpu 1:
 set_b+0x1/0x2
 md_thread+0x1/0x2 [md_mod]

value changed: 0x0000000000000001 -> 0x0000000000000002

Reported by Kernel Concurrency Sanitizer on:
CPU: 1 UID: 0 PID: 21 Comm: md0_raid1 Not tainted 7.0.0 #1
==================================================================
"
        )
    };
    let verbose = "
1 lock held by xfsaild/12:
 #0: ffff888 (&ailp->ail_lock){+.+.}-{3:3}, at: xfsaild+0x1/0x2
irq event stamp: 12
hardirqs last  enabled at (11): [<ffffffff81234567>] set_a+0x1/0x2
hardirqs last disabled at (12): [<ffffffff81234567>] set_a+0x1/0x2
softirqs last  enabled at (0): [<ffffffff81234567>] copy_process+0x1/0x2
softirqs last disabled at (0): [<0000000000000000>] 0x0
";
    for (between, other, pid) in [("", "task 21", 21), (verbose, "task 21", 21), ("", "interrupt", 0)] {
        let report = check(&log(between, other), ReportKind::DataRace, "KCSAN: data-race in set_a / set_b");
        assert_eq!(report.frames, ["set_a+0x1/0x2", "xfs_log+0x1/0x2"]);
        let causes: Vec<_> = report.causes.iter().map(|cause| (cause.pid, cause.frames.len())).collect();
        assert_eq!(causes, [(pid, 2)]);
        assert!(is_of_storage(&report));
    }
}

#[test]
fn undefined_behaviour_is_named_by_its_function() {
    let log = with_stack("UBSAN: array-index-out-of-bounds in drivers/md/raid5.c:1234:56");
    let report = check(&log, ReportKind::Undefined, "UBSAN: array-index-out-of-bounds in raid5_make_request");
    assert_eq!(report.alt_titles, ["UBSAN: array-index-out-of-bounds at drivers/md/raid5.c"]);
}

#[test]
fn lockdep_reports_are_one_each() {
    for (line, title) in [
        (
            "WARNING: possible circular locking dependency detected",
            "lockdep: possible circular locking dependency detected in raid5_make_request",
        ),
        ("WARNING: inconsistent lock state", "lockdep: inconsistent lock state in raid5_make_request"),
        ("WARNING: suspicious RCU usage", "lockdep: suspicious RCU usage in raid5_make_request"),
        (
            "WARNING: bad unlock balance detected!",
            "lockdep: bad unlock balance detected in raid5_make_request",
        ),
        ("[ BUG: Invalid wait context ]", "lockdep: Invalid wait context in raid5_make_request"),
    ] {
        let before = "[    9.0][  T77] 6.12.0 #1 Not tainted\n[    9.0][  T77] lvm/77 is trying to acquire lock:\n\
            [    9.0][  T77] ffff888 (&mddev->reconfig_mutex){+.+.}-{3:3}, at: md_run+0x1/0x2\n";
        let log = with_stack(line).replacen(STACK, &format!("{before}{STACK}"), 1);
        check(&log, ReportKind::Lockdep, title);
    }
}

const CYCLE: &str = "
======================================================
WARNING: possible circular locking dependency detected
7.0.0 #1 Not tainted
------------------------------------------------------
kworker/0:1/12 is trying to acquire lock:
ffff888 (&disk->open_mutex){+.+.}-{4:4}, at: bdev_open+0x1/0x2

but task is already holding lock:
ffff888 (&q->sysfs_lock){+.+.}-{4:4}, at: blk_freeze+0x1/0x2

which lock already depends on the new lock.


the existing dependency chain (in reverse order) is:

-> #2 (&q->sysfs_lock){+.+.}-{4:4}:
       __mutex_lock+0x1/0x2
       blk_register_queue+0x1/0x2

-> #1 (&mddev->reconfig_mutex){+.+.}-{4:4}:
       __mutex_lock+0x1/0x2
       md_open+0x1/0x2 [md_mod]
       bdev_open+0x1/0x2

-> #0 (&disk->open_mutex){+.+.}-{4:4}:
       check_prev_add+0x1/0x2
       bdev_open+0x1/0x2

other info that might help us debug this:

2 locks held by kworker/0:1/12:
 #0: ffff888 (&q->sysfs_lock){+.+.}-{4:4}, at: blk_freeze+0x1/0x2

stack backtrace:
CPU: 0 UID: 0 PID: 12 Comm: kworker/0:1 Not tainted 7.0.0 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x1/0x2
 bdev_open+0x1/0x2
 blk_freeze+0x1/0x2
 </TASK>
";

/// A lock cycle belongs to md if one of its links does.
#[test]
fn the_links_of_a_cycle_are_causes() {
    let report = check(
        CYCLE,
        ReportKind::Lockdep,
        "lockdep: possible circular locking dependency detected in bdev_open",
    );
    let links: Vec<_> =
        report.causes.iter().map(|link| (link.comm.as_str(), link.pid, link.frames.len())).collect();
    assert_eq!(
        links,
        [("&q->sysfs_lock", 0, 2), ("&mddev->reconfig_mutex", 0, 3), ("&disk->open_mutex", 0, 2)]
    );
    assert!(is_of_storage(&report));
    assert!(!is_of_storage(&check(
        &CYCLE.replace("md_open+0x1/0x2 [md_mod]", "loop_open+0x1/0x2 [loop]"),
        ReportKind::Lockdep,
        &report.title,
    )));
    // An endless chain is bounded.
    let chain: String =
        (0..90).map(|n| format!("-> #{n} (lock{n}){{+.+.}}:\n       f_{n}+0x1/0x2\n")).collect();
    let long = CYCLE.replacen("-> #2", &format!("{chain}-> #2"), 1);
    assert_eq!(read(&long)[0].causes.len(), 24);
}

/// Other lockdep reports name the task that made the lock unsafe; the first user is not to blame.
#[test]
fn who_made_a_lock_unsafe_is_a_cause() {
    for (heading, is_cause) in [
        ("{IN-SOFTIRQ-W} state was registered at:", true),
        ("... which became HARDIRQ-irq-unsafe at:\n...", true),
        ("... which became SOFTIRQ-irq-safe at:", true),
        (" ... acquired at:", true),
        ("   INITIAL USE at:", false),
        (" SOFTIRQ-ON-W at:\n   lock_acquire+0x1/0x2\n INITIAL USE at:", false),
    ] {
        let log = format!(
            "WARNING: inconsistent lock state\n{heading}\n  lock_acquire+0x1/0x2\n  raid5_release_stripe+0x1/0x2 [raid456]\nirq event stamp: 1\nstack backtrace:\nCall Trace:\n <TASK>\n blk_done+0x1/0x2\n </TASK>\n"
        );
        let report = check(&log, ReportKind::Lockdep, "lockdep: inconsistent lock state in blk_done");
        assert_eq!(is_of_storage(&report), is_cause, "{heading}");
    }
}

#[test]
fn faults_are_told_once_however_many_lines_tell_them() {
    let page_fault = "[    1.000000] BUG: unable to handle page fault for address: ffffffffdeadbeef
[    1.000000] #PF: supervisor read access in kernel mode
[    1.000000] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI
[    1.000000] CPU: 0 UID: 0 PID: 77 Comm: lvm Not tainted 6.12.0 #1
[    1.000000] RIP: 0010:write_page+0x12/0x34 [md_mod]
[    1.000000] Call Trace:
[    1.000000]  <TASK>
[    1.000000]  ? __die+0x23/0x70
[    1.000000]  md_bitmap_resize+0x1/0x2 [md_mod]
[    1.000000]  entry_SYSCALL_64_after_hwframe+0x76/0x7e
[    1.000000] RIP: 0033:0x7f175a57f3a7
[    1.000000]  </TASK>
[    1.000000] RIP: 0010:write_page+0x12/0x34 [md_mod]
[    1.000000] Kernel panic - not syncing: Fatal exception
";
    let title = "BUG: unable to handle page fault in write_page";
    let report = check(page_fault, ReportKind::Oops, title);
    assert_eq!(report.frames[..2], ["write_page+0x12/0x34 [md_mod]", "md_bitmap_resize+0x1/0x2 [md_mod]"]);
    let mut reports = Reports::default();
    page_fault.lines().for_each(|line| drop(reports.look(line)));
    reports.finish();
    assert_eq!(reports.fatal_title(), Some(title));

    check(
        &with_stack(
            "Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
        ),
        ReportKind::Oops,
        "general protection fault in raid5_make_request",
    );
    let bug = "kernel BUG at drivers/md/raid5.c:1234!\nOops: invalid opcode: 0000 [#1] SMP\nRIP: 0010:raid5_run.cold+0x1/0x2 [raid456]\n---[ end trace 0000000000000000 ]---\n";
    let report = check(bug, ReportKind::Oops, "kernel BUG in raid5_run");
    assert_eq!(report.alt_titles, ["kernel BUG at drivers/md/raid5.c"]);
    let list = "list_del corruption. prev->next should be ffff888, but was dead000\n------------[ cut here ]------------\n\
        kernel BUG at lib/list_debug.c:62!\nOops: invalid opcode: 0000 [#1] SMP\n\
        RIP: 0010:__list_del_entry_valid_or_report+0x1/0x2\nCall Trace:\n <TASK>\n raid5_release_stripe+0x1/0x2 [raid456]\n </TASK>\n";
    check(list, ReportKind::Bug, "list_del corruption in raid5_release_stripe");
}

#[test]
fn warnings_of_every_age_are_alike() {
    for line in [
        "WARNING: CPU: 0 PID: 77 at drivers/md/md.c:123 md_start+0x12/0x34 [md_mod]",
        "WARNING: CPU: 3 PID: 1 at drivers/md/md.c:124 md_start+0x99/0x234 [md_mod]",
        "WARNING: drivers/md/md.c:123 at md_start+0x12/0x34 [md_mod], CPU#0: lvm/77",
    ] {
        check(&with_stack(line), ReportKind::Warning, "WARNING in md_start");
    }
}

#[test]
fn other_bugs_and_stalls() {
    let title = "BUG: sleeping function called from invalid context in raid5_make_request";
    check(
        &with_stack("BUG: sleeping function called from invalid context at kernel/locking/mutex.c:283"),
        ReportKind::Bug,
        title,
    );
    let report = check(
        &with_stack("BUG: scheduling while atomic: kworker/0:1/77/0x00000002"),
        ReportKind::Bug,
        "BUG: scheduling while atomic in raid5_make_request",
    );
    assert_eq!(report.alt_titles, ["BUG: scheduling while atomic of kworker in raid5_make_request"]);
    check(
        &with_stack("BUG: Bad page state in process lvm  pfn:12345"),
        ReportKind::Bug,
        "BUG: Bad page state in raid5_make_request",
    );
    check(
        &with_stack("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [md0_raid5:123]"),
        ReportKind::Lockup,
        "soft lockup in raid5_make_request",
    );
    check(
        &with_stack("rcu: INFO: rcu_preempt self-detected stall on CPU"),
        ReportKind::RcuStall,
        "RCU stall in raid5_make_request",
    );
    check(
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 35s!",
        ReportKind::WorkqueueStall,
        "workqueue lockup",
    );
    check(
        "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
        ReportKind::Panic,
        "Kernel panic - not syncing: Attempted to kill init! exitcode=N",
    );
}

#[test]
fn a_panic_of_its_own_is_named_by_its_own_words() {
    let mut reports = Reports::default();
    let log = with_stack("WARNING: CPU: 0 PID: 7 at a.c:1 md_start+0x1/0x2")
        + "Kernel panic - not syncing: sysrq\n";
    log.lines().for_each(|line| drop(reports.look(line)));
    reports.finish();
    assert_eq!(reports.fatal_title(), Some("Kernel panic - not syncing: sysrq"));
}

#[test]
fn a_report_that_was_cut_or_mixed_says_so() {
    let cut = read("[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000008\n");
    assert_eq!((cut[0].title.as_str(), cut[0].corrupted), ("BUG: kernel NULL pointer dereference", true));
    let mixed = with_stack("WARNING: CPU: 0 PID: 77 at a.c:1 md_st[    9.000001] art+0x1/0x2");
    assert!(read(&mixed)[0].corrupted);
    // Two at once: the stack of the first never came.
    let two = format!(
        "INFO: task lvm:1 blocked for more than 120 seconds.\n{}",
        with_stack("UBSAN: shift in a.c:1:2")
    );
    let two = read(&two);
    assert_eq!((two.len(), two[0].corrupted, two[1].corrupted), (2, true, false));
}

#[test]
fn lines_of_another_cpu_do_not_end_a_stack() {
    let log = STACK.replace(
        "[    9.1][  T77]  md_handle",
        "[    9.1][   T5] vda: words of another\n[    9.1][  T77]  md_handle",
    );
    let report = check(
        &format!("[    9.0][  T77] INFO: task lvm:77 blocked for more than 120 seconds.\n{log}"),
        ReportKind::HungTask,
        "hung task in raid5_make_request",
    );
    assert_eq!(report.frames.len(), 3);
}

#[test]
fn what_tests_say_is_no_report() {
    for line in [
        "WARNING: Device /dev/x has size 0",
        "BUGS: none",
        "INFO: all is well",
        "  WARNING: VG x is old",
        "rcu: x",
    ] {
        assert_eq!(read(line), [], "{line}");
    }
}

#[test]
fn a_flood_is_told_once_and_a_varied_one_a_bounded_number_of_times() {
    let same = with_stack("WARNING: CPU: 0 PID: 77 at drivers/md/md.c:1 md_start+0x1/0x2").repeat(500);
    assert_eq!(read(&same).len(), 1);
    let varied: String = (0..500)
        .map(|n| with_stack(&format!("WARNING: CPU: 0 PID: 77 at drivers/md/md.c:1 md_start_x{n}+0x1/0x2")))
        .collect();
    assert_eq!(read(&varied).len(), REPORTS_MAX);
}

/// Each race has a title of its own: they must not displace an oops, nor a race in md.
#[test]
fn a_flood_of_one_kind_leaves_room_for_the_others() {
    let race = |n: u32, function: &str| {
        format!(
            "BUG: KCSAN: data-race in {function}_{n} / other_{n}\n\nwrite to 0xffff888 of 8 bytes by task 12 on cpu 0:\n {function}_{n}+0x1/0x2\n\n==========\n"
        )
    };
    let races: String = (0..200).map(|n| race(n, "somebody")).collect();
    let warnings: String = (0..200)
        .map(|n| with_stack(&format!("WARNING: CPU: 0 PID: 77 at a.c:1 warned_x{n}+0x1/0x2")))
        .collect();
    let after = race(7, "md_thread")
        + "XFS (vda): Metadata corruption detected at xfs_agf_verify, xfs_agf block 0x1\n"
        + &with_stack("BUG: kernel NULL pointer dereference, address: 0000000000000008");
    let mut reports = Reports::default();
    let log = format!("{races}{warnings}{after}");
    let mut all: Vec<_> = log.lines().flat_map(|line| reports.look(line)).collect();
    all.extend(reports.finish());
    let n_of = |kind| all.iter().filter(|report| report.kind == kind).count();
    assert_eq!((n_of(ReportKind::DataRace), n_of(ReportKind::Warning)), (REPORTS_MAX + 1, REPORTS_MAX));
    assert_eq!((n_of(ReportKind::Oops), n_of(ReportKind::Corruption)), (1, 1));
    let of_md = |report: &&KernelReport| report.kind == ReportKind::DataRace && is_of_storage(report);
    assert_eq!(all.iter().filter(of_md).count(), 1);
    assert_eq!(reports.cut(), &BTreeSet::from([ReportKind::DataRace, ReportKind::Warning]));
}

/// On arm64 a panic names the exception first.
#[test]
fn a_panic_after_an_oops_is_its_end_on_every_architecture() {
    let mut reports = Reports::default();
    let log = "Unable to handle kernel paging request at virtual address dead000000000108
Internal error: Oops: 0000000096000004 [#1] SMP
pc : raid5d+0x1/0x2 [raid456]
Call trace:
 raid5d+0x1/0x2 [raid456] (P)
 md_thread+0x1/0x2 [md_mod]
---[ end trace 0000000000000000 ]---
Kernel panic - not syncing: Oops: Fatal exception
";
    let told: Vec<_> = log.lines().flat_map(|line| reports.look(line)).collect();
    assert_eq!((told.len(), told[0].frames.len()), (1, 2));
    assert!(reports.finish().is_empty(), "the panic is no report of its own");
    assert_eq!(reports.fatal_title(), Some("BUG: unable to handle page fault in raid5d"));
}

#[test]
fn one_title_with_many_stacks_is_told_a_bounded_number_of_times() {
    let varied: String = (0..100)
        .map(|n| {
            with_stack("WARNING: CPU: 0 PID: 77 at drivers/md/md.c:1 md_start+0x1/0x2")
                .replace("raid5_make_request", &format!("caller_{n}"))
        })
        .collect();
    let all = read(&varied);
    assert_eq!(all.len(), VARIANTS_MAX);
    let bugs: std::collections::BTreeSet<_> = all.iter().map(identity).collect();
    assert_eq!(bugs.len(), VARIANTS_MAX);
}

/// A report of the same bug that is cut short, or has more frames, is no other bug.
#[test]
fn a_report_that_says_less_is_the_same() {
    let whole = with_stack("WARNING: CPU: 0 PID: 77 at drivers/md/md.c:1 md_start+0x1/0x2");
    let cut = "WARNING: CPU: 0 PID: 78 at drivers/md/md.c:1 md_start+0x1/0x2\n---[ end trace 0 ]---\n";
    assert_eq!(read(&format!("{whole}{cut}")).len(), 1);
    // Only if it shows what the cut one did not reach.
    assert_eq!(read(&format!("{cut}{whole}{cut}{whole}")).len(), 2);
    let (whole, cut) = (whole.replace("md", "xx").replace("raid", "yy"), cut.replace("md", "xx"));
    assert_eq!(read(&format!("{cut}{whole}")).len(), 1);
}

/// A report that shows md is given, however many had its title before.
#[test]
fn the_first_of_a_title_with_md_in_it_is_told() {
    let title = "WARNING: CPU: 0 PID: 77 at block/blk-core.c:1 submit_bio+0x1/0x2";
    let by = |functions: &str| {
        format!("{title}\nCall Trace:\n <TASK>\n{functions} </TASK>\n---[ end trace 0 ]---\n")
    };
    let of_md = by(" submit_bio_noacct+0x1/0x2\n raid5_make_request+0x1/0x2 [raid456]\n");
    // The first was cut short before its stack, or belongs to another with the same innermost frames.
    for before in [format!("{title}\n---[ end trace 0 ]---\n"), by(" submit_bio_noacct+0x1/0x2\n")] {
        let all = read(&format!("{before}{of_md}{of_md}"));
        assert_eq!(all.iter().map(is_of_storage).collect::<Vec<_>>(), [false, true], "{before}");
    }
    // So many others that no more are given.
    let others: String =
        (0..2 * VARIANTS_MAX).map(|n| by(&format!(" somebody{n}+0x1/0x2\n xfs_x+0x1/0x2\n"))).collect();
    let all = read(&format!("{others}{of_md}{of_md}{others}"));
    assert_eq!(all.len(), VARIANTS_MAX + 1);
    assert!(is_of_storage(&all[VARIANTS_MAX]));
    // A stall is not identified by its stack; that md is in it shows there.
    let stall = |function: &str| {
        format!(
            "rcu: INFO: rcu_preempt self-detected stall on CPU\nCall Trace:\n <TASK>\n spin+0x1/0x2\n {function}\n </TASK>\n"
        )
    };
    let all = read(&(stall("xfs_x+0x1/0x2") + &stall("md_thread+0x1/0x2 [md_mod]").repeat(3)));
    assert_eq!(all.iter().map(is_of_storage).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn who_holds_the_lock_is_the_cause() {
    let log = "INFO: task cat:1301 blocked for more than 122 seconds.
task:cat   state:D stack:0     pid:1301  tgid:1301  ppid:1300   task_flags:0x400000 flags:0x00004002
Call Trace:
 <TASK>
 __schedule+0x1/0x2
 __mutex_lock+0x1/0x2
 md_attr_show+0x1/0x2 [md_mod]
 </TASK>
INFO: task cat:1301 is blocked on a mutex likely owned by task mdadm:1290.
task:mdadm  state:D stack:0     pid:1290  tgid:1290  ppid:1200   task_flags:0x400100 flags:0x00004002
Call Trace:
 <TASK>
 __schedule+0x1/0x2
 stop_sync_thread+0x1/0x2 [md_mod]
 </TASK>
";
    let report = check(log, ReportKind::HungTask, "hung task in md_attr_show");
    assert_eq!(report.frames.len(), 3);
    let causes: Vec<_> =
        report.causes.iter().map(|cause| (cause.pid, cause.comm.as_str(), cause.state)).collect();
    assert_eq!(causes, [(1290, "mdadm", 'D')]);
    assert_eq!(report.causes[0].frames, ["__schedule+0x1/0x2", "stop_sync_thread+0x1/0x2 [md_mod]"]);
    // A semaphore, a holder with spaces in its name, and an unknown holder.
    let semaphore = "INFO: task cat:1301 blocked on a semaphore likely last held by task my task:7";
    let rest = log.split_once("INFO: task cat:1301 is").unwrap().0;
    let report =
        check(&format!("{rest}{semaphore}\nmd: words"), ReportKind::HungTask, "hung task in md_attr_show");
    assert_eq!((report.causes[0].pid, report.causes[0].comm.as_str()), (7, "my task"));
    let unknown = "INFO: task cat:1301 is blocked on a mutex, but the owner is not found.";
    let report =
        check(&format!("{rest}{unknown}\nmd: words"), ReportKind::HungTask, "hung task in md_attr_show");
    assert_eq!(report.causes, []);
}

/// A task that waits for no lock has no holder: the report is given as soon as it ends.
#[test]
fn a_report_is_told_as_soon_as_it_is_whole() {
    let log = "INFO: task dd:7 blocked for more than 122 seconds.
task:dd  state:D stack:0     pid:7  tgid:7  ppid:1   task_flags:0x400000 flags:0x00004002
Call Trace:
 <TASK>
 __schedule+0x1/0x2
 raid5_get_active_stripe+0x1/0x2 [raid456]
 </TASK>";
    let mut reports = Reports::default();
    assert_eq!(log.lines().flat_map(|line| reports.look(line)).count(), 1);
    let leak = "kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)";
    assert_eq!(reports.look(leak).len(), 1);
}

proptest! {
    #[test]
    fn any_lines_make_bounded_reports(lines in proptest::collection::vec(
        proptest::sample::select(vec!["BUG: x", "Call Trace:", " a_b+0x1/0x2", "</TASK>", "RIP: 0010:q+0x1/0x2",
            "Kernel panic - not syncing: Fatal exception", "kernel BUG at x.c:1!", "rcu: INFO: rcu_x self-detected stall on CPU",
            "[    1.0][ T1] Oops: 0 [#1]", "\u{1b}[2J[", "INFO: task é:1 blocked for more than 2 seconds."]), 0..2000)
    ) {
        let all = read(&lines.join("\n"));
        let mut by_kind = BTreeMap::<_, usize>::new();
        all.iter().for_each(|report| *by_kind.entry(report.kind).or_default() += 1);
        prop_assert!(by_kind.values().all(|n_told| *n_told <= 2 * REPORTS_MAX));
        for report in all {
            prop_assert!(report.frames.len() <= FRAMES_MAX && report.title.len() < 700);
            prop_assert!(!report.title.is_empty());
        }
    }
}
