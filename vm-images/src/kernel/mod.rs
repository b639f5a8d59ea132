//! Kernels: Debian's, those that the user brings, and Debian's with other modules in the place of some.

pub(crate) mod bootable;
pub(crate) mod bzimage;
pub(crate) mod debian;
pub mod error;
pub(crate) mod files;
pub(crate) mod headers;
pub mod kbuild;
pub mod modules;
pub mod overlay;
pub mod plant;
pub mod replacement;
pub(crate) mod user;
pub(crate) mod version;

use std::path::Path;

use crate::build::workshop::Workshop;
use crate::spec::KernelSpec;

pub use bootable::Kernel;
use error::KernelError;

/// The kernel that `spec` names, ready to boot; `plants` is the folder of the plants.
pub(crate) fn make(workshop: &Workshop<'_>, plants: &Path, spec: &KernelSpec) -> Result<Kernel, KernelError> {
    match spec {
        KernelSpec::Debian { base, overlay: None } => debian::make(workshop, base),
        KernelSpec::Debian { base, overlay: Some(overlay) } => {
            overlay::make(workshop, plants, debian::make(workshop, base)?, spec, overlay)
        }
        KernelSpec::User(spec) => user::make(workshop, spec),
    }
}
