//! The origin of a build's sources, a user's folder or a commit, and their way into a build folder.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::build::error::{BuildError, CheckoutError, io_error};
use crate::build::files::{Entries, Entry, Kind, content};
use crate::build::folder::{BuildFolder, Take};
use crate::build::git::{Commit, GitError};
use crate::store::digest::Digest;

/// The origin of sources, which is only read.
#[derive(Clone, Debug)]
pub(crate) enum Origin<'h> {
    /// A folder, as it is now.
    Folder(PathBuf),
    /// A commit.
    Commit {
        /// The commit.
        commit: Commit<'h>,
        /// The folder in it, from the repository's top: `drivers/md/`, or empty.
        folder: String,
    },
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Folder(dir) => write!(f, "`{}`", dir.display()),
            Origin::Commit { commit, folder } => {
                write!(f, "`{folder}` of commit {} of `{}`", commit.short(), commit.path.display())
            }
        }
    }
}

impl Origin<'_> {
    /// The prefix of a file's name in messages.
    pub(crate) fn prefix(&self) -> String {
        match self {
            Origin::Folder(dir) => format!("{}/", dir.display()),
            Origin::Commit { commit, folder } => format!("{}:{folder}", commit.short()),
        }
    }

    /// Passes on the contents of `files`, each with its index.
    fn read(&self, files: &[(usize, &Path, &Entry)], each: Take<'_>) -> Result<(), BuildError> {
        match self {
            Origin::Folder(dir) => {
                for (idx, file, entry) in files {
                    let path = dir.join(file);
                    let changed = || CheckoutError::Changed { dir: dir.clone() };
                    let bytes = content(&path, entry.kind).map_err(io_error("read", &path))?;
                    // It may have been edited since, and the artifact is named by the digest of what was
                    // looked at.
                    if Digest::of_bytes(&bytes).as_str() != entry.id {
                        return Err(changed().into());
                    }
                    each(*idx, &bytes)?;
                }
                Ok(())
            }
            Origin::Commit { commit, .. } => {
                let ids: Vec<_> = files.iter().map(|(_, _, entry)| entry.id.as_str()).collect();
                let mut failure = None;
                let result = commit.contents(&ids, |at, bytes| {
                    each(files[at].0, bytes).map_err(|error| {
                        failure = Some(error);
                        GitError::Stopped
                    })
                });
                match failure {
                    Some(error) => Err(error),
                    None => Ok(result?),
                }
            }
        }
    }

    /// Makes the source files of `folder` those of this origin, under `below`, and a few of `ours`, by name
    /// and text.
    pub(crate) fn put_into(
        &self,
        folder: &mut BuildFolder,
        below: &str,
        files: &Entries,
        ours: &[(&str, &str)],
    ) -> Result<(), BuildError> {
        let mut wanted: Entries =
            files.iter().map(|(file, entry)| (Path::new(below).join(file), entry.clone())).collect();
        for (name, text) in ours {
            let id = Digest::of_bytes(text.as_bytes()).to_string();
            wanted.insert(PathBuf::from(name), Entry { kind: Kind::Plain, id });
        }
        folder.put(&wanted, |names, each| {
            let mut theirs = Vec::new();
            for (idx, (name, entry)) in names.iter().enumerate() {
                match ours.iter().find(|(our_name, _)| Path::new(our_name) == *name) {
                    Some((_, text)) => each(idx, text.as_bytes())?,
                    None => theirs.push((idx, name.strip_prefix(below).unwrap_or(name), *entry)),
                }
            }
            self.read(&theirs, each)
        })
    }
}
