//! One attempt at one test, as a pure state machine: inputs with their time in, effects out.
//!
//! Here is what concerns every phase: the inputs, the clock, the console, and how the attempt ends. A test
//! that runs is in [`super::running`], a guest that no longer speaks in [`super::lost`], what a test leaves
//! behind in [`super::leftovers`], files and power-off in [`super::ending`], a dump of the memory in
//! [`super::dump`].

use std::time::Duration;

use protocol::Outcome;
use protocol::event::{AttemptFacts, Blame, Event};
use protocol::evidence::{KernelReport, ReportKind};
use protocol::program::ReplacedModules;
use protocol::wire::{GuestFacts, Message};

use crate::attempt::dump::Dump;
use crate::attempt::effect::{Effect, TimeLimits};
use crate::attempt::evidence::GuestEvidence;
use crate::attempt::guest::Guest;
use crate::attempt::heartbeat::{OwnTime, Silence};
use crate::attempt::interrogation::{DUMP_MAX, Interrogation};
use crate::attempt::kernel_log::LogRecord;
use crate::attempt::output::TestOutput;
use crate::attempt::phase::{Diagnosing, Phase, Testing};
use crate::attempt::progress::Progress;
use crate::attempt::share::OwnShare;
use crate::clock::millis;
use crate::guest::end::EndBlame;
use crate::guest::session::{Heard, clip};
use crate::machine::greeting::Opening;
use crate::machine::{Answer, Ask, HypervisorEvent, Input, VmEnd};
use crate::suite::Job;

/// Longest time for a guest that still speaks to write down how it hangs, in grace periods. One that starves
/// takes a while, and gives up questions by itself.
const DIAGNOSING_GRACE_PERIODS: u32 = 4;

/// The state of one attempt.
#[derive(Debug)]
pub(crate) struct AttemptState {
    pub(super) number: u32,
    pub(super) job: Job,
    /// Modules in the place of the kernel's. The test starts only if the guest says that it has them.
    pub(super) replaced: Option<ReplacedModules>,
    pub(super) limits: TimeLimits,
    /// The guest takes samples of the test.
    pub(super) is_watched: bool,
    pub(super) phase: Phase,
    /// Greeting, console, kernel log, notes, files, power-off.
    pub(super) guest: Guest,
    pub(super) output: TestOutput,
    /// The test's own process, once it exists.
    pub(super) test_pid: Option<u32>,
    /// Motion of the guest's tasks, by its samples.
    pub(super) progress: Progress,
    /// Stacks and state of a guest whose test hangs.
    pub(super) evidence: GuestEvidence,
    pub(super) silence: Silence,
    pub(super) own_time: OwnTime,
    pub(super) share: OwnShare,
    pub(super) dump: Dump,
    /// The agent did not answer in time, and nothing says why.
    is_late: bool,
    pub(super) outcome: Option<Outcome>,
    pub(super) facts: AttemptFacts,
}

impl AttemptState {
    /// A fresh attempt.
    pub(crate) fn new(number: u32, opening: Opening, job: Job, limits: TimeLimits) -> Self {
        AttemptState {
            number,
            guest: Guest::new(number, opening),
            output: TestOutput::new(job.contract.clone()),
            progress: Progress::of_test_silent_for(limits.silence_timeout),
            job,
            replaced: None,
            limits,
            is_watched: true,
            phase: Phase::Booting,
            test_pid: None,
            evidence: GuestEvidence::new(number),
            silence: Silence::default(),
            own_time: OwnTime::default(),
            share: OwnShare::default(),
            dump: Dump::default(),
            is_late: false,
            outcome: None,
            facts: AttemptFacts::default(),
        }
    }

    /// An attempt whose guest has modules in place of the kernel's.
    pub(crate) fn with_modules(mut self, replaced: Option<ReplacedModules>) -> Self {
        self.replaced = replaced;
        self
    }

    /// An attempt whose guest takes no samples of the test, unless `is_watched`.
    pub(crate) fn watched(mut self, is_watched: bool) -> Self {
        self.is_watched = is_watched;
        self
    }

    /// An attempt whose guest's memory is written to a file if it hangs or crashes.
    pub(crate) fn with_dump(mut self, is_wanted: bool) -> Self {
        self.dump = Dump::new(is_wanted);
        self
    }

    /// The first effects, once the VM has been started.
    pub(crate) fn begin(&self) -> Vec<Effect> {
        let stop = self.dump.is_wanted().then_some(Effect::Ask(Ask::StopOnPanic));
        stop.into_iter().chain([Effect::Send(self.guest.session.hello())]).collect()
    }

    /// True once the VM is gone and nothing more is to be done.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// True once the agent has answered.
    pub(crate) fn is_ready(&self) -> bool {
        self.guest.session.is_ready()
    }

