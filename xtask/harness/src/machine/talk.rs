//! Talks to a guest step by step: for those who want an answer or two of it, and keep no logs.
//!
//! Deliberately not here: a guest that is watched while a test or a shell runs in it ([`super::start`]).

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use protocol::wire::{GuestFacts, Message, Request};
use vm_images::host::Cancel;

use super::greeting::Opening;
use super::{Hypervisor, INPUTS_MAX, InfraError, Input, TICK, Vm, VmEnd, VmSpec};

/// A VM that was greeted, and the other end of what it tells. Dropping it kills the VM.
pub struct Talk<'a> {
    vm: Box<dyn Vm>,
    told: Receiver<Input>,
    opening: Opening,
    cancel: &'a Cancel,
}

/// Why what was waited for did not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// The time is over.
    #[error("the guest did not do in time what it should")]
    Late,
    /// The VM ended before.
    #[error("the VM ended too early: {0:?}")]
    Ended(VmEnd),
    /// The guest's agent is another than ours.
    #[error("{0}")]
    OtherAgent(String),
    /// The run was cancelled.
    #[error("interrupted")]
    Cancelled,
}

impl<'a> Talk<'a> {
    /// Starts a VM and greets its guest, which answers when it is up ([`Self::wait_for_answer`]).
    ///
    /// # Errors
    /// If the VM cannot be started.
    pub fn start(
        hypervisor: &dyn Hypervisor,
        spec: &VmSpec,
        opening: Opening,
        cancel: &'a Cancel,
    ) -> Result<Self, InfraError> {
        let (inputs, told) = sync_channel(INPUTS_MAX);
        let mut vm = hypervisor.start(spec, inputs)?;
        vm.send(&opening.hello())?;
        Ok(Talk { vm, told, opening, cancel })
    }

    /// The VM, to be asked for more.
    pub fn vm(&mut self) -> &mut dyn Vm {
        &mut *self.vm
    }

    /// Sends a request to the guest's agent.
    ///
    /// # Errors
    /// If the guest does not read.
    pub fn send(&mut self, request: &Request) -> Result<(), InfraError> {
        self.vm.send(request)
    }

    /// Waits until the guest has answered the greeting; `see` is shown all that the VM tells until then.
    ///
    /// # Errors
    /// If it does not within `timeout`.
    pub fn wait_for_answer(
        &mut self,
        timeout: Duration,
        mut see: impl FnMut(&Input),
    ) -> Result<GuestFacts, Unheard> {
        let opening = self.opening.clone();
        self.wait(timeout, |input| {
            see(&input);
            let Input::Agent(Ok(Message::Hello { version, session, guest })) = input else { return None };
            match opening.is_answered(version, session) {
                Ok(true) => Some(Ok(guest)),
                Ok(false) => None,
                Err(why) => Some(Err(Unheard::OtherAgent(why))),
            }
        })?
    }

    /// Waits until `take` takes something that the VM tells.
    ///
    /// # Errors
    /// If it does not within `timeout`, or the VM ends and `take` does not take that.
    pub fn wait<T>(
        &mut self,
        timeout: Duration,
        mut take: impl FnMut(Input) -> Option<T>,
    ) -> Result<T, Unheard> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.cancel.is_cancelled() {
                return Err(Unheard::Cancelled);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let input = match self.told.recv_timeout(left.min(TICK)) {
                Ok(input) => input,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Err(Unheard::Late),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => Input::Ended(VmEnd::lost()),
            };
            let end = if let Input::Ended(end) = &input { Some(end.clone()) } else { None };
            if let Some(answer) = take(input) {
                return Ok(answer);
            }
            if let Some(end) = end {
                return Err(Unheard::Ended(end));
            }
            // A guest that never stops talking has no more time than one that is silent.
            if left.is_zero() {
                return Err(Unheard::Late);
            }
        }
    }

    /// Ends the VM at once, and returns when it is gone.
    ///
    /// # Errors
    /// If it is not within `timeout`.
    pub fn end(mut self, timeout: Duration) -> Result<(), Unheard> {
        self.vm.kill();
        self.wait(timeout, |input| matches!(input, Input::Ended(_)).then_some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::IdleVm;

    #[test]
    fn a_guest_that_never_stops_talking_is_late_all_the_same() {
        let cancel = Cancel::default();
        let (inputs, told) = sync_channel(INPUTS_MAX);
        let flood = std::thread::spawn(move || {
            let end = Instant::now() + Duration::from_secs(10);
            while Instant::now() < end && inputs.send(Input::Console(b"x".to_vec())).is_ok() {}
        });
        let mut talk =
            Talk { vm: Box::new(IdleVm), told, opening: Opening::without_entropy(), cancel: &cancel };
        let started = Instant::now();
        // Slower than the flood, so that something always waits to be read.
        let slow = |_| {
            std::thread::sleep(Duration::from_millis(1));
            None::<()>
        };
        assert_eq!(talk.wait(Duration::from_millis(50), slow), Err(Unheard::Late));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        drop(talk);
        flood.join().unwrap();
    }
}
