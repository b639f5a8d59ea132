//! Tests of `summary.md`: how it looks, and that guest text never becomes markup.

use super::*;
use crate::testing;
use proptest::prelude::*;

#[test]
fn a_checkout_is_told_by_place_commit_and_digest() {
    let record = testing::sample_of_a_checkout();
    let text = render(&record, &[]);
    let line =
        "- `mdadm` from checkout `/home/me/my mdadm` at `mdadm-4.4-7-g0a1b2c3d4e5f-dirty`, digest `77aa02`\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn two_kernels_stand_side_by_side() {
    let (record, judged) = testing::sample();
    insta::assert_snapshot!(render(&record, &judged), @r##"
    # Interrupted: `20261122-1705-brave-otter`

    1 passed, 1 complained, 1 failed, 1 hung, 1 known failure, 1 skipped, 1 unexpected skip, 2 not run, 1 interrupted, 1 infra error in 40.0 s; the run was **interrupted**.

    | Kernel | Release | Exactly | Package | Digest |
    |---|---|---|---|---|
    | `deb:6.12` | `6.12.107+deb13-cloud-amd64` | `deb:6.12.107+deb13-cloud-amd64` | `6.12.107-1` | `sha256:0f0c5e2a` |
    | `deb:6.1` | `6.1.0-40-cloud-amd64` | `deb:6.1.0-40-cloud-amd64` | `6.1.153-1` | `sha256:1f0c5e2a` |

    - accelerator `tcg`: `/dev/kvm opens, but the guest never answered`
    - QEMU `10.0.2`, CPU `qemu64`, time limits at 400 %
    - guest image `sha256:77aa01`, `lvm2` `2.03.31-2`, `mdadm` `4.4-11`
    - started `2026-11-22T17:05:38Z` by `md-regress 0.1.0 (2a81593)`
    - `cargo xtask test --kernel deb:6.12 --kernel deb:6.1`

    ## Tests

    | Test | `6.12.107+deb13-cloud-amd64` | `6.1.0-40-cloud-amd64` |
    |---|--:|--:|
    | `lvm2:shell/lvchange-raid.sh` | passed 88.0 s | – |
    | `lvm2:shell/lvconvert-raid-reshape.sh` | **failed** 1 min 51 s | known failure 9.0 s |
    | `lvm2:shell/integrity-caching.sh@ndev-vanilla` | **hung** 6 min 06 s | **infra error** 0.0 s |
    | `lvm2:shell/lvcreate-raid.sh` | complained 12.3 s | **unexpected skip** 0.2 s |
    | `lvm2:shell/lvconvert-vdo-raid.sh` | skipped 0.3 s | interrupted |
    | `lvm2:shell/vg-raid-takeover-1.sh` | not run | – |
    | `lvm2:shell/dmsecuretest.sh` | – | not run |

    - complained `lvm2:shell/lvcreate-raid.sh` on `6.12.107+deb13-cloud-amd64`: `TEST WARNING: dmeventd is slow`
    - known failure `lvm2:shell/lvconvert-raid-reshape.sh` on `6.1.0-40-cloud-amd64`: `exit status 1; known: 6.1 lacks the fix of the reshape position`
    - skipped `lvm2:shell/lvconvert-vdo-raid.sh` on `6.12.107+deb13-cloud-amd64`: `dm-vdo not available; known: the guest has no dm-vdo`
    - interrupted `lvm2:shell/lvconvert-vdo-raid.sh` on `6.1.0-40-cloud-amd64`: `the run was interrupted during it`
    - not run `lvm2:shell/vg-raid-takeover-1.sh` on `6.12.107+deb13-cloud-amd64`: `the run was interrupted before it`
    - not run `lvm2:shell/dmsecuretest.sh` on `6.1.0-40-cloud-amd64`: `needs dm-crypt, which 6.1 lacks`

    ## Failed: `lvm2:shell/lvconvert-raid-reshape.sh` on `6.12.107+deb13-cloud-amd64`

    `exit status 1`

    ````text
    ## lvconvert-raid-reshape.sh:77 lvconvert -y --stripes 15 @PREFIX@vg/lv
      WARNING: | <b>Reshape</b> size mismatch ```
    set +vx; STACKTRACE; set -vx
    ````

    - kernel: `14 kernel log lines name a failed member`

    Logs: `attempts/002-lvm2_shell_lvconvert-raid-reshape.sh/`, after 1 min 51 s

    reproduce:

    ```sh
    cargo xtask test --kernel deb:6.12.107+deb13-cloud-amd64 --accel tcg lvm2:shell/lvconvert-raid-reshape.sh
    ```

    ## Hung: `lvm2:shell/integrity-caching.sh@ndev-vanilla` on `6.12.107+deb13-cloud-amd64`

    `no progress for 41 s`

    ```text
    lvconvert --syncaction
    ```

    Logs: `attempts/003-lvm2_shell_integrity-caching.sh_ndev-vanilla/`, after 6 min 06 s

    reproduce:

    ```sh
    cargo xtask test --kernel deb:6.12.107+deb13-cloud-amd64 --accel tcg lvm2:shell/integrity-caching.sh@ndev-vanilla
    ```

    ## Unexpected skip: `lvm2:shell/lvcreate-raid.sh` on `6.1.0-40-cloud-amd64` (`6.1.153`)

    `aux have_raid 1 14 0 || skip`

    It printed nothing.

    Logs: `attempts/007-lvm2_shell_lvcreate-raid.sh/`, after 0.2 s

    reproduce:

    ```sh
    cargo xtask test --kernel deb:6.1.0-40-cloud-amd64 --accel tcg lvm2:shell/lvcreate-raid.sh
    ```

    ## Infra error: `lvm2:shell/integrity-caching.sh@ndev-vanilla` on `6.1.0-40-cloud-amd64` (`6.1.153`)

    `failed to start QEMU: out of memory`

    Logs: `attempts/008-lvm2_shell_integrity-caching.sh_ndev-vanilla/`, after 0.0 s

    reproduce:

    ```sh
    cargo xtask test --kernel deb:6.1.0-40-cloud-amd64 --accel tcg lvm2:shell/integrity-caching.sh@ndev-vanilla
    ```

    ## Remarks

    - host: `2 of 2 CPUs are busy`
    "##);
}

#[test]
fn one_kernel_has_room_for_details() {
    let (record, judged) = testing::sample_of_one_kernel();
    insta::assert_snapshot!(render(&record, &judged), @r##"
    # Tests failed: `20261122-1705-brave-otter`

    1 passed, 1 complained, 1 failed, 1 hung, 1 skipped in 60.0 s.

    | Kernel | Release | Exactly | Package | Digest |
    |---|---|---|---|---|
    | `deb:6.12` | `6.12.107+deb13-cloud-amd64` | `deb:6.12.107+deb13-cloud-amd64` | `6.12.107-1` | `sha256:0f0c5e2a` |

    - accelerator `tcg`: `/dev/kvm opens, but the guest never answered`
    - QEMU `10.0.2`, CPU `qemu64`, time limits at 400 %
    - guest image `sha256:77aa01`, `lvm2` `2.03.31-2`, `mdadm` `4.4-11`
    - started `2026-11-22T17:05:38Z` by `md-regress 0.1.0 (2a81593)`
    - `cargo xtask test --kernel deb:6.12 --kernel deb:6.1`

    ## Tests

    | Verdict | Test | Duration | Detail |
    |---|---|--:|---|
    | passed | `lvm2:shell/lvchange-raid.sh` | 88.0 s |  |
    | **failed** | `lvm2:shell/lvconvert-raid-reshape.sh` | 1 min 51 s | `exit status 1` |
    | **hung** | `lvm2:shell/integrity-caching.sh@ndev-vanilla` | 6 min 06 s | `no progress for 41 s` |
    | complained | `lvm2:shell/lvcreate-raid.sh` | 12.3 s | `TEST WARNING: dmeventd is slow` |
    | skipped | `lvm2:shell/lvconvert-vdo-raid.sh` | 0.3 s | `dm-vdo not available; known: the guest has no dm-vdo` |

    ## Failed: `lvm2:shell/lvconvert-raid-reshape.sh` on `6.12.107+deb13-cloud-amd64`

    `exit status 1`

    ````text
    ## lvconvert-raid-reshape.sh:77 lvconvert -y --stripes 15 @PREFIX@vg/lv
      WARNING: | <b>Reshape</b> size mismatch ```
    set +vx; STACKTRACE; set -vx
    ````

    - kernel: `14 kernel log lines name a failed member`

    Logs: `attempts/002-lvm2_shell_lvconvert-raid-reshape.sh/`, after 1 min 51 s

    reproduce:

    ```sh
    cargo xtask test --kernel deb:6.12.107+deb13-cloud-amd64 --accel tcg lvm2:shell/lvconvert-raid-reshape.sh
    ```

    ## Hung: `lvm2:shell/integrity-caching.sh@ndev-vanilla` on `6.12.107+deb13-cloud-amd64`

    `no progress for 41 s`

    ```text
    lvconvert --syncaction
    ```

    Logs: `attempts/003-lvm2_shell_integrity-caching.sh_ndev-vanilla/`, after 6 min 06 s

    reproduce:

    ```sh
    cargo xtask test --kernel deb:6.12.107+deb13-cloud-amd64 --accel tcg lvm2:shell/integrity-caching.sh@ndev-vanilla
    ```

    ## Remarks

    - host: `2 of 2 CPUs are busy`
    "##);
}

#[test]
fn a_hang_reads_like_a_report_to_the_list() {
    let (record, judged) = testing::hung();
    let text = render(&record, &judged);
    let section = &text[text.find("## Hung").unwrap()..];
    insta::assert_snapshot!(section, @r##"
    ## Hung: `lvm2:shell/integrity-caching.sh` on `6.1.0-56-cloud-amd64` (`6.1.192`): `lvm in kthread_stop ← md_unregister_thread ← __md_stop_writes ← md_stop ← raid_dtr`

    `no progress for 41 s`

    Kernel: `6.1.0-56-cloud-amd64`, package `6.1.192-2`, `deb:6.1.0-56-cloud-amd64`

    Signature:

    ```text
    lvm: kthread_stop ← md_unregister_thread ← __md_stop_writes ← md_stop ← raid_dtr
    mdX_resync: _wait_barrier ← raid1_sync_request ← md_do_sync
    mdX_raid1: md_super_wait ← md_update_sb ← md_check_recovery ← raid1d
    ```

    - `known issue dm-raid-stop-and-barrier, which this kernel has: the destructor of a suspended raid1 waits for a resync that waits until the array is resumed`
      - `no fix is known`
      - `integrity-caching.sh hangs in 5 of 5 runs on Debian 6.1.170, 6.1.187 and 6.1.192 and passes on 6.12.113. Read in 6.1.192's source: nobody holds the barrier. raid_postsuspend stops writes, then mddev_suspend quiesces the array (array_frozen). md_start_sync registers the sync thread without reconfig_mutex, and md_stop_writes flushes it only while its work is pending: one that is just running starts its thread afterwards. raid_dtr then sets INTR and waits for that thread, whose close_sync waits until the array is no longer frozen.`
      - `seen here before, see suites/known-issues.toml:186`

    Where they stood:

    ```text
    lvm (pid 812, of the test), state D, still for 41.0 s:
      kthread_stop+0x6a/0x180
      md_unregister_thread+0x3e/0x80 [md_mod]
      __md_stop_writes+0x17/0x120 [md_mod]
      md_stop+0x18/0x60 [md_mod]
      raid_dtr+0x1e/0x60 [dm_raid]
      dm_table_destroy+0x5c/0x120 [dm_mod]
      __dm_destroy+0x174/0x1d0 [dm_mod]
      dev_remove+0xd8/0x170 [dm_mod]
      ctl_ioctl+0x19b/0x2b0 [dm_mod]
      dm_ctl_ioctl+0xa/0x20 [dm_mod]
      __x64_sys_ioctl+0x8d/0xd0
      do_syscall_64+0x55/0xb0
    mdX_resync (pid 99), state D, still for 41.0 s:
      _wait_barrier+0xba/0x190 [raid1] (drivers/md/raid1.c:982)
      raid1_sync_request+0x187/0xc30 [raid1] (drivers/md/raid1.c:1711 close_sync ← drivers/md/raid1.c:2650)
      md_do_sync.cold+0x3e5/0xa02 [md_mod]
      md_thread+0xab/0x190 [md_mod]
      kthread+0xd7/0x100
      ret_from_fork+0x1f/0x30
    md127_raid1 (pid 71), state D, still for 41.0 s:
      md_super_wait+0xa1/0xe0 [md_mod]
      md_update_sb+0x31e/0x8a0 [md_mod]
      md_check_recovery+0x353/0x5f0 [md_mod]
      raid1d+0x4b/0x180 [raid1]
      md_thread+0xab/0x190 [md_mod]
    ```

    md and dm:

    ```text
    dmsetup status --noflush: no answer in 2.1 s, it waits too (state D):
      dm_get_live_table+0x1/0x2 [dm_mod]
      table_status+0x3/0x4 [dm_mod]
    LVMTEST79vg-LV1:
      table   0 65536 raid raid1 3 0 region_size 4096 2 253:9 253:10 253:11 253:12
      status  0 65536 raid raid1 2 aa 0/65536 resync 0 0 -
    suspended: LVMTEST79vg-LV1
    IO in flight: dm-10 LVMTEST79vg-LV1_rimage_0 (3 writes)
    md0: level raid5, array_state active, sync_action frozen
      sync_completed 10240 / 129024, degraded 1, suspend_hi 0
    /proc/mdstat:
      Personalities : [raid1] [raid6] [raid5] [raid4]
      md0 : active raid5 vdc[3] vdb[1] vda[0]
            129024 blocks super 1.2 level 5, 512k chunk, algorithm 2 [3/2] [UU_]
            [=>...................]  recovery =  7.9% (5120/64512) finish=9.9min speed=100K/sec
      unused devices: <none>
    locks held:
      1 lock held by lvm/812:
       #0: ffff8880 (&md->type_lock){+.+.}-{3:3}, at: x
    … and 2 more lines, see the files
    ```

    What it printed last:

    ```text
    #integrity-caching.sh:407+ lvremove -ff LVMTEST79vg
    ```

    Logs: `6.1/lvm2_shell_integrity-caching.sh/`, after 88.0 s

    reproduce:

    ```sh
    cargo xtask test --kernel deb:6.1.0-56-cloud-amd64 --accel tcg lvm2:shell/integrity-caching.sh
    ```
    "##);
}

#[test]
fn a_known_issue_that_did_not_strike_is_remarked() {
    let (record, judged) = testing::passed_on_6_1();
    let text = render(&record, &judged);
    insta::assert_snapshot!(&text[text.find("## Remarks").unwrap()..], @r##"
    ## Remarks

    - `lvm2:shell/integrity-caching.sh` on `6.1.0-56-cloud-amd64`: `known issue dm-raid-stop-and-barrier did not strike this time: the destructor of a suspended raid1 waits for a resync that waits until the array is resumed`
    "##);
}

#[test]
fn a_run_without_anything_says_so() {
    let text = render(&RunRecord::from_events([]), &[]);
    assert!(text.contains("No kernel became ready."), "{text}");
    assert!(text.contains("No test was selected."), "{text}");
}

#[test]
fn many_failures_are_cut_and_counted() {
    let (record, judged) = testing::sample_of_one_kernel();
    let many: Vec<Judged> = judged.iter().cycle().take(500).cloned().collect();
    let text = render(&record, &many);
    assert_eq!(text.matches("\nreproduce:").count(), MAX_SECTIONS);
    assert!(text.contains("\n…and 150 more that went wrong"), "{text}");
}

#[test]
fn markup_in_cells_stays_text() {
    for (input, expect) in [
        ("plain", "`plain`"),
        ("", ""),
        ("<b>x</b> [l](http://e) @me", "`<b>x</b> [l](http://e) @me`"),
        ("a | b", "`a \\| b`"),
        ("a \\| b", "`a \\ \\| b`"),
        ("tick ` tock", "``tick ` tock``"),
        ("``", "``` `` ```"),
        ("two\nlines", "`two\\x0alines`"),
    ] {
        assert_eq!(cell(input), expect);
    }
}

/// The rest of a line of Markdown when its code spans are taken out, by CommonMark's rule: a
/// run of backticks opens a span that the next run of the same length closes.
fn outside_code_spans(line: &str) -> String {
    let mut left = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        left.push_str(&rest[..start]);
        let n_ticks = rest[start..].bytes().take_while(|byte| *byte == b'`').count();
        let body = &rest[start + n_ticks..];
        let (mut offset, mut close) = (0, None);
        for run in body.split_inclusive(|c| c != '`') {
            let n_run = run.bytes().take_while(|byte| *byte == b'`').count();
            if n_run == n_ticks {
                close = Some(offset + n_run);
                break;
            }
            offset += run.len();
        }
        let close = close.unwrap_or_else(|| panic!("an open span in {line:?}"));
        rest = &body[close..];
    }
    left + rest
}

proptest! {
    /// Outside fences and code spans, a report says the same whatever the guest says.
    #[test]
    fn guest_text_is_never_markup(
        name in "[a-z<>*_`|\\\\#\\[\\]()!&~]{1,12}",
        detail in "[a-z<>*_`|\\\\# \\n\u{1b}@]{1,20}|.{1,20}",
        lines in proptest::collection::vec("`{0,6}[a-z# <]{0,5}`{0,6}|~{3,5}|.{0,20}", 1..6),
    ) {
        let Some((record, judged)) = testing::hostile(&name, &detail, &lines) else { return Ok(()) };
        let text = render(&record, &judged);
        let mut fence: Option<String> = None;
        let (mut n_fences, mut structure, mut rows) = (0, Vec::new(), Vec::new());
        for line in text.lines() {
            if fence.is_none() && line.starts_with("| ") {
                rows.push(line);
            }
            match &fence {
                Some(open) if line == open => fence = None,
                // CommonMark closes a fence at any longer run, too.
                Some(open) => prop_assert!(!line.trim().starts_with(open.as_str()) || line.trim().contains(|c| c != '`')),
                None if line.starts_with("```") && !line.trim_start_matches('`').contains('`') => {
                    n_fences += 1;
                    fence = Some(line.chars().take_while(|c| *c == '`').collect());
                }
                None => structure.push(outside_code_spans(line)),
            }
        }
        prop_assert_eq!(fence, None);
        // Signature, stacks, md and dm, output, command.
        prop_assert_eq!(n_fences, 5);
        let structure = structure.join("\n");
        let headings = structure.lines().filter(|line| line.starts_with('#')).count();
        prop_assert_eq!(headings, 3, "{}", structure);
        prop_assert!(!structure.contains(['<', '[', '@', '~']), "{}", structure);
        let n_cells: Vec<usize> = rows.iter().map(|row| cells_of(row)).collect();
        prop_assert_eq!(n_cells, [5, 5, 4, 4], "{:?}", rows);
    }
}

/// How many cells GitHub sees in a row: a backslash takes the next punctuation with it.
fn cells_of(row: &str) -> usize {
    let mut n_bars = 0;
    let mut chars = row.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek().is_some_and(char::is_ascii_punctuation) {
            chars.next();
        } else if c == '|' {
            n_bars += 1;
        }
    }
    n_bars - 1
}
