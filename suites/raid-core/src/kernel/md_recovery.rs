//! md.c: how a sync thread is decided upon, started and reaped.

use crate::cpu::{Cpu, Flow, Lock, Look, Wq, invariant};
use crate::era::Switch;
use crate::machine::bits::{recovery::*, sb};
use crate::machine::names::F;
use crate::machine::state::{self, MAX, Set, Task};

/// `md_check_recovery` (md.c): the daemon's look at what is due. v6.12; before v6.7 (StartSync67) it also
/// chose the action; P1 and P2 change the gates at its top. What it does to a read-only array since v6.7
/// ignores FROZEN: a member that is to be removed or rebuilt gets the worker queued.
pub(super) fn md_check_recovery(c: &mut Cpu<'_>, at: u8) -> Flow {
    const GATE: u8 = 4;
    const LOCKED: u8 = 7;
    const RDWR: u8 = 20;
    const START: u8 = 26;
    const NOT_RUNNING: u8 = 40;
    const UNLOCK: u8 = 45;
    const SUSPENDED: u8 = 54;
    const READ_ONLY: u8 = 60;
    match at {
        0 if c.has(Switch::Suspend67) => Flow::Goto(SUSPENDED),
        0 => Flow::Goto(50),
        1 => {
            if c.is_rdwr() {
                Flow::Goto(GATE)
            } else {
                Flow::Next
            }
        }
        2 => {
            if c.test(NEEDED) {
                Flow::Goto(GATE)
            } else {
                Flow::Next
            }
        }
        // P2 lets DONE pass.
        3 if !c.has(Switch::P2) => Flow::Ret(0),
        3 => {
            if c.test(DONE) {
                Flow::Next
            } else {
                Flow::Ret(0)
            }
        }
        GATE => {
            if c.test_sb(!sb::CHANGE_PENDING) {
                Flow::Goto(LOCKED)
            } else {
                Flow::Next
            }
        }
        5 => {
            if c.test(NEEDED) {
                Flow::Goto(LOCKED)
            } else {
                Flow::Next
            }
        }
        6 => {
            if c.test(DONE) {
                Flow::Next
            } else {
                Flow::Ret(0)
            }
        }
        LOCKED => {
            if c.trylock(Lock::Reconfig) {
                Flow::Next
            } else {
                Flow::Ret(0)
            }
        }
        8 => {
            if c.is_rdwr() {
                Flow::Goto(RDWR)
            } else {
                Flow::Next
            }
        }
        9 if !c.has(Switch::StartSync67) => Flow::Goto(READ_ONLY),
        9 => {
            if c.test(RUNNING) {
                Flow::Next
            } else {
                Flow::Goto(READ_ONLY)
            }
        }
        10 if c.has(Switch::P2) => Flow::Call(F::UnregisterSyncThread, 0),
        10 => c.clear_bit(NEEDED),
        11 => Flow::Goto(UNLOCK),
        RDWR => {
            if c.test_sb(0xff) {
                Flow::Call(F::MdUpdateSb, 0)
            } else {
                Flow::Next
            }
        }
        21 if c.has(Switch::StartSync67) => {
            if c.test(RUNNING) {
                Flow::Call(F::UnregisterSyncThread, 0)
            } else {
                Flow::Goto(START)
            }
        }
        21 => {
            if c.test(RUNNING) {
                Flow::Next
            } else {
                Flow::Goto(24)
            }
        }
        22 if c.has(Switch::StartSync67) => Flow::Goto(UNLOCK),
        22 => {
            if c.test(DONE) {
                Flow::Goto(24)
            } else {
                Flow::Next
            }
        }
        23 => c.clear_bit(NEEDED).then(UNLOCK),
        // Before v6.7 it is the thread that says whether there is something to reap.
        24 => {
            let there = c.set().sync_thread != 0;
            c.look(|| if there { "there is a sync thread" } else { "there is no sync thread" }.into());
            if there { Flow::Call(F::MdReapSyncThread, 0) } else { Flow::Goto(START) }
        }
        25 => Flow::Goto(UNLOCK),
        START => c.set_bit(RUNNING),
        27 => c.clear_bit(INTR),
        28 => c.clear_bit(DONE),
        29 => {
            if c.test_and_clear(NEEDED) {
                Flow::Next
            } else {
                Flow::Goto(NOT_RUNNING)
            }
        }
        30 => {
            if c.test(FROZEN) {
                Flow::Goto(NOT_RUNNING)
            } else {
                Flow::Next
            }
        }
        31 if c.has(Switch::StartSync67) => Flow::Goto(33),
        31 => Flow::Call(F::MdChooseSyncAction, 0),
        32 => {
            if c.ret() == 0 {
                Flow::Goto(NOT_RUNNING)
            } else {
                Flow::Next
            }
        }
        33 => queue_work(c),
        34 => Flow::Goto(UNLOCK),
        NOT_RUNNING if c.has(Switch::StartSync67) => Flow::Next,
        NOT_RUNNING => {
            let there = c.set().sync_thread != 0;
            c.look(|| if there { "there is a sync thread" } else { "there is no sync thread" }.into());
            if there { Flow::Goto(UNLOCK) } else { Flow::Next }
        }
        41 => c.clear_bit(RUNNING),
        42 => c.wake_up(Wq::Resync),
        43 if c.has(Switch::StartSync67) => Flow::Goto(UNLOCK),
        43 => c.clear_bit(RECOVER),
        44 => Flow::Next,
        UNLOCK => c.wake_up(Wq::Sb),
        46 => Flow::Call(F::MddevUnlock, 0),
        47 => Flow::Ret(0),
        // Before v6.7 who suspends holds reconfig_mutex, and lets the daemon write the superblocks.
        50 => {
            let set = c.set();
            let allowed = set.allow_sb != 0 && set.sb_flags != 0;
            if allowed {
                set.updating_sb = 1;
            }
            c.act(|| {
                if allowed { "may write the superblocks" } else { "nothing to write for a suspend" }.into()
            });
            if allowed { Flow::Next } else { Flow::Goto(SUSPENDED) }
        }
        51 if c.set().allow_sb != 0 => Flow::Call(F::MdUpdateSb, 0),
        51 => Flow::Next,
        52 => {
            c.set().updating_sb = 0;
            c.act(|| "is done with the superblocks".to_owned());
            Flow::Next
        }
        53 => c.wake_up(Wq::Sb),
        // P1 removes this return.
        SUSPENDED if c.has(Switch::P1) => Flow::Goto(1),
        SUSPENDED => {
            // is_md_suspended: since v6.7 only when all IO has drained.
            let suspended = match c.has(Switch::Suspend67) {
                true => c.set().suspended > 0,
                false => c.set().killed != 0,
            };
            c.look_at(Look::Suspended, || {
                if suspended { "the array is suspended: returns" } else { "not suspended" }.into()
            });
            if suspended { Flow::Ret(0) } else { Flow::Goto(1) }
        }
        // A failed member need not be recorded before it goes; before v6.7 it went here.
        READ_ONLY => {
            let set = c.set();
            if set.failed_member == state::BLOCKED && set.in_sync != 0 {
                set.failed_member = state::RECORDED;
                c.act(|| "clears Blocked of the failed member".to_owned());
            }
            Flow::Next
        }
        61 if c.has(Switch::StartSync67) => Flow::Next,
        61 => remove_failed_member(c),
        62 => c.set_bit(INTR),
        63 => Flow::Call(F::MdReapSyncThread, 0),
        64 if !c.has(Switch::StartSync67) => Flow::Goto(67),
        64 => {
            let change = spares_need_change(c.set());
            c.look(|| if change { "spares need change" } else { "no spare needs change" }.to_owned());
            if change { Flow::Next } else { Flow::Goto(67) }
        }
        65 => c.set_bit(RUNNING),
        66 => queue_work(c),
        67 => c.clear_bit(RECOVER),
        68 => c.clear_bit(NEEDED),
        69 => c.clear_sb(sb::CHANGE_PENDING).then(UNLOCK),
        other => unreachable!("md_check_recovery has no step {other}"),
    }
}

