//! The names of the kernel functions that the port follows.

macro_rules! functions {
    ($($variant:ident $name:literal)*) => {
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
    };
}

functions! {
    Script "(script)"
    DmSuspend "dm_suspend"
    SubDmSuspend "__dm_suspend"
    DmTablePresuspend "dm_table_presuspend_targets"
    DmTablePostsuspend "dm_table_postsuspend_targets"
    DoResume "do_resume"
    DmResume "dm_resume"
    DevRemove "dev_remove"
    SubDmDestroy "__dm_destroy"
    TableClear "table_clear"
    DmTableDestroy "dm_table_destroy"
    DmSubmitBio "dm_submit_bio"
    RaidMap "raid_map"
    RaidCtr "raid_ctr"
    RaidDtr "raid_dtr"
    RaidPresuspend "raid_presuspend"
    RaidPostsuspend "raid_postsuspend"
    RaidPreresume "raid_preresume"
    RaidResume "raid_resume"
    RaidMessage "raid_message"
    RsStartReshape "rs_start_reshape"
    RsUpdateSbs "rs_update_sbs"
    MdRun "md_run"
    MdThread "md_thread"
    WorkerThread "worker_thread"
    MdDoSync "md_do_sync"
    MdStartSync "md_start_sync"
    MdCheckRecovery "md_check_recovery"
    UnregisterSyncThread "unregister_sync_thread"
    MdReapSyncThread "md_reap_sync_thread"
    MdUnregisterThread "md_unregister_thread"
    MdChooseSyncAction "md_choose_sync_action"
    MdUpdateSb "md_update_sb"
    MdSuperWait "md_super_wait"
    WriteSbPage "write_sb_page"
    MddevUnlock "mddev_unlock"
    MddevSuspend "mddev_suspend"
    MddevResume "__mddev_resume"
    SuspendLoStore "suspend_lo_store"
    MdHandleRequest "md_handle_request"
    MdWriteStart "md_write_start"
    StopSyncThread "stop_sync_thread"
    MdIdleSyncThread "md_idle_sync_thread"
    MdFrozenSyncThread "md_frozen_sync_thread"
    MdUnfrozenSyncThread "md_unfrozen_sync_thread"
    ActionStore "action_store"
    MdStopWrites "md_stop_writes"
    SubMdStopWrites "__md_stop_writes"
    MdStop "md_stop"
    SubMdStop "__md_stop"
    MddevDetach "mddev_detach"
    Raid5d "raid5d"
    HandleActiveStripes "handle_active_stripes"
    Raid5Quiesce "raid5_quiesce"
    Raid5Run "raid5_run"
    Raid5StartReshape "raid5_start_reshape"
    Raid5SyncRequest "raid5_sync_request"
    ReshapeRequest "reshape_request"
    EndReshape "end_reshape"
    Raid5MakeRequest "raid5_make_request"
    MakeStripeRequest "make_stripe_request"
    Raid10d "raid10d"
    HandleWriteCompleted "handle_write_completed"
    SyncRequestWrite "sync_request_write"
    Raid10SyncRequest "raid10_sync_request"
    RaiseBarrier "raise_barrier"
    LowerBarrier "lower_barrier"
    WaitBarrier "wait_barrier"
    AllowBarrier "allow_barrier"
    CloseSync "close_sync"
    Raid10Quiesce "raid10_quiesce"
    Raid10MakeRequest "raid10_make_request"
    Raid10EndWriteRequest "raid10_end_write_request"
    MdError "md_error"
}
