//! The control logic of md and dm-raid, ported to Rust step by step, and explored exhaustively: which
//! interleavings of daemon, worker, sync thread, ioctls and IO hang, corrupt data or break a rule, in
//! which kernel, and which patch ends it.
//!
//! # The life of a sync thread
//!
//! 1. Somebody wants a sync: sets `MD_RECOVERY_NEEDED` and wakes the array's daemon (raid5d).
//! 2. The daemon sees NEEDED in `md_check_recovery`, sets RUNNING and queues `sync_work`; since v6.7 the
//!    worker chooses in `md_start_sync`, under `reconfig_mutex`, what is to be done, and registers the
//!    sync thread; before, the daemon chose and the worker only registered.
//! 3. The sync thread works in `md_do_sync`. Done or interrupted (INTR), it sets DONE and wakes the daemon.
//! 4. The daemon sees DONE, reaps the thread in `md_reap_sync_thread`, clears RUNNING, sets NEEDED once
//!    more "to double check", and wakes `resync_wait`.
//!
//! To stop a sync thread, a task sets INTR, wakes the thread, and waits until RUNNING is clear. Each hang of
//! the series "[PATCH v2 00/11] dm-raid: fix v6.7 regressions" (the v2 series, docs/md/series-v2.md) is one
//! of these steps that never comes: the thread returns without DONE, the daemon does not look because the
//! array is suspended or read-only, or the thread was never woken in a way that it heeds. [`kernel`] has the
//! functions, [`era`] the patches that changed them, [`scenario`] who does what; [`explore`] tries
//! everything, [`story`] tells what it found.
//!
//! # What is modelled
//!
//! One step is one bit operation, lock operation, wait, wake, member IO or superblock write. `wait_event`
//! goes on if its condition holds, and else sleeps until a wake; a wake makes all sleepers look again.
//! Three wakes are kept apart: `md_wakeup_thread` (a flag and a wake), `wake_up_process` (only a second
//! look) and `kthread_stop`. There is no memory model and there are no timers.
//!
//! # What is found
//!
//! | word | what it means | how it is found |
//! |---|---|---|
//! | DL | a user waits, and nobody can go on (I1) | a state without a step |
//! | livelock | a task goes on for ever, a user is never done or spins (I2) | a cycle without a way out |
//! | DC | a read, or a restart, gives what was not written last (I7, I8) | each state is looked at |
//! | V | another of the invariants I3 to I13, I15 or I17 is broken | by the step that breaks it |
//! | churn | the sync thread comes and goes until a user acts | a component that can be left |
//!
//! The invariants and their numbers are in docs/md/invariants.md, the scenarios in docs/md/scenarios.md.
//!
//! Three windows of a few instructions would be in most cells (I8 at a reshape's end, I14, I16): they are
//! shown, but not part of a verdict ([`table::counts`]).
//!
//! A walk ([`explore::walk`]) takes one interleaving after the other where there are too many states; its
//! hangs are those that fair turns for everybody do not end. Package raid-explorer gives the same steps to
//! stateright. Data are real ([`machine::disk`]): each member's block says which version of which logical
//! block it holds.
//!
//! It depends on no other crate of this project, and it does no I/O.

mod cpu;
pub mod era;
pub mod explore;
pub mod kernel;
pub mod machine;
pub mod scenario;
pub mod story;
pub mod table;
