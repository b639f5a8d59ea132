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
