//! One guest: its session from the greeting on, how it ended, the files that it hands over, and its logs, of
//! which a bounded part is kept.

pub mod capped_log;
pub mod end;
pub mod files;
pub(crate) mod session;
