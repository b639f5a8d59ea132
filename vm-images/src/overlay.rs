//! Overlays: a Debian kernel with md, its raid levels and dm-raid of another source, built as modules against the
//! kernel's headers: seconds to a minute instead of a kernel's build.
//!
//! They replace the kernel's own all together, because they share md.h. The kernel itself stays as it is, and says
//! by a taint that they are not signed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::images::{ImageError, Images, Kernel, MODULES, io_error, write};
use crate::kbuild::ModuleSources;
use crate::kernel_spec::{KernelSpec, Overlay};
use crate::modules;
use crate::plant::{EditError, Plant};
use crate::store::Artifact;

/// The folder of a kernel tree that is built.
const FOLDER: &str = "drivers/md";

/// Beside the tree's own `Makefile`, which says what each module is made of: of what it builds, only those that share
/// md.h. Left as they are, the kernel's own would take another md's structures for theirs. Which of them there are, is the
/// kernel's configuration's business.
const KBUILD: &str = "include $(src)/Makefile\n\
    obj-m := $(filter md-mod.o raid0.o raid1.o raid10.o raid456.o dm-raid.o \
    linear.o md-linear.o faulty.o md-faulty.o multipath.o md-multipath.o md-cluster.o,$(obj-m))\n\
    obj-y :=\n";

/// What is not built without these makes no overlay.
const ALWAYS: [(&str, &str); 2] = [("md_mod", "CONFIG_BLK_DEV_MD"), ("raid456", "CONFIG_MD_RAID456")];

/// What is wrong with an overlay: the user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// Nothing there.
    #[error("failed to use `{}` for +md: {error}; it wants a kernel tree, or its drivers/md", path.display())]
    NoFolder {
        /// As the user named it.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something else there.
    #[error("`{}` is no kernel tree and no drivers/md of one: neither it nor its drivers/md has a {missing}", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },
    /// The kernel has no such modules.
    #[error("{release} cannot be overlaid: its configuration has {option} not as a module")]
    BuiltIn {
        /// `uname -r`.
        release: String,
        /// The option.
        option: &'static str,
    },
    /// No such plant.
    #[error("there is no plant `{name}`: there are {}", names.join(", "))]
    NoPlant {
        /// As it was named.
        name: String,
        /// Those that there are.
        names: Vec<String>,
    },
    /// A plant's file makes no sense.
    #[error("plant `{}` is damaged: {error}", path.display())]
    BadPlant {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// A plant that does not take.
    #[error("plant `{name}` does not fit the source of {release}: {error}")]
    Plant {
        /// The plant.
        name: String,
        /// `uname -r`.
        release: String,
        /// Why.
        error: Box<EditError>,
    },
}

/// What replaces a kernel's md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlaid {
    /// Exactly this one again, by its full path.
    pub spec: Overlay,
    /// What people call it: `md of /home/me/linux (6.12.95)`.
    pub title: String,
    /// Files of the modules, `md-mod.ko`, in the kernel's artifact under `debug/`, with debug information.
    pub modules: Vec<String>,
}

