//! Snapshot tests of a search's reports.

use super::super::decide::SearchRules;
use super::super::graph::Graph;
use super::super::observe::{Class, Sighting};
use super::super::state::{FORMAT, Question, RecordedTrial, SearchEnd};
use super::*;

fn id(n: usize) -> String {
    format!("{n:040x}")
}

fn trial(result: TrialResult) -> Trial {
    let reproduce = Some("cargo xtask test --kernel deb:6.12+md:/linux@c lvm2:shell/x.sh".to_owned());
    let seen = vec![Sighting { test: "lvm2:shell/x.sh".into(), dir: "6.12/x".into(), reproduce, result }];
    Trial::Ran { run: "/out/bisect/runs/1".into(), seen }
}

fn hang() -> TrialResult {
    TrialResult::Wrong(Failure {
        class: Class::Hang,
        detail: "no progress for 7 s".into(),
        signature: vec!["lvm: stop_sync_thread ← md_stop ← raid_dtr".into()],
        known_issues: vec![],
        last_lines: vec![],
    })
}

fn sample() -> SearchState {
    let subjects = (1..=4).map(|n| (id(n), format!("md: change {n}")));
    let end =
        |n: usize, name: &str| SearchEnd { name: name.into(), id: id(n), title: format!("md: change {n}") };
    let rules = SearchRules { repeat: None, confidence: 0.95, find_fix: false, chance_failures: None };
    let paths = vec!["drivers/md".to_owned()];
    let source =
        KernelSource::Commits { tree: "/linux".into(), overlay: Some("deb:6.12".parse().unwrap()), paths };
    let mut trials = vec![];
    let mut add = |position, trial| trials.push(RecordedTrial { position, trial, seconds: 20.0 });
    add(Position::Subject(3), trial(hang()));
    add(Position::Subject(3), trial(hang()));
    add(Position::OldEnd, trial(TrialResult::Passed));
    add(Position::Subject(1), Trial::Unbuildable { error: "md.c:7:1: error: expected ';'".into() });
    add(Position::Subject(2), trial(hang()));
    add(Position::Subject(0), trial(TrialResult::Passed));
    SearchState {
        format: FORMAT,
        question: Question {
            source,
            old: end(0, "v6.12"),
            new: end(4, "HEAD"),
            rules,
            words: None,
            settings: vec![],
            scripts: vec![],
        },
        graph: Graph::linear(subjects).unwrap(),
        trials,
        reverted: Some(Reverted::Tried(vec![trial(TrialResult::Passed)])),
    }
}

fn sure(first_new: &[usize], confidence: f64) -> Conclusion {
    let first_new = first_new.to_vec();
    let one_of = (first_new.clone(), confidence);
    Conclusion { first_new, confidence, is_sure: true, one_of, fail_rate: 0.93, chance_rate: 0.001 }
}

#[test]
fn the_mail_is_complete() {
    let state = sample();
    let conclusion = sure(&[2], 0.9873);
    let show = "commit 3\nAuthor: x\n\n    md: change 3\n\n drivers/md/md.c | 2 +-\n";
    insta::assert_snapshot!(mail(&state, &conclusion, show, "Subject: hung\n\nstacks", &["logs".to_owned()]));
}

#[test]
fn several_are_said_to_be_several() {
    let state = sample();
    let conclusion = Conclusion { is_sure: false, ..sure(&[1, 2], 0.9999) };
    insta::assert_snapshot!(answer(&state, &conclusion));
}

#[test]
fn what_is_not_sure_is_not_said_to_be() {
    let state = sample();
    let one_of = (vec![2], 0.6);
    let conclusion = Conclusion { is_sure: false, one_of, fail_rate: 0.3, ..sure(&[2], 0.6) };
    assert!(!conclusion.is_sure);
    assert!(answer(&state, &conclusion).contains("most likely"));
    let text = mail(&state, &conclusion, "", "", &[]);
    assert!(text.contains("fails in about 30.0 % of them."), "{text}");
    let several = Conclusion { first_new: vec![1, 2], ..conclusion };
    assert!(
        mail(&state, &several, "", "", &[])
            .starts_with("Subject: [bisected] lvm2:shell/x.sh hung since one of 2 ")
    );
}

#[test]
fn only_a_failure_that_nothing_names_is_said_to_be_loose() {
    let of = |class, signature: &[&str]| {
        let signature = signature.iter().map(|&line| line.to_owned()).collect();
        let wrong =
            Failure { class, detail: String::new(), signature, known_issues: vec![], last_lines: vec![] };
        warning_if_unsigned(&Target::Seen { test: "x".into(), wrong }).is_some()
    };
    assert!(of(Class::Failure, &[]) && of(Class::Timeout, &[]));
    assert!(!of(Class::Failure, &["WARNING: md_run"]) && of(Class::Hang, &[]) && !of(Class::Corruption, &[]));
}

