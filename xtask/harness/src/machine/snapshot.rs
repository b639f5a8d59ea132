//! Snapshots: a machine is booted once, saved when its agent has answered, and restored for every
//! attempt that wants the same machine.
//!
//! A snapshot is an artifact of the store, named by everything that the saved state depends on
//! ([`Hypervisor::identity`]). Whoever needs one first makes it, others wait; who cannot have one boots.
//! Deliberately not here: the fallback itself ([`super::start`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vm_images::host::Cancel;
use vm_images::host::progress::Progress;
use vm_images::store::{Store, StoreError};

use crate::console::{Crash, Lines};

use super::greeting::Opening;
use super::talk::{Talk, Unheard};
use super::{Hypervisor, HypervisorEvent, InfraError, Input, VmEnd, VmSpec};

/// Kind of these artifacts in the store.
const KIND: &str = "snapshots";
/// Name of the file with the state.
const STATE: &str = "state";
/// How much of the disk snapshots may take, bytes: about 50 of them. Those that were used least recently go.
const KEPT_BYTES_MAX: u64 = 8 << 30;
/// Consecutive restores of one machine that may time out (a busy host) before the snapshot itself is
/// considered bad.
const LATE_MAX: u32 = 3;
/// How long saving may take.
const SAVE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no snapshot.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The kernel said itself what keeps it from booting: this.
    #[error("the guest does not boot: {0}")]
    Crashed(String),
    /// It did not boot, and nothing says why: a busy host does that, too. Its boot for a test tells more than
    /// we could.
    #[error("the guest does not boot: {0}")]
    NoBoot(String),
    /// The hypervisor, the store or the disk failed.
    #[error("{0}")]
    Infra(String),
    /// The run was cancelled.
    #[error("interrupted")]
    Cancelled,
}

impl From<StoreError> for SnapshotError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Cancelled => SnapshotError::Cancelled,
            other => SnapshotError::Infra(other.to_string()),
        }
    }
}

impl From<InfraError> for SnapshotError {
    fn from(error: InfraError) -> Self {
        SnapshotError::Infra(error.to_string())
    }
}

/// A run's knowledge of a snapshot: nothing yet, where it is, or why there is none.
type Known = Arc<Mutex<Option<Result<PathBuf, SnapshotError>>>>;

/// The snapshots of one run.
pub struct Snapshots<'a> {
    hypervisor: &'a dyn Hypervisor,
    store: &'a Store,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    known: Mutex<BTreeMap<String, Known>>,
    /// By machine, the restores in a row that came to nothing in time.
    late: Mutex<BTreeMap<String, u32>>,
}

/// Why a guest that was to be restored never answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotRestored {
    /// The state is no good, or QEMU cannot take it.
    Broken(String),
    /// Nothing came in time: it may be the state's doing, or a busy host's.
    Late(String),
}

/// The saved state of one machine, to restore a guest from. Whoever restores one says afterwards how that
/// went.
pub struct Snapshot<'a> {
    snapshots: &'a Snapshots<'a>,
    /// The machine's ([`Hypervisor::identity`]).
    identity: String,
    state: PathBuf,
}

impl Snapshot<'_> {
    /// The file with the state ([`VmSpec::restore`]).
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A guest has been restored: the state is good.
    pub(super) fn restored(&self) {
        self.snapshots.late.lock().expect("no panic with the lock").remove(&self.identity);
    }

    /// A guest could not be restored. Removes a state that is broken, or was late again and again; gives the
    /// words that say what was done.
    pub(super) fn not_restored(&self, why: &NotRestored) -> String {
        let why = match why {
            NotRestored::Broken(why) => why,
            NotRestored::Late(why) => {
                let n_late = {
                    let mut late = self.snapshots.late.lock().expect("no panic with the lock");
                    let n_late = late.entry(self.identity.clone()).or_default();
                    *n_late += 1;
                    *n_late
                };
                if n_late < LATE_MAX {
                    return format!("the guest was not restored in time ({why}): booted instead");
                }
                why
            }
        };
        self.snapshots.discard(&self.identity, why);
        format!("the guest could not be restored ({why}): booted instead")
    }
}

impl<'a> Snapshots<'a> {
    /// None is known yet.
    pub fn new(
        hypervisor: &'a dyn Hypervisor,
        store: &'a Store,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Self {
        Snapshots { hypervisor, store, progress, cancel, known: Mutex::default(), late: Mutex::default() }
    }

