//! The search where a test fails only sometimes: how likely each subject is to be the first new one, given all trials,
//! and which trial would tell most. Pure.
//!
//! Two unknown rates belong to it: how often what has the bug fails, and how often what has it not fails all the same.
//! Both are learnt from all trials, first of all those of the two ends, and integrated out rather than estimated. A
//! test that always fails is a case of its own with half of the belief, so that a reliable one needs no repeats.

use fixedbitset::FixedBitSet;
use statrs::function::beta::ln_beta;

use super::history::History;

/// How sure we are beforehand that a test which fails does so every time.
const RELIABLE: f64 = 0.5;
/// How often a test that fails only sometimes does, before any trial: Beta(1, 2), the rarer the likelier. A test that
/// nearly always fails is hardly known from one that always does, which is the other half of the belief.
pub(crate) const FAILS: (f64, f64) = (1.0, 2.0);
/// Any failure of a test on what does not have the bug: one in a hundred, as sure as a hundred trials make it.
const FAILS_ALL_THE_SAME: (f64, f64) = (1.0, 99.0);
/// A failure with the same signature: one in a thousand.
const FAILS_IN_THE_SAME_WAY: (f64, f64) = (1.0, 999.0);
/// A trial that tells less is not worth making, bits.
const GAIN_MIN: f64 = 1e-6;
/// What is less likely is left out of sums over all.
const NEGLIGIBLE: f64 = 1e-12;

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
    pub(crate) history: &'a History,
    /// Of the old end, which is no subject.
    pub(crate) old_end: Counts,
    /// Of each subject.
    pub(crate) counts: &'a [Counts],
    /// Subjects that no trial can be made of.
    pub(crate) untestable: &'a [bool],
    /// True if the new end fails, false if the old one does, and the search is for what mended it.
    pub(crate) new_fails: bool,
    /// True if only a failure with a signature counts, which another bug hardly has.
    pub(crate) is_signed: bool,
}

/// What to believe.
#[derive(Clone, Debug)]
pub(crate) struct Posterior {
    /// That each subject is the first new one.
    each: Vec<f64>,
    /// How likely the next trial fails, if the subject is the first new one: of what has the bug, and of what has not.
    rates: Vec<(f64, f64)>,
    /// Subjects that no trial tells apart have the same number.
    class: Vec<u64>,
}

