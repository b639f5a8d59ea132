//! md.c: how a sync thread is stopped, and an array with it.

use crate::cpu::{Cpu, Flow, Lock, Wq, invariant};
use crate::era::Switch;
use crate::machine::bits::recovery::*;
use crate::machine::names::F;
use crate::machine::state::{self, MAX};

/// Argument of [`stop_sync_thread`]: `reconfig_mutex` is to be held again afterwards.
pub(super) const LOCKED: u8 = 1;
/// Argument of [`stop_sync_thread`]: a new sync thread is as good as none.
pub(super) const CHECK_SEQ: u8 = 2;

/// Argument of [`action_store`]: "check".
pub(super) const ASK_CHECK: u8 = 2;

/// `stop_sync_thread` (md.c). v6.7 (f52f5c71f3d4): called under `reconfig_mutex`, gives it up, asks
/// the sync thread to stop and waits until the daemon has reaped it. v6.11 looks at FROZEN instead of
/// taking `check_seq`. v6.6 (130443d60b1b): only asks; the callers wait. The local keeps `sync_seq`.
pub(super) fn stop_sync_thread(c: &mut Cpu<'_>, at: u8) -> Flow {
    if !c.has(Switch::F52f5) {
        return stop_sync_thread_v6_6(c, at);
    }
    let arg = c.arg();
    match at {
        0 => {
            let seq = c.set().sync_seq;
            c.set_arg((arg & 3) | (seq << 2));
            if c.test(RUNNING) {
                return Flow::Goto(2);
            }
            if arg & LOCKED == 0 { Flow::Call(F::MddevUnlock, 0) } else { Flow::Next }
        }
        1 => Flow::Ret(0),
        2 => Flow::Call(F::MddevUnlock, 0),
        3 => c.set_bit(INTR),
        4 => md_wakeup_thread_directly(c),
        5 => work_pending(c),
        6 => flush_work(c),
        7 => {
            let set = c.set();
            let changed = set.sync_seq != arg >> 2;
            let frozen = set.recovery & FROZEN != 0;
            let stopped = set.recovery & RUNNING == 0;
            if c.has(Switch::SyncAction) {
                let is_so = stopped || (!frozen && changed);
                c.wait_event(Wq::Resync, is_so, "!RUNNING, or not frozen and reaped once")
            } else if arg & CHECK_SEQ != 0 {
                c.wait_event(Wq::Resync, stopped || changed, "!RUNNING, or reaped once")
            } else {
                c.wait_event(Wq::Resync, stopped, "!RUNNING")
            }
        }
        8 if arg & LOCKED == 0 => Flow::Ret(0),
        8 => c.lock(Lock::Reconfig),
        _ => Flow::Ret(0),
    }
}

/// `stop_sync_thread` (md.c, v6.6).
fn stop_sync_thread_v6_6(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            if c.test(RUNNING) {
                Flow::Next
            } else {
                Flow::Ret(0)
            }
        }
        1 => c.lock(Lock::Reconfig),
        2 => {
            if c.test(RUNNING) {
                Flow::Next
            } else {
                Flow::Goto(7)
            }
        }
        3 => work_pending(c),
        4 => flush_work(c),
        5 => c.set_bit(INTR),
        6 => md_wakeup_thread_directly(c),
        7 => Flow::Call(F::MddevUnlock, 0),
        _ => Flow::Ret(0),
    }
}

/// `md_wakeup_thread_directly` (md.c): the sync thread looks again at what it waits for, but one that
/// is parked in `md_thread` has no THREAD_WAKEUP and sleeps on.
fn md_wakeup_thread_directly(c: &mut Cpu<'_>) -> Flow {
    let on = c.on();
    let there = c.set().sync_thread != 0;
    if there {
        c.wake_up_process(state::sync(on));
    }
    c.act(|| {
        if there { "md_wakeup_thread_directly(sync thread)" } else { "md_wakeup_thread_directly(NULL)" }
            .to_owned()
    });
    Flow::Next
}

