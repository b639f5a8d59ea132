//! Evidence of a guest that stood still or crashed: facts, from which signatures are derived later.

use serde::{Deserialize, Serialize};

use crate::storage_state::StorageState;

/// Tasks that one event holds at most; the logs have all.
pub const STACKS_MAX: usize = 32;
/// Frames of one stack at most.
pub const FRAMES_MAX: usize = 40;
/// Characters of a frame, or of a task's name, at most.
pub const FRAME_MAX: usize = 80;

/// Evidence of a hang that the guest writes down, in pieces that each fit a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Tasks that are blocked, and threads of md in any state. Some of them may have been seen before.
    Stacks(Vec<TaskStack>),
    /// How md and dm stand.
    State(Box<StorageState>),
}

/// A task and where it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStack {
    /// Process id.
    pub pid: u32,
    /// Name, as in `/proc/PID/comm`: `lvm`, `mdX_resync`, `kworker/0:1+md`.
    pub comm: String,
    /// True for a task of the test, false for a thread of the kernel's.
    pub of_test: bool,
    /// State letter, as in `/proc/PID/stat`.
    pub state: char,
    /// For how long it had not been scheduled, or not got anywhere, milliseconds.
    pub still_ms: u64,
    /// Its kernel stack, innermost first, as in `/proc/PID/stack` without addresses:
    /// `stop_sync_thread+0x1b2/0x230 [md_mod]`.
    pub frames: Vec<String>,
}

impl TaskStack {
    /// This task, cut to the limits and without control characters, because a guest sent it.
    pub fn bounded(self) -> TaskStack {
        let plain =
            |text: String| text.chars().filter(|c| !c.is_control()).take(FRAME_MAX).collect::<String>();
        let frames = self.frames.into_iter().take(FRAMES_MAX).map(plain).collect();
        TaskStack { comm: plain(self.comm), frames, ..self }
    }
}

/// A report of the kernel about itself in its log, classified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelReport {
    /// The report's kind.
    pub kind: ReportKind,
    /// One title for one bug: no addresses, no numbers that differ from boot to boot.
    pub title: String,
    /// Other titles that the same bug may come under.
    pub alt_titles: Vec<String>,
    /// True if the text is interleaved with another or cut, so that the title may be wrong.
    pub corrupted: bool,
    /// Its stack, innermost first, where it has one; function names as the log gives them.
    pub frames: Vec<String>,
    /// Who the kernel itself names as the reason, with their stacks: the task that likely owns the lock that
    /// a hung task waits for (`CONFIG_DETECT_HUNG_TASK_BLOCKER`, since 6.16), the worker that a stalled
    /// workqueue waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<TaskStack>,
    /// True of a stall if the host kept the guest waiting most of the time that the kernel measured it in: it
    /// may be the host's doing. Since format 4.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starved: bool,
}

/// Kinds of reports in a kernel's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportKind {
    /// `Kernel panic - not syncing` by itself.
    Panic,
    /// A fault in the kernel: oops, general protection fault, page fault, `kernel BUG at`.
    Oops,
    /// `BUG:` of another kind: sleeping in atomic context, bad page state, list corruption.
    Bug,
    /// `WARNING: … at`.
    Warning,
    /// KASAN, KFENCE, KMSAN.
    MemoryError,
    /// UBSAN.
    Undefined,
    /// KCSAN.
    DataRace,
    /// lockdep: circular locking, inconsistent state, RCU usage, bad unlock.
    Lockdep,
    /// `task … blocked for more than … seconds`.
    HungTask,
    /// soft or hard lockup.
    Lockup,
    /// RCU stall.
    RcuStall,
    /// `BUG: workqueue lockup`, workqueue stalls.
    WorkqueueStall,
    /// A line of md, dm, ext4, xfs or dm-integrity that reports lost redundancy or an IO error.
    StorageError,
    /// A line that says that data is not what was written: checksum and integrity mismatches, file
    /// system corruption.
    Corruption,
}

impl ReportKind {
    /// True for a task that waits, or a processor that runs and runs.
    pub fn is_of_hang(self) -> bool {
        match self {
            ReportKind::HungTask | ReportKind::Lockup | ReportKind::RcuStall => true,
            ReportKind::Panic
            | ReportKind::Oops
            | ReportKind::Bug
            | ReportKind::Warning
            | ReportKind::MemoryError
            | ReportKind::Undefined
            | ReportKind::DataRace
            | ReportKind::Lockdep
            | ReportKind::WorkqueueStall
            | ReportKind::StorageError
            | ReportKind::Corruption => false,
        }
    }

    /// True for what a watchdog of the kernel's measures by the clock.
    pub fn is_a_stall(self) -> bool {
        self.is_of_hang() || self == ReportKind::WorkqueueStall
    }
}
