//! The boundary to virtual machines: what the runner asks of one, and what one tells.
//!
//! Only [`qemu`] and what lies below it knows QEMU. Everything a VM tells arrives as [`Input`] on
//! one channel, so that the runner's decisions need no VM to be tested.

pub mod accel;
pub mod find;
pub mod greeting;
pub mod host;
pub mod kvm;
mod memory;
pub mod qemu;
pub(crate) mod qmp;
pub mod snapshot;
pub mod start;
pub mod talk;
mod threads;

use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use protocol::codec::Garbage;
use protocol::program::ReplacedModules;
use protocol::wire::{Message, Request};

pub use accel::Accel;

/// Inputs that may wait to be looked at: a guest that floods is slowed down, not stored.
pub(crate) const INPUTS_MAX: usize = 64;
/// How often the clock is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Settings that only benchmarks change in how a test is run, to compare with it; users get the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// The machine has none of our settings that only make it faster: processor and kernel options are as
    /// virtme-ng starts a VM.
    pub stock_machine: bool,
    /// The guest takes no samples of the test, so that a hang is seen by its silence alone.
    pub unwatched: bool,
}

/// The machine that a VM is started as.
#[derive(Clone, Debug)]
pub struct VmSpec {
    /// The kernel's image (bzImage).
    pub kernel: PathBuf,
    /// The initramfs, with the agent as its init.
    pub initramfs: PathBuf,
    /// The guest's root, a squashfs.
    pub root_image: PathBuf,
    /// The kernel's modules, a squashfs.
    pub modules_image: PathBuf,
    /// Memory, MiB.
    pub ram_mib: u32,
    /// Processors.
    pub vcpus: u32,
    /// How guest code is executed.
    pub accel: Accel,
    /// For a guest that runs guests of its own: an image with what it needs for that. Its processor is one
    /// that can.
    pub outer_image: Option<PathBuf>,
    /// What takes the place of the kernel's modules once the guest runs: no part of the machine that is
    /// saved.
    pub replaced: Option<Replaced>,
    /// Modules that the guest's agent loads before the guest is saved, with commas between them.
    pub preload: String,
    /// Settings of a benchmark.
    pub tuning: Tuning,
    /// Added to the kernel's command line.
    pub append: String,
    /// It is started to be saved ([`Vm::save`]).
    pub saves: bool,
    /// A file that [`Vm::save`] made of the same machine, with its memory beside it: go on from there instead
    /// of booting.
    pub restore: Option<PathBuf>,
    /// Where QEMU's own complaints go.
    pub log: PathBuf,
}

/// Modules that are plugged in to take the place of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The image of them.
    pub image: PathBuf,
    /// The guest's agent is told these.
    pub modules: ReplacedModules,
}

/// Something that a VM told.
#[derive(Debug)]
pub enum Input {
    /// Bytes on the serial console.
    Console(Vec<u8>),
    /// A line on the agent's port.
    Agent(Result<Message, Garbage>),
    /// A line on the files' port.
    Files(Result<Message, Garbage>),
    /// The hypervisor's own word.
    Hypervisor(HypervisorEvent),
    /// The hypervisor's answer to an [`Ask`].
    Answer(Answer),
    /// The VM is gone; nothing follows.
    Ended(VmEnd),
}

/// An event of the hypervisor about the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HypervisorEvent {
    /// The guest kernel panicked (pvpanic).
    Panicked,
    /// The guest is going away.
    Shutdown {
        /// Whose doing that is.
        cause: ShutdownCause,
        /// The hypervisor's own word for it, for people: `guest-shutdown`, `guest-reset`, `host-signal`, …
        reason: String,
    },
    /// The guest was stopped by the hypervisor, which we did not ask for.
    Stopped,
    /// The state that was to be saved or restored has been.
    Migrated,
    /// The hypervisor cannot do what it was asked for.
    Refused {
        /// The error.
        error: String,
    },
}

/// Whose doing it is that a guest goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownCause {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest ended otherwise by its own doing: it reset the machine, or panicked.
    Guest,
    /// The hypervisor was ended from outside: by a signal, or by its monitor.
    Outside,
}

/// Whether the hypervisor executes the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunState {
    /// True if it does, or if an event says otherwise: the guest has powered off, or panicked.
    pub executes: bool,
    /// The hypervisor's own word for it, for people: `running`, `paused`, `io-error`, …
    pub name: String,
}

