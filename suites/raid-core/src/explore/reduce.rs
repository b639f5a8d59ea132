//! Which interleavings can be left out, because they come to the same.

use crate::machine::names::F;
use crate::machine::state::{N_USERS, State, daemon, sync, worker};

/// The tasks of a raid_set that is being destroyed, with the user who does it: a persistent set, as long as
/// their next steps touch nothing but that raid_set
/// ([`Stepped::global`](crate::kernel::step::Stepped::global)). Nobody else can come to it any more: no table
/// leads to it, no other user works on it, and the other raid_set's tasks know only their own. So these steps
/// commute with all others, now and later, and to take them first loses no deadlock, no broken invariant and
/// no cycle; only traces may be longer than need be.
pub(crate) fn alone(state: &State) -> Option<[usize; 4]> {
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
