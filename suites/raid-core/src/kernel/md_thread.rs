//! md.c: the loop of md's threads, the work queue's worker, and the sync thread's work.

use crate::cpu::{Cpu, Flow, Lock, Needs, Wq};
use crate::era::Switch;
use crate::kernel::md_recovery;
use crate::machine::bits::{recovery::*, sb};
use crate::machine::disk::Reshape;
use crate::machine::names::F;
use crate::machine::state::{self, MAX, Queue};
use crate::scenario::Level;

/// `md_thread` (md.c, v6.12), for the daemon (argument 0) and the sync thread (1). There is no timeout:
/// the bitmap's timer would hide lost wake-ups.
pub(super) fn md_thread(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            let task = c.task();
            // What an earlier call returned is not read again: fewer states.
            task.ret = 0;
            if task.wakeup != 0 || task.should_stop != 0 {
                c.act(|| "is woken".to_owned());
                return Flow::Next;
            }
            c.needs(Needs::Wakeup);
            c.act(|| "sleeps until THREAD_WAKEUP".to_owned());
            Flow::Sleep(Queue::Thread)
        }
        1 => {
            c.task().wakeup = 0;
            c.act(|| "clears THREAD_WAKEUP".to_owned());
            Flow::Next
        }
        2 if c.task().should_stop != 0 => {
            c.act(|| "ends: kthread_should_stop".to_owned());
            if c.arg() == 1 {
                md_recovery::sync_thread_ends(c);
            }
            Flow::Exit
        }
        2 if c.arg() == 1 => Flow::Call(F::MdDoSync, 0),
        2 => Flow::Call(
            match c.scenario.level {
                Level::Raid5 => F::Raid5d,
                Level::Raid10 => F::Raid10d,
            },
            0,
        ),
        _ => Flow::Goto(0),
    }
}

/// `worker_thread` (workqueue.c), for one raid_set's `sync_work`.
pub(super) fn worker_thread(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if c.set().work == 1 => {
            c.set().work = 2;
            c.act(|| "takes sync_work".to_owned());
            Flow::Next
        }
        0 => c.block(|| "sync_work".to_owned()),
        1 => Flow::Call(F::MdStartSync, 0),
        2 => {
            let set = c.set();
            set.work = set.work_again;
            set.work_again = 0;
            c.act(|| "is done with sync_work".to_owned());
            Flow::Next
        }
        _ => Flow::Goto(0),
    }
}

