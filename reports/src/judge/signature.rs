//! Signatures: what names a hang or a crash, the same on every run and on every kernel that has it.
//!
//! Of a stack, the frames of md and dm are kept, innermost first, and the one function that the
//! innermost of them waits in: `kthread_stop ← md_unregister_thread ← __md_stop_writes ← md_stop`.
//! Offsets, module names and the compiler's suffixes go. Frames are known by their names, because a
//! built-in md has no module name.
//!
//! Deliberately not here: which bug a signature belongs to ([`crate::judge::known_issues`]), and how stacks
//! are shown.

use std::cmp::Reverse;
use std::sync::LazyLock;

use protocol::Outcome;
use protocol::evidence::{KernelReport, ReportKind, TaskStack};
use protocol::frames::is_storage_function;
use regex::Regex;

use crate::faults::{Telling, most_telling, telling_of};

/// Frames of one task that a signature shows at most.
const MAX_SHOWN_FRAMES: usize = 6;

/// Tasks that a signature is made of at most.
const MAX_TASKS: usize = 6;

/// Tasks in a signature's one-line form: both halves of a deadlock.
const N_HEADLINE_TASKS: usize = 2;

/// Longest function name that is believed; the kernel's own limit is 512.
const MAX_NAME_LEN: usize = 128;

/// The sign between two frames, the callee on the left.
pub const ARROW: &str = " ← ";

/// The name of a hang or a crash, by which two of them are told to be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Where tasks stood, the most telling first; never empty.
    Tasks(Vec<TaskSignature>),
    /// A report of the kernel's, or what the test itself said of changed data.
    Report {
        /// Its title; the guest's words, as they came, but for numbers of a test's own.
        title: String,
        /// Its frames of md and dm, innermost first; may be empty.
        frames: Vec<String>,
    },
}

/// Where one task stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSignature {
    /// The task's role.
    pub role: Role,
    /// Its name without the numbers that differ from run to run; the guest's words.
    pub comm: String,
    /// All its telling frames, innermost first. Each is a C identifier.
    pub frames: Vec<String>,
}

/// The role of a task in a hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It belongs to the test.
    Test,
    /// It runs `md_do_sync`, or is about to.
    Sync,
    /// Any other: md's daemons, workers, the file system's threads.
    Other,
}

impl Signature {
    /// The signature of an attempt that came to this; none if nothing was seen that names it. `reports` are
    /// those that the test does not cause on purpose. Lost members and IO errors name nothing: what makes a
    /// test fail is what it does in spite of them.
    pub fn of(outcome: &Outcome, stacks: &[TaskStack], reports: &[KernelReport]) -> Option<Signature> {
        let of_report = |least| Signature::of_reports(reports, |kind| telling_of(kind) <= least);
        match outcome {
            // A task that died with a lock held is why others wait: its oops names the hang.
            Outcome::Hang { .. } => of_report(Telling::Fault)
                .or_else(|| Signature::of_stacks(stacks))
                .or_else(|| of_report(Telling::Stall)),
            Outcome::KernelCrash { .. } => {
                of_report(Telling::Oddity).or_else(|| Signature::of_stacks(stacks))
            }
            Outcome::Timeout { .. } => of_report(Telling::Stall).or_else(|| Signature::of_stacks(stacks)),
            // By what says that data changed, unless a fault says why: what the kernel says of a write that
            // failed, or warns of, is not what changed it.
            Outcome::DataCorruption { title } => of_report(Telling::Fault)
                .or_else(|| Signature::of_reports(reports, |kind| kind == ReportKind::Corruption))
                .or_else(|| Some(Signature::Report { title: without_numbers(title), frames: Vec::new() })),
            Outcome::Pass | Outcome::Warn { .. } | Outcome::Fail { .. } => of_report(Telling::Oddity),
            Outcome::Skip { .. } | Outcome::Interrupted | Outcome::Infra { .. } => None,
        }
    }

    fn of_stacks(stacks: &[TaskStack]) -> Option<Signature> {
        let mut tasks: Vec<TaskSignature> = Vec::new();
        for (_, task) in telling_tasks(stacks) {
            if !tasks.contains(&task) {
                tasks.push(task);
            }
        }
        tasks.truncate(MAX_TASKS);
        (!tasks.is_empty()).then_some(Signature::Tasks(tasks))
    }

    /// By the report of such kinds that says most.
    fn of_reports(reports: &[KernelReport], may_name: impl Fn(ReportKind) -> bool) -> Option<Signature> {
        let report = most_telling(reports.iter().filter(|report| may_name(report.kind)))?;
        let frames = telling_frames(&report.frames);
        Some(Signature::Report { title: report.title.clone(), frames: shown(&frames).to_vec() })
    }