    /// True if the agent did not answer in time, and nothing says why.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late
    }

    /// The attempt's result, once it is over; `dropped` is what the output's log left out of what
    /// arrived, bytes.
    pub(crate) fn finish(mut self, at: Duration, dropped: u64) -> (Outcome, AttemptFacts) {
        assert!(self.is_over(), "attempt {} finished while its VM lives", self.number);
        let outcome =
            self.outcome.unwrap_or(Outcome::Infra { error: "the VM ended for no known reason".into() });
        self.facts.vm_ms = millis(at);
        (self.facts.output_bytes, self.facts.output_dropped) =
            self.output.amounts(self.facts.output_bytes, dropped);
        self.facts.known_to_fail = self.output.scan().known_to_fail().map(str::to_owned);
        self.facts.last_lines = match &outcome {
            Outcome::KernelCrash { .. } => self.guest.session.console_tail(),
            _ if !self.guest.session.is_ready() => self.guest.session.console_tail(),
            _ => self.output.scan().telling_lines(&outcome),
        };
        self.facts.files = self.guest.session.take_files();
        (outcome, self.facts)
    }

    /// Takes one input.
    pub(crate) fn apply(&mut self, at: Duration, input: Input) -> Vec<Effect> {
        match input {
            Input::Console(bytes) => self.console(at, &bytes),
            Input::Agent(Ok(message)) => {
                let mut effects = self.agent_spoke(at);
                effects.extend(self.message(at, message));
                effects
            }
            Input::Agent(Err(_)) | Input::Files(Err(_)) => self.garbage(),
            Input::Files(Ok(message)) => self.file(at, message),
            Input::Hypervisor(event) => self.hypervisor(at, event),
            Input::Answer(answer) => self.answer(at, &answer),
            Input::Ended(end) => self.ended(at, end),
        }
    }

    /// Looks at the clock: called at least every 200 ms.
    pub(crate) fn tick(&mut self, at: Duration) -> Vec<Effect> {
        let grace_period = self.limits.grace_period;
        if let Some(since) = self.guest.session.panicked_since() {
            if at > since + grace_period && !matches!(self.phase, Phase::Dumping(_)) {
                return self.dump_or(at, Self::kill);
            }
            let effects = self.dump_of_panic(at, since);
            if !effects.is_empty() {
                return effects;
            }
        } else if let Some(since) = self.guest.session.unserved_since()
            && at > since + grace_period
            && !self.is_over()
        {
            // Nobody serves the guest any more, and it did not go: whatever it seems to hang in now is our
            // doing.
            let why = self.guest.session.gave_up().unwrap_or_default();
            return self.fail(format!("the guest agent gave up: {}", clip(why)));
        }
        match &self.phase {
            Phase::Booting if at > self.limits.boot_timeout => self.does_not_boot(at),
            Phase::Testing(_) => self.check_limits(at),
            Phase::Interrogating(_) => self.interrogate_on(at),
            Phase::Dumping(dumping) if at > dumping.since + DUMP_MAX => {
                self.dumped(at, &Err("it took too long".to_owned()))
            }
            Phase::Diagnosing(Diagnosing { since, .. })
                // A kernel that prints its tasks lets nobody speak on the only processor, and a serial line
                // may be slow: each character of it is an exit of the guest's under KVM.
                if at > (*since).max(self.guest.last_sign()) + grace_period
                    || at > *since + grace_period * DIAGNOSING_GRACE_PERIODS =>
            {
                let words = "the guest did not write down how it hangs".to_owned();
                let mut effects = vec![self.remark(Blame::Harness, words)];
                effects.extend(self.collect(at));
                effects
            }
            Phase::Lingering(_) => self.linger_on(at),
            Phase::Collecting(_) => self.collect_on(at),
            Phase::Ending { since } if at > *since + grace_period && !self.guest.session.is_killed() => {
                let since = *since;
                self.does_not_power_off(at, since)
            }
            Phase::Booting
            | Phase::Diagnosing(_)
            | Phase::Dumping(_)
            | Phase::Ending { .. }
            | Phase::Ended => vec![],
        }
    }

    /// The user, or a signal, ends the run.
    pub(crate) fn interrupt(&mut self) -> Vec<Effect> {
        self.conclude(Outcome::Interrupted);
        self.kill()
    }

    /// The harness or the host can go no further.
    pub(crate) fn fail(&mut self, error: String) -> Vec<Effect> {
        self.conclude(Outcome::Infra { error });
        self.kill()
    }

    // ---- the guest boots ---------------------------------------------------------------------

    fn does_not_boot(&mut self, at: Duration) -> Vec<Effect> {
        let mut effects = self.finish_reports(at);
        let title = self.guest.crash_title().map(str::to_owned);
        self.is_late = title.is_none();
        let title = title.unwrap_or_else(|| {
            format!(
                "does not boot: no answer from the guest for {} s; it last said `{}`",
                self.limits.boot_timeout.as_secs(),
                self.guest.session.newest_line()
            )
        });
        self.conclude(Outcome::KernelCrash { title });
        effects.extend(self.kill());
        effects
    }

    fn greeted(&mut self, at: Duration, guest: GuestFacts) -> Vec<Effect> {
        self.phase = Phase::Testing(Testing::new(at));
        let ready = Event::VmReady { attempt: self.number, ready_after_ms: millis(at), guest };
        let mut effects = vec![Effect::Record(ready)];
        effects.extend(self.start_test());
        effects
    }

    // ---- console and kernel log --------------------------------------------------------------

    fn console(&mut self, at: Duration, bytes: &[u8]) -> Vec<Effect> {
        let phase = &mut self.phase;
        let news = self.guest.console(at, bytes, |line| phase.hear(at, line));
        news.begun.into_iter().for_each(|kind| self.share.begins(at, kind));
        if self.guest.session.cries_panic() && !self.is_panic_ours() {
            self.guest.session.console_panics(at);
            self.ends_test(at);
        }
        if news.says_hung {
            self.progress.kernel_reports_hung();
        }
        let mut effects = self.all_reported(at, news.reports);
        if news.has_words && matches!(self.phase, Phase::Booting) {
            effects.push(Effect::Show(self.guest.session.newest_line().to_owned()));
        }
        effects
    }

    fn all_reported(&mut self, at: Duration, told: Vec<KernelReport>) -> Vec<Effect> {
        told.into_iter().filter_map(|report| self.reported(at, report)).collect()
    }

    fn reported(&mut self, at: Duration, mut report: KernelReport) -> Option<Effect> {
        if report.kind == ReportKind::Panic && self.is_panic_ours() {
            return None;
        }
        report.starved = self.share.explains(at, report.kind);
        if report.kind.is_of_hang() && !report.starved {
            self.progress.kernel_reports_hung();
        }
        Some(Effect::Record(Event::KernelReported { attempt: self.number, report }))
    }

    /// True if the guest was sent an NMI: that it panics is our doing.
    pub(super) fn is_panic_ours(&self) -> bool {
        self.phase.interrogation().is_some_and(Interrogation::was_nmi_sent)
    }

    /// The console is at its end: the reports that it was still telling are recorded as far as they came.
    fn finish_reports(&mut self, at: Duration) -> Vec<Effect> {
        let told = self.guest.finish_reports();
        self.all_reported(at, told)
    }

    /// The kernel panics, or the VM is gone: a test that runs has ended. A panic's last lines trail its
    /// title: wait for them, and for the reset.
    fn ends_test(&mut self, at: Duration) {
        if let Phase::Testing(testing) = &self.phase {
            self.facts.test_ms.get_or_insert(millis(at.saturating_sub(testing.since)));
        }
    }

    // ---- the hypervisor ----------------------------------------------------------------------

    fn hypervisor(&mut self, at: Duration, event: HypervisorEvent) -> Vec<Effect> {
        if self.is_panic_ours() || self.is_stopped_for_dump(&event) {
            return vec![];
        }
        if event == HypervisorEvent::Panicked {
            self.ends_test(at);
        }
        match self.guest.session.hypervisor(at, event) {
            Ok(()) => vec![],
            Err(error) => self.fail(error),
        }
    }

    fn answer(&mut self, at: Duration, answer: &Answer) -> Vec<Effect> {
        if let Some(interrogation) = self.phase.interrogation_mut() {
            interrogation.take(answer);
        }
        if let Answer::Dumped(result) = answer {
            return self.dumped(at, result);
        }
        if let Answer::Times(times) = answer
            && let Some(own_ms) = self.own_time.look(times)
        {
            self.share.look(at, own_ms);
            self.progress.had_time(own_ms);
        }
        self.silence_answered(at, answer)
    }

    // ---- the agent's messages ----------------------------------------------------------------

    fn message(&mut self, at: Duration, message: Message) -> Vec<Effect> {
        if matches!(message, Message::Hello { .. }) && !matches!(self.phase, Phase::Booting) {
            return self.garbage();
        }
        let mut effects = self.kernel_record(at, &message);
        effects.extend(match self.guest.session.message(message) {
            Heard::Ready(guest) => self.greeted(at, guest),
            Heard::KernelLog(line) => vec![Effect::KernelLog(line)],
            Heard::Note(words) => vec![self.remark(Blame::Harness, words)],
            Heard::Failed(error) => self.fail(error),
            Heard::Garbage => self.garbage(),
            Heard::Other(message) => self.of_test(at, message),
        });
        effects
    }

    /// The reports of the kernel that are complete with this message, if it is a record of the kernel's log.
    fn kernel_record(&mut self, at: Duration, message: &Message) -> Vec<Effect> {
        let Message::Kmsg { seq, at_us, facility, caller, left_out, text, level: _ } = message else {
            return vec![];
        };
        let (seq, at_us, facility, left_out) = (*seq, *at_us, *facility, *left_out);
        let record = LogRecord { seq, at_us, facility, caller: caller.as_deref(), left_out, text };
        let told = self.guest.kernel_record(&record);
        self.facts.kmsg_lost = self.guest.n_records_missing();
        self.all_reported(at, told)
    }

    /// A message about the test.
    fn of_test(&mut self, at: Duration, message: Message) -> Vec<Effect> {
        let is_own = |attempt: u32| attempt == self.number;
        match message {
            Message::Started { attempt, pid, probed } if is_own(attempt) => self.started(at, pid, probed),
            Message::Output { attempt, offset, data } if is_own(attempt) => {
                self.take_output(at, offset, data)
            }
            Message::Finished(finished) if is_own(finished.attempt) => self.finished(at, finished),
            Message::Heartbeat { output_bytes, sampler, .. } => self.beat(at, output_bytes, sampler),
            Message::Sample(sample) => self.sample(at, sample),
            Message::Diagnosed { attempt } if is_own(attempt) => self.diagnosed(at),
            Message::Evidence { attempt, evidence }
                if is_own(attempt) && matches!(self.phase, Phase::Diagnosing(_)) =>
            {
                self.evidence.take(evidence).into_iter().map(Effect::Record).collect()
            }
            Message::KernelState { tainted, log_end } => {
                log_end.into_iter().for_each(|end| self.guest.kernel_log_ends_at(end));
                match self.facts.taint_before {
                    None => self.facts.taint_before = tainted,
                    Some(_) => self.facts.taint_after = tainted.or(self.facts.taint_after),
                }
                vec![]
            }
            Message::Hello { .. }
            | Message::Kmsg { .. }
            | Message::Refused { .. }
            | Message::Note { .. }
            | Message::Started { .. }
            | Message::Output { .. }
            | Message::Finished(_)
            | Message::FileStart { .. }
            | Message::FileData { .. }
            | Message::FileEnd { .. }
            | Message::Collected { .. }
            | Message::Evidence { .. }
            | Message::Diagnosed { .. }
            | Message::Shell(_) => self.garbage(),
        }
    }

    /// The guest said something that makes no sense now.
    pub(super) fn garbage(&mut self) -> Vec<Effect> {
        self.facts.garbage_messages += 1;
        vec![]
    }

    // ---- its end -----------------------------------------------------------------------------

    fn ended(&mut self, at: Duration, end: VmEnd) -> Vec<Effect> {
        self.ends_test(at);
        let mut effects = self.finish_reports(at);
        let taint = self.facts.taint_before.zip(self.facts.taint_after);
        let remarks = self.guest.log_remarks(taint);
        effects.extend(remarks.into_iter().map(|(blame, words)| self.remark(blame, words)));
        effects.extend(self.take_outside_evidence());
        // The test's own outcome stands.
        if let Some(why) = self.guest.session.gave_up()
            && self.outcome.as_ref().is_some_and(|outcome| !matches!(outcome, Outcome::Infra { .. }))
        {
            effects.push(self.remark(Blame::Harness, format!("the guest agent gave up: {}", clip(why))));
        }
        match self.guest.ended(end, self.outcome.is_some()) {
            Some(EndBlame::Kernel { title }) => self.conclude(Outcome::KernelCrash { title }),
            Some(EndBlame::Infra { error }) => self.conclude(Outcome::Infra { error }),
            None => {}
        }
        self.phase = Phase::Ended;
        effects
    }

    /// The first conclusion stands, but for a panic: it explains whatever was seen before it ended
    /// the machine.
    pub(super) fn conclude(&mut self, outcome: Outcome) {
        let stands = self.outcome.is_some()
            && !(self.guest.session.panicked_since().is_some()
                && matches!(outcome, Outcome::KernelCrash { .. }));
        if !stands {
            self.outcome = Some(outcome);
        }
    }

    pub(super) fn kill(&mut self) -> Vec<Effect> {
        if self.guest.session.kill() { vec![Effect::Kill] } else { vec![] }
    }

    pub(super) fn remark(&self, blame: Blame, text: String) -> Effect {
        Effect::Record(Event::Remark { attempt: Some(self.number), blame, text })
    }
}