/// A question to the hypervisor, past the guest's agent: of use when that says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Does the guest run, or did the hypervisor stop it? [`Answer::RunState`].
    RunState,
    /// How much processor time has the host given to the guest? [`Answer::Times`].
    Times,
    /// Contents of the processors' registers: [`Answer::Registers`].
    Registers,
    /// A break on the serial console, then this key: the kernel's own diagnosis (sysrq), which it
    /// answers on the console. Needs interrupts.
    SysRq(char),
    /// An interrupt that cannot be masked. A kernel that knows no reason for one panics and says where
    /// it was (`unknown_nmi_panic`): nothing can be asked of it afterwards.
    Nmi,
    /// Stop the guest and write its memory to this new file: [`Answer::Dumped`].
    Dump(PathBuf),
    /// Stop the guest where it panics, rather than end it.
    StopOnPanic,
}

/// An answer of the hypervisor. Not every [`Ask`] gets one, and a hypervisor that is stopped itself answers
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Does the guest run?
    RunState(RunState),
    /// Time that the host gave to the guest.
    Times(HostTimes),
    /// Registers, as text for people.
    Registers(String),
    /// The guest's memory is in the file, or why it is not.
    Dumped(Result<(), String>),
}

/// Times of the threads that are the guest, by the host's scheduler, since they began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTimes {
    /// The host's clock when it was read, milliseconds since the VM began.
    pub(crate) at_ms: u64,
    /// The thread that serves the guest's devices.
    pub(crate) devices: ThreadTimes,
    /// Each virtual processor's thread.
    pub(crate) vcpus: Vec<ThreadTimes>,
}

/// A thread's times (`/proc/PID/schedstat`, sched-stats.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadTimes {
    /// Spent on a processor, milliseconds.
    pub(crate) ran_ms: u64,
    /// Spent waiting for one while it could have run, milliseconds.
    pub(crate) waited_ms: u64,
    /// It waits for the host's disk or memory at the moment (state D).
    pub(crate) is_blocked: bool,
    /// Pages that it had to wait for so far: the host had to read them from a disk.
    pub(crate) major_faults: u64,
}

/// Rights of a guest on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it: any number of guests share the file.
    Read,
    /// Write it, too.
    Write,
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmEnd {
    /// The hypervisor ended as it should.
    Clean,
    /// We killed it.
    Killed,
    /// The hypervisor itself failed: the host's fault or ours.
    Failed {
        /// The error.
        error: String,
    },
}

impl VmEnd {
    /// Its channels ended, and it never said that it did.
    pub(crate) fn lost() -> Self {
        VmEnd::Failed { error: "lost the VM's channels".to_owned() }
    }
}

/// Why a VM could not be started. Never the kernel's fault: that shows once it runs.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct InfraError(pub anyhow::Error);

/// Starts VMs. One of the three traits that have a fake.
pub trait Hypervisor: Sync {
    /// Everything that the state of a running `spec` depends on: a state that was saved goes on only
    /// in a machine of the same identity. Never empty.
    fn identity(&self, spec: &VmSpec) -> String;

    /// Starts a VM that tells `inputs` what happens. The calling thread must outlive the VM:
    /// the hypervisor dies with it.
    fn start(&self, spec: &VmSpec, inputs: SyncSender<Input>) -> Result<Box<dyn Vm>, InfraError>;
}

/// A running VM. Dropping it kills it.
pub trait Vm: Send {
    /// Sends a request to the guest's agent. An error after seconds if the guest does not read.
    fn send(&mut self, request: &Request) -> Result<(), InfraError>;

    /// Writes the state of a running guest that [saves](VmSpec::saves) to a new file `to`: all but its
    /// memory. [`HypervisorEvent::Migrated`] or [`HypervisorEvent::Refused`] follows; the guest stands still
    /// from then on.
    fn save(&mut self, to: &Path) -> Result<(), InfraError>;

    /// Writes the memory of a guest whose state has been saved in `state` to a new file beside that.
    fn save_memory(&mut self, state: &Path) -> Result<(), InfraError>;

    /// Plugs a disk in, whose content is the file `image` and whose serial number is `serial`.
    /// [`HypervisorEvent::Refused`] follows if that fails.
    fn plug_disk(&mut self, image: &Path, serial: &str, access: Access) -> Result<(), InfraError>;

    /// Asks the hypervisor; what it answers comes as [`Input::Answer`].
    fn ask(&mut self, ask: &Ask) -> Result<(), InfraError>;

    /// Ends it at once. [`Input::Ended`] still follows.
    fn kill(&mut self);
}
