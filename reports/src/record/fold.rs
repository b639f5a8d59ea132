//! Folds events into a [`RunRecord`].
//!
//! Total: any sequence of events gives a record. Where events contradict each other, the first
//! word stands and the contradiction becomes a remark that blames the harness, because a report
//! with a remark helps more than no report.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use protocol::event::{AttemptFacts, Blame, FORMAT, PlannedAttempt};
use protocol::wire::GuestFacts;
use protocol::{Event, Outcome, Record};

use crate::faults::Policy;
use crate::record::older;
use crate::record::{
    Attempt, AttemptState, Image, Kernel, Machine, NotPlanned, Remark, RunEnd, RunFacts, RunRecord, Shard,
};

impl RunRecord {
    /// Folds the events of a run, as far as they go.
    pub fn from_events(records: impl IntoIterator<Item = Record>) -> RunRecord {
        let mut live = LiveRecord::default();
        for record in records {
            live.add(record);
        }
        live.0.finish()
    }
}

/// The record of a run that is still going on.
#[derive(Debug, Default)]
pub struct LiveRecord(Fold);

impl LiveRecord {
    /// Takes the next event.
    pub fn add(&mut self, Record { at_ms, event }: Record) {
        self.0.record.elapsed_ms = self.0.record.elapsed_ms.max(at_ms);
        self.0.apply(event);
    }

    /// The record so far.
    pub fn record(&self) -> &RunRecord {
        &self.0.record
    }
}

#[derive(Debug, Default)]
struct Fold {
    record: RunRecord,
    /// Of the events.
    format: Option<u32>,
    started: bool,
    ended: bool,
    /// Remarks about an attempt that were made before it began.
    n_remarks_before: BTreeMap<u32, usize>,
}

impl Fold {
    fn apply(&mut self, event: Event) {
        if self.ended && !matches!(event, Event::RunResumed { .. }) {
            self.record.add_oddity("the events go on after the end of the run".to_owned());
            // Once is enough.
            self.ended = false;
        }
        match event {
            Event::RunStarted {
                format,
                run,
                started_at,
                harness,
                command,
                settings,
                scripts,
                host,
                fail_on,
                flaky_fails,
            } => {
                self.format.get_or_insert(format);
                let policy = Policy::of(&fail_on, flaky_fails).unwrap_or_else(|error| {
                    self.record.add_oddity(format!("the run's --fail-on makes no sense: {error}"));
                    Policy::default()
                });
                self.run_started(RunFacts {
                    name: run,
                    started_at,
                    harness,
                    command,
                    settings,
                    scripts,
                    host,
                    policy,
                });
            }
            Event::RunResumed { resumed_at, harness } => self.run_resumed(&resumed_at, &harness),
            Event::Sharded { shard, n_shards, digest } => {
                self.record.shard = Some(Shard { shard, n_shards, digest });
            }
            Event::MachineChosen { accel, reason, qemu, cpu, time_scale_percent } => {
                let machine = Machine { accel, reason, qemu, cpu, time_scale_percent };
                if self.record.machine.is_some() {
                    self.record.add_oddity("the machine was chosen twice; the first stands".to_owned());
                } else {
                    self.record.machine = Some(machine);
                }
            }
            Event::KernelReady { kernel_idx, spec, exact_spec, release, package_version, digest } => {
                self.kernel_ready(kernel_idx, Kernel { spec, exact_spec, release, package_version, digest });
            }
            Event::ImageReady { digest, versions, checkouts } => {
                if self.record.image.is_some() {
                    self.record.add_oddity("the guest image became ready twice; the first stands".to_owned());
                } else {
                    self.record.image = Some(Image { digest, versions, checkouts });
                }
            }
            Event::Planned { attempts } => {
                for planned in attempts {
                    self.planned(planned);
                }
            }
            Event::NotPlanned { test, kernel_idx, reason } => {
                self.record.not_planned.push(NotPlanned { test, kernel_idx, reason });
            }
            Event::VmStarting { attempt } => self.vm_starting(attempt),
            Event::VmReady { attempt, ready_after_ms, guest } => {
                self.vm_ready(attempt, ready_after_ms, guest);
            }
            Event::ModulesReplaced { attempt, probed: _, built } => self.modules_replaced(attempt, built),
            Event::TestStarted { attempt } => self.test_started(attempt),
            Event::StacksSeen { attempt, stacks } => {
                if let Some(attempt) = self.attempt(attempt, "stacks-seen") {
                    attempt.stacks = stacks;
                }
            }
            Event::StateSeen { attempt, state } => {
                if let Some(attempt) = self.attempt(attempt, "state-seen") {
                    attempt.storage = Some(state.bounded());
                }
            }
            Event::KernelReported { attempt, report } => {
                let report = older::corrected(self.format.unwrap_or(FORMAT), report);
                if let Some(attempt) = self.attempt(attempt, "kernel-reported") {
                    attempt.kernel_reports.push(report);
                }
            }
            Event::FramesLocated { kernel_idx, frames } => self.record.add_lines(kernel_idx, frames),
            Event::Remark { attempt, blame, text } => self.remark(attempt, Remark { blame, text }),
            Event::AttemptFinished { attempt, outcome, facts } => {
                self.attempt_finished(attempt, outcome, facts);
            }
            Event::RunFinished { interrupted } => self.run_finished(interrupted),
        }
    }

