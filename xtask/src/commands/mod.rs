//! One file a command: each turns parsed options into calls, and says what came of them.

pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod update;
