//! The history: what many runs came to, a line of JSON for each attempt that is over, appended and never
//! changed.
//!
//! Schedules, flakiness and baselines are folded from it. Lossy on purpose: what a line does not say, the
//! events of its run do. [`line`](mod@line) is one attempt, [`file`](mod@file) keeps the lines, [`durations`]
//! tells how long tests take, [`past`] which expectations are stale.

pub mod durations;
pub mod file;
pub mod line;
pub mod past;
#[cfg(test)]
mod tests;

pub use durations::Durations;
pub use file::{History, append, read};
pub use line::HistoryLine;
