//! What md-regress tells about a run.
//!
//! Read in this order, which is the order of the pipeline:
//! - [`events`] reads `events.jsonl`, also one whose writer was killed;
//! - [`record`] folds the events into a [`RunRecord`]: facts, no judgement;
//! - [`signature`] names a hang or a crash by its stacks;
//! - [`expectations`] says what a suite is known to do, [`allowance`] what a test causes on purpose, [`known_issues`]
//!   which bugs are known, and [`kernel_version`] which kernels have them;
//! - [`faults`] is the table of what each kind of kernel report makes of a test, `came_to` puts it beside what the test
//!   says itself and what it left behind;
//! - [`verdict`] judges the record by them, [`tries`] makes several tries of a test one verdict, [`rate`] says what
//!   their number shows, and [`result`] what all verdicts come to;
//! - `findings` and `storage` put signature, known issues, stacks, and the state of md and dm into words;
//! - [`terminal`], [`summary`], [`junit`], [`verdicts_json`] and `mail` say it, to a person at a prompt, a
//!   person in a browser, a CI server, a script, and a mailing list;
//! - [`write`](mod@write) puts the files beside the events;
//! - [`recheck`] says what changed when a run is judged again;
//! - [`history`] keeps what many runs came to, a line an attempt.
//!
//! Only [`events::read_events`] and [`write`](mod@write) touch files. Nothing here reads a clock,
//! starts a process or knows QEMU, so a finished run can be judged again anywhere.
//!
//! Invariant: all text that a guest may have written goes through [`text::printable`] before it
//! reaches any report.

pub mod allowance;
mod came_to;
pub mod events;
pub mod expectations;
pub mod faults;
mod findings;
mod fold;
pub mod history;
pub mod junit;
pub mod kernel_version;
pub mod known_issues;
mod mail;
mod older;
pub mod rate;
pub mod recheck;
pub mod record;
pub mod reproduce;
pub mod result;
mod side_by_side;
pub mod signature;
mod storage;
pub mod summary;
pub mod terminal;
#[cfg(test)]
mod testing;
pub mod text;
pub mod tries;
pub mod verdict;
pub mod verdicts_json;
pub mod write;

pub use events::read_events;
pub use expectations::Expectations;
pub use faults::Policy;
pub use fold::LiveRecord;
pub use known_issues::KnownIssues;
pub use record::RunRecord;
pub use result::RunResult;
pub use verdict::{Judged, Verdict, judge, judge_one};
pub use write::{write_all, write_whole};
