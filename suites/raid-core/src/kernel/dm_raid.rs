//! dm-raid.c: the target between dm's calls and md, and the part of `md_run` that matters to it.

use crate::cpu::{Cpu, Flow, Lock, Wq, invariant};
use crate::era::Switch;
use crate::kernel::md_io::{put_active_io, reshape_interrupted};
use crate::kernel::md_recovery;
use crate::machine::bits::{recovery::*, rt, sb};
use crate::machine::names::F;
use crate::machine::state::{self, MAX, Set, Task};
use crate::scenario::Level;

/// True if presuspend, resume and the constructor use the helpers of P5 (P6, in v2 and as merged).
fn uses_helpers(c: &Cpu<'_>) -> bool {
    c.has(Switch::P6v2) || c.has(Switch::P6)
}

/// `raid_map` (dm-raid.c, v6.12): 0 for DM_MAPIO_REQUEUE.
pub(super) fn raid_map(c: &mut Cpu<'_>, at: u8) -> Flow {
    let bio = c.arg();
    if at == 0 { Flow::Call(F::MdHandleRequest, bio) } else { Flow::Ret(c.ret()) }
}

/// `raid_ctr` (dm-raid.c, v6.12): reads the superblocks, builds the array read-only and suspended, and
/// keeps it frozen until the resume, or means to: `md_run` before 2f03d0c2cd45 clears FROZEN.
pub(super) fn raid_ctr(c: &mut Cpu<'_>, at: u8) -> Flow {
    let on = c.on();
    match at {
        0 => {
            let table = c.scenario.tables[on];
            let sb = c.s.sb;
            let mut set = Set { life: 1, ro: 1, in_sync: 1, quiet: 1, thread: 1, ..Set::NONE };
            set.resync_offset = sb.resync_offset;
            set.reshape_position = sb.reshape_position;
            set.layout = sb.layout;
            set.rt = table.rt;
            set.member_to_rebuild = if table.rebuild { state::TO_REBUILD } else { 0 };
            c.s.sets[on] = set;
            c.s.tasks[state::daemon(on)] = Task::starting(F::MdThread, on as u8);
            c.s.tasks[state::worker(on)] = Task::starting(F::WorkerThread, on as u8);
            c.touches_both();
            c.act(|| "reads the superblocks; the array is read-only".to_owned());
            Flow::Next
        }
        // FROZEN, by hand before the helpers; then both locks, but P8 does not suspend.
        1 if uses_helpers(c) => Flow::Next,
        1 => c.set_bit(FROZEN),
        2 if c.has(Switch::Suspend67) && !c.has(Switch::P8) => Flow::Call(F::MddevSuspend, 0),
        2 => Flow::Next,
        3 => c.lock(Lock::Reconfig),
        4 if uses_helpers(c) => Flow::Call(F::MdFrozenSyncThread, 0),
        4 => Flow::Next,
        5 => Flow::Call(F::MdRun, 0),
        // md_start: the personality's start, and a sync thread that is there is woken.
        6 if c.scenario.level != Level::Raid5 => Flow::Goto(9),
        6 => {
            c.set().in_sync = 0;
            c.set_bit(WAIT)
        }
        7 => c.clear_bit(WAIT),
        8 => {
            let there = c.set().sync_thread != 0;
            c.md_wakeup_thread(state::sync(on), there)
        }
        9 => {
            c.set().in_sync = 0;
            c.set_rt(rt::SUSPENDED)
        }
        10 if c.has(Switch::Suspend67) => Flow::Next,
        10 => Flow::Call(F::MddevSuspend, 0),
        11 => Flow::Call(F::MddevUnlock, 0),
        12 => {
            c.s.dm.inactive = on as u8;
            c.touches_both();
            c.act(|| "the table is loaded".to_owned());
            Flow::Next
        }
        _ => Flow::Ret(0),
    }
}

/// `md_run` (md.c): forgets `recovery`, runs the personality, and asks the daemon to look.
/// 2f03d0c2cd45 (v6.9) leaves `recovery` alone for dm-raid.
pub(super) fn md_run(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if c.has(Switch::RunKeepsFrozen) && c.scenario.is_dm => Flow::Next,
        0 => {
            c.set().recovery = 0;
            c.act(|| "recovery = 0".to_owned());
            Flow::Next
        }
        1 if c.scenario.level == Level::Raid5 => Flow::Call(F::Raid5Run, 0),
        1 => Flow::Next,
        2 => c.set_bit(NEEDED),
        _ => Flow::Ret(0),
    }
}