/// `md_spares_need_change` (md.c, v6.7): a failed member can be removed, or one is not in sync, whether the
/// array is read-only or not. The model has no spare without a place, which a read-only array may not add.
fn spares_need_change(set: &Set) -> bool {
    set.member_to_rebuild != 0 || set.failed_member == state::RECORDED
}

/// The change that `remove_and_add_spares` (md.c, v6.12) makes: the failed member goes. One that is not in
/// sync stays, because it could be rebuilt (`raid5_remove_disk`).
fn remove_failed_member(c: &mut Cpu<'_>) -> Flow {
    let set = c.set();
    if set.failed_member == state::RECORDED {
        set.failed_member = state::REMOVED;
        set.sb_flags |= sb::CHANGE_DEVS;
        c.act(|| "removes the failed member".to_owned());
    }
    Flow::Next
}

/// `queue_work(md_misc_wq, &mddev->sync_work)`.
fn queue_work(c: &mut Cpu<'_>) -> Flow {
    let set = c.set();
    match set.work {
        0 => set.work = 1,
        2 => set.work_again = 1,
        _ => {}
    }
    c.act(|| "queues sync_work".to_owned());
    Flow::Next
}

/// `unregister_sync_thread` (md.c, v6.8; inline before).
pub(super) fn unregister_sync_thread(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            if c.test(DONE) {
                Flow::Goto(3)
            } else {
                Flow::Next
            }
        }
        1 => c.clear_bit(NEEDED),
        2 => Flow::Ret(0),
        // WARN_ON_ONCE and nothing to reap.
        3 if c.set().sync_thread == 0 => Flow::Ret(0),
        3 => Flow::Call(F::MdReapSyncThread, 0),
        _ => Flow::Ret(0),
    }
}