/// `work_pending(&mddev->sync_work)`; skips the flush that follows if not. It says no as soon as a
/// worker has taken the item, long before `md_start_sync` has registered the thread.
fn work_pending(c: &mut Cpu<'_>) -> Flow {
    let busy = c.has(Switch::WorkBusy) && c.set().work == 2;
    let set = c.set();
    let pending = busy || set.work == 1 || set.work_again == 1;
    c.look(|| if pending { "sync_work is pending" } else { "sync_work is not pending" }.to_owned());
    let at = c.task().top().at;
    if pending { Flow::Next } else { Flow::Goto(at + 2) }
}

/// `flush_work(&mddev->sync_work)`: waits until it has run.
fn flush_work(c: &mut Cpu<'_>) -> Flow {
    if c.set().work == 0 {
        c.act(|| "flush_work: sync_work has run".to_owned());
        Flow::Next
    } else {
        let on = c.on();
        c.block_for(state::worker(on), || "sync_work to have run (flush_work)".to_owned())
    }
}

/// `md_idle_sync_thread` (md.c, v6.9; v2 of the series takes `sync_mutex` as well).
pub(super) fn md_idle_sync_thread(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if !c.has(Switch::P5v2) => Flow::Next,
        0 => c.lock(Lock::Sync),
        1 => c.clear_bit(FROZEN),
        2 => Flow::Call(F::StopSyncThread, LOCKED | CHECK_SEQ),
        3 if c.has(Switch::P5v2) => c.unlock(Lock::Sync),
        _ => Flow::Ret(0),
    }
}

/// `md_frozen_sync_thread` (md.c, v6.9; v2 of the series takes `sync_mutex` as well).
pub(super) fn md_frozen_sync_thread(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if !c.has(Switch::P5v2) => Flow::Next,
        0 => c.lock(Lock::Sync),
        1 => c.set_bit(FROZEN),
        2 => Flow::Call(F::StopSyncThread, LOCKED),
        3 if c.has(Switch::P5v2) => c.unlock(Lock::Sync),
        _ => Flow::Ret(0),
    }
}

/// `md_unfrozen_sync_thread` (md.c, v6.9; v2 of the series takes `sync_mutex` as well).
pub(super) fn md_unfrozen_sync_thread(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if !c.has(Switch::P5v2) => Flow::Next,
        0 => c.lock(Lock::Sync),
        1 => c.clear_bit(FROZEN),
        2 => c.set_bit(NEEDED),
        3 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        4 if c.has(Switch::P5v2) => c.unlock(Lock::Sync),
        _ => Flow::Ret(0),
    }
}

