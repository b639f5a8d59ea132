//! Snapshots: a machine is booted once, saved when its agent has answered, and restored for every
//! attempt that wants the same machine.
//!
//! A snapshot is an artifact of the store, named by everything that the saved state depends on
//! ([`Hypervisor::identity`]). Whoever needs one first makes it, others wait; who cannot have one boots.
//! Deliberately not here: the fallback itself ([`crate::attempt::drive`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use protocol::wire::{Message, Request, VERSION};
use vm_images::host::Cancel;
use vm_images::host::progress::Progress;
use vm_images::store::{Store, StoreError};

use crate::console::{Crash, Lines};

use super::{Hypervisor, HypervisorEvent, InfraError, Input, VmEnd, VmSpec};

/// Kind of these artifacts in the store.
const KIND: &str = "snapshots";
/// Name of the file with the state.
const STATE: &str = "state";
/// How much of the disk snapshots may take, bytes: about 50 of them. Those that were used least recently go.
const KEPT_BYTES_MAX: u64 = 8 << 30;
/// Restores in a row, of one machine, that may come to nothing in time: a busy host does that. So many of them are the
/// state's doing.
const LATE_MAX: u32 = 3;
/// How long saving may take.
const SAVE_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no snapshot.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The kernel said itself what keeps it from booting: this.
    #[error("the guest does not boot: {0}")]
    Crashed(String),
    /// It did not boot, and nothing says why: a busy host does that, too. Its boot for a test tells more than we could.
    #[error("the guest does not boot: {0}")]
    NoBoot(String),
    /// Of the hypervisor's, the store's, the disk's doing.
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

/// What one run knows of a snapshot: nothing yet, where it is, or why there is none.
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
    pub fn of(&self, spec: &VmSpec, boot_timeout: Duration) -> Result<PathBuf, SnapshotError> {
        let identity = self.hypervisor.identity(spec);
        let known = {
            let mut all = self.known.lock().expect("no panic with the lock");
            Arc::clone(all.entry(identity.clone()).or_default())
        };
        // Who comes while it is made waits here; other machines' snapshots do not.
        let mut known = known.lock().expect("no panic with the lock");
        match &*known {
            // It may have been removed since, by us or by another run.
            Some(Ok(state)) if !state.exists() => {}
            Some(answer) => return answer.clone(),
            None => {}
        }
        let answer = self.find_or_make(spec, &identity, boot_timeout);
        self.progress.end_step();
        *known = Some(answer.clone());
        answer
    }

    /// A guest has been restored: the state is good.
    pub(crate) fn restored(&self, spec: &VmSpec) {
        self.late.lock().expect("no panic with the lock").remove(&self.hypervisor.identity(spec));
    }

    /// A guest could not be restored. Removes a state that is broken, or was late again and again; gives the words that
    /// say what was done.
    pub(crate) fn not_restored(&self, spec: &VmSpec, why: &NotRestored) -> String {
        let why = match why {
            NotRestored::Broken(why) => why,
            NotRestored::Late(why) => {
                let identity = self.hypervisor.identity(spec);
                let n_late = {
                    let mut late = self.late.lock().expect("no panic with the lock");
                    let n_late = late.entry(identity).or_default();
                    *n_late += 1;
                    *n_late
                };
                if n_late < LATE_MAX {
                    return format!("the guest was not restored in time ({why}): booted instead");
                }
                why
            }
        };
        self.discard(spec, why);
        format!("the guest could not be restored ({why}): booted instead")
    }

    /// Removes a state, and makes no other of that machine in this run.
    fn discard(&self, spec: &VmSpec, why: &str) {
        let identity = self.hypervisor.identity(spec);
        let error = SnapshotError::Infra(why.to_owned());
        let known: Known = Arc::new(Mutex::new(Some(Err(error))));
        self.known.lock().expect("no panic with the lock").insert(identity.clone(), known);
        self.store.remove(KIND, [("machine", identity.as_str())]);
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
        let (inputs, told) = sync_channel(64);
        let mut vm = self.hypervisor.start(&spec, inputs)?;
        vm.send(&Request::Hello { version: VERSION, session: 1, entropy: vec![] })?;
        let words = |error: String| match fs::read_to_string(&log).unwrap_or_default().lines().last() {
            Some(line) => format!("{error}: {line}"),
            None => error,
        };
        let (mut lines, mut crash) = (Lines::default(), Crash::default());
        self.wait(&told, boot_timeout, |input| match input {
            Input::Agent(Ok(Message::Hello { .. })) => Some(Ok(())),
            Input::Ended(VmEnd::Failed { error }) => Some(Err(SnapshotError::Infra(error.clone()))),
            Input::Ended(VmEnd::Clean | VmEnd::Killed) => {
                Some(Err(SnapshotError::NoBoot("it went away".into())))
            }
            Input::Console(bytes) => {
                lines.push(bytes, |line| crash.look(line));
                None
            }
            Input::Agent(_) | Input::Files(_) | Input::Hypervisor(_) | Input::Answer(_) => None,
        })
        .unwrap_or_else(|| Err(SnapshotError::NoBoot(format!("no answer for {} s", boot_timeout.as_secs()))))
        .map_err(|error| match (error, crash.title()) {
            (SnapshotError::NoBoot(why), Some(title)) => SnapshotError::Crashed(format!("{title}; {why}")),
            (error, _) => error,
        })?;
        vm.save(state)?;
        self.wait(&told, SAVE_TIMEOUT, |input| match input {
            Input::Hypervisor(HypervisorEvent::Migrated) => Some(Ok(())),
            Input::Hypervisor(HypervisorEvent::Refused { error }) => {
                Some(Err(SnapshotError::Infra(words(error.clone()))))
            }
            Input::Ended(_) => Some(Err(SnapshotError::Infra(words("QEMU ended while saving".into())))),
            Input::Console(_)
            | Input::Agent(_)
            | Input::Files(_)
            | Input::Hypervisor(_)
            | Input::Answer(_) => None,
        })
        .unwrap_or_else(|| {
            let error = format!("saving a guest took longer than {} s", SAVE_TIMEOUT.as_secs());
            Err(SnapshotError::Infra(error))
        })?;
        Ok(vm.save_memory(state)?)
    }

    /// Waits for an input that `answer` takes; nothing if none comes in time.
    fn wait(
        &self,
        told: &Receiver<Input>,
        timeout: Duration,
        mut answer: impl FnMut(&Input) -> Option<Result<(), SnapshotError>>,
    ) -> Option<Result<(), SnapshotError>> {
        let end = Instant::now() + timeout;
        loop {
            if self.cancel.is_cancelled() {
                return Some(Err(SnapshotError::Cancelled));
            }
            match told.recv_timeout(Duration::from_millis(100)) {
                Ok(input) => {
                    if let Some(result) = answer(&input) {
                        return Some(result);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Some(Err(SnapshotError::Infra("lost the VM's channels".into())));
                }
            }
            if Instant::now() > end {
                return None;
            }
        }
    }
}
