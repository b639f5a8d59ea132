//! The model for stateright, another checker: its Explorer shows the states in a browser, and its
//! breadth-first search is held against ours (`tests/peer.rs`). Thin on purpose: steps and checks are those
//! of [`crate::explore`].

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::ToSocketAddrs;

use ::stateright::{Checker, Model, Property};

use crate::cpu::{Note, invariant};
use crate::era::Era;
use crate::explore::check;
use crate::explore::finding::Kind;
use crate::kernel::step;
use crate::machine::state::{N_TASKS, State};
use crate::scenario::Scenario;

/// A scenario in an era, as stateright sees it.
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
            let mut copy = state.0;
            if let Some(stepped) = step::step(&mut copy, self.era, self.scenario, task, 0, None) {
                actions.extend((0..stepped.choices).map(|choice| Step { task: task as u8, choice }));
            }
        }
    }

    fn next_state(&self, state: &Snapshot, step: Step) -> Option<Snapshot> {
        let mut next = state.0;
        let stepped = step::step(&mut next, self.era, self.scenario, step.task.into(), step.choice, None)?;
        // What follows from the use of freed memory means nothing.
        let ends = stepped.broken.0 & invariant::ENDS != 0;
        (!ends).then_some(Snapshot(next))
    }

    fn format_action(&self, step: &Step) -> String {
        self.scenario.task_name(step.task.into())
    }

    fn format_step(&self, state: &Snapshot, step: Step) -> Option<String> {
        let (mut next, mut note) = (state.0, Note::default());
        let (task, choice) = (step.task.into(), step.choice);
        step::step(&mut next, self.era, self.scenario, task, choice, Some(&mut note))?;
        let function = note.stack.last().map_or("", |f| f.name());
        Some(format!("{} {function}: {}", self.scenario.task_name(task), note.text))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no deadlock", |peer: &Self, state: &Snapshot| {
                let moves =
                    |task| step::step(&mut { state.0 }, peer.era, peer.scenario, task, 0, None).is_some();
                (0..N_TASKS).any(moves)
                    || !check::at_rest(&state.0, peer.era, peer.scenario).contains(&Kind::Deadlock)
            }),
            Property::always("no corruption", |peer: &Self, state: &Snapshot| {
                !peer.scenario.data
                    || !check::corruption(&state.0, peer.scenario.reshape).is_some_and(check::ends)
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
