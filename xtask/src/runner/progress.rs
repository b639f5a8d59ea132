//! Tells stuck from slow, by the guest's samples. Pure: gets samples, reads no clock.
//!
//! Slow moves: a task is given a processor now and then, a request completes, a resync advances, or a
//! sleep has an end that somebody named. Stuck does not. Windows are counted in samples, not in seconds of
//! ours: a guest that the host lets starve sends few of them, and so is never called stuck for it.

use std::collections::{BTreeMap, BTreeSet};

use protocol::HangKind;
use protocol::evidence::{STACKS_MAX, TaskStack};
use protocol::sample::{EVERY_MS, Sample, TaskSample};

/// Samples in which nothing at all moves, with a task of the test in D state.
const NOTHING_MOVES: u32 = 7;
/// The same while other tasks of the test only look on: they poll, and get nothing done.
const ONLY_POLLS: u32 = 15;
/// Samples in which a sync thread stands in D state, whatever the test does.
const SYNC_STANDS: u32 = 16;
/// Samples in which a task spends its time in md or dm, and nothing gets done.
const SPINS: u32 = 12;
/// Of the time between two samples, the part that a spinning task spends in the kernel, percent.
const SPIN_PERCENT: u64 = 60;
/// A request that the host's disk has not answered makes the windows so many times as long.
const HOST_IO_PATIENCE: u32 = 4;
/// Samples after which a sleep that a test's task named the end of is a long one.
const LONG_SLEEP: u32 = 3;
/// Reads between two samples that a poll may come to: `lvs` and `mdadm --detail` read metadata, and nothing gets
/// done by that.
const POLL_READS: u64 = 256;
/// Names of programs that are remembered.
const PROGRAMS_MAX: usize = 1000;
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
    /// Samples in a row spent in the kernel, in md or dm as far as it could be seen.
    spinning: u32,
    /// One of these samples showed it in md or dm; elsewhere than who looks, a running task shows no stack.
    in_storage: bool,
}

