//! Why Debian's archives could not give what was asked for.

use crate::debian::apt::AptError;
use crate::debian::package::RemoteFile;

/// Why packages could not be chosen or fetched.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// apt could not find or fetch packages.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// No such kernel.
    #[error("the mirror {mirror} has no kernel `{spec}`; {}", offer(similar))]
    NoKernel {
        /// The kernel as it was named.
        spec: String,
        /// Base of the mirror's main archive.
        mirror: String,
        /// Specs of the kernels that are named most like it.
        similar: Vec<String>,
    },
    /// No such version of a source package.
    #[error("the mirror {mirror} has no source of {name} {version}; it has {}", offered.join(", "))]
    NoVersion {
        /// Name of the source package.
        name: &'static str,
        /// The version as it was named.
        version: String,
        /// Base of the mirror's main archive.
        mirror: String,
        /// The versions that there are.
        offered: Vec<String>,
    },
    /// A kernel without the packages that its modules are built from.
    #[error(
        "the mirror {mirror} has no {what} of kernel {release}, version {version}: modules cannot be built for it; \
         take a newer kernel of its branch"
    )]
    NotOffered {
        /// `headers` or `source`.
        what: &'static str,
        /// `uname -r`.
        release: String,
        /// Version of the kernel's package.
        version: String,
        /// Base of the mirror's main archive.
        mirror: String,
    },
}

fn offer(similar: &[String]) -> String {
    let all = "`cargo xtask kernel list` shows all";
    if similar.is_empty() { all.to_owned() } else { format!("it has {}; {all}", similar.join(", ")) }
}

/// The error of making something from packages, which tells when it is for want of some of them.
pub(crate) trait MayMissFiles: From<DebianError> {
    /// The files that the mirror no longer has, if that is the error.
    fn missing(&self) -> Option<&[RemoteFile]>;
}

impl MayMissFiles for DebianError {
    fn missing(&self) -> Option<&[RemoteFile]> {
        match self {
            DebianError::Apt(AptError::Missing { missing, .. }) => Some(missing),
            DebianError::Apt(_)
            | DebianError::NoKernel { .. }
            | DebianError::NoVersion { .. }
            | DebianError::NotOffered { .. } => None,
        }
    }
}
