//! Overlays: a Debian kernel with md, its raid levels and dm-raid of another source, built as modules against
//! the kernel's headers: seconds to a minute instead of a kernel's build.
//!
//! All of the kernel's modules that share md.h are replaced together. The kernel itself stays as it is, and
//! its taint shows that the modules are not signed. [`crate::kernel::replacement`] gets them into the guest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::build::enclosure::Trust;
use crate::build::error::io_error;
use crate::build::files::{Entries, entries_of};
use crate::build::git::Commit;
use crate::build::listing::unreadable;
use crate::build::origin::Origin;
use crate::build::workshop::{Workshop, write};
use crate::kernel::bootable::Kernel;
use crate::kernel::error::{KernelError, OverlayError};
use crate::kernel::kbuild::{self, ModuleSources};
use crate::kernel::plant::Plant;
use crate::kernel::version::{is_version_of, tree_version};
use crate::kernel::{headers, replacement};
use crate::spec::debian::DebianSpec;
use crate::spec::revision::Revision;
use crate::spec::{KernelSpec, Overlay};

/// The folder of a kernel tree that is built.
const FOLDER: &str = "drivers/md";

/// Files that every drivers/md has.
const MARKS: [&str; 3] = ["md.c", "md.h", "Makefile"];

/// A `Kbuild` that takes from the tree's own `Makefile` only the modules that share md.h. All of them must be
/// replaced: one of the old modules would read the new md's structures wrongly. The kernel's configuration
/// decides which of them exist.
const KBUILD: &str = "include $(src)/Makefile\n\
    obj-m := $(filter md-mod.o raid0.o raid1.o raid10.o raid456.o dm-raid.o \
    linear.o md-linear.o faulty.o md-faulty.o multipath.o md-multipath.o md-cluster.o,$(obj-m))\n\
    obj-y :=\n";

/// The sources of those modules, as git pathspecs: a commit that touches none of them changes none of the
/// modules.
pub const SOURCES: [&str; 8] = [
    "drivers/md/md*",
    "drivers/md/raid*",
    "drivers/md/linear*",
    "drivers/md/faulty*",
    "drivers/md/multipath*",
    "drivers/md/dm-raid.c",
    ":(glob)drivers/md/*.h",
    "drivers/md/Makefile",
];

/// Modules without which there is no overlay, each with its option.
const ALWAYS: [(&str, &str); 2] = [("md_mod", "CONFIG_BLK_DEV_MD"), ("raid456", "CONFIG_MD_RAID456")];

/// A source that was found for an overlay.
struct Found<'h> {
    /// The source as messages name it: `md of /home/me/linux (6.12.95)`.
    title: String,
    origin: Origin<'h>,
    files: Entries,
    /// A name by which exactly this source is found again.
    exact: Overlay,
}

/// `kernel` with the md of `overlay`.
pub(crate) fn make(
    workshop: &Workshop<'_>,
    plants: &Path,
    kernel: Kernel,
    spec: &KernelSpec,
    overlay: &Overlay,
) -> Result<Kernel, KernelError> {
    check_modular(&kernel)?;
    let scratch = workshop.scratch("git")?;
    let found = match overlay {
        Overlay::Tree(path) => tree(workshop, &kernel, path)?,
        Overlay::Commit(revision) => committed(workshop, &kernel, revision, scratch.path())?,
        Overlay::Plant(name) => planted(workshop, plants, &kernel, name)?,
    };
    let Found { title, origin, files, exact } = found;
    // Plants are ours, in Debian's source.
    let trust = match overlay {
        Overlay::Tree(_) | Overlay::Commit(_) => workshop.trust_of_sources(),
        Overlay::Plant(_) => Trust::Trusted,
    };
    let sources = ModuleSources::of_files(&title, FOLDER, origin, files).with_kbuild(KBUILD);
    let sources = sources.with_trust(trust);
    let built = kbuild::build(workshop, &kernel, &sources)?;
    let modules = names_of_modules(&built.dir).map_err(io_error("read", &built.dir))?;
    let replacement = replacement::of_some(workshop, &kernel.artifact, &kernel.release, &built, &modules)?;
    let exact_spec = KernelSpec::overlaid(DebianSpec::Exact { release: kernel.release.clone() }, exact);
    Ok(Kernel { spec: spec.clone(), exact_spec, replacement: Some(replacement), ..kernel })
}

