//! The graph of all states that an exploration has seen: who follows whom, and how each was reached first.
//!
//! States are kept as 64-bit fingerprints; with ten million states the chance that two share one is about one
//! in 400,000.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::machine::state::State;

/// How a state was reached: from which one, by which task, by which of its choices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    pub(crate) from: u32,
    pub(crate) task: u8,
    pub(crate) choice: u8,
}

/// Marks of a state that the search for cycles needs.
pub(crate) mod mark {
    /// All users are done but those who may wait for ever, or nothing more is asked of this state.
    pub(crate) const DONE: u8 = 1 << 0;
    /// The users who may wait for ever are done as well.
    pub(crate) const ALL_DONE: u8 = 1 << 3;
    /// The first raid_set's sync thread lives.
    pub(crate) const SYNC0: u8 = 1 << 1;
    /// The second raid_set's sync thread lives.
    pub(crate) const SYNC1: u8 = 1 << 2;
}

/// The graph of all states: who follows whom.
#[derive(Default)]
pub(crate) struct Graph {
    /// Where each state's successors begin in `edges`.
    pub(crate) offsets: Vec<u32>,
    pub(crate) edges: Vec<u32>,
    /// Per edge, task and choice: the task, with the choice in the upper half.
    pub(crate) steps: Vec<u8>,
    pub(crate) marks: Vec<u8>,
    pub(crate) reached: Vec<Reached>,
}

impl Graph {
    pub(crate) fn successors(&self, state: u32) -> &[u32] {
        let end = self.offsets.get(state as usize + 1).map_or(self.edges.len(), |end| *end as usize);
        &self.edges[self.offsets[state as usize] as usize..end]
    }

    fn step(&self, from: u32, to: u32) -> (usize, u8) {
        let begin = self.offsets[from as usize] as usize;
        let edge = self.successors(from).iter().position(|next| *next == to).expect("an edge of the graph");
        let step = self.steps[begin + edge];
        ((step & 0x0f) as usize, step >> 4)
    }

    /// The steps along states that follow one another.
    pub(crate) fn along(&self, states: &[u32]) -> Vec<(usize, u8)> {
        states.windows(2).map(|pair| self.step(pair[0], pair[1])).collect()
    }

    pub(crate) fn trace(&self, mut state: u32) -> Vec<(usize, u8)> {
        let mut trace = Vec::new();
        while state != 0 {
            let reached = self.reached[state as usize];
            trace.push((reached.task as usize, reached.choice));
            state = reached.from;
        }
        trace.reverse();
        trace
    }
}

/// A hash of fingerprints: they are one already.
#[derive(Default)]
pub(crate) struct Fingerprinted(u64);

impl Hasher for Fingerprinted {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only fingerprints are hashed")
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}

/// The number of each state that was seen, by its fingerprint.
pub(crate) type Seen = HashMap<u64, u32, BuildHasherDefault<Fingerprinted>>;

/// A 64-bit fingerprint: multiply and fold, eight bytes at a time, on two lanes.
pub(crate) fn fingerprint(state: &State) -> u64 {
    const K0: u64 = 0x9e37_79b9_7f4a_7c15;
    const K1: u64 = 0xd6e8_feb8_6659_fd93;
    let fold = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        (wide as u64) ^ (wide >> 64) as u64
    };
    let bytes = bytemuck::bytes_of(state);
    let (mut left, mut right) = (K0, K1);
    let mut chunks = bytes.chunks_exact(16);
    for chunk in &mut chunks {
        let word = |at: usize| u64::from_le_bytes(chunk[at..at + 8].try_into().expect("eight bytes"));
        left = fold(left ^ word(0), K1);
        right = fold(right ^ word(8), K0);
    }
    let mut last = [0; 16];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    left = fold(left ^ u64::from_le_bytes(last[..8].try_into().expect("eight bytes")), K1);
    right = fold(right ^ u64::from_le_bytes(last[8..].try_into().expect("eight bytes")), K0);
    fold(left ^ K0, right ^ K1)
}
