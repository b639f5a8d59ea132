//! Replays of a recorded run: unchanged, cut, changed, and folders that are no runs.

use std::path::PathBuf;

use harness::run::folder::find_run;

use super::*;

const EVENTS: &str = include_str!("../../harness/testdata/run/events.jsonl");

/// A folder of runs with one in it, `one`.
struct Runs(tempfile::TempDir);

impl Runs {
    fn with(events: &str) -> Self {
        let runs = Runs(tempfile::tempdir().unwrap());
        fs::create_dir(runs.one()).unwrap();
        fs::write(runs.one().join("events.jsonl"), events).unwrap();
        runs
    }

    fn one(&self) -> PathBuf {
        self.0.path().join("one")
    }

    fn judged(&self) -> Replayed {
        judge_again(&self.one()).unwrap()
    }
}

/// The text of an error that is the user's.
fn usage_error<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(crate::exit_of(&error), Exit::Usage, "{error:#}");
    format!("{error:#}")
}

fn verdicts(ran: &FinishedRun) -> Vec<&'static str> {
    ran.judged.iter().map(|judged| judged.verdict.name()).collect()
}

fn judge_again(dir: &Path) -> Result<Replayed> {
    super::judge_again(dir, &[], reports::Policy::clone)
}

#[test]
fn a_run_that_is_judged_twice_gets_the_same_reports() {
    let runs = Runs::with(EVENTS);
    let Replayed { ran, notes } = runs.judged();
    assert_eq!(verdicts(&ran), ["known-failure", "known-failure", "passed", "passed"]);
    assert_eq!((Exit::from(ran.result()), notes), (Exit::Passed, vec![]));
    ran.write(&ran.dir).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    runs.judged().ran.write(elsewhere.path()).unwrap();
    for name in ["summary.md", "junit.xml", "verdicts.json"] {
        let [one, other] = [&ran.dir, elsewhere.path()].map(|dir| fs::read(dir.join(name)).unwrap());
        assert!(one == other, "{name} differs");
    }
    assert_eq!(fs::read_to_string(runs.one().join("events.jsonl")).unwrap(), EVENTS);
    assert_eq!(differences(&ran).unwrap(), Vec::<String>::new());
}

