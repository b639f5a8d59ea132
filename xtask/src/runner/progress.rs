//! Tells stuck from slow, by the guest's samples. Pure: gets samples, reads no clock.
//!
//! Slow moves: a task is given a processor now and then, a request completes, a resync advances, or a
//! sleep has an end that somebody named. Stuck does not. Windows are counted in samples, not in seconds of
//! ours, and a sample counts for as much as the host let the guest run since the one before: a guest that starves
//! is never called stuck for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::HangKind;
use protocol::evidence::{STACKS_MAX, TaskStack};
use protocol::frames::is_storage_frame;
use protocol::sample::{EVERY_MS, Sample, TaskSample};

/// Samples in which nothing at all moves, with a task of the test in D state.
const NOTHING_MOVES: u32 = 7;
/// The same while other tasks of the test only look on: they poll, and get nothing done.
const ONLY_POLLS: u32 = 15;
/// The same if nobody waits inside of md or dm: who sleeps again and again may be about to resume what a task of the
/// test waits for.
const ONLY_POLLS_OUTSIDE: u32 = 40;
/// Samples in which a sync thread stands in D state, whatever the test does.
const SYNC_STANDS: u32 = 16;
/// Samples in which a task spends its time in md or dm, and nothing gets done.
const SPINS: u32 = 12;
/// Of the time between two samples, the part that a spinning task spends in the kernel, percent.
const SPIN_PERCENT: u64 = 60;
/// A request that the host's disk has not answered makes the windows so many times as long.
const HOST_IO_PATIENCE: u32 = 4;
/// Requests that dm-delay holds back make the windows so many times as long.
const DELAY_PATIENCE: u32 = 2;
/// A task for which the kernel runs a program (`modprobe`, say) makes the windows so many times as long: nobody sees
/// that program, which is none of the test's.
const HELPER_PATIENCE: u32 = 6;
/// Samples after which a sleep that a test's task named the end of is a long one.
const LONG_SLEEP: u32 = 3;
/// Of the time between two samples, the part that must have been the guest's own for the second to count, percent.
const OWN_PERCENT: u64 = 75;
/// Reads between two samples that a poll may come to: `lvs` and `mdadm --detail` read metadata, and nothing gets
/// done by that.
const POLL_READS: u64 = 256;
/// Names of programs that are remembered.
const PROGRAMS_MAX: usize = 1000;
/// New programs in a row of samples without work that a poll may come to: one that runs for a moment twice a second is
/// first seen at any time, and a test that goes on takes one program after the other.
const POLL_PROGRAMS: u32 = 1;
/// A task that gets less processor than this between two samples only polls, milliseconds.
const POLL_MS: u64 = 400;

/// Functions that wait for a program that the kernel has started (kmod.c, umh.c, crypto/api.c).
const WAITS_FOR_A_HELPER: [&str; 4] =
    ["call_usermodehelper", "__request_module", "crypto_larval_wait", "crypto_wait_for_test"];

/// What is known of a task over time.
#[derive(Clone, Debug, Default)]
struct Seen {
    slices: u64,
    sys_ms: u64,
    user_ms: u64,
    frames: Vec<String>,
    /// Samples in a row without being given a processor.
    still: u32,
    /// Samples in a row spent in the kernel, in md or dm as far as it could be seen.
    spinning: u32,
    /// One of these samples showed it in md or dm; elsewhere than who looks, a running task shows no stack.
    in_storage: bool,
}

/// What has been seen of a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Who sleeps for longer is nobody that the test could be waiting for.
    sleep_ms_max: u64,
    /// The guest's own time that no sample has been counted for yet, milliseconds; nothing as long as the host has
    /// not said.
    own_ms: Option<u64>,
    tasks: BTreeMap<u32, Seen>,
    /// Names of all programs that the test has run so far.
    programs: BTreeSet<String>,
    last: Option<Sample>,
    /// Samples in a row in which no request completed and no resync advanced.
    nothing_done: u32,
    /// The same but for the few reads that a poll takes.
    nothing_but_polls_done: u32,
    /// Samples in a row in which no task of the test did more than poll.
    only_polls: u32,
    /// Programs that were new in these samples.
    new_programs: u32,
    /// Samples in a row in which no task of the test was given a processor.
    nobody_moves: u32,
    /// Samples in a row in which the test printed nothing.
    says_nothing: u32,
    /// Samples in a row in which no task of the test did more than poll, whatever programs it started.
    only_idles: u32,
    /// The kernel's own detectors have spoken.
    kernel_reports_hung: bool,
}

/// A hang, and the tasks that say most about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stuck {
    pub(crate) kind: HangKind,
    /// For how long nothing has moved, milliseconds.
    pub(crate) still_ms: u64,
    pub(crate) stacks: Vec<TaskStack>,
    /// The task that spins, if its stack has not been seen: the processor it is on must be asked.
    pub(crate) unseen: Option<u32>,
}

