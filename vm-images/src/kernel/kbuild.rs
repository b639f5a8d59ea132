//! Modules built outside of a kernel's tree, against the headers that Debian built the kernel with.
//!
//! What is built is somebody else's business: `crate::kernel::overlay` for md, a suite for modules of its own.

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::checkout::{HOST_IS_TO_BLAME, all_files, telling_lines, unreadable};
use crate::build::enclosure::{Enclosure, EnclosureError, Trust};
use crate::build::files::{Entries, digest_of, entries_of};
use crate::build::folder::BuildFolder;
use crate::build::handover::{self, Links};
use crate::build::origin::Origin;
use crate::debian::package::RemoteFile;
use crate::debian::pins::{Group, lines};
use crate::debian::unpack::{link, unpack};
use crate::host::HostError;
use crate::images::{ImageError, Images, Kernel, io_error};
use crate::store::Artifact;
use crate::store::digest::Digest;

const RECIPE: &str = include_str!("../../recipes/modules.sh");

/// How much of the disk is kept of built modules, bytes: each edit makes new ones.
const MODULES_BYTES_MAX: u64 = 1 << 30;

/// Sources of modules: what `make M=…` is run on.
#[derive(Clone, Debug)]
pub struct ModuleSources<'h> {
    /// What people call these modules: `raid modules of /home/me/linux`.
    pub title: String,
    /// What the sources are called in debug information and in kernel messages, instead of the folder that they
    /// happened to be built in: `drivers/md`.
    pub shown_as: String,
    origin: Origin<'h>,
    files: Entries,
    digest: Digest,
    /// Used as `Kbuild` beside them.
    kbuild: Option<String>,
    trust: Trust,
}

/// What is wrong with modules: their author's to mend, never the host's fault.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// They do not build.
    #[error("{title} do not build against the headers of {release}; log: {}\n{lines}", log.display())]
    Build {
        /// What people call them.
        title: String,
        /// `uname -r`.
        release: String,
        /// All that the build printed.
        log: PathBuf,
        /// What matters of it.
        lines: String,
    },
    /// There is nothing that they could be built against.
    #[error(
        "kernel `{kernel}` is not Debian's: modules of a suite's own cannot be built for it; take a deb: kernel"
    )]
    NoHeaders {
        /// As the user named it.
        kernel: String,
    },
    /// They build to nothing.
    #[error("{title}: the build against the headers of {release} made no module; {from} names none in obj-m")]
    Nothing {
        /// What people call them.
        title: String,
        /// `uname -r`.
        release: String,
        /// Where the sources are from.
        from: String,
    },
}

impl<'h> ModuleSources<'h> {
    /// All files of a folder, with its `Kbuild` or `Makefile` that names modules in `obj-m`.
    /// Trusted: it is for folders of ours.
    pub fn folder(title: &str, shown_as: &str, dir: &Path) -> Result<Self, ImageError> {
        let files = entries_of(dir, &all_files(dir)?).map_err(unreadable(dir))?;
        Ok(Self::of_files(title, shown_as, Origin::Folder(dir.to_owned()), files))
    }

    /// Only some files of a folder, or of a commit.
    pub(crate) fn of_files(title: &str, shown_as: &str, origin: Origin<'h>, files: Entries) -> Self {
        let digest = digest_of(&files);
        let (title, shown_as) = (title.to_owned(), shown_as.to_owned());
        ModuleSources { title, shown_as, origin, files, digest, kbuild: None, trust: Trust::Trusted }
    }

    /// The same, trusted as far as this.
    pub(crate) fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// The same with a `Kbuild` of ours, which make prefers to the folder's `Makefile`.
    pub fn with_kbuild(mut self, kbuild: &str) -> Self {
        self.kbuild = Some(kbuild.to_owned());
        self
    }
}

