//! The part of an attempt after its test: a thread of md or dm that stands, what the test left behind and
//! nobody can kill, a guest that does not power off. Each may be a deadlock that the test itself never
//! noticed.
//!
//! Deliberately not here: whether something stands ([`crate::attempt::progress`]), and what a guest is asked from outside
//! ([`crate::attempt::interrogation`]).

use std::time::Duration;

use protocol::event::Blame;
use protocol::evidence::TaskStack;
use protocol::frames::is_storage_frame;
use protocol::sample::Sample;
use protocol::{HangKind, Outcome};

use super::{AttemptState, Effect, Phase, SAMPLE_COUNTS_FOR, millis};
use crate::attempt::progress::{Hang, Progress};
use crate::machine::Ask;

/// For how many samples what cannot be killed is watched, as long as it moves; each is a second of the
/// guest's own time. Twice as long as the longest window of [`crate::attempt::progress`] for a task beside
/// which nobody moves.
const WATCHED_SAMPLES: u32 = 240;
/// Grace periods without a sample after which nobody can say any more whether it moves.
const BLIND_GRACE_PERIODS: u32 = 12;

/// Survivors that are named at most.
const NAMES_MAX: usize = 6;

/// Process id of the agent, which powers the guest off.
const AGENT_PID: u32 = 1;

impl AttemptState {
    /// The test has ended by itself: is a thread of md or dm stuck all the while, on a device that the test
    /// had no eyes for at the end? Then what it says of itself is not all.
    pub(super) fn stands_at_its_end(&mut self, at: Duration) -> Option<Vec<Effect>> {
        if at > self.last_sample + SAMPLE_COUNTS_FOR {
            return None;
        }
        let (name, Hang { kind, still_ms, stacks, unseen: _ }) = self.progress.thread_stood()?;
        let seen = format!("{} {name} stands in md or dm", self.said());
        self.overrule(Outcome::Hang { kind, silent_ms: still_ms, seen: Some(seen) });
        Some(self.ask_for_evidence(at, stacks))
    }

    /// True if something of the test is left that was killed and is still there, and can be watched.
    pub(super) fn leaves_something(&self) -> bool {
        self.job.sampled && self.facts.survivors.iter().any(|one| one.unkillable)
    }

    /// The test is over; what it left is watched until it has gone, or stands.
    pub(super) fn linger(&mut self, at: Duration) -> Vec<Effect> {
        self.phase = Phase::Lingering { since: at };
        self.progress = Progress::of_test_silent_for(self.limits.silence_timeout);
        vec![]
    }

    /// Takes a sample of what the test left.
    pub(super) fn look_at_leftovers(&mut self, at: Duration, sample: Sample) -> Vec<Effect> {
        self.last_sample = at;
        if !sample.tasks.iter().any(|task| task.of_test) {
            // They took long, and went.
            self.facts.survivors.iter_mut().for_each(|one| one.unkillable = false);
            return self.collect(at);
        }
        match self.progress.take(sample) {
            Some(Hang { kind, still_ms, stacks, unseen: _ }) => {
                let seen =
                    format!("{} left behind {}, which cannot be killed", self.said(), self.left_names());
                self.overrule(Outcome::Hang { kind, silent_ms: still_ms, seen: Some(seen) });
                self.ask_for_evidence(at, stacks)
            }
            None => vec![Effect::Ask(Ask::Times)],
        }
    }

    /// Ends the watch when nobody can look any more, or when it has lasted long enough. What was killed then
    /// and is there all the same stays unkillable, for which the verdict calls it a hang, though it moves: a
    /// writer that tries again for ever, say.
    pub(super) fn linger_on(&mut self, at: Duration, since: Duration) -> Vec<Effect> {
        if at > self.last_sample.max(since) + self.limits.grace_period * BLIND_GRACE_PERIODS {
            return self.ask_for_evidence(at, self.progress.stacks());
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
        effects.extend(self.ask_for_evidence(at, self.progress.stacks()));
        effects
    }

    /// What is seen after a test that ended by itself says more than its own word; not more than corruption
    /// or a crash, nor than a test that never ran.
    fn overrule(&mut self, outcome: Outcome) {
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

    /// What the test had come to, as the beginning of a sentence.
    fn said(&self) -> String {
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

    // ---- the power-off -----------------------------------------------------------------------

    /// The guest was asked to power off, and is still there: is it slow, or does it stand in md's or dm's doing
    /// (md_notify_reboot, md.c)? Of a test that went wrong already that is no news.
    pub(super) fn does_not_power_off(&mut self, at: Duration, since: Duration) -> Vec<Effect> {
        match self.outcome {
            Some(Outcome::Pass | Outcome::Warn { .. } | Outcome::Fail { .. } | Outcome::Skip { .. }) => {
                self.asked_to_power_off = Some(since);
                self.interrogate(at, since, 1)
            }
            Some(
                Outcome::Timeout { .. }
                | Outcome::Hang { .. }
                | Outcome::KernelCrash { .. }
                | Outcome::DataCorruption { .. }
                | Outcome::Interrupted
                | Outcome::Infra { .. },
            )
            | None => {
                let mut effects = vec![self.does_not_end()];
                effects.extend(self.kill());
                effects
            }
        }
    }

    /// What the guest said when it was asked why, if it was.
    pub(super) fn why_it_does_not_power_off(&mut self, at: Duration) -> Vec<Effect> {
        let Some(since) = self.asked_to_power_off.take() else { return vec![] };
        let in_storage = |stack: &&TaskStack| stack.frames.iter().any(|frame| is_storage_frame(frame));
        let mut waiting = self.witnessed.seen().iter().filter(in_storage);
        // It may wait for somebody else: a writeback that stands, say, when file systems are synced.
        let who = match waiting.clone().find(|stack| stack.pid == AGENT_PID) {
            Some(_) => "that".to_owned(),
            None => match waiting.find(|stack| stack.state == 'D') {
                Some(stack) => stack.comm.clone(),
                None => return vec![self.does_not_end()],
            },
        };
        let seen = format!("{} the guest does not power off: {who} waits in md or dm", self.said());
        let silent_ms = millis(at.saturating_sub(since));
        self.overrule(Outcome::Hang { kind: HangKind::NoProgress, silent_ms, seen: Some(seen) });
        vec![]
    }

    fn does_not_end(&self) -> Effect {
        self.remark(Blame::Harness, "the guest did not power off and was killed".to_owned())
    }
}
