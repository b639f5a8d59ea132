//! The agent's link to the host: its ports, the kernel's log on its way out, files in both directions.
//!
//! Deliberately not here: the loop that decides what goes when ([`crate::serve`]).

pub(crate) mod collect;
pub(crate) mod inbox;
pub(crate) mod kmsg;
pub(crate) mod ports;
