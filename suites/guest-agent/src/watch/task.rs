//! A task as `/proc` shows it: its name, state, times and kernel stack.
//!
//! Reading a stack may wait for a lock of the task, so only expendable processes do it.

use std::fs;

use protocol::sample::{FRAME_MAX, FRAMES_MAX};
use rustix::process::Pid;

/// `USER_HZ`, in which `/proc/PID/stat` counts.
pub(crate) const TICKS_PER_S: u64 = 100;

/// A process's threads; it is one of them.
pub(crate) fn tasks_of(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// How often a task was given a processor, by its `/proc/PID/schedstat`.
pub(crate) fn slices(schedstat: &str) -> u64 {
    schedstat.split_whitespace().nth(2).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// A process's state letter.
pub(crate) fn state_of(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    Some(parse_stat(&stat)?.state)
}

/// The fields of `/proc/PID/stat` that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) user_ms: u64,
    pub(crate) sys_ms: u64,
}

/// Name, state, and ticks outside and in the kernel: fields 2, 3, 14 and 15 (proc(5)). The name may hold
/// anything.
pub(crate) fn parse_stat(stat: &str) -> Option<Stat> {
    let (head, rest) = stat.rsplit_once(')')?;
    let comm = head.split_once('(')?.1.chars().take(32).collect();
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let user_ticks: u64 = fields.nth(10)?.parse().ok()?;
    let sys_ticks: u64 = fields.next()?.parse().ok()?;
    let ms = |ticks: u64| ticks.saturating_mul(1000) / TICKS_PER_S;
    Some(Stat { comm, state, user_ms: ms(user_ticks), sys_ms: ms(sys_ticks) })
}

/// A kernel stack without addresses: `[<0>] md_stop+0x1c/0x60 [md_mod]` → `md_stop+0x1c/0x60 [md_mod]`.
pub(crate) fn stack(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stack")).unwrap_or_default();
    let frames = text.lines().filter_map(|line| line.split_once("] ").map(|(_, frame)| frame.trim()));
    frames.take(FRAMES_MAX).map(|frame| frame.chars().take(FRAME_MAX).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "77 (a) b (c) D 1 77 77 0 -1 4194560 1 2 3 4 50 60 0 0 20 0 1 0 100";
        let expect = Stat { comm: "a) b (c".to_owned(), state: 'D', user_ms: 500, sys_ms: 600 };
        assert_eq!(parse_stat(stat), Some(expect));
        assert_eq!(parse_stat("77 (x"), None);
    }
}
