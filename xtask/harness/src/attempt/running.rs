//! The part of an attempt in which its test runs: start, output, samples, limits of time, end.
//!
//! Deliberately not here: whether samples show a hang ([`crate::attempt::progress`]), and what the output
//! says ([`crate::attempt::output`]).

use std::time::Duration;

use protocol::event::{Blame, Event};
use protocol::evidence::TaskStack;
use protocol::program::{Exit, LoadedModule, MODULE_REFUSED, Program};
use protocol::sample::Sample;
use protocol::wire::{Finished, HEARTBEAT_MS, OutputBudget, Request, StartTest};
use protocol::{HangKind, Outcome};

use crate::attempt::effect::{Effect, disk_serial, put_file};
use crate::attempt::phase::{Diagnosing, GivenUp, Phase};
use crate::attempt::progress::Hang;
use crate::attempt::state::AttemptState;
use crate::clock::millis;
use crate::guest::session::clip;
use crate::machine::Ask;

/// Output of a test that the agent sends: all that tests usually print, and a bounded rate beyond that.
const OUTPUT_BUDGET: OutputBudget = OutputBudget { burst_bytes: 16 << 20, bytes_per_s: 1 << 20 };

/// Longest time for which a process that outlives the test may hold the test's pipe open, milliseconds.
const GRACE_MS: u64 = 500;

/// Consecutive heartbeats with the sampler in D state before the test is declared hung.
const BLIND_BEATS_MAX: u32 = 12;

/// Age at which the newest sample no longer tells what the test does.
pub(super) const SAMPLE_COUNTS_FOR: Duration = Duration::from_secs(10);

/// Processes that outlive the test and are recorded.
const SURVIVORS_MAX: usize = 32;

impl AttemptState {
    // ---- start -------------------------------------------------------------------------------

    /// Gives the guest what the test needs, and starts it.
    pub(super) fn start_test(&self) -> Vec<Effect> {
        let job = &self.job;
        let serials = (0..job.disks.len()).map(disk_serial);
        let start = Request::StartTest(StartTest {
            attempt: self.number,
            program: Program {
                argv: job.argv.clone(),
                cwd: job.cwd.clone(),
                env: job.env.clone(),
                make_dirs: job.make_dirs.clone(),
                load_modules: job.load_modules.clone(),
                disks: serials.clone().collect(),
                replaced: self.replaced.clone(),
            },
            output: OUTPUT_BUDGET,
            grace_ms: GRACE_MS,
            sampled: self.is_watched,
        });
        let modules =
            self.replaced.iter().map(|replaced| Effect::PlugModules { serial: replaced.serial.clone() });
        let disks = serials.enumerate().map(|(idx, serial)| Effect::PlugDisk { idx, serial });
        let files = job.files.iter().flat_map(put_file);
        modules.chain(disks).chain(files).chain([Effect::Send(start)]).collect()
    }

    /// The test's process `pid` exists; `probed` is the module that the guest has in place of the kernel's.
    pub(super) fn started(&mut self, at: Duration, pid: u32, probed: Option<LoadedModule>) -> Vec<Effect> {
        let Phase::Testing(testing) = &mut self.phase else { return self.garbage() };
        if self.test_pid.is_some() {
            return self.garbage();
        }
        testing.last_output = at;
        self.test_pid = Some(pid);
        let replaced = match self.check_modules(probed) {
            Ok(replaced) => replaced,
            Err(why) => return self.fail(why),
        };
        let started = Event::TestStarted { attempt: self.number };
        replaced.into_iter().chain([started]).map(Effect::Record).collect()
    }

    /// The kernel must have loaded the modules that were built: a test of another md would tell nothing, and
    /// nobody would know.
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

    // ---- output and samples ------------------------------------------------------------------

    /// Takes a piece of the test's output.
    pub(super) fn take_output(&mut self, at: Duration, offset: u64, data: Vec<u8>) -> Vec<Effect> {
        if !self.output.take(offset, &data) {
            return self.garbage();
        }
        if let Phase::Testing(testing) = &mut self.phase {
            testing.last_output = at;
        }
        self.progress.spoke();
        let newest = self.output.scan().newest().map(|line| Effect::Show(line.to_owned()));
        newest.into_iter().chain([Effect::Output { offset, data }]).collect()
    }