/// `md_reap_sync_thread` (md.c, v6.12; in v6.5 `resync_wait` was woken before NEEDED was set). Argument 1:
/// the caller has unregistered the thread. In 6.1 all do, just before, but `action_store` (9dfbdafda3b3)
/// gives the mutex up between.
pub(super) fn md_reap_sync_thread(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            if !c.holds_reconfig() {
                c.breaks(invariant::I3);
            }
            if c.arg() == 1 { Flow::Next } else { Flow::Call(F::MdUnregisterThread, 1) }
        }
        1 if !c.has(Switch::C130443) => Flow::Next,
        1 => {
            let set = c.set();
            set.sync_seq = (set.sync_seq + 1) % 4;
            c.act(|| "counts sync_seq up".to_owned());
            Flow::Next
        }
        // raid5_spare_active: a member that has been rebuilt is in sync.
        2 if c.set().member_to_rebuild != state::REBUILT => Flow::Next,
        2 => {
            let set = c.set();
            let active = set.recovery & (INTR | REQUESTED) == 0;
            if active {
                set.member_to_rebuild = 0;
                set.sb_flags |= sb::CHANGE_DEVS;
            }
            c.act(|| {
                if active { "the rebuilt member is in sync" } else { "interrupted: nothing is in sync" }
                    .to_owned()
            });
            Flow::Next
        }
        // raid5_finish_reshape: if the reshape was not interrupted, the new geometry is all that there is.
        3 => {
            if c.test(RESHAPE) {
                Flow::Next
            } else {
                Flow::Goto(5)
            }
        }
        4 => {
            if !c.test(INTR) {
                let set = c.set();
                set.reshape_position = MAX;
                set.layout = 1;
            }
            Flow::Next
        }
        5 => Flow::Call(F::MdUpdateSb, 1),
        6 => c.clear_bit(RUNNING),
        7 => c.clear_bit(DONE),
        8 => c.clear_bit(SYNC),
        9 => c.clear_bit(RESHAPE),
        10 => c.clear_bit(REQUESTED),
        11 => c.clear_bit(CHECK),
        12 if c.has(Switch::C130443) => Flow::Next,
        12 => c.wake_up(Wq::Resync),
        13 => c.set_bit(NEEDED),
        14 if c.has(Switch::C130443) => c.wake_up(Wq::Resync),
        _ => Flow::Ret(0),
    }
}

