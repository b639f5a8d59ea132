//! What the last words of QEMU and of a guest say about a KVM that opens and runs no guest. Pure.
//!
//! QEMU's words are those of 10.0 (`accel/kvm/kvm-all.c`, `target/i386/kvm/kvm.c`); older ones put the
//! number of an error before its words, and wrote KVM for kvm.

use std::time::Duration;

use super::absent::{DMESG, busy, say};
use super::facts::Facts;
use super::{Absent, KvmAnswer};

/// Longest piece of a console that is quoted, characters.
const QUOTE_MAX: usize = 100;

/// QEMU gave up, with `error` as its end and `log` as everything that it said; `modules` are the host's.
///
/// Only words that are known to be KVM's hold until the host's next boot: QEMU may also have been killed, or
/// had no file descriptors left. `kernel` is the digest of the guest's.
pub(super) fn qemu_gave_up(error: &str, log: &str, kernel: &str, facts: &Facts) -> KvmAnswer {
    if let Some(msr) = refused_msr(log) {
        return KvmAnswer::Broken(say(
            format!("/dev/kvm opens, but this host's KVM refuses MSR {msr} to QEMU"),
            "try `echo 1 | sudo tee /sys/module/kvm/parameters/ignore_msrs`, or a newer kernel on this host",
        ));
    }
    let could_not_begin = |errno: &str| {
        log.lines().any(|line| {
            let line = line.to_ascii_lowercase();
            (line.contains("kvm_create_vm") || line.contains("failed to initialize kvm"))
                && line.ends_with(errno)
        })
    };
    // The second is v6.12's word for the first.
    if could_not_begin("device or resource busy") || could_not_begin("input/output error") {
        return KvmAnswer::Passing(busy(facts));
    }
    let absent = say(format!("/dev/kvm opens, but {error}"), DMESG);
    if could_not_begin("cannot allocate memory") {
        KvmAnswer::Passing(absent)
    } else {
        KvmAnswer::Unclear { absent, kernels: vec![kernel.to_owned()] }
    }
}

/// The number of the MSR that QEMU could not set: `error: failed to set MSR 0x10a to 0xc000069`. An assertion
/// follows that does not name it.
fn refused_msr(log: &str) -> Option<&str> {
    let (_, rest) = log.split_once("failed to set MSR ")?;
    rest.split_whitespace().next().filter(|number| number.starts_with("0x"))
}

/// How a guest that gave no answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It printed nothing for so long, and was given up.
    Silent(Duration),
    /// It went on printing for so long, and was given up.
    Endless(Duration),
    /// QEMU could execute it no further.
    Stopped,
    /// It went away.
    Gone,
}

