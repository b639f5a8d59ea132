//! Meaning of a task's name, state and stack in one sample, without a look at the samples before.

use protocol::frames::is_storage_frame;
use protocol::sample::TaskSample;

/// Functions that wait for a program that the kernel has started (kmod.c, umh.c, crypto/api.c).
const WAITS_FOR_A_HELPER: [&str; 4] =
    ["call_usermodehelper", "__request_module", "crypto_larval_wait", "crypto_wait_for_test"];
/// Functions of the page fault's, the allocator's and the reclaim's way down to a swap device or a file
/// (memory.c, page_io.c, swap_state.c, page_alloc.c, vmscan.c, mempool.c, filemap.c).
const WAITS_FOR_MEMORY: [&str; 12] = [
    "do_swap_page",
    "swap_read",
    "swapin_",
    "read_swap_cache",
    "handle_mm_fault",
    "filemap_fault",
    "__alloc_pages",
    "__alloc_frozen_pages",
    "try_to_free_pages",
    "shrink_",
    "throttle_direct_reclaim",
    "mempool_alloc",
];
/// Functions that wait in D state and still go when a deadly signal comes (filemap.c: `TASK_KILLABLE`).
const WAITS_KILLABLY: [&str; 5] = [
    "folio_put_wait_locked",
    "__folio_lock_killable",
    "__lock_page_killable",
    "filemap_update_page",
    "filemap_get_pages",
];

fn has_frame(task: &TaskSample, beginnings: &[&str]) -> bool {
    task.frames.iter().any(|frame| beginnings.iter().any(|beginning| frame.starts_with(beginning)))
}

/// True if a task stands in a function of md or dm.
pub(super) fn in_storage(task: &TaskSample) -> bool {
    task.frames.iter().any(|frame| is_storage_frame(frame))
}

/// True if only md, dm or a disk can end a task's wait: in D state, or, as `dm_suspend` waits for IO in
/// flight (dm.c, `dm_wait_for_completion`), in a state that a signal could end, if only one came.
pub(super) fn is_blocked(task: &TaskSample) -> bool {
    // A wait for an event of a device may last for as long as it likes (dm-ioctl.c, `dev_wait`).
    let waits_for_an_event = || has_frame(task, &["dm_wait_event"]);
    task.state == 'D' || task.of_test && task.state == 'S' && in_storage(task) && !waits_for_an_event()
}

/// True for a thread of an array's: `md0_raid5`, `mdX_resync` (md.c, `md_register_thread`).
pub(super) fn is_md_thread(task: &TaskSample) -> bool {
    !task.of_test && task.comm.starts_with("md") && task.comm.contains('_')
}

/// True for the thread of a resync, recovery, check or reshape.
pub(super) fn is_sync_thread(task: &TaskSample) -> bool {
    !task.of_test && ["_resync", "_reshape", "_recover"].iter().any(|name| task.comm.contains(name))
}

/// True if a thread may be of this array. Those of all dm-raid arrays are called `mdX_…` (dm-raid.c,
/// `raid_ctr`).
pub(super) fn may_be_of(thread: &TaskSample, array: &str) -> bool {
    match thread.comm.strip_prefix("mdX_") {
        Some(_) => !array.starts_with("md") || array.contains('-'),
        // A name ends after 15 characters (`TASK_COMM_LEN`).
        None => thread.comm.starts_with(array),
    }
}

/// True if a task stands inside of md or dm: by its stack, or by its name where there is none. The journal's
/// thread may wait for others.
pub(super) fn is_inside(task: &TaskSample) -> bool {
    in_storage(task) || task.frames.is_empty() && is_md_thread(task)
}

/// True if the kernel runs a program for a task.
pub(super) fn waits_for_a_helper(task: &TaskSample) -> bool {
    has_frame(task, &WAITS_FOR_A_HELPER)
}

/// True if a task waits for memory, or for a page of its own.
pub(super) fn waits_for_memory(task: &TaskSample) -> bool {
    has_frame(task, &WAITS_FOR_MEMORY)
}

/// True if a signal that kills ends a task's wait.
pub(super) fn dies_of_a_signal(task: &TaskSample) -> bool {
    task.state == 'S' || has_frame(task, &WAITS_KILLABLY) && !in_storage(task)
}

/// True for timeout(1): when its time is over, it sends a signal, and does nothing else.
pub(super) fn is_timeout(task: &TaskSample) -> bool {
    task.of_test && task.comm == "timeout"
}
