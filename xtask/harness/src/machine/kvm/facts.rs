//! Facts of the host that decide whether it has a KVM: the node, who may open it, processor, modules,
//! container. Reads and parses; what follows from them is said elsewhere ([`super::absent`]).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use super::create_vm;
use crate::machine::host::processor_field;

/// Facts of one host.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Its architecture, as `uname -m` says it.
    pub(super) arch: String,
    /// Result of opening `/dev/kvm` as QEMU does.
    pub(super) opened: Result<(), Errno>,
    /// Result of asking it for a VM.
    pub(super) created: Result<(), Errno>,
    /// `/dev/kvm`, if it is there.
    pub(super) node: Option<Node>,
    /// The kernel has a KVM that can be opened, whether or not there is a node for it (`/proc/misc`);
    /// `None` if that cannot be read.
    pub(super) kernel_has_kvm: Option<bool>,
    /// The processor.
    pub(super) processor: Processor,
    /// Names of the modules that are loaded.
    pub(super) modules: BTreeSet<String>,
    /// Kind of container that we are in.
    pub(super) container: Option<String>,
    /// Who we are.
    pub(super) user: User,
}

/// Owner and rights of `/dev/kvm`.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Rights, `0o660`.
    pub(super) mode: u32,
    /// The group's number.
    pub(super) gid: u32,
    /// The group's name, if the number has one here.
    pub(super) group: Option<String>,
}

/// A processor, as `/proc/cpuinfo` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Processor {
    /// Its maker, if that is one whose virtualisation KVM uses.
    pub(super) maker: Option<Maker>,
    /// It has virtualisation: flag `vmx` or `svm`.
    pub(super) can_virtualise: bool,
    /// It is a VM's: flag `hypervisor`.
    pub(super) is_virtual: bool,
}

/// Maker of a processor with virtualisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// VT-x, flag `vmx`, module `kvm_intel`.
    Intel,
    /// AMD-V, flag `svm`, module `kvm_amd`.
    Amd,
}

/// The user whose processes we are.
#[derive(Clone, Debug, Default)]
pub(super) struct User {
    /// Number.
    pub(super) uid: u32,
    /// Name, if the number has one.
    pub(super) name: Option<String>,
    /// Groups of this process.
    pub(super) groups: BTreeSet<u32>,
    /// Groups that the next login gets, by `/etc/group` and `/etc/passwd`.
    pub(super) login_groups: BTreeSet<u32>,
    /// There is a group `kvm`.
    pub(super) has_group_kvm: bool,
}

impl User {
    /// The name as a shell takes it.
    pub(super) fn account(&self) -> &str {
        self.name.as_deref().unwrap_or("$USER")
    }
}

/// Reads the facts of this host. What cannot be read is as if it were not there.
pub(super) fn read() -> Facts {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let exists = |path: &str| fs::exists(path).unwrap_or(false);
    let groups = text("/etc/group");
    let node = fs::metadata("/dev/kvm").ok().map(|data| Node {
        mode: data.mode() & 0o777,
        gid: data.gid(),
        group: group_name(&groups, data.gid()),
    });
    let (opened, created) = create_vm::open_and_create();
    let uid = rustix::process::geteuid().as_raw();
    let ours = rustix::process::getgroups().unwrap_or_default();
    let ours = ours.into_iter().chain([rustix::process::getegid()]).map(|gid| gid.as_raw()).collect();
    Facts {
        arch: rustix::system::uname().machine().to_string_lossy().into_owned(),
        opened,
        created,
        node,
        kernel_has_kvm: fs::read_to_string("/proc/misc").ok().as_deref().map(lists_kvm),
        processor: processor(&text("/proc/cpuinfo")),
        modules: module_names(&text("/proc/modules")),
        container: container(
            &text("/run/systemd/container"),
            exists("/run/.containerenv"),
            exists("/.dockerenv"),
            &fs::read("/proc/1/environ").unwrap_or_default(),
        ),
        user: user(uid, ours, &text("/etc/passwd"), &groups),
    }
}

/// True if `/proc/misc` names KVM (`232 kvm`).
fn lists_kvm(misc: &str) -> bool {
    misc.lines().any(|line| line.split_whitespace().nth(1) == Some("kvm"))
}