#[test]
fn a_verdict_that_is_no_longer_the_same_is_named() {
    let runs = Runs::with(EVENTS);
    let Replayed { ran, .. } = runs.judged();
    ran.write(&ran.dir).unwrap();
    // Like a changed expectations.toml: another outcome gets another verdict.
    let changed = EVENTS.replace(r#"{"outcome":"fail","how":"exit status 3"}"#, r#"{"outcome":"pass"}"#);
    fs::write(runs.one().join("events.jsonl"), changed).unwrap();
    assert_eq!(
        differences(&runs.judged().ran).unwrap(),
        ["canary:must-fail on 6.12.117+deb13-cloud-amd64 (attempt 2): was known-failure, is unexpected-pass"]
    );
}

#[test]
fn a_run_that_was_cut_is_judged_as_far_as_it_goes() {
    let third = EVENTS.rfind(r#"{"at_ms":9419"#).unwrap();
    let Replayed { ran, .. } = Runs::with(&EVENTS[..third + 30]).judged();
    assert_eq!(verdicts(&ran), ["known-failure", "known-failure", "interrupted", "passed"]);
    assert_eq!(Exit::from(ran.result()), Exit::Interrupted);
    let shown = reports::render::style::TerminalStyle::plain("reports/out/one");
    let text = reports::render::terminal::render(&ran.record, &ran.judged, &shown);
    assert!(text.contains("line 21 of the events breaks off after 30 bytes"), "{text}");
    assert!(text.contains("the events just stop"), "{text}");
}

#[test]
fn a_suite_that_is_gone_is_said_and_no_failure() {
    for (gone, name) in [("gone:", "gone"), ("/etc:", "/etc"), (".:", ".")] {
        let Replayed { ran, notes } = Runs::with(&EVENTS.replace("canary:", gone)).judged();
        assert_eq!(verdicts(&ran), ["crashed", "failed", "passed", "passed"]);
        assert_eq!(
            notes,
            [format!(
                "this work tree has no suite `{name}`: its tests are judged as if all were expected to pass"
            )]
        );
    }
}

#[test]
fn each_suite_is_judged_by_its_own_expectations() {
    let events = EVENTS.replace("canary:must-fail", "lvm2:must-fail");
    let Replayed { ran, notes } = Runs::with(&events).judged();
    assert_eq!(verdicts(&ran), ["known-failure", "failed", "passed", "passed"]);
    assert_eq!((Exit::from(ran.result()), notes), (Exit::TestsFailed, vec![]));
}

#[test]
fn what_is_no_run_is_named_with_the_next_step() {
    let check = |events: &str, words: [&str; 2]| {
        let error = usage_error(judge_again(&Runs::with(events).one()));
        assert!(error.contains("/one/events.jsonl`"), "{error}");
        assert!(error.contains(words[0]) && error.ends_with(words[1]), "{error}");
    };
    check("", ["holds no whole event", "run again"]);
    check(
        "{\"at_ms\":0,\"event\":\"run-started\",\"format\":99}\n",
        ["has event format 99", "or a newer one"],
    );
    check(
        &EVENTS[EVENTS.find('\n').unwrap() + 1..],
        ["does not begin with `run-started`", "expected the events.jsonl of a run"],
    );
    let lines: Vec<_> = EVENTS.lines().collect();
    for (line_idx, garbage) in [(6, "garbage"), (7, ""), (8, "\0\0"), (9, "{\"at_ms\":1,\"event\":\"new\"}")]
    {
        let mut lines = lines.clone();
        lines.insert(line_idx, garbage);
        let place = format!("line {} is damaged", line_idx + 1);
        check(&lines.join("\n"), [&place, "repair or remove the line"]);
    }
}

#[test]
fn a_folder_without_events_is_named() {
    let runs = Runs::with(EVENTS);
    let error = usage_error(judge_again(runs.0.path()));
    assert!(error.starts_with("cannot read `") && error.contains("/events.jsonl`: "), "{error}");
    assert!(error.ends_with("name the folder of a run that has started"), "{error}");
}

#[test]
fn there_must_be_verdicts_to_check() {
    let runs = Runs::with(EVENTS);
    let Replayed { ran, .. } = runs.judged();
    let error = usage_error(differences(&ran));
    assert!(error.starts_with("there is no `") && error.contains("without --check writes it"), "{error}");
    for (text, words) in [("{", "is no verdicts.json: "), ("{\"format\":9}", "has format 9")] {
        fs::write(runs.one().join("verdicts.json"), text).unwrap();
        let error = usage_error(differences(&ran));
        assert!(error.contains("/one/verdicts.json` ") && error.contains(words), "{error}");
    }
}

#[test]
fn a_run_is_found_by_name_and_by_path() {
    let runs = Runs::with(EVENTS);
    let one = fs::canonicalize(runs.one()).unwrap();
    std::os::unix::fs::symlink("one", runs.0.path().join("latest")).unwrap();
    let find = |named: &Path| find_run(named, runs.0.path());
    for name in ["one", "latest", "one/"] {
        assert_eq!(find(Path::new(name)).unwrap(), one);
    }
    assert_eq!(find(&runs.one()).unwrap(), one);
    let error = usage_error(find(Path::new("two")));
    assert!(error.starts_with("no run `two` in `") && error.ends_with("the newest are one"), "{error}");
    let error = usage_error(find(Path::new("./two")));
    assert!(error.starts_with("there is no folder `./two`; name the folder of a run"), "{error}");
    let error = usage_error(find(&runs.one().join("events.jsonl")));
    assert!(error.contains("events.jsonl` is no folder; name the folder of a run"), "{error}");
    let error = usage_error(find_run(Path::new("latest"), Path::new("/nowhere")));
    assert!(error.ends_with("there are no runs: `cargo xtask test` makes one"), "{error}");
}
