//! Exhaustive exploration: every interleaving of a scenario's tasks in an era, breadth first, so that
//! what is found first has a shortest trace. States are kept as 64-bit fingerprints; with ten million
//! states the chance that two share one is about one in 400,000.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use crate::cpu::{self, invariant};
use crate::cycles;
use crate::disk;
use crate::ending;
use crate::era::Era;
use crate::kernel::{F, raid5};
use crate::scenario::Scenario;
use crate::state::{MAX, N_TASKS, N_USERS, Queue, State, daemon, sync, worker};
use crate::walk;

/// One thing that is wrong, or odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An IO failed with EIO.
    Eio,
    /// The sync thread is registered, does nothing and is reaped, again and again, until a user acts.
    Churn,
    /// An invariant is broken, by its number.
    Broken(u8),
    /// A user's command or IO never ends, though something still runs (I2).
    Livelock,
    /// A user's command or IO never ends, and nothing runs (I1).
    Deadlock,
    /// A restart from the superblocks would return what was not written last (I8).
    Restart,
    /// A read returns what was not written last (I7).
    Corruption,
}

/// How a state was reached: from which one, by which task, by which of its choices.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    from: u32,
    task: u8,
    choice: u8,
}

/// Something that was found, and where.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The steps that lead to it: task and choice.
    pub trace: Vec<(usize, u8)>,
    /// For what repeats: how many of the last steps do.
    pub repeats: usize,
}

/// All that a scenario comes to in an era.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was found, worst first; each kind once, with a shortest trace.
    pub findings: Vec<Finding>,
    /// How many states there are.
    pub n_states: usize,
    /// All of them were seen.
    pub complete: bool,
    /// So many random walks were taken instead.
    pub n_walks: u32,
    /// How long it took.
    pub elapsed: Duration,
}

/// What the cycles need to know of a state.
pub(crate) mod mark {
    /// All users are done but those who may wait for ever, or nothing more is asked of this state.
    pub(crate) const DONE: u8 = 1 << 0;
    /// Those are done as well.
    pub(crate) const ALL_DONE: u8 = 1 << 3;
    /// The first raid_set's sync thread lives.
    pub(crate) const SYNC0: u8 = 1 << 1;
    /// The second one's.
    pub(crate) const SYNC1: u8 = 1 << 2;
}

/// A hash of fingerprints: they are one already.
#[derive(Default)]
struct Fingerprinted(u64);

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

type Seen = HashMap<u64, u32, BuildHasherDefault<Fingerprinted>>;

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

/// The graph of all states: who follows whom.
#[derive(Default)]
pub(crate) struct Graph {
    /// Where each state's successors begin in `edges`.
    pub(crate) offsets: Vec<u32>,
    pub(crate) edges: Vec<u32>,
    /// Per edge, task and choice: the task, with the choice in the upper half.
    steps: Vec<u8>,
    pub(crate) marks: Vec<u8>,
    reached: Vec<Reached>,
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
    fn along(&self, states: &[u32]) -> Vec<(usize, u8)> {
        states.windows(2).map(|pair| self.step(pair[0], pair[1])).collect()
    }

    fn trace(&self, mut state: u32) -> Vec<(usize, u8)> {
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

/// Where something was found: in a state, or in a step out of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) state: u32,
    pub(crate) step: Option<(u8, u8)>,
}

/// The first place of each kind, in the order in which they were found.
#[derive(Default)]
pub(crate) struct Places(pub(crate) Vec<(Kind, Place)>);

impl Places {
    pub(crate) fn note(&mut self, kind: Kind, place: Place) {
        if self.0.iter().all(|(known, _)| *known != kind) {
            self.0.push((kind, place));
        }
    }
}

/// How far to look, and how.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many states at most.
    pub max_states: usize,
    /// Leave out interleavings that come to the same, where that is sound ([`alone`]).
    pub reduce: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_states: 30_000_000, reduce: true }
    }
}

/// Looks at a scenario in an era: all its states, or random walks if the scenario has too many.
pub fn look(scenario: &Scenario, era: Era, limits: Limits) -> Outcome {
    match scenario.walks {
        0 => explore(scenario, era, limits),
        n_walks => walk::walks(scenario, era, 0..u64::from(n_walks)),
    }
}

/// Explores all states of a scenario in an era.
pub fn explore(scenario: &Scenario, era: Era, limits: Limits) -> Outcome {
    let begun = Instant::now();
    let mut search = Search::new(scenario, era, limits);
    let initial = scenario.initial();
    search.seen.insert(fingerprint(&initial), 0);
    search.graph.reached.push(Reached { from: 0, task: 0, choice: 0 });
    let mut level = vec![initial];
    while !level.is_empty() && search.graph.reached.len() <= limits.max_states {
        for state in &level {
            search.expand(state);
        }
        level.clear();
        std::mem::swap(&mut level, &mut search.next);
    }
    search.outcome(level.is_empty(), begun.elapsed())
}

