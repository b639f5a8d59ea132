//! Decides a search's next step from all its trials so far, so that it continues after an interruption as if
//! there had been none. Pure.
//!
//! Both ends are confirmed first. As long as no trial contradicts another, each is trusted
//! ([`super::search`]). After the first contradiction, or if the failing end passes now and then, answers are
//! only likely (`super::bayes`). The answer and its parents are tested again before the search ends.

use serde::{Deserialize, Serialize};

use super::bayes::{Chance, Counts, FAILS, Posterior, TrialData};
use super::graph::Graph;
use super::search::{self, Mark, Next};

/// A position in the graph that can be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// The old end, which is no subject of the search.
    OldEnd,
    /// A subject, by index; the last one is the new end.
    Subject(usize),
}

/// The meaning of one trial for the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The kernel failed in the way that is searched for.
    Failed,
    /// The test passed.
    Passed,
    /// Something else went wrong, in these words; that tells nothing.
    Other(String),
    /// The kernel could not be tested, for this reason, and would not be testable the next time.
    Untestable(String),
}

/// The user's choices for a search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchRules {
    /// Minimum number of trials of each end.
    pub repeat: Option<u32>,
    /// Probability that the answer must reach, 0 to 1.
    pub confidence: f64,
    /// True if the old end fails, and the search is for the commit that mended it.
    pub find_fix: bool,
    /// Expected rate of chance failures, 0 to 1, where a failure has no kernel signature. `None` is a
    /// default.
    #[serde(default)]
    pub chance_failures: Option<f64>,
}

impl SearchRules {
    /// Prior of the chance-failure rate.
    fn chance(self, is_signed: bool) -> Chance {
        match self.chance_failures {
            // A kernel signature tells the failure apart from chance, whatever else the test does.
            _ if is_signed => Chance::SIGNED,
            Some(rate) => Chance::about(rate),
            None => Chance::about(Chance::USUAL),
        }
    }

    /// The end that should fail, and the end that should pass.
    pub(crate) fn ends(self, graph: &Graph) -> (Position, Position) {
        let (old, new) = (Position::OldEnd, Position::Subject(graph.tip()));
        if self.find_fix { (old, new) } else { (new, old) }
    }
}

/// The next step of a search.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NextStep {
    /// Make a trial.
    Test(Position, Purpose),
    /// Stop: the search makes no sense.
    Stop(Trouble),
    /// Stop: this is the answer.
    Found(Conclusion),
}

/// The purpose of a trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// Confirms that the failing end fails.
    ConfirmFailing,
    /// Confirms that the passing end passes.
    ConfirmPassing,
    /// Narrows down the subjects that are left.
    Search {
        /// Number of subjects that may still be the first new one.
        n_left: usize,
        /// Estimated number of trials to come.
        n_trials_left: f64,
    },
    /// Tests the answer again, or a parent of it.
    Verify,
}

/// A reason why a search makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The end that should fail passes.
    FailingEndPasses {
        /// Number of trials, all of which passed.
        n: u32,
    },
    /// The end that should fail goes wrong only in other ways.
    FailingEndOther {
        /// Number of trials that passed.
        n_passed: u32,
        /// Number of trials that went wrong in other ways.
        n_other: u32,
        /// Description of the last one that went wrong.
        why: String,
    },
    /// The end that should fail cannot be tested, for this reason.
    FailingEndUntestable(String),
    /// The end that should pass fails in the way that is searched for.
    PassingEndFails,
    /// The end that should pass fails in another way, in these words.
    PassingEndOther(String),
    /// The end that should pass cannot be tested, for this reason.
    PassingEndUntestable(String),
}

/// The answer of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion {
    /// The first new subject, by index; several, oldest first, if no trial tells them apart.
    pub first_new: Vec<usize>,
    /// Probability that `first_new` holds the first new subject.
    pub(crate) confidence: f64,
    /// True if `first_new` is one subject and reaches the confidence that the user asked for, plus a margin
    /// where chance failures are nearly as frequent as the bug.
    pub is_sure: bool,
    /// The likeliest subjects that together reach the confidence, oldest first, and their probability. Equal
    /// to `first_new` if that is sure.
    pub(crate) one_of: (Vec<usize>, f64),
    /// Probability that a trial of a kernel with the bug fails.
    pub(crate) fail_rate: f64,
    /// Probability that a trial of a kernel without the bug fails all the same.
    pub(crate) chance_rate: f64,
}

