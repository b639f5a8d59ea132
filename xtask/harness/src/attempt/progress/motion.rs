//! The motion of one task from sample to sample, and of all devices together.

use protocol::sample::{Sample, Storage, Sync, TaskSample};

use super::tasks;

/// Most reads between two samples that may be a poll's: `lvs` and `mdadm --detail` read metadata, and nothing
/// gets done by that.
const POLL_READS: u64 = 256;
/// Share of the time between two samples that a spinning task spends in the kernel, percent.
pub(super) const SPIN_PERCENT: u64 = 60;

/// Samples after which a task that was given a processor once has not moved. One that waits for direct IO
/// wakes after half of `hung_task_timeout_secs`, and sleeps again (blk-core.c, `blk_io_schedule`).
const LOOKS_UP_AFTER: u32 = 25;

/// Whether more got done than a poll does.
fn is_much(n_done: u64, n_reads: u64) -> bool {
    n_done != 0 && (n_done != n_reads || n_reads > POLL_READS)
}

/// Work done on all devices between two samples. It counts for a task of which nobody knows what it waits
/// for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    /// Anything at all.
    pub(super) any: bool,
    /// More than a poll does: requests.
    pub(super) requests: bool,
    /// A resync, recovery or reshape advanced.
    pub(super) syncs: bool,
    /// Something was written to a device of md's or dm's.
    pub(super) storage_writes: bool,
}

impl Done {
    pub(super) fn between(last: &Sample, now: &Sample) -> Self {
        let moved = |sync: &Sync| last.syncs.iter().any(|old| sync.has_moved_since(old));
        let syncs = now.mdstat != last.mdstat || now.syncs.iter().any(moved);
        let n_done = now.io_done.wrapping_sub(last.io_done);
        let requests = is_much(n_done, now.reads_done.wrapping_sub(last.reads_done));
        let storage_writes = now.storage_writes != last.storage_writes;
        Done { any: n_done != 0 || syncs, requests, syncs, storage_writes }
    }

    pub(super) fn is_much(self) -> bool {
        self.requests || self.syncs
    }
}

/// Between two looks at what a task waits for, more got done there than a poll does.
fn moved(old: &Storage, new: &Storage) -> bool {
    let n_reads = new.reads.wrapping_sub(old.reads);
    old.device != new.device || old.syncs != new.syncs || is_much(new.done.wrapping_sub(old.done), n_reads)
}

/// The motion of one task, as far as it was sampled.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskMotion {
    slices: u64,
    sys_ms: u64,
    user_ms: u64,
    storage: Option<Storage>,
    /// The task's newest stack.
    pub(super) frames: Vec<String>,
    /// Samples in a row without being given a processor.
    pub(super) still: u32,
    /// Samples in a row in which nothing got done, but for polls, on the device that it waits for.
    pub(super) idle: u32,
    /// Samples in a row spent in the kernel, in md or dm as far as it could be seen.
    pub(super) spinning: u32,
    /// One of these samples showed the task in md or dm. A task that runs on another processor than the
    /// sampler shows no stack.
    pub(super) in_storage: bool,
    /// The kernel's own detectors spoke while it stood here.
    pub(super) is_reported: bool,
}

/// The newest sample's word on a task.
pub(super) struct Step {
    /// Time that the task spent in the kernel, milliseconds.
    pub(super) sys_ms: u64,
    /// Time that it spent on a processor, milliseconds.
    pub(super) spent_ms: u64,
    /// The task was given a processor, or kept one.
    pub(super) has_moved: bool,
    /// More got done than a poll does where it waits or works.
    pub(super) much_done: bool,
}

/// The time between two samples: its weight, and the work done in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    /// 1 if the newer sample counts, else 0.
    pub(super) step: u32,
    pub(super) elapsed_ms: u64,
    pub(super) done: Done,
}

impl Interval {
    pub(super) fn count(&self, goes_on: bool, n: u32) -> u32 {
        if goes_on { n.saturating_add(self.step) } else { 0 }
    }
}

impl TaskMotion {
    /// The motion of a task that was not there before.
    pub(super) fn new(task: &TaskSample) -> Self {
        let TaskSample { slices, sys_ms, user_ms, frames, storage, .. } = task.clone();
        TaskMotion { slices, sys_ms, user_ms, frames, storage, ..TaskMotion::default() }
    }

    /// Takes the next look at it.
    pub(super) fn take(&mut self, task: &TaskSample, between: &Interval) -> Step {
        let sys_ms = task.sys_ms.saturating_sub(self.sys_ms);
        let spent_ms = sys_ms.saturating_add(task.user_ms.saturating_sub(self.user_ms));
        let looks_up = task.state == 'D'
            && self.still >= LOOKS_UP_AFTER
            && task.slices == self.slices.saturating_add(1)
            && spent_ms == 0;
        let is_still = self.slices == task.slices || looks_up;
        let in_storage = tasks::in_storage(task);
        // The guest names the device only once the task has stood for a while: until then, that nothing was
        // done anywhere says enough.
        let much_done = match (&self.storage, &task.storage) {
            // A task that waits outside of md and dm, nobody knows for what, may wait for any device.
            (Some(_), Some(new)) if new.device.is_empty() && !in_storage && task.of_test => {
                between.done.is_much()
            }
            (Some(old), Some(new)) => moved(old, new),
            // The guest does not name the device of a task that seemed to move.
            (Some(_), None) if looks_up => false,
            (None | Some(_), None | Some(_)) => between.done.is_much(),
        };
        self.still = between.count(is_still, self.still);
        self.idle = between.count(!much_done, self.idle);
        self.is_reported &= is_still;
        let spins = task.state == 'R'
            && sys_ms.saturating_mul(100) >= between.elapsed_ms.saturating_mul(SPIN_PERCENT)
            && (in_storage || task.frames.is_empty())
            && !much_done;
        self.in_storage = spins && (in_storage || self.in_storage);
        self.spinning = between.count(spins, self.spinning);
        (self.slices, self.sys_ms, self.user_ms) = (task.slices, task.sys_ms, task.user_ms);
        if !looks_up || task.storage.is_some() {
            self.storage.clone_from(&task.storage);
        }
        if !task.frames.is_empty() {
            self.frames.clone_from(&task.frames);
        }
        // One that computes may keep its processor from one sample to the next.
        Step { sys_ms, spent_ms, has_moved: !is_still || spent_ms > 0, much_done }
    }

    /// Samples for which it has stood while nothing was done on the device that it waits for.
    pub(super) fn stood(&self) -> u32 {
        self.still.min(self.idle)
    }
}
