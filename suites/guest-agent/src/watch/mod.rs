//! Watching the guest while a test runs: who moves, what gets done, who waits for which device; and once it
//! hangs, writing down where everything stands.
//!
//! All of it runs in processes of its own ([`witness`]), because each look may wait for a lock that a hang
//! holds. Deliberately not here: what standing still means, which is the harness's business.

pub(crate) mod answers;
pub(crate) mod ask;
pub(crate) mod diagnose;
pub(crate) mod disks;
pub(crate) mod ends;
pub(crate) mod mdstat;
pub(crate) mod sampler;
pub(crate) mod sleeps;
pub(crate) mod syncs;
pub(crate) mod task;
pub(crate) mod waits;
pub(crate) mod witness;