/// Trials of a failing end that never fails, before the search is given up.
const FAILING_END_TRIES: u32 = 20;
/// Failures of the failing end before the search begins. Two in the same way are hardly chance, and they give
/// a first estimate of the rate.
const FAILURES_WANTED: u32 = 2;
/// Maximum number of trials of one end, unless `repeat` asks for more.
const END_TRIES_MAX: u32 = 40;
/// Highest probability that the passing end passed by luck with which the search may begin. Generous: trials
/// in between add evidence, and an answer next to the passing end is checked again (`LUCK_MAX`).
const LUCK_MAX_BEFORE: f64 = 0.3;
/// Highest probability that the passing end passed by luck when the answer stands right next to it, or when a
/// fix is called one.
const LUCK_MAX: f64 = 0.05;
/// Probability that both ends have the bug at which the search is given up.
const SAME_AT_BOTH_ENDS: f64 = 0.8;
/// Trials of the passing end that measure chance failures, where failures have no kernel signature and the
/// failing end passes now and then.
const TRIES_THAT_MEASURE: u32 = 6;
/// Share of the user's allowed doubt that an answer may have if no trial contradicts another. Such answers
/// are wrong if a bug that shows in half of the trials showed in each of them by luck. Measured by
/// `bench bisect --simulate`.
const DOUBT_IF_RELIABLE: f64 = 0.2;
/// Share of the allowed doubt if some trials contradict others, and chance failures are much rarer than the
/// bug. Measured by `bench bisect --simulate`.
const DOUBT_IF_RARE: f64 = 0.75;
/// Ratio of chance failures to failures by the bug at which `DOUBT_IF_RARE` is halved; beyond that it falls
/// with the square of the ratio. Measured by `bench bisect --simulate`.
const CHANCE_COMES_NEAR: f64 = 0.05;
/// Lowest share of the allowed doubt. Measured by `bench bisect --simulate`.
const DOUBT_MIN: f64 = 0.05;
/// Trials of one subject that went wrong in another way, before it is given up, if none of its trials failed
/// or passed.
const OTHER_MAX: u32 = 2;
/// Trials of one subject that told nothing, before no more are made, if others failed or passed.
const NOTHING_MAX: u32 = 4;
/// Maximum number of trials of a search. Beyond it chance failures are too frequent for an answer; the
/// likeliest is reported.
const TRIALS_MAX: u32 = 1000;
/// Trials of the answer, and of each of its parents, before it is reported.
const VERIFY_TRIES: u32 = 2;

/// Summed-up trials of one position.
#[derive(Clone, Debug, Default)]
struct Tally {
    counts: Counts,
    /// Number of trials that told nothing.
    n_nothing: u32,
    /// Description of the last trial that went wrong in another way.
    other: Option<String>,
    /// Reason why no trial will tell anything.
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

    /// The reason why this position cannot be tested, if no trial told anything and none will.
    fn is_given_up(&self) -> Option<&str> {
        let has_other = self.other.as_deref().filter(|_| self.n_nothing >= OTHER_MAX);
        self.untestable.as_deref().or(has_other).filter(|_| self.counts.n() == 0)
    }

    /// True if no more trials are made at this position.
    fn is_spent(&self) -> bool {
        self.is_given_up().is_some() || self.n_nothing >= NOTHING_MAX
    }
}

/// All trials of a search, summed up.
#[derive(Clone, Debug)]
pub struct Sums {
    old_end: Tally,
    subjects: Vec<Tally>,
    /// The counts of each subject, by index.
    pub(crate) counts: Vec<Counts>,
    /// True if the failure that is searched for has a kernel signature.
    is_signed: bool,
}

impl Sums {
    /// Sums up `trials`. `is_signed` is true if the failure has a kernel signature
    /// ([`super::target::Target::is_signed`]).
    pub(crate) fn of<'a>(
        graph: &Graph,
        is_signed: bool,
        trials: impl IntoIterator<Item = (Position, &'a Observation)>,
    ) -> Sums {
        let (mut old_end, mut subjects) = (Tally::default(), vec![Tally::default(); graph.n_subjects()]);
        for (position, observation) in trials {
            match position {
                Position::OldEnd => old_end.add(observation),
                Position::Subject(idx) => subjects[idx].add(observation),
            }
        }
        let counts = subjects.iter().map(|tally| tally.counts).collect();
        Sums { old_end, subjects, counts, is_signed }
    }