/// Set in the argument of [`md_unregister_thread`] when the thread that it waits for has ended: there may be
/// another in its place by the time the waiter looks.
const ENDED: u8 = 2;

/// A sync thread ends: `kthread_stop` of who waits for it is done.
pub(super) fn sync_thread_ends(c: &mut Cpu<'_>) {
    let on = c.task().on;
    for task in c.s.tasks.iter_mut().filter(|task| task.alive != 0 && task.on == on) {
        let top = task.top_mut();
        if top.f() == F::MdUnregisterThread && top.at == 3 && top.a == 1 {
            top.a |= ENDED;
        }
    }
}

/// `md_unregister_thread` (md.c, v6.12): argument 0 for `mddev->thread`, 1 for `mddev->sync_thread`.
pub(super) fn md_unregister_thread(c: &mut Cpu<'_>, at: u8) -> Flow {
    let on = c.on();
    let sync = c.arg() & 1 == 1;
    let task = if sync { state::sync(on) } else { state::daemon(on) };
    match at {
        0 => {
            let there = if sync { c.set().sync_thread } else { c.set().thread } != 0;
            c.act(|| if there { "there is a thread" } else { "there is no thread" }.to_owned());
            match there {
                false => Flow::Ret(0),
                true if c.has(Switch::C44693) => Flow::Next,
                // Under pers_lock: nobody else sees the pointer before it is gone.
                true if sync => {
                    c.set().sync_thread = 0;
                    Flow::Goto(2)
                }
                true => {
                    c.set().thread = 0;
                    Flow::Goto(2)
                }
            }
        }
        1 => {
            if sync {
                c.set().sync_thread = 0
            } else {
                c.set().thread = 0
            }
            c.act(|| "sets the thread's pointer to NULL".to_owned());
            Flow::Next
        }
        2 => {
            if c.s.tasks[task].alive == 0 {
                // Two have read the same pointer, and the other was faster.
                c.breaks(invariant::I3 | invariant::I13);
            } else {
                c.s.tasks[task].should_stop = 1;
                c.wake_up_process(task);
            }
            c.act(|| "kthread_stop: tells the thread to stop".to_owned());
            Flow::Next
        }
        3 if c.s.tasks[task].alive == 0 || c.arg() & ENDED != 0 => {
            c.act(|| "kthread_stop: the thread has ended".to_owned());
            Flow::Next
        }
        3 => {
            let scenario = c.scenario;
            c.block_for(task, || format!("{} to end (kthread_stop)", scenario.task_name(task)))
        }
        _ => Flow::Ret(0),
    }
}

/// `md_choose_sync_action` (md.c, v6.12; inline in `md_check_recovery` before v6.7). Returns whether
/// there is something to do. What it reads is protected by `reconfig_mutex`. A rebuild comes before a
/// resync here, as it did before 4b10a3bc67c1 (v6.15, 6.12.111); no scenario has both.
pub(super) fn md_choose_sync_action(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if c.set().reshape_position != MAX => Flow::Next,
        // remove_spares, or remove_and_add_spares
        0 if c.set().failed_member == state::RECORDED => remove_failed_member(c).then(0),
        0 if c.set().member_to_rebuild != 0 => Flow::Goto(5),
        0 if c.set().resync_offset != MAX => Flow::Goto(3),
        0 => Flow::Goto(9),
        1 => c.set_bit(RESHAPE),
        2 => c.clear_bit(RECOVER).then(10),
        3 => c.set_bit(SYNC),
        4 => c.clear_bit(RECOVER).then(10),
        // remove_and_add_spares has counted one (rdev_is_spare).
        5 => c.clear_bit(SYNC),
        6 => c.clear_bit(CHECK),
        7 => c.clear_bit(REQUESTED),
        8 => c.set_bit(RECOVER).then(10),
        9 => {
            if c.test(SYNC) {
                Flow::Next
            } else {
                Flow::Ret(0)
            }
        }
        _ => Flow::Ret(1),
    }
}

