//! The search where a test fails only sometimes: how likely each subject is to be the first new one, given all trials,
//! and which trial would tell most. Pure.
//!
//! Two unknown rates belong to it: how often the bug shows in what has it, and how often a test fails by chance, bug or
//! not. Both are learnt from all trials, first of all those of the two ends, and integrated out together rather than
//! estimated: what has the bug fails when the bug shows or chance strikes, so that it never fails more rarely than what
//! has not. A bug that always shows is a case of its own with half of the belief, so that a reliable test needs no
//! repeats. That no subject changed anything, because the bug is older than the passing end or was never mended, is
//! believed possible as well.

use std::collections::BTreeMap;

use fixedbitset::FixedBitSet;
use statrs::function::beta::ln_beta;

use super::graph::Graph;

/// How sure we are beforehand that a test which fails does so every time.
const RELIABLE: f64 = 0.5;
/// How often a test that fails only sometimes does, before any trial: Beta(1, 2), the rarer the likelier. A test that
/// nearly always fails is hardly known from one that always does, which is the other half of the belief.
pub(crate) const FAILS: (f64, f64) = (1.0, 2.0);
/// How sure we are beforehand that no subject made a difference: whoever asks has seen the ends differ.
const NONE_CHANGED: f64 = 0.03;
/// A trial that tells less is not worth making, bits.
const GAIN_MIN: f64 = 1e-6;
/// What is less likely is left out of sums over all.
const NEGLIGIBLE: f64 = 1e-12;
/// Its logarithm, about.
const LN_NEGLIGIBLE: f64 = -30.0;
/// Rates of a bug that are summed over, beside "always".
const N_RATES: u32 = 32;
/// Rates of chance failures that are summed over.
const N_CHANCES: u32 = 28;
/// The rarest of them; what is rarer cannot be told from never.
const CHANCE_MIN: f64 = 1e-5;
/// The most frequent of them: what fails more often by chance tells nothing.
const CHANCE_MAX: f64 = 0.6;

/// How often a test may fail by chance, before any trial: a beta distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chance {
    a: f64,
    b: f64,
}

impl Chance {
    /// Of any failure, if the user does not say.
    pub(crate) const USUAL: f64 = 0.03;
    /// Of a failure with the kernel's own mark, which another bug hardly has: one in a thousand, as sure as a thousand
    /// trials make it.
    pub(crate) const SIGNED: Chance = Chance { a: 1.0, b: 999.0 };
    /// The smaller, the less is known beforehand: half a failure is what Jeffreys' prior knows.
    const FAILURES_KNOWN: f64 = 0.5;

    /// About this rate; but it may as well be several times it, or none.
    pub(crate) fn about(rate: f64) -> Chance {
        Chance { a: Chance::FAILURES_KNOWN, b: Chance::FAILURES_KNOWN * (1.0 - rate) / rate }
    }
}

/// What trials of one subject came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// In the way that is searched for.
    pub(crate) failed: u32,
    pub(crate) passed: u32,
}

impl Counts {
    /// Trials that told something.
    pub(crate) fn n(self) -> u32 {
        self.failed + self.passed
    }
}

/// All that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) graph: &'a Graph,
    /// Of the old end, which is no subject.
    pub(crate) old_end: Counts,
    /// Of each subject.
    pub(crate) counts: &'a [Counts],
    /// Subjects that no trial can be made of.
    pub(crate) untestable: &'a [bool],
    /// True if the new end fails, false if the old one does, and the search is for what mended it.
    pub(crate) new_fails: bool,
    /// What is believed of chance failures beforehand.
    pub(crate) chance: Chance,
}

/// What is to be expected of the next trial: how likely it fails.
#[derive(Clone, Copy, Debug)]
struct Rates {
    /// Of what has the bug.
    with: f64,
    /// Of what has not.
    without: f64,
}

/// What to believe.
#[derive(Clone, Debug)]
pub(crate) struct Posterior {
    /// That each subject is the first new one.
    each: Vec<f64>,
    /// That none is: all subjects and both ends have the bug.
    none: f64,
    /// What to expect, if the subject is the first new one.
    rates: Vec<Rates>,
    /// What to expect, if none is.
    rates_of_none: Rates,
    /// Subjects that no trial tells apart have the same number.
    class: Vec<u64>,
}

