//! Runs that are cut off anywhere and resumed, with a hypervisor that starts no guests.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use protocol::event::PlannedAttempt;
use protocol::{Event, Outcome, Record, TestId};
use reports::record::{Attempt, RunEnd};
use reports::{RunRecord, judge_one};
use vm_images::host::Cancel;

use crate::attempt::drive::AttemptContext;
use crate::event_log::EventLog;
use crate::machine::{Hypervisor, InfraError, Input, Vm, VmSpec};
use crate::run::criteria::Criteria;
use crate::run::done;
use crate::run::resume::Resumed;
use crate::run::schedule::{Budget, Length};
use crate::run::tries::Times;
use crate::run::workers::{self, Planned, RunContext};
use crate::suite::script;
use crate::terminal::Terminal;
use crate::testing::{job, limits_of, vm};

/// A hypervisor that starts nothing. Its error names the attempt's number, so that runs can be compared.
struct NoVms {
    started: Mutex<Vec<String>>,
}

impl Hypervisor for NoVms {
    fn identity(&self, _spec: &VmSpec) -> String {
        "none".into()
    }

    fn start(&self, spec: &VmSpec, _inputs: SyncSender<Input>) -> Result<Box<dyn Vm>, InfraError> {
        let name = spec.append.clone();
        self.started.lock().unwrap().push(name.clone());
        Err(InfraError(anyhow::anyhow!("no VM for {name}")))
    }
}

fn plan() -> Vec<Planned> {
    (1..=5)
        .map(|number| {
            let test = TestId::new("lvm2", &format!("t{number}")).unwrap();
            Planned {
                attempt: PlannedAttempt {
                    attempt: number,
                    test: test.clone(),
                    kernel_idx: 0,
                    dir: format!("6.12/t{number}"),
                    again: vec![],
                    retry_of: None,
                    allow: vec![],
                },
                job: job(test.name()),
                vm: VmSpec { append: test.to_string(), ..vm() },
                limits: limits_of(Duration::from_secs(1)),
                test_name: test.to_string(),
                first_dir: format!("6.12/t{number}"),
                try_idx: 1,
                length: Length::Timed(1),
            }
        })
        .collect()
}

/// Carries out a new run, or the rest of one; returns the tests whose VMs were started.
fn carry_out(dir: &std::path::Path, events: &EventLog, plan: Vec<Planned>, times: Times) -> Vec<String> {
    let hypervisor = NoVms { started: Mutex::default() };
    let (cancel, terminal, criteria) = (Cancel::default(), Terminal::silent(), Criteria::default());
    let after = |attempt| {
        Ok(events.look(|record| {
            let attempt = record.attempt(attempt).unwrap();
            judge_one(record, attempt, &criteria.expectations, &criteria.known_issues)
        }))
    };
    let context = RunContext {
        attempt: AttemptContext {
            hypervisor: &hypervisor,
            snapshots: None,
            dump: false,
            events,
            cancel: &cancel,
        },
        dir,
        scratch: dir,
        terminal: &terminal,
        after: &after,
    };
    let budget = Budget { n_vms: 1, vcpus: None, memory_mib: None };
    workers::carry_out(context, plan, &done(events, &criteria), times, budget).unwrap();
    events.append(Event::RunFinished { interrupted: false }).unwrap();
    hypervisor.started.into_inner().unwrap()
}

/// Folder and events of a whole run.
fn whole(times: Times) -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let events = EventLog::create(&path).unwrap();
    events
        .append(Event::RunStarted {
            format: protocol::event::FORMAT,
            run: "r".into(),
            started_at: "2026-11-22T17:05:38Z".into(),
            harness: "h".into(),
            command: vec![],
            settings: vec!["--".into()],
            scripts: vec![],
            host: Default::default(),
            fail_on: vec![],
            flaky_fails: false,
        })
        .unwrap();
    let attempts = plan().into_iter().map(|planned| planned.attempt).collect();
    events.append(Event::Planned { attempts }).unwrap();
    carry_out(dir.path(), &events, plan(), times);
    let bytes = std::fs::read(&path).unwrap();
    (dir, bytes)
}

/// The results of a run, without times and without the remark that it was cut off.
fn came_to(record: &RunRecord) -> Vec<(PlannedAttempt, Option<Outcome>)> {
    let outcome = |attempt: &Attempt| attempt.finished().map(|(outcome, _)| outcome.clone());
    record.attempts.iter().map(|attempt| (super::planned_as(attempt), outcome(attempt))).collect()
}

