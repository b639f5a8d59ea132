//! The cgroup of one test: its processes, the time that they used, and how they are killed.
//!
//! Reads nothing that can wait for a lock which a wedged process holds: of `/proc/PID` only
//! `comm` and `stat` (`cmdline` waits for the memory map's lock). The parsers are pure.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::paths::CGROUPS;

/// How deep a test may nest cgroups of its own and still be seen.
const DEPTH: usize = 6;

/// A live process of the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) comm: String,
    pub(crate) state: char,
}

/// The cgroup of one test.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes an empty cgroup. A cgroup that an earlier attempt of the same number left is used again.
    pub(crate) fn create(attempt: u32) -> io::Result<Self> {
        let path = Path::new(CGROUPS).join(format!("test-{attempt}"));
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(Self { path }),
        }
    }

    /// Its folder in the mount of cgroup2.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// True while a process lives in it or below. Zombies do not count.
    pub(crate) fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events"))
            .is_ok_and(|events| flat_value(&events, "populated") == Some(1))
    }

    /// User and system time of all that ever ran in it, milliseconds.
    pub(crate) fn cpu_ms(&self) -> Option<(u64, u64)> {
        let stat = fs::read_to_string(self.path.join("cpu.stat")).ok()?;
        Some((flat_value(&stat, "user_usec")? / 1000, flat_value(&stat, "system_usec")? / 1000))
    }

    /// The live processes, at most `limit`.
    pub(crate) fn processes(&self, limit: usize) -> Vec<Process> {
        let mut pids = Vec::new();
        collect_pids(&self.path, DEPTH, &mut pids);
        pids.into_iter().filter_map(process).take(limit).collect()
    }

    /// Sends SIGKILL to everything in it. Does not wait.
    pub(crate) fn kill(&self) {
        if fs::write(self.path.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        // Kernels before 5.14 have no such file; a process that forks meanwhile is met again,
        // because the caller repeats this until the cgroup is empty.
        let mut pids = Vec::new();
        collect_pids(&self.path, DEPTH, &mut pids);
        for pid in pids.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Removes it, as far as the processes in it allow.
    pub(crate) fn remove(&self) {
        remove_tree(&self.path, DEPTH);
    }
}

/// The processes of a cgroup and of the cgroups below it. Whether there are any below shows in the number of
/// links to the folder (kernfs), without reading the folder.
pub(crate) fn pids_of(path: &Path) -> Vec<u32> {
    let mut pids = Vec::new();
    let has_children = fs::metadata(path).is_ok_and(|folder| folder.nlink() > 2);
    collect_pids(path, if has_children { DEPTH } else { 0 }, &mut pids);
    pids
}

fn children(path: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

fn collect_pids(path: &Path, depth: usize, pids: &mut Vec<u32>) {
    let procs = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    pids.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
    if depth > 0 {
        children(path).for_each(|child| collect_pids(&child, depth - 1, pids));
    }
}

fn remove_tree(path: &Path, depth: usize) {
    if depth > 0 {
        children(path).for_each(|child| remove_tree(&child, depth - 1));
    }
    let _ = fs::remove_dir(path);
}

/// Name and state of a process that still lives.
pub(crate) fn process(pid: u32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let state = live_state(&String::from_utf8_lossy(&stat))?;
    Some(Process { pid, comm: String::from_utf8_lossy(&comm).trim_end().to_owned(), state })
}

/// The value of `key` in a flat keyed file.
fn flat_value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The state letter in `/proc/PID/stat`; `None` for the dead.
///
/// A zombie with more than one thread is alive: its first thread has ended, and another one,
/// perhaps stuck in the kernel, has not.
fn live_state(stat: &str) -> Option<char> {
    // The name is in parentheses and may hold anything, parentheses and newlines included.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let n_threads: u64 = fields.nth(16).and_then(|field| field.parse().ok()).unwrap_or(1);
    let dead = matches!(state, 'X' | 'x') || (state == 'Z' && n_threads <= 1);
    (!dead).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_files() {
        let stat = "usage_usec 70\nuser_usec 50000\nsystem_usec 20000\nnice_usec 0\n";
        assert_eq!(flat_value(stat, "user_usec"), Some(50_000));
        assert_eq!(flat_value(stat, "user"), None);
        assert_eq!(flat_value("populated 1\nfrozen 0\n", "populated"), Some(1));
    }

    #[test]
    fn states() {
        let stat = |comm: &str, state: char, n_threads: u32| {
            format!("7 ({comm}) {state} 1 7 7 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 {n_threads} 0 99 0 0\n")
        };
        assert_eq!(live_state(&stat("mdadm", 'D', 1)), Some('D'));
        assert_eq!(live_state(&stat("a) Z (b\n", 'S', 1)), Some('S'));
        assert_eq!(live_state(&stat("gone", 'Z', 1)), None);
        assert_eq!(live_state(&stat("headless", 'Z', 2)), Some('Z'));
        assert_eq!(live_state(""), None);
    }

    #[test]
    fn processes_in_cgroups_of_its_own_are_the_tests() {
        let folder = std::env::temp_dir().join(format!("mdr-cgroup-{}", std::process::id()));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        for (place, pids) in [("", "1\n2\n"), ("a", ""), ("a/b", "3\n")] {
            fs::write(folder.join(place).join("cgroup.procs"), pids).unwrap();
        }
        let found = pids_of(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, [1, 2, 3]);
    }

    #[test]
    fn this_very_process_is_alive() {
        let this = process(std::process::id()).unwrap();
        assert!(matches!(this.state, 'R' | 'S'), "{this:?}");
    }
}
