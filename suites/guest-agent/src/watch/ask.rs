//! The questions about a guest that hangs, and the stage that asks one of them.
//!
//! [`Question`] says how each is asked. [`ask_main`] runs in processes that may never end; who waits for
//! them, and how long, is [`crate::watch::diagnose`]'s business, and reading what they print that of
//! [`crate::watch::answers`].

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode};

use protocol::codec::encode;
use protocol::evidence::TaskStack;
use rustix::fs::{Mode, OFlags, SeekFrom};

use crate::link::kmsg;
use crate::process::spawn;
use crate::stage::Stage;
use crate::watch::answers::{LOCK_LINES_MAX, Process, held_locks, ours, parent};
use crate::watch::task::{Stat, parse_stat, stack, tasks_of};

/// Attributes that are read of an array (Documentation/admin-guide/md.rst).
const ARRAY_ATTRIBUTES: [&str; 20] = [
    "level",
    "raid_disks",
    "metadata_version",
    "array_state",
    "sync_action",
    "sync_completed",
    "sync_min",
    "sync_max",
    "resync_start",
    "degraded",
    "mismatch_cnt",
    "reshape_position",
    "reshape_direction",
    "suspend_lo",
    "suspend_hi",
    "safe_mode_delay",
    "consistency_policy",
    "stripe_cache_size",
    "stripe_cache_active",
    "last_sync_action",
];
/// Attributes that are read of each member of an array.
const MEMBER_ATTRIBUTES: [&str; 2] = ["state", "slot"];

/// The program that asks dm.
const DMSETUP: &str = "dmsetup";

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Where every task stands; those of this cgroup are the test's.
    Stacks { cgroup: String },
    /// `/proc/mdstat`.
    Mdstat,
    /// Attributes of an array of md.
    Array(String),
    /// Tables of dm.
    DmTable,
    /// Status lines of dm.
    DmStatus,
    /// Which devices of dm are there, and which are suspended.
    DmInfo,
    /// Which devices have IO that has not come back.
    InFlight,
    /// Who holds which locks, where the kernel knows.
    Locks,
    /// The kernel's own lists of tasks, into its log.
    Log,
}

impl Question {
    /// All questions but those about arrays, which come later.
    pub(crate) fn first(cgroup: &str) -> Vec<Question> {
        let mut all = vec![
            Question::Stacks { cgroup: cgroup.to_owned() },
            Question::Mdstat,
            Question::DmTable,
            Question::DmStatus,
            Question::DmInfo,
            Question::InFlight,
        ];
        if Path::new("/proc/lockdep_stats").exists() {
            all.push(Question::Locks);
        }
        all
    }

    /// A question about each array of md.
    pub(crate) fn arrays() -> Vec<Question> {
        let names = names_in("/sys/block").into_iter().filter(|name| name.starts_with("md"));
        names.map(Question::Array).collect()
    }

    /// The command that asks it.
    pub(crate) fn command(&self) -> Command {
        let (asker, arguments) = self.asker();
        let mut command = match asker {
            Asker::Agent => spawn::stage(Stage::Ask),
            Asker::Dmsetup => spawn::command(DMSETUP),
        };
        command.args(arguments);
        command
    }

    /// Who asks it, with which arguments.
    fn asker(&self) -> (Asker, Vec<&str>) {
        match self {
            Question::Stacks { cgroup } => (Asker::Agent, vec!["stacks", cgroup]),
            Question::Mdstat => (Asker::Agent, vec!["mdstat"]),
            Question::Array(name) => (Asker::Agent, vec!["array", name]),
            Question::DmTable => (Asker::Dmsetup, vec!["table"]),
            Question::DmStatus => (Asker::Dmsetup, vec!["status", "--noflush"]),
            Question::DmInfo => (Asker::Dmsetup, vec!["info", "-c"]),
            Question::InFlight => (Asker::Agent, vec!["in-flight"]),
            Question::Locks => (Asker::Agent, vec!["locks"]),
            Question::Log => (Asker::Agent, vec!["log"]),
        }
    }

    /// The file that its answer goes to.
    pub(crate) fn file(&self) -> Option<&'static str> {
        match self {
            Question::Stacks { .. } => Some("hang-stacks.txt"),
            Question::Mdstat => Some("hang-mdstat.txt"),
            Question::Array(_) => Some("hang-md-sysfs.txt"),
            Question::DmTable => Some("hang-dm-table.txt"),
            Question::DmStatus => Some("hang-dm-status.txt"),
            Question::DmInfo => Some("hang-dm-info.txt"),
            Question::InFlight => Some("hang-in-flight.txt"),
            Question::Locks => Some("hang-locks.txt"),
            Question::Log => None,
        }
    }

    /// In words, the file or command at which a question waits that has given only this answer.
    pub(crate) fn waits_at(&self, answer: &str) -> String {
        match self {
            Question::Array(name) => match answer.lines().last().and_then(|line| line.strip_prefix("? ")) {
                Some(attribute) => format!("/sys/block/{name}/md/{attribute}"),
                None => format!("/sys/block/{name}/md"),
            },
            Question::Mdstat => "/proc/mdstat".to_owned(),
            Question::Stacks { .. } => "/proc/PID/stack of all tasks".to_owned(),
            Question::InFlight => "/sys/block/*/inflight".to_owned(),
            Question::Locks => "sysrq d".to_owned(),
            Question::Log => "sysrq w, l, m, t".to_owned(),
            Question::DmTable | Question::DmStatus | Question::DmInfo => {
                let (_, arguments) = self.asker();
                format!("{DMSETUP} {}", arguments.join(" "))
            }
        }
    }
}

/// Who asks a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// A stage of the agent's.
    Agent,
    Dmsetup,
}

