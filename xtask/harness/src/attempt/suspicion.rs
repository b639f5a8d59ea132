//! A task that spins in the kernel where its stack cannot be read, for it runs on another processor than the
//! sampler: the processors are asked for their backtraces. Pure.
//!
//! Deliberately not here: when a task is suspected ([`crate::attempt::progress`]).

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::evidence::TaskStack;
use protocol::frames::is_storage_frame;

use crate::console::Backtraces;
use crate::machine::Ask;

/// Longest time for the processors to print their backtraces.
const BACKTRACES_MAX: Duration = Duration::from_secs(2);

/// The question where a task spins.
#[derive(Debug)]
pub(super) struct Suspicion {
    pid: u32,
    since: Duration,
    still_ms: u64,
    traces: Backtraces,
}

/// The answer.
#[derive(Debug)]
pub(super) struct Spin {
    pub(super) pid: u32,
    /// Time for which it has spun, milliseconds.
    pub(super) still_ms: u64,
    /// Its stacks in md or dm; none if it spins elsewhere, or was not seen.
    pub(super) stacks: Vec<TaskStack>,
    /// Parent of each process that the kernel listed, by process id.
    pub(super) parents: BTreeMap<u32, u32>,
}

impl Suspicion {
    /// Asks where the task `pid` is, which has spun for `still_ms`.
    pub(super) fn begin(at: Duration, pid: u32, still_ms: u64) -> (Self, Ask) {
        (Suspicion { pid, since: at, still_ms, traces: Backtraces::default() }, Ask::SysRq('l'))
    }

    /// Takes a line of the console.
    pub(super) fn hear(&mut self, line: &str) {
        self.traces.look(line);
    }

    /// True once the processors have had their time to answer.
    pub(super) fn is_over(&self, at: Duration) -> bool {
        at > self.since + BACKTRACES_MAX
    }

    /// The answer, as far as it came.
    pub(super) fn end(self) -> Spin {
        let Suspicion { pid, still_ms, traces, .. } = self;
        let parents = traces.parents().clone();
        let mut stacks = traces.stacks();
        stacks.retain(|stack| stack.pid == pid && stack.frames.iter().any(|frame| is_storage_frame(frame)));
        stacks.iter_mut().for_each(|stack| stack.still_ms = still_ms);
        Spin { pid, still_ms, stacks, parents }
    }
}
