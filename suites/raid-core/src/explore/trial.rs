//! Trials on a state in which nobody can go on: what if something in it were otherwise?

use crate::era::Era;
use crate::kernel::step::step;
use crate::machine::state::{N_TASKS, N_USERS, State};
use crate::scenario::Scenario;

/// Steps that a trial takes at most.
pub(crate) const TRIAL_STEPS: usize = 3_000;

/// A state at the end of a story, on which trials are made.
pub(crate) struct Trial<'a> {
    pub(crate) state: &'a State,
    pub(crate) era: Era,
    pub(crate) scenario: &'a Scenario,
}

impl Trial<'_> {
    /// True if each user who waits leaves the function in which it waits, when the first `n_tasks` tasks get
    /// their turns in `from`.
    pub(crate) fn ends(&self, from: &State, n_tasks: usize) -> bool {
        let mut state = *from;
        let mut waits: Vec<usize> = (0..N_USERS)
            .filter(|user| self.state.tasks[*user].alive != 0 && !self.scenario.users[*user].patient)
            .collect();
        for _ in 0..TRIAL_STEPS / N_TASKS {
            let mut moved = false;
            for task in 0..n_tasks {
                let mut copy = state;
                if step(&mut copy, self.era, self.scenario, task, 0, None).is_some() {
                    moved = true;
                    state = copy;
                    waits.retain(|user| state.tasks[*user].depth >= self.state.tasks[*user].depth);
                }
            }
            if waits.is_empty() || !moved {
                break;
            }
        }
        waits.is_empty()
    }
}
