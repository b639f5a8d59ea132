//! Random deep walks: one long interleaving after the other, each made by a seed alone, where there are too
//! many states to see all. The steps are those of [`crate::explore`]; but a walk has no graph, so it calls a
//! hang that nobody can go on, or that a user is not done although everybody got their turn for long.
//!
//! When to end is the caller's business; a walk itself reads no clock.

use std::ops::Range;
use std::time::Instant;

use crate::cpu::invariant;
use crate::era::Era;
use crate::explore::check;
use crate::explore::finding::{Finding, Kind, Outcome};
use crate::kernel::step::{can_step, step};
use crate::machine::bits::{recovery, rt};
use crate::machine::disk::Reshape;
use crate::machine::state::{MAX, N_TASKS, State};
use crate::scenario::Scenario;

/// Steps of a walk whose next task is chosen at random.
const RANDOM_STEPS: usize = 4_000;
/// Steps of a walk in which everybody gets a turn: who is not done after these never will be.
const FAIR_STEPS: usize = 20_000;

/// A walk's dice: xorshift64*, so that a seed means the same everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of a seed.
    pub fn new(seed: u64) -> Self {
        // A state of zero would stay zero.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        (high as usize * n) >> 32
    }
}

/// The result of a walk.
#[derive(Clone, Debug)]
pub struct Walk {
    /// How many steps it took.
    pub n_steps: usize,
    /// The findings, each kind where it was first.
    pub findings: Vec<Finding>,
}

/// Walks with each of the seeds: the shortest walk to each kind that they find. The states are the steps.
pub fn walks(scenario: &Scenario, era: Era, seeds: Range<u64>) -> Outcome {
    let begun = Instant::now();
    let mut findings: Vec<Finding> = Vec::new();
    let mut n_states = 0;
    let n_walks = (seeds.end - seeds.start) as u32;
    for seed in seeds {
        let walk = walk(scenario, era, seed);
        n_states += walk.n_steps;
        for found in walk.findings {
            match findings.iter_mut().find(|known| known.kind == found.kind) {
                Some(known) if known.trace.len() > found.trace.len() => *known = found,
                Some(_) => {}
                None => findings.push(found),
            }
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.kind));
    Outcome { findings, n_states, complete: false, n_walks, elapsed: begun.elapsed() }
}

/// A scenario at a larger size: more to sync, and a reshape from its beginning.
pub fn larger(scenario: &Scenario) -> Scenario {
    let mut larger = *scenario;
    let reshapes = scenario.start.reshape_position != MAX
        || scenario.tables.iter().any(|table| table.rt & rt::RESHAPE_RS != 0);
    if !reshapes {
        larger.chunks = scenario.chunks * 8;
    } else if scenario.start.recovery & recovery::FROZEN == 0
        && scenario.start.reshape_position != MAX
        && scenario.reshape == Reshape::Grow
    {
        larger.start.reshape_position = 0;
    }
    larger
}

/// One walk. A task that has begun often goes on for a while, and sometimes a task is held back for long,
/// because most bugs need a task that is overtaken.
pub fn walk(scenario: &Scenario, era: Era, seed: u64) -> Walk {
    let mut dice = Dice::new(seed);
    let mut walker =
        Walker { scenario, era, state: scenario.initial(), trace: Vec::new(), findings: Vec::new() };
    let (mut current, mut held_back) = (dice.below(N_TASKS), N_TASKS);
    // How long a task goes on, and how long one is held back, differs from walk to walk.
    let (burst, hold) = ([1, 3, 10, 40][dice.below(4)], [50, 200, 600][dice.below(3)]);
    for at in 0..RANDOM_STEPS {
        if walker.is_over() {
            return walker.end();
        }
        if dice.below(burst) == 0 {
            current = dice.below(N_TASKS);
        }
        if dice.below(hold) == 0 {
            held_back = dice.below(2 * N_TASKS);
        }
        let first = (0..N_TASKS)
            .map(|idx| (current + idx) % N_TASKS)
            .filter(|task| *task != held_back)
            .find(|task| walker.can_step(*task));
        let Some(task) = first.or_else(|| (0..N_TASKS).find(|task| walker.can_step(*task))) else {
            walker.at_rest();
            return walker.end();
        };
        if task != current && at > 0 {
            current = task;
        }
        if !walker.step(task, &mut dice) {
            return walker.end();
        }
    }
    walker.fairly(&mut dice)
}

