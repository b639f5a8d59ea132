//! What the host's facts say about a `/dev/kvm` that does not open: why, and what to do. Pure.

use std::collections::BTreeSet;

use rustix::io::Errno;

use super::Absent;
use super::facts::{Facts, Maker, Node, Processor};

/// Architecture of our guests.
const GUESTS: &str = "x86_64";

/// KVM's answer where something else has the processor's virtualisation on (`hardware_enable_all`,
/// virt/kvm/kvm_main.c, v6.11).
const IN_THE_WAY: Errno = Errno::BUSY;
/// The same since v6.12, which tells no reason (`kvm_enable_virtualization_cpu`).
const IN_THE_WAY_SINCE_6_12: Errno = Errno::IO;

/// The group of a node whose owner a user namespace does not know
/// (`/proc/sys/kernel/overflowgid`).
const OVERFLOW_GID: u32 = 65534;

/// Modules of other hypervisors, which take the processor's virtualisation for themselves.
const RIVALS: [(&str, &str); 2] = [("vboxdrv", "VirtualBox"), ("vmmon", "VMware")];

impl Maker {
    /// The feature's name in a machine's firmware.
    fn feature(self) -> &'static str {
        match self {
            Maker::Intel => "VT-x",
            Maker::Amd => "AMD-V (SVM)",
        }
    }

    /// KVM's module, as it is loaded.
    fn module(self) -> &'static str {
        match self {
            Maker::Intel => "kvm-intel",
            Maker::Amd => "kvm-amd",
        }
    }
}

/// Why KVM cannot even be opened here; `None` if it can.
pub(super) fn absent(facts: &Facts) -> Option<Absent> {
    if facts.arch != GUESTS {
        return Some(say(
            format!("this host is {0}, whose KVM runs {0} guests, and ours are {GUESTS}", facts.arch),
            format!("an {GUESTS} host runs them under KVM"),
        ));
    }
    if facts.opened.is_ok() && matches!(facts.created, Err(IN_THE_WAY | IN_THE_WAY_SINCE_6_12)) {
        return Some(busy(facts));
    }
    let errno = facts.opened.err()?;
    Some(match errno {
        Errno::ACCESS => match &facts.node {
            Some(node) => no_rights(facts, node),
            None => say("/dev is a folder that we may not read", "look at its rights: `ls -ld /dev`"),
        },
        Errno::PERM => forbidden(facts),
        Errno::NOENT => no_node(facts),
        Errno::NODEV | Errno::NXIO => {
            with_container(facts, "there is a /dev/kvm, but the kernel behind it has no KVM")
        }
        other => say(format!("/dev/kvm does not open: {other}"), DMESG),
    })
}

/// A next step where nothing better is known.
pub(super) const DMESG: &str = "`sudo dmesg | grep -i kvm` may say more";

/// [`Absent`] of these words.
pub(super) fn say(why: impl Into<String>, next: impl Into<String>) -> Absent {
    Absent { why: why.into(), next: next.into() }
}

/// Another hypervisor whose module is loaded: the module and its name.
fn rival(modules: &BTreeSet<String>) -> Option<(&'static str, &'static str)> {
    RIVALS.into_iter().find(|(module, _)| modules.contains(*module))
}

/// Something else has the processor's virtualisation on.
pub(super) fn busy(facts: &Facts) -> Absent {
    match (rival(&facts.modules), facts.processor.is_virtual) {
        (Some((module, name)), _) => say(
            format!("/dev/kvm opens, but {name} holds the processor's virtualisation"),
            format!("end the VMs of {name}, or `sudo modprobe -r {module}`"),
        ),
        // The instructions that turn it on may fault there, too.
        (None, true) => say(
            "/dev/kvm opens, but this VM's processor does not let its virtualisation be turned on",
            "see what its own host says of nested virtualisation",
        ),
        (None, false) => say(
            "/dev/kvm opens, but another hypervisor holds the processor's virtualisation",
            "end the VMs of VirtualBox, VMware or whatever it is",
        ),
    }
}

