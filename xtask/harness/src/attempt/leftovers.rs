//! The part of an attempt at the end of its test: a thread of md or dm that stands, and processes that the
//! test left behind and nobody can kill. Either may be a deadlock that the test itself never noticed.
//!
//! Deliberately not here: whether something stands ([`crate::attempt::progress`]).

use std::time::Duration;

use protocol::Outcome;
use protocol::event::Blame;
use protocol::sample::Sample;

use crate::attempt::effect::Effect;
use crate::attempt::phase::{Lingering, Phase};
use crate::attempt::progress::{Hang, Progress};
use crate::attempt::running::SAMPLE_COUNTS_FOR;
use crate::attempt::state::AttemptState;
use crate::machine::Ask;

/// Samples for which processes that cannot be killed are watched while they move; each is a second of the
/// guest's own time. Twice the longest window of [`crate::attempt::progress`] for a task beside which nobody
/// moves.
const WATCHED_SAMPLES: u32 = 240;
/// Grace periods without a sample after which nobody can say any more whether they move.
const BLIND_GRACE_PERIODS: u32 = 12;

/// Survivors that are named at most.
const NAMES_MAX: usize = 6;

impl AttemptState {
    /// The test has ended by itself: does a thread of md or dm stand all the while, on a device that the test
    /// had no eyes for at the end? Then its own word is not all.
    pub(super) fn stands_at_its_end(&mut self, at: Duration) -> Option<Vec<Effect>> {
        let Phase::Testing(testing) = &self.phase else { return None };
        if at > testing.last_sample + SAMPLE_COUNTS_FOR {
            return None;
        }
        let (name, Hang { kind, still_ms, stacks, unseen: _ }) = self.progress.thread_stood()?;
        let seen = format!("{} {name} stands in md or dm", self.so_far());
        self.overrule(Outcome::Hang { kind, silent_ms: still_ms, seen: Some(seen) });
        Some(self.ask_for_evidence(at, None, stacks))
    }

    /// True if something of the test is left that was killed and is still there, and can be watched.
    pub(super) fn leaves_something(&self) -> bool {
        self.is_watched && self.facts.survivors.iter().any(|one| one.unkillable)
    }

    /// The test is over; the processes that it left are watched until they have gone, or stand.
    pub(super) fn linger(&mut self, at: Duration) -> Vec<Effect> {
        self.phase = Phase::Lingering(Lingering { since: at, last_sample: at });
        self.progress = Progress::of_test_silent_for(self.limits.silence_timeout);
        vec![]
    }

    /// Takes a sample of what the test left.
    pub(super) fn look_at_leftovers(&mut self, at: Duration, sample: Sample) -> Vec<Effect> {
        if !sample.tasks.iter().any(|task| task.of_test) {
            // The processes took long, and went.
            self.facts.survivors.iter_mut().for_each(|one| one.unkillable = false);
            return self.collect(at);
        }
        match self.progress.take(sample) {
            Some(Hang { kind, still_ms, stacks, unseen: _ }) => {
                let seen =
                    format!("{} left behind {}, which cannot be killed", self.so_far(), self.left_names());
                self.overrule(Outcome::Hang { kind, silent_ms: still_ms, seen: Some(seen) });
                self.ask_for_evidence(at, None, stacks)
            }
            None => vec![Effect::Ask(Ask::Times)],
        }
    }

    /// Ends the watch when nobody can look any more, or when it has lasted long enough. A process that was
    /// killed and is there all the same then stays unkillable, for which the verdict calls it a hang, though
    /// it moves: a writer that tries again for ever, say.
    pub(super) fn linger_on(&mut self, at: Duration) -> Vec<Effect> {
        let Phase::Lingering(Lingering { since, last_sample }) = self.phase else { return vec![] };
        if at > last_sample + self.limits.grace_period * BLIND_GRACE_PERIODS {
            return self.ask_for_evidence(at, None, self.progress.stacks());
        }
        if !self.progress.was_watched_for(WATCHED_SAMPLES) && at <= since + self.limits.leaving_timeout {
            return vec![];
        }
        let text = format!(
            "left behind {}: killed, and still there after {} s, though not at a standstill",
            self.left_names(),
            at.saturating_sub(since).as_secs()
        );
        let mut effects = vec![self.remark(Blame::Test, text)];
        effects.extend(self.ask_for_evidence(at, None, self.progress.stacks()));
        effects
    }

    /// Replaces the outcome of a test that ended by itself by one that was seen after it, which says more
    /// than the test's own word; not more than corruption or a crash, nor than that the test never ran.
    pub(super) fn overrule(&mut self, outcome: Outcome) {
        match self.outcome {
            None
            | Some(Outcome::Pass | Outcome::Warn { .. } | Outcome::Fail { .. } | Outcome::Skip { .. }) => {
                self.outcome = Some(outcome);
            }
            Some(
                Outcome::Timeout { .. }
                | Outcome::Hang { .. }
                | Outcome::KernelCrash { .. }
                | Outcome::DataCorruption { .. }
                | Outcome::Interrupted
                | Outcome::Infra { .. },
            ) => {}
        }
    }

    /// The test's outcome so far, as the beginning of a sentence.
    pub(super) fn so_far(&self) -> String {
        match &self.outcome {
            None | Some(Outcome::Pass) => "the test passed, and".to_owned(),
            Some(other) => format!("the test ({})", other.detail()),
        }
    }

    fn left_names(&self) -> String {
        let left: Vec<_> = self.facts.survivors.iter().filter(|one| one.unkillable).collect();
        let mut names: Vec<_> =
            left.iter().take(NAMES_MAX).map(|one| format!("{} (pid {})", one.comm, one.pid)).collect();
        if left.len() > NAMES_MAX {
            names.push(format!("{} more", left.len() - NAMES_MAX));
        }
        names.join(", ")
    }
}
