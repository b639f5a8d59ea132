//! What is slow, or waits for something that will come, and does not hang.

use super::*;

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

#[test]
fn who_computes_is_not_stuck_beside_one_that_waits() {
    // A shell that counts up to the resume that a read waits for; and a program that never leaves its
    // processor.
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
fn a_disk_of_the_hosts_that_does_not_answer_is_waited_for() {
    let found = play(100, |n| Sample {
        host_io: 1,
        ..sample(n, vec![task(1, "bash", 'S', 5), task(2, "lvm", 'D', 9)])
    });
    assert_eq!(found, Some((28, HangKind::NoProgress)));
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
