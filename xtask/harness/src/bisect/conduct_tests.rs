//! Whole searches over toy repositories: git is real, kernels are not. The result of each commit is written
//! in its tree.

use std::collections::BTreeMap;

use anyhow::Context;

use super::super::decide::SearchRules;
use super::super::git::tests::Toy;
use super::super::observe::{Class, Failure, NothingKnown, Sighting, Trial, TrialResult};
use super::super::state::{FORMAT, KernelSource, Question};
use super::*;

const MD: &str = "drivers/md/md.c";

/// A tester that reads the result from the commit's md.c: `good`, `bad`, `crash`, `broken`, `skip`; `flaky`
/// is bad at every third try, `fails` leaves no kernel report, `chance` fails like that at its first try
/// only.
struct Oracle<'t> {
    toy: &'t Toy,
    n_tries: BTreeMap<String, usize>,
    /// Index of the trial at which the host fails.
    fails_at: Option<usize>,
    n_trials: usize,
}

impl Tester for Oracle<'_> {
    fn test(&mut self, id: &str) -> Result<Trial> {
        self.n_trials += 1;
        if self.fails_at == Some(self.n_trials) {
            self.fails_at = None;
            return Err(NothingKnown::Infra("the disk is full".into()).into());
        }
        let text = self.toy.git(&["show", &format!("{id}:{MD}")]);
        let n_tries = self.n_tries.entry(id.to_owned()).or_default();
        *n_tries += 1;
        let wrong = |class, signature: &str| {
            TrialResult::Wrong(Failure {
                class,
                detail: "no progress for 7 s".into(),
                signature: vec![signature.to_owned()],
                known_issues: vec![],
                last_lines: vec![],
            })
        };
        let hang = || wrong(Class::Hang, "lvm: stop_sync_thread ← md_stop ← raid_dtr");
        let unmarked = || {
            let TrialResult::Wrong(wrong) = hang() else { unreachable!("a hang is wrong") };
            TrialResult::Wrong(Failure { class: Class::Failure, signature: vec![], ..wrong })
        };
        let came = match text.lines().next().context("md.c is empty")? {
            "good" => TrialResult::Passed,
            "bad" => hang(),
            "flaky" if n_tries.is_multiple_of(3) => hang(),
            "flaky" => TrialResult::Passed,
            "crash" => wrong(Class::Crash, "kernel BUG at raid5.c"),
            "fails" => unmarked(),
            "chance" if *n_tries == 1 => unmarked(),
            "chance" => TrialResult::Passed,
            "skip" => TrialResult::Skipped { reason: "the kernel is too old".into() },
            "broken" => {
                return Ok(Trial::Unbuildable {
                    error: "md.c:1:1: error: unknown type name 'broken'".into(),
                });
            }
            other => anyhow::bail!("a toy kernel of an unknown kind: {other}"),
        };
        let sighting = Sighting {
            test: "lvm2:shell/x.sh".into(),
            dir: "x".into(),
            reproduce: Some("again".into()),
            result: came,
        };
        Ok(Trial::Ran { run: "run".into(), seen: vec![sighting] })
    }
}

/// A listener that writes the state after each trial and reads it back, as the command does.
struct Keeper {
    dir: tempfile::TempDir,
    said: Vec<String>,
}

impl Keeper {
    fn new() -> Keeper {
        Keeper { dir: tempfile::tempdir().unwrap(), said: vec![] }
    }
}

impl Listener for Keeper {
    fn begins(&mut self, state: &SearchState, position: Position, why: Purpose) {
        self.said.push(super::super::report::begins(state, position, why));
    }

    fn over(&mut self, state: &SearchState, observation: &Observation) -> Result<()> {
        state.write(self.dir.path())?;
        assert_eq!(SearchState::read(self.dir.path())?, *state);
        self.said.push(super::super::report::over(state, observation));
        Ok(())
    }
}

fn ask(toy: &Toy, old: &str, new: &str, find_fix: bool) -> SearchState {
    let repository = toy.open();
    let (old, new) = (repository.commit(old).unwrap(), repository.commit(new).unwrap());
    let graph = repository.graph(&old, &new, &["drivers/md".to_owned()]).unwrap();
    let paths = vec!["drivers/md".to_owned()];
    let source = KernelSource::Commits {
        tree: repository.top.clone(),
        overlay: Some("deb:6.12".parse().unwrap()),
        paths,
    };
    let rules = SearchRules { repeat: None, confidence: 0.95, find_fix, chance_failures: None };
    let question = Question { source, old, new, rules, words: None, settings: vec![], scripts: vec![] };
    SearchState { format: FORMAT, question, graph, trials: vec![], reverted: None }
}

