//! Hostile guests: everything that reads data from a guest, from QEMU or from a damaged disk is tested with
//! data that none of them should send.
//!
//! There are two kinds: recorded streams that are damaged ([`mutate`]), and valid messages that make no sense
//! together ([`hostile`]). A failing case is shrunk and printed, and its seed is kept in
//! `xtask/harness/proptest-regressions/`, which is committed and tried first from then on. A case that is
//! telling by itself becomes a plain test beside the code that it broke.
//!
//! `cargo test` tries a few hundred cases of each; ARCHITECTURE.md says how to try for hours. Inputs are not
//! guided by coverage: that takes a nightly compiler.

mod attempt;
mod console;
mod events;
mod files;
mod hostile;
mod mutate;
mod wire;

use proptest::test_runner::Config;

/// A configuration for tests of which one case costs as much as `n` of others: the number of cases asked for
/// in the environment (`PROPTEST_CASES`) is divided by it.
fn costly(n: u32) -> Config {
    let config = Config::default();
    Config { cases: config.cases.div_ceil(n), ..config }
}

/// Recorded streams of a real run: see `xtask/harness/testdata/README.md`.
mod recorded {
    pub(super) const AGENT: &[u8] = include_bytes!("../../testdata/guest/agent.jsonl");
    pub(super) const FILES: &[u8] = include_bytes!("../../testdata/guest/files.jsonl");
    pub(super) const CONSOLE: &[u8] = include_bytes!("../../testdata/guest/console.log");
    pub(super) const QMP: &[u8] = include_bytes!("../../testdata/guest/qmp.jsonl");
    pub(super) const EVENTS: &[u8] = include_bytes!("../../testdata/run/events.jsonl");
    /// Session number of the recorded greeting.
    pub(super) const SESSION: u64 = 15_256_043_113_302_592_361;
    pub(super) const ATTEMPT: u32 = 4;
}
