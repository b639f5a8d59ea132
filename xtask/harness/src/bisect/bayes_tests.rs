//! Tests of the posterior: against brute-force sums over all rates, and properties that any posterior has.

use super::super::graph::testing::{graphs, row};
use super::super::search::{self, Mark};
use super::*;
use proptest::prelude::*;

const CHANCE: Chance = Chance { a: 0.5, b: 0.5 * 0.97 / 0.03 };
const PASSES: Counts = Counts { failed: 0, passed: 1 };
const FAILS_ONCE: Counts = Counts { failed: 1, passed: 0 };

fn posterior(graph: &Graph, old_end: Counts, counts: &[Counts], new_fails: bool) -> Posterior {
    let untestable = vec![false; graph.n_subjects()];
    Posterior::of(TrialData { graph, old_end, counts, untestable: &untestable, new_fails, chance: CHANCE })
}

/// The posterior by brute force: a sum over a grid of rates with Bernoulli's formula. The last entry is "no
/// subject is new".
fn by_force(graph: &Graph, old_end: Counts, counts: &[Counts], new_fails: bool) -> Vec<f64> {
    let n = graph.n_subjects();
    let sets: Vec<_> = (0..n).map(|idx| graph.ancestors(idx)).collect();
    let likelihood = |first_new: usize, with: f64, without: f64| {
        let of = |counts: Counts, is_new: bool| {
            let rate = if first_new == n || is_new == new_fails { with } else { without };
            rate.powf(counts.failed.into()) * (1.0 - rate).powf(counts.passed.into())
        };
        let subjects = (0..n).map(|idx| of(counts[idx], first_new < n && sets[idx].contains(first_new)));
        of(old_end, false) * subjects.product::<f64>()
    };
    let steps = |n: u32| (0..n).map(move |step| (f64::from(step) + 0.5) / f64::from(n));
    let beforehand = |first_new: usize| {
        if first_new == n {
            NONE_CHANGED
        } else {
            (1.0 - NONE_CHANGED) / f64::from(u32::try_from(n).unwrap())
        }
    };
    let weights: Vec<f64> = (0..=n)
        .map(|first_new| {
            let mut sum = 0.0;
            // The density of Beta(1/2, b) has a pole at 0, which the square of the rate's root does not have.
            for root in steps(60) {
                let chance = root * root;
                let weight =
                    2.0 * root * (root * root).powf(CHANCE.a - 1.0) * (1.0 - chance).powf(CHANCE.b - 1.0);
                sum += weight * RELIABLE * likelihood(first_new, 1.0, chance);
                for shows in steps(40) {
                    let with = 1.0 - (1.0 - shows) * (1.0 - chance);
                    let weight = weight * (1.0 - RELIABLE) * 2.0 * (1.0 - shows) / 40.0;
                    sum += weight * likelihood(first_new, with, chance);
                }
            }
            beforehand(first_new) * sum
        })
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[test]
fn a_failure_says_more_than_a_pass() {
    let graph = row(16);
    let mut counts = vec![Counts::default(); 16];
    counts[15] = Counts { failed: 3, passed: 7 };
    counts[7] = PASSES;
    let after_pass = posterior(&graph, Counts { failed: 0, passed: 10 }, &counts, true);
    counts[7] = FAILS_ONCE;
    let after_failure = posterior(&graph, Counts { failed: 0, passed: 10 }, &counts, true);
    let (pass, failure) = (after_pass.is_new(&graph, 7), after_failure.is_new(&graph, 7));
    assert!((0.3..0.5).contains(&pass) && failure > 0.9, "{pass} {failure}");
}

#[test]
fn a_reliable_test_is_believed_at_once() {
    let graph = row(8);
    let mut counts = vec![Counts::default(); 8];
    counts[7] = Counts { failed: 2, passed: 0 };
    (counts[5], counts[4]) = (FAILS_ONCE, Counts { failed: 2, passed: 0 });
    counts[3] = Counts { failed: 0, passed: 2 };
    let old_end = Counts { failed: 0, passed: 1 };
    let (found, p) = posterior(&graph, old_end, &counts, true).most_likely();
    assert!(found == [4] && p > 0.95, "{found:?} {p}");
}

#[test]
fn what_no_trial_tells_apart_is_one_answer() {
    let graph = row(6);
    let mut counts = vec![Counts::default(); 6];
    counts[5] = Counts { failed: 4, passed: 0 };
    (counts[0], counts[4]) = (Counts { failed: 0, passed: 3 }, Counts { failed: 3, passed: 0 });
    let untestable = [false, true, true, true, false, false];
    let old_end = Counts { failed: 0, passed: 2 };
    let data = TrialData {
        graph: &graph,
        old_end,
        counts: &counts,
        untestable: &untestable,
        new_fails: true,
        chance: CHANCE,
    };
    let (found, p) = Posterior::of(data).most_likely();
    assert!(found == [1, 2, 3, 4] && p > 0.95, "{found:?} {p}");
}

fn trials() -> impl Strategy<Value = (Graph, Vec<Counts>, Counts)> {
    graphs(7).prop_flat_map(|graph| {
        let n = graph.n_subjects();
        let counts = || (0_u32..4, 0_u32..4).prop_map(|(failed, passed)| Counts { failed, passed });
        (Just(graph), proptest::collection::vec(counts(), n), counts())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn the_same_as_summing_over_all_rates((graph, counts, old_end) in trials(), new_fails in any::<bool>()) {
        let fast = posterior(&graph, old_end, &counts, new_fails);
        let slow = by_force(&graph, old_end, &counts, new_fails);
        let (none, slow) = slow.split_last().unwrap();
        prop_assert!((fast.is_none() - none).abs() < 0.01, "{} {none}", fast.is_none());
        for (idx, slow) in slow.iter().enumerate() {
            prop_assert!((fast.is_first_new(idx) - slow).abs() < 0.01, "{idx}: {} {slow}", fast.is_first_new(idx));
        }
    }
}

proptest! {
    #[test]
    fn the_gain_is_what_the_doubt_loses_on_average((graph, counts, old_end) in trials()) {
        let untestable = vec![false; graph.n_subjects()];
        let believed = |counts: &[Counts]| Posterior::of(TrialData {
            graph: &graph, old_end, counts, untestable: &untestable, new_fails: true, chance: CHANCE,
        });
        let before = believed(&counts);
        let live = before.live();
        for idx in 0..graph.n_subjects() {
            let ancestors = graph.ancestors(idx);
            let mut fails = before.none * before.rates_of_none.with;
            for other in 0..graph.n_subjects() {
                let Rates { with, without } = before.rates[other];
                fails += before.each[other] * if ancestors.contains(other) { with } else { without };
            }
            let after = |counts_of: fn(Counts) -> Counts| {
                let mut counts = counts.clone();
                counts[idx] = counts_of(counts[idx]);
                believed(&counts).doubt()
            };
            let failed = after(|counts| Counts { failed: counts.failed + 1, ..counts });
            let passed = after(|counts| Counts { passed: counts.passed + 1, ..counts });
            let gain = before.doubt() - fails * failed - (1.0 - fails) * passed;
            prop_assert!((gain - before.gain(&live, &ancestors, true)).abs() < 1e-6);
        }
    }

    #[test]
    fn it_is_a_belief((graph, counts, old_end) in trials(), new_fails in any::<bool>()) {
        let belief = posterior(&graph, old_end, &counts, new_fails);
        let sum: f64 = (0..graph.n_subjects()).map(|idx| belief.is_first_new(idx)).sum::<f64>() + belief.is_none();
        prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        let (all, p) = belief.likeliest(1.0);
        prop_assert!(all.len() <= graph.n_subjects() && (p + belief.is_none() - 1.0).abs() < 1e-6);
        // A kernel with the bug fails no more rarely than one without.
        let rates = belief.rates.iter().chain([&belief.rates_of_none]);
        prop_assert!(rates.into_iter().all(|rates| rates.with >= rates.without && rates.with <= 1.0 + 1e-9));
    }

    #[test]
    fn no_trial_makes_it_surer_of_a_wrong_one_on_average((graph, counts, old_end) in trials()) {
        // A trial tells nothing: neither of the passing end, which only measures chance failures, nor of a
        // subject.
        let before = posterior(&graph, old_end, &counts, true);
        for position in std::iter::once(None).chain((0..graph.n_subjects()).map(Some)) {
            let after = |one: Counts| {
                let (mut counts, mut old_end) = (counts.clone(), old_end);
                let at = position.map_or(&mut old_end, |idx| &mut counts[idx]);
                (at.failed, at.passed) = (at.failed + one.failed, at.passed + one.passed);
                posterior(&graph, old_end, &counts, true)
            };
            let (failed, passed) = (after(FAILS_ONCE), after(PASSES));
            for culprit in 0..graph.n_subjects() {
                let Rates { with, without } = before.rates[culprit];
                let has_bug = position.is_some_and(|idx| graph.ancestors(idx).contains(culprit));
                let fails = if has_bug { with } else { without };
                let right = fails * failed.is_first_new(culprit) + (1.0 - fails) * passed.is_first_new(culprit);
                prop_assert!(right >= before.is_first_new(culprit) - 1e-9, "{position:?} {culprit}");
            }
        }
    }

    #[test]
    fn the_classes_are_those_of_the_classic_search(
        (graph, untestable) in graphs(24).prop_flat_map(|graph| {
            let n = graph.n_subjects();
            (Just(graph), proptest::collection::vec(prop::bool::weighted(0.4), n))
        }),
    ) {
        let class = classes(&graph, &untestable);
        for culprit in 0..graph.n_subjects() {
            // All testable subjects have been tested.
            let mut marks: Vec<_> = (0..graph.n_subjects()).map(|idx| Some(match untestable[idx] {
                true => Mark::Untestable,
                false if graph.ancestors(idx).contains(culprit) => Mark::New,
                false => Mark::Old,
            })).collect();
            marks[graph.tip()] = Some(Mark::New);
            let left: Vec<_> = search::candidates(&graph, &marks).ones().collect();
            let same: Vec<_> = (0..graph.n_subjects()).filter(|&other| class[other] == class[culprit]).collect();
            prop_assert_eq!(left, same);
        }
    }
}

#[test]
fn a_failure_of_the_passing_end_makes_it_less_sure() {
    let graph = row(32);
    let mut counts = vec![Counts::default(); 32];
    counts[31] = Counts { failed: 2, passed: 4 };
    counts[10] = Counts { failed: 2, passed: 4 };
    let of = |failed, passed| posterior(&graph, Counts { failed, passed }, &counts, true);
    let (never, once) = (of(0, 8), of(1, 7));
    assert!(once.is_new(&graph, 9) < never.is_new(&graph, 9));
    assert!(once.chance_rate() > 2.0 * never.chance_rate());
    assert!(once.is_none() > never.is_none() && of(3, 5).is_none() > 0.3);
}

#[test]
fn what_is_said_of_chance_beforehand_matters_less_than_what_is_seen() {
    let counts = vec![Counts { failed: 6, passed: 6 }];
    let old_end = Counts { failed: 4, passed: 76 };
    let rate = |chance| {
        let (graph, untestable) = (row(1), [false]);
        let data = TrialData {
            graph: &graph,
            old_end,
            counts: &counts,
            untestable: &untestable,
            new_fails: true,
            chance,
        };
        Posterior::of(data).chance_rate()
    };
    for said in [0.005, 0.03, 0.1] {
        assert!((0.02..0.07).contains(&rate(Chance::about(said))), "{said}: {}", rate(Chance::about(said)));
    }
    assert!(rate(Chance::SIGNED) < 0.01);
}
