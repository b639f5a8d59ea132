//! `vm-images/artifacts.lock`: the exact files that results depend on.
//!
//! Pure but for [`Lock::read`] and [`Lock::write`]. A run uses the files that are pinned. Those that the
//! mirror no longer has are replaced by its newest, which is shown and recorded
//! ([`crate::images::Images::replaced`]). Only `cargo xtask update` changes the lock file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::debian::package::RemoteFile;

/// Version of the format.
const FORMAT: u32 = 1;

/// The content of `artifacts.lock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of the format.
    format: u32,
    /// Files of each root, by its name: `tools`, `build`, `guest`.
    #[serde(default)]
    pub roots: BTreeMap<String, Vec<RemoteFile>>,
    /// Files of each source package.
    #[serde(default)]
    pub sources: BTreeMap<String, Vec<RemoteFile>>,
    /// Files of each pinned kernel, by branch and flavour: `6.12-cloud-amd64`.
    #[serde(default)]
    pub kernels: BTreeMap<String, KernelPin>,
}

/// The kernel that a branch stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelPin {
    /// `uname -r`.
    pub release: String,
    /// Its packages: one image, or image, binary and modules.
    pub files: Vec<RemoteFile>,
    /// The packages of its headers, which modules are built against.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<RemoteFile>,
    /// The package of its source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<RemoteFile>,
}

/// Why the lock file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Cannot be read or written.
    #[error("failed to use lock file `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Makes no sense.
    #[error("lock file `{}` is damaged; restore it with `git checkout` or make it anew with `cargo xtask update`: {error}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        error: String,
    },
}

impl Default for Lock {
    fn default() -> Self {
        Lock { format: FORMAT, roots: BTreeMap::new(), sources: BTreeMap::new(), kernels: BTreeMap::new() }
    }
}

impl Lock {
    /// Reads the lock file; one that does not exist is an empty one.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::default()),
            Err(source) => return Err(LockError::Io { path: path.to_owned(), source }),
        };
        Self::parse(&text).map_err(|error| LockError::Damaged { path: path.to_owned(), error })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lock: Lock = toml::from_str(text).map_err(|error| error.to_string())?;
        if lock.format == FORMAT {
            Ok(lock)
        } else {
            Err(format!("format {} is not the format {FORMAT} of this md-regress", lock.format))
        }
    }

    /// Replaces the lock file.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let at = |source| LockError::Io { path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(at)?;
        io::Write::write_all(&mut file, self.to_text().as_bytes()).map_err(at)?;
        // A temporary file is private; this one is read by whoever has the work tree.
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(readable).map_err(at)?;
        file.persist(path).map_err(|error| at(error.error))?;
        Ok(())
    }

    fn to_text(&self) -> String {
        let body = toml::to_string_pretty(self).expect("strings and lists have a TOML form");
        format!(
            "# Written by `cargo xtask update`; not meant to be edited.\n\
             # One file a line: name version archive path size sha256.\n\n{body}"
        )
    }

    /// The differences between two locks, one line a package: `guest: e2fsprogs 1.47.2-3 → 1.47.2-4`.
    pub fn changes(&self, newer: &Lock) -> Vec<String> {
        let old = self.versions();
        let new = newer.versions();
        let mut changes = Vec::new();
        for (what, version) in &new {
            match old.get(what) {
                None => changes.push(format!("{what} {version} is new")),
                Some(before) if before != version => changes.push(format!("{what} {before} → {version}")),
                Some(_) => {}
            }
        }
        changes
            .extend(old.keys().filter(|what| !new.contains_key(*what)).map(|what| format!("{what} is gone")));
        changes
    }

    fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        for (group, files) in self.roots.iter().chain(&self.sources) {
            for file in files {
                versions.insert(format!("{group}: {}", file.name), file.version.clone());
            }
        }
        for (branch, pin) in &self.kernels {
            versions.insert(format!("kernel: {branch}"), pin.release.clone());
        }
        versions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, version: &str) -> RemoteFile {
        let sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        format!("{name} {version} debian pool/{name}.deb 1 {sha}").parse().unwrap()
    }

    fn lock(version: &str) -> Lock {
        let mut lock = Lock::default();
        lock.roots.insert("guest".into(), vec![file("kmod", version)]);
        lock.kernels.insert(
            "6.12-cloud-amd64".into(),
            KernelPin {
                release: "6.12.1-cloud-amd64".into(),
                files: vec![file("linux-image", version)],
                headers: vec![file("linux-headers", version)],
                source: vec![],
            },
        );
        lock
    }

    #[test]
    fn it_round_trips() {
        assert_eq!(Lock::parse(&lock("1").to_text()).unwrap(), lock("1"));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let text = lock("1").to_text().replace("kmod 1 debian", "kmod 1 nowhere");
        let error = Lock::parse(&text).unwrap_err();
        assert!(error.contains("nowhere"), "{error}");
    }

    #[test]
    fn changes_name_the_package_and_both_versions() {
        assert_eq!(lock("1").changes(&lock("2")), ["guest: kmod 1 → 2"]);
        assert!(lock("1").changes(&lock("1")).is_empty());
    }
}
