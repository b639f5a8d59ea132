//! Evidence of how a guest hangs, which comes piece by piece: bounded, and each piece adds to those before.
//! Pure.

use protocol::event::Event;
use protocol::evidence::{Evidence, STACKS_MAX, TaskStack};

/// Pieces with stacks that are taken of a guest.
const PIECES_MAX: u32 = 8;
/// States of its arrays and devices that are taken of a guest.
const STATES_MAX: u32 = 2;

/// The stacks and states that have been seen in an attempt.
#[derive(Debug)]
pub(crate) struct GuestEvidence {
    attempt: u32,
    stacks: Vec<TaskStack>,
    n_pieces: u32,
    n_states: u32,
}

impl GuestEvidence {
    /// Nothing so far.
    pub(crate) fn new(attempt: u32) -> Self {
        GuestEvidence { attempt, stacks: vec![], n_pieces: 0, n_states: 0 }
    }

    /// Adds tasks to those that were seen. A task that was seen before keeps its first stack: that is where
    /// it stood when the hang was called.
    pub(crate) fn stacks(&mut self, stacks: Vec<TaskStack>) -> Option<Event> {
        let n_before = self.stacks.len();
        for stack in stacks {
            if self.stacks.len() < STACKS_MAX && self.stacks.iter().all(|seen| seen.pid != stack.pid) {
                self.stacks.push(stack.bounded());
            }
        }
        let is_news = self.stacks.len() > n_before;
        is_news.then(|| Event::StacksSeen { attempt: self.attempt, stacks: self.stacks.clone() })
    }

    /// The stacks that were seen so far.
    pub(crate) fn all_stacks(&self) -> &[TaskStack] {
        &self.stacks
    }

    /// Takes a piece; `None` if it says nothing new, or there were too many.
    pub(crate) fn take(&mut self, evidence: Evidence) -> Option<Event> {
        match evidence {
            // Many blocked tasks come in many pieces; how md stands must not be lost for that.
            Evidence::Stacks(stacks) => {
                self.n_pieces += 1;
                if self.n_pieces > PIECES_MAX { None } else { self.stacks(stacks) }
            }
            Evidence::State(state) => {
                self.n_states += 1;
                (self.n_states <= STATES_MAX)
                    .then(|| Event::StateSeen { attempt: self.attempt, state: state.bounded() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_md_stands_comes_through_however_many_tasks_are_blocked() {
        let stack = |pid| TaskStack {
            pid,
            comm: "dd".to_owned(),
            of_test: true,
            state: 'D',
            still_ms: 0,
            frames: vec!["md_write_start+0x1/0x2".to_owned()],
        };
        let mut evidence = GuestEvidence::new(1);
        let n_told = (0..20).filter_map(|pid| evidence.take(Evidence::Stacks(vec![stack(pid)]))).count();
        assert_eq!(n_told, 8);
        let state = || Evidence::State(Box::default());
        assert!(matches!(evidence.take(state()), Some(Event::StateSeen { .. })));
        assert_eq!((0..20).filter_map(|_| evidence.take(state())).count(), 1);
    }
}
