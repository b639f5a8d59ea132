//! Checks of normal runs: the suites' data, the canaries, lvm2's tests, the accelerator.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use harness::machine::accel::AccelChoice;
use harness::run::finished::FinishedRun;
use harness::session::Session;
use harness::suite::Suite;
use reports::Verdict;
use reports::record::AttemptState;

use super::{Scratch, run};

pub(super) fn suite_data_matches_the_guest(session: &Session) -> Result<()> {
    let apt = session.apt()?;
    let guest = session.images(&apt)?.guest()?;
    for name in ["lvm2", "mdadm"] {
        let list = guest.path(&format!("{name}-tests.txt"));
        let text =
            fs::read_to_string(&list).with_context(|| format!("failed to read `{}`", list.display()))?;
        let installed: BTreeSet<_> = text.lines().collect();
        let suite = Suite::read(&harness::workspace::workspace().join("suites").join(name))?;
        let known: BTreeSet<_> = suite.tests.keys().map(String::as_str).collect();
        let unknown: Vec<_> = installed.difference(&known).collect();
        let gone: Vec<_> = known.difference(&installed).collect();
        ensure!(unknown.is_empty(), "{name}: installed, but not in suite.toml: {unknown:?}");
        ensure!(gone.is_empty(), "{name}: in suite.toml, but not installed: {gone:?}");
    }
    Ok(())
}

/// Canaries that pass while the kernel reports something.
const COMPLAINED_OF: [&str; 3] = ["must-warn-in-kernel", "must-warn-muted", "must-warn-in-flood"];

/// Checks that each canary came out as it must.
pub(super) fn as_they_must(ran: &FinishedRun) -> Result<()> {
    for judged in &ran.judged {
        // A met expectation is a known failure, or an expected skip or warning.
        let as_it_must = match &judged.expectation {
            Some(expectation) => expectation.met,
            // These pass with complaints, because of the kernel's log.
            None if COMPLAINED_OF.contains(&judged.test.name()) => {
                judged.verdict == Verdict::PassedWithComplaints
            }
            None => judged.verdict == Verdict::Passed,
        };
        ensure!(as_it_must, "{} came out {}: {}", judged.test, judged.verdict, judged.explanation());
    }
    Ok(())
}

pub(super) fn canaries(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let ran = run(session, &out, "canary", &[], AccelChoice::Auto)?;
    as_they_must(&ran)?;
    let attempt = |name: &str| {
        let found = ran.record.attempts.iter().find(|attempt| attempt.test.name() == name);
        found.with_context(|| format!("canary {name} was not run"))
    };
    let log = |name: &str, file: &str| -> Result<Vec<u8>> {
        let path = ran.dir.join(&attempt(name)?.dir).join(file);
        fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))
    };
    let facts = |name: &str| match &attempt(name)?.state {
        AttemptState::Finished { facts, .. } => Ok(facts.clone()),
        AttemptState::NotStarted | AttemptState::Running => bail!("canary {name} did not finish"),
    };

    let flood = log("must-flood", "output.log")?;
    ensure!(flood.starts_with(b"first\n") && flood.ends_with(b"last\n"), "a flood lost its head or tail");
    ensure!(flood.len() < 20_000_000, "a flood's log grew to {} bytes", flood.len());
    let facts_of_flood = facts("must-flood")?;
    ensure!(
        facts_of_flood.output_bytes == 1_000_000_012,
        "a flood was counted as {}",
        facts_of_flood.output_bytes
    );
    ensure!(facts_of_flood.output_dropped > 0, "a flood dropped nothing");
    for name in ["must-freeze", "must-halt", "must-livelock-alone"] {
        let evidence = log(name, "host-evidence.txt")?;
        ensure!(String::from_utf8_lossy(&evidence).contains("RIP="), "{name}: no registers");
        let told = attempt(name)?.stacks.first().with_context(|| format!("{name} brings no stack"))?;
        let is_ours = told.frames.iter().any(|frame| frame.contains("[mdr_canary]"));
        ensure!(is_ours && told.of_test, "{name}: the first stack is {:?} of {}", told.frames, told.comm);
    }
    let stuck = attempt("must-hang")?;
    let told = stuck.stacks.first().context("a hang brings no stack")?;
    ensure!(told.comm == "dd" && told.state == 'D', "a hang's first stack is that of {}", told.comm);
    let test_ms = facts("must-hang")?.test_ms.unwrap_or_default();
    ensure!(test_ms < 30_000, "a hang was seen after {test_ms} ms");
    let list = String::from_utf8_lossy(&log("must-hang", "files.txt")?).into_owned();
    ensure!(list.contains("hang-stacks.txt") && list.contains("hang-mdstat.txt"), "no evidence: {list}");
    let survivors = facts("must-orphan")?.survivors;
    ensure!(
        survivors.iter().any(|survivor| survivor.comm == "sleep"),
        "an orphan went unseen: {survivors:?}"
    );
    ensure!(log("must-pass", "files/0")? == b"kept\n", "a file did not come back");
    for file_idx in 0..6 {
        let content = log("must-name-files-oddly", &format!("files/{file_idx}"))?;
        ensure!(content == b"kept\n", "a file with an odd name came back as {content:?}");
    }
    let line = facts("must-print-one-line")?.output_bytes;
    ensure!(line == 30_000_000, "an endless line was counted as {line}");
    let descriptors = String::from_utf8_lossy(&log("must-pass", "output.log")?).into_owned();
    // Exit code 3 is that of `ls`, which cannot read the folder.
    ensure!(
        descriptors.split_whitespace().eq(["0", "1", "2", "3"]),
        "descriptors leak into tests: {descriptors}"
    );
    let console = log("must-crash", "console.log")?;
    ensure!(String::from_utf8_lossy(&console).contains("Kernel panic"), "the panic is not on the console");
    Ok(())
}

pub(super) fn lvm2_tests_run(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let ran = run(session, &out, "lvm2", &["000-basic", "unit-test", "component-raid"], AccelChoice::Auto)?;
    for judged in &ran.judged {
        ensure!(
            judged.verdict == Verdict::Passed,
            "{}: {} {}",
            judged.test,
            judged.verdict,
            judged.explanation()
        );
    }
    Ok(())
}

pub(super) fn kvm(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    match run(session, &out, "canary", &["must-pass"], AccelChoice::Kvm) {
        Ok(ran) => {
            ensure!(ran.judged.iter().all(|judged| judged.verdict == Verdict::Passed), "KVM boots no test")
        }
        Err(error) => {
            ensure!(error.to_string().contains("--accel kvm cannot work here: "), "unclear: {error:#}")
        }
    }
    Ok(())
}
