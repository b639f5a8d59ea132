//! Hangs beside which something goes on: polls, output, IO elsewhere, `timeout`.

use super::*;

/// `set -x`, or a command that prints the same per cent again and again.
#[test]
fn output_hides_nothing_that_stands_in_storage() {
    let prints = |task: fn() -> TaskSample| {
        let mut progress = progress();
        (0..600).find_map(|n| {
            progress.spoke();
            let stuck = progress.take(sample(n, vec![POLLED(n), sleep(100 + n, 1000), task()]))?;
            Some((n, stuck.kind))
        })
    };
    assert_eq!(prints(|| writer(2)), no_progress(12));
    assert_eq!(prints(|| reader(2, "dd", "md0")), no_progress(60), "outside, a test that prints goes on");
    assert_eq!(prints(|| with_storage(reader(2, "dd", "dm-0"), |dm| dm.is_suspended = true)), None);
}

#[test]
fn timeout_hides_nothing_that_a_signal_does_not_end() {
    let under = |left_ms: u64, of_test: TaskSample, make: fn(u64) -> Vec<TaskSample>| {
        play(600, move |n| {
            let timeout = TaskSample { sleeps_ms: Some(left_ms), ..task(3, "timeout", 'S', 1) };
            sample(n, [vec![task(1, "bash", 'S', 5), timeout, of_test.clone()], make(n)].concat())
        })
    };
    let lvm = || task(2, "lvm", 'D', 9);
    // Whether its limit is known or not.
    assert_eq!(under(0, lvm(), |_| vec![]), no_progress(7));
    assert_eq!(under(100_000, lvm(), |_| vec![]), no_progress(7));
    assert_eq!(under(0, lvm(), |n| vec![task(4, "bash", 'S', n)]), no_progress(12));
    let sync_thread = |_| vec![task(9, "md0_resync", 'D', 7)];
    assert_eq!(under(0, task(2, "lvm", 'S', 9), sync_thread), Some((16, HangKind::SyncStalled)));
    // A signal ends a wait for a page, and one that a signal could end.
    let mut cat = reader(2, "cat", "md0");
    cat.frames = vec!["folio_put_wait_locked+0x1/0x2".into(), "filemap_update_page+0x1/0x2".into()];
    assert_eq!(under(100_000, cat.clone(), |_| vec![]), None);
    assert_eq!(under(1_000_000, cat, |_| vec![]), no_progress(7), "its limit is beyond that of the silence");
    let mut mdadm = task(2, "mdadm", 'S', 9);
    mdadm.frames = vec!["mddev_lock+0x1/0x2 [md_mod]".into()];
    assert_eq!(under(60_000, mdadm, |_| vec![]), None);
}

/// A read that md has taken and lost; its task waits elsewhere.
#[test]
fn a_request_that_md_has_taken_is_inside_of_it() {
    let reads = |is_suspended: bool| {
        play(600, move |n| {
            let dd = with_storage(reader(2, "dd", "md0"), |md0| {
                (md0.is_busy, md0.is_suspended) = (true, is_suspended)
            });
            sample(n, vec![POLLED(n), sleep(100 + n, 1000), dd])
        })
    };
    assert_eq!(reads(false), no_progress(12));
    assert_eq!(reads(true), no_progress(40), "it may be resumed");
}

#[test]
fn pollers_of_any_kind_hide_nothing() {
    let beside =
        |make: fn(u64) -> Vec<TaskSample>| play(600, |n| sample(n, [vec![writer(2)], make(n)].concat()));
    assert_eq!(
        beside(|n| vec![POLLED(n), sleep(100 + n, 1000)]),
        no_progress(12),
        "sleep 1, again and again"
    );
    let tens = |n: u64| vec![TaskSample { slices: n / 10, ..sleep(100 + n / 10, 10_000) }];
    assert!(beside(tens).is_some_and(|(n, _)| n <= 25), "sleep 10, again and again");
    // while ! grep -q idle sync_action; do :; done
    let busy = |n: u64| {
        let bash = TaskSample {
            sys_ms: n * 500,
            user_ms: n * 400,
            frames: vec![],
            ..task(1, "bash", 'R', 5 + n * 9)
        };
        vec![bash, task(100 + n as u32, "grep", 'R', 1)]
    };
    assert_eq!(beside(busy), no_progress(12));
    let mdadm = |n: u64| vec![POLLED(n), task(100 + n as u32, "mdadm", 'S', 1)];
    assert!(beside(mdadm).is_some_and(|(n, _)| n <= 17), "mdadm --detail");
    let reads_proc = |n: u64| {
        vec![TaskSample { sys_ms: n * 450, user_ms: n * 450, frames: vec![], ..task(5, "cat", 'R', n) }]
    };
    assert_eq!(beside(reads_proc), no_progress(12));
}

