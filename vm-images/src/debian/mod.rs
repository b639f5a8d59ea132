//! Debian's archives: the packages that a root, a kernel or a build is made of, and how they get here.
//!
//! The host's apt does the fetching and the checking of signatures ([`apt`]); the lock file says which files
//! count ([`lock`], [`pins`]). Deliberately not here: what is made of the files.

pub(crate) mod acquire;
pub mod apt;
pub(crate) mod conf;
pub mod error;
pub mod kernels;
pub mod lock;
pub mod mirror;
pub mod package;
pub(crate) mod pins;
pub mod roots;
pub(crate) mod sources;
pub(crate) mod unpack;
