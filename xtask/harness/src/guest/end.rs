//! How a guest ends, and who is to blame for it, whether a test or a shell runs in it. Pure.
//!
//! Deliberately not here: the outcome of either ([`crate::attempt`], [`crate::shell::state`]).

use std::time::Duration;

use crate::console::PanicWatch;
use crate::machine::{HypervisorEvent, ShutdownCause, VmEnd};

/// Signs of a guest's end, collected while it lives.
#[derive(Debug, Default)]
pub(crate) struct EndWatch {
    panic: PanicWatch,
    /// Cause for which the machine went away, and the hypervisor's word for it.
    shutdown: Option<(ShutdownCause, String)>,
    /// The guest was asked to power off.
    asked_to_end: bool,
}

/// Other knowledge of a guest that has ended, which decides whose fault the end is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndContext<'a> {
    /// The line or report that names a fault of the kernel's.
    pub(crate) fault: Option<&'a str>,
    /// Why the agent gave up, if it did, in words that can only be its own.
    pub(crate) agent_gave_up: Option<&'a str>,
    /// Something is known that this end may only follow from.
    pub(crate) is_explained: bool,
}

/// Who is to blame for a VM's end, where nothing else explains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndBlame {
    /// The kernel: it panicked, or the machine went away by its own doing.
    Kernel { title: String },
    /// The hypervisor, the host, or the guest agent.
    Infra { error: String },
}

impl EndWatch {
    /// The console speaks of a panic.
    pub(crate) fn console_panics(&mut self, at: Duration) {
        self.panic.console_says(at);
    }

    /// The agent spoke.
    pub(crate) fn agent_spoke(&mut self, at: Duration) {
        self.panic.agent_spoke(at);
    }

    /// The guest is asked to power off.
    pub(crate) fn asked_to_power_off(&mut self) {
        self.asked_to_end = true;
    }

    /// When the kernel panicked, if it did.
    pub(crate) fn panicked_since(&self) -> Option<Duration> {
        self.panic.since()
    }

    /// Takes the hypervisor's word; an error if the VM cannot go on, by the host's doing.
    pub(crate) fn hypervisor(&mut self, at: Duration, event: HypervisorEvent) -> Result<(), String> {
        match event {
            HypervisorEvent::Panicked => self.panic.hypervisor_says(at),
            // Judged when the VM has ended: the console's last words may still be on their way.
            HypervisorEvent::Shutdown { cause, reason } => {
                self.shutdown.get_or_insert((cause, reason));
            }
            HypervisorEvent::Stopped if self.panic.since().is_none() => {
                return Err("QEMU stopped the guest by itself: see qemu.log".into());
            }
            HypervisorEvent::Refused { error } => return Err(format!("QEMU: {error}")),
            HypervisorEvent::Stopped | HypervisorEvent::Migrated => {}
        }
        Ok(())
    }

    /// The VM has ended; nothing where that only follows from what is already known.
    pub(crate) fn ended(&mut self, end: VmEnd, seen: EndContext<'_>) -> Option<EndBlame> {
        if self.asked_to_end && matches!(self.shutdown, Some((ShutdownCause::PoweredOff, _))) {
            self.panic.ended_as_asked();
        }
        if self.panic.since().is_some() {
            let title = seen.fault.unwrap_or("the kernel panicked without a word on the console");
            return Some(EndBlame::Kernel { title: title.to_owned() });
        }
        if let VmEnd::Failed { error } = end {
            return Some(EndBlame::Infra { error });
        }
        if seen.is_explained {
            return None;
        }
        // A kernel that faulted may be why the agent could not go on.
        if let (Some(words), None) = (seen.agent_gave_up, seen.fault) {
            return Some(EndBlame::Infra { error: format!("the guest agent gave up: {words}") });
        }
        Some(match &self.shutdown {
            Some((ShutdownCause::PoweredOff | ShutdownCause::Guest, reason)) => {
                let gone = || format!("the machine went away by itself ({reason})");
                EndBlame::Kernel { title: seen.fault.map_or_else(gone, str::to_owned) }
            }
            Some((ShutdownCause::Outside, reason)) => {
                EndBlame::Infra { error: format!("QEMU was ended from outside ({reason})") }
            }
            None => EndBlame::Infra { error: "QEMU ended without saying why".into() },
        })
    }
}