    fn run_started(&mut self, facts: RunFacts) {
        if self.started {
            self.record.add_oddity("the run started twice; the first stands".to_owned());
        } else {
            self.started = true;
            self.record.run = facts;
        }
    }

    /// Attempts that began and came to nothing are as if they had never begun, but for a remark.
    fn run_resumed(&mut self, resumed_at: &str, harness: &str) {
        self.ended = false;
        self.record.end = RunEnd::Cut;
        let mut n_again = 0;
        for attempt in &mut self.record.attempts {
            let is_cut_off = match &attempt.state {
                AttemptState::NotStarted => false,
                AttemptState::Running | AttemptState::Finished { outcome: Outcome::Interrupted, .. } => true,
                AttemptState::Finished { .. } => false,
            };
            if is_cut_off {
                n_again += 1;
                let n_before = self.n_remarks_before.get(&attempt.number).copied().unwrap_or(0);
                attempt.remarks.truncate(n_before);
                let text = "it was cut off when the run was, and began again".to_owned();
                attempt.remarks.push(Remark { blame: Blame::Host, text });
                attempt.state = AttemptState::NotStarted;
                attempt.ready_after_ms = None;
                attempt.started = false;
                attempt.guest = None;
                attempt.stacks = Vec::new();
                attempt.kernel_reports = Vec::new();
                attempt.storage = None;
            }
        }
        let n_left = self.record.attempts.iter().filter(|attempt| attempt.finished().is_none()).count();
        let text = format!(
            "the run was cut off and resumed at {resumed_at} by {harness}, with {n_left} attempts left, {n_again} of \
             them cut off"
        );
        self.record.remarks.push(Remark { blame: Blame::Host, text });
    }

    fn kernel_ready(&mut self, kernel_idx: u32, kernel: Kernel) {
        match self.record.kernels.entry(kernel_idx) {
            Entry::Vacant(place) => {
                place.insert(kernel);
            }
            Entry::Occupied(_) => {
                self.record.add_oddity(format!("kernel {kernel_idx} became ready twice; the first stands"));
            }
        }
    }

    fn planned(&mut self, planned: PlannedAttempt) {
        let PlannedAttempt { attempt: number, test, kernel_idx, dir, again, retry_of, allow } = planned;
        if self.record.places.contains_key(&number) {
            self.record.add_oddity(format!("attempt {number} was planned twice; the first plan stands"));
            return;
        }
        self.record.places.insert(number, self.record.attempts.len());
        self.record.attempts.push(Attempt {
            number,
            test,
            kernel_idx,
            dir,
            again,
            retry_of,
            allow,
            state: AttemptState::NotStarted,
            ready_after_ms: None,
            started: false,
            guest: None,
            modules: BTreeMap::new(),
            stacks: Vec::new(),
            storage: None,
            kernel_reports: Vec::new(),
            remarks: Vec::new(),
        });
    }

    /// The attempt that an event is about, or a remark that there is none.
    fn attempt(&mut self, number: u32, event: &str) -> Option<&mut Attempt> {
        let Some(place) = self.record.places.get(&number) else {
            self.record.add_oddity(format!("`{event}` for attempt {number}, which was never planned"));
            return None;
        };
        self.record.attempts.get_mut(*place)
    }

    fn vm_starting(&mut self, number: u32) {
        let Some(attempt) = self.attempt(number, "vm-starting") else { return };
        match attempt.state {
            AttemptState::NotStarted => {
                attempt.state = AttemptState::Running;
                let n_remarks = attempt.remarks.len();
                self.n_remarks_before.insert(number, n_remarks);
            }
            AttemptState::Running | AttemptState::Finished { .. } => {
                attempt.add_oddity("its VM was started a second time");
            }
        }
    }

    fn vm_ready(&mut self, number: u32, ready_after_ms: u64, guest: GuestFacts) {
        let Some(attempt) = self.attempt(number, "vm-ready") else { return };
        attempt.expect_running("its VM became ready");
        if attempt.guest.is_some() {
            attempt.add_oddity("its VM became ready twice; the first stands");
        } else {
            attempt.ready_after_ms = Some(ready_after_ms);
            attempt.guest = Some(guest);
        }
    }

