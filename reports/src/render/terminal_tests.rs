//! Tests of the terminal's text: how it looks, and that a guest cannot reach the terminal.

use super::*;
use crate::testing;
use proptest::prelude::*;

#[test]
fn what_went_wrong_comes_last() {
    let (record, judged) = testing::sample();
    let text = render(&record, &judged, &TerminalStyle::plain("reports/out/20261122-1705-brave-otter"));
    insta::assert_snapshot!(text, @r##"
                                                  6.12.107+deb13-cloud-amd64  6.1.0-40-cloud-amd64
    lvm2:shell/lvchange-raid.sh                   passed 88.0 s               -
    lvm2:shell/lvconvert-raid-reshape.sh          failed 1 min 51 s           known failure 9.0 s
    lvm2:shell/integrity-caching.sh@ndev-vanilla  hung 6 min 06 s             infra error 0.0 s
    lvm2:shell/lvcreate-raid.sh                   complained 12.3 s           unexpected skip 0.2 s
    lvm2:shell/lvconvert-vdo-raid.sh              skipped 0.3 s               interrupted
    lvm2:shell/vg-raid-takeover-1.sh              not run                     -
    lvm2:shell/dmsecuretest.sh                    -                           not run
    complained            12.3 s  lvm2:shell/lvcreate-raid.sh on 6.12.107+deb13-cloud-amd64
        TEST WARNING: dmeventd is slow
    known failure          9.0 s  lvm2:shell/lvconvert-raid-reshape.sh on 6.1.0-40-cloud-amd64
        exit status 1; known: 6.1 lacks the fix of the reshape position
    skipped                0.3 s  lvm2:shell/lvconvert-vdo-raid.sh on 6.12.107+deb13-cloud-amd64
        dm-vdo not available; known: the guest has no dm-vdo
    interrupted                   lvm2:shell/lvconvert-vdo-raid.sh on 6.1.0-40-cloud-amd64
        the run was interrupted during it
    not run                       lvm2:shell/vg-raid-takeover-1.sh on 6.12.107+deb13-cloud-amd64
        the run was interrupted before it
    not run                       lvm2:shell/dmsecuretest.sh on 6.1.0-40-cloud-amd64
        needs dm-crypt, which 6.1 lacks
    failed            1 min 51 s  lvm2:shell/lvconvert-raid-reshape.sh on 6.12.107+deb13-cloud-amd64
        exit status 1
        remark: 14 kernel log lines name a failed member
        | ## lvconvert-raid-reshape.sh:77 lvconvert -y --stripes 15 @PREFIX@vg/lv
        |   WARNING: | <b>Reshape</b> size mismatch ```
        | set +vx; STACKTRACE; set -vx
        logs: reports/out/20261122-1705-brave-otter/attempts/002-lvm2_shell_lvconvert-raid-reshape.sh/
        reproduce: cargo xtask test --kernel deb:6.12.107+deb13-cloud-amd64 --accel tcg lvm2:shell/lvconvert-raid-reshape.sh
    hung              6 min 06 s  lvm2:shell/integrity-caching.sh@ndev-vanilla on 6.12.107+deb13-cloud-…
        no progress for 41 s
        | lvconvert --syncaction
        logs: reports/out/20261122-1705-brave-otter/attempts/003-lvm2_shell_integrity-caching.sh_ndev-vanilla/
        reproduce: cargo xtask test --kernel deb:6.12.107+deb13-cloud-amd64 --accel tcg lvm2:shell/integrity-caching.sh@ndev-vanilla
    unexpected skip        0.2 s  lvm2:shell/lvcreate-raid.sh on 6.1.0-40-cloud-amd64
        aux have_raid 1 14 0 || skip
        logs: reports/out/20261122-1705-brave-otter/attempts/007-lvm2_shell_lvcreate-raid.sh/
        reproduce: cargo xtask test --kernel deb:6.1.0-40-cloud-amd64 --accel tcg lvm2:shell/lvcreate-raid.sh
    infra error            0.0 s  lvm2:shell/integrity-caching.sh@ndev-vanilla on 6.1.0-40-cloud-amd64
        failed to start QEMU: out of memory
        logs: reports/out/20261122-1705-brave-otter/attempts/008-lvm2_shell_integrity-caching.sh_ndev-vanilla/
        reproduce: cargo xtask test --kernel deb:6.1.0-40-cloud-amd64 --accel tcg lvm2:shell/integrity-caching.sh@ndev-vanilla
    remark: 2 of 2 CPUs are busy
    interrupted: 1 passed, 1 complained, 1 failed, 1 hung, 1 known failure, 1 skipped, 1 unexpected skip, 2 not run, 1 interrupted, 1 infra error in 40.0 s
    report: reports/out/20261122-1705-brave-otter/summary.md
    "##);
}

#[test]
fn a_hang_shows_both_halves_and_what_is_known() {
    let (record, judged) = testing::hung();
    let text = render(&record, &judged, &TerminalStyle::plain("out/x"));
    insta::assert_snapshot!(text, @r##"
    hung                  88.0 s  lvm2:shell/integrity-caching.sh
        no progress for 41 s
        signature: lvm: kthread_stop ← md_unregister_thread ← __md_stop_writes ← md_stop ← raid_dtr
        signature: mdX_resync: _wait_barrier ← raid1_sync_request ← md_do_sync
        signature: mdX_raid1: md_super_wait ← md_update_sb ← md_check_recovery ← raid1d
        known issue dm-raid-stop-and-barrier, which this kernel has: the destructor of a suspended raid…
        dm-raid-stop-and-barrier: no fix is known
        dmsetup status --noflush: no answer in 2.1 s, it waits too (state D)
        suspended: LVMTEST79vg-LV1
        IO in flight: dm-10 LVMTEST79vg-LV1_rimage_0 (3 writes)
        LVMTEST79vg-LV1: 0 65536 raid raid1 2 aa 0/65536 resync 0 0 -
        | #integrity-caching.sh:407+ lvremove -ff LVMTEST79vg
        logs: out/x/6.1/lvm2_shell_integrity-caching.sh/
        reproduce: cargo xtask test --kernel deb:6.1.0-56-cloud-amd64 --accel tcg lvm2:shell/integrity-caching.sh
    tests failed: 0 passed, 0 failed, 1 hung in 90.0 s
    report: out/x/summary.md
    "##);
    let (record, judged) = testing::passed_on_6_1();
    let text = render(&record, &judged, &TerminalStyle::plain("out/x"));
    insta::assert_snapshot!(text, @r##"
    passed                88.0 s  lvm2:shell/integrity-caching.sh
    remark: lvm2:shell/integrity-caching.sh: known issue dm-raid-stop-and-barrier did not strike this t…
    passed: 1 passed, 0 failed in 90.0 s
    report: out/x/summary.md
    "##);
}

#[test]
fn colours_are_the_caller_s_choice() {
    let (record, judged) = testing::sample_of_one_kernel();
    let plain = render(&record, &judged, &TerminalStyle::plain("out"));
    let color = render(&record, &judged, &TerminalStyle { color: true, ..TerminalStyle::plain("out") });
    assert!(!plain.contains('\x1b'));
    assert!(color.contains("\x1b[31mfailed"), "{color}");
    let uncoloured: Vec<String> = color.lines().map(text::printable).collect();
    assert_eq!(uncoloured.join("\n") + "\n", plain);
}

#[test]
fn many_passes_are_only_counted() {
    let (record, judged) = testing::sample_of_one_kernel();
    let many: Vec<Judged> = judged.iter().cycle().take(500).cloned().collect();
    let text = render(&record, &many, &TerminalStyle::plain("out"));
    assert!(text.contains("passed          100 tests\n"), "{text}");
}

proptest! {
    #[test]
    fn a_guest_cannot_reach_the_terminal(
        name in "[^\\s:@]{1,20}",
        detail in any::<String>(),
        lines in proptest::collection::vec(any::<String>(), 0..8),
        width in 20..120_usize,
    ) {
        let Some((record, judged)) = testing::hostile(&name, &detail, &lines) else { return Ok(()) };
        let text = render(&record, &judged, &TerminalStyle { width, ..TerminalStyle::plain("out") });
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        for line in text.lines() {
            let is_whole = ["    logs: ", "    reproduce: ", "tests failed: ", "report: "]
                .iter()
                .any(|start| line.starts_with(start));
            prop_assert!(is_whole || text::columns(line) <= width, "{line:?}");
        }
    }
}
