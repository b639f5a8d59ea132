//! Modules built outside of a kernel's tree, against the headers that Debian built the kernel with.
//!
//! Deliberately not here: which modules. [`crate::kernel::overlay`] builds md, a suite its own modules.

use std::fs;
use std::path::Path;

use crate::build::enclosure::{Enclosure, EnclosureError, Trust};
use crate::build::error::{BuildError, io_error};
use crate::build::failure::SourceFailure;
use crate::build::files::{Entries, digest_of, entries_of};
use crate::build::handover::{self, Links};
use crate::build::listing::{all_files, unreadable};
use crate::build::origin::Origin;
use crate::build::workshop::Workshop;
use crate::kernel::bootable::Kernel;
use crate::kernel::error::{KernelError, ModuleError};
use crate::kernel::headers;
use crate::store::Artifact;
use crate::store::digest::Digest;

const RECIPE: &str = include_str!("../../recipes/modules.sh");

/// Room on the disk for built modules, bytes: each edit makes new ones.
const MODULES_BYTES_MAX: u64 = 1 << 30;

/// Sources of modules, on which `make M=…` is run.
#[derive(Clone, Debug)]
pub struct ModuleSources<'h> {
    /// The modules as messages name them: `raid modules of /home/me/linux`.
    pub title: String,
    /// Path of the sources in debug information and in kernel messages, instead of the folder that they
    /// happened to be built in: `drivers/md`.
    pub shown_as: String,
    origin: Origin<'h>,
    files: Entries,
    digest: Digest,
    /// Text of a `Kbuild` that is put beside them.
    kbuild: Option<String>,
    trust: Trust,
}

impl<'h> ModuleSources<'h> {
    /// All files of a folder, whose `Kbuild` or `Makefile` names modules in `obj-m`. They are trusted: the
    /// folder must be one of ours.
    pub fn folder(title: &str, shown_as: &str, dir: &Path) -> Result<Self, BuildError> {
        let files = entries_of(dir, &all_files(dir)?).map_err(unreadable(dir))?;
        Ok(Self::of_files(title, shown_as, Origin::Folder(dir.to_owned()), files))
    }

    /// Only some files of a folder, or of a commit.
    pub(crate) fn of_files(title: &str, shown_as: &str, origin: Origin<'h>, files: Entries) -> Self {
        let digest = digest_of(&files);
        let (title, shown_as) = (title.to_owned(), shown_as.to_owned());
        ModuleSources { title, shown_as, origin, files, digest, kbuild: None, trust: Trust::Trusted }
    }

    /// These sources, trusted as far as `trust` says.
    pub(crate) fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// These sources with a `Kbuild` of ours, which make prefers to the folder's `Makefile`.
    pub fn with_kbuild(mut self, kbuild: &str) -> Self {
        self.kbuild = Some(kbuild.to_owned());
        self
    }
}

/// Builds modules for `kernel`: `NAME.ko` for the guest, `debug/NAME.ko` with debug information, and `log`.
pub(crate) fn build(
    workshop: &Workshop<'_>,
    kernel: &Kernel,
    sources: &ModuleSources<'_>,
) -> Result<Artifact, KernelError> {
    let headers = headers::root(workshop, kernel)?;
    let inputs = [
        ("headers", headers.digest.as_str()),
        ("sources", sources.digest.as_str()),
        ("shown as", &sources.shown_as),
        ("kbuild", sources.kbuild.as_deref().unwrap_or_default()),
        ("recipe", RECIPE),
        ("from", workshop.tuning.way_of_building()),
    ];
    let artifact = workshop.built_from_source("modules", MODULES_BYTES_MAX, &inputs, |dir| {
        make_modules(workshop, dir, kernel, &headers, sources)
    })?;
    workshop.store.touch(&artifact);
    Ok(artifact)
}

fn make_modules(
    workshop: &Workshop<'_>,
    dir: &Path,
    kernel: &Kernel,
    headers: &Artifact,
    sources: &ModuleSources<'_>,
) -> Result<(), KernelError> {
    let (title, release) = (&sources.title, &kernel.release);
    workshop.progress.step(&format!("building {title} for {release}"));
    let inputs = [
        ("headers", headers.digest.as_str()),
        ("shown as", &sources.shown_as),
        ("kbuild", sources.kbuild.as_deref().unwrap_or_default()),
        ("recipe", RECIPE),
    ];
    let scratch = workshop.scratch("build")?;
    let mut folder = workshop.build_folder(&inputs, &scratch)?;
    let ours = [("recipe.sh", Some(RECIPE)), ("src/Kbuild", sources.kbuild.as_deref())];
    let ours: Vec<_> = ours.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
    sources.origin.put_into(&mut folder, "src", &sources.files, &ours)?;
    let (inside, log) = (folder.path(), dir.join("log"));
    let enclosure = Enclosure::new(workshop.host, &headers.path("root"), &inside, &log, sources.trust)?;
    enclosure.give(&inside, &[])?;
    folder.begin()?;
    let call = ["sh", "/mnt/recipe.sh", release, &sources.shown_as];
    if let Err(error) = enclosure.run(&inside, &[], &call, &log) {
        let EnclosureError::Host(error) = error else { return Err(error.into()) };
        let Some(failure) = SourceFailure::of(&error) else { return Err(error.into()) };
        let SourceFailure { log, lines } = failure.kept(workshop.store, sources.digest.short());
        // The object files so far can be used again: make removes those that it did not finish.
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
