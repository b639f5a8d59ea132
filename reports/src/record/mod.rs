//! The record of a run: what happened, as far as the events tell, with no judgement.
//!
//! Deliberately not here: how events become a record ([`RunRecord::from_events`] lives in
//! `fold.rs`), and whether what happened is good or bad ([`crate::judge::verdict`]).

pub mod events;
pub(crate) mod fold;
mod older;

use std::collections::BTreeMap;

use protocol::event::{AttemptFacts, Blame, Checkout, LocatedFrame, Place, Script};
use protocol::evidence::{KernelReport, TaskStack};
use protocol::storage_state::StorageState;
use protocol::wire::GuestFacts;
use protocol::{Outcome, TestId};

use crate::faults::Policy;

/// All that is known of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunRecord {
    /// The run itself.
    pub run: RunFacts,
    /// Properties that all VMs share; `None` if the run ended before they were chosen.
    pub machine: Option<Machine>,
    /// The kernels that became ready, by their index within the run.
    pub kernels: BTreeMap<u32, Kernel>,
    /// The guest image; `None` if the run ended before it was ready.
    pub image: Option<Image>,
    /// Which part of a whole it is, if one.
    pub shard: Option<Shard>,
    /// Every attempt that was planned, in the order of the plan.
    pub attempts: Vec<Attempt>,
    /// Every test that was selected and not planned.
    pub not_planned: Vec<NotPlanned>,
    /// Where frames are in the source, by kernel and frame.
    pub lines: BTreeMap<(u32, String), Vec<Place>>,
    /// Remarks that are about no single attempt.
    pub remarks: Vec<Remark>,
    /// How the run ended.
    pub end: RunEnd,
    /// Time of the last event, milliseconds after the beginning of the run.
    pub elapsed_ms: u64,
    /// Number of an attempt → its place in `attempts`.
    pub(crate) places: BTreeMap<u32, usize>,
}

/// Facts that a run records when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// Name of the run, also of its folder.
    pub name: String,
    /// Wall clock, RFC 3339.
    pub started_at: String,
    /// Version and commit of md-regress.
    pub harness: String,
    /// The command line as given.
    pub command: Vec<String>,
    /// Words of a command line that mean the same whatever defaults there are; empty in old records.
    pub settings: Vec<String>,
    /// The user's own scripts, as they were; empty in old records.
    pub scripts: Vec<Script>,
    /// The host: `kernel`, `cpus`, `memory`, `vms` at a time.
    pub host: BTreeMap<String, String>,
    /// Rules of judging that differ from the default (`--fail-on`, `--flaky`).
    pub policy: Policy,
}

/// A part of what was selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 1.
    pub shard: u32,
    /// How many parts there are.
    pub n_shards: u32,
    /// Digest of the assignment of tests to shards; equal in all shards of one run.
    pub digest: String,
}

/// Properties that all VMs of the run share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `kvm` or `tcg`.
    pub accel: String,
    /// Why that one.
    pub reason: String,
    /// QEMU's version.
    pub qemu: String,
    /// `-cpu` model.
    pub cpu: String,
    /// Factor on all time limits, in percent.
    pub time_scale_percent: u32,
}

/// A kernel that became ready to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel's spec as the user wrote it, `deb:6.12`.
    pub spec: String,
    /// The spec that names exactly this kernel again.
    pub exact_spec: String,
    /// `uname -r`.
    pub release: String,
    /// Version of the package that it came from, if from one.
    pub package_version: Option<String>,
    /// Digest of the boot artifact.
    pub digest: String,
}

/// The guest image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Digest of the image.
    pub digest: String,
    /// Versions that results depend on, by package.
    pub versions: BTreeMap<String, String>,
    /// Checkouts of the user's that packages were built from, by package.
    pub checkouts: BTreeMap<String, Checkout>,
}

/// One planned attempt at one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Number of the attempt, unique in the run.
    pub number: u32,
    /// Which test.
    pub test: TestId,
    /// On which kernel.
    pub kernel_idx: u32,
    /// Folder of its logs, relative to the run's.
    pub dir: String,
    /// Words of a command line that try it again, beside kernel and accelerator.
    pub again: Vec<String>,
    /// The attempt that it repeats, because that one went wrong.
    pub retry_of: Option<u32>,
    /// Regular expressions of titles that its script says it causes on purpose.
    pub allow: Vec<String>,
    /// How far it came.
    pub state: AttemptState,
    /// From starting QEMU to the agent's answer, milliseconds.
    pub ready_after_ms: Option<u64>,
    /// True if its test was started: the guest was ready, and what the test needs of the kernel was loaded.
    pub started: bool,
    /// Facts that the guest reported about itself.
    pub guest: Option<GuestFacts>,
    /// Modules that took the place of the kernel's, by name: their build ids, as they were found in the
    /// guest.
    pub modules: BTreeMap<String, String>,
    /// Where the guest's tasks stood when it was found to hang, most telling first.
    pub stacks: Vec<TaskStack>,
    /// How md and dm stood then, if the guest could still say.
    pub storage: Option<StorageState>,
    /// Reports in the kernel's log, in order.
    pub kernel_reports: Vec<KernelReport>,
    /// Remarks about this attempt.
    pub remarks: Vec<Remark>,
}

