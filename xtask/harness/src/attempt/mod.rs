//! One attempt at one test, as a pure state machine: inputs with their time in, effects out.
//!
//! It does no I/O and reads no clock, so that a recorded run can be judged again without a VM, and
//! every way to die is a test of a few lines. `drive.rs` carries the effects out.

#[cfg(test)]
pub(crate) mod attempt_tests;
pub(crate) mod corruption;
pub mod drive;
#[cfg(test)]
mod drive_tests;
mod effect;
mod evidence;
mod heartbeat;
mod interrogation;
pub(crate) mod kernel_log;
mod leftovers;
mod lost;
pub(crate) mod output;
mod progress;
mod share;
mod taint;
mod trace;

use std::time::Duration;

use lost::{Dump, Suspicion};
use protocol::event::{AttemptFacts, Blame, Event};
use protocol::evidence::{KernelReport, ReportKind, TaskStack};
use protocol::sample::Sample;
use protocol::wire::{
    Exit, Finished, GuestFacts, HEARTBEAT_MS, LoadedModule, MODULE_REFUSED, Message, OutputBudget, Program,
    ReplacedModules, Request, StartTest, VERSION,
};
use protocol::{HangKind, Outcome};

pub(crate) use crate::attempt::effect::{Effect, Opening, TimeLimits, kernel_log_line};
use crate::attempt::effect::{disk_serial, put_file};
use crate::attempt::evidence::GuestEvidence;
use crate::attempt::heartbeat::{OwnTime, Silence};
use crate::attempt::interrogation::{DUMP_MAX, Interrogation};
use crate::attempt::kernel_log::{KernelLog, LogRecord};
use crate::attempt::output::OutputScan;
use crate::attempt::progress::{Hang, Progress};
use crate::attempt::share::OwnShare;
use crate::console::{AgentWords, Crash, Lines};
use crate::guest::end::{EndBlame, EndContext, EndWatch};
use crate::guest::files::{FileList, FileMessage};
use crate::machine::{Ask, HypervisorEvent, Input, VmEnd};
use crate::suite::Job;

/// How much of a test's output is sent: all of what tests usually print, a bounded rate of what
/// they print beyond that.
const OUTPUT_BUDGET: OutputBudget = OutputBudget { burst_bytes: 16 << 20, bytes_per_s: 1 << 20 };

/// How long all files together may take, in grace periods. What may come takes seconds; a guest that
/// sends a byte now and then would never end.
const COLLECTING_GRACE_PERIODS: u32 = 12;

/// How long a guest that still speaks may take to write down how it hangs, in grace periods: one that starves takes
/// a while, and gives up questions by itself.
const DIAGNOSING_GRACE_PERIODS: u32 = 4;

/// The agent's own remarks that are kept, and the length of each, characters.
const NOTES_MAX: u32 = 50;
const TEXT_MAX: usize = 1000;

/// Signs of life from an agent whose sampler waits in the kernel, after which the test hangs.
const BLIND_BEATS_MAX: u32 = 12;

/// How long what outlives a test may hold its pipe.
const GRACE_MS: u64 = 500;
/// For how long a sample says what the test does.
const SAMPLE_COUNTS_FOR: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for the agent's answer.
    Booting,
    /// The test runs.
    Testing { since: Duration },
    /// The test hangs; the guest writes down what it can.
    Diagnosing { since: Duration },
    /// The guest no longer answers: the host asks it.
    Interrogating,
    /// The guest stands still, its memory is written.
    Dumping { since: Duration },
    /// The test has ended, and what it left behind cannot be killed: does it stand, or only take long?
    Lingering { since: Duration },
    /// The test has ended, its files come back.
    Collecting { since: Duration },
    /// The guest powers off, or we kill it.
    Ending { since: Duration },
    /// The VM is gone.
    Ended,
}

