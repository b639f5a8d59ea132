//! raid-core's model for stateright, another checker: its Explorer shows the states in a browser, and its
//! breadth-first search is held against ours (`tests/peer.rs`).
//!
//! A package of its own, so that a run of tests never compiles stateright and its web server. Steps and
//! checks are those of [`raid_core::explore::peer`].

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::ToSocketAddrs;

use raid_core::era::Era;
use raid_core::explore::peer;
use raid_core::machine::state::{N_TASKS, State};
use raid_core::scenario::Scenario;
use stateright::{Checker, Model, Property};

/// A scenario on a kernel, as a model of stateright.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// The kernel.
    pub era: Era,
}

/// A state, hashed by its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Snapshot(State);

impl Hash for Snapshot {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(bytemuck::bytes_of(&self.0));
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A step: whose, and which of its outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    task: u8,
    choice: u8,
}

impl Model for Peer {
    type State = Snapshot;
    type Action = Step;

    fn init_states(&self) -> Vec<Snapshot> {
        vec![Snapshot(self.scenario.initial())]
    }

    fn actions(&self, state: &Snapshot, actions: &mut Vec<Step>) {
        for task in 0..N_TASKS {
            let choices = peer::choices(&state.0, self.era, self.scenario, task);
            actions.extend((0..choices.unwrap_or(0)).map(|choice| Step { task: task as u8, choice }));
        }
    }

    fn next_state(&self, state: &Snapshot, step: Step) -> Option<Snapshot> {
        peer::next(&state.0, self.era, self.scenario, step.task.into(), step.choice).map(Snapshot)
    }

    fn format_action(&self, step: &Step) -> String {
        self.scenario.task_name(step.task.into())
    }

    fn format_step(&self, state: &Snapshot, step: Step) -> Option<String> {
        peer::describe(&state.0, self.era, self.scenario, step.task.into(), step.choice)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no deadlock", |model: &Self, state: &Snapshot| {
                !peer::is_deadlocked(&state.0, model.era, model.scenario)
            }),
            Property::always("no corruption", |model: &Self, state: &Snapshot| {
                !peer::is_corrupt(&state.0, model.scenario)
            }),
        ]
    }
}

impl Peer {
    /// stateright's search of all states: how many there are, and whether nobody can go on in one of them.
    pub fn search(self) -> (usize, bool) {
        // A counterexample of every property would end the search early, so nothing may stop it.
        let checker = Exhaustive(self).checker().spawn_bfs().join();
        let deadlocks = self.checker().spawn_bfs().join().discovery("no deadlock").is_some();
        (checker.unique_state_count(), deadlocks)
    }

    /// Serves stateright's Explorer, for ever.
    pub fn serve(self, at: impl ToSocketAddrs) {
        self.checker().serve(at);
    }
}

/// The model with a single property that always holds, so that a search sees every state.
#[derive(Clone, Copy, Debug)]
struct Exhaustive(Peer);

impl Model for Exhaustive {
    type State = Snapshot;
    type Action = Step;

    fn init_states(&self) -> Vec<Snapshot> {
        self.0.init_states()
    }

    fn actions(&self, state: &Snapshot, actions: &mut Vec<Step>) {
        self.0.actions(state, actions);
    }

    fn next_state(&self, state: &Snapshot, step: Step) -> Option<Snapshot> {
        self.0.next_state(state, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("every state is seen", |_, _| true)]
    }
}