/// `action_store` (md.c) of `sync_action`, with `idle_sync_thread` (argument 0) and `frozen_sync_thread` (1),
/// and "check" ([`ASK_CHECK`]), which is refused if RUNNING is set. v6.5 reaps under `reconfig_mutex`; v6.6
/// (130443d60b1b) asks, unlocks and waits; v6.7 waits in `stop_sync_thread`; v2 of the series locks in the
/// other order; v6.11 (SyncAction) uses the helpers, does not ask for a sync after freezing, and first waits
/// for a work item that is pending or runs.
pub(super) fn action_store(c: &mut Cpu<'_>, at: u8) -> Flow {
    const V6_6: u8 = 20;
    const V6_7: u8 = 30;
    const V2: u8 = 40;
    const TAIL: u8 = 50;
    const V6_11: u8 = 60;
    const REFUSE: u8 = 80;
    const CHECK_IT: u8 = 90;
    // Only "check" itself reads this: elsewhere the argument also keeps sync_seq.
    let check = c.arg() == ASK_CHECK;
    let frozen = c.arg() & 1 == 1;
    let freeze = |c: &mut Cpu<'_>| if frozen { c.set_bit(FROZEN) } else { c.clear_bit(FROZEN) };
    let check_seq = if frozen { 0 } else { CHECK_SEQ };
    match at {
        0 if c.has(Switch::SyncAction) => Flow::Goto(V6_11),
        0 if check => Flow::Goto(CHECK_IT),
        0 if c.has(Switch::P5v2) => Flow::Goto(V2),
        0 if c.has(Switch::F52f5) => Flow::Goto(V6_7),
        0 if c.has(Switch::C130443) => Flow::Goto(V6_6),
        0 => freeze(c),
        1 => {
            if c.test(RUNNING) {
                Flow::Next
            } else {
                Flow::Goto(TAIL)
            }
        }
        2 => c.lock(Lock::Reconfig),
        3 => work_pending(c),
        4 => flush_work(c),
        5 if c.set().sync_thread == 0 => Flow::Goto(7),
        5 if c.has(Switch::C9dfb) => Flow::Goto(10),
        5 => c.set_bit(INTR),
        6 => Flow::Call(F::MdReapSyncThread, 0),
        7 => Flow::Call(F::MddevUnlock, 0),
        8 => Flow::Goto(TAIL),
        // The local also keeps reshape_position, which may change meanwhile.
        10 => {
            let position = c.set().reshape_position;
            c.set_arg(u8::from(frozen) | position << 1);
            Flow::Call(F::MddevUnlock, 0)
        }
        11 => c.set_bit(INTR),
        12 => Flow::Call(F::MdUnregisterThread, 1),
        13 => c.lock(Lock::Reconfig),
        14 => {
            let position = c.arg() >> 1;
            c.set().reshape_position = if position == MAX >> 1 { MAX } else { position };
            c.set_bit(INTR)
        }
        15 => Flow::Call(F::MdReapSyncThread, 1),
        16 => Flow::Goto(7),
        V6_6 => {
            let seq = c.set().sync_seq;
            c.set_arg(u8::from(frozen) | (seq << 1));
            c.lock(Lock::Sync)
        }
        21 => freeze(c),
        22 => Flow::Call(F::StopSyncThread, 0),
        23 => {
            let seq = c.arg() >> 1;
            let set = c.set();
            let stopped = set.recovery & RUNNING == 0;
            if frozen {
                let is_so = stopped && set.sync_thread == 0;
                c.wait_event(Wq::Resync, is_so, "no sync thread and !RUNNING")
            } else {
                let is_so = stopped || set.sync_seq != seq;
                c.wait_event(Wq::Resync, is_so, "!RUNNING, or reaped once")
            }
        }
        24 => c.unlock(Lock::Sync),
        25 => Flow::Goto(TAIL),
        V6_7 => c.lock(Lock::Sync),
        31 if c.has(Switch::P5) => Flow::Next,
        31 => freeze(c),
        32 => c.lock(Lock::Reconfig),
        33 if !c.has(Switch::P5) => Flow::Next,
        33 => freeze(c),
        34 => Flow::Call(F::StopSyncThread, check_seq),
        35 => c.unlock(Lock::Sync),
        36 => Flow::Goto(TAIL),
        V2 => c.lock(Lock::Reconfig),
        41 => c.lock(Lock::Sync),
        42 => freeze(c),
        43 => Flow::Call(F::StopSyncThread, check_seq),
        44 => c.unlock(Lock::Sync),
        45 => Flow::Goto(TAIL),
        // work_busy, looked at again under the lock.
        V6_11 if c.set().work != 0 => flush_work(c),
        V6_11 => c.lock(Lock::Reconfig),
        61 if c.set().reconfig != c.me as u8 + 1 => Flow::Goto(V6_11),
        61 if c.set().work != 0 => Flow::Call(F::MddevUnlock, 0),
        61 => {
            if c.test(RUNNING) {
                Flow::Next
            } else {
                Flow::Goto(64)
            }
        }
        62 if c.set().reconfig != c.me as u8 + 1 => Flow::Goto(V6_11),
        62 if check => Flow::Goto(REFUSE),
        62 if frozen => Flow::Call(F::MdFrozenSyncThread, 0),
        62 => Flow::Call(F::MdIdleSyncThread, 0),
        63 if frozen => Flow::Goto(68),
        63 => Flow::Goto(66),
        64 if check => Flow::Goto(CHECK_IT + 1),
        64 => freeze(c),
        65 if frozen => Flow::Goto(68),
        65 => Flow::Next,
        66 => c.set_bit(NEEDED),
        67 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        68 => Flow::Call(F::MddevUnlock, 0),
        69 => Flow::Ret(0),
        TAIL => c.set_bit(NEEDED),
        51 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        52 => Flow::Ret(0),
        // EBUSY; since v6.11 reconfig_mutex is held.
        REFUSE => {
            if c.set().sync_thread == 0 {
                c.breaks(invariant::I15);
            }
            c.act(|| "EBUSY".to_owned());
            Flow::Next
        }
        81 if c.has(Switch::SyncAction) => Flow::Goto(68),
        81 => Flow::Ret(1),
        CHECK_IT => {
            if c.test(RUNNING) {
                Flow::Goto(REFUSE)
            } else {
                Flow::Next
            }
        }
        91 => c.set_bit(CHECK),
        92 => c.clear_bit(FROZEN),
        93 => c.set_bit(REQUESTED),
        94 => c.set_bit(SYNC),
        95 if c.has(Switch::SyncAction) => Flow::Goto(66),
        95 => Flow::Goto(TAIL),
        other => unreachable!("action_store has no step {other}"),
    }
}

