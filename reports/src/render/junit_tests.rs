//! Tests of `junit.xml`: how it looks, and that nothing a guest writes can break it.

use super::*;
use crate::testing;
use proptest::prelude::*;
use quick_xml::XmlVersion;

/// Names and values, in the order of the report.
type Pairs = Vec<(String, String)>;

/// Reads a report back as a CI server would: element → attribute values, element → text.
fn parse(xml: &str) -> (Pairs, Pairs) {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().check_end_names = true;
    let (mut attributes, mut texts) = (Pairs::new(), Pairs::new());
    let mut path = Vec::new();
    loop {
        let event = reader.read_event().unwrap();
        match &event {
            Event::Start(start) | Event::Empty(start) => {
                let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().to_owned();
                let name = text(start.name().as_ref());
                for attribute in start.attributes() {
                    let attribute = attribute.unwrap();
                    let value = attribute.normalized_value(XmlVersion::Explicit1_0).unwrap().into_owned();
                    attributes.push((format!("{name}.{}", text(attribute.key.as_ref())), value));
                }
                if matches!(event, Event::Start(_)) {
                    texts.push((name.clone(), String::new()));
                    path.push(texts.len() - 1);
                }
            }
            Event::End(_) => {
                path.pop().unwrap();
            }
            Event::CData(data) => texts[*path.last().unwrap()].1.push_str(&data.decode().unwrap()),
            Event::Text(text) => assert_eq!(text.decode().unwrap().trim(), "", "text outside CDATA"),
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(path.is_empty());
    let allowed = |c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    assert!(xml.chars().all(allowed), "characters that XML 1.0 forbids: {xml:?}");
    (attributes, texts)
}

fn values<'a>(pairs: &'a [(String, String)], key: &str) -> Vec<&'a str> {
    pairs.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn a_hang_is_named_and_its_stacks_are_there() {
    let (record, judged) = testing::hung();
    let (attributes, texts) = parse(&render(&record, &judged).unwrap());
    insta::assert_snapshot!(values(&attributes, "failure.message")[0], @"no progress for 41 s; lvm in kthread_stop ← md_unregister_thread ← __md_stop_writes ← md_stop ← raid_dtr; mdX_resync in _wait_barrier ← raid1_sync_request ← md_do_sync; known issue dm-raid-stop-and-barrier, which this kernel has: the destructor of a suspended raid1 waits for a resync that waits until the array is resumed");
    insta::assert_snapshot!(values(&texts, "failure")[0], @r##"
    hung: no progress for 41 s
    signature: lvm: kthread_stop ← md_unregister_thread ← __md_stop_writes ← md_stop ← raid_dtr
    signature: mdX_resync: _wait_barrier ← raid1_sync_request ← md_do_sync
    signature: mdX_raid1: md_super_wait ← md_update_sb ← md_check_recovery ← raid1d
    known issue dm-raid-stop-and-barrier, which this kernel has: the destructor of a suspended raid1 waits for a resync that waits until the array is resumed
    dm-raid-stop-and-barrier: no fix is known
    reproduce: cargo xtask test --kernel deb:6.1.0-56-cloud-amd64 --accel tcg lvm2:shell/integrity-caching.sh
    logs: 6.1/lvm2_shell_integrity-caching.sh/ (output.log, console.log, kernel.log)
    where they stood:
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
    md and dm:
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
    the last lines of its output:
    #integrity-caching.sh:407+ lvremove -ff LVMTEST79vg
    "##);
}

#[test]
fn a_run_on_two_kernels() {
    let (record, judged) = testing::sample();
    let xml = render(&record, &judged).unwrap();
    insta::assert_snapshot!(xml, @r##"
    <?xml version="1.0" encoding="utf-8"?>
    <testsuites>
      <testsuite id="0" name="6.12.107+deb13-cloud-amd64" package="6.12.107+deb13-cloud-amd64" tests="6" errors="0" failures="2" hostname="localhost" timestamp="2026-11-22T17:05:38Z" time="577.81">
        <properties>
          <property name="run" value="20261122-1705-brave-otter"/>
          <property name="harness" value="md-regress 0.1.0 (2a81593)"/>
          <property name="command" value="cargo xtask test --kernel deb:6.12 --kernel deb:6.1"/>
          <property name="kernel.spec" value="deb:6.12"/>
          <property name="kernel.exact_spec" value="deb:6.12.107+deb13-cloud-amd64"/>
          <property name="kernel.release" value="6.12.107+deb13-cloud-amd64"/>
          <property name="kernel.package_version" value="6.12.107-1"/>
          <property name="kernel.digest" value="sha256:0f0c5e2a"/>
          <property name="accel" value="tcg"/>
          <property name="accel.reason" value="/dev/kvm opens, but the guest never answered"/>
          <property name="qemu" value="10.0.2"/>
          <property name="cpu" value="qemu64"/>
          <property name="time_scale_percent" value="400"/>
          <property name="image.digest" value="sha256:77aa01"/>
          <property name="version.lvm2" value="2.03.31-2"/>
          <property name="version.mdadm" value="4.4-11"/>
          <property name="host.cpus" value="2"/>
          <property name="host.kernel" value="6.8.0-1"/>
        </properties>
        <testcase name="shell/lvchange-raid.sh" time="88" classname="lvm2.6.12.107+deb13-cloud-amd64">
          <system-out><![CDATA[logs: attempts/001-lvm2_shell_lvchange-raid.sh/ (output.log, console.log, kernel.log)
    the last lines of its output:
    ok]]></system-out>
        </testcase>
        <testcase name="shell/lvconvert-raid-reshape.sh" time="111.2" classname="lvm2.6.12.107+deb13-cloud-amd64">
          <failure type="failed" message="exit status 1"><![CDATA[failed: exit status 1
    reproduce: cargo xtask test --kernel deb:6.12.107+deb13-cloud-amd64 --accel tcg lvm2:shell/lvconvert-raid-reshape.sh
    logs: attempts/002-lvm2_shell_lvconvert-raid-reshape.sh/ (output.log, console.log, kernel.log)
    the last lines of its output:
    ## lvconvert-raid-reshape.sh:77 lvconvert -y --stripes 15 @PREFIX@vg/lv
      WARNING: | <b>Reshape</b> size mismatch ```
    set +vx; STACKTRACE; set -vx]]></failure>
          <system-out><![CDATA[remark: 14 kernel log lines name a failed member
    logs: attempts/002-lvm2_shell_lvconvert-raid-reshape.sh/ (output.log, console.log, kernel.log)
    the last lines of its output:
    ## lvconvert-raid-reshape.sh:77 lvconvert -y --stripes 15 @PREFIX@vg/lv
      WARNING: | <b>Reshape</b> size mismatch ```
    set +vx; STACKTRACE; set -vx]]></system-out>
        </testcase>
        <testcase name="shell/integrity-caching.sh@ndev-vanilla" time="366" classname="lvm2.6.12.107+deb13-cloud-amd64">
          <failure type="hung" message="no progress for 41 s"><![CDATA[hung: no progress for 41 s
    reproduce: cargo xtask test --kernel deb:6.12.107+deb13-cloud-amd64 --accel tcg lvm2:shell/integrity-caching.sh@ndev-vanilla
    logs: attempts/003-lvm2_shell_integrity-caching.sh_ndev-vanilla/ (output.log, console.log, kernel.log)
    the last lines of its output:
    lvconvert --syncaction]]></failure>
          <system-out><![CDATA[logs: attempts/003-lvm2_shell_integrity-caching.sh_ndev-vanilla/ (output.log, console.log, kernel.log)
    the last lines of its output:
    lvconvert --syncaction]]></system-out>
        </testcase>
        <testcase name="shell/lvcreate-raid.sh" time="12.3" classname="lvm2.6.12.107+deb13-cloud-amd64">
          <system-out><![CDATA[complained: TEST WARNING: dmeventd is slow
    logs: attempts/004-lvm2_shell_lvcreate-raid.sh/ (output.log, console.log, kernel.log)
    the last lines of its output:
    done]]></system-out>
        </testcase>
        <testcase name="shell/lvconvert-vdo-raid.sh" time="0.31" classname="lvm2.6.12.107+deb13-cloud-amd64">
          <skipped type="skipped" message="dm-vdo not available; known: the guest has no dm-vdo"/>
          <system-out><![CDATA[logs: attempts/006-lvm2_shell_lvconvert-vdo-raid.sh/ (output.log, console.log, kernel.log)]]></system-out>
        </testcase>
        <testcase name="shell/vg-raid-takeover-1.sh" time="0" classname="lvm2.6.12.107+deb13-cloud-amd64">
          <skipped type="not-run" message="the run was interrupted before it"/>
        </testcase>
      </testsuite>
      <testsuite id="1" name="6.1.0-40-cloud-amd64" package="6.1.0-40-cloud-amd64" tests="5" errors="2" failures="1" hostname="localhost" timestamp="2026-11-22T17:05:38Z" time="9.29">
        <properties>
          <property name="run" value="20261122-1705-brave-otter"/>
          <property name="harness" value="md-regress 0.1.0 (2a81593)"/>
          <property name="command" value="cargo xtask test --kernel deb:6.12 --kernel deb:6.1"/>
          <property name="kernel.spec" value="deb:6.1"/>
          <property name="kernel.exact_spec" value="deb:6.1.0-40-cloud-amd64"/>
          <property name="kernel.release" value="6.1.0-40-cloud-amd64"/>
          <property name="kernel.package_version" value="6.1.153-1"/>
          <property name="kernel.digest" value="sha256:1f0c5e2a"/>
          <property name="accel" value="tcg"/>
          <property name="accel.reason" value="/dev/kvm opens, but the guest never answered"/>
          <property name="qemu" value="10.0.2"/>
          <property name="cpu" value="qemu64"/>
          <property name="time_scale_percent" value="400"/>
          <property name="image.digest" value="sha256:77aa01"/>
          <property name="version.lvm2" value="2.03.31-2"/>
          <property name="version.mdadm" value="4.4-11"/>
          <property name="host.cpus" value="2"/>
          <property name="host.kernel" value="6.8.0-1"/>
        </properties>
        <testcase name="shell/lvconvert-raid-reshape.sh" time="9" classname="lvm2.6.1.0-40-cloud-amd64">
          <skipped type="known-failure" message="exit status 1; known: 6.1 lacks the fix of the reshape position"/>
          <system-out><![CDATA[logs: attempts/005-lvm2_shell_lvconvert-raid-reshape.sh/ (output.log, console.log, kernel.log)
    the last lines of its output:
    mismatch_cnt 128]]></system-out>
        </testcase>
        <testcase name="shell/lvcreate-raid.sh" time="0.29" classname="lvm2.6.1.0-40-cloud-amd64">
          <failure type="unexpected-skip" message="aux have_raid 1 14 0 || skip"><![CDATA[unexpected skip: aux have_raid 1 14 0 || skip
    reproduce: cargo xtask test --kernel deb:6.1.0-40-cloud-amd64 --accel tcg lvm2:shell/lvcreate-raid.sh
    logs: attempts/007-lvm2_shell_lvcreate-raid.sh/ (output.log, console.log, kernel.log)]]></failure>
          <system-out><![CDATA[logs: attempts/007-lvm2_shell_lvcreate-raid.sh/ (output.log, console.log, kernel.log)]]></system-out>
        </testcase>
        <testcase name="shell/integrity-caching.sh@ndev-vanilla" time="0" classname="lvm2.6.1.0-40-cloud-amd64">
          <error type="infra" message="failed to start QEMU: out of memory"><![CDATA[infra error: failed to start QEMU: out of memory
    reproduce: cargo xtask test --kernel deb:6.1.0-40-cloud-amd64 --accel tcg lvm2:shell/integrity-caching.sh@ndev-vanilla
    logs: attempts/008-lvm2_shell_integrity-caching.sh_ndev-vanilla/ (output.log, console.log, kernel.log)]]></error>
          <system-out><![CDATA[logs: attempts/008-lvm2_shell_integrity-caching.sh_ndev-vanilla/ (output.log, console.log, kernel.log)]]></system-out>
        </testcase>
        <testcase name="shell/lvconvert-vdo-raid.sh" time="0" classname="lvm2.6.1.0-40-cloud-amd64">
          <error type="interrupted" message="the run was interrupted during it"><![CDATA[interrupted: the run was interrupted during it
    reproduce: cargo xtask test --kernel deb:6.1.0-40-cloud-amd64 --accel tcg lvm2:shell/lvconvert-vdo-raid.sh
    logs: attempts/009-lvm2_shell_lvconvert-vdo-raid.sh/ (output.log, console.log, kernel.log)]]></error>
        </testcase>
        <testcase name="shell/dmsecuretest.sh" time="0" classname="lvm2.6.1.0-40-cloud-amd64">
          <skipped type="not-run" message="needs dm-crypt, which 6.1 lacks"/>
        </testcase>
      </testsuite>
    </testsuites>
    "##);
}

#[test]
fn counts_follow_the_verdicts() {
    let (record, judged) = testing::sample();
    let (attributes, _) = parse(&render(&record, &judged).unwrap());
    assert_eq!(values(&attributes, "testsuite.tests"), ["6", "5"]);
    assert_eq!(values(&attributes, "testsuite.failures"), ["2", "1"]);
    assert_eq!(values(&attributes, "testsuite.errors"), ["0", "2"]);
}

#[test]
fn repeated_tests_have_names_of_their_own() {
    let (record, judged) = testing::sample_of_one_kernel();
    let twice = [judged[1].clone(), judged[1].clone()];
    let (attributes, _) = parse(&render(&record, &twice).unwrap());
    let names = values(&attributes, "testcase.name");
    assert_eq!(names, ["shell/lvconvert-raid-reshape.sh", "shell/lvconvert-raid-reshape.sh (2)"]);
}

#[test]
fn a_run_without_anything_is_a_report_too() {
    let record = RunRecord::from_events([]);
    let (attributes, texts) = parse(&render(&record, &[]).unwrap());
    assert!(attributes.is_empty());
    assert_eq!(texts.len(), 0);
}

#[test]
fn odd_times_do_not_panic() {
    for started_at in
        ["", "soon", "9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59", "2026-06-30T23:59:60Z"]
    {
        let (mut record, judged) = testing::sample();
        record.run.started_at = started_at.to_owned();
        parse(&render(&record, &judged).unwrap());
    }
    let (mut record, judged) = testing::sample();
    for attempt in &mut record.attempts {
        if let crate::record::AttemptState::Finished { facts, .. } = &mut attempt.state {
            facts.test_ms = Some(u64::MAX);
        }
    }
    parse(&render(&record, &judged).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever bytes a guest sends as its name, its detail or its output: the report parses, and
    /// the text is in it.
    #[test]
    fn a_guest_cannot_break_the_report(
        name in "[^\\s:@\\p{Cc}]{1,20}|[a-z\\]>&<\"'`]{1,8}",
        detail in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80),
            "[\\]>&<\"'!\\[CDAT\u{0}\u{1b}\u{fffe}]{0,30}".prop_map(String::into_bytes),
        ],
        lines in proptest::collection::vec(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            "(\\]\\]>|<!\\[CDATA\\[|\\]|>|&amp;|\u{1b}\\[0m|\u{ffff}){0,8}".prop_map(String::into_bytes),
        ], 0..25),
    ) {
        let detail = String::from_utf8_lossy(&detail).into_owned();
        let lines: Vec<String> =
            lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        let Some((record, judged)) = testing::hostile(&name, &detail, &lines) else {
            return Ok(());
        };
        let (attributes, texts) = parse(&render(&record, &judged).unwrap());
        let shown = text::printable(&detail);
        let shown_name = text::printable(&name);
        prop_assert_eq!(values(&attributes, "testcase.name"), [shown_name.as_str()]);
        if !detail.is_empty() {
            prop_assert_eq!(values(&attributes, "failure.message"), [shown.as_str()]);
        }
        let failure = values(&texts, "failure")[0];
        let system_out = values(&texts, "system-out")[0];
        prop_assert!(failure.contains(&shown), "{failure:?} lacks {shown:?}");
        for line in lines.iter().rev().take(MAX_LAST_LINES) {
            let line = text::printable(line.trim_end());
            prop_assert!(failure.contains(&line) && system_out.contains(&line), "{system_out:?} lacks {line:?}");
        }
    }
}

#[test]
fn lengths_are_bounded() {
    let long = "x".repeat(100_000);
    let lines = vec![long.clone(); 100];
    let (record, judged) = testing::hostile("a", &long, &lines).unwrap();
    assert!(render(&record, &judged).unwrap().len() < 100_000);
}
