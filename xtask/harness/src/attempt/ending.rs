//! The part of an attempt after its test: its files come back, its memory is written if that is wanted, and
//! the guest powers off, or does not, which may be a deadlock in md or dm that the test itself never noticed.
//!
//! Deliberately not here: what the test left behind ([`super::leftovers`]), and what a guest is asked from
//! outside ([`crate::attempt::interrogation`]).

use std::time::Duration;

use protocol::event::Blame;
use protocol::evidence::TaskStack;
use protocol::frames::is_storage_frame;
use protocol::wire::Message;
use protocol::{HangKind, Outcome};

use crate::attempt::dump::Dump;
use crate::attempt::effect::Effect;
use crate::attempt::interrogation::Interrogation;
use crate::attempt::phase::{Collecting, Interrogating, Phase, Why};
use crate::attempt::state::AttemptState;
use crate::clock::millis;
use crate::guest::files::FileMessage;
use crate::machine::HypervisorEvent;

/// Longest time for all files together, in grace periods. Files that may come take seconds; a guest that
/// sends a byte now and then would never end.
const COLLECTING_GRACE_PERIODS: u32 = 12;

/// Process id of the agent, which powers the guest off.
const AGENT_PID: u32 = 1;

impl AttemptState {
    // ---- files -------------------------------------------------------------------------------

    /// Asks for the guest's files.
    pub(super) fn collect(&mut self, at: Duration) -> Vec<Effect> {
        let given_up = self.phase.take_given_up();
        self.phase = Phase::Collecting(Collecting { since: at, last_file: at, given_up });
        vec![Effect::Send(self.guest.session.ask_for_files())]
    }

    /// Takes a message of the files port.
    pub(super) fn file(&mut self, at: Duration, message: Message) -> Vec<Effect> {
        let Phase::Collecting(collecting) = &mut self.phase else { return self.garbage() };
        match self.guest.session.file(&message) {
            FileMessage::Part => {
                // As long as something comes, it is no time to give up.
                collecting.last_file = at;
                vec![Effect::File(message)]
            }
            FileMessage::All { n_left_out } => {
                let left =
                    || self.remark(Blame::Harness, format!("{n_left_out} files were left in the guest"));
                let mut effects: Vec<_> = (n_left_out > 0).then(left).into_iter().collect();
                effects.extend(self.power_off(at));
                effects
            }
            FileMessage::Garbage => self.garbage(),
        }
    }

    /// Looks at the clock while files come back.
    pub(super) fn collect_on(&mut self, at: Duration) -> Vec<Effect> {
        let Phase::Collecting(Collecting { since, last_file, .. }) = &self.phase else { return vec![] };
        let grace_period = self.limits.grace_period;
        if at <= *last_file + grace_period && at <= *since + grace_period * COLLECTING_GRACE_PERIODS {
            return vec![];
        }
        let mut effects = vec![self.remark(Blame::Harness, "files did not come back in time".into())];
        effects.extend(self.power_off(at));
        effects
    }

    // ---- a dump of the memory ----------------------------------------------------------------

    /// Writes the guest's memory if that is wanted and its end is worth it; else does `other`.
    pub(super) fn dump_or(
        &mut self,
        at: Duration,
        other: impl FnOnce(&mut Self) -> Vec<Effect>,
    ) -> Vec<Effect> {
        let is_worth_it = self.guest.session.panicked_since().is_some()
            || matches!(
                self.outcome,
                Some(Outcome::Hang { .. } | Outcome::Timeout { .. } | Outcome::KernelCrash { .. })
            );
        if !self.dump.is_wanted() || !is_worth_it || self.guest.session.is_killed() {
            return other(self);
        }
        self.dump = Dump::Done;
        self.phase.begin_dump(at);
        vec![Effect::Dump, Effect::Show("writing the guest's memory".to_owned())]
    }

    /// Writes the memory of a guest that panicked at `since`, once its last lines have come: the machine
    /// stands still for us.
    pub(super) fn dump_of_panic(&mut self, at: Duration, since: Duration) -> Vec<Effect> {
        if self.dump.is_due(at, since) { self.dump_or(at, |_| vec![]) } else { vec![] }
    }

    /// The memory has been written, or not.
    pub(super) fn dumped(&mut self, at: Duration, result: &Result<(), String>) -> Vec<Effect> {
        let mut effects = vec![self.remark(Blame::Harness, Dump::remark(result))];
        match &mut self.phase {
            Phase::Dumping(_) => effects.extend(self.kill()),
            Phase::Interrogating(Interrogating { interrogation, .. }) => {
                effects.extend(interrogation.dumped(at).into_iter().map(Effect::Ask));
            }
            Phase::Booting
            | Phase::Testing(_)
            | Phase::Diagnosing(_)
            | Phase::Lingering(_)
            | Phase::Collecting(_)
            | Phase::Ending { .. }
            | Phase::Ended => return vec![],
        }
        effects
    }

    /// True for the hypervisor's word that the guest stands still, while that is our doing.
    pub(super) fn is_stopped_for_dump(&self, event: &HypervisorEvent) -> bool {
        let is_dumping = matches!(self.phase, Phase::Dumping(_))
            || self.phase.interrogation().is_some_and(Interrogation::is_dumping);
        is_dumping && *event == HypervisorEvent::Stopped
    }

    // ---- the power-off -----------------------------------------------------------------------

    fn power_off(&mut self, at: Duration) -> Vec<Effect> {
        self.dump_or(at, |state| {
            state.phase = Phase::Ending { since: at };
            vec![Effect::Send(state.guest.session.power_off())]
        })
    }

    /// The guest was asked to power off at `since`, and is still there: is it slow, or does it stand in md's
    /// or dm's doing (md_notify_reboot, md.c)? Of a test that went wrong already that is no news.
    pub(super) fn does_not_power_off(&mut self, at: Duration, since: Duration) -> Vec<Effect> {
        match self.outcome {
            Some(Outcome::Pass | Outcome::Warn { .. } | Outcome::Fail { .. } | Outcome::Skip { .. }) => {
                self.interrogate(at, Why::NoPowerOff { since }, 1)
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

    /// Judges a guest by what it said when it was asked why it does not power off, if it was.
    pub(super) fn judge_power_off(&mut self, at: Duration) -> Vec<Effect> {
        let Phase::Interrogating(Interrogating { why: Why::NoPowerOff { since }, .. }) = self.phase else {
            return vec![];
        };
        let in_storage = |stack: &&TaskStack| stack.frames.iter().any(|frame| is_storage_frame(frame));
        let mut waiting = self.evidence.all_stacks().iter().filter(in_storage);
        // It may wait for somebody else: a writeback that stands, say, when file systems are synced.
        let who = match waiting.clone().find(|stack| stack.pid == AGENT_PID) {
            Some(_) => "that".to_owned(),
            None => match waiting.find(|stack| stack.state == 'D') {
                Some(stack) => stack.comm.clone(),
                None => return vec![self.does_not_end()],
            },
        };
        let seen = format!("{} the guest does not power off: {who} waits in md or dm", self.so_far());
        let silent_ms = millis(at.saturating_sub(since));
        self.overrule(Outcome::Hang { kind: HangKind::NoProgress, silent_ms, seen: Some(seen) });
        vec![]
    }

    fn does_not_end(&self) -> Effect {
        self.remark(Blame::Harness, "the guest did not power off and was killed".to_owned())
    }
}
