//! The guards of this work tree: what neither the compiler nor clippy checks.
//!
//! Each guard is a function of a [`tree::Tree`], the work tree in memory, and of [`settings::Settings`], and
//! gives [`complaint::Complaint`]s; a unit test in its file shows each of them fail. What the guards look at
//! is read by [`rust`] (modules and imports), [`pieces`] (comments and literals), [`markdown`] and
//! [`workspace`] (manifests).

pub mod circles;
pub mod cited;
pub mod command_lines;
pub mod complaint;
pub mod floors;
pub mod guards;
pub mod headers;
pub mod markdown;
pub mod packages;
pub mod pieces;
pub mod rust;
pub mod settings;
pub mod sizes;
pub mod tree;
pub mod widths;
pub mod workspace;
