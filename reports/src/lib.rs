//! What md-regress tells about a run.
//!
//! Four rooms, in the order of the pipeline; each knows only those before it:
//! - [`record`]: the events of a run, folded into a [`RunRecord`]: facts, no judgement;
//! - [`judge`](mod@judge): what the facts mean: signatures, known issues, expectations, verdicts, the run's
//!   result;
//! - [`history`]: what many runs came to, a line an attempt;
//! - [`render`]: the reports for a terminal, a browser, a CI server, a script and a mailing list.
//!
//! Below all of them lie [`faults`], the table of what each kind of kernel report makes of a test, with what
//! a user may change of it ([`Policy`], part of the record), and [`text`], which makes text fit to show.
//!
//! Nothing here reads a clock, starts a process or knows QEMU, so a finished run can be judged again
//! anywhere. Only [`record::events`], [`history::file`] and [`render::write`](mod@render::write) touch files.
//!
//! Invariant: all text that a guest may have written goes through [`text::printable`] before it
//! reaches any report.

pub mod faults;
pub mod history;
pub mod judge;
pub mod record;
pub mod render;
#[cfg(test)]
mod testing;
pub mod text;

pub use faults::Policy;
pub use judge::attempt::judge_one;
pub use judge::expectations::Expectations;
pub use judge::judge;
pub use judge::judged::Judged;
pub use judge::known_issues::KnownIssues;
pub use judge::result::RunResult;
pub use judge::verdict::Verdict;
pub use record::RunRecord;
pub use record::events::read_events;
pub use record::fold::LiveRecord;
pub use render::write::{write_all, write_whole};
