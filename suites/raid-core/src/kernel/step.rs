//! One step of a task, and what a task that cannot take one waits for.

use crate::cpu::{Broken, Cpu, Flow, Note};
use crate::era::Era;
use crate::kernel::{dm, dm_raid, md_io, md_recovery, md_stop, md_thread, raid5, raid5_io, raid10};
use crate::machine::names::F;
use crate::machine::state::{Frame, MAX_DEPTH, Queue, State, Task};
use crate::scenario::Scenario;

/// The result of a step.
pub(crate) struct Stepped {
    pub(crate) broken: Broken,
    /// Number of outcomes that this step can have.
    pub(crate) choices: u8,
    /// It touched what both raid_sets share.
    pub(crate) global: bool,
}

/// Runs one step of a task; none if it cannot go on, and then the state is not to be used.
pub(crate) fn step(
    s: &mut State,
    era: Era,
    scenario: &Scenario,
    me: usize,
    choice: u8,
    note: Option<&mut Note>,
) -> Option<Stepped> {
    if s.tasks[me].alive == 0 || s.tasks[me].sleep != Queue::None {
        return None;
    }
    let mut cpu = Cpu::new(s, era, scenario, me, choice, note);
    // Local control flow is bounded: a loop without an operation in it would be a bug of the port.
    for _ in 0..64 {
        let frame = cpu.s.tasks[me].top();
        let flow = run(&mut cpu, frame);
        let task = &mut cpu.s.tasks[me];
        match flow {
            Flow::Next => task.top_mut().at += 1,
            Flow::Goto(at) => task.top_mut().at = at,
            Flow::Call(f, a) => {
                task.top_mut().at += 1;
                assert!((task.depth as usize) < MAX_DEPTH, "call chain too deep: {f:?}");
                task.frames[task.depth as usize] = Frame::new(f, a);
                task.depth += 1;
            }
            Flow::Ret(value) => {
                task.ret = value;
                task.depth -= 1;
                task.frames[task.depth as usize] = Frame::NONE;
                assert!(task.depth > 0, "returned from the outermost function");
            }
            Flow::Block => return None,
            Flow::Sleep(queue) => {
                task.sleep = queue;
                cpu.acted = true;
            }
            Flow::Exit => {
                *task = Task::NONE;
                cpu.acted = true;
            }
        }
        if cpu.acted {
            return Some(Stepped { broken: cpu.broken, choices: cpu.choices, global: cpu.global });
        }
    }
    panic!("{:?} loops without an operation", cpu.s.tasks[me].top());
}

/// True if a task can take a step, whichever choice it has.
pub(crate) fn can_step(state: &State, era: Era, scenario: &Scenario, task: usize) -> bool {
    let mut copy = *state;
    step(&mut copy, era, scenario, task, 0, None).is_some()
}

/// The wait of a task that cannot go on: its call chain, and what it waits for in words.
pub(crate) fn waits_for(state: &State, era: Era, scenario: &Scenario, me: usize) -> Note {
    let mut copy = *state;
    copy.tasks[me].sleep = Queue::None;
    let mut note = Note::default();
    let _blocked = step(&mut copy, era, scenario, me, 0, Some(&mut note));
    note
}