/// `md_stop_writes` (md.c): P6 as merged (v6.9) freezes and stops the sync thread here.
pub(super) fn md_stop_writes(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => c.lock(Lock::Reconfig),
        1 if !c.has(Switch::P6) => Flow::Goto(3),
        1 => c.set_bit(FROZEN),
        2 => Flow::Call(F::StopSyncThread, LOCKED),
        3 => Flow::Call(F::SubMdStopWrites, 0),
        4 => Flow::Call(F::MddevUnlock, 0),
        _ => Flow::Ret(0),
    }
}

/// `__md_stop_writes` (md.c). Before v6.7: FROZEN, and the sync thread is reaped here and now, under
/// `reconfig_mutex`. v6.7 (f52f5c71f3d4): `stop_sync_thread`, without FROZEN. v6.9 (P6): neither.
pub(super) fn sub_md_stop_writes(c: &mut Cpu<'_>, at: u8) -> Flow {
    const STOPPED: u8 = 10;
    const FLUSHED: u8 = 13;
    let directly = !c.has(Switch::F52f5) || c.has(Switch::ReapDirectly);
    match at {
        0 if directly => c.set_bit(FROZEN),
        0 if c.has(Switch::P6) => Flow::Goto(STOPPED),
        0 => {
            // Nothing of the direct way follows.
            c.set_arg(1);
            Flow::Call(F::StopSyncThread, LOCKED)
        }
        1 if c.arg() == 1 => Flow::Goto(STOPPED),
        1 => work_pending(c),
        2 => flush_work(c),
        3 if c.set().sync_thread == 0 => Flow::Goto(STOPPED),
        3 => c.set_bit(INTR),
        4 => Flow::Call(F::MdReapSyncThread, 0),
        5 => Flow::Goto(STOPPED),
        // The personality's quiesce, and the bitmap's flush.
        STOPPED if c.has(Switch::Ccefc) && c.scenario.is_dm && c.set().ro != 0 => Flow::Goto(FLUSHED),
        STOPPED => Flow::Call(c.scenario.level.quiesce(), 1),
        11 => Flow::Call(c.scenario.level.quiesce(), 0),
        12 if c.scenario.is_dm => Flow::Call(F::WriteSbPage, 0),
        12 => Flow::Next,
        FLUSHED => {
            if c.is_rdwr() {
                Flow::Next
            } else {
                Flow::Ret(0)
            }
        }
        14 => {
            let set = c.set();
            if set.in_sync != 0 && set.sb_flags == 0 {
                return Flow::Ret(0);
            }
            set.in_sync = 1;
            Flow::Call(F::MdUpdateSb, 1)
        }
        _ => Flow::Ret(0),
    }
}

/// `md_stop` (md.c).
pub(super) fn md_stop(_c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => Flow::Call(F::SubMdStopWrites, 0),
        1 => Flow::Call(F::SubMdStop, 0),
        _ => Flow::Ret(0),
    }
}

/// `__md_stop` (md.c).
pub(super) fn sub_md_stop(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => Flow::Call(F::MddevDetach, 0),
        1 => c.clear_bit(FROZEN),
        _ => Flow::Ret(0),
    }
}

/// `mddev_detach` (md.c): the daemon ends here.
pub(super) fn mddev_detach(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if c.set().killed != 0 => Flow::Goto(2),
        0 => Flow::Call(c.scenario.level.quiesce(), 1),
        1 => Flow::Call(c.scenario.level.quiesce(), 0),
        2 => Flow::Call(F::MdUnregisterThread, 0),
        _ => Flow::Ret(0),
    }
}