impl Images<'_> {
    /// Builds modules for `kernel`: `NAME.ko` for the guest, `debug/NAME.ko` with debug information, and `log`.
    pub fn build_modules(
        &self,
        kernel: &Kernel,
        sources: &ModuleSources<'_>,
    ) -> Result<Artifact, ImageError> {
        let headers = self.headers(kernel)?;
        let inputs = [
            ("headers", headers.digest.as_str()),
            ("sources", sources.digest.as_str()),
            ("shown as", &sources.shown_as),
            ("kbuild", sources.kbuild.as_deref().unwrap_or_default()),
            ("recipe", RECIPE),
            ("from", self.way_of_building()),
        ];
        if self.from_nothing {
            self.store.remove("modules-from-nothing", inputs);
        }
        let kind = if self.from_nothing { "modules-from-nothing" } else { "modules" };
        let artifact = self.artifact(kind, &inputs, |dir| {
            self.store.shrink(kind, MODULES_BYTES_MAX);
            self.make_modules(dir, kernel, &headers, sources)
        })?;
        self.store.touch(&artifact);
        Ok(artifact)
    }

    /// Of the source that `kernel` was built from, what overlays need: `tree/Makefile` and `tree/drivers/md`.
    pub fn kernel_source(&self, kernel: &Kernel) -> Result<Artifact, ImageError> {
        let group = Group::KernelSource {
            release: kernel.release.clone(),
            version: kernel.package_version.clone().unwrap_or_default(),
        };
        self.pins.make(&group, |files| {
            let inputs = [("files", lines(files)), ("recipe", "kernel source 1".to_owned())];
            let inputs = inputs.each_ref().map(|(name, value)| (*name, value.as_str()));
            self.artifact("kernel-source", &inputs, |dir| self.make_kernel_source(dir, files))
        })
    }

    fn make_kernel_source(&self, dir: &Path, files: &[RemoteFile]) -> Result<(), ImageError> {
        let packages = self.apt.fetch(files)?;
        let name = files.first().map_or("", |file| file.name.as_str());
        let version = files.first().map_or("", |file| file.version.as_str());
        self.progress.step(&format!("unpacking drivers/md of {name} {version}"));
        let work = self.scratch("kernel-source")?;
        let (root, log, tree) = (work.path().join("root"), dir.join("log"), dir.join("tree"));
        fs::create_dir(&root).map_err(io_error("create", &root))?;
        fs::create_dir(&tree).map_err(io_error("create", &tree))?;
        unpack(self.host, &packages, &root, &log)?;
        let call =
            self.host.call("tar").args(["--extract", "--xz", "--no-same-owner", "--strip-components=1"]);
        let call = call.arg("--directory").arg(&tree).arg("--file");
        let call = call.arg(root.join("usr/src").join(format!("{name}.tar.xz")));
        Ok(call.args([format!("{name}/Makefile"), format!("{name}/drivers/md")]).run(&log)?)
    }

    /// The root that kernels and modules are built in.
    pub(crate) fn compilers(&self) -> Result<Artifact, ImageError> {
        self.root("kbuild", |root| {
            // base-files' script makes it; enclosures need it.
            fs::create_dir_all(root.join("mnt"))?;
            link(root, "gawk", "usr/bin/awk")
        })
    }

    /// The root that modules of `kernel` are built in: compilers, and in `/usr/src` the kernel's headers.
    fn headers(&self, kernel: &Kernel) -> Result<Artifact, ImageError> {
        let Some(version) = kernel.package_version.clone() else {
            return Err(ModuleError::NoHeaders { kernel: kernel.spec.clone() }.into());
        };
        let compilers = self.compilers()?;
        let group = Group::Headers { release: kernel.release.clone(), version };
        self.pins.make(&group, |files| {
            let inputs = [
                ("files", lines(files)),
                ("compilers", compilers.digest.to_string()),
                ("recipe", "headers 1".to_owned()),
            ];
            let inputs = inputs.each_ref().map(|(name, value)| (*name, value.as_str()));
            self.artifact("headers", &inputs, |dir| self.make_headers(dir, &compilers, kernel, files))
        })
    }

    fn make_headers(
        &self,
        dir: &Path,
        compilers: &Artifact,
        kernel: &Kernel,
        files: &[RemoteFile],
    ) -> Result<(), ImageError> {
        let packages = self.apt.fetch(files)?;
        self.progress.step(&format!("unpacking the headers of {}", kernel.release));
        let (root, log) = (dir.join("root"), dir.join("log"));
        // Of hard links: neither root is ever written to.
        self.host.call("cp").arg("-al").arg(compilers.path("root")).arg(&root).run(&log)?;
        Ok(unpack(self.host, &packages, &root, &log)?)
    }

    fn make_modules(
        &self,
        dir: &Path,
        kernel: &Kernel,
        headers: &Artifact,
        sources: &ModuleSources<'_>,
    ) -> Result<(), ImageError> {
        let (title, release) = (&sources.title, &kernel.release);
        self.progress.step(&format!("building {title} for {release}"));
        let inputs = [
            ("headers", headers.digest.as_str()),
            ("shown as", &sources.shown_as),
            ("kbuild", sources.kbuild.as_deref().unwrap_or_default()),
            ("recipe", RECIPE),
        ];
        let scratch = self.scratch("build")?;
        let mut folder = match self.from_nothing {
            true => BuildFolder::fresh(scratch.path())?,
            false => BuildFolder::open(self.store, &inputs, self.progress, self.host.cancel())?,
        };
        let ours = [("recipe.sh", Some(RECIPE)), ("src/Kbuild", sources.kbuild.as_deref())];
        let ours: Vec<_> = ours.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
        folder.put_from("src", &sources.origin, &sources.files, &ours)?;
        let (inside, log) = (folder.path(), dir.join("log"));
        let enclosure = Enclosure::new(self.host, &headers.path("root"), &inside, &log, sources.trust)?;
        enclosure.give(&inside, &[])?;
        folder.begin()?;
        let call = ["sh", "/mnt/recipe.sh", release, &sources.shown_as];
        if let Err(error) = enclosure.run(&inside, &[], &call, &log) {
            let EnclosureError::Host(error) = error else { return Err(error.into()) };
            let Some(SourceFailure { log, lines }) = self.source_failure(&error, sources.digest.short())
            else {
                return Err(error.into());
            };
            // What was built stays good: make removes what it did not finish.
            folder.built()?;
            let lines = lines.replace("/mnt/src/", &sources.origin.prefix());
            let (title, release) = (title.clone(), release.clone());
            return Err(ModuleError::Build { title, release, log, lines }.into());
        }
        let out = inside.join("out");
        handover::clean(&out, Links::Refused)?;
        let mut n_modules = 0;
        for entry in fs::read_dir(&out).map_err(io_error("read", &out))? {
            let entry = entry.map_err(io_error("read", &out))?;
            n_modules += usize::from(entry.file_name().to_string_lossy().ends_with(".ko"));
            let to = dir.join(entry.file_name());
            fs::rename(entry.path(), &to).map_err(io_error("move a module to", &to))?;
        }
        folder.built()?;
        if n_modules == 0 {
            let (title, release) = (title.clone(), release.clone());
            return Err(ModuleError::Nothing { title, release, from: sources.origin.to_string() }.into());
        }
        Ok(())
    }

    /// What a failed build says, and where all of it is kept under this name, if the sources are to blame for it.
    pub(crate) fn source_failure(&self, error: &HostError, name: &str) -> Option<SourceFailure> {
        let HostError::Failed { log, .. } = error else { return None };
        let bytes = fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        if HOST_IS_TO_BLAME.iter().any(|words| text.contains(words)) {
            return None;
        }
        // A search meets many that do not build: each keeps its own log.
        let kept = self.store.root().join("logs").join(format!("build-{name}.log"));
        let log = match fs::write(&kept, &bytes) {
            Ok(()) => kept,
            Err(_) => log.clone(),
        };
        let lines = telling_lines(&text).into_iter().map(|line| format!("  | {line}\n")).collect();
        Some(SourceFailure { log, lines })
    }
}

/// A build that failed by the doing of its sources.
pub(crate) struct SourceFailure {
    /// All that it printed.
    pub(crate) log: PathBuf,
    /// What matters of it, as lines to be shown.
    pub(crate) lines: String,
}