    fn modules_replaced(&mut self, number: u32, built: BTreeMap<String, String>) {
        let Some(attempt) = self.attempt(number, "modules-replaced") else { return };
        attempt.expect_running("its modules were replaced");
        attempt.modules = built;
    }

    fn test_started(&mut self, number: u32) {
        let Some(attempt) = self.attempt(number, "test-started") else { return };
        attempt.expect_running("its test started");
        attempt.started = true;
    }

    fn remark(&mut self, number: Option<u32>, remark: Remark) {
        match number.and_then(|number| self.record.places.get(&number).copied()) {
            Some(place) => self.record.attempts[place].remarks.push(remark),
            // A remark about an attempt that is not in the plan still is a remark.
            None => self.record.remarks.push(remark),
        }
    }

    /// Accepts an attempt without a VM: the harness may know the outcome before it starts one.
    fn attempt_finished(&mut self, number: u32, outcome: Outcome, facts: AttemptFacts) {
        let Some(attempt) = self.attempt(number, "attempt-finished") else { return };
        match attempt.state {
            AttemptState::NotStarted | AttemptState::Running => {
                attempt.state = AttemptState::Finished { outcome, facts: Box::new(facts) };
            }
            AttemptState::Finished { .. } => {
                attempt.add_oddity("it finished twice; the first outcome stands");
            }
        }
    }

    fn run_finished(&mut self, interrupted: bool) {
        self.ended = true;
        self.record.end = match self.record.end {
            RunEnd::Cut if interrupted => RunEnd::Interrupted,
            RunEnd::Cut => RunEnd::Finished,
            RunEnd::Finished if interrupted => RunEnd::Interrupted,
            RunEnd::Finished => RunEnd::Finished,
            RunEnd::Interrupted => RunEnd::Interrupted,
        };
    }

    fn finish(mut self) -> RunRecord {
        if !self.started {
            self.record.add_oddity("the events do not say how the run started".to_owned());
        }
        match self.record.end {
            RunEnd::Finished => {
                for attempt in &mut self.record.attempts {
                    if attempt.state == AttemptState::Running {
                        attempt.add_oddity("the run ended, and this attempt never did");
                    }
                }
            }
            // Attempts without an end are what such a run looks like.
            RunEnd::Interrupted | RunEnd::Cut => {}
        }
        self.record
    }
}

impl Attempt {
    fn expect_running(&mut self, what: &str) {
        match self.state {
            AttemptState::Running => {}
            AttemptState::NotStarted => self.add_oddity(&format!("{what} before its VM was started")),
            AttemptState::Finished { .. } => self.add_oddity(&format!("{what} after its end")),
        }
    }

