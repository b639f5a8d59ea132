//! `cargo xtask model`: the port of md's control logic (`suites/raid-core`), explored on the host.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::anyhow;
use raid_core::era::{self, Era};
use raid_core::explore::{self, Finding, Limits, Outcome};
use raid_core::scenario::{self, SCENARIOS, Scenario};
use raid_core::story;
use raid_core::table;
use serde_json::json;

use crate::cli::{ModelCommand, ModelOptions, ShowOptions};
use crate::exit::{Exit, usage};
use crate::terminal::{Terminal, out};

pub(crate) fn run(terminal: &Terminal, options: &ModelOptions) -> anyhow::Result<Exit> {
    match &options.command {
        Some(ModelCommand::Show(options)) => show(options),
        None => table(terminal, options),
    }
}

struct Cell {
    scenario: &'static Scenario,
    era: (&'static str, Era),
}

fn table(terminal: &Terminal, options: &ModelOptions) -> anyhow::Result<Exit> {
    let scenarios: Vec<&'static Scenario> = match options.scenarios.as_slice() {
        [] => SCENARIOS.iter().collect(),
        names => names.iter().map(|name| scenario_named(name)).collect::<anyhow::Result<_>>()?,
    };
    let eras: Vec<(&'static str, Era)> = match options.eras.as_slice() {
        [] if options.all => era::ERAS.to_vec(),
        [] => table::COLUMNS.iter().filter_map(|name| Some((*name, era::named(name)?))).collect(),
        names => names.iter().map(|name| era_named(name)).collect::<anyhow::Result<_>>()?,
    };
    let limits = Limits { max_states: options.max_states, ..Limits::default() };
    let cells: Vec<Cell> = scenarios
        .iter()
        .flat_map(|scenario| eras.iter().map(move |era| Cell { scenario, era: *era }))
        .collect();
    let begun = Instant::now();
    let outcomes = explore_all(&cells, limits);
    let n_states: usize = outcomes.iter().map(|outcome| outcome.n_states).sum();
    if options.json {
        out(&format!("{}\n", to_json(&cells, &outcomes)?));
    } else {
        out(&to_text(&scenarios, &eras, &outcomes));
    }
    terminal.say(&format!(
        "{} cells, {:.1} million states in {:.1} s",
        cells.len(),
        n_states as f64 / 1e6,
        begun.elapsed().as_secs_f64()
    ));
    let all_as_expected = cells.iter().zip(&outcomes).all(|(cell, outcome)| is_as_expected(cell, outcome));
    Ok(if all_as_expected { Exit::Passed } else { Exit::TestsFailed })
}

fn is_as_expected(cell: &Cell, outcome: &Outcome) -> bool {
    table::expected(cell.scenario.name, cell.era.0)
        .is_none_or(|expected| table::is_as_expected(&expected, &table::verdict(outcome)))
}

/// Explores all cells, one thread a processor, each cell on one.
fn explore_all(cells: &[Cell], limits: Limits) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                while let Some((idx, cell)) = {
                    let idx = next.fetch_add(1, Ordering::Relaxed);
                    cells.get(idx).map(|cell| (idx, cell))
                } {
                    let outcome = explore::look(cell.scenario, cell.era.1, limits);
                    done.lock().expect("no explorer panics").insert(idx, outcome);
                }
            });
        }
    });
    done.into_inner().expect("no explorer panics").into_values().collect()
}

