//! What a search does next, from all that its trials have come to: so it goes on after any interruption as if there
//! had been none. Pure.
//!
//! Both ends are confirmed first. As long as no answer contradicts another, each is trusted ([`super::search`]); from
//! then on, or where the failing end passes now and then, all are only likely ([`super::bayes`]). What is found is tested
//! again, and so is what comes right before it.

use serde::{Deserialize, Serialize};

use super::bayes::{Counts, Evidence, Posterior};
use super::history::History;
use super::search::{self, Mark, Next};

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Place {
    /// The old end, which is no subject of the search.
    OldEnd,
    /// A subject; the last one is the new end.
    Subject(usize),
}

/// What a trial means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    /// It failed in the way that is searched for.
    Failed,
    /// It passed.
    Passed,
    /// It went wrong in another way: that says nothing.
    Other(String),
    /// It told nothing, and would not the next time.
    Untestable(String),
}

/// How a search is made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rules {
    /// Trials of each end at least.
    pub(crate) repeat: Option<u32>,
    /// How likely the answer must be.
    pub(crate) confidence: f64,
    /// The old end fails, and what mended it is searched for.
    pub(crate) find_fix: bool,
}

impl Rules {
    /// The end that should fail, and the one that should pass.
    pub(crate) fn ends(self, history: &History) -> (Place, Place) {
        let (old, new) = (Place::OldEnd, Place::Subject(history.tip()));
        if self.find_fix { (old, new) } else { (new, old) }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// A trial.
    Test(Place, Why),
    /// The search makes no sense.
    Stop(Trouble),
    /// The answer.
    Found(Finding),
}

/// What a trial is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Why {
    /// Does it fail where it is said to?
    ConfirmFailing,
    /// Does it pass where it is said to?
    ConfirmPassing,
    /// It parts what is left.
    Search {
        /// Subjects that may be the first new one.
        n_left: usize,
        /// Trials that are still to come, about.
        n_trials_left: f64,
    },
    /// The answer is tested again.
    Verify,
}

/// Why a search makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The end that should fail does not.
    FailingEndPasses {
        /// In so many trials.
        n: u32,
    },
    /// The end that should fail tells nothing.
    FailingEndUntestable(String),
    /// The end that should pass fails in just the same way.
    PassingEndFails,
    /// The end that should pass fails in another way.
    PassingEndOther(String),
    /// The end that should pass tells nothing.
    PassingEndUntestable(String),
}

/// The answer of a search.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    /// The first new one is one of these, oldest first; several if no trial tells them apart.
    pub(crate) first_new: Vec<usize>,
    /// How likely that is.
    pub(crate) confidence: f64,
    /// How often a trial of what has the bug fails.
    pub(crate) fail_rate: f64,
}

/// Trials of a failing end that never fails, before the search is given up.
const FAILING_END_TRIES: u32 = 20;
/// Failures that tell a rate well enough to go by.
const FAILURES_WANTED: u32 = 3;
/// Trials of an end at most, unless more are asked for.
const END_TRIES_MAX: u32 = 40;
/// That the passing end had only luck must be less likely.
const LUCK_MAX: f64 = 0.05;
/// Trials of one subject that told nothing, before no more are made although some told something.
const NOTHING_MAX: u32 = 4;
/// Trials of the answer, and of what comes right before it.
const VERIFY_TRIES: u32 = 2;

/// All trials of a search, summed up.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    pub(crate) old_end: Counts,
    pub(crate) counts: Vec<Counts>,
    /// Of each subject that no trial told anything of, why.
    pub(crate) told_nothing: Vec<Option<String>>,
    /// How many trials of each told nothing.
    n_nothing: Vec<u32>,
    n_nothing_of_old_end: u32,
    old_end_told_nothing: Option<(bool, String)>,
    tip_told_nothing: Option<(bool, String)>,
}