/// `md_do_sync` (md.c, v6.12). P3 makes every way out set DONE; before, WAIT and a read-only array returned
/// at once. The frame's local is the position, in chunks. Left out: waiting for other arrays on the same
/// devices, speed limits, the periodic checkpoint, and that of an interrupted rebuild.
pub(super) fn md_do_sync(c: &mut Cpu<'_>, at: u8) -> Flow {
    const SET_INTR: u8 = 6;
    const BEGIN: u8 = 8;
    const LOOP: u8 = 12;
    const REQUESTED_IT: u8 = 14;
    const BREAK_INTR: u8 = 18;
    const OUT: u8 = 20;
    const RECOVERED: u8 = 25;
    const SKIP: u8 = 30;
    const DONE_IT: u8 = 35;
    let end = c.scenario.chunks();
    match at {
        0 => {
            if c.test(DONE) {
                Flow::Ret(0)
            } else {
                Flow::Next
            }
        }
        1 if !c.has(Switch::P3) => Flow::Next,
        1 => {
            if c.test(INTR) {
                Flow::Goto(SKIP)
            } else {
                Flow::Next
            }
        }
        2 if c.has(Switch::NoWait) => Flow::Next,
        2 => match (c.test(WAIT), c.has(Switch::P3)) {
            (false, _) => Flow::Next,
            (true, true) => Flow::Goto(SET_INTR),
            (true, false) => Flow::Ret(0),
        },
        3 => {
            if c.is_rdwr() {
                Flow::Next
            } else {
                Flow::Goto(SET_INTR)
            }
        }
        4 if !c.has(Switch::SyncAction) => Flow::Goto(BEGIN),
        4 => {
            if c.test(FROZEN) {
                Flow::Next
            } else {
                Flow::Goto(BEGIN)
            }
        }
        5 => Flow::Next,
        SET_INTR => c.set_bit(INTR),
        7 if c.has(Switch::P3) => Flow::Goto(SKIP),
        7 => Flow::Ret(0),
        // curr_resync is set; v6.5 to v6.12 alike.
        BEGIN => {
            if c.test(INTR) {
                Flow::Goto(SKIP)
            } else {
                Flow::Next
            }
        }
        9 => {
            let reshape = c.test(RESHAPE);
            let set = c.set();
            let rebuilt = set.recovery & SYNC == 0 && set.member_to_rebuild == state::REBUILT;
            let start = match set.resync_offset {
                _ if reshape => 0,
                // recovery_offset is MaxSector.
                _ if rebuilt => end,
                MAX => 0,
                offset => offset,
            };
            c.set_arg(start);
            c.set().recovery_active = 0;
            Flow::Goto(LOOP)
        }
        LOOP if c.arg() >= end => Flow::Goto(OUT),
        LOOP => {
            if c.test(INTR) {
                Flow::Goto(OUT)
            } else {
                Flow::Next
            }
        }
        13 => {
            let position = c.arg();
            Flow::Call(
                match c.scenario.level {
                    Level::Raid5 => F::Raid5SyncRequest,
                    Level::Raid10 => F::Raid10SyncRequest,
                },
                position,
            )
        }
        REQUESTED_IT => match c.ret() {
            0 => Flow::Goto(BREAK_INTR),
            // Skipped: no IO was asked for.
            skipped if skipped >= 0x80 => Flow::Goto(16),
            _ => Flow::Next,
        },
        15 => {
            let set = c.set();
            set.recovery_active = set.recovery_active.wrapping_add(1);
            c.act(|| "counts recovery_active up".to_owned());
            Flow::Next
        }
        // The position moves only if INTR is still clear; what was asked for, or skipped, is done again.
        16 => {
            if c.test(INTR) {
                return Flow::Goto(OUT);
            }
            let position = c.arg() + (c.ret() & 0x7f);
            c.set_arg(position);
            Flow::Goto(LOOP)
        }
        BREAK_INTR => c.set_bit(INTR),
        19 => Flow::Next,
        OUT => {
            let idle = c.set().recovery_active == 0;
            c.wait_event(Wq::Recovery, idle, "recovery_active == 0")
        }
        // sync_request at the end of the device.
        21 if c.scenario.level == Level::Raid10 => Flow::Call(F::CloseSync, 0),
        21 => {
            if c.test(RESHAPE) {
                Flow::Call(F::EndReshape, 0)
            } else {
                Flow::Next
            }
        }
        22 => {
            if c.test(CHECK) {
                Flow::Goto(SKIP)
            } else {
                Flow::Next
            }
        }
        23 => {
            if c.test(SYNC) {
                Flow::Next
            } else {
                Flow::Goto(RECOVERED)
            }
        }
        24 => {
            let position = c.arg();
            if c.test(INTR) {
                if position > 0 && c.set().resync_offset != MAX {
                    c.set().resync_offset = position;
                }
            } else {
                c.set().resync_offset = MAX;
            }
            Flow::Goto(SKIP)
        }
        RECOVERED if c.set().member_to_rebuild == 0 => Flow::Goto(SKIP),
        RECOVERED => {
            let set = c.set();
            let rebuilt = set.recovery & (INTR | RESHAPE | RECOVER) == RECOVER;
            if rebuilt {
                set.member_to_rebuild = state::REBUILT;
            }
            c.act(|| if rebuilt { "recovery_offset = MaxSector" } else { "nothing is rebuilt" }.to_owned());
            Flow::Goto(SKIP)
        }
        SKIP => c.set_sb(sb::CHANGE_PENDING | sb::CHANGE_DEVS),
        // A reshape that has made an md array larger sets its size under reconfig_mutex; dm-raid has no queue
        // (6.1), or is asked for (mddev_is_dm).
        31 if c.scenario.is_dm || c.scenario.reshape != Reshape::Grow => Flow::Goto(DONE_IT),
        31 => {
            if c.test(RESHAPE) {
                Flow::Next
            } else {
                Flow::Goto(DONE_IT)
            }
        }
        32 => {
            if c.test(INTR) {
                Flow::Goto(DONE_IT)
            } else {
                Flow::Next
            }
        }
        33 => c.lock(Lock::Reconfig),
        34 => Flow::Call(F::MddevUnlock, 0),
        DONE_IT => c.set_bit(DONE),
        36 => c.wake_up(Wq::Resync),
        // v6.5 and v6.6: for raid5_prepare_suspend.
        37 if c.has(Switch::C868b) => c.wake_up(Wq::Sb),
        37 => Flow::Next,
        38 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        _ => Flow::Ret(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::era;
    use crate::kernel::step::step;
    use crate::machine::state::{Frame, State, Task};
    use crate::scenario;

    /// A sync thread in `md_do_sync`, at a step.
    fn syncing(at: u8, recovery: u16) -> State {
        let mut state = scenario::named("S1").unwrap().initial();
        state.sets[0].recovery = RUNNING | recovery;
        let mut task = Task::starting(F::MdThread, 0);
        task.frames[1] = Frame::new(F::MdDoSync, 0);
        task.frames[1].at = at;
        task.depth = 2;
        state.tasks[state::sync(0)] = task;
        state
    }

    /// Runs the sync thread to the end of its sync.
    fn run_to_the_end(state: &mut State) {
        let scenario = scenario::named("S1").unwrap();
        while state.tasks[state::sync(0)].depth > 1 {
            step(state, era::V6_12, scenario, state::sync(0), 0, None).expect("it can go on");
        }
    }

    /// A range that was skipped when INTR came is not done: the checkpoint stays where it was.
    #[test]
    fn an_interrupted_skip_does_not_move_the_checkpoint() {
        for (ret, offset) in [(0x80 | 3, 2), (1, 2)] {
            let mut state = syncing(14, SYNC | INTR);
            state.sets[0].resync_offset = 2;
            let task = &mut state.tasks[state::sync(0)];
            (task.frames[1].a, task.ret) = (2, ret);
            // What was asked for completes at once.
            while state.tasks[state::sync(0)].top().at < 16 {
                let scenario = scenario::named("S1").unwrap();
                step(&mut state, era::V6_12, scenario, state::sync(0), 0, None).unwrap();
            }
            state.sets[0].recovery_active = 0;
            run_to_the_end(&mut state);
            assert_eq!(state.sets[0].resync_offset, offset, "{ret:#x}");
        }
    }

    /// A rebuild that is interrupted is done again; one that is complete waits to be reaped.
    #[test]
    fn a_rebuild_counts_when_it_was_not_interrupted() {
        for (recovery, comes_to) in [(INTR, state::TO_REBUILD), (0, state::REBUILT)] {
            let mut state = syncing(23, RECOVER | recovery);
            state.sets[0].member_to_rebuild = state::TO_REBUILD;
            run_to_the_end(&mut state);
            assert_eq!(state.sets[0].member_to_rebuild, comes_to);
        }
    }
}
