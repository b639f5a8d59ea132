//! The files that an image is made from: those that the lock file pins, or newer ones in their place.
//!
//! Files that the mirror no longer has are replaced by its newest. That is shown, kept for the run's record
//! ([`Pins::replaced`]) and remembered in the store, so that the next run neither asks again nor differs.
//! Only `cargo xtask update` changes the lock file.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::debian::apt::Apt;
use crate::debian::error::{DebianError, MayMissFiles};
use crate::debian::kernels::{
    DebianKernel, choose, headers, is_build_package, is_kernel_package, kernels, similar, source,
};
use crate::debian::lock::{KernelPin, Lock};
use crate::debian::package::RemoteFile;
use crate::debian::roots::{ROOT_NAMES, root_packages};
use crate::host::progress::Progress;
use crate::spec::debian::DebianSpec;
use crate::store::Store;
use crate::store::digest::Digest;

/// Names of the source packages.
pub(crate) const SOURCE_NAMES: [&str; 2] = ["lvm2", "mdadm"];

/// Files that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// The packages of a root.
    Root(&'static str),
    /// The files of a source package.
    Source(&'static str),
    /// The packages of a kernel.
    Kernel(DebianSpec),
    /// The packages that modules of a kernel are built against.
    Headers {
        /// `uname -r`.
        release: String,
        /// Version of the kernel's package.
        version: String,
    },
    /// The source that a kernel was built from.
    KernelSource {
        /// `uname -r`.
        release: String,
        /// Version of the kernel's package.
        version: String,
    },
}

/// The files in use.
#[derive(Debug)]
pub(crate) struct Pins<'a> {
    apt: &'a Apt<'a>,
    store: &'a Store,
    progress: &'a dyn Progress,
    lock: Lock,
    /// Files of each group as this run uses them.
    in_use: Mutex<BTreeMap<String, Vec<RemoteFile>>>,
    replaced: Mutex<Vec<String>>,
}

impl<'a> Pins<'a> {
    pub(crate) fn new(apt: &'a Apt<'a>, store: &'a Store, lock: Lock, progress: &'a dyn Progress) -> Self {
        Pins { apt, store, progress, lock, in_use: Mutex::default(), replaced: Mutex::default() }
    }

    /// The changes from the pinned files to those that this run uses, one line each.
    pub(crate) fn replaced(&self) -> Vec<String> {
        self.replaced.lock().expect("no panic with the lock").clone()
    }

    /// The files of a group: as already in use, as remembered, as pinned, or else the newest.
    pub(crate) fn files(&self, group: &Group) -> Result<Vec<RemoteFile>, DebianError> {
        if let Some(files) = self.in_use.lock().expect("no panic with the lock").get(&group.key()) {
            return Ok(files.clone());
        }
        let files = match self.pinned(group) {
            Some(pinned) => match self.remembered(&pinned) {
                Some(newer) => {
                    self.note_changes(&pinned, &newer);
                    newer
                }
                None => pinned,
            },
            None => self.newest(group)?,
        };
        self.use_from_now_on(group, &files);
        Ok(files)
    }

