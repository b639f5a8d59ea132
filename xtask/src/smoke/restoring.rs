//! Snapshots: a restored guest is as good as a booted one, and a guest that cannot be restored is booted.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use harness::run::finished::FinishedRun;
use harness::run::options::Options;
use harness::session::Session;
use protocol::event::AttemptFacts;
use reports::record::{Attempt, AttemptState};

use super::{Scratch, options, run_with};

/// A test that prints the guest's clock, and random bytes.
const TEST: &str = "show-clock-and-dice";

pub(super) fn restored_is_as_good_as_booted(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let mut dice = Vec::new();
    for snapshots in [true, true, false] {
        let ran = run_with(session, &Options { snapshots, ..options(&out, "canary", &[TEST])? })?;
        let (attempt, facts) = only_attempt(&ran)?;
        ensure!(
            facts.restored == snapshots,
            "asked for a snapshot: {snapshots}; used one: {}",
            facts.restored
        );
        let log = |name: &str| fs::read_to_string(ran.dir.join(&attempt.dir).join(name));
        let kernel_log = log("kernel.log")?;
        ensure!(kernel_log.contains("Linux version "), "the kernel's log lacks the boot");
        let output = log("output.log")?;
        let (clock, rolled) = output.split_once('\n').context("the test printed too little")?;
        // The time at which it was printed, not the present time.
        let printed = fs::metadata(ran.dir.join(&attempt.dir).join("output.log"))?.modified()?;
        let host = printed.duration_since(UNIX_EPOCH)?.as_secs();
        let off = host.abs_diff(clock.parse()?);
        ensure!(off < 10, "the guest's clock is off by {off} s");
        dice.push(rolled.to_owned());
    }
    dice.sort();
    dice.dedup();
    ensure!(dice.len() == 3, "guests draw the same random numbers");
    Ok(())
}

pub(super) fn damaged(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let options = options(&out, "canary", &[TEST])?;
    run_with(session, &options)?;
    let state = newest_state(session)?;
    let mut file = OpenOptions::new().write(true).open(&state)?;
    // The header describes the rest of the file.
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&[0xff; 4096])?;
    drop(file);
    let ran = run_with(session, &options)?;
    let (attempt, facts) = only_attempt(&ran)?;
    ensure!(!facts.restored, "a guest was restored from garbage");
    let said = attempt.remarks.iter().any(|remark| remark.text.contains("could not be restored"));
    ensure!(said, "nothing says that a boot took the snapshot's place: {:?}", attempt.remarks);
    ensure!(!state.exists(), "a damaged snapshot was kept");
    Ok(())
}

fn only_attempt(ran: &FinishedRun) -> Result<(&Attempt, &AttemptFacts)> {
    let attempt = ran.record.attempts.first().context("nothing was tried")?;
    match &attempt.state {
        AttemptState::Finished { facts, .. } => Ok((attempt, facts)),
        AttemptState::NotStarted | AttemptState::Running => bail!("{} did not finish", attempt.test),
    }
}

/// The snapshot that was used last.
fn newest_state(session: &Session) -> Result<PathBuf> {
    let snapshots = fs::read_dir(session.store.root().join("snapshots"))?.flatten();
    let used = |folder: &PathBuf| fs::metadata(folder.join("artifact.json")).and_then(|data| data.modified());
    let newest = snapshots.map(|entry| entry.path()).max_by_key(|folder| used(folder).ok());
    Ok(newest.context("no snapshot was made")?.join("state"))
}
