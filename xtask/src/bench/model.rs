//! The cost of the model: time and memory of the whole table, and states per second on one core.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::model::explore::{self as model, Cell};
use raid_core::era;
use raid_core::explore::{self, Limits};
use raid_core::scenario::{self, SCENARIOS};

use crate::bench::page::figure;
use crate::bench::peak_memory_mb;
use crate::exit::Exit;

/// Plain scenarios, for states per second: without data and walks.
const PLAIN: [(&str, &str); 3] = [("S1", "6.7"), ("S3", "6.9"), ("S11", "6.6")];
/// States per second that the project requires.
const STATES_PER_SECOND: f64 = 500_000.0;

pub(super) fn model(quick: bool) -> Result<Exit> {
    figure!("{:<40} {:>12} {:>8} {:>12}", "one core", "states", "s", "states/s");
    let mut total = (0, 0.0);
    for (scenario, era) in PLAIN {
        let (scenario, kernel) = (scenario::named(scenario), era::named(era));
        let (scenario, kernel) = scenario.zip(kernel).context("no such cell")?;
        let outcome = explore::explore(scenario, kernel, Limits::default());
        let seconds = outcome.elapsed.as_secs_f64();
        total = (total.0 + outcome.n_states, total.1 + seconds);
        let rate = outcome.n_states as f64 / seconds;
        figure!(
            "{:<40} {:>12} {seconds:>8.1} {rate:>12.0}",
            format!("{} {era}", scenario.name),
            outcome.n_states
        );
    }
    let rate = total.0 as f64 / total.1;
    figure!("{:<40} {:>12} {:>8.1} {rate:>12.0}", "all three", total.0, total.1);
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
    figure!(
        "{:<40} {n_states:>12} {seconds:>8.1} {:>12.0}",
        format!("{} cells", cells.len()),
        n_states as f64 / seconds
    );
    figure!("peak memory, MB {memory_mb:>24}");
    ensure!(!quick || seconds < 60.0, "the quick part takes {seconds:.0} s, and is to take a minute at most");
    ensure!(rate >= STATES_PER_SECOND || quick, "{rate:.0} states/s, and {STATES_PER_SECOND} are wanted");
    Ok(Exit::Passed)
}
