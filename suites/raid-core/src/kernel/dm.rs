//! dm.c and dm-ioctl.c: what the user's commands come to, and the way of a bio into the target.

use crate::cpu::{Cpu, Flow, invariant};
use crate::kernel::md_stop::ASK_CHECK;
use crate::machine::names::F;
use crate::machine::state::{Bio, MAX, N_USERS};
use crate::scenario::{Level, Op};

/// Runs a user's commands one after the other.
pub(super) fn script(c: &mut Cpu<'_>, at: u8) -> Flow {
    let script = c.scenario.users[c.me].script;
    // What an earlier command returned is not read again: fewer states.
    c.task().ret = 0;
    let Some(op) = script.get(at as usize) else {
        c.act(|| "is done".to_owned());
        return Flow::Exit;
    };
    match *op {
        Op::Ctr(set) => {
            c.task().on = set;
            Flow::Call(F::RaidCtr, 0)
        }
        Op::Suspend { noflush } => Flow::Call(F::DmSuspend, u8::from(noflush)),
        Op::SuspendMembers => {
            c.s.dm.members_suspended = 1;
            c.touches_both();
            c.act(|| "suspends the devices that the members are on".to_owned());
            Flow::Next
        }
        Op::Resume => Flow::Call(F::DoResume, 0),
        Op::Remove => Flow::Call(F::DevRemove, 0),
        Op::Clear => Flow::Call(F::TableClear, 0),
        Op::Message(message) => {
            c.task().on = c.s.dm.live;
            Flow::Call(F::RaidMessage, message as u8)
        }
        Op::SysIdle => Flow::Call(F::ActionStore, 0),
        Op::SysFrozen => Flow::Call(F::ActionStore, 1),
        Op::SysCheck => Flow::Call(F::ActionStore, ASK_CHECK),
        Op::SuspendLo => Flow::Call(F::SuspendLoStore, 0),
        Op::AfterSwap if c.s.dm.live == 1 => {
            c.act(|| "the new table is live".to_owned());
            Flow::Next
        }
        Op::AfterSwap => c.block(|| "the new table to be live".to_owned()),
        Op::FailMember if c.s.dm.live == MAX => c.block(|| "an array to belong to".to_owned()),
        Op::FailMember => {
            c.task().on = c.s.dm.live;
            Flow::Call(F::MdError, 0)
        }
        Op::Read(block) => submit(c, block, 1, false),
        Op::ReadTwo(block) => submit(c, block, 2, false),
        Op::Write(block) => submit(c, block, 1, true),
    }
}

fn submit(c: &mut Cpu<'_>, block: u8, len: u8, write: bool) -> Flow {
    let idx = bio_of(c.me);
    c.s.bios[idx] = Bio { block, len, write: u8::from(write), ..Bio::NONE };
    Flow::Call(F::DmSubmitBio, idx as u8)
}

/// The bio of an IO task: the last two users do IO.
pub(super) fn bio_of(task: usize) -> usize {
    task - (N_USERS - 2)
}

/// `dm_suspend` (dm.c, v6.12). Argument 1: noflush.
pub(super) fn dm_suspend(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if c.s.dm.suspended != 0 || c.s.dm.live == MAX => Flow::Ret(1),
        0 => {
            c.task().on = c.s.dm.live;
            let noflush = c.arg();
            Flow::Call(F::SubDmSuspend, noflush)
        }
        1 => Flow::Call(F::DmTablePostsuspend, 0),
        _ => Flow::Ret(0),
    }
}

/// `__dm_suspend` (dm.c, v6.12): presuspend, hold back new IO, wait for what is under way.
pub(super) fn sub_dm_suspend(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            c.s.dm.noflush = c.arg();
            Flow::Call(F::DmTablePresuspend, 0)
        }
        1 => {
            c.s.dm.block_io = 1;
            c.act(|| "holds back new IO".to_owned());
            Flow::Next
        }
        2 if c.s.dm.srcu == 0 => {
            c.act(|| "synchronize_srcu: no IO is being mapped".to_owned());
            Flow::Next
        }
        2 => c.block(|| "IO that is being mapped (synchronize_srcu)".to_owned()),
        3 if c.s.dm.pending == 0 => {
            c.act(|| "dm_wait_for_completion: no IO is in flight".to_owned());
            Flow::Next
        }
        3 => c.block(|| "IO in flight (dm_wait_for_completion)".to_owned()),
        4 => {
            c.s.dm.suspended = 1;
            c.s.dm.noflush = 0;
            c.act(|| "sets DMF_SUSPENDED".to_owned());
            Flow::Next
        }
        _ => Flow::Ret(0),
    }
}

