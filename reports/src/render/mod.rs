//! The reports: what a judged run says to whom.
//!
//! - [`terminal`] to a person at a prompt, in some [`style`], with `side_by_side` for several kernels, and
//!   [`matrix`] for several runs;
//! - [`summary`] to a person in a browser, `mail` to a mailing list, [`junit`] to a CI server,
//!   [`verdicts_json`] to a script;
//! - [`recheck`] reads a `verdicts.json` again and says what changed since;
//! - [`write`](mod@write) puts the files beside the events;
//! - [`words`] are the lines that several reports share.
//!
//! Deliberately not here: any judgement. A report shows what [`judge`](mod@crate::judge) says, and
//! [`write`](mod@write) is the only file here that touches the disk.

pub mod junit;
pub(crate) mod mail;
pub mod matrix;
pub mod recheck;
pub(crate) mod side_by_side;
pub mod style;
pub mod summary;
pub mod terminal;
pub mod verdicts_json;
pub mod words;
pub mod write;