impl Progress {
    /// Of a test that is ended when it has been silent for so long.
    pub(crate) fn of_test_silent_for(timeout: Duration) -> Self {
        let sleep_ms_max = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Progress { sleep_ms_max, ..Progress::default() }
    }

    /// The host let the guest run for so long, or left it idle, since it was last asked.
    pub(crate) fn had_time(&mut self, own_ms: u64) {
        self.own_ms = Some((self.own_ms.unwrap_or(0) + own_ms).min(2 * EVERY_MS));
    }

    /// What the next sample counts for: nothing if the host kept the guest waiting most of the time.
    fn spend(&mut self) -> u32 {
        let Some(own_ms) = &mut self.own_ms else { return 1 };
        if *own_ms * 100 < EVERY_MS * OWN_PERCENT {
            return 0;
        }
        *own_ms = own_ms.saturating_sub(EVERY_MS);
        1
    }

    /// The test said something: it moves.
    pub(crate) fn spoke(&mut self) {
        self.only_polls = 0;
        self.nobody_moves = 0;
        self.says_nothing = 0;
    }

    /// True if in the last samples more was done than a poll does: a request, a resync, a computation. Who is silent
    /// all the same is slow.
    pub(crate) fn is_getting_on(&self) -> bool {
        self.last.is_some() && self.only_polls < ONLY_POLLS
    }

    /// The kernel's own detectors speak of a hung task, a lockup or a stall, which is none of the test's doing if that moves on.
    pub(crate) fn kernel_reports_hung(&mut self) {
        self.kernel_reports_hung = true;
    }

    /// What a long silence of the test's is: a hung task, if the kernel says so as well.
    pub(crate) fn kind_of_silence(&self) -> HangKind {
        if self.a_reported_task_stands() { HangKind::HungTask } else { HangKind::NoOutput }
    }

    /// True if this was a task of the test's when it was last looked at.
    pub(crate) fn is_of_test(&self, pid: u32) -> bool {
        self.last.iter().flat_map(|sample| &sample.tasks).any(|task| task.pid == pid && task.of_test)
    }

    /// It spins elsewhere than in md or dm.
    pub(crate) fn acquit(&mut self, pid: u32) {
        if let Some(seen) = self.tasks.get_mut(&pid) {
            seen.spinning = 0;
        }
    }

    /// Takes a sample; says so if the test is stuck.
    pub(crate) fn take(&mut self, sample: Sample) -> Option<Stuck> {
        let Some(last) = self.last.take() else {
            self.remember(sample);
            return None;
        };
        // The guest's clock says how much a sample is worth; one that came twice is worth nothing.
        let elapsed_ms = sample.uptime_ms.saturating_sub(last.uptime_ms);
        if elapsed_ms < EVERY_MS / 4 {
            self.last = Some(last);
            return None;
        }
        let step = self.spend();
        let count = |is_still: bool, n: u32| if is_still { n + step } else { 0 };
        let syncs_move =
            sample.syncs.iter().any(|sync| last.syncs.iter().any(|old| sync.has_moved_since(old)));
        let done = sample.io_done != last.io_done || sample.mdstat != last.mdstat || syncs_move;
        self.nothing_done = count(!done, self.nothing_done);
        let n_reads = sample.reads_done.wrapping_sub(last.reads_done);
        let only_reads = sample.io_done.wrapping_sub(last.io_done) == n_reads && n_reads <= POLL_READS;
        let much_done = done && !(only_reads && sample.mdstat == last.mdstat && !syncs_move);
        self.nothing_but_polls_done = count(!much_done, self.nothing_but_polls_done);
        let (mut moved, mut busy) = (false, false);
        let mut new_programs = BTreeSet::new();
        let mut tasks = BTreeMap::new();
        for task in &sample.tasks {
            let before = self.tasks.get(&task.pid);
            let mut seen = before.cloned().unwrap_or_default();
            let is_still = before.is_some_and(|seen| seen.slices == task.slices);
            let sys_ms = before.map_or(0, |seen| task.sys_ms.saturating_sub(seen.sys_ms));
            let spent_ms = before.map_or(0, |seen| sys_ms + task.user_ms.saturating_sub(seen.user_ms));
            seen.still = count(is_still, seen.still);
            let in_storage = task.frames.iter().any(|frame| is_storage_frame(frame));
            let spins = task.state == 'R'
                && sys_ms.saturating_mul(100) >= elapsed_ms.saturating_mul(SPIN_PERCENT)
                && (in_storage || task.frames.is_empty())
                && !much_done;
            seen.in_storage = spins && (in_storage || seen.in_storage);
            seen.spinning = count(spins, seen.spinning);
            if task.of_test {
                // One that computes may keep its processor from one sample to the next.
                moved |= !is_still || spent_ms > 0;
                if before.is_none() && self.is_new_program(&task.comm) {
                    new_programs.insert(task.comm.as_str());
                }
                busy |= spent_ms > POLL_MS;
            }
            seen.slices = task.slices;
            seen.sys_ms = task.sys_ms;
            seen.user_ms = task.user_ms;
            if !task.frames.is_empty() {
                seen.frames.clone_from(&task.frames);
            }
            tasks.insert(task.pid, seen);
        }
        self.new_programs += u32::try_from(new_programs.len()).unwrap_or(u32::MAX);
        self.tasks = tasks;
        self.remember_programs(&sample);
        self.nobody_moves = count(!(moved || done), self.nobody_moves);
        let works = busy || self.new_programs > POLL_PROGRAMS;
        self.only_polls = count(!(works || much_done), self.only_polls);
        if self.only_polls == 0 {
            self.new_programs = 0;
        }
        self.only_idles = count(!(busy || done), self.only_idles);
        self.says_nothing += step;
        self.last = Some(sample);
        self.judge()
    }

