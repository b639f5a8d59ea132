//! Programs that the agent runs for the harness: how they are started, supervised, listened to and ended.
//!
//! From the bottom up: [`spawn`] starts any process, [`launch`] prepares a program and becomes it, [`life`]
//! decides when it is over, [`supervised`] carries that out, and [`test`] and [`shell`] are the two kinds of
//! program.

pub(crate) mod cgroup;
pub(crate) mod launch;
pub(crate) mod life;
pub(crate) mod modules;
pub(crate) mod output;
pub(crate) mod report;
pub(crate) mod shell;
pub(crate) mod spawn;
pub(crate) mod supervised;
pub(crate) mod test;
