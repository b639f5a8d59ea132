//! The checks of one state, and of one step.

use crate::cpu::invariant;
use crate::era::Era;
use crate::explore::finding::{Invariant, Kind};
use crate::explore::graph::mark;
use crate::explore::trial::Trial;
use crate::kernel::raid5;
use crate::kernel::step::step;
use crate::machine::bits::recovery;
use crate::machine::data;
use crate::machine::disk::Reshape;
use crate::machine::state::{MAX, N_TASKS, N_USERS, Queue, State, daemon, sync};
use crate::scenario::Scenario;

/// All users are done.
pub(crate) fn all_done(state: &State) -> bool {
    state.tasks[..N_USERS].iter().all(|task| task.alive == 0)
}

/// The [`mark`]s of a state.
pub(crate) fn marks_of(state: &State, scenario: &Scenario) -> u8 {
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

/// I7 and I8, for the table that is live. That a restart loses what was written after the end of a reshape,
/// before the superblocks say so, is a kind of its own: it is so in every kernel (docs/md/answers.md).
pub(crate) fn corruption(state: &State, reshape: Reshape) -> Option<Kind> {
    let live = state.sets.get(state.dm.live as usize);
    if live.is_some_and(|set| !data::reads_right(state, set, reshape)) {
        return Some(Kind::Corruption);
    }
    if data::restarts_right(state, reshape) {
        return None;
    }
    let at_the_end =
        live.is_some_and(|set| set.progress == MAX && set.layout == 1 && state.sb.reshape_position != MAX);
    Some(if at_the_end { Kind::Broken(Invariant::I8) } else { Kind::Restart })
}

/// True if nothing that follows a finding of [`corruption`] means anything.
pub(crate) fn ends(kind: Kind) -> bool {
    matches!(kind, Kind::Corruption | Kind::Restart)
}

pub(crate) fn kinds_of(broken: u32) -> impl Iterator<Item = Kind> {
    (1..u32::BITS as u8).filter(move |bit| broken & (1 << bit) != 0).map(|bit| match 1 << bit {
        invariant::I7 => Kind::Corruption,
        invariant::I9 => Kind::Eio,
        _ => Kind::Broken(Invariant::numbered(bit).expect("each bit of `invariant` is one")),
    })
}

/// True if all users' waits end when each raid5d that waits for the superblocks ([`raid5::waits_for_itself`])
/// goes on.
fn raid5d_waits_for_itself(state: &State, era: Era, scenario: &Scenario) -> bool {
    let mut otherwise = *state;
    for on in (0..state.sets.len()).filter(|on| raid5::waits_for_itself(state, *on)) {
        let task = &mut otherwise.tasks[daemon(on)];
        task.sleep = Queue::None;
        task.top_mut().at = raid5::LOOP;
    }
    otherwise != *state && Trial { state, era, scenario }.ends(&otherwise, N_TASKS)
}

/// The findings of a state in which nothing can happen any more: I1, I4, I10. A deadlock that ends when
/// raid5d leaves its wait for the superblocks is a kind of its own, I16: it is there wherever 5e2cf333b7bd is
/// (docs/md/answers.md).
pub(crate) fn at_rest(state: &State, era: Era, scenario: &Scenario) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if marks_of(state, scenario) & mark::DONE == 0 {
        kinds.push(if raid5d_waits_for_itself(state, era, scenario) {
            Kind::Broken(Invariant::I16)
        } else {
            Kind::Deadlock
        });
    }
    for (idx, set) in state.sets.iter().enumerate() {
        let running = set.recovery & recovery::RUNNING != 0;
        if set.life == 1 && running && set.work == 0 && state.tasks[sync(idx)].alive == 0 {
            kinds.push(Kind::Broken(Invariant::I4));
        }
    }
    let oversleeps = |task: usize| {
        let mut copy = *state;
        copy.tasks[task].sleep = Queue::None;
        state.tasks[task].sleep != Queue::None
            && step(&mut copy, era, scenario, task, 0, None)
                .is_some_and(|_| copy.tasks[task].sleep == Queue::None)
    };
    if (0..N_TASKS).any(oversleeps) {
        kinds.push(Kind::Broken(Invariant::I10));
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::finding::Invariant;

    #[test]
    fn what_a_step_can_break_has_a_kind() {
        let every = invariant::I3
            | invariant::I5
            | invariant::I6
            | invariant::I7
            | invariant::I9
            | invariant::I11
            | invariant::I12
            | invariant::I13
            | invariant::I14
            | invariant::I15
            | invariant::I17;
        let kinds: Vec<Kind> = kinds_of(every | invariant::OVERTAKEN).collect();
        assert_eq!(kinds.len(), 11);
        assert_eq!((kinds[0], kinds[10]), (Kind::Broken(Invariant::I3), Kind::Broken(Invariant::I17)));
    }
}
