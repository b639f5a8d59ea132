//! The sampler: a process of its own that looks once a second which tasks move and which IO gets done.
//!
//! Each file that it reads may make it wait for a lock that a hang holds. So it is expendable: the agent
//! reads its samples, and goes on without them if it falls silent. Deliberately not here: what
//! standing still means, which is the harness's business.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use protocol::codec::encode;
use protocol::frames::is_storage_frame;
use protocol::sample::{EVERY_MS, STACKS_MAX, Sample, TASKS_MAX, TaskSample};
use rustix::time::{ClockId, clock_gettime};

use crate::guest;
use crate::process::cgroup;
use crate::watch::disks::{Disks, Totals};
use crate::watch::mdstat;
use crate::watch::sleeps::{Alarms, Call};
use crate::watch::syncs::{Syncs, is_sync};
use crate::watch::task::{Stat, parse_stat, slices, stack, tasks_of};
use crate::watch::waits::{Round, Waits};

/// Samples after which kernel threads are looked for again: new arrays have new threads.
const FIND_THREADS_EVERY: u32 = 5;
/// Tasks that are looked at, at most, to choose those that a sample holds.
const LOOKS_MAX: usize = 512;
/// Time that an array's thread spends in the kernel within a second if it may spin, milliseconds.
const WORKS_MS: u64 = 250;

/// Samples the processes of a cgroup until standard output is closed.
pub(crate) fn sample_main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let Some(cgroup) = args.next() else { return ExitCode::from(2) };
    let mut sampler = Sampler {
        threads: Vec::new(),
        earlier: Earlier::new(),
        alarms: Alarms::default(),
        waits: Waits::watch(),
    };
    let syncs = Syncs::watch();
    let newest_mdstat = mdstat::watch();
    for round in 0u32.. {
        let begun = Instant::now();
        if round % FIND_THREADS_EVERY == 0 {
            sampler.threads = storage_threads();
        }
        let mdstat = newest_mdstat.lock().map(|newest| newest.clone()).unwrap_or_default();
        let mut sample = sampler.look(Path::new(&cgroup));
        sample.mdstat = mdstat.all;
        sample.syncs = syncs.newest(&sample);
        let diskstats = fs::read_to_string("/proc/diskstats").unwrap_or_default();
        let Totals { done, reads, storage_writes, host_io } = Totals::of(&diskstats);
        (sample.io_done, sample.reads_done, sample.host_io) = (done, reads, host_io);
        sample.storage_writes = storage_writes;
        let earlier = &sampler.earlier;
        let mut standing: Vec<_> = sample.tasks.iter_mut().filter(|task| stands(task, earlier)).collect();
        if !standing.is_empty() {
            let disks = Disks::parse(&diskstats);
            let round = Round { disks: &disks, mdstat: &mdstat, syncs: &sample.syncs };
            sampler.waits.look(&mut standing, &round);
        }
        sampler.earlier = sample
            .tasks
            .iter()
            .map(|task| (task.pid, Before { slices: task.slices, sys_ms: task.sys_ms }))
            .collect();
        sample.cost_us = own_time_us();
        if std::io::stdout().write_all(&encode(&sample)).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(EVERY_MS).saturating_sub(begun.elapsed()));
    }
    ExitCode::SUCCESS
}

/// Each task's counters in the sample before.
type Earlier = HashMap<u32, Before>;

#[derive(Clone, Copy)]
struct Before {
    slices: u64,
    sys_ms: u64,
}

/// True for a task whose device is to be named: it is blocked and has not moved since the sample before, or
/// it is an array's thread that works a lot.
fn stands(task: &TaskSample, earlier: &Earlier) -> bool {
    let Some(before) = earlier.get(&task.pid) else { return false };
    let is_still = before.slices == task.slices;
    let works = || !task.of_test && task.sys_ms.saturating_sub(before.sys_ms) >= WORKS_MS;
    match task.state {
        'D' => is_still,
        'R' => works(),
        // A wait in md or dm that a signal could end.
        _ => is_still && task.frames.iter().any(|frame| is_storage_frame(frame)),
    }
}