#[test]
fn io_elsewhere_hides_nothing() {
    let beside = |done: fn(u64) -> u64| {
        play(600, move |n| Sample { io_done: done(n), ..sample(n, vec![POLLED(n), writer(2)]) })
    };
    assert_eq!(beside(|n| n / 6), no_progress(12), "somebody writes each six seconds");
    assert_eq!(beside(|n| n * 500), no_progress(12), "fio on another array");
    let resync = |n: u64| Sample { mdstat: n, ..sample(n, vec![POLLED(n), writer(2)]) };
    assert_eq!(play(600, resync), no_progress(12), "another array resyncs");
    let alone = |n: u64| Sample { io_done: n / 3, ..sample(n, vec![task(1, "bash", 'S', 5), writer(2)]) };
    assert_eq!(play(600, alone), no_progress(7));
    // Who waits elsewhere for nobody knows what may wait for any device.
    let unknown = |n: u64| Sample { io_done: n * 500, ..sample(n, vec![POLLED(n), reader(2, "sync", "")]) };
    assert_eq!(play(600, unknown), None);
    // A dm-raid's thread does not say which array it is of: what the arrays say counts.
    let stands = |n: u64, other: u64| {
        let fio = TaskSample { user_ms: n * 300, frames: vec![], ..task(3, "fio", 'R', n) };
        let thread = with_storage(task(9, "mdX_resync", 'D', 7), |storage| storage.done = n * 100);
        let syncs = vec![sync("vg-a", 5, true), sync("vg-b", other, false)];
        Sample { syncs, io_done: n * 100, ..sample(n, vec![fio, thread]) }
    };
    assert_eq!(play(600, |n| stands(n, 7)).map(|(_, kind)| kind), Some(HangKind::SyncStalled));
}

/// blk_io_schedule lets nobody sleep for longer than a minute at once.
#[test]
fn who_looks_up_once_a_minute_stands() {
    let looks_up = |every: u64, done: u64| {
        play(600, move |n| {
            let mut dd = with_storage(reader(2, "dd", "md0"), |storage| storage.done = done * (n / every));
            dd.slices = 9 + n / every;
            if n % every == 0 {
                // The guest asks who has moved for nothing else.
                (dd.frames, dd.storage) = (vec![], None);
            }
            let step = task(100 + n as u32, &format!("step{n}"), 'S', 1);
            Sample { io_done: n * 9, ..sample(n, vec![POLLED(n), step, dd]) }
        })
    };
    assert!(looks_up(60, 0).is_some_and(|(n, kind)| n <= 123 && kind == HangKind::NoProgress));
    assert_eq!(looks_up(60, 1), None, "its requests take a minute each");
    assert_eq!(looks_up(10, 0), None, "it moves");
}

#[test]
fn what_stands_among_many_is_seen() {
    // Sixty others that move, and dm's own threads.
    let found = play(100, |n| {
        let others = (100..160).map(|pid| task(pid, "worker", 'S', n));
        sample(n, others.chain([task(2, "lvm", 'D', 9)]).collect())
    });
    assert_eq!(found, no_progress(12));
    // No guest makes us hold more than that.
    let mut progress = progress();
    progress.take(sample(0, (0..100_000).map(|pid| task(pid, "x", 'S', 1)).collect()));
    assert_eq!(progress.tasks.len(), protocol::sample::TASKS_MAX);
}
