//! `cargo xtask test --suite model`: runs the model's scenarios as tests, with releases as kernels, without a
//! VM. Findings become the same events as in a real run. A deadlock becomes a hang with the stacks of the
//! waiting threads, so signatures and known issues are those of real hangs. Expected results come from the
//! model's own table, which `suites/model/expectations.toml` repeats.

use std::fs;

use anyhow::{Context, Result};
use protocol::event::{AttemptFacts, PlannedAttempt};
use protocol::evidence::TaskStack;
use protocol::outcome::HangKind;
use protocol::{Event, Outcome, TestId};
use raid_core::era;
use raid_core::explore::{Finding, Kind, Limits};
use raid_core::scenario::{SCENARIOS, Scenario};
use raid_core::story::{self, Page, Story};
use raid_core::table;
use reports::Policy;
use serde::Serialize;
use vm_images::host::progress::Progress;

use crate::clock::{millis, rfc3339_now};
use crate::event_log::EventLog;
use crate::model::explore::{Cell, explore_all};
use crate::run::begin::{command_line, create_log, harness_version, host_facts};
use crate::run::criteria::Criteria;
use crate::run::finish;
use crate::run::finished::FinishedRun;
use crate::run::folder::create_run;
use crate::run::options::Options;
use crate::session::Session;
use crate::terminal::outln;

/// Name of the suite.
pub const NAME: &str = "model";
/// Releases that the suite runs on; `cargo xtask model` also explores kernels between them.
const RELEASES: [&str; 7] = ["6.5", "6.6", "6.7", "6.8", "6.9", "6.12", "7.3"];

/// The scenarios with these names; all if there are no names.
fn selected(patterns: &[String]) -> impl Iterator<Item = &'static Scenario> {
    let is_it =
        |pattern: &String, name: &str| pattern.trim_start_matches("model:").eq_ignore_ascii_case(name);
    SCENARIOS.iter().filter(move |scenario| {
        patterns.is_empty() || patterns.iter().any(|pattern| is_it(pattern, scenario.name))
    })
}

