//! The model for another checker: its states, steps and findings, without our way to search them.

use crate::cpu::{Note, invariant};
use crate::era::Era;
use crate::explore::check;
use crate::explore::finding::Kind;
use crate::kernel::step;
use crate::machine::state::{N_TASKS, State};
use crate::scenario::Scenario;

/// Number of outcomes that the next step of `task` can have; `None` if the task cannot go on.
pub fn choices(state: &State, era: Era, scenario: &Scenario, task: usize) -> Option<u8> {
    step::step(&mut { *state }, era, scenario, task, 0, None).map(|stepped| stepped.choices)
}

/// The state after a step of `task` with outcome `choice`; `None` if the task cannot go on, or if the step
/// uses freed memory: what follows from that means nothing.
pub fn next(state: &State, era: Era, scenario: &Scenario, task: usize, choice: u8) -> Option<State> {
    let mut next = *state;
    let stepped = step::step(&mut next, era, scenario, task, choice, None)?;
    (stepped.broken.0 & invariant::ENDS == 0).then_some(next)
}

/// A step in words: whose, in which function, and what it does.
pub fn describe(state: &State, era: Era, scenario: &Scenario, task: usize, choice: u8) -> Option<String> {
    let mut note = Note::default();
    step::step(&mut { *state }, era, scenario, task, choice, Some(&mut note))?;
    let function = note.stack.last().map_or("", |function| function.name());
    Some(format!("{} {function}: {}", scenario.task_name(task), note.text))
}

/// True if nobody can go on, and a user waits (I1).
pub fn is_deadlocked(state: &State, era: Era, scenario: &Scenario) -> bool {
    (0..N_TASKS).all(|task| choices(state, era, scenario, task).is_none())
        && check::at_rest(state, era, scenario).contains(&Kind::Deadlock)
}

/// True if data are lost in a way that ends the search (I7, I8).
pub fn is_corrupt(state: &State, scenario: &Scenario) -> bool {
    scenario.data && check::corruption(state, scenario.reshape).is_some_and(check::ends)
}