/// Cuts a run at every relevant byte, resumes it, and compares the results.
fn check(times: Times) {
    let (_dir, bytes) = whole(times);
    let undisturbed = reports::record::events::parse_events(&bytes, "e".as_ref()).unwrap().into_record();
    let after_plan = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
    let ends = (after_plan..=bytes.len()).filter(|&end| bytes[end - 1] == b'\n');
    // Whole lines, torn lines, and a line that lacks only its line end.
    for cut in ends.flat_map(|end| [end, end - 1, end - 20]).filter(|cut| *cut >= after_plan) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let events = EventLog::resume(&path).unwrap();
        let before: BTreeSet<_> = events.look(|record| {
            let over = record.attempts.iter().filter(|attempt| attempt.finished().is_some());
            over.map(|attempt| attempt.test.to_string()).collect()
        });
        let templates = plan();
        let known_plan: Vec<Planned> = events.look(|record| {
            let again = |attempt: &Attempt| {
                let like = templates.iter().find(|planned| planned.attempt.test == attempt.test).unwrap();
                Planned { attempt: super::planned_as(attempt), ..like.clone() }
            };
            record.attempts.iter().map(again).collect()
        });
        let resumed = Event::RunResumed { resumed_at: "later".into(), harness: "h".into() };
        events.append(resumed).unwrap();
        let started = carry_out(dir.path(), &events, known_plan, times);
        if times == Times::default() {
            assert!(started.iter().all(|test| !before.contains(test)), "cut at {cut}: {started:?} ran twice");
        }
        let log = reports::read_events(&path).unwrap();
        assert_eq!(log.torn, None);
        assert!(log.records.windows(2).all(|two: &[Record]| two[0].at_ms <= two[1].at_ms), "cut at {cut}");
        let record = log.into_record();
        assert_eq!(record.end, RunEnd::Finished);
        assert_eq!(came_to(&record), came_to(&undisturbed), "cut at {cut}");
    }
}

#[test]
fn a_run_that_was_cut_anywhere_comes_to_the_same() {
    check(Times::default());
}

#[test]
fn so_does_one_whose_tries_depend_on_what_came_before() {
    check(Times::new(None, false, None, Some(2)));
}

#[test]
fn a_run_that_is_still_at_work_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let _events = EventLog::create(&path).unwrap();
    let error = EventLog::resume(&path).unwrap_err();
    assert!(crate::error::is_users_fault(&error));
    assert!(
        error.to_string().ends_with("belongs to a run that is still at work; wait for its end"),
        "{error}"
    );
}

#[test]
fn a_run_goes_on_with_the_script_that_it_began_with_or_not_at_all() {
    use crate::run::choose::ChosenJob;
    use crate::run::script_record::keep;
    let folder = tempfile::tempdir().unwrap();
    let (dir, path) = (folder.path().join("run"), folder.path().join("repro.sh"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(&path, "true\n").unwrap();
    let suite = crate::suite::Suite::read(&crate::workspace::workspace().join("suites/lvm2")).unwrap();
    let chosen = || {
        let job = script::job(&path, None, &suite, None).unwrap();
        ChosenJob { job, again: script::again(&path, None), kernels: vec![], n_tries: 1 }
    };
    let planned = |chosen: &ChosenJob| {
        let mut planned = plan().remove(0);
        planned.attempt.test = chosen.job.id.clone();
        planned.attempt.again = chosen.again.clone();
        planned.job = chosen.job.clone();
        planned
    };
    let (first, scripts) = (chosen(), std::slice::from_ref(&path));
    let mut plan = vec![planned(&first)];
    let kept =
        crate::run::script_record::keep_planned(scripts, std::slice::from_ref(&first), &mut plan, &dir)
            .unwrap();
    assert_eq!(kept, keep(scripts, &dir).unwrap());
    // Another try uses the copy, whatever happened to the file.
    let copy = dir.join("scripts/repro.sh");
    assert_eq!(plan[0].attempt.again, ["--script".to_owned(), copy.display().to_string()]);
    assert_eq!(std::fs::read(&copy).unwrap(), b"true\n");

    let events = EventLog::create(&dir.join("events.jsonl")).unwrap();
    let mut record = RunRecord::default();
    record.run.scripts = kept;
    let resumed = Resumed { dir: dir.clone(), events, record };
    resumed.check_scripts().unwrap();
    resumed.check_jobs(&plan).unwrap();
    std::fs::write(&path, "false\n").unwrap();
    let error = resumed.check_scripts().unwrap_err().to_string();
    assert!(error.contains("repro.sh` is not what it was") && error.contains("cp "), "{error}");
    assert!(resumed.check_jobs(&[planned(&chosen())]).is_err());
    // A record without digests can be resumed.
    let old = Resumed { record: RunRecord::default(), ..resumed };
    old.check_scripts().unwrap();
}