    /// One line: `lvm in stop_sync_thread ← md_stop ← raid_dtr; mdX_resync in …`. May hold guests'
    /// words, as they came.
    pub fn headline(&self) -> String {
        match self {
            Signature::Tasks(tasks) => {
                let halves = halves(tasks).into_iter();
                halves.map(|task| format!("{} in {}", task.comm, task.text())).collect::<Vec<_>>().join("; ")
            }
            Signature::Report { title, frames } if frames.is_empty() => title.clone(),
            Signature::Report { title, frames } => format!("{title}, in {}", frames.join(ARROW)),
        }
    }

    /// The most telling part of [`Signature::headline`].
    pub fn title(&self) -> String {
        match self {
            Signature::Tasks(tasks) => {
                tasks.first().map(|task| format!("{} in {}", task.comm, task.text())).unwrap_or_default()
            }
            Signature::Report { title, frames: _ } => title.clone(),
        }
    }

    /// A line for each task: `lvm: stop_sync_thread ← md_stop ← raid_dtr`.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Signature::Tasks(tasks) => {
                tasks.iter().map(|task| format!("{}: {}", task.comm, task.text())).collect()
            }
            Signature::Report { .. } => vec![self.headline()],
        }
    }
}

/// The first task, and the one that it most likely waits for: the first of another role, if any.
fn halves(tasks: &[TaskSignature]) -> Vec<&TaskSignature> {
    let other = tasks.iter().skip(1).find(|task| task.role != tasks[0].role).or(tasks.get(1));
    tasks.first().into_iter().chain(other).take(N_HEADLINE_TASKS).collect()
}

impl TaskSignature {
    fn of(stack: &TaskStack, frames: Vec<String>) -> TaskSignature {
        let comm = plain_comm(&stack.comm);
        let is_sync = !stack.of_test
            && (comm.ends_with("_resync")
                || comm.ends_with("_reshape")
                || frames.iter().any(|frame| frame == "md_do_sync"));
        let role = match (stack.of_test, is_sync) {
            (true, _) => Role::Test,
            (false, true) => Role::Sync,
            (false, false) => Role::Other,
        };
        TaskSignature { role, comm, frames }
    }

    /// The frames that a signature shows, `stop_sync_thread ← md_stop ← raid_dtr`.
    pub fn text(&self) -> String {
        shown(&self.frames).join(ARROW)
    }

    /// True if it waits for an IO: rather a victim than a cause.
    fn waits_for_io(&self) -> bool {
        self.frames.iter().any(|frame| {
            frame.ends_with("make_request")
                || ["md_handle_request", "md_submit_bio", "dm_submit_bio", "md_write_start"]
                    .contains(&frame.as_str())
        })
    }
}

/// The tasks whose stacks say something, with what they say: the test's first, then the sync
/// thread, then others; whoever waits for an IO after those who don't. If nobody is in md or dm, the
/// test's own blocked tasks, by whatever they are in.
pub fn telling_tasks(stacks: &[TaskStack]) -> Vec<(&TaskStack, TaskSignature)> {
    let with = |frames: fn(&[String]) -> Vec<String>, of_test_only: bool| {
        let tasks = stacks.iter().filter(|stack| stack.of_test || !of_test_only).filter_map(|stack| {
            let frames = frames(&stack.frames);
            (!frames.is_empty()).then(|| (stack, TaskSignature::of(stack, frames)))
        });
        tasks.collect::<Vec<_>>()
    };
    let mut tasks = with(telling_frames, false);
    if tasks.is_empty() {
        tasks = with(other_frames, true);
        tasks.retain(|(stack, _)| stack.state == 'D');
    }
    tasks.sort_by_cached_key(|(stack, task)| {
        (
            task.role,
            task.waits_for_io(),
            stack.state != 'D',
            Reverse(task.frames.len()),
            task.frames.clone(),
            task.comm.clone(),
            stack.pid,
        )
    });
    tasks
}

/// True for a daemon of md that waits for something to do (`md_thread`, md.c).
pub(crate) fn is_resting_daemon(stack: &TaskStack) -> bool {
    let functions = || stack.frames.iter().filter_map(|frame| function(frame));
    !stack.of_test && functions().any(|name| name == "md_thread") && telling_frames(&stack.frames).is_empty()
}

/// The frames of md and dm, innermost first, after the one function that the innermost of them is
/// in, unless every wait is.
pub fn telling_frames(frames: &[String]) -> Vec<String> {
    let names: Vec<&str> = frames.iter().filter_map(|frame| function(frame)).collect();
    let Some(first) = names.iter().position(|name| is_storage_function(name) && !is_at_rest(name)) else {
        return Vec::new();
    };
    let waits_in = names[..first].last().copied().filter(|name| !is_generic(name) && !is_at_rest(name));
    let ours = names[first..].iter().copied().filter(|name| is_storage_function(name) && !is_at_rest(name));
    without_twins(waits_in.into_iter().map(plain_wait).chain(ours))
}