    pub(crate) fn untestable(&self) -> Vec<bool> {
        self.subjects.iter().map(|tally| tally.is_given_up().is_some()).collect()
    }

    /// Probabilities after all these trials.
    pub(crate) fn posterior(&self, graph: &Graph, rules: SearchRules) -> Posterior {
        Posterior::of(self.data(graph, &self.untestable(), rules))
    }

    fn data<'a>(&'a self, graph: &'a Graph, untestable: &'a [bool], rules: SearchRules) -> TrialData<'a> {
        TrialData {
            graph,
            old_end: self.old_end.counts,
            counts: &self.counts,
            untestable,
            new_fails: !rules.find_fix,
            chance: rules.chance(self.is_signed),
        }
    }

    /// Number of trials made, whatever they meant.
    fn n_trials(&self) -> u32 {
        let of = |tally: &Tally| tally.counts.n() + tally.n_nothing;
        of(&self.old_end) + self.subjects.iter().map(of).sum::<u32>()
    }

    /// Failures and passes at a position.
    pub(crate) fn counts_at(&self, position: Position) -> Counts {
        self.at(position).counts
    }

    fn at(&self, position: Position) -> &Tally {
        match position {
            Position::OldEnd => &self.old_end,
            Position::Subject(idx) => &self.subjects[idx],
        }
    }
}

/// The next step of the search.
pub(crate) fn decide(graph: &Graph, sums: &Sums, rules: SearchRules) -> NextStep {
    let (failing, passing) = rules.ends(graph);
    confirm_failing(sums, failing, rules)
        .or_else(|| confirm_passing(graph, sums, failing, passing, rules))
        .unwrap_or_else(|| search(graph, sums, rules))
}

fn confirm_failing(sums: &Sums, position: Position, rules: SearchRules) -> Option<NextStep> {
    let tally = sums.at(position);
    let (failed, n) = (tally.counts.failed, tally.counts.n());
    let test = Some(NextStep::Test(position, Purpose::ConfirmFailing));
    if failed == 0 {
        let is_enough = n + tally.n_nothing >= rules.repeat.unwrap_or(FAILING_END_TRIES);
        return match (&tally.untestable, &tally.other) {
            (Some(why), _) if n == 0 => Some(NextStep::Stop(Trouble::FailingEndUntestable(why.clone()))),
            (_, Some(why)) if is_enough || tally.is_given_up().is_some() => {
                let (n_passed, n_other) = (n, tally.n_nothing);
                Some(NextStep::Stop(Trouble::FailingEndOther { n_passed, n_other, why: why.clone() }))
            }
            (_, _) if is_enough => Some(NextStep::Stop(Trouble::FailingEndPasses { n })),
            (_, _) => test,
        };
    }
    // The trials that were made must suffice.
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
    failing: Position,
    passing: Position,
    rules: SearchRules,
) -> Option<NextStep> {
    let tally = sums.at(passing);
    let test = Some(NextStep::Test(passing, Purpose::ConfirmPassing));
    if tally.counts.failed > 0 {
        let none_changed = sums.posterior(graph, rules).is_none();
        if sums.is_signed || none_changed >= SAME_AT_BOTH_ENDS {
            return Some(NextStep::Stop(Trouble::PassingEndFails));
        }
        // This may be a chance failure. The search allows for those once the bug is told apart from them.
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
        return Some(NextStep::Stop(trouble));
    }
    let of_failing = sums.at(failing).counts;
    let mut wanted = passes_that_tell_of(of_failing, LUCK_MAX_BEFORE).max(rules.repeat.unwrap_or(0));
    if !sums.is_signed && (of_failing.passed > 0 || tally.counts.failed > 0) {
        wanted = wanted.max(TRIES_THAT_MEASURE);
    }
    let is_enough = tally.counts.n() >= wanted || tally.is_spent();
    if is_enough { None } else { test }
}