fn oracle(toy: &Toy) -> Oracle<'_> {
    Oracle { toy, n_tries: BTreeMap::new(), fails_at: None, n_trials: 0 }
}

/// A repository in which commit `n` says `kinds[n]`, under a line that makes each commit differ.
fn toy(kinds: &[&str]) -> Toy {
    let toy = Toy::new();
    for (n, kind) in kinds.iter().enumerate() {
        toy.commit(&format!("md: commit {n}"), &[(MD, &format!("{kind}\n/* {n} */\n"))]);
        if n == 0 {
            toy.git(&["tag", ROOT]);
        }
        // Commits outside the overlay's paths are no subjects.
        toy.commit(&format!("net: commit {n}"), &[("net/x.c", &n.to_string())]);
    }
    toy
}

fn kinds(n: usize, from: &[(usize, &'static str)]) -> Vec<&'static str> {
    let mut kind = "good";
    (0..n)
        .map(|n| {
            if let Some((_, next)) = from.iter().find(|(at, _)| *at == n) {
                kind = next;
            }
            kind
        })
        .collect()
}

fn found(state: &SearchState, ended: Ended) -> Vec<String> {
    match ended {
        Ended::Found(conclusion) => {
            conclusion.first_new.iter().map(|&idx| state.graph.subject(idx).title.clone()).collect()
        }
        Ended::Stopped(trouble) => panic!("{}", super::super::report::explain(state, &trouble)),
    }
}

/// Tag of the first commit.
const ROOT: &str = "root";

#[test]
fn the_commit_is_found_past_what_does_not_build_or_crashes_elsewhere() {
    let toy = toy(&kinds(34, &[(9, "broken"), (11, "good"), (15, "crash"), (18, "good"), (23, "bad")]));
    let mut state = ask(&toy, ROOT, "main", false);
    assert_eq!(state.graph.n_subjects(), 33);
    let before = toy.looks();
    let mut keeper = Keeper::new();
    let ended = search(&mut state, &mut oracle(&toy), &mut keeper).unwrap();
    assert_eq!(found(&state, ended), ["md: commit 23"]);
    assert_eq!(toy.looks(), before);
    assert!(keeper.said.iter().any(|line| line.contains("does not count")), "{:#?}", keeper.said);
}

#[test]
fn a_flaky_test_names_the_commit_too() {
    let toy = toy(&kinds(16, &[(6, "flaky")]));
    let mut state = ask(&toy, ROOT, "main", false);
    let ended = search(&mut state, &mut oracle(&toy), &mut Keeper::new()).unwrap();
    assert_eq!(found(&state, ended), ["md: commit 6"]);
}

#[test]
fn the_host_s_error_stops_the_search_and_it_goes_on_where_it_was() {
    let toy = toy(&kinds(20, &[(12, "bad")]));
    let mut whole = ask(&toy, ROOT, "main", false);
    let ended = search(&mut whole, &mut oracle(&toy), &mut Keeper::new()).unwrap();
    assert_eq!(found(&whole, ended), ["md: commit 12"]);
    for fails_at in 1..=whole.trials.len() {
        let mut state = ask(&toy, ROOT, "main", false);
        let mut keeper = Keeper::new();
        let mut oracle = Oracle { fails_at: Some(fails_at), ..oracle(&toy) };
        let error = search(&mut state, &mut oracle, &mut keeper).unwrap_err();
        assert_eq!(error.to_string(), "the disk is full");
        let mut state = if fails_at == 1 { state } else { SearchState::read(keeper.dir.path()).unwrap() };
        assert_eq!(state.trials.len(), fails_at - 1);
        let ended = search(&mut state, &mut oracle, &mut keeper).unwrap();
        assert_eq!(found(&state, ended), ["md: commit 12"]);
        let positions =
            |state: &SearchState| state.trials.iter().map(|recorded| recorded.position).collect::<Vec<_>>();
        assert_eq!(positions(&state), positions(&whole));
    }
}

#[test]
fn a_search_with_chance_failures_goes_on_where_it_was() {
    let toy = toy(&kinds(20, &[(5, "chance"), (6, "good"), (9, "chance"), (10, "good"), (14, "fails")]));
    let mut whole = ask(&toy, ROOT, "main", false);
    let ended = search(&mut whole, &mut oracle(&toy), &mut Keeper::new()).unwrap();
    assert_eq!(found(&whole, ended), ["md: commit 14"]);
    assert!(
        whole
            .observations()
            .iter()
            .any(|(position, seen)| *position == Position::Subject(8) && *seen == Observation::Failed)
    );
    for fails_at in (2..=whole.trials.len()).step_by(3) {
        let mut keeper = Keeper::new();
        let mut oracle = Oracle { fails_at: Some(fails_at), ..oracle(&toy) };
        search(&mut ask(&toy, ROOT, "main", false), &mut oracle, &mut keeper).unwrap_err();
        let mut state = SearchState::read(keeper.dir.path()).unwrap();
        let ended = search(&mut state, &mut oracle, &mut keeper).unwrap();
        assert_eq!(found(&state, ended), ["md: commit 14"]);
        let positions =
            |state: &SearchState| state.trials.iter().map(|recorded| recorded.position).collect::<Vec<_>>();
        assert_eq!(positions(&state), positions(&whole));
    }
}

#[test]
fn what_mended_it_is_found_the_other_way_round() {
    let kinds = kinds(20, &[(0, "bad"), (13, "good")]);
    let toy = toy(&kinds);
    let mut state = ask(&toy, ROOT, "main", true);
    let ended = search(&mut state, &mut oracle(&toy), &mut Keeper::new()).unwrap();
    let log = match &ended {
        Ended::Found(conclusion) => state.git_log(Some(conclusion)),
        Ended::Stopped(_) => String::new(),
    };
    assert_eq!(found(&state, ended), ["md: commit 13"]);
    assert!(log.contains("git bisect new ") && log.contains("git bisect old "), "{log}");
}

#[test]
fn a_merged_branch_is_searched_like_the_rest() {
    let toy = toy(&kinds(6, &[]));
    toy.git(&["checkout", "--quiet", "-b", "side"]);
    for n in 0..6 {
        let kind = if n < 3 { "good" } else { "bad" };
        toy.commit(&format!("side: commit {n}"), &[(MD, &format!("{kind}\n/* side {n} */\n"))]);
    }
    toy.git(&["checkout", "--quiet", "main"]);
    for n in 0..6 {
        toy.commit(&format!("raid1: commit {n}"), &[("drivers/md/raid1.c", &n.to_string())]);
    }
    toy.git(&["merge", "--quiet", "--no-ff", "-m", "Merge side", "side"]);
    toy.commit("after", &[("drivers/md/raid1.c", "after")]);
    let mut state = ask(&toy, ROOT, "main", false);
    let ended = search(&mut state, &mut oracle(&toy), &mut Keeper::new()).unwrap();
    assert_eq!(found(&state, ended), ["side: commit 3"]);
}

#[test]
fn a_test_that_skips_everywhere_is_said() {
    let toy = toy(&kinds(6, &[(0, "skip")]));
    let mut state = ask(&toy, ROOT, "main", false);
    let ended = search(&mut state, &mut oracle(&toy), &mut Keeper::new()).unwrap();
    let Ended::Stopped(trouble) = ended else { panic!("{ended:?}") };
    let text = super::super::report::explain(&state, &trouble);
    assert!(text.contains("skipped: the kernel is too old") && text.contains("everywhere"), "{text}");
    assert_eq!(state.trials.len(), 1);
}

#[test]
fn gits_own_bisect_comes_to_the_same_from_our_log() {
    for (find_fix, from) in [(false, (23, "bad")), (true, (23, "good"))] {
        let first = if find_fix { (0, "bad") } else { (0, "good") };
        let toy = toy(&kinds(34, &[first, (9, "broken"), (11, first.1), from]));
        let mut state = ask(&toy, ROOT, "main", find_fix);
        let ended = search(&mut state, &mut oracle(&toy), &mut Keeper::new()).unwrap();
        let Ended::Found(conclusion) = &ended else { panic!("{ended:?}") };
        let log = toy.scratch.path().join("bisect.log");
        std::fs::write(&log, state.git_log(Some(conclusion))).unwrap();
        let said = toy.git(&["bisect", "replay", &log.to_string_lossy()]);
        let culprit = &state.graph.subject(conclusion.first_new[0]).id;
        let word = if find_fix { "new" } else { "bad" };
        assert!(
            said.contains(&format!("{culprit} is the first {word} commit")),
            "{said}\n{}",
            state.git_log(None)
        );
    }
}