/// The drivers/md of a user's tree.
fn tree(workshop: &Workshop<'_>, kernel: &Kernel, path: &Path) -> Result<Found<'static>, KernelError> {
    let (top, dir) = find_folder(path)?;
    let makefile = fs::read_to_string(top.join("Makefile")).unwrap_or_default();
    let version = compare_versions(workshop, kernel, &path.display().to_string(), &makefile);
    let files = files_that_count(&dir).map_err(io_error("read", &dir))?;
    Ok(Found {
        title: format!("raid modules of `{}`{version}", path.display()),
        files: entries_of(&dir, &files).map_err(unreadable(&dir))?,
        origin: Origin::Folder(dir),
        exact: Overlay::Tree(path.canonicalize().unwrap_or_else(|_| path.to_owned())),
    })
}

/// The drivers/md of a commit: of the repository, or of the folder in it that `path` is.
fn committed<'h>(
    workshop: &Workshop<'h>,
    kernel: &Kernel,
    revision: &Revision,
    scratch: &Path,
) -> Result<Found<'h>, KernelError> {
    let commit = Commit::find(workshop.host, revision, scratch)?;
    let below = format!("{}{FOLDER}/", commit.prefix);
    let mut found = None;
    for folder in [below, commit.prefix.clone()] {
        let mut files = commit.files(&folder, false)?;
        files.retain(|file, _| counts(file));
        if MARKS.iter().all(|mark| files.contains_key(Path::new(mark))) {
            found = Some((folder, files));
            break;
        }
    }
    let Some((folder, files)) = found else {
        let (commit, path) = (commit.short().to_owned(), commit.path);
        return Err(OverlayError::NoMd { commit, path }.into());
    };
    let top = folder.strip_suffix(&format!("{FOLDER}/"));
    let makefile = match top {
        Some(top) => commit.file(&format!("{top}Makefile"))?.unwrap_or_default(),
        None => vec![],
    };
    let shown = format!("commit {} of {}", commit.short(), commit.path.display());
    let version = compare_versions(workshop, kernel, &shown, &String::from_utf8_lossy(&makefile));
    let title = format!("raid modules of {} (\"{}\"){version}", commit.short(), commit.subject);
    let exact = Overlay::Commit(commit.revision());
    Ok(Found { title, files, origin: Origin::Commit { commit, folder }, exact })
}

/// Gives a tree's version as part of a title, and warns if it is not the kernel's version.
fn compare_versions(workshop: &Workshop<'_>, kernel: &Kernel, shown: &str, makefile: &str) -> String {
    let Some(version) = tree_version(makefile) else { return String::new() };
    let package = kernel.package_version.as_deref().unwrap_or_default();
    if !is_version_of(&version, package) {
        workshop.progress.note(&format!(
            "md of `{shown}` is of Linux {version}, and is built for {}, of {package}: what it wants of the rest \
             of the kernel may not be there",
            kernel.release
        ));
    }
    format!(" ({version})")
}

/// The drivers/md of the kernel's own source with a bug planted.
fn planted(
    workshop: &Workshop<'_>,
    plants: &Path,
    kernel: &Kernel,
    name: &str,
) -> Result<Found<'static>, KernelError> {
    let (text, plant) = plant(plants, name)?;
    let source = headers::source(workshop, kernel)?;
    let inputs = [("source", source.digest.as_str()), ("plant", text.as_str()), ("recipe", "planted 1")];
    let artifact = workshop.artifact::<KernelError>("planted", &inputs, |dir| {
        workshop.progress.step(&format!("planting {name} in the source of {}", kernel.release));
        let (from, to) = (source.path("tree"), dir.join("tree"));
        workshop.host.call("cp").arg("-a").arg(&from).arg(&to).run(&dir.join("log"))?;
        for file in plant.files() {
            let path = to.join(FOLDER).join(file);
            let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
            let planted = plant.apply(file, &text).map_err(|error| {
                let (name, release) = (name.to_owned(), kernel.release.clone());
                OverlayError::Plant { name, release, error: Box::new(error) }
            })?;
            write(&path, planted.as_bytes())?;
        }
        Ok(())
    })?;
    let dir = artifact.path("tree").join(FOLDER);
    let files = files_that_count(&dir).map_err(io_error("read", &dir))?;
    Ok(Found {
        title: format!("raid modules planted with {name}"),
        files: entries_of(&dir, &files).map_err(unreadable(&dir))?,
        origin: Origin::Folder(dir),
        exact: Overlay::Plant(name.to_owned()),
    })
}

