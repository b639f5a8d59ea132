//! The images, each made from the ones before it: tools root, build root, LVM2, mdadm, guest image, kernel,
//! initramfs.
//!
//! Says what there is; how each is made is in [`crate::guest`], [`crate::kernel`] and [`crate::build`].

use std::path::{Path, PathBuf};

use crate::build::checkout::Checkout;
use crate::build::error::BuildError;
use crate::build::project::Project;
use crate::build::tools::Tools;
use crate::build::workshop::{BuildTuning, Workshop};
use crate::debian::apt::Apt;
use crate::debian::kernels::DebianKernel;
use crate::debian::lock::Lock;
use crate::debian::pins::Group;
use crate::error::ImageError;
use crate::guest::{image, initramfs, projects};
use crate::host::Host;
use crate::host::progress::Progress;
use crate::kernel::bootable::Kernel;
use crate::kernel::kbuild::{self, ModuleSources};
use crate::kernel::{self, headers};
use crate::spec::KernelSpec;
use crate::spec::debian::DebianSpec;
use crate::store::{Artifact, Store};

/// Makes images, or finds them made.
#[derive(Debug)]
pub struct Images<'a> {
    workshop: Workshop<'a>,
    checkouts: Vec<Checkout>,
    /// Folder of the plants.
    plants: PathBuf,
}

impl<'a> Images<'a> {
    /// Images from the packages that `lock` pins.
    pub fn new(
        host: &'a Host,
        store: &'a Store,
        apt: &'a Apt<'a>,
        lock: Lock,
        progress: &'a dyn Progress,
    ) -> Self {
        let workshop = Workshop::new(host, store, apt, lock, progress);
        Images { workshop, checkouts: vec![], plants: PathBuf::new() }
    }

    /// These images with the plants of a folder: `NAME.toml` for `+plant:NAME`.
    pub fn with_plants(mut self, folder: PathBuf) -> Self {
        self.plants = folder;
        self
    }

    /// These images with a bench's settings for how they are built.
    pub fn tuned(mut self, tuning: BuildTuning) -> Self {
        self.workshop.tuning = tuning;
        self
    }

    /// These images; if `trusts`, a user's trees, commits and checkouts are built even where the host lets
    /// nothing enclose them (`--trust-source`).
    pub fn trusting_sources(mut self, trusts: bool) -> Self {
        self.workshop.trusts_sources = trusts;
        self
    }

    /// These images with the sources in `checkouts` instead of the source packages of their projects.
    pub fn with_checkouts(mut self, checkouts: Vec<Checkout>) -> Self {
        self.checkouts = checkouts;
        self
    }

    /// Packages that had to be replaced, one line each: the run differs from the lock file in these.
    pub fn replaced(&self) -> Vec<String> {
        self.workshop.pins.replaced()
    }

    /// QEMU and the makers of images.
    pub fn tools(&self) -> Result<Tools, ImageError> {
        Ok(self.workshop.tools()?)
    }

    /// Compilers and headers, in which LVM2 and mdadm are built.
    pub fn build_root(&self) -> Result<Artifact, ImageError> {
        Ok(self.workshop.build_root()?)
    }

    /// The image that tests run in: one read-only squashfs, `root.squashfs`, with `versions.json` and the
    /// list of LVM2's tests beside it.
    pub fn guest(&self) -> Result<Artifact, ImageError> {
        Ok(image::make(&self.workshop, &self.checkouts)?)
    }

    /// A kernel, ready to boot.
    pub fn kernel(&self, spec: &KernelSpec) -> Result<Kernel, ImageError> {
        Ok(kernel::make(&self.workshop, &self.plants, spec)?)
    }

    /// Modules for `kernel`: `NAME.ko` for the guest, `debug/NAME.ko` with debug information, and `log`.
    pub fn build_modules(
        &self,
        kernel: &Kernel,
        sources: &ModuleSources<'_>,
    ) -> Result<Artifact, ImageError> {
        Ok(kbuild::build(&self.workshop, kernel, sources)?)
    }

    /// The part of the source that Debian's `kernel` was built from that overlays need: `tree/Makefile` and
    /// `tree/drivers/md`.
    pub fn kernel_source(&self, kernel: &Kernel) -> Result<Artifact, ImageError> {
        Ok(headers::source(&self.workshop, kernel)?)
    }

    /// The initramfs of a kernel: `initramfs.cpio`, with `agent` as `/init`.
    pub fn initramfs(&self, kernel: &Kernel, agent: &Path) -> Result<Artifact, ImageError> {
        Ok(initramfs::make(&self.workshop, &kernel.artifact, agent)?)
    }

    /// The files of a project's source package.
    pub fn source_package(&self, project: Project) -> Result<Vec<PathBuf>, ImageError> {
        let fetch = |files: &[_]| -> Result<_, BuildError> { Ok(self.workshop.apt.fetch(files)?) };
        Ok(self.workshop.pins.make(&Group::Source(project.name()), fetch)?)
    }

    /// The folder of the unpacked source package of `project`, in the version that `wanted` names
    /// (`4.6`, `4.6-2`: the pinned one, else the newest such that Debian offers), and that version.
    pub fn unpacked_source(&self, project: Project, wanted: &str) -> Result<(PathBuf, String), ImageError> {
        let (artifact, version) = projects::unpacked(&self.workshop, project, wanted)?;
        Ok((artifact.path("tree"), version))
    }

    /// All kernels that the mirror offers, oldest first.
    pub fn kernels_offered(&self) -> Result<Vec<DebianKernel>, ImageError> {
        Ok(self.workshop.pins.kernels_offered().map_err(BuildError::from)?)
    }

    /// The lock file as it would be made now: all roots, all sources, and the kernels of `branches`.
    pub fn newest_lock(&self, branches: &[DebianSpec]) -> Result<Lock, ImageError> {
        Ok(self.workshop.pins.newest_lock(branches).map_err(BuildError::from)?)
    }
}
