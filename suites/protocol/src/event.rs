//! The lines of `events.jsonl`: one [`Record`] each, appended and never changed.
//!
//! The events are the truth of a run. Everything else (record, verdicts, JUnit, summary) is
//! folded from them and can be folded again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::evidence::{KernelReport, TaskStack};
use crate::outcome::Outcome;
use crate::program::LoadedModule;
use crate::storage_state::StorageState;
use crate::test_id::TestId;
use crate::wire::{GuestFacts, Survivor};

/// Version of the event format; readers refuse a newer one.
pub const FORMAT: u32 = 4;

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Time since [`Event::RunStarted`], milliseconds, monotonic. Preparing images comes before it.
    pub at_ms: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// A script of the user's, as it was when the run began: the file may be edited at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Where it lay, absolute.
    pub path: String,
    /// SHA-256 of its content, hexadecimal.
    pub digest: String,
    /// Its copy, within the run's folder.
    pub copy: String,
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Always the first.
    RunStarted {
        /// [`FORMAT`] of this file.
        format: u32,
        /// Name of the run, also of its folder under `reports/out`.
        run: String,
        /// Wall clock, RFC 3339.
        started_at: String,
        /// Version and commit of md-regress.
        harness: String,
        /// The command line as given, for the reports.
        command: Vec<String>,
        /// Words of a command line that name every setting, so that they mean the same whatever the defaults
        /// are: a resumed run goes on by them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        settings: Vec<String>,
        /// The user's own scripts; absent in records of an md-regress that kept none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        scripts: Vec<Script>,
        /// The host: `kernel`, `cpus`, `memory`, `vms` at a time.
        host: BTreeMap<String, String>,
        /// Words of `--fail-on`, by which the run is judged. Since format 4.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fail_on: Vec<String>,
        /// True if a test that passed only when it was tried again fails the run, too. Since format 4.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        flaky_fails: bool,
    },
    /// The harness was killed or interrupted, and another goes on. Attempts that had begun and came to
    /// nothing begin again. Since format 2.
    RunResumed {
        /// Wall clock, RFC 3339.
        resumed_at: String,
        /// Version and commit of md-regress.
        harness: String,
    },
    /// The run is one of several that share what was selected. Since format 2.
    Sharded {
        /// Number of this run's shard, from 1.
        shard: u32,
        /// Number of shards.
        n_shards: u32,
        /// Digest of the assignment of tests to shards. Equal in all shards; else a test is run twice or
        /// never.
        digest: String,
    },
    /// The machine that all VMs of the run share was chosen.
    MachineChosen {
        /// `kvm` or `tcg`.
        accel: String,
        /// Why this accelerator.
        reason: String,
        /// QEMU's version.
        qemu: String,
        /// `-cpu` model.
        cpu: String,
        /// Factor on all time limits of this run, in percent (100: as written in suite.toml).
        time_scale_percent: u32,
    },
    /// A kernel is ready to boot.
    KernelReady {
        /// Index of the kernel within the run.
        kernel_idx: u32,
        /// The kernel's spec as the user gave it, `deb:6.12`.
        spec: String,
        /// A spec that names exactly this kernel, `deb:6.12.117+deb13-cloud-amd64`.
        exact_spec: String,
        /// `uname -r`.
        release: String,
        /// Version of the package that it came from, if from one.
        package_version: Option<String>,
        /// Digest of the boot artifact.
        digest: String,
    },
    /// The guest image is ready.
    ImageReady {
        /// Digest of the guest image.
        digest: String,
        /// Versions that results depend on: `lvm2` → `2.03.31-2`, `mdadm` → `4.4-11`.
        versions: BTreeMap<String, String>,
        /// Checkouts of the user's that were built instead of a source package, by the package's name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        checkouts: BTreeMap<String, Checkout>,
    },
    /// The run will try these, in this order.
    Planned {
        /// Each attempt's test and kernel.
        attempts: Vec<PlannedAttempt>,
    },
    /// A test was selected and will not be tried, for this reason.
    NotPlanned {
        /// Which test.
        test: TestId,
        /// On which kernel.
        kernel_idx: u32,
        /// Why.
        reason: String,
    },
    /// A VM is being started for an attempt.
    VmStarting {
        /// Number of the attempt, unique in the run.
        attempt: u32,
    },
    /// The VM's agent answered.
    VmReady {
        /// Number of the attempt.
        attempt: u32,
        /// From starting QEMU to the agent's answer, milliseconds.
        ready_after_ms: u64,
        /// The guest's kernel and machine.
        guest: GuestFacts,
    },
    /// Modules took the place of the kernel's in the guest, and are those that were built: all are found by
    /// their build ids, and this one the kernel has loaded. An attempt on such a kernel does not start
    /// without. Since format 3.
    ModulesReplaced {
        /// Number of the attempt.
        attempt: u32,
        /// The module that was loaded to be asked, as the kernel has it.
        probed: LoadedModule,
        /// All of them, by name: their build ids.
        built: BTreeMap<String, String>,
    },
    /// The test runs.
    TestStarted {
        /// Number of the attempt.
        attempt: u32,
    },
    /// Where the guest's tasks stood when it was found to hang: those that matter, most telling first. A
    /// later event holds the tasks of the earlier ones, and more.
    StacksSeen {
        /// Number of the attempt.
        attempt: u32,
        /// At most [`STACKS_MAX`](crate::evidence::STACKS_MAX).
        stacks: Vec<TaskStack>,
    },
    /// How md and dm stood when the test was found to hang.
    StateSeen {
        /// Number of the attempt.
        attempt: u32,
        /// The state, [bounded](StorageState::bounded).
        state: StorageState,
    },
    /// The kernel reported something wrong in its log.
    KernelReported {
        /// Number of the attempt.
        attempt: u32,
        /// The report.
        report: KernelReport,
    },
    /// Where frames of backtraces are in the kernel's source, as far as there is debug information.
    FramesLocated {
        /// Index of the kernel within the run.
        kernel_idx: u32,
        /// The frames that were found.
        frames: Vec<LocatedFrame>,
    },
    /// Something that a reader of the report should know, and that is no outcome.
    Remark {
        /// The attempt that it is about, if it is about one.
        attempt: Option<u32>,
        /// Who is to blame, if anybody is.
        blame: Blame,
        /// The remark.
        text: String,
    },
    /// The attempt is over. Every `VmStarting` is closed by exactly one of these, or by the end
    /// of the file (the harness was killed).
    AttemptFinished {
        /// Number of the attempt.
        attempt: u32,
        /// The attempt's outcome.
        outcome: Outcome,
        /// Measurements and files of the attempt. Not boxed: that would only blur the format.
        facts: AttemptFacts,
    },
    /// Always the last, if the harness lived to write it.
    RunFinished {
        /// True if a signal or the user ended the run early.
        interrupted: bool,
    },
}