/// Runs one step of the innermost function.
#[inline]
fn run(c: &mut Cpu<'_>, frame: Frame) -> Flow {
    match frame.f() {
        F::None => unreachable!("a task without a function"),
        F::Script => dm::script(c, frame.at),
        F::DmSuspend => dm::dm_suspend(c, frame.at),
        F::SubDmSuspend => dm::sub_dm_suspend(c, frame.at),
        F::DmTablePresuspend => dm::dm_table_presuspend_targets(c, frame.at),
        F::DmTablePostsuspend => dm::dm_table_postsuspend_targets(c, frame.at),
        F::DoResume => dm::do_resume(c, frame.at),
        F::DmResume => dm::dm_resume(c, frame.at),
        F::DevRemove => dm::dev_remove(c, frame.at),
        F::SubDmDestroy => dm::sub_dm_destroy(c, frame.at),
        F::TableClear => dm::table_clear(c, frame.at),
        F::DmTableDestroy => dm::dm_table_destroy(c, frame.at),
        F::DmSubmitBio => dm::dm_submit_bio(c, frame.at),
        F::RaidMap => dm_raid::raid_map(c, frame.at),
        F::RaidCtr => dm_raid::raid_ctr(c, frame.at),
        F::RaidDtr => dm_raid::raid_dtr(c, frame.at),
        F::RaidPresuspend => dm_raid::raid_presuspend(c, frame.at),
        F::RaidPostsuspend => dm_raid::raid_postsuspend(c, frame.at),
        F::RaidPreresume => dm_raid::raid_preresume(c, frame.at),
        F::RaidResume => dm_raid::raid_resume(c, frame.at),
        F::RaidMessage => dm_raid::raid_message(c, frame.at),
        F::RsStartReshape => dm_raid::rs_start_reshape(c, frame.at),
        F::RsUpdateSbs => dm_raid::rs_update_sbs(c, frame.at),
        F::MdRun => dm_raid::md_run(c, frame.at),
        F::MdThread => md_thread::md_thread(c, frame.at),
        F::WorkerThread => md_thread::worker_thread(c, frame.at),
        F::MdDoSync => md_thread::md_do_sync(c, frame.at),
        F::MdStartSync => md_recovery::md_start_sync(c, frame.at),
        F::MdCheckRecovery => md_recovery::md_check_recovery(c, frame.at),
        F::UnregisterSyncThread => md_recovery::unregister_sync_thread(c, frame.at),
        F::MdReapSyncThread => md_recovery::md_reap_sync_thread(c, frame.at),
        F::MdUnregisterThread => md_recovery::md_unregister_thread(c, frame.at),
        F::MdChooseSyncAction => md_recovery::md_choose_sync_action(c, frame.at),
        F::MdUpdateSb => md_io::md_update_sb(c, frame.at),
        F::MdSuperWait => md_io::md_super_wait(c, frame.at),
        F::WriteSbPage => md_io::write_sb_page(c, frame.at),
        F::MddevUnlock => md_io::mddev_unlock(c, frame.at),
        F::MddevSuspend => md_io::mddev_suspend(c, frame.at),
        F::MddevResume => md_io::mddev_resume(c, frame.at),
        F::SuspendLoStore => md_io::suspend_lo_store(c, frame.at),
        F::MdHandleRequest => md_io::md_handle_request(c, frame.at),
        F::MdWriteStart => md_io::md_write_start(c, frame.at),
        F::StopSyncThread => md_stop::stop_sync_thread(c, frame.at),
        F::MdIdleSyncThread => md_stop::md_idle_sync_thread(c, frame.at),
        F::MdFrozenSyncThread => md_stop::md_frozen_sync_thread(c, frame.at),
        F::MdUnfrozenSyncThread => md_stop::md_unfrozen_sync_thread(c, frame.at),
        F::ActionStore => md_stop::action_store(c, frame.at),
        F::MdStopWrites => md_stop::md_stop_writes(c, frame.at),
        F::SubMdStopWrites => md_stop::sub_md_stop_writes(c, frame.at),
        F::MdStop => md_stop::md_stop(c, frame.at),
        F::SubMdStop => md_stop::sub_md_stop(c, frame.at),
        F::MddevDetach => md_stop::mddev_detach(c, frame.at),
        F::Raid5d => raid5::raid5d(c, frame.at),
        F::HandleActiveStripes => raid5::handle_active_stripes(c, frame.at),
        F::Raid5Quiesce => raid5::raid5_quiesce(c, frame.at),
        F::Raid5Run => raid5::raid5_run(c, frame.at),
        F::Raid5StartReshape => raid5::raid5_start_reshape(c, frame.at),
        F::Raid5SyncRequest => raid5::raid5_sync_request(c, frame.at),
        F::ReshapeRequest => raid5::reshape_request(c, frame.at),
        F::EndReshape => raid5::end_reshape(c, frame.at),
        F::Raid5MakeRequest => raid5_io::raid5_make_request(c, frame.at),
        F::MakeStripeRequest => raid5_io::make_stripe_request(c, frame.at),
        F::Raid10d => raid10::raid10d(c, frame.at),
        F::HandleWriteCompleted => raid10::handle_write_completed(c, frame.at),
        F::SyncRequestWrite => raid10::sync_request_write(c, frame.at),
        F::Raid10SyncRequest => raid10::raid10_sync_request(c, frame.at),
        F::RaiseBarrier => raid10::raise_barrier(c, frame.at),
        F::LowerBarrier => raid10::lower_barrier(c, frame.at),
        F::WaitBarrier => raid10::wait_barrier(c, frame.at),
        F::AllowBarrier => raid10::allow_barrier(c, frame.at),
        F::CloseSync => raid10::close_sync(c, frame.at),
        F::Raid10Quiesce => raid10::raid10_quiesce(c, frame.at),
        F::Raid10MakeRequest => raid10::raid10_make_request(c, frame.at),
        F::Raid10EndWriteRequest => raid10::raid10_end_write_request(c, frame.at),
        F::MdError => md_io::md_error(c, frame.at),
    }
}
