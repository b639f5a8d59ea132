//! Requests of the harness and messages of the guest agent.
//!
//! Two virtio-serial ports, both carrying JSON lines ([`crate::codec`]): [`AGENT_PORT`] for
//! requests and messages, [`FILES_PORT`] for files that the guest brings back, so that a large
//! file never delays a heartbeat. Every message is bounded; the harness trusts none of them.

use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::program::{Exit, LoadedModule, Program};
use crate::sample::Sample;
use crate::shell::{ShellMessage, ShellRequest};

/// Version of this protocol. Harness and agent are built from one tree and must agree exactly.
pub const VERSION: u32 = 10;

/// Begins the word of the kernel's command line that tells the agent that the guest will be saved, and names
/// the modules that it loads before that, with commas between them.
pub const PRELOAD: &str = "md_regress.preload=";

/// Name of the virtio-serial port for requests and messages.
pub const AGENT_PORT: &str = "org.md-regress.agent.0";

/// Name of the virtio-serial port for files that come back.
pub const FILES_PORT: &str = "org.md-regress.files.0";

/// Folder in the guest for files that a test is given.
pub const INBOX: &str = "/run/md-regress/in";

/// Largest piece of output or file in one message, bytes before encoding.
pub const MAX_CHUNK: usize = 32 * 1024;

/// How often the agent sends [`Message::Heartbeat`], milliseconds.
pub const HEARTBEAT_MS: u64 = 1000;

/// From the harness to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// Opens a session; the agent answers with [`Message::Hello`] carrying the same `session`.
    Hello {
        /// [`VERSION`] of the sender.
        version: u32,
        /// A number the guest has not seen before; answers that carry another one are stale.
        session: u64,
        /// Random bytes for the guest's entropy pool: guests restored from one snapshot would otherwise all
        /// draw the same numbers.
        #[serde(with = "crate::codec::base64_bytes")]
        entropy: Vec<u8>,
    },
    /// Appends to a file of the test's in the guest's [`INBOX`], before it starts.
    PutFile {
        /// A plain file name.
        name: String,
        /// Permissions, as in `chmod`.
        mode: u32,
        /// How much of the file there is already; a file that has another length is refused.
        offset: u64,
        /// The bytes, [`MAX_CHUNK`] at most.
        #[serde(with = "crate::codec::base64_bytes")]
        data: Vec<u8>,
    },
    /// Starts one test. The agent runs one at a time and refuses a second.
    StartTest(StartTest),
    /// Writes down how the guest hangs, into the folder of files that come back, and makes the kernel log its
    /// tasks. [`Message::Diagnosed`] follows within seconds.
    Diagnose {
        /// The attempt it is about; echoed.
        attempt: u32,
    },
    /// Kills all processes of the running test; [`Message::Finished`] follows.
    StopTest {
        /// The attempt to stop.
        attempt: u32,
    },
    /// Sends the files that match `patterns` over [`FILES_PORT`], then [`Message::Collected`].
    Collect {
        /// The attempt they belong to; echoed.
        attempt: u32,
        /// Absolute glob patterns (`*`, `?`, `[…]` within a component).
        patterns: Vec<String>,
        /// Bytes sent at most, over all files.
        max_bytes: u64,
    },
    /// About a shell, which runs in place of a test.
    Shell(ShellRequest),
    /// Powers the guest off, without syncing.
    PowerOff,
}

/// How a test is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTest {
    /// Number of the attempt within the run; echoed in every message about it.
    pub attempt: u32,
    /// The test.
    pub program: Program,
    /// How much output is sent to the harness.
    pub output: OutputBudget,
    /// After the test's own process has ended: how long to wait for its pipe to close before
    /// what still holds it is killed, milliseconds.
    pub grace_ms: u64,
    /// Send a [`Sample`] once a second. Without, only a test's silence tells that it hangs.
    pub sampled: bool,
}

/// Limits the cost of a test's output: a token bucket over bytes. Output beyond it is read,
/// counted and dropped, oldest first, so that the harness always sees the newest bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputBudget {
    /// Bytes that may be sent at once.
    pub burst_bytes: u64,
    /// Bytes per second that are added.
    pub bytes_per_s: u64,
}

