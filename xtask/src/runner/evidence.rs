//! What a guest says of how it hangs, piece by piece (pure): bounded, and each piece adds to those before.

use protocol::event::Event;
use protocol::evidence::{Evidence, STACKS_MAX, TaskStack};

/// Pieces that are taken of a guest.
const PIECES_MAX: u32 = 8;

/// What has been seen of an attempt.
#[derive(Debug)]
pub(crate) struct Witnessed {
    attempt: u32,
    stacks: Vec<TaskStack>,
    n_pieces: u32,
}

impl Witnessed {
    /// Nothing so far.
    pub(crate) fn new(attempt: u32) -> Self {
        Witnessed { attempt, stacks: vec![], n_pieces: 0 }
    }

    /// Adds tasks to those that were seen. Who was seen first keeps its stack: that is where it stood when the
    /// hang was called.
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

    /// Takes a piece; `None` if it says nothing new, or there were too many.
    pub(crate) fn take(&mut self, evidence: Evidence) -> Option<Event> {
        self.n_pieces += 1;
        if self.n_pieces > PIECES_MAX {
            return None;
        }
        match evidence {
            Evidence::Stacks(stacks) => self.stacks(stacks),
            Evidence::State(state) => {
                Some(Event::StateSeen { attempt: self.attempt, state: state.bounded() })
            }
        }
    }
}
