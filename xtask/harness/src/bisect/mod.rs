//! Names the commit that broke something, or mended it.
//!
//! Words: a search has two ends, the *old* and the *new* one, of which one fails and the other passes. Its
//! *subjects* are the commits (or kernel builds) after the old end up to the new one. The answer is the
//! *first new* subject: the one that broke, or with `--find-fix` mended, what is searched for.
//!
//! Read in this order:
//! - [`graph`]: the subjects as a graph;
//! - [`search`]: finds the first new subject where each answer can be trusted, `bayes` where answers are
//!   only likely;
//! - [`observe`]: what the tests of one kernel showed; [`target`]: the failure that is searched for, and what
//!   a trial means for it;
//! - [`decide`]: what to do next, given all trials so far; [`state`]: the file that holds the trials;
//! - [`conduct`]: makes the trials, with [`trial`] and [`git`];
//! - [`exclusive`]: keeps a second process out of a search;
//! - [`report`]: the answer, for people.
//!
//! `conduct`, `trial`, `git`, `exclusive` and the state file do I/O; everything else is pure. [`simulate`]
//! measures searches with random trials. [`published`] makes Debian's builds into a graph. [`series`] is a
//! table of patches instead of a search, with `mailbox` for patches that came by mail.

pub(crate) mod bayes;
pub mod conduct;
pub mod decide;
pub mod exclusive;
pub mod git;
pub mod graph;
pub(crate) mod mailbox;
pub mod observe;
pub mod published;
pub mod report;
pub mod search;
pub mod series;
pub mod simulate;
pub mod state;
pub mod target;
pub mod trial;
