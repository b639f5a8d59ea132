//! A user's checkout of LVM2 or mdadm: which of its files count, a digest of them, and a copy to build from.
//!
//! Reads the checkout and never writes to it, not even git's index. Builds nothing.

use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::build::error::{BuildError, CheckoutError, io_error};
use crate::build::failure::SourceFailure;
use crate::build::files::{self, Kind};
use crate::build::listing::{Git, all_files, unreadable};
use crate::build::project::Project;
use crate::host::{Host, HostError};
use crate::store::digest::Digest;

/// Folders to build from instead of Debian's source packages, as a command line names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Folder of LVM2's source.
    pub lvm2: Option<PathBuf>,
    /// Folder of mdadm's source.
    pub mdadm: Option<PathBuf>,
    /// Version of Debian's source package that mdadm's source is unpacked from, where no folder is named.
    pub mdadm_version: Option<String>,
}

/// A checkout as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Checkout {
    /// The project that it is a checkout of.
    pub project: Project,
    /// Its top folder, absolute.
    pub dir: PathBuf,
    /// Digest of the names, kinds and content of the files that count, but not of their times.
    pub digest: Digest,
    /// Its commit as git describes it, with `-dirty` if anything is not committed; `None` without git.
    pub commit: Option<String>,
    /// Version of the source package that it was unpacked from; `None` if it is a user's.
    pub package: Option<String>,
    /// The version that its own files state.
    version: Option<String>,
    /// Relative to `dir`, sorted.
    files: Vec<PathBuf>,
}

impl Sources {
    /// The folder that was named for `project`.
    pub fn of(&self, project: Project) -> Option<&Path> {
        match project {
            Project::Lvm2 => self.lvm2.as_deref(),
            Project::Mdadm => self.mdadm.as_deref(),
        }
    }

    /// True if a folder was named for the project of this name.
    pub fn has(&self, name: &str) -> bool {
        Project::ALL.into_iter().any(|project| project.name() == name && self.of(project).is_some())
    }

    /// Looks at all checkouts that were named. Git's complaints go to `log`.
    pub fn look_at(&self, host: &Host, log: &Path) -> Result<Vec<Checkout>, BuildError> {
        let named = Project::ALL.into_iter().filter_map(|project| Some((project, self.of(project)?)));
        named.map(|(project, dir)| Checkout::look_at(host, project, dir, log)).collect()
    }
}

impl Checkout {
    /// Looks at the files that the checkout of `project` in `dir` has now. Git's complaints go to `log`.
    pub fn look_at(host: &Host, project: Project, dir: &Path, log: &Path) -> Result<Self, BuildError> {
        let dir = dir.canonicalize().map_err(|error| CheckoutError::NoFolder {
            project,
            path: dir.to_owned(),
            error,
        })?;
        if let Some(missing) = project.marks().iter().find(|mark| !dir.join(mark).exists()) {
            return Err(CheckoutError::Foreign { project, dir, missing }.into());
        }
        // A work tree of its own, not a folder that happens to lie in somebody else's.
        let git = dir.join(".git").exists().then(|| Git { host, dir: &dir, log });
        let files = match &git {
            Some(git) => git.files()?,
            None => all_files(&dir)?,
        };
        let digest = digest_of(&dir, &files).map_err(unreadable(&dir))?;
        let commit = match &git {
            Some(git) => git.commit()?,
            None => None,
        };
        let version = project.version_in(&dir);
        Ok(Checkout { project, dir, digest, commit, package: None, version, files })
    }

    /// The same files, known to be those of a source package of this version.
    pub fn of_package(self, version: String) -> Self {
        Checkout { package: Some(version), ..self }
    }

    /// Its version, and which checkout it is: `2.03.31(2)+checkout v2_03_31-5-g0a1b2c-dirty`; of a source
    /// package its version.
    pub fn version(&self) -> String {
        self.version_as(self.commit.as_deref().unwrap_or(self.digest.short()))
    }

    /// Its version, and its digest in the place of its commit: an artifact outlives the commit.
    pub(crate) fn version_by_content(&self) -> String {
        self.version_as(self.digest.short())
    }

    fn version_as(&self, which: &str) -> String {
        if let Some(package) = &self.package {
            return package.clone();
        }
        format!("{}+checkout {which}", self.version.as_deref().unwrap_or("unknown"))
    }

    /// Copies the files that count into the new folder `to`, all with one time: make must not go by the order
    /// in which files were checked out or copied.
    pub(crate) fn copy_to(&self, to: &Path) -> Result<(), BuildError> {
        copy_files(&self.dir, &self.files, &self.digest, to)
    }

    /// The error of its build: the checkout's, unless the host is to blame.
    pub(crate) fn blame(&self, error: HostError) -> BuildError {
        let Some(SourceFailure { log, lines }) = SourceFailure::of(&error) else { return error.into() };
        CheckoutError::Build { project: self.project, dir: self.dir.clone(), log, lines }.into()
    }
}

/// Copies `files` of `dir` into the new folder `to`; an error if they are not those of `digest`.
pub(crate) fn copy_files(
    dir: &Path,
    files: &[PathBuf],
    digest: &Digest,
    to: &Path,
) -> Result<(), BuildError> {
    let at = |path: &Path| io_error("copy a checkout to", path);
    fs::create_dir(to).map_err(at(to))?;
    for file in files {
        let (from, to) = (dir.join(file), to.join(file));
        // A file that is gone by now shows in the digest below.
        let Some(kind) = Kind::of(&from).map_err(|error| unreadable(dir)((file.clone(), error)))? else {
            continue;
        };
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        copy(kind, &from, &to).map_err(at(&to))?;
    }
    // A file may have been edited since, and the artifact is named by the digest of what was looked at.
    let copied = digest_of(to, files).map_err(unreadable(to))?;
    if copied == *digest { Ok(()) } else { Err(CheckoutError::Changed { dir: dir.to_owned() }.into()) }
}

/// Copies one file; all copies have the same time.
fn copy(kind: Kind, from: &Path, to: &Path) -> io::Result<()> {
    if kind == Kind::Link {
        return symlink(fs::read_link(from)?, to);
    }
    fs::copy(from, to)?;
    fs::set_permissions(to, Permissions::from_mode(kind.mode()))?;
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::open(to)?.set_times(FileTimes::new().set_modified(then))
}

/// Digest of names, kinds and content.
pub(crate) fn digest_of(dir: &Path, files: &[PathBuf]) -> Result<Digest, (PathBuf, io::Error)> {
    Ok(files::digest_of(&files::entries_of(dir, files)?))
}

#[cfg(test)]
#[path = "checkout_tests.rs"]
mod tests;
