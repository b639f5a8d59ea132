//! Tells a hang from slowness, by the guest's samples. Pure: gets samples, reads no clock.
//!
//! A slow test moves: a task is given a processor now and then, a request completes, a resync advances, or a
//! sleep has an end that somebody named. A test that hangs does not. Evidence is kept by task and by device:
//! what goes on beside a task that stands says nothing of it, but for tasks that might end its wait. Windows
//! are counted in samples, not in seconds of ours, and a sample counts for as much as the host let the guest
//! run since the one before: a guest that starves is never said to hang for it.
//!
//! Where to look: the rules are a table ([`rules`]), from which docs/how/hang-detection.md has its own;
//! [`judge`] holds the rows against what was seen; [`motion`] keeps that for each task, [`tasks`] reads names
//! and stacks. The snapshot of `tests/matrix.rs` says which row is met when, under each circumstance that
//! lengthens or excuses: whoever adds an exception sees there which verdicts move.
//!
//! Deliberately not here: what the guest looks at (`suites/guest-agent`), and a guest that says nothing
//! ([`super::heartbeat`]).

mod judge;
mod motion;
mod rules;
mod tasks;

#[cfg(test)]
mod tests;

use crate::clock::millis;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::HangKind;
use protocol::evidence::TaskStack;
use protocol::sample::{EVERY_MS, Sample, TaskSample};

use motion::{Done, Interval, SPIN_PERCENT, TaskMotion};
use rules::IDLES;
use tasks::is_md_thread;

/// A sample counts only if the host let the guest run (or the guest idled) for at least this share of the
/// interval before it, percent.
const OWN_PERCENT: u64 = 75;
/// Names of programs that are remembered.
const PROGRAMS_MAX: usize = 1000;
/// New program names that may appear while a test only polls. A short-lived poller can escape the 1 Hz
/// sampling at first; more new names mean that the test is moving on.
const POLL_PROGRAMS: u32 = 1;
/// Processor time between two samples below which a task only polls, milliseconds.
const POLL_MS: u64 = 400;
/// Samples among which [`REQUESTS_IN`] must have seen requests complete for a silent test to be getting on.
const REQUESTS_LOOKED_AT: u32 = 15;
/// Samples with requests that make a silent test one that is getting on. Fewer may be the log's daemon and
/// the file system of the guest's own, which write now and then whatever the test does.
const REQUESTS_IN: u32 = 4;
/// Samples after which the newest move of a page no longer says that memory is short.
const PAGING_COUNTS_FOR: u32 = 5;

/// Motion of a test's tasks, and of its devices, by its samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Longest sleep that the test could be waiting for, milliseconds.
    sleep_ms_max: u64,
    /// The guest's own time that no sample has been counted for yet, milliseconds; nothing as long as the
    /// host has not said.
    own_ms: Option<u64>,
    /// By process id.
    tasks: BTreeMap<u32, TaskMotion>,
    /// By array: samples in a row in which its resync, recovery or reshape did not advance.
    arrays: BTreeMap<String, u32>,
    /// Names of all programs that the test has run so far.
    programs: BTreeSet<String>,
    /// The newest sample.
    last: Option<Sample>,
    /// Programs that were new in the samples of `same_programs`.
    new_programs: u32,
    /// One bit for each of the last samples, the newest lowest: requests completed.
    requests: u32,
    rows: Rows,
    /// The kernel's own detectors have spoken, and the task that they mean has not been seen yet.
    kernel_reports_hung: bool,
    /// Samples that counted.
    watched: u32,
}

/// Samples in a row of which something is true.
#[derive(Clone, Copy, Debug, Default)]
struct Rows {
    /// No task of the test was given a processor.
    nobody_moves: u32,
    /// None did more than poll.
    only_polls: u32,
    /// None took programs that it had not had.
    same_programs: u32,
    /// None computed, and nothing was done on any device.
    only_idles: u32,
    /// The test printed nothing.
    says_nothing: u32,
    /// Nothing shows that the test gets on with anything.
    no_work: u32,
    /// Tasks that work in md or dm spent all of a processor on that, together, and got nothing done.
    spin_together: u32,
    /// No page was reclaimed or swapped.
    no_paging: u32,
    /// Nothing but polls was done on any device.
    all_idle: u32,
}

/// Activity of all tasks in the interval before a sample.
#[derive(Clone, Copy, Debug, Default)]
struct Activity {
    /// A task of the test was given a processor, or is new.
    moved: bool,
    /// A task of the test did more than poll.
    busy: bool,
    /// Time that tasks in md or dm spent in the kernel, together, milliseconds.
    spin_ms: u64,
    /// One of them got something done.
    spin_done: bool,
    /// Programs of the test that it had not had before.
    n_new_programs: u32,
}

/// A hang, and the tasks that say most about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hang {
    pub(crate) kind: HangKind,
    /// Time for which nothing has moved, milliseconds.
    pub(crate) still_ms: u64,
    pub(crate) stacks: Vec<TaskStack>,
    /// The task that spins, if its stack has not been seen: the processor it is on must be asked.
    pub(crate) unseen: Option<u32>,
}

