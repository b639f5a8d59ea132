//! Why something could not be prepared or built, as far as kernels and the guest have it in common.

use std::io;
use std::path::{Path, PathBuf};

use crate::build::enclosure::EnclosureError;
use crate::build::git::GitError;
use crate::build::handover::HandoverError;
use crate::build::project::Project;
use crate::debian::apt::AptError;
use crate::debian::error::{DebianError, MayMissFiles};
use crate::debian::package::RemoteFile;
use crate::host::HostError;
use crate::store::StoreError;

/// Why something could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Packages could not be chosen or fetched.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// A program of the host failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A root cannot be entered.
    #[error(transparent)]
    Enclosure(#[from] EnclosureError),
    /// A build left something that no build makes.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A user's checkout cannot be used, or does not build.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// A user's repository cannot be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file of ours cannot be read or written.
    #[error("failed to {what} `{}`: {source}{}", path.display(), full_hint(source))]
    Io {
        /// The step that failed, as a verb: `read`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

fn full_hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::StorageFull { "; the disk is full" } else { "" }
}

impl From<AptError> for BuildError {
    fn from(error: AptError) -> Self {
        BuildError::Debian(error.into())
    }
}

impl MayMissFiles for BuildError {
    fn missing(&self) -> Option<&[RemoteFile]> {
        match self {
            BuildError::Debian(error) => error.missing(),
            BuildError::Host(_)
            | BuildError::Enclosure(_)
            | BuildError::Handover(_)
            | BuildError::Store(_)
            | BuildError::Checkout(_)
            | BuildError::Git(_)
            | BuildError::Io { .. } => None,
        }
    }
}

/// Makes a system's error one of a step (a verb) with a file.
pub(crate) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError + use<> {
    let path = path.to_owned();
    move |source| BuildError::Io { what, path, source }
}

/// An error of a user's checkout or tree: the user's to mend, never the host's fault.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// Its folder cannot be used.
    #[error("failed to use `{}` for {}: {error}", path.display(), project.option())]
    NoFolder {
        /// The project that it should be a checkout of.
        project: Project,
        /// The folder as the user named it.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Its folder is not a source tree of the project.
    #[error(
        "`{}` is no source tree of {}: it has no `{missing}`; {} wants the top folder of a git work tree or \
         of an unpacked source",
        dir.display(), project.title(), project.option()
    )]
    Foreign {
        /// The project that it should be a checkout of.
        project: Project,
        /// The folder.
        dir: PathBuf,
        /// A file or folder that it lacks.
        missing: &'static str,
    },
    /// It has a `.git` that git refuses.
    #[error("git cannot tell which files of checkout `{}` count: {error}", dir.display())]
    Git {
        /// The folder.
        dir: PathBuf,
        /// Git's error.
        error: HostError,
    },
    /// A file of it cannot be read.
    #[error("failed to read `{}` of checkout `{}`: {error}", file.display(), dir.display())]
    Unreadable {
        /// The folder.
        dir: PathBuf,
        /// Relative to it.
        file: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// It was edited while we copied it.
    #[error("checkout `{}` changed while it was copied; run again", dir.display())]
    Changed {
        /// The folder.
        dir: PathBuf,
    },
    /// It does not build.
    #[error("{} does not build from checkout `{}`; log: {}\n{lines}", project.title(), dir.display(), log.display())]
    Build {
        /// The project that did not build.
        project: Project,
        /// The folder.
        dir: PathBuf,
        /// File with all that the build printed.
        log: PathBuf,
        /// The lines of it that say why.
        lines: String,
    },
}
