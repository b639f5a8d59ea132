//! `cargo xtask bench hang`: the time from a test's last activity to the verdict and to the evidence, and the
//! cost of watching.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::machine::Tuning;
use harness::machine::accel::AccelChoice;
use harness::run::{self, Options};
use harness::session::Session;
use protocol::event::Record;
use protocol::{Event, Outcome};
use reports::record::{Attempt, AttemptState};

use super::{TEST, median, one, options, prepared};
use crate::bench::figures::{Figures, left, right};
use crate::exit::Exit;

/// A script that hangs in the way that its variable `how` names.
const STOPS: &str = include_str!("stops.sh");
/// Ways to hang, as `stops.sh` knows them.
const WAYS: [&str; 11] = [
    "a-read-of-a-suspended-device",
    "a-write-to-raid1",
    "a-write-while-the-test-polls",
    "a-write-while-the-test-prints",
    "a-write-under-timeout",
    "a-write-beside-a-busy-poll",
    "a-write-beside-io-elsewhere",
    "a-write-in-a-cgroup",
    "a-resync-while-the-test-polls",
    "mdadm-stop",
    "dm-raid-suspended-with-io-in-flight",
];

/// Promises: time from the last activity to the verdict (median and 95th percentile), then to the evidence,
/// seconds; CPU time of sampling, percent of a test's time. They are judged under either accelerator, and
/// were measured under emulation.
const VERDICT_MEDIAN_S: f64 = 10.0;
const VERDICT_P95_S: f64 = 20.0;
const EVIDENCE_MOST_S: f64 = 5.0;
const SAMPLING_PERCENT: f64 = 2.0;

/// Pairs of runs from which the cost of sampling is judged: with fewer it is only shown.
const PAIRS_TO_JUDGE: usize = 3;

/// Figures of a bench.
#[derive(Clone, Copy, Debug)]
struct HangFigures {
    verdict_median_s: f64,
    verdict_p95_s: f64,
    evidence_most_s: f64,
    /// CPU time of sampling, percent of a test's time; `None` if it was not measured often enough.
    sampling_percent: Option<f64>,
}

impl HangFigures {
    /// A line for each promise that was not kept. NaN counts as not kept.
    fn broken_promises(&self) -> Vec<String> {
        let promises = [
            ("the median to a verdict", Some(self.verdict_median_s), VERDICT_MEDIAN_S, "s"),
            ("the 95th percentile to a verdict", Some(self.verdict_p95_s), VERDICT_P95_S, "s"),
            ("the longest wait for the evidence", Some(self.evidence_most_s), EVIDENCE_MOST_S, "s"),
            ("the cost of sampling", self.sampling_percent, SAMPLING_PERCENT, "%"),
        ];
        let broken = promises.into_iter().filter_map(|(what, value, limit, unit)| {
            let value = value?;
            let is_kept = value <= limit;
            (!is_kept).then(|| format!("exceeded: {what} is {value:.1} {unit}, promised are {limit} {unit}"))
        });
        broken.collect()
    }
}

/// Times of one hang, seconds.
struct HangTimes {
    /// Time from the last activity to the verdict.
    verdict_s: f64,
    /// Time from the verdict to the complete evidence.
    evidence_s: f64,
    kind: String,
}

