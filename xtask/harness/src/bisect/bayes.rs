//! The search where a test fails only sometimes: how likely each subject is the first new one, given all
//! trials, and which trial would tell most. Pure.
//!
//! Two unknown rates belong to it: how often the bug shows in a kernel that has it, and how often the test
//! fails by chance, bug or not. Both are learnt from all trials, mostly those of the two ends, and integrated
//! out together rather than estimated. A kernel with the bug fails when the bug shows or chance strikes, so
//! it never fails more rarely than one without. Half of the belief goes to a bug that always shows, so that a
//! reliable test needs no repeats. It also stays possible that no subject changed anything: then the bug is
//! older than the passing end, or was never mended.

use std::collections::BTreeMap;

use fixedbitset::FixedBitSet;
use statrs::function::beta::ln_beta;

use super::graph::Graph;

/// Prior probability that a test which fails at all fails every time.
const RELIABLE: f64 = 0.5;
/// Prior of the rate of a test that fails only sometimes: Beta(1, 2), so rare failures are likelier. A test
/// that nearly always fails can hardly be told from one that always does, which is the other half of the
/// belief.
pub(crate) const FAILS: (f64, f64) = (1.0, 2.0);
/// Prior probability that no subject made a difference. It is small: whoever starts a search has seen the
/// ends differ.
const NONE_CHANGED: f64 = 0.03;
/// Smallest information gain for which a trial is made, bits.
const GAIN_MIN: f64 = 1e-6;
/// Probabilities below this are left out of sums.
const NEGLIGIBLE: f64 = 1e-12;
/// Natural logarithm of `NEGLIGIBLE`, roughly.
const LN_NEGLIGIBLE: f64 = -30.0;
/// Number of rates at which the bug may show that are summed over, besides "always".
const N_RATES: u32 = 32;
/// Number of chance-failure rates that are summed over.
const N_CHANCES: u32 = 28;
/// Lowest chance-failure rate; a lower one cannot be told from zero.
const CHANCE_MIN: f64 = 1e-5;
/// Highest chance-failure rate: a test that fails by chance more often tells nothing.
const CHANCE_MAX: f64 = 0.6;

/// Prior of the rate at which a test fails by chance: a beta distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chance {
    a: f64,
    b: f64,
}

impl Chance {
    /// Chance-failure rate if the user gives none and the failure has no kernel signature.
    pub(crate) const USUAL: f64 = 0.03;
    /// Prior for a failure with a kernel signature (stack or report), which another bug hardly shares: one in
    /// a thousand, with the weight of a thousand trials.
    pub(crate) const SIGNED: Chance = Chance { a: 1.0, b: 999.0 };
    /// Weight of the user's rate, in failures seen. Half a failure is as much as Jeffreys' prior knows.
    const FAILURES_KNOWN: f64 = 0.5;

    /// A prior with mean `rate`, wide enough that the true rate may be zero or several times as high.
    pub(crate) fn about(rate: f64) -> Chance {
        Chance { a: Chance::FAILURES_KNOWN, b: Chance::FAILURES_KNOWN * (1.0 - rate) / rate }
    }
}

/// Numbers of trials of one subject that failed and that passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Trials that failed in the way that is searched for.
    pub(crate) failed: u32,
    pub(crate) passed: u32,
}

impl Counts {
    /// Number of trials that either failed or passed; others tell nothing.
    pub(crate) fn n(self) -> u32 {
        self.failed + self.passed
    }
}

/// All trials of a search, as input of Bayes' rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrialData<'a> {
    pub(crate) graph: &'a Graph,
    /// Trials of the old end, which is no subject.
    pub(crate) old_end: Counts,
    /// Trials of each subject, by index.
    pub(crate) counts: &'a [Counts],
    /// True for each subject that cannot be tested, by index.
    pub(crate) untestable: &'a [bool],
    /// True if the new end fails. False if the old end fails and the search is for what mended it.
    pub(crate) new_fails: bool,
    /// Prior of the chance-failure rate.
    pub(crate) chance: Chance,
}

