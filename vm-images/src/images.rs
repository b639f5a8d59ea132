//! The images, each made from the ones before it: tools root, build root, LVM2, mdadm, guest image,
//! kernel, initramfs.
//!
//! Reads top to bottom as the order of making. Which files they are made from is the business of
//! [`crate::debian::pins`] and [`crate::build::checkout`].

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::build::checkout::{Checkout, CheckoutError, Project};
use crate::build::enclosure::{Enclosure, EnclosureError, Trust};
use crate::build::git::GitError;
use crate::build::handover::{self, HandoverError, Links};
use crate::build::tools::Tools;
use crate::debian::apt::{Apt, AptError};
use crate::debian::kernels::DebianKernel;
use crate::debian::lock::Lock;
use crate::debian::package::RemoteFile;
pub use crate::debian::pins::root_packages;
use crate::debian::pins::{Group, Pins, lines};
use crate::debian::unpack::{link, unpack};
use crate::guest::root;
use crate::host::progress::Progress;
use crate::host::tree::remove_tree;
use crate::host::{Host, HostError};
use crate::kernel::bzimage;
use crate::kernel::kbuild::ModuleError;
use crate::kernel::modules;
use crate::kernel::overlay::OverlayError;
use crate::kernel::replacement::Replacement;
use crate::kernel::user::OwnKernelError;
use crate::spec::KernelSpec;
use crate::spec::debian::DebianSpec;
use crate::store::digest::Digest;
use crate::store::{Artifact, Store, StoreError};

/// Packages of the guest whose versions are shown with every result.
const TELLING_PACKAGES: [&str; 6] =
    ["bash", "e2fsprogs", "libc6", "thin-provisioning-tools", "util-linux", "xfsprogs"];
/// Names of a kernel's modules, in its artifact.
pub(crate) const MODULES: &str = "modules.txt";
const LVM2_RECIPE: &str = include_str!("../recipes/lvm2.sh");
const MDADM_RECIPE: &str = include_str!("../recipes/mdadm.sh");

/// How much of the disk is kept of what is built from checkouts, bytes: about ten guest images. Each edit
/// makes a new one; those that were used least recently go.
const CHECKOUT_GUESTS_BYTES_MAX: u64 = 2 << 30;
/// The same for each project's own part, bytes.
const CHECKOUT_BUILDS_BYTES_MAX: u64 = 512 << 20;

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Packages.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// A program of the host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A root that cannot be entered.
    #[error(transparent)]
    Enclosure(#[from] EnclosureError),
    /// What was built is not what a build makes.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A user's checkout.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// Modules that are built here.
    #[error(transparent)]
    Modules(#[from] ModuleError),
    /// An overlay.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A kernel of the user's own.
    #[error(transparent)]
    OwnKernel(Box<OwnKernelError>),
    /// A user's repository.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A step of making an image.
    #[error("failed to {what} `{}`: {source}{}", path.display(), full_hint(source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No such kernel.
    #[error("the mirror {mirror} has no kernel `{spec}`; {}", offer(similar))]
    NoKernel {
        /// What was asked for.
        spec: String,
        /// Where.
        mirror: String,
        /// What is most like it.
        similar: Vec<String>,
    },
    /// A kernel without the packages that its modules are built from.
    #[error(
        "the mirror {mirror} has no {what} of kernel {release}, version {version}: modules cannot be built for it; \
         take a newer kernel of its branch"
    )]
    NotOffered {
        /// `headers` or `source`.
        what: &'static str,
        /// `uname -r`.
        release: String,
        /// Of the kernel's package.
        version: String,
        /// Where.
        mirror: String,
    },
    /// A kernel package without what it should hold.
    #[error("package of kernel {release} holds no {missing}")]
    KernelPackage {
        /// Its release.
        release: String,
        /// What is missing.
        missing: &'static str,
    },
}

fn full_hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::StorageFull { "; the disk is full" } else { "" }
}