/// Hangs `n_rounds` times in each way; then runs one test with and without sampling, `n_pairs` times.
pub(super) fn hang(
    session: &Session,
    figures: &Figures,
    accel: AccelChoice,
    n_rounds: usize,
    n_pairs: usize,
) -> Result<Exit> {
    ensure!(n_rounds > 0, "nothing is measured in no rounds");
    let (_, accel) = prepared(session, figures, accel)?;
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(session.store.temporary())?;
    let (mut verdicts, mut evidence) = (Vec::new(), Vec::new());
    let columns = vec![
        left("the test stops in", 40),
        right("verdict, s", 12),
        right("evidence, s", 14),
        left("kind", 0),
    ];
    let ways = figures.table(format!("medians of {n_rounds}"), columns);
    for how in WAYS {
        let script = scratch.path().join(format!("{how}.sh"));
        fs::write(&script, with_way(how))
            .with_context(|| format!("failed to write `{}`", script.display()))?;
        let (mut of_way, mut of_evidence, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=n_rounds {
            session.terminal.timed(&format!("round {round} of {n_rounds}: {how}"));
            let found = stop(session, figures, accel, &script, &scratch.path().join("out"))?;
            of_way.push(found.verdict_s);
            of_evidence.push(found.evidence_s);
            kinds.push(found.kind);
        }
        kinds.sort();
        kinds.dedup();
        verdicts.extend(&of_way);
        evidence.extend(&of_evidence);
        let (verdict, evidence) = (median(&mut of_way), median(&mut of_evidence));
        let (verdict, evidence) = (format!("{verdict:.1}"), format!("{evidence:.1}"));
        ways.row([how.to_owned(), verdict, evidence, kinds.join(", ")]);
    }
    let columns = vec![
        left(format!("of {} hangs", verdicts.len()), 40),
        right("median, s", 12),
        right("p95, s", 14),
        right("most, s", 10),
    ];
    let all = figures.table("", columns);
    let spread = |what: &str, values: &mut Vec<f64>| {
        let median = median(values);
        let (p95, max) = (percentile(values, 95), percentile(values, 100));
        let shown = [median, p95, max].map(|seconds| format!("{seconds:.1}"));
        all.row([what.to_owned()].into_iter().chain(shown));
        (median, p95, max)
    };
    let (verdict_median_s, verdict_p95_s, _) = spread("from the last move to the verdict", &mut verdicts);
    let (_, _, evidence_most_s) = spread("from the verdict to the whole evidence", &mut evidence);
    let sampling_percent = cost(session, figures, accel, n_pairs)?;
    let measured = HangFigures { verdict_median_s, verdict_p95_s, evidence_most_s, sampling_percent };
    let broken = measured.broken_promises();
    broken.iter().for_each(|line| figures.note(line));
    Ok(if broken.is_empty() { Exit::Passed } else { Exit::TestsFailed })
}

/// The script with its variable set, before everything else: its first line may name an interpreter.
fn with_way(how: &str) -> String {
    format!("#!/bin/bash\nhow={how}\n{STOPS}")
}

fn stop(
    session: &Session,
    figures: &Figures,
    accel: AccelChoice,
    script: &Path,
    out: &Path,
) -> Result<HangTimes> {
    let options = Options { scripts: vec![script.to_owned()], ..options(accel, "lvm2", None, out)? };
    let ran = run::run(session, &options)?.context("no test was selected")?;
    figures.ran(&ran.record);
    let attempt = ran.record.attempts.first().context("nothing was tried")?;
    let AttemptState::Finished { outcome, facts } = &attempt.state else {
        anyhow::bail!("the test did not finish")
    };
    let Outcome::Hang { kind, .. } = outcome else {
        anyhow::bail!("{} came out as {}; logs: `{}`", attempt.test, outcome.detail(), ran.dir.display())
    };
    let moved_s = moved_s(&ran.dir, attempt)?;
    let seconds = |ms: u64| ms as f64 / 1000.0;
    // Counted from the agent's answer to the verdict; the test starts a little later.
    let test_ms = facts.test_ms.context("the test was not timed")?;
    let begun_ms = begun_ms(&ran.dir)?;
    let evidence_ms = facts.evidence_ms.context("the evidence did not become complete")?;
    Ok(HangTimes {
        verdict_s: seconds(test_ms.saturating_sub(begun_ms)) - moved_s,
        evidence_s: seconds(evidence_ms),
        kind: format!("{kind:?}"),
    })
}

/// Duration of the test's activity, by its own output.
fn moved_s(run: &Path, attempt: &Attempt) -> Result<f64> {
    let log = run.join(&attempt.dir).join("output.log");
    let output = fs::read_to_string(&log).with_context(|| format!("failed to read `{}`", log.display()))?;
    let said = output.lines().find_map(|line| line.strip_prefix("stops after ")?.strip_suffix(" s"));
    let said = said.with_context(|| format!("the test did not say when it stops: `{}`", log.display()))?;
    said.parse().with_context(|| format!("`{said}` is no time"))
}

/// Time from the agent's answer to the test's start, milliseconds.
fn begun_ms(run: &Path) -> Result<u64> {
    let text = fs::read_to_string(run.join("events.jsonl")).context("failed to read events.jsonl")?;
    let (mut ready, mut started) = (None, None);
    for record in text.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok()) {
        match record.event {
            Event::VmReady { .. } => ready = Some(record.at_ms),
            Event::TestStarted { .. } => started = Some(record.at_ms),
            _ => {}
        }
    }
    let times = ready.zip(started).context("the test did not start")?;
    Ok(times.1.saturating_sub(times.0))
}