/// The node is there, and its rights are against us.
fn no_rights(facts: &Facts, node: &Node) -> Absent {
    let user = &facts.user;
    let who = user.name.as_ref().map_or_else(|| format!("uid {}", user.uid), |name| format!("user {name}"));
    let group_may = node.mode & 0o060 == 0o060;
    if group_may && facts.container.is_some() && node.gid == OVERFLOW_GID {
        // Its root is the user outside. Only podman can pass that user's groups on.
        if facts.container.as_deref() == Some("docker") {
            return say(
                "this container has /dev/kvm, but not the groups of the user who started it",
                "give that user the node itself: `sudo setfacl -m u:USER:rw /dev/kvm` outside",
            );
        }
        return say(
            "this container has /dev/kvm, but not the groups of the user who started it",
            "start it with `--group-add keep-groups`, beside `--device /dev/kvm`",
        );
    }
    let others_may = node.mode & 0o006 == 0o006;
    if user.uid == 0 || others_may || (group_may && user.groups.contains(&node.gid)) {
        return say(
            format!("/dev/kvm does not open, although its rights (mode {:o}) allow it to {who}", node.mode),
            "look for a rule of SELinux or AppArmor: `sudo dmesg | grep -i denied`",
        );
    }
    if group_may { only_group(facts, node, &who) } else { only_root(facts, node, &who) }
}

/// The group may, and the user is not in it.
fn only_group(facts: &Facts, node: &Node, who: &str) -> Absent {
    let group = node.group.clone().unwrap_or_else(|| node.gid.to_string());
    let only = format!("only group {group} may open /dev/kvm");
    // Nobody joins root's.
    let may_join = node.gid != 0;
    if may_join && facts.user.login_groups.contains(&node.gid) {
        return say(
            format!("{only}, and {who} joined it after this login"),
            format!("log in again, or run `newgrp {group}`"),
        );
    }
    let join = format!("`sudo usermod -aG {group} {}`", facts.user.account());
    let add = format!("start the container with `--group-add {}`", node.gid);
    let is_known = node.group.is_some() && may_join;
    match (&facts.container, is_known) {
        (Some(_), true) => {
            say(format!("{only}, and {who} is not in it"), format!("{add}, or {join} and log in again"))
        }
        (Some(_), false) => say(format!("{only}, and {who} is not in it"), add),
        (None, _) if may_join => {
            say(format!("{only}, and {who} is not in it"), format!("{join}, then log in again"))
        }
        (None, _) => only_root(facts, node, who),
    }
}

/// Nobody may but root, or who is in root's group.
fn only_root(facts: &Facts, node: &Node, who: &str) -> Absent {
    let why = format!("only root may open /dev/kvm (mode {:o}), and we are {who}", node.mode);
    if !facts.user.has_group_kvm {
        return say(why, "`sudo chmod 666 /dev/kvm` lets everybody");
    }
    let give = "sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm && sudo usermod -aG kvm";
    say(why, format!("`{give} {}`, then log in again", facts.user.account()))
}

/// The rights are not what is against us.
fn forbidden(facts: &Facts) -> Absent {
    match &facts.container {
        Some(kind) => {
            say(format!("this {} may not open /dev/kvm", container_words(kind)), start_with_device(kind))
        }
        None => say(
            "a device cgroup forbids /dev/kvm",
            "allow it: `DeviceAllow=/dev/kvm rw` of a systemd unit, `--device /dev/kvm` of a container",
        ),
    }
}

/// There is no `/dev/kvm`.
fn no_node(facts: &Facts) -> Absent {
    match (&facts.container, facts.kernel_has_kvm) {
        (Some(kind), Some(true)) => say(
            format!("there is no /dev/kvm in this {}, and its host has KVM", container_words(kind)),
            start_with_device(kind),
        ),
        (Some(kind), None) => {
            say(format!("there is no /dev/kvm in this {}", container_words(kind)), start_with_device(kind))
        }
        (None, Some(true)) => say(
            "there is no /dev/kvm here, and the kernel has KVM",
            "`sudo mknod /dev/kvm c 10 232` makes it, or `--device /dev/kvm` of a container",
        ),
        (Some(_), Some(false)) | (None, Some(false) | None) => with_container(facts, "there is no /dev/kvm"),
    }
}