/// A scenario as `list --json` shows it. Existing fields stay; more may be added.
#[derive(Debug, Serialize)]
struct Listed {
    /// Name as in every report.
    id: String,
    suite: &'static str,
    name: &'static str,
    /// Title of the scenario.
    title: &'static str,
    /// Releases that the scenario is explored on.
    kernels: [&'static str; RELEASES.len()],
}

/// Lists the scenarios with these names (all if there are none); returns their number.
pub fn list(patterns: &[String], json: bool) -> Result<usize> {
    let listed = |scenario: &Scenario| Listed {
        id: format!("{NAME}:{}", scenario.name),
        suite: NAME,
        name: scenario.name,
        title: scenario.title,
        kernels: RELEASES,
    };
    let all: Vec<Listed> = selected(patterns).map(listed).collect();
    if json {
        outln!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        let width = all.iter().map(|listed| listed.id.len()).max().unwrap_or_default();
        all.iter().for_each(|listed| outln!("{:<width$}  {}", listed.id, listed.title));
    }
    Ok(all.len())
}

/// Explores the scenarios that the selection names (all if it is empty), and judges the results like any run.
pub fn run(session: &Session, options: &Options) -> Result<Option<FinishedRun>> {
    let criteria = Criteria::of_suite(NAME)?;
    let cells: Vec<(u32, Cell)> = selected(&options.selection.patterns)
        .flat_map(|scenario| {
            let known = |name: &&str| era::ERAS.into_iter().find(|(known, _)| known == name);
            let eras = (0..).zip(RELEASES.iter().filter_map(known));
            eras.map(move |(kernel_idx, era)| (kernel_idx, Cell { scenario, era }))
        })
        .collect();
    if cells.is_empty() {
        return Ok(None);
    }
    let dir = create_run(&options.runs())?;
    let events = create_log(&dir)?;
    begin(&events, &dir, &cells, &options.policy).context("failed to write an event")?;
    session.terminal.note(&format!("{} scenarios and kernels, without a VM", cells.len()));
    let (attempts, cells): (Vec<u32>, Vec<Cell>) =
        (0..).zip(cells).map(|(idx, (_, cell))| (idx, cell)).unzip();
    let outcomes = explore_all(&cells, Limits::default());
    for ((attempt, cell), explored) in attempts.into_iter().zip(&cells).zip(&outcomes) {
        events.append(Event::VmStarting { attempt })?;
        events.append(Event::TestStarted { attempt })?;
        let worst = table::worst(explored);
        let story = worst.map(|finding| story::tell(cell.scenario, cell.era.1, finding));
        if let Some(story) = &story {
            let folder = dir.join(folder(cell));
            fs::create_dir_all(&folder)
                .with_context(|| format!("failed to create `{}`", folder.display()))?;
            for (name, text) in
                [("story.txt", story.to_text(Page::default())), ("story.html", story.to_html())]
            {
                let file = folder.join(name);
                fs::write(&file, text).with_context(|| format!("failed to write `{}`", file.display()))?;
            }
            let stacks = stacks(story);
            if !stacks.is_empty() {
                events.append(Event::StacksSeen { attempt, stacks })?;
            }
        }
        let millis = millis(explored.elapsed);
        let last_lines = vec![format!("{} states: {}", explored.n_states, table::verdict(explored))];
        let facts =
            AttemptFacts { test_ms: Some(millis), vm_ms: millis, last_lines, ..AttemptFacts::default() };
        events.append(Event::AttemptFinished { attempt, outcome: outcome_of(worst), facts })?;
    }
    finish(&events, &dir, false, &criteria).map(Some)
}

fn begin(events: &EventLog, dir: &std::path::Path, cells: &[(u32, Cell)], policy: &Policy) -> Result<()> {
    events.append(Event::RunStarted {
        format: protocol::event::FORMAT,
        run: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        started_at: rfc3339_now(),
        harness: harness_version(),
        command: command_line(std::env::args_os()),
        settings: Vec::new(),
        scripts: Vec::new(),
        host: host_facts(),
        fail_on: policy.words().to_vec(),
        flaky_fails: policy.flaky_fails,
    })?;
    for (kernel_idx, name) in (0..).zip(RELEASES) {
        events.append(Event::KernelReady {
            kernel_idx,
            spec: format!("model:{name}"),
            exact_spec: format!("model:{name}"),
            release: release(name),
            package_version: None,
            digest: String::new(),
        })?;
    }
    let attempts = (0..)
        .zip(cells)
        .map(|(attempt, (kernel_idx, cell))| {
            Ok(PlannedAttempt {
                attempt,
                test: TestId::new(NAME, cell.scenario.name)?,
                kernel_idx: *kernel_idx,
                dir: folder(cell),
                again: Vec::new(),
                retry_of: None,
                allow: Vec::new(),
            })
        })
        .collect::<Result<_>>()?;
    events.append(Event::Planned { attempts })?;
    Ok(())
}

fn release(era: &str) -> String {
    format!("{era}.0-model")
}

fn folder(cell: &Cell) -> String {
    format!("{}-{}", cell.scenario.name, cell.era.0)
}

fn outcome_of(worst: Option<&Finding>) -> Outcome {
    let Some(finding) = worst else { return Outcome::Pass };
    let said = format!("{}, after {} steps", story::describe(finding.kind), finding.trace.len());
    let hang = |kind| Outcome::Hang { kind, silent_ms: 0, seen: Some(said.clone()) };
    match finding.kind {
        Kind::Deadlock => hang(HangKind::NoProgress),
        Kind::Livelock => hang(HangKind::Livelock),
        Kind::Corruption | Kind::Restart => Outcome::DataCorruption { title: said },
        Kind::Churn => Outcome::Warn { warning: said },
        Kind::Broken(_) | Kind::Eio => Outcome::Fail { how: said },
    }
}

/// Stacks of the waiting threads at the end, as a guest would have sampled them. Idle threads are not stuck.
fn stacks(story: &Story) -> Vec<TaskStack> {
    let waits = story.waiting.iter().filter(|waiting| waiting.stack.first().is_none_or(|f| f != "md_thread"));
    (1..)
        .zip(waits)
        .map(|(pid, waiting)| {
            let name = waiting.task.split('/').next().unwrap_or_default();
            let comm = match name {
                "sync" => "mdX_resync".to_owned(),
                "raid5d" => "mdX_raid5".to_owned(),
                "raid10d" => "mdX_raid10".to_owned(),
                "worker" => "kworker/0:1+md_misc".to_owned(),
                other => other.to_owned(),
            };
            TaskStack {
                pid,
                of_test: comm == name,
                comm,
                state: 'D',
                still_ms: 0,
                frames: waiting.stack.iter().map(|function| format!("{function}+0x0/0x0")).collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::workspace::workspace;

    /// The text that `suites/model/expectations.toml` must have, made from the model's table.
    fn expectations() -> String {
        let mut text = String::from(
            "# What each scenario comes to on each release, by raid-core's table (suites/raid-core/src/table.rs). Written by\n\
             # `UPDATE=1 cargo test -p xtask model_suite`: change the table, not this file.\n",
        );
        for scenario in &SCENARIOS {
            for era in RELEASES {
                let Some(expected) = table::expected(scenario.name, era) else { continue };
                let outcome = match expected.verdict {
                    "ok" | "churn" => continue,
                    "DL" | "livelock" => "hang",
                    "DC" => "data-corruption",
                    _ => "fail",
                };
                let reason = match expected.note {
                    Some(note) => format!("{}: docs/md/answers.md [{note}]", expected.verdict),
                    None => expected.verdict.to_owned(),
                };
                let _infallible = write!(
                    text,
                    "\n[[expect]]\ntests = [\"{}\"]\nkernels = \"{}\"\noutcome = \"{outcome}\"\nbecause = \"kernel\"\nreason = \"{reason}\"\nmust = true\n",
                    scenario.name,
                    release(era)
                );
            }
        }
        text
    }

    #[test]
    fn what_is_expected_is_what_the_table_says() {
        let path = workspace().join("suites").join(NAME).join("expectations.toml");
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, expectations()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), expectations());
    }

    /// A hang in the model has the signature of the real hang, so the same known issue matches it.
    #[test]
    fn a_hang_of_the_model_is_a_known_issue() {
        let scenario = raid_core::scenario::named("S3").unwrap();
        let outcome = raid_core::explore::look(scenario, era::V6_7, Limits::default());
        let finding = outcome.findings.iter().find(|finding| finding.kind == Kind::Deadlock).unwrap();
        let stacks = stacks(&story::tell(scenario, era::V6_7, finding));
        let hang = outcome_of(Some(finding));
        let signature = reports::judge::signature::Signature::of(&hang, &stacks, &[]).unwrap();
        assert_eq!(signature.title(), "lvm in stop_sync_thread ← __md_stop_writes ← raid_postsuspend");
    }
}
