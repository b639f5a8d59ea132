//! Searches with trials that are drawn by lot instead of run: what a search costs, and how often it is right.
//!
//! The search is the real one, [`super::decide()`]. What it is held against is a search that stays at each step until
//! it is sure, with the same knowledge of the rate and the same confidence.

use super::bayes::Counts;
use super::decide::{Action, Observation, Place, Rules, Sums, decide, passes_wanted};
use super::history::History;
use super::search::{self, Mark, Next};

/// A history whose culprit is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World<'a> {
    pub(crate) history: &'a History,
    pub(crate) culprit: usize,
    /// How often a trial of what has the bug fails.
    pub(crate) rate: f64,
    /// The bug is there before the culprit, which mends it.
    pub(crate) find_fix: bool,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) is_right: bool,
    /// Trials of the two ends, which are the same for both searches.
    pub(crate) n_of_ends: u32,
    /// Trials in between.
    pub(crate) n: u32,
}

impl World<'_> {
    pub(crate) fn trial(&self, place: Place, lot: &mut fastrand::Rng) -> Observation {
        let is_new = match place {
            Place::OldEnd => false,
            Place::Subject(idx) => self.history.ancestors(idx).contains(self.culprit),
        };
        let fails = is_new != self.find_fix && lot.f64() < self.rate;
        if fails { Observation::Failed } else { Observation::Passed }
    }
}

/// A search as `bisect` makes it.
pub(crate) fn ours(world: World<'_>, rules: Rules, lot: &mut fastrand::Rng) -> (Outcome, Counts) {
    let mut trials: Vec<(Place, Observation)> = Vec::new();
    let mut at_ends = Counts::default();
    let (mut n_of_ends, mut n) = (0, 0);
    loop {
        let sums = Sums::of(world.history, trials.iter().map(|(place, seen)| (*place, seen)));
        match decide(world.history, &sums, rules) {
            Action::Test(place, why) => {
                use super::decide::Why;
                match why {
                    Why::ConfirmFailing | Why::ConfirmPassing => n_of_ends += 1,
                    Why::Search { .. } | Why::Verify => n += 1,
                }
                let seen = world.trial(place, lot);
                if why == Why::ConfirmFailing {
                    match seen {
                        Observation::Failed => at_ends.failed += 1,
                        Observation::Passed => at_ends.passed += 1,
                        Observation::Other(_) | Observation::Untestable(_) => {}
                    }
                }
                trials.push((place, seen));
            }
            Action::Stop(_) => return (Outcome { is_right: false, n_of_ends, n }, at_ends),
            Action::Found(found) => {
                let is_right = found.first_new == [world.culprit];
                return (Outcome { is_right, n_of_ends, n }, at_ends);
            }
        }
    }
}

/// The classic search that repeats each step until it fails, or passed so often that the whole search is right with the
/// same confidence. `at_ends` is what both know of the rate.
pub(crate) fn until_sure(
    world: World<'_>,
    rules: Rules,
    at_ends: Counts,
    lot: &mut fastrand::Rng,
) -> Outcome {
    let n_steps = search::steps_left(world.history.len());
    let wanted = passes_wanted(at_ends, (1.0 - rules.confidence) / f64::from(n_steps.max(1)));
    let mut marks = vec![None; world.history.len()];
    marks[world.history.tip()] = Some(Mark::New);
    let (failed, passed) = if world.find_fix { (Mark::Old, Mark::New) } else { (Mark::New, Mark::Old) };
    let mut n = 0;
    loop {
        match search::next(world.history, &marks) {
            Next::Test(idx) => {
                marks[idx] = Some(passed);
                for _ in 0..wanted {
                    n += 1;
                    if world.trial(Place::Subject(idx), lot) == Observation::Failed {
                        marks[idx] = Some(failed);
                        break;
                    }
                }
            }
            Next::Found(found) => return Outcome { is_right: found == [world.culprit], n_of_ends: 0, n },
            Next::Contradiction => return Outcome { is_right: false, n_of_ends: 0, n },
        }
    }
}