/// The kernel has no KVM: what the processor says to that, and in a container, where that is to be mended.
fn with_container(facts: &Facts, what: &str) -> Absent {
    let Absent { why, next } = no_kvm_in_kernel(facts.processor, rival(&facts.modules));
    match &facts.container {
        None => say(format!("{what}: {why}"), next),
        Some(kind) => say(
            format!("{what} in this {}: {why}", container_words(kind)),
            format!("on its host, {next}; then {}", start_with_device(kind)),
        ),
    }
}

/// `rival` is another hypervisor that is loaded: since v6.12 KVM's module does not load beside its VMs
/// (`enable_virt_at_load`, virt/kvm/kvm_main.c).
fn no_kvm_in_kernel(processor: Processor, rival: Option<(&str, &str)>) -> Absent {
    let Processor { maker, can_virtualise, is_virtual } = processor;
    match (can_virtualise, is_virtual, maker) {
        (true, _, Some(maker)) => {
            let (module, feature) = (maker.module(), maker.feature());
            let why = format!("the processor has {feature}, and the module {module} is not loaded");
            match rival {
                None => say(
                    why,
                    format!("`sudo modprobe {module}` (if that fails, `sudo dmesg | grep -i kvm` says why)"),
                ),
                Some((other, name)) => say(
                    format!("{why}; {name} is"),
                    format!(
                        "end the VMs of {name} or `sudo modprobe -r {other}`, then `sudo modprobe {module}`"
                    ),
                ),
            }
        }
        (_, true, maker) => {
            let parameter = match maker {
                Some(Maker::Intel) => "`kvm_intel nested=1`",
                Some(Maker::Amd) => "`kvm_amd nested=1`",
                None => "`kvm_intel nested=1` or `kvm_amd nested=1`",
            };
            say(
                "this host is a VM whose processor has neither vmx nor svm",
                format!(
                    "turn nested virtualisation on where this VM runs ({parameter}, or the cloud's setting)"
                ),
            )
        }
        (_, false, maker) => say(
            "the processor shows neither vmx nor svm",
            format!(
                "turn {} on in the firmware, if it has it",
                maker.map_or("VT-x or AMD-V", Maker::feature)
            ),
        ),
    }
}

fn container_words(kind: &str) -> String {
    if kind == "docker" || kind == "podman" || kind == "lxc" {
        format!("{kind} container")
    } else {
        format!("container ({kind})")
    }
}

