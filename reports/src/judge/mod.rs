//! What a record means: verdicts, and all that they are derived from.
//!
//! In the order in which an attempt is judged:
//! - [`allowance`] and [`expectations`] say what a test causes on purpose and what it is known to do;
//! - [`came_to`] puts what the kernel reported, and what the test left behind, beside what the test says itself;
//! - [`signature`] names a hang or a crash by its stacks; [`known_issues`] recognises known bugs by them, and
//!   [`kernel_version`] says which kernels have these;
//! - [`verdict`] judges each attempt by all of this;
//! - [`tries`] makes several tries of a test one verdict, [`rate`] says what their number shows;
//! - [`result`] is what all verdicts of a run come to.
//!
//! Pure, so that a finished run can be judged again by newer expectations and known issues. Deliberately not here:
//! how verdicts are shown ([`crate::render`]), and comparison with earlier runs.

pub mod allowance;
pub(crate) mod came_to;
pub mod expectations;
pub mod kernel_version;
pub mod known_issues;
pub mod rate;
pub mod result;
pub mod signature;
pub mod tries;
pub mod verdict;
