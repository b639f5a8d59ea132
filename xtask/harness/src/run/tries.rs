//! Decides how many times each test is tried, after each try. Pure: is told the results and the time since
//! the run began.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use reports::{Judged, Verdict};

/// The user's choice of how many times tests are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Maximum number of tries of each test; `None` for as many as the other fields allow.
    pub repeat: Option<u32>,
    /// True to stop trying a test once it went wrong.
    pub until_fail: bool,
    /// Time since the run's start after which no try begins.
    pub within: Option<Duration>,
    /// Maximum number of retries after a try that went wrong in a way that a pass makes up for.
    pub retries: u32,
}

impl Default for Times {
    /// One try of each test.
    fn default() -> Self {
        Times { repeat: Some(1), until_fail: false, within: None, retries: 0 }
    }
}

impl Times {
    /// Validates the choice of a command line.
    pub fn new(
        repeat: Option<u32>,
        until_fail: bool,
        within: Option<Duration>,
        retries: Option<u32>,
    ) -> Self {
        let is_open = until_fail || within.is_some();
        let repeat = if is_open { repeat } else { Some(repeat.unwrap_or(1)) };
        Times { repeat, until_fail, within, retries: retries.unwrap_or(0) }
    }

    /// Tries of each test that are planned before the first one starts; 1 if the number depends on results or
    /// time.
    pub(crate) fn n_planned(self) -> u32 {
        if self.is_open() { 1 } else { self.repeat.unwrap_or(1) }
    }

    /// True if the number of tries depends on their results or on time.
    pub(crate) fn is_open(self) -> bool {
        self.until_fail || self.within.is_some()
    }
}

/// Result of a try, as far as further tries depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TryResult {
    /// A try without anything unexpected.
    Fine,
    /// A failure of the test itself or of the host: a later pass makes up for it.
    Redeemable,
    /// A crash, a hang or corrupted data: a later pass does not make up for it.
    Final,
    /// A skip: another try would be skipped, too.
    Nothing,
}

impl TryResult {
    /// The result that a verdict amounts to.
    pub(crate) fn of(judged: &Judged) -> TryResult {
        match judged.verdict {
            Verdict::Passed
            | Verdict::PassedWithComplaints
            | Verdict::KnownFailure
            | Verdict::UnexpectedPass
            | Verdict::Flaky => TryResult::Fine,
            Verdict::Failed | Verdict::Hung | Verdict::Crashed | Verdict::Corrupted | Verdict::Infra => {
                if judged.is_redeemable() {
                    TryResult::Redeemable
                } else {
                    TryResult::Final
                }
            }
            Verdict::Skipped | Verdict::UnexpectedSkip | Verdict::NotRun | Verdict::Interrupted => {
                TryResult::Nothing
            }
        }
    }
}

/// Another try that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextTry {
    /// Attempt to copy: for a retry the failed attempt, otherwise the first attempt of the same test.
    pub(crate) like: u32,
    /// Number of this try of the test, from 2.
    pub(crate) try_idx: u32,
    /// True if this is a retry of `like`, which went wrong.
    pub(crate) is_retry: bool,
}

/// The tries of one test on one kernel.
#[derive(Clone, Copy, Debug)]
struct TestOnKernel {
    first: u32,
    n_tries: u32,
    /// True if no more tries are wanted.
    is_done: bool,
}

/// All tries so far.
#[derive(Clone, Debug)]
pub(crate) struct Tries {
    times: Times,
    tests: Vec<TestOnKernel>,
    /// By attempt: the index of its test and kernel, and the number of tries in a row up to it that went
    /// wrong.
    attempts: BTreeMap<u32, (usize, u32)>,
    /// Attempts that went wrong and wait for a retry.
    wrong: VecDeque<u32>,
    /// Attempts that had a retry.
    retried: BTreeSet<u32>,
}

impl Tries {
    /// The planned tries: each attempt's number, the key of its test and kernel, and the attempt that it
    /// retries.
    pub(crate) fn new<K: Ord>(
        times: Times,
        planned: impl IntoIterator<Item = (u32, K, Option<u32>)>,
    ) -> Self {
        let mut tries = Tries {
            times,
            tests: Vec::new(),
            attempts: BTreeMap::new(),
            wrong: VecDeque::new(),
            retried: BTreeSet::new(),
        };
        let mut places = BTreeMap::new();
        for (attempt, key, retry_of) in planned {
            let idx = *places.entry(key).or_insert_with(|| {
                tries.tests.push(TestOnKernel { first: attempt, n_tries: 0, is_done: false });
                tries.tests.len() - 1
            });
            tries.add(attempt, idx, retry_of);
        }
        tries
    }

