//! How long tests take, as the history tells.

use std::collections::BTreeMap;

use protocol::TestId;

use crate::history::file::History;
use crate::history::line::HistoryLine;

/// How many of a test's newest attempts tell how long it takes.
const N_RECENT: usize = 5;

/// How long tests take under one accelerator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Newest last.
    by_release: BTreeMap<(TestId, String), Vec<u64>>,
    by_test: BTreeMap<TestId, Vec<u64>>,
}

impl History {
    /// How long tests take under `accel`.
    pub fn durations(&self, accel: &str) -> Durations {
        let mut durations = Durations::default();
        for line in self.lines.iter().filter(|line| line.accel == accel && is_timed(line)) {
            let key = (line.test.clone(), line.release.clone());
            durations.by_release.entry(key).or_default().push(line.vm_ms);
            durations.by_test.entry(line.test.clone()).or_default().push(line.vm_ms);
        }
        durations
    }
}

impl Durations {
    /// How long an attempt takes with its VM, milliseconds: the median of the newest ones on this kernel, or
    /// else on any (on one it may pass, on another hang); nothing of a test that is new.
    pub fn of(&self, test: &TestId, release: &str) -> Option<u64> {
        let on_it = self.by_release.get(&(test.clone(), release.to_owned()));
        let all = on_it.or_else(|| self.by_test.get(test))?;
        let mut recent: Vec<u64> = all.iter().rev().take(N_RECENT).copied().collect();
        recent.sort_unstable();
        recent.get(recent.len() / 2).copied()
    }
}

/// True if the line tells how long its test takes: it came to an end of its own.
fn is_timed(line: &HistoryLine) -> bool {
    !["interrupted", "infra"].contains(&line.outcome.as_str())
}
