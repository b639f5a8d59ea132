//! Valid messages with any numbers and texts, in any order.

use proptest::prelude::*;
use protocol::evidence::{Evidence, TaskStack};
use protocol::program::{Exit, LoadedModule};
use protocol::sample::{Sample, Storage, Sync, TaskSample};
use protocol::storage_state::{StorageState, TargetState, Unanswered};
use protocol::wire::{Finished, GuestFacts, Message, Survivor, VERSION};

use super::recorded::{ATTEMPT, SESSION};

/// Numbers at which counters and casts break.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..20_u64,
        1 => proptest::sample::select(vec![u64::from(u32::MAX), 1 << 32, i64::MAX as u64, u64::MAX - 1, u64::MAX]),
        1 => any::<u64>(),
    ]
}

fn small_number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..4_u32, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn attempt() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(ATTEMPT), 1 => any::<u32>()]
}

/// Texts: short, long, or with everything that a terminal, a path or a report may not contain.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => ".{0,20}",
        2 => proptest::sample::select(vec![
            "../../../etc/passwd", "/", ".", "..", "", "a\0b", "files/../x", "\u{1b}[2J\n\u{202e}", "con:\\x",
        ]).prop_map(str::to_owned),
        1 => ("[x\u{1}日\u{10ffff}]", 1..8000_usize).prop_map(|(word, n_times)| word.repeat(n_times)),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..40),
        2 => Just(Vec::new()),
        2 => proptest::sample::select(vec![
            "TEST SKIPPED: forged\n", "TEST WARNING\n", "set +vx; STACKTRACE; set -vx\n", "Found dm-\n", "a\nb\nc\n", "\n",
        ]).prop_map(|line| line.as_bytes().to_vec()),
        1 => (any::<u8>(), 1..33_000_usize).prop_map(|(byte, n_bytes)| vec![byte; n_bytes]),
    ]
}

fn guest() -> impl Strategy<Value = GuestFacts> {
    (words(), words(), number(), number(), small_number()).prop_map(
        |(kernel_release, kernel_version, boot_ms, mem_total_kib, n_cpus)| GuestFacts {
            kernel_release,
            kernel_version,
            boot_ms,
            mem_total_kib,
            n_cpus,
        },
    )
}

fn exit() -> impl Strategy<Value = Exit> {
    let status = || prop_oneof![2 => Just(0), 2 => Just(200), 1 => any::<i32>()];
    prop_oneof![
        3 => status().prop_map(Exit::Code),
        1 => status().prop_map(Exit::Signal),
        1 => status().prop_map(Exit::NotStarted),
    ]
}

fn finished() -> impl Strategy<Value = Message> {
    let survivor = (any::<u32>(), words(), any::<char>(), any::<bool>())
        .prop_map(|(pid, comm, state, unkillable)| Survivor { pid, comm, state, unkillable });
    let times = (number(), number(), number(), number());
    (attempt(), exit(), times, proptest::collection::vec(survivor, 0..3), 0..60_usize).prop_map(
        |(attempt, exit, (wall_ms, user_ms, sys_ms, output_bytes), survivors, n_times)| {
            let survivors = vec![survivors; n_times].concat();
            Message::Finished(Finished { attempt, exit, wall_ms, user_ms, sys_ms, output_bytes, survivors })
        },
    )
}

fn stack() -> impl Strategy<Value = TaskStack> {
    let frames = proptest::collection::vec(words(), 0..50);
    (0..40_u32, words(), any::<bool>(), any::<char>(), number(), frames).prop_map(
        |(pid, comm, of_test, state, still_ms, frames)| TaskStack {
            pid,
            comm,
            of_test,
            state,
            still_ms,
            frames,
        },
    )
}

/// Evidence, and samples of a test that makes no progress.
fn evidence() -> impl Strategy<Value = Evidence> {
    let state = (proptest::collection::vec(words(), 0..60), words(), number(), any::<char>()).prop_map(
        |(lines, word, waited_ms, state)| StorageState {
            suspended: lines.clone(),
            targets: vec![
                TargetState { device: word.clone(), table: word.clone(), status: word.clone() };
                lines.len()
            ],
            unanswered: vec![Unanswered { what: word, waited_ms, state, frames: lines.clone() }; 3],
            mdstat: lines,
            ..StorageState::default()
        },
    );
    prop_oneof![
        proptest::collection::vec(stack(), 0..40).prop_map(Evidence::Stacks),
        state.prop_map(|state| Evidence::State(Box::new(state)))
    ]
}

