//! The guards of this work tree: what neither the compiler nor clippy checks.

pub mod circles;
pub mod complaint;
pub mod rust;
pub mod tree;
