//! One guest: what became of it, the files that it hands over, and what of its logs is kept.

pub mod capped_log;
pub mod fate;
pub mod files;
