//! Reads the frames of a backtrace in a kernel's log, and says which of them names a bug.
//!
//! Pure. Deliberately not here: addresses to file and line, and signatures.

use std::sync::LazyLock;

use protocol::frames::is_storage_frame;
use regex::Regex;

/// One function of a backtrace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// `stop_sync_thread+0x1b2/0x230 [md_mod]`, as the log gives it.
    pub(super) text: &'a str,
    /// `stop_sync_thread`, without what the compiler appended.
    pub(super) function: &'a str,
}

static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    // An older kernel puts `[<ffffffff81234567>]` before it; `[md_mod be1…]` carries a build id.
    Regex::new(
        r"^(?:\[<[0-9a-f]+>\] )?(?<text>(?<function>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\w+(?: [0-9a-f]+)?\])?)",
    )
    .expect("a regular expression of our own")
});

/// `func+0x12/0x34 [mod]` → its parts. Nothing for `? func+…`: such an address was only found on the
/// stack, nobody knows whether it is a caller.
pub(super) fn frame(line: &str) -> Option<Frame<'_>> {
    let found = FRAME.captures(line.trim_start())?;
    let text = found.name("text").expect("a group of the expression").as_str();
    let function = found.name("function").expect("a group of the expression").as_str();
    Some(Frame { text, function: plain(function) })
}

/// True for an address that was only found on the stack.
pub(super) fn is_doubtful_frame(line: &str) -> bool {
    line.trim_start().strip_prefix("? ").is_some_and(|rest| frame(rest).is_some())
}

/// `RIP: 0010:func+0x12/0x34 [mod]` → its frame. Code segment 0x33 is user space's.
pub(super) fn instruction_pointer(line: &str) -> Option<Frame<'_>> {
    frame(line.strip_prefix("RIP: ")?.strip_prefix("0010:")?)
}

/// `raid5_run.cold`, `f.isra.0`, `f.constprop.0` → the function as it is written in C.
fn plain(function: &str) -> &str {
    function.split('.').next().unwrap_or(function)
}

/// The function that names a bug: of md or dm if `wants_md` and there is one, else the innermost one that
/// is no part of reporting, waiting, locking or entering the kernel.
pub(super) fn guilty(frames: &[String], wants_md: bool) -> Option<&str> {
    let parsed = || frames.iter().filter_map(|text| frame(text)).filter(|frame| !is_generic(frame.function));
    let of_md = || parsed().find(|frame| is_storage_frame(frame.text)).map(|frame| frame.function);
    let innermost = || parsed().next().map(|frame| frame.function);
    wants_md.then(of_md).flatten().or_else(innermost)
}

