//! The part of an attempt that goes past the guest's agent: a guest that no longer speaks, a task of which
//! only the processor knows where it is, a dump of the memory.
//!
//! Deliberately not here: whether a silence means anything ([`super::Silence`]), and what a guest is asked
//! ([`super::Interrogation`]).

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::event::Blame;
use protocol::evidence::TaskStack;
use protocol::{HangKind, Outcome};

use super::{AttemptState, Effect, Phase, millis};
use crate::attempt::heartbeat::{Finding, Silence};
use crate::attempt::interrogation::{Interrogation, OutsideEvidence};
use crate::console::Backtraces;
use crate::machine::{Answer, Ask, HypervisorEvent};
use protocol::frames::is_storage_frame;

/// How long the processors may take to say where they are.
const WHEREABOUTS: Duration = Duration::from_secs(2);
/// A panic's last words come before the machine stands still.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Generations of processes that are followed.
const GENERATIONS_MAX: usize = 64;

/// A task that spins where its stack cannot be read: on another processor than who looks.
#[derive(Debug)]
pub(super) struct Suspicion {
    pid: u32,
    since: Duration,
    still_ms: u64,
    traces: Backtraces,
}

impl Suspicion {
    pub(super) fn heard(&mut self, _at: Duration, line: &str) {
        self.traces.look(line);
    }
}

/// Whether the guest's memory is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dump {
    #[default]
    NotWanted,
    Wanted,
    /// Written, or tried.
    Done,
}

impl Dump {
    pub(super) fn is_wanted(self) -> bool {
        self == Dump::Wanted
    }
}

impl AttemptState {
    /// The same, which writes the guest's memory if it hangs or crashes.
    pub(crate) fn with_dump(mut self, wanted: bool) -> Self {
        self.dump = if wanted { Dump::Wanted } else { Dump::NotWanted };
        self
    }

    // ---- a silent guest ----------------------------------------------------------------------

    /// The agent spoke.
    pub(super) fn agent_spoke(&mut self, at: Duration) -> Vec<Effect> {
        let mute = at.saturating_sub(self.last_word);
        self.last_word = at;
        if Silence::is_long(mute) {
            // What the test printed meanwhile did not get here.
            self.last_output = at.min(self.last_output + mute);
        }
        self.silence.broken();
        // It speaks again before it was made to panic: it was not lost.
        let was_lost = matches!(self.outcome, Some(Outcome::Hang { kind: HangKind::HeartbeatLost, .. }));
        if self.phase == Phase::Interrogating && was_lost && !self.is_struck() {
            return self.found_again(mute);
        }
        vec![]
    }

    fn found_again(&mut self, mute: Duration) -> Vec<Effect> {
        let Some(since) = self.started_at else { return vec![] };
        self.interrogation = None;
        self.outcome = None;
        self.phase = Phase::Testing { since };
        let words = format!("the guest said nothing for {} s, then went on", mute.as_secs());
        // It was given up too early. Memory that ran out and a busy host do that; a kernel that loses a processor says so
        // itself, as a lockup or a stall.
        vec![self.remark(Blame::Harness, words)]
    }

    /// Looks at the agent's silence: true while it says nothing worth a verdict of its test.
    pub(super) fn listen(&mut self, at: Duration, since: Duration) -> (bool, Vec<Effect>) {
        let mute = at.saturating_sub(self.last_word);
        let mut effects = match self.silence.tick(at, mute, self.limits.heartbeat_timeout) {
            Finding::Wait => vec![],
            Finding::Ask(asks) => asks.into_iter().map(Effect::Ask).collect(),
            Finding::Lost { seen, slowness } => self.lost(at, since, seen, slowness),
            Finding::HostsFault { error } => self.fail(error),
        };
        effects.extend(self.look_at_suspicion(at, since));
        (Silence::is_long(mute), effects)
    }

    fn lost(&mut self, at: Duration, since: Duration, seen: String, slowness: u32) -> Vec<Effect> {
        let mute = at.saturating_sub(self.last_word);
        self.facts.test_ms = Some(millis(at.saturating_sub(since)));
        let kind = HangKind::HeartbeatLost;
        self.conclude(Outcome::Hang { kind, silent_ms: millis(mute), seen: Some(seen) });
        self.interrogate(at, since, slowness)
    }

