//! The samples that the guest takes once a second while a test runs: which tasks move, and which IO gets
//! done.

use serde::{Deserialize, Serialize};

/// Tasks in one sample at most; of more, the guest chooses those that may tell most.
pub const TASKS_MAX: usize = 64;
/// Longest name of a block device (`DISK_NAME_LEN`, genhd.h).
pub const DEVICE_MAX: usize = 32;
/// Tasks of them that come with their stack.
pub const STACKS_MAX: usize = 10;
/// Frames of a stack, and bytes of a frame.
pub const FRAMES_MAX: usize = 24;
/// Longest frame, bytes.
pub const FRAME_MAX: usize = 80;
/// Arrays in one sample at most.
pub const SYNCS_MAX: usize = 16;
/// How often a sample is taken, milliseconds.
pub const EVERY_MS: u64 = 1000;

/// One look at the test's tasks and at the threads of md and dm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Time since boot, milliseconds.
    pub uptime_ms: u64,
    /// The tasks, blocked ones first, threads and tasks of the test in turn.
    pub tasks: Vec<TaskSample>,
    /// Requests that all block devices have completed (`/proc/diskstats`).
    pub io_done: u64,
    /// Reads among them: a program that polls an array reads its metadata again and again.
    #[serde(default)]
    pub reads_done: u64,
    /// Writes, discards and flushes that devices of md and dm have completed; the guest's own daemons write
    /// elsewhere.
    #[serde(default)]
    pub storage_writes: u64,
    /// Requests that the host's disks have not answered yet.
    pub host_io: u32,
    /// Hash of `/proc/mdstat`, as it was last answered: resync, recovery and reshape advance in it.
    pub mdstat: u64,
    /// The position of each array that has a sync thread, where it can be found out.
    pub syncs: Vec<Sync>,
    /// Processor time that sampling has cost the guest so far, microseconds.
    #[serde(default)]
    pub cost_us: u64,
    /// Tasks that would belong here and found no place.
    #[serde(default)]
    pub n_left_out: u32,
    /// Pages that were reclaimed or looked at for that, and swapped in or out, so far (`/proc/vmstat`); asked
    /// only while something stands, else 0.
    #[serde(default)]
    pub paging: u64,
}

/// How far a resync, recovery, check or reshape of one array is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// `md0`, or the dm device's name.
    pub array: String,
    /// The part that is done, as md's `sync_completed` or the raid target's ratio says it.
    pub position: u64,
    /// True if it is neither frozen nor idle nor waiting for another array.
    pub should_move: bool,
    /// True if its `sync_max` is a number: the sync waits there, with nothing wrong, until somebody raises
    /// it.
    #[serde(default)]
    pub is_capped: bool,
}

impl Sync {
    /// True if this is the same array as `earlier`, elsewhere.
    pub fn has_moved_since(&self, earlier: &Sync) -> bool {
        self.array == earlier.array && self.position != earlier.position
    }
}

/// A task at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSample {
    /// Process id.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// True for a task of the test, false for a thread of the kernel's.
    pub of_test: bool,
    /// State letter, as in `/proc/PID/stat`.
    pub state: char,
    /// Time in the kernel, milliseconds.
    pub sys_ms: u64,
    /// Time outside of it, milliseconds.
    pub user_ms: u64,
    /// How often it was given a processor (`/proc/PID/schedstat`): one that stands still is given none.
    pub slices: u64,
    /// How long it sleeps by its own decision, milliseconds, which is progress to come; 0 if it named an end
    /// that cannot be read. For timeout(1), the time until it sends its signal.
    pub sleeps_ms: Option<u64>,
    /// Its kernel stack, innermost first; only of those that may stand still.
    pub frames: Vec<String>,
    /// The device that it waits for; only of tasks that may stand still.
    #[serde(default)]
    pub storage: Option<Storage>,
}

/// The block device that a task waits for, with the devices below it that belong to no other. IO elsewhere is
/// not counted here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Its name (`md0`, `dm-3`). Empty if it could not be found out: then the other fields are of all devices
    /// of md and dm together.
    pub device: String,
    /// Requests that were completed.
    pub done: u64,
    /// Reads among them.
    pub reads: u64,
    /// Hash of its arrays' positions in their resync, recovery or reshape.
    pub syncs: u64,
    /// True if it is md's or dm's, and has taken a request that it has not answered.
    #[serde(default)]
    pub is_busy: bool,
    /// True if it is suspended (dm), or a device below it is.
    pub is_suspended: bool,
    /// Time within which the kernel ends a wait for it by itself, with an answer or an error, milliseconds:
    /// dm-delay holds IO back, a disk has a timeout for requests in flight, a thin pool has no space. 0 if it
    /// does not.
    pub ends_ms: u64,
}

impl Sample {
    /// This sample, cut to what a sound guest sends.
    pub fn bounded(mut self) -> Sample {
        self.tasks.truncate(TASKS_MAX);
        self.syncs.truncate(SYNCS_MAX);
        self
    }
}