    fn add(&mut self, attempt: u32, idx: usize, retry_of: Option<u32>) {
        self.tests[idx].n_tries += 1;
        let n_wrong = retry_of.and_then(|before| self.attempts.get(&before)).map_or(0, |(_, n)| n + 1);
        self.retried.extend(retry_of);
        self.attempts.insert(attempt, (idx, n_wrong));
    }

    /// Notes the result of a finished attempt.
    pub(crate) fn over(&mut self, attempt: u32, came: TryResult) {
        let Some(&(idx, n_wrong)) = self.attempts.get(&attempt) else { return };
        match came {
            TryResult::Fine => {}
            TryResult::Redeemable => {
                self.tests[idx].is_done |= self.times.until_fail;
                // A resumed run may know the retry before it is told the result that caused it.
                if n_wrong < self.times.retries && !self.retried.contains(&attempt) {
                    self.wrong.push_back(attempt);
                }
            }
            TryResult::Final => self.tests[idx].is_done |= self.times.until_fail,
            TryResult::Nothing => self.tests[idx].is_done = true,
        }
    }

    /// The next try, if one is wanted now; `attempt` will be its number.
    pub(crate) fn next(&mut self, attempt: u32, elapsed: Duration) -> Option<NextTry> {
        let (idx, like, is_retry) = if let Some(wrong) = self.wrong.pop_front() {
            (self.attempts.get(&wrong)?.0, wrong, true)
        } else if self.times.is_open() && self.times.within.is_none_or(|within| elapsed < within) {
            let wanted = |test: &&(usize, TestOnKernel)| {
                !test.1.is_done && self.times.repeat.is_none_or(|most| test.1.n_tries < most)
            };
            let tests = self.tests.iter().copied().enumerate().collect::<Vec<_>>();
            // Tests take turns.
            let (idx, test) = *tests.iter().filter(wanted).min_by_key(|(_, test)| test.n_tries)?;
            (idx, test.first, false)
        } else {
            return None;
        };
        self.add(attempt, idx, is_retry.then_some(like));
        Some(NextTry { like, try_idx: self.tests[idx].n_tries, is_retry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Runs `n` tests, one VM at a time, a minute each; `came` gives the result by test and by number of
    /// tries before.
    fn play(times: Times, n: u32, came: impl Fn(u32, u32) -> TryResult) -> Vec<(u32, Option<u32>)> {
        let planned = (0..n * times.n_planned()).map(|idx| (idx + 1, idx % n, None));
        let mut tries = Tries::new(times, planned.clone());
        let mut test_of: BTreeMap<u32, u32> = planned.map(|(attempt, test, _)| (attempt, test)).collect();
        let mut queue: VecDeque<(u32, Option<u32>)> =
            test_of.keys().map(|attempt| (*attempt, None)).collect();
        let mut done: Vec<(u32, Option<u32>)> = Vec::new();
        let mut next = test_of.len() as u32 + 1;
        loop {
            if queue.is_empty()
                && let Some(more) = tries.next(next, Duration::from_secs(60) * done.len() as u32)
            {
                let test = test_of[&more.like];
                assert_eq!(more.try_idx, 1 + test_of.values().filter(|other| **other == test).count() as u32);
                test_of.insert(next, test);
                queue.push_back((next, more.is_retry.then_some(more.like)));
                next += 1;
            }
            let Some((attempt, retry_of)) = queue.pop_front() else { return done };
            let test = test_of[&attempt];
            let before = done.iter().filter(|(other, _)| test_of[other] == test).count() as u32;
            tries.over(attempt, came(test, before));
            done.push((attempt, retry_of));
            assert!(done.len() < 10_000, "it never ends");
        }
    }

    fn n_tries(times: Times, n: u32, came: impl Fn(u32, u32) -> TryResult) -> usize {
        play(times, n, came).len()
    }

    #[test]
    fn once_unless_asked() {
        assert_eq!(n_tries(Times::default(), 3, |_, _| TryResult::Redeemable), 3);
        assert_eq!(n_tries(Times::new(Some(5), false, None, None), 3, |_, _| TryResult::Redeemable), 15);
    }

    #[test]
    fn until_it_fails_each_by_itself() {
        let until_fail = Times::new(None, true, None, None);
        let came = |test, before| if before == test * 10 { TryResult::Redeemable } else { TryResult::Fine };
        assert_eq!(n_tries(until_fail, 3, came), 1 + 11 + 21);
        assert_eq!(n_tries(Times::new(Some(5), true, None, None), 3, came), 1 + 5 + 5);
        assert_eq!(n_tries(until_fail, 3, |_, _| TryResult::Nothing), 3, "a skip is a skip for ever");
        assert_eq!(n_tries(until_fail, 3, |_, _| TryResult::Final), 3);
    }

    #[test]
    fn for_a_time_each_in_turn() {
        let hour = Times::new(None, false, Some(HOUR), None);
        let done = play(hour, 3, |_, _| TryResult::Redeemable);
        assert_eq!(done.len(), 60);
        assert_eq!(n_tries(Times::new(None, true, Some(HOUR), None), 3, |_, _| TryResult::Fine), 60);
        assert_eq!(n_tries(Times::new(Some(4), false, Some(HOUR), None), 3, |_, _| TryResult::Fine), 12);
        assert_eq!(
            n_tries(Times::new(None, false, Some(HOUR), None), 90, |_, _| TryResult::Fine),
            90,
            "once at least"
        );
    }

    #[test]
    fn retries_end_with_a_pass() {
        let retries = Times::new(None, false, None, Some(3));
        let came = |test, before| if before >= test { TryResult::Fine } else { TryResult::Redeemable };
        // Tests 0 to 3 pass in the end, 4 and 5 do not.
        assert_eq!(n_tries(retries, 6, came), 1 + 2 + 3 + 4 + 4 + 4);
        let done = play(retries, 2, |_, _| TryResult::Redeemable);
        assert_eq!(done[2..5], [(3, Some(1)), (4, Some(2)), (5, Some(3))]);
        assert_eq!(n_tries(retries, 2, |_, _| TryResult::Nothing), 2);
        assert_eq!(n_tries(retries, 2, |_, _| TryResult::Final), 2, "no pass would make up for it");
    }

    proptest! {
        /// A resumed run knows only its plan and the results; it must want the same tries as one that was not
        /// interrupted.
        #[test]
        fn what_is_known_is_enough_to_go_on(
            n in 1..4_u32, cut in 0..30_usize, fails in 0..9_u32, retries in 0..3_u32, until_fail in any::<bool>(),
        ) {
            let times = Times { repeat: Some(6), until_fail, within: None, retries };
            let came = |attempt: u32| if attempt % 9 < fails { TryResult::Redeemable } else { TryResult::Fine };
            let planned: Vec<(u32, u32, Option<u32>)> =
                (0..n * times.n_planned()).map(|idx| (idx + 1, idx % n, None)).collect();
            let mut tries = Tries::new(times, planned.clone());
            let (mut plan, mut next) = (planned, 0);
            let step = |tries: &mut Tries, plan: &mut Vec<(u32, u32, Option<u32>)>, next: &mut usize| {
                if *next == plan.len() {
                    let number = plan.len() as u32 + 1;
                    let Some(more) = tries.next(number, Duration::ZERO) else { return false };
                    let test = plan[more.like as usize - 1].1;
                    plan.push((number, test, more.is_retry.then_some(more.like)));
                }
                tries.over(plan[*next].0, came(plan[*next].0));
                *next += 1;
                true
            };
            for _ in 0..cut {
                step(&mut tries, &mut plan, &mut next);
            }
            let mut resumed = Tries::new(times, plan.clone());
            for (attempt, _, _) in &plan[..next] {
                resumed.over(*attempt, came(*attempt));
            }
            let (mut other_plan, mut other_next) = (plan.clone(), next);
            while step(&mut tries, &mut plan, &mut next) {}
            while step(&mut resumed, &mut other_plan, &mut other_next) {}
            prop_assert_eq!(plan, other_plan);
        }
    }
}
