//! Which files of a user's folder count as its source: all of them, or those that git does not ignore.
//!
//! The folder is only read, and not even git's index is written to.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::build::error::{BuildError, CheckoutError};
use crate::build::files::{Kind, leads_elsewhere};
use crate::build::git;
use crate::host::{Call, Host, HostError};

/// Git, asked about a work tree.
pub(crate) struct Git<'a> {
    pub(crate) host: &'a Host,
    /// Top of the work tree.
    pub(crate) dir: &'a Path,
    /// File for git's complaints.
    pub(crate) log: &'a Path,
}

impl Git<'_> {
    fn call(&self, command: &str) -> Call<'_> {
        git::call(self.host, self.dir).arg(command)
    }

    fn blame(&self, error: HostError) -> BuildError {
        match error {
            error @ HostError::Failed { .. } => CheckoutError::Git { dir: self.dir.to_owned(), error }.into(),
            error @ (HostError::Cancelled
            | HostError::NotStarted { .. }
            | HostError::NoFolder(_)
            | HostError::Log { .. }) => error.into(),
        }
    }

    /// Files that are tracked, or not ignored. Submodules are not followed: neither LVM2 nor mdadm has any.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, BuildError> {
        let call = self.call("ls-files").args(["-z", "--cached", "--others", "--exclude-standard"]);
        let list = call.read_bytes(self.log).map_err(|error| self.blame(error))?;
        let names: BTreeSet<_> = list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).collect();
        let paths = names.into_iter().map(|name| PathBuf::from(OsStr::from_bytes(name)));
        keep_files(self.dir, paths)
    }

    /// The commit as `git describe` names it, with `-dirty` if anything is not committed. `git describe
    /// --dirty` itself would write to the index, and ignores new files.
    pub(crate) fn commit(&self) -> Result<Option<String>, BuildError> {
        let commit = match self.call("describe").args(["--always", "--abbrev=12"]).read(self.log) {
            Ok(commit) => commit.trim().to_owned(),
            // There is no commit yet.
            Err(HostError::Failed { .. }) => return Ok(None),
            Err(error) => return Err(self.blame(error)),
        };
        let status = self.call("status").arg("--porcelain").read(self.log);
        let is_dirty = !status.map_err(|error| self.blame(error))?.is_empty();
        Ok(Some(if is_dirty { format!("{commit}-dirty") } else { commit }))
    }
}

/// Files of the work tree `dir` that are tracked, or not ignored. Git's complaints go to `log`.
pub(crate) fn git_files(host: &Host, dir: &Path, log: &Path) -> Result<Vec<PathBuf>, BuildError> {
    Git { host, dir, log }.files()
}

/// All files of a folder that is no git work tree.
pub(crate) fn all_files(dir: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let mut paths = Vec::new();
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.map_err(|error| {
            let file = error.path().unwrap_or(dir).to_owned();
            unreadable(dir)((file, error.into()))
        })?;
        paths.extend(entry.path().strip_prefix(dir).ok().map(Path::to_owned));
    }
    paths.sort();
    keep_files(dir, paths.into_iter())
}

/// The files among `paths`: without deleted ones that are still in the index, folders, sockets and the like.
/// An error if one leads out of `dir`.
fn keep_files(dir: &Path, paths: impl Iterator<Item = PathBuf>) -> Result<Vec<PathBuf>, BuildError> {
    let mut files = Vec::new();
    for path in paths {
        match Kind::of(&dir.join(&path)) {
            Ok(Some(_)) => files.push(path),
            Ok(None) => {}
            Err(error) => return Err(unreadable(dir)((path, error)).into()),
        }
    }
    match leads_elsewhere(files.iter().map(PathBuf::as_path)) {
        None => Ok(files),
        Some(path) => {
            let error = io::Error::other("its path leads elsewhere, through a link or `..`");
            Err(unreadable(dir)((path.to_owned(), error)).into())
        }
    }
}

pub(crate) fn unreadable(dir: &Path) -> impl Fn((PathBuf, io::Error)) -> CheckoutError {
    move |(file, error)| CheckoutError::Unreadable { dir: dir.to_owned(), file, error }
}