    fn add_oddity(&mut self, what: &str) {
        let text = format!("the events contradict themselves: {what}");
        self.remarks.push(Remark { blame: Blame::Harness, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::judge;
    use crate::judge::known_issues::KnownIssues;
    use crate::judge::result::RunResult;
    use crate::testing;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_run_folds_into_its_facts() {
        let record = RunRecord::from_events(testing::sample_events());
        assert_eq!(record.run.name, "20261122-1705-brave-otter");
        assert_eq!(record.kernels[&1].release, "6.1.0-40-cloud-amd64");
        assert_eq!(record.machine.as_ref().unwrap().accel, "tcg");
        assert_eq!(record.image.as_ref().unwrap().versions["lvm2"], "2.03.31-2");
        assert_eq!((record.attempts.len(), record.not_planned.len()), (10, 1));
        let first = record.attempt(1).unwrap();
        assert_eq!(first.ready_after_ms, Some(180));
        assert_eq!(first.guest.as_ref().unwrap().n_cpus, 1);
        assert_eq!(first.duration_ms(), Some(88_000));
        assert_eq!(record.attempt(9).unwrap().state, AttemptState::Running);
        assert_eq!(record.attempt(10).unwrap().state, AttemptState::NotStarted);
        assert_eq!(record.end, RunEnd::Interrupted);
    }

    #[test]
    fn without_a_last_event_the_run_was_cut() {
        let mut events = testing::sample_events();
        events.pop();
        assert_eq!(RunRecord::from_events(events).end, RunEnd::Cut);
        assert_eq!(RunRecord::from_events([]).end, RunEnd::Cut);
    }

    #[test]
    fn the_first_word_stands_and_the_second_is_remarked() {
        let mut events = testing::sample_events();
        let twice: Vec<Record> = events.iter().chain(&events).cloned().collect();
        let once = RunRecord::from_events(events.drain(..));
        let record = RunRecord::from_events(twice);
        assert_eq!(record.run, once.run);
        assert_eq!(record.kernels, once.kernels);
        assert_eq!(record.attempts.len(), once.attempts.len());
        assert_eq!(record.attempt(1).unwrap().state, once.attempt(1).unwrap().state);
        assert!(record.remarks.iter().any(|remark| remark.text.contains("started twice")));
        assert!(record.attempt(1).unwrap().remarks.iter().any(|r| r.text.contains("finished twice")));
    }

    #[test]
    fn events_about_unplanned_attempts_are_remarked() {
        let record = RunRecord::from_events([testing::at(0, Event::VmStarting { attempt: 7 })]);
        assert!(record.remarks[0].text.contains("`vm-starting` for attempt 7"), "{:?}", record.remarks);
    }

    #[test]
    fn kernels_of_one_release_are_told_apart() {
        let kernel = |kernel_idx: u32, spec: &str| {
            let (exact_spec, digest) = (String::new(), String::new());
            let (spec, release) = (spec.to_owned(), "6.12.1".to_owned());
            Event::KernelReady { kernel_idx, spec, exact_spec, release, package_version: None, digest }
        };
        let record = RunRecord::from_events([
            testing::at(0, kernel(0, "deb:6.12")),
            testing::at(0, kernel(1, "deb:6.12+md:/x")),
        ]);
        assert_eq!(record.kernel_label(1), "deb:6.12+md:/x");
        assert_eq!(record.kernel_label(2), "kernel#2");
    }

    #[test]
    fn a_run_that_is_resumed_forgets_what_was_cut_off() {
        let mut events = testing::sample_events();
        // Attempt 9 was cut off, 10 never began.
        events
            .push(testing::at(50_000, Event::RunResumed { resumed_at: "later".into(), harness: "h".into() }));
        let resumed = RunRecord::from_events(events.clone());
        assert_eq!(resumed.end, RunEnd::Cut);
        assert_eq!(resumed.attempt(9).unwrap().state, AttemptState::NotStarted);
        assert!(resumed.attempt(9).unwrap().remarks[0].text.contains("began again"));
        let text = &resumed.remarks.last().unwrap().text;
        assert!(text.contains("with 2 attempts left, 1 of them cut off"), "{text}");
        assert!(matches!(resumed.attempt(8).unwrap().state, AttemptState::Finished { .. }));
        for attempt in [9, 10] {
            events.push(testing::at(51_000, Event::VmStarting { attempt }));
            let facts = AttemptFacts::default();
            events
                .push(testing::at(52_000, Event::AttemptFinished { attempt, outcome: Outcome::Pass, facts }));
        }
        events.push(testing::at(53_000, Event::RunFinished { interrupted: false }));
        let whole = RunRecord::from_events(events);
        assert_eq!(whole.end, RunEnd::Finished);
        let is_odd = |remark: &Remark| remark.text.contains("contradict") || remark.text.contains("go on");
        assert!(!whole.remarks.iter().chain(&whole.attempts[8].remarks).any(is_odd), "{:?}", whole.remarks);
        assert_eq!(whole.attempt(9).unwrap().finished().unwrap().0, &Outcome::Pass);
    }

    proptest! {
        /// Events in any order, any number of times, fold; what was planned stays, once each; and
        /// whatever comes out can be judged and reported.
        #[test]
        fn folding_never_panics(events in proptest::collection::vec(testing::any_record(), 0..60)) {
            let mut planned = std::collections::BTreeSet::new();
            for record in &events {
                if let Event::Planned { attempts } = &record.event {
                    planned.extend(attempts.iter().map(|attempt| attempt.attempt));
                }
            }
            let record = RunRecord::from_events(events);
            let numbers: Vec<u32> = record.attempts.iter().map(|attempt| attempt.number).collect();
            prop_assert_eq!(numbers.len(), planned.len());
            for number in planned {
                prop_assert_eq!(record.attempt(number).map(|attempt| attempt.number), Some(number));
            }
            let judged = judge(&record, &BTreeMap::new(), &KnownIssues::default());
            let tests: std::collections::BTreeSet<_> =
                record.attempts.iter().map(|attempt| (&attempt.test, attempt.kernel_idx)).collect();
            prop_assert_eq!(judged.len(), tests.len() + record.not_planned.len());
            let _ = RunResult::of(&record, &judged);
            crate::render::junit::render(&record, &judged).unwrap();
            crate::render::summary::render(&record, &judged);
            crate::render::verdicts_json::render(&record, &judged);
            crate::render::terminal::render(&record, &judged, &crate::render::style::TerminalStyle::plain("out/x"));
        }
    }
}
