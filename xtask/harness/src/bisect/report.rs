//! The result of a search for people: lines for the terminal, and a mail. Pure.

use std::collections::BTreeMap;

use reports::text::{duration, printable};

use super::decide::{Conclusion, Observation, Position, Purpose, Trouble};
use super::observe::{Class, Failure, Sighting, Trial, TrialResult};
use super::state::{KernelSource, Reverted, SearchState, shown_paths};
use super::target::Target;

/// A line for a trial that begins: the subject, the purpose, and the estimated time to the end of the search.
pub fn begins(state: &SearchState, position: Position, why: Purpose) -> String {
    let (old, new) = state.terms();
    let end = |position| match position {
        Position::OldEnd => old,
        Position::Subject(_) => new,
    };
    let shown = state.shown(position);
    match why {
        Purpose::ConfirmFailing => format!("{} end, which should fail: {shown}", end(position)),
        Purpose::ConfirmPassing => format!("{} end, which should pass: {shown}", end(position)),
        Purpose::Verify => format!("again, to be sure: {shown}"),
        Purpose::Search { n_left, n_trials_left } => {
            let seconds = state.seconds_per_trial().unwrap_or_default() * n_trials_left;
            let likely = match position {
                Position::OldEnd => 0.0,
                Position::Subject(idx) => {
                    state.sums().posterior(&state.graph, state.question.rules).is_new(&state.graph, idx)
                }
            };
            format!(
                "{n_left} {}s left, about {n_trials_left:.0} more trials ({}): {shown}, {new} with {}",
                state.noun(),
                duration(millis(seconds)),
                percent(likely)
            )
        }
    }
}

/// A line for the trial that ended last.
pub fn over(state: &SearchState, observation: &Observation) -> String {
    let Some(last) = state.trials.last() else { return String::new() };
    let (failed, passed) = state.terms_of_outcomes();
    let met = state.target().and_then(|target| target.met_by(&last.trial).cloned());
    let else_seen =
        || last.trial.seen().iter().find(|sighting| !matches!(sighting.result, TrialResult::Passed)).cloned();
    let what = met.or_else(else_seen);
    let what =
        what.map(|sighting| format!(": {} {}", sighting.test, sighting.in_short())).unwrap_or_default();
    let text = match observation {
        Observation::Failed => format!("{failed}{what}"),
        Observation::Passed => format!("{passed}{what}"),
        Observation::Other(why) => format!("does not count, it went wrong in another way: {why}"),
        Observation::Untestable(why) => format!("skipped: {why}"),
    };
    printable(&format!("{text} ({:.0} s)", last.seconds))
}

/// A warning after the first failure, if nothing tells it apart from other failures of the test.
pub fn warning_if_unsigned(target: &Target) -> Option<String> {
    let Target::Seen { test, wrong } = target else { return None };
    let counts = match wrong.class {
        Class::Failure => "failure",
        Class::Timeout => "timeout",
        Class::Hang => "hang without a stack",
        Class::Crash | Class::Complaint | Class::Corruption => return None,
    };
    wrong.signature.is_empty().then(|| {
        format!(
            "the kernel reported nothing: any {counts} of {test} counts as the same. If it can fail for other reasons, \
             begin again with --signature TEXT, of what it prints last"
        )
    })
}

