//! Kernels: Debian's, the user's own, and Debian's with other modules.

pub(crate) mod bzimage;
pub(crate) mod files;
pub mod kbuild;
pub mod modules;
pub mod overlay;
pub mod plant;
pub mod replacement;
pub mod user;
