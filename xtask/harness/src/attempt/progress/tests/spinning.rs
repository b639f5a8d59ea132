//! Tasks that spin in md or dm.

use super::*;

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
