//! One way to a guest, for a test and for a shell: it is restored or else booted ([`restore_or_boot`]), and
//! driven to its end ([`drive`]): what it tells goes into a state machine, with the time, and the effects of
//! that are carried out.
//!
//! Deliberately not here: what is decided ([`crate::attempt`], [`crate::shell::state`]), and short talks with
//! a guest ([`super::talk`]).

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;
use protocol::event::Blame;
use vm_images::host::Cancel;

use super::snapshot::{NotRestored, SnapshotError, Snapshots};
use super::{InfraError, Input, TICK, VmEnd, VmSpec};

/// A guest that is gone.
pub(crate) struct Ended<T> {
    /// The result of it.
    pub(crate) result: T,
    /// Why it never answered, if it did not: one that was to be restored is booted then.
    pub(crate) unanswered: Option<NotRestored>,
}

/// The result of a guest, restored or booted.
pub(crate) struct Started<T> {
    pub(crate) result: T,
    /// Why no guest could be saved although this one booted: whose doing that is, and in words.
    pub(crate) unsaved: Option<(Blame, String)>,
}

/// How long a guest may take from its start to its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartTimeouts {
    pub(crate) boot: Duration,
    pub(crate) restore: Duration,
}

/// Has `run` run a guest of `spec` to its end, within that time until it answers: restored, if `snapshots`
/// has one or can make one, and booted if there is none, or if it never answers. `remark` is told why it is
/// booted.
///
/// # Errors
/// Those of `run` and `remark`.
pub(crate) fn restore_or_boot<T>(
    spec: &VmSpec,
    snapshots: Option<&Snapshots<'_>>,
    timeouts: StartTimeouts,
    mut remark: impl FnMut(String) -> Result<()>,
    mut run: impl FnMut(&VmSpec, Duration) -> Result<Ended<T>>,
) -> Result<Started<T>> {
    // Half the time that booting gets: a guest that does not boot is booted again, for the record.
    let snapshot = snapshots.map(|snapshots| snapshots.of(spec, timeouts.boot / 2));
    let mut unsaved = None;
    match snapshot {
        Some(Ok(snapshot)) => {
            let restored = VmSpec { restore: Some(snapshot.state().to_owned()), ..spec.clone() };
            let Ended { result, unanswered } = run(&restored, timeouts.restore)?;
            match unanswered {
                None => {
                    snapshot.restored();
                    return Ok(Started { result, unsaved: None });
                }
                Some(why) => remark(snapshot.not_restored(&why))?,
            }
        }
        Some(Err(SnapshotError::Infra(why))) => {
            remark(format!("no snapshot could be made ({why}): booted instead"))?;
        }
        // What keeps a guest from booting shows when it is booted.
        Some(Err(SnapshotError::Crashed(why))) => unsaved = Some((Blame::Kernel, why)),
        Some(Err(SnapshotError::NoBoot(why))) => unsaved = Some((Blame::Host, why)),
        Some(Err(SnapshotError::Cancelled)) | None => {}
    }
    Ok(Started { result: run(spec, timeouts.boot)?.result, unsaved })
}

/// Decides what is done with a guest. Pure: time comes in as data, and effects go out.
pub(crate) trait Decide {
    /// An event that the decisions are made on.
    type Event: From<Input>;
    /// A step that a decision asks for.
    type Effect: Effect;

    /// Takes what happened.
    fn apply(&mut self, at: Duration, event: Self::Event) -> Vec<Self::Effect>;
    /// Looks at the clock: called at least every 200 ms.
    fn tick(&mut self, at: Duration) -> Vec<Self::Effect>;
    /// A signal ends it.
    fn interrupt(&mut self) -> Vec<Self::Effect>;
    /// The harness or the host can go no further.
    fn fail(&mut self, error: String) -> Vec<Self::Effect>;
    /// True once the VM is gone.
    fn is_over(&self) -> bool;
}

/// Something that is to be done.
pub(crate) trait Effect {
    /// True if the guest or its hypervisor has to take it, and may not; ending the VM is none of these.
    fn asks_the_vm(&self) -> bool;
}

/// Carries out what is decided.
pub(crate) trait Hands<S: Decide> {
    /// Sees what happens before it is decided on.
    fn see(&mut self, event: &S::Event) -> Result<()>;
    /// Does it. An error if the record of the guest cannot be kept: it ends, rather than go on unrecorded.
    fn carry_out(&mut self, effect: S::Effect) -> Result<CarriedOut<S::Event>>;
}

/// The result of carrying an effect out.
pub(crate) enum CarriedOut<E> {
    /// It is done.
    Done,
    /// It is done, and this happened.
    Happened(E),
    /// The VM does not take it.
    Failed(String),
}

impl<E> From<Result<(), InfraError>> for CarriedOut<E> {
    fn from(result: Result<(), InfraError>) -> Self {
        result.map_or_else(|error| CarriedOut::Failed(error.to_string()), |()| CarriedOut::Done)
    }
}

/// Drives a guest to its end: what comes through `events` into `state`, with the time since `started`, and
/// its effects, `first` before all others, out through `hands`. True if a signal ended it.
///
/// # Errors
/// Those of `hands`.
pub(crate) fn drive<S: Decide>(
    state: &mut S,
    hands: &mut impl Hands<S>,
    events: &Receiver<S::Event>,
    first: Vec<S::Effect>,
    started: Instant,
    cancel: &Cancel,
) -> Result<bool> {
    let mut effects = first;
    let mut interrupted = false;
    while !state.is_over() {
        carry_out(started.elapsed(), effects, state, hands)?;
        effects = match events.recv_timeout(TICK) {
            Ok(event) => {
                hands.see(&event)?;
                state.apply(started.elapsed(), event)
            }
            Err(RecvTimeoutError::Timeout) => vec![],
            Err(RecvTimeoutError::Disconnected) => {
                state.apply(started.elapsed(), Input::Ended(VmEnd::lost()).into())
            }
        };
        effects.extend(state.tick(started.elapsed()));
        if cancel.is_cancelled() && !interrupted {
            interrupted = true;
            effects.extend(state.interrupt());
        }
    }
    carry_out(started.elapsed(), effects, state, hands)?;
    Ok(interrupted)
}

/// Carries effects out in their order. If the VM does not take one, it is asked for nothing more, because
/// each request would wait as long and in vain; what is to be recorded still is, and the VM ends first.
fn carry_out<S: Decide>(
    at: Duration,
    effects: Vec<S::Effect>,
    state: &mut S,
    hands: &mut impl Hands<S>,
) -> Result<()> {
    let mut waiting = VecDeque::from(effects);
    while let Some(effect) = waiting.pop_front() {
        match hands.carry_out(effect)? {
            CarriedOut::Done => {}
            CarriedOut::Happened(event) => waiting.extend(state.apply(at, event)),
            CarriedOut::Failed(error) => {
                waiting.retain(|effect| !effect.asks_the_vm());
                state.fail(error).into_iter().rev().for_each(|effect| waiting.push_front(effect));
            }
        }
    }
    Ok(())
}

/// Removes the hypervisor's log if it is empty: it has nothing to say when all is well.
pub(crate) fn remove_empty_log(log: &Path) {
    if fs::symlink_metadata(log).is_ok_and(|data| data.is_file() && data.len() == 0) {
        let _ = fs::remove_file(log);
    }
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
