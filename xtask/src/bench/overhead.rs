//! `cargo xtask bench overhead`: what listening to a test costs it, and what a flood of output costs the
//! harness.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::machine::Tuning;
use harness::machine::accel::AccelChoice;
use harness::run::Options;
use harness::session::Session;
use harness::suite::suite_named;

use super::{RunTimes, TEST, measure, median, one, options, peak_memory_mb, prepared, scratch};
use crate::bench::figures::Figures;
use crate::exit::Exit;

/// Compares a test that the harness listens to with the same test writing to a file in the guest.
pub(super) fn overhead(
    session: &Session,
    figures: &Figures,
    accel: AccelChoice,
    pairs: usize,
) -> Result<Exit> {
    ensure!(pairs > 0, "nothing is measured in no pairs");
    let (_, accel) = prepared(session, figures, accel)?;
    let (mut ours, mut plain, mut around) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=pairs {
        session.terminal.timed(&format!("pair {pair} of {pairs}: {TEST}"));
        let with_us = one(session, figures, accel, "lvm2", TEST, Tuning::default())?;
        ours.push(with_us.test_s);
        around.push(with_us.around_s);
        plain.push(one_unheard(session, figures, accel, TEST)?.test_s);
    }
    let (ours, plain, around) = (median(&mut ours), median(&mut plain), median(&mut around));
    figures.group(format!("{TEST}, medians of {pairs}"));
    figures.value("with output streamed to the harness", format!("{ours:.2} s"));
    figures.value("output to a file in the guest", format!("{plain:.2} s"));
    figures.value("ratio", format!("{:.3}", ours / plain));
    let share = 100.0 * around / ours;
    figures.value("around the test (start, files, power off)", format!("{around:.2} s, {share:.2} % of it"));
    session.terminal.timed("a test that prints 1 GB");
    let flood = one(session, figures, accel, "canary", "flood-a-gigabyte", Tuning::default())?;
    figures.group("a test that prints 1 GB");
    figures.value("its time", format!("{:.2} s", flood.test_s));
    figures.value("peak memory of xtask", format!("{} MB", peak_memory_mb()?));
    Ok(Exit::Passed)
}

/// Runs a test with its output going to a file in the guest, so that nobody listens until it ends.
fn one_unheard(session: &Session, figures: &Figures, accel: AccelChoice, test: &str) -> Result<RunTimes> {
    let out = scratch(session)?;
    let script = out.path().join("unheard.sh");
    let line =
        format!("exec bash -noprofile -norc /usr/share/lvm2-testsuite/{test} >/run/unheard.log 2>&1\n");
    fs::write(&script, line).with_context(|| format!("failed to write `{}`", script.display()))?;
    let needs = format!("silence={}s", suite_named("lvm2")?.example()?.test_timeout.as_secs());
    let plain = options(accel, "lvm2", None, out.path())?;
    measure(session, figures, &Options { scripts: vec![script], script_needs: Some(needs), ..plain })
}