/// Probabilities that the next trial fails.
#[derive(Clone, Copy, Debug)]
struct Rates {
    /// Probability for a kernel that has the bug.
    with: f64,
    /// Probability for a kernel that has not.
    without: f64,
}

/// Probabilities after all trials.
#[derive(Clone, Debug)]
pub(crate) struct Posterior {
    /// Probability of each subject to be the first new one, by index.
    each: Vec<f64>,
    /// Probability that no subject is: all subjects and both ends have the bug.
    none: f64,
    /// Failure rates to expect if the subject of this index is the first new one.
    rates: Vec<Rates>,
    /// Failure rates to expect if no subject is.
    rates_of_none: Rates,
    /// Class of each subject, by index; subjects of one class cannot be told apart by any trial.
    class: Vec<u64>,
}

impl Posterior {
    /// Computes the posterior by Bayes' rule, with the same prior for every subject.
    pub(crate) fn of(data: TrialData<'_>) -> Posterior {
        let TrialData { graph, old_end, counts, untestable, new_fails, chance } = data;
        let n = graph.n_subjects();
        // `new[i]` counts the trials of all subjects that are new if `i` is the first new one.
        let mut new = vec![Counts::default(); n];
        for (idx, of_idx) in counts.iter().enumerate().filter(|(_, of_idx)| of_idx.n() > 0) {
            for before in graph.ancestors(idx).ones() {
                new[before].failed += of_idx.failed;
                new[before].passed += of_idx.passed;
            }
        }
        let all = counts.iter().fold(old_end, |sum, of_idx| Counts {
            failed: sum.failed + of_idx.failed,
            passed: sum.passed + of_idx.passed,
        });
        let grid = Grid::new(chance);
        // Sums differ only between subjects that a tested one separates, so most are found here.
        let mut known = BTreeMap::new();
        let mut sum_of = |with: Counts| {
            let without = Counts { failed: all.failed - with.failed, passed: all.passed - with.passed };
            *known.entry((with.failed, with.passed)).or_insert_with(|| grid.sum(with, without))
        };
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let one_of_all = ((1.0 - NONE_CHANGED) / n as f64).ln();
        let (mut logs, mut rates) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for new in &new {
            let old = Counts { failed: all.failed - new.failed, passed: all.passed - new.passed };
            let (log, of_next) = sum_of(if new_fails { *new } else { old });
            logs.push(one_of_all + log);
            rates.push(of_next);
        }
        let (log, rates_of_none) = sum_of(all);
        let log_of_none = NONE_CHANGED.ln() + log;
        let most = logs.iter().copied().fold(log_of_none, f64::max);
        let weights: Vec<f64> = logs.iter().map(|log| (log - most).exp()).collect();
        let none = (log_of_none - most).exp();
        let sum: f64 = none + weights.iter().sum::<f64>();
        let each = weights.into_iter().map(|weight| weight / sum).collect();
        Posterior { each, none: none / sum, rates, rates_of_none, class: classes(graph, untestable) }
    }

    /// The most likely class: subjects that no trial tells apart, and the probability that one of them is the
    /// first new one.
    pub(crate) fn most_likely(&self) -> (Vec<usize>, f64) {
        let mut sums = BTreeMap::<u64, f64>::new();
        for (class, p) in self.class.iter().zip(&self.each) {
            *sums.entry(*class).or_default() += p;
        }
        let best = sums.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let (class, p) = best.expect("a history is not empty");
        ((0..self.each.len()).filter(|&idx| self.class[idx] == class).collect(), p.min(1.0))
    }

    /// The smallest set of likeliest subjects whose probabilities sum up to `confidence`, oldest first, with
    /// that sum; all subjects if even their sum is lower.
    pub(crate) fn likeliest(&self, confidence: f64) -> (Vec<usize>, f64) {
        let mut order: Vec<usize> = (0..self.each.len()).collect();
        order.sort_by(|&a, &b| self.each[b].total_cmp(&self.each[a]));
        let mut sum = 0.0;
        let mut taken: Vec<usize> = order
            .into_iter()
            .take_while(|&idx| {
                let is_wanted = sum < confidence;
                sum += if is_wanted { self.each[idx] } else { 0.0 };
                is_wanted
            })
            .collect();
        taken.sort_unstable();
        (taken, sum.min(1.0))
    }

