//! Times of the threads that execute a guest, as the host's scheduler counts them (`/proc`).
//!
//! Deliberately not here: which threads those are ([`super::qmp`]), and what their times say of a guest that
//! is silent ([`crate::attempt`]).

use std::time::Instant;

use super::{HostTimes, ThreadTimes};
use crate::clock::millis;

/// The threads of one hypervisor process.
pub(super) struct Threads {
    /// The process, whose first thread serves the devices.
    pid: u32,
    since: Instant,
}

impl Threads {
    /// Those of process `pid`, which has just been started.
    pub(super) fn of(pid: u32) -> Self {
        Threads { pid, since: Instant::now() }
    }

    /// The times until now of the devices' thread, and of `vcpus`, the virtual processors' threads.
    pub(super) fn times(&self, vcpus: &[u32]) -> HostTimes {
        let at_ms = millis(self.since.elapsed());
        let of = |&thread: &u32| self.times_of(thread).unwrap_or_default();
        HostTimes { at_ms, devices: of(&self.pid), vcpus: vcpus.iter().map(of).collect() }
    }

    /// Nothing on a host that keeps no such books, where each thread counts as never kept waiting.
    fn times_of(&self, thread: u32) -> Option<ThreadTimes> {
        let folder = format!("/proc/{}/task/{thread}", self.pid);
        let text = std::fs::read_to_string(format!("{folder}/schedstat")).ok()?;
        let mut ns = text.split_whitespace().map(|word| word.parse::<u64>().unwrap_or_default());
        let (ran_ms, waited_ms) = (ns.next()? / 1_000_000, ns.next()? / 1_000_000);
        let stat = std::fs::read_to_string(format!("{folder}/stat")).unwrap_or_default();
        let (is_blocked, major_faults) = blocked_and_faults(&stat);
        Some(ThreadTimes { ran_ms, waited_ms, is_blocked, major_faults })
    }
}

/// Of a line of `/proc/PID/stat` (proc(5)): whether the state is D, and `majflt`, nine fields later. The name
/// before them may hold anything.
fn blocked_and_faults(stat: &str) -> (bool, u64) {
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let major_faults = rest.split(' ').nth(9).and_then(|field| field.parse().ok()).unwrap_or_default();
    (rest.starts_with('D'), major_faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_of_a_thread_are_read_behind_whatever_its_name_is() {
        let line = "7 (CPU 0) S) D 1 7 7 0 -1 4194368 120 0 35 0 9 9 0 0 20 0";
        assert_eq!(blocked_and_faults(line), (true, 35));
        assert_eq!(blocked_and_faults("7 (x) R 1"), (false, 0));
        assert_eq!(blocked_and_faults(""), (false, 0));
    }
}