/// A user's own source tree, as it was when the guest image was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// Where it lay on the host: tells whose it was, not what was in it.
    pub dir: String,
    /// Its commit as git describes it, with `-dirty` if not all was committed; `None` without git.
    pub commit: Option<String>,
    /// Digest of the files that count.
    pub digest: String,
    /// Version of Debian's source package that it was unpacked from; absent if it is a user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

/// A frame and where it is in the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocatedFrame {
    /// The frame as the kernel prints it: `md_stop+0x1b/0x40 [md_mod]`.
    pub frame: String,
    /// The innermost of what was inlined there first, the function itself last.
    pub places: Vec<Place>,
}

/// A place in the kernel's source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Function that it is in.
    pub function: String,
    /// File, from the top of the kernel's tree.
    pub file: String,
    /// Line.
    pub line: u32,
}

/// One attempt as planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedAttempt {
    /// Number of the attempt, unique in the run.
    pub attempt: u32,
    /// Which test.
    pub test: TestId,
    /// On which kernel of the run.
    pub kernel_idx: u32,
    /// Folder of its logs, relative to the run's.
    pub dir: String,
    /// Words of a command line that, beside kernel and accelerator, try it again; if there are none, its
    /// name does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<String>,
    /// The attempt that this one repeats, because that one went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<u32>,
    /// Reports of the kernel that its script causes on purpose: regular expressions, searched in the reports'
    /// titles. Part of the record, so that the run is judged alike without the script.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}