/// `dm_table_presuspend_targets` (dm-table.c).
pub(super) fn dm_table_presuspend_targets(_c: &mut Cpu<'_>, at: u8) -> Flow {
    if at == 0 { Flow::Call(F::RaidPresuspend, 0) } else { Flow::Ret(0) }
}

/// `dm_table_postsuspend_targets` (dm-table.c).
pub(super) fn dm_table_postsuspend_targets(_c: &mut Cpu<'_>, at: u8) -> Flow {
    if at == 0 { Flow::Call(F::RaidPostsuspend, 0) } else { Flow::Ret(0) }
}

/// `do_resume` (dm-ioctl.c, v6.12): the new table takes over; the old one is destroyed only after the
/// new one has been resumed. The local is the old table's raid_set + 1.
pub(super) fn do_resume(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if c.s.dm.inactive == MAX => Flow::Goto(2),
        0 if c.s.dm.suspended == 0 && c.s.dm.live != MAX => Flow::Call(F::DmSuspend, 0),
        0 => Flow::Next,
        1 => {
            let old = c.s.dm.live;
            c.s.dm.live = c.s.dm.inactive;
            c.s.dm.inactive = MAX;
            c.s.dm.suspended = 1;
            c.s.dm.block_io = 1;
            c.set_arg(if old == MAX { 0 } else { old + 1 });
            c.act(|| "dm_swap_table: the new table takes over".to_owned());
            Flow::Next
        }
        2 => Flow::Call(F::DmResume, 0),
        3 => match c.arg() {
            0 => Flow::Next,
            old => {
                c.task().on = old - 1;
                Flow::Call(F::DmTableDestroy, 0)
            }
        },
        _ => Flow::Ret(0),
    }
}

/// `dm_resume` (dm.c, v6.12), with `dm_table_resume_targets`.
pub(super) fn dm_resume(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            c.task().on = c.s.dm.live;
            Flow::Call(F::RaidPreresume, 0)
        }
        1 if c.ret() != 0 => Flow::Ret(1),
        1 => Flow::Call(F::RaidResume, 0),
        2 => {
            c.s.dm.block_io = 0;
            c.act(|| "lets IO go on".to_owned());
            Flow::Next
        }
        3 => {
            c.s.dm.suspended = 0;
            c.act(|| "clears DMF_SUSPENDED".to_owned());
            Flow::Next
        }
        _ => Flow::Ret(0),
    }
}

/// `dev_remove` (dm-ioctl.c, v6.12): nobody may have the device open (`dm_lock_for_deletion`; its EBUSY
/// is tried again here); an inactive table goes first.
pub(super) fn dev_remove(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if c.s.dm.open != 0 => c.block(|| "the device to be closed".to_owned()),
        0 if c.s.dm.inactive == MAX => Flow::Next,
        0 => {
            c.task().on = c.s.dm.inactive;
            c.s.dm.inactive = MAX;
            Flow::Call(F::DmTableDestroy, 0)
        }
        1 => Flow::Call(F::SubDmDestroy, 0),
        _ => Flow::Ret(0),
    }
}

/// `__dm_destroy` (dm.c, v6.12): presuspend and postsuspend, without waiting for IO.
pub(super) fn sub_dm_destroy(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if c.s.dm.live == MAX => Flow::Ret(0),
        0 => {
            c.task().on = c.s.dm.live;
            if c.s.dm.suspended == 0 { Flow::Call(F::DmTablePresuspend, 0) } else { Flow::Goto(3) }
        }
        1 => {
            c.s.dm.suspended = 1;
            c.act(|| "sets DMF_SUSPENDED".to_owned());
            Flow::Next
        }
        2 => Flow::Call(F::DmTablePostsuspend, 0),
        3 => {
            c.s.dm.removed = 1;
            c.s.dm.live = MAX;
            c.act(|| "__unbind: takes the map away".to_owned());
            Flow::Next
        }
        4 if c.s.dm.srcu == 0 => {
            c.act(|| "dm_sync_table: no IO is being mapped".to_owned());
            Flow::Next
        }
        4 => c.block(|| "IO that is being mapped (dm_sync_table)".to_owned()),
        5 => Flow::Call(F::DmTableDestroy, 0),
        _ => Flow::Ret(0),
    }
}