/// From the agent to the harness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Message {
    /// Answer to [`Request::Hello`].
    Hello {
        /// [`VERSION`] of the agent.
        version: u32,
        /// The request's number.
        session: u64,
        /// The guest's kernel and machine.
        guest: GuestFacts,
    },
    /// The test's process exists.
    Started {
        /// Which attempt.
        attempt: u32,
        /// Its process, the first of the test's: whatever is started later than that, and is neither a kernel
        /// thread nor the agent's, is the test's as well.
        pid: u32,
        /// The module that was loaded of those that took the place of the kernel's, as the kernel has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probed: Option<LoadedModule>,
    },
    /// A piece of the test's standard output and error, in order.
    Output {
        /// Which attempt.
        attempt: u32,
        /// Where the piece begins in the whole output, bytes. A gap means that bytes were dropped.
        offset: u64,
        /// The bytes, as they are.
        #[serde(with = "crate::codec::base64_bytes")]
        data: Vec<u8>,
    },
    /// The test has ended, and so have all its processes that could be ended.
    Finished(Finished),
    /// One record of the kernel log, from `/dev/kmsg`.
    Kmsg {
        /// Sequence number; a gap means that the kernel dropped records before we read them, but for those
        /// that `left_out` counts.
        seq: u64,
        /// Time since boot, microseconds.
        at_us: u64,
        /// Syslog priority, 0 (emerg) to 7 (debug).
        level: u8,
        /// Syslog facility: 0 for the kernel's own words. What is written to `/dev/kmsg` bears another: the
        /// kernel takes no 0 from there (`devkmsg_write`, kernel/printk/printk.c).
        #[serde(default, skip_serializing_if = "is_zero")]
        facility: u8,
        /// Who spoke, `T77` or `C0`, of a kernel with `CONFIG_PRINTK_CALLER`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<String>,
        /// Records directly before this one that the agent read and dropped, to keep to its budget.
        #[serde(default, skip_serializing_if = "is_zero")]
        left_out: u64,
        /// The text, control characters as the kernel escaped them.
        text: String,
    },
    /// How the kernel says that it is: after [`Message::Hello`], once a test is over (before
    /// [`Message::Finished`]), and when a hang is written down.
    KernelState {
        /// `/proc/sys/kernel/tainted`, if it could be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tainted: Option<u64>,
        /// One beyond the newest record of the kernel log, if all of it has been read: when [`Message::Kmsg`]
        /// has come up to here, whatever was logged before this was asked has come.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log_end: Option<u64>,
    },
    /// Sign of life, every [`HEARTBEAT_MS`].
    Heartbeat {
        /// Time since boot, milliseconds.
        uptime_ms: u64,
        /// Memory available in the guest, KiB.
        mem_available_kib: u64,
        /// Bytes of output that the running test has produced so far.
        output_bytes: u64,
        /// State of the process that takes the samples, as in `/proc/PID/stat`, if there is one.
        #[serde(default)]
        sampler: Option<char>,
    },
    /// A file begins (files port).
    FileStart {
        /// Which attempt.
        attempt: u32,
        /// Number of the file within this collection, from 0.
        file_idx: u32,
        /// Path in the guest. Never a path on the host.
        path: String,
        /// Size in bytes, when it was opened.
        size: u64,
    },
    /// A piece of a file, in order (files port).
    FileData {
        /// Which attempt.
        attempt: u32,
        /// Which file.
        file_idx: u32,
        /// The bytes.
        #[serde(with = "crate::codec::base64_bytes")]
        data: Vec<u8>,
    },
    /// A file is complete, or could not be read further (files port).
    FileEnd {
        /// Which attempt.
        attempt: u32,
        /// Which file.
        file_idx: u32,
        /// Why it ends early, if it does.
        error: Option<String>,
    },
    /// All files of a [`Request::Collect`] have been sent (files port).
    Collected {
        /// Which attempt.
        attempt: u32,
        /// How many files were sent.
        n_files: u32,
        /// How many were left out, because of `max_bytes` or because they could not be opened.
        n_left_out: u32,
    },
    /// About a shell.
    Shell(ShellMessage),
    /// Who moves, and what gets done, once a second while a test runs.
    Sample(Sample),
    /// A part of the diagnosis that [`Request::Diagnose`] asked for, as soon as it is known.
    Evidence {
        /// Which attempt.
        attempt: u32,
        /// The evidence.
        evidence: Evidence,
    },
    /// The diagnosis that [`Request::Diagnose`] asked for is complete, as far as it could be.
    Diagnosed {
        /// Which attempt.
        attempt: u32,
    },
    /// The agent cannot do what was asked.
    Refused {
        /// The refused request, and why.
        reason: String,
    },
    /// The agent's own remark, for the log.
    Note {
        /// The remark.
        text: String,
    },
}

/// The kernel and machine that the agent found itself on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFacts {
    /// `uname -r`.
    pub kernel_release: String,
    /// `uname -v`.
    pub kernel_version: String,
    /// Time since boot when the agent was ready, milliseconds.
    pub boot_ms: u64,
    /// Memory, KiB (`MemTotal`).
    pub mem_total_kib: u64,
    /// Processors online.
    pub n_cpus: u32,
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Which attempt.
    pub attempt: u32,
    /// How its own process ended.
    pub exit: Exit,
    /// From start to the end of its own process, milliseconds, by the guest's clock.
    pub wall_ms: u64,
    /// User time of the test and what it waited for, milliseconds.
    pub user_ms: u64,
    /// System time of the same, milliseconds.
    pub sys_ms: u64,
    /// Bytes that it printed in all, sent or not.
    pub output_bytes: u64,
    /// Processes that outlived it, at most 32, whether or not they could be killed.
    pub survivors: Vec<Survivor>,
}

/// A process of the test that was still there after the test's own process had ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// Process id.
    pub pid: u32,
    /// Name, as in `/proc/PID/comm`.
    pub comm: String,
    /// State letter, as in `/proc/PID/stat`, when it was found.
    pub state: char,
    /// True if it was still there after it had been killed (D state).
    pub unkillable: bool,
}

/// True for a number that a message need not say.
fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}