    /// Asks a guest without its agent.
    pub(super) fn interrogate(&mut self, at: Duration, since: Duration, slowness: u32) -> Vec<Effect> {
        self.phase = Phase::Interrogating;
        self.started_at = Some(since);
        // A guest that only does not power off is worth a dump if that turns out to be md's doing.
        let wants_dump = self.dump.is_wanted() && self.asked_to_power_off.is_none();
        let (interrogation, asks) = Interrogation::begin(at, slowness, wants_dump);
        self.interrogation = Some(interrogation);
        asks.into_iter().map(Effect::Ask).collect()
    }

    /// Goes on asking.
    pub(super) fn interrogate_on(&mut self, at: Duration) -> Vec<Effect> {
        let Some(interrogation) = &mut self.interrogation else { return self.kill() };
        let mut effects: Vec<_> = interrogation.tick(at).into_iter().map(Effect::Ask).collect();
        if interrogation.is_dumping() && self.dump.is_wanted() {
            self.dump = Dump::Done;
            effects.push(Effect::Dump);
        }
        if interrogation.is_done() {
            effects.extend(self.confess());
            effects.extend(self.why_it_does_not_power_off(at));
            effects.extend(self.dump_or(at, Self::kill));
        }
        effects
    }

    /// True if the guest was made to panic by us.
    pub(super) fn is_struck(&self) -> bool {
        self.struck || self.interrogation.as_ref().is_some_and(Interrogation::was_nmi_sent)
    }

    /// Takes down what the guest said when it was asked from outside, if it was.
    pub(super) fn confess(&mut self) -> Vec<Effect> {
        self.struck = self.is_struck();
        let Some(mut interrogation) = self.interrogation.take() else { return vec![] };
        let Some(OutsideEvidence { mut stacks, parents, text }) = interrogation.hand_over() else {
            return vec![];
        };
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
        // Of those of whom nothing is known now, where the sampler last saw them, and when that was.
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
        effects.extend(self.witnessed.stacks(stacks).map(Effect::Record));
        effects
    }

    /// Takes what the hypervisor answers.
    pub(super) fn answer(&mut self, at: Duration, answer: &Answer) -> Vec<Effect> {
        self.interrogation.iter_mut().for_each(|interrogation| interrogation.take(answer));
        if let Answer::Dumped(result) = answer {
            return self.dumped(at, result);
        }
        if let Answer::Times(times) = answer
            && let Some(own_ms) = self.own_time.look(times)
        {
            self.share.look(at, own_ms);
            self.progress.had_time(own_ms);
        }
        match self.silence.take(at, answer) {
            Finding::HostsFault { error } if matches!(self.phase, Phase::Testing { .. }) => self.fail(error),
            Finding::HostsFault { .. } | Finding::Wait | Finding::Ask(_) | Finding::Lost { .. } => vec![],
        }
    }

    // ---- a task that spins out of sight ------------------------------------------------------

    /// A task spends its time in the kernel, and nobody can say where: the processors are asked.
    pub(super) fn suspect(&mut self, at: Duration, pid: u32, still_ms: u64) -> Vec<Effect> {
        if self.suspicion.is_some() {
            return vec![];
        }
        self.suspicion = Some(Suspicion { pid, since: at, still_ms, traces: Backtraces::default() });
        vec![Effect::Ask(Ask::SysRq('l'))]
    }

    fn look_at_suspicion(&mut self, at: Duration, since: Duration) -> Vec<Effect> {
        let Some(Suspicion { pid, still_ms, traces, .. }) =
            self.suspicion.take_if(|suspicion| at > suspicion.since + WHEREABOUTS)
        else {
            return vec![];
        };
        let parents = traces.parents().clone();
        let mut found = traces.stacks();
        found.retain(|stack| stack.pid == pid && stack.frames.iter().any(|frame| is_storage_frame(frame)));
        if found.is_empty() || !matches!(self.phase, Phase::Testing { .. }) {
            self.progress.spins_elsewhere(pid);
            return vec![];
        }
        for stack in &mut found {
            stack.of_test = self.is_of_test(stack, &parents);
            stack.still_ms = still_ms;
        }
        found.extend(self.progress.stacks().into_iter().filter(|stack| stack.pid != pid));
        let outcome = Outcome::Hang { kind: HangKind::Livelock, silent_ms: still_ms, seen: None };
        self.diagnose(at, since, outcome, found)
    }