impl Progress {
    /// The progress of a test that is given up when it has been silent for `timeout`.
    pub(crate) fn of_test_silent_for(timeout: Duration) -> Self {
        let sleep_ms_max = millis(timeout);
        let rows = Rows { no_paging: PAGING_COUNTS_FOR, ..Rows::default() };
        Progress { sleep_ms_max, rows, ..Progress::default() }
    }

    /// The host let the guest run for so long, or left it idle, since it was last asked.
    pub(crate) fn had_time(&mut self, own_ms: u64) {
        self.own_ms = Some((self.own_ms.unwrap_or(0).saturating_add(own_ms)).min(2 * EVERY_MS));
    }

    /// Weight of the next sample, 1 or 0: nothing if the host kept the guest waiting most of the time.
    fn spend(&mut self) -> u32 {
        let Some(own_ms) = &mut self.own_ms else { return 1 };
        if *own_ms * 100 < EVERY_MS * OWN_PERCENT {
            return 0;
        }
        *own_ms = own_ms.saturating_sub(EVERY_MS);
        1
    }

    /// True once it has been watched for so many samples that counted, and for as long as the kernel may take
    /// to end by itself what a task of the test waits for now.
    pub(crate) fn was_watched_for(&self, samples: u32) -> bool {
        let of_test = self.newest().filter(|task| task.of_test);
        let ends_ms = of_test.filter_map(|task| Some(task.storage.as_ref()?.ends_ms)).max().unwrap_or(0);
        let more = u32::try_from(ends_ms.div_ceil(EVERY_MS)).unwrap_or(u32::MAX);
        self.watched >= samples.saturating_add(more)
    }

    /// The test said something: it is not silent. What stands in storage stands all the same.
    pub(crate) fn spoke(&mut self) {
        self.rows.says_nothing = 0;
    }

    /// True if in the last samples more was done than a poll does: requests, a resync, a computation. Who is
    /// silent all the same is slow.
    pub(crate) fn is_getting_on(&self) -> bool {
        self.last.is_some() && self.rows.no_work < IDLES
    }

    /// The kernel's own detectors speak of a hung task, a lockup or a stall: one of those that stand now, and
    /// none of the test's doing if that moves on.
    pub(crate) fn kernel_reports_hung(&mut self) {
        for seen in self.tasks.values_mut() {
            seen.is_reported = seen.still > 0;
        }
        // It may not have been looked at yet.
        self.kernel_reports_hung = !self.tasks.values().any(|seen| seen.is_reported);
    }

    /// The kind of hang that a long silence of the test is: a hung task, if the kernel says so as well.
    pub(crate) fn kind_of_silence(&self) -> HangKind {
        let stands = self.newest().any(|task| self.reported(task) >= IDLES);
        if stands { HangKind::HungTask } else { HangKind::NoOutput }
    }

    /// True if this was a task of the test's when it was last looked at.
    pub(crate) fn is_of_test(&self, pid: u32) -> bool {
        self.newest().any(|task| task.pid == pid && task.of_test)
    }

    /// The task that was said to spin is elsewhere than in md or dm.
    pub(crate) fn spins_elsewhere(&mut self, pid: u32) {
        if let Some(seen) = self.tasks.get_mut(&pid) {
            seen.spinning = 0;
        }
    }

    /// Time for which a sampler that has fallen silent in the kernel may be waiting for something that ends
    /// by itself, or by the test's doing, milliseconds after its newest sample.
    pub(crate) fn may_wait_ms(&self) -> u64 {
        let sleeps = self.newest().filter(|task| task.of_test && !tasks::is_timeout(task));
        let slept = sleeps.filter_map(|task| {
            let ms = task.sleeps_ms.filter(|ms| *ms <= self.sleep_ms_max)?;
            // A sleep without an end that was named may last as long as a test may be silent.
            Some(if ms == 0 { self.sleep_ms_max } else { ms })
        });
        let ended = self.newest().filter_map(|task| Some(task.storage.as_ref()?.ends_ms));
        slept.chain(ended).max().unwrap_or(0).min(self.sleep_ms_max)
    }

    fn newest(&self) -> impl Iterator<Item = &TaskSample> {
        self.last.iter().flat_map(|sample| &sample.tasks)
    }

    // ---- what is seen ------------------------------------------------------------------------

