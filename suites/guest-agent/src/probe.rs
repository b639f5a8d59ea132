//! Questions about a guest that hangs: how each is asked, and what its answer says.
//!
//! Reading answers is pure. The `*_main` part runs in processes that may never end; who waits for them, and how
//! long, is [`crate::diagnose`]'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use protocol::codec::encode;
use protocol::evidence::TaskStack;
use protocol::frames::is_storage_frame;
use protocol::state::{ArrayState, InFlight, TargetState, Unanswered};
use rustix::fs::{Mode, OFlags, SeekFrom};

use crate::kmsg;
use crate::sample::{self, Stat};

/// First argument of the stage.
pub(crate) const PROBE: &str = "probe";

/// What is read of an array, and of each of its members (Documentation/admin-guide/md.rst).
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
const MEMBER_ATTRIBUTES: [&str; 2] = ["state", "slot"];

/// Targets that say nothing about an array, unless they are suspended.
const PLAIN_TARGETS: [&str; 3] = ["linear", "striped", "zero"];

/// Lines of a list of held locks at most.
const LOCK_LINES_MAX: usize = 200;

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
    /// What is asked first; the arrays come later.
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

    /// The command that asks it. The first word is empty for the agent itself.
    pub(crate) fn command(&self) -> Vec<&str> {
        match self {
            Question::Stacks { cgroup } => vec!["", PROBE, "stacks", cgroup],
            Question::Mdstat => vec!["", PROBE, "mdstat"],
            Question::Array(name) => vec!["", PROBE, "array", name],
            Question::DmTable => vec!["dmsetup", "table"],
            Question::DmStatus => vec!["dmsetup", "status", "--noflush"],
            Question::DmInfo => vec!["dmsetup", "info", "-c"],
            Question::InFlight => vec!["", PROBE, "in-flight"],
            Question::Locks => vec!["", PROBE, "locks"],
            Question::Log => vec!["", PROBE, "log"],
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

    /// In words, what the question waits for that has given only this answer.
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
            Question::DmTable | Question::DmStatus | Question::DmInfo => self.command().join(" "),
        }
    }
}

// ---- answers --------------------------------------------------------------------------------

/// True if a maintainer wants to see where it stands: a task that is blocked, the test's own that run or sleep in
/// md or dm, and md's threads whatever they do, for a daemon at rest says who will never reap.
pub(crate) fn is_telling(stack: &TaskStack) -> bool {
    let is_md = || {
        let rest = stack.comm.strip_prefix("md").unwrap_or_default();
        rest.starts_with(|c: char| c == 'X' || c.is_ascii_digit()) && rest.contains('_')
    };
    let is_in_md = || stack.frames.iter().any(|frame| is_storage_frame(frame));
    match stack.state {
        'D' => !stack.frames.is_empty(),
        'R' if stack.of_test => !stack.frames.is_empty(),
        _ if stack.of_test => is_in_md(),
        _ => !stack.frames.is_empty() && is_md(),
    }
}

/// A process, and where it comes from.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: u32,
    parent: u32,
    /// It runs the agent's program: the agent itself, its sampler, its questions.
    is_agent: bool,
}

/// Processes that are there because of us: the agent's, and whatever `asking` has started. A `dmsetup` that waits
/// for the lock that the hang holds is our own doing, and no part of the hang.
fn ours(processes: &[Process], asking: u32) -> BTreeSet<u32> {
    let mut ours: BTreeSet<u32> =
        processes.iter().filter(|process| process.is_agent).map(|process| process.pid).collect();
    let mut of_asking = BTreeSet::from([asking]);
    // Parents need not come first: until nothing is added.
    loop {
        let started = processes.iter().filter(|process| of_asking.contains(&process.parent));
        let started: Vec<u32> = started.map(|process| process.pid).collect();
        let n_before = of_asking.len();
        of_asking.extend(started);
        if of_asking.len() == n_before {
            break;
        }
    }
    ours.extend(of_asking);
    ours
}

/// The parent in a line of `/proc/PID/stat`: two fields after the name, which may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A task for the file.
pub(crate) fn stack_text(stack: &TaskStack) -> String {
    let TaskStack { pid, comm, of_test, state, frames, .. } = stack;
    let of_test = if *of_test { ", of the test" } else { "" };
    let frames: String = frames.iter().map(|frame| format!("  {frame}\n")).collect();
    format!("{comm} (pid {pid}{of_test}), state {state}:\n{frames}")
}

/// For the file: that no answer came.
pub(crate) fn unanswered_text(unanswered: &Unanswered) -> String {
    let Unanswered { what, waited_ms, state, frames } = unanswered;
    let frames: String = frames.iter().map(|frame| format!("  {frame}\n")).collect();
    format!("\n{what}: no answer in {waited_ms} ms, state {state}\n{frames}")
}

/// The attributes of an array: lines `NAME VALUE`, each after a line `? NAME`.
pub(crate) fn array(name: &str, answer: &str) -> ArrayState {
    let attributes: BTreeMap<_, _> = answer
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(attribute, value)| *attribute != "?" && !value.is_empty())
        .map(|(attribute, value)| (attribute.to_owned(), value.to_owned()))
        .collect();
    ArrayState { name: name.to_owned(), attributes }
}

