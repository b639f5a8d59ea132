//! The search for the first new subject where each trial can be trusted: git-bisect's, over a graph with
//! merges, with subjects that cannot be tested. Pure.
//!
//! Deliberately not here: answers that are only likely (`super::bayes`).

use fixedbitset::FixedBitSet;

use super::graph::Graph;

/// Mark of a subject: what its trials have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The subject behaves like the old end.
    Old,
    /// The subject behaves like the new end.
    New,
    /// The subject cannot be tested.
    Untestable,
}

/// The next step of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Test the subject of this index.
    Test(usize),
    /// The first new subject is one of these, oldest first: no trial can tell them apart.
    Found(Vec<usize>),
    /// No subject explains all marks, so one of them is wrong.
    Contradiction,
}

/// Subjects that may be the first new one: ancestors of all new ones and of no old one.
pub(crate) fn candidates(graph: &Graph, marks: &[Option<Mark>]) -> FixedBitSet {
    let mut left = FixedBitSet::with_capacity(graph.n_subjects());
    left.insert_range(..);
    for (idx, mark) in marks.iter().enumerate() {
        match mark {
            Some(Mark::Old) => left.difference_with(&graph.ancestors(idx)),
            Some(Mark::New) => left.intersect_with(&graph.ancestors(idx)),
            Some(Mark::Untestable) | None => {}
        }
    }
    left
}

/// The subject that splits the candidates most evenly. The new end needs no test here: it counts as new.
pub(crate) fn next(graph: &Graph, marks: &[Option<Mark>]) -> Next {
    let left = candidates(graph, marks);
    let n_left = left.count_ones(..);
    if n_left == 0 {
        return Next::Contradiction;
    }
    let mut best: Option<(f64, bool, usize)> = None;
    graph.each(|idx, ancestors| {
        let n_before = ancestors.intersection_count(&left);
        if marks[idx].is_some() || n_before == 0 || n_before == n_left {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let evenness = n_before.min(n_left - n_before) as f64 * likely_testable(idx, marks);
        // Among equals prefer one that may be the culprit itself, and then the oldest.
        let rank = (evenness, left.contains(idx), idx);
        if best.is_none_or(|best| (rank.0, rank.1) > (best.0, best.1)) {
            best = Some(rank);
        }
    });
    match best {
        Some((_, _, idx)) => Next::Test(idx),
        None => Next::Found(left.ones().collect()),
    }
}

/// Guess how likely the subject at `idx` can be tested, 0 to 1. Its neighbours tell: a commit that breaks the
/// build breaks it for those after it, too, so each one found broken makes its neighbourhood less likely.
pub(crate) fn likely_testable(idx: usize, marks: &[Option<Mark>]) -> f64 {
    let broken = || (0..marks.len()).filter(|&idx| marks[idx] == Some(Mark::Untestable));
    let Some(distance) = broken().map(|broken| broken.abs_diff(idx)).min() else { return 1.0 };
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let (distance, n_broken) = (distance as f64, broken().count() as f64);
    distance / (distance + n_broken)
}

/// Number of tests to come in the worst case, if every subject can be tested.
pub fn steps_left(n_candidates: usize) -> u32 {
    n_candidates.max(1).next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::super::graph::testing::{graphs, row};
    use super::*;
    use proptest::prelude::*;

    /// Searches with true answers; returns the result and the number of tests.
    fn search(graph: &Graph, culprit: usize, untestable: &[bool]) -> (Vec<usize>, usize) {
        let mut marks = vec![None; graph.n_subjects()];
        marks[graph.tip()] = Some(Mark::New);
        for n_tests in 0.. {
            match next(graph, &marks) {
                Next::Test(idx) => {
                    assert_eq!(marks[idx], None, "{idx} was tested already");
                    let is_new = graph.ancestors(idx).contains(culprit);
                    marks[idx] = Some(match (untestable[idx], is_new) {
                        (true, _) => Mark::Untestable,
                        (false, true) => Mark::New,
                        (false, false) => Mark::Old,
                    });
                }
                Next::Found(found) => return (found, n_tests),
                Next::Contradiction => panic!("true answers contradict each other: {marks:?}"),
            }
        }
        unreachable!("a search ends")
    }

    /// The candidates by brute force: all subjects that no testable one tells apart from the culprit.
    fn by_force(graph: &Graph, culprit: usize, untestable: &[bool]) -> Vec<usize> {
        let testable: Vec<_> = (0..graph.n_subjects())
            .filter(|&idx| !untestable[idx] || idx == graph.tip())
            .map(|idx| graph.ancestors(idx))
            .collect();
        let is_same = |other: usize| testable.iter().all(|set| set.contains(other) == set.contains(culprit));
        (0..graph.n_subjects()).filter(|&other| is_same(other)).collect()
    }

    #[test]
    fn a_row_takes_as_many_tests_as_its_logarithm() {
        for n in [1, 2, 3, 8, 33, 64, 100] {
            for culprit in 0..n {
                let (found, n_tests) = search(&row(n), culprit, &vec![false; n]);
                assert_eq!(found, [culprit]);
                assert!(n_tests <= steps_left(n) as usize, "{n_tests} tests of {n}");
            }
        }
    }

    #[test]
    fn a_broken_range_is_jumped_over() {
        let untestable: Vec<bool> = (0..64).map(|idx| (20..44).contains(&idx)).collect();
        let (found, n_tests) = search(&row(64), 50, &untestable);
        assert_eq!(found, [50]);
        assert!(n_tests <= 14, "{n_tests} tests");
        let (found, _) = search(&row(64), 30, &untestable);
        assert_eq!(found, (20..=44).collect::<Vec<_>>());
    }

    #[test]
    fn marks_that_no_culprit_explains_are_a_contradiction() {
        let mut marks = vec![None; 8];
        marks[7] = Some(Mark::New);
        marks[3] = Some(Mark::New);
        marks[5] = Some(Mark::Old);
        assert_eq!(next(&row(8), &marks), Next::Contradiction);
    }

    proptest! {
        #[test]
        fn the_same_is_found_as_by_testing_everything(
            (graph, culprit, untestable) in graphs(40).prop_flat_map(|graph| {
                let n = graph.n_subjects();
                (Just(graph), 0..n, proptest::collection::vec(prop::bool::weighted(0.3), n))
            }),
        ) {
            let (found, _) = search(&graph, culprit, &untestable);
            prop_assert_eq!(found, by_force(&graph, culprit, &untestable));
        }

        #[test]
        fn no_more_tests_than_subjects(graph in graphs(60), seed in any::<prop::sample::Index>()) {
            let n = graph.n_subjects();
            let (found, n_tests) = search(&graph, seed.index(n), &vec![false; n]);
            prop_assert_eq!(found, vec![seed.index(n)]);
            prop_assert!(n_tests < n.max(2));
        }
    }
}