impl Posterior {
    /// By Bayes' rule, every subject being as likely as any other beforehand.
    pub(crate) fn of(evidence: Evidence<'_>) -> Posterior {
        let Evidence { history, old_end, counts, untestable, new_fails, is_signed } = evidence;
        let by_mistake = if is_signed { FAILS_IN_THE_SAME_WAY } else { FAILS_ALL_THE_SAME };
        let n = history.len();
        // Of the trials, those of subjects that would be new, if this was the first new one.
        let mut new = vec![Counts::default(); n];
        for (idx, of_idx) in counts.iter().enumerate().filter(|(_, of_idx)| of_idx.n() > 0) {
            for before in history.ancestors(idx).ones() {
                new[before].failed += of_idx.failed;
                new[before].passed += of_idx.passed;
            }
        }
        let all = counts.iter().fold(old_end, |sum, of_idx| Counts {
            failed: sum.failed + of_idx.failed,
            passed: sum.passed + of_idx.passed,
        });
        let mut logs = Vec::with_capacity(n);
        let mut rates = Vec::with_capacity(n);
        for new in &new {
            let old = Counts { failed: all.failed - new.failed, passed: all.passed - new.passed };
            let (with, without) = if new_fails { (*new, old) } else { (old, *new) };
            let sometimes =
                (1.0 - RELIABLE).ln() + evidence_of(with, FAILS) + evidence_of(without, by_mistake);
            let always =
                if with.passed == 0 && without.failed == 0 { RELIABLE.ln() } else { f64::NEG_INFINITY };
            let most = sometimes.max(always);
            let sum = (sometimes - most).exp() + (always - most).exp();
            logs.push(most + sum.ln());
            let is_reliable = (always - most).exp() / sum;
            rates.push((
                is_reliable + (1.0 - is_reliable) * mean(with, FAILS),
                (1.0 - is_reliable) * mean(without, by_mistake),
            ));
        }
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logs.iter().map(|log| (log - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let each = weights.into_iter().map(|weight| weight / sum).collect();
        Posterior { each, rates, class: classes(history, untestable) }
    }

    /// Those that are most likely, which no trial tells apart, and how likely it is one of them.
    pub(crate) fn most_likely(&self) -> (Vec<usize>, f64) {
        let mut sums = std::collections::BTreeMap::<u64, f64>::new();
        for (class, p) in self.class.iter().zip(&self.each) {
            *sums.entry(*class).or_default() += p;
        }
        let best = sums.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let (class, p) = best.expect("a history is not empty");
        ((0..self.each.len()).filter(|&idx| self.class[idx] == class).collect(), p.min(1.0))
    }

    /// The trial that tells most of those that can be made, and how much, bits.
    pub(crate) fn next(
        &self,
        evidence: Evidence<'_>,
        can_be_made: impl Fn(usize) -> bool,
    ) -> Option<(usize, f64)> {
        let live: Vec<usize> = (0..self.each.len()).filter(|&idx| self.each[idx] > NEGLIGIBLE).collect();
        let mut best: Option<(usize, f64)> = None;
        evidence.history.each(|idx, ancestors| {
            if !can_be_made(idx) {
                return;
            }
            let gain = self.gain(&live, ancestors, evidence.new_fails);
            if gain > GAIN_MIN && best.is_none_or(|(_, most)| gain > most) {
                best = Some((idx, gain));
            }
        });
        best
    }

    /// What a trial of the subject with these ancestors would tell of the first new one.
    fn gain(&self, live: &[usize], ancestors: &FixedBitSet, new_fails: bool) -> f64 {
        let (mut fails, mut noise) = (0.0, 0.0);
        for &idx in live {
            let (with, without) = self.rates[idx];
            let rate = if ancestors.contains(idx) == new_fails { with } else { without };
            fails += self.each[idx] * rate;
            noise += self.each[idx] * entropy(rate);
        }
        entropy(fails) - noise
    }

    /// What is not known yet, bits.
    pub(crate) fn doubt(&self) -> f64 {
        self.each.iter().filter(|p| **p > 0.0).map(|p| -p * p.log2()).sum()
    }

    /// How often a trial of what has the bug fails.
    pub(crate) fn fail_rate(&self) -> f64 {
        self.each.iter().zip(&self.rates).map(|(p, (with, _))| p * with).sum()
    }

    /// How likely a subject is as at the new end.
    pub(crate) fn is_new(&self, history: &History, idx: usize) -> f64 {
        history.ancestors(idx).ones().map(|before| self.each[before]).sum::<f64>().min(1.0)
    }

    /// How likely a subject is the first new one.
    pub(crate) fn is_first_new(&self, idx: usize) -> f64 {
        self.each[idx]
    }
}

/// The logarithm of how likely these counts are, whatever the rate is.
fn evidence_of(counts: Counts, (a, b): (f64, f64)) -> f64 {
    ln_beta(a + f64::from(counts.failed), b + f64::from(counts.passed)) - ln_beta(a, b)
}

fn mean(counts: Counts, (a, b): (f64, f64)) -> f64 {
    (a + f64::from(counts.failed)) / (a + b + f64::from(counts.n()))
}

/// Of something that happens at this rate, bits.
fn entropy(rate: f64) -> f64 {
    let of = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    of(rate) + of(1.0 - rate)
}

/// Numbers that are the same for subjects which the same testable ones have among their ancestors.
fn classes(history: &History, untestable: &[bool]) -> Vec<u64> {
    if !untestable.contains(&true) {
        return (0..).take(history.len()).collect();
    }
    let mut class = vec![0_u64; history.len()];
    let mut next = 1;
    history.each(|idx, ancestors| {
        if untestable[idx] && idx != history.tip() {
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
mod tests {
    use super::super::history::testing::{histories, row};
    use super::super::search::{self, Mark};
    use super::*;
    use proptest::prelude::*;

    const PASSES: Counts = Counts { failed: 0, passed: 1 };
    const FAILS_ONCE: Counts = Counts { failed: 1, passed: 0 };

    fn posterior(history: &History, old_end: Counts, counts: &[Counts], new_fails: bool) -> Posterior {
        let untestable = vec![false; history.len()];
        Posterior::of(Evidence {
            history,
            old_end,
            counts,
            untestable: &untestable,
            new_fails,
            is_signed: false,
        })
    }

    /// The same by the sum over a grid of rates, with nothing but Bernoulli's formula.
    fn by_force(history: &History, old_end: Counts, counts: &[Counts], new_fails: bool) -> Vec<f64> {
        let sets: Vec<_> = (0..history.len()).map(|idx| history.ancestors(idx)).collect();
        let likelihood = |first_new: usize, with: f64, without: f64| {
            let of = |counts: Counts, is_new: bool| {
                let rate = if is_new == new_fails { with } else { without };
                rate.powf(counts.failed.into()) * (1.0 - rate).powf(counts.passed.into())
            };
            let subjects = (0..history.len()).map(|idx| of(counts[idx], sets[idx].contains(first_new)));
            of(old_end, false) * subjects.product::<f64>()
        };
        let grid: Vec<f64> = (0..200).map(|step| (f64::from(step) + 0.5) / 200.0).collect();
        let weights: Vec<f64> = (0..history.len())
            .map(|first_new| {
                let mut sum = 0.0;
                for with in &grid {
                    for rare in &grid {
                        // Beta(1, 99) is 0 but for the lowest rates.
                        let (without, density) = (rare / 2.0, 99.0 * (1.0 - rare / 2.0).powf(98.0) / 2.0);
                        // Beta(1, 2) of what fails, too.
                        sum += 2.0 * (1.0 - with) * density * likelihood(first_new, *with, without);
                    }
                }
                RELIABLE * likelihood(first_new, 1.0, 0.0) + (1.0 - RELIABLE) * sum / 40_000.0
            })
            .collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    #[test]
    fn a_failure_says_more_than_a_pass() {
        let history = row(16);
        let mut counts = vec![Counts::default(); 16];
        counts[15] = Counts { failed: 3, passed: 7 };
        counts[7] = PASSES;
        let after_pass = posterior(&history, Counts { failed: 0, passed: 10 }, &counts, true);
        counts[7] = FAILS_ONCE;
        let after_failure = posterior(&history, Counts { failed: 0, passed: 10 }, &counts, true);
        let (pass, failure) = (after_pass.is_new(&history, 7), after_failure.is_new(&history, 7));
        assert!((0.3..0.5).contains(&pass) && failure > 0.95, "{pass} {failure}");
    }

    #[test]
    fn a_reliable_test_is_believed_at_once() {
        let history = row(8);
        let mut counts = vec![Counts::default(); 8];
        counts[7] = Counts { failed: 2, passed: 0 };
        (counts[5], counts[4]) = (FAILS_ONCE, Counts { failed: 2, passed: 0 });
        counts[3] = Counts { failed: 0, passed: 2 };
        let old_end = Counts { failed: 0, passed: 1 };
        let (found, p) = posterior(&history, old_end, &counts, true).most_likely();
        assert!(found == [4] && p > 0.95, "{found:?} {p}");
    }

    #[test]
    fn what_no_trial_tells_apart_is_one_answer() {
        let history = row(6);
        let mut counts = vec![Counts::default(); 6];
        counts[5] = Counts { failed: 4, passed: 0 };
        (counts[0], counts[4]) = (Counts { failed: 0, passed: 3 }, Counts { failed: 3, passed: 0 });
        let untestable = [false, true, true, true, false, false];
        let old_end = Counts { failed: 0, passed: 2 };
        let evidence = Evidence {
            history: &history,
            old_end,
            counts: &counts,
            untestable: &untestable,
            new_fails: true,
            is_signed: false,
        };
        let (found, p) = Posterior::of(evidence).most_likely();
        assert!(found == [1, 2, 3, 4] && p > 0.95, "{found:?} {p}");
    }

    fn trials() -> impl Strategy<Value = (History, Vec<Counts>, Counts)> {
        histories(7).prop_flat_map(|history| {
            let n = history.len();
            let counts = || (0_u32..4, 0_u32..4).prop_map(|(failed, passed)| Counts { failed, passed });
            (Just(history), proptest::collection::vec(counts(), n), counts())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
        #[test]
        fn the_same_as_summing_over_all_rates((history, counts, old_end) in trials(), new_fails in any::<bool>()) {
            let fast = posterior(&history, old_end, &counts, new_fails);
            let slow = by_force(&history, old_end, &counts, new_fails);
            for (idx, slow) in slow.iter().enumerate() {
                prop_assert!((fast.is_first_new(idx) - slow).abs() < 0.01, "{idx}: {} {slow}", fast.is_first_new(idx));
            }
        }
    }

    proptest! {
        #[test]
        fn the_gain_is_what_the_doubt_loses_on_average((history, counts, old_end) in trials()) {
            let untestable = vec![false; history.len()];
            let evidence = |counts: &[Counts]| Posterior::of(Evidence {
                history: &history, old_end, counts, untestable: &untestable, new_fails: true, is_signed: false,
            });
            let before = evidence(&counts);
            let live: Vec<_> = (0..history.len()).collect();
            for idx in 0..history.len() {
                let ancestors = history.ancestors(idx);
                let mut fails = 0.0;
                for other in 0..history.len() {
                    let (with, without) = before.rates[other];
                    fails += before.each[other] * if ancestors.contains(other) { with } else { without };
                }
                let after = |counts_of: fn(Counts) -> Counts| {
                    let mut counts = counts.clone();
                    counts[idx] = counts_of(counts[idx]);
                    evidence(&counts).doubt()
                };
                let failed = after(|counts| Counts { failed: counts.failed + 1, ..counts });
                let passed = after(|counts| Counts { passed: counts.passed + 1, ..counts });
                let gain = before.doubt() - fails * failed - (1.0 - fails) * passed;
                prop_assert!((gain - before.gain(&live, &ancestors, true)).abs() < 1e-6);
            }
        }

        #[test]
        fn the_classes_are_those_of_the_classic_search(
            (history, untestable) in histories(24).prop_flat_map(|history| {
                let n = history.len();
                (Just(history), proptest::collection::vec(prop::bool::weighted(0.4), n))
            }),
        ) {
            let class = classes(&history, &untestable);
            for culprit in 0..history.len() {
                // All that can be tested has been.
                let mut marks: Vec<_> = (0..history.len()).map(|idx| Some(match untestable[idx] {
                    true => Mark::Untestable,
                    false if history.ancestors(idx).contains(culprit) => Mark::New,
                    false => Mark::Old,
                })).collect();
                marks[history.tip()] = Some(Mark::New);
                let left: Vec<_> = search::candidates(&history, &marks).ones().collect();
                let same: Vec<_> = (0..history.len()).filter(|&other| class[other] == class[culprit]).collect();
                prop_assert_eq!(left, same);
            }
        }
    }
}
