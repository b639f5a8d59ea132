//! Limits of time of an attempt, and the effects that it asks its driver for. Pure.
//!
//! Deliberately not here: when they are asked for ([`super::state`]), and how they are carried out
//! ([`super::drive`]).

use std::time::Duration;

use protocol::event::Event;
use protocol::wire::{MAX_CHUNK, Message, Request};

use crate::machine::{Ask, start};
use crate::suite::GivenFile;

/// All limits, scaled for the accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeLimits {
    /// From starting the VM to the agent's answer.
    pub(crate) boot_timeout: Duration,
    /// From starting a VM that is restored to the agent's answer: then it is booted instead.
    pub(crate) restore_timeout: Duration,
    /// Without a byte from the test.
    pub(crate) silence_timeout: Duration,
    /// For the test in all.
    pub(crate) test_timeout: Duration,
    /// Without a word from the agent.
    pub(crate) heartbeat_timeout: Duration,
    /// For files to come back, for the guest to power off, for a panicking kernel to end.
    pub(crate) grace_period: Duration,
    /// For what a test left behind and nobody can kill to go, by the host's clock: a guest that starves has
    /// few samples that count.
    pub(crate) leaving_timeout: Duration,
}

/// Something that the driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Send this to the guest.
    Send(Request),
    /// Plug in the job's disk of this number.
    PlugDisk { idx: usize, serial: String },
    /// Plug in the modules that take the place of the kernel's.
    PlugModules { serial: String },
    /// End the VM.
    Kill,
    /// Ask the hypervisor.
    Ask(Ask),
    /// Write the guest's memory to a file, if there is room: [`crate::machine::Answer::Dumped`] follows.
    Dump,
    /// Write down what the host saw of a guest that does not answer.
    HostEvidence(String),
    /// Append to events.jsonl.
    Record(Event),
    /// Append to the test's output, at this offset.
    Output { offset: u64, data: Vec<u8> },
    /// Append to the kernel log.
    KernelLog(String),
    /// Pass on to the keeper of collected files.
    File(Message),
    /// Show as the VM's newest line.
    Show(String),
}

impl start::Effect for Effect {
    fn asks_the_vm(&self) -> bool {
        match self {
            Effect::Send(_)
            | Effect::PlugDisk { .. }
            | Effect::PlugModules { .. }
            | Effect::Ask(_)
            | Effect::Dump => true,
            Effect::Kill
            | Effect::HostEvidence(_)
            | Effect::Record(_)
            | Effect::Output { .. }
            | Effect::KernelLog(_)
            | Effect::File(_)
            | Effect::Show(_) => false,
        }
    }
}

/// Serial number by which the guest knows a job's disk of this number.
pub(super) fn disk_serial(idx: usize) -> String {
    format!("mdr-disk{idx}")
}

/// A file in as many requests as it takes.
pub(super) fn put_file(file: &GivenFile) -> Vec<Effect> {
    // An empty file takes one, too.
    let n_pieces = file.content.len().div_ceil(MAX_CHUNK).max(1);
    let piece = |idx: usize| {
        let start = idx * MAX_CHUNK;
        let data = file.content[start..(start + MAX_CHUNK).min(file.content.len())].to_vec();
        let (name, mode, offset) = (file.name.clone(), file.mode, start as u64);
        Effect::Send(Request::PutFile { name, mode, offset, data })
    };
    (0..n_pieces).map(piece).collect()
}