struct Search<'a> {
    scenario: &'a Scenario,
    era: Era,
    limits: Limits,
    graph: Graph,
    seen: Seen,
    places: Places,
    next: Vec<State>,
}

impl<'a> Search<'a> {
    fn new(scenario: &'a Scenario, era: Era, limits: Limits) -> Self {
        Self {
            scenario,
            era,
            limits,
            graph: Graph::default(),
            seen: Seen::default(),
            places: Places::default(),
            next: Vec::new(),
        }
    }

    /// All steps out of a state, or those of tasks whose steps nobody else's can disturb.
    fn expand(&mut self, state: &State) {
        let me = self.graph.offsets.len() as u32;
        let here = Place { state: me, step: None };
        self.graph.offsets.push(self.graph.edges.len() as u32);
        self.graph.marks.push(marks_of(state, self.scenario));
        let corruption = self.scenario.data.then(|| corruption(state, self.scenario.reshape)).flatten();
        if let Some(kind) = corruption {
            self.places.note(kind, here);
        }
        if corruption.is_some_and(ends) {
            // What follows from corrupted data is not looked at.
            self.graph.marks[me as usize] |= mark::DONE | mark::ALL_DONE;
            return;
        }
        if self.limits.reduce && self.expand_alone(state, me) {
            return;
        }
        let mut can_go_on = false;
        for task in 0..N_TASKS {
            can_go_on |= self.expand_task(state, me, task);
        }
        if !can_go_on {
            for kind in at_rest(state, self.era, self.scenario) {
                self.places.note(kind, here);
            }
        }
    }

    /// Takes only the steps of a raid_set's tasks that nobody else can disturb; false if that cannot
    /// be done here, and then nothing is done.
    fn expand_alone(&mut self, state: &State, me: u32) -> bool {
        let Some(tasks) = alone(state) else { return false };
        let mut fresh = false;
        for task in tasks {
            let mut copy = *state;
            if let Some(stepped) = cpu::step(&mut copy, self.era, self.scenario, task, 0, None) {
                if stepped.global || stepped.choices > 1 || stepped.broken.0 != 0 {
                    return false;
                }
                fresh |= !self.seen.contains_key(&fingerprint(&copy));
            }
        }
        // If all of them lead to known states, the others might be put off for ever.
        if fresh {
            for task in tasks {
                self.expand_task(state, me, task);
            }
        }
        fresh
    }

    /// The steps of one task, one for each of its choices; false if it cannot go on.
    fn expand_task(&mut self, state: &State, me: u32, task: usize) -> bool {
        if state.tasks[task].alive == 0 || state.tasks[task].sleep != Queue::None {
            return false;
        }
        let mut choice = 0;
        loop {
            let mut copy = *state;
            let Some(stepped) = cpu::step(&mut copy, self.era, self.scenario, task, choice, None) else {
                return choice > 0;
            };
            for kind in kinds_of(stepped.broken.0) {
                self.places.note(kind, Place { state: me, step: Some((task as u8, choice)) });
            }
            if stepped.broken.0 & invariant::ENDS != 0 {
                self.graph.marks[me as usize] |= mark::DONE | mark::ALL_DONE;
            } else {
                let fresh = self.graph.reached.len() as u32;
                let to = *self.seen.entry(fingerprint(&copy)).or_insert(fresh);
                if to == fresh {
                    self.graph.reached.push(Reached { from: me, task: task as u8, choice });
                    self.next.push(copy);
                }
                self.graph.edges.push(to);
                self.graph.steps.push(task as u8 | choice << 4);
            }
            choice += 1;
            if choice >= stepped.choices {
                return true;
            }
        }
    }

    fn outcome(self, complete: bool, elapsed: Duration) -> Outcome {
        let graph = &self.graph;
        let mut findings = Vec::new();
        for (kind, place) in &self.places.0 {
            let mut trace = graph.trace(place.state);
            trace.extend(place.step.map(|(task, choice)| (task as usize, choice)));
            findings.push(Finding { kind: *kind, trace, repeats: 0 });
        }
        if complete {
            findings.extend(cycles::find(graph).into_iter().map(|(kind, state, cycle)| {
                let mut trace = graph.trace(state);
                trace.extend(graph.along(&cycle));
                Finding { kind, trace, repeats: cycle.len().saturating_sub(1) }
            }));
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.kind));
        Outcome { findings, n_states: graph.reached.len(), complete, n_walks: 0, elapsed }
    }
}