/// How far an attempt got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// No VM was started for it.
    NotStarted,
    /// Its VM was started, and the events end before it does.
    Running,
    /// It is over.
    Finished {
        /// The outcome as it was recorded.
        outcome: Outcome,
        /// Measurements, and references to what was kept.
        facts: Box<AttemptFacts>,
    },
}

/// A test that was selected and not planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotPlanned {
    /// Which test.
    pub test: TestId,
    /// On which kernel.
    pub kernel_idx: u32,
    /// Why.
    pub reason: String,
}

/// Something that a reader should know, and that is no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Whose doing it is.
    pub blame: Blame,
    /// The remark, in a sentence.
    pub text: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RunEnd {
    /// It went through its plan.
    Finished,
    /// A signal or the user ended it early, and the harness wrote that down.
    Interrupted,
    /// The events just stop: the harness was killed, or it still runs.
    #[default]
    Cut,
}

impl RunRecord {
    /// The attempt with this number.
    pub fn attempt(&self, number: u32) -> Option<&Attempt> {
        self.attempts.get(*self.places.get(&number)?)
    }

    /// Adds where frames are in a kernel's source; what is known already stands.
    pub fn add_lines(&mut self, kernel_idx: u32, frames: Vec<LocatedFrame>) {
        for LocatedFrame { frame, places } in frames {
            self.lines.entry((kernel_idx, frame)).or_insert(places);
        }
    }

    /// A short name for a kernel, unique in the run: its release if that is enough, and as the user named it
    /// if two kernels share a release, or if its md is not its own: then the release says what it is not.
    pub fn kernel_label(&self, kernel_idx: u32) -> String {
        match self.kernels.get(&kernel_idx) {
            None => format!("kernel#{kernel_idx}"),
            Some(kernel) => {
                let n_same = self.kernels.values().filter(|other| other.release == kernel.release).count();
                if n_same > 1 || kernel.overlay().is_some() {
                    kernel.spec.clone()
                } else {
                    kernel.release.clone()
                }
            }
        }
    }

    /// All kernels that the run speaks of, ready or not, in order.
    pub fn kernel_idxs(&self) -> Vec<u32> {
        let attempted = self.attempts.iter().map(|attempt| attempt.kernel_idx);
        let not_planned = self.not_planned.iter().map(|test| test.kernel_idx);
        let mut idxs: Vec<u32> = self.kernels.keys().copied().chain(attempted).chain(not_planned).collect();
        idxs.sort_unstable();
        idxs.dedup();
        idxs
    }

    /// Records that the events contradict themselves. That is the harness's fault, never a test's.
    pub(crate) fn add_oddity(&mut self, text: String) {
        self.remarks.push(Remark { blame: Blame::Harness, text });
    }
}

impl Kernel {
    /// The source that replaces this kernel's own md and dm-raid, as the user named it:
    /// `~/linux`, `plant e3`.
    pub(crate) fn overlay(&self) -> Option<String> {
        let of = |spec: &str| {
            let tree = spec.split_once("+md:").map(|(_, tree)| tree.to_owned());
            tree.or_else(|| spec.split_once("+plant:").map(|(_, plant)| format!("plant {plant}")))
        };
        of(&self.spec).or_else(|| of(&self.exact_spec))
    }
}

impl Attempt {
    /// The recorded outcome and measurements, if the attempt is over.
    pub fn finished(&self) -> Option<(&Outcome, &AttemptFacts)> {
        match &self.state {
            AttemptState::NotStarted | AttemptState::Running => None,
            AttemptState::Finished { outcome, facts } => Some((outcome, facts)),
        }
    }

    /// How long the test took, or else its VM, milliseconds.
    pub fn duration_ms(&self) -> Option<u64> {
        self.finished().map(|(_, facts)| facts.test_ms.unwrap_or(facts.vm_ms))
    }
}
