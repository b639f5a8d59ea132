//! Reads the backtraces that the kernel prints on request (sysrq l, w and t), and those of the panic by an
//! NMI. Pure and bounded.
//!
//! Deliberately not here: reports that the kernel makes of its own accord (`reports.rs`).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use protocol::evidence::{FRAMES_MAX, STACKS_MAX, TaskStack};
use regex::Regex;

use super::line::LogLine;
use super::stack::{frame, instruction_pointer, kept};
use super::tasks::{TaskLine, stack_of, task_line};

/// Maximum number of tasks whose parents are remembered.
const PARENTS_MAX: usize = 4096;

/// Backtraces printed since the request.
#[derive(Debug, Default)]
pub(crate) struct Backtraces {
    done: Vec<TaskStack>,
    open: Option<OpenBacktrace>,
    parents: BTreeMap<u32, u32>,
}

/// A backtrace that is still being printed.
#[derive(Debug)]
struct OpenBacktrace {
    stack: TaskStack,
    /// True inside the frames of an interrupt, which are no part of the task's stack and are skipped.
    in_interrupt: bool,
}

static ON_CPU: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^CPU: \d+ (?:UID: \d+ )?PID: (?<pid>\d+) Comm: (?<comm>.+?) (?:Not tainted|Tainted)")
        .expect("a regular expression of our own")
});
impl Backtraces {
    /// Takes the next line, with or without a time stamp.
    pub(crate) fn look(&mut self, line: &str) {
        for piece in LogLine::pieces(line) {
            self.look_at(piece.text.trim());
        }
    }

    fn look_at(&mut self, text: &str) {
        let on_cpu = || {
            let found = text.starts_with("CPU: ").then(|| ON_CPU.captures(text)).flatten()?;
            Some(stack_of(found["pid"].parse().ok()?, &found["comm"], 'R'))
        };
        let task = task_line(text);
        if let Some(TaskLine { pid, parent: Some(parent), .. }) = task
            && self.parents.len() < PARENTS_MAX
        {
            self.parents.insert(pid, parent);
        }
        if let Some(stack) = task.map(|task| task.stack()).or_else(on_cpu) {
            self.close();
            self.open = Some(OpenBacktrace { stack, in_interrupt: false });
            return;
        }
        let Some(open) = &mut self.open else { return };
        match text {
            "<IRQ>" | "<NMI>" | "<SOFTIRQ>" => open.in_interrupt = true,
            "</IRQ>" | "</NMI>" | "</SOFTIRQ>" | "<TASK>" => open.in_interrupt = false,
            "</TASK>" => self.close(),
            _ => {
                if let Some(found) = instruction_pointer(text) {
                    // Here the task was interrupted: the frames read so far are those of the interrupt that
                    // prints this.
                    open.stack.frames = vec![kept(found.text)];
                } else if let Some(found) = frame(text)
                    && !open.in_interrupt
                    // On arm64 and powerpc a sleeping task's stack begins with the switch away from it.
                    && found.function != "__switch_to"
                    && open.stack.frames.len() < FRAMES_MAX
                {
                    open.stack.frames.push(kept(found.text));
                }
            }
        }
    }

    /// Parent process of each task, by process id, as far as it was printed.
    pub(crate) fn parents(&self) -> &BTreeMap<u32, u32> {
        &self.parents
    }

    /// The backtraces: tasks on a processor first, then those in uninterruptible sleep. Idle tasks are left
    /// out.
    pub(crate) fn stacks(mut self) -> Vec<TaskStack> {
        self.close();
        let mut stacks = self.done;
        stacks.retain(|stack| matches!(stack.state, 'R' | 'D'));
        stacks.sort_by_key(|stack| stack.state != 'R');
        stacks.truncate(STACKS_MAX);
        stacks
    }