/// `raid_dtr` (dm-raid.c, v6.12), and `raid_set_free`: whoever still uses the raid_set uses freed memory.
pub(super) fn raid_dtr(c: &mut Cpu<'_>, at: u8) -> Flow {
    let on = c.on();
    match at {
        0 => c.lock(Lock::Reconfig),
        1 if c.has(Switch::DtrStops) => Flow::Call(F::MdFrozenSyncThread, 0),
        1 => Flow::Next,
        2 => Flow::Call(F::MdStop, 0),
        3 => Flow::Call(F::MddevUnlock, 0),
        4 => {
            let set = c.s.sets[on];
            let threads = c.s.tasks[state::daemon(on)].alive + c.s.tasks[state::sync(on)].alive;
            // A work item that has returned is not looked at any more.
            let works = c.s.tasks[state::worker(on)].depth > 1;
            let returns = works && set.reconfig == 0 && set.recovery & RUNNING == 0;
            if returns {
                c.breaks(invariant::I14);
            } else if works {
                c.breaks(invariant::I13);
            }
            // Its last steps may be those of a resume.
            let resumes = returns && set.suspend_mutex == state::worker(on) as u8 + 1;
            let suspends = set.suspend_mutex != 0 && !resumes;
            if set.work == 1 || threads != 0 || set.active_io != 0 || suspends {
                c.breaks(invariant::I13);
            }
            c.s.sets[on] = Set { life: 2, ..Set::NONE };
            for task in [state::daemon(on), state::worker(on), state::sync(on)] {
                c.s.tasks[task] = Task::NONE;
            }
            c.act(|| "frees the raid_set".to_owned());
            Flow::Next
        }
        _ => Flow::Ret(0),
    }
}

/// `raid_presuspend` (dm-raid.c). v2 of the series (P6) stops the sync thread here. P11 as merged marks
/// the raid_set and lets IO go that waits for a reshape that cannot move; P9 is the hook for that.
pub(super) fn raid_presuspend(c: &mut Cpu<'_>, at: u8) -> Flow {
    const MERGED: u8 = 10;
    match at {
        0 if c.has(Switch::P6v2) => c.lock(Lock::Reconfig),
        0 if c.has(Switch::P11) => Flow::Goto(MERGED),
        0 => Flow::Ret(0),
        1 => Flow::Call(F::MdFrozenSyncThread, 0),
        2 => Flow::Call(F::MddevUnlock, 0),
        3 if c.has(Switch::P9) && c.has(Switch::P11v2) => c.wake_up(Wq::Reshape),
        3 | 4 => Flow::Ret(0),
        MERGED if c.has(Switch::C1d24) => {
            c.set().dm_suspending = 1;
            c.act(|| "sets MD_DM_SUSPENDING".to_owned());
            Flow::Next
        }
        MERGED => Flow::Next,
        11 => c.set_rt(rt::FROZEN),
        12 => {
            if reshape_interrupted(c) {
                Flow::Next
            } else {
                Flow::Ret(0)
            }
        }
        13 if c.has(Switch::P9) && c.scenario.level == Level::Raid5 => c.wake_up(Wq::Reshape),
        _ => Flow::Ret(0),
    }
}

/// `raid_postsuspend` (dm-raid.c). Before P6 it did not stop the writes of a frozen array.
pub(super) fn raid_postsuspend(c: &mut Cpu<'_>, at: u8) -> Flow {
    const DONE_SUSPENDING: u8 = 8;
    match at {
        0 => {
            let was = c.set().rt & rt::SUSPENDED != 0;
            c.set().rt |= rt::SUSPENDED;
            c.act(|| "sets RS_SUSPENDED".to_owned());
            if was { Flow::Goto(DONE_SUSPENDING) } else { Flow::Next }
        }
        1 if uses_helpers(c) => Flow::Next,
        1 => {
            if c.test(FROZEN) {
                Flow::Goto(3)
            } else {
                Flow::Next
            }
        }
        2 => Flow::Call(F::MdStopWrites, 0),
        3 if c.has(Switch::Suspend67) => Flow::Goto(6),
        3 => c.lock(Lock::Reconfig),
        4 => Flow::Call(F::MddevSuspend, 0),
        5 => match c.has(Switch::Suspend67) {
            false => Flow::Call(F::MddevUnlock, 0),
            true => Flow::Next,
        },
        6 if c.has(Switch::Suspend67) && !c.has(Switch::P8) => Flow::Call(F::MddevSuspend, 0),
        6 => Flow::Next,
        7 if c.has(Switch::C55dc) => {
            c.set().ro = 1;
            c.act(|| "ro = 1: read-only".to_owned());
            Flow::Next
        }
        7 => Flow::Next,
        DONE_SUSPENDING => {
            let set = c.set();
            set.quiet = 1;
            set.dm_suspending = 0;
            c.act(|| "the raid_set is suspended".to_owned());
            Flow::Next
        }
        _ => Flow::Ret(0),
    }
}

