//! Simulated searches with random trials: how many trials a search takes, and how often its answer is right.
//!
//! The decisions are the real ones, `super::decide::decide`. They are compared with a classic search that
//! repeats each step until it is sure, with the same prior of rates and the same confidence.

use super::bayes::Counts;
use super::decide::{NextStep, Observation, Position, Purpose, SearchRules, Sums, decide, passes_wanted};
use super::graph::Graph;
use super::search::{self, Mark, Next};

/// A graph with a known culprit.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The commits.
    pub graph: &'a Graph,
    /// Index of the first new commit.
    pub culprit: usize,
    /// Probability that a trial of a commit with the bug shows it.
    pub rate: f64,
    /// Probability that any trial fails by chance, in a way that looks the same.
    pub noise: f64,
    /// True if the bug exists before the culprit, which mends it.
    pub find_fix: bool,
}

/// Quality of a search's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerQuality {
    /// The answer names the culprit with certainty.
    Right,
    /// The answer names another commit with certainty.
    WrongButSure,
    /// The answer is uncertain, or the search stopped without one.
    Unsure,
}

/// The result and the cost of one simulated search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatedSearch {
    /// Quality of the answer.
    pub end: AnswerQuality,
    /// Trials of the two ends before the search.
    pub n_of_ends: u32,
    /// Trials after that.
    pub n: u32,
}

impl World<'_> {
    pub(crate) fn trial(&self, position: Position, lot: &mut fastrand::Rng) -> Observation {
        let is_new = match position {
            Position::OldEnd => false,
            Position::Subject(idx) => self.graph.ancestors(idx).contains(self.culprit),
        };
        let shows = is_new != self.find_fix && lot.f64() < self.rate;
        let fails = shows || self.noise > 0.0 && lot.f64() < self.noise;
        if fails { Observation::Failed } else { Observation::Passed }
    }
}

/// Average number of trials that any search needs to be right about one of `n` commits with this confidence,
/// when the bug shows in `rate` of the trials: bits of information wanted, divided by the most that a trial
/// can give. A trial is a use of a Z-channel (a good commit never fails). Feedback does not raise a channel's
/// capacity (Shannon, "The zero error capacity of a noisy channel", 1956), and an allowed error lowers the
/// number of bits (Fano's inequality; Burnashev, "Data transmission over a discrete channel with feedback",
/// 1976).
pub fn least_trials(n: usize, rate: f64, confidence: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let bits = (n as f64).log2();
    let passes = 1.0 - rate;
    let of_a_trial = (1.0 + rate * passes.powf(passes / rate)).log2();
    let wrong = 1.0 - confidence;
    let doubt = [confidence, wrong].into_iter().filter(|p| *p > 0.0).map(|p| -p * p.log2()).sum::<f64>();
    ((confidence * bits - doubt) / of_a_trial).max(0.0)
}

/// Simulates a search as `bisect` makes it. `is_signed` is true if failures have a kernel signature, which
/// chance failures have not.
pub fn ours(
    world: World<'_>,
    rules: SearchRules,
    is_signed: bool,
    lot: &mut fastrand::Rng,
) -> SimulatedSearch {
    let mut trials: Vec<(Position, Observation)> = Vec::new();
    let (mut n_of_ends, mut n) = (0, 0);
    loop {
        let sums = Sums::of(world.graph, is_signed, trials.iter().map(|(position, seen)| (*position, seen)));
        match decide(world.graph, &sums, rules) {
            NextStep::Test(position, why) => {
                match why {
                    Purpose::ConfirmFailing | Purpose::ConfirmPassing => n_of_ends += 1,
                    Purpose::Search { .. } | Purpose::Verify => n += 1,
                }
                trials.push((position, world.trial(position, lot)));
            }
            NextStep::Stop(_) => return SimulatedSearch { end: AnswerQuality::Unsure, n_of_ends, n },
            NextStep::Found(found) => {
                let end = match (found.is_sure, found.first_new == [world.culprit]) {
                    (true, true) => AnswerQuality::Right,
                    (true, false) => AnswerQuality::WrongButSure,
                    (false, _) => AnswerQuality::Unsure,
                };
                return SimulatedSearch { end, n_of_ends, n };
            }
        }
    }
}

/// Failures of the failing end from which the classic search learns the rate.
const FAILURES_OF_END: u32 = 3;

/// Simulates the classic search, which repeats each step until it fails, or has passed so often that the
/// whole search is right with the same confidence. It tries the failing end until that has failed three
/// times, and the passing end like any step.
pub fn until_sure(world: World<'_>, rules: SearchRules, lot: &mut fastrand::Rng) -> SimulatedSearch {
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
    let fails = |position, n: &mut u32, lot: &mut fastrand::Rng| {
        (0..wanted).any(|_| {
            *n += 1;
            world.trial(position, lot) == Observation::Failed
        })
    };
    if fails(passing, &mut n_of_ends, lot) {
        return SimulatedSearch { end: AnswerQuality::Unsure, n_of_ends, n };
    }
    let mut marks = vec![None; world.graph.n_subjects()];
    marks[world.graph.tip()] = Some(Mark::New);
    let (failed, passed) = if world.find_fix { (Mark::Old, Mark::New) } else { (Mark::New, Mark::Old) };
    loop {
        match search::next(world.graph, &marks) {
            Next::Test(idx) => {
                let came = fails(Position::Subject(idx), &mut n, lot);
                marks[idx] = Some(if came { failed } else { passed });
            }
            Next::Found(found) => {
                let end =
                    if found == [world.culprit] { AnswerQuality::Right } else { AnswerQuality::WrongButSure };
                return SimulatedSearch { end, n_of_ends, n };
            }
            Next::Contradiction => return SimulatedSearch { end: AnswerQuality::Unsure, n_of_ends, n },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_search_does_with_less_than_its_bits() {
        // A trial that always fails on a bad commit gives one bit.
        assert!((least_trials(64, 1.0, 1.0) - 6.0).abs() < 1e-9);
        // The capacity of a Z-channel of 0.3 is 0.177 bit.
        assert!((least_trials(64, 0.3, 1.0) - 6.0 / 0.177).abs() < 0.1);
        assert!(least_trials(64, 0.3, 0.95) < least_trials(64, 0.3, 1.0));
        assert!(least_trials(1, 0.3, 0.95).abs() < 1e-9);
    }
}