struct Sampler {
    threads: Vec<u32>,
    earlier: Earlier,
    alarms: Alarms,
    waits: Waits,
}

impl Sampler {
    /// Looks at the test's tasks and at the threads of md and dm.
    fn look(&mut self, cgroup: &Path) -> Sample {
        let of_test: Vec<u32> = cgroup::pids_of(cgroup).into_iter().flat_map(tasks_of).collect();
        let (all, n_unseen) = to_look_at(&self.threads, &of_test);
        let looks = all.into_iter().filter_map(|(pid, of_test)| look(pid, of_test, &self.earlier)).collect();
        let (mut looks, n_left_out) = choose(looks);
        let n_left_out = n_left_out.saturating_add(n_unseen);
        let something_stands = looks.iter().any(|look| look.task.state == 'D' && look.may_stand);
        if something_stands {
            let asleep = looks.iter_mut().filter(|look| look.is_asleep && look.task.sleeps_ms.is_none());
            for Look { task, .. } in asleep {
                let call = fs::read_to_string(format!("/proc/{}/syscall", task.pid)).unwrap_or_default();
                task.sleeps_ms = Call::parse(&call).sleeps_by_other_means_ms(task.pid, &mut self.alarms);
            }
        }
        // Stacks of tasks that may stand still: first those in D state or running, then those that wait in a
        // state that a signal could end.
        let telling = looks.iter_mut().filter(|look| look.may_stand).map(|look| &mut look.task).collect();
        let telling = in_turn(telling, |task: &&mut TaskSample| {
            (u8::from(!matches!(task.state, 'D' | 'R')), task.of_test)
        });
        for task in telling.into_iter().take(STACKS_MAX) {
            task.frames = stack(task.pid);
        }
        Sample {
            uptime_ms: guest::uptime_ms(),
            tasks: looks.into_iter().map(|look| look.task).collect(),
            io_done: 0,
            reads_done: 0,
            storage_writes: 0,
            host_io: 0,
            mdstat: 0,
            syncs: vec![],
            cost_us: 0,
            n_left_out,
            paging: if something_stands { paging() } else { 0 },
        }
    }
}

/// Chooses the tasks that are looked at, and counts the others: the threads of md and dm come first, because
/// there are few, but half of the places are the test's if it has as many tasks.
fn to_look_at(threads: &[u32], of_test: &[u32]) -> (Vec<(u32, bool)>, u32) {
    let n_threads = threads.len().min(LOOKS_MAX - of_test.len().min(LOOKS_MAX / 2));
    let threads_first = threads.iter().take(n_threads).map(|&pid| (pid, false));
    let looked_at: Vec<_> =
        threads_first.chain(of_test.iter().map(|&pid| (pid, true))).take(LOOKS_MAX).collect();
    let n_unseen = threads.len() + of_test.len() - looked_at.len();
    (looked_at, u32::try_from(n_unseen).unwrap_or(u32::MAX))
}

/// Keeps the tasks that tell most: blocked or running ones, then the test's, then threads that are not idle.
/// Also counts those that had no place, but for idle workers, which nobody misses.
fn choose(looks: Vec<Look>) -> (Vec<Look>, u32) {
    let mut looks = in_turn(looks, |look| {
        let TaskSample { state, of_test, .. } = look.task;
        let class = match state {
            'D' => 0,
            'R' => 1,
            _ if !of_test && is_sync(&look.task.comm) => 1,
            _ if of_test => 2,
            'I' => 4,
            _ => 3,
        };
        (class, of_test)
    });
    let left_out = looks.split_off(looks.len().min(TASKS_MAX));
    let n_missed = left_out.iter().filter(|look| look.task.state != 'I').count();
    (looks, u32::try_from(n_missed).unwrap_or(u32::MAX))
}

/// Sorts by class, and within a class takes a thread and a task of the test in turn: many of the one kind
/// must not hide the other.
fn in_turn<T>(all: Vec<T>, class_of: impl Fn(&T) -> (u8, bool)) -> Vec<T> {
    let mut taken = HashMap::new();
    let mut keyed: Vec<_> = all
        .into_iter()
        .map(|one| {
            let (class, of_test) = class_of(&one);
            let n = taken.entry((class, of_test)).or_insert(0_usize);
            *n += 1;
            ((class, *n, of_test), one)
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, one)| one).collect()
}