fn offer(similar: &[String]) -> String {
    let all = "`cargo xtask kernel list` shows all";
    if similar.is_empty() { all.to_owned() } else { format!("it has {}; {all}", similar.join(", ")) }
}

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As the user named it.
    pub spec: String,
    /// Exactly this one again, as a user would name it.
    pub exact_spec: String,
    /// `uname -r`.
    pub release: String,
    /// Version of its package, if it came from one.
    pub package_version: Option<String>,
    /// What is booted: `vmlinuz` or `vmlinux`, `config`, `modules.txt`, `modules.squashfs` and `boot/NN-name.ko`.
    pub artifact: Artifact,
    /// What takes the place of its modules, once its guest runs.
    pub replacement: Option<Replacement>,
}

impl Kernel {
    /// What is booted: the kernel proper, or where that could not be had, its compressed image.
    pub fn image(&self) -> PathBuf {
        let vmlinux = self.artifact.path("vmlinux");
        if vmlinux.is_file() { vmlinux } else { self.artifact.path("vmlinuz") }
    }

    /// Digest of all of it: of what is booted, and of what takes the place of its modules.
    pub fn digest(&self) -> Digest {
        match &self.replacement {
            None => self.artifact.digest.clone(),
            Some(replacement) => Digest::of_inputs([
                ("kernel", self.artifact.digest.as_str()),
                ("modules", replacement.digest().as_str()),
            ]),
        }
    }

    /// Folders with debug information of what was built here.
    pub fn debug_info(&self) -> Vec<PathBuf> {
        let replaced = self.replacement.iter().map(Replacement::debug_info);
        replaced.chain([self.artifact.path("debug")]).filter(|folder| folder.is_dir()).collect()
    }

    /// Of `modules`, those that it has neither as modules nor built in.
    pub fn lacks<'m>(&self, modules: &'m [String]) -> Result<Vec<&'m str>, ImageError> {
        let list = match &self.replacement {
            Some(replacement) => replacement.names(),
            None => self.artifact.path(MODULES),
        };
        let text = fs::read_to_string(&list).map_err(io_error("read", &list))?;
        let has = |module: &str| text.lines().any(|name| name == module.replace('-', "_"));
        Ok(modules.iter().map(String::as_str).filter(|module| !has(module)).collect())
    }
}

/// Who has to do something about it that there is no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The source that was to be built: it does not build, or lacks what is built. Another commit may do.
    Source,
    /// What was asked for makes no sense, whatever the source: a repository, a revision, a kernel that is not there.
    Request,
    /// The host, the mirror, or md-regress: nothing is known of the source.
    Infra,
}

impl ImageError {
    /// Whose doing it is.
    pub fn fault(&self) -> Fault {
        match self {
            ImageError::Modules(ModuleError::NoHeaders { .. })
            | ImageError::Enclosure(EnclosureError::Exposed { .. }) => Fault::Request,
            ImageError::Handover(HandoverError::Odd { .. }) => Fault::Source,
            ImageError::OwnKernel(error) => match **error {
                OwnKernelError::Build { .. }
                | OwnKernelError::Foreign { .. }
                | OwnKernelError::BadRelease { .. } => Fault::Source,
                OwnKernelError::Unusable { .. }
                | OwnKernelError::NoRevision { .. }
                | OwnKernelError::NoImage { .. }
                | OwnKernelError::NoModules { .. } => Fault::Request,
                OwnKernelError::DiskTooSmall { .. } => Fault::Infra,
            },
            ImageError::Modules(_) | ImageError::Overlay(OverlayError::NoMd { .. }) => Fault::Source,
            ImageError::NoKernel { .. } | ImageError::Checkout(_) | ImageError::Overlay(_) => Fault::Request,
            ImageError::Git(
                GitError::NoRepository { .. } | GitError::NoCommit { .. } | GitError::Unreadable { .. },
            ) => Fault::Request,
            ImageError::Git(GitError::Host(_) | GitError::Io { .. } | GitError::Stopped)
            | ImageError::Apt(_)
            | ImageError::Host(_)
            | ImageError::Enclosure(
                EnclosureError::Host(_) | EnclosureError::Forbidden { .. } | EnclosureError::Io { .. },
            )
            | ImageError::Handover(HandoverError::Io { .. })
            | ImageError::Store(_)
            | ImageError::Io { .. }
            | ImageError::NotOffered { .. }
            | ImageError::KernelPackage { .. } => Fault::Infra,
        }
    }
}

