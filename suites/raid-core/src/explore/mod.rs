//! Exhaustive exploration: every interleaving of a scenario's tasks in an era, breadth first, so that
//! what is found first has a shortest trace.
//!
//! `check.rs` has the checks of a state, `cycles.rs` finds runs that repeat for ever, `reduce.rs` says which
//! interleavings can be left out. [`walk`] takes random ways instead where there are too many states;
//! [`peer`] is what another checker needs.

pub(crate) mod check;
mod cycles;
pub mod finding;
mod graph;
pub mod peer;
mod reduce;
pub(crate) mod trial;
pub mod walk;

use std::time::{Duration, Instant};

use crate::cpu::invariant;
use crate::era::Era;
use crate::kernel::step::step;
use crate::machine::state::{N_TASKS, Queue, State};
use crate::scenario::Scenario;
use check::{at_rest, corruption, ends, kinds_of, marks_of};
use graph::{Graph, Reached, Seen, fingerprint, mark};
use reduce::alone;

pub use finding::{Finding, Invariant, Kind, Outcome};

/// Where something was found: in a state, or in a step out of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) state: u32,
    pub(crate) step: Option<(u8, u8)>,
}

/// The first place of each kind, in the order in which they were found.
#[derive(Default)]
pub(crate) struct Places(pub(crate) Vec<(Kind, Place)>);

impl Places {
    pub(crate) fn note(&mut self, kind: Kind, place: Place) {
        if self.0.iter().all(|(known, _)| *known != kind) {
            self.0.push((kind, place));
        }
    }
}

/// How far to look, and how.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many states at most.
    pub max_states: usize,
    /// Leave out interleavings that come to the same, where that is sound (`reduce.rs`).
    pub reduce: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_states: 30_000_000, reduce: true }
    }
}

/// Looks at a scenario in an era: all its states, or random walks if the scenario has too many.
pub fn look(scenario: &Scenario, era: Era, limits: Limits) -> Outcome {
    match scenario.walks {
        0 => explore(scenario, era, limits),
        n_walks => walk::walks(scenario, era, 0..u64::from(n_walks)),
    }
}

/// Explores all states of a scenario in an era.
pub fn explore(scenario: &Scenario, era: Era, limits: Limits) -> Outcome {
    let begun = Instant::now();
    let mut search = Search::new(scenario, era, limits);
    let initial = scenario.initial();
    search.seen.insert(fingerprint(&initial), 0);
    search.graph.reached.push(Reached { from: 0, task: 0, choice: 0 });
    let mut level = vec![initial];
    while !level.is_empty() && search.graph.reached.len() <= limits.max_states {
        for state in &level {
            search.expand(state);
        }
        level.clear();
        std::mem::swap(&mut level, &mut search.next);
    }
    search.outcome(level.is_empty(), begun.elapsed())
}

struct Search<'a> {
    scenario: &'a Scenario,
    era: Era,
    limits: Limits,
    graph: Graph,
    seen: Seen,
    places: Places,
    next: Vec<State>,
}

impl<'a> Search<'a> {
    fn new(scenario: &'a Scenario, era: Era, limits: Limits) -> Self {
        Self {
            scenario,
            era,
            limits,
            graph: Graph::default(),
            seen: Seen::default(),
            places: Places::default(),
            next: Vec::new(),
        }
    }

    /// All steps out of a state, or those of tasks whose steps nobody else's can disturb.
    fn expand(&mut self, state: &State) {
        let me = self.graph.offsets.len() as u32;
        let here = Place { state: me, step: None };
        self.graph.offsets.push(self.graph.edges.len() as u32);
        self.graph.marks.push(marks_of(state, self.scenario));
        let corruption = self.scenario.data.then(|| corruption(state, self.scenario.reshape)).flatten();
        if let Some(kind) = corruption {
            self.places.note(kind, here);
        }
        if corruption.is_some_and(ends) {
            // What follows from corrupted data is not looked at.
            self.graph.marks[me as usize] |= mark::DONE | mark::ALL_DONE;
            return;
        }
        if self.limits.reduce && self.expand_alone(state, me) {
            return;
        }
        let mut can_go_on = false;
        for task in 0..N_TASKS {
            can_go_on |= self.expand_task(state, me, task);
        }
        if !can_go_on {
            for kind in at_rest(state, self.era, self.scenario) {
                self.places.note(kind, here);
            }
        }
    }

    /// Takes only the steps of a raid_set's tasks that nobody else can disturb; false if that cannot
    /// be done here, and then nothing is done.
    fn expand_alone(&mut self, state: &State, me: u32) -> bool {
        let Some(tasks) = alone(state) else { return false };
        let mut fresh = false;
        for task in tasks {
            let mut copy = *state;
            if let Some(stepped) = step(&mut copy, self.era, self.scenario, task, 0, None) {
                if stepped.global || stepped.choices > 1 || stepped.broken.0 != 0 {
                    return false;
                }
                fresh |= !self.seen.contains_key(&fingerprint(&copy));
            }
        }
        // If all of them lead to known states, the others might be put off for ever.
        if fresh {
            for task in tasks {
                self.expand_task(state, me, task);
            }
        }
        fresh
    }

    /// The steps of one task, one for each of its choices; false if it cannot go on.
    fn expand_task(&mut self, state: &State, me: u32, task: usize) -> bool {
        if state.tasks[task].alive == 0 || state.tasks[task].sleep != Queue::None {
            return false;
        }
        let mut choice = 0;
        loop {
            let mut copy = *state;
            let Some(stepped) = step(&mut copy, self.era, self.scenario, task, choice, None) else {
                return choice > 0;
            };
            for kind in kinds_of(stepped.broken.0) {
                self.places.note(kind, Place { state: me, step: Some((task as u8, choice)) });
            }
            if stepped.broken.0 & invariant::ENDS != 0 {
                self.graph.marks[me as usize] |= mark::DONE | mark::ALL_DONE;
            } else {
                let fresh = self.graph.reached.len() as u32;
                let to = *self.seen.entry(fingerprint(&copy)).or_insert(fresh);
                if to == fresh {
                    self.graph.reached.push(Reached { from: me, task: task as u8, choice });
                    self.next.push(copy);
                }
                self.graph.edges.push(to);
                self.graph.steps.push(task as u8 | choice << 4);
            }
            choice += 1;
            if choice >= stepped.choices {
                return true;
            }
        }
    }

    fn outcome(self, complete: bool, elapsed: Duration) -> Outcome {
        let graph = &self.graph;
        let mut findings = Vec::new();
        for (kind, place) in &self.places.0 {
            let mut trace = graph.trace(place.state);
            trace.extend(place.step.map(|(task, choice)| (task as usize, choice)));
            findings.push(Finding { kind: *kind, trace, repeats: 0 });
        }
        if complete {
            findings.extend(cycles::find(graph).into_iter().map(|(kind, state, cycle)| {
                let mut trace = graph.trace(state);
                trace.extend(graph.along(&cycle));
                Finding { kind, trace, repeats: cycle.len().saturating_sub(1) }
            }));
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.kind));
        Outcome { findings, n_states: graph.reached.len(), complete, n_walks: 0, elapsed }
    }
}
