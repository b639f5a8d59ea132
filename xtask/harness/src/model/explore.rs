//! Explores scenarios of the model on kernels, one thread a processor.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use raid_core::era::{self, Era};
use raid_core::explore::{self, Limits, Outcome};
use raid_core::scenario::{self, Scenario};
use raid_core::table;

/// A scenario to explore on one kernel.
pub struct Cell {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// The kernel: its name, and the fixes and changes that it has.
    pub era: (&'static str, Era),
}

/// Scenarios of the v6.7 regressions that are explored quickly: each fails on a kernel with the bug, and
/// passes with its fix.
pub fn quick_cells() -> Vec<Cell> {
    const QUICK: [(&str, &[&str]); 9] = [
        ("S1", &["6.7", "6.9"]),
        ("S2", &["6.6", "6.7", "P1"]),
        ("S3", &["6.6", "6.7"]),
        ("S4", &["6.6", "6.7", "P1-4"]),
        ("S5a", &["6.8", "6.9"]),
        ("S6r", &["6.1", "6.9"]),
        ("S7b", &["6.6", "6.9"]),
        ("S16", &["6.9", "6.12"]),
        ("S17", &["6.12", "7.3"]),
    ];
    QUICK
        .iter()
        .filter_map(|(name, eras)| Some((scenario::named(name)?, eras)))
        .flat_map(|(scenario, eras)| {
            let known = |name: &&str| era::ERAS.into_iter().find(|(known, _)| known == name);
            eras.iter().filter_map(known).map(move |era| Cell { scenario, era })
        })
        .collect()
}

/// True if exploring a cell gave the result in the model's table.
pub fn is_as_expected(cell: &Cell, outcome: &Outcome) -> bool {
    table::expected(cell.scenario.name, cell.era.0)
        .is_none_or(|expected| table::is_as_expected(&expected, &table::verdict(outcome)))
}

/// Explores all cells, one thread for each processor; returns the results in order.
pub fn explore_all(cells: &[Cell], limits: Limits) -> Vec<Outcome> {
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
