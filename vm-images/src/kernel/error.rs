//! Why a kernel could not be made.

use std::io;
use std::path::PathBuf;

use crate::build::enclosure::EnclosureError;
use crate::build::error::{BuildError, CheckoutError};
use crate::build::git::GitError;
use crate::build::handover::HandoverError;
use crate::debian::apt::AptError;
use crate::debian::error::{DebianError, MayMissFiles};
use crate::debian::package::RemoteFile;
use crate::host::HostError;
use crate::kernel::plant::EditError;
use crate::spec::KernelSpec;
use crate::store::StoreError;

/// Why a kernel, or modules for one, could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Something that kernels have in common with other builds.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Modules that are built here.
    #[error(transparent)]
    Modules(#[from] ModuleError),
    /// An overlay.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// A kernel that the user brings.
    #[error(transparent)]
    User(Box<UserKernelError>),
    /// A kernel package without what it should hold.
    #[error("package of kernel {release} holds no {missing}")]
    Package {
        /// `uname -r`.
        release: String,
        /// The file that is missing, in words.
        missing: &'static str,
    },
}

impl From<UserKernelError> for KernelError {
    fn from(error: UserKernelError) -> Self {
        KernelError::User(Box::new(error))
    }
}

macro_rules! from_error_of_a_build {
    ($($error:ty),*) => {
        $(impl From<$error> for KernelError {
            fn from(error: $error) -> Self {
                KernelError::Build(error.into())
            }
        })*
    };
}

from_error_of_a_build!(
    AptError,
    CheckoutError,
    DebianError,
    EnclosureError,
    GitError,
    HandoverError,
    HostError,
    StoreError
);

impl MayMissFiles for KernelError {
    fn missing(&self) -> Option<&[RemoteFile]> {
        match self {
            KernelError::Build(error) => error.missing(),
            KernelError::Modules(_)
            | KernelError::Overlay(_)
            | KernelError::User(_)
            | KernelError::Package { .. } => None,
        }
    }
}

/// An error of modules: their author's to mend, never the host's fault.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// They do not build.
    #[error("{title} do not build against the headers of {release}; log: {}\n{lines}", log.display())]
    Build {
        /// The modules as messages name them.
        title: String,
        /// `uname -r`.
        release: String,
        /// File with all that the build printed.
        log: PathBuf,
        /// The lines of it that say why.
        lines: String,
    },
    /// There are no headers that they could be built against.
    #[error(
        "kernel `{kernel}` is not Debian's: modules of a suite's own cannot be built for it; take a deb: kernel"
    )]
    NoHeaders {
        /// The kernel as the user named it.
        kernel: Box<KernelSpec>,
    },
    /// The build made no module.
    #[error("{title}: the build against the headers of {release} made no module; {from} names none in obj-m")]
    Nothing {
        /// The modules as messages name them.
        title: String,
        /// `uname -r`.
        release: String,
        /// Origin of the sources.
        from: String,
    },
}

/// An error of an overlay: the user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The folder cannot be used.
    #[error("failed to use `{}` for +md: {error}; it wants a kernel tree, or its drivers/md", path.display())]
    NoFolder {
        /// The path as the user named it.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The folder is neither a kernel tree nor its drivers/md.
    #[error("`{}` is no kernel tree and no drivers/md of one: neither it nor its drivers/md has a {missing}", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// A file that it lacks.
        missing: &'static str,
    },
    /// The commit has no drivers/md.
    #[error("commit {commit} of `{}` has no drivers/md with a md.c, md.h and Makefile", path.display())]
    NoMd {
        /// The commit's id, shortened.
        commit: String,
        /// Folder in the repository.
        path: PathBuf,
    },
    /// The kernel has md built in, or not at all.
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
        /// The plant as it was named.
        name: String,
        /// The plants that there are.
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
    /// A plant whose edits do not fit the source.
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

/// An error of a kernel that the user brings.
#[derive(Debug, thiserror::Error)]
pub enum UserKernelError {
    /// A folder or file of it cannot be used.
    #[error("failed to use `{}`: {error}", path.display())]
    Unusable {
        /// The path as the user named it.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The folder or commit is no kernel tree with md.
    #[error("{from} is no kernel tree with md: it has no {missing}")]
    Foreign {
        /// The folder or commit.
        from: String,
        /// A file that it lacks.
        missing: &'static str,
    },
    /// It does not build.
    #[error("{title} does not build with {compiler}; log: {}\n{lines}", log.display())]
    Build {
        /// The kernel as messages name it.
        title: String,
        /// The compiler.
        compiler: &'static str,
        /// File with all that the build printed.
        log: PathBuf,
        /// The lines of it that say why.
        lines: String,
    },
    /// Its release is no name of a folder.
    #[error("{title} calls itself `{}`, which is no release of a kernel", release.escape_debug())]
    BadRelease {
        /// The kernel as messages name it.
        title: String,
        /// The release that the build made, shortened.
        release: String,
    },
    /// There is no room for a build.
    #[error(
        "the disk of `{}` is too small to build a kernel: that takes {needed_mib} MiB, and {free_mib} MiB are left; \
         `cargo xtask clean` frees some, --store names another place", path.display()
    )]
    DiskTooSmall {
        /// The store.
        path: PathBuf,
        /// Room that the build takes, MiB.
        needed_mib: u64,
        /// Room that is free, MiB.
        free_mib: u64,
    },
    /// A file that is no kernel.
    #[error("`{}` is no bzImage that says its version", path.display())]
    NoImage {
        /// The path as the user named it.
        path: PathBuf,
    },
    /// A folder without the kernel's modules.
    #[error(
        "`{}` has no modules of {release}: it takes what `make modules_install INSTALL_MOD_PATH=DIR` leaves, with a \
         folder lib/modules/{release}", path.display()
    )]
    NoModules {
        /// The path as the user named it.
        path: PathBuf,
        /// The release that the kernel states.
        release: String,
    },
}
