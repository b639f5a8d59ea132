//! Everything that must exist before the first VM can start: agent, tools, guest image, kernels,
//! and which accelerator works here.

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

use crate::machine::accel::{AccelChoice, Chosen, KvmAnswers, choose};
use crate::machine::qemu::Qemu;
use crate::machine::{Accel, Replaced, Tuning, VmSpec, find, probe};
use crate::session::Session;
use crate::workspace::workspace;

/// What runs have in common.
pub struct Prepared {
    /// The QEMU that starts VMs.
    pub qemu: Qemu,
    /// The accelerator that works here.
    pub chosen: Chosen,
    /// The guest image.
    pub guest: Artifact,
    /// Versions in the guest that results depend on.
    pub versions: BTreeMap<String, String>,
    /// What of the guest was built from a user's own trees.
    pub(crate) checkouts: Vec<Checkout>,
    /// The kernels, in the order of the command line.
    pub kernels: Vec<BootKernel>,
    /// What differs from the lock file.
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
    /// The VM that boots it, with `guest` as its root.
    pub fn vm(&self, guest: &Artifact, accel: Accel, ram_mib: u32, vcpus: u32) -> VmSpec {
        VmSpec {
            kernel: self.kernel.image(),
            initramfs: self.initramfs.clone(),
            root_image: guest.path("root.squashfs"),
            modules_image: self.kernel.artifact.path("modules.squashfs"),
            ram_mib,
            vcpus,
            accel,
            replaced: self.kernel.replacement.as_ref().map(replaced),
            preload: self.preload(&[]),
            tuning: Tuning::default(),
            append: String::new(),
            saves: false,
            restore: None,
            log: PathBuf::from("/dev/null"),
        }
    }

    /// What its guests load before they are saved, if a suite's tests want `modules`. Where md is replaced,
    /// nothing of the kernel's own may be there before.
    pub(crate) fn preload(&self, modules: &[String]) -> String {
        let modules = if self.kernel.replacement.is_some() { &[] } else { modules };
        [PRELOADED].into_iter().chain(modules.iter().map(String::as_str)).collect::<Vec<_>>().join(",")
    }
}

/// What a guest loads before it is saved, whoever wants it: libraries that measure their algorithms when they
/// are loaded, and have no options.
const PRELOADED: &str = "xor,raid6_pq";

/// What the machine and the guest's agent are told of a replacement.
fn replaced(replacement: &Replacement) -> Replaced {
    let file = |module: &ReplacedModule| ModuleFile {
        name: module.name.clone(),
        path: module.path.clone(),
        build_id: module.build_id.clone(),
    };
    let modules: Vec<_> = replacement.modules.iter().map(file).collect();
    // All others of md's are built on it. Where it is not among them, any will do.
    let names = || modules.iter().map(|module| &module.name);
    let probe = names().find(|name| *name == "md_mod").or(names().next()).cloned().unwrap_or_default();
    let modules = ReplacedModules { serial: "mdr-replaced".to_owned(), modules, probe };
    Replaced { image: replacement.image(), modules }
}

impl Prepared {
    /// Names of a suite's tests that the guest has, for a suite that is not all in `suite.toml`.
    pub(crate) fn installed_tests(&self, suite: &str) -> Result<Option<BTreeSet<String>>> {
        let list = self.guest.path(&format!("{suite}-tests.txt"));
        match std::fs::read_to_string(&list) {
            Ok(text) => Ok(Some(text.lines().map(str::to_owned).collect())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read `{}`", list.display())),
        }
    }
}

/// Prepares everything for `specs`, with a guest built from `sources` as far as they name any.
pub fn prepare(
    session: &Session,
    specs: &[KernelSpec],
    sources: &Sources,
    accel: AccelChoice,
) -> Result<Prepared> {
    // First, because they are what a user may have mistyped.
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
        let cache = session.store.root().join("probes");
        let kernel = first.kernel.artifact.digest.short();
        KvmAnswers::new(&cache, &qemu.version).ask(kernel, accel == AccelChoice::Kvm, || {
            session.terminal.step("probing KVM by booting a guest");
            let log = session.store.temporary().join("probe.log");
            let spec = VmSpec { log, ..first.vm(&guest, Accel::Kvm, 512, 1) };
            probe::boot(&qemu, &spec, kernel)
        })
    })?;
    let versions = versions(&guest, &checkouts)?;
    session.terminal.end_step();
    Ok(Prepared { qemu, chosen, guest, versions, checkouts, kernels, replaced: images.replaced() })
}

/// Versions of what is in `guest`; those of `checkouts` as they call themselves now.
pub fn versions(guest: &Artifact, checkouts: &[Checkout]) -> Result<BTreeMap<String, String>> {
    let file = guest.path("versions.json");
    let bytes = std::fs::read(&file).with_context(|| format!("failed to read `{}`", file.display()))?;
    let mut versions: BTreeMap<_, _> =
        serde_json::from_slice(&bytes).context("the guest image's versions make no sense")?;
    versions.extend(checkouts.iter().map(|each| (each.project.name().to_owned(), each.version())));
    Ok(versions)
}

/// Builds the guest agent: static, for the guest has its own libraries, in a target folder of its own,
/// for proc-macros cannot be built with its flags.
pub(crate) fn build_agent(session: &Session) -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    session.terminal.step("building the guest agent");
    let folder = workspace().join("target/guest");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = session
        .host
        .call(cargo)
        .dir(workspace())
        .args(["build", "--quiet", "--package", "guest-agent", "--profile", "guest", "--target", TARGET])
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static")
        // Flags meant for our own build are not for the agent's.
        .env("RUSTFLAGS", "")
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .run(&session.store.temporary().join("agent-build.log"));
    built.context("failed to build the guest agent")?;
    Ok(folder.join(TARGET).join("guest/guest-agent"))
}

/// The QEMU that was asked for (`private`, or a program); else the host's if it is new enough, else
/// the tools root's.
pub fn find_qemu(session: &Session, images: &Images<'_>) -> Result<Qemu> {
    match find_qemu_on_host(session)? {
        Some(qemu) => Ok(qemu),
        None => find::in_tools(&images.tools()?, &session.host, &version_log(session)),
    }
}

/// The host's QEMU, if it is one that we can use; an error if the one that was asked for is not.
pub fn find_qemu_on_host(session: &Session) -> Result<Option<Qemu>> {
    let wanted = session.options.qemu.as_deref().unwrap_or_default();
    find::on_host(&session.host, wanted, &version_log(session))
}

fn version_log(session: &Session) -> PathBuf {
    session.store.temporary().join("qemu-version.log")
}
