//! Tells stuck from slow, by the guest's samples. Pure: gets samples, reads no clock.
//!
//! Slow moves: a task is given a processor now and then, a request completes, a resync advances, or a
//! sleep has an end that somebody named. Stuck does not. Windows are counted in samples, not in seconds of
//! ours: a guest that the host lets starve sends few of them, and so is never called stuck for it.

use std::collections::BTreeMap;

use protocol::HangKind;
use protocol::evidence::{STACKS_MAX, TaskStack};
use protocol::sample::{EVERY_MS, Sample, TaskSample};

/// Samples in which nothing at all moves, with a task of the test in D state.
const NOTHING_MOVES: u32 = 7;
/// The same while other tasks of the test only look on: they poll, and get nothing done.
const ONLY_POLLS: u32 = 20;
/// Samples in which a sync thread stands in D state, whatever the test does.
const SYNC_STANDS: u32 = 30;
/// Samples in which a task spends its time in md or dm, and nothing gets done.
const SPINS: u32 = 12;
/// Of the time between two samples, the part that a spinning task spends in the kernel, percent.
const SPIN_PERCENT: u64 = 60;
/// Samples after which a sleep that a test's task named the end of is a long one.
const LONG_SLEEP: u32 = 3;
/// A task that gets less processor than this between two samples only polls, milliseconds.
const POLL_MS: u64 = 300;

/// Beginnings of functions, and modules, of md and dm.
const STORAGE: [&str; 9] =
    ["md_", "raid", "dm_", "mddev_", "r5", "handle_stripe", "make_stripe", "__md_", "__dm_"];

/// What is known of a task over time.
#[derive(Clone, Debug, Default)]
struct Seen {
    slices: u64,
    sys_ms: u64,
    frames: Vec<String>,
    /// Samples in a row without being given a processor.
    still: u32,
    /// Samples in a row spent in the kernel, in md or dm.
    spinning: u32,
}

/// What has been seen of a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    tasks: BTreeMap<u32, Seen>,
    last: Option<Sample>,
    /// Samples in a row in which no request completed and no resync advanced.
    nothing_done: u32,
    /// Samples in a row in which no task of the test did more than poll.
    only_polls: u32,
    /// Samples in a row in which no task of the test was given a processor.
    nobody_moves: u32,
}

/// A hang, and the tasks that say most about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stuck {
    pub(crate) kind: HangKind,
    /// For how long nothing has moved, milliseconds.
    pub(crate) still_ms: u64,
    pub(crate) stacks: Vec<TaskStack>,
}

impl Progress {
    /// The test said something: it moves.
    pub(crate) fn spoke(&mut self) {
        self.only_polls = 0;
        self.nobody_moves = 0;
        self.tasks.values_mut().for_each(|seen| seen.spinning = 0);
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
        let done = sample.io_done != last.io_done || sample.mdstat != last.mdstat;
        self.nothing_done = if done { 0 } else { self.nothing_done + 1 };
        let (mut moved, mut worked) = (false, false);
        let mut tasks = BTreeMap::new();
        for task in &sample.tasks {
            let before = self.tasks.get(&task.pid);
            let mut seen = before.cloned().unwrap_or_default();
            let is_still = before.is_some_and(|seen| seen.slices == task.slices);
            let spent_ms = before.map_or(0, |seen| task.sys_ms.saturating_sub(seen.sys_ms));
            seen.still = if is_still { seen.still + 1 } else { 0 };
            let in_storage = task.frames.iter().any(|frame| is_storage(frame));
            let spins =
                task.state == 'R' && spent_ms * 100 >= elapsed_ms * SPIN_PERCENT && in_storage && !done;
            seen.spinning = if spins { seen.spinning + 1 } else { 0 };
            if task.of_test {
                moved |= !is_still;
                // A new process, or one that computes.
                worked |= before.is_none() && !self.knows(&task.comm, &last) || spent_ms > POLL_MS;
            }
            seen.slices = task.slices;
            seen.sys_ms = task.sys_ms;
            if !task.frames.is_empty() {
                seen.frames.clone_from(&task.frames);
            }
            tasks.insert(task.pid, seen);
        }
        self.tasks = tasks;
        self.nobody_moves = if moved || done { 0 } else { self.nobody_moves + 1 };
        self.only_polls = if worked || done { 0 } else { self.only_polls + 1 };
        self.last = Some(sample);
        self.judge()
    }

    fn remember(&mut self, sample: Sample) {
        for task in &sample.tasks {
            let seen = Seen { slices: task.slices, sys_ms: task.sys_ms, ..Seen::default() };
            self.tasks.insert(task.pid, seen);
        }
        self.last = Some(sample);
    }

    /// A polling loop starts the same programs again and again.
    fn knows(&self, comm: &str, last: &Sample) -> bool {
        last.tasks.iter().any(|task| task.comm == comm)
            || ["sleep", "bash", "sh", "cat", "grep"].contains(&comm)
    }

