//! Why there is no image, and who has to do something about it.

use std::error::Error;

use crate::build::enclosure::EnclosureError;
use crate::build::error::BuildError;
use crate::build::git::GitError;
use crate::build::handover::HandoverError;
use crate::debian::error::DebianError;
use crate::kernel::error::{KernelError, ModuleError, OverlayError, UserKernelError};

/// Why an image or a kernel could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Something that kernels and the guest have in common.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A kernel.
    #[error(transparent)]
    Kernel(KernelError),
}

impl From<KernelError> for ImageError {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Build(error) => ImageError::Build(error),
            other => ImageError::Kernel(other),
        }
    }
}

/// Who has to do something about an image that could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The source is to blame: it does not build, or lacks what is built. Another commit may do.
    Source,
    /// The request is to blame, whatever the source: it names a repository, revision or kernel that does not
    /// exist.
    Request,
    /// The host, the mirror or md-regress is to blame: nothing is known of the source.
    Infra,
}

impl Fault {
    /// Whose fault `error` is; `None` if it is not an error of this package that tells.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        error
            .downcast_ref::<ImageError>()
            .map(ImageError::fault)
            .or_else(|| error.downcast_ref::<KernelError>().map(of_kernel))
            .or_else(|| error.downcast_ref::<BuildError>().map(of_build))
    }
}

impl ImageError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            ImageError::Build(error) => of_build(error),
            ImageError::Kernel(error) => of_kernel(error),
        }
    }
}

fn of_build(error: &BuildError) -> Fault {
    match error {
        BuildError::Handover(HandoverError::Odd { .. }) => Fault::Source,
        BuildError::Enclosure(EnclosureError::Exposed { .. })
        | BuildError::Debian(DebianError::NoKernel { .. } | DebianError::NoVersion { .. })
        | BuildError::Checkout(_)
        | BuildError::Git(
            GitError::NoRepository { .. } | GitError::NoCommit { .. } | GitError::Unreadable { .. },
        ) => Fault::Request,
        BuildError::Git(GitError::Host(_) | GitError::Io { .. } | GitError::Stopped)
        | BuildError::Debian(DebianError::Apt(_) | DebianError::NotOffered { .. })
        | BuildError::Host(_)
        | BuildError::Enclosure(
            EnclosureError::Host(_) | EnclosureError::Forbidden { .. } | EnclosureError::Io { .. },
        )
        | BuildError::Handover(HandoverError::Io { .. })
        | BuildError::Store(_)
        | BuildError::Io { .. } => Fault::Infra,
    }
}

fn of_kernel(error: &KernelError) -> Fault {
    match error {
        KernelError::Build(error) => of_build(error),
        KernelError::Modules(ModuleError::NoHeaders { .. }) => Fault::Request,
        KernelError::Modules(ModuleError::Build { .. } | ModuleError::Nothing { .. })
        | KernelError::Overlay(OverlayError::NoMd { .. }) => Fault::Source,
        KernelError::Overlay(
            OverlayError::NoFolder { .. }
            | OverlayError::Foreign { .. }
            | OverlayError::BuiltIn { .. }
            | OverlayError::NoPlant { .. }
            | OverlayError::BadPlant { .. }
            | OverlayError::Plant { .. },
        ) => Fault::Request,
        KernelError::User(error) => match **error {
            UserKernelError::Build { .. }
            | UserKernelError::Foreign { .. }
            | UserKernelError::BadRelease { .. } => Fault::Source,
            UserKernelError::Unusable { .. }
            | UserKernelError::NoImage { .. }
            | UserKernelError::NoModules { .. } => Fault::Request,
            UserKernelError::DiskTooSmall { .. } => Fault::Infra,
        },
        KernelError::Package { .. } => Fault::Infra,
    }
}
