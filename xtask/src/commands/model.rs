//! `cargo xtask model`: the port of md's control logic (`suites/raid-core`), explored on the host.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use harness::error::usage;
use harness::model::explore::{Cell, explore_all, is_as_expected, quick_cells};
use harness::terminal::{Terminal, out, width_of_output};
use harness::workspace::{cargo, workspace};
use raid_core::era::{self, Era, Switch};
use raid_core::explore::walk;
use raid_core::explore::{self, Kind, Limits, Outcome};
use raid_core::scenario::{self, SCENARIOS, Scenario};
use raid_core::story::{self, Page};
use raid_core::table;
use serde_json::json;
use vm_images::host::quick;

use crate::exit::Exit;
use crate::options::time;

pub(crate) const MODEL_HELP: &str = "\
Examples:
  cargo xtask model                           the table, beside what is expected
  cargo xtask model --scenario S1,S3 --all    in all kernels, and after each patch of the series
  cargo xtask model show S3 --era 6.7         the shortest way into the hang, step by step
  cargo xtask model show S1 --era 6.6 --mermaid
  cargo xtask model show S14 --era 6.8 --with ReapDirectly
  cargo xtask model walk --scenario S5a --era 6.8 --seed 1 --for 10s

Kernels: 6.1 (Debian's 6.1.192), 6.5, 6.6, 6.7, P1, P1-2 … P1-10 (6.7 with the first patches of the series),
v2 (all of it), 6.8, 6.9, 6.12, 7.3. The exit code is 1 if a cell is not as expected.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ModelOptions {
    #[command(subcommand)]
    pub(crate) command: Option<ModelCommand>,
    /// Only these scenarios
    #[arg(long = "scenario", value_name = "NAME", value_delimiter = ',')]
    pub(crate) scenarios: Vec<String>,
    /// These kernels
    #[arg(long = "era", value_name = "KERNEL", value_delimiter = ',')]
    pub(crate) eras: Vec<String>,
    /// All kernels
    #[arg(long, conflicts_with = "eras")]
    pub(crate) all: bool,
    /// Stop a cell after so many states; it is then marked with a question mark
    #[arg(long, value_name = "N", default_value_t = 30_000_000)]
    pub(crate) max_states: usize,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Tell the worst of what a scenario comes to, step by step, and who waits for what at the end
    Show(ShowOptions),
    /// Take long random walks, which go where there are too many states to see all
    Walk(WalkOptions),
    /// Look at a scenario's states in a browser (stateright's Explorer)
    Explore(ExploreOptions),
}

#[derive(Debug, Args)]
pub(crate) struct WalkOptions {
    /// Only these scenarios
    #[arg(long = "scenario", value_name = "NAME", value_delimiter = ',')]
    pub(crate) scenarios: Vec<String>,
    /// Kernel
    #[arg(long, value_name = "KERNEL", default_value = "7.3")]
    pub(crate) era: String,
    /// The first walk's seed; the next ones count on from it. By default another one each time
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// For how long
    #[arg(long = "for", value_name = "TIME", value_parser = time, default_value = "10s")]
    pub(crate) duration: Duration,
    /// Tell the first hang or corruption, or the first of these (as for `show`)
    #[arg(long, value_name = "TEXT")]
    pub(crate) finding: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExploreOptions {
    /// Scenario
    pub(crate) scenario: String,
    /// Kernel
    #[arg(long, value_name = "KERNEL", default_value = "6.7")]
    pub(crate) era: String,
    /// Where to serve the page
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    pub(crate) at: String,
}

#[derive(Debug, Args)]
pub(crate) struct ShowOptions {
    /// Scenario
    pub(crate) scenario: String,
    /// Kernel
    #[arg(long, value_name = "KERNEL", default_value = "6.7")]
    pub(crate) era: String,
    /// With these switches (era.rs): patches, or the mail's what-ifs
    #[arg(long, value_name = "SWITCH", value_delimiter = ',')]
    pub(crate) with: Vec<String>,
    /// Without these
    #[arg(long, value_name = "SWITCH", value_delimiter = ',')]
    pub(crate) without: Vec<String>,
    /// Not the worst, but this: DL, DC, livelock, churn, EIO, V, I5, or a part of its words
    #[arg(long, value_name = "TEXT")]
    pub(crate) finding: Option<String>,
    /// Stop after so many states
    #[arg(long, value_name = "N", default_value_t = 30_000_000)]
    pub(crate) max_states: usize,
    /// Every step, also those of which nothing is left when the next task takes over
    #[arg(long, conflicts_with_all = ["json", "mermaid", "html"])]
    pub(crate) full: bool,
    /// For programs
    #[arg(long, conflicts_with_all = ["mermaid", "html"])]
    pub(crate) json: bool,
    /// As a sequence diagram
    #[arg(long, conflicts_with = "html")]
    pub(crate) mermaid: bool,
    /// As a page with a column per task
    #[arg(long)]
    pub(crate) html: bool,
}

pub(crate) fn run(terminal: &Terminal, options: &ModelOptions) -> anyhow::Result<Exit> {
    match &options.command {
        Some(ModelCommand::Show(options)) => show(options),
        Some(ModelCommand::Walk(options)) => walk(terminal, options),
        Some(ModelCommand::Explore(options)) => {
            let (scenario, (era, _)) = (scenario_named(&options.scenario)?, era_named(&options.era)?);
            terminal.say(&format!("http://{}; ctrl-c ends it", options.at));
            explore(scenario.name, era, &options.at)
        }
        None => table(terminal, options),
    }
}

/// Serves stateright's Explorer, which is a program of its own: no other command needs to compile it.
fn explore(scenario: &str, era: &str, address: &str) -> anyhow::Result<Exit> {
    let shell = quick::shell(workspace())?;
    let cargo = cargo();
    let explorer =
        xshell::cmd!(shell, "{cargo} run --quiet --package raid-explorer -- {scenario} {era} {address}");
    explorer.quiet().run().context("the explorer ended")?;
    Ok(Exit::Passed)
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

/// Returns an error unless the quick cells give the expected results.
pub(crate) fn check_quick() -> anyhow::Result<()> {
    let cells = quick_cells();
    let outcomes = explore_all(&cells, Limits::default());
    for (cell, outcome) in cells.iter().zip(&outcomes) {
        let (scenario, era, verdict) = (cell.scenario.name, cell.era.0, table::verdict(outcome));
        anyhow::ensure!(is_as_expected(cell, outcome), "{scenario} on {era} comes to {verdict}");
    }
    Ok(())
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
        text.push_str("[n] not what was expected at first: docs/md/answers.md says why\n");
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
    let era = era.with(&switches(&options.with)?);
    let era = switches(&options.without)?.into_iter().fold(era, Era::without);
    let limits = Limits { max_states: options.max_states, ..Limits::default() };
    let outcome = explore::look(scenario, era, limits);
    let finding = table::find(&outcome, options.finding.as_deref());
    if let (None, Some(text)) = (finding, &options.finding) {
        let known: Vec<String> = outcome.findings.iter().map(|finding| named(finding.kind)).collect();
        let known = if known.is_empty() { "nothing was found".to_owned() } else { known.join("; ") };
        return Err(usage(anyhow!("no `{text}` in {} on {name}: {known}", scenario.name)));
    }
    let Some(finding) = finding else {
        let seen = match outcome.n_walks {
            0 if outcome.complete => format!("all of {} states", outcome.n_states),
            0 => format!("the first {} states", outcome.n_states),
            n_walks => format!("{n_walks} random walks"),
        };
        out(&format!("{}: nothing wrong on {name}, in {seen}\n", scenario.name));
        return Ok(Exit::Passed);
    };
    let story = story::tell(scenario, era, finding);
    if options.json {
        out(&format!("{}\n", serde_json::to_string_pretty(&story)?));
    } else if options.mermaid {
        out(&story.to_mermaid());
    } else if options.html {
        out(&story.to_html());
    } else {
        out(&story.to_text(Page { width: width_of_output(), full: options.full }));
        if !table::counts(finding.kind) {
            out("this is not counted in the table: docs/md/answers.md says why\n");
        }
        for other in outcome.findings.iter().filter(|other| other.kind != finding.kind) {
            out(&format!("also found, after {} steps: {}\n", other.trace.len(), named(other.kind)));
        }
    }
    Ok(Exit::Passed)
}

/// A finding in the form that `--finding` accepts, and in words.
fn named(kind: Kind) -> String {
    let apart = if table::counts(kind) { "" } else { " (not counted in the table)" };
    format!("{}, {}{apart}", table::word(kind), story::describe(kind))
}

fn switches(names: &[String]) -> anyhow::Result<Vec<Switch>> {
    let named = |name: &String| {
        era::switch_named(name).ok_or_else(|| {
            let known: Vec<String> = era::SWITCHES.iter().map(|switch| format!("{switch:?}")).collect();
            usage(anyhow!("no switch `{name}`; there are {}", known.join(", ")))
        })
    };
    names.iter().map(named).collect()
}

/// Walks over all scenarios in turn at their larger size, until the time is over.
fn walk(terminal: &Terminal, options: &WalkOptions) -> anyhow::Result<Exit> {
    let scenarios: Vec<&'static Scenario> = match options.scenarios.as_slice() {
        [] => SCENARIOS.iter().collect(),
        names => names.iter().map(|name| scenario_named(name)).collect::<anyhow::Result<_>>()?,
    };
    let (name, era) = era_named(&options.era)?;
    let first = options.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.as_secs() * 1_000_000
    });
    terminal.say(&format!("seeds from {first} on"));
    let begun = Instant::now();
    let (mut n_walks, mut n_steps) = (0_u64, 0);
    let mut found: BTreeMap<(&str, Kind), (u64, u64)> = BTreeMap::new();
    let mut told = None;
    while begun.elapsed() < options.duration {
        let seed = first + n_walks / scenarios.len() as u64;
        let scenario = scenarios[(n_walks % scenarios.len() as u64) as usize];
        let larger = walk::larger(scenario);
        let walk = walk::walk(&larger, era, seed);
        n_walks += 1;
        n_steps += walk.n_steps;
        for finding in walk.findings {
            found.entry((scenario.name, finding.kind)).or_insert((0, seed)).0 += 1;
            let is_meant = match &options.finding {
                Some(text) => table::is_meant(finding.kind, text),
                None => is_bad(finding.kind),
            };
            if is_meant && told.is_none() {
                told = Some(story::tell(&larger, era, &finding));
            }
        }
    }
    if let Some(story) = told {
        out(&format!("{}\n", story.to_text(Page { width: width_of_output(), full: false })));
    }
    for ((scenario, kind), (n_times, seed)) in &found {
        out(&format!("{scenario:5} {n_times:7} times, first by seed {seed}: {}\n", story::describe(*kind)));
    }
    let per_second = n_steps as f64 / begun.elapsed().as_secs_f64();
    out(&format!("{n_walks} walks on {name}, {n_steps} steps, {per_second:.0} a second\n"));
    let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name).collect();
    let names = names.join(",");
    out(&format!("again: cargo xtask model walk --scenario {names} --era {name} --seed {first}\n"));
    Ok(if found.keys().any(|(_, kind)| is_bad(*kind)) { Exit::TestsFailed } else { Exit::Passed })
}

/// True for a finding that no table allows.
fn is_bad(kind: Kind) -> bool {
    matches!(kind, Kind::Deadlock | Kind::Livelock | Kind::Restart | Kind::Corruption)
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
