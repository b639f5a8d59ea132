//! LVM2 and mdadm, built for the guest from Debian's source packages or from a user's checkout.

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::checkout::Checkout;
use crate::build::enclosure::{Enclosure, EnclosureError, Trust};
use crate::build::error::{BuildError, io_error};
use crate::build::handover::{self, Links};
use crate::build::project::Project;
use crate::build::workshop::{Workshop, write};
use crate::debian::error::DebianError;
use crate::debian::package::RemoteFile;
use crate::debian::pins::{Group, lines};
use crate::debian::sources::choose_version;
use crate::store::Artifact;

const LVM2_RECIPE: &str = include_str!("../../recipes/lvm2.sh");
const MDADM_RECIPE: &str = include_str!("../../recipes/mdadm.sh");

/// Room on the disk for builds from checkouts of one project, bytes.
const CHECKOUT_BUILDS_BYTES_MAX: u64 = 512 << 20;

/// The checkout of `project`, if the user named one.
pub(crate) fn checkout_of(project: Project, checkouts: &[Checkout]) -> Option<&Checkout> {
    checkouts.iter().find(|checkout| checkout.project == project)
}

/// The source that LVM2 or mdadm is built from.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    /// The files of Debian's source package.
    Package(&'a [RemoteFile]),
    /// A user's checkout.
    Checkout(&'a Checkout),
}

impl Source<'_> {
    fn kind(&self, project: Project) -> &'static str {
        match self {
            Source::Package(_) => project.name(),
            Source::Checkout(_) => project.checkout_kind(),
        }
    }

    /// The input that it is for the digest of a build.
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

/// LVM2 or mdadm, built in the build root; its installed files are in `out`.
pub(crate) fn built(
    workshop: &Workshop<'_>,
    project: Project,
    checkouts: &[Checkout],
) -> Result<Artifact, BuildError> {
    match checkout_of(project, checkouts) {
        Some(checkout) => built_from(workshop, project, &Source::Checkout(checkout)),
        None => workshop.pins.make(&Group::Source(project.name()), |files| {
            built_from(workshop, project, &Source::Package(files))
        }),
    }
}

/// The source of the version of `project` that `wanted` names, unpacked in `tree`, and that version: the one
/// that the lock file pins, else the newest that Debian offers.
pub(crate) fn unpacked(
    workshop: &Workshop<'_>,
    project: Project,
    wanted: &str,
) -> Result<(Artifact, String), BuildError> {
    let name = project.name();
    let (files, version) = files_of(workshop, name, wanted)?;
    let list = lines(&files);
    let root = workshop.build_root()?.path("root");
    let inputs = [("files", list.as_str()), ("recipe", "source package 1")];
    let artifact = workshop.artifact(project.source_kind(), &inputs, |dir| -> Result<(), BuildError> {
        let packages = workshop.apt.fetch(&files)?;
        workshop.progress.step(&format!("unpacking the source of {name} {version}"));
        let work = workshop.scratch(name)?;
        let inside = work.path().join("work");
        fs::create_dir(&inside).map_err(io_error("create", &inside))?;
        copy_package(&files, &packages, &inside)?;
        let log = dir.join("log");
        let enclosure = Enclosure::new(workshop.host, &root, &inside, &log, Trust::Trusted)?;
        enclosure.give(&inside, &[])?;
        let unpack = "cd /mnt && dpkg-source --no-check --extract ./*.dsc out";
        enclosure.run(&inside, &[], &["sh", "-c", unpack], &log)?;
        Ok(handover::take(&inside.join("out"), &dir.join("tree"), Links::Kept)?)
    })?;
    Ok((artifact, version))
}