impl Posterior {
    /// By Bayes' rule, every subject being as likely as any other beforehand.
    pub(crate) fn of(evidence: Evidence<'_>) -> Posterior {
        let Evidence { graph, old_end, counts, untestable, new_fails, chance } = evidence;
        let n = graph.n_subjects();
        // Of the trials, those of subjects that would be new, if this was the first new one.
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
        // Few sums differ: they change where something was tested, and nowhere else.
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

    /// Those that are most likely, which no trial tells apart, and how likely it is one of them.
    pub(crate) fn most_likely(&self) -> (Vec<usize>, f64) {
        let mut sums = BTreeMap::<u64, f64>::new();
        for (class, p) in self.class.iter().zip(&self.each) {
            *sums.entry(*class).or_default() += p;
        }
        let best = sums.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let (class, p) = best.expect("a history is not empty");
        ((0..self.each.len()).filter(|&idx| self.class[idx] == class).collect(), p.min(1.0))
    }

    /// The likeliest subjects that together are at least this likely, oldest first, and how likely they are; all of
    /// them, if even that is not as likely.
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

    /// The trial that tells most of those that can be made, and how much, bits. `None` is one of the old end.
    pub(crate) fn next(
        &self,
        evidence: Evidence<'_>,
        can_be_made: impl Fn(Option<usize>) -> bool,
    ) -> Option<(Option<usize>, f64)> {
        let live = self.live();
        let mut best: Option<(Option<usize>, f64)> = None;
        let mut look = |place, ancestors: &FixedBitSet| {
            if !can_be_made(place) {
                return;
            }
            let gain = self.gain(&live, ancestors, evidence.new_fails);
            if gain > GAIN_MIN && best.is_none_or(|(_, most)| gain > most) {
                best = Some((place, gain));
            }
        };
        evidence.graph.each(|idx, ancestors| look(Some(idx), ancestors));
        look(None, &FixedBitSet::with_capacity(self.each.len()));
        best
    }

    /// The subjects that matter, with their rates.
    fn live(&self) -> Vec<Live> {
        let matters = (0..self.each.len()).filter(|&idx| self.each[idx] > NEGLIGIBLE);
        let live = matters.map(|idx| {
            let (p, Rates { with, without }) = (self.each[idx], self.rates[idx]);
            let of = |rate: f64| (p * rate, p * entropy(rate));
            Live { idx, with: of(with), without: of(without) }
        });
        live.collect()
    }

    /// What a trial of the subject with these ancestors would tell of the first new one.
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

    /// What is not known yet, bits.
    pub(crate) fn doubt(&self) -> f64 {
        self.each.iter().chain([&self.none]).filter(|p| **p > 0.0).map(|p| -p * p.log2()).sum()
    }

    /// How often a trial of what has the bug fails.
    pub(crate) fn fail_rate(&self) -> f64 {
        let each = self.each.iter().zip(&self.rates).map(|(p, rates)| p * rates.with);
        each.sum::<f64>() + self.none * self.rates_of_none.with
    }

    /// How often a trial of what has no bug fails all the same.
    pub(crate) fn chance_rate(&self) -> f64 {
        let each = self.each.iter().zip(&self.rates).map(|(p, rates)| p * rates.without);
        each.sum::<f64>() + self.none * self.rates_of_none.without
    }

    /// How likely a subject is as at the new end.
    pub(crate) fn is_new(&self, graph: &Graph, idx: usize) -> f64 {
        graph.ancestors(idx).ones().map(|before| self.each[before]).sum::<f64>().min(1.0)
    }

    /// How likely a subject is the first new one.
    pub(crate) fn is_first_new(&self, idx: usize) -> f64 {
        self.each[idx]
    }

    /// How likely none is: the ends do not differ.
    pub(crate) fn is_none(&self) -> f64 {
        self.none
    }
}

/// A subject that may be the first new one: how likely it is, times each rate and the rate's entropy.
struct Live {
    idx: usize,
    with: (f64, f64),
    without: (f64, f64),
}

/// A pair of rates, and what is believed of it beforehand.
struct Cell {
    rates: Rates,
    /// The logarithm of the belief.
    weight: f64,
    /// Logarithms of the two rates, and of their complements.
    with: (f64, f64),
    without: (f64, f64),
}

/// The pairs that are summed over.
struct Grid(Vec<Cell>);

impl Grid {
    fn new(Chance { a, b }: Chance) -> Grid {
        // Evenly by the logarithm: what matters is whether it is one in a hundred or one in ten.
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
                cells.push(Cell { rates, weight: of_chance + weight, with, without });
            };
            add(1.0, RELIABLE.ln());
            for rate in (0..N_RATES).map(|at| (f64::from(at) + 0.5) / n) {
                let density = (of_rate - 1.0) * rate.ln() + (of_not - 1.0) * (1.0 - rate).ln();
                add(rate, density - ln_beta(of_rate, of_not) - n.ln() + (1.0 - RELIABLE).ln());
            }
        }
        Grid(cells)
    }

    /// The logarithm of how likely these counts are, whatever the rates; and what is to be expected of the next trial.
    fn sum(&self, with: Counts, without: Counts) -> (f64, Rates) {
        // 0 times the logarithm of 0 is 0 here.
        let times = |n: u32, ln: f64| if n == 0 { 0.0 } else { f64::from(n) * ln };
        let of = |counts: Counts, (ln, ln_not): (f64, f64)| {
            times(counts.failed, ln) + times(counts.passed, ln_not)
        };
        let log_of = |cell: &Cell| cell.weight + of(with, cell.with) + of(without, cell.without);
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

/// Of something that happens at this rate, bits.
fn entropy(rate: f64) -> f64 {
    let of = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    of(rate) + of(1.0 - rate)
}

/// Numbers that are the same for subjects which the same testable ones have among their ancestors.
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
        // Each testable subject parts every class in two: those that it has, and those that it has not.
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