    fn remember(&mut self, sample: Sample) {
        for task in &sample.tasks {
            let TaskSample { slices, sys_ms, user_ms, .. } = *task;
            let seen = Seen { slices, sys_ms, user_ms, ..Seen::default() };
            self.tasks.insert(task.pid, seen);
        }
        self.remember_programs(&sample);
        self.last = Some(sample);
    }

    fn remember_programs(&mut self, sample: &Sample) {
        for task in sample.tasks.iter().filter(|task| task.of_test) {
            if self.programs.len() < PROGRAMS_MAX && !self.programs.contains(&task.comm) {
                self.programs.insert(task.comm.clone());
            }
        }
    }

    /// A polling loop starts the same programs again and again, also those that are seldom seen at work.
    fn is_new_program(&self, comm: &str) -> bool {
        !self.programs.contains(comm) && !["sleep", "bash", "sh", "cat", "grep"].contains(&comm)
    }

    fn judge(&self) -> Option<Stuck> {
        let newest = self.last.as_ref()?;
        let tasks = &newest.tasks;
        let patience = patience(newest);
        let waits_inside =
            |task: &TaskSample| !task.of_test || task.frames.iter().any(|frame| is_storage_frame(frame));
        let seen = |task: &TaskSample| self.tasks.get(&task.pid);
        let still = |task: &TaskSample| seen(task).map_or(0, |seen| seen.still);
        let stands = |task: &TaskSample, window: u32| is_blocked(task) && still(task) >= window;
        let is_inside = tasks.iter().any(|task| stands(task, ONLY_POLLS) && waits_inside(task));
        let polls = if is_inside { ONLY_POLLS } else { ONLY_POLLS_OUTSIDE };
        let (nothing_moves, only_polls) = (NOTHING_MOVES * patience, polls * patience);
        let test_stands = |window| tasks.iter().any(|task| task.of_test && stands(task, window));
        let stuck = |kind, window: u32| {
            let still_ms = u64::from(window) * EVERY_MS;
            Some(Stuck { kind, still_ms, stacks: self.stacks(), unseen: None })
        };
        let is_future = |task: &TaskSample| task.sleeps_ms.is_some_and(|ms| ms <= self.sleep_ms_max);
        let mut timed = tasks.iter().filter(|task| task.of_test && is_future(task));
        if timed.clone().next().is_none() && self.nobody_moves >= nothing_moves && test_stands(nothing_moves)
        {
            return stuck(HangKind::NoProgress, self.nobody_moves);
        }
        // A sleep whose end was named long ago is still to come: what waits may wait for that.
        let is_to_come = timed.any(|task| still(task) >= LONG_SLEEP);
        let nothing_gets_done = self.nothing_but_polls_done >= only_polls && self.only_polls >= only_polls;
        if !is_to_come && nothing_gets_done && test_stands(only_polls) {
            return stuck(HangKind::NoProgress, self.nothing_but_polls_done);
        }
        let spins = |task: &&TaskSample| seen(task).is_some_and(|seen| seen.spinning >= SPINS);
        if let Some((task, seen)) = tasks.iter().find(spins).and_then(|task| Some((task, seen(task)?))) {
            let unseen = (!seen.in_storage).then_some(task.pid);
            return stuck(HangKind::Livelock, seen.spinning).map(|stuck| Stuck { unseen, ..stuck });
        }
        if self.nothing_done >= ONLY_POLLS
            && self.only_idles >= ONLY_POLLS
            && self.says_nothing >= ONLY_POLLS
            && self.a_reported_task_stands()
            && !is_to_come
        {
            return stuck(HangKind::HungTask, self.nothing_done);
        }
        let sync_stands = SYNC_STANDS * patience;
        let is_stalled =
            |task: &&TaskSample| !task.of_test && is_sync(&task.comm) && stands(task, sync_stands);
        let stalled =
            tasks.iter().find(is_stalled).filter(|_| self.nothing_done >= sync_stands && !is_to_come);
        // What the arrays say themselves counts, if they say anything.
        if !newest.syncs.is_empty() && !newest.syncs.iter().any(|sync| sync.should_move) {
            return None;
        }
        stuck(HangKind::SyncStalled, still(stalled?))
    }

