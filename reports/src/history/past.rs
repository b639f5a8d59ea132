//! What the history says of expectations: its lines as attempts of the past, and which expectations they have
//! made stale.
//!
//! Deliberately not here: the decision ([`crate::judge::staleness`]).

use std::collections::BTreeMap;

use crate::history::file::History;
use crate::history::line::HistoryLine;
use crate::judge::expectations::{Expectations, KernelFacts};
use crate::judge::kernel_version::Version;
use crate::judge::staleness::{Met, PastAttempt, Stale, Staleness};
use crate::judge::verdict::Verdict;
use crate::record::Kernel;

impl History {
    /// The expectations, by suite, that the last `n_attempts` of a test did not meet. Each line is looked at
    /// once.
    pub fn stale<'a>(
        &self,
        expectations: &'a BTreeMap<String, Expectations>,
        n_attempts: usize,
    ) -> Vec<Stale<'a>> {
        let mut staleness = Staleness::new(expectations);
        for line in self.lines.iter().filter(|line| line.says_something()) {
            let version = line.version();
            let kernel = KernelFacts {
                release: Some(line.release.as_str()).filter(|release| !release.is_empty()),
                version: version.as_ref(),
            };
            staleness.take(&PastAttempt { test: &line.test, kernel, at: &line.at, met: line.met() });
        }
        staleness.stale(n_attempts)
    }
}

impl HistoryLine {
    /// True unless the attempt came to no end of its own.
    fn says_something(&self) -> bool {
        let silent = [Verdict::Infra, Verdict::Interrupted, Verdict::NotRun].map(Verdict::name);
        !silent.contains(&self.verdict.as_str())
    }

    /// Which expectation it met. Older lines do not say that; their verdict does, but not of which entry.
    fn met(&self) -> Met<'_> {
        let is_met = [Verdict::KnownFailure, Verdict::Flaky, Verdict::Skipped].map(Verdict::name);
        match &self.met {
            Some(outcome) => Met::Outcome(outcome),
            None if is_met.contains(&self.verdict.as_str()) => Met::Some,
            None => Met::None,
        }
    }

    /// The kernel's sources, if they can be known.
    fn version(&self) -> Option<Version> {
        Version::of(&Kernel {
            spec: self.kernel.clone(),
            exact_spec: String::new(),
            release: self.release.clone(),
            package_version: self.package_version.clone(),
            digest: String::new(),
        })
    }
}
