//! Makes what a test VM boots: kernels, the guest's root, the tools that make and run them, and the store
//! that keeps them.
//!
//! Everything is an artifact ([`store`]): built once from pinned inputs ([`debian::lock`]), without root
//! rights where the host allows it, and without touching the host's own package state ([`debian::apt`]).
//! Nothing here knows what a test is, or runs a VM.

pub mod build;
pub mod debian;
pub mod error;
mod guest;
pub mod host;
pub mod images;
pub mod kernel;
pub mod spec;
pub mod store;

// The paths of before, until their users have moved.
pub use build::{enclosure, git, handover, tools};
#[expect(missing_docs, reason = "goes with its users")]
pub mod checkout {
    pub use crate::build::checkout::{Checkout, Sources};
    pub use crate::build::error::CheckoutError;
    pub use crate::build::project::Project;
}
pub use debian::{apt, lock, mirror, package};
pub use host::{janitor, progress};
pub use kernel::{kbuild, modules, overlay, plant, replacement};
#[expect(missing_docs, reason = "goes with its users")]
pub mod kernel_spec {
    pub use crate::debian::kernels::{DebianKernel, compare_versions};
    pub use crate::spec::debian::{DEFAULT_FLAVOUR, DebianSpec};
    pub use crate::spec::error::BadKernelSpec;
    pub use crate::spec::{KernelSpec, KernelSpecs, Overlay};
}
pub use store::{digest, space as store_space};