    /// The kernel has reported one, and one of those that are looked at still stands as long as that
    /// takes, which is at least as long as our own windows.
    fn a_reported_task_stands(&self) -> bool {
        let tasks = self.last.iter().flat_map(|sample| &sample.tasks);
        let stands = |task: &TaskSample| {
            (is_blocked(task) || task.state == 'R')
                && self.tasks.get(&task.pid).is_some_and(|seen| seen.still >= ONLY_POLLS)
        };
        self.kernel_reports_hung && tasks.into_iter().any(stands)
    }

    /// At the end of a test's time: a task of the test, or a thread of md or dm, that has stood in D state inside of md
    /// or dm with nothing done. What a limit ended then was no slow test.
    #[allow(dead_code, reason = "asked when a limit is exceeded")]
    pub(crate) fn stood_in_storage(&self) -> Option<Stuck> {
        let newest = self.last.as_ref()?;
        let window = ONLY_POLLS * patience(newest);
        let still = |task: &TaskSample| self.tasks.get(&task.pid).map_or(0, |seen| seen.still);
        let stands = |task: &&TaskSample| {
            task.state == 'D'
                && still(task) >= window
                && task.frames.iter().any(|frame| is_storage_frame(frame))
        };
        let task = newest.tasks.iter().filter(stands).max_by_key(|task| (task.of_test, still(task)))?;
        let kind = if task.of_test { HangKind::NoProgress } else { HangKind::SyncStalled };
        let still_ms = u64::from(still(task)) * EVERY_MS;
        (self.nothing_but_polls_done >= window).then(|| Stuck {
            kind,
            still_ms,
            stacks: self.stacks(),
            unseen: None,
        })
    }

    /// Where the tasks stand, by the newest sample: the test's that are blocked first, then the sync threads,
    /// then other threads of md and dm.
    pub(crate) fn stacks(&self) -> Vec<TaskStack> {
        let tasks = self.last.iter().flat_map(|sample| &sample.tasks);
        let mut telling: Vec<_> = tasks
            .filter_map(|task| {
                let seen = self.tasks.get(&task.pid)?;
                let frames = if task.frames.is_empty() { &seen.frames } else { &task.frames };
                if frames.is_empty() || !(is_blocked(task) || task.state == 'R') {
                    return None;
                }
                let rank =
                    (!task.of_test, !is_sync(&task.comm), !is_blocked(task), std::cmp::Reverse(seen.still));
                let stack = TaskStack {
                    pid: task.pid,
                    comm: task.comm.clone(),
                    of_test: task.of_test,
                    state: task.state,
                    still_ms: u64::from(seen.still) * EVERY_MS,
                    frames: frames.clone(),
                };
                Some((rank, stack))
            })
            .collect();
        telling.sort_by_key(|(rank, _)| *rank);
        telling.into_iter().map(|(_, stack)| stack).take(STACKS_MAX).collect()
    }
}

/// How many times as long as usual the windows are, by what else may be under way.
fn patience(sample: &Sample) -> u32 {
    // The host's disk is slow, or stands still: not of the guest's doing, for a while.
    let of_host = if sample.host_io > 0 { HOST_IO_PATIENCE } else { 1 };
    let has_delays = sample.tasks.iter().any(|task| task.comm.contains("kdelayd"));
    let of_delays = if has_delays { DELAY_PATIENCE } else { 1 };
    let waits = |frame: &String| WAITS_FOR_A_HELPER.iter().any(|function| frame.starts_with(function));
    let has_helper = sample.tasks.iter().any(|task| task.frames.iter().any(waits));
    let of_helper = if has_helper { HELPER_PATIENCE } else { 1 };
    of_host.max(of_delays).max(of_helper)
}

/// It waits for what only md, dm or a disk can give it: in D state, or, as `dm_suspend` waits for IO in flight
/// (dm.c, `dm_wait_for_completion`), in a state that a signal could end, if only one came.
fn is_blocked(task: &TaskSample) -> bool {
    // Who waits for an event of a device waits for as long as it likes (dm-ioctl.c, `dev_wait`).
    let waits_for_an_event = || task.frames.iter().any(|frame| frame.starts_with("dm_wait_event"));
    let in_storage = || task.frames.iter().any(|frame| is_storage_frame(frame));
    task.state == 'D' || task.of_test && task.state == 'S' && in_storage() && !waits_for_an_event()
}

fn is_sync(comm: &str) -> bool {
    ["_resync", "_reshape", "_recover"].iter().any(|name| comm.contains(name))
}

#[cfg(test)]
pub(super) mod tests {
    use protocol::sample::Sync;

    use super::*;