/// How a container of this kind is given the device.
fn start_with_device(kind: &str) -> &'static str {
    match kind {
        "lxc" => "give it the device: `lxc config device add CONTAINER kvm unix-char path=/dev/kvm`",
        "systemd-nspawn" => "start it with `--bind=/dev/kvm --property='DeviceAllow=/dev/kvm rw'`",
        _ => "start it with `--device /dev/kvm`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::kvm::facts::{User, real_host as host};

    fn check(facts: &Facts, expect: &str) {
        let said = absent(facts).expect("it does not open").to_string();
        assert_eq!(said, expect);
        assert!(!said.contains('\n'));
    }

    #[test]
    fn a_kvm_that_opens_is_not_absent() {
        assert_eq!(absent(&host()), None);
    }

    #[test]
    fn another_hypervisor_is_seen_although_a_guest_has_booted_before() {
        let busy = Facts { created: Err(Errno::BUSY), ..host() };
        assert_eq!(absent(&Facts { created: Err(Errno::IO), ..host() }), absent(&busy));
        check(
            &busy,
            "/dev/kvm opens, but another hypervisor holds the processor's virtualisation; end the VMs of \
             VirtualBox, VMware or whatever it is",
        );
        let said = absent(&Facts { modules: ["vboxdrv".to_owned()].into(), ..busy }).unwrap();
        assert!(said.why.contains("VirtualBox holds"), "{said}");
        let nested = Processor { is_virtual: true, ..host().processor };
        let said = absent(&Facts { created: Err(Errno::IO), processor: nested, ..host() }).unwrap();
        assert!(said.why.contains("does not let its virtualisation be turned on"), "{said}");
        // QEMU says more of anything else.
        assert_eq!(absent(&Facts { created: Err(Errno::NOMEM), ..host() }), None);
    }

    #[test]
    fn kvm_of_another_architecture_is_none_for_our_guests() {
        check(
            &Facts { arch: "aarch64".into(), ..host() },
            "this host is aarch64, whose KVM runs aarch64 guests, and ours are x86_64; an x86_64 host runs \
             them under KVM",
        );
    }

    #[test]
    fn a_user_without_rights_is_told_the_group() {
        let refused = Facts { opened: Err(Errno::ACCESS), ..host() };
        let user = |groups: &[u32], login: &[u32]| User {
            groups: groups.iter().copied().collect(),
            login_groups: login.iter().copied().collect(),
            ..host().user
        };
        check(
            &Facts { user: user(&[1000], &[1000]), ..refused.clone() },
            "only group kvm may open /dev/kvm, and user ann is not in it; `sudo usermod -aG kvm ann`, then \
             log in again",
        );
        check(
            &Facts { user: user(&[1000], &[1000, 108]), ..refused.clone() },
            "only group kvm may open /dev/kvm, and user ann joined it after this login; log in again, or run \
             `newgrp kvm`",
        );
        check(
            &refused,
            "/dev/kvm does not open, although its rights (mode 660) allow it to user ann; look for a rule of \
             SELinux or AppArmor: `sudo dmesg | grep -i denied`",
        );
        let open = Some(Node { mode: 0o666, gid: 0, group: Some("root".into()) });
        let said = absent(&Facts { node: open, ..refused.clone() }).unwrap();
        assert!(said.why.contains("although its rights (mode 666) allow it"), "{said}");
        let of_root = Some(Node { mode: 0o600, gid: 0, group: Some("root".into()) });
        let nobody = User { uid: 1234, name: None, groups: [1234].into(), ..User::default() };
        check(
            &Facts { node: of_root.clone(), user: nobody, ..refused.clone() },
            "only root may open /dev/kvm (mode 600), and we are uid 1234; `sudo chmod 666 /dev/kvm` lets \
             everybody",
        );
        check(
            &Facts { node: of_root, ..refused },
            "only root may open /dev/kvm (mode 600), and we are user ann; `sudo chgrp kvm /dev/kvm && sudo \
             chmod 660 /dev/kvm && sudo usermod -aG kvm ann`, then log in again",
        );
    }

    #[test]
    fn a_group_of_root_is_not_to_be_joined() {
        let node = Some(Node { mode: 0o660, gid: 0, group: Some("root".into()) });
        let absent = absent(&Facts { opened: Err(Errno::ACCESS), node, ..host() }).unwrap();
        assert!(!absent.next.contains("-aG root"), "{absent}");
    }

    #[test]
    fn in_a_container_the_group_is_added_from_outside() {
        let of = |gid, group: Option<&str>| Facts {
            opened: Err(Errno::ACCESS),
            node: Some(Node { mode: 0o660, gid, group: group.map(str::to_owned) }),
            container: Some("podman".into()),
            user: User { groups: [1000].into(), login_groups: [1000].into(), ..host().user },
            ..host()
        };
        check(
            &of(108, None),
            "only group 108 may open /dev/kvm, and user ann is not in it; start the container with \
             `--group-add 108`",
        );
        check(
            &of(108, Some("kvm")),
            "only group kvm may open /dev/kvm, and user ann is not in it; start the container with \
             `--group-add 108`, or `sudo usermod -aG kvm ann` and log in again",
        );
        let root = User { uid: 0, name: Some("root".into()), ..User::default() };
        check(
            &Facts { user: root.clone(), ..of(OVERFLOW_GID, Some("nogroup")) },
            "this container has /dev/kvm, but not the groups of the user who started it; start it with \
             `--group-add keep-groups`, beside `--device /dev/kvm`",
        );
        let docker = Some("docker".to_owned());
        check(
            &Facts { user: root, container: docker, ..of(OVERFLOW_GID, Some("nogroup")) },
            "this container has /dev/kvm, but not the groups of the user who started it; give that user the \
             node itself: `sudo setfacl -m u:USER:rw /dev/kvm` outside",
        );
    }

    #[test]
    fn a_container_is_given_the_device_by_its_starter() {
        let in_a = |kind: &str, errno, kernel_has_kvm| Facts {
            opened: Err(errno),
            container: Some(kind.into()),
            kernel_has_kvm,
            ..host()
        };
        check(
            &in_a("docker", Errno::NOENT, Some(true)),
            "there is no /dev/kvm in this docker container, and its host has KVM; start it with `--device \
             /dev/kvm`",
        );
        check(
            &in_a("podman", Errno::NOENT, None),
            "there is no /dev/kvm in this podman container; start it with `--device /dev/kvm`",
        );
        check(
            &in_a("docker", Errno::PERM, Some(true)),
            "this docker container may not open /dev/kvm; start it with `--device /dev/kvm`",
        );
        check(
            &in_a("docker", Errno::NOENT, Some(false)),
            "there is no /dev/kvm in this docker container: the processor has VT-x, and the module kvm-intel \
             is not loaded; on its host, `sudo modprobe kvm-intel` (if that fails, `sudo dmesg | grep -i kvm` \
             says why); then start it with `--device /dev/kvm`",
        );
        check(
            &in_a("systemd-nspawn", Errno::PERM, Some(true)),
            "this container (systemd-nspawn) may not open /dev/kvm; start it with `--bind=/dev/kvm \
             --property='DeviceAllow=/dev/kvm rw'`",
        );
        check(
            &Facts { container: None, ..in_a("", Errno::NOENT, Some(true)) },
            "there is no /dev/kvm here, and the kernel has KVM; `sudo mknod /dev/kvm c 10 232` makes it, or \
             `--device /dev/kvm` of a container",
        );
        check(
            &Facts { container: None, ..in_a("", Errno::PERM, Some(true)) },
            "a device cgroup forbids /dev/kvm; allow it: `DeviceAllow=/dev/kvm rw` of a systemd unit, \
             `--device /dev/kvm` of a container",
        );
    }

    #[test]
    fn a_kernel_without_kvm_is_explained_by_the_processor() {
        let of = |maker, can_virtualise, is_virtual| Facts {
            opened: Err(Errno::NOENT),
            node: None,
            kernel_has_kvm: Some(false),
            processor: Processor { maker, can_virtualise, is_virtual },
            ..host()
        };
        check(
            &of(Some(Maker::Amd), true, false),
            "there is no /dev/kvm: the processor has AMD-V (SVM), and the module kvm-amd is not loaded; \
             `sudo modprobe kvm-amd` (if that fails, `sudo dmesg | grep -i kvm` says why)",
        );
        let beside = ["vboxdrv".to_owned()].into();
        check(
            &Facts { modules: beside, ..of(Some(Maker::Intel), true, false) },
            "there is no /dev/kvm: the processor has VT-x, and the module kvm-intel is not loaded; VirtualBox \
             is; end the VMs of VirtualBox or `sudo modprobe -r vboxdrv`, then `sudo modprobe kvm-intel`",
        );
        check(
            &of(Some(Maker::Intel), false, true),
            "there is no /dev/kvm: this host is a VM whose processor has neither vmx nor svm; turn nested \
             virtualisation on where this VM runs (`kvm_intel nested=1`, or the cloud's setting)",
        );
        check(
            &of(Some(Maker::Intel), false, false),
            "there is no /dev/kvm: the processor shows neither vmx nor svm; turn VT-x on in the firmware, if \
             it has it",
        );
        // The node is there before the module is: opening it loads kvm.ko, which finds no processor for it.
        check(
            &Facts { opened: Err(Errno::NODEV), node: host().node, ..of(None, false, true) },
            "there is a /dev/kvm, but the kernel behind it has no KVM: this host is a VM whose processor has \
             neither vmx nor svm; turn nested virtualisation on where this VM runs (`kvm_intel nested=1` or \
             `kvm_amd nested=1`, or the cloud's setting)",
        );
    }

    #[test]
    fn any_other_error_is_said_as_it_is() {
        check(
            &Facts { opened: Err(Errno::MFILE), ..host() },
            "/dev/kvm does not open: Too many open files (os error 24); `sudo dmesg | grep -i kvm` may say more",
        );
    }
}
