//! Conducts a search: makes the trials that [`super::decide`] asks for, and keeps the state after each.

use std::time::Instant;

use anyhow::Result;

use super::decide::{Conclusion, NextStep, Observation, Position, Purpose, Trouble, decide};
use super::state::{RecordedTrial, SearchState};
use super::trial::Tester;

/// End of a search.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The search has an answer.
    Found(Conclusion),
    /// The search makes no sense, for example because both ends fail.
    Stopped(Trouble),
}

/// Is told of a search's progress, and saves its state.
pub trait Listener {
    /// Called before a trial of `position` begins.
    fn begins(&mut self, state: &SearchState, position: Position, why: Purpose);
    /// Called after the last trial in `state`, with its meaning.
    fn over(&mut self, state: &SearchState, observation: &Observation) -> Result<()>;
}

/// Continues a search until it ends. An error in a trial ends the call; the search can be continued
/// afterwards.
pub fn search(
    state: &mut SearchState,
    tester: &mut dyn Tester,
    listener: &mut dyn Listener,
) -> Result<Ended> {
    loop {
        match decide(&state.graph, &state.sums(), state.question.rules) {
            NextStep::Found(conclusion) => return Ok(Ended::Found(conclusion)),
            NextStep::Stop(trouble) => return Ok(Ended::Stopped(trouble)),
            NextStep::Test(position, why) => {
                listener.begins(state, position, why);
                let started = Instant::now();
                let trial = tester.test(state.named(position).0)?;
                state.trials.push(RecordedTrial {
                    position,
                    trial,
                    seconds: started.elapsed().as_secs_f64(),
                });
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