    /// A test in D state in `frames`, given a processor `slices` times so far.
    pub(in crate::runner) fn task(pid: u32, comm: &str, state: char, slices: u64) -> TaskSample {
        let frames =
            if matches!(state, 'D' | 'R') { vec!["md_stop+0x1/0x2 [md_mod]".to_owned()] } else { vec![] };
        TaskSample {
            pid,
            comm: comm.into(),
            of_test: !comm.starts_with("md"),
            state,
            sys_ms: 0,
            user_ms: 0,
            slices,
            sleeps_ms: None,
            frames,
        }
    }

    fn progress() -> Progress {
        Progress::of_test_silent_for(Duration::from_secs(180))
    }

    /// Plays as many samples as `make` makes until one is called stuck.
    fn play(n_samples: u64, make: impl Fn(u64) -> Sample) -> Option<(u64, HangKind)> {
        let mut progress = progress();
        (0..n_samples).find_map(|n| {
            let stuck = progress.take(make(n))?;
            assert!(!stuck.stacks.is_empty(), "nothing is shown");
            Some((n, stuck.kind))
        })
    }

    pub(in crate::runner) fn sample(n: u64, tasks: Vec<TaskSample>) -> Sample {
        Sample {
            uptime_ms: n * EVERY_MS,
            tasks,
            io_done: 0,
            reads_done: 0,
            host_io: 0,
            mdstat: 0,
            syncs: vec![],
            cost_us: 0,
        }
    }

    #[test]
    fn a_task_that_stands_in_d_state_is_stuck_within_seconds() {
        let found = play(100, |n| sample(n, vec![task(1, "bash", 'S', 5), task(2, "lvm", 'D', 9)]));
        assert_eq!(found, Some((7, HangKind::NoProgress)));
    }

    #[test]
    fn whoever_polls_does_not_hide_it() {
        let found = play(100, |n| {
            let mut sleep = task(100 + n as u32, "sleep", 'S', 1);
            sleep.sleeps_ms = Some(1000);
            sample(n, vec![task(1, "bash", 'S', 5 + n), task(2, "lvm", 'D', 9), sleep])
        });
        assert_eq!(found, Some((15, HangKind::NoProgress)));
    }

    #[test]
    fn slow_is_not_stuck() {
        let check = |what: &str, make: &dyn Fn(u64) -> Sample| assert_eq!(play(600, make), None, "{what}");
        check("it sleeps", &|n| {
            let mut sleep = task(2, "sleep", 'S', 1);
            sleep.sleeps_ms = Some(1000);
            sample(n, vec![task(1, "bash", 'S', 5), sleep])
        });
        check("a blocked read waits for a resume that will come", &|n| {
            let mut sleep = task(2, "sleep", 'S', 1);
            sleep.sleeps_ms = Some(1000);
            sample(n, vec![task(1, "dd", 'D', 5), sleep])
        });
        check("requests complete", &|n| Sample { io_done: n / 5, ..sample(n, vec![task(1, "dd", 'D', 5)]) });
        check("much is read", &|n| {
            let io_done = n * 1000;
            Sample {
                io_done,
                reads_done: io_done,
                ..sample(n, vec![task(1, "cmp", 'S', n), task(2, "dd", 'D', 5)])
            }
        });
        check("writes complete while somebody polls", &|n| {
            let (reads_done, io_done) = (n * 20, n * 20 + n / 5);
            Sample { io_done, reads_done, ..sample(n, vec![task(1, "bash", 'S', n), task(2, "dd", 'D', 5)]) }
        });
        check("a resync advances", &|n| Sample { mdstat: n / 6, ..sample(n, vec![task(1, "dd", 'D', 5)]) });
        check("it computes", &|n| sample(n, vec![task(1, "bash", 'R', 5 + n)]));
        check("it waits for a child that waits for nobody knows what", &|n| {
            sample(n, vec![task(1, "bash", 'S', 5)])
        });
        check("the sync thread is scheduled now and then", &|n| {
            sample(n, vec![task(1, "bash", 'S', n), task(2, "mdX_resync", 'D', n / 10)])
        });
    }

    /// `mdadm --detail` twice a second: in some samples it is there, in others not.
    #[test]
    fn whoever_polls_by_a_program_that_is_seldom_seen_does_not_hide_it() {
        let found = play(100, |n| {
            let mut tasks = vec![task(1, "bash", 'S', 5 + n), task(2, "dd", 'D', 9)];
            if n % 3 == 0 {
                tasks.push(task(100 + n as u32, "mdadm", 'S', 1));
            }
            // It reads metadata.
            Sample { io_done: n * 20, reads_done: n * 20, ..sample(n, tasks) }
        });
        assert_eq!(found, Some((15, HangKind::NoProgress)));
    }

