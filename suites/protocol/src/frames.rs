//! Which frames of a kernel stack are md's or dm's (pure): the guest that chooses what to tell, the harness
//! that looks for a spin, and the reports that name a bug all ask here.
//!
//! Deliberately not here: which of them a bug is named by, and which are at rest.

/// Modules of md's core and its personalities; those of dm begin with `dm_`. `raid6_pq` and the `async_*`
/// modules only calculate: a benchmark while they are loaded is no array's work.
const MODULES: [&str; 9] =
    ["md_mod", "md_cluster", "raid0", "raid1", "raid10", "raid456", "linear", "faulty", "multipath"];

/// True for a frame as a stack has it: `[<0>] md_stop.isra.0+0x1b/0x30 [md_mod]`, with or without address,
/// offset and module. A frame that is only a guess (`? f+0x1/0x2`) counts as well. Where md and dm are built
/// in, there is no module, and names have to do.
pub fn is_storage_frame(frame: &str) -> bool {
    let mut words = frame.split_whitespace().skip_while(|word| word.starts_with("[<") || *word == "?");
    let Some(function) = words.next() else { return false };
    match words.next().and_then(|word| word.strip_prefix('[')) {
        Some(module) => {
            let module = module.trim_end_matches(']');
            MODULES.contains(&module) || module.starts_with("dm_")
        }
        None => is_storage_function(function.split(['+', '.']).next().unwrap_or(function)),
    }
}

/// True for a function of md, its personalities, dm's core, dm-raid and dm-integrity, by its bare name.
pub fn is_storage_function(name: &str) -> bool {
    let bare = name.trim_start_matches('_');
    PREFIXES.iter().any(|prefix| bare.starts_with(prefix)) || NAMES.contains(&bare)
}

/// Beginnings of their functions, without leading underscores.
const PREFIXES: [&str; 29] = [
    "md_",
    "mddev_",
    "mdstat_",
    "rdev_",
    "raid_",
    "raid0_",
    "raid1_",
    "raid4_",
    "raid45_",
    "raid5_",
    "raid10_",
    "raid456_",
    "rs_",
    "r1bio_",
    "r10bio_",
    "r1buf_",
    "r5l_",
    "r5c_",
    "ppl_",
    "stripe_",
    "handle_stripe",
    "llbitmap_",
    "super_1_",
    "super_90_",
    "end_sync_",
    "raid1d",
    "raid5d",
    "raid10d",
    "dm_",
];

