//! The sampler: a process of its own that looks once a second at who moves and what gets done.
//!
//! Each file that it reads may make it wait for a lock that a hang holds. So it is expendable: the agent
//! reads what it says, and goes on without it if it falls silent. Deliberately not here: what
//! standing still means, which is the harness's business.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use protocol::codec::encode;
use protocol::sample::{EVERY_MS, FRAME_MAX, FRAMES_MAX, STACKS_MAX, Sample, TASKS_MAX, TaskSample};

use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

use crate::guest;
use crate::sleeps::Call;
use crate::syncs::Syncs;

/// First argument of the stage.
pub(crate) const SAMPLE: &str = "sample";

/// Kernel threads are looked for again so often: new arrays have new threads.
const FIND_THREADS_EVERY: u32 = 5;
/// `USER_HZ`, in which `/proc/PID/stat` counts.
const TICKS_PER_S: u64 = 100;

/// Samples the processes of a cgroup until standard output is closed.
pub(crate) fn sample_main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let Some(cgroup) = args.next() else { return ExitCode::from(2) };
    let members = format!("{cgroup}/cgroup.procs");
    let mut threads = Vec::new();
    let syncs = Syncs::watch();
    let mdstat = watch_mdstat();
    let mut earlier = Earlier::new();
    for round in 0u32.. {
        let begun = Instant::now();
        if round % FIND_THREADS_EVERY == 0 {
            threads = storage_threads();
        }
        let mut sample = sample(&members, &threads, &earlier, mdstat.load(Ordering::Relaxed));
        earlier = sample.tasks.iter().map(|task| (task.pid, task.slices)).collect();
        sample.syncs = syncs.newest(&sample);
        let line = encode(&sample);
        if std::io::stdout().write_all(&line).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(EVERY_MS).saturating_sub(begun.elapsed()));
    }
    ExitCode::SUCCESS
}

/// Reads `/proc/mdstat` once a second in a thread of its own: it takes locks of each array, which a hang may hold,
/// and then the other samples go on without.
fn watch_mdstat() -> Arc<AtomicU64> {
    let newest = Arc::new(AtomicU64::new(0));
    let of_thread = Arc::clone(&newest);
    // Without it, samples are poorer.
    let _ = std::thread::Builder::new().name("mdstat".into()).spawn(move || {
        loop {
            let text = fs::read_to_string("/proc/mdstat").unwrap_or_default();
            of_thread.store(hash_of_what_moves(&text), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(EVERY_MS));
        }
    });
    newest
}

/// How often each task had been given a processor by the sample before.
type Earlier = HashMap<u32, u64>;

fn sample(members: &str, threads: &[u32], earlier: &Earlier, mdstat: u64) -> Sample {
    let text = fs::read_to_string(members).unwrap_or_default();
    let of_test = text.lines().filter_map(|line| line.parse().ok()).flat_map(tasks_of);
    let all = of_test.map(|pid| (pid, true)).chain(threads.iter().map(|&pid| (pid, false)));
    let mut looks: Vec<_> =
        all.filter_map(|(pid, of_test)| look(pid, of_test, earlier)).take(TASKS_MAX).collect();
    // Stacks of those that may stand still: in the kernel without a say, or running; then those that wait there
    // in a state that a signal could end.
    let mut telling: Vec<_> =
        looks.iter_mut().filter(|look| look.may_stand).map(|look| &mut look.task).collect();
    telling.sort_by_key(|task| !matches!(task.state, 'D' | 'R'));
    for task in telling.into_iter().take(STACKS_MAX) {
        task.frames = stack(task.pid);
    }
    let tasks = looks.into_iter().map(|look| look.task).collect();
    let (io_done, reads_done, host_io) = io();
    Sample {
        uptime_ms: guest::uptime_ms(),
        tasks,
        io_done,
        reads_done,
        host_io,
        mdstat,
        syncs: vec![],
        cost_us: own_time_us(),
    }
}

/// Processor time of this process, all of its threads.
fn own_time_us() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec * 1_000_000 + time.tv_nsec / 1000).unwrap_or(0)
}

