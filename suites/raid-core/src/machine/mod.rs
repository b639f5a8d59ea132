//! The machine that the port runs on: the flag words and structures of md and dm, the members' data, and the
//! operations that a step consists of.

pub mod bits;
pub mod data;
pub mod disk;
pub mod names;
pub mod state;