struct Walker<'a> {
    scenario: &'a Scenario,
    era: Era,
    state: State,
    trace: Vec<(usize, u8)>,
    findings: Vec<Finding>,
}

impl Walker<'_> {
    fn is_over(&self) -> bool {
        check::all_done(&self.state)
    }

    fn can_step(&self, task: usize) -> bool {
        can_step(&self.state, self.era, self.scenario, task)
    }

    /// Takes a step; false if nothing after it means anything.
    fn step(&mut self, task: usize, dice: &mut Dice) -> bool {
        let mut copy = self.state;
        let choices = step(&mut copy, self.era, self.scenario, task, 0, None).map_or(1, |step| step.choices);
        let choice = dice.below(choices as usize) as u8;
        let Some(stepped) = step(&mut self.state, self.era, self.scenario, task, choice, None) else {
            unreachable!("a task that can go on");
        };
        self.trace.push((task, choice));
        for kind in check::kinds_of(stepped.broken.0) {
            self.note(kind);
        }
        if self.scenario.data {
            let corruption = check::corruption(&self.state, self.scenario.reshape);
            if let Some(kind) = corruption {
                self.note(kind);
            }
            if corruption.is_some_and(check::ends) {
                return false;
            }
        }
        stepped.broken.0 & invariant::ENDS == 0
    }

    fn note(&mut self, kind: Kind) {
        if self.findings.iter().all(|finding| finding.kind != kind) {
            self.findings.push(Finding { kind, trace: self.trace.clone(), repeats: 0 });
        }
    }

    fn at_rest(&mut self) {
        for kind in check::at_rest(&self.state, self.era, self.scenario) {
            self.note(kind);
        }
    }

    /// Everybody in turn, until all users are done, or never.
    fn fairly(mut self, dice: &mut Dice) -> Walk {
        for _ in 0..FAIR_STEPS / N_TASKS {
            if self.is_over() {
                return self.end();
            }
            let mut moved = false;
            for task in 0..N_TASKS {
                if self.can_step(task) {
                    moved = true;
                    if !self.step(task, dice) {
                        return self.end();
                    }
                }
            }
            if !moved {
                self.at_rest();
                return self.end();
            }
        }
        if !self.is_over() {
            self.note(Kind::Livelock);
        }
        self.end()
    }

    fn end(mut self) -> Walk {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.kind));
        Walk { n_steps: self.trace.len(), findings: self.findings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{era, scenario};

    #[test]
    fn a_seed_is_a_walk() {
        let scenario = scenario::named("S1").unwrap();
        let (once, again) = (walk(scenario, era::V6_7, 7), walk(scenario, era::V6_7, 7));
        assert_eq!(once.n_steps, again.n_steps);
        assert_ne!(once.n_steps, walk(scenario, era::V6_7, 8).n_steps);
    }

    /// Its own hang verdict: found on v6.7, at a larger size than is explored, and not with the fix.
    #[test]
    fn walks_find_the_hang_of_v6_7() {
        let scenario = larger(scenario::named("S1").unwrap());
        let hangs = |era| {
            (0..400).any(|seed| {
                let walk = walk(&scenario, era, seed);
                walk.findings.iter().any(|finding| matches!(finding.kind, Kind::Deadlock | Kind::Livelock))
            })
        };
        assert!(hangs(era::V6_7));
        assert!(!hangs(era::V6_9));
    }
}