/// Their functions whose names do not say whose they are.
const NAMES: [&str; 132] = [
    // md-bitmap.c; lib/bitmap.c has functions that begin like these, and is nobody's.
    "bitmap_create",
    "bitmap_destroy",
    "bitmap_load",
    "bitmap_flush",
    "bitmap_startwrite",
    "bitmap_endwrite",
    "bitmap_start_sync",
    "bitmap_end_sync",
    "bitmap_close_sync",
    "bitmap_cond_end_sync",
    "bitmap_sync_with_cluster",
    "bitmap_daemon_work",
    "bitmap_unplug",
    "bitmap_unplug_async",
    "bitmap_write_all",
    "bitmap_dirty_bits",
    "bitmap_resize",
    "bitmap_copy_from_slot",
    "bitmap_get_counter",
    "bitmap_checkpage",
    "bitmap_checkfree",
    "bitmap_init_from_disk",
    "bitmap_read_sb",
    "bitmap_update_sb",
    "bitmap_new_disk_sb",
    "bitmap_set_memory_bits",
    "bitmap_storage_alloc",
    "bitmap_file_set_bit",
    "bitmap_file_clear_bit",
    "bitmap_file_unmap",
    "bitmap_file_kick",
    "bitmap_wait_writes",
    "bitmap_wait_behind_writes",
    "bitmap_start_behind_write",
    "bitmap_end_behind_write",
    "bitmap_get_stats",
    // md.c
    "stop_sync_thread",
    "prepare_to_stop_sync_thread",
    "idle_sync_thread",
    "frozen_sync_thread",
    "reap_sync_thread",
    "action_store",
    "array_state_store",
    "level_store",
    "layout_store",
    "chunk_size_store",
    "raid_disks_store",
    "suspend_lo_store",
    "suspend_hi_store",
    "new_dev_store",
    "resync_start_store",
    "reshape_position_store",
    "consistency_policy_store",
    "metadata_store",
    "sync_min_store",
    "sync_max_store",
    "do_md_run",
    "do_md_stop",
    "restart_array",
    "update_size",
    "update_raid_disks",
    "hot_add_disk",
    "hot_remove_disk",
    "remove_and_add_spares",
    "super_written",
    "sync_page_io",
    "submit_flushes",
    "bind_rdev_to_array",
    "unbind_rdev_from_array",
    "export_array",
    "autorun_devices",
    "analyze_sbs",
    // md-bitmap.c
    "write_page",
    "read_page",
    "write_sb_page",
    "read_sb_page",
    "write_file_page",
    "read_file_page",
    "filemap_write_page",
    // raid1.c, raid10.c
    "wait_barrier",
    "wait_read_barrier",
    "wait_barrier_nolock",
    "raise_barrier",
    "lower_barrier",
    "freeze_array",
    "unfreeze_array",
    "wait_blocked_dev",
    "handle_read_error",
    "fix_read_error",
    "fix_sync_read_error",
    "sync_request_write",
    "recovery_request_write",
    "reshape_request_write",
    "process_checks",
    "narrow_write_error",
    "flush_pending_writes",
    "flush_bio_list",
    // raid1.c, raid5.c, raid10.c
    "setup_conf",
    // raid5.c
    "async_copy_data",
    "alloc_stripe",
    "grow_stripes",
    "shrink_stripes",
    "reshape_request",
    "raid6_takeover",
    "raid6_check_reshape",
    "retry_aligned_read",
    "make_stripe_request",
    "add_all_stripe_bios",
    "add_stripe_bio",
    "break_stripe_batch_list",
    "ops_run_io",
    "analyse_stripe",
    "resize_stripes",
    "resize_chunks",
    "check_reshape",
    "clear_batch_ready",
    // dm.c, dm-ioctl.c, dm-table.c
    "clone_endio",
    "map_bio",
    "ctl_ioctl",
    "dev_create",
    "dev_remove",
    "dev_rename",
    "dev_suspend",
    "dev_status",
    "do_suspend",
    "do_resume",
    "table_load",
    "table_clear",
    "table_status",
    "target_message",
    // dm-integrity.c
    "integrity_metadata",
    "integrity_bio_wait",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_md_and_dm_are_known_with_and_without_modules() {
        for frame in [
            "[<0>] md_stop.isra.0+0x1b/0x30 [md_mod]",
            "loop_of_no_name+0x1/0x2 [raid456]",
            "? spin+0x1/0x2 [dm_integrity]",
            "stop_sync_thread+0x1/0x2",
            "_wait_barrier+0xba/0x190",
            "freeze_array+0x1/0x2",
            "bitmap_daemon_work+0x1/0x2",
            "__dm_destroy+0x1/0x2",
            "raid6_check_reshape",
            "r5c_flush_cache",
            "bind_rdev_to_array+0x1a5/0x430",
            "__map_bio+0x1/0x2",
            "mddev_delayed_delete+0x14/0x20 drivers/md/md.c:5893",
            "mddev_delayed_delete+0x14/0x20 drivers/md/md.c:5893 (P)",
            "md_run+0x1/0x2 [md_mod 0123456789abcdef0123456789abcdef01234567]",
        ] {
            assert!(is_storage_frame(frame), "{frame}");
        }
        for frame in [
            "raid6_select_algo+0x1/0x2 [raid6_pq]",
            "raid6_avx24_gen_syndrome+0x1/0x2 [raid6_pq]",
            "raid6_select_algo+0x1/0x2",
            "async_raid6_2data_recov+0x1/0x2 [async_raid6_recov]",
            "md_stop+0x1/0x2 [mdr_canary]",
            "schedule+0x1/0x2",
            "md5_transform",
            "bitmap_find_next_zero_area_off+0x1/0x2",
            "kref_put include/linux/kref.h:64 [inline]",
            "",
        ] {
            assert!(!is_storage_frame(frame), "{frame}");
        }
    }
}
