//! Names the commit that broke something, or mended it.
//!
//! Read in this order:
//! - [`graph`] is what lies between the two ends, as a graph;
//! - [`search`] finds the first bad one where answers can be trusted, [`bayes`] where they are only likely;
//! - [`target`] says what a trial means: only the failure of the failing end counts;
//! - [`decide`] says what to do next, from all trials so far, and [`state`] is the file that holds them;
//! - [`conduct`] does it, by [`trial`] and [`git`];
//! - [`exclusive`] keeps a second process away from it;
//! - [`report`] says what came of it.
//!
//! All but the last but one, and reading and writing the state, are pure; [`simulate`] measures them with trials drawn
//! by lot. [`published`] is Debian's builds as a graph, [`series`] a table of patches instead of a search, with
//! [`mailbox`] for those that came by mail, [`planted`] a graph whose answer is known, [`options`] the command lines.

pub(crate) mod bayes;
pub mod conduct;
pub mod decide;
pub mod exclusive;
pub mod git;
pub mod graph;
pub(crate) mod mailbox;
pub mod published;
pub mod report;
pub mod search;
pub mod series;
pub mod simulate;
pub mod state;
pub mod target;
pub mod trial;
