//! Searches with trials that are drawn by lot instead of run: what a search costs, and how often it is right.
//!
//! The search is the real one, [`super::decide()`]. What it is held against is a search that stays at each step until
//! it is sure, with the same belief about rates beforehand and the same confidence.

use super::bayes::Counts;
use super::decide::{Action, Observation, Place, Rules, Sums, Why, decide, passes_wanted};
use super::graph::Graph;
use super::search::{self, Mark, Next};

/// A graph whose culprit is known.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The commits.
    pub graph: &'a Graph,
    /// Index of the first bad one.
    pub culprit: usize,
    /// How often a trial of what has the bug fails.
    pub rate: f64,
    /// How often any trial fails by chance, in just the same way.
    pub noise: f64,
    /// The bug is there before the culprit, which mends it.
    pub find_fix: bool,
}

/// How good an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It names the culprit, and says that it is sure.
    Right,
    /// It names another, and says that it is sure.
    WrongButSure,
    /// It says that it is not sure, or stopped.
    Unsure,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How the search ended.
    pub end: End,
    /// Trials of the two ends, before the search.
    pub n_of_ends: u32,
    /// Trials in between.
    pub n: u32,
}

impl World<'_> {
    pub(crate) fn trial(&self, place: Place, lot: &mut fastrand::Rng) -> Observation {
        let is_new = match place {
            Place::OldEnd => false,
            Place::Subject(idx) => self.graph.ancestors(idx).contains(self.culprit),
        };
        let shows = is_new != self.find_fix && lot.f64() < self.rate;
        let fails = shows || self.noise > 0.0 && lot.f64() < self.noise;
        if fails { Observation::Failed } else { Observation::Passed }
    }
}

/// Trials that no search can do without, on average, to be right about one of `n` commits with this confidence when the
/// bug shows in `rate` of them: the bits that are wanted by what a trial tells at most. A trial is a use of a Z-channel
/// (what is good never fails), and knowing the answers does not make a channel wider (Shannon, "The zero error capacity
/// of a noisy channel", 1956); with a chance to be wrong fewer bits are wanted (Fano's inequality; Burnashev, "Data
/// transmission over a discrete channel with feedback", 1976).
pub fn least_trials(n: usize, rate: f64, confidence: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let bits = (n as f64).log2();
    let passes = 1.0 - rate;
    let of_a_trial = (1.0 + rate * passes.powf(passes / rate)).log2();
    let wrong = 1.0 - confidence;
    let doubt = [confidence, wrong].into_iter().filter(|p| *p > 0.0).map(|p| -p * p.log2()).sum::<f64>();
    ((confidence * bits - doubt) / of_a_trial).max(0.0)
}

/// A search as `bisect` makes it; `is_signed` if failures bear the kernel's own mark, which chance failures do not.
pub fn ours(world: World<'_>, rules: Rules, is_signed: bool, lot: &mut fastrand::Rng) -> Outcome {
    let mut trials: Vec<(Place, Observation)> = Vec::new();
    let (mut n_of_ends, mut n) = (0, 0);
    loop {
        let sums = Sums::of(world.graph, is_signed, trials.iter().map(|(place, seen)| (*place, seen)));
        match decide(world.graph, &sums, rules) {
            Action::Test(place, why) => {
                match why {
                    Why::ConfirmFailing | Why::ConfirmPassing => n_of_ends += 1,
                    Why::Search { .. } | Why::Verify => n += 1,
                }
                trials.push((place, world.trial(place, lot)));
            }
            Action::Stop(_) => return Outcome { end: End::Unsure, n_of_ends, n },
            Action::Found(found) => {
                let end = match (found.is_sure, found.first_new == [world.culprit]) {
                    (true, true) => End::Right,
                    (true, false) => End::WrongButSure,
                    (false, _) => End::Unsure,
                };
                return Outcome { end, n_of_ends, n };
            }
        }
    }
}

/// Failures of the failing end by which the plain way learns the rate.
const FAILURES_OF_END: u32 = 3;

/// The classic search that repeats each step until it fails, or passed so often that the whole search is right with the
/// same confidence. The failing end is tried until it has failed three times, and the passing end like a step.
pub fn until_sure(world: World<'_>, rules: Rules, lot: &mut fastrand::Rng) -> Outcome {
    let (failing, passing) = rules.ends(world.graph);
    let mut of_failing = Counts::default();
    while of_failing.failed < FAILURES_OF_END {
        match world.trial(failing, lot) {
            Observation::Failed => of_failing.failed += 1,
            Observation::Passed | Observation::Other(_) | Observation::Untestable(_) => {
                of_failing.passed += 1;
            }
        }
    }
    let n_steps = search::steps_left(world.graph.n_subjects());
    let wanted = passes_wanted(of_failing, (1.0 - rules.confidence) / f64::from(n_steps.max(1)));
    let (mut n_of_ends, mut n) = (of_failing.n(), 0);
    let fails = |place, n: &mut u32, lot: &mut fastrand::Rng| {
        (0..wanted).any(|_| {
            *n += 1;
            world.trial(place, lot) == Observation::Failed
        })
    };
    if fails(passing, &mut n_of_ends, lot) {
        return Outcome { end: End::Unsure, n_of_ends, n };
    }
    let mut marks = vec![None; world.graph.n_subjects()];
    marks[world.graph.tip()] = Some(Mark::New);
    let (failed, passed) = if world.find_fix { (Mark::Old, Mark::New) } else { (Mark::New, Mark::Old) };
    loop {
        match search::next(world.graph, &marks) {
            Next::Test(idx) => {
                let came = fails(Place::Subject(idx), &mut n, lot);
                marks[idx] = Some(if came { failed } else { passed });
            }
            Next::Found(found) => {
                let end = if found == [world.culprit] { End::Right } else { End::WrongButSure };
                return Outcome { end, n_of_ends, n };
            }
            Next::Contradiction => return Outcome { end: End::Unsure, n_of_ends, n },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_search_does_with_less_than_its_bits() {
        // A trial that always fails on what is bad tells one bit.
        assert!((least_trials(64, 1.0, 1.0) - 6.0).abs() < 1e-9);
        // The capacity of a Z-channel of 0.3 is 0.177 bit.
        assert!((least_trials(64, 0.3, 1.0) - 6.0 / 0.177).abs() < 0.1);
        assert!(least_trials(64, 0.3, 0.95) < least_trials(64, 0.3, 1.0));
        assert!(least_trials(1, 0.3, 0.95).abs() < 1e-9);
    }
}