impl Images<'_> {
    /// `kernel` with the md of `overlay`. Its artifact has `debug/NAME.ko`, too.
    pub(crate) fn overlaid(
        &self,
        kernel: Kernel,
        spec: &KernelSpec,
        overlay: &Overlay,
    ) -> Result<Kernel, ImageError> {
        check_modular(&kernel)?;
        let (title, dir, exact) = match overlay {
            Overlay::Tree(path) => {
                let (title, dir) = self.tree(&kernel, path)?;
                (title, dir, Overlay::Tree(path.canonicalize().unwrap_or_else(|_| path.clone())))
            }
            Overlay::Plant(name) => {
                let (title, dir) = self.planted(&kernel, name)?;
                (title, dir, overlay.clone())
            }
        };
        let files = files_that_count(&dir).map_err(io_error("read", &dir))?;
        let sources = ModuleSources::of_files(&title, FOLDER, &dir, files)?.with_kbuild(KBUILD);
        let built = self.build_modules(&kernel, &sources)?;
        let modules = names_of_modules(&built.dir).map_err(io_error("read", &built.dir))?;
        let inputs = [
            ("kernel", kernel.artifact.digest.as_str()),
            ("modules", built.digest.as_str()),
            ("recipe", "overlay 1"),
        ];
        let artifact = self.artifact("overlay", &inputs, |dir| {
            self.store.shrink("overlay", OVERLAYS_BYTES_MAX);
            self.make_overlaid(dir, &kernel, &built, &modules)
        })?;
        self.store.touch(&artifact);
        let overlay = Some(Overlaid { spec: exact, title, modules });
        Ok(Kernel { spec: spec.to_string(), artifact, overlay, ..kernel })
    }

    /// The drivers/md of a user's tree, and what to call it.
    fn tree(&self, kernel: &Kernel, path: &Path) -> Result<(String, PathBuf), ImageError> {
        let (top, dir) = find_folder(path)?;
        let version = fs::read_to_string(top.join("Makefile")).ok().and_then(|text| tree_version(&text));
        let shown = path.display();
        if let Some(version) = &version
            && !is_version_of(version, &kernel.version)
        {
            self.progress.note(&format!(
                "md of `{shown}` is of Linux {version}, and is built for {}, of {}: what it wants of the rest of the \
                 kernel may not be there",
                kernel.release, kernel.version
            ));
        }
        let version = version.map(|version| format!(" ({version})")).unwrap_or_default();
        Ok((format!("raid modules of `{shown}`{version}"), dir))
    }

    /// The drivers/md of the kernel's own source with a bug planted, and what to call it.
    fn planted(&self, kernel: &Kernel, name: &str) -> Result<(String, PathBuf), ImageError> {
        let (text, plant) = self.plant(name)?;
        let source = self.kernel_source(kernel)?;
        let inputs = [("source", source.digest.as_str()), ("plant", text.as_str()), ("recipe", "planted 1")];
        let artifact = self.artifact("planted", &inputs, |dir| {
            self.progress.step(&format!("planting {name} in the source of {}", kernel.release));
            let (from, to) = (source.path("tree"), dir.join("tree"));
            self.host.call("cp").arg("-a").arg(&from).arg(&to).run(&dir.join("log"))?;
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
        Ok((format!("raid modules planted with {name}"), artifact.path("tree").join(FOLDER)))
    }

    fn plant(&self, name: &str) -> Result<(String, Plant), ImageError> {
        let path = self.plants.join(format!("{name}.toml"));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let names = names_of_plants(&self.plants).map_err(io_error("read", &self.plants))?;
                return Err(OverlayError::NoPlant { name: name.to_owned(), names }.into());
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let plant = Plant::parse(&text).map_err(|error| OverlayError::BadPlant { path, error })?;
        Ok((text, plant))
    }

    fn make_overlaid(
        &self,
        dir: &Path,
        kernel: &Kernel,
        built: &Artifact,
        names: &[String],
    ) -> Result<(), ImageError> {
        let (tools, release, log) = (self.tools()?, &kernel.release, dir.join("log"));
        self.progress.step(&format!("replacing the raid modules of {release}"));
        // All that stays as it is costs no space: artifacts never change.
        for name in ["vmlinuz", "vmlinux", "config", "boot"] {
            let from = kernel.artifact.path(name);
            if from.exists() {
                self.host.call("cp").arg("-al").arg(from).arg(dir.join(name)).run(&log)?;
            }
        }
        self.host.call("cp").arg("-al").arg(built.path("debug")).arg(dir.join("debug")).run(&log)?;
        let work = self.scratch("overlay")?;
        let root = work.path().join("root");
        let library = root.join("usr/lib/modules");
        fs::create_dir_all(root.join("usr/lib")).map_err(io_error("create", &root))?;
        std::os::unix::fs::symlink("usr/lib", root.join("lib")).map_err(io_error("link", &root))?;
        let unpack = tools.call(self.host, "usr/bin/unsquashfs").args(["-quiet", "-no-progress", "-dest"]);
        unpack.arg(&library).arg(kernel.artifact.path("modules.squashfs")).run(&log)?;
        let tree = library.join(release);
        let dependencies = tree.join("modules.dep");
        let text = fs::read_to_string(&dependencies).map_err(io_error("read", &dependencies))?;
        for (file, place) in places(names, &text) {
            let to = tree.join(&place);
            let parent = to.parent().unwrap_or(&tree);
            fs::create_dir_all(parent).map_err(io_error("create", parent))?;
            // Not through what may be a link of another name.
            let _ = fs::remove_file(&to);
            fs::copy(built.path(file), &to).map_err(io_error("copy to", &to))?;
        }
        tools.call(self.host, "usr/sbin/depmod").arg("--basedir").arg(&root).arg(release).run(&log)?;
        let text = fs::read_to_string(&dependencies).map_err(io_error("read", &dependencies))?;
        let builtin = fs::read_to_string(tree.join("modules.builtin")).unwrap_or_default();
        write(&dir.join(MODULES), modules::names(&text, &builtin).as_bytes())?;
        Ok(tools.squashfs(self.host, &library, &dir.join("modules.squashfs"), &[]).run(&log)?)
    }
}

/// How much of the disk is kept of overlaid kernels, bytes: each edit makes another one.
const OVERLAYS_BYTES_MAX: u64 = 2 << 30;

fn check_modular(kernel: &Kernel) -> Result<(), ImageError> {
    let config = kernel.artifact.path("config");
    let text = fs::read_to_string(&config).map_err(io_error("read", &config))?;
    let is_module = |option: &str| text.lines().any(|line| line.strip_prefix(option) == Some("=m"));
    match ALWAYS.into_iter().find(|(_, option)| !is_module(option)) {
        Some((_, option)) => Err(OverlayError::BuiltIn { release: kernel.release.clone(), option }.into()),
        None => Ok(()),
    }
}

/// The top of a tree and its drivers/md, whichever of the two `path` is.
fn find_folder(path: &Path) -> Result<(PathBuf, PathBuf), ImageError> {
    let path =
        path.canonicalize().map_err(|error| OverlayError::NoFolder { path: path.to_owned(), error })?;
    let below = path.join(FOLDER);
    let (top, dir) = if below.is_dir() { (path.clone(), below) } else { (path.join("../.."), path.clone()) };
    match ["md.c", "md.h", "Makefile"].into_iter().find(|name| !dir.join(name).is_file()) {
        Some(missing) => Err(OverlayError::Foreign { path, missing }.into()),
        None => Ok((top, dir)),
    }
}

/// What modules of md are made from: C sources and headers of the folder itself, and its `Makefile`.
fn files_that_count(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        let is_source = name.extension().is_some_and(|extension| extension == "c" || extension == "h");
        // Leftovers of a build in the tree are named like sources.
        let is_made = name.to_string_lossy().ends_with(".mod.c");
        if (is_source && !is_made || name.as_os_str() == "Makefile") && entry.path().is_file() {
            files.push(name);
        }
    }
    files.sort();
    Ok(files)
}