/// A process's threads; it is one of them.
pub(crate) fn tasks_of(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
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
        let begins = ["md", "raid", "dm", "kdmflush", "kcopyd", "jbd2", "xfsaild", "kdelayd"];
        let holds = ["_raid", "_resync", "_reshape", "_recover", "_reclaim"];
        let is_worker = comm.starts_with("kworker/")
            && ["md", "dm", "raid", "kcopyd", "kdelayd"].iter().any(|name| comm.contains(name));
        if is_worker
            || begins.iter().any(|name| comm.starts_with(name))
            || holds.iter().any(|name| comm.contains(name))
        {
            found.push(pid);
        }
    }
    found
}

/// A task without its stack, and whether that may say why it stands still.
struct Look {
    task: TaskSample,
    may_stand: bool,
}

/// What takes more than a look at its counters is asked only of a task that has not moved since the sample before: of
/// one that moves, nobody wants to know why it stands. Who stores into sysfs, or calls an ioctl, may wait for a lock or
/// for IO in a state that a signal could end.
fn look(pid: u32, of_test: bool, earlier: &Earlier) -> Option<Look> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let Stat { comm, state, user_ms, sys_ms } = parse_stat(&stat)?;
    let schedstat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let slices = slices(&schedstat);
    let is_still = earlier.get(&pid) == Some(&slices);
    let (mut sleeps_ms, mut may_stand) = (None, state == 'D' && is_still);
    if state == 'R' {
        // It may spin.
        may_stand = true;
    } else if state == 'S' && of_test && is_still {
        let call = Call::parse(&fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default());
        sleeps_ms = call.sleeps_ms(pid);
        may_stand = sleeps_ms.is_none() && call.may_wait_for_storage();
    }
    let frames = vec![];
    let task = TaskSample { pid, comm, of_test, state, sys_ms, user_ms, slices, sleeps_ms, frames };
    Some(Look { task, may_stand })
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

/// What of `/proc/PID/stat` counts here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) user_ms: u64,
    pub(crate) sys_ms: u64,
}

/// Name, state, and ticks outside and in the kernel: fields 2, 3, 14 and 15 (proc(5)). The name may hold anything.
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

/// Requests that all devices have completed, the reads among them, and those that the host's have not.
fn io() -> (u64, u64, u32) {
    io_of(&fs::read_to_string("/proc/diskstats").unwrap_or_default())
}

/// By `/proc/diskstats` (iostats.rst): fields 4, 8, 15 and 19 of each device are reads, writes, discards and
/// flushes; field 12 what is in flight.
fn io_of(diskstats: &str) -> (u64, u64, u32) {
    let (mut done, mut reads, mut host_io) = (0u64, 0u64, 0u32);
    for line in diskstats.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let field = |idx: usize| fields.get(idx).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        done = [3, 7, 14, 18].into_iter().map(field).fold(done, u64::wrapping_add);
        reads = reads.wrapping_add(field(3));
        if fields.get(2).is_some_and(|name| name.starts_with("vd")) {
            host_io = host_io.saturating_add(u32::try_from(field(11)).unwrap_or(u32::MAX));
        }
    }
    (done, reads, host_io)
}

/// Hash of `/proc/mdstat` without what changes as time goes by: `finish=` and `speed=` are derived from the
/// clock (md.c, `status_resync`), and go on changing while a resync stands still.
fn hash_of_what_moves(mdstat: &str) -> u64 {
    let derived = |word: &str| word.starts_with("finish=") || word.starts_with("speed=");
    let mut hasher = DefaultHasher::new();
    mdstat.split_whitespace().filter(|word| !derived(word)).for_each(|word| word.hash(&mut hasher));
    hasher.finish()
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

    #[test]
    fn requests_are_counted_and_those_of_the_host_apart() {
        let text = " 253 0 vda 10 0 80 5 3 0 24 1 2 4 6 0 0 0 0 1 0\n 9 0 md0 1 0 8 0 1 0 8 0 7 0 0\n";
        assert_eq!(io_of(text), (16, 11, 2));
    }
}
