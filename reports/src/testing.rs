//! Material for tests: a run as it might have been, and events as they never are.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use protocol::event::{AttemptFacts, Blame, Checkout, FORMAT, LocatedFrame, Place, PlannedAttempt};
use protocol::evidence::{KernelReport, ReportKind, TaskStack};
use protocol::program::LoadedModule;
use protocol::storage_state::{ArrayState, InFlight, StorageState, TargetState, Unanswered};
use protocol::wire::GuestFacts;
use protocol::{Event, HangKind, Outcome, Record, TestId};

use crate::judge::expectations::Expectations;
use crate::judge::judge;
use crate::judge::judged::Judged;
use crate::judge::known_issues::KnownIssues;
use crate::record::RunRecord;

/// An event at a time.
pub(crate) fn at(at_ms: u64, event: Event) -> Record {
    Record { at_ms, event }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn kernel(kernel_idx: u32, branch: &str, release: &str, package_version: &str) -> Event {
    Event::KernelReady {
        kernel_idx,
        spec: format!("deb:{branch}"),
        exact_spec: format!("deb:{release}"),
        release: release.to_owned(),
        package_version: Some(package_version.to_owned()),
        digest: format!("sha256:{kernel_idx}f0c5e2a"),
    }
}

fn facts(test_ms: u64, last_lines: &[&str]) -> AttemptFacts {
    AttemptFacts {
        test_ms: Some(test_ms),
        vm_ms: test_ms + 400,
        output_bytes: 4096,
        last_lines: last_lines.iter().map(|line| (*line).to_owned()).collect(),
        ..AttemptFacts::default()
    }
}

/// A test, its kernel, and what it came to, if it did.
type SampleAttempt = (&'static str, u32, Option<(Outcome, AttemptFacts)>);

/// The tests of the sample, in the order of the plan.
fn sample_attempts() -> Vec<SampleAttempt> {
    let reshape_failed = facts(
        111_200,
        &[
            "## lvconvert-raid-reshape.sh:77 lvconvert -y --stripes 15 @PREFIX@vg/lv",
            "\u{1b}[31m  WARNING: | <b>Reshape</b> size mismatch ```\u{1b}[0m",
            "set +vx; STACKTRACE; set -vx",
        ],
    );
    let hang = Outcome::Hang { kind: HangKind::NoProgress, silent_ms: 41_000, seen: None };
    let warn = Outcome::Warn { warning: "TEST WARNING: dmeventd is slow".to_owned() };
    let skip = Outcome::Skip { reason: "dm-vdo not available".to_owned() };
    let skip_here = Outcome::Skip { reason: "aux have_raid 1 14 0 || skip".to_owned() };
    let fail = Outcome::Fail { how: "exit status 1".to_owned() };
    let infra = Outcome::Infra { error: "failed to start QEMU: out of memory".to_owned() };
    vec![
        ("shell/lvchange-raid.sh", 0, Some((Outcome::Pass, facts(88_000, &["ok"])))),
        ("shell/lvconvert-raid-reshape.sh", 0, Some((fail.clone(), reshape_failed))),
        (
            "shell/integrity-caching.sh@ndev-vanilla",
            0,
            Some((hang, facts(366_000, &["lvconvert --syncaction"]))),
        ),
        ("shell/lvcreate-raid.sh", 0, Some((warn, facts(12_300, &["done"])))),
        ("shell/lvconvert-raid-reshape.sh", 1, Some((fail, facts(9_000, &["mismatch_cnt 128"])))),
        ("shell/lvconvert-vdo-raid.sh", 0, Some((skip, facts(310, &[])))),
        ("shell/lvcreate-raid.sh", 1, Some((skip_here, facts(290, &[])))),
        ("shell/integrity-caching.sh@ndev-vanilla", 1, Some((infra, AttemptFacts::default()))),
        ("shell/lvconvert-vdo-raid.sh", 1, None),
        ("shell/vg-raid-takeover-1.sh", 0, None),
    ]
}

/// The sample, as if its mdadm had been built from a checkout.
pub(crate) fn sample_of_a_checkout() -> RunRecord {
    let mut events = sample_events();
    for Record { event, .. } in &mut events {
        if let Event::ImageReady { checkouts, .. } = event {
            let checkout = Checkout {
                dir: "/home/me/my mdadm".to_owned(),
                commit: Some("mdadm-4.4-7-g0a1b2c3d4e5f-dirty".to_owned()),
                digest: "77aa02".to_owned(),
                package: None,
            };
            checkouts.insert("mdadm".to_owned(), checkout);
        }
    }
    RunRecord::from_events(events)
}

/// A run of ten attempts on two kernels, interrupted during the ninth.
pub(crate) fn sample_events() -> Vec<Record> {
    let attempts = sample_attempts();
    let test = |name: &str| format!("lvm2:{name}").parse::<TestId>().unwrap();
    let number = |attempt_idx: usize| u32::try_from(attempt_idx + 1).unwrap();
    let plan = attempts.iter().enumerate().map(|(attempt_idx, (name, kernel_idx, _))| PlannedAttempt {
        attempt: number(attempt_idx),
        test: test(name),
        kernel_idx: *kernel_idx,
        dir: format!("attempts/{:03}-{}", attempt_idx + 1, test(name).slug()),
        again: vec![],
        retry_of: None,
        allow: vec![],
    });
    let mut events = vec![
        Event::RunStarted {
            format: FORMAT,
            run: "20261122-1705-brave-otter".to_owned(),
            started_at: "2026-11-22T17:05:38Z".to_owned(),
            harness: "md-regress 0.1.0 (2a81593)".to_owned(),
            command: ["cargo", "xtask", "test", "--kernel", "deb:6.12", "--kernel", "deb:6.1"]
                .map(str::to_owned)
                .to_vec(),
            settings: vec![],
            scripts: vec![],
            host: map(&[("kernel", "6.8.0-1"), ("cpus", "2")]),
            fail_on: vec![],
            flaky_fails: false,
        },
        Event::MachineChosen {
            accel: "tcg".to_owned(),
            reason: "/dev/kvm opens, but the guest never answered".to_owned(),
            qemu: "10.0.2".to_owned(),
            cpu: "qemu64".to_owned(),
            time_scale_percent: 400,
        },
        kernel(0, "6.12", "6.12.107+deb13-cloud-amd64", "6.12.107-1"),
        kernel(1, "6.1", "6.1.0-40-cloud-amd64", "6.1.153-1"),
        Event::ImageReady {
            digest: "sha256:77aa01".to_owned(),
            versions: map(&[("lvm2", "2.03.31-2"), ("mdadm", "4.4-11")]),
            checkouts: BTreeMap::new(),
        },
        Event::Planned { attempts: plan.collect() },
        Event::NotPlanned {
            test: test("shell/dmsecuretest.sh"),
            kernel_idx: 1,
            reason: "needs dm-crypt, which 6.1 lacks".to_owned(),
        },
        Event::Remark { attempt: None, blame: Blame::Host, text: "2 of 2 CPUs are busy".to_owned() },
    ];
    for (attempt_idx, (_, _, finish)) in attempts.into_iter().enumerate() {
        let attempt = number(attempt_idx);
        // The last one waits when the run is interrupted.
        if attempt == 10 {
            break;
        }
        events.push(Event::VmStarting { attempt });
        let Some((outcome, facts)) = finish else { continue };
        if facts.vm_ms > 0 {
            events.push(Event::VmReady { attempt, ready_after_ms: 180, guest: guest() });
            events.push(Event::TestStarted { attempt });
        }
        if attempt == 2 {
            let text = "14 kernel log lines name a failed member".to_owned();
            events.push(Event::Remark { attempt: Some(attempt), blame: Blame::Kernel, text });
        }
        events.push(Event::AttemptFinished { attempt, outcome, facts });
    }
    events.push(Event::RunFinished { interrupted: true });
    events.into_iter().enumerate().map(|(event_idx, event)| at(event_idx as u64 * 1000, event)).collect()
}

fn guest() -> GuestFacts {
    GuestFacts {
        kernel_release: "6.12.107+deb13-cloud-amd64".to_owned(),
        kernel_version: "#1 SMP".to_owned(),
        boot_ms: 2300,
        mem_total_kib: 1_500_000,
        n_cpus: 1,
    }
}

/// Expectations of the sample's suite.
pub(crate) fn sample_expectations() -> BTreeMap<String, Expectations> {
    let text = r#"
[[expect]]
tests = ["shell/*-vdo-*"]
outcome = "skip"
because = "environment"
reason = "the guest has no dm-vdo"

[[expect]]
tests = ["shell/lvconvert-raid-reshape.sh"]
kernels = "6.1"
outcome = "fail"
match = "^mismatch_cnt"
because = "kernel"
reason = "6.1 lacks the fix of the reshape position"
"#;
    let parsed = Expectations::parse(text, "suites/lvm2/expectations.toml", &KnownIssues::default()).unwrap();
    BTreeMap::from([("lvm2".to_owned(), parsed)])
}

/// The sample, folded and judged.
pub(crate) fn sample() -> (RunRecord, Vec<Judged>) {
    let record = RunRecord::from_events(sample_events());
    let judged = judge(&record, &sample_expectations(), &KnownIssues::default());
    (record, judged)
}

/// The sample with one kernel, as a run that came to its end.
pub(crate) fn sample_of_one_kernel() -> (RunRecord, Vec<Judged>) {
    let mut events = sample_events();
    for Record { event, .. } in &mut events {
        if let Event::Planned { attempts } = event {
            attempts.retain(|attempt| [1, 2, 3, 4, 6].contains(&attempt.attempt));
        }
    }
    events.retain(|record| match &record.event {
        Event::KernelReady { kernel_idx, .. } | Event::NotPlanned { kernel_idx, .. } => *kernel_idx == 0,
        Event::VmStarting { attempt }
        | Event::VmReady { attempt, .. }
        | Event::ModulesReplaced { attempt, .. }
        | Event::TestStarted { attempt }
        | Event::StacksSeen { attempt, .. }
        | Event::StateSeen { attempt, .. }
        | Event::KernelReported { attempt, .. }
        | Event::AttemptFinished { attempt, .. } => [1, 2, 3, 4, 6].contains(attempt),
        Event::RunStarted { .. }
        | Event::MachineChosen { .. }
        | Event::ImageReady { .. }
        | Event::RunResumed { .. }
        | Event::Sharded { .. }
        | Event::Planned { .. }
        | Event::FramesLocated { .. }
        | Event::Remark { .. } => true,
        Event::RunFinished { .. } => false,
    });
    events.push(at(60_000, Event::RunFinished { interrupted: false }));
    let record = RunRecord::from_events(events);
    let judged = judge(&record, &sample_expectations(), &KnownIssues::default());
    (record, judged)
}

/// `suites/known-issues.toml`.
pub(crate) fn known_issues() -> &'static KnownIssues {
    static ISSUES: LazyLock<KnownIssues> = LazyLock::new(|| {
        let text = include_str!("../../suites/known-issues.toml");
        KnownIssues::parse(text, "suites/known-issues.toml").unwrap()
    });
    &ISSUES
}

/// A task that has stood in D state for 41 s; `frames` is innermost first, as a signature is written.
pub(crate) fn stack(pid: u32, comm: &str, of_test: bool, frames: &str) -> TaskStack {
    TaskStack {
        pid,
        comm: comm.to_owned(),
        of_test,
        state: 'D',
        still_ms: 41_000,
        frames: frames.split(" ← ").map(str::to_owned).collect(),
    }
}

/// Stacks of the hang of Debian's 6.1.192 in integrity-caching.sh: a destructor, a resync, and a shell that
/// waits.
pub(crate) fn hung_stacks() -> Vec<TaskStack> {
    vec![
        stack(
            99,
            "mdX_resync",
            false,
            "_wait_barrier+0xba/0x190 [raid1] ← raid1_sync_request+0x187/0xc30 [raid1] ← \
             md_do_sync.cold+0x3e5/0xa02 [md_mod] ← md_thread+0xab/0x190 [md_mod] ← kthread+0xd7/0x100 ← \
             ret_from_fork+0x1f/0x30",
        ),
        stack(
            71,
            "md127_raid1",
            false,
            "md_super_wait+0xa1/0xe0 [md_mod] ← md_update_sb+0x31e/0x8a0 [md_mod] ← \
             md_check_recovery+0x353/0x5f0 [md_mod] ← raid1d+0x4b/0x180 [raid1] ← md_thread+0xab/0x190 [md_mod]",
        ),
        stack(60, "bash", true, "do_wait+0x160/0x2f0 ← kernel_wait4+0xb9/0x160 ← do_syscall_64+0x55/0xb0"),
        stack(
            812,
            "lvm",
            true,
            "kthread_stop+0x6a/0x180 ← md_unregister_thread+0x3e/0x80 [md_mod] ← \
             __md_stop_writes+0x17/0x120 [md_mod] ← md_stop+0x18/0x60 [md_mod] ← raid_dtr+0x1e/0x60 [dm_raid] ← \
             dm_table_destroy+0x5c/0x120 [dm_mod] ← __dm_destroy+0x174/0x1d0 [dm_mod] ← \
             dev_remove+0xd8/0x170 [dm_mod] ← ctl_ioctl+0x19b/0x2b0 [dm_mod] ← dm_ctl_ioctl+0xa/0x20 [dm_mod] ← \
             __x64_sys_ioctl+0x8d/0xd0 ← do_syscall_64+0x55/0xb0",
        ),
    ]
}

/// How md and dm might stand then, with something of everything.
pub(crate) fn storage() -> StorageState {
    let lines = |all: &[&str]| all.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    StorageState {
        mdstat: lines(&[
            "Personalities : [raid1] [raid6] [raid5] [raid4]",
            "md0 : active raid5 vdc[3] vdb[1] vda[0]",
            "      129024 blocks super 1.2 level 5, 512k chunk, algorithm 2 [3/2] [UU_]",
            "      [=>...................]  recovery =  7.9% (5120/64512) finish=9.9min speed=100K/sec",
            "unused devices: <none>",
        ]),
        arrays: vec![ArrayState {
            name: "md0".to_owned(),
            attributes: map(&[
                ("array_state", "active"),
                ("degraded", "1"),
                ("level", "raid5"),
                ("suspend_hi", "0"),
                ("sync_action", "frozen"),
                ("sync_completed", "10240 / 129024"),
            ]),
        }],
        targets: vec![TargetState {
            device: "LVMTEST79vg-LV1".to_owned(),
            table: "0 65536 raid raid1 3 0 region_size 4096 2 253:9 253:10 253:11 253:12".to_owned(),
            status: "0 65536 raid raid1 2 aa 0/65536 resync 0 0 -".to_owned(),
        }],
        suspended: lines(&["LVMTEST79vg-LV1"]),
        in_flight: vec![InFlight {
            device: "dm-10 LVMTEST79vg-LV1_rimage_0".to_owned(),
            n_reads: 0,
            n_writes: 3,
        }],
        held_locks: lines(&["1 lock held by lvm/812:", " #0: ffff8880 (&md->type_lock){+.+.}-{3:3}, at: x"]),
        unanswered: vec![Unanswered {
            what: "dmsetup status --noflush".to_owned(),
            waited_ms: 2100,
            state: 'D',
            frames: lines(&["dm_get_live_table+0x1/0x2 [dm_mod]", "table_status+0x3/0x4 [dm_mod]"]),
        }],
        n_left_out: 2,
    }
}

/// Two of the frames of [`hung_stacks`], one of them within what was inlined.
fn located_frames() -> Vec<LocatedFrame> {
    let place = |function: &str, line| Place {
        function: function.to_owned(),
        file: "drivers/md/raid1.c".to_owned(),
        line,
    };
    vec![
        LocatedFrame {
            frame: "_wait_barrier+0xba/0x190 [raid1]".to_owned(),
            places: vec![place("_wait_barrier", 982)],
        },
        LocatedFrame {
            frame: "raid1_sync_request+0x187/0xc30 [raid1]".to_owned(),
            places: vec![place("close_sync", 1711), place("raid1_sync_request", 2650)],
        },
    ]
}

/// A run of one test that hung on Debian's 6.1.192, judged by what is known.
pub(crate) fn hung() -> (RunRecord, Vec<Judged>) {
    let hang = Outcome::Hang { kind: HangKind::NoProgress, silent_ms: 41_000, seen: None };
    let last = facts(88_000, &["#integrity-caching.sh:407+ lvremove -ff LVMTEST79vg"]);
    one_attempt(kernel(0, "6.1", "6.1.0-56-cloud-amd64", "6.1.192-2"), hung_stacks(), hang, last)
}

/// A run of integrity-caching.sh that came to this, judged by what is known.
pub(crate) fn one_attempt(
    kernel: Event,
    stacks: Vec<TaskStack>,
    outcome: Outcome,
    facts: AttemptFacts,
) -> (RunRecord, Vec<Judged>) {
    let test: TestId = "lvm2:shell/integrity-caching.sh".parse().unwrap();
    let dir = format!("6.1/{}", test.slug());
    let plan =
        PlannedAttempt { attempt: 1, test, kernel_idx: 0, dir, again: vec![], retry_of: None, allow: vec![] };
    let mut events = sample_events();
    events.truncate(5);
    events[2] = at(0, kernel);
    events.remove(3);
    events.extend([
        at(1, Event::Planned { attempts: vec![plan] }),
        at(2, Event::VmStarting { attempt: 1 }),
        at(3, Event::StacksSeen { attempt: 1, stacks }),
        at(4, Event::StateSeen { attempt: 1, state: storage() }),
        at(5, Event::FramesLocated { kernel_idx: 0, frames: located_frames() }),
        at(90_000, Event::AttemptFinished { attempt: 1, outcome, facts }),
        at(90_000, Event::RunFinished { interrupted: false }),
    ]);
    let record = RunRecord::from_events(events);
    let judged = judge(&record, &BTreeMap::new(), known_issues());
    (record, judged)
}

/// Debian's 6.1.192, on which integrity-caching.sh is known to hang.
pub(crate) fn passed_on_6_1() -> (RunRecord, Vec<Judged>) {
    let kernel = kernel(0, "6.1", "6.1.0-56-cloud-amd64", "6.1.192-2");
    one_attempt(kernel, vec![], Outcome::Pass, facts(88_000, &["ok"]))
}

/// A run of one attempt whose every text is the guest's.
pub(crate) fn hostile(name: &str, detail: &str, lines: &[String]) -> Option<(RunRecord, Vec<Judged>)> {
    let test: TestId = format!("lvm2:{name}").parse().ok()?;
    let mut facts = facts(1000, &[]);
    facts.last_lines = lines.to_vec();
    let plan = PlannedAttempt {
        attempt: 1,
        test,
        kernel_idx: 0,
        dir: format!("attempts/{detail}"),
        again: vec![],
        retry_of: None,
        allow: vec![],
    };
    let mut events = sample_events();
    events.truncate(5);
    events.remove(3);
    events.extend([
        at(1, Event::Planned { attempts: vec![plan] }),
        at(2, Event::VmStarting { attempt: 1 }),
        at(3, Event::Remark { attempt: Some(1), blame: Blame::Test, text: detail.to_owned() }),
        at(3, Event::StacksSeen { attempt: 1, stacks: vec![hostile_stack(name, lines)] }),
        at(3, Event::StateSeen { attempt: 1, state: hostile_state(detail, lines) }),
        at(3, Event::KernelReported { attempt: 1, report: hostile_report(detail, lines) }),
        at(
            4,
            Event::AttemptFinished { attempt: 1, outcome: Outcome::Fail { how: detail.to_owned() }, facts },
        ),
        at(5, Event::RunFinished { interrupted: false }),
    ]);
    let record = RunRecord::from_events(events);
    let judged = judge(&record, &BTreeMap::new(), known_issues());
    Some((record, judged))
}

fn hostile_stack(comm: &str, lines: &[String]) -> TaskStack {
    let frames = ["stop_sync_thread".to_owned()].into_iter().chain(lines.iter().cloned()).collect();
    TaskStack { frames, ..stack(1, comm, true, "") }
}

fn hostile_state(word: &str, lines: &[String]) -> StorageState {
    let word = word.to_owned();
    StorageState {
        mdstat: lines.to_vec(),
        arrays: vec![ArrayState {
            name: word.clone(),
            attributes: BTreeMap::from([(word.clone(), word.clone())]),
        }],
        targets: vec![TargetState { device: word.clone(), table: word.clone(), status: word.clone() }],
        suspended: lines.to_vec(),
        in_flight: vec![InFlight { device: word.clone(), n_reads: 1, n_writes: 1 }],
        held_locks: lines.to_vec(),
        unanswered: vec![Unanswered { what: word, waited_ms: 1, state: 'D', frames: lines.to_vec() }],
        n_left_out: 1,
    }
}

fn hostile_report(title: &str, lines: &[String]) -> KernelReport {
    let (title, frames) = (title.to_owned(), lines.to_vec());
    KernelReport {
        kind: ReportKind::Warning,
        title,
        alt_titles: vec![],
        corrupted: false,
        frames,
        causes: vec![],
        starved: false,
    }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Pass),
        ".{0,8}".prop_map(|how| Outcome::Fail { how }),
        ".{0,8}".prop_map(|reason| Outcome::Skip { reason }),
        ".{0,8}".prop_map(|warning| Outcome::Warn { warning }),
        any::<u64>().prop_map(|limit_ms| Outcome::Timeout { limit_ms }),
        any::<u64>().prop_map(|silent_ms| Outcome::Hang { kind: HangKind::Livelock, silent_ms, seen: None }),
        ".{0,8}".prop_map(|title| Outcome::KernelCrash { title }),
        ".{0,8}".prop_map(|title| Outcome::DataCorruption { title }),
        Just(Outcome::Interrupted),
        ".{0,8}".prop_map(|error| Outcome::Infra { error }),
    ]
}