/// Number of passes of a kernel thought to be without the bug that are hardly luck. Estimated from all trials
/// of kernels that have the bug if one of `first_new` is the first new subject.
pub fn passes_that_tell(graph: &Graph, sums: &Sums, rules: SearchRules, first_new: &[usize]) -> u32 {
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

/// Number of passes that are all luck with a probability of at most `luck_max`, if trials fail as often as
/// `counts` shows.
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

fn search(graph: &Graph, sums: &Sums, rules: SearchRules) -> NextStep {
    let untestable = sums.untestable();
    let data = sums.data(graph, &untestable, rules);
    let posterior = Posterior::of(data);
    let marks = marks(graph, sums, rules);
    let is_reliable = marks.is_some();
    if let Some(marks) = marks {
        match search::next(graph, &marks) {
            Next::Test(idx) => {
                let n_left = search::candidates(graph, &marks).count_ones(..);
                // Two more, because the answer is tested again.
                let n_trials_left = f64::from(search::steps_left(n_left)) + 2.0;
                return NextStep::Test(Position::Subject(idx), Purpose::Search { n_left, n_trials_left });
            }
            Next::Found(first_new) => {
                if let Some(again) = to_verify(graph, sums, rules, &first_new) {
                    return NextStep::Test(again, Purpose::Verify);
                }
            }
            Next::Contradiction => {}
        }
    }
    let (first_new, p) = posterior.most_likely();
    let conclusion = |first_new: Vec<usize>, is_enough: bool| Conclusion {
        is_sure: is_enough && first_new.len() == 1,
        one_of: if is_enough { (first_new.clone(), p) } else { posterior.likeliest(rules.confidence) },
        first_new,
        confidence: p,
        fail_rate: posterior.fail_rate(),
        chance_rate: posterior.chance_rate(),
    };
    if posterior.is_none() >= rules.confidence {
        return NextStep::Stop(Trouble::PassingEndFails);
    }
    let wanted = wanted(sums, rules, &posterior, is_reliable);
    if p >= wanted {
        return match to_verify(graph, sums, rules, &first_new) {
            Some(again) => NextStep::Test(again, Purpose::Verify),
            None => NextStep::Found(conclusion(first_new, true)),
        };
    }
    if sums.n_trials() >= TRIALS_MAX {
        return NextStep::Found(conclusion(first_new, false));
    }
    let position = |idx: Option<usize>| idx.map_or(Position::OldEnd, Position::Subject);
    match posterior.next(data, |idx| !sums.at(position(idx)).is_spent()) {
        None => NextStep::Found(conclusion(first_new, false)),
        Some((idx, gain)) => {
            let n_left = (0..graph.n_subjects()).filter(|&idx| posterior.is_first_new(idx) > 0.01).count();
            let why = Purpose::Search { n_left, n_trials_left: (posterior.doubt() / gain).max(1.0) };
            NextStep::Test(position(idx), why)
        }
    }
}

/// Confidence at which the search ends. Without a kernel signature the prior rates are a guess, and a wrong
/// guess makes a wrong answer look certain, so only a part of the doubt that the user allows is used.
fn wanted(sums: &Sums, rules: SearchRules, posterior: &Posterior, is_reliable: bool) -> f64 {
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

/// Each subject's mark if all trials can be trusted; `None` if two contradict each other.
fn marks(graph: &Graph, sums: &Sums, rules: SearchRules) -> Option<Vec<Option<Mark>>> {
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

/// The next position to test again before a single answer is reported: the answer, then its parents. If the
/// passing end is a parent, only its own passes tell that the bug is not older still (or was mended at all),
/// so it needs more of them.
fn to_verify(graph: &Graph, sums: &Sums, rules: SearchRules, first_new: &[usize]) -> Option<Position> {
    let &[culprit] = first_new else { return None };
    let parents = &graph.subject(culprit).parents;
    let before = parents.iter().map(|&parent| Position::Subject(parent));
    let old_end = parents.is_empty().then_some(Position::OldEnd);
    let (_, passing) = rules.ends(graph);
    let of_passing = passes_that_tell(graph, sums, rules, first_new).max(VERIFY_TRIES);
    [Position::Subject(culprit)].into_iter().chain(before).chain(old_end).find(|position| {
        let wanted = if *position == passing { of_passing } else { VERIFY_TRIES };
        let tally = sums.at(*position);
        tally.counts.n() < wanted && !tally.is_spent()
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
