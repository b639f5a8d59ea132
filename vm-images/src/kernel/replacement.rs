//! Modules that take the place of a kernel's own in a guest that runs already: an image with only these,
//! which is plugged in and mounted over the kernel's.
//!
//! So the file that is booted stays the same, and one snapshot serves all kernels that differ only in
//! modules. The build id of each module is noted, so that the guest can be asked whether it really runs
//! these.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use object::Object;
use serde::{Deserialize, Serialize};

use crate::build::error::{BuildError, io_error};
use crate::build::workshop::{Workshop, write};
use crate::kernel::modules::{self, NAMES_FILE};
use crate::store::Artifact;
use crate::store::digest::Digest;

/// File of the artifact with the list of the image's modules.
const LIST: &str = "replaced.json";
/// File of the artifact that is the image.
const IMAGE: &str = "modules.squashfs";
/// Room on the disk for replacements, bytes: each edit makes another one.
const BYTES_MAX: u64 = 1 << 30;

/// A module of a replacement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedModule {
    /// The kernel's name of it, `md_mod`.
    pub name: String,
    /// Its path below the folder of all kernels' modules: `6.12.117/kernel/drivers/md/md-mod.ko`.
    pub path: String,
    /// Its build id, which no other build has, hexadecimal (`NT_GNU_BUILD_ID`).
    pub build_id: String,
}

/// Modules that take the place of a kernel's, as an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    artifact: Artifact,
    /// All modules, by name.
    pub modules: Vec<ReplacedModule>,
}

impl Replacement {
    fn read(artifact: Artifact) -> Result<Self, BuildError> {
        let list = artifact.path(LIST);
        let bytes = fs::read(&list).map_err(io_error("read", &list))?;
        let modules = serde_json::from_slice(&bytes).map_err(std::io::Error::other);
        Ok(Replacement { modules: modules.map_err(io_error("read", &list))?, artifact })
    }

    /// The image, to be mounted over `/usr/lib/modules`.
    pub fn image(&self) -> PathBuf {
        self.artifact.path(IMAGE)
    }

    /// Folder of the modules with their debug information.
    pub fn debug_info(&self) -> PathBuf {
        self.artifact.path("debug")
    }

    /// Names of all modules that the kernel has with them, one a line.
    pub(crate) fn names(&self) -> PathBuf {
        self.artifact.path(NAMES_FILE)
    }

    /// Digest of its inputs.
    pub(crate) fn digest(&self) -> &Digest {
        &self.artifact.digest
    }
}

/// The modules `files` of `built` (`md-mod.ko`, or with folders before it; their debug information is in
/// `debug/`) in the place of those of `kernel`.
pub(crate) fn of_some(
    workshop: &Workshop<'_>,
    kernel: &Artifact,
    release: &str,
    built: &Artifact,
    files: &[PathBuf],
) -> Result<Replacement, BuildError> {
    let inputs =
        [("kernel", kernel.digest.as_str()), ("modules", built.digest.as_str()), ("recipe", "replacement 1")];
    let artifact = workshop.artifact("overlay", &inputs, |dir| {
        workshop.store.shrink("overlay", BYTES_MAX);
        replace(workshop, dir, kernel, release, built, files)
    })?;
    workshop.store.touch(&artifact);
    Replacement::read(artifact)
}