/// Any event at any time, about one of few attempts on one of few kernels.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let attempt = 0..4_u32;
    let planned = (0..4_u32, "[a-c]", 0..3_u32).prop_map(|(attempt, name, kernel_idx)| PlannedAttempt {
        attempt,
        test: TestId::new("lvm2", &name).unwrap(),
        kernel_idx,
        dir: format!("attempts/{attempt}"),
        again: vec![],
        retry_of: None,
        allow: vec![],
    });
    let header: Vec<Event> = sample_events().into_iter().take(5).map(|record| record.event).collect();
    let event = prop_oneof![
        proptest::sample::select(header),
        proptest::collection::vec(planned, 0..3).prop_map(|attempts| Event::Planned { attempts }),
        (0..3_u32, ".{0,8}").prop_map(|(kernel_idx, reason)| Event::NotPlanned {
            test: TestId::new("lvm2", "d").unwrap(),
            kernel_idx,
            reason,
        }),
        attempt.clone().prop_map(|attempt| Event::VmStarting { attempt }),
        (attempt.clone(), any::<u64>()).prop_map(|(attempt, ready_after_ms)| Event::VmReady {
            attempt,
            ready_after_ms,
            guest: guest(),
        }),
        (attempt.clone(), ".{0,8}").prop_map(|(attempt, word)| Event::ModulesReplaced {
            attempt,
            probed: LoadedModule { name: word.clone(), build_id: word.clone() },
            built: BTreeMap::from([(word.clone(), word)]),
        }),
        attempt.clone().prop_map(|attempt| Event::TestStarted { attempt }),
        (attempt.clone(), ".{0,8}", ".{0,8}").prop_map(|(attempt, comm, frame)| Event::StacksSeen {
            attempt,
            stacks: vec![TaskStack {
                pid: 1,
                comm,
                of_test: true,
                state: 'D',
                still_ms: 1,
                frames: vec![frame]
            }],
        }),
        (attempt.clone(), ".{0,8}").prop_map(|(attempt, word)| Event::StateSeen {
            attempt,
            state: hostile_state(&word, std::slice::from_ref(&word)),
        }),
        (attempt.clone(), ".{0,8}").prop_map(|(attempt, title)| Event::KernelReported {
            attempt,
            report: KernelReport {
                kind: ReportKind::Warning,
                title,
                alt_titles: vec![],
                corrupted: false,
                causes: vec![],
                starved: false,
                frames: vec![],
            },
        }),
        (0..3_u32, ".{0,8}").prop_map(|(kernel_idx, word)| Event::FramesLocated {
            kernel_idx,
            frames: vec![LocatedFrame {
                frame: word.clone(),
                places: vec![Place { function: word.clone(), file: word, line: 1 }],
            }],
        }),
        (proptest::option::of(attempt.clone()), ".{0,8}").prop_map(|(attempt, text)| Event::Remark {
            attempt,
            blame: Blame::Kernel,
            text,
        }),
        (attempt, any_outcome(), any::<u64>(), proptest::option::of(any::<u64>())).prop_map(
            |(attempt, outcome, vm_ms, test_ms)| Event::AttemptFinished {
                attempt,
                outcome,
                facts: AttemptFacts { vm_ms, test_ms, ..AttemptFacts::default() },
            }
        ),
        any::<bool>().prop_map(|interrupted| Event::RunFinished { interrupted }),
        ".{0,8}".prop_map(|harness| Event::RunResumed { resumed_at: String::new(), harness }),
        (0..3_u32, 0..3_u32, ".{0,8}").prop_map(|(shard, n_shards, digest)| Event::Sharded {
            shard,
            n_shards,
            digest
        }),
    ];
    (any::<u64>(), event).prop_map(|(at_ms, event)| at(at_ms, event))
}