    /// A heartbeat: the agent lives, and has counted `output_bytes`. A sampler in D state waits for a lock
    /// that a hang holds.
    pub(super) fn beat(&mut self, at: Duration, output_bytes: u64, sampler: Option<char>) -> Vec<Effect> {
        let is_more = self.output.count(output_bytes);
        let Phase::Testing(testing) = &mut self.phase else { return vec![] };
        if is_more {
            testing.last_output = at;
        }
        testing.blind_beats = if sampler == Some('D') { testing.blind_beats + 1 } else { 0 };
        let blind_beats = u64::from(testing.blind_beats);
        // It may wait for what the test's tasks wait for: a sleep to end, a delay, a disk's timeout.
        let ends_in = self.progress.may_wait_ms().div_ceil(HEARTBEAT_MS);
        if blind_beats < u64::from(BLIND_BEATS_MAX).saturating_add(ends_in) {
            return vec![];
        }
        let silent_ms = blind_beats * HEARTBEAT_MS;
        let seen = Some("who looks at the test's tasks waits in the kernel itself".to_owned());
        let outcome = Outcome::Hang { kind: HangKind::NoProgress, silent_ms, seen };
        self.diagnose(at, outcome, self.progress.stacks())
    }

    /// Takes a sample: of the test, or of what it left behind.
    pub(super) fn sample(&mut self, at: Duration, sample: Sample) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Testing(testing) => {
                testing.blind_beats = 0;
                testing.last_sample = at;
                self.sample_of_test(at, sample)
            }
            Phase::Lingering(lingering) => {
                lingering.last_sample = at;
                self.look_at_leftovers(at, sample)
            }
            Phase::Booting
            | Phase::Diagnosing(_)
            | Phase::Interrogating(_)
            | Phase::Dumping(_)
            | Phase::Collecting(_)
            | Phase::Ending { .. }
            | Phase::Ended => vec![],
        }
    }

    fn sample_of_test(&mut self, at: Duration, sample: Sample) -> Vec<Effect> {
        self.facts.sampling_ms = Some(sample.cost_us / 1000);
        let cut = self.remark_cut(sample.n_left_out);
        let mut effects = match self.progress.take(sample) {
            Some(Hang { still_ms, unseen: Some(pid), .. }) => self.ask_where_it_spins(at, pid, still_ms),
            Some(Hang { kind, still_ms, stacks, unseen: None }) => {
                self.diagnose(at, Outcome::Hang { kind, silent_ms: still_ms, seen: None }, stacks)
            }
            None => vec![],
        };
        effects.extend(cut);
        // The share of the time until the next sample that is the guest's own.
        effects.push(Effect::Ask(Ask::Times));
        effects
    }

    /// A task that stands among those that were not looked at is not seen: that is said once.
    fn remark_cut(&mut self, n_left_out: u32) -> Option<Effect> {
        let Phase::Testing(testing) = &mut self.phase else { return None };
        if n_left_out == 0 || std::mem::replace(&mut testing.is_cut_remarked, true) {
            return None;
        }
        let words = format!(
            "more tasks than a sample holds: {n_left_out} were not looked at for a hang, and may be blocked"
        );
        Some(self.remark(Blame::Harness, words))
    }

    // ---- limits ------------------------------------------------------------------------------

    /// Looks at the clock while the test runs.
    pub(super) fn check_limits(&mut self, at: Duration) -> Vec<Effect> {
        let Phase::Testing(testing) = &self.phase else { return vec![] };
        let (since, last_sample) = (testing.since, testing.last_sample);
        let silent = at.saturating_sub(testing.last_output);
        let (is_mute, mut effects) = self.listen(at);
        // Output of a guest that starves does not get here either.
        let is_slow = at < last_sample + SAMPLE_COUNTS_FOR && self.progress.is_getting_on();
        let outcome = if silent > self.limits.silence_timeout && !is_mute && !is_slow {
            let kind = self.progress.kind_of_silence();
            Outcome::Hang { kind, silent_ms: millis(silent), seen: None }
        } else if at > since + self.limits.test_timeout {
            self.phase.reach_limit();
            self.facts.looked_at_limit = !is_mute;
            self.at_its_limit(is_mute)
        } else {
            return effects;
        };
        effects.extend(if is_mute {
            // Starved or lost, nobody knows: its agent is not there to be asked.
            self.interrogate_test(at, outcome, 1)
        } else {
            let stacks = self.progress.stacks();
            self.diagnose(at, outcome, stacks)
        });
        effects
    }

    /// The outcome of a test that reached its limit of time: it was busy, or one of its tasks stood all
    /// along.
    fn at_its_limit(&self, is_mute: bool) -> Outcome {
        let timeout = Outcome::Timeout { limit_ms: millis(self.limits.test_timeout) };
        match self.progress.stood_in_storage().filter(|_| !is_mute) {
            Some(Hang { kind, still_ms, .. }) => {
                Outcome::Hang { kind, silent_ms: still_ms, seen: Some(timeout.detail()) }
            }
            // It waited for its data to be right, and it never was.
            None => match self.output.scan().changed_data() {
                Some(title) => Outcome::DataCorruption { title: title.to_owned() },
                None => timeout,
            },
        }
    }

    /// Gives a test up that gets no further: asks the guest for evidence before it goes. Nothing if no test
    /// runs.
    pub(super) fn diagnose(&mut self, at: Duration, outcome: Outcome, stacks: Vec<TaskStack>) -> Vec<Effect> {
        let Some(testing) = self.phase.take_test() else { return vec![] };
        self.facts.test_ms = Some(millis(at.saturating_sub(testing.since)));
        self.conclude(outcome);
        self.ask_for_evidence(at, Some(GivenUp { at, is_at_limit: testing.is_at_limit }), stacks)
    }

    /// Asks the guest to write down how it hangs.
    pub(super) fn ask_for_evidence(
        &mut self,
        at: Duration,
        given_up: Option<GivenUp>,
        stacks: Vec<TaskStack>,
    ) -> Vec<Effect> {
        self.phase = Phase::Diagnosing(Diagnosing { since: at, given_up });
        let mut effects: Vec<_> = self.evidence.stacks(stacks).into_iter().map(Effect::Record).collect();
        effects.push(Effect::Send(Request::Diagnose { attempt: self.number }));
        effects
    }

    /// The guest has written down how it hangs.
    pub(super) fn diagnosed(&mut self, at: Duration) -> Vec<Effect> {
        let Phase::Diagnosing(Diagnosing { since, .. }) = &self.phase else { return self.garbage() };
        self.facts.evidence_ms = Some(millis(at.saturating_sub(*since)));
        self.collect(at)
    }

    // ---- end ---------------------------------------------------------------------------------

    /// The test has ended by itself.
    pub(super) fn finished(&mut self, at: Duration, finished: Finished) -> Vec<Effect> {
        if let Some(given_up) = self.phase.take_given_up() {
            return self.ended_after_all(at, given_up, &finished);
        }
        if !matches!(self.phase, Phase::Testing(_)) {
            return self.garbage();
        }
        let outcome = match (finished.exit, &self.replaced) {
            // The fault of the kernel under test: it is booted, and its md does not run.
            (Exit::NotStarted(MODULE_REFUSED), Some(replaced)) => {
                Outcome::KernelCrash { title: format!("{} does not load", replaced.probe) }
            }
            (_, Some(_)) if self.test_pid.is_none() => Outcome::Infra {
                error: "the modules that were built are not those that the guest has; the remarks say more"
                    .to_owned(),
            },
            (exit, _) => self.output.scan().outcome(exit),
        };
        self.conclude(outcome);
        self.facts.test_ms = Some(finished.wall_ms);
        self.facts.user_ms = Some(finished.user_ms);
        self.facts.sys_ms = Some(finished.sys_ms);
        self.facts.output_bytes = finished.output_bytes;
        self.facts.survivors = finished.survivors;
        self.facts.survivors.truncate(SURVIVORS_MAX);
        let weakened = self.output.scan().weakened().iter();
        let mut effects: Vec<_> = weakened
            .map(|line| self.remark(Blame::Test, format!("tested less than it could: {line}")))
            .collect();
        if let (Some(Outcome::Pass | Outcome::Warn { .. }), Some(told)) =
            (&self.outcome, self.output.scan().known_to_fail())
        {
            effects.push(
                self.remark(Blame::Test, format!("passed, though its authors know it to fail: {told}")),
            );
        }
        effects.extend(match self.stands_at_its_end(at) {
            Some(asks) => asks,
            None if self.leaves_something() => self.linger(at),
            None => self.collect(at),
        });
        effects
    }

    /// The test exited on its own after it had been given up (it is never killed before the guest is powered
    /// off). A verdict that it hangs was wrong, and no kernel is to be blamed: it becomes Infra. That a limit
    /// was exceeded stays true.
    fn ended_after_all(&mut self, at: Duration, given_up: GivenUp, finished: &Finished) -> Vec<Effect> {
        let detail = match self.output.scan().outcome(finished.exit) {
            Outcome::Pass => "passed".to_owned(),
            other => other.detail(),
        };
        let after_s = at.saturating_sub(given_up.at).as_secs_f64();
        if given_up.is_at_limit {
            // The task that stood there got on after all: that the limit was exceeded is what stays.
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
}
