//! The conditions under which a bench measured: the command, this version, the host, QEMU and its guests.
//!
//! Deliberately not here: the host's name and paths, which no report has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use harness::machine::host::processor_field;
use harness::run::begin::{harness_version, host_facts};

/// What VMs ran on. Each is usually one; a bench may try several kernels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Machines {
    qemus: BTreeSet<String>,
    accels: BTreeSet<String>,
    kernels: BTreeSet<String>,
}

impl Machines {
    /// Adds a VM: QEMU's version line, `kvm` or `tcg`, and the guest's `uname -r`.
    pub(super) fn add(&mut self, qemu: &str, accel: &str, kernel: &str) {
        let version = qemu.lines().next().unwrap_or_default().trim();
        self.qemus.insert(version.trim_start_matches("QEMU emulator version ").to_owned());
        self.accels.insert(accel.to_owned());
        self.kernels.insert(kernel.to_owned());
    }
}

/// The host, as far as figures depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) processor: String,
    pub(super) n_processors: String,
    pub(super) memory: String,
    /// True if the host is itself a VM; `None` if its processor does not say.
    pub(super) is_vm: Option<bool>,
    pub(super) kernel: String,
}

impl Host {
    /// This host.
    pub(super) fn read() -> Host {
        Host::of(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default(), &host_facts())
    }

    /// A host by its `/proc/cpuinfo` and the facts that a run records.
    fn of(cpuinfo: &str, facts: &BTreeMap<String, String>) -> Host {
        let field = |name| processor_field(cpuinfo, name);
        let fact = |name: &str| facts.get(name).cloned().unwrap_or_else(|| "?".to_owned());
        let memory = fact("memory");
        let mib = memory.strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
        Host {
            processor: field("model name").unwrap_or("?").to_owned(),
            n_processors: fact("cpus"),
            memory: mib.map_or(memory.clone(), |kib| format!("{} MiB", kib / 1024)),
            is_vm: field("flags").map(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            kernel: version_of(&fact("kernel")).to_owned(),
        }
    }
}

/// The version number that a kernel's release begins with: what follows may name a person or a machine.
fn version_of(release: &str) -> &str {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    release[..end].trim_end_matches('.')
}

/// All conditions of a bench.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    /// The command, with nothing in it that names this machine's files.
    pub(super) command: String,
    pub(super) date: String,
    /// Version and commit of md-regress.
    pub(super) version: String,
    pub(super) host: Host,
    pub(super) machines: Machines,
}

impl Conditions {
    /// Those of `command`, here and today.
    pub(super) fn of(command: String, machines: Machines) -> Conditions {
        let date = time::OffsetDateTime::now_utc().date().to_string();
        Conditions { command, date, version: harness_version(), host: Host::read(), machines }
    }

    /// Name and value of each; without those of VMs if there were none.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let Conditions { command, date, version, host, machines } = self;
        let is_vm = match host.is_vm {
            Some(true) => "yes",
            Some(false) => "no",
            None => "?",
        };
        let mut rows = vec![
            ("command", format!("`{command}`")),
            ("date", date.clone()),
            ("md-regress", version.clone()),
            ("processor", host.processor.clone()),
            ("processors", host.n_processors.clone()),
            ("memory", host.memory.clone()),
            ("the host is a VM", is_vm.to_owned()),
            ("host kernel", host.kernel.clone()),
        ];
        let of_vms = [
            ("QEMU", &machines.qemus),
            ("accelerator", &machines.accels),
            ("guest kernel", &machines.kernels),
        ];
        for (name, values) in of_vms {
            if !values.is_empty() {
                rows.push((name, values.iter().map(String::as_str).collect::<Vec<_>>().join(", ")));
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: AMD EPYC: 7763\nflags\t\t: fpu hypervisor lm\n\nprocessor\t: 1\nmodel name\t: other\n";

    fn facts() -> BTreeMap<String, String> {
        let facts = [("cpus", "2"), ("memory", "24684092 kB"), ("kernel", "6.12.1-ann.laptop+")];
        facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn a_host_is_read() {
        let host = Host::of(CPUINFO, &facts());
        let expected = Host {
            processor: "AMD EPYC: 7763".to_owned(),
            n_processors: "2".to_owned(),
            memory: "24105 MiB".to_owned(),
            is_vm: Some(true),
            kernel: "6.12.1".to_owned(),
        };
        assert_eq!(host, expected);
        assert_eq!(Host::of(&CPUINFO.replace(" hypervisor", ""), &facts()).is_vm, Some(false));
        let unknown = Host::of("", &BTreeMap::new());
        assert_eq!((unknown.processor.as_str(), unknown.memory.as_str(), unknown.is_vm), ("?", "?", None));
    }

    #[test]
    fn conditions_of_vms_stand_there_only_if_there_were_any() {
        let of = |machines: Machines| Conditions {
            command: "cargo xtask bench model".to_owned(),
            date: "2026-12-01".to_owned(),
            version: "0.1.0".to_owned(),
            host: Host::of(CPUINFO, &facts()),
            machines,
        };
        assert_eq!(of(Machines::default()).rows().last().unwrap().0, "host kernel");
        let mut machines = Machines::default();
        machines.add("QEMU emulator version 9.2.4 (Debian 1)\nCopyright", "kvm", "6.12.2");
        machines.add("QEMU emulator version 9.2.4 (Debian 1)\nCopyright", "kvm", "6.12.1");
        let rows = of(machines).rows();
        let last = rows[rows.len() - 3..].iter().map(|(name, value)| format!("{name} {value}"));
        assert_eq!(
            last.collect::<Vec<_>>(),
            ["QEMU 9.2.4 (Debian 1)", "accelerator kvm", "guest kernel 6.12.1, 6.12.2"]
        );
    }
}