    fn close(&mut self) {
        let Some(OpenBacktrace { stack, .. }) = self.open.take() else { return };
        // The idle task of each processor has process id 0.
        if stack.pid == 0 || stack.frames.is_empty() || self.done.len() >= 4 * STACKS_MAX {
            return;
        }
        // sysrq t repeats the tasks that sysrq l and w printed.
        if !self.done.iter().any(|done| done.pid == stack.pid) {
            self.done.push(stack);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &str) -> Vec<(String, char, Vec<String>)> {
        let mut traces = Backtraces::default();
        log.lines().for_each(|line| traces.look(line));
        let plain = |frames: Vec<String>| {
            frames.iter().map(|frame| frame.split('+').next().unwrap().to_owned()).collect()
        };
        let stacks = traces.stacks().into_iter();
        stacks.map(|stack| (stack.comm, stack.state, plain(stack.frames))).collect()
    }

    #[test]
    fn what_an_interrupt_prints_is_what_it_interrupted() {
        let log = "\
[   31.0] sysrq: Show backtrace of all active CPUs
[   31.1] NMI backtrace for cpu 0
[   31.1] CPU: 0 UID: 0 PID: 77 Comm: dd Tainted: G           OE      6.12.117 #1
[   31.1] Hardware name: QEMU
[   31.1] Call Trace:
[   31.1]  <IRQ>
[   31.1]  dump_stack_lvl+0x5d/0x80
[   31.1]  </IRQ>
[   31.1]  <TASK>
[   31.1]  asm_common_interrupt+0x26/0x40
[   31.1] RIP: 0010:md_handle_request+0x12/0x200 [md_mod]
[   31.1] RSP: 0018:ffff
[   31.1]  ? prepare_to_wait+0x1/0x2
[   31.1]  raid_map+0x30/0x80 [dm_raid]
[   31.1]  </TASK>
[   31.1] NMI backtrace for cpu 1
[   31.1] CPU: 1 UID: 0 PID: 0 Comm: swapper/1 Not tainted 6.12.117 #1
[   31.1] RIP: 0010:pv_native_safe_halt+0xf/0x20
[   31.2] sysrq: Show Blocked State
[   31.2] task:md0_raid5       state:D stack:0     pid:126   tgid:126   ppid:2      flags:0x00004002
[   31.2] Call Trace:
[   31.2]  <TASK>
[   31.2]  __schedule+0x4ea/0xbe0
[   31.2]  md_super_wait+0x1/0x2 [md_mod]
[   31.2]  </TASK>
[   31.2] task:bash            state:S stack:0     pid:5     tgid:5     ppid:1      flags:0x00004002
[   31.2]  <TASK>
[   31.2]  do_wait+0x1/0x2";
        let frames = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            read(log),
            [
                ("dd".to_owned(), 'R', frames(&["md_handle_request", "raid_map"])),
                ("md0_raid5".to_owned(), 'D', frames(&["__schedule", "md_super_wait"])),
            ]
        );
    }

    #[test]
    fn who_started_whom_is_known_where_it_is_printed() {
        let mut traces = Backtraces::default();
        for line in [
            "task:md0_raid5       state:D stack:0     pid:126   tgid:126   ppid:2      flags:0x00004002",
            "[  1.0] task:dmsetup state:D stack:    0 pid:   55 ppid:    50 flags:0x00004002",
            "task:lvm  state:D stack:0 pid:56",
        ] {
            traces.look(line);
        }
        assert_eq!(traces.parents(), &BTreeMap::from([(126, 2), (55, 50)]));
    }

    /// Blocked tasks of arm64, with levels and callers, and of 5.0, where no mark ends a stack.
    #[test]
    fn blocked_tasks_of_other_formats_are_read() {
        let arm64 = "\
<6>[ 5487.973655][ T9272] sysrq: Show Blocked State
<6>[ 5487.974388][ T9272] task:md127_raid5     state:D stack:0     pid:2619  ppid:2      flags:0x00000008
<6>[ 5487.983896][ T9272] Call trace:
<6>[ 5487.987135][ T9272]  __switch_to+0xc0/0x100
<6>[ 5487.991406][ T9272]  __schedule+0x2a0/0x6b0
<6>[ 5487.999658][ T9272]  raid5d+0x358/0x56c
<6>[ 5488.016080][ T9272] task:md127_resync    state:D stack:0     pid:2620  ppid:2      flags:0x00000008
<6>[ 5488.025278][ T9272] Call trace:
<6>[ 5488.028491][ T9272]  __switch_to+0xc0/0x100
<6>[ 5488.041047][ T9272]  raid5_get_active_stripe+0x1f4/0x454";
        let frames = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            read(arm64),
            [
                ("md127_raid5".to_owned(), 'D', frames(&["__schedule", "raid5d"])),
                ("md127_resync".to_owned(), 'D', frames(&["raid5_get_active_stripe"])),
            ]
        );
        let old = "\
May 10 17:51:08 server kernel: md0_raid1       D    0   435      2 0x80000080
May 10 17:51:08 server kernel: Call Trace:
May 10 17:51:08 server kernel:  ? __schedule+0x30b/0x8b0
May 10 17:51:08 server kernel:  schedule+0x32/0x80
May 10 17:51:08 server kernel:  md_super_wait+0x69/0xa0 [md_mod]";
        assert_eq!(read(old), [("md0_raid1".to_owned(), 'D', frames(&["schedule", "md_super_wait"]))]);
    }

    #[test]
    fn a_panic_by_nmi_says_where_it_came() {
        let log = "\
[   40.0] Kernel panic - not syncing: NMI: Not continuing
[   40.0] CPU: 0 PID: 99 Comm: insmod Not tainted 6.1.0 #1
[   40.0] Call Trace:
[   40.0]  <NMI>
[   40.0]  dump_stack_lvl+0x5d/0x80
[   40.0]  end_repeat_nmi+0x16/0x67
[   40.0] RIP: 0010:spin+0x5/0x10 [canary]
[   40.0] RAX: 0
[   40.0]  ? spin+0x5/0x10 [canary]
[   40.0]  </NMI>
[   40.0]  <TASK>
[   40.0]  init+0x1/0x2 [canary]
[   40.0]  do_one_initcall+0x59/0x220";
        let frames = ["spin", "init", "do_one_initcall"].map(str::to_owned).to_vec();
        assert_eq!(read(log), [("insmod".to_owned(), 'R', frames)]);
    }
}
