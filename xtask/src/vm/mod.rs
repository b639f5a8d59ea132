//! The boundary to virtual machines: what the runner asks of one, and what one tells.
//!
//! Only [`qemu`] and what lies below it knows QEMU. Everything a VM tells arrives as [`Input`] on
//! one channel, so that the runner's decisions need no VM to be tested.

pub(crate) mod accel;
pub(crate) mod qemu;
pub(crate) mod qmp;
pub(crate) mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use protocol::codec::Garbage;
use protocol::wire::{Message, Request};

pub(crate) use accel::Accel;

/// What a VM is made of.
#[derive(Clone, Debug)]
pub(crate) struct VmSpec {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) root_image: PathBuf,
    pub(crate) modules_image: PathBuf,
    pub(crate) ram_mib: u32,
    pub(crate) vcpus: u32,
    pub(crate) accel: Accel,
    /// Added to the kernel's command line.
    pub(crate) append: String,
    /// A file that [`Vm::save`] made of the same machine: go on from there instead of booting.
    pub(crate) restore: Option<PathBuf>,
    /// Where QEMU's own complaints go.
    pub(crate) log: PathBuf,
}

/// Something that a VM told.
#[derive(Debug)]
pub(crate) enum Input {
    /// Bytes on the serial console.
    Console(Vec<u8>),
    /// A line on the agent's port.
    Agent(Result<Message, Garbage>),
    /// A line on the files' port.
    Files(Result<Message, Garbage>),
    /// The hypervisor's own word.
    Hypervisor(HypervisorEvent),
    /// The VM is gone; nothing follows.
    Ended(VmEnd),
}

/// What the hypervisor says of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HypervisorEvent {
    /// The guest kernel panicked (pvpanic).
    Panicked,
    /// The guest is going away: `guest-shutdown`, `guest-reset`, `host-signal`, …
    Shutdown { reason: String },
    /// The guest was stopped by the hypervisor, which we did not ask for.
    Stopped,
    /// The state that was to be saved or restored has been.
    Migrated,
    /// The hypervisor cannot do what it was asked for.
    Refused { error: String },
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VmEnd {
    /// The hypervisor ended as it should.
    Clean,
    /// We killed it.
    Killed,
    /// The hypervisor itself failed: the host's fault or ours.
    Failed { error: String },
}

/// Why a VM could not be started. Never the kernel's fault: that shows once it runs.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub(crate) struct InfraError(pub(crate) anyhow::Error);

/// Starts VMs. One of the three traits that have a fake.
pub(crate) trait Hypervisor: Sync {
    /// Everything that the state of a running `spec` depends on: a state that was saved goes on only
    /// in a machine of the same identity. Never empty.
    fn identity(&self, spec: &VmSpec) -> String;

    /// Starts a VM that tells `inputs` what happens. The calling thread must outlive the VM:
    /// the hypervisor dies with it.
    fn start(&self, spec: &VmSpec, inputs: SyncSender<Input>) -> Result<Box<dyn Vm>, InfraError>;
}

/// A running VM. Dropping it kills it.
pub(crate) trait Vm: Send {
    /// Sends a request to the guest's agent. An error after seconds if the guest does not read.
    fn send(&mut self, request: &Request) -> Result<(), InfraError>;

    /// Writes the running guest's state to a new file `to`. [`HypervisorEvent::Migrated`] or
    /// [`HypervisorEvent::Refused`] follows; the guest stands still from then on.
    fn save(&mut self, to: &Path) -> Result<(), InfraError>;

    /// Plugs a disk in, whose content is the file `image` and whose serial number is `serial`.
    /// [`HypervisorEvent::Refused`] follows if that fails.
    fn plug_disk(&mut self, image: &Path, serial: &str) -> Result<(), InfraError>;

    /// Ends it at once. [`Input::Ended`] still follows.
    fn kill(&mut self);
}
