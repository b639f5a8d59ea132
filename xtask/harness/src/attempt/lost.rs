//! The part of an attempt whose guest no longer speaks: the host is asked about it, then the guest itself,
//! past its agent.
//!
//! Deliberately not here: whether a silence means anything ([`crate::attempt::heartbeat`]), and what a guest
//! is asked ([`crate::attempt::interrogation`]).

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::event::Blame;
use protocol::evidence::TaskStack;
use protocol::frames::is_storage_frame;
use protocol::{HangKind, Outcome};

use crate::attempt::dump::Dump;
use crate::attempt::effect::Effect;
use crate::attempt::heartbeat::{Finding, Silence};
use crate::attempt::interrogation::{Interrogation, OutsideEvidence};
use crate::attempt::phase::{Interrogating, Phase, Why};
use crate::attempt::state::AttemptState;
use crate::attempt::suspicion::{Spin, Suspicion};
use crate::clock::millis;
use crate::machine::Answer;

/// Generations of processes that are followed.
const GENERATIONS_MAX: usize = 64;

impl AttemptState {
    // ---- a silent guest ----------------------------------------------------------------------

    /// The agent spoke.
    pub(super) fn agent_spoke(&mut self, at: Duration) -> Vec<Effect> {
        let mute = self.guest.spoke(at);
        if Silence::is_long(mute)
            && let Some(testing) = self.phase.test_mut()
        {
            // Output of that time did not get here.
            testing.last_output = at.min(testing.last_output + mute);
        }
        self.silence.broken();
        // It speaks again before it was made to panic: it was not lost.
        let was_lost = matches!(self.outcome, Some(Outcome::Hang { kind: HangKind::HeartbeatLost, .. }));
        if was_lost && !self.is_panic_ours() { self.found_again(mute) } else { vec![] }
    }

