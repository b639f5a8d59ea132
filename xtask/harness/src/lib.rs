//! The library: a run of tests from its options to its verdicts, and everything that is built on runs.
//!
//! The modules stand on floors: each imports only from floors below its own, and none beside it. The floors
//! are in `xtask/tidy/floors.toml`, and `cargo xtask tidy` checks them; from the lowest up:
//!
//! - basics: [`clock`], [`error`], [`terminal`], [`words`], [`workspace`], and [`session`] on them
//! - [`console`], the kernel's log classified; [`symbols`], frames to lines; [`machine`], QEMU
//! - [`suite`], the tests of a suite; [`event_log`], the record of a run; [`guest`], one guest that answers
//! - [`attempt`], one test in one guest, and the decision that it hangs
//! - [`run`]: choose, prepare, plan, begin or resume, carry out, judge
//! - users of runs: [`bisect`], [`model`], [`shell`]
//!
//! Deliberately not here: the command line, exit codes, benchmarks and checks on real guests (`xtask/src`).

pub mod clock;
pub mod error;
pub mod session;
pub mod terminal;
pub mod words;
pub mod workspace;

pub mod console;
pub mod machine;
pub mod symbols;

pub mod event_log;
pub mod guest;
pub mod suite;

pub mod attempt;

pub mod run;

pub mod bisect;
pub mod model;
pub mod shell;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod testing;
