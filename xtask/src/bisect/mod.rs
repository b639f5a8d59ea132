//! Names the commit that broke something, or mended it.
//!
//! Read in this order:
//! - [`history`] is what lies between the two ends, as a graph;
//! - [`search`] finds the first bad one where answers can be trusted, [`bayes`] where they are only likely;
//! - [`decide`] says what to do next, from all trials so far.
//!
//! All of these are pure, and [`simulate`] measures them with trials drawn by lot (`cargo xtask bench bisect`). No
//! command searches a real history by them yet.

#![allow(dead_code, reason = "what reads histories and runs trials is not here yet")]

pub(crate) mod bayes;
pub(crate) mod decide;
pub(crate) mod history;
pub(crate) mod search;
pub(crate) mod simulate;