    fn judge(&self) -> Option<Stuck> {
        let tasks = &self.last.as_ref()?.tasks;
        let seen = |task: &TaskSample| self.tasks.get(&task.pid);
        let still = |task: &TaskSample| seen(task).map_or(0, |seen| seen.still);
        let stands = |task: &TaskSample, window: u32| task.state == 'D' && still(task) >= window;
        let test_stands = |window| tasks.iter().any(|task| task.of_test && stands(task, window));
        let stuck = |kind, window: u32| {
            Some(Stuck { kind, still_ms: u64::from(window) * EVERY_MS, stacks: self.stacks() })
        };
        let mut timed = tasks.iter().filter(|task| task.of_test && task.timed);
        if timed.clone().next().is_none() && self.nobody_moves >= NOTHING_MOVES && test_stands(NOTHING_MOVES)
        {
            return stuck(HangKind::NoProgress, self.nobody_moves);
        }
        // A sleep whose end was named long ago is still to come.
        if timed.any(|task| still(task) >= LONG_SLEEP) {
            return None;
        }
        if self.nothing_done >= ONLY_POLLS && self.only_polls >= ONLY_POLLS && test_stands(ONLY_POLLS) {
            return stuck(HangKind::NoProgress, self.nothing_done);
        }
        let spins = tasks.iter().filter_map(seen).map(|seen| seen.spinning).find(|&spins| spins >= SPINS);
        if let Some(spins) = spins {
            return stuck(HangKind::Livelock, spins);
        }
        let is_stalled =
            |task: &&TaskSample| !task.of_test && is_sync(&task.comm) && stands(task, SYNC_STANDS);
        let stalled = tasks.iter().find(is_stalled).filter(|_| self.nothing_done >= SYNC_STANDS);
        stuck(HangKind::SyncStalled, still(stalled?))
    }

    /// Where the tasks stand, by the newest sample: the test's that are blocked first, then the sync threads,
    /// then other threads of md and dm.
    pub(crate) fn stacks(&self) -> Vec<TaskStack> {
        let tasks = self.last.iter().flat_map(|sample| &sample.tasks);
        let mut telling: Vec<_> = tasks
            .filter_map(|task| {
                let seen = self.tasks.get(&task.pid)?;
                let frames = if task.frames.is_empty() { &seen.frames } else { &task.frames };
                if frames.is_empty() || !matches!(task.state, 'D' | 'R') {
                    return None;
                }
                let rank =
                    (!task.of_test, !is_sync(&task.comm), task.state != 'D', std::cmp::Reverse(seen.still));
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

fn is_sync(comm: &str) -> bool {
    ["_resync", "_reshape", "_recover"].iter().any(|name| comm.contains(name))
}

fn is_storage(frame: &str) -> bool {
    STORAGE.iter().any(|name| frame.starts_with(name))
        || ["[md_mod]", "[raid", "[dm_"].iter().any(|module| frame.contains(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test in D state in `frames`, given a processor `slices` times so far.
    fn task(pid: u32, comm: &str, state: char, slices: u64) -> TaskSample {
        let frames =
            if matches!(state, 'D' | 'R') { vec!["md_stop+0x1/0x2 [md_mod]".to_owned()] } else { vec![] };
        TaskSample {
            pid,
            comm: comm.into(),
            of_test: !comm.starts_with("md"),
            state,
            sys_ms: 0,
            slices,
            timed: false,
            frames,
        }
    }

    /// Plays as many samples as `make` makes until one is called stuck.
    fn play(n_samples: u64, make: impl Fn(u64) -> Sample) -> Option<(u64, HangKind)> {
        let mut progress = Progress::default();
        (0..n_samples).find_map(|n| {
            let stuck = progress.take(make(n))?;
            assert!(!stuck.stacks.is_empty(), "nothing is shown");
            Some((n, stuck.kind))
        })
    }

    fn sample(n: u64, tasks: Vec<TaskSample>) -> Sample {
        Sample { uptime_ms: n * EVERY_MS, tasks, io_done: 0, mdstat: 0, cost_us: 0 }
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
            sleep.timed = true;
            sample(n, vec![task(1, "bash", 'S', 5 + n), task(2, "lvm", 'D', 9), sleep])
        });
        assert_eq!(found, Some((20, HangKind::NoProgress)));
    }

    #[test]
    fn slow_is_not_stuck() {
        let check = |what: &str, make: &dyn Fn(u64) -> Sample| assert_eq!(play(600, make), None, "{what}");
        check("it sleeps", &|n| {
            let mut sleep = task(2, "sleep", 'S', 1);
            sleep.timed = true;
            sample(n, vec![task(1, "bash", 'S', 5), sleep])
        });
        check("a blocked read waits for a resume that will come", &|n| {
            let mut sleep = task(2, "sleep", 'S', 1);
            sleep.timed = true;
            sample(n, vec![task(1, "dd", 'D', 5), sleep])
        });
        check("requests complete", &|n| Sample { io_done: n / 5, ..sample(n, vec![task(1, "dd", 'D', 5)]) });
        check("a resync advances", &|n| Sample { mdstat: n / 6, ..sample(n, vec![task(1, "dd", 'D', 5)]) });
        check("it computes", &|n| sample(n, vec![task(1, "bash", 'R', 5 + n)]));
        check("it waits for a child that waits for nobody knows what", &|n| {
            sample(n, vec![task(1, "bash", 'S', 5)])
        });
        check("the sync thread is scheduled now and then", &|n| {
            sample(n, vec![task(1, "bash", 'S', n), task(2, "mdX_resync", 'D', n / 20)])
        });
    }

    #[test]
    fn a_starving_guest_is_not_stuck() {
        // One sample in half a minute of ours: what counts is what the guest has seen.
        let mut progress = Progress::default();
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
    fn a_sync_thread_that_stands_stalls() {
        let found = play(200, |n| sample(n, vec![task(1, "bash", 'S', n), task(2, "mdX_resync", 'D', 7)]));
        assert_eq!(found, Some((30, HangKind::SyncStalled)));
    }

    #[test]
    fn the_test_and_the_sync_thread_come_first() {
        let mut progress = Progress::default();
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
