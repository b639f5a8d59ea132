//! What many runs came to: a line of JSON for each attempt that is over, appended and never changed.
//!
//! Schedules, flakiness and baselines are folded from it. Lossy on purpose: what a line does not say, the events
//! of its run do. Deliberately not here: the file itself, its lock and its place (xtask's).

use std::collections::{BTreeMap, HashSet};

use protocol::TestId;
use serde::{Deserialize, Serialize};

use crate::judge::judged::Judged;
use crate::record::RunRecord;
use crate::text::printable;

/// Version of a line; readers pass over lines of a newer one.
pub const FORMAT: u32 = 1;

/// How many of a test's newest attempts tell how long it takes.
const N_RECENT: usize = 5;

/// One attempt, for ever. Fields are only ever added to a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was over, wall clock, RFC 3339.
    pub at: String,
    /// The run; with `attempt`, names the line.
    pub run: String,
    /// Number of the attempt within its run.
    pub attempt: u32,
    /// Which test.
    pub test: TestId,
    /// The kernel as the user named it, `deb:6.12`.
    pub kernel: String,
    /// `uname -r`.
    pub release: String,
    /// Digest of the kernel's boot artifact.
    pub kernel_digest: String,
    /// Digest of the guest image.
    pub image_digest: String,
    /// `kvm` or `tcg`.
    pub accel: String,
    /// Processors of the VM; `None` if it never answered.
    pub vcpus: Option<u32>,
    /// Processors of the host.
    pub host_cpus: Option<u32>,
    /// VMs that the run had at a time: a test beside others takes longer.
    pub n_vms: Option<u32>,
    /// Name of the [`Outcome`](protocol::Outcome).
    pub outcome: String,
    /// Name of the [`Verdict`](crate::Verdict), as it was judged then.
    pub verdict: String,
    /// Of the test alone, milliseconds.
    pub test_ms: Option<u64>,
    /// From starting the VM to its end, milliseconds.
    pub vm_ms: u64,
    /// The signature's headline, printable.
    pub signature: Option<String>,
}

/// What a history file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Every line that could be read, oldest first.
    pub lines: Vec<HistoryLine>,
    /// Lines that were torn, damaged or of a newer version.
    pub n_passed_over: usize,
}

/// How long tests take under one accelerator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Newest last.
    by_release: BTreeMap<(TestId, String), Vec<u64>>,
    by_test: BTreeMap<TestId, Vec<u64>>,
}

impl HistoryLine {
    /// The line of an attempt that is over at `at`; nothing of one that is not, and nothing of one that was never
    /// planned.
    pub fn of(record: &RunRecord, judged: &Judged, at: &str) -> Option<HistoryLine> {
        let attempt = record.attempt(judged.attempt?)?;
        let (outcome, facts) = attempt.finished()?;
        let kernel = record.kernels.get(&attempt.kernel_idx)?;
        let host = |name: &str| record.run.host.get(name).and_then(|value| value.parse().ok());
        Some(HistoryLine {
            format: FORMAT,
            at: at.to_owned(),
            run: record.run.name.clone(),
            attempt: attempt.number,
            test: attempt.test.clone(),
            kernel: kernel.spec.clone(),
            release: kernel.release.clone(),
            kernel_digest: kernel.digest.clone(),
            image_digest: record.image.as_ref().map(|image| image.digest.clone()).unwrap_or_default(),
            accel: record.machine.as_ref().map(|machine| machine.accel.clone()).unwrap_or_default(),
            vcpus: attempt.guest.as_ref().map(|guest| guest.n_cpus),
            host_cpus: host("cpus"),
            n_vms: host("vms"),
            outcome: outcome.name().to_owned(),
            verdict: judged.verdict.name().to_owned(),
            test_ms: facts.test_ms,
            vm_ms: facts.vm_ms,
            signature: judged.signature.as_ref().map(|signature| printable(&signature.headline())),
        })
    }

    /// True if it tells how long the test takes.
    fn is_timed(&self) -> bool {
        !["interrupted", "infra"].contains(&self.outcome.as_str())
    }
}

impl History {
    /// Reads a history file's bytes. Total: what makes no sense is counted.
    pub fn parse(bytes: &[u8]) -> History {
        let mut history = History::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<HistoryLine>(line) {
                Ok(line) if line.format <= FORMAT => history.lines.push(line),
                Ok(_) | Err(_) => history.n_passed_over += 1,
            }
        }
        history
    }

    /// How long tests take under `accel`.
    pub fn durations(&self, accel: &str) -> Durations {
        let mut durations = Durations::default();
        for line in self.lines.iter().filter(|line| line.accel == accel && line.is_timed()) {
            let key = (line.test.clone(), line.release.clone());
            durations.by_release.entry(key).or_default().push(line.vm_ms);
            durations.by_test.entry(line.test.clone()).or_default().push(line.vm_ms);
        }
        durations
    }

    /// Those of `lines` that are not there yet, by run and attempt.
    pub fn lacks(&self, lines: Vec<HistoryLine>) -> Vec<HistoryLine> {
        let known: HashSet<_> = self.lines.iter().map(|line| (line.run.as_str(), line.attempt)).collect();
        lines.into_iter().filter(|line| !known.contains(&(line.run.as_str(), line.attempt))).collect()
    }
}

