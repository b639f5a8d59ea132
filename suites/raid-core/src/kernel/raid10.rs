//! raid10.c: the barrier between writes and the sync thread, and writes that a member failed. A write's
//! mirrors are one: which members it goes to, and reads, hang nothing.

use crate::cpu::{Cpu, Flow, Wq};
use crate::kernel::dm_raid::end_io;
use crate::machine::bits::sb;
use crate::machine::names::F;
use crate::machine::state;

/// `raid10d` (raid10.c, v6.12): looks what is due, ends failed writes whose bad blocks are in the
/// superblocks by now, then takes from the retry list.
pub(super) fn raid10d(c: &mut Cpu<'_>, at: u8) -> Flow {
    const RETRY: u8 = 5;
    match at {
        0 => Flow::Call(F::MdCheckRecovery, 0),
        1 if c.set().ending == 0 => Flow::Goto(RETRY),
        1 => {
            if c.test_sb(sb::CHANGE_PENDING) {
                Flow::Goto(RETRY)
            } else {
                Flow::Next
            }
        }
        // raid_end_bio_io of each: bio_endio, then allow_barrier.
        2 => {
            let idx = c.set().ending.trailing_zeros() as usize;
            c.set().ending &= !(1 << idx);
            end_io(c, idx);
            c.touches_both();
            c.act(|| "raid_end_bio_io: the failed write is complete".to_owned());
            Flow::Next
        }
        3 => Flow::Call(F::AllowBarrier, 0),
        4 if c.set().ending != 0 => Flow::Goto(2),
        4 => Flow::Goto(RETRY),
        RETRY => {
            let set = *c.set();
            if set.failed != 0 {
                return Flow::Call(F::HandleWriteCompleted, set.failed.trailing_zeros() as u8);
            }
            if set.sync_stripes != 0 {
                return Flow::Call(F::SyncRequestWrite, 0);
            }
            c.act(|| "nothing to retry".to_owned());
            Flow::Ret(0)
        }
        _ => Flow::Goto(RETRY),
    }
}

/// `handle_write_completed` (raid10.c, v6.12) of a write that a member failed. On an md array the block
/// becomes a bad one (`rdev_set_badblocks`); dm-raid has no bad block lists, so the member fails.
pub(super) fn handle_write_completed(c: &mut Cpu<'_>, at: u8) -> Flow {
    let idx = c.arg();
    match at {
        0 if c.scenario.is_dm => Flow::Call(F::MdError, 0),
        0 => c.set_sb(sb::CHANGE_CLEAN | sb::CHANGE_PENDING),
        1 => {
            let set = c.set();
            set.failed &= !(1 << idx);
            set.ending |= 1 << idx;
            c.act(|| "puts the failed write on bio_end_io_list, to wait for the superblocks".to_owned());
            Flow::Next
        }
        2 => c.wake_up(Wq::Barrier),
        3 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        _ => Flow::Ret(0),
    }
}

/// `sync_request_write` (raid10.c, v6.12) and the end of its IO: `end_sync_request`.
pub(super) fn sync_request_write(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            super::raid5::sync_io(c);
            c.set().sync_stripes -= 1;
            c.act(|| "reads, compares and writes the mirrors".to_owned());
            Flow::Next
        }
        1 => {
            let set = c.set();
            set.recovery_active = set.recovery_active.wrapping_sub(1);
            c.act(|| "md_done_sync: counts recovery_active down".to_owned());
            Flow::Next
        }
        2 => c.wake_up(Wq::Recovery),
        3 => Flow::Call(F::LowerBarrier, 0),
        _ => Flow::Ret(0),
    }
}

/// `raid10_sync_request` (raid10.c, v6.12). Argument: the position, in chunks.
pub(super) fn raid10_sync_request(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => Flow::Call(F::RaiseBarrier, 0),
        1 => {
            c.set().sync_stripes += 1;
            c.act(|| "submits a read for the resync, which raid10d will see".to_owned());
            Flow::Next
        }
        2 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        _ => Flow::Ret(1),
    }
}

