//! The library: a run of tests from its options to its verdicts, and everything that is built on runs.
//!
//! The modules stand on floors; each imports only from floors below its own (`cargo xtask tidy`):
//!
//! 1. basics: [`error`], [`clock`], [`words`], [`workspace`], [`terminal`], [`session`]
//! 2. the machine and its output: [`machine`], [`console`], [`symbols`]
//! 3. [`suite`]: the tests of a suite; [`guest`]: one guest and its files; [`event_log`]
//! 4. [`attempt`]: one test in one guest, and the decision that it hangs
//! 5. [`run`]: choose, prepare, plan, begin or resume, carry out, judge
//! 6. users of runs: [`shell`], [`model`], [`bisect`]
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