    /// Makes something from a group's files; if the mirror no longer has some of them, from its newest.
    pub(crate) fn make<T, E: MayMissFiles>(
        &self,
        group: &Group,
        make: impl Fn(&[RemoteFile]) -> Result<T, E>,
    ) -> Result<T, E> {
        let files = self.files(group)?;
        let error = match make(&files) {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        // Only this group's own files count: an image may be made with the help of another group.
        let are_of_group = |missing: &[RemoteFile]| missing.iter().all(|file| files.contains(file));
        if !error.missing().is_some_and(are_of_group) {
            return Err(error);
        }
        let newer = self.newest(group)?;
        if newer == files {
            // The newest is what was asked for: the mirror itself is out of step.
            return Err(error);
        }
        self.note_changes(&files, &newer);
        if let Some(pinned) = self.pinned(group) {
            self.remember(&pinned, &newer);
        }
        self.use_from_now_on(group, &newer);
        make(&newer)
    }

    fn use_from_now_on(&self, group: &Group, files: &[RemoteFile]) {
        self.in_use.lock().expect("no panic with the lock").insert(group.key(), files.to_vec());
    }

    fn note_changes(&self, old: &[RemoteFile], new: &[RemoteFile]) {
        for change in version_changes(old, new) {
            self.progress.note(&format!("no longer on the mirror, replaced by the newest: {change}"));
            self.replaced.lock().expect("no panic with the lock").push(change);
        }
    }

    fn pin_of(&self, release: &str) -> Option<&KernelPin> {
        self.lock.kernels.values().find(|pin| pin.release == release)
    }

    fn pinned(&self, group: &Group) -> Option<Vec<RemoteFile>> {
        let files = match group {
            Group::Root(name) => self.lock.roots.get(*name).cloned(),
            Group::Source(name) => self.lock.sources.get(*name).cloned(),
            Group::Kernel(spec @ DebianSpec::Branch { .. }) => {
                self.lock.kernels.get(&pin_name(spec)).map(|pin| pin.files.clone())
            }
            Group::Kernel(DebianSpec::Exact { release }) => self.pin_of(release).map(|pin| pin.files.clone()),
            Group::Headers { release, .. } => self.pin_of(release).map(|pin| pin.headers.clone()),
            Group::KernelSource { release, .. } => self.pin_of(release).map(|pin| pin.source.clone()),
        };
        files.filter(|files| !files.is_empty())
    }

    fn newest(&self, group: &Group) -> Result<Vec<RemoteFile>, DebianError> {
        match group {
            Group::Root(name) => Ok(self.apt.resolve(&root_packages(name))?),
            Group::Source(name) => Ok(self.apt.source(name)?),
            Group::Kernel(spec) => {
                let offered = self.kernels_offered()?;
                let kernel = choose(&offered, spec).ok_or_else(|| self.no_kernel(spec, &offered))?;
                Ok(kernel.files.clone())
            }
            Group::Headers { release, version } => {
                let found = headers(&self.build_packages()?, release, version);
                found.ok_or_else(|| self.not_offered("headers", release, version))
            }
            Group::KernelSource { release, version } => {
                let found = source(&self.build_packages()?, version);
                found.ok_or_else(|| self.not_offered("source", release, version))
            }
        }
    }

    fn build_packages(&self) -> Result<Vec<RemoteFile>, DebianError> {
        Ok(self.apt.kernel_packages(is_build_package)?)
    }

    fn not_offered(&self, what: &'static str, release: &str, version: &str) -> DebianError {
        DebianError::NotOffered {
            what,
            release: release.to_owned(),
            version: version.to_owned(),
            mirror: self.apt.mirror().debian.clone(),
        }
    }

    /// All kernels that the mirror offers, oldest first.
    pub(crate) fn kernels_offered(&self) -> Result<Vec<DebianKernel>, DebianError> {
        Ok(kernels(&self.apt.kernel_packages(is_kernel_package)?))
    }

    /// The lock file as it would be made now: all roots and sources, the kernels that are pinned now, and
    /// those of `branches`.
    pub(crate) fn newest_lock(&self, branches: &[DebianSpec]) -> Result<Lock, DebianError> {
        let mut lock = Lock::default();
        for name in ROOT_NAMES {
            lock.roots.insert(name.to_owned(), self.newest(&Group::Root(name))?);
        }
        for name in SOURCE_NAMES {
            lock.sources.insert(name.to_owned(), self.newest(&Group::Source(name))?);
        }
        let offered = self.kernels_offered()?;
        let build_packages = self.build_packages()?;
        let pinned = self.lock.kernels.keys().filter_map(|name| format!("deb:{name}").parse().ok());
        for spec in &branches.iter().cloned().chain(pinned).collect::<Vec<_>>() {
            let kernel = choose(&offered, spec).ok_or_else(|| self.no_kernel(spec, &offered))?;
            let (release, version) = (kernel.release.clone(), &kernel.version);
            let pin = KernelPin {
                files: kernel.files.clone(),
                headers: headers(&build_packages, &release, version).unwrap_or_default(),
                source: source(&build_packages, version).unwrap_or_default(),
                release,
            };
            lock.kernels.insert(pin_name(spec), pin);
        }
        Ok(lock)
    }

    fn no_kernel(&self, spec: &DebianSpec, offered: &[DebianKernel]) -> DebianError {
        DebianError::NoKernel {
            spec: spec.to_string(),
            mirror: self.apt.mirror().debian.clone(),
            similar: similar(offered, spec).into_iter().map(|release| format!("deb:{release}")).collect(),
        }
    }

    fn memory_of(&self, pinned: &[RemoteFile]) -> PathBuf {
        let digest = Digest::of_bytes(lines(pinned).as_bytes());
        self.store.root().join("replacements").join(digest.short())
    }

    fn remembered(&self, pinned: &[RemoteFile]) -> Option<Vec<RemoteFile>> {
        let text = fs::read_to_string(self.memory_of(pinned)).ok()?;
        let files: Option<Vec<RemoteFile>> = text.lines().map(|line| line.parse().ok()).collect();
        files.filter(|files| !files.is_empty())
    }

    /// Remembers `newer` for the next run. It is only a cache: that it cannot be written is no error of this
    /// run.
    fn remember(&self, pinned: &[RemoteFile], newer: &[RemoteFile]) {
        let path = self.memory_of(pinned);
        let beside = self.store.temporary().join("replacement");
        if let Some(folder) = path.parent() {
            let _ = fs::create_dir_all(folder);
        }
        if fs::write(&beside, lines(newer)).is_ok() {
            let _ = fs::rename(&beside, &path);
        }
    }
}

impl Group {
    fn key(&self) -> String {
        match self {
            Group::Root(name) => format!("root {name}"),
            Group::Source(name) => format!("source {name}"),
            Group::Kernel(spec) => format!("kernel {spec}"),
            Group::Headers { release, .. } => format!("headers {release}"),
            Group::KernelSource { release, .. } => format!("kernel source {release}"),
        }
    }
}

fn pin_name(spec: &DebianSpec) -> String {
    match spec {
        DebianSpec::Branch { branch, flavour } => format!("{branch}-{flavour}"),
        DebianSpec::Exact { release } => release.clone(),
    }
}

/// Files as lines: part of an artifact's inputs.
pub(crate) fn lines(files: &[RemoteFile]) -> String {
    files.iter().map(|file| format!("{file}\n")).collect()
}

fn version_changes(old: &[RemoteFile], new: &[RemoteFile]) -> Vec<String> {
    let before: BTreeMap<_, _> = old.iter().map(|file| (&file.name, &file.version)).collect();
    let mut changes: Vec<_> = new
        .iter()
        .filter(|file| before.get(&file.name) != Some(&&file.version))
        .map(|file| match before.get(&file.name) {
            Some(version) => format!("{} {version} → {}", file.name, file.version),
            None => format!("{} {} is new", file.name, file.version),
        })
        .collect();
    changes.dedup();
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::mirror::Mirror;
    use crate::host::progress::Silent;
    use crate::host::{Cancel, Host};
    use std::cell::RefCell;

    fn file(version: &str) -> RemoteFile {
        let sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        format!("kmod {version} debian pool/kmod_{version}.deb 1 {sha}").parse().unwrap()
    }

    #[test]
    fn a_remembered_replacement_is_used_and_said() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let host = Host::new(Cancel::default());
        let mirror = Mirror {
            debian: "http://m.example/debian".into(),
            security: "http://m.example/debian-security".into(),
            keyring: "/k".into(),
            from: "test".into(),
            left_out: vec![],
        };
        let apt = Apt::new(&host, &store, mirror, &Silent);
        let mut lock = Lock::default();
        lock.roots.insert("tools".into(), vec![file("1")]);
        let group = Group::Root("tools");

        let pins = Pins::new(&apt, &store, lock.clone(), &Silent);
        assert_eq!(pins.files(&group).unwrap(), [file("1")]);
        pins.remember(&[file("1")], &[file("2")]);

        let pins = Pins::new(&apt, &store, lock, &Silent);
        let made_from = RefCell::new(vec![]);
        pins.make(&group, |files| {
            made_from.borrow_mut().extend_from_slice(files);
            Ok::<_, DebianError>(())
        })
        .unwrap();
        assert_eq!(made_from.into_inner(), [file("2")]);
        assert_eq!(pins.replaced(), ["kmod 1 → 2"]);
    }
}
