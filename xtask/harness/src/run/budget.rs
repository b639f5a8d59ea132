//! Limits the VMs that a run starts at a time, by the host's processors and memory.

use crate::machine::Accel;
use crate::run::schedule::{Budget, Item};
use crate::run::workers::Planned;

/// Virtual processors of all VMs under emulation, percent of the host's processors. In a sample of 12 RAID
/// tests of lvm2, 213 s were CPU time and about 100 s sleep, so 150 % keep all processors busy, and more gain
/// nothing.
const VCPUS_PERCENT_TCG: u32 = 150;

/// Virtual processors of all VMs under KVM, percent of the host's processors. CPU time is a smaller part
/// there. Not measured yet.
const VCPUS_PERCENT_KVM: u32 = 200;

/// Available memory that is not used for VMs, MiB.
const MEMORY_SPARED_MIB: u64 = 512;

/// The limits of a run: the user's number of VMs, else what processors and memory allow.
pub(crate) fn budget(n_vms: Option<usize>, accel: Accel, plan: &[Planned]) -> Budget {
    if let Some(n_vms) = n_vms {
        return Budget { n_vms, vcpus: None, memory_mib: None };
    }
    let n_cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let percent = match accel {
        Accel::Tcg => VCPUS_PERCENT_TCG,
        Accel::Kvm => VCPUS_PERCENT_KVM,
    };
    let vcpus = (u32::try_from(n_cpus).unwrap_or(u32::MAX / 1000).saturating_mul(percent) / 100).max(1);
    let smallest =
        |of: fn(&Item) -> u64| plan.iter().map(|planned| of(&planned.item())).min().unwrap_or(1).max(1);
    let memory_mib = memory_available_mib().map(|mib| mib.saturating_sub(MEMORY_SPARED_MIB));
    let by_cpus = u64::from(vcpus) / smallest(|item| u64::from(item.vcpus));
    let by_memory = memory_mib.map_or(u64::MAX, |mib| mib / smallest(|item| item.memory_mib));
    let n_vms = usize::try_from(by_cpus.min(by_memory).max(1)).unwrap_or(usize::MAX);
    Budget { n_vms, vcpus: Some(vcpus), memory_mib }
}

/// Memory available for VMs, MiB (`MemAvailable`, proc(5)).
pub fn memory_available_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}
