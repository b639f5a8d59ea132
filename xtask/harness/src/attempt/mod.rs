//! One attempt: one test in one guest, from the VM's start to its end.
//!
//! [`state`] is the state machine: it gets inputs with their time and gives effects, does no I/O and reads no
//! clock, so that a recorded run can be judged again without a VM, and every way for an attempt to end is a
//! test of a few lines. [`drive`] feeds it a VM's inputs and carries its effects out.
//!
//! In the order of an attempt's life: [`phase`] (how far it is, and the data of each phase), [`guest`]
//! (greeting, console, kernel log, files, power-off), [`running`] (the test runs), [`leftovers`] (what it
//! left behind), [`ending`] (files, dump, power-off), [`lost`] (the guest no longer speaks).
//!
//! Parts that know nothing of attempts: [`progress`] tells a hang from slowness by the guest's samples,
//! [`heartbeat`] a lost guest from one that the host lets starve, [`share`] a stall of the kernel's from one
//! of the host's; [`output`], [`corruption`] and [`trace`] read the test's output; [`kernel_log`] and
//! [`taint`] the kernel's log; [`interrogation`] and [`suspicion`] ask a guest from outside; [`evidence`]
//! keeps the answers.
//!
//! Deliberately not here: how the guest's words and the hypervisor's get here ([`crate::machine`]).

pub(crate) mod corruption;
pub mod drive;
#[cfg(test)]
mod drive_tests;
mod dump;
mod effect;
mod ending;
mod evidence;
mod guest;
mod heartbeat;
mod interrogation;
pub(crate) mod kernel_log;
mod leftovers;
mod lost;
pub(crate) mod output;
mod phase;
mod progress;
mod running;
mod share;
mod state;
mod suspicion;
mod taint;
#[cfg(test)]
mod tests;
mod trace;

pub(crate) use effect::{Effect, TimeLimits};
pub(crate) use state::AttemptState;