/// `raid_preresume` (dm-raid.c). Returns 1 if the bitmap cannot be loaded.
pub(super) fn raid_preresume(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            let was = c.set().rt & rt::PRERESUMED != 0;
            c.set().rt |= rt::PRERESUMED;
            c.act(|| "sets RS_PRERESUMED".to_owned());
            if was { Flow::Ret(0) } else { Flow::Next }
        }
        1 if c.set().rt & rt::UPDATE_SBS != 0 => Flow::Call(F::RsUpdateSbs, 0),
        1 => Flow::Next,
        2 if c.scenario.preresume_fails => {
            c.act(|| "the bitmap cannot be loaded: fails".to_owned());
            Flow::Ret(1)
        }
        2 => Flow::Next,
        // Undoes what md_run did; the helpers of P5 made it needless.
        3 if uses_helpers(c) => Flow::Next,
        3 => c.set_bit(FROZEN),
        4 if c.set().resync_offset == MAX || c.set().resync_offset == 0 => Flow::Next,
        4 => c.set_bit(REQUESTED),
        5 if c.set().rt & rt::RESHAPE_RS == 0 => Flow::Ret(0),
        5 => c.lock(Lock::Reconfig),
        6 => Flow::Call(F::RsStartReshape, 0),
        7 => Flow::Call(F::MddevUnlock, 0),
        _ => Flow::Ret(0),
    }
}

/// `rs_update_sbs` (dm-raid.c, v6.12): the array is read-write for a moment. The local keeps `ro`.
pub(super) fn rs_update_sbs(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => c.set_sb(sb::CHANGE_DEVS),
        1 => {
            let ro = c.set().ro;
            c.set_arg(ro);
            c.set().ro = 0;
            c.act(|| "ro = 0: read-write".to_owned());
            Flow::Next
        }
        2 => Flow::Call(F::MdUpdateSb, 1),
        3 => {
            let ro = c.arg();
            c.set().ro = ro;
            c.act(|| format!("ro = {ro}, as before"));
            Flow::Next
        }
        _ => Flow::Ret(0),
    }
}

/// `rs_start_reshape` (dm-raid.c, v6.12).
pub(super) fn rs_start_reshape(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if !c.has(Switch::C644e) => Flow::Next,
        0 => c.set_bit(WAIT),
        1 => Flow::Call(F::Raid5StartReshape, 0),
        2 if c.ret() != 0 => Flow::Ret(1),
        2 => Flow::Call(F::RsUpdateSbs, 0),
        _ => Flow::Ret(0),
    }
}

/// The warning of `raid_resume` since P6 as merged: the array is not frozen, or there is a sync. 3199a34bfaf7
/// looks at the thread; before it RUNNING was looked at, which the daemon also sets when it has the spares of
/// a read-only array looked at.
fn warn_of_a_sync(c: &mut Cpu<'_>) {
    let looks_at_thread = c.has(Switch::C3199);
    let set = c.set();
    let syncs = if looks_at_thread { set.sync_thread != 0 } else { set.recovery & RUNNING != 0 };
    if syncs || set.recovery & FROZEN == 0 {
        c.breaks(invariant::I17);
    }
}

/// `raid_resume` (dm-raid.c).
pub(super) fn raid_resume(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => c.set_rt(rt::RESUMED),
        1 => {
            let set = c.set();
            let was = set.rt & rt::SUSPENDED != 0;
            set.rt &= !rt::SUSPENDED;
            set.quiet = 0;
            c.act(|| "clears RS_SUSPENDED".to_owned());
            if was { Flow::Next } else { Flow::Ret(0) }
        }
        2 => c.lock(Lock::Reconfig),
        3 => {
            if c.has(Switch::P6) {
                warn_of_a_sync(c);
            }
            if c.has(Switch::P11) {
                c.clear_rt(rt::FROZEN)
            } else if uses_helpers(c) {
                Flow::Next
            } else {
                c.clear_bit(FROZEN)
            }
        }
        4 => {
            c.set().ro = 0;
            c.act(|| "ro = 0: read-write".to_owned());
            Flow::Next
        }
        5 => {
            c.set().in_sync = 0;
            if uses_helpers(c) { Flow::Call(F::MdUnfrozenSyncThread, 0) } else { Flow::Next }
        }
        6 if c.has(Switch::Suspend67) => Flow::Next,
        6 => Flow::Call(F::MddevResume, 1),
        7 => Flow::Call(F::MddevUnlock, 0),
        8 if c.has(Switch::Suspend67) && !c.has(Switch::P8) => Flow::Call(F::MddevResume, 1),
        _ => Flow::Ret(0),
    }
}

