//! What boots: kernels, the guest's root, the tools that make and run them, and the store that
//! keeps them.
//!
//! Everything is an artifact ([`store`]): built once from pinned inputs ([`lock`]), without root
//! rights where the host allows it, and without touching the host's own package state ([`apt`]).
//! Nothing here knows what a test is, or runs a VM.

mod acquire;
pub mod apt;
mod build_folder;
mod bzimage;
pub mod checkout;
pub mod digest;
mod enclosed;
pub mod enclosure;
pub mod git;
mod guest_root;
pub mod handover;
pub mod host;
mod ids;
pub mod images;
mod initramfs;
pub mod janitor;
pub mod kbuild;
mod kernel_files;
pub mod kernel_spec;
pub mod lock;
pub mod mirror;
pub mod modules;
mod origin;
pub mod overlay;
pub mod own_kernel;
pub mod own_spec;
pub mod package;
mod pins;
pub mod plant;
pub mod progress;
pub mod replacement;
mod shared_fs;
mod source_files;
pub mod store;
pub mod store_space;
pub mod tools;
mod unpack;
