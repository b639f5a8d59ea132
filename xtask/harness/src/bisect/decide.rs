//! What a search does next, from all that its trials have come to: so it goes on after any interruption as if there
//! had been none. Pure.
//!
//! Both ends are confirmed first. As long as no answer contradicts another, each is trusted ([`super::search`]); from
//! then on, or where the failing end passes now and then, all are only likely ([`super::bayes`]). What is found is tested
//! again, and so is what comes right before it.

use serde::{Deserialize, Serialize};

use super::bayes::{Chance, Counts, Evidence, FAILS, Posterior};
use super::graph::Graph;
use super::search::{self, Mark, Next};

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The old end, which is no subject of the search.
    OldEnd,
    /// A subject; the last one is the new end.
    Subject(usize),
}

/// What a trial means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
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
pub struct Rules {
    /// Trials of each end at least.
    pub repeat: Option<u32>,
    /// How likely the answer must be.
    pub confidence: f64,
    /// The old end fails, and what mended it is searched for.
    pub find_fix: bool,
    /// How often a test is believed to fail by chance, before any trial, where a failure bears no mark of the kernel's
    /// own.
    #[serde(default)]
    pub chance_failures: Option<f64>,
}

impl Rules {
    /// What to believe of chance failures before any trial.
    fn chance(self, is_signed: bool) -> Chance {
        match self.chance_failures {
            // What bears the kernel's own mark is told apart from chance, whatever else the test does.
            _ if is_signed => Chance::SIGNED,
            Some(rate) => Chance::about(rate),
            None => Chance::about(Chance::USUAL),
        }
    }

