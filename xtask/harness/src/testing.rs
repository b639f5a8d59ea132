//! Values that several modules' tests are made of: a test's job, a machine, limits of time, a guest's
//! greeting. Each says nothing of interest by itself; a test changes the field that it is about.

use std::path::Path;
use std::time::Duration;

use protocol::TestId;
use protocol::sample::{EVERY_MS, Sample, Storage, TaskSample};
use protocol::wire::{GuestFacts, Request};

use crate::attempt::TimeLimits;
use crate::machine::{Accel, Access, Ask, HypervisorEvent, InfraError, ShutdownCause, Tuning, Vm, VmSpec};
use crate::suite::{Contract, Job};

/// The limits of an attempt that is played without a VM.
pub(crate) const LIMITS: TimeLimits = TimeLimits {
    boot_timeout: Duration::from_secs(60),
    restore_timeout: Duration::from_secs(10),
    silence_timeout: Duration::from_secs(30),
    test_timeout: Duration::from_secs(100),
    heartbeat_timeout: Duration::from_secs(20),
    grace_period: Duration::from_secs(5),
    leaving_timeout: Duration::from_secs(1800),
};

/// Limits of time that are all the same.
pub(crate) fn limits_of(limit: Duration) -> TimeLimits {
    TimeLimits {
        boot_timeout: limit,
        restore_timeout: limit,
        silence_timeout: limit,
        test_timeout: limit,
        heartbeat_timeout: limit,
        grace_period: limit,
        leaving_timeout: limit,
    }
}

/// A job of the suite `lvm2`, of which nothing is said but the test's name.
pub(crate) fn job(name: &str) -> Job {
    Job {
        id: TestId::new("lvm2", name).expect("a test's name"),
        argv: vec!["bash".into()],
        cwd: "/".into(),
        env: Default::default(),
        make_dirs: vec![],
        load_modules: vec![],
        preload_modules: vec![],
        allow: vec![],
        required_modules: vec![],
        wanted_modules: vec![],
        own_modules: None,
        files: vec![],
        disks: vec![],
        contract: Contract::default(),
        ram_mib: 1024,
        vcpus: 1,
        silence_timeout: Duration::ZERO,
        test_timeout: Duration::ZERO,
    }
}

/// A machine whose files nobody reads.
pub(crate) fn vm() -> VmSpec {
    VmSpec {
        kernel: "/k".into(),
        initramfs: "/i".into(),
        root_image: "/r".into(),
        modules_image: "/m".into(),
        ram_mib: 512,
        vcpus: 1,
        accel: Accel::Tcg,
        outer_image: None,
        replaced: None,
        preload: String::new(),
        tuning: Tuning::default(),
        append: String::new(),
        saves: false,
        restore: None,
        log: "/l".into(),
    }
}

/// A VM that takes everything and does nothing.
pub(crate) struct IdleVm;

impl Vm for IdleVm {
    fn send(&mut self, _: &Request) -> Result<(), InfraError> {
        Ok(())
    }
    fn save(&mut self, _: &Path) -> Result<(), InfraError> {
        Ok(())
    }
    fn save_memory(&mut self, _: &Path) -> Result<(), InfraError> {
        Ok(())
    }
    fn plug_disk(&mut self, _: &Path, _: &str, _: Access) -> Result<(), InfraError> {
        Ok(())
    }
    fn ask(&mut self, _: &Ask) -> Result<(), InfraError> {
        Ok(())
    }
    fn kill(&mut self) {}
}

/// Facts that a guest gives when it is greeted.
pub(crate) fn guest_facts() -> GuestFacts {
    GuestFacts {
        kernel_release: "6.12".into(),
        kernel_version: "#1".into(),
        boot_ms: 1,
        mem_total_kib: 1,
        n_cpus: 1,
    }
}

/// The hypervisor's word that the guest is going away, in QEMU's words.
pub(crate) fn shutdown(cause: ShutdownCause) -> HypervisorEvent {
    let reason = match cause {
        ShutdownCause::PoweredOff => "guest-shutdown",
        ShutdownCause::Guest => "guest-reset",
        ShutdownCause::Outside => "host-signal",
    };
    HypervisorEvent::Shutdown { cause, reason: reason.into() }
}

/// A task, given a processor `slices` times so far; one that is blocked or runs stands in md and waits for
/// md0, one of dm-raid's threads for nobody knows which array.
pub(crate) fn task(pid: u32, comm: &str, state: char, slices: u64) -> TaskSample {
    let frames =
        if matches!(state, 'D' | 'R') { vec!["md_stop+0x1/0x2 [md_mod]".to_owned()] } else { vec![] };
    TaskSample {
        pid,
        comm: comm.into(),
        of_test: !comm.starts_with("md"),
        state,
        sys_ms: 0,
        user_ms: 0,
        slices,
        sleeps_ms: None,
        frames,
        storage: matches!(state, 'D' | 'R')
            .then(|| storage(if comm.starts_with("mdX") { "" } else { "md0" })),
    }
}

/// A device on which nothing is done.
pub(crate) fn storage(device: &str) -> Storage {
    Storage { device: device.into(), ..Storage::default() }
}

/// The sample of second `n`, of a guest whose devices do nothing.
pub(crate) fn sample(n: u64, tasks: Vec<TaskSample>) -> Sample {
    Sample {
        uptime_ms: n * EVERY_MS,
        tasks,
        io_done: 0,
        reads_done: 0,
        storage_writes: 0,
        host_io: 0,
        mdstat: 0,
        syncs: vec![],
        cost_us: 0,
        n_left_out: 0,
        paging: 0,
    }
}