    /// True for a task of the test's: one that was seen in its cgroup, one that descends from it, or one that was
    /// started after it, in the moments before the guest fell silent. A guest serves one test at a time.
    fn is_of_test(&self, stack: &TaskStack, parents: &BTreeMap<u32, u32>) -> bool {
        let Some(first) = self.test_pid else { return self.progress.is_of_test(stack.pid) };
        let is_kernel_thread = || stack.frames.iter().any(|frame| frame.starts_with("ret_from_fork"));
        let is_later = stack.pid >= first && !is_kernel_thread() && !is_helper(&stack.comm);
        self.progress.is_of_test(stack.pid) || descends_from(first, stack.pid, parents) || is_later
    }

    // ---- a dump of the memory ----------------------------------------------------------------

    /// Writes the guest's memory if that is wanted and its end is worth it; else does `other`.
    pub(super) fn dump_or(
        &mut self,
        at: Duration,
        other: impl FnOnce(&mut Self) -> Vec<Effect>,
    ) -> Vec<Effect> {
        let is_worth_it = self.fate.panicked_since().is_some()
            || matches!(
                self.outcome,
                Some(Outcome::Hang { .. } | Outcome::Timeout { .. } | Outcome::KernelCrash { .. })
            );
        if !self.dump.is_wanted() || !is_worth_it || self.killed {
            return other(self);
        }
        self.dump = Dump::Done;
        self.phase = Phase::Dumping { since: at };
        vec![Effect::Dump, Effect::Show("writing the guest's memory".to_owned())]
    }

    /// A panic whose machine stands still for us.
    pub(super) fn dump_of_panic(&mut self, at: Duration, since: Duration) -> Vec<Effect> {
        if self.dump.is_wanted() && at > since + LAST_WORDS { self.dump_or(at, |_| vec![]) } else { vec![] }
    }

    /// The memory has been written, or not.
    pub(super) fn dumped(&mut self, at: Duration, result: &Result<(), String>) -> Vec<Effect> {
        let words = match result {
            Ok(()) => "the guest's memory is in `memory.kdump`: with the kernel's debug symbols, \
                       `drgn -c memory.kdump` or `crash vmlinux memory.kdump` opens it"
                .to_owned(),
            Err(error) => format!("the guest's memory was not written: {error}"),
        };
        let mut effects = vec![self.remark(Blame::Harness, words)];
        match self.phase {
            Phase::Dumping { .. } => effects.extend(self.kill()),
            Phase::Interrogating => {
                let asks = self.interrogation.iter_mut().flat_map(|asking| asking.dumped(at));
                effects.extend(asks.map(Effect::Ask));
            }
            Phase::Booting
            | Phase::Testing { .. }
            | Phase::Diagnosing { .. }
            | Phase::Lingering { .. }
            | Phase::Collecting { .. }
            | Phase::Ending { .. }
            | Phase::Ended => return vec![],
        }
        effects
    }

    /// True for the hypervisor's word that the guest stands still, while that is our doing.
    pub(super) fn is_stopped_for_dump(&self, event: &HypervisorEvent) -> bool {
        let is_dumping = matches!(self.phase, Phase::Dumping { .. })
            || self.interrogation.as_ref().is_some_and(Interrogation::is_dumping);
        is_dumping && *event == HypervisorEvent::Stopped
    }
}

/// True for programs that a guest runs beside its test: `exe` is the agent, which the kernel names by
/// `/proc/self/exe`, `dmsetup` may be one of its questions, `modprobe` the kernel's, and udev looks at every device.
fn is_helper(comm: &str) -> bool {
    ["exe", "dmsetup", "modprobe", "kmod"].contains(&comm) || comm.contains("udev")
}

fn descends_from(ancestor: u32, pid: u32, parents: &BTreeMap<u32, u32>) -> bool {
    let chain = std::iter::successors(Some(pid), |pid| parents.get(pid).copied());
    // What a guest says may go in circles.
    chain.take(GENERATIONS_MAX).any(|pid| pid == ancestor)
}
