//! Constellations of samples, put to [`Progress`] one by one.

use protocol::sample::{Storage, Sync};

use super::*;

/// A task, given a processor `slices` times so far; one that is blocked or runs stands in md and waits for md0, one of
/// dm-raid's threads for nobody knows which array.
pub(in crate::attempt) fn task(pid: u32, comm: &str, state: char, slices: u64) -> TaskSample {
    let frames =
        if matches!(state, 'D' | 'R') { vec!["md_stop+0x1/0x2 [md_mod]".to_owned()] } else { vec![] };
    TaskSample {
        pid,
        comm: comm.into(),
        of_test: !comm.starts_with("md"),
        state,
        sys_ms: 0,
        user_ms: 0,
        slices,
        sleeps_ms: None,
        frames,
        storage: matches!(state, 'D' | 'R')
            .then(|| storage(if comm.starts_with("mdX") { "" } else { "md0" })),
    }
}

/// A device on which nothing is done.
fn storage(device: &str) -> Storage {
    Storage { device: device.into(), ..Storage::default() }
}

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

pub(in crate::attempt) fn sample(n: u64, tasks: Vec<TaskSample>) -> Sample {
    Sample {
        uptime_ms: n * EVERY_MS,
        tasks,
        io_done: 0,
        reads_done: 0,
        storage_writes: 0,
        host_io: 0,
        mdstat: 0,
        syncs: vec![],
        cost_us: 0,
        n_left_out: 0,
        paging: 0,
    }
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

#[test]
fn slow_is_not_stuck() {
    let check = |what: &str, make: &dyn Fn(u64) -> Sample| assert_eq!(play(600, make), None, "{what}");
    check("it sleeps", &|n| {
        let mut sleep = task(2, "sleep", 'S', 1);
        sleep.sleeps_ms = Some(1000);
        sample(n, vec![task(1, "bash", 'S', 5), sleep])
    });
    check("a blocked read waits for a resume that will come", &|n| {
        let mut sleep = task(2, "sleep", 'S', 1);
        sleep.sleeps_ms = Some(1000);
        sample(n, vec![task(1, "dd", 'D', 5), sleep])
    });
    check("requests complete", &|n| {
        sample(n, vec![with_storage(task(1, "dd", 'D', 5), |storage| storage.done = n / 5)])
    });
    check("requests complete, and nobody knows where", &|n| Sample {
        io_done: n / 5,
        ..sample(n, vec![TaskSample { storage: None, ..task(1, "dd", 'D', 5) }])
    });
    check("much is read", &|n| {
        let dd = with_storage(task(2, "dd", 'D', 5), |storage| {
            (storage.done, storage.reads) = (n * 1000, n * 1000)
        });
        sample(n, vec![task(1, "cmp", 'S', n), dd])
    });
    check("writes complete while somebody polls", &|n| {
        let (reads, done) = (n * 20, n * 20 + n / 5);
        let dd = with_storage(task(2, "dd", 'D', 5), |storage| (storage.done, storage.reads) = (done, reads));
        sample(n, vec![task(1, "bash", 'S', n), dd])
    });
    check("a resync advances", &|n| {
        sample(n, vec![with_storage(task(1, "dd", 'D', 5), |storage| storage.syncs = n / 6)])
    });
    check("it computes", &|n| sample(n, vec![task(1, "bash", 'R', 5 + n)]));
    check("it waits for a child that waits for nobody knows what", &|n| {
        sample(n, vec![task(1, "bash", 'S', 5)])
    });
    check("the sync thread is scheduled now and then", &|n| {
        sample(n, vec![task(1, "bash", 'S', n), task(2, "mdX_resync", 'D', n / 10)])
    });
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
fn who_computes_is_not_stuck_beside_one_that_waits() {
    // A shell that counts up to the resume that a read waits for; and a program that never leaves its processor.
    let beside = |comm: &'static str, slices: u64, change: fn(&mut TaskSample)| {
        play(600, move |n| {
            let mut busy = task(1, comm, 'R', 5 + n * slices);
            (busy.user_ms, busy.frames) = (n * 450, vec![]);
            let mut dd = reader(2, "dd", "dm-0");
            change(&mut dd);
            sample(n, vec![busy, dd])
        })
    };
    let suspended: fn(&mut TaskSample) = |dd| dd.storage.as_mut().unwrap().is_suspended = true;
    assert_eq!(beside("bash", 1, suspended), None);
    assert_eq!(beside("xz", 0, suspended), None);
    assert_eq!(beside("xz", 0, |dd| dd.storage = None), None, "nobody knows what it waits for");
    assert_eq!(beside("bash", 1, |_| ()), Some((60, HangKind::NoProgress)), "no one can resume what goes");
}

#[test]
fn steps_towards_a_resume_are_waited_for() {
    let found = |frame: &'static str, n_steps: u64| {
        play(n_steps, move |n| {
            let mut sleep = task(100 + n as u32, "sleep", 'S', 1);
            sleep.sleeps_ms = Some(1000);
            let mut dd = task(2, "dd", 'D', 9);
            dd.frames = vec![frame.to_owned()];
            sample(n, vec![task(1, "bash", 'S', 5 + n), dd, sleep])
        })
    };
    assert_eq!(found("io_schedule+0x1/0x2", 40), None, "a device that is suspended will be resumed");
    assert_eq!(found("io_schedule+0x1/0x2", 100), Some((40, HangKind::NoProgress)));
    assert_eq!(found("raid5_make_request+0x1/0x2 [raid456]", 100), Some((12, HangKind::NoProgress)));
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
fn a_poll_does_not_hide_a_spin() {
    let found = play(100, |n| {
        let mut lvm = task(2, "lvm", 'R', n);
        lvm.sys_ms = n * 900;
        Sample { io_done: n * 8, reads_done: n * 8, ..sample(n, vec![task(1, "bash", 'S', n), lvm]) }
    });
    assert_eq!(found, Some((12, HangKind::Livelock)));
}

#[test]
fn a_wait_for_a_program_of_the_kernels_and_for_a_delay_is_longer() {
    let waits = |frame: &str, thread: &str| {
        let mut lvm = task(2, "lvm", 'D', 9);
        lvm.frames = vec![frame.to_owned(), "ctl_ioctl+0x1/0x2 [dm_mod]".to_owned()];
        let mut other = task(9, thread, 'I', 1);
        (other.of_test, other.frames) = (false, vec![]);
        play(100, |n| sample(n, vec![task(1, "bash", 'S', 5), lvm.clone(), other.clone()]))
    };
    let stuck = |n| Some((n, HangKind::NoProgress));
    assert_eq!(waits("dm_suspend+0x1/0x2 [dm_mod]", "kworker/0:0"), stuck(7));
    assert_eq!(waits("call_usermodehelper_exec+0x1/0x2", "kworker/0:0"), stuck(42));
    assert_eq!(waits("dm_suspend+0x1/0x2 [dm_mod]", "kworker/R-kdelayd"), stuck(14));
}

#[test]
fn time_that_the_host_kept_from_the_guest_does_not_count() {
    // A sample each second, all the same.
    let run_share = |percent: u64| {
        let mut progress = progress();
        (0..100).find_map(|n| {
            progress.had_time(EVERY_MS * percent / 100);
            let stuck = progress.take(sample(n, vec![task(1, "bash", 'S', 5), task(2, "lvm", 'D', 9)]))?;
            Some((n, stuck.still_ms))
        })
    };
    assert_eq!(run_share(100), Some((7, 7000)));
    let after = |percent| run_share(percent).map(|(n, _)| n).unwrap();
    assert!((13..=14).contains(&after(50)) && (50..=70).contains(&after(10)), "{} {}", after(50), after(10));
    assert_eq!(run_share(0), None);
}

#[test]
fn a_starving_guest_is_not_stuck() {
    // One sample in half a minute of ours: what counts is what the guest has seen.
    let mut progress = progress();
    for n in 0..6 {
        assert_eq!(
            progress.take(Sample { uptime_ms: n * 30_000, ..sample(n, vec![task(2, "lvm", 'D', 9)]) }),
            None
        );
    }
}

#[test]
fn a_spin_in_md_is_a_livelock() {
    let spin = |n: u64| {
        let mut lvm = task(2, "lvm", 'R', n);
        lvm.sys_ms = n * 900;
        sample(n, vec![task(1, "bash", 'S', 5), lvm])
    };
    assert_eq!(play(100, spin), Some((12, HangKind::Livelock)));
    let busy_elsewhere = |n: u64| {
        let mut sample = spin(n);
        sample.tasks[1].frames = vec!["copy_page+0x1/0x2".into()];
        sample
    };
    assert_eq!(play(100, busy_elsewhere), None);
}

#[test]
fn a_spin_out_of_sight_is_to_be_looked_at() {
    let mut progress = progress();
    let spin = |n: u64| {
        let mut dd = task(2, "dd", 'R', n);
        dd.sys_ms = n * 900;
        dd.frames.clear();
        sample(n, vec![task(1, "bash", 'S', 5), dd])
    };
    let stuck = (0..100).find_map(|n| progress.take(spin(n))).unwrap();
    assert_eq!((stuck.kind, stuck.unseen), (HangKind::Livelock, Some(2)));
    progress.spins_elsewhere(2);
    assert_eq!((13..24).find_map(|n| progress.take(spin(n))), None, "looked at, and elsewhere");
}

#[test]
fn a_hung_task_counts_while_nothing_else_moves() {
    // It waits for a daemon that stands; its own polling takes a new program each time.
    let stands = |n: u64, reported_at: u64, prints_every: u64| {
        let mut progress = progress();
        (0..n).find_map(|n| {
            if n == reported_at {
                progress.kernel_reports_hung();
            }
            if prints_every > 0 && n % prints_every == 0 {
                progress.spoke();
            }
            let polled = task(100 + n as u32, &format!("program{n}"), 'S', 1);
            let tasks = vec![task(1, "bash", 'S', 5 + n), polled, task(9, "md0_raid5", 'D', 7)];
            Some((n, progress.take(sample(n, tasks))?.kind))
        })
    };
    assert_eq!(stands(300, 120, 0), Some((120, HangKind::HungTask)));
    assert_eq!(stands(300, 120, 10), None, "the test goes on: a complaint, not a hang");
    assert_eq!(stands(300, 400, 0), None, "the kernel has not said so");
}

#[test]
fn a_silence_is_a_hung_task_if_the_kernel_says_so() {
    let mut progress = progress();
    for n in 0..30 {
        progress.take(sample(n, vec![task(9, "md0_raid5", 'D', 7)]));
    }
    assert_eq!(progress.kind_of_silence(), HangKind::NoOutput);
    progress.kernel_reports_hung();
    assert_eq!(progress.kind_of_silence(), HangKind::HungTask);
}

#[test]
fn a_disk_of_the_hosts_that_does_not_answer_is_waited_for() {
    let found = play(100, |n| Sample {
        host_io: 1,
        ..sample(n, vec![task(1, "bash", 'S', 5), task(2, "lvm", 'D', 9)])
    });
    assert_eq!(found, Some((28, HangKind::NoProgress)));
}

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
fn output_does_not_hide_a_spin() {
    let mut progress = progress();
    let found = (0..100).find_map(|n| {
        progress.spoke();
        let mut lvm = task(2, "lvm", 'R', n);
        lvm.sys_ms = n * 900;
        Some((n, progress.take(sample(n, vec![task(1, "bash", 'S', n), lvm]))?.kind))
    });
    assert_eq!(found, Some((12, HangKind::Livelock)));
}

#[test]
fn who_reads_writes_or_computes_is_getting_on() {
    let after = |make: &dyn Fn(u64) -> Sample| {
        let mut progress = progress();
        (0..60).for_each(|n| drop(progress.take(make(n))));
        progress.is_getting_on()
    };
    let sleeps = |n| sample(n, vec![task(1, "sleep", 'S', 1)]);
    assert!(!after(&sleeps));
    assert!(after(&|n| Sample { io_done: n, ..sleeps(n) }), "it writes");
    assert!(after(&|n| Sample { mdstat: n / 9, ..sleeps(n) }), "it waits for a resync");
    assert!(!after(&|n| Sample { io_done: n, reads_done: n, ..sleeps(n) }), "it polls");
    assert!(after(&|n| {
        let mut xz = task(1, "xz", 'R', 1);
        (xz.user_ms, xz.frames) = (n * 900, vec![]);
        sample(n, vec![xz])
    }));
    assert!(!Progress::default().is_getting_on(), "nobody has looked");
}

#[test]
fn a_sync_thread_that_stands_stalls() {
    let found = play(200, |n| sample(n, vec![task(1, "bash", 'S', n), task(2, "mdX_resync", 'D', 7)]));
    assert_eq!(found, Some((16, HangKind::SyncStalled)));
}

#[test]
fn at_the_limit_a_task_that_stood_in_md_was_not_slow() {
    let stood = |n_samples: u64, make: &dyn Fn(u64) -> Sample| {
        let mut progress = progress();
        (0..n_samples).for_each(|n| drop(progress.take(make(n))));
        progress.stood_in_storage().map(|stuck| stuck.kind)
    };
    let lvm = |n: u64| sample(n, vec![task(1, "bash", 'S', n), task(2, "lvm", 'D', 9)]);
    assert_eq!(stood(20, &lvm), Some(HangKind::NoProgress));
    assert_eq!(stood(10, &lvm), None, "not for long");
    let reads = |n: u64| {
        let mut dd = task(2, "dd", 'D', 9);
        dd.frames = vec!["folio_wait_bit_common+0x1/0x2".to_owned()];
        sample(n, vec![task(1, "bash", 'S', n), dd])
    };
    assert_eq!(stood(30, &reads), None, "outside of md and dm");
    assert_eq!(stood(60, &|n| sample(n, vec![task(9, "md0_raid5", 'D', 1)])), Some(HangKind::SyncStalled));
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

// ---- hangs that hide -----------------------------------------------------------------------------

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
fn a_resync_that_stands_under_timeout_stalls() {
    let found = play(600, |n| {
        let timeout = TaskSample { sleeps_ms: Some(0), ..task(3, "timeout", 'S', 1) };
        let tasks = vec![POLLED(n), timeout, task(9, "md0_resync", 'D', 7)];
        Sample { syncs: vec![sync("md0", 5, true)], ..sample(n, tasks) }
    });
    assert_eq!(found, Some((16, HangKind::SyncStalled)));
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

#[test]
fn what_writes_now_and_then_is_not_getting_on() {
    let after = |every: u64| {
        let mut progress = progress();
        (0..100)
            .for_each(|n| drop(progress.take(Sample { io_done: n / every, ..sample(n, vec![POLLED(n)]) })));
        progress.is_getting_on()
    };
    assert!(after(1) && after(3), "the test writes");
    assert!(!after(6), "somebody of the guest's own does");
    let mut slow = progress();
    for n in 0..100 {
        slow.take(Sample { storage_writes: n / 9, io_done: n / 9, ..sample(n, vec![POLLED(n)]) });
    }
    assert!(slow.is_getting_on(), "slowly, and to md or dm");
}

#[test]
fn two_threads_that_hand_each_other_the_processor_are_a_livelock() {
    let share = |percent: u64, done: u64| {
        play(600, move |n| {
            let thread = |pid, comm, state| {
                let mut thread = task(pid, comm, state, 7 + n * 50);
                thread.sys_ms = n * percent * 10;
                thread.storage = Some(Storage { done: n * done, ..storage("md0") });
                thread
            };
            let pair = if n % 2 == 0 { ('R', 'D') } else { ('D', 'R') };
            let tasks = vec![thread(8, "md0_raid5", pair.0), thread(9, "md0_reshape", pair.1)];
            sample(n, [vec![POLLED(n)], tasks].concat())
        })
    };
    assert_eq!(share(48, 0), Some((12, HangKind::Livelock)));
    assert_eq!(share(48, 1), None, "they get on");
    assert_eq!(share(10, 0), None, "they look now and then");
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

// ---- hangs that are none -------------------------------------------------------------------------

/// A member is suspended, and resumed after twenty steps of a second.
#[test]
fn a_member_that_will_be_resumed_is_waited_for() {
    let suspended = |what: &str, n_samples: u64, tasks: &dyn Fn(u64) -> Vec<TaskSample>| {
        let found = play(n_samples, |n| {
            let tasks = tasks(n).into_iter().map(|mut task| {
                task.storage.iter_mut().for_each(|storage| storage.is_suspended = true);
                task
            });
            let steps = vec![POLLED(n), sleep(100 + n, 1000)];
            Sample {
                syncs: vec![sync("md0", 5, true)],
                ..sample(n, steps.into_iter().chain(tasks).collect())
            }
        });
        assert!(n_samples > 40 || found.is_none(), "{what}: {found:?}");
        found.map(|(n, _)| n)
    };
    let thread = |_| vec![task(9, "md0_resync", 'D', 7)];
    let both = |_| vec![writer(2), task(9, "md0_raid5", 'D', 7), task(10, "md0_resync", 'D', 7)];
    suspended("a resync", 30, &thread);
    suspended("a write", 30, &|_| vec![writer(2)]);
    suspended("all of it", 30, &both);
    suspended("a poll for the end of the resync", 30, &|n| {
        vec![task(200 + n as u32, "mdadm", 'S', 1), writer(2)]
    });
    // Nobody resumes it after all.
    assert_eq!(suspended("a resync", 100, &thread), Some(40));
    assert_eq!(suspended("all of it", 100, &both), Some(40));
    // Nobody said whether one is suspended.
    let unknown = |n| TaskSample { storage: None, ..task(9, "mdX_resync", 'D', n) };
    let found = play(100, |n| sample(n, vec![POLLED(n), sleep(100 + n, 1000), unknown(7)]));
    assert_eq!(found, Some((40, HangKind::SyncStalled)));
    // Nobody is there who could resume it.
    let alone = |n| {
        let dd = with_storage(reader(2, "dd", "dm-0"), |storage| storage.is_suspended = true);
        sample(n, vec![task(1, "bash", 'S', 5), dd])
    };
    assert_eq!(play(100, alone), no_progress(7));
}

#[test]
fn the_journals_thread_alone_is_no_trouble_of_mds() {
    let beside = |frame: &'static str| {
        play(100, move |n| {
            let mut jbd2 = TaskSample { of_test: false, ..reader(9, "jbd2/dm-0-8", "dm-0") };
            jbd2.frames.insert(0, frame.to_owned());
            sample(n, vec![POLLED(n), sleep(100 + n, 1000), reader(2, "dd", "dm-0"), jbd2])
        })
    };
    assert_eq!(beside("jbd2_journal_commit_transaction+0x1/0x2 [jbd2]"), no_progress(40));
    assert_eq!(beside("raid5_make_request+0x1/0x2 [raid456]"), no_progress(12));
}

/// Nobody is there, or somebody polls; a test's task, or an array's thread.
fn who_waits(n_samples: u64, change: impl Fn(u64, &mut Storage)) -> [Option<u64>; 4] {
    let alone = |_| task(1, "bash", 'S', 5);
    let run = |beside: &dyn Fn(u64) -> TaskSample, waits: &dyn Fn() -> TaskSample| {
        let found = play(n_samples, |n| {
            sample(n, vec![beside(n), with_storage(waits(), |storage| change(n, storage))])
        });
        found.map(|(n, _)| n)
    };
    [
        run(&alone, &|| reader(2, "dd", "md0")),
        run(&alone, &|| writer(2)),
        run(&POLLED, &|| writer(2)),
        run(&POLLED, &|| task(9, "md0_resync", 'D', 7)),
    ]
}

/// dm-delay, a disk's timeout, a thin pool without space.
#[test]
fn what_the_kernel_ends_by_itself_is_waited_for() {
    assert_eq!(who_waits(100, |_, _| ()), [Some(7), Some(7), Some(12), Some(16)]);
    for ends_ms in [10_000, 20_000, 60_000, 300_000] {
        let ends_s = ends_ms / 1000;
        let waits = who_waits(ends_s, |_, storage| storage.ends_ms = ends_ms);
        assert_eq!(waits, [None; 4], "{ends_s} s");
        // One after the other.
        let delayed =
            who_waits(5 * ends_s, |n, storage| (storage.ends_ms, storage.done) = (ends_ms, n / ends_s));
        assert_eq!(delayed, [None; 4], "{ends_s} s each");
        let stands = who_waits(ends_s + 20, |_, storage| storage.ends_ms = ends_ms);
        assert!(stands.iter().all(|found| found.is_some_and(|n| n <= ends_s + 16)), "{stands:?}");
    }
}

#[test]
fn an_old_report_is_of_an_old_wait() {
    let found = |reported_at: u64, went_on_at: u64| {
        let mut progress = progress();
        (0..600).find_map(|n| {
            if n == reported_at {
                progress.kernel_reports_hung();
            }
            // Reading ends 60 samples later; nobody says what it waits for.
            let mut dd = TaskSample { storage: None, ..reader(2, "dd", "") };
            dd.slices = 9 + u64::from(n >= went_on_at) + n / 60;
            let busy = TaskSample { user_ms: n * 50, ..task(100 + n as u32, &format!("step{n}"), 'S', 1) };
            Some((n, progress.take(sample(n, vec![POLLED(n), busy, dd]))?.kind))
        })
    };
    assert_eq!(found(50, 1000), Some((50, HangKind::HungTask)));
    assert_eq!(found(5, 6), None, "it went on a moment later");
}

#[test]
fn who_waits_for_memory_is_waited_for_while_some_is_found() {
    let swaps = |paging: fn(u64) -> u64, frame: &'static str| {
        play(100, move |n| {
            let mut xz = reader(2, "xz", "");
            xz.frames.insert(1, frame.to_owned());
            let mut tasks = vec![xz];
            tasks.push(task(1, "bash", 'S', 5));
            Sample { paging: paging(n), ..sample(n, tasks) }
        })
    };
    assert_eq!(swaps(|n| n / 3, "do_swap_page+0x1/0x2"), None);
    assert_eq!(swaps(|_| 7, "do_swap_page+0x1/0x2"), no_progress(7), "nothing is paged");
    assert_eq!(swaps(|n| n, "blkdev_read_iter+0x1/0x2"), no_progress(7), "it waits for no memory");
}

#[test]
fn a_silent_sampler_may_wait_for_what_ends() {
    let may_wait = |tasks: Vec<TaskSample>| {
        let mut progress = progress();
        progress.take(sample(0, tasks));
        progress.may_wait_ms()
    };
    let timeout = |ms| TaskSample { sleeps_ms: Some(ms), ..task(3, "timeout", 'S', 1) };
    assert_eq!(may_wait(vec![writer(2), timeout(30_000)]), 0);
    assert_eq!(may_wait(vec![writer(2), sleep(3, 30_000)]), 30_000);
    assert_eq!(may_wait(vec![writer(2), sleep(3, 0)]), 180_000, "nobody knows how long");
    assert_eq!(may_wait(vec![writer(2), sleep(3, 1_000_000)]), 0, "longer than a test may be silent");
    assert_eq!(may_wait(vec![with_storage(writer(2), |storage| storage.ends_ms = 20_000)]), 20_000);
}

#[test]
fn at_the_limit_who_stood_long_is_hung_wherever_it_waits() {
    let stood = |n_samples: u64, make: &dyn Fn(u64) -> TaskSample| {
        let mut progress = progress();
        // A test that goes on from program to program.
        for n in 0..n_samples {
            let step = task(100 + n as u32, &format!("step{n}"), 'S', 1);
            progress.take(sample(n, vec![step, make(n)]));
        }
        progress.stood_in_storage().map(|stuck| stuck.still_ms / 1000)
    };
    assert_eq!(stood(17, &|_| writer(2)), Some(16));
    let serves_others = |n| with_storage(writer(2), |storage| storage.done = n);
    assert_eq!(stood(100, &serves_others), None);
    assert_eq!(stood(130, &serves_others), Some(129), "nothing takes that long");
    assert_eq!(stood(100, &|_| reader(2, "dd", "md0")), None);
    assert_eq!(stood(122, &|_| reader(2, "dd", "md0")), Some(121));
    assert_eq!(stood(200, &|_| reader(2, "dd", "")), None, "nobody knows what it waits for");
    let suspended = |_| with_storage(writer(2), |storage| storage.is_suspended = true);
    assert_eq!((stood(30, &suspended), stood(50, &suspended)), (None, Some(49)));
    let delayed = |_| with_storage(writer(2), |storage| storage.ends_ms = 60_000);
    assert_eq!(stood(60, &delayed), None);
}

#[test]
fn at_a_tests_end_a_thread_that_stood_in_md_is_hung() {
    let stood = |n_samples: u64, make: &dyn Fn(u64) -> TaskSample| {
        let mut progress = progress();
        // The test itself works elsewhere.
        for n in 0..n_samples {
            let step = task(100 + n as u32, &format!("step{n}"), 'S', 1);
            progress.take(Sample { io_done: n * 9, ..sample(n, vec![step, make(n)]) });
        }
        progress.thread_stood().map(|(name, stuck)| (name.to_owned(), stuck.kind, stuck.still_ms / 1000))
    };
    let raid1d = |_| task(7, "md0_raid1", 'D', 5);
    let of_raid1d = |seconds| Some(("md0_raid1".to_owned(), HangKind::NoProgress, seconds));
    assert_eq!(stood(20, &raid1d), of_raid1d(19));
    assert_eq!(stood(15, &raid1d), None, "the window is not full");
    assert_eq!(stood(60, &|n| task(7, "md0_raid1", 'D', n)), None, "it moves");
    assert_eq!(stood(60, &|_| task(7, "md0_raid1", 'S', 5)), None, "it is at rest");
    let with = |change: &'static dyn Fn(u64, &mut Storage)| {
        move |n| with_storage(task(7, "md0_raid1", 'D', 5), |storage| change(n, storage))
    };
    assert_eq!(stood(60, &with(&|n, storage| storage.done = n)), None, "its device answers");
    assert_eq!(stood(60, &with(&|_, storage| storage.is_suspended = true)), None, "suspended on purpose");
    assert_eq!(stood(60, &with(&|_, storage| storage.ends_ms = 60_000)), None, "dm-delay ends it");
    let elsewhere = |_| TaskSample { frames: vec!["io_schedule+0x1/0x2".into()], ..raid1d(0) };
    assert_eq!(stood(60, &elsewhere), None, "outside of md and dm");
    assert_eq!(stood(60, &|_| TaskSample { storage: None, ..raid1d(0) }), None, "nobody knows its device");
    assert_eq!(stood(60, &|_| task(7, "lvm", 'D', 5)), None, "the test's own tasks are judged elsewhere");
    let resync = |_| task(7, "md0_resync", 'D', 5);
    assert_eq!(stood(20, &resync), Some(("md0_resync".to_owned(), HangKind::SyncStalled, 19)));
    let mut frozen = progress();
    for n in 0..60 {
        let sync = Sync { array: "md0".into(), position: 5, should_move: false, is_capped: false };
        frozen.take(Sample { syncs: vec![sync], ..sample(n, vec![resync(n)]) });
    }
    assert_eq!(frozen.thread_stood(), None, "frozen on purpose");
}