/// What has been seen of a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
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
    /// The test said something: it moves.
    pub(crate) fn spoke(&mut self) {
        self.only_polls = 0;
        self.nobody_moves = 0;
        self.says_nothing = 0;
        self.tasks.values_mut().for_each(|seen| seen.spinning = 0);
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
        let syncs_move =
            sample.syncs.iter().any(|sync| last.syncs.iter().any(|old| sync.has_moved_since(old)));
        let done = sample.io_done != last.io_done || sample.mdstat != last.mdstat || syncs_move;
        self.nothing_done = if done { 0 } else { self.nothing_done + 1 };
        let n_reads = sample.reads_done.wrapping_sub(last.reads_done);
        let only_reads = sample.io_done.wrapping_sub(last.io_done) == n_reads && n_reads <= POLL_READS;
        let much_done = done && !(only_reads && sample.mdstat == last.mdstat && !syncs_move);
        self.nothing_but_polls_done = if much_done { 0 } else { self.nothing_but_polls_done + 1 };
        let (mut moved, mut worked, mut busy) = (false, false, false);
        let mut tasks = BTreeMap::new();
        for task in &sample.tasks {
            let before = self.tasks.get(&task.pid);
            let mut seen = before.cloned().unwrap_or_default();
            let is_still = before.is_some_and(|seen| seen.slices == task.slices);
            let spent_ms = before.map_or(0, |seen| task.sys_ms.saturating_sub(seen.sys_ms));
            seen.still = if is_still { seen.still + 1 } else { 0 };
            let in_storage = task.frames.iter().any(|frame| is_storage(frame));
            let spins = task.state == 'R'
                && spent_ms.saturating_mul(100) >= elapsed_ms.saturating_mul(SPIN_PERCENT)
                && (in_storage || task.frames.is_empty())
                && !done;
            seen.in_storage = spins && (in_storage || seen.in_storage);
            seen.spinning = if spins { seen.spinning + 1 } else { 0 };
            if task.of_test {
                moved |= !is_still;
                // A new process, or one that computes.
                worked |= before.is_none() && self.is_new_program(&task.comm) || spent_ms > POLL_MS;
                busy |= spent_ms > POLL_MS;
            }
            seen.slices = task.slices;
            seen.sys_ms = task.sys_ms;
            if !task.frames.is_empty() {
                seen.frames.clone_from(&task.frames);
            }
            tasks.insert(task.pid, seen);
        }
        self.tasks = tasks;
        self.remember_programs(&sample);
        self.nobody_moves = if moved || done { 0 } else { self.nobody_moves + 1 };
        self.only_polls = if worked || much_done { 0 } else { self.only_polls + 1 };
        self.only_idles = if busy || done { 0 } else { self.only_idles + 1 };
        self.says_nothing += 1;
        self.last = Some(sample);
        self.judge()
    }

    fn remember(&mut self, sample: Sample) {
        for task in &sample.tasks {
            let seen = Seen { slices: task.slices, sys_ms: task.sys_ms, ..Seen::default() };
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
        // The host's disk is slow, or stands still: not of the guest's doing, for a while.
        let patience = if newest.host_io > 0 { HOST_IO_PATIENCE } else { 1 };
        let (nothing_moves, only_polls) = (NOTHING_MOVES * patience, ONLY_POLLS * patience);
        let seen = |task: &TaskSample| self.tasks.get(&task.pid);
        let still = |task: &TaskSample| seen(task).map_or(0, |seen| seen.still);
        let stands = |task: &TaskSample, window: u32| is_blocked(task) && still(task) >= window;
        let test_stands = |window| tasks.iter().any(|task| task.of_test && stands(task, window));
        let stuck = |kind, window: u32| {
            let still_ms = u64::from(window) * EVERY_MS;
            Some(Stuck { kind, still_ms, stacks: self.stacks(), unseen: None })
        };
        let mut timed = tasks.iter().filter(|task| task.of_test && task.timed);
        if timed.clone().next().is_none() && self.nobody_moves >= nothing_moves && test_stands(nothing_moves)
        {
            return stuck(HangKind::NoProgress, self.nobody_moves);
        }
        // A sleep whose end was named long ago is still to come.
        if timed.any(|task| still(task) >= LONG_SLEEP) {
            return None;
        }
        let nothing_gets_done = self.nothing_but_polls_done >= only_polls && self.only_polls >= only_polls;
        if nothing_gets_done && test_stands(only_polls) {
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
        {
            return stuck(HangKind::HungTask, self.nothing_done);
        }
        let is_stalled =
            |task: &&TaskSample| !task.of_test && is_sync(&task.comm) && stands(task, SYNC_STANDS);
        let stalled = tasks.iter().find(is_stalled).filter(|_| self.nothing_done >= SYNC_STANDS);
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

/// It waits for what only md, dm or a disk can give it: in D state, or, as `dm_suspend` waits for IO in flight
/// (dm.c, `dm_wait_for_completion`), in a state that a signal could end, if only one came.
fn is_blocked(task: &TaskSample) -> bool {
    // Who waits for an event of a device waits for as long as it likes (dm-ioctl.c, `dev_wait`).
    let waits_for_an_event = || task.frames.iter().any(|frame| frame.starts_with("dm_wait_event"));
    let in_storage = || task.frames.iter().any(|frame| is_storage(frame));
    task.state == 'D' || task.of_test && task.state == 'S' && in_storage() && !waits_for_an_event()
}

fn is_sync(comm: &str) -> bool {
    ["_resync", "_reshape", "_recover"].iter().any(|name| comm.contains(name))
}

/// True for a frame of md or dm.
pub(super) fn is_storage(frame: &str) -> bool {
    STORAGE.iter().any(|name| frame.starts_with(name))
        || ["[md_mod]", "[raid", "[dm_"].iter().any(|module| frame.contains(module))
}

#[cfg(test)]
mod tests {
    use protocol::sample::Sync;

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
            sleep.timed = true;
            sample(n, vec![task(1, "bash", 'S', 5 + n), task(2, "lvm", 'D', 9), sleep])
        });
        assert_eq!(found, Some((15, HangKind::NoProgress)));
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
    fn a_spin_out_of_sight_is_to_be_looked_at() {
        let mut progress = Progress::default();
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
            let mut progress = Progress::default();
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
        let mut progress = Progress::default();
        for n in 0..30 {
            progress.take(Sample { io_done: n, ..sample(n, vec![task(9, "md0_raid5", 'D', 7)]) });
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
    fn a_sync_thread_that_stands_stalls() {
        let found = play(200, |n| sample(n, vec![task(1, "bash", 'S', n), task(2, "mdX_resync", 'D', 7)]));
        assert_eq!(found, Some((16, HangKind::SyncStalled)));
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
