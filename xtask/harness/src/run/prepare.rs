//! Prepares everything that must exist before the first VM: agent, tools, guest image, kernels, and the
//! accelerator that works on this host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use protocol::program::{ModuleFile, ReplacedModules};
use vm_images::build::checkout::{Checkout, Sources};
use vm_images::host::progress::Progress;
use vm_images::images::Images;
use vm_images::kernel::Kernel;
use vm_images::kernel::replacement::{ReplacedModule, Replacement};
use vm_images::spec::KernelSpec;
use vm_images::store::Artifact;

use crate::machine::accel::{AccelChoice, Chosen, choose};
use crate::machine::kvm::answers::KvmAnswers;
use crate::machine::kvm::probe;
use crate::machine::qemu::Qemu;
use crate::machine::{Accel, Replaced, Tuning, VmSpec, find};
use crate::session::Session;
use crate::workspace::{cargo, workspace};

/// Everything that the attempts of a run share.
pub struct Prepared {
    /// The QEMU that starts VMs.
    pub qemu: Qemu,
    /// The accelerator that works on this host.
    pub chosen: Chosen,
    /// The guest image.
    pub guest: Artifact,
    /// Versions in the guest on which results depend.
    pub versions: BTreeMap<String, String>,
    /// The user's own trees from which parts of the guest were built.
    pub(crate) checkouts: Vec<Checkout>,
    /// The kernels, in the order of the command line.
    pub kernels: Vec<BootKernel>,
    /// Differences from the lock file.
    pub(crate) replaced: Vec<String>,
}

/// A kernel with its initramfs.
#[derive(Clone, Debug)]
pub struct BootKernel {
    /// The kernel.
    pub kernel: Kernel,
    pub(crate) initramfs: PathBuf,
}

impl BootKernel {
    /// A VM that boots the kernel, with `guest` as its root file system.
    pub fn vm(&self, guest: &Artifact, accel: Accel, ram_mib: u32, vcpus: u32) -> VmSpec {
        VmSpec {
            kernel: self.kernel.image(),
            initramfs: self.initramfs.clone(),
            root_image: guest.path("root.squashfs"),
            modules_image: self.kernel.artifact.path("modules.squashfs"),
            ram_mib,
            vcpus,
            accel,
            outer_image: None,
            replaced: self.kernel.replacement.as_ref().map(replaced),
            preload: self.preload(&[]),
            tuning: Tuning::default(),
            append: String::new(),
            saves: false,
            restore: None,
            log: PathBuf::from("/dev/null"),
        }
    }

    /// The modules that its guests load before the snapshot is taken, if a suite's tests want `modules`.
    /// Where an overlay replaces md, no md module of the kernel itself may be loaded before.
    pub(crate) fn preload(&self, modules: &[String]) -> String {
        let modules = if self.kernel.replacement.is_some() { &[] } else { modules };
        [PRELOADED].into_iter().chain(modules.iter().map(String::as_str)).collect::<Vec<_>>().join(",")
    }
}

/// Modules that every guest loads before the snapshot: they measure algorithms when loaded, which takes time,
/// and have no parameters.
const PRELOADED: &str = "xor,raid6_pq";

/// Description of an overlay for the machine and the guest agent.
fn replaced(replacement: &Replacement) -> Replaced {
    let file = |module: &ReplacedModule| ModuleFile {
        name: module.name.clone(),
        path: module.path.clone(),
        build_id: module.build_id.clone(),
    };
    let modules: Vec<_> = replacement.modules.iter().map(file).collect();
    // All other md modules depend on this one. If the overlay does not replace it, any of them will do.
    let names = || modules.iter().map(|module| &module.name);
    let probe = names().find(|name| *name == "md_mod").or(names().next()).cloned().unwrap_or_default();
    let modules = ReplacedModules { serial: "mdr-replaced".to_owned(), modules, probe };
    Replaced { image: replacement.image(), modules }
}