/// Asks one question and prints the answer.
pub(crate) fn ask_main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let (what, about) = (args.next(), args.next().unwrap_or_default());
    match what.as_deref() {
        Some("stacks") => print_stacks(&about),
        Some("mdstat") => print(&mdstat(Path::new("/proc/mdstat"))),
        Some("array") => print_array(&about),
        Some("in-flight") => print_in_flight(),
        Some("locks") => print_locks(),
        Some("log") => log_tasks(),
        Some(_) | None => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn print(bytes: &[u8]) {
    let _ = std::io::stdout().write_all(bytes);
}

/// The file's content, or that it cannot be read: an empty answer would look like a missing one.
fn mdstat(path: &Path) -> Vec<u8> {
    fs::read(path)
        .unwrap_or_else(|error| format!("{} cannot be read: {error}\n", path.display()).into_bytes())
}

fn names_in(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.file_name().to_str().map(str::to_owned)).collect();
    names.sort();
    names
}

/// Every task, those of the test first, then those that are blocked.
fn print_stacks(cgroup: &str) {
    let members = fs::read_to_string(format!("{cgroup}/cgroup.procs")).unwrap_or_default();
    let of_test: Vec<u32> = members.lines().filter_map(|line| line.parse().ok()).collect();
    let pids = names_in("/proc").into_iter().filter_map(|name| name.parse::<u32>().ok());
    let processes: Vec<Process> = pids.map(look).collect();
    let asking = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    let ours = ours(&processes, asking);
    let mut tasks: Vec<TaskStack> = Vec::new();
    for pid in processes.iter().map(|process| process.pid) {
        if ours.contains(&pid) && !of_test.contains(&pid) {
            continue;
        }
        for task in tasks_of(pid) {
            let stat = fs::read_to_string(format!("/proc/{task}/stat")).unwrap_or_default();
            let Some(Stat { comm, state, .. }) = parse_stat(&stat) else { continue };
            let of_test = of_test.contains(&pid);
            tasks.push(TaskStack { pid: task, comm, of_test, state, still_ms: 0, frames: vec![] });
        }
    }
    tasks.sort_by_key(|task| (!task.of_test, task.state != 'D', task.pid));
    for mut task in tasks {
        task.frames = stack(task.pid);
        print(&encode(&task.bounded()));
    }
}

/// A process, as far as it matters whether it is there because of us.
fn look(pid: u32) -> Process {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let is_agent = program("self").is_some_and(|own| program(&pid.to_string()) == Some(own));
    Process { pid, parent: parent(&stat).unwrap_or_default(), is_agent }
}

/// Prints attributes, each after a line with its name: so a read that never ends is known by its name.
fn print_array(name: &str) {
    let dir = format!("/sys/block/{name}/md");
    let members = names_in(&dir).into_iter().filter(|entry| entry.starts_with("dev-"));
    let of_members = members
        .flat_map(|member| MEMBER_ATTRIBUTES.iter().map(move |attribute| format!("{member}/{attribute}")));
    for attribute in ARRAY_ATTRIBUTES.iter().map(|name| (*name).to_owned()).chain(of_members) {
        print(format!("? {attribute}\n").as_bytes());
        if let Ok(value) = fs::read_to_string(format!("{dir}/{attribute}")) {
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            print(format!("{attribute} {value}\n").as_bytes());
        }
    }
}

fn print_in_flight() {
    for device in names_in("/sys/block") {
        let text = fs::read_to_string(format!("/sys/block/{device}/inflight")).unwrap_or_default();
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        if let &[n_reads, n_writes] = numbers.as_slice()
            && n_reads + n_writes > 0
        {
            let name = fs::read_to_string(format!("/sys/block/{device}/dm/name")).unwrap_or_default();
            let line = format!("{n_reads} {n_writes} {device} {}", name.trim());
            print(format!("{}\n", line.trim_end()).as_bytes());
        }
    }
}

/// Makes the kernel log the locks, and takes them from its log.
fn print_locks() {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(log) = rustix::fs::open("/dev/kmsg", flags, Mode::empty()) else { return };
    let _ = rustix::fs::seek(&log, SeekFrom::End(0));
    sysrq('d');
    let mut records = Vec::new();
    let mut buffer = [0; 16 * 1024];
    // One record a read, until there is none; what the kernel overwrote meanwhile is an error that passes.
    while records.len() < 10 * LOCK_LINES_MAX {
        match rustix::io::read(log.as_fd(), &mut buffer) {
            Ok(n) => records.extend(kmsg::parse(&buffer[..n])),
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    for line in held_locks(records.iter().map(|record| record.text.as_str())) {
        print(format!("{line}\n").as_bytes());
    }
}

/// Makes the kernel log blocked tasks, what processors do, memory, and all tasks.
fn log_tasks() {
    ['w', 'l', 'm', 't'].into_iter().for_each(sysrq);
}

fn sysrq(key: char) {
    let _ = fs::write("/proc/sysrq-trigger", key.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_that_never_came_names_the_wait() {
        let answer = "? level\nlevel raid5\n? sync_action\nsync_action frozen\n? degraded\n? suspend_lo\n";
        let question = Question::Array("md0".to_owned());
        assert_eq!(question.waits_at(answer), "/sys/block/md0/md/suspend_lo");
        assert_eq!(Question::DmStatus.waits_at(""), "dmsetup status --noflush");
    }

    #[test]
    fn a_kernel_without_md_is_no_missing_answer() {
        let text = String::from_utf8(mdstat(Path::new("/no/such/mdstat"))).unwrap();
        assert!(text.starts_with("/no/such/mdstat cannot be read: ") && text.ends_with('\n'), "{text}");
    }
}