    /// One that runs for a moment is in no sample at first: that it is seen at last is no work.
    #[test]
    fn a_poll_that_is_seen_late_does_not_hide_it() {
        let sees = |is_seen: fn(u64) -> bool, name: fn(u64) -> String| {
            play(100, move |n| {
                let mut tasks = vec![task(1, "bash", 'S', 5 + n), task(2, "dd", 'D', 9)];
                if is_seen(n) {
                    tasks.push(task(100 + n as u32, &name(n), 'S', 1));
                }
                sample(n, tasks)
            })
        };
        assert_eq!(sees(|n| n == 11, |_| "mdadm".into()), Some((15, HangKind::NoProgress)));
        assert_eq!(sees(|n| n % 5 == 4, |n| format!("step{n}")), None, "it goes from step to step");
    }

    #[test]
    fn a_wait_in_dm_that_a_signal_could_end_is_a_wait() {
        let suspend = |frame: &str| {
            let mut dmsetup = task(2, "dmsetup", 'S', 9);
            dmsetup.frames = vec![frame.to_owned(), "ctl_ioctl+0x1/0x2 [dm_mod]".to_owned()];
            play(100, |n| sample(n, vec![task(1, "bash", 'S', 5), dmsetup.clone()]))
        };
        let found = suspend("dm_wait_for_completion+0x1/0x2 [dm_mod]");
        assert_eq!(found, Some((7, HangKind::NoProgress)));
        assert_eq!(suspend("dm_wait_event+0x1/0x2 [dm_mod]"), None);
    }

