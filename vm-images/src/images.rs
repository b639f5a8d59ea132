//! The images, each made from the ones before it: tools root, build root, LVM2, mdadm, guest image,
//! kernel, initramfs.
//!
//! Reads top to bottom as the order of making. What is pinned comes from the lock file; what the
//! mirror no longer has is replaced by its newest, said aloud, and kept in [`Images::replaced`] for
//! the run's record.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Deserialize;

use crate::apt::{Apt, AptError};
use crate::enclosure::{Enclosure, EnclosureError};
use crate::guest_root;
use crate::host::{Host, HostError};
use crate::kernel_spec::{DebianKernel, KernelSpec, choose, is_kernel_package, kernels, similar};
use crate::lock::{KernelPin, Lock};
use crate::modules;
use crate::package::RemoteFile;
use crate::progress::Progress;
use crate::store::{Artifact, Store, StoreError, remove_tree};
use crate::tools::Tools;
use crate::unpack::{link, unpack};

/// Packages of each root, as data.
const ROOTS: &str = include_str!("../roots.toml");
/// Packages of the guest whose versions are shown with every result.
const TELLING_PACKAGES: [&str; 6] =
    ["bash", "e2fsprogs", "libc6", "thin-provisioning-tools", "util-linux", "xfsprogs"];
const LVM2_RECIPE: &str = include_str!("../recipes/lvm2.sh");
const MDADM_RECIPE: &str = include_str!("../recipes/mdadm.sh");

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
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// `uname -r`.
    pub release: String,
    /// Version of its package.
    pub version: String,
    /// Holds `vmlinuz`, `config`, `modules.squashfs` and `boot/NN-name.ko`.
    pub artifact: Artifact,
}

/// Makes images, or finds them made.
#[derive(Debug)]
pub struct Images<'a> {
    host: &'a Host,
    store: &'a Store,
    apt: Apt<'a>,
    progress: &'a dyn Progress,
    /// The lock as this run uses it: replaced where the mirror no longer has what is pinned.
    lock: Mutex<Lock>,
    replaced: Mutex<Vec<String>>,
}

impl<'a> Images<'a> {
    /// Images from what `lock` pins.
    pub fn new(
        host: &'a Host,
        store: &'a Store,
        apt: Apt<'a>,
        lock: Lock,
        progress: &'a dyn Progress,
    ) -> Self {
        Images { host, store, apt, progress, lock: Mutex::new(lock), replaced: Mutex::default() }
    }