fn storage() -> impl Strategy<Value = Storage> {
    (words(), number(), number(), number(), any::<bool>(), number()).prop_map(
        |(device, done, reads, syncs, is_suspended, ends_ms)| Storage {
            device,
            done,
            reads,
            syncs,
            is_busy: is_suspended,
            is_suspended,
            ends_ms,
        },
    )
}

fn sample() -> impl Strategy<Value = Sample> {
    let names = || proptest::sample::select(vec!["x", "timeout", "md0_resync", "mdX_raid5", "kdelayd"]);
    let task = (
        0..4_u32,
        names(),
        any::<bool>(),
        proptest::sample::select(vec!['D', 'R', 'S']),
        words(),
        (number(), number(), proptest::option::of(number())),
        proptest::option::of(storage()),
    )
        .prop_map(|(pid, comm, of_test, state, frame, (sys_ms, slices, sleeps_ms), storage)| {
            TaskSample {
                pid,
                comm: comm.into(),
                of_test,
                state,
                sys_ms,
                user_ms: sys_ms,
                slices,
                sleeps_ms,
                frames: vec![frame],
                storage,
            }
        });
    let sync = (words(), number(), any::<bool>(), any::<bool>()).prop_map(
        |(array, position, should_move, is_capped)| Sync { array, position, should_move, is_capped },
    );
    let lists = (proptest::collection::vec(task, 0..4), proptest::collection::vec(sync, 0..3));
    (number(), lists, number(), small_number(), number()).prop_map(
        |(uptime_ms, (tasks, syncs), done, n_left_out, paging)| Sample {
            uptime_ms,
            tasks,
            io_done: done,
            reads_done: done,
            storage_writes: done,
            host_io: n_left_out,
            syncs,
            mdstat: done,
            cost_us: done,
            n_left_out,
            paging,
        },
    )
}

/// Any message on the agent's port.
pub(super) fn agent_message() -> impl Strategy<Value = Message> {
    let session = prop_oneof![8 => Just(SESSION), 1 => any::<u64>()];
    let version = prop_oneof![8 => Just(VERSION), 1 => any::<u32>()];
    let kmsg = (number(), number(), any::<u8>(), 0..2_u8, number(), words());
    prop_oneof![
        3 => (version, session, guest())
            .prop_map(|(version, session, guest)| Message::Hello { version, session, guest }),
        3 => (attempt(), any::<u32>(), proptest::option::of(words())).prop_map(|(attempt, pid, word)| {
            let probed = word.map(|word| LoadedModule { name: "md_mod".into(), build_id: word });
            Message::Started { attempt, pid, probed }
        }),
        8 => (attempt(), number(), bytes())
            .prop_map(|(attempt, offset, data)| Message::Output { attempt, offset, data }),
        2 => finished(),
        4 => kmsg.prop_map(|(seq, at_us, level, facility, left_out, text)| {
            let caller = (level > 128).then(|| text.clone());
            Message::Kmsg { seq, at_us, level, facility, caller, left_out, text }
        }),
        1 => (proptest::option::of(number()), proptest::option::of(number()))
            .prop_map(|(tainted, log_end)| Message::KernelState { tainted, log_end }),
        4 => (number(), number(), number()).prop_map(|(uptime_ms, mem_available_kib, output_bytes)| {
            Message::Heartbeat { uptime_ms, mem_available_kib, output_bytes, sampler: Some('D') }
        }),
        1 => words().prop_map(|reason| Message::Refused { reason }),
        3 => words().prop_map(|text| Message::Note { text }),
        3 => sample().prop_map(Message::Sample),
        2 => (attempt(), evidence()).prop_map(|(attempt, evidence)| Message::Evidence { attempt, evidence }),
        1 => attempt().prop_map(|attempt| Message::Diagnosed { attempt }),
    ]
}

/// Any message on the files' port.
pub(super) fn files_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        4 => (attempt(), small_number(), words(), number())
            .prop_map(|(attempt, file_idx, path, size)| Message::FileStart { attempt, file_idx, path, size }),
        4 => (attempt(), small_number(), bytes())
            .prop_map(|(attempt, file_idx, data)| Message::FileData { attempt, file_idx, data }),
        2 => (attempt(), small_number(), proptest::option::of(words()))
            .prop_map(|(attempt, file_idx, error)| Message::FileEnd { attempt, file_idx, error }),
        1 => (attempt(), small_number(), small_number())
            .prop_map(|(attempt, n_files, n_left_out)| Message::Collected { attempt, n_files, n_left_out }),
    ]
}

/// Any message, on either port.
pub(super) fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![agent_message(), files_message()]
}
