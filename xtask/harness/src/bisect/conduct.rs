//! Conducts a search: does what [`super::decide`] says, and keeps the state after every trial.

use std::time::Instant;

use anyhow::Result;

use super::decide::{Action, Finding, Observation, Place, Trouble, Why, decide};
use super::state::{Recorded, State};
use super::trial::Tester;

/// How a search ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// With an answer.
    Found(Finding),
    /// Without: it makes no sense.
    Stopped(Trouble),
}

/// Hears of a search's progress, and keeps its state.
pub trait Listener {
    /// A trial begins.
    fn begins(&mut self, state: &State, place: Place, why: Why);
    /// The last trial of `state` is over, and means this.
    fn over(&mut self, state: &State, observation: &Observation) -> Result<()>;
}

/// Goes on with a search until it ends. An error of a trial's ends it, too, and it can be gone on with.
pub fn search(state: &mut State, tester: &mut dyn Tester, listener: &mut dyn Listener) -> Result<Ended> {
    loop {
        match decide(&state.graph, &state.sums(), state.question.rules) {
            Action::Found(finding) => return Ok(Ended::Found(finding)),
            Action::Stop(trouble) => return Ok(Ended::Stopped(trouble)),
            Action::Test(place, why) => {
                listener.begins(state, place, why);
                let started = Instant::now();
                let trial = tester.test(state.named(place).0)?;
                state.trials.push(Recorded { place, trial, seconds: started.elapsed().as_secs_f64() });
                if let Some((_, observation)) = state.observations().last() {
                    listener.over(state, observation)?;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "conduct_tests.rs"]
mod tests;
