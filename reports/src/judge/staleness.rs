//! Which expectations have become stale: they held for the last attempts of a test, and none of these met
//! them.
//!
//! Pure: past attempts come in one by one, oldest first, and each is looked at once. A stale expectation is
//! remarked and fails nothing: what it expects may only be rare. Deliberately not here: where past attempts
//! are kept ([`crate::history`]).

use std::collections::BTreeMap;

use protocol::TestId;

use crate::judge::expectations::{Expectation, Expectations, KernelFacts};

/// Attempts without the expected outcome that make an expectation stale, unless somebody says otherwise.
pub const STALE_AFTER: usize = 10;

/// An attempt of the past, as far as expectations go by it.
#[derive(Clone, Copy, Debug)]
pub struct PastAttempt<'a> {
    /// Which test.
    pub test: &'a TestId,
    /// On which kernel.
    pub kernel: KernelFacts<'a>,
    /// When it was over, RFC 3339.
    pub at: &'a str,
    /// The expectation that it met.
    pub met: Met<'a>,
}

/// Which expectation an attempt met, as far as that was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met<'a> {
    /// None of them.
    None,
    /// One of them, of whatever outcome.
    Some,
    /// One with this outcome, `hang`.
    Outcome(&'a str),
}

/// What past attempts say of expectations.
#[derive(Clone, Debug)]
pub struct Staleness<'a> {
    expectations: &'a BTreeMap<String, Expectations>,
    /// By the suite's entry, by its number in the file.
    tallies: BTreeMap<(&'a str, usize), BTreeMap<TestId, Tally>>,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    /// Since it was met last.
    n_missed: usize,
    /// When the first of these was over.
    since: String,
    last_met: Option<String>,
}

/// An expectation about one test that its last attempts did not meet.
#[derive(Clone, Debug)]
pub struct Stale<'a> {
    /// The expectation.
    pub entry: &'a Expectation,
    /// Which of its tests.
    pub test: TestId,
    /// How many attempts in a row did not meet it.
    pub n_missed: usize,
    /// When the first of these was over, RFC 3339.
    pub since: String,
    /// When the last one that met it was over; `None` if none ever did.
    pub last_met: Option<String>,
}

impl<'a> Staleness<'a> {
    /// Nothing has been seen yet. Expectations are by suite.
    pub fn new(expectations: &'a BTreeMap<String, Expectations>) -> Self {
        Staleness { expectations, tallies: BTreeMap::new() }
    }

    /// Takes the next attempt, newer than all before. Where an expectation did not hold, it says nothing of
    /// it.
    pub fn take(&mut self, past: &PastAttempt<'_>) {
        let Some((suite, expectations)) = self.expectations.get_key_value(past.test.suite()) else { return };
        for (entry_idx, entry) in expectations.entries().iter().enumerate() {
            if !entry.is_about(past.test) || !entry.holds_on(past.kernel) {
                continue;
            }
            let is_met = match past.met {
                Met::None => false,
                Met::Some => true,
                Met::Outcome(outcome) => entry.outcome.name() == outcome,
            };
            let of_entry = self.tallies.entry((suite.as_str(), entry_idx)).or_default();
            let tally = match of_entry.get_mut(past.test) {
                Some(tally) => tally,
                None => of_entry.entry(past.test.clone()).or_default(),
            };
            if is_met {
                *tally = Tally { last_met: Some(past.at.to_owned()), ..Tally::default() };
            } else {
                if tally.n_missed == 0 {
                    past.at.clone_into(&mut tally.since);
                }
                tally.n_missed += 1;
            }
        }
    }

    /// The expectations that the last `n_attempts` or more did not meet, by suite and in the order of its
    /// file, each for every test that this is true of.
    pub fn stale(self, n_attempts: usize) -> Vec<Stale<'a>> {
        let Staleness { expectations, tallies } = self;
        let of_entry = tallies.into_iter().flat_map(|((suite, entry_idx), tests)| {
            let entry = &expectations[suite].entries()[entry_idx];
            tests.into_iter().map(move |(test, Tally { n_missed, since, last_met })| Stale {
                entry,
                test,
                n_missed,
                since,
                last_met,
            })
        });
        of_entry.filter(|stale| stale.n_missed >= n_attempts.max(1)).collect()
    }
}

impl Stale<'_> {
    /// One line for people.
    pub fn sentence(&self) -> String {
        let Stale { entry, test, n_missed, since, last_met } = self;
        let before = match last_met {
            Some(at) => format!("met last {at}"),
            None => "never met before".to_owned(),
        };
        let attempts = if *n_missed == 1 { "attempt".to_owned() } else { format!("{n_missed} attempts") };
        format!(
            "stale expectation {}: the last {attempts} of {test} did not come to `{}`, since {since}; {before}",
            entry.place, entry.outcome
        )
    }
}

#[cfg(test)]
#[path = "staleness_tests.rs"]
mod tests;