/// Why a search stopped, and what to do about it.
pub fn explain(state: &SearchState, trouble: &Trouble) -> String {
    let (failing, passing) = state.terms_of_outcomes();
    let named = |position| {
        let end = if position == Position::OldEnd { &state.question.old } else { &state.question.new };
        format!("`{}`, {}", end.name, state.shown(position))
    };
    let (of_failing, of_passing) = state.question.rules.ends(&state.graph);
    let (of_failing, of_passing) = (named(of_failing), named(of_passing));
    match trouble {
        Trouble::FailingEndPasses { n } => {
            let what_to_do = match (complaint(state), &state.question.source) {
                (Some(complaint), _) => format!(
                    "A complaint counts only if it is searched for ({complaint}): begin again with --signature TEXT, \
                     of what it complains"
                ),
                (None, KernelSource::Commits { paths, .. }) if !paths.is_empty() => format!(
                    "Only commits that touch {} are tested: what breaks it may be another. If it fails more rarely than \
                     that, --repeat says how often to try",
                    shown_paths(paths)
                ),
                (None, KernelSource::Commits { .. } | KernelSource::Published) => {
                    "Is it the right revision, and the right test? \
                     If it fails more rarely than that, --repeat says how often to try"
                        .to_owned()
                }
            };
            format!("the {failing} end ({of_failing}) does not fail: it passed {}. {what_to_do}", times(*n))
        }
        Trouble::FailingEndOther { n_passed, n_other, why } => {
            let passed =
                if *n_passed == 0 { String::new() } else { format!(", and passed {}", times(*n_passed)) };
            let what_to_do = match &state.question.words {
                Some(words) => {
                    format!("Is `{words}` what it says? --signature takes a part of it, as it stands there")
                }
                None => "Choose another revision, or a kernel that boots".to_owned(),
            };
            format!(
                "the {failing} end ({of_failing}) never failed as it should: it went wrong in another way {}{passed}; \
                 the last one: {}. {what_to_do}",
                times(*n_other),
                printable(why)
            )
        }
        Trouble::FailingEndUntestable(why) => format!(
            "the {failing} end ({of_failing}) tells nothing: {why}. What tells nothing there would be skipped everywhere: \
             choose a test, a flavour or a kernel with which it runs there, or without --overlay build whole kernels"
        ),
        Trouble::PassingEndFails => format!(
            "the {passing} end ({of_passing}) fails in just the same way ({}){}: the bug is older; name an older {passing} \
             revision",
            state.target().map(|target| target.in_short()).unwrap_or_default(),
            how_often(state)
        ),
        Trouble::PassingEndOther(why) => format!(
            "the {passing} end ({of_passing}) goes wrong in another way, which may hide what is searched for: {why}. Name \
             a revision where the test passes"
        ),
        Trouble::PassingEndUntestable(why) => {
            format!(
                "the {passing} end ({of_passing}) tells nothing: {why}. Name a revision that can be tested"
            )
        }
    }
}