/// The sample with a failure that has no kernel signature, at both ends and in between.
fn unmarked(said: &[&str], at_passing: &[bool]) -> SearchState {
    let mut state = sample();
    let failed = |said: &str| {
        TrialResult::Wrong(Failure {
            class: Class::Failure,
            detail: "exit code 1".into(),
            signature: vec![],
            known_issues: vec![],
            last_lines: vec![said.into()],
        })
    };
    let recorded = |position, came| RecordedTrial { position, trial: trial(came), seconds: 20.0 };
    state.trials = said.iter().map(|said| recorded(Position::Subject(3), failed(said))).collect();
    let at_passing = at_passing
        .iter()
        .map(|&fails| recorded(Position::OldEnd, if fails { failed("x") } else { TrialResult::Passed }));
    state.trials.extend(at_passing);
    state
}

#[test]
fn chance_failures_are_counted_where_nothing_tells_them_apart() {
    let conclusion = Conclusion { chance_rate: 0.043, ..sure(&[2], 0.98) };
    assert!(!mail(&sample(), &conclusion, "", "", &[]).contains("trials of the good end"));
    let state = unmarked(&["x", "x"], &[false, true, false, false]);
    let text = mail(&state, &conclusion, "", "", &[]);
    let line =
        "1 failure in 4 trials of the good end; by all trials, what has no bug fails in about 4.3 % of them.";
    assert!(text.contains(line), "{text}");
    assert!(afterwards(&state, &conclusion, "").iter().any(|said| said == line.trim_end_matches('.')));
}

#[test]
fn failures_that_differ_are_said_to() {
    assert_eq!(differences(&sample()), None, "the kernel's own mark tells them apart");
    // Numbers differ from try to try.
    assert_eq!(differences(&unmarked(&["mismatch_cnt is 128", "mismatch_cnt is 8"], &[false])), None);
    let said = differences(&unmarked(&["mismatch_cnt is 128", "device busy", "mismatch_cnt is 8"], &[]));
    assert_eq!(
        said.unwrap(),
        "the failures that count as the same differ: 2 times `mismatch_cnt is 128`, once `device busy`. If they are not \
         one bug, begin again with --signature TEXT, of the one that is meant"
    );
}

#[test]
fn ends_that_fail_alike_are_said_to() {
    let state = unmarked(&["x", "x"], &[true, true, false]);
    let text = explain(&state, &Trouble::PassingEndFails);
    assert!(
        text.contains("in 2 of 3 trials and the other end in 2 of 2") && text.contains("--signature"),
        "{text}"
    );
}

#[test]
fn one_of_several_is_said_where_chance_comes_near() {
    let state = sample();
    let one_of = (vec![1, 2, 3], 0.961);
    let conclusion = Conclusion { is_sure: false, one_of, ..sure(&[2], 0.7) };
    let text = answer(&state, &conclusion);
    assert!(text.contains("most likely") && text.contains("; it is one of 3, from "), "{text}");
    assert!(text.ends_with("with 96.1 %"), "{text}");
    assert!(mail(&state, &conclusion, "", "", &[]).contains("hung since, most likely, 000"));
}

#[test]
fn each_trouble_says_what_to_do() {
    let state = sample();
    let why = || "skipped: too old".to_owned();
    let all = [
        Trouble::FailingEndPasses { n: 20 },
        Trouble::FailingEndOther { n_passed: 1, n_other: 2, why: "hung (x)".to_owned() },
        Trouble::FailingEndUntestable(why()),
        Trouble::PassingEndFails,
        Trouble::PassingEndOther(why()),
        Trouble::PassingEndUntestable(why()),
    ];
    let text: Vec<_> = all.iter().map(|trouble| explain(&state, trouble)).collect();
    insta::assert_snapshot!(text.join("\n\n"));
}

#[test]
fn progress_says_how_much_is_left() {
    let state = sample();
    let why = Purpose::Search { n_left: 2, n_trials_left: 3.0 };
    let lines = [
        opening(&state),
        begins(&state, Position::Subject(3), Purpose::ConfirmFailing),
        begins(&state, Position::OldEnd, Purpose::ConfirmPassing),
        begins(&state, Position::Subject(1), why),
        begins(&state, Position::Subject(2), Purpose::Verify),
        over(&state, &Observation::Passed),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn no_probability_is_rounded_to_certainty() {
    assert_eq!(percent(0.99999), "more than 99.9 %");
    assert_eq!(percent(0.5), "50.0 %");
}

#[test]
fn the_state_file_keeps_its_keys() {
    let file = serde_json::to_value(sample()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&file), ["format", "history", "question", "reverted", "trials"]);
    let first = &file["trials"][0];
    assert_eq!(keys(first), ["place", "seconds", "trial"]);
    assert_eq!(first["place"], serde_json::json!({ "subject": 3 }));
    assert_eq!(first["trial"]["came"], "ran");
    assert_eq!(first["trial"]["seen"][0]["came"]["as"], "wrong");
}