impl Durations {
    /// How long an attempt takes with its VM, milliseconds: the median of the newest ones on this kernel, or else
    /// on any (on one it may pass, on another hang); nothing of a test that is new.
    pub fn of(&self, test: &TestId, release: &str) -> Option<u64> {
        let on_it = self.by_release.get(&(test.clone(), release.to_owned()));
        let all = on_it.or_else(|| self.by_test.get(test))?;
        let mut recent: Vec<u64> = all.iter().rev().take(N_RECENT).copied().collect();
        recent.sort_unstable();
        recent.get(recent.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn line(run: &str, attempt: u32, test: &str, release: &str, vm_ms: u64) -> HistoryLine {
        let (record, judged) = testing::sample();
        let plain = HistoryLine::of(&record, &judged[0], "2026-11-22T17:06:00Z").unwrap();
        let test = TestId::new("lvm2", test).unwrap();
        HistoryLine { run: run.into(), attempt, test, release: release.into(), vm_ms, ..plain }
    }

    fn bytes(lines: &[HistoryLine]) -> Vec<u8> {
        lines.iter().flat_map(|line| serde_json::to_vec(line).unwrap().into_iter().chain([b'\n'])).collect()
    }

    #[test]
    fn a_line_says_what_an_attempt_came_to() {
        let (record, judged) = testing::hung();
        let line = HistoryLine::of(&record, &judged[0], "2026-11-22T17:06:00Z").unwrap();
        assert_eq!((line.outcome.as_str(), line.verdict.as_str()), ("hang", "hung"));
        assert_eq!((line.release.as_str(), line.accel.as_str()), ("6.1.0-56-cloud-amd64", "tcg"));
        assert_eq!((line.host_cpus, line.test_ms), (Some(2), Some(88_000)));
        assert!(line.signature.as_ref().unwrap().contains("md_stop"), "{line:?}");
        assert_eq!(History::parse(&bytes(std::slice::from_ref(&line))).lines, [line]);
    }

    #[test]
    fn what_is_not_over_has_no_line() {
        let (record, judged) = testing::sample();
        let lines: Vec<_> = judged.iter().filter_map(|judged| HistoryLine::of(&record, judged, "")).collect();
        let finished = record.attempts.iter().filter(|attempt| attempt.finished().is_some()).count();
        assert_eq!(lines.len(), finished);
    }

    #[test]
    fn torn_lines_are_passed_over_and_counted() {
        let lines = [line("a", 1, "x", "6.12", 1), line("a", 2, "x", "6.12", 2)];
        let whole = bytes(&lines);
        // Killed in the middle of a line, and another run appended since.
        let torn = [&whole[..], &whole[..40], b"\n", &whole[..]].concat();
        let history = History::parse(&torn);
        assert_eq!((history.lines.len(), history.n_passed_over), (4, 1));
        let newer = String::from_utf8(whole).unwrap().replace("\"format\":1", "\"format\":2");
        assert_eq!(History::parse(newer.as_bytes()).n_passed_over, 2);
    }

    #[test]
    fn a_duration_is_the_median_of_the_newest_on_this_kernel_or_else_on_any() {
        let old = (0..10).map(|n| line("a", n, "x", "6.12", 1_000_000));
        let new = [10, 50, 30, 20, 40].map(|ms| line("b", 1, "x", "6.12", ms));
        let hung = line("c", 1, "x", "6.1", 9);
        let of_kvm = HistoryLine { accel: "kvm".into(), ..line("d", 1, "x", "6.12", 1) };
        let lost = HistoryLine { outcome: "infra".into(), ..line("e", 1, "x", "6.12", 1) };
        let lines: Vec<_> = old.chain(new).chain([hung, of_kvm, lost]).collect();
        let durations = History { lines, n_passed_over: 0 }.durations("tcg");
        let test = TestId::new("lvm2", "x").unwrap();
        assert_eq!(durations.of(&test, "6.12"), Some(30));
        assert_eq!(durations.of(&test, "6.1"), Some(9));
        assert_eq!(durations.of(&test, "7.3"), Some(30));
        assert_eq!(durations.of(&TestId::new("lvm2", "y").unwrap(), "6.12"), None);
    }

    #[test]
    fn no_attempt_is_kept_twice() {
        let history = History { lines: vec![line("a", 1, "x", "6.12", 1)], n_passed_over: 0 };
        let lacking = history.lacks(vec![line("a", 1, "x", "6.12", 1), line("a", 2, "x", "6.12", 1)]);
        assert_eq!(lacking.iter().map(|line| line.attempt).collect::<Vec<_>>(), [2]);
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = History::parse(&bytes);
        }
    }
}