fn times(n: impl Into<u64>) -> String {
    let n = n.into();
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

/// How often each end failed, and what else that may mean; empty unless the passing end both failed and
/// passed.
fn how_often(state: &SearchState) -> String {
    let (failing, passing) = state.question.rules.ends(&state.graph);
    let sums = state.sums();
    let (of_failing, of_passing) = (sums.counts_at(failing), sums.counts_at(passing));
    if of_passing.failed == 0 || of_passing.passed == 0 {
        return String::new();
    }
    format!(
        ", in {} of {} trials and the other end in {} of {}, which does not tell them apart. If the test fails by chance, \
         --signature TEXT names the failure that is meant, and --repeat tries both ends more often; if it does not",
        of_passing.failed,
        of_passing.n(),
        of_failing.failed,
        of_failing.n()
    )
}

/// The last complaint of a test that passed.
fn complaint(state: &SearchState) -> Option<String> {
    let seen = state.trials.iter().rev().flat_map(|recorded| recorded.trial.seen());
    seen.into_iter().find_map(|sighting| match &sighting.result {
        TrialResult::Complained(wrong) => Some(printable(&wrong.in_short())),
        TrialResult::Passed
        | TrialResult::Wrong(_)
        | TrialResult::Skipped { .. }
        | TrialResult::NoBoot { .. } => None,
    })
}

/// The answer in a sentence.
pub fn answer(state: &SearchState, conclusion: &Conclusion) -> String {
    let (_, new) = state.terms();
    let noun = state.noun();
    let sure = percent(conclusion.confidence);
    match &conclusion.first_new[..] {
        &[idx] => {
            let most_likely = if conclusion.is_sure { "" } else { "most likely " };
            let shown = state.shown(Position::Subject(idx));
            let (one_of, p) = &conclusion.one_of;
            let one_of = match &one_of[..] {
                [first, .., last] if !conclusion.is_sure => {
                    let (first, last) =
                        (state.shown(Position::Subject(*first)), state.shown(Position::Subject(*last)));
                    let (n, p) = (one_of.len(), percent(*p));
                    format!("; it is one of {n}, from {first} to {last}, with {p}")
                }
                _ => String::new(),
            };
            format!("the first {new} {noun} is {most_likely}{shown}, with a probability of {sure}{one_of}")
        }
        several => {
            let first = several.first().map(|&idx| state.shown(Position::Subject(idx))).unwrap_or_default();
            let last = several.last().map(|&idx| state.shown(Position::Subject(idx))).unwrap_or_default();
            format!(
                "the first {new} {noun} is one of {}, from {first} to {last}, with a probability of {sure}: those in \
                 between could not be tested",
                several.len()
            )
        }
    }
}

/// How often the passing end failed, and what that says of chance failures; `None` where a kernel signature
/// tells failures apart.
fn chance_failures(state: &SearchState, conclusion: &Conclusion) -> Option<String> {
    if state.target()?.is_signed() {
        return None;
    }
    let (_, passing) = state.question.rules.ends(&state.graph);
    let counts = state.sums().counts_at(passing);
    let (_, term) = state.terms_of_outcomes();
    let (failed, n) = (counts.failed, counts.n());
    let chance = percent(conclusion.chance_rate);
    let failures = if failed == 1 { "failure" } else { "failures" };
    Some(format!(
        "{failed} {failures} in {n} trials of the {term} end; by all trials, what has no bug fails in about {chance} of them"
    ))
}

/// Advice if failures that count as the same differ from each other.
pub fn differences(state: &SearchState) -> Option<String> {
    let target = state.target()?;
    if target.is_signed() {
        return None;
    }
    let mut ways: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for wrong in state.trials.iter().filter_map(|recorded| target.met_by(&recorded.trial)?.result.wrong()) {
        let said = wrong.signature.first().or(wrong.last_lines.last()).unwrap_or(&wrong.detail);
        // Numbers (times, processes, devices) differ from try to try.
        let words = |text: &str| -> String { text.chars().filter(|c| !c.is_ascii_digit()).collect() };
        let way = format!("{}\n{}", words(&wrong.detail), words(said));
        ways.entry(way).or_insert_with(|| (0, said.clone())).0 += 1;
    }
    if ways.len() < 2 {
        return None;
    }
    let mut ways: Vec<_> = ways.into_values().collect();
    ways.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    let shown: Vec<_> = ways
        .iter()
        .take(3)
        .map(|(n, said)| format!("{} `{}`", times(*n as u64), printable(said.trim())))
        .collect();
    let more = if ways.len() > 3 { ", and others" } else { "" };
    Some(format!(
        "the failures that count as the same differ: {}{more}. If they are not one bug, begin again with --signature TEXT, \
         of the one that is meant",
        shown.join(", ")
    ))
}

/// The result of testing the new end with the culprit reverted.
fn reverted(state: &SearchState, reverted: &Reverted) -> String {
    let (old, new) = state.terms();
    let on = format!("on top of the {new} end");
    match reverted {
        Reverted::DoesNotApply { why } => format!("It does not revert cleanly {on}: {why}"),
        Reverted::Tried(trials) => {
            let observe = state.observer();
            let n = trials.len();
            let of_all = if n == 1 { String::new() } else { format!(", {n} times of {n}") };
            let find_fix = state.question.rules.find_fix;
            // All trials but the last passed, otherwise no more were made.
            let came = match trials.last().map(observe).unwrap_or(Observation::Untestable("not tried".into()))
            {
                Observation::Passed if find_fix => {
                    format!("the test still passes{of_all}: something else mends it, too")
                }
                Observation::Passed => format!("the test passes{of_all}"),
                Observation::Failed if find_fix => format!("the bug is back, as at the {old} end"),
                Observation::Failed => "the test fails in the same way: it is not alone".to_owned(),
                Observation::Other(why) => format!("the test goes wrong in another way: {why}"),
                Observation::Untestable(why) => format!("nothing is known: {why}"),
            };
            format!("Reverted {on}, {came}")
        }
    }
}

/// The lines that the terminal shows after the answer.
pub fn afterwards(state: &SearchState, conclusion: &Conclusion, show: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        show.trim_end().lines().map(|line| printable(&format!("    {line}"))).collect();
    lines.extend(state.reverted.as_ref().map(|came| printable(&reverted(state, came))));
    lines.extend(chance_failures(state, conclusion));
    lines.extend(differences(state));
    let other = |(_, seen): &(Position, Observation)| match seen {
        Observation::Other(_) | Observation::Untestable(_) => true,
        Observation::Failed | Observation::Passed => false,
    };
    let n_other = state.observations().iter().filter(|observation| other(observation)).count();
    if n_other > 0 {
        lines.push(format!("{n_other} of {} trials did not count; the report says why", state.trials.len()));
    }
    lines
}

/// A table of all positions that were tested, oldest first.
pub(crate) fn table(state: &SearchState) -> Vec<String> {
    let observations = state.observations();
    let mut rows: BTreeMap<Option<usize>, BTreeMap<String, usize>> = BTreeMap::new();
    for (position, observation) in &observations {
        let idx = match position {
            Position::OldEnd => None,
            Position::Subject(idx) => Some(*idx),
        };
        let came = match observation {
            Observation::Failed => "failed".to_owned(),
            Observation::Passed => "passed".to_owned(),
            Observation::Other(why) => format!("does not count: {why}"),
            Observation::Untestable(why) => format!("skipped: {why}"),
        };
        *rows.entry(idx).or_default().entry(came).or_default() += 1;
    }
    let lines = rows.into_iter().map(|(idx, came)| {
        let position = idx.map_or(Position::OldEnd, Position::Subject);
        let came: Vec<_> = came
            .into_iter()
            .map(|(came, n)| if n == 1 { came } else { format!("{n} times {came}") })
            .collect();
        printable(&format!("{:<60} {}", state.shown(position), came.join(", ")))
    });
    lines.collect()
}

/// `report.txt`: the answer as a mail. `show` is git's description of the culprit, `evidence` the report of a
/// run in which the failure occurred, `files` the paths of everything else.
pub fn mail(
    state: &SearchState,
    conclusion: &Conclusion,
    show: &str,
    evidence: &str,
    files: &[String],
) -> String {
    let target = state.target();
    let what = target.as_ref().map(Target::in_short).unwrap_or_default();
    let title = match &target {
        Some(Target::Seen { test, wrong: Failure { class, .. } }) => format!("{test} {}", class.word()),
        Some(Target::Words { .. } | Target::Anything) | None => what.clone(),
    };
    let since = if state.question.rules.find_fix { "mended by" } else { "since" };
    let since = match conclusion.first_new.len() {
        1 if !conclusion.is_sure => format!("{since}, most likely,"),
        _ => since.to_owned(),
    };
    let shown = |idx: Option<&usize>| idx.map(|&idx| state.shown(Position::Subject(idx))).unwrap_or_default();
    let first = match &conclusion.first_new[..] {
        several @ [first, .., last] => {
            let (n, first, last) = (several.len(), shown(Some(first)), shown(Some(last)));
            format!("one of {n} {}s, {first} to {last}", state.noun())
        }
        one => shown(one.first()),
    };
    let mut text = format!("Subject: [bisected] {title} {since} {first}\n\n");
    let mut say = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    say(&what);
    say("");
    say(&sentence(&answer(state, conclusion)));
    let n_failed = state.observations().iter().filter(|(_, seen)| *seen == Observation::Failed).count();
    let rate = if conclusion.fail_rate < RELIABLE {
        format!("; what has the bug fails in about {} of them", percent(conclusion.fail_rate))
    } else {
        String::new()
    };
    say(&sentence(&format!("{} trials, of which {n_failed} failed in this way{rate}", state.trials.len())));
    if let Some(chance) = chance_failures(state, conclusion) {
        say(&sentence(&chance));
    }
    if let Some(advice) = differences(state) {
        say(&sentence(&advice));
    }
    if let Some(came) = &state.reverted {
        say(&sentence(&reverted(state, came)));
    }
    if !show.is_empty() {
        say("");
        show.trim_end().lines().for_each(|line| say(&format!("    {line}")));
    }
    say("");
    say("Tested, oldest first:");
    table(state).iter().for_each(|line| say(&format!("    {line}")));
    if let Some(command) = reproduce(state, conclusion) {
        say("");
        say("To see it again:");
        say(&format!("    {command}"));
    }
    if !files.is_empty() {
        say("");
        say("Files:");
        files.iter().for_each(|file| say(&format!("    {file}")));
    }
    if !evidence.is_empty() {
        say("");
        say("What was seen, in full:");
        say("");
        // The subject line of that report is not the one of this mail.
        let lines = evidence.trim_end().lines();
        lines.filter(|line| !line.starts_with("Subject: ")).skip_while(|line| line.is_empty()).for_each(say);
    }
    // Mails to kernel lists should be plain ASCII.
    text.replace('←', "<-").replace('…', "...")
}

/// A failure rate above this counts as "always": rates are learnt from few trials.
const RELIABLE: f64 = 0.8;

/// `text` with a capital first letter and one full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", chars.as_str().trim_end_matches('.'))
}