    /// Takes a sample; says so if the test is stuck.
    pub(crate) fn take(&mut self, sample: Sample) -> Option<Hang> {
        let sample = sample.bounded();
        let Some(last) = self.last.take() else {
            self.tasks = sample.tasks.iter().map(|task| (task.pid, TaskMotion::new(task))).collect();
            self.remember(sample);
            return None;
        };
        // The guest's clock says how much a sample is worth; one that came twice is worth nothing.
        let elapsed_ms = sample.uptime_ms.saturating_sub(last.uptime_ms);
        if elapsed_ms < EVERY_MS / 4 {
            self.last = Some(last);
            return None;
        }
        let between = Interval { step: self.spend(), elapsed_ms, done: Done::between(&last, &sample) };
        self.watched = self.watched.saturating_add(between.step);
        self.look_at_arrays(&last, &sample, &between);
        let activity = self.look_at_tasks(&sample, &between);
        self.count_rows(&last, &sample, &between, &activity);
        self.remember(sample);
        self.judge()
    }

    fn look_at_arrays(&mut self, last: &Sample, now: &Sample, between: &Interval) {
        self.rows.all_idle = between.count(!between.done.is_much(), self.rows.all_idle);
        let unmoved = now.syncs.iter().map(|sync| {
            let has_moved = last.syncs.iter().any(|old| sync.has_moved_since(old));
            let n = self.arrays.get(&sync.array).map(|n| between.count(!has_moved, *n));
            // Arrays are asked seldom, and only when there is something to ask.
            (sync.array.clone(), n.unwrap_or(self.rows.all_idle))
        });
        self.arrays = unmoved.collect();
    }

    /// Looks at each task, and gives what all of them did in the interval.
    fn look_at_tasks(&mut self, now: &Sample, between: &Interval) -> Activity {
        let mut activity = Activity::default();
        let mut new_programs = BTreeSet::new();
        let mut tasks = BTreeMap::new();
        for task in &now.tasks {
            let before = self.tasks.remove(&task.pid);
            let is_new = before.is_none();
            let mut seen = before.unwrap_or_else(|| TaskMotion::new(task));
            let step = if is_new { None } else { Some(seen.take(task, between)) };
            if task.of_test {
                activity.moved |= step.as_ref().is_none_or(|step| step.has_moved);
                activity.busy |= step.as_ref().is_some_and(|step| step.spent_ms > POLL_MS);
                if is_new && self.is_new_program(&task.comm) {
                    new_programs.insert(task.comm.as_str());
                }
            }
            if let Some(step) = step.filter(|_| is_md_thread(task) || tasks::in_storage(task)) {
                activity.spin_ms = activity.spin_ms.saturating_add(step.sys_ms);
                activity.spin_done |= step.sys_ms > 0 && step.much_done;
            }
            tasks.insert(task.pid, seen);
        }
        if self.kernel_reports_hung {
            self.kernel_reports_hung = false;
            tasks.values_mut().for_each(|seen| seen.is_reported = seen.still > 0);
        }
        self.tasks = tasks;
        activity.n_new_programs = u32::try_from(new_programs.len()).unwrap_or(u32::MAX);
        activity
    }

    /// Counts on in how many samples in a row each thing was so.
    fn count_rows(&mut self, last: &Sample, now: &Sample, between: &Interval, activity: &Activity) {
        let &Activity { moved, busy, spin_ms, spin_done, n_new_programs } = activity;
        self.new_programs = self.new_programs.saturating_add(n_new_programs);
        let goes_on = self.new_programs > POLL_PROGRAMS;
        if goes_on || busy {
            self.new_programs = 0;
        }
        self.requests = self.requests << 1 | u32::from(between.done.requests);
        let n_with_requests = (self.requests & ((1 << REQUESTS_LOOKED_AT) - 1)).count_ones();
        let Done { syncs, storage_writes, .. } = between.done;
        let works = busy || goes_on || syncs || storage_writes || n_with_requests >= REQUESTS_IN;
        let spins =
            spin_ms.saturating_mul(100) >= between.elapsed_ms.saturating_mul(SPIN_PERCENT) && !spin_done;
        let pages = now.paging != 0 && last.paging != 0 && now.paging != last.paging;
        let rows = self.rows;
        self.rows = Rows {
            nobody_moves: between.count(!moved, rows.nobody_moves),
            only_polls: between.count(!(busy || goes_on), rows.only_polls),
            same_programs: between.count(!goes_on, rows.same_programs),
            only_idles: between.count(!(busy || between.done.any), rows.only_idles),
            says_nothing: between.count(true, rows.says_nothing),
            no_work: between.count(!works, rows.no_work),
            spin_together: between.count(spins, rows.spin_together),
            no_paging: between.count(!pages, rows.no_paging),
            all_idle: rows.all_idle,
        };
    }

    fn remember(&mut self, sample: Sample) {
        for task in sample.tasks.iter().filter(|task| task.of_test) {
            if self.programs.len() < PROGRAMS_MAX && !self.programs.contains(&task.comm) {
                self.programs.insert(task.comm.clone());
            }
        }
        self.last = Some(sample);
    }

    /// A polling loop starts the same programs again and again, also those that are seldom seen at work.
    fn is_new_program(&self, comm: &str) -> bool {
        !self.programs.contains(comm) && !["sleep", "bash", "sh", "cat", "grep"].contains(&comm)
    }
}