/// The first frames that are in no wait, for tasks that are in neither md nor dm.
fn other_frames(frames: &[String]) -> Vec<String> {
    let names = frames.iter().filter_map(|frame| function(frame)).filter(|name| !is_generic(name));
    without_twins(names.map(plain_wait).take(MAX_SHOWN_FRAMES))
}

/// `wait_barrier` calls `_wait_barrier`, or has it inlined: such a pair is one frame.
fn without_twins<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for name in names {
        if kept.last().is_none_or(|last| !is_same_function(last, name)) {
            kept.push(name.to_owned());
        }
    }
    kept
}

/// True if the names differ in leading underscores at most: which of the two is on the stack is the
/// compiler's choice.
pub fn is_same_function(a: &str, b: &str) -> bool {
    a.trim_start_matches('_') == b.trim_start_matches('_')
}

/// The innermost frames, up to the operation of the raid target: who called it (a removal, a
/// suspend, a resume that destroys the old table) differs from run to run of one bug.
fn shown(frames: &[String]) -> &[String] {
    let operation = frames.iter().position(|frame| frame.starts_with("raid_"));
    let n = operation.map_or(frames.len(), |operation_idx| operation_idx + 1);
    &frames[..n.min(MAX_SHOWN_FRAMES)]
}

/// The bare name of a function: `[<0>] md_stop.isra.0+0x1b/0x30 [md_mod]` is `md_stop`. None for a
/// frame that is only a guess (`? md_stop+0x1b/0x30`), an address, or no frame at all.
fn function(frame: &str) -> Option<&str> {
    let mut words = frame.split_whitespace();
    let mut word = words.next()?;
    if word.starts_with("[<") {
        word = words.next()?;
    }
    let name = word.split(['+', '.']).next()?;
    let is_name = !name.is_empty()
        && name.len() <= MAX_NAME_LEN
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some(name)
}

/// A task's name without the numbers of its device, CPU or worker.
fn plain_comm(comm: &str) -> String {
    if comm.starts_with("kworker/") {
        return "kworker".to_owned();
    }
    match comm.strip_prefix("md").and_then(|rest| rest.split_once('_')) {
        Some((number, what)) if !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()) => {
            format!("mdX_{what}")
        }
        Some(_) | None => comm.to_owned(),
    }
}

/// Parts of a test's output that differ from run to run of one failure: where `cmp` found the difference and
/// what was there (`-b`), addresses, names that mktemp(1) and LVM2's tests make up.
static CHANGING: LazyLock<[(Regex, &str); 5]> = LazyLock::new(|| {
    [
        (r" is +[0-7]+ .*$", ""),
        (r"\btmp\.\w{6,}", "tmp.X"),
        (r"\bLVMTEST[\w.]+", "LVMTEST"),
        (r"\b0x[0-9a-fA-F]+", "0xN"),
        (r"\b\d+\b", "N"),
    ]
    .map(|(pattern, plain)| (Regex::new(pattern).expect("a regular expression of our own"), plain))
});

/// A test's own line, the same on every run: `a b differ: byte N, line N`.
pub(crate) fn without_numbers(line: &str) -> String {
    CHANGING
        .iter()
        .fold(line.to_owned(), |line, (pattern, plain)| pattern.replace_all(&line, *plain).into_owned())
}

/// One name for the many entries into one kind of wait.
fn plain_wait(name: &str) -> &str {
    let bare = name.trim_start_matches('_');
    ["mutex_lock", "down_read", "down_write"].into_iter().find(|wait| bare.starts_with(wait)).unwrap_or(name)
}

/// Waits that every blocked task is in, and ways into and out of the kernel.
fn is_generic(name: &str) -> bool {
    let bare = name.trim_start_matches('_');
    const PREFIXES: [&str; 12] = [
        "schedule",
        "io_schedule",
        "wait_for_completion",
        "wait_for_common",
        "do_wait_for_common",
        "wait_on_bit",
        "bit_wait",
        "out_of_line_wait",
        "preempt_schedule",
        "x64_sys",
        "do_syscall",
        "entry_SYSCALL",
    ];
    const NAMES: [&str; 10] = [
        "switch_to",
        "context_switch",
        "might_resched",
        "cond_resched",
        "ret_from_fork",
        "ret_from_fork_asm",
        "kthread",
        "worker_thread",
        "process_one_work",
        "rwsem_down_read_slowpath",
    ];
    PREFIXES.iter().any(|prefix| bare.starts_with(prefix)) || NAMES.contains(&bare)
}

/// Functions of md and dm that tasks are in while nothing is wrong, and the entry of their ioctls.
fn is_at_rest(name: &str) -> bool {
    ["md_thread", "dm_wait_event", "dev_wait", "ctl_ioctl", "dm_ctl_ioctl", "md_seq_poll", "dm_poll"]
        .contains(&name)
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