/// `table_clear` (dm-ioctl.c, v6.12): the inactive table is destroyed, never resumed.
pub(super) fn table_clear(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if c.s.dm.inactive == MAX => Flow::Ret(0),
        0 => {
            c.task().on = c.s.dm.inactive;
            c.s.dm.inactive = MAX;
            Flow::Call(F::DmTableDestroy, 0)
        }
        _ => Flow::Ret(0),
    }
}

/// `dm_table_destroy` (dm-table.c).
pub(super) fn dm_table_destroy(_c: &mut Cpu<'_>, at: u8) -> Flow {
    if at == 0 { Flow::Call(F::RaidDtr, 0) } else { Flow::Ret(0) }
}

/// `dm_submit_bio` (dm.c, v6.12) and what follows until the bio is complete. A bio that the target
/// gives back (DM_MAPIO_REQUEUE) is kept for the resume only during a noflush suspend; else it fails.
/// On an md array without dm the bio goes to `md_handle_request` at once.
pub(super) fn dm_submit_bio(c: &mut Cpu<'_>, at: u8) -> Flow {
    const COMPLETE: u8 = 4;
    const CLOSE: u8 = 5;
    const DEFERRED: u8 = 6;
    let idx = c.arg() as usize;
    match at {
        0 if c.scenario.is_dm && c.s.dm.removed != 0 => {
            c.act(|| "there is no map: EIO".to_owned());
            c.breaks(invariant::I9);
            c.s.bios[idx].error = 1;
            Flow::Goto(CLOSE)
        }
        0 if c.scenario.is_dm && c.s.dm.block_io != 0 => c.block(|| "the device to be resumed".to_owned()),
        0 => {
            c.s.dm.srcu += 1;
            c.s.dm.pending += 1;
            if c.scenario.is_dm {
                c.task().on = c.s.dm.live;
            }
            c.act(|| "takes the bio".to_owned());
            Flow::Next
        }
        1 => Flow::Call(if c.scenario.is_dm { F::RaidMap } else { F::MdHandleRequest }, idx as u8),
        2 => {
            c.s.dm.srcu -= 1;
            match c.ret() {
                // DM_MAPIO_REQUEUE
                0 => {
                    c.s.dm.pending -= 1;
                    let kept = c.s.dm.noflush != 0;
                    c.act(|| {
                        if kept { "keeps the bio for the resume" } else { "EIO: nobody suspends noflush" }
                            .to_owned()
                    });
                    if kept {
                        return Flow::Goto(DEFERRED);
                    }
                    c.breaks(invariant::I9);
                    c.s.bios[idx].phase = 2;
                    c.s.bios[idx].error = 1;
                    Flow::Goto(CLOSE)
                }
                _ => {
                    c.s.dm.open = c.s.dm.open.saturating_sub(1);
                    c.act(|| "the bio is on its way; closes the device".to_owned());
                    Flow::Next
                }
            }
        }
        3 if c.scenario.level == Level::Raid10 => Flow::Call(F::Raid10EndWriteRequest, idx as u8),
        3 => Flow::Next,
        COMPLETE if c.s.bios[idx].phase == 2 => {
            let failed = c.s.bios[idx].error != 0;
            if failed {
                c.breaks(invariant::I9);
            } else {
                c.s.bios[idx] = Bio::NONE;
            }
            c.act(|| if failed { "the bio has failed: EIO" } else { "the bio is complete" }.to_owned());
            Flow::Ret(0)
        }
        COMPLETE => c.block(|| "its bio to complete".to_owned()),
        CLOSE => {
            c.s.dm.open = c.s.dm.open.saturating_sub(1);
            Flow::Ret(0)
        }
        // On md->deferred, until dm_wq_work submits it again after the resume.
        DEFERRED if c.s.dm.noflush == 0 && c.s.dm.block_io == 0 => Flow::Goto(0),
        DEFERRED => c.block(|| "the device to be resumed".to_owned()),
        _ => unreachable!("dm_submit_bio"),
    }
}

/// A bio is complete: what it wrote counts from now on.
pub(super) fn bio_endio(c: &mut Cpu<'_>, idx: usize) {
    let bio = c.s.bios[idx];
    if bio.write == 1 && bio.error == 0 {
        for block in bio.block..bio.block + bio.len {
            c.s.acked |= 1 << block;
        }
    }
    c.s.bios[idx].phase = 2;
    c.s.dm.pending -= 1;
}