/// The suspended devices among the lines of `dmsetup info -c`, whose fourth column is like `L-sw`.
pub(crate) fn suspended(info: &str) -> Vec<String> {
    let fields = info.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let suspended = fields.filter(|fields| fields.get(3).is_some_and(|state| state.contains('s')));
    suspended.filter_map(|fields| fields.first().map(|name| (*name).to_owned())).collect()
}

/// The telling targets among the lines of `dmsetup table`, with their lines of `dmsetup status`: raid first.
pub(crate) fn targets(table: &str, status: &str, suspended: &[String]) -> Vec<TargetState> {
    let mut targets: Vec<TargetState> = Vec::new();
    for (device, table) in dm_lines(table) {
        targets.push(TargetState { device, table, status: String::new() });
    }
    for (device, status) in dm_lines(status) {
        // Status lines begin as the table's do: start, length, type.
        let key = key(&status);
        let same =
            targets.iter_mut().find(|target| target.device == device && self::key(&target.table) == key);
        match same {
            Some(target) => target.status = status,
            None => targets.push(TargetState { device, table: String::new(), status }),
        }
    }
    let kind = |target: &TargetState| {
        let line = if target.table.is_empty() { &target.status } else { &target.table };
        line.split(' ').nth(2).unwrap_or_default().to_owned()
    };
    targets.retain(|target| {
        suspended.contains(&target.device) || !PLAIN_TARGETS.contains(&kind(target).as_str())
    });
    targets.sort_by_key(|target| kind(target) != "raid");
    targets
}

/// Lines `NAME: REST`. A name holds no space: dmsetup writes one as `\x20`.
fn dm_lines(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, rest)| !name.contains(' ') && rest.starts_with(|c: char| c.is_ascii_digit()))
        .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
}

fn key(line: &str) -> Vec<&str> {
    line.split(' ').take(3).collect()
}

/// Lines `READS WRITES DEVICE`.
pub(crate) fn in_flight(answer: &str) -> Vec<InFlight> {
    let device = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let (n_reads, n_writes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(InFlight { n_reads, n_writes, device: words.next()?.to_owned() })
    };
    answer.lines().filter_map(device).collect()
}

/// What lockdep listed (`debug_show_all_locks`, kernel/locking/lockdep.c), without what comes before and after.
fn held_locks<'a>(log: impl Iterator<Item = &'a str>) -> Vec<String> {
    log.skip_while(|line| !line.starts_with("Showing all locks held in the system"))
        .skip(1)
        .take_while(|line| !line.starts_with("===="))
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .take(LOCK_LINES_MAX)
        .collect()
}

impl Process {
    fn look(pid: u32) -> Process {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
        let is_agent = program("self").is_some_and(|own| program(&pid.to_string()) == Some(own));
        Process { pid, parent: parent(&stat).unwrap_or_default(), is_agent }
    }
}

// ---- asking ---------------------------------------------------------------------------------

/// Asks one question and prints the answer.
pub(crate) fn probe_main(mut args: impl Iterator<Item = String>) -> ExitCode {
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

/// What it says; that it is not there is an answer as well, and otherwise looks like none.
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
    let processes: Vec<Process> = pids.map(Process::look).collect();
    let asking = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    let ours = ours(&processes, asking);
    let mut tasks: Vec<TaskStack> = Vec::new();
    for pid in processes.iter().map(|process| process.pid) {
        if ours.contains(&pid) && !of_test.contains(&pid) {
            continue;
        }
        for task in sample::tasks_of(pid) {
            let stat = fs::read_to_string(format!("/proc/{task}/stat")).unwrap_or_default();
            let Some(Stat { comm, state, .. }) = sample::parse_stat(&stat) else { continue };
            let of_test = of_test.contains(&pid);
            tasks.push(TaskStack { pid: task, comm, of_test, state, still_ms: 0, frames: vec![] });
        }
    }
    tasks.sort_by_key(|task| (!task.of_test, task.state != 'D', task.pid));
    for mut task in tasks {
        task.frames = sample::stack(task.pid);
        print(&encode(&task.bounded()));
    }
}

/// Before each attribute, which it is: a read that never ends is known by it.
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

/// Blocked tasks, what processors do, memory, and all tasks.
fn log_tasks() {
    ['w', 'l', 'm', 't'].into_iter().for_each(sysrq);
}