/// Cost of watching a test that works all the time, percent of its time: CPU time of sampling by the guest's
/// own accounting, and the difference to the same test unwatched.
fn cost(session: &Session, figures: &Figures, accel: AccelChoice, n_pairs: usize) -> Result<Option<f64>> {
    let one = |tuning| one(session, figures, accel, "lvm2", TEST, tuning);
    let (mut watched, mut unwatched, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=n_pairs {
        session.terminal.timed(&format!("pair {pair} of {n_pairs}: {TEST}"));
        let with = one(Tuning::default())?;
        let sampling_s = with.sampling_s.context("the guest did not say what sampling cost")?;
        shares.push(100.0 * sampling_s / with.test_s);
        watched.push(with.test_s);
        unwatched.push(one(Tuning { unwatched: true, ..Tuning::default() })?.test_s);
    }
    if n_pairs == 0 {
        return Ok(None);
    }
    let (with, without, share) = (median(&mut watched), median(&mut unwatched), median(&mut shares));
    figures.group(format!("{TEST}, medians of {n_pairs}"));
    figures.value("watched", format!("{with:.1} s"));
    figures.value("unwatched", format!("{without:.1} s"));
    figures.value("ratio", format!("{:.3}", with / without));
    figures.value("processor time of the sampler", format!("{share:.2} % of the test's time"));
    Ok((n_pairs >= PAIRS_TO_JUDGE).then_some(share))
}

/// The value that `percent` % of all do not exceed (nearest rank).
fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let mut values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert!((percentile(&mut values, 95) - 19.0).abs() < f64::EPSILON);
        assert!((percentile(&mut values, 100) - 20.0).abs() < f64::EPSILON);
        assert!((percentile(&mut [3.0], 95) - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_promise_that_is_not_kept_is_named() {
        let good = HangFigures {
            verdict_median_s: 9.5,
            verdict_p95_s: 20.0,
            evidence_most_s: 2.0,
            sampling_percent: Some(1.9),
        };
        assert_eq!(good.broken_promises(), Vec::<String>::new());
        let slow = HangFigures { verdict_p95_s: 21.26, sampling_percent: Some(2.5), ..good };
        assert_eq!(
            slow.broken_promises(),
            [
                "exceeded: the 95th percentile to a verdict is 21.3 s, promised are 20 s",
                "exceeded: the cost of sampling is 2.5 %, promised are 2 %"
            ]
        );
        assert!(HangFigures { sampling_percent: None, ..good }.broken_promises().is_empty());
        let nothing = HangFigures { verdict_median_s: f64::NAN, ..good };
        assert_eq!(nothing.broken_promises().len(), 1, "nothing measured");
    }

    #[test]
    fn every_way_is_one_that_the_script_knows() {
        for how in WAYS {
            assert!(STOPS.contains(&format!("    {how})\n")), "{how}");
        }
    }
}
