//! Checks of repeated tries, and of runs that are cut off and resumed, on real guests.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use harness::run::finished::read_record;
use harness::run::options::Options;
use harness::run::tries::Times;
use harness::session::Session;
use protocol::Event;
use reports::record::RunEnd;
use reports::{RunRecord, Verdict};
use rustix::process::Signal;

use super::other_xtask::OtherXtask;
use super::{Scratch, options, run_with, wait_until};

/// A run that is killed in the middle and resumed has the same results as one that was not.
pub(super) fn resume(session: &Session) -> Result<()> {
    let tests = ["must-pass", "must-fail", "must-skip", "must-warn", "must-orphan"];
    let undisturbed = run_with(session, &options(&Scratch::new(session)?, "canary", &tests)?)?;
    let out = Scratch::new(session)?;
    let file = out.0.join("history.jsonl");
    let words = ["test", "--suite", "canary", "-j", "1", "--out"].map(str::to_owned);
    let folders = [out.0.display().to_string(), "--history".into(), file.display().to_string()];
    let xtask = OtherXtask::new(session);
    let mut started =
        xtask.start(&out, words.iter().chain(&folders).cloned().chain(tests.map(str::to_owned)))?;
    let events = || out.0.join("latest/events.jsonl");
    // In the middle: some attempts are over, one runs.
    let is_in_the_middle = || {
        let log = reports::read_events(&events()).map(|log| log.records).unwrap_or_default();
        let count = |is: fn(&Event) -> bool| log.iter().filter(|record| is(&record.event)).count();
        let n_over = count(|event| matches!(event, Event::AttemptFinished { .. }));
        n_over >= 2 && count(|event| matches!(event, Event::VmStarting { .. })) > n_over
    };
    wait_until("it is in the middle", || session.host.cancel().is_cancelled() || is_in_the_middle())?;
    started.signal(Signal::KILL)?;
    started.child.wait().context("failed to wait for the run")?;
    let resume = ["test", "--resume", "--out"].map(str::to_owned).into_iter().chain([folders[0].clone()]);
    xtask.run(&out, resume)?.expect(0, &[])?;
    let record = read_record(&fs::canonicalize(out.0.join("latest"))?)?;
    ensure!(record.end == RunEnd::Finished, "the resumed run did not come to its end");
    let outcomes = |record: &RunRecord| {
        let outcome = |attempt: &reports::record::Attempt| {
            (attempt.test.clone(), attempt.finished().map(|(outcome, _)| outcome.clone()))
        };
        record.attempts.iter().map(outcome).collect::<BTreeMap<_, _>>()
    };
    ensure!(
        outcomes(&record) == outcomes(&undisturbed.record),
        "a resumed run came to something else: {:?}, not {:?}",
        outcomes(&record),
        outcomes(&undisturbed.record)
    );
    let history = reports::history::read(&file)?;
    ensure!(history.lines.len() == tests.len(), "the history has {} lines", history.lines.len());
    // Resuming a finished run does nothing.
    let resume = ["test", "--resume", "--out"].map(str::to_owned).into_iter().chain([folders[0].clone()]);
    xtask.run(&out, resume)?.expect(0, &[])?;
    ensure!(reports::history::read(&file)?.lines.len() == tests.len(), "a whole run was run again");
    Ok(())
}

/// Repeated and retried tests have one verdict, and logs of each try.
pub(super) fn tries(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let script = out.0.join("fails.sh");
    fs::write(&script, "exit 1\n")?;
    let run = |times: Times| {
        let options = options(&out, "canary", &[])?;
        run_with(session, &Options { times, scripts: vec![script.clone()], ..options })
    };
    for (times, n) in [
        (Times::new(Some(3), false, None, None), 3),
        (Times::new(None, false, None, Some(1)), 2),
        (Times::new(Some(9), true, None, None), 1),
    ] {
        let ran = run(times)?;
        let [judged] = ran.judged.as_slice() else { anyhow::bail!("not one verdict: {:?}", ran.judged) };
        ensure!(judged.verdict == Verdict::Failed, "it came out {}", judged.verdict);
        let n_attempts = ran.record.attempts.len();
        ensure!(n_attempts == n || (n == 1 && n_attempts < 9), "{times:?}: {n_attempts} attempts");
        for attempt in &ran.record.attempts {
            let log = ran.dir.join(&attempt.dir).join("kernel.log");
            ensure!(log.is_file(), "there is no `{}`", log.display());
        }
    }
    Ok(())
}