/// Makes images, or finds them made.
#[derive(Debug)]
pub struct Images<'a> {
    pub(crate) host: &'a Host,
    pub(crate) store: &'a Store,
    pub(crate) apt: &'a Apt<'a>,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) pins: Pins<'a>,
    checkouts: Vec<Checkout>,
    /// Folder of the plants.
    pub(crate) plants: PathBuf,
    /// Build from nothing, and as if nothing had been built.
    pub(crate) from_nothing: bool,
    /// Build a stranger's source even where it reaches more than it should.
    trusts_sources: bool,
}

impl<'a> Images<'a> {
    /// Images from what `lock` pins.
    pub fn new(
        host: &'a Host,
        store: &'a Store,
        apt: &'a Apt<'a>,
        lock: Lock,
        progress: &'a dyn Progress,
    ) -> Self {
        let pins = Pins::new(apt, store, lock, progress);
        Images {
            host,
            store,
            apt,
            progress,
            pins,
            checkouts: vec![],
            plants: PathBuf::new(),
            from_nothing: false,
            trusts_sources: false,
        }
    }

    /// The same, with the plants of a folder: `NAME.toml` for `+plant:NAME`.
    pub fn with_plants(mut self, folder: PathBuf) -> Self {
        self.plants = folder;
        self
    }

    /// The same, but what is built from a user's source is built from nothing, though it may be there: to compare.
    pub fn building_from_nothing(mut self) -> Self {
        self.from_nothing = true;
        self
    }

    /// The same, but trees, commits and checkouts are built even where the host lets nothing enclose them (`--trust-source`).
    pub fn trusting_sources(mut self, trusts: bool) -> Self {
        self.trusts_sources = trusts;
        self
    }

    /// How far the code of a tree, commit or checkout of the user's is to be trusted: a patch in it may be anybody's.
    pub(crate) fn trust_of_sources(&self) -> Trust {
        if self.trusts_sources { Trust::Trusted } else { Trust::Stranger }
    }