    /// What had to be replaced, one line each: the run differs from the lock file in these.
    pub fn replaced(&self) -> Vec<String> {
        self.replaced.lock().expect("no panic with the lock").clone()
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

    /// The image that tests run in: one read-only squashfs, `root.squashfs`, and `versions.json`.
    pub fn guest(&self) -> Result<Artifact, ImageError> {
        let lvm2 = self.built("lvm2", LVM2_RECIPE)?;
        let mdadm = self.built("mdadm", MDADM_RECIPE)?;
        let files = |images: &Self| images.pinned_root("guest");
        self.with_files(
            files,
            |images| images.renew_root("guest"),
            |files| {
                let list = lines(files);
                let inputs = [
                    ("files", list.as_str()),
                    ("lvm2", lvm2.digest.as_str()),
                    ("mdadm", mdadm.digest.as_str()),
                    ("recipe", guest_root::RECIPE),
                    ("left out", &guest_root::LEFT_OUT.join(" ")),
                ];
                self.artifact("guest", &inputs, |dir| {
                    let packages = self.apt.fetch(files)?;
                    self.progress.step(&format!("unpacking the guest's {} packages", packages.len()));
                    // The tree is not kept: only the image made of it is.
                    let work = self.scratch("guest-tree")?;
                    let (tree, log) = (work.path().join("root"), dir.join("log"));
                    fs::create_dir(&tree).map_err(io_error("create", &tree))?;
                    unpack(self.host, &packages, &tree, &log)?;
                    for built in [&lvm2, &mdadm] {
                        let from = built.path("out").join(".");
                        self.host
                            .call("cp")
                            .args(["-a", "--no-preserve=ownership"])
                            .arg(from)
                            .arg(&tree)
                            .run(&log)?;
                    }
                    guest_root::finish(&tree).map_err(io_error("finish the root in", &tree))?;
                    let empty = work.path().join("empty");
                    fs::create_dir(&empty).map_err(io_error("create", &empty))?;
                    // Without its cache the loader searches folders at each of a test's thousands of execs.
                    Enclosure::new(self.host, &tree, &empty, &log)?.run(
                        &empty,
                        &["/usr/sbin/ldconfig"],
                        &log,
                    )?;
                    self.progress.step("making the guest image");
                    let image = dir.join("root.squashfs");
                    self.tools()?.squashfs(self.host, &tree, &image, &guest_root::LEFT_OUT).run(&log)?;
                    let tests = list_tests(&tree).map_err(io_error("list tests in", &tree))?;
                    write(&dir.join("lvm2-tests.txt"), tests.as_bytes())?;
                    let versions =
                        serde_json::to_vec_pretty(&self.versions(files)).expect("strings have a JSON form");
                    write(&dir.join("versions.json"), &versions)
                })
            },
        )
    }

    /// A kernel, ready to boot.
    pub fn kernel(&self, spec: &KernelSpec) -> Result<Kernel, ImageError> {
        let pinned = |images: &Self| images.pinned_kernel(spec);
        let renew = |images: &Self| images.renew_kernel(spec);
        let pin = std::cell::RefCell::new(None);
        let artifact = self.with_files(
            |images| {
                let found = pinned(images)?;
                let files = found.files.clone();
                pin.replace(Some(found));
                Ok(files)
            },
            |images| {
                let found = renew(images)?;
                let files = found.files.clone();
                pin.replace(Some(found));
                Ok(files)
            },
            |files| {
                let release = pin.borrow().as_ref().map(|pin| pin.release.clone()).unwrap_or_default();
                self.kernel_artifact(&release, files)
            },
        )?;
        let pin = pin.into_inner().expect("with_files has asked for the files");
        let version = pin.files.iter().find(|file| file.name.starts_with("linux-image-"));
        Ok(Kernel {
            spec: spec.to_string(),
            version: version.map(|file| file.version.clone()).unwrap_or_default(),
            release: pin.release,
            artifact,
        })
    }

    /// The initramfs of a kernel: `initramfs.cpio`, with `agent` as `/init`.
    pub fn initramfs(&self, kernel: &Kernel, agent: &Path) -> Result<Artifact, ImageError> {
        let agent_digest =
            crate::digest::Digest::of_file(agent).map_err(io_error("read the guest agent", agent))?;
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
            crate::initramfs::write(&out, agent, &files).map_err(io_error("write", &out))
        })
    }

    /// All kernels that the mirror offers, oldest first.
    pub fn kernels_offered(&self) -> Result<Vec<DebianKernel>, ImageError> {
        Ok(kernels(&self.apt.kernel_packages(is_kernel_package)?))
    }

    /// What the newest lock file would hold: all roots, all sources, and the kernels that the old
    /// one pins and `branches` names.
    pub fn newest_lock(&self, branches: &[KernelSpec]) -> Result<Lock, ImageError> {
        let mut lock = Lock::default();
        for name in ["tools", "build", "guest"] {
            lock.roots.insert(name.to_owned(), self.apt.resolve(&root_packages(name))?);
        }
        for name in ["lvm2", "mdadm"] {
            lock.sources.insert(name.to_owned(), self.apt.source(name)?);
        }
        let offered = self.kernels_offered()?;
        for spec in branches {
            let kernel = choose(&offered, spec).ok_or_else(|| self.no_kernel(spec, &offered))?;
            lock.kernels.insert(pin_name(spec), pin(kernel));
        }
        Ok(lock)
    }

    /// The versions that a result depends on most; the lock file has all.
    fn versions(&self, files: &[RemoteFile]) -> BTreeMap<String, String> {
        let lock = self.lock.lock().expect("no panic with the lock");
        let telling = files.iter().filter(|file| TELLING_PACKAGES.contains(&file.name.as_str()));
        let sources = lock.sources.values().filter_map(|files| files.first());
        telling.chain(sources).map(|file| (file.name.clone(), file.version.clone())).collect()
    }

    fn root(
        &self,
        name: &'static str,
        finish: impl Fn(&Path) -> io::Result<()>,
    ) -> Result<Artifact, ImageError> {
        self.with_files(
            |images| images.pinned_root(name),
            |images| images.renew_root(name),
            |files| {
                let list = lines(files);
                self.artifact(name, &[("files", &list), ("recipe", "root 2")], |dir| {
                    let packages = self.apt.fetch(files)?;
                    self.progress.step(&format!("unpacking the {name} root's {} packages", packages.len()));
                    let root = dir.join("root");
                    fs::create_dir(&root).map_err(io_error("create", &root))?;
                    unpack(self.host, &packages, &root, &dir.join("log"))?;
                    finish(&root).map_err(io_error("finish the root in", &root))
                })
            },
        )
    }

    /// A source package, built in the build root: what it installs is in `out`.
    fn built(&self, name: &'static str, recipe: &str) -> Result<Artifact, ImageError> {
        let compilers = lines(&self.pinned_root("build")?);
        self.with_files(
            |images| images.pinned_source(name),
            |images| images.renew_source(name),
            |files| {
                let list = lines(files);
                let inputs =
                    [("files", list.as_str()), ("recipe", recipe), ("build root", compilers.as_str())];
                self.artifact(name, &inputs, |dir| {
                    let root = self.build_root()?.path("root");
                    let sources = self.apt.fetch(files)?;
                    let version = files.first().map_or("", |file| file.version.as_str());
                    self.progress.step(&format!("building {name} {version} from its source package"));
                    let work = self.scratch(name)?;
                    let inside = work.path().join("work");
                    fs::create_dir(&inside).map_err(io_error("create", &inside))?;
                    for (file, path) in files.iter().zip(&sources) {
                        let to = inside.join(file.file_name());
                        fs::copy(path, &to).map_err(io_error("copy to", &to))?;
                    }
                    write(&inside.join("recipe.sh"), recipe.as_bytes())?;
                    let log = dir.join("log");
                    Enclosure::new(self.host, &root, &inside, &log)?.run(
                        &inside,
                        &["sh", "/mnt/recipe.sh"],
                        &log,
                    )?;
                    let (from, to) = (inside.join("out"), dir.join("out"));
                    fs::rename(&from, &to).map_err(io_error("move the result to", &to))
                })
            },
        )
    }

    fn kernel_artifact(&self, release: &str, files: &[RemoteFile]) -> Result<Artifact, ImageError> {
        let list = lines(files);
        self.artifact("kernel", &[("files", &list), ("recipe", "kernel 1")], |dir| {
            let packages = self.apt.fetch(files)?;
            self.progress.step(&format!("unpacking kernel {release}"));
            let work = self.scratch("kernel")?;
            let (root, log) = (work.path().join("root"), dir.join("log"));
            fs::create_dir(&root).map_err(io_error("create", &root))?;
            unpack(self.host, &packages, &root, &log)?;
            let library =
                if root.join("usr/lib/modules").is_dir() { "usr/lib/modules" } else { "lib/modules" };
            let tree = root.join(library).join(release);
            // Debian keeps the image under /boot, and since 7.2 beside the modules.
            let take = |candidates: [PathBuf; 2], name: &str, missing| {
                let found = candidates.iter().find(|path| path.is_file());
                let from = found
                    .ok_or_else(|| ImageError::KernelPackage { release: release.to_owned(), missing })?;
                fs::copy(from, dir.join(name)).map_err(io_error("copy", from)).map(drop)
            };
            let boot = root.join("boot");
            take([boot.join(format!("vmlinuz-{release}")), tree.join("vmlinuz")], "vmlinuz", "kernel image")?;
            take([boot.join(format!("config-{release}")), tree.join("config")], "config", "configuration")?;
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
            let tools = self.tools()?;
            tools.call(self.host, "usr/sbin/depmod").arg("--basedir").arg(&root).arg(release).run(&log)?;
            let dependencies = tree.join("modules.dep");
            let text = fs::read_to_string(&dependencies).map_err(io_error("read", &dependencies))?;
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
        })
    }

    /// Makes an artifact from files that are pinned; if the mirror no longer has them, from what
    /// `renew` says is the newest.
    fn with_files(
        &self,
        pinned: impl FnOnce(&Self) -> Result<Vec<RemoteFile>, ImageError>,
        renew: impl FnOnce(&Self) -> Result<Vec<RemoteFile>, ImageError>,
        make: impl Fn(&[RemoteFile]) -> Result<Artifact, ImageError>,
    ) -> Result<Artifact, ImageError> {
        let files = pinned(self)?;
        match make(&files) {
            Err(ImageError::Apt(AptError::Missing { missing, .. })) => {
                let newer = renew(self)?;
                let mut changes = version_changes(&files, &newer);
                if changes.is_empty() {
                    // The newest is what was asked for: the mirror itself is out of step.
                    return Err(
                        AptError::Missing { mirror: self.apt.mirror().debian.clone(), missing }.into()
                    );
                }
                for change in &changes {
                    self.progress.note(&format!("no longer on the mirror, replaced by the newest: {change}"));
                }
                self.replaced.lock().expect("no panic with the lock").append(&mut changes);
                make(&newer)
            }
            result => result,
        }
    }

    fn artifact(
        &self,
        kind: &str,
        inputs: &[(&str, &str)],
        build: impl FnOnce(&Path) -> Result<(), ImageError>,
    ) -> Result<Artifact, ImageError> {
        self.store.artifact(kind, inputs, self.progress, self.host.cancel(), build)
    }

    fn scratch(&self, name: &str) -> Result<Scratch, ImageError> {
        let at = self.store.temporary();
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(at);
        folder.map(|folder| Scratch(folder.keep())).map_err(io_error("make a folder in", at))
    }

    fn pinned_root(&self, name: &str) -> Result<Vec<RemoteFile>, ImageError> {
        let pinned = self.lock.lock().expect("no panic with the lock").roots.get(name).cloned();
        pinned.map_or_else(|| self.renew_root(name), Ok)
    }

    fn renew_root(&self, name: &str) -> Result<Vec<RemoteFile>, ImageError> {
        let files = self.apt.resolve(&root_packages(name))?;
        self.lock.lock().expect("no panic with the lock").roots.insert(name.to_owned(), files.clone());
        Ok(files)
    }

    fn pinned_source(&self, name: &str) -> Result<Vec<RemoteFile>, ImageError> {
        let pinned = self.lock.lock().expect("no panic with the lock").sources.get(name).cloned();
        pinned.map_or_else(|| self.renew_source(name), Ok)
    }

    fn renew_source(&self, name: &str) -> Result<Vec<RemoteFile>, ImageError> {
        let files = self.apt.source(name)?;
        self.lock.lock().expect("no panic with the lock").sources.insert(name.to_owned(), files.clone());
        Ok(files)
    }

    fn pinned_kernel(&self, spec: &KernelSpec) -> Result<KernelPin, ImageError> {
        let pinned = {
            let lock = self.lock.lock().expect("no panic with the lock");
            match spec {
                KernelSpec::Branch { .. } => lock.kernels.get(&pin_name(spec)).cloned(),
                KernelSpec::Exact { release } => {
                    lock.kernels.values().find(|pin| pin.release == *release).cloned()
                }
            }
        };
        pinned.map_or_else(|| self.renew_kernel(spec), Ok)
    }

    fn renew_kernel(&self, spec: &KernelSpec) -> Result<KernelPin, ImageError> {
        let offered = self.kernels_offered()?;
        let kernel = choose(&offered, spec).ok_or_else(|| self.no_kernel(spec, &offered))?;
        Ok(pin(kernel))
    }

    fn no_kernel(&self, spec: &KernelSpec, offered: &[DebianKernel]) -> ImageError {
        ImageError::NoKernel {
            spec: spec.to_string(),
            mirror: self.apt.mirror().debian.clone(),
            similar: similar(offered, spec).into_iter().map(str::to_owned).collect(),
        }
    }
}