/// `raid_message` (dm-raid.c): argument 0 "idle", 1 "frozen", 2 "check". Before P7 the sync thread was
/// reaped without `reconfig_mutex`. Since P7 (in all its versions) control falls through to clearing
/// FROZEN, and "idle" and "frozen" end with -EINVAL.
pub(super) fn raid_message(c: &mut Cpu<'_>, at: u8) -> Flow {
    const OLD: u8 = 10;
    const NEW: u8 = 20;
    const CHECK_IT: u8 = 30;
    const TAIL: u8 = 40;
    const END: u8 = 50;
    let message = c.arg();
    let (idle, frozen) = (message == 0, message == 1);
    match at {
        0 if uses_helpers(c) => {
            if c.test_rt(rt::SUSPENDED) {
                Flow::Ret(1)
            } else {
                Flow::Next
            }
        }
        0 => Flow::Next,
        1 if c.has(Switch::P11) => {
            if c.test_rt(rt::FROZEN) {
                Flow::Ret(1)
            } else {
                Flow::Next
            }
        }
        1 => Flow::Next,
        2 => Flow::Goto(if c.has(Switch::P7) { NEW } else { OLD }),
        OLD => {
            if frozen {
                c.set_bit(FROZEN)
            } else {
                c.clear_bit(FROZEN)
            }
        }
        11 if !idle && !frozen => Flow::Goto(CHECK_IT),
        11 => {
            let there = c.set().sync_thread != 0;
            c.look(|| if there { "there is a sync thread" } else { "there is no sync thread" }.to_owned());
            if there { Flow::Next } else { Flow::Goto(TAIL) }
        }
        12 => c.set_bit(INTR),
        13 => Flow::Call(F::MdReapSyncThread, 0),
        14 => Flow::Goto(TAIL),
        NEW if idle || frozen => c.lock(Lock::Reconfig),
        NEW => Flow::Goto(24),
        21 => Flow::Call(if frozen { F::MdFrozenSyncThread } else { F::MdIdleSyncThread }, 0),
        22 => Flow::Call(F::MddevUnlock, 0),
        23 => Flow::Next,
        24 => c.clear_bit(FROZEN),
        25 if idle || frozen => Flow::Goto(END),
        25 => Flow::Goto(CHECK_IT),
        CHECK_IT => {
            let set = c.set();
            let busy = set.recovery & (FROZEN | RUNNING) != 0 || (set.ro == 0 && set.recovery & NEEDED != 0);
            c.act(|| if busy { "busy: fails" } else { "idle" }.to_owned());
            if busy { Flow::Ret(1) } else { Flow::Next }
        }
        31 => c.set_bit(CHECK),
        32 => c.set_bit(REQUESTED),
        33 => c.set_bit(SYNC),
        34 => Flow::Goto(TAIL),
        TAIL => c.set_bit(NEEDED),
        41 => {
            let on = c.on();
            let there = c.set().thread != 0 && c.set().suspended == 0;
            c.md_wakeup_thread(state::daemon(on), there)
        }
        42 => Flow::Goto(END),
        END if frozen => {
            if c.set().recovery & FROZEN == 0 {
                c.breaks(invariant::I12);
            }
            c.act(|| "has said \"frozen\"".to_owned());
            Flow::Next
        }
        _ => Flow::Ret(0),
    }
}

/// `mddev->sync_thread = md_register_thread(…)` of `raid5_run` and `raid5_start_reshape` before P4.
pub(super) fn register_directly(c: &mut Cpu<'_>) -> Flow {
    md_recovery::register_sync_thread(c)
}

/// A bio of a raid_set is complete.
pub(super) fn end_io(c: &mut Cpu<'_>, idx: usize) {
    super::dm::bio_endio(c, idx);
    put_active_io(c);
}