impl Sums {
    pub(crate) fn of<'a>(
        history: &History,
        trials: impl IntoIterator<Item = (Place, &'a Observation)>,
    ) -> Sums {
        let n = history.len();
        let mut sums = Sums {
            old_end: Counts::default(),
            counts: vec![Counts::default(); n],
            told_nothing: vec![None; n],
            n_nothing: vec![0; n],
            n_nothing_of_old_end: 0,
            old_end_told_nothing: None,
            tip_told_nothing: None,
        };
        for (place, observation) in trials {
            let counts = match place {
                Place::OldEnd => &mut sums.old_end,
                Place::Subject(idx) => &mut sums.counts[idx],
            };
            match observation {
                Observation::Failed => counts.failed += 1,
                Observation::Passed => counts.passed += 1,
                Observation::Other(why) | Observation::Untestable(why) => {
                    let of_end = Some((matches!(observation, Observation::Other(_)), why.clone()));
                    match place {
                        Place::OldEnd => {
                            sums.n_nothing_of_old_end += 1;
                            sums.old_end_told_nothing = of_end;
                        }
                        Place::Subject(idx) => {
                            sums.n_nothing[idx] += 1;
                            if idx == history.tip() {
                                sums.tip_told_nothing = of_end;
                            }
                            sums.told_nothing[idx] = Some(why.clone());
                        }
                    }
                }
            }
        }
        for (told_nothing, counts) in sums.told_nothing.iter_mut().zip(&sums.counts) {
            if counts.n() > 0 {
                *told_nothing = None;
            }
        }
        sums
    }

    pub(crate) fn untestable(&self) -> Vec<bool> {
        self.told_nothing.iter().map(Option::is_some).collect()
    }

    /// What to believe by all of it.
    pub(crate) fn posterior(&self, history: &History, rules: Rules) -> Posterior {
        Posterior::of(self.evidence(history, &self.untestable(), rules))
    }

    fn evidence<'a>(&'a self, history: &'a History, untestable: &'a [bool], rules: Rules) -> Evidence<'a> {
        Evidence {
            history,
            old_end: self.old_end,
            counts: &self.counts,
            untestable,
            new_fails: !rules.find_fix,
        }
    }
}

/// What to do next.
pub(crate) fn decide(history: &History, sums: &Sums, rules: Rules) -> Action {
    let (failing, passing) = rules.ends(history);
    confirm_failing(sums, history, failing, rules)
        .or_else(|| confirm_passing(sums, history, failing, passing, rules))
        .unwrap_or_else(|| search(history, sums, rules))
}

impl Sums {
    /// True if no more trials of it are made.
    fn is_spent(&self, place: Place) -> bool {
        match place {
            Place::OldEnd => self.n_nothing_of_old_end >= NOTHING_MAX,
            Place::Subject(idx) => self.told_nothing[idx].is_some() || self.n_nothing[idx] >= NOTHING_MAX,
        }
    }

    fn at(&self, history: &History, place: Place) -> (Counts, Option<&(bool, String)>) {
        match place {
            Place::OldEnd => (self.old_end, self.old_end_told_nothing.as_ref()),
            Place::Subject(idx) => {
                debug_assert_eq!(idx, history.tip());
                (self.counts[idx], self.tip_told_nothing.as_ref())
            }
        }
    }
}

fn confirm_failing(sums: &Sums, history: &History, place: Place, rules: Rules) -> Option<Action> {
    let (counts, told_nothing) = sums.at(history, place);
    let test = Some(Action::Test(place, Why::ConfirmFailing));
    match (counts.failed, counts.n(), told_nothing) {
        (0, _, Some((_, why))) => Some(Action::Stop(Trouble::FailingEndUntestable(why.clone()))),
        (0, n, None) if n >= rules.repeat.unwrap_or(FAILING_END_TRIES) => {
            Some(Action::Stop(Trouble::FailingEndPasses { n }))
        }
        (0, _, None) => test,
        // What it has shown must do.
        (_, _, Some(_)) if sums.is_spent(place) => None,
        (failed, n, _) if failed == n => {
            if n < rules.repeat.unwrap_or(2) {
                test
            } else {
                None
            }
        }
        // A rate is to be learnt.
        (failed, n, _) => {
            let most = rules.repeat.unwrap_or(END_TRIES_MAX).max(END_TRIES_MAX);
            if failed < FAILURES_WANTED && n < most || n < rules.repeat.unwrap_or(0) { test } else { None }
        }
    }
}

fn confirm_passing(
    sums: &Sums,
    history: &History,
    failing: Place,
    passing: Place,
    rules: Rules,
) -> Option<Action> {
    let (of_failing, _) = sums.at(history, failing);
    let (counts, told_nothing) = sums.at(history, passing);
    if counts.failed > 0 {
        return Some(Action::Stop(Trouble::PassingEndFails));
    }
    if let (0, Some((is_other, why))) = (counts.n(), told_nothing) {
        let why = why.clone();
        let trouble =
            if *is_other { Trouble::PassingEndOther(why) } else { Trouble::PassingEndUntestable(why) };
        return Some(Action::Stop(trouble));
    }
    let wanted = passes_that_tell_of(of_failing);
    (counts.n() < wanted.max(rules.repeat.unwrap_or(0))).then_some(Action::Test(passing, Why::ConfirmPassing))
}