/// The files of the version of source package `name` that `wanted` names, and that version.
fn files_of(
    workshop: &Workshop<'_>,
    name: &'static str,
    wanted: &str,
) -> Result<(Vec<RemoteFile>, String), DebianError> {
    let pinned = workshop.pins.files(&Group::Source(name))?;
    let its_version: Vec<_> = pinned.first().map(|file| file.version.clone()).into_iter().collect();
    if let Some(version) = choose_version(&its_version, wanted).map(str::to_owned) {
        return Ok((pinned, version));
    }
    let offered = workshop.apt.source_versions(name)?;
    let Some(version) = choose_version(&offered, wanted).map(str::to_owned) else {
        let (version, mirror) = (wanted.to_owned(), workshop.apt.mirror().debian.clone());
        return Err(DebianError::NoVersion { name, version, mirror, offered });
    };
    Ok((workshop.apt.source_at(name, &version)?, version))
}

/// Copies the files of a source package, fetched as `packages`, to `to` under their own names.
fn copy_package(files: &[RemoteFile], packages: &[PathBuf], to: &Path) -> Result<(), BuildError> {
    for (file, path) in files.iter().zip(packages) {
        let to = to.join(file.file_name());
        fs::copy(path, &to).map_err(io_error("copy to", &to))?;
    }
    Ok(())
}

fn built_from(
    workshop: &Workshop<'_>,
    project: Project,
    source: &Source<'_>,
) -> Result<Artifact, BuildError> {
    let (recipe, kind) = (recipe(project), source.kind(project));
    let (what, value) = source.input();
    let find = || -> Result<_, BuildError> {
        let compilers = lines(&workshop.pins.files(&Group::Root("build"))?);
        Ok([(what, value.clone()), ("recipe", recipe.to_owned()), ("build root", compilers)])
    };
    let inputs = find()?;
    let inputs = inputs.each_ref().map(|(name, value)| (*name, value.as_str()));
    if let Some(artifact) = workshop.store.find(kind, inputs) {
        workshop.store.touch(&artifact);
        return Ok(artifact);
    }
    // The build root first: making it may show that its files must be replaced, and a build with other files
    // is another artifact.
    let root = workshop.build_root()?.path("root");
    let inputs = find()?;
    let inputs = inputs.each_ref().map(|(name, value)| (*name, value.as_str()));
    workshop.artifact(kind, &inputs, |dir| build(workshop, dir, project, &root, source))
}

fn build(
    workshop: &Workshop<'_>,
    dir: &Path,
    project: Project,
    root: &Path,
    source: &Source<'_>,
) -> Result<(), BuildError> {
    let name = project.name();
    let work = workshop.scratch(name)?;
    let inside = work.path().join("work");
    fs::create_dir(&inside).map_err(io_error("create", &inside))?;
    match source {
        Source::Package(files) => {
            let packages = workshop.apt.fetch(files)?;
            let version = files.first().map_or("", |file| file.version.as_str());
            workshop.progress.step(&format!("building {name} {version} from its source package"));
            copy_package(files, &packages, &inside)?;
        }
        Source::Checkout(checkout) => {
            workshop.store.shrink(project.checkout_kind(), CHECKOUT_BUILDS_BYTES_MAX);
            let (version, from) = (checkout.version(), checkout.dir.display());
            workshop.progress.step(&format!("building {name} {version} from `{from}`"));
            checkout.copy_to(&inside.join("tree"))?;
        }
    }
    write(&inside.join("recipe.sh"), recipe(project).as_bytes())?;
    let log = dir.join("log");
    let trust = match source {
        Source::Package(_) => Trust::Trusted,
        Source::Checkout(_) => workshop.trust_of_sources(),
    };
    let enclosure = Enclosure::new(workshop.host, root, &inside, &log, trust)?;
    enclosure.give(&inside, &[])?;
    let run = enclosure.run(&inside, &[], &["sh", "/mnt/recipe.sh"], &log);
    run.map_err(|error| match (source, error) {
        (Source::Checkout(checkout), EnclosureError::Host(error)) => checkout.blame(error),
        (Source::Package(_) | Source::Checkout(_), error) => error.into(),
    })?;
    // Libraries and commands have links among each other.
    Ok(handover::take(&inside.join("out"), &dir.join("out"), Links::Kept)?)
}