/// The command that reproduces the bug: at the culprit, or with `--find-fix` right before it.
pub fn reproduce(state: &SearchState, conclusion: &Conclusion) -> Option<String> {
    telling(state, conclusion)?.1.reproduce.clone()
}

/// The trial and the test in it that show the bug best: the culprit's, else the last ones that failed.
pub fn telling<'s>(state: &'s SearchState, conclusion: &Conclusion) -> Option<(&'s Trial, &'s Sighting)> {
    let target = state.target()?;
    let failed = || {
        let trials = state.trials.iter().rev();
        trials.filter_map(|recorded| {
            Some((recorded.position, &recorded.trial, target.met_by(&recorded.trial)?))
        })
    };
    let of_culprit = failed().find(|(position, ..)| match position {
        Position::OldEnd => false,
        Position::Subject(idx) => conclusion.first_new == [*idx],
    });
    of_culprit.or_else(|| failed().next()).map(|(_, trial, sighting)| (trial, sighting))
}

/// The line shown before the first trial.
pub fn opening(state: &SearchState) -> String {
    let (old, new) = state.terms();
    let n = state.graph.n_subjects();
    let limited = match &state.question.source {
        KernelSource::Commits { paths, .. } if !paths.is_empty() => {
            format!(" that touch {}", shown_paths(paths))
        }
        KernelSource::Commits { .. } | KernelSource::Published => String::new(),
    };
    let nouns = if n == 1 { state.noun().to_owned() } else { format!("{}s", state.noun()) };
    format!(
        "{n} {nouns}{limited} after {old} {}, up to {new} {}",
        state.shown(Position::OldEnd),
        state.shown(Position::Subject(state.graph.tip()))
    )
}

/// `97.3 %`; never 100, because even the ends are only believed to be what they seem.
pub(crate) fn percent(p: f64) -> String {
    if p > 0.9995 { "more than 99.9 %".to_owned() } else { format!("{:.1} %", 100.0 * p) }
}

fn millis(seconds: f64) -> u64 {
    // As exact as an estimate has to be, and never negative.
    std::time::Duration::try_from_secs_f64(seconds).map_or(0, crate::clock::millis)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