/// A guest gave no answer: `console` is the last line of its console, `log` everything that QEMU said, and
/// the host is a VM if `is_virtual`.
pub(super) fn no_answer(how: NoAnswer, console: &str, log: &str, is_virtual: bool) -> Absent {
    let said = reports::text::printable(console.trim());
    let said: String = said.chars().take(QUOTE_MAX).collect();
    let at = if said.is_empty() { String::new() } else { format!(", after `{said}`") };
    let words = match how {
        NoAnswer::Silent(time) if said.is_empty() => {
            format!("a guest prints nothing for {} s", time.as_secs())
        }
        NoAnswer::Silent(time) => format!("a guest falls silent for {} s{at}", time.as_secs()),
        NoAnswer::Endless(time) => format!("a guest still boots after {} s{at}", time.as_secs()),
        NoAnswer::Stopped => format!("QEMU stops the guest{at}"),
        NoAnswer::Gone => format!("a guest goes away while it boots{at}"),
    };
    let qemu = log.lines().map(str::trim).find(|line| !line.is_empty());
    let qemu = qemu.map(|line| format!(" (QEMU: {})", reports::text::printable(line))).unwrap_or_default();
    let next = match is_virtual {
        true => "this host is a VM: turn nested virtualisation on where it runs, or update KVM there",
        false => DMESG,
    };
    say(format!("/dev/kvm opens, but {words}{qemu}"), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::kvm::facts::real_host;

    fn check(error: &str, log: &str, modules: &[&str], expect: &KvmAnswer) {
        let modules = modules.iter().map(|&name| name.to_owned()).collect();
        let facts = Facts { modules, ..real_host() };
        assert_eq!(&qemu_gave_up(error, log, "k", &facts), expect);
    }

    fn unclear(absent: Absent) -> KvmAnswer {
        KvmAnswer::Unclear { absent, kernels: vec!["k".to_owned()] }
    }

    /// QEMU 10.0.13 on a host whose KVM knows no ARCH_CAPABILITIES.
    const MSR: &str = "qemu-system-x86_64: error: failed to set MSR 0x10a to 0xc000069\n\
        qemu-system-x86_64: target/i386/kvm/kvm.c:3877: kvm_buf_set_msrs: \
        Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.\n";

    /// QEMU 10.0.13, whose ioctl(KVM_CREATE_VM) was made to return each error.
    fn create_vm(words: &str) -> String {
        format!(
            "qemu-system-x86_64: -accel kvm: ioctl(KVM_CREATE_VM) failed: {words}\n\
             qemu-system-x86_64: -accel kvm: failed to initialize kvm: {words}\n"
        )
    }

    #[test]
    fn an_msr_that_is_refused_is_named() {
        let expect = KvmAnswer::Broken(say(
            "/dev/kvm opens, but this host's KVM refuses MSR 0x10a to QEMU",
            "try `echo 1 | sudo tee /sys/module/kvm/parameters/ignore_msrs`, or a newer kernel on this host",
        ));
        check("QEMU was killed by signal 6: … Assertion …", MSR, &[], &expect);
    }

    #[test]
    fn a_rival_is_named_if_its_module_is_loaded() {
        let log = create_vm("Device or resource busy");
        let busy =
            |why: &str, next: &str| KvmAnswer::Passing(say(format!("/dev/kvm opens, but {why}"), next));
        let virtualbox = busy(
            "VirtualBox holds the processor's virtualisation",
            "end the VMs of VirtualBox, or `sudo modprobe -r vboxdrv`",
        );
        check("QEMU failed (exit status: 1)", &log, &["kvm", "vboxdrv"], &virtualbox);
        let vmware = busy(
            "VMware holds the processor's virtualisation",
            "end the VMs of VMware, or `sudo modprobe -r vmmon`",
        );
        check("QEMU failed (exit status: 1)", &log, &["vmmon"], &vmware);
        let unknown = busy(
            "another hypervisor holds the processor's virtualisation",
            "end the VMs of VirtualBox, VMware or whatever it is",
        );
        // QEMU of 2020, from an issue of quickemu's (quickemu-project/quickemu#13).
        let older = "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy\n\
            qemu-system-x86_64: failed to initialize KVM: Device or resource busy\n";
        check("QEMU failed (exit status: 1)", older, &["kvm"], &unknown);
        check("QEMU failed (exit status: 1)", &create_vm("Input/output error"), &["kvm"], &unknown);
    }

    #[test]
    fn any_other_end_is_told_in_qemus_words() {
        let error =
            "QEMU failed (exit status: 1): qemu-system-x86_64: -accel kvm: failed to initialize kvm: …";
        let absent = say(format!("/dev/kvm opens, but {error}"), DMESG);
        check(error, &create_vm("Invalid argument"), &[], &unclear(absent.clone()));
        check(error, &create_vm("Cannot allocate memory"), &[], &KvmAnswer::Passing(absent.clone()));
        check(error, "", &[], &unclear(absent.clone()));
        // Something else that is busy is no rival.
        let drive = "qemu-system-x86_64: -blockdev x: Device or resource busy\n";
        check(error, drive, &["vboxdrv"], &unclear(absent));
    }

    #[test]
    fn a_guest_without_an_answer_is_told_by_its_last_line() {
        let check = |how, console: &str, log: &str, is_virtual, expect: &str| {
            assert_eq!(no_answer(how, console, log, is_virtual).to_string(), expect);
        };
        let twenty = NoAnswer::Silent(Duration::from_secs(20));
        check(
            twenty,
            "",
            "",
            true,
            "/dev/kvm opens, but a guest prints nothing for 20 s; this host is a VM: turn nested \
             virtualisation on where it runs, or update KVM there",
        );
        check(
            twenty,
            "[    0.41] ACPI: \x1b[1mCore\x1b[0m revision 20240827 ",
            "",
            false,
            "/dev/kvm opens, but a guest falls silent for 20 s, after `[    0.41] ACPI: Core revision \
             20240827`; `sudo dmesg | grep -i kvm` may say more",
        );
        check(
            NoAnswer::Endless(Duration::from_secs(120)),
            "[  119.0] x",
            "",
            false,
            "/dev/kvm opens, but a guest still boots after 120 s, after `[  119.0] x`; `sudo dmesg | grep -i \
             kvm` may say more",
        );
        // kvm_handle_internal_error() of QEMU 10.0; the processor's registers follow.
        check(
            NoAnswer::Stopped,
            "",
            "KVM internal error. Suberror: 1\nextra data[0]: 0x0000000000000000\nemulation failure\nRAX=0\n",
            false,
            "/dev/kvm opens, but QEMU stops the guest (QEMU: KVM internal error. Suberror: 1); `sudo dmesg | \
             grep -i kvm` may say more",
        );
        let long = no_answer(NoAnswer::Gone, &"x".repeat(4096), "", false);
        assert!(long.why.len() < 200, "{long}");
    }
}