/// Whose doing something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The kernel under test. A remark that blames it is a complaint, and changes the verdict of a pass: only
    /// what the kernel itself did. What was slow, missing or given up may be anybody's.
    Kernel,
    /// The test itself.
    Test,
    /// md-regress.
    Harness,
    /// The machine that md-regress runs on.
    Host,
}

/// Measurements of a finished attempt, and the files that came back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFacts {
    /// From `StartTest` to the end of the test's own process, milliseconds; the guest's figure if
    /// it could still give one, else the harness's.
    pub test_ms: Option<u64>,
    /// User time of the test in the guest, milliseconds.
    pub user_ms: Option<u64>,
    /// System time of the test in the guest, milliseconds.
    pub sys_ms: Option<u64>,
    /// From `VmStarting` to the end of QEMU, milliseconds.
    pub vm_ms: u64,
    /// From the verdict that the test hangs to the evidence being complete, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_ms: Option<u64>,
    /// Processor time of the guest that watching the test cost, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_ms: Option<u64>,
    /// True if the VM was restored from a snapshot, false if it booted.
    #[serde(default)]
    pub restored: bool,
    /// Bytes that the test printed.
    pub output_bytes: u64,
    /// Bytes of those that are not in `output.log`.
    pub output_dropped: u64,
    /// Kernel log records that were lost before they could be read.
    pub kmsg_lost: u64,
    /// `/proc/sys/kernel/tainted` before the test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taint_before: Option<u64>,
    /// `/proc/sys/kernel/tainted` after the test, or when it hung.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taint_after: Option<u64>,
    /// Messages from the guest that made no sense.
    pub garbage_messages: u64,
    /// True if the test reached its limit of time, and was looked at then for what stood in md or dm: the
    /// outcome says it. Since format 4.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looked_at_limit: bool,
    /// The line by which the test said that its authors know it to fail, without the part that marks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_to_fail: Option<String>,
    /// Processes of the test that outlived it.
    pub survivors: Vec<Survivor>,
    /// The lines that say most, at most 20, lossy text: of the console if the kernel crashed or did not boot,
    /// else the last ones that the test printed.
    pub last_lines: Vec<String>,
    /// Files that came back, in `files/`.
    pub files: Vec<CollectedFile>,
}

/// A file that came back from the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedFile {
    /// Its number, which is its name within `files/`.
    pub file_idx: u32,
    /// Its path in the guest. Never a path on the host.
    pub path: String,
    /// Its size in the guest when it was opened, bytes.
    pub size: u64,
    /// Why it is not whole, if it is not.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_flat_json_object() {
        let record = Record { at_ms: 5, event: Event::VmStarting { attempt: 1 } };
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(line, r#"{"at_ms":5,"event":"vm-starting","attempt":1}"#);
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }

    /// The line of a guest without checkouts is the one of versions that knew none.
    #[test]
    fn an_image_of_packages_alone_says_nothing_of_checkouts() {
        let line = r#"{"at_ms":5,"event":"image-ready","digest":"d","versions":{}}"#;
        let record: Record = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), line);
    }

    /// A flattened enum is read through a buffer that knows no integer keys: facts must not use them.
    #[test]
    fn facts_round_trip_through_a_record() {
        let file =
            CollectedFile { file_idx: 0, path: "/run/md-regress/files/core".into(), size: 1, error: None };
        let facts = AttemptFacts { files: vec![file], test_ms: Some(1), ..AttemptFacts::default() };
        let event = Event::AttemptFinished { attempt: 1, outcome: Outcome::Pass, facts };
        let record = Record { at_ms: 1, event };
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }
}