impl Prepared {
    /// Names of the suite's tests in the guest, for a suite that `suite.toml` does not list completely.
    pub(crate) fn installed_tests(&self, suite: &str) -> Result<Option<BTreeSet<String>>> {
        let list = self.guest.path(&format!("{suite}-tests.txt"));
        match std::fs::read_to_string(&list) {
            Ok(text) => Ok(Some(text.lines().map(str::to_owned).collect())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read `{}`", list.display())),
        }
    }
}

/// Prepares everything for `specs`, with a guest built from `sources` where they name any.
pub fn prepare(
    session: &Session,
    specs: &[KernelSpec],
    sources: &Sources,
    accel: AccelChoice,
) -> Result<Prepared> {
    // Checked first, because the user may have mistyped these.
    let checkouts = session.checkouts(sources)?;
    let apt = session.apt()?;
    let images = session.images(&apt)?.with_checkouts(checkouts.clone());
    let agent = build_agent(session)?;
    let qemu = find_qemu(session, &images)?;
    let mut kernels = Vec::new();
    for spec in specs {
        let kernel = images.kernel(spec)?;
        let initramfs = images.initramfs(&kernel, &agent)?.path("initramfs.cpio");
        kernels.push(BootKernel { kernel, initramfs });
    }
    let guest = images.guest()?;
    let first = kernels.first().context("no kernel to boot")?;
    let chosen = choose(accel, || {
        let kernel = first.kernel.artifact.digest.short();
        kvm_answers(session, &qemu).ask(kernel, accel == AccelChoice::Kvm, || {
            session.terminal.step("probing KVM by booting a guest");
            let log = session.store.temporary().join("probe.log");
            let spec = VmSpec { log, ..first.vm(&guest, Accel::Kvm, 512, 1) };
            probe::boot(&qemu, &spec, kernel, session.host.cancel())
        })
    })?;
    let versions = versions(&guest, &checkouts)?;
    session.terminal.end_step();
    Ok(Prepared { qemu, chosen, guest, versions, checkouts, kernels, replaced: images.replaced() })
}

/// What is known of KVM with `qemu`.
pub fn kvm_answers(session: &Session, qemu: &Qemu) -> KvmAnswers {
    KvmAnswers::new(&session.store.root().join("probes"), &qemu.version)
}

/// Versions of the programs in `guest`; those of `checkouts` as the trees state them now.
pub fn versions(guest: &Artifact, checkouts: &[Checkout]) -> Result<BTreeMap<String, String>> {
    let file = guest.path("versions.json");
    let bytes = std::fs::read(&file).with_context(|| format!("failed to read `{}`", file.display()))?;
    let mut versions: BTreeMap<_, _> =
        serde_json::from_slice(&bytes).context("the guest image's versions make no sense")?;
    versions.extend(checkouts.iter().map(|each| (each.project.name().to_owned(), each.version())));
    Ok(versions)
}

/// Builds the guest agent. It is static, because the guest has its own libraries, and has a target folder of
/// its own, because proc-macros cannot be built with its flags.
pub fn build_agent(session: &Session) -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    if let Some(agent) = &session.options.agent {
        return Ok(agent.clone());
    }
    session.terminal.step("building the guest agent");
    let folder = workspace().join("target/guest");
    let built = session
        .host
        .call(cargo())
        .dir(workspace())
        .args(["build", "--quiet", "--package", "guest-agent", "--profile", "guest", "--target", TARGET])
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static")
        // The user's flags are for our own build, not for the agent's.
        .env("RUSTFLAGS", "")
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .run(&session.store.temporary().join("agent-build.log"));
    built.context("failed to build the guest agent")?;
    Ok(folder.join(TARGET).join("guest/guest-agent"))
}

/// The QEMU that was asked for (`private`, or a program); else the host's if it is new enough, else that of
/// the tools root.
pub fn find_qemu(session: &Session, images: &Images<'_>) -> Result<Qemu> {
    match find_qemu_on_host(session)? {
        Some(qemu) => Ok(qemu),
        None => find::in_tools(&images.tools()?, &session.host),
    }
}

/// The host's QEMU, if it is usable; an error if the user asked for a program that is not.
pub fn find_qemu_on_host(session: &Session) -> Result<Option<Qemu>> {
    let wanted = session.options.qemu.as_deref().unwrap_or_default();
    find::on_host(&session.host, wanted)
}
