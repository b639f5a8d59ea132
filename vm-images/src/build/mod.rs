//! The parts that all builds share: where sources come from, the folder that a build goes on in, the
//! enclosure that keeps a stranger's makefile from the host, and the hand-over of what it made.
//!
//! Deliberately not here: what is built ([`crate::kernel`], [`crate::guest`]).

pub mod checkout;
pub(crate) mod enclosed;
pub mod enclosure;
pub mod error;
pub(crate) mod failure;
pub(crate) mod files;
pub(crate) mod folder;
pub mod git;
pub mod handover;
pub(crate) mod ids;
pub(crate) mod listing;
pub(crate) mod origin;
pub mod project;
pub mod tools;
pub mod workshop;