fn to_text(scenarios: &[&Scenario], eras: &[(&str, Era)], outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let mut notes = BTreeMap::new();
    let mut wrong = Vec::new();
    let _infallible = write!(text, "{:5}", "");
    for (name, _) in eras {
        let _infallible = write!(text, " {name:14}");
    }
    text.push('\n');
    for (row, scenario) in scenarios.iter().enumerate() {
        let _infallible = write!(text, "{:5}", scenario.name);
        for (column, (name, _)) in eras.iter().enumerate() {
            let outcome = &outcomes[row * eras.len() + column];
            let mut cell = table::verdict(outcome);
            match table::expected(scenario.name, name) {
                Some(expected) if !table::is_as_expected(&expected, &cell) => {
                    wrong.push(format!("{} {name}: {cell}, expected {}", scenario.name, expected.verdict));
                    cell.push_str(" !");
                }
                Some(expected) => {
                    if let Some(note) = expected.note {
                        let _infallible = write!(cell, " [{note}]");
                        notes.insert(note, ());
                    }
                }
                None => {}
            }
            let _infallible = write!(text, " {cell:14}");
        }
        let _infallible = writeln!(text, " {}", scenario.title);
    }
    text.push_str(
        "\nDL deadlock, DC data corruption, V an invariant broken, churn: the sync thread comes and goes\n",
    );
    if !notes.is_empty() {
        text.push_str("[n] not what was expected at first: suites/raid-core/ANSWERS.md says why\n");
    }
    for wrong in wrong {
        let _infallible = writeln!(text, "! {wrong}");
    }
    text
}

fn to_json(cells: &[Cell], outcomes: &[Outcome]) -> anyhow::Result<String> {
    let cells: Vec<serde_json::Value> = cells
        .iter()
        .zip(outcomes)
        .map(|(cell, outcome)| {
            let expected = table::expected(cell.scenario.name, cell.era.0);
            let found: Vec<serde_json::Value> = outcome
                .findings
                .iter()
                .map(
                    |finding| json!({"finding": story::describe(finding.kind), "steps": finding.trace.len()}),
                )
                .collect();
            json!({
                "scenario": cell.scenario.name,
                "era": cell.era.0,
                "verdict": table::verdict(outcome),
                "expected": expected.map(|expected| expected.verdict),
                "note": expected.and_then(|expected| expected.note),
                "as_expected": is_as_expected(cell, outcome),
                "complete": outcome.complete,
                "states": outcome.n_states,
                "seconds": outcome.elapsed.as_secs_f64(),
                "findings": found,
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&cells)?)
}

fn show(options: &ShowOptions) -> anyhow::Result<Exit> {
    let scenario = scenario_named(&options.scenario)?;
    let (name, era) = era_named(&options.era)?;
    let limits = Limits { max_states: options.max_states, ..Limits::default() };
    let outcome = explore::look(scenario, era, limits);
    let finding = match &options.finding {
        None => outcome.findings.first(),
        Some(text) => {
            let text = text.to_lowercase();
            let is_meant = |finding: &&Finding| story::describe(finding.kind).to_lowercase().contains(&text);
            let Some(finding) = outcome.findings.iter().find(is_meant) else {
                let known: Vec<String> =
                    outcome.findings.iter().map(|finding| story::describe(finding.kind)).collect();
                let known = if known.is_empty() { "nothing was found".to_owned() } else { known.join("; ") };
                return Err(usage(anyhow!("no `{text}` in {} on {name}: {known}", scenario.name)));
            };
            Some(finding)
        }
    };
    let Some(finding) = finding else {
        out(&format!("{}: nothing wrong on {name}, in all of {} states\n", scenario.name, outcome.n_states));
        return Ok(Exit::Passed);
    };
    let story = story::tell(scenario, era, finding);
    if options.json {
        out(&format!("{}\n", serde_json::to_string_pretty(&story)?));
    } else if options.mermaid {
        out(&story.to_mermaid());
    } else {
        out(&story.to_text());
        for other in outcome.findings.iter().filter(|other| other.kind != finding.kind) {
            out(&format!("also found, after {} steps: {}\n", other.trace.len(), story::describe(other.kind)));
        }
    }
    Ok(Exit::Passed)
}

fn scenario_named(name: &str) -> anyhow::Result<&'static Scenario> {
    scenario::named(name).ok_or_else(|| {
        let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        usage(anyhow!("no scenario `{name}`; there are {}", known.join(", ")))
    })
}

fn era_named(name: &str) -> anyhow::Result<(&'static str, Era)> {
    era::ERAS.into_iter().find(|(known, _)| *known == name).ok_or_else(|| {
        let known: Vec<&str> = era::ERAS.iter().map(|(known, _)| *known).collect();
        usage(anyhow!("no kernel `{name}`; there are {}", known.join(", ")))
    })
}