/// `raise_barrier` (raid10.c, v6.12). It does not look at INTR, unlike raid1's.
pub(super) fn raise_barrier(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        // Under resync_lock from the end of the first wait on.
        0 => {
            let is_so = c.set().nr_waiting == 0;
            if is_so {
                c.set().barrier += 1;
            }
            c.wait_event(Wq::Barrier, is_so, "!nr_waiting, then raises the barrier")
        }
        1 => {
            let is_so = c.set().nr_pending == 0;
            c.wait_event(Wq::Barrier, is_so, "!nr_pending")
        }
        _ => Flow::Ret(0),
    }
}

/// `lower_barrier` (raid10.c, v6.12).
pub(super) fn lower_barrier(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            c.set().barrier -= 1;
            c.act(|| "counts barrier down".to_owned());
            Flow::Next
        }
        1 => c.wake_up(Wq::Barrier),
        _ => Flow::Ret(0),
    }
}

/// `raid10_quiesce` (raid10.c, v6.12): argument 1 stops, 0 lets go on.
pub(super) fn raid10_quiesce(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if c.arg() == 1 => Flow::Call(F::RaiseBarrier, 0),
        0 => Flow::Call(F::LowerBarrier, 0),
        _ => Flow::Ret(0),
    }
}

/// `raid10_make_request` (raid10.c, v6.12), for writes. Argument: which bio. Returns 0 if it has to be
/// made again later.
pub(super) fn raid10_make_request(c: &mut Cpu<'_>, at: u8) -> Flow {
    let idx = c.arg() as usize;
    match at {
        0 => Flow::Call(F::MdWriteStart, 0),
        1 if c.ret() == 0 => Flow::Ret(0),
        1 => Flow::Next,
        2 => Flow::Call(F::WaitBarrier, 0),
        3 => {
            let on = c.on() as u8;
            c.set().active_io += 1;
            let bio = &mut c.s.bios[idx];
            bio.set = on;
            bio.phase = 1;
            c.act(|| "md_account_bio; submits the write to the members".to_owned());
            Flow::Next
        }
        _ => Flow::Ret(1),
    }
}

/// `wait_barrier` (raid10.c, v6.12).
pub(super) fn wait_barrier(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            let up = c.set().barrier != 0;
            if up {
                c.set().nr_waiting += 1;
            } else {
                c.set().nr_pending += 1;
            }
            c.act(|| {
                if up { "the barrier is up: nr_waiting" } else { "wait_barrier: nr_pending" }.to_owned()
            });
            if up { Flow::Next } else { Flow::Ret(0) }
        }
        1 => {
            let down = c.set().barrier == 0;
            if down {
                c.set().nr_waiting -= 1;
                c.set().nr_pending += 1;
            }
            c.wait_event(Wq::Barrier, down, "!barrier (wait_barrier)")
        }
        2 if c.set().nr_waiting == 0 => c.wake_up(Wq::Barrier),
        _ => Flow::Ret(0),
    }
}

/// `allow_barrier` (raid10.c, v6.12).
pub(super) fn allow_barrier(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            c.set().nr_pending -= 1;
            if c.set().nr_pending > 0 {
                c.act(|| "allow_barrier".to_owned());
                return Flow::Next;
            }
            c.wake_up(Wq::Barrier)
        }
        _ => Flow::Ret(0),
    }
}

/// `close_sync` (raid10.c, v6.12), at the end of each sync: waits until all of it is written, but also for
/// the end of a quiesce, which holds the barrier up.
pub(super) fn close_sync(_c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => Flow::Call(F::WaitBarrier, 0),
        1 => Flow::Call(F::AllowBarrier, 0),
        _ => Flow::Ret(0),
    }
}

/// `raid10_end_write_request` (raid10.c, v6.12), in the members' interrupt: a member has failed it.
pub(super) fn raid10_end_write_request(c: &mut Cpu<'_>, at: u8) -> Flow {
    let idx = c.arg() as usize;
    match at {
        0 => {
            c.task().on = c.s.bios[idx].set;
            c.set().failed |= 1 << idx;
            c.act(|| "a member fails the write: reschedule_retry".to_owned());
            Flow::Next
        }
        1 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        _ => Flow::Ret(0),
    }
}