/// The tasks of a raid_set that is being destroyed, with the user who does it: a persistent set, as
/// long as their next steps touch nothing but that raid_set ([`cpu::Stepped::global`]). Nobody else can
/// come to it any more: no table leads to it, no other user works on it, and the other raid_set's tasks
/// know only their own. So these steps commute with all others, now and later, and to take them first
/// loses no deadlock, no broken invariant and no cycle; only traces may be longer than need be.
fn alone(state: &State) -> Option<[usize; 4]> {
    let destroys = |task: &usize| {
        let task = &state.tasks[*task];
        let chain = &task.frames[..task.depth as usize];
        let set = &state.sets[task.on as usize];
        task.alive != 0
            && set.life == 1
            && chain.iter().any(|frame| matches!(frame.f(), F::RaidDtr | F::RaidCtr))
    };
    let user = (0..N_USERS).find(destroys)?;
    let on = state.tasks[user].on;
    let shared = (0..N_USERS).any(|other| {
        other != user && state.tasks[other].alive != 0 && {
            state.tasks[other].on == on || state.dm.live == on
        }
    });
    let other_lives = state.sets[1 - on as usize].life == 1;
    (!shared && other_lives && state.dm.live != on).then_some([
        user,
        daemon(on as usize),
        worker(on as usize),
        sync(on as usize),
    ])
}

/// All users are done.
pub(crate) fn all_done(state: &State) -> bool {
    state.tasks[..N_USERS].iter().all(|task| task.alive == 0)
}

fn marks_of(state: &State, scenario: &Scenario) -> u8 {
    let mut marks = 0;
    let is_done = |user: usize| state.tasks[user].alive == 0;
    if all_done(state) {
        marks |= mark::ALL_DONE;
    }
    if (0..N_USERS).all(|user| is_done(user) || scenario.users[user].patient) {
        marks |= mark::DONE;
    }
    if state.tasks[sync(0)].alive != 0 {
        marks |= mark::SYNC0;
    }
    if state.tasks[sync(1)].alive != 0 {
        marks |= mark::SYNC1;
    }
    marks
}

/// I7 and I8, for the table that is live. That a restart loses what was written after the end of a
/// reshape, before the superblocks say so, is a kind of its own: it is so in every kernel (ANSWERS.md).
pub(crate) fn corruption(state: &State, reshape: disk::Reshape) -> Option<Kind> {
    let live = state.sets.get(state.dm.live as usize);
    if live.is_some_and(|set| !disk::reads_right(state, set, reshape)) {
        return Some(Kind::Corruption);
    }
    if disk::restarts_right(state, reshape) {
        return None;
    }
    let at_the_end =
        live.is_some_and(|set| set.progress == MAX && set.layout == 1 && state.sb.reshape_position != MAX);
    Some(if at_the_end { Kind::Broken(8) } else { Kind::Restart })
}

/// Whether what follows a finding of [`corruption`] cannot be told.
pub(crate) fn ends(kind: Kind) -> bool {
    matches!(kind, Kind::Corruption | Kind::Restart)
}

pub(crate) fn kinds_of(broken: u32) -> impl Iterator<Item = Kind> {
    (1..u32::BITS as u8).filter(move |bit| broken & (1 << bit) != 0).map(|bit| match 1 << bit {
        invariant::I7 => Kind::Corruption,
        invariant::I9 => Kind::Eio,
        _ => Kind::Broken(bit),
    })
}

/// Whether all users' waits end if each raid5d that waits for the superblocks ([`raid5::waits_for_itself`]) goes on.
fn raid5d_waits_for_itself(state: &State, era: Era, scenario: &Scenario) -> bool {
    let mut otherwise = *state;
    for on in (0..state.sets.len()).filter(|on| raid5::waits_for_itself(state, *on)) {
        let task = &mut otherwise.tasks[daemon(on)];
        task.sleep = Queue::None;
        task.top_mut().at = raid5::LOOP;
    }
    otherwise != *state && ending::Trial { state, era, scenario }.ends(&otherwise, N_TASKS)
}

/// What is wrong with a state in which nothing can happen any more: I1, I4, I10. A deadlock that ends if raid5d leaves its wait
/// for the superblocks is a kind of its own, I16: it is so wherever 5e2cf333b7bd is (ANSWERS.md).
pub(crate) fn at_rest(state: &State, era: Era, scenario: &Scenario) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if marks_of(state, scenario) & mark::DONE == 0 {
        kinds.push(if raid5d_waits_for_itself(state, era, scenario) {
            Kind::Broken(16)
        } else {
            Kind::Deadlock
        });
    }
    for (idx, set) in state.sets.iter().enumerate() {
        let running = set.recovery & crate::bits::recovery::RUNNING != 0;
        if set.life == 1 && running && set.work == 0 && state.tasks[sync(idx)].alive == 0 {
            kinds.push(Kind::Broken(4));
        }
    }
    let oversleeps = |task: usize| {
        let mut copy = *state;
        copy.tasks[task].sleep = Queue::None;
        state.tasks[task].sleep != Queue::None
            && cpu::step(&mut copy, era, scenario, task, 0, None)
                .is_some_and(|_| copy.tasks[task].sleep == Queue::None)
    };
    if (0..N_TASKS).any(oversleeps) {
        kinds.push(Kind::Broken(10));
    }
    kinds
}