    /// The trial that tells most, of those that can be made, and its information gain, bits. `None` as index
    /// is the old end.
    pub(crate) fn next(
        &self,
        data: TrialData<'_>,
        can_be_made: impl Fn(Option<usize>) -> bool,
    ) -> Option<(Option<usize>, f64)> {
        let live = self.live();
        let mut best: Option<(Option<usize>, f64)> = None;
        let mut look = |position, ancestors: &FixedBitSet| {
            if !can_be_made(position) {
                return;
            }
            let gain = self.gain(&live, ancestors, data.new_fails);
            if gain > GAIN_MIN && best.is_none_or(|(_, most)| gain > most) {
                best = Some((position, gain));
            }
        };
        data.graph.each(|idx, ancestors| look(Some(idx), ancestors));
        look(None, &FixedBitSet::with_capacity(self.each.len()));
        best
    }

    /// Subjects with more than a negligible probability, and their rates.
    fn live(&self) -> Vec<Live> {
        let matters = (0..self.each.len()).filter(|&idx| self.each[idx] > NEGLIGIBLE);
        let live = matters.map(|idx| {
            let (p, Rates { with, without }) = (self.each[idx], self.rates[idx]);
            let of = |rate: f64| (p * rate, p * entropy(rate));
            Live { idx, with: of(with), without: of(without) }
        });
        live.collect()
    }

    /// Information gain about the first new subject by a trial of the subject with these ancestors, bits.
    fn gain(&self, live: &[Live], ancestors: &FixedBitSet, new_fails: bool) -> f64 {
        let mut fails = self.none * self.rates_of_none.with;
        let mut noise = self.none * entropy(self.rates_of_none.with);
        for one in live {
            let (of_fails, of_noise) =
                if ancestors.contains(one.idx) == new_fails { one.with } else { one.without };
            fails += of_fails;
            noise += of_noise;
        }
        entropy(fails) - noise
    }

    /// Entropy of the posterior: what is not known yet, bits.
    pub(crate) fn doubt(&self) -> f64 {
        self.each.iter().chain([&self.none]).filter(|p| **p > 0.0).map(|p| -p * p.log2()).sum()
    }

    /// Probability that a trial of a kernel with the bug fails.
    pub(crate) fn fail_rate(&self) -> f64 {
        let each = self.each.iter().zip(&self.rates).map(|(p, rates)| p * rates.with);
        each.sum::<f64>() + self.none * self.rates_of_none.with
    }

    /// Probability that a trial of a kernel without the bug fails all the same.
    pub(crate) fn chance_rate(&self) -> f64 {
        let each = self.each.iter().zip(&self.rates).map(|(p, rates)| p * rates.without);
        each.sum::<f64>() + self.none * self.rates_of_none.without
    }

    /// Probability that a subject behaves as the new end does.
    pub(crate) fn is_new(&self, graph: &Graph, idx: usize) -> f64 {
        graph.ancestors(idx).ones().map(|before| self.each[before]).sum::<f64>().min(1.0)
    }

    /// Probability that a subject is the first new one.
    pub(crate) fn is_first_new(&self, idx: usize) -> f64 {
        self.each[idx]
    }

    /// Probability that no subject is the first new one: the ends do not differ.
    pub(crate) fn is_none(&self) -> f64 {
        self.none
    }
}

/// A subject that may be the first new one: its probability times each rate, and times each rate's entropy.
struct Live {
    idx: usize,
    with: (f64, f64),
    without: (f64, f64),
}

/// A pair of rates, and its prior.
struct RatePair {
    rates: Rates,
    /// Logarithm of the prior.
    weight: f64,
    /// Logarithms of the rate with the bug, and of its complement.
    with: (f64, f64),
    without: (f64, f64),
}

