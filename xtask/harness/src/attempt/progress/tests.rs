//! Constellations of samples, put to [`Progress`] one by one: what hangs is found in time, and what is slow
//! is not.

mod at_the_end;
mod hidden;
mod matrix;
mod reported;
mod slow;
mod spinning;
mod syncing;
mod table;

use protocol::sample::{Storage, Sync};

use super::*;
use crate::testing::{sample, storage, task};

/// A task that waits for `device` outside of md and dm.
fn reader(pid: u32, comm: &str, device: &str) -> TaskSample {
    let frames = vec!["io_schedule+0x1/0x2".to_owned(), "__blkdev_direct_IO_simple+0x1/0x2".to_owned()];
    TaskSample { frames, storage: Some(storage(device)), ..task(pid, comm, 'D', 9) }
}

/// `sleep` for so long, a new one each time.
fn sleep(pid: u64, ms: u64) -> TaskSample {
    TaskSample { sleeps_ms: Some(ms), ..task(u32::try_from(pid).unwrap(), "sleep", 'S', 1) }
}

/// Changes what a task waits for.
fn with_storage(mut task: TaskSample, change: impl FnOnce(&mut Storage)) -> TaskSample {
    change(task.storage.as_mut().unwrap());
    task
}

fn progress() -> Progress {
    Progress::of_test_silent_for(Duration::from_secs(180))
}

/// Plays as many samples as `make` makes until one is called stuck.
fn play(n_samples: u64, make: impl Fn(u64) -> Sample) -> Option<(u64, HangKind)> {
    let mut progress = progress();
    (0..n_samples).find_map(|n| {
        let stuck = progress.take(make(n))?;
        assert!(!stuck.stacks.is_empty(), "nothing is shown");
        Some((n, stuck.kind))
    })
}

#[test]
fn a_task_that_stands_in_d_state_is_stuck_within_seconds() {
    let found = play(100, |n| sample(n, vec![task(1, "bash", 'S', 5), task(2, "lvm", 'D', 9)]));
    assert_eq!(found, Some((7, HangKind::NoProgress)));
}

#[test]
fn whoever_polls_does_not_hide_it() {
    let found = play(100, |n| {
        let mut sleep = task(100 + n as u32, "sleep", 'S', 1);
        sleep.sleeps_ms = Some(1000);
        sample(n, vec![task(1, "bash", 'S', 5 + n), task(2, "lvm", 'D', 9), sleep])
    });
    assert_eq!(found, Some((12, HangKind::NoProgress)));
}

/// `mdadm --detail` twice a second: in some samples it is there, in others not.
#[test]
fn whoever_polls_by_a_program_that_is_seldom_seen_does_not_hide_it() {
    let found = play(100, |n| {
        let mut tasks = vec![task(1, "bash", 'S', 5 + n), task(2, "dd", 'D', 9)];
        if n % 3 == 0 {
            tasks.push(task(100 + n as u32, "mdadm", 'S', 1));
        }
        // It reads metadata.
        Sample { io_done: n * 20, reads_done: n * 20, ..sample(n, tasks) }
    });
    assert_eq!(found, Some((12, HangKind::NoProgress)));
}

/// One that runs for a moment is in no sample at first: that it is seen at last is no work.
#[test]
fn a_poll_that_is_seen_late_does_not_hide_it() {
    let sees = |is_seen: fn(u64) -> bool, name: fn(u64) -> String| {
        play(100, move |n| {
            let mut tasks = vec![task(1, "bash", 'S', 5 + n), task(2, "dd", 'D', 9)];
            if is_seen(n) {
                tasks.push(task(100 + n as u32, &name(n), 'S', 1));
            }
            sample(n, tasks)
        })
    };
    assert_eq!(sees(|n| n == 11, |_| "mdadm".into()), Some((12, HangKind::NoProgress)));
    assert_eq!(sees(|n| n % 5 == 4, |n| format!("step{n}")), None, "it goes from step to step");
}

#[test]
fn a_wait_in_dm_that_a_signal_could_end_is_a_wait() {
    let suspend = |frame: &str| {
        let mut dmsetup = task(2, "dmsetup", 'S', 9);
        dmsetup.frames = vec![frame.to_owned(), "ctl_ioctl+0x1/0x2 [dm_mod]".to_owned()];
        play(100, |n| sample(n, vec![task(1, "bash", 'S', 5), dmsetup.clone()]))
    };
    let found = suspend("dm_wait_for_completion+0x1/0x2 [dm_mod]");
    assert_eq!(found, Some((7, HangKind::NoProgress)));
    assert_eq!(suspend("dm_wait_event+0x1/0x2 [dm_mod]"), None);
}

#[test]
fn a_sleep_that_outlasts_the_test_hides_nothing() {
    let beside = |sleeps_ms| {
        play(600, |n| {
            let mut sleep = task(3, "sleep", 'S', 1);
            sleep.sleeps_ms = Some(sleeps_ms);
            sample(n, vec![task(1, "bash", 'S', 5), task(2, "lvm", 'D', 9), sleep])
        })
    };
    assert_eq!(beside(1_000_000), Some((7, HangKind::NoProgress)));
    assert_eq!(beside(100_000), None);
    assert_eq!(beside(0), None, "nobody knows how long");
    // Whatever sleeps, a spin in md is none of its doing.
    let spin = play(100, |n| {
        let mut sleep = task(3, "sleep", 'S', 1);
        sleep.sleeps_ms = Some(100_000);
        let mut lvm = task(2, "lvm", 'R', n);
        lvm.sys_ms = n * 900;
        sample(n, vec![lvm, sleep])
    });
    assert_eq!(spin, Some((12, HangKind::Livelock)));
}

#[test]
fn the_test_and_the_sync_thread_come_first() {
    let mut progress = progress();
    for n in 0..9 {
        progress.take(sample(
            n,
            vec![
                task(1, "bash", 'S', 5),
                task(9, "md0_raid5", 'D', 1),
                task(8, "mdX_resync", 'D', 7),
                task(2, "lvm", 'D', 9),
            ],
        ));
    }
    let names: Vec<_> = progress.stacks().into_iter().map(|stack| stack.comm).collect();
    assert_eq!(names, ["lvm", "mdX_resync", "md0_raid5"]);
}

fn sync(array: &str, position: u64, should_move: bool) -> Sync {
    Sync { array: array.into(), position, should_move, is_capped: false }
}

const POLLED: fn(u64) -> TaskSample = |n| task(1, "bash", 'S', 5 + n);

/// A task that waits in raid5 for a stripe.
fn writer(pid: u32) -> TaskSample {
    let frames = vec!["raid5_make_request+0x1/0x2 [raid456]".to_owned()];
    TaskSample { frames, ..task(pid, "dd", 'D', 9) }
}

fn no_progress(after: u64) -> Option<(u64, HangKind)> {
    Some((after, HangKind::NoProgress))
}