    /// Tells what was built in one way from the same built in the other.
    pub(crate) fn way_of_building(&self) -> &'static str {
        if self.from_nothing { "nothing" } else { "what there is" }
    }

    /// The same, with what `checkouts` hold instead of the source packages of these projects.
    pub fn with_checkouts(mut self, checkouts: Vec<Checkout>) -> Self {
        self.checkouts = checkouts;
        self
    }

    /// What had to be replaced, one line each: the run differs from the lock file in these.
    pub fn replaced(&self) -> Vec<String> {
        self.pins.replaced()
    }

    /// QEMU and the makers of images.
    pub fn tools(&self) -> Result<Tools, ImageError> {
        let artifact = self.root("tools", |_| Ok(()))?;
        Ok(Tools::new(artifact.path("root")))
    }

    /// Compilers and headers.
    pub fn build_root(&self) -> Result<Artifact, ImageError> {
        self.root("build", |root| {
            // base-files' script makes it; enclosures need it.
            fs::create_dir_all(root.join("mnt"))?;
            link(root, "gawk", "usr/bin/awk")?;
            link(root, "gcc", "usr/bin/cc")?;
            link(root, "g++", "usr/bin/c++")
        })
    }

    /// The image that tests run in: one read-only squashfs, `root.squashfs`, with `versions.json`
    /// and the list of LVM2's tests beside it.
    pub fn guest(&self) -> Result<Artifact, ImageError> {
        // Outside `make`: what is missing for these is none of the guest's packages.
        let tools = self.tools()?;
        let lvm2 = self.built(Project::Lvm2)?;
        let mdadm = self.built(Project::Mdadm)?;
        let kind = if self.checkouts.is_empty() { "guest" } else { "guest-checkout" };
        let guest = self.pins.make(&Group::Root("guest"), |files| {
            let list = lines(files);
            let inputs = [
                ("files", list.as_str()),
                ("lvm2", lvm2.digest.as_str()),
                ("mdadm", mdadm.digest.as_str()),
                ("recipe", root::RECIPE),
                ("left out", &root::LEFT_OUT.join(" ")),
            ];
            self.artifact(kind, &inputs, |dir| {
                if !self.checkouts.is_empty() {
                    self.store.shrink(kind, CHECKOUT_GUESTS_BYTES_MAX);
                }
                self.make_guest(dir, files, [&lvm2, &mdadm], &tools)
            })
        })?;
        self.store.touch(&guest);
        Ok(guest)
    }

    /// A kernel, ready to boot.
    pub fn kernel(&self, spec: &KernelSpec) -> Result<Kernel, ImageError> {
        match spec {
            KernelSpec::Debian { base, overlay: None } => self.debian_kernel(base),
            KernelSpec::Debian { base, overlay: Some(overlay) } => {
                self.overlaid(self.debian_kernel(base)?, spec, overlay)
            }
            KernelSpec::Own(own) => self.own_kernel(own),
        }
    }

    fn debian_kernel(&self, spec: &DebianSpec) -> Result<Kernel, ImageError> {
        let tools = self.tools()?;
        self.pins.make(&Group::Kernel(spec.clone()), |files| {
            // A kernel without an image package names no release, and fails for want of an image.
            let image = files.iter().find(|file| file.name.starts_with("linux-image-"));
            let release = image.map_or("", |file| file.name.trim_start_matches("linux-image-"));
            let inputs = [("files", lines(files)), ("recipe", "kernel 4".to_owned())];
            let inputs = inputs.each_ref().map(|(name, value)| (*name, value.as_str()));
            let artifact =
                self.artifact("kernel", &inputs, |dir| self.make_kernel(dir, release, files, &tools))?;
            Ok(Kernel {
                spec: spec.to_string(),
                exact_spec: format!("deb:{release}"),
                release: release.to_owned(),
                package_version: image.map(|file| file.version.clone()),
                artifact,
                replacement: None,
            })
        })
    }

    /// The initramfs of a kernel: `initramfs.cpio`, with `agent` as `/init`.
    pub fn initramfs(&self, kernel: &Kernel, agent: &Path) -> Result<Artifact, ImageError> {
        let agent_digest =
            crate::store::digest::Digest::of_file(agent).map_err(io_error("read the guest agent", agent))?;
        let inputs = [
            ("kernel", kernel.artifact.digest.as_str()),
            ("agent", agent_digest.as_str()),
            ("recipe", "initramfs 2"),
        ];
        self.artifact("initramfs", &inputs, |dir| {
            let boot = kernel.artifact.path("boot");
            let mut files: Vec<_> = fs::read_dir(&boot)
                .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>())
                .map_err(io_error("read", &boot))?;
            files.sort();
            let out = dir.join("initramfs.cpio");
            crate::guest::initramfs::write(&out, agent, &files).map_err(io_error("write", &out))
        })
    }

    /// The files of a source package.
    pub fn source_package(&self, project: Project) -> Result<Vec<PathBuf>, ImageError> {
        self.pins.make(&Group::Source(project.name()), |files| Ok(self.apt.fetch(files)?))
    }

    /// All kernels that the mirror offers, oldest first.
    pub fn kernels_offered(&self) -> Result<Vec<DebianKernel>, ImageError> {
        self.pins.kernels_offered()
    }

    /// What the newest lock file would hold: all roots, all sources, and the kernels of `branches`.
    pub fn newest_lock(&self, branches: &[DebianSpec]) -> Result<Lock, ImageError> {
        self.pins.newest_lock(branches)
    }

    /// The versions that a result depends on most; the lock file has all.
    fn versions(&self, files: &[RemoteFile]) -> Result<BTreeMap<String, String>, ImageError> {
        let mut versions = BTreeMap::new();
        for file in files.iter().filter(|file| TELLING_PACKAGES.contains(&file.name.as_str())) {
            versions.insert(file.name.clone(), file.version.clone());
        }
        for project in Project::ALL {
            let version = match self.checkout(project) {
                Some(checkout) => Some(checkout.version_by_content()),
                None => {
                    let files = self.pins.files(&Group::Source(project.name()))?;
                    files.first().map(|file| file.version.clone())
                }
            };
            versions.extend(version.map(|version| (project.name().to_owned(), version)));
        }
        Ok(versions)
    }

    fn checkout(&self, project: Project) -> Option<&Checkout> {
        self.checkouts.iter().find(|checkout| checkout.project == project)
    }

    pub(crate) fn root(
        &self,
        name: &'static str,
        finish: impl Fn(&Path) -> io::Result<()>,
    ) -> Result<Artifact, ImageError> {
        self.pins.make(&Group::Root(name), |files| {
            let list = lines(files);
            self.artifact(name, &[("files", &list), ("recipe", "root 2")], |dir| {
                let packages = self.apt.fetch(files)?;
                self.progress.step(&format!("unpacking the {name} root's {} packages", packages.len()));
                let root = dir.join("root");
                fs::create_dir(&root).map_err(io_error("create", &root))?;
                unpack(self.host, &packages, &root, &dir.join("log"))?;
                finish(&root).map_err(io_error("finish the root in", &root))
            })
        })
    }

    /// LVM2 or mdadm, built in the build root: what it installs is in `out`.
    fn built(&self, project: Project) -> Result<Artifact, ImageError> {
        match self.checkout(project) {
            Some(checkout) => self.built_from(project, &Source::Checkout(checkout)),
            None => self.pins.make(&Group::Source(project.name()), |files| {
                self.built_from(project, &Source::Package(files))
            }),
        }
    }

    fn built_from(&self, project: Project, source: &Source<'_>) -> Result<Artifact, ImageError> {
        let (recipe, kind) = (recipe(project), source.kind(project));
        let (what, value) = source.input();
        let find = || -> Result<_, ImageError> {
            let compilers = lines(&self.pins.files(&Group::Root("build"))?);
            Ok([(what, value.clone()), ("recipe", recipe.to_owned()), ("build root", compilers)])
        };
        let inputs = find()?;
        let inputs = inputs.each_ref().map(|(name, value)| (*name, value.as_str()));
        if let Some(artifact) = self.store.find(kind, inputs) {
            self.store.touch(&artifact);
            return Ok(artifact);
        }
        // The build root first: making it may show that its files must be replaced, and what is
        // built with others is another artifact.
        let root = self.build_root()?.path("root");
        let inputs = find()?;
        let inputs = inputs.each_ref().map(|(name, value)| (*name, value.as_str()));
        self.artifact(kind, &inputs, |dir| self.make_built(dir, project, &root, source))
    }

    fn make_built(
        &self,
        dir: &Path,
        project: Project,
        root: &Path,
        source: &Source<'_>,
    ) -> Result<(), ImageError> {
        let name = project.name();
        let work = self.scratch(name)?;
        let inside = work.path().join("work");
        fs::create_dir(&inside).map_err(io_error("create", &inside))?;
        match source {
            Source::Package(files) => {
                let packages = self.apt.fetch(files)?;
                let version = files.first().map_or("", |file| file.version.as_str());
                self.progress.step(&format!("building {name} {version} from its source package"));
                for (file, path) in files.iter().zip(&packages) {
                    let to = inside.join(file.file_name());
                    fs::copy(path, &to).map_err(io_error("copy to", &to))?;
                }
            }
            Source::Checkout(checkout) => {
                self.store.shrink(project.checkout_kind(), CHECKOUT_BUILDS_BYTES_MAX);
                let (version, from) = (checkout.version(), checkout.dir.display());
                self.progress.step(&format!("building {name} {version} from `{from}`"));
                checkout.copy_to(&inside.join("tree"))?;
            }
        }
        write(&inside.join("recipe.sh"), recipe(project).as_bytes())?;
        let log = dir.join("log");
        let trust = match source {
            Source::Package(_) => Trust::Trusted,
            Source::Checkout(_) => self.trust_of_sources(),
        };
        let enclosure = Enclosure::new(self.host, root, &inside, &log, trust)?;
        enclosure.give(&inside, &[])?;
        let run = enclosure.run(&inside, &[], &["sh", "/mnt/recipe.sh"], &log);
        run.map_err(|error| match (source, error) {
            (Source::Checkout(checkout), EnclosureError::Host(error)) => checkout.blame(error),
            (Source::Package(_) | Source::Checkout(_), error) => error.into(),
        })?;
        // Libraries and commands have links among each other.
        Ok(handover::take(&inside.join("out"), &dir.join("out"), Links::Kept)?)
    }

    fn make_guest(
        &self,
        dir: &Path,
        files: &[RemoteFile],
        built: [&Artifact; 2],
        tools: &Tools,
    ) -> Result<(), ImageError> {
        let packages = self.apt.fetch(files)?;
        self.progress.step(&format!("unpacking the guest's {} packages", packages.len()));
        // The tree is not kept: only the image made of it is.
        let work = self.scratch("guest-tree")?;
        let (tree, log) = (work.path().join("root"), dir.join("log"));
        fs::create_dir(&tree).map_err(io_error("create", &tree))?;
        unpack(self.host, &packages, &tree, &log)?;
        for artifact in built {
            let from = artifact.path("out").join(".");
            // Where one of them left a link, the next one's file must not be written to where that leads.
            let call = self.host.call("cp");
            let copy = call.args(["-a", "--no-preserve=ownership", "--remove-destination"]);
            copy.arg(from).arg(&tree).run(&log)?;
        }
        root::finish(&tree).map_err(io_error("finish the root in", &tree))?;
        let empty = work.path().join("empty");
        fs::create_dir(&empty).map_err(io_error("create", &empty))?;
        // Without its cache the loader searches folders at each of a test's thousands of execs.
        // A checkout's installation may have brought another ldconfig.
        let trust = if self.checkouts.is_empty() { Trust::Trusted } else { self.trust_of_sources() };
        let enclosure = Enclosure::new(self.host, &tree, &empty, &log, trust)?;
        enclosure.give(&empty, &[])?;
        enclosure.run(&empty, &[], &["/usr/sbin/ldconfig", "-X", "-C", "/mnt/ld.so.cache"], &log)?;
        let cache = root::file_in(&tree, "etc/ld.so.cache").map_err(io_error("make room in", &tree))?;
        handover::take(&empty.join("ld.so.cache"), &cache, Links::Refused)?;
        self.progress.step("making the guest image");
        let image = dir.join("root.squashfs");
        tools.squashfs(self.host, &tree, &image, &root::LEFT_OUT).run(&log)?;
        let tests = list_tests(&tree).map_err(io_error("list tests in", &tree))?;
        write(&dir.join("lvm2-tests.txt"), tests.as_bytes())?;
        let versions = serde_json::to_vec_pretty(&self.versions(files)?).expect("strings have a JSON form");
        write(&dir.join("versions.json"), &versions)
    }

    fn make_kernel(
        &self,
        dir: &Path,
        release: &str,
        files: &[RemoteFile],
        tools: &Tools,
    ) -> Result<(), ImageError> {
        let packages = self.apt.fetch(files)?;
        self.progress.step(&format!("unpacking kernel {release}"));
        let work = self.scratch("kernel")?;
        let (root, log) = (work.path().join("root"), dir.join("log"));
        fs::create_dir(&root).map_err(io_error("create", &root))?;
        unpack(self.host, &packages, &root, &log)?;
        let library = if root.join("usr/lib/modules").is_dir() { "usr/lib/modules" } else { "lib/modules" };
        let tree = root.join(library).join(release);
        // Debian keeps the image under /boot, and since 7.2 beside the modules.
        let take = |candidates: [PathBuf; 2], name: &str, missing| {
            let found = candidates.iter().find(|path| path.is_file());
            let from =
                found.ok_or_else(|| ImageError::KernelPackage { release: release.to_owned(), missing })?;
            fs::copy(from, dir.join(name)).map_err(io_error("copy", from)).map(drop)
        };
        let boot = root.join("boot");
        take([boot.join(format!("vmlinuz-{release}")), tree.join("vmlinuz")], "vmlinuz", "kernel image")?;
        take([boot.join(format!("config-{release}")), tree.join("config")], "config", "configuration")?;
        let image = dir.join("vmlinuz");
        let bytes = fs::read(&image).map_err(io_error("read", &image))?;
        if let Some(elf) = bzimage::vmlinux(&bytes) {
            write(&dir.join("vmlinux"), &elf)?;
        }
        modules::decompress(&tree).map_err(io_error("decompress the modules in", &tree))?;
        // Older packages still use /lib; depmod is given one layout for all.
        if library == "lib/modules" {
            fs::create_dir_all(root.join("usr/lib"))
                .and_then(|()| fs::rename(root.join(library), root.join("usr/lib/modules")))
                .map_err(io_error("move the modules of", &root))?;
        }
        let tree = root.join("usr/lib/modules").join(release);
        let old = root.join("lib");
        if old.is_dir() {
            remove_tree(&old).map_err(io_error("remove", &old))?;
        }
        std::os::unix::fs::symlink("usr/lib", &old).map_err(io_error("link", &old))?;
        tools.call(self.host, "usr/sbin/depmod").arg("--basedir").arg(&root).arg(release).run(&log)?;
        let dependencies = tree.join("modules.dep");
        let text = fs::read_to_string(&dependencies).map_err(io_error("read", &dependencies))?;
        let builtin = fs::read_to_string(tree.join("modules.builtin")).unwrap_or_default();
        write(&dir.join(MODULES), modules::names(&text, &builtin).as_bytes())?;
        let boot = dir.join("boot");
        fs::create_dir(&boot).map_err(io_error("create", &boot))?;
        for (idx, module) in modules::boot_order(&text).iter().enumerate() {
            let file = module.file_name().map(|name| name.to_string_lossy().into_owned());
            let to = boot.join(format!("{idx:02}-{}", file.unwrap_or_default()));
            fs::copy(tree.join(module), &to).map_err(io_error("copy to", &to))?;
        }
        for link in ["build", "source"] {
            let _ = fs::remove_file(tree.join(link));
        }
        let _ = fs::remove_file(tree.join("vmlinuz"));
        self.progress.step(&format!("making the module image of {release}"));
        let image = dir.join("modules.squashfs");
        Ok(tools.squashfs(self.host, &root.join("usr/lib/modules"), &image, &[]).run(&log)?)
    }

    pub(crate) fn artifact(
        &self,
        kind: &str,
        inputs: &[(&str, &str)],
        build: impl FnOnce(&Path) -> Result<(), ImageError>,
    ) -> Result<Artifact, ImageError> {
        self.store.artifact(kind, inputs, self.progress, self.host.cancel(), build)
    }

    pub(crate) fn scratch(&self, name: &str) -> Result<Scratch, ImageError> {
        let at = self.store.temporary();
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(at);
        folder.map(|folder| Scratch(folder.keep())).map_err(io_error("make a folder in", at))
    }
}