/// Pages that were looked at for reclaim, reclaimed, and swapped in or out so far (`/proc/vmstat`).
fn paging() -> u64 {
    paged(&fs::read_to_string("/proc/vmstat").unwrap_or_default())
}

fn paged(vmstat: &str) -> u64 {
    const MOVES: [&str; 6] =
        ["pgscan_kswapd", "pgscan_direct", "pgsteal_kswapd", "pgsteal_direct", "pswpin", "pswpout"];
    let counts = vmstat.lines().filter_map(|line| line.split_once(' '));
    let moves = counts.filter(|(name, _)| MOVES.contains(name));
    moves.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).fold(0, u64::wrapping_add)
}

/// Processor time of this process, all of its threads.
fn own_time_us() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec * 1_000_000 + time.tv_nsec / 1000).unwrap_or(0)
}

/// Threads of md and dm. Workers are named by what they do at the moment, so all are looked at.
fn storage_threads() -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Kernel threads have no executable.
        if fs::read_link(format!("/proc/{pid}/exe")).is_ok() {
            continue;
        }
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let comm = comm.trim();
        let is_at_rest = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            parse_stat(&stat).is_none_or(|stat| stat.state == 'I')
        };
        if is_of_storage(comm) && !(is_rescuer(comm) && is_at_rest()) {
            found.push(pid);
        }
    }
    found
}

fn is_of_storage(comm: &str) -> bool {
    let begins = ["md", "raid", "dm", "kdmflush", "kcopyd", "jbd2", "xfsaild", "kdelayd"];
    let holds = ["_raid", "_resync", "_reshape", "_recover", "_reclaim"];
    let is_worker = comm.starts_with("kworker/")
        && ["md", "dm", "raid", "kcopyd", "kdelayd"].iter().any(|name| comm.contains(name));
    is_worker
        || begins.iter().any(|name| comm.starts_with(name))
        || holds.iter().any(|name| comm.contains(name))
}

/// True for a workqueue's rescuer, the thread that it keeps for times without memory (workqueue.c,
/// `rescuer_thread`): each dm device has one or more, and they sleep all their lives. Before 6.8 they have
/// the name of their workqueue alone.
fn is_rescuer(comm: &str) -> bool {
    let queues = ["kdmflush", "kcopyd", "kdelayd", "dm", "raid5wq", "md_"];
    if comm == "md" {
        return true;
    }
    // Of md, a thread of an array's: `md0_raid5`, `md_home_resync`.
    let is_arrays = ["_raid", "_resync", "_reshape", "_recover", "_reclaim", "_cluster"]
        .iter()
        .any(|end| comm.contains(end));
    comm.starts_with("kworker/R-") || queues.iter().any(|queue| comm.starts_with(queue)) && !is_arrays
}

/// A task without its stack, and whether that may say why it stands still.
struct Look {
    task: TaskSample,
    may_stand: bool,
    /// True if it waits in a state that a signal could end.
    is_asleep: bool,
}

