//! Threads of a resync, recovery or reshape.

use super::*;

#[test]
fn an_array_says_how_far_it_is() {
    let stands = |n: u64, position, should_move| {
        let syncs = vec![sync("vg-lv", position, should_move)];
        Sample { syncs, ..sample(n, vec![task(1, "bash", 'S', n), task(2, "mdX_resync", 'D', 7)]) }
    };
    assert_eq!(play(200, |n| stands(n, 5, true)), Some((16, HangKind::SyncStalled)));
    assert_eq!(play(200, |n| stands(n, 5, false)), None, "frozen, or waiting for another array's");
    assert_eq!(play(200, |n| stands(n, n / 10, true)), None, "it moves");
}

#[test]
fn a_sync_thread_waits_for_a_slow_disk_and_for_a_resume_that_is_to_come() {
    let stands = |host_io, sleeps_ms| {
        play(200, move |n| {
            let mut sleep = task(3, "sleep", 'S', 1);
            sleep.sleeps_ms = sleeps_ms;
            let tasks = vec![task(1, "bash", 'S', n), sleep, task(2, "mdX_resync", 'D', 7)];
            Sample { host_io, ..sample(n, tasks) }
        })
    };
    assert_eq!(stands(0, None), Some((16, HangKind::SyncStalled)));
    assert_eq!(stands(1, None), Some((64, HangKind::SyncStalled)));
    assert_eq!(stands(0, Some(30_000)), None);
}

#[test]
fn a_sync_thread_that_stands_stalls() {
    let found = play(200, |n| sample(n, vec![task(1, "bash", 'S', n), task(2, "mdX_resync", 'D', 7)]));
    assert_eq!(found, Some((16, HangKind::SyncStalled)));
}

#[test]
fn a_resync_that_stands_under_timeout_stalls() {
    let found = play(600, |n| {
        let timeout = TaskSample { sleeps_ms: Some(0), ..task(3, "timeout", 'S', 1) };
        let tasks = vec![POLLED(n), timeout, task(9, "md0_resync", 'D', 7)];
        Sample { syncs: vec![sync("md0", 5, true)], ..sample(n, tasks) }
    });
    assert_eq!(found, Some((16, HangKind::SyncStalled)));
}

#[test]
fn a_sync_thread_that_nobody_wakes_stalls() {
    let sleeps = |position: fn(u64) -> u64, should_move: bool, is_capped: bool, other_moves: bool| {
        play(600, move |n| {
            let frames = vec!["md_do_sync+0x1/0x2 [md_mod]".to_owned()];
            let thread =
                |pid, slices| TaskSample { frames: frames.clone(), ..task(pid, "md0_resync", 'S', slices) };
            let mut tasks = vec![POLLED(n), thread(9, 7)];
            if other_moves {
                tasks.push(thread(10, n));
            }
            let syncs = vec![Sync { is_capped, ..sync("md0", position(n), should_move) }];
            Sample { syncs, ..sample(n, tasks) }
        })
    };
    assert_eq!(sleeps(|_| 5, true, false, false), Some((30, HangKind::SyncStalled)));
    assert_eq!(sleeps(|n| n / 9, true, false, false), None, "it moves");
    assert_eq!(sleeps(|_| 5, false, false, false), None, "frozen, or delayed");
    assert_eq!(sleeps(|_| 5, true, true, false), None, "up to its sync_max");
    assert_eq!(sleeps(|_| 5, true, false, true), None, "it may wait for another");
}