fn sysrq(key: char) {
    let _ = fs::write("/proc/sysrq-trigger", key.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
vg-lv: 0 16384 raid raid1 3 0 region_size 4096 2 253:9 253:10 253:11 253:12
vg-lv_rimage_0: 0 16384 integrity 253:20 0 4 J 2 block_size:4096
vg-lv_rmeta_0: 0 8192 linear 253:5 2048
pv1: 0 163840 linear 1:0 2048
";

    #[test]
    fn raid_comes_first_and_plain_targets_only_if_they_are_suspended() {
        let status = "\
pv1: 0 163840 linear
vg-lv: 0 16384 raid raid1 2 AA 16384/16384 frozen 0 0 -
vg-lv_rmeta_0: 0 8192 linear
";
        let found = targets(TABLE, status, &["vg-lv_rmeta_0".to_owned()]);
        let names: Vec<_> = found.iter().map(|target| target.device.as_str()).collect();
        assert_eq!(names, ["vg-lv", "vg-lv_rimage_0", "vg-lv_rmeta_0"]);
        assert_eq!(found[0].status, "0 16384 raid raid1 2 AA 16384/16384 frozen 0 0 -");
        assert_eq!(found[1].status, "", "it did not answer");
        // The status alone, where the table did not come back.
        let found = targets("", status, &[]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].device.as_str(), found[0].table.as_str()), ("vg-lv", ""));
    }

    #[test]
    fn suspended_devices_are_known_by_their_state() {
        let info = "\
Name                     Maj Min Stat Open Targ Event  UUID
pv1                      253   0 L--w    3    1      0 TEST-pv1
vg-lv                    253   1 L-sw    1    1      0 LVM-x
vg-lv_new                253   2 LIsw    1    1      0 LVM-y
";
        assert_eq!(suspended(info), ["vg-lv", "vg-lv_new"]);
        assert_eq!(suspended("No devices found\n"), Vec::<String>::new());
    }

    #[test]
    fn an_attribute_that_never_came_names_the_wait() {
        let answer = "? level\nlevel raid5\n? sync_action\nsync_action frozen\n? degraded\n? suspend_lo\n";
        let found = array("md0", answer);
        let all: Vec<_> = found.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(all, ["level=raid5", "sync_action=frozen"]);
        let question = Question::Array("md0".to_owned());
        assert_eq!(question.waits_at(answer), "/sys/block/md0/md/suspend_lo");
        assert_eq!(Question::DmStatus.waits_at(""), "dmsetup status --noflush");
    }

    #[test]
    fn what_is_in_flight_has_its_name() {
        let found = in_flight("0 3 dm-12 vg-lv_rimage_0\n1 0 vda\nnonsense\n");
        let all: Vec<_> = found.iter().map(|one| (one.device.as_str(), one.n_reads, one.n_writes)).collect();
        assert_eq!(all, [("dm-12 vg-lv_rimage_0", 0, 3), ("vda", 1, 0)]);
    }

    #[test]
    fn locks_are_taken_from_between_their_marks() {
        let log = "\
sysrq: Show Locks Held

Showing all locks held in the system:
2 locks held by lvm/812:
 #0: ffff8880 (&md->type_lock){+.+.}-{3:3}, at: dev_remove+0x1/0x2 [dm_mod]

=============================================
something else";
        let found = held_locks(log.lines());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], "2 locks held by lvm/812:");
        assert_eq!(held_locks("sysrq: HELP : loglevel(0-9)".lines()), Vec::<String>::new());
    }

    #[test]
    fn a_kernel_without_md_is_no_missing_answer() {
        let text = String::from_utf8(mdstat(Path::new("/no/such/mdstat"))).unwrap();
        assert!(text.starts_with("/no/such/mdstat cannot be read: ") && text.ends_with('\n'), "{text}");
    }

    #[test]
    fn what_asks_is_no_part_of_the_hang() {
        let process = |pid, parent, is_agent| Process { pid, parent, is_agent };
        // 1 is the agent, 30 its diagnosis with two questions, 20 the test.
        let processes = [
            process(1, 0, true),
            process(2, 0, false),
            process(20, 1, false),
            process(21, 20, false),
            process(31, 30, false),
            process(30, 1, true),
            process(32, 31, false),
            process(40, 1, false),
        ];
        assert_eq!(ours(&processes, 30).into_iter().collect::<Vec<_>>(), [1, 30, 31, 32]);
        assert_eq!(parent("7 (a) b (c) D 30 7 7 0"), Some(30));
        assert_eq!(parent("7 (a"), None);
    }

    #[test]
    fn a_daemon_at_rest_is_telling_and_a_sleeping_shell_is_not() {
        let stack = |comm: &str, of_test, state| TaskStack {
            pid: 1,
            comm: comm.to_owned(),
            of_test,
            state,
            still_ms: 0,
            frames: vec![
                if comm == "mdadm" { "md_ioctl+0x1/0x2 [md_mod]" } else { "schedule+0x1/0x2" }.to_owned(),
            ],
        };
        for (comm, of_test, state, expect) in [
            ("mdX_raid1", false, 'S', true),
            ("md127_resync", false, 'D', true),
            ("md", false, 'I', false),
            ("kworker/0:1+md_misc", false, 'D', true),
            ("jbd2/dm-3-8", false, 'S', false),
            ("bash", true, 'S', false),
            ("mdadm", true, 'S', true),
            ("lvm", true, 'D', true),
            ("dd", true, 'R', true),
        ] {
            assert_eq!(is_telling(&stack(comm, of_test, state)), expect, "{comm}");
        }
    }
}