    /// The saved state of `spec`'s machine; made first if there is none, which takes a boot of
    /// `boot_timeout` at most. A reason why there is none holds for the whole run.
    pub fn of(&self, spec: &VmSpec, boot_timeout: Duration) -> Result<Snapshot<'_>, SnapshotError> {
        let identity = self.hypervisor.identity(spec);
        let known = {
            let mut all = self.known.lock().expect("no panic with the lock");
            Arc::clone(all.entry(identity.clone()).or_default())
        };
        // Who comes while it is made waits here; other machines' snapshots do not.
        let mut known = known.lock().expect("no panic with the lock");
        let answer = match &*known {
            // It may have been removed since, by us or by another run.
            Some(answer) if answer.as_ref().map_or(true, |state| state.exists()) => answer.clone(),
            Some(_) | None => {
                let answer = self.find_or_make(spec, &identity, boot_timeout);
                self.progress.end_step();
                *known = Some(answer.clone());
                answer
            }
        };
        Ok(Snapshot { snapshots: self, identity, state: answer? })
    }

    /// Removes a state, and makes no other of that machine in this run.
    fn discard(&self, identity: &str, why: &str) {
        let error = SnapshotError::Infra(why.to_owned());
        let known: Known = Arc::new(Mutex::new(Some(Err(error))));
        self.known.lock().expect("no panic with the lock").insert(identity.to_owned(), known);
        self.store.remove(KIND, [("machine", identity)]);
    }

    fn find_or_make(
        &self,
        spec: &VmSpec,
        identity: &str,
        boot_timeout: Duration,
    ) -> Result<PathBuf, SnapshotError> {
        let inputs = [("machine", identity)];
        let artifact =
            self.store.artifact::<SnapshotError>(KIND, &inputs, self.progress, self.cancel, |folder| {
                // Before it grows, so that a disk which is nearly full has room.
                self.store.shrink(KIND, KEPT_BYTES_MAX);
                self.progress.step("booting a guest once, to restore it for each test");
                self.make(spec, &folder.join(STATE), boot_timeout)
            })?;
        self.store.touch(&artifact);
        Ok(artifact.path(STATE))
    }

    fn make(&self, spec: &VmSpec, state: &Path, boot_timeout: Duration) -> Result<(), SnapshotError> {
        let log = self.store.temporary().join(format!("snapshot-{:?}.log", std::thread::current().id()));
        let spec = VmSpec { saves: true, restore: None, log: log.clone(), ..spec.clone() };
        let mut talk = Talk::start(self.hypervisor, &spec, Opening::without_entropy(), self.cancel)?;
        let (mut lines, mut crash) = (Lines::default(), Crash::default());
        let answered = talk.wait_for_answer(boot_timeout, |input| {
            if let Input::Console(bytes) = input {
                lines.push(bytes, |line| crash.look(line));
            }
        });
        let unanswered = |why: String| match crash.title() {
            Some(title) => SnapshotError::Crashed(format!("{title}; {why}")),
            None => SnapshotError::NoBoot(why),
        };
        answered.map_err(|error| match error {
            Unheard::Late => unanswered(format!("no answer for {} s", boot_timeout.as_secs())),
            Unheard::Ended(VmEnd::Clean | VmEnd::Killed) => unanswered("it went away".into()),
            Unheard::Ended(VmEnd::Failed { error }) | Unheard::OtherAgent(error) => {
                SnapshotError::Infra(error)
            }
            Unheard::Cancelled => SnapshotError::Cancelled,
        })?;
        talk.vm().save(state)?;
        let words = |error: String| match fs::read_to_string(&log).unwrap_or_default().lines().last() {
            Some(line) => SnapshotError::Infra(format!("{error}: {line}")),
            None => SnapshotError::Infra(error),
        };
        let saved = talk.wait(SAVE_TIMEOUT, |input| match input {
            Input::Hypervisor(HypervisorEvent::Migrated) => Some(Ok(())),
            Input::Hypervisor(HypervisorEvent::Refused { error }) => Some(Err(words(error))),
            Input::Hypervisor(_)
            | Input::Console(_)
            | Input::Agent(_)
            | Input::Files(_)
            | Input::Answer(_)
            | Input::Ended(_) => None,
        });
        saved.map_err(|error| match error {
            Unheard::Late => {
                let error = format!("saving a guest took longer than {} s", SAVE_TIMEOUT.as_secs());
                SnapshotError::Infra(error)
            }
            Unheard::Ended(_) => words("QEMU ended while saving".into()),
            Unheard::OtherAgent(error) => SnapshotError::Infra(error),
            Unheard::Cancelled => SnapshotError::Cancelled,
        })??;
        Ok(talk.vm().save_memory(state)?)
    }
}