fn module_names(modules: &str) -> BTreeSet<String> {
    modules.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The first processor of `/proc/cpuinfo`.
fn processor(cpuinfo: &str) -> Processor {
    let value = |key| processor_field(cpuinfo, key).unwrap_or_default();
    let flags: BTreeSet<_> = value("flags").split_whitespace().collect();
    let maker = match value("vendor_id") {
        _ if flags.contains("vmx") => Some(Maker::Intel),
        _ if flags.contains("svm") => Some(Maker::Amd),
        "GenuineIntel" => Some(Maker::Intel),
        "AuthenticAMD" | "HygonGenuine" => Some(Maker::Amd),
        _ => None,
    };
    let can_virtualise = flags.contains("vmx") || flags.contains("svm");
    Processor { maker, can_virtualise, is_virtual: flags.contains("hypervisor") }
}

/// Kind of container, by the signs that systemd, podman, docker and others leave; `environ` is that of
/// process 1, which only root may read (`systemd-detect-virt(1)` looks at the same).
fn container(systemd: &str, podman: bool, docker: bool, environ: &[u8]) -> Option<String> {
    let of_init = environ.split(|&byte| byte == 0).find_map(|word| word.strip_prefix(b"container="));
    let of_init = of_init.map(|kind| String::from_utf8_lossy(kind).into_owned());
    let named = [systemd.trim().to_owned(), of_init.unwrap_or_default()];
    let named = named.into_iter().find(|kind| !kind.is_empty());
    named.or_else(|| podman.then(|| "podman".to_owned())).or_else(|| docker.then(|| "docker".to_owned()))
}

/// Lines of `/etc/passwd` and `/etc/group`, by their fields.
fn fields(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn number(field: Option<&&str>) -> Option<u32> {
    field?.parse().ok()
}

fn group_name(groups: &str, gid: u32) -> Option<String> {
    let name = fields(groups).find(|group| number(group.get(2)) == Some(gid))?.first()?.to_string();
    Some(name)
}

fn user(uid: u32, ours: BTreeSet<u32>, passwd: &str, groups: &str) -> User {
    let account = fields(passwd).find(|account| number(account.get(2)) == Some(uid));
    let name = account.as_ref().and_then(|account| account.first()).map(|name| name.to_string());
    let is_member = |group: &[&str]| {
        let members = group.get(3).copied().unwrap_or_default();
        name.as_deref().is_some_and(|name| members.split(',').any(|member| member == name))
    };
    let joined = fields(groups).filter(|group| is_member(group)).filter_map(|group| number(group.get(2)));
    let login_groups = joined.chain(account.as_ref().and_then(|account| number(account.get(3)))).collect();
    let has_group_kvm = fields(groups).any(|group| group.first() == Some(&"kvm"));
    User { uid, name, groups: ours, login_groups, has_group_kvm }
}

/// A real Intel machine on which ann may open a KVM that is loaded.
#[cfg(test)]
pub(super) fn real_host() -> Facts {
    Facts {
        arch: "x86_64".into(),
        opened: Ok(()),
        created: Ok(()),
        node: Some(Node { mode: 0o660, gid: 108, group: Some("kvm".into()) }),
        kernel_has_kvm: Some(true),
        processor: Processor { maker: Some(Maker::Intel), can_virtualise: true, is_virtual: false },
        modules: ["kvm".to_owned(), "kvm_intel".to_owned()].into(),
        container: None,
        user: User {
            uid: 1000,
            name: Some("ann".into()),
            groups: [1000, 108].into(),
            login_groups: [1000, 108].into(),
            has_group_kvm: true,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_known_by_its_flags_else_by_its_maker() {
        let check = |cpuinfo: &str, maker, can_virtualise, is_virtual| {
            assert_eq!(processor(cpuinfo), Processor { maker, can_virtualise, is_virtual }, "{cpuinfo}");
        };
        let intel = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme vmx ssse3\n";
        check(intel, Some(Maker::Intel), true, false);
        check("vendor_id\t: AuthenticAMD\nflags\t: fpu hypervisor\n", Some(Maker::Amd), false, true);
        check("vendor_id\t: HygonGenuine\nflags\t: fpu svm\n", Some(Maker::Amd), true, false);
        // The flags of VMX have a line of their own.
        check(
            "vendor_id\t: GenuineIntel\nflags\t: fpu\nvmx flags\t: vnmi\n",
            Some(Maker::Intel),
            false,
            false,
        );
        check("vendor_id\t: CentaurHauls\nflags\t: fpu\n", None, false, false);
        check("", None, false, false);
    }

    #[test]
    fn what_the_kernel_lists_is_read() {
        assert!(lists_kvm("258 zram_control\n232 kvm\n235 autofs\n"));
        assert!(!lists_kvm("235 autofs\n124 kvm_other\n"));
        let modules = module_names("vboxdrv 708608 2 vboxnetadp, Live 0x0 (OE)\nkvm 1 0 - Live 0x0\n");
        assert_eq!(modules, ["kvm".to_owned(), "vboxdrv".to_owned()].into());
    }

    #[test]
    fn a_container_is_known_by_any_of_its_signs() {
        let check = |systemd, podman, docker, environ: &[u8], expect: Option<&str>| {
            assert_eq!(container(systemd, podman, docker, environ).as_deref(), expect);
        };
        check("", false, false, b"HOME=/\0TERM=linux\0", None);
        check("", false, true, b"", Some("docker"));
        check("", true, false, b"", Some("podman"));
        check("", false, false, b"HOME=/\0container=lxc\0", Some("lxc"));
        check("systemd-nspawn\n", false, false, b"", Some("systemd-nspawn"));
    }

    #[test]
    fn a_user_has_the_groups_of_the_process_and_those_of_the_next_login() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\n";
        let groups = "root:x:0:\nusers:x:100:\nkvm:x:108:bob,ann\ndisk:x:6:bob\n";
        let ann = user(1000, [100].into(), passwd, groups);
        assert_eq!(ann.name.as_deref(), Some("ann"));
        assert_eq!((ann.groups, ann.login_groups), ([100].into(), [100, 108].into()));
        assert!(ann.has_group_kvm);
        let nobody = user(1234, [1234].into(), passwd, "root:x:0:\n");
        assert_eq!((nobody.name, nobody.login_groups), (None, [].into()));
        assert!(!nobody.has_group_kvm);
        assert_eq!(group_name(groups, 108).as_deref(), Some("kvm"));
        assert_eq!(group_name(groups, 109), None);
    }
}
