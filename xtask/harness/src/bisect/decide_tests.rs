//! Tests of the search's decisions: whole searches, with random trials and with true ones.

use super::super::graph::testing::{graphs, row};
use super::super::simulate::{AnswerQuality, World, ours};
use super::*;
use proptest::prelude::*;

const RULES: SearchRules =
    SearchRules { repeat: None, confidence: 0.95, find_fix: false, chance_failures: None };

/// Runs a search to its end; `answer` gives the meaning of each trial.
fn conduct(
    graph: &Graph,
    rules: SearchRules,
    mut answer: impl FnMut(Position, usize) -> Observation,
) -> (NextStep, Vec<(Position, Observation)>) {
    let mut trials: Vec<(Position, Observation)> = Vec::new();
    loop {
        let sums = Sums::of(graph, false, trials.iter().map(|(position, seen)| (*position, seen)));
        match decide(graph, &sums, rules) {
            NextStep::Test(position, _) => {
                let n_before = trials.iter().filter(|(other, _)| *other == position).count();
                trials.push((position, answer(position, n_before)));
                assert!(trials.len() < 2000, "a search without an end");
            }
            end @ (NextStep::Stop(_) | NextStep::Found(_)) => return (end, trials),
        }
    }
}

fn truth(graph: &Graph, culprit: usize, position: Position, find_fix: bool) -> Observation {
    let is_new = match position {
        Position::OldEnd => false,
        Position::Subject(idx) => graph.ancestors(idx).contains(culprit),
    };
    if is_new == find_fix { Observation::Passed } else { Observation::Failed }
}