    #[test]
    fn who_computes_is_not_stuck_beside_one_that_waits() {
        // A shell that counts up to the resume that a read waits for; and a program that never leaves its processor.
        let beside = |comm: &'static str, slices: u64| {
            play(600, move |n| {
                let mut busy = task(1, comm, 'R', 5 + n * slices);
                (busy.user_ms, busy.frames) = (n * 450, vec![]);
                let mut dd = task(2, "dd", 'D', 9);
                dd.frames = vec!["io_schedule+0x1/0x2".to_owned()];
                sample(n, vec![busy, dd])
            })
        };
        assert_eq!(beside("bash", 1), None);
        assert_eq!(beside("xz", 0), None);
    }

    #[test]
    fn steps_towards_a_resume_are_waited_for() {
        let found = |frame: &'static str, n_steps: u64| {
            play(n_steps, move |n| {
                let mut sleep = task(100 + n as u32, "sleep", 'S', 1);
                sleep.sleeps_ms = Some(1000);
                let mut dd = task(2, "dd", 'D', 9);
                dd.frames = vec![frame.to_owned()];
                sample(n, vec![task(1, "bash", 'S', 5 + n), dd, sleep])
            })
        };
        assert_eq!(found("io_schedule+0x1/0x2", 40), None, "a device that is suspended will be resumed");
        assert_eq!(found("io_schedule+0x1/0x2", 100), Some((40, HangKind::NoProgress)));
        assert_eq!(found("raid5_make_request+0x1/0x2 [raid456]", 100), Some((15, HangKind::NoProgress)));
    }

    #[test]
    fn a_sleep_that_outlasts_the_test_hides_nothing() {
        let beside = |sleeps_ms| {
            play(600, |n| {
                let mut sleep = task(3, "sleep", 'S', 1);
                sleep.sleeps_ms = Some(sleeps_ms);
                sample(n, vec![task(1, "bash", 'S', 5), task(2, "lvm", 'D', 9), sleep])
            })
        };
        assert_eq!(beside(1_000_000), Some((7, HangKind::NoProgress)));
        assert_eq!(beside(100_000), None);
        assert_eq!(beside(0), None, "nobody knows how long");
        // Whatever sleeps, a spin in md is none of its doing.
        let spin = play(100, |n| {
            let mut sleep = task(3, "sleep", 'S', 1);
            sleep.sleeps_ms = Some(100_000);
            let mut lvm = task(2, "lvm", 'R', n);
            lvm.sys_ms = n * 900;
            sample(n, vec![lvm, sleep])
        });
        assert_eq!(spin, Some((12, HangKind::Livelock)));
    }

    #[test]
    fn a_poll_does_not_hide_a_spin() {
        let found = play(100, |n| {
            let mut lvm = task(2, "lvm", 'R', n);
            lvm.sys_ms = n * 900;
            Sample { io_done: n * 8, reads_done: n * 8, ..sample(n, vec![task(1, "bash", 'S', n), lvm]) }
        });
        assert_eq!(found, Some((12, HangKind::Livelock)));
    }

    #[test]
    fn a_wait_for_a_program_of_the_kernels_and_for_a_delay_is_longer() {
        let waits = |frame: &str, thread: &str| {
            let mut lvm = task(2, "lvm", 'D', 9);
            lvm.frames = vec![frame.to_owned(), "ctl_ioctl+0x1/0x2 [dm_mod]".to_owned()];
            let mut other = task(9, thread, 'I', 1);
            (other.of_test, other.frames) = (false, vec![]);
            play(100, |n| sample(n, vec![task(1, "bash", 'S', 5), lvm.clone(), other.clone()]))
        };
        let stuck = |n| Some((n, HangKind::NoProgress));
        assert_eq!(waits("dm_suspend+0x1/0x2 [dm_mod]", "kworker/0:0"), stuck(7));
        assert_eq!(waits("call_usermodehelper_exec+0x1/0x2", "kworker/0:0"), stuck(42));
        assert_eq!(waits("dm_suspend+0x1/0x2 [dm_mod]", "kworker/R-kdelayd"), stuck(14));
    }

    #[test]
    fn time_that_the_host_kept_from_the_guest_does_not_count() {
        // A sample each second, all the same.
        let run_share = |percent: u64| {
            let mut progress = progress();
            (0..100).find_map(|n| {
                progress.had_time(EVERY_MS * percent / 100);
                let stuck =
                    progress.take(sample(n, vec![task(1, "bash", 'S', 5), task(2, "lvm", 'D', 9)]))?;
                Some((n, stuck.still_ms))
            })
        };
        assert_eq!(run_share(100), Some((7, 7000)));
        let after = |percent| run_share(percent).map(|(n, _)| n).unwrap();
        assert!(
            (13..=14).contains(&after(50)) && (50..=70).contains(&after(10)),
            "{} {}",
            after(50),
            after(10)
        );
        assert_eq!(run_share(0), None);
    }

    #[test]
    fn a_starving_guest_is_not_stuck() {
        // One sample in half a minute of ours: what counts is what the guest has seen.
        let mut progress = progress();
        for n in 0..6 {
            assert_eq!(
                progress.take(Sample { uptime_ms: n * 30_000, ..sample(n, vec![task(2, "lvm", 'D', 9)]) }),
                None
            );
        }
    }

    #[test]
    fn a_spin_in_md_is_a_livelock() {
        let spin = |n: u64| {
            let mut lvm = task(2, "lvm", 'R', n);
            lvm.sys_ms = n * 900;
            sample(n, vec![task(1, "bash", 'S', 5), lvm])
        };
        assert_eq!(play(100, spin), Some((12, HangKind::Livelock)));
        let busy_elsewhere = |n: u64| {
            let mut sample = spin(n);
            sample.tasks[1].frames = vec!["copy_page+0x1/0x2".into()];
            sample
        };
        assert_eq!(play(100, busy_elsewhere), None);
    }

    #[test]
    fn a_spin_out_of_sight_is_to_be_looked_at() {
        let mut progress = progress();
        let spin = |n: u64| {
            let mut dd = task(2, "dd", 'R', n);
            dd.sys_ms = n * 900;
            dd.frames.clear();
            sample(n, vec![task(1, "bash", 'S', 5), dd])
        };
        let stuck = (0..100).find_map(|n| progress.take(spin(n))).unwrap();
        assert_eq!((stuck.kind, stuck.unseen), (HangKind::Livelock, Some(2)));
        progress.acquit(2);
        assert_eq!((13..24).find_map(|n| progress.take(spin(n))), None, "looked at, and elsewhere");
    }

    #[test]
    fn a_hung_task_counts_while_nothing_else_moves() {
        // It waits for a daemon that stands; its own polling takes a new program each time.
        let stands = |n: u64, reported_at: u64, prints_every: u64| {
            let mut progress = progress();
            (0..n).find_map(|n| {
                if n == reported_at {
                    progress.kernel_reports_hung();
                }
                if prints_every > 0 && n % prints_every == 0 {
                    progress.spoke();
                }
                let polled = task(100 + n as u32, &format!("program{n}"), 'S', 1);
                let tasks = vec![task(1, "bash", 'S', 5 + n), polled, task(9, "md0_raid5", 'D', 7)];
                Some((n, progress.take(sample(n, tasks))?.kind))
            })
        };
        assert_eq!(stands(300, 120, 0), Some((120, HangKind::HungTask)));
        assert_eq!(stands(300, 120, 10), None, "the test goes on: a complaint, not a hang");
        assert_eq!(stands(300, 400, 0), None, "the kernel has not said so");
    }

    #[test]
    fn a_silence_is_a_hung_task_if_the_kernel_says_so() {
        let mut progress = progress();
        for n in 0..30 {
            progress.take(sample(n, vec![task(9, "md0_raid5", 'D', 7)]));
        }
        assert_eq!(progress.kind_of_silence(), HangKind::NoOutput);
        progress.kernel_reports_hung();
        assert_eq!(progress.kind_of_silence(), HangKind::HungTask);
    }

    #[test]
    fn a_disk_of_the_hosts_that_does_not_answer_is_waited_for() {
        let found = play(100, |n| Sample {
            host_io: 1,
            ..sample(n, vec![task(1, "bash", 'S', 5), task(2, "lvm", 'D', 9)])
        });
        assert_eq!(found, Some((28, HangKind::NoProgress)));
    }

    #[test]
    fn an_array_says_how_far_it_is() {
        let stands = |n: u64, position, should_move| {
            let syncs = vec![Sync { array: "vg-lv".into(), position, should_move }];
            Sample { syncs, ..sample(n, vec![task(1, "bash", 'S', n), task(2, "mdX_resync", 'D', 7)]) }
        };
        assert_eq!(play(200, |n| stands(n, 5, true)), Some((16, HangKind::SyncStalled)));
        assert_eq!(play(200, |n| stands(n, 5, false)), None, "frozen, or waiting for another array's");
        assert_eq!(play(200, |n| stands(n, n / 10, true)), None, "it moves");
    }

    #[test]
    fn a_sync_thread_waits_for_a_slow_disk_and_for_a_resume_that_is_to_come() {
        let stands = |host_io, sleeps_ms| {
            play(200, move |n| {
                let mut sleep = task(3, "sleep", 'S', 1);
                sleep.sleeps_ms = sleeps_ms;
                let tasks = vec![task(1, "bash", 'S', n), sleep, task(2, "mdX_resync", 'D', 7)];
                Sample { host_io, ..sample(n, tasks) }
            })
        };
        assert_eq!(stands(0, None), Some((16, HangKind::SyncStalled)));
        assert_eq!(stands(1, None), Some((64, HangKind::SyncStalled)));
        assert_eq!(stands(0, Some(30_000)), None);
    }

    #[test]
    fn output_does_not_hide_a_spin() {
        let mut progress = progress();
        let found = (0..100).find_map(|n| {
            progress.spoke();
            let mut lvm = task(2, "lvm", 'R', n);
            lvm.sys_ms = n * 900;
            Some((n, progress.take(sample(n, vec![task(1, "bash", 'S', n), lvm]))?.kind))
        });
        assert_eq!(found, Some((12, HangKind::Livelock)));
    }

    #[test]
    fn who_reads_writes_or_computes_is_getting_on() {
        let after = |make: &dyn Fn(u64) -> Sample| {
            let mut progress = progress();
            (0..60).for_each(|n| drop(progress.take(make(n))));
            progress.is_getting_on()
        };
        let sleeps = |n| sample(n, vec![task(1, "sleep", 'S', 1)]);
        assert!(!after(&sleeps));
        assert!(after(&|n| Sample { io_done: n, ..sleeps(n) }), "it writes");
        assert!(after(&|n| Sample { mdstat: n / 9, ..sleeps(n) }), "it waits for a resync");
        assert!(!after(&|n| Sample { io_done: n, reads_done: n, ..sleeps(n) }), "it polls");
        assert!(after(&|n| {
            let mut xz = task(1, "xz", 'R', 1);
            (xz.user_ms, xz.frames) = (n * 900, vec![]);
            sample(n, vec![xz])
        }));
        assert!(!Progress::default().is_getting_on(), "nobody has looked");
    }

    #[test]
    fn a_sync_thread_that_stands_stalls() {
        let found = play(200, |n| sample(n, vec![task(1, "bash", 'S', n), task(2, "mdX_resync", 'D', 7)]));
        assert_eq!(found, Some((16, HangKind::SyncStalled)));
    }

    #[test]
    fn at_the_limit_a_task_that_stood_in_md_was_not_slow() {
        let stood = |n_samples: u64, make: &dyn Fn(u64) -> Sample| {
            let mut progress = progress();
            (0..n_samples).for_each(|n| drop(progress.take(make(n))));
            progress.stood_in_storage().map(|stuck| stuck.kind)
        };
        let lvm = |n: u64| sample(n, vec![task(1, "bash", 'S', n), task(2, "lvm", 'D', 9)]);
        assert_eq!(stood(20, &lvm), Some(HangKind::NoProgress));
        assert_eq!(stood(10, &lvm), None, "not for long");
        let reads = |n: u64| {
            let mut dd = task(2, "dd", 'D', 9);
            dd.frames = vec!["folio_wait_bit_common+0x1/0x2".to_owned()];
            sample(n, vec![task(1, "bash", 'S', n), dd])
        };
        assert_eq!(stood(30, &reads), None, "outside of md and dm");
        assert_eq!(
            stood(60, &|n| sample(n, vec![task(9, "md0_raid5", 'D', 1)])),
            Some(HangKind::SyncStalled)
        );
    }

    #[test]
    fn the_test_and_the_sync_thread_come_first() {
        let mut progress = progress();
        for n in 0..9 {
            progress.take(sample(
                n,
                vec![
                    task(1, "bash", 'S', 5),
                    task(9, "md0_raid5", 'D', 1),
                    task(8, "mdX_resync", 'D', 7),
                    task(2, "lvm", 'D', 9),
                ],
            ));
        }
        let names: Vec<_> = progress.stacks().into_iter().map(|stack| stack.comm).collect();
        assert_eq!(names, ["lvm", "mdX_resync", "md0_raid5"]);
    }
}