/// A folder of scratch space that goes when it is dropped, read-only folders and all.
struct Scratch(PathBuf);

impl Scratch {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootPackages {
    packages: Vec<String>,
}

fn root_packages(name: &str) -> Vec<String> {
    let roots: BTreeMap<String, RootPackages> =
        toml::from_str(ROOTS).expect("roots.toml is checked by a test");
    roots.into_iter().find(|(root, _)| root == name).map(|(_, root)| root.packages).unwrap_or_default()
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

fn pin(kernel: &DebianKernel) -> KernelPin {
    KernelPin { release: kernel.release.clone(), files: kernel.files.clone() }
}

fn pin_name(spec: &KernelSpec) -> String {
    match spec {
        KernelSpec::Branch { branch, flavour } => format!("{branch}-{flavour}"),
        KernelSpec::Exact { release } => release.clone(),
    }
}

fn lines(files: &[RemoteFile]) -> String {
    files.iter().map(|file| format!("{file}\n")).collect()
}

fn version_changes(old: &[RemoteFile], new: &[RemoteFile]) -> Vec<String> {
    let before: BTreeMap<_, _> = old.iter().map(|file| (&file.name, &file.version)).collect();
    new.iter()
        .filter(|file| before.get(&file.name) != Some(&&file.version))
        .map(|file| match before.get(&file.name) {
            Some(version) => format!("{} {version} → {}", file.name, file.version),
            None => format!("{} {} is new", file.name, file.version),
        })
        .collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    fs::write(path, bytes).map_err(io_error("write", path))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_root_has_packages() {
        for name in ["tools", "build", "guest"] {
            assert!(!root_packages(name).is_empty(), "{name}");
        }
    }
}
