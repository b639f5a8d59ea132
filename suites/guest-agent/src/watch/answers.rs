//! Reads the answers to questions about a guest that hangs: tasks, arrays, tables of dm, IO in flight, held
//! locks. Pure.
//!
//! Deliberately not here: how a question is asked ([`crate::watch::ask`]), and how long an answer is waited
//! for ([`crate::watch::diagnose`]).

use std::collections::{BTreeMap, BTreeSet};

use protocol::evidence::TaskStack;
use protocol::frames::is_storage_frame;
use protocol::storage_state::{ArrayState, InFlight, TargetState, Unanswered};

/// Targets that say nothing about an array, unless they are suspended.
const PLAIN_TARGETS: [&str; 3] = ["linear", "striped", "zero"];

/// Lines of a list of held locks at most.
pub(crate) const LOCK_LINES_MAX: usize = 200;

/// True if the stack goes into the report: blocked tasks, the test's tasks inside md or dm, and md's threads
/// in any state (an idle raid5d shows why nobody reaps the sync thread).
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
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// It runs the agent's program: the agent itself, its sampler, its questions.
    pub(crate) is_agent: bool,
}

/// Processes that are there because of the agent: its own, and those that `asking` has started. A `dmsetup`
/// that waits for the lock that the hang holds is the agent's doing, and no part of the hang.
pub(crate) fn ours(processes: &[Process], asking: u32) -> BTreeSet<u32> {
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
pub(crate) fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A task as text, for the file.
pub(crate) fn stack_text(stack: &TaskStack) -> String {
    let TaskStack { pid, comm, of_test, state, frames, .. } = stack;
    let of_test = if *of_test { ", of the test" } else { "" };
    let frames: String = frames.iter().map(|frame| format!("  {frame}\n")).collect();
    format!("{comm} (pid {pid}{of_test}), state {state}:\n{frames}")
}

/// A question without an answer as text, for the file.
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

/// The targets of `dmsetup table` that say something about an array, with their lines of `dmsetup status`;
/// raid first.
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

/// The devices with IO in flight: lines `READS WRITES DEVICE`.
pub(crate) fn in_flight(answer: &str) -> Vec<InFlight> {
    let device = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let (n_reads, n_writes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(InFlight { n_reads, n_writes, device: words.next()?.to_owned() })
    };
    answer.lines().filter_map(device).collect()
}

/// The locks that lockdep listed (`debug_show_all_locks`, kernel/locking/lockdep.c), without the lines around
/// them.
pub(crate) fn held_locks<'a>(log: impl Iterator<Item = &'a str>) -> Vec<String> {
    log.skip_while(|line| !line.starts_with("Showing all locks held in the system"))
        .skip(1)
        .take_while(|line| !line.starts_with("===="))
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .take(LOCK_LINES_MAX)
        .collect()
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
    fn an_attribute_without_a_value_is_left_out() {
        let found = array(
            "md0",
            "? level\nlevel raid5\n? sync_action\nsync_action frozen\n? degraded\n? suspend_lo\n",
        );
        let all: Vec<_> = found.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(all, ["level=raid5", "sync_action=frozen"]);
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