    /// The end that should fail, and the one that should pass.
    pub(crate) fn ends(self, graph: &Graph) -> (Place, Place) {
        let (old, new) = (Place::OldEnd, Place::Subject(graph.tip()));
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
pub enum Why {
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
pub enum Trouble {
    /// The end that should fail does not.
    FailingEndPasses {
        /// In so many trials.
        n: u32,
    },
    /// The end that should fail goes wrong in other ways only.
    FailingEndOther {
        /// So often it passed.
        n_passed: u32,
        /// So often it went wrong.
        n_other: u32,
        /// How it did the last time.
        why: String,
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
pub struct Finding {
    /// The first new one is one of these, oldest first; several if no trial tells them apart.
    pub first_new: Vec<usize>,
    /// How likely that is.
    pub(crate) confidence: f64,
    /// True if it is one subject, and as likely as was asked for, by a margin where chance failures come near.
    pub is_sure: bool,
    /// If it is not: the likeliest that together are as likely as was asked for, oldest first, and how likely they are.
    pub(crate) one_of: (Vec<usize>, f64),
    /// How often a trial of what has the bug fails.
    pub(crate) fail_rate: f64,
    /// How often a trial of what has no bug fails all the same.
    pub(crate) chance_rate: f64,
}

/// Trials of a failing end that never fails, before the search is given up.
const FAILING_END_TRIES: u32 = 20;
/// Failures of the failing end before the search begins: two in the same way are no chance, and a rate is learnt on the
/// way.
const FAILURES_WANTED: u32 = 2;
/// Trials of an end at most, unless more are asked for.
const END_TRIES_MAX: u32 = 40;
/// That the passing end had only luck must be less likely before the search: what is between the ends tells more, and
/// an answer right beside the passing end is doubted again.
const LUCK_MAX_BEFORE: f64 = 0.3;
/// The same of an answer that stands beside it, and of what is said to be mended.
const LUCK_MAX: f64 = 0.05;
/// How sure it must be that both ends fail alike before the search is given up.
const SAME_AT_BOTH_ENDS: f64 = 0.8;
/// Trials of the passing end that measure chance failures, where failures bear no mark and are no rule.
const TRIES_THAT_MEASURE: u32 = 6;
/// The part of the allowed doubt that an answer may have, if no trial contradicts another: that a bug which shows in half
/// of the trials did so in each of them by luck is what such answers are wrong by. Measured by `bench bisect --simulate`,
/// as the next three.
const DOUBT_IF_RELIABLE: f64 = 0.2;
/// The same, if some do, and chance failures are far from the bug's.
const DOUBT_IF_RARE: f64 = 0.75;
/// What part of the bug's rate chance failures have when it is halved; it falls as the square of theirs.
const CHANCE_COMES_NEAR: f64 = 0.05;
/// As far as it falls.
const DOUBT_MIN: f64 = 0.05;
/// Trials of one subject that went wrong in another way, none of which told anything, before no more are made.
const OTHER_MAX: u32 = 2;
/// The same, although some told something.
const NOTHING_MAX: u32 = 4;
/// Trials of a search at most: then chance failures come too near for an answer, and it is said what is likely.
const TRIALS_MAX: u32 = 1000;
/// Trials of the answer, and of what comes right before it.
const VERIFY_TRIES: u32 = 2;

/// What the trials of one place came to.
#[derive(Clone, Debug, Default)]
struct Tally {
    counts: Counts,
    /// How many told nothing.
    n_nothing: u32,
    /// How the last of them that went wrong in another way did.
    other: Option<String>,
    /// Why no trial will tell anything.
    untestable: Option<String>,
}

impl Tally {
    fn add(&mut self, observation: &Observation) {
        match observation {
            Observation::Failed => self.counts.failed += 1,
            Observation::Passed => self.counts.passed += 1,
            Observation::Other(why) => {
                self.n_nothing += 1;
                self.other = Some(why.clone());
            }
            Observation::Untestable(why) => {
                self.n_nothing += 1;
                self.untestable = Some(why.clone());
            }
        }
    }

    /// Why it cannot be tested, if no trial told anything and none will.
    fn is_given_up(&self) -> Option<&str> {
        let has_other = self.other.as_deref().filter(|_| self.n_nothing >= OTHER_MAX);
        self.untestable.as_deref().or(has_other).filter(|_| self.counts.n() == 0)
    }

    /// True if no more trials of it are made.
    fn is_spent(&self) -> bool {
        self.is_given_up().is_some() || self.n_nothing >= NOTHING_MAX
    }
}

/// All trials of a search, summed up.
#[derive(Clone, Debug)]
pub struct Sums {
    old_end: Tally,
    subjects: Vec<Tally>,
    /// The counts of each subject.
    pub(crate) counts: Vec<Counts>,
    /// True if what is searched for bears the kernel's own mark.
    is_signed: bool,
}

impl Sums {
    /// `is_signed`: see [`Evidence`].
    pub(crate) fn of<'a>(
        graph: &Graph,
        is_signed: bool,
        trials: impl IntoIterator<Item = (Place, &'a Observation)>,
    ) -> Sums {
        let (mut old_end, mut subjects) = (Tally::default(), vec![Tally::default(); graph.n_subjects()]);
        for (place, observation) in trials {
            match place {
                Place::OldEnd => old_end.add(observation),
                Place::Subject(idx) => subjects[idx].add(observation),
            }
        }
        let counts = subjects.iter().map(|tally| tally.counts).collect();
        Sums { old_end, subjects, counts, is_signed }
    }

    pub(crate) fn untestable(&self) -> Vec<bool> {
        self.subjects.iter().map(|tally| tally.is_given_up().is_some()).collect()
    }

    /// What to believe by all of it.
    pub(crate) fn posterior(&self, graph: &Graph, rules: Rules) -> Posterior {
        Posterior::of(self.evidence(graph, &self.untestable(), rules))
    }

    fn evidence<'a>(&'a self, graph: &'a Graph, untestable: &'a [bool], rules: Rules) -> Evidence<'a> {
        Evidence {
            graph,
            old_end: self.old_end.counts,
            counts: &self.counts,
            untestable,
            new_fails: !rules.find_fix,
            chance: rules.chance(self.is_signed),
        }
    }

    /// Trials that were made, whatever they came to.
    fn n_trials(&self) -> u32 {
        let of = |tally: &Tally| tally.counts.n() + tally.n_nothing;
        of(&self.old_end) + self.subjects.iter().map(of).sum::<u32>()
    }

    /// What the trials of a place came to.
    pub(crate) fn counts_at(&self, place: Place) -> Counts {
        self.at(place).counts
    }

    fn at(&self, place: Place) -> &Tally {
        match place {
            Place::OldEnd => &self.old_end,
            Place::Subject(idx) => &self.subjects[idx],
        }
    }
}

/// What to do next.
pub(crate) fn decide(graph: &Graph, sums: &Sums, rules: Rules) -> Action {
    let (failing, passing) = rules.ends(graph);
    confirm_failing(sums, failing, rules)
        .or_else(|| confirm_passing(graph, sums, failing, passing, rules))
        .unwrap_or_else(|| search(graph, sums, rules))
}

fn confirm_failing(sums: &Sums, place: Place, rules: Rules) -> Option<Action> {
    let tally = sums.at(place);
    let (failed, n) = (tally.counts.failed, tally.counts.n());
    let test = Some(Action::Test(place, Why::ConfirmFailing));
    if failed == 0 {
        let is_enough = n + tally.n_nothing >= rules.repeat.unwrap_or(FAILING_END_TRIES);
        return match (&tally.untestable, &tally.other) {
            (Some(why), _) if n == 0 => Some(Action::Stop(Trouble::FailingEndUntestable(why.clone()))),
            (_, Some(why)) if is_enough || tally.is_given_up().is_some() => {
                let (n_passed, n_other) = (n, tally.n_nothing);
                Some(Action::Stop(Trouble::FailingEndOther { n_passed, n_other, why: why.clone() }))
            }
            (_, _) if is_enough => Some(Action::Stop(Trouble::FailingEndPasses { n })),
            (_, _) => test,
        };
    }
    // What it has shown must do.
    if tally.is_spent() {
        return None;
    }
    let most = rules.repeat.unwrap_or(END_TRIES_MAX).max(END_TRIES_MAX);
    let wanted = rules.repeat.unwrap_or(0);
    if n < wanted || failed < FAILURES_WANTED && n < most && rules.repeat != Some(1) { test } else { None }
}

fn confirm_passing(
    graph: &Graph,
    sums: &Sums,
    failing: Place,
    passing: Place,
    rules: Rules,
) -> Option<Action> {
    let tally = sums.at(passing);
    let test = Some(Action::Test(passing, Why::ConfirmPassing));
    if tally.counts.failed > 0 {
        let none_changed = sums.posterior(graph, rules).is_none();
        if sums.is_signed || none_changed >= SAME_AT_BOTH_ENDS {
            return Some(Action::Stop(Trouble::PassingEndFails));
        }
        // It may be chance, which the search reckons with, once it is told from what is searched for.
        let is_told = tally.counts.passed > 0 && none_changed <= LUCK_MAX_BEFORE;
        if !is_told && tally.counts.n() < END_TRIES_MAX && !tally.is_spent() {
            return test;
        }
    }
    if let Some(why) = tally.is_given_up() {
        let why = why.to_owned();
        let trouble = match tally.untestable {
            Some(_) => Trouble::PassingEndUntestable(why),
            None => Trouble::PassingEndOther(why),
        };
        return Some(Action::Stop(trouble));
    }
    let of_failing = sums.at(failing).counts;
    let mut wanted = passes_that_tell_of(of_failing, LUCK_MAX_BEFORE).max(rules.repeat.unwrap_or(0));
    if !sums.is_signed && (of_failing.passed > 0 || tally.counts.failed > 0) {
        wanted = wanted.max(TRIES_THAT_MEASURE);
    }
    let is_enough = tally.counts.n() >= wanted || tally.is_spent();
    if is_enough { None } else { test }
}

/// Passes of what is believed to have no bug that are hardly luck, by all trials of what has it if one of `first_new` is
/// the first new one.
pub fn passes_that_tell(graph: &Graph, sums: &Sums, rules: Rules, first_new: &[usize]) -> u32 {
    let mut of_bug = if rules.find_fix { sums.old_end.counts } else { Counts::default() };
    for (idx, counts) in sums.counts.iter().enumerate() {
        let ancestors = graph.ancestors(idx);
        let n_before = first_new.iter().filter(|&&first| ancestors.contains(first)).count();
        let has_bug = if rules.find_fix { n_before == 0 } else { n_before == first_new.len() };
        if has_bug {
            of_bug.failed += counts.failed;
            of_bug.passed += counts.passed;
        }
    }
    passes_that_tell_of(of_bug, LUCK_MAX)
}

fn passes_that_tell_of(of_failing: Counts, luck_max: f64) -> u32 {
    if of_failing.passed == 0 { 1 } else { passes_wanted(of_failing, luck_max).min(END_TRIES_MAX) }
}

/// So many passes are only luck with a probability of `luck_max`, if trials fail as often as `counts` shows.
pub(crate) fn passes_wanted(counts: Counts, luck_max: f64) -> u32 {
    let (a, b) = FAILS;
    let (failed, passed) = (f64::from(counts.failed) + a, f64::from(counts.passed) + b);
    let (mut n, mut luck) = (0_u32, 1.0);
    while luck > luck_max && n < 10_000 {
        luck *= (passed + f64::from(n)) / (failed + passed + f64::from(n));
        n += 1;
    }
    n
}

fn search(graph: &Graph, sums: &Sums, rules: Rules) -> Action {
    let untestable = sums.untestable();
    let evidence = sums.evidence(graph, &untestable, rules);
    let posterior = Posterior::of(evidence);
    let marks = marks(graph, sums, rules);
    let is_reliable = marks.is_some();
    if let Some(marks) = marks {
        match search::next(graph, &marks) {
            Next::Test(idx) => {
                let n_left = search::candidates(graph, &marks).count_ones(..);
                // The answer is tested again.
                let n_trials_left = f64::from(search::steps_left(n_left)) + 2.0;
                return Action::Test(Place::Subject(idx), Why::Search { n_left, n_trials_left });
            }
            Next::Found(first_new) => {
                if let Some(again) = to_verify(graph, sums, rules, &first_new) {
                    return Action::Test(again, Why::Verify);
                }
            }
            Next::Contradiction => {}
        }
    }
    let (first_new, p) = posterior.most_likely();
    let finding = |first_new: Vec<usize>, is_enough: bool| Finding {
        is_sure: is_enough && first_new.len() == 1,
        one_of: if is_enough { (first_new.clone(), p) } else { posterior.likeliest(rules.confidence) },
        first_new,
        confidence: p,
        fail_rate: posterior.fail_rate(),
        chance_rate: posterior.chance_rate(),
    };
    if posterior.is_none() >= rules.confidence {
        return Action::Stop(Trouble::PassingEndFails);
    }
    let wanted = wanted(sums, rules, &posterior, is_reliable);
    if p >= wanted {
        return match to_verify(graph, sums, rules, &first_new) {
            Some(again) => Action::Test(again, Why::Verify),
            None => Action::Found(finding(first_new, true)),
        };
    }
    if sums.n_trials() >= TRIALS_MAX {
        return Action::Found(finding(first_new, false));
    }
    let place = |idx: Option<usize>| idx.map_or(Place::OldEnd, Place::Subject);
    match posterior.next(evidence, |idx| !sums.at(place(idx)).is_spent()) {
        None => Action::Found(finding(first_new, false)),
        Some((idx, gain)) => {
            let n_left = (0..graph.n_subjects()).filter(|&idx| posterior.is_first_new(idx) > 0.01).count();
            let why = Why::Search { n_left, n_trials_left: (posterior.doubt() / gain).max(1.0) };
            Action::Test(place(idx), why)
        }
    }
}

/// How likely the answer must be for the search to end. Without the kernel's own mark the rates beforehand are a guess,
/// and a wrong one tells as certain what is not: a part of the doubt that the user allows is kept for that.
fn wanted(sums: &Sums, rules: Rules, posterior: &Posterior, is_reliable: bool) -> f64 {
    let of_doubt = if sums.is_signed {
        1.0
    } else if is_reliable {
        DOUBT_IF_RELIABLE
    } else {
        let near = posterior.chance_rate() / posterior.fail_rate() / CHANCE_COMES_NEAR;
        (DOUBT_IF_RARE / (1.0 + near * near)).max(DOUBT_MIN)
    };
    1.0 - (1.0 - rules.confidence) * of_doubt
}

/// Each subject's answer, if all can be trusted.
fn marks(graph: &Graph, sums: &Sums, rules: Rules) -> Option<Vec<Option<Mark>>> {
    let (failed, passed) = if rules.find_fix { (Mark::Old, Mark::New) } else { (Mark::New, Mark::Old) };
    let mark = |tally: &Tally| match (tally.counts.failed, tally.counts.passed) {
        (0, 0) => Ok(tally.is_given_up().map(|_| Mark::Untestable)),
        (_, 0) => Ok(Some(failed)),
        (0, _) => Ok(Some(passed)),
        (_, _) => Err(()),
    };
    let old_end = sums.old_end.counts;
    let is_trusted = old_end.failed == 0 || old_end.passed == 0;
    let marks: Result<Vec<_>, ()> = sums.subjects.iter().map(mark).collect();
    let mut marks = marks.ok().filter(|_| is_trusted)?;
    marks[graph.tip()] = Some(Mark::New);
    Some(marks)
}

/// What has to be tested again before a single answer stands: it, and what comes right before it. Beside the passing
/// end nothing but its own passes tells that the bug is not older still, or was never mended.
fn to_verify(graph: &Graph, sums: &Sums, rules: Rules, first_new: &[usize]) -> Option<Place> {
    let &[culprit] = first_new else { return None };
    let parents = &graph.subject(culprit).parents;
    let before = parents.iter().map(|&parent| Place::Subject(parent));
    let old_end = parents.is_empty().then_some(Place::OldEnd);
    let (_, passing) = rules.ends(graph);
    let of_passing = passes_that_tell(graph, sums, rules, first_new).max(VERIFY_TRIES);
    [Place::Subject(culprit)].into_iter().chain(before).chain(old_end).find(|place| {
        let wanted = if *place == passing { of_passing } else { VERIFY_TRIES };
        let tally = sums.at(*place);
        tally.counts.n() < wanted && !tally.is_spent()
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