/// Functions that tell nothing about a bug because any bug may come through them.
pub(super) fn is_generic(function: &str) -> bool {
    /// By their beginning.
    const FAMILIES: [&str; 41] = [
        "dump_stack",
        "show_stack",
        "show_trace",
        "panic",
        "kasan_",
        "__kasan_",
        "kfence_",
        "kmsan_",
        "__msan_",
        "__asan_",
        "__tsan_",
        "kcsan_",
        "ubsan_",
        "__ubsan_",
        "check_region_inline",
        "print_report",
        "print_address_description",
        "__might_",
        "___might_",
        "__schedule",
        "schedule",
        "io_schedule",
        "_raw_",
        "__raw_",
        "do_raw_",
        "queued_spin_",
        "queued_read_",
        "queued_write_",
        "native_queued_",
        "__pv_queued_",
        "mutex_",
        "__mutex_",
        "rwsem_",
        "down_",
        "__down",
        "lock_",
        "__lock_",
        "lockdep_",
        "asm_",
        "sysvec_",
        "__list_",
    ];
    /// By their whole name.
    const NAMES: [&str; 100] = [
        "__warn",
        "__warn_printk",
        "report_bug",
        "handle_bug",
        "exc_invalid_op",
        "exc_page_fault",
        "exc_general_protection",
        "page_fault_oops",
        "do_user_addr_fault",
        "die",
        "die_addr",
        "oops_end",
        "__die_body",
        "__die",
        "nmi_panic",
        "warn_slowpath_fmt",
        "bad_page",
        "__schedule_bug",
        "refcount_warn_saturate",
        "check_preemption_disabled",
        "debug_smp_processor_id",
        "__this_cpu_preempt_check",
        "print_usage_bug",
        "print_circular_bug",
        "check_noncircular",
        "check_prev_add",
        "check_prevs_add",
        "validate_chain",
        "mark_lock",
        "__bad_area_nosemaphore",
        "preempt_schedule",
        "preempt_schedule_common",
        "preempt_schedule_irq",
        "preempt_schedule_thunk",
        "__cond_resched",
        "wait_for_completion",
        "wait_for_completion_io",
        "wait_for_common",
        "__wait_for_common",
        "wait_for_completion_timeout",
        "wait_for_completion_state",
        "wait_for_completion_killable",
        "wait_woken",
        "prepare_to_wait_event",
        "__wait_on_bit",
        "out_of_line_wait_on_bit",
        "bit_wait",
        "bit_wait_io",
        "wait_on_bit",
        "rt_mutex_schedule",
        "percpu_down_write",
        "percpu_rwsem_wait",
        "__percpu_down_read",
        "synchronize_rcu",
        "__synchronize_srcu",
        "synchronize_srcu",
        "usleep_range_state",
        "msleep",
        "folio_wait_bit_common",
        "folio_wait_writeback",
        "__filemap_fdatawait_range",
        "filemap_fdatawait_range",
        "file_write_and_wait_range",
        "folio_wait_bit",
        "rcu_sched_clock_irq",
        "print_cpu_stall",
        "check_cpu_stall",
        "rcu_pending",
        "update_process_times",
        "tick_nohz_handler",
        "tick_sched_handle",
        "tick_sched_timer",
        "__hrtimer_run_queues",
        "hrtimer_interrupt",
        "local_apic_timer_interrupt",
        "__sysvec_apic_timer_interrupt",
        "sched_show_task",
        "rcu_dump_cpu_stacks",
        "nmi_cpu_backtrace",
        "nmi_trigger_cpumask_backtrace",
        "arch_trigger_cpumask_backtrace",
        "trigger_single_cpu_backtrace",
        "watchdog_timer_fn",
        "watchdog_overflow_callback",
        "watchdog_hardlockup_check",
        "cpu_relax",
        "pv_native_safe_halt",
        "memcpy",
        "memset",
        "memmove",
        "memcmp",
        "strcpy",
        "strlen",
        "strncpy",
        "strcmp",
        "__memcpy",
        "__memset",
        "memcpy_orig",
        "memset_orig",
        "rep_movs_alternative",
    ];
    /// By their whole name: how the kernel is entered, which every task's stack ends with.
    const ENTRIES: [&str; 14] = [
        "entry_SYSCALL_64_after_hwframe",
        "do_syscall_64",
        "x64_sys_call",
        "ret_from_fork",
        "kthread",
        "syscall_exit_to_user_mode",
        "__do_softirq",
        "handle_softirqs",
        "irq_exit_rcu",
        "__irq_exit_rcu",
        "do_idle",
        "cpu_startup_entry",
        "default_idle",
        "default_idle_call",
    ];
    FAMILIES.iter().any(|family| function.starts_with(family))
        || NAMES.contains(&function)
        || ENTRIES.contains(&function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_from_guesses_and_words() {
        let whole = "stop_sync_thread+0x1b2/0x230 [md_mod]";
        let line = format!("  {whole}");
        let found = frame(&line).unwrap();
        assert_eq!((found.text, found.function), (whole, "stop_sync_thread"));
        assert_eq!(frame(" raid5_run.cold+0x1/0x2").unwrap().function, "raid5_run");
        assert_eq!(frame(" [<ffffffff81234567>] vfs_write+0x1/0x2").unwrap().function, "vfs_write");
        assert_eq!(frame(" ? vfs_write+0x1/0x2"), None);
        assert!(is_doubtful_frame("  ? vfs_write+0x1/0x2") && !is_doubtful_frame(" ? what"));
        assert_eq!(frame("md: md0 stopped."), None);
        assert_eq!(instruction_pointer("RIP: 0010:md_run+0x1/0x2 [md_mod]").unwrap().function, "md_run");
        assert_eq!(instruction_pointer("RIP: 0033:0x7f175a57f3a7"), None);
    }

    #[test]
    fn generic_functions_name_no_bug() {
        let frames = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| name.replacen(' ', "+0x1/0x2 ", 1)).collect()
        };
        let stuck = frames(&[
            "__schedule ",
            "schedule ",
            "blkdev_get ",
            "raid_ctr [dm_raid]",
            "dev_suspend [dm_mod]",
        ]);
        assert_eq!(guilty(&stuck, false), Some("blkdev_get"));
        assert_eq!(guilty(&stuck, true), Some("raid_ctr"));
        assert_eq!(guilty(&frames(&["dump_stack_lvl ", "do_syscall_64 "]), true), None);
    }
}
