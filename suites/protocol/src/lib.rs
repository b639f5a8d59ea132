//! Words shared by the harness, its reports and its guests.
//!
//! Three layers, none of which does I/O or reads a clock:
//! - [`test_id`]: the name of a test;
//! - [`wire`] and [`codec`]: requests and messages between harness and guest agent over virtio-serial, as
//!   JSON lines of bounded length; [`program`] is a program to run, [`shell`] and [`window`] carry a shell,
//!   [`sample`] is a look at the guest's tasks, [`last_words`] a line for the console where there are no
//!   ports;
//! - [`outcome`], [`evidence`], [`storage_state`] and [`event`]: what happened, as `events.jsonl` keeps it;
//!   [`frames`] knows which frames of a stack are md's or dm's.
//!
//! Deliberately not here: verdicts. What an outcome *means* is judged later, in `reports`.

pub mod codec;
pub mod event;
pub mod evidence;
pub mod frames;
pub mod last_words;
pub mod outcome;
pub mod program;
pub mod sample;
pub mod shell;
pub mod storage_state;
pub mod test_id;
pub mod window;
pub mod wire;

pub use event::{Event, Record};
pub use outcome::{HangKind, Outcome};
pub use test_id::TestId;