/// The state of one attempt.
#[derive(Debug)]
pub(crate) struct AttemptState {
    number: u32,
    opening: Opening,
    job: Job,
    /// What takes the place of the kernel's modules. The test starts only if the guest says that it has them.
    replaced: Option<ReplacedModules>,
    limits: TimeLimits,
    phase: Phase,
    console: Lines,
    crash: Crash,
    agent_words: AgentWords,
    /// What the kernel reports, on the console and in the agent's copy of its log.
    kernel_log: KernelLog,
    fate: EndWatch,
    output: OutputScan,
    progress: Progress,
    witnessed: GuestEvidence,
    /// End of the output that has arrived, and bytes missing before it.
    output_end: u64,
    output_missing: u64,
    /// Output that the agent has counted, sent or not.
    output_counted: u64,
    last_output: Duration,
    /// When the last sample came.
    last_sample: Duration,
    last_word: Duration,
    silence: Silence,
    own_time: OwnTime,
    share: OwnShare,
    interrogation: Option<Interrogation>,
    suspicion: Option<Suspicion>,
    dump: Dump,
    files: FileList,
    n_notes: u32,
    /// When something of a file last came.
    last_file: Duration,
    /// Signs of life in a row from an agent whose sampler waits in the kernel.
    blind_beats: u32,
    /// It was said that not all tasks are looked at.
    cut_is_remarked: bool,
    /// The test's own process, once it exists.
    test_pid: Option<u32>,
    /// When the test began, while its guest is asked from outside.
    started_at: Option<Duration>,
    /// The test was given up because its time was over.
    is_at_limit: bool,
    /// When the test was given up while its guest still spoke.
    stopped_at: Option<Duration>,
    ready: bool,
    /// Nothing was heard in time, and nothing says why.
    late: bool,
    killed: bool,
    /// The guest was made to panic, to say where it was.
    struck: bool,
    /// When the guest was asked to power off, while it is asked from outside why it does not.
    asked_to_power_off: Option<Duration>,
    outcome: Option<Outcome>,
    facts: AttemptFacts,
}

impl AttemptState {
    /// A fresh attempt.
    pub(crate) fn new(number: u32, opening: Opening, job: Job, limits: TimeLimits) -> Self {
        AttemptState {
            number,
            agent_words: AgentWords::new(opening.session),
            opening,
            output: OutputScan::new(job.contract.clone()),
            progress: Progress::of_test_silent_for(limits.silence_timeout),
            job,
            replaced: None,
            limits,
            phase: Phase::Booting,
            console: Lines::default(),
            crash: Crash::default(),
            kernel_log: KernelLog::default(),
            fate: EndWatch::default(),
            witnessed: GuestEvidence::new(number),
            output_end: 0,
            output_missing: 0,
            output_counted: 0,
            last_output: Duration::ZERO,
            last_sample: Duration::ZERO,
            last_word: Duration::ZERO,
            silence: Silence::default(),
            own_time: OwnTime::default(),
            share: OwnShare::default(),
            interrogation: None,
            suspicion: None,
            dump: Dump::default(),
            files: FileList::new(number),
            n_notes: 0,
            last_file: Duration::ZERO,
            blind_beats: 0,
            cut_is_remarked: false,
            test_pid: None,
            started_at: None,
            is_at_limit: false,
            stopped_at: None,
            ready: false,
            late: false,
            killed: false,
            struck: false,
            asked_to_power_off: None,
            outcome: None,
            facts: AttemptFacts::default(),
        }
    }

    /// What to do first, once the VM has been started.
    pub(crate) fn begin(&self) -> Vec<Effect> {
        let Opening { session, seed } = &self.opening;
        let hello = Request::Hello { version: VERSION, session: *session, seed: seed.clone() };
        let stop = self.dump.is_wanted().then_some(Effect::Ask(Ask::StopOnPanic));
        stop.into_iter().chain([Effect::Send(hello)]).collect()
    }

    /// The same in a guest with modules in place of the kernel's.
    pub(crate) fn with_modules(mut self, replaced: Option<ReplacedModules>) -> Self {
        self.replaced = replaced;
        self
    }

    /// True once the VM is gone and nothing more is to be done.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// True once the agent has answered.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// True if the agent did not answer in time, and nothing says why.
    pub(crate) fn is_late(&self) -> bool {
        self.late
    }

    /// The attempt's result, once it is over; `dropped` is what the output's log left out of what
    /// arrived.
    pub(crate) fn finish(mut self, at: Duration, dropped: u64) -> (Outcome, AttemptFacts) {
        assert!(self.is_over(), "attempt {} finished while its VM lives", self.number);
        let outcome =
            self.outcome.unwrap_or(Outcome::Infra { error: "the VM ended for no known reason".into() });
        self.facts.vm_ms = millis(at);
        self.facts.output_bytes = self.facts.output_bytes.max(self.output_end).max(self.output_counted);
        self.facts.output_dropped = self.facts.output_bytes - self.output_end + self.output_missing + dropped;
        self.facts.last_lines = match &outcome {
            Outcome::KernelCrash { .. } => self.crash.tail(),
            _ if !self.ready => self.crash.tail(),
            _ => self.output.telling_lines(&outcome),
        };
        self.facts.files = self.files.files;
        (outcome, self.facts)
    }