/// Looks at a task. Its system call is read only if the task has not moved since the sample before: of a task
/// that moves, nobody wants to know why it stands. A task that stores into sysfs, or calls an ioctl, may wait
/// for a lock or for IO in a state that a signal could end; a resync's thread may wait to be woken.
fn look(pid: u32, of_test: bool, earlier: &Earlier) -> Option<Look> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let Stat { comm, state, user_ms, sys_ms } = parse_stat(&stat)?;
    let schedstat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let slices = slices(&schedstat);
    let is_still = earlier.get(&pid).is_some_and(|before| before.slices == slices);
    let (mut sleeps_ms, mut may_stand, mut is_asleep) = (None, state == 'D' && is_still, false);
    if state == 'R' {
        // It may spin.
        may_stand = true;
    } else if state == 'S' && of_test && is_still {
        let call = Call::parse(&fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default());
        is_asleep = true;
        sleeps_ms = call.sleeps_ms(pid, &comm);
        may_stand = sleeps_ms.is_none() && call.may_wait_for_storage();
    } else if state == 'S' && is_still {
        may_stand = is_sync(&comm);
    }
    let frames = vec![];
    let task =
        TaskSample { pid, comm, of_test, state, sys_ms, user_ms, slices, sleeps_ms, frames, storage: None };
    Some(Look { task, may_stand, is_asleep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_at_rest_are_told_from_those_that_serve() {
        for comm in [
            "kworker/R-kdmflush/252:3",
            "kdmflush/252:3",
            "kdelayd",
            "raid5wq",
            "dm_bufio_cache",
            "md_bitmap",
        ] {
            assert!(is_rescuer(comm), "{comm}");
        }
        for comm in
            ["md0_raid5", "mdX_resync", "md_home_raid1", "kworker/0:1-md", "jbd2/dm-3-8", "xfsaild/dm-3"]
        {
            assert!(!is_rescuer(comm) && is_of_storage(comm), "{comm}");
        }
    }

    fn look_of(pid: u32, of_test: bool, state: char) -> Look {
        let task = TaskSample {
            pid,
            comm: "x".into(),
            of_test,
            state,
            sys_ms: 0,
            user_ms: 0,
            slices: 0,
            sleeps_ms: None,
            frames: vec![],
            storage: None,
        };
        Look { task, may_stand: false, is_asleep: false }
    }

    #[test]
    fn many_tasks_of_the_test_do_not_hide_a_thread() {
        let fio: Vec<u32> = (1000..1600).collect();
        let (looked_at, n_unseen) = to_look_at(&[7, 8], &fio);
        assert_eq!((looked_at.len(), n_unseen), (LOOKS_MAX, 90));
        assert!(looked_at.contains(&(7, false)) && looked_at.contains(&(8, false)));
        // Nor many threads the test's tasks.
        let many: Vec<u32> = (2000..2600).collect();
        let (looked_at, n_unseen) = to_look_at(&many, &[7, 8]);
        assert_eq!((looked_at.len(), n_unseen), (LOOKS_MAX, 90));
        assert!(looked_at.contains(&(7, true)) && looked_at.contains(&(8, true)));
        let (looked_at, n_unseen) = to_look_at(&many, &fio);
        assert_eq!((looked_at.len(), n_unseen), (LOOKS_MAX, 1200 - 512));
        assert_eq!(looked_at.iter().filter(|(_, of_test)| *of_test).count(), LOOKS_MAX / 2);
    }

    #[test]
    fn a_blocked_thread_has_a_place_and_a_stack_among_many_blocked_tasks() {
        // Wherever in the list it is.
        let mut looks: Vec<_> = (0..500).map(|pid| look_of(1000 + pid, true, 'D')).collect();
        looks.push(look_of(7, false, 'D'));
        let (looks, n_left_out) = choose(looks);
        let first: Vec<_> = looks.iter().take(3).map(|look| look.task.pid).collect();
        assert_eq!((first.as_slice(), looks.len(), n_left_out), (&[7, 1000, 1001][..], TASKS_MAX, 501 - 64));
    }

    #[test]
    fn who_tells_most_has_a_place_in_a_sample() {
        let look = look_of;
        // Sixty-five devices of the test's own, a thread each; its own tasks; and what counts at the end.
        let mut looks: Vec<_> = (0..65).map(|pid| look(pid, false, 'I')).collect();
        looks.extend((100..165).map(|pid| look(pid, true, 'S')));
        looks.extend([
            look(200, false, 'S'),
            look(201, false, 'D'),
            look(202, true, 'D'),
            look(203, false, 'R'),
        ]);
        let (looks, n_left_out) = choose(looks);
        let first: Vec<_> = looks.iter().take(4).map(|look| look.task.pid).collect();
        assert_eq!((first.as_slice(), looks.len()), (&[201, 202, 203, 100][..], TASKS_MAX));
        assert_eq!(n_left_out, 5, "four of the test's and a thread; the idle ones are no loss");
    }

    #[test]
    fn pages_that_move_are_counted() {
        assert_eq!(paged("pgscan_kswapd 3\npgscan_khugepaged 9\npgscan_direct 4\nnr_dirty 7\npswpin 1\n"), 8);
    }
}