/// Passes of what is believed to have no bug that are hardly luck, by what the failing end has shown.
pub(crate) fn passes_that_tell(history: &History, sums: &Sums, rules: Rules) -> u32 {
    passes_that_tell_of(sums.at(history, rules.ends(history).0).0)
}

fn passes_that_tell_of(of_failing: Counts) -> u32 {
    if of_failing.passed == 0 { 1 } else { passes_wanted(of_failing, LUCK_MAX).min(END_TRIES_MAX) }
}

/// So many passes are only luck with a probability of `luck_max`, if trials fail as often as `counts` shows.
pub(crate) fn passes_wanted(counts: Counts, luck_max: f64) -> u32 {
    let (failed, passed) = (f64::from(counts.failed) + 1.0, f64::from(counts.passed) + 1.0);
    let (mut n, mut luck) = (0_u32, 1.0);
    while luck > luck_max && n < 10_000 {
        luck *= (passed + f64::from(n)) / (failed + passed + f64::from(n));
        n += 1;
    }
    n
}

fn search(history: &History, sums: &Sums, rules: Rules) -> Action {
    let untestable = sums.untestable();
    let evidence = sums.evidence(history, &untestable, rules);
    let posterior = Posterior::of(evidence);
    if let Some(marks) = marks(history, sums, rules) {
        match search::next(history, &marks) {
            Next::Test(idx) => {
                let n_left = search::candidates(history, &marks).count_ones(..);
                // The answer is tested again.
                let n_trials_left = f64::from(search::steps_left(n_left)) + 2.0;
                return Action::Test(Place::Subject(idx), Why::Search { n_left, n_trials_left });
            }
            Next::Found(first_new) => {
                if let Some(again) = to_verify(history, sums, &first_new) {
                    return Action::Test(again, Why::Verify);
                }
            }
            Next::Contradiction => {}
        }
    }
    let (first_new, p) = posterior.most_likely();
    let finding = |first_new| Finding { first_new, confidence: p, fail_rate: posterior.fail_rate() };
    if p >= rules.confidence {
        return match to_verify(history, sums, &first_new) {
            Some(again) => Action::Test(again, Why::Verify),
            None => Action::Found(finding(first_new)),
        };
    }
    match posterior.next(evidence, |idx| !sums.is_spent(Place::Subject(idx))) {
        None => Action::Found(finding(first_new)),
        Some((idx, gain)) => {
            let n_left = (0..history.len()).filter(|&idx| posterior.is_first_new(idx) > 0.01).count();
            let why = Why::Search { n_left, n_trials_left: (posterior.doubt() / gain).max(1.0) };
            Action::Test(Place::Subject(idx), why)
        }
    }
}

/// Each subject's answer, if all can be trusted.
fn marks(history: &History, sums: &Sums, rules: Rules) -> Option<Vec<Option<Mark>>> {
    let (failed, passed) = if rules.find_fix { (Mark::Old, Mark::New) } else { (Mark::New, Mark::Old) };
    let mark = |counts: &Counts, told_nothing: &Option<String>| match (counts.failed, counts.passed) {
        (0, 0) => Ok(told_nothing.as_ref().map(|_| Mark::Untestable)),
        (_, 0) => Ok(Some(failed)),
        (0, _) => Ok(Some(passed)),
        (_, _) => Err(()),
    };
    let is_trusted = sums.old_end.failed == 0 || sums.old_end.passed == 0;
    let marks: Result<Vec<_>, ()> =
        sums.counts.iter().zip(&sums.told_nothing).map(|(counts, why)| mark(counts, why)).collect();
    let mut marks = marks.ok().filter(|_| is_trusted)?;
    marks[history.tip()] = Some(Mark::New);
    Some(marks)
}

/// What has to be tested again before a single answer stands: it, and what comes right before it.
fn to_verify(history: &History, sums: &Sums, first_new: &[usize]) -> Option<Place> {
    let &[culprit] = first_new else { return None };
    let parents = &history.subject(culprit).parents;
    let before = parents.iter().map(|&parent| Place::Subject(parent));
    let old_end = parents.is_empty().then_some(Place::OldEnd);
    [Place::Subject(culprit)].into_iter().chain(before).chain(old_end).find(|place| match *place {
        Place::OldEnd => sums.old_end.n() < VERIFY_TRIES && !sums.is_spent(*place),
        Place::Subject(idx) => sums.counts[idx].n() < VERIFY_TRIES && !sums.is_spent(*place),
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