    fn found_again(&mut self, mute: Duration) -> Vec<Effect> {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Interrogating(Interrogating { why: Why::AgentIsSilent(testing), .. }) => {
                self.phase = Phase::Testing(testing);
            }
            other => {
                self.phase = other;
                return vec![];
            }
        }
        self.outcome = None;
        let words = format!("the guest said nothing for {} s, then went on", mute.as_secs());
        // It was given up too early. Memory that ran out and a busy host do that; a kernel that loses a
        // processor says so itself, as a lockup or a stall.
        vec![self.remark(Blame::Harness, words)]
    }

    /// Looks at the agent's silence while the test runs: true while it says nothing worth a verdict of its
    /// test.
    pub(super) fn listen(&mut self, at: Duration) -> (bool, Vec<Effect>) {
        let mute = self.guest.silent_for(at);
        let mut effects = match self.silence.tick(at, mute, self.limits.heartbeat_timeout) {
            Finding::Wait => vec![],
            Finding::Ask(asks) => asks.into_iter().map(Effect::Ask).collect(),
            Finding::Lost { seen, slowness } => {
                let (kind, silent_ms) = (HangKind::HeartbeatLost, millis(mute));
                self.interrogate_test(at, Outcome::Hang { kind, silent_ms, seen: Some(seen) }, slowness)
            }
            Finding::HostsFault { error } => self.fail(error),
        };
        effects.extend(self.look_at_suspicion(at));
        (Silence::is_long(mute), effects)
    }

    /// Takes the hypervisor's answer to a question about a silent guest.
    pub(super) fn silence_answered(&mut self, at: Duration, answer: &Answer) -> Vec<Effect> {
        match self.silence.take(at, answer) {
            Finding::HostsFault { error } if matches!(self.phase, Phase::Testing(_)) => self.fail(error),
            Finding::HostsFault { .. } | Finding::Wait | Finding::Ask(_) | Finding::Lost { .. } => vec![],
        }
    }

    // ---- asked from outside ------------------------------------------------------------------

    /// Gives a test up whose guest does not speak, and asks that from outside. Nothing if no test runs.
    pub(super) fn interrogate_test(&mut self, at: Duration, outcome: Outcome, slowness: u32) -> Vec<Effect> {
        let Some(testing) = self.phase.take_test() else { return vec![] };
        self.facts.test_ms = Some(millis(at.saturating_sub(testing.since)));
        self.conclude(outcome);
        self.interrogate(at, Why::AgentIsSilent(testing), slowness)
    }

    /// Asks a guest without its agent.
    pub(super) fn interrogate(&mut self, at: Duration, why: Why, slowness: u32) -> Vec<Effect> {
        // A guest that only does not power off is worth a dump if that turns out to be md's doing.
        let wants_dump = self.dump.is_wanted() && matches!(why, Why::AgentIsSilent(_));
        let (interrogation, asks) = Interrogation::begin(at, slowness, wants_dump);
        self.phase = Phase::Interrogating(Interrogating { interrogation, why });
        asks.into_iter().map(Effect::Ask).collect()
    }

    /// Goes on asking.
    pub(super) fn interrogate_on(&mut self, at: Duration) -> Vec<Effect> {
        let Phase::Interrogating(Interrogating { interrogation, .. }) = &mut self.phase else {
            return vec![];
        };
        if interrogation.is_handed_over() {
            return self.kill();
        }
        let mut effects: Vec<_> = interrogation.tick(at).into_iter().map(Effect::Ask).collect();
        if interrogation.is_dumping() && self.dump.is_wanted() {
            self.dump = Dump::Done;
            effects.push(Effect::Dump);
        }
        if interrogation.is_done() {
            effects.extend(self.take_outside_evidence());
            effects.extend(self.judge_power_off(at));
            effects.extend(self.dump_or(at, Self::kill));
        }
        effects
    }

    /// Records what the guest said when it was asked from outside, if it was, and has not been recorded.
    pub(super) fn take_outside_evidence(&mut self) -> Vec<Effect> {
        let told = self.phase.interrogation_mut().and_then(Interrogation::hand_over);
        let Some(OutsideEvidence { mut stacks, parents, text }) = told else { return vec![] };
        for stack in &mut stacks {
            stack.of_test = self.is_of_test(stack, &parents);
        }
        // With one processor, a spin in md or dm starves the agent, too.
        let spins = |stack: &&TaskStack| {
            stack.state == 'R' && stack.frames.iter().any(|frame| is_storage_frame(frame))
        };
        if let Some(spinning) = stacks.iter().find(spins)
            && let Some(Outcome::Hang { kind: kind @ HangKind::HeartbeatLost, seen, .. }) = &mut self.outcome
        {
            *kind = HangKind::Livelock;
            let what = format!("{} spins in md or dm", spinning.comm);
            *seen = Some(seen.take().map_or(what.clone(), |seen| format!("{what}; {seen}")));
        }
        let mut effects = vec![Effect::HostEvidence(text)];
        // Tasks of which nothing is known now stand where the sampler last saw them.
        let mut before = self.progress.stacks();
        before.retain(|stack| stacks.iter().all(|told| told.pid != stack.pid));
        let silent_ms = match &self.outcome {
            Some(Outcome::Hang { silent_ms, .. }) => Some(*silent_ms),
            _ => None,
        };
        if let Some(silent_ms) = silent_ms.filter(|_| !before.is_empty()) {
            let names: Vec<_> =
                before.iter().map(|stack| format!("{} (pid {})", stack.comm, stack.pid)).collect();
            let words = format!(
                "seen before the guest fell silent for {} s, not since: {}",
                silent_ms / 1000,
                names.join(", ")
            );
            effects.push(self.remark(Blame::Harness, words));
        }
        stacks.extend(before);
        effects.extend(self.evidence.stacks(stacks).map(Effect::Record));
        effects
    }

    // ---- a task that spins out of sight ------------------------------------------------------

    /// A task spends its time in the kernel, and nobody can say where: the processors are asked.
    pub(super) fn ask_where_it_spins(&mut self, at: Duration, pid: u32, still_ms: u64) -> Vec<Effect> {
        let Phase::Testing(testing) = &mut self.phase else { return vec![] };
        if testing.suspicion.is_some() {
            return vec![];
        }
        let (suspicion, ask) = Suspicion::begin(at, pid, still_ms);
        testing.suspicion = Some(suspicion);
        vec![Effect::Ask(ask)]
    }

    fn look_at_suspicion(&mut self, at: Duration) -> Vec<Effect> {
        let asked = self.phase.test_mut().map(|testing| &mut testing.suspicion);
        let asked = asked.and_then(|suspicion| suspicion.take_if(|suspicion| suspicion.is_over(at)));
        let Some(Spin { pid, still_ms, mut stacks, parents }) = asked.map(Suspicion::end) else {
            return vec![];
        };
        if stacks.is_empty() || !matches!(self.phase, Phase::Testing(_)) {
            self.progress.spins_elsewhere(pid);
            return vec![];
        }
        for stack in &mut stacks {
            stack.of_test = self.is_of_test(stack, &parents);
        }
        stacks.extend(self.progress.stacks().into_iter().filter(|stack| stack.pid != pid));
        let outcome = Outcome::Hang { kind: HangKind::Livelock, silent_ms: still_ms, seen: None };
        self.diagnose(at, outcome, stacks)
    }

    /// True for a task of the test's: one that was seen in its cgroup, one that descends from it, or one that
    /// was started after it, in the moments before the guest fell silent. A guest serves one test at a time.
    fn is_of_test(&self, stack: &TaskStack, parents: &BTreeMap<u32, u32>) -> bool {
        let Some(first) = self.test_pid else { return self.progress.is_of_test(stack.pid) };
        let is_kernel_thread = || stack.frames.iter().any(|frame| frame.starts_with("ret_from_fork"));
        let is_later = stack.pid >= first && !is_kernel_thread() && !is_helper(&stack.comm);
        self.progress.is_of_test(stack.pid) || descends_from(first, stack.pid, parents) || is_later
    }
}

/// True for programs that a guest runs beside its test: `exe` is the agent, which the kernel names by
/// `/proc/self/exe`, `dmsetup` may be one of its questions, `modprobe` the kernel's, and udev looks at every
/// device.
fn is_helper(comm: &str) -> bool {
    ["exe", "dmsetup", "modprobe", "kmod"].contains(&comm) || comm.contains("udev")
}

fn descends_from(ancestor: u32, pid: u32, parents: &BTreeMap<u32, u32>) -> bool {
    let chain = std::iter::successors(Some(pid), |pid| parents.get(pid).copied());
    // A guest may say anything, also that processes descend from each other in a circle.
    chain.take(GENERATIONS_MAX).any(|pid| pid == ancestor)
}
