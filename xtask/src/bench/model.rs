//! The cost of the model: time and memory of the whole table, and states per second on one core.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::model::explore::{self as model, Cell};
use raid_core::era;
use raid_core::explore::{self, Limits};
use raid_core::scenario::{self, SCENARIOS};

use crate::bench::figures::{Figures, Table, left, right};
use crate::bench::peak_memory_mb;
use crate::exit::Exit;

/// Plain scenarios, for states per second: without data and walks.
const PLAIN: [(&str, &str); 3] = [("S1", "6.7"), ("S3", "6.9"), ("S11", "6.6")];
/// States per second that the project requires.
const STATES_PER_SECOND: f64 = 500_000.0;

pub(super) fn model(figures: &Figures, quick: bool) -> Result<Exit> {
    let columns =
        |name: &str| vec![left(name, 40), right("states", 12), right("s", 8), right("states/s", 12)];
    let one_core = figures.table("", columns("one core"));
    let mut total = (0, 0.0);
    for (scenario, era) in PLAIN {
        let (scenario, kernel) = (scenario::named(scenario), era::named(era));
        let (scenario, kernel) = scenario.zip(kernel).context("no such cell")?;
        let outcome = explore::explore(scenario, kernel, Limits::default());
        let seconds = outcome.elapsed.as_secs_f64();
        total = (total.0 + outcome.n_states, total.1 + seconds);
        row(&one_core, &format!("{} {era}", scenario.name), outcome.n_states, seconds);
    }
    let rate = row(&one_core, "all three", total.0, total.1);
    let cells: Vec<Cell> = if quick {
        model::quick_cells()
    } else {
        let rows = SCENARIOS.iter();
        rows.flat_map(|scenario| era::ERAS.iter().map(move |era| Cell { scenario, era: *era })).collect()
    };
    let begun = Instant::now();
    let outcomes = model::explore_all(&cells, Limits::default());
    let n_states: usize = outcomes.iter().map(|outcome| outcome.n_states).sum();
    let seconds = begun.elapsed().as_secs_f64();
    let memory_mb = peak_memory_mb()?;
    let all_cores = figures.table("", columns("all cores"));
    row(&all_cores, &format!("{} cells", cells.len()), n_states, seconds);
    figures.value("peak memory", format!("{memory_mb} MB"));
    ensure!(!quick || seconds < 60.0, "the quick part takes {seconds:.0} s, and is to take a minute at most");
    ensure!(rate >= STATES_PER_SECOND || quick, "{rate:.0} states/s, and {STATES_PER_SECOND} are wanted");
    Ok(Exit::Passed)
}

/// Shows a row; gives its states per second.
fn row(table: &Table<'_>, name: &str, n_states: usize, seconds: f64) -> f64 {
    let rate = n_states as f64 / seconds;
    table.row([name.to_owned(), n_states.to_string(), format!("{seconds:.1}"), format!("{rate:.0}")]);
    rate
}