/// What LVM2 or mdadm is built from.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    /// The files of Debian's source package.
    Package(&'a [RemoteFile]),
    /// A user's own tree.
    Checkout(&'a Checkout),
}

impl Source<'_> {
    fn kind(&self, project: Project) -> &'static str {
        match self {
            Source::Package(_) => project.name(),
            Source::Checkout(_) => project.checkout_kind(),
        }
    }

    /// Its part of the digest of what is built from it.
    fn input(&self) -> (&'static str, String) {
        match self {
            Source::Package(files) => ("files", lines(files)),
            Source::Checkout(checkout) => ("checkout", checkout.digest.to_string()),
        }
    }
}

fn recipe(project: Project) -> &'static str {
    match project {
        Project::Lvm2 => LVM2_RECIPE,
        Project::Mdadm => MDADM_RECIPE,
    }
}

/// A folder of scratch space that goes when it is dropped, read-only folders and all.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

/// LVM2's installed tests, one a line: what its runner would find.
fn list_tests(tree: &Path) -> io::Result<String> {
    let top = tree.join("usr/share/lvm2-testsuite");
    let mut names = Vec::new();
    for entry in walkdir::WalkDir::new(&top) {
        let path = entry?.into_path();
        if let Some(name) = path.strip_prefix(&top).ok().and_then(Path::to_str)
            && name.ends_with(".sh")
            && !name.starts_with("lib/")
        {
            names.push(format!("{name}\n"));
        }
    }
    names.sort();
    Ok(names.concat())
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    fs::write(path, bytes).map_err(io_error("write", path))
}

pub(crate) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io { what, path, source }
}
