//! Hostile guests: everything that reads what a guest, QEMU or a damaged disk can send is held
//! against what none of them should send.
//!
//! Two ways: real recorded streams with damage done to them ([`mutate`]), and messages that are each
//! sound and together make no sense ([`hostile`]). A failing case is shrunk and printed, and its seed is
//! kept in `xtask/harness/proptest-regressions/`, which is committed and tried first from then on; a find that
//! says something by itself becomes a plain test beside what it broke.
//!
//! `cargo test` tries a few hundred cases of each; ARCHITECTURE.md says how to try for hours. There
//! is no guidance by coverage here: that takes a nightly compiler.

mod attempt;
mod console;
mod events;
mod files;
mod hostile;
mod mutate;
mod wire;

use proptest::test_runner::Config;

/// One case of these costs as much as `n` of the others: the number of cases that the environment
/// asks for (`PROPTEST_CASES`) is divided by it.
fn costly(n: u32) -> Config {
    let config = Config::default();
    Config { cases: config.cases.div_ceil(n), ..config }
}

/// What a real run said: see `xtask/harness/testdata/README.md`.
mod recorded {
    pub(super) const AGENT: &[u8] = include_bytes!("../../testdata/guest/agent.jsonl");
    pub(super) const FILES: &[u8] = include_bytes!("../../testdata/guest/files.jsonl");
    pub(super) const CONSOLE: &[u8] = include_bytes!("../../testdata/guest/console.log");
    pub(super) const QMP: &[u8] = include_bytes!("../../testdata/guest/qmp.jsonl");
    pub(super) const EVENTS: &[u8] = include_bytes!("../../testdata/run/events.jsonl");
    /// The session and the attempt of the two ports.
    pub(super) const SESSION: u64 = 15_256_043_113_302_592_361;
    pub(super) const ATTEMPT: u32 = 4;
}