/// Files of the modules in `dir`, sorted.
fn names_of_modules(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".ko") {
            names.push(name);
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

/// Where each of the modules `names` goes: in the place of the kernel's own of the same name (by its `modules.dep`),
/// or else with what no package brought.
fn places<'n>(names: &'n [String], dependencies: &str) -> BTreeMap<&'n str, PathBuf> {
    let paths: BTreeMap<_, _> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, _)| (modules::module_name(path), path))
        .collect();
    let place = |name: &str| match paths.get(&modules::module_name(name)) {
        Some(path) => PathBuf::from(path),
        None => Path::new("updates").join(name),
    };
    names.iter().map(|name| (name.as_str(), place(name))).collect()
}

/// The version that a kernel tree's `Makefile` says: `6.12.95`.
fn tree_version(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        let line = makefile
            .lines()
            .take(20)
            .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))?;
        Some(line.trim()).filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let (version, patch) = (value("VERSION")?, value("PATCHLEVEL")?);
    let sub = value("SUBLEVEL").filter(|sub| *sub != "0").map(|sub| format!(".{sub}")).unwrap_or_default();
    Some(format!("{version}.{patch}{sub}"))
}

/// True if a package of that version was made of this version of Linux.
fn is_version_of(version: &str, package: &str) -> bool {
    package.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '~', '+']))
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

    #[test]
    fn modules_take_the_place_of_the_kernels() {
        let names = ["dm-raid.ko".to_owned(), "md-mod.ko".to_owned(), "raid7.ko".to_owned()];
        let dependencies =
            "kernel/drivers/md/md-mod.ko:\nkernel/drivers/md/dm-raid.ko: kernel/drivers/md/md-mod.ko\n";
        let places = places(&names, dependencies);
        assert_eq!(places["md-mod.ko"], Path::new("kernel/drivers/md/md-mod.ko"));
        assert_eq!(places["dm-raid.ko"], Path::new("kernel/drivers/md/dm-raid.ko"));
        assert_eq!(places["raid7.ko"], Path::new("updates/raid7.ko"));
    }

    #[test]
    fn a_trees_version_is_read_and_compared() {
        let makefile = "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\n";
        assert_eq!(tree_version(makefile).as_deref(), Some("6.12.117"));
        assert_eq!(tree_version("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 0\n").as_deref(), Some("7.3"));
        assert!(is_version_of("6.12.117", "6.12.117-1~deb12u1"));
        assert!(!is_version_of("6.12.11", "6.12.117-1"));
    }
}