fn plant(plants: &Path, name: &str) -> Result<(String, Plant), KernelError> {
    let path = plants.join(format!("{name}.toml"));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let names = names_of_plants(plants).map_err(io_error("read", plants))?;
            return Err(OverlayError::NoPlant { name: name.to_owned(), names }.into());
        }
        Err(error) => return Err(io_error("read", &path)(error).into()),
    };
    let plant = Plant::parse(&text).map_err(|error| OverlayError::BadPlant { path, error })?;
    Ok((text, plant))
}

fn check_modular(kernel: &Kernel) -> Result<(), KernelError> {
    let config = kernel.artifact.path("config");
    let text = fs::read_to_string(&config).map_err(io_error("read", &config))?;
    let is_module = |option: &str| text.lines().any(|line| line.strip_prefix(option) == Some("=m"));
    match ALWAYS.into_iter().find(|(_, option)| !is_module(option)) {
        Some((_, option)) => Err(OverlayError::BuiltIn { release: kernel.release.clone(), option }.into()),
        None => Ok(()),
    }
}

/// The top of a tree and its drivers/md, whichever of the two `path` is.
fn find_folder(path: &Path) -> Result<(PathBuf, PathBuf), KernelError> {
    let path =
        path.canonicalize().map_err(|error| OverlayError::NoFolder { path: path.to_owned(), error })?;
    let below = path.join(FOLDER);
    let (top, dir) = if below.is_dir() { (path.clone(), below) } else { (path.join("../.."), path.clone()) };
    match MARKS.into_iter().find(|name| !dir.join(name).is_file()) {
        Some(missing) => Err(OverlayError::Foreign { path, missing }.into()),
        None => Ok((top, dir)),
    }
}

/// The files that modules of md are made from: C sources and headers of the folder itself, and its
/// `Makefile`.
fn files_that_count(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        if counts(&name) && entry.path().is_file() {
            files.push(name);
        }
    }
    files.sort();
    Ok(files)
}

/// True for the name of a file that modules of md are made from.
fn counts(name: &Path) -> bool {
    let is_source = name.extension().is_some_and(|extension| extension == "c" || extension == "h");
    // A build in the tree leaves files that are named like sources.
    let is_made = name.to_string_lossy().ends_with(".mod.c");
    is_source && !is_made || name.as_os_str() == "Makefile"
}

/// Files of the modules in `dir`, sorted.
fn names_of_modules(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".ko") {
            names.push(PathBuf::from(name));
        }
    }
    names.sort();
    Ok(names)
}

/// Names of the plants in `dir`, sorted.
fn names_of_plants(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".toml").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join(FOLDER);
        fs::create_dir_all(dir.join("bcache")).unwrap();
        for name in ["md.c", "md.h", "Makefile", "Kconfig", "md-mod.mod.c", "md.o", "bcache/btree.c"] {
            fs::write(dir.join(name), "").unwrap();
        }
        top
    }

    #[test]
    fn a_tree_and_its_folder_are_the_same() {
        let top = tree();
        let (_, from_top) = find_folder(top.path()).unwrap();
        let (_, from_folder) = find_folder(&top.path().join(FOLDER)).unwrap();
        assert_eq!(from_top, from_folder);
    }

    #[test]
    fn only_what_md_is_made_from_counts() {
        let top = tree();
        let files = files_that_count(&top.path().join(FOLDER)).unwrap();
        assert_eq!(files, ["Makefile", "md.c", "md.h"].map(PathBuf::from));
    }

    #[test]
    fn what_is_no_tree_is_named() {
        let top = tree();
        let error = find_folder(&top.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere") && error.contains("+md"), "{error}");
        fs::remove_file(top.path().join(FOLDER).join("md.c")).unwrap();
        let error = find_folder(top.path()).unwrap_err().to_string();
        assert!(error.ends_with("has a md.c"), "{error}");
    }
}