    /// Takes one input.
    pub(crate) fn apply(&mut self, at: Duration, input: Input) -> Vec<Effect> {
        match input {
            Input::Console(bytes) => self.console(at, &bytes),
            Input::Agent(Ok(message)) => {
                self.fate.agent_spoke(at);
                let mut effects = self.agent_spoke(at);
                effects.extend(self.message(at, message));
                effects
            }
            Input::Agent(Err(_)) | Input::Files(Err(_)) => {
                self.facts.garbage_messages += 1;
                vec![]
            }
            Input::Files(Ok(message)) => self.file(at, message),
            Input::Hypervisor(event) => self.hypervisor(at, event),
            Input::Answer(answer) => self.answer(at, &answer),
            Input::Ended(end) => self.ended(at, end),
        }
    }

    /// Looks at the clock: called at least every 200 ms.
    pub(crate) fn tick(&mut self, at: Duration) -> Vec<Effect> {
        if let Some(since) = self.fate.panicked_since()
            && at > since + self.limits.grace_period
            && !matches!(self.phase, Phase::Dumping { .. })
        {
            return self.dump_or(at, Self::kill);
        }
        if let Some(since) = self.fate.panicked_since() {
            let effects = self.dump_of_panic(at, since);
            if !effects.is_empty() {
                return effects;
            }
        }
        if let Some(since) = self.agent_words.gone_since()
            && at > since + self.limits.grace_period
            && self.fate.panicked_since().is_none()
            && self.phase != Phase::Ended
        {
            // Nobody serves the guest any more, and it did not go: whatever it seems to hang in now is our doing.
            let why = self.agent_words.gave_up(true).unwrap_or_default();
            return self.fail(format!("the guest agent gave up: {}", clip(why)));
        }
        match self.phase {
            Phase::Booting if at > self.limits.boot_timeout => {
                let mut effects = self.finish_reports(at);
                let said = self.crash.newest().to_owned();
                self.late = self.crash_title().is_none();
                let title = match self.crash_title() {
                    Some(title) => title.to_owned(),
                    None => format!(
                        "does not boot: no answer from the guest for {} s; it last said `{said}`",
                        self.limits.boot_timeout.as_secs()
                    ),
                };
                self.conclude(Outcome::KernelCrash { title });
                effects.extend(self.kill());
                effects
            }
            Phase::Testing { since } => self.check_limits(at, since),
            Phase::Interrogating => self.interrogate_on(at),
            Phase::Dumping { since } if at > since + DUMP_MAX => {
                self.dumped(at, &Err("it took too long".to_owned()))
            }
            Phase::Diagnosing { since }
                if at > since.max(self.last_word) + self.limits.grace_period
                    || at > since + self.limits.grace_period * DIAGNOSING_GRACE_PERIODS =>
            {
                let words = "the guest did not write down how it hangs".to_owned();
                let mut effects = vec![self.remark(Blame::Harness, words)];
                effects.extend(self.collect(at));
                effects
            }
            Phase::Lingering { since } => self.linger_on(at, since),
            Phase::Collecting { since }
                if at > self.last_file + self.limits.grace_period
                    || at > since + self.limits.grace_period * COLLECTING_GRACE_PERIODS =>
            {
                let mut effects = vec![self.remark(Blame::Harness, "files did not come back in time".into())];
                effects.extend(self.power_off(at));
                effects
            }
            Phase::Ending { since } if at > since + self.limits.grace_period && !self.killed => {
                self.does_not_power_off(at, since)
            }
            Phase::Booting
            | Phase::Diagnosing { .. }
            | Phase::Dumping { .. }
            | Phase::Collecting { .. }
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

    fn check_limits(&mut self, at: Duration, since: Duration) -> Vec<Effect> {
        let silent = at.saturating_sub(self.last_output.max(since));
        let (is_mute, mut effects) = self.listen(at, since);
        // What a guest prints that starves does not get here either.
        let is_slow = at < self.last_sample + SAMPLE_COUNTS_FOR && self.progress.is_getting_on();
        let outcome = if silent > self.limits.silence_timeout && !is_mute && !is_slow {
            let kind = self.progress.kind_of_silence();
            Outcome::Hang { kind, silent_ms: millis(silent), seen: None }
        } else if at > since + self.limits.test_timeout {
            self.is_at_limit = true;
            self.facts.looked_at_limit = !is_mute;
            self.at_its_limit(is_mute)
        } else {
            return effects;
        };
        if matches!(self.phase, Phase::Testing { .. }) {
            if is_mute {
                // Starved or lost, nobody knows: its agent is not there to be asked.
                self.facts.test_ms = Some(millis(at.saturating_sub(since)));
                self.conclude(outcome);
                effects.extend(self.interrogate(at, since, 1));
            } else {
                let stacks = self.progress.stacks();
                effects.extend(self.diagnose(at, since, outcome, stacks));
            }
        }
        effects
    }

    /// A test that reached its limit of time is busy, or one of its tasks stood all along.
    fn at_its_limit(&self, is_mute: bool) -> Outcome {
        let timeout = Outcome::Timeout { limit_ms: millis(self.limits.test_timeout) };
        match self.progress.stood_in_storage().filter(|_| !is_mute) {
            Some(Hang { kind, still_ms, .. }) => {
                Outcome::Hang { kind, silent_ms: still_ms, seen: Some(timeout.detail()) }
            }
            // It waited for its data to be right, and it never was.
            None => match self.output.changed_data() {
                Some(title) => Outcome::DataCorruption { title: title.to_owned() },
                None => timeout,
            },
        }
    }

    /// The test gets no further: asks the guest for what the report needs, before it goes.
    fn diagnose(
        &mut self,
        at: Duration,
        since: Duration,
        outcome: Outcome,
        stacks: Vec<TaskStack>,
    ) -> Vec<Effect> {
        self.facts.test_ms = Some(millis(at.saturating_sub(since)));
        self.conclude(outcome);
        self.stopped_at = Some(at);
        self.ask_for_evidence(at, stacks)
    }

    fn ask_for_evidence(&mut self, at: Duration, stacks: Vec<TaskStack>) -> Vec<Effect> {
        self.phase = Phase::Diagnosing { since: at };
        let mut effects: Vec<_> = self.witnessed.stacks(stacks).into_iter().map(Effect::Record).collect();
        effects.push(Effect::Send(Request::Diagnose { attempt: self.number }));
        effects
    }

    fn collect(&mut self, at: Duration) -> Vec<Effect> {
        self.phase = Phase::Collecting { since: at };
        self.last_file = at;
        vec![Effect::Send(self.files.request())]
    }

    fn sample(&mut self, at: Duration, sample: Sample) -> Vec<Effect> {
        let since = match self.phase {
            Phase::Testing { since } => since,
            Phase::Lingering { .. } => return self.look_at_leftovers(at, sample),
            Phase::Booting
            | Phase::Diagnosing { .. }
            | Phase::Interrogating
            | Phase::Dumping { .. }
            | Phase::Collecting { .. }
            | Phase::Ending { .. }
            | Phase::Ended => return vec![],
        };
        self.facts.sampling_ms = Some(sample.cost_us / 1000);
        self.blind_beats = 0;
        self.last_sample = at;
        let cut = self.remark_cut(sample.n_left_out);
        let mut effects = match self.progress.take(sample) {
            Some(Hang { still_ms, unseen: Some(pid), .. }) => self.suspect(at, pid, still_ms),
            Some(Hang { kind, still_ms, stacks, unseen: None }) => {
                self.diagnose(at, since, Outcome::Hang { kind, silent_ms: still_ms, seen: None }, stacks)
            }
            None => vec![],
        };
        effects.extend(cut);
        // How much of the time until the next one is the guest's own.
        effects.push(Effect::Ask(Ask::Times));
        effects
    }

    /// Who stands among tasks that were not looked at is not seen: once an attempt, that is said.
    fn remark_cut(&mut self, n_left_out: u32) -> Option<Effect> {
        if n_left_out == 0 || std::mem::replace(&mut self.cut_is_remarked, true) {
            return None;
        }
        let words = format!(
            "more tasks than a sample holds: {n_left_out} were not looked at for a hang, and may be blocked"
        );
        Some(self.remark(Blame::Harness, words))
    }

    /// The agent lives: does its sampler? One that waits in the kernel waits for a lock that a hang holds.
    fn beat(&mut self, at: Duration, sampler: Option<char>) -> Vec<Effect> {
        let Phase::Testing { since } = self.phase else { return vec![] };
        self.blind_beats = if sampler == Some('D') { self.blind_beats + 1 } else { 0 };
        // It may wait for what the test's tasks wait for: a sleep to end, a delay, a disk's timeout.
        let ends_in = self.progress.may_wait_ms().div_ceil(HEARTBEAT_MS);
        if u64::from(self.blind_beats) < u64::from(BLIND_BEATS_MAX).saturating_add(ends_in) {
            return vec![];
        }
        let silent_ms = u64::from(self.blind_beats) * HEARTBEAT_MS;
        let seen = Some("who looks at the test's tasks waits in the kernel itself".to_owned());
        let outcome = Outcome::Hang { kind: HangKind::NoProgress, silent_ms, seen };
        self.diagnose(at, since, outcome, self.progress.stacks())
    }

    fn console(&mut self, at: Duration, bytes: &[u8]) -> Vec<Effect> {
        let mut newest = None;
        let mut told = Vec::new();
        let mut says_hung = false;
        let (crash, log, booting) = (&mut self.crash, &mut self.kernel_log, self.phase == Phase::Booting);
        let (agent_words, share) = (&mut self.agent_words, &mut self.share);
        let (asking, suspicion) = (&mut self.interrogation, &mut self.suspicion);
        self.console.push(bytes, |line| {
            asking.iter_mut().for_each(|asking| asking.heard(at, line));
            suspicion.iter_mut().for_each(|suspicion| suspicion.heard(at, line));
            crash.look(line);
            agent_words.look(at, line);
            let news = log.console(line);
            told.extend(news.reports);
            says_hung |= news.says_hung;
            news.begun.into_iter().for_each(|kind| share.begins(at, kind));
            if booting && !line.trim().is_empty() {
                newest = Some(line.to_owned());
            }
        });
        if self.crash.panicked() && !self.is_struck() {
            self.fate.console_panics(at);
            self.panicked(at);
        }
        if says_hung {
            self.progress.kernel_reports_hung();
        }
        self.all_reported(at, told).into_iter().chain(newest.map(Effect::Show)).collect()
    }

    fn all_reported(&mut self, at: Duration, told: Vec<KernelReport>) -> Vec<Effect> {
        told.into_iter().filter_map(|report| self.reported(at, report)).collect()
    }

    fn reported(&mut self, at: Duration, mut report: KernelReport) -> Option<Effect> {
        // It answers our own NMI.
        if report.kind == ReportKind::Panic && self.is_struck() {
            return None;
        }
        report.starved = self.share.explains(at, report.kind);
        if report.kind.is_of_hang() && !report.starved {
            self.progress.kernel_reports_hung();
        }
        Some(Effect::Record(Event::KernelReported { attempt: self.number, report }))
    }

    /// The console is at its end: what it was still telling is all that will be known of it.
    fn finish_reports(&mut self, at: Duration) -> Vec<Effect> {
        let rest = self.console.rest();
        let mut told = if rest.is_empty() { vec![] } else { self.kernel_log.console(&rest).reports };
        told.extend(self.kernel_log.finish());
        self.all_reported(at, told)
    }

    /// What the kernel's log lacks, and what its taint says beside it.
    fn log_remarks(&self) -> Vec<Effect> {
        let (before, after) = (self.facts.taint_before, self.facts.taint_after);
        let tainted = before.zip(after).and_then(|(before, after)| {
            taint::unreported(before, after, self.kernel_log.kinds()).map(|words| (Blame::Kernel, words))
        });
        let said = self.kernel_log.losses().into_iter().chain(tainted);
        said.map(|(blame, words)| self.remark(blame, words)).collect()
    }

    /// What the kernel died of: the classified report, else the console's first fault as it stands.
    fn crash_title(&self) -> Option<&str> {
        let seen = self.crash.title().filter(|title| !self.kernel_log.is_users(title));
        self.kernel_log.fatal_title().or(seen)
    }

    fn hypervisor(&mut self, at: Duration, event: HypervisorEvent) -> Vec<Effect> {
        if self.is_struck() || self.is_stopped_for_dump(&event) {
            return vec![];
        }
        if event == HypervisorEvent::Panicked {
            self.panicked(at);
        }
        match self.fate.hypervisor(at, event) {
            Ok(()) => vec![],
            Err(error) => self.fail(error),
        }
    }

    /// The kernel panics. Its last lines trail the title: wait for them, and for the reset.
    fn panicked(&mut self, at: Duration) {
        if let Phase::Testing { since } = self.phase {
            self.facts.test_ms.get_or_insert(millis(at.saturating_sub(since)));
        }
    }

    fn ended(&mut self, at: Duration, end: VmEnd) -> Vec<Effect> {
        if let Phase::Testing { since } = self.phase {
            self.facts.test_ms.get_or_insert(millis(at.saturating_sub(since)));
        }
        let mut effects = self.finish_reports(at);
        effects.extend(self.log_remarks());
        effects.extend(self.confess());
        let fault = self.crash_title().map(str::to_owned);
        let seen = EndContext {
            fault: fault.as_deref(),
            agent_gave_up: self.agent_words.gave_up(self.ready),
            is_explained: self.outcome.is_some(),
        };
        // What the test came to before that stands.
        if let Some(why) = seen.agent_gave_up
            && self.outcome.as_ref().is_some_and(|outcome| !matches!(outcome, Outcome::Infra { .. }))
        {
            effects.push(self.remark(Blame::Harness, format!("the guest agent gave up: {}", clip(why))));
        }
        match self.fate.ended(end, seen) {
            Some(EndBlame::Kernel { title }) => self.conclude(Outcome::KernelCrash { title }),
            Some(EndBlame::Infra { error }) => self.conclude(Outcome::Infra { error }),
            None => {}
        }
        self.phase = Phase::Ended;
        effects
    }

    fn message(&mut self, at: Duration, message: Message) -> Vec<Effect> {
        match message {
            Message::Diagnosed { attempt } if attempt == self.number => match self.phase {
                Phase::Diagnosing { since } => {
                    self.facts.evidence_ms = Some(millis(at.saturating_sub(since)));
                    self.collect(at)
                }
                Phase::Booting
                | Phase::Testing { .. }
                | Phase::Interrogating
                | Phase::Dumping { .. }
                | Phase::Lingering { .. }
                | Phase::Collecting { .. }
                | Phase::Ending { .. }
                | Phase::Ended => self.garbage(),
            },
            Message::Hello { version, session, guest } => self.hello(at, version, session, guest),
            Message::Started { attempt, pid, probed }
                if attempt == self.number
                    && matches!(self.phase, Phase::Testing { .. })
                    && self.test_pid.is_none() =>
            {
                self.test_pid = Some(pid);
                self.last_output = at;
                let replaced = match self.check_modules(probed) {
                    Ok(replaced) => replaced,
                    Err(why) => return self.fail(why),
                };
                let started = Event::TestStarted { attempt };
                replaced.into_iter().chain([started]).map(Effect::Record).collect()
            }
            Message::Output { attempt, offset, data } if attempt == self.number => {
                self.take_output(at, offset, data)
            }
            Message::Finished(finished) if finished.attempt == self.number => self.finished(at, finished),
            Message::Kmsg { seq, at_us, facility, caller, left_out, text, level: _ } => {
                let caller = caller.as_deref();
                let record = LogRecord { seq, at_us, facility, caller, left_out, text: &text };
                let told = self.kernel_log.record(&record);
                self.facts.kmsg_lost = self.kernel_log.n_missing();
                let mut effects = self.all_reported(at, told);
                effects.push(Effect::KernelLog(kernel_log_line(at_us, &text)));
                effects
            }
            Message::KernelState { tainted, log_end } => {
                log_end.into_iter().for_each(|end| self.kernel_log.ends_at(end));
                match self.facts.taint_before {
                    None => self.facts.taint_before = tainted,
                    Some(_) => self.facts.taint_after = tainted.or(self.facts.taint_after),
                }
                vec![]
            }
            Message::Heartbeat { output_bytes, sampler, .. } => {
                if output_bytes > self.output_counted {
                    self.output_counted = output_bytes;
                    self.last_output = at;
                }
                self.beat(at, sampler)
            }
            Message::Sample(sample) => self.sample(at, sample),
            Message::Evidence { attempt, evidence }
                if attempt == self.number && matches!(self.phase, Phase::Diagnosing { .. }) =>
            {
                self.witnessed.take(evidence).into_iter().map(Effect::Record).collect()
            }
            Message::Refused { reason } => self.fail(format!("the guest agent refused: {}", clip(&reason))),
            Message::Note { text } if self.n_notes < NOTES_MAX => {
                self.n_notes += 1;
                vec![self.remark(Blame::Harness, format!("guest agent: {}", clip(&text)))]
            }
            Message::Started { .. }
            | Message::Output { .. }
            | Message::Finished(_)
            | Message::FileStart { .. }
            | Message::FileData { .. }
            | Message::FileEnd { .. }
            | Message::Collected { .. }
            | Message::Evidence { .. }
            | Message::Diagnosed { .. }
            | Message::Shell(_)
            | Message::Note { .. } => self.garbage(),
        }
    }

    /// What the kernel has loaded must be what was built: a test of another md would tell nothing, and nobody would know.
    fn check_modules(&self, probed: Option<LoadedModule>) -> Result<Option<Event>, String> {
        let Some(replaced) = &self.replaced else { return Ok(None) };
        let built = replaced.modules.iter().find(|file| file.name == replaced.probe);
        match (built, probed) {
            (Some(built), Some(probed)) if probed.name == built.name && probed.build_id == built.build_id => {
                let built = replaced.modules.iter().map(|file| (file.name.clone(), file.build_id.clone()));
                Ok(Some(Event::ModulesReplaced { attempt: self.number, probed, built: built.collect() }))
            }
            (_, Some(LoadedModule { name, build_id })) => Err(format!(
                "the guest has another {} than was built: {} of build {}, not {}",
                replaced.probe,
                clip(&name),
                clip(&build_id),
                built.map_or("any", |built| &built.build_id),
            )),
            (_, None) => Err(format!("the guest does not say which {} it has", replaced.probe)),
        }
    }

    fn garbage(&mut self) -> Vec<Effect> {
        self.facts.garbage_messages += 1;
        vec![]
    }

    fn hello(&mut self, at: Duration, version: u32, session: u64, guest: GuestFacts) -> Vec<Effect> {
        if session != self.opening.session || self.phase != Phase::Booting {
            self.facts.garbage_messages += 1;
            return vec![];
        }
        if version != VERSION {
            return self
                .fail(format!("the guest agent speaks version {version} of the protocol, not {VERSION}"));
        }
        self.phase = Phase::Testing { since: at };
        self.ready = true;
        self.last_output = at;
        let ready = Event::VmReady { attempt: self.number, ready_after_ms: millis(at), guest };
        let start = Request::StartTest(StartTest {
            attempt: self.number,
            program: Program {
                argv: self.job.argv.clone(),
                cwd: self.job.cwd.clone(),
                env: self.job.env.clone(),
                make_dirs: self.job.make_dirs.clone(),
                load_modules: self.job.load_modules.clone(),
                disks: (0..self.job.disks.len()).map(disk_serial).collect(),
                replaced: self.replaced.clone(),
            },
            output: OUTPUT_BUDGET,
            grace_ms: GRACE_MS,
            sampled: self.job.sampled,
        });
        let mut effects = vec![Effect::Record(ready)];
        effects.extend(
            self.replaced.iter().map(|replaced| Effect::PlugModules { serial: replaced.serial.clone() }),
        );
        effects
            .extend((0..self.job.disks.len()).map(|idx| Effect::PlugDisk { idx, serial: disk_serial(idx) }));
        effects.extend(self.job.files.iter().flat_map(put_file));
        effects.push(Effect::Send(start));
        effects
    }

    fn take_output(&mut self, at: Duration, offset: u64, data: Vec<u8>) -> Vec<Effect> {
        // The guest is not trusted: output never goes back, nor beyond what a counter can hold.
        let Some(end) = offset.checked_add(data.len() as u64).filter(|_| offset >= self.output_end) else {
            self.facts.garbage_messages += 1;
            return vec![];
        };
        self.output_missing += offset - self.output_end;
        self.output_end = end;
        self.last_output = at;
        self.output.push(&data);
        self.progress.spoke();
        let newest = self.output.newest().map(|line| Effect::Show(line.to_owned()));
        newest.into_iter().chain([Effect::Output { offset, data }]).collect()
    }

    fn finished(&mut self, at: Duration, finished: Finished) -> Vec<Effect> {
        if matches!(self.phase, Phase::Diagnosing { .. } | Phase::Collecting { .. })
            && let Some(since) = self.stopped_at.take()
        {
            return self.ended_after_all(at.saturating_sub(since), &finished);
        }
        if !matches!(self.phase, Phase::Testing { .. }) {
            self.facts.garbage_messages += 1;
            return vec![];
        }
        let outcome = match (finished.exit, &self.replaced) {
            // Of the kernel under test: it is booted, and its md does not run.
            (Exit::NotStarted(MODULE_REFUSED), Some(replaced)) => {
                Outcome::KernelCrash { title: format!("{} does not load", replaced.probe) }
            }
            (_, Some(_)) if self.test_pid.is_none() => Outcome::Infra {
                error: "the modules that were built are not those that the guest has; the remarks say more"
                    .to_owned(),
            },
            (exit, _) => self.output.outcome(exit),
        };
        self.conclude(outcome);
        self.facts.test_ms = Some(finished.wall_ms);
        self.facts.user_ms = Some(finished.user_ms);
        self.facts.sys_ms = Some(finished.sys_ms);
        self.facts.output_bytes = finished.output_bytes;
        self.facts.survivors = finished.survivors;
        self.facts.survivors.truncate(32);
        let mut effects: Vec<_> = self
            .output
            .weakened()
            .iter()
            .map(|line| self.remark(Blame::Test, format!("tested less than it could: {line}")))
            .collect();
        effects.extend(match self.stands_at_its_end(at) {
            Some(asks) => asks,
            None if self.leaves_something() => self.linger(at),
            None => self.collect(at),
        });
        effects
    }

    /// It ended by itself after it had been given up: nobody kills it before the guest is powered off. If it was
    /// called stuck, that was wrong, and no kernel is to be blamed; that a limit was exceeded stays true.
    fn ended_after_all(&mut self, after: Duration, finished: &Finished) -> Vec<Effect> {
        let detail = match self.output.outcome(finished.exit) {
            Outcome::Pass => "passed".to_owned(),
            other => other.detail(),
        };
        let after_s = after.as_secs_f64();
        if self.is_at_limit {
            // Whoever stood there got on after all: that the limit was exceeded is what stays.
            self.outcome = Some(Outcome::Timeout { limit_ms: millis(self.limits.test_timeout) });
        }
        let Some(called) = &self.outcome else { return self.garbage() };
        let words = match called {
            Outcome::Hang { kind: HangKind::NoOutput | HangKind::HungTask, .. } | Outcome::Timeout { .. } => {
                format!(
                    "the test ended by itself ({detail}) {after_s:.1} s after its limit: it was slow, not stuck"
                )
            }
            Outcome::Hang { .. } => {
                let words = format!(
                    "the test ended by itself ({detail}) {after_s:.1} s after it was called hung ({}): \
                     it was slow, not stuck",
                    called.detail()
                );
                self.outcome = Some(Outcome::Infra { error: words.clone() });
                words
            }
            Outcome::Pass
            | Outcome::Fail { .. }
            | Outcome::Skip { .. }
            | Outcome::Warn { .. }
            | Outcome::KernelCrash { .. }
            | Outcome::DataCorruption { .. }
            | Outcome::Interrupted
            | Outcome::Infra { .. } => return self.garbage(),
        };
        vec![self.remark(Blame::Harness, words)]
    }

    fn file(&mut self, at: Duration, message: Message) -> Vec<Effect> {
        let Phase::Collecting { .. } = self.phase else {
            self.facts.garbage_messages += 1;
            return vec![];
        };
        match self.files.take(&message) {
            FileMessage::Part => {
                // As long as something comes, it is no time to give up.
                self.last_file = at;
                vec![Effect::File(message)]
            }
            FileMessage::All { n_left_out } => {
                let mut effects = Vec::new();
                if n_left_out > 0 {
                    effects.push(
                        self.remark(Blame::Harness, format!("{n_left_out} files were left in the guest")),
                    );
                }
                effects.extend(self.power_off(at));
                effects
            }
            FileMessage::Garbage => {
                self.facts.garbage_messages += 1;
                vec![]
            }
        }
    }

    fn power_off(&mut self, at: Duration) -> Vec<Effect> {
        self.dump_or(at, |state| state.ask_to_power_off(at))
    }

    fn ask_to_power_off(&mut self, at: Duration) -> Vec<Effect> {
        self.phase = Phase::Ending { since: at };
        self.fate.asked_to_power_off();
        vec![Effect::Send(Request::PowerOff)]
    }

    /// The first conclusion stands, but for a panic: it explains whatever was seen before it ended
    /// the machine.
    fn conclude(&mut self, outcome: Outcome) {
        let stands = self.outcome.is_some()
            && !(self.fate.panicked_since().is_some() && matches!(outcome, Outcome::KernelCrash { .. }));
        if !stands {
            self.outcome = Some(outcome);
        }
    }

    fn kill(&mut self) -> Vec<Effect> {
        if std::mem::replace(&mut self.killed, true) { vec![] } else { vec![Effect::Kill] }
    }

    fn remark(&self, blame: Blame, text: String) -> Effect {
        Effect::Record(Event::Remark { attempt: Some(self.number), blame, text })
    }
}

fn clip(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
