//! The port: kernel functions as numbered steps, with upstream's names. Each says which function of
//! which version it follows, and which switch changes what in it.
//!
//! Left out, because no scenario's verdict hangs on it: the safemode timer, clusters, the bitmap (but that it
//! is written), the journal, rcu, reference counts of modules, sysfs notifications, read-ahead, discards,
//! batches.

pub(crate) mod dm;
pub(crate) mod dm_raid;
pub(crate) mod md_io;
pub(crate) mod md_recovery;
pub(crate) mod md_stop;
pub(crate) mod md_thread;
pub(crate) mod raid10;
pub(crate) mod raid5;
pub(crate) mod raid5_io;
pub(crate) mod step;

pub use crate::machine::names::F;
