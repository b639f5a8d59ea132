//! Parses the line that introduces a task's stack (`sched_show_task`, kernel/sched/core.c), in its form since
//! 5.11 and in the older one.
//!
//! Pure. Deliberately not here: the stack that follows.

use std::sync::LazyLock;

use protocol::evidence::TaskStack;
use regex::Regex;

/// Longest task name that is kept, characters.
const COMM_MAX: usize = 32;

/// A task whose stack follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TaskLine {
    pub(super) pid: u32,
    pub(super) comm: String,
    pub(super) state: char,
    pub(super) parent: Option<u32>,
    /// True if the line has `task_flags:`: the kernel is 6.15 or newer, and may name the holder of a lock for
    /// a hung task.
    pub(super) is_recent: bool,
}

static TASK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^task:(?<comm>.+?)\s+state:(?<state>[A-Z])\s+(?:running task\s+)?stack:\s*\d+\s+pid:\s*(?<pid>\d+)(?:\s+tgid:\s*\d+)?(?:\s+ppid:\s*(?<ppid>\d+))?(?<flags>\s+task_flags:)?",
    )
    .expect("a regular expression of our own")
});

static OLD_TASK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?<comm>\S.*?)\s+(?<state>[RSDTtXZPI])\s+(?:running task\s+)?\d+\s+(?<pid>\d+)\s+(?<ppid>\d+)\s+0x[0-9a-f]{8,16}$",
    )
    .expect("a regular expression of our own")
});

/// Parses `task:dd state:D stack:0 pid:126 tgid:126 ppid:120 flags:0x00004002`, and the older
/// `md0_raid1 D 0 435 2 0x80000080`.
pub(super) fn task_line(text: &str) -> Option<TaskLine> {
    let found = if text.starts_with("task:") {
        TASK.captures(text)
    } else if text.contains(" 0x") {
        OLD_TASK.captures(text)
    } else {
        None
    }?;
    Some(TaskLine {
        pid: found["pid"].parse().ok()?,
        comm: found["comm"].chars().take(COMM_MAX).collect(),
        state: found["state"].chars().next()?,
        parent: found.name("ppid").and_then(|parent| parent.as_str().parse().ok()),
        is_recent: found.name("flags").is_some(),
    })
}

impl TaskLine {
    /// The task without any frames yet.
    pub(super) fn stack(&self) -> TaskStack {
        stack_of(self.pid, &self.comm, self.state)
    }
}

/// A task without any frames yet.
pub(super) fn stack_of(pid: u32, comm: &str, state: char) -> TaskStack {
    let comm = comm.chars().filter(|c| !c.is_control()).take(COMM_MAX).collect();
    TaskStack { pid, comm, of_test: false, state, still_ms: 0, frames: vec![] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_read_in_every_form() {
        for (line, comm, pid, parent, is_recent) in [
            (
                "task:dd              state:D stack:0     pid:126   tgid:126   ppid:120    flags:0x00004002",
                "dd",
                126,
                Some(120),
                false,
            ),
            (
                "task:dmsetup state:D stack:    0 pid:   55 ppid:    50 flags:0x00004002",
                "dmsetup",
                55,
                Some(50),
                false,
            ),
            ("task:lvm  state:D stack:0 pid:56", "lvm", 56, None, false),
            (
                "task:(udev-worker)   state:D stack:0     pid:2934  ppid:535    flags:0x00004006",
                "(udev-worker)",
                2934,
                Some(535),
                false,
            ),
            (
                "task:cat             state:D stack:0     pid:1301  tgid:1301  ppid:1300   task_flags:0x400000 flags:0x00004002",
                "cat",
                1301,
                Some(1300),
                true,
            ),
            ("md0_raid1       D    0   435      2 0x80000080", "md0_raid1", 435, Some(2), false),
            ("my task         D    0   436      1 0x00000000", "my task", 436, Some(1), false),
        ] {
            let found = task_line(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(
                (found.comm.as_str(), found.state, found.pid, found.parent, found.is_recent),
                (comm, 'D', pid, parent, is_recent),
                "{line}"
            );
        }
        for line in ["md: md0 stopped.", "R13: 0000000000000000 R14: 0x12345678", "task: none"] {
            assert_eq!(task_line(line), None, "{line}");
        }
    }
}