/// All pairs of rates that are summed over.
struct Grid(Vec<RatePair>);

impl Grid {
    fn new(Chance { a, b }: Chance) -> Grid {
        // Spaced evenly by the logarithm: one in a hundred or one in ten is the difference that matters.
        let step = (CHANCE_MAX / CHANCE_MIN).ln() / f64::from(N_CHANCES);
        let ln_of = |n: u32| CHANCE_MIN.ln() + step * (f64::from(n) + 0.5);
        let density = |ln: f64| a * ln + (b - 1.0) * (-ln.exp()).ln_1p();
        let sum = (0..N_CHANCES).map(|n| density(ln_of(n)).exp()).sum::<f64>().ln();
        let n = f64::from(N_RATES);
        let (of_rate, of_not) = FAILS;
        let mut cells = Vec::with_capacity((N_CHANCES * (N_RATES + 1)) as usize);
        for ln in (0..N_CHANCES).map(ln_of) {
            let (by_chance, of_chance) = (ln.exp(), density(ln) - sum);
            let without = (ln, (-by_chance).ln_1p());
            let mut add = |shows: f64, weight: f64| {
                let fails = 1.0 - (1.0 - shows) * (1.0 - by_chance);
                let rates = Rates { with: fails, without: by_chance };
                let with = (fails.ln(), (1.0 - fails).ln());
                cells.push(RatePair { rates, weight: of_chance + weight, with, without });
            };
            add(1.0, RELIABLE.ln());
            for rate in (0..N_RATES).map(|at| (f64::from(at) + 0.5) / n) {
                let density = (of_rate - 1.0) * rate.ln() + (of_not - 1.0) * (1.0 - rate).ln();
                add(rate, density - ln_beta(of_rate, of_not) - n.ln() + (1.0 - RELIABLE).ln());
            }
        }
        Grid(cells)
    }

    /// Logarithm of the likelihood of these counts, summed over all rates; and the rates to expect of the
    /// next trial.
    fn sum(&self, with: Counts, without: Counts) -> (f64, Rates) {
        // 0 · ln 0 is 0 here.
        let times = |n: u32, ln: f64| if n == 0 { 0.0 } else { f64::from(n) * ln };
        let of = |counts: Counts, (ln, ln_not): (f64, f64)| {
            times(counts.failed, ln) + times(counts.passed, ln_not)
        };
        let log_of = |cell: &RatePair| cell.weight + of(with, cell.with) + of(without, cell.without);
        let logs: Vec<f64> = self.0.iter().map(log_of).collect();
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut sum, mut fails, mut by_chance) = (0.0, 0.0, 0.0);
        for (cell, log) in self.0.iter().zip(logs).filter(|(_, log)| log - most > LN_NEGLIGIBLE) {
            let weight = (log - most).exp();
            sum += weight;
            fails += weight * cell.rates.with;
            by_chance += weight * cell.rates.without;
        }
        (most + sum.ln(), Rates { with: fails / sum, without: by_chance / sum })
    }
}

/// Entropy of an event of this probability, bits.
fn entropy(rate: f64) -> f64 {
    let of = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    of(rate) + of(1.0 - rate)
}

/// The class of each subject: equal numbers for subjects that have the same testable descendants, which no
/// trial can tell apart.
fn classes(graph: &Graph, untestable: &[bool]) -> Vec<u64> {
    if !untestable.contains(&true) {
        return (0..).take(graph.n_subjects()).collect();
    }
    let mut class = vec![0_u64; graph.n_subjects()];
    let mut next = 1;
    graph.each(|idx, ancestors| {
        if untestable[idx] && idx != graph.tip() {
            return;
        }
        // Each testable subject splits every class in two: its ancestors, and the others.
        let mut parts = std::collections::BTreeMap::new();
        for before in ancestors.ones() {
            let part = *parts.entry(class[before]).or_insert_with(|| {
                next += 1;
                next
            });
            class[before] = part;
        }
    });
    class
}

#[cfg(test)]
#[path = "bayes_tests.rs"]
mod tests;