/// All modules of a kernel that was built as a whole: `built` has them, with their indexes, in
/// `modules/RELEASE`.
pub(crate) fn of_all(
    workshop: &Workshop<'_>,
    kernel: &Artifact,
    release: &str,
    built: &Artifact,
) -> Result<Replacement, BuildError> {
    let inputs =
        [("kernel", kernel.digest.as_str()), ("modules", built.digest.as_str()), ("recipe", "all modules 1")];
    let artifact = workshop.artifact::<BuildError>("overlay", &inputs, |dir| {
        workshop.store.shrink("overlay", BYTES_MAX);
        let (tools, log) = (workshop.tools()?, dir.join("log"));
        let (library, debug) = (built.path("modules"), built.path("debug"));
        let boot = boot_modules(built, release)?;
        let tree = library.join(release);
        let mut list = Vec::new();
        for file in walkdir::WalkDir::new(&tree).sort_by_file_name().into_iter().flatten() {
            let path = file.path().strip_prefix(&library).unwrap_or(file.path()).to_owned();
            let is_module = file.file_type().is_file() && path.extension().is_some_and(|made| made == "ko");
            // The modules that the guest loads to find its root are in the initramfs.
            if is_module && !boot.contains(&path) {
                let bytes = fs::read(file.path()).map_err(io_error("read", file.path()))?;
                list.push(ReplacedModule {
                    name: modules::module_name(&path.to_string_lossy()),
                    path: path.to_string_lossy().into_owned(),
                    build_id: build_id(&bytes)
                        .map_err(std::io::Error::other)
                        .map_err(io_error("read", file.path()))?,
                });
            }
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        if debug.is_dir() {
            workshop.host.call("cp").arg("-al").arg(debug).arg(dir.join("debug")).run(&log)?;
        }
        let text = |name: &str| fs::read_to_string(tree.join(name)).unwrap_or_default();
        let names = modules::names(&text("modules.dep"), &text("modules.builtin"));
        write(&dir.join(NAMES_FILE), names.as_bytes())?;
        let list = serde_json::to_vec_pretty(&list).expect("strings have a JSON form");
        write(&dir.join(LIST), &list)?;
        Ok(tools.squashfs(workshop.host, &library, &dir.join(IMAGE), &[]).run(&log)?)
    })?;
    workshop.store.touch(&artifact);
    Replacement::read(artifact)
}

/// The modules of a kernel that the guest needs to find its root, in order, as paths below the folder of all
/// modules.
pub(crate) fn boot_modules(built: &Artifact, release: &str) -> Result<Vec<PathBuf>, BuildError> {
    let list = built.path("modules").join(release).join("modules.dep");
    let text = fs::read_to_string(&list).map_err(io_error("read", &list))?;
    Ok(modules::boot_order(&text).iter().map(|module| Path::new(release).join(module)).collect())
}

/// Writes the indexes of the modules in `library`/RELEASE.
pub(crate) fn index_modules(
    workshop: &Workshop<'_>,
    library: &Path,
    release: &str,
    log: &Path,
) -> Result<(), BuildError> {
    let work = workshop.scratch("depmod")?;
    let root = work.path().join("root");
    let (usr, link) = (root.join("usr/lib"), root.join("usr/lib/modules"));
    let linked = fs::create_dir_all(&usr)
        .and_then(|()| std::os::unix::fs::symlink(library, &link))
        .and_then(|()| std::os::unix::fs::symlink("usr/lib", root.join("lib")));
    linked.map_err(io_error("link", &link))?;
    let tools = workshop.tools()?;
    Ok(tools.call(workshop.host, "usr/sbin/depmod").arg("--basedir").arg(&root).arg(release).run(log)?)
}

fn replace(
    workshop: &Workshop<'_>,
    dir: &Path,
    kernel: &Artifact,
    release: &str,
    built: &Artifact,
    files: &[PathBuf],
) -> Result<(), BuildError> {
    let (tools, log) = (workshop.tools()?, dir.join("log"));
    workshop.progress.step(&format!("replacing modules of {release}"));
    let debug = built.path("debug");
    if debug.is_dir() {
        workshop.host.call("cp").arg("-al").arg(debug).arg(dir.join("debug")).run(&log)?;
    }
    let work = workshop.scratch("overlay")?;
    let (root, image) = (work.path().join("root"), work.path().join("image"));
    let library = root.join("usr/lib/modules");
    fs::create_dir_all(root.join("usr/lib")).map_err(io_error("create", &root))?;
    std::os::unix::fs::symlink("usr/lib", root.join("lib")).map_err(io_error("link", &root))?;
    let unpack = tools.call(workshop.host, "usr/bin/unsquashfs").args(["-quiet", "-no-progress", "-dest"]);
    unpack.arg(&library).arg(kernel.path(IMAGE)).run(&log)?;
    let (tree, replaced) = (library.join(release), image.join(release));
    let before = indexes(&tree)?;
    let dependencies =
        before.get("modules.dep").map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
    let mut list = Vec::new();
    for (file, place) in places(files, &dependencies) {
        let from = built.path("").join(file);
        let bytes = fs::read(&from).map_err(io_error("read", &from))?;
        list.push(ReplacedModule {
            name: modules::module_name(&place.to_string_lossy()),
            path: format!("{release}/{}", place.display()),
            build_id: build_id(&bytes).map_err(std::io::Error::other).map_err(io_error("read", &from))?,
        });
        for to in [tree.join(&place), replaced.join(&place)] {
            let parent = to.parent().unwrap_or(&tree);
            fs::create_dir_all(parent).map_err(io_error("create", parent))?;
            // Not through what may be a link of another name.
            let _ = fs::remove_file(&to);
            write(&to, &bytes)?;
        }
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    tools.call(workshop.host, "usr/sbin/depmod").arg("--basedir").arg(&root).arg(release).run(&log)?;
    let after = indexes(&tree)?;
    // New modules, and those that need others than before, are found by new indexes.
    for (name, bytes) in after.iter().filter(|(name, bytes)| before.get(*name) != Some(*bytes)) {
        write(&replaced.join(name), bytes)?;
    }
    let text = |name: &str| after.get(name).map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
    let names = modules::names(&text("modules.dep"), &text("modules.builtin"));
    write(&dir.join(NAMES_FILE), names.as_bytes())?;
    let list = serde_json::to_vec_pretty(&list).expect("strings have a JSON form");
    write(&dir.join(LIST), &list)?;
    Ok(tools.squashfs(workshop.host, &image, &dir.join(IMAGE), &[]).run(&log)?)
}

/// The indexes that `depmod` writes of a kernel's modules, by name.
fn indexes(tree: &Path) -> Result<BTreeMap<String, Vec<u8>>, BuildError> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(tree).map_err(io_error("read", tree))? {
        let path = entry.map_err(io_error("read", tree))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("modules.") && path.is_file() {
            all.insert(name, fs::read(&path).map_err(io_error("read", &path))?);
        }
    }
    Ok(all)
}

/// The build id of a module: each that kbuild makes has one.
fn build_id(module: &[u8]) -> Result<String, String> {
    let file = object::File::parse(module).map_err(|error| format!("no module: {error}"))?;
    match file.build_id() {
        Ok(Some(id)) if id.len() >= 8 => Ok(id.iter().map(|byte| format!("{byte:02x}")).collect()),
        Ok(_) => Err("it has no build id".to_owned()),
        Err(error) => Err(format!("its build id cannot be read: {error}")),
    }
}

/// The place of each of the modules `files` below its kernel's folder: that of the kernel's module of the
/// same name (by its `modules.dep`), or else `updates/`, for modules of no package.
fn places<'f>(files: &'f [PathBuf], dependencies: &str) -> BTreeMap<&'f Path, PathBuf> {
    let paths: BTreeMap<_, _> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, _)| (modules::module_name(path), path))
        .collect();
    let place = |file: &Path| match paths.get(&modules::module_name(&file.to_string_lossy())) {
        Some(path) => PathBuf::from(path),
        None => Path::new("updates").join(file.file_name().unwrap_or_default()),
    };
    files.iter().map(|file| (file.as_path(), place(file))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_take_the_place_of_the_kernels() {
        let files = ["dm-raid.ko", "md-mod.ko", "kernel/drivers/md/raid7.ko"].map(PathBuf::from);
        let dependencies =
            "kernel/drivers/md/md-mod.ko:\nkernel/drivers/md/dm-raid.ko: kernel/drivers/md/md-mod.ko\n";
        let places = places(&files, dependencies);
        assert_eq!(places[Path::new("md-mod.ko")], Path::new("kernel/drivers/md/md-mod.ko"));
        assert_eq!(places[Path::new("dm-raid.ko")], Path::new("kernel/drivers/md/dm-raid.ko"));
        assert_eq!(places[files[2].as_path()], Path::new("updates/raid7.ko"));
    }

    #[test]
    fn what_has_no_build_id_is_no_module() {
        assert!(build_id(b"").is_err());
        // A test program may have one or not: reading it must not panic.
        let ourselves = fs::read(std::env::current_exe().unwrap()).unwrap();
        if let Ok(id) = build_id(&ourselves) {
            assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        }
    }
}