fn found(action: NextStep) -> Vec<usize> {
    match action {
        NextStep::Found(conclusion) => conclusion.first_new,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_ends_come_first_and_the_answer_is_tested_again() {
    let graph = row(32);
    let (end, trials) = conduct(&graph, RULES, |position, _| truth(&graph, 20, position, false));
    assert_eq!(found(end), [20]);
    let positions: Vec<_> = trials.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions[..3], [Position::Subject(31), Position::Subject(31), Position::OldEnd]);
    let n_of = |idx| positions.iter().filter(|position| **position == Position::Subject(idx)).count();
    assert_eq!((n_of(20), n_of(19)), (3, 3));
    // One more of each than where a kernel signature tells the failure from others.
    assert_eq!(positions.len(), 3 + 5 + 4);
}

#[test]
fn ends_that_are_not_as_said_stop_the_search() {
    let graph = row(8);
    let stop = |answer: fn(Position) -> Observation| match conduct(&graph, RULES, |position, _| {
        answer(position)
    })
    .0
    {
        NextStep::Stop(trouble) => trouble,
        other => panic!("{other:?}"),
    };
    assert_eq!(stop(|_| Observation::Passed), Trouble::FailingEndPasses { n: 20 });
    assert_eq!(stop(|_| Observation::Failed), Trouble::PassingEndFails);
    // The search ends, whatever the trials between two passes show.
    let (end, trials) = conduct(&graph, RULES, |_, n_before| match n_before {
        0 => Observation::Passed,
        _ => Observation::Other("hung elsewhere".into()),
    });
    let why = "hung elsewhere".to_owned();
    assert_eq!(end, NextStep::Stop(Trouble::FailingEndOther { n_passed: 1, n_other: 19, why }));
    assert_eq!(trials.len(), 20);
    let skips = stop(|_| Observation::Untestable("skipped: no raid".into()));
    assert_eq!(skips, Trouble::FailingEndUntestable("skipped: no raid".into()));
    let other = stop(|position| match position {
        Position::OldEnd => Observation::Other("crashed".into()),
        Position::Subject(_) => Observation::Failed,
    });
    assert_eq!(other, Trouble::PassingEndOther("crashed".into()));
}

#[test]
fn an_answer_that_turns_out_wrong_is_searched_on() {
    let graph = row(32);
    // The first of 15 trials fails for an unrelated reason.
    let (end, trials) = conduct(&graph, RULES, |position, n_before| match position {
        Position::Subject(15) if n_before == 0 => Observation::Failed,
        _ => truth(&graph, 24, position, false),
    });
    assert_eq!(found(end), [24], "{trials:?}");
}

#[test]
fn what_fails_in_another_way_does_not_count() {
    let graph = row(32);
    let (end, _) = conduct(&graph, RULES, |position, _| match position {
        Position::Subject(12..=17) => Observation::Other("crashed elsewhere".into()),
        _ => truth(&graph, 9, position, false),
    });
    assert_eq!(found(end), [9]);
    let (end, _) = conduct(&graph, RULES, |position, _| match position {
        Position::Subject(12..=17) => Observation::Untestable("does not build".into()),
        _ => truth(&graph, 14, position, false),
    });
    assert_eq!(found(end), [12, 13, 14, 15, 16, 17, 18]);
}

#[test]
fn a_rate_is_learnt_at_the_failing_end() {
    let graph = row(16);
    let mut lot = fastrand::Rng::with_seed(3);
    let world = World { graph: &graph, culprit: 5, rate: 0.3, noise: 0.0, find_fix: false };
    let (_, trials) = conduct(&graph, RULES, |position, _| world.trial(position, &mut lot));
    let n_of = |wanted: Position, seen: Observation| {
        trials.iter().filter(|trial| **trial == (wanted, seen.clone())).count()
    };
    assert!(n_of(Position::Subject(15), Observation::Failed) >= 2);
    assert!(n_of(Position::OldEnd, Observation::Passed) >= 3);
}

#[test]
fn an_answer_beside_the_passing_end_is_doubted() {
    for (culprit, find_fix) in [(0, false), (15, true)] {
        let graph = row(16);
        let mut lot = fastrand::Rng::with_seed(1);
        let world = World { graph: &graph, culprit, rate: 0.3, noise: 0.0, find_fix };
        let rules = SearchRules { find_fix, ..RULES };
        let (end, trials) = conduct(&graph, rules, |position, _| world.trial(position, &mut lot));
        assert_eq!(found(end), [culprit]);
        let (_, passing) = rules.ends(&graph);
        let n = trials.iter().filter(|(position, _)| *position == passing).count();
        assert!(n >= 6, "{n} passes of the end beside it");
    }
}

#[test]
fn an_end_that_should_pass_may_still_fail_late() {
    // The bug is older than the passing end, which passes by luck at first.
    let graph = row(16);
    let (end, _) = conduct(&graph, RULES, |position, n_before| match position {
        Position::OldEnd if n_before < 3 => Observation::Passed,
        _ if n_before % 3 == 2 || position == Position::OldEnd => Observation::Failed,
        Position::OldEnd | Position::Subject(_) => Observation::Passed,
    });
    assert_eq!(end, NextStep::Stop(Trouble::PassingEndFails));
}

#[test]
fn a_chance_failure_of_the_passing_end_does_not_end_a_search() {
    let graph = row(32);
    let (end, trials) = conduct(&graph, RULES, |position, n_before| match position {
        Position::OldEnd if n_before == 0 => Observation::Failed,
        _ => truth(&graph, 20, position, false),
    });
    assert_eq!(found(end), [20], "{trials:?}");
    let (end, trials) = conduct(&graph, RULES, |position, _| match position {
        Position::OldEnd => Observation::Failed,
        Position::Subject(_) => truth(&graph, 20, position, false),
    });
    assert_eq!((end, trials.len()), (NextStep::Stop(Trouble::PassingEndFails), 4));
}

#[test]
fn what_the_search_has_learnt_says_how_many_passes_tell() {
    let graph = row(4);
    let trials = [
        (Position::Subject(3), Observation::Failed),
        (Position::Subject(3), Observation::Failed),
        (Position::Subject(2), Observation::Passed),
        (Position::Subject(2), Observation::Failed),
        (Position::Subject(1), Observation::Passed),
    ];
    let sums = Sums::of(&graph, true, trials.iter().map(|(position, seen)| (*position, seen)));
    assert_eq!(passes_that_tell(&graph, &sums, RULES, &[3]), 1);
    assert!(passes_that_tell(&graph, &sums, RULES, &[2]) > 3);
}

#[test]
fn what_goes_wrong_in_another_way_once_is_tried_again() {
    let graph = row(32);
    let (end, trials) = conduct(&graph, RULES, |position, n_before| match position {
        Position::OldEnd | Position::Subject(15) if n_before == 0 => Observation::Other("chance".into()),
        _ => truth(&graph, 15, position, false),
    });
    assert_eq!(found(end), [15], "{trials:?}");
}

#[test]
fn flaky_searches_are_as_right_as_they_say() {
    for (rate, find_fix) in [(0.3, false), (0.6, false), (0.6, true), (0.9, false)] {
        let graph = row(32);
        let rules = SearchRules { find_fix, ..RULES };
        let n_right = (0..60)
            .filter(|&seed| {
                let mut lot = fastrand::Rng::with_seed(seed);
                let culprit = lot.usize(..32);
                let world = World { graph: &graph, culprit, rate, noise: 0.0, find_fix };
                ours(world, rules, true, &mut lot).end == AnswerQuality::Right
            })
            .count();
        assert!(n_right >= 53, "{n_right} of 60 at a rate of {rate}");
    }
}

#[test]
fn chance_failures_make_a_search_longer_and_not_wrong() {
    for rate in [0.5, 1.0] {
        let graph = row(32);
        let ends = (0..60).map(|seed| {
            let mut lot = fastrand::Rng::with_seed(seed);
            let culprit = lot.usize(..32);
            let world = World { graph: &graph, culprit, rate, noise: 0.05, find_fix: false };
            ours(world, RULES, false, &mut lot).end
        });
        let n_wrong = ends.filter(|end| *end == AnswerQuality::WrongButSure).count();
        assert!(n_wrong <= 3, "{n_wrong} of 60 at a rate of {rate}");
    }
}

#[test]
fn chance_failures_that_come_near_the_bugs_are_no_answer() {
    // Both ends fail in half of the trials: no commit made a difference.
    let graph = row(16);
    for seed in 0..20 {
        let mut lot = fastrand::Rng::with_seed(seed);
        let (end, _) = conduct(&graph, RULES, |_, _| match lot.bool() {
            true => Observation::Failed,
            false => Observation::Passed,
        });
        assert!(matches!(end, NextStep::Stop(Trouble::PassingEndFails)), "{end:?}");
    }
}

#[test]
fn what_is_said_of_chance_beforehand_counts() {
    let graph = row(16);
    let chance_rate = |chance_failures| {
        let rules = SearchRules { chance_failures, ..RULES };
        let (end, _) = conduct(&graph, rules, |position, n_before| match position {
            // One chance failure.
            Position::Subject(7) if n_before == 0 => Observation::Failed,
            Position::Subject(15) if n_before == 1 => Observation::Passed,
            _ => truth(&graph, 11, position, false),
        });
        let NextStep::Found(conclusion) = end else { panic!("{end:?}") };
        assert_eq!(conclusion.first_new, [11]);
        conclusion.chance_rate
    };
    assert!(chance_rate(Some(0.2)) > chance_rate(Some(0.002)));
    // States written by older versions lack the field.
    let old: SearchRules =
        serde_json::from_str(r#"{"repeat":null,"confidence":0.95,"find_fix":false}"#).unwrap();
    assert_eq!(old, RULES);
}

proptest! {
    #[test]
    fn true_answers_lead_to_the_culprit_whatever_cannot_be_tested(
        (graph, culprit, broken) in graphs(30).prop_flat_map(|graph| {
            let n = graph.n_subjects();
            (Just(graph), 0..n, proptest::collection::vec(prop::bool::weighted(0.2), n))
        }),
        find_fix in any::<bool>(),
    ) {
        let rules = SearchRules { find_fix, ..RULES };
        let (end, _) = conduct(&graph, rules, |position, _| match position {
            Position::Subject(idx) if broken[idx] && idx != graph.tip() => Observation::Untestable("broken".into()),
            _ => truth(&graph, culprit, position, find_fix),
        });
        let found = found(end);
        prop_assert!(found.contains(&culprit), "{found:?}");
        // All candidates that remain are ones that no trial tells apart.
        for idx in (0..graph.n_subjects()).filter(|&idx| !broken[idx] || idx == graph.tip()) {
            let ancestors = graph.ancestors(idx);
            prop_assert!(found.iter().all(|&other| ancestors.contains(other) == ancestors.contains(culprit)));
        }
    }

    #[test]
    fn a_search_ends_however_often_trials_tell_nothing(
        (graph, culprit) in graphs(20).prop_flat_map(|graph| { let n = graph.n_subjects(); (Just(graph), 0..n) }),
        seed in any::<u64>(),
        noise in 0.0..0.9,
    ) {
        let mut lot = fastrand::Rng::with_seed(seed);
        let (end, _) = conduct(&graph, RULES, |position, _| {
            if lot.f64() < noise { Observation::Other("noise".into()) } else { truth(&graph, culprit, position, false) }
        });
        if let NextStep::Found(conclusion) = end {
            prop_assert!(conclusion.first_new.contains(&culprit) || conclusion.confidence < 0.95);
        }
    }

    #[test]
    fn a_flaky_search_over_merges_ends(
        (graph, culprit) in graphs(24).prop_flat_map(|graph| { let n = graph.n_subjects(); (Just(graph), 0..n) }),
        seed in any::<u64>(),
    ) {
        let mut lot = fastrand::Rng::with_seed(seed);
        let world = World { graph: &graph, culprit, rate: 0.5, noise: 0.0, find_fix: false };
        let (end, _) = conduct(&graph, RULES, |position, _| world.trial(position, &mut lot));
        // By bad luck the failing end may never have failed.
        let ended = match end {
            NextStep::Found(conclusion) => conclusion.confidence >= 0.95,
            NextStep::Stop(trouble) => matches!(trouble, Trouble::FailingEndPasses { n: 20 }),
            NextStep::Test(..) => false,
        };
        prop_assert!(ended);
    }
}