/// `md_start_sync` (md.c, v6.12), the work item. Before v6.7 (StartSync67) it registered the thread and
/// did nothing else, without a lock. Since v6.7 it suspends the array if spares change
/// (`md_spares_need_change`; 6.12.111 looks again under the lock, which is left out);
/// 9e46c70e829b leaves that out while a reshape is not finished.
pub(super) fn md_start_sync(c: &mut Cpu<'_>, at: u8) -> Flow {
    const READ_ONLY: u8 = 19;
    const NOT_RUNNING: u8 = 20;
    match at {
        0 if !c.has(Switch::StartSync67) => Flow::Goto(8),
        0 => {
            let spares = spares_need_change(c.set());
            let reshaping = c.set().reshape_position != MAX && c.has(Switch::C9e46);
            if !spares || (reshaping && c.set().ro == 0) {
                return Flow::Next;
            }
            c.set_arg(1);
            Flow::Call(F::MddevSuspend, 0)
        }
        1 => c.lock(Lock::Reconfig),
        2 => {
            if c.is_rdwr() {
                Flow::Next
            } else {
                Flow::Goto(READ_ONLY)
            }
        }
        3 => Flow::Call(F::MdChooseSyncAction, 0),
        4 => {
            if c.ret() == 0 {
                Flow::Goto(NOT_RUNNING)
            } else {
                Flow::Next
            }
        }
        5 if c.has(Switch::LostThread) => Flow::Next,
        5 => register_sync_thread(c),
        6 => Flow::Call(F::MddevUnlock, 0),
        7 => match c.arg() {
            1 => Flow::Call(F::MddevResume, u8::from(!c.has(Switch::C9e46))),
            _ => Flow::Next,
        },
        8 if c.has(Switch::StartSync67) => Flow::Next,
        8 => register_sync_thread(c),
        9 => {
            let (on, there) = (c.on(), c.set().sync_thread != 0);
            c.md_wakeup_thread(state::sync(on), there).then_return()
        }
        READ_ONLY => remove_failed_member(c),
        NOT_RUNNING => c.clear_bit(SYNC),
        21 => c.clear_bit(RESHAPE),
        22 => c.clear_bit(REQUESTED),
        23 => c.clear_bit(CHECK),
        24 => c.clear_bit(RUNNING),
        25 => Flow::Call(F::MddevUnlock, 0),
        26 => match c.arg() {
            1 => Flow::Call(F::MddevResume, u8::from(!c.has(Switch::C9e46))),
            _ => Flow::Next,
        },
        27 => c.wake_up(Wq::Resync),
        _ => c.clear_bit(RECOVER).then_return(),
    }
}

/// `md_register_thread(md_do_sync, mddev, …)`: the thread exists, and sleeps until it is woken.
pub(super) fn register_sync_thread(c: &mut Cpu<'_>) -> Flow {
    let on = c.on();
    let task = state::sync(on);
    if c.s.tasks[task].alive != 0 {
        // The pointer to a living sync thread is lost.
        c.breaks(invariant::I3 | invariant::OVERTAKEN);
    }
    c.s.tasks[task] = Task::starting(F::MdThread, on as u8);
    c.s.tasks[task].frames[0].a = 1;
    c.set().sync_thread = 1;
    c.act(|| "registers the sync thread".to_owned());
    Flow::Next
}
