//! The port: kernel functions as numbered steps, with upstream's names. Each says which function of
//! which version it follows, and which switch changes what in it.
//!
//! Left out, because no scenario's verdict hangs on it: the safemode timer, clusters, the bitmap (but that it is written), the
//! journal, rcu, reference counts of modules, sysfs notifications, read-ahead, discards, batches.

mod dm;
mod dm_raid;
mod md_io;
mod md_recovery;
mod md_stop;
mod md_thread;
mod raid10;
pub(crate) mod raid5;
mod raid5_io;

use crate::cpu::{Cpu, Flow};
use crate::state::Frame;

macro_rules! functions {
    ($($variant:ident $name:literal $module:ident :: $function:ident)*) => {
        /// A kernel function that the port follows (or, in parentheses, what stands for user space).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum F {
            /// No function.
            None,
            $(#[doc = $name] $variant,)*
        }

        impl F {
            /// All functions, by their number.
            pub const ALL: &[F] = &[F::None, $(F::$variant,)*];

            /// Upstream's name.
            pub fn name(self) -> &'static str {
                match self {
                    F::None => "",
                    $(F::$variant => $name,)*
                }
            }
        }

        /// Runs one step of the innermost function.
        #[inline]
        pub(crate) fn run(c: &mut Cpu<'_>, frame: Frame) -> Flow {
            match frame.f() {
                F::None => unreachable!("a task without a function"),
                $(F::$variant => $module::$function(c, frame.at),)*
            }
        }
    };
}

functions! {
    Script "(script)" dm::script
    DmSuspend "dm_suspend" dm::dm_suspend
    SubDmSuspend "__dm_suspend" dm::sub_dm_suspend
    DmTablePresuspend "dm_table_presuspend_targets" dm::dm_table_presuspend_targets
    DmTablePostsuspend "dm_table_postsuspend_targets" dm::dm_table_postsuspend_targets
    DoResume "do_resume" dm::do_resume
    DmResume "dm_resume" dm::dm_resume
    DevRemove "dev_remove" dm::dev_remove
    SubDmDestroy "__dm_destroy" dm::sub_dm_destroy
    TableClear "table_clear" dm::table_clear
    DmTableDestroy "dm_table_destroy" dm::dm_table_destroy
    DmSubmitBio "dm_submit_bio" dm::dm_submit_bio
    RaidMap "raid_map" dm_raid::raid_map
    RaidCtr "raid_ctr" dm_raid::raid_ctr
    RaidDtr "raid_dtr" dm_raid::raid_dtr
    RaidPresuspend "raid_presuspend" dm_raid::raid_presuspend
    RaidPostsuspend "raid_postsuspend" dm_raid::raid_postsuspend
    RaidPreresume "raid_preresume" dm_raid::raid_preresume
    RaidResume "raid_resume" dm_raid::raid_resume
    RaidMessage "raid_message" dm_raid::raid_message
    RsStartReshape "rs_start_reshape" dm_raid::rs_start_reshape
    RsUpdateSbs "rs_update_sbs" dm_raid::rs_update_sbs
    MdRun "md_run" dm_raid::md_run
    MdThread "md_thread" md_thread::md_thread
    WorkerThread "worker_thread" md_thread::worker_thread
    MdDoSync "md_do_sync" md_thread::md_do_sync
    MdStartSync "md_start_sync" md_recovery::md_start_sync
    MdCheckRecovery "md_check_recovery" md_recovery::md_check_recovery
    UnregisterSyncThread "unregister_sync_thread" md_recovery::unregister_sync_thread
    MdReapSyncThread "md_reap_sync_thread" md_recovery::md_reap_sync_thread
    MdUnregisterThread "md_unregister_thread" md_recovery::md_unregister_thread
    MdChooseSyncAction "md_choose_sync_action" md_recovery::md_choose_sync_action
    MdUpdateSb "md_update_sb" md_io::md_update_sb
    MdSuperWait "md_super_wait" md_io::md_super_wait
    WriteSbPage "write_sb_page" md_io::write_sb_page
    MddevUnlock "mddev_unlock" md_io::mddev_unlock
    MddevSuspend "mddev_suspend" md_io::mddev_suspend
    MddevResume "__mddev_resume" md_io::mddev_resume
    SuspendLoStore "suspend_lo_store" md_io::suspend_lo_store
    MdHandleRequest "md_handle_request" md_io::md_handle_request
    MdWriteStart "md_write_start" md_io::md_write_start
    StopSyncThread "stop_sync_thread" md_stop::stop_sync_thread
    MdIdleSyncThread "md_idle_sync_thread" md_stop::md_idle_sync_thread
    MdFrozenSyncThread "md_frozen_sync_thread" md_stop::md_frozen_sync_thread
    MdUnfrozenSyncThread "md_unfrozen_sync_thread" md_stop::md_unfrozen_sync_thread
    ActionStore "action_store" md_stop::action_store
    MdStopWrites "md_stop_writes" md_stop::md_stop_writes
    SubMdStopWrites "__md_stop_writes" md_stop::sub_md_stop_writes
    MdStop "md_stop" md_stop::md_stop
    SubMdStop "__md_stop" md_stop::sub_md_stop
    MddevDetach "mddev_detach" md_stop::mddev_detach
    Raid5d "raid5d" raid5::raid5d
    HandleActiveStripes "handle_active_stripes" raid5::handle_active_stripes
    Raid5Quiesce "raid5_quiesce" raid5::raid5_quiesce
    Raid5Run "raid5_run" raid5::raid5_run
    Raid5StartReshape "raid5_start_reshape" raid5::raid5_start_reshape
    Raid5SyncRequest "raid5_sync_request" raid5::raid5_sync_request
    ReshapeRequest "reshape_request" raid5::reshape_request
    EndReshape "end_reshape" raid5::end_reshape
    Raid5MakeRequest "raid5_make_request" raid5_io::raid5_make_request
    MakeStripeRequest "make_stripe_request" raid5_io::make_stripe_request
    Raid10d "raid10d" raid10::raid10d
    HandleWriteCompleted "handle_write_completed" raid10::handle_write_completed
    SyncRequestWrite "sync_request_write" raid10::sync_request_write
    Raid10SyncRequest "raid10_sync_request" raid10::raid10_sync_request
    RaiseBarrier "raise_barrier" raid10::raise_barrier
    LowerBarrier "lower_barrier" raid10::lower_barrier
    WaitBarrier "wait_barrier" raid10::wait_barrier
    AllowBarrier "allow_barrier" raid10::allow_barrier
    CloseSync "close_sync" raid10::close_sync
    Raid10Quiesce "raid10_quiesce" raid10::raid10_quiesce
    Raid10MakeRequest "raid10_make_request" raid10::raid10_make_request
    Raid10EndWriteRequest "raid10_end_write_request" raid10::raid10_end_write_request
    MdError "md_error" md_io::md_error
}
