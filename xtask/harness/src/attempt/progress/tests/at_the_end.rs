//! What stands when a test reaches its limit of time, or ends by itself.

use super::*;

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
