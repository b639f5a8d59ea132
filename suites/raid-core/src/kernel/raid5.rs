//! raid5.c: the daemon, the sync thread's requests, the reshape.

use crate::cpu::{Cpu, Flow, Look, Wq, invariant};
use crate::era::Switch;
use crate::kernel::dm_raid::register_directly;
use crate::kernel::raid5_io::put_bio;
use crate::machine::bits::{recovery::*, sb};
use crate::machine::data;
use crate::machine::disk::{self, EMPTY, Reshape};
use crate::machine::names::F;
use crate::machine::state::{self, Bio, MAX, Queue, State};

/// `raid5d` (raid5.c, v6.12). 151f66bb618d leaves at CHANGE_PENDING; 5e2cf333b7bd, before it, waited for the
/// superblocks when nothing else was to be written.
pub(super) fn raid5d(c: &mut Cpu<'_>, at: u8) -> Flow {
    const HANDLE: u8 = 3;
    match at {
        0 => Flow::Call(F::MdCheckRecovery, 0),
        LOOP if !c.has(Switch::C151f) => Flow::Goto(HANDLE),
        LOOP => {
            if c.is_rdwr() {
                Flow::Next
            } else {
                Flow::Goto(HANDLE)
            }
        }
        2 if c.set().sb_flags & sb::CHANGE_PENDING != 0 => {
            c.look_at(Look::Sb(sb::CHANGE_PENDING), || "sb_flags: CHANGE_PENDING is set: leaves".to_owned());
            Flow::Ret(0)
        }
        2 => {
            c.act(|| "sb_flags: CHANGE_PENDING is clear".to_owned());
            Flow::Next
        }
        HANDLE => Flow::Call(F::HandleActiveStripes, 0),
        4 if c.ret() == 0 => Flow::Ret(0),
        4 => {
            if c.test_sb(!sb::CHANGE_PENDING) {
                Flow::Call(F::MdCheckRecovery, 0)
            } else if c.has(Switch::C5e2c) {
                Flow::Goto(WAIT_SB)
            } else {
                Flow::Next
            }
        }
        WAIT_SB => {
            let is_so = c.set().sb_flags & sb::CHANGE_PENDING == 0;
            c.wait_event(Wq::Sb, is_so, "!CHANGE_PENDING").then(LOOP)
        }
        _ => Flow::Goto(LOOP),
    }
}

/// The step of [`raid5d`] with which it begins anew.
pub(crate) const LOOP: u8 = 1;
/// The one in which it waits for the superblocks.
const WAIT_SB: u8 = 6;

/// True if a raid_set's raid5d sleeps until the superblocks are written.
pub(crate) fn waits_for_itself(state: &State, on: usize) -> bool {
    let task = &state.tasks[state::daemon(on)];
    let top = (task.alive != 0).then(|| task.top());
    task.sleep != Queue::None && top.is_some_and(|top| top.f() == F::Raid5d && top.at == WAIT_SB)
}

/// The things that raid5d can do next.
#[derive(Clone, Copy)]
enum Work {
    Sync,
    ExpandRead,
    ExpandWrite,
    /// A block of a bio: which bio, which of its blocks.
    Bio(usize, u8),
}

/// `handle_active_stripes` (raid5.c), one stripe a call: which one comes first is open. Returns 0 if there
/// was none. Stripes are handled in a step; what completes with them, in further ones. First `handle_stripe`
/// looks at CHANGE_PENDING (since a913d1f6a7f6, here with 151f66bb618d, not on a read-only array), and turns
/// the stripe back, which counts all the same.
pub(super) fn handle_active_stripes(c: &mut Cpu<'_>, at: u8) -> Flow {
    const HANDLE: u8 = 1;
    const MD_DONE_SYNC: u8 = 6;
    const EXPANDED: u8 = 8;
    match at {
        0 | HANDLE => {
            let (works, n) = works(c);
            // At HANDLE, too: a bio's submitter may have got hold of the stripe meanwhile, and wakes raid5d
            // when it releases it.
            if n == 0 {
                c.act(|| "no stripe to handle".to_owned());
                return Flow::Ret(0);
            }
            if at == HANDLE {
                let work = works[c.choose(n) as usize];
                return handle_stripe(c, work);
            }
            let is_newer = c.has(Switch::C151f);
            let set = c.set();
            if set.sb_flags & sb::CHANGE_PENDING == 0 || (is_newer && set.ro != 0) {
                c.act(|| "handle_stripe: the superblocks need not be waited for".to_owned());
                return Flow::Next;
            }
            c.look_at(Look::Sb(sb::CHANGE_PENDING), || {
                "handle_stripe: CHANGE_PENDING is set: turns the stripe back".to_owned()
            });
            Flow::Ret(1)
        }
        // The stripe becomes inactive (release_inactive_stripe_list).
        2 => {
            c.set().active_stripes -= 1;
            c.wake_up(Wq::Stripe)
        }
        3 if c.set().active_stripes != 0 => Flow::Next,
        3 => c.wake_up(Wq::Quiescent),
        4 => match c.arg() {
            0 => Flow::Goto(MD_DONE_SYNC),
            1 => Flow::Goto(EXPANDED),
            _ => Flow::Ret(1),
        },
        MD_DONE_SYNC => {
            let set = c.set();
            set.recovery_active = set.recovery_active.wrapping_sub(1);
            c.act(|| "md_done_sync: counts recovery_active down".to_owned());
            Flow::Next
        }
        7 => match c.wake_up(Wq::Recovery) {
            Flow::Next => Flow::Ret(1),
            other => other,
        },
        EXPANDED => {
            c.set().reshape_stripes -= 1;
            c.act(|| "counts reshape_stripes down".to_owned());
            Flow::Next
        }
        9 => c.wake_up(Wq::Reshape).then(MD_DONE_SYNC),
        _ => unreachable!("handle_active_stripes"),
    }
}

fn works(c: &mut Cpu<'_>) -> ([Work; 6], u8) {
    let on = c.on();
    let mut works = [Work::Sync; 6];
    let reshape = c.scenario.reshape;
    let mut n = 0;
    let mut add = |work| {
        works[n as usize] = work;
        n += 1;
    };
    let bios = c.s.bios;
    let mine = |bio: &Bio| bio.set as usize == on;
    let set = &c.s.sets[on];
    if set.sync_stripes > 0 {
        add(Work::Sync);
    }
    // A stripe that is both read for the reshape and written by a bio is written first (handle_stripe),
    // and one that a bio's submitter holds is not handled before it is released.
    let (old, new) = (reshape.old_disks(), reshape.new_disks());
    let row = set.expand.wrapping_sub(1);
    let is_source = |block: u8| (row * new / old..=(row * new + new - 1) / old).contains(&(block / old));
    let is_busy = |bio: &Bio| {
        let queued = bio.queued | bio.freed | bio.held;
        mine(bio)
            && (0..bio.len).any(|piece| {
                queued & (1 << piece) != 0 && bio.is_previous(piece) && is_source(bio.block + piece)
            })
    };
    if set.expand_phase == 1 && !bios.iter().any(is_busy) {
        add(Work::ExpandRead);
    }
    if set.expand_phase == 2 {
        add(Work::ExpandWrite);
    }
    for (idx, bio) in bios.iter().enumerate() {
        let queued = (bio.queued | bio.freed) & !bio.held;
        for piece in (0..bio.len).filter(|piece| mine(bio) && queued & (1 << piece) != 0) {
            add(Work::Bio(idx, piece));
        }
    }
    (works, n)
}

/// `handle_stripe` (raid5.c): the members' IO of one stripe.
fn handle_stripe(c: &mut Cpu<'_>, work: Work) -> Flow {
    let on = c.on();
    let reshape = c.scenario.reshape;
    let new = reshape.new_disks();
    match work {
        Work::Sync => {
            sync_io(c);
            c.set().sync_stripes -= 1;
            c.set_arg(0);
            c.act(|| "handle_stripe: reads and compares a stripe".to_owned());
            Flow::Next
        }
        Work::ExpandRead => {
            sync_io(c);
            let first = (c.set().expand - 1) * new;
            for idx in 0..new {
                let block = first + idx;
                let content = if block < disk::BLOCKS { c.s.cells[reshape.cell(block, true)] } else { EMPTY };
                c.set().pages[idx as usize] = content;
            }
            c.set().expand_phase = 2;
            c.act(|| format!("handle_stripe: reads blocks {first} to {}", first + new - 1));
            Flow::Ret(1)
        }
        Work::ExpandWrite => {
            sync_io(c);
            let row = c.set().expand - 1;
            let pages = c.set().pages;
            for idx in 0..new {
                let block = row * new + idx;
                if block < disk::BLOCKS {
                    c.s.cells[reshape.cell(block, false)] = pages[idx as usize];
                }
            }
            let set = c.set();
            set.expand = 0;
            set.expand_phase = 0;
            set.pages = [0; 3];
            c.set_arg(1);
            c.act(|| format!("handle_stripe: writes the new stripe {row}"));
            Flow::Next
        }
        Work::Bio(idx, piece) => {
            let bio = c.s.bios[idx];
            let (block, previous) = (bio.block + piece, bio.is_previous(piece));
            let cell = reshape.cell(block, previous);
            if bio.write == 1 {
                c.s.cells[cell] = block | disk::NEW_VERSION;
                other_writer(c, on);
            } else if c.scenario.data && !data::is_right(c.s, block, c.s.cells[cell]) {
                c.breaks(invariant::I7);
            }
            c.s.bios[idx].queued &= !(1 << piece);
            if bio.freed & (1 << piece) != 0 {
                // The stripe's bio is md's clone, and that is gone.
                c.breaks(invariant::I13);
            } else {
                put_bio(c, idx);
            }
            c.set_arg(2);
            c.act(|| {
                let layout = if previous { "old" } else { "new" };
                let verb = if bio.write == 1 { "writes" } else { "reads" };
                format!("handle_stripe: {verb} block {block} in the {layout} layout; bio_endio")
            });
            Flow::Next
        }
    }
}

/// Sync IO to the members: is it allowed now (I5), and is this the raid_set to do it (I6)?
pub(super) fn sync_io(c: &mut Cpu<'_>) {
    let on = c.on();
    if c.set().quiet != 0 {
        c.breaks(invariant::I5);
    }
    other_writer(c, on);
}

fn other_writer(c: &mut Cpu<'_>, on: usize) {
    c.touches_both();
    if c.scenario.is_dm && c.s.dm.live != on as u8 && c.s.dm.live != MAX {
        c.breaks(invariant::I6);
    }
}

/// `raid5_quiesce` (raid5.c, v6.12): argument 1 stops, 0 lets go on.
pub(super) fn raid5_quiesce(c: &mut Cpu<'_>, at: u8) -> Flow {
    let stop = c.arg() == 1;
    match at {
        0 if stop => {
            c.set().quiesce = 2;
            c.act(|| "quiesce = 2".to_owned());
            Flow::Next
        }
        0 => {
            c.set().quiesce = 0;
            c.act(|| "quiesce = 0".to_owned());
            Flow::Goto(3)
        }
        1 => {
            let idle = c.set().active_stripes == 0;
            c.wait_event(Wq::Quiescent, idle, "active_stripes == 0")
        }
        2 => {
            c.set().quiesce = 1;
            c.act(|| "quiesce = 1".to_owned());
            Flow::Goto(4)
        }
        3 => c.wake_up(Wq::Quiescent),
        4 => c.wake_up(Wq::Reshape),
        _ => Flow::Ret(0),
    }
}

/// `raid5_run` (raid5.c): an interrupted reshape is to go on. Before P4 its thread was registered here.
pub(super) fn raid5_run(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if c.set().reshape_position == MAX => Flow::Ret(0),
        0 => {
            let set = c.set();
            set.progress = set.reshape_position;
            set.safe = set.reshape_position;
            c.clear_bit(SYNC)
        }
        1 => c.clear_bit(CHECK),
        2 => c.set_bit(RESHAPE),
        3 if c.has(Switch::P4) => c.set_bit(NEEDED),
        3 => c.set_bit(RUNNING),
        4 if c.has(Switch::P4) => Flow::Ret(0),
        4 => register_directly(c),
        _ => Flow::Ret(0),
    }
}

/// `raid5_start_reshape` (raid5.c). Before P4 it registered the
/// thread and woke it.
pub(super) fn raid5_start_reshape(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            if c.test(RUNNING) {
                Flow::Ret(1)
            } else {
                Flow::Next
            }
        }
        1 => {
            let begin = c.scenario.reshape.begin();
            let set = c.set();
            set.progress = begin;
            set.safe = begin;
            c.act(|| format!("reshape_progress = {begin}"));
            Flow::Next
        }
        2 => Flow::Call(F::Raid5Quiesce, 1),
        3 => Flow::Call(F::Raid5Quiesce, 0),
        4 => {
            c.set().reshape_position = c.scenario.reshape.begin();
            c.set_sb(sb::CHANGE_DEVS)
        }
        5 => c.clear_bit(SYNC),
        6 => c.clear_bit(CHECK),
        7 => c.clear_bit(DONE),
        8 => c.set_bit(RESHAPE),
        9 if c.has(Switch::P4) => c.set_bit(NEEDED),
        9 => c.set_bit(RUNNING),
        10 if c.has(Switch::P4) => Flow::Ret(0),
        10 => register_directly(c),
        11 => {
            let on = c.on();
            c.md_wakeup_thread(state::sync(on), true)
        }
        _ => Flow::Ret(0),
    }
}

/// `raid5_sync_request` (raid5.c, v6.12). Argument: the position, in chunks. Returns the chunks asked
/// for, with 0x80 if they were skipped.
pub(super) fn raid5_sync_request(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            let is_so = c.set().quiesce != 2;
            c.wait_event(Wq::Reshape, is_so, "quiesce != 2")
        }
        1 => {
            let position = c.arg();
            if c.test(RESHAPE) { Flow::Call(F::ReshapeRequest, position) } else { Flow::Goto(3) }
        }
        2 => Flow::Ret(c.ret()),
        // A member is missing, and nothing can be compared: skip the rest.
        3 if c.set().failed_member != 0 => {
            let rest = c.scenario.chunks() - c.arg();
            if c.test(SYNC) { Flow::Ret(0x80 | rest) } else { Flow::Goto(4) }
        }
        3 => Flow::Next,
        // raid5_get_active_stripe
        4 => {
            let set = c.set();
            let is_so = set.quiesce == 0;
            if is_so {
                set.active_stripes += 1;
            }
            c.wait_event(Wq::Quiescent, is_so, "!quiesce")
        }
        5 => {
            c.set().sync_stripes += 1;
            c.act(|| "releases the stripe to raid5d".to_owned());
            Flow::Next
        }
        6 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        _ => Flow::Ret(1),
    }
}

/// `reshape_request` (raid5.c, v6.12). Argument: the position, in chunks. The superblocks are written
/// first if the stripe would overwrite what a restart from the recorded position still has to read.
pub(super) fn reshape_request(c: &mut Cpu<'_>, at: u8) -> Flow {
    const COPY: u8 = 11;
    let reshape = c.scenario.reshape;
    match at {
        0 => {
            let set = *c.set();
            let done = if set.progress == MAX { 0 } else { reshape.chunks_done(set.progress) };
            if c.arg() == 0 && done > 0 {
                return Flow::Ret(0x80 | done);
            }
            if must_record(reshape, set.progress, set.safe) { Flow::Next } else { Flow::Goto(COPY) }
        }
        1 => {
            let set = c.set();
            let is_so = set.reshape_stripes == 0 || set.recovery & INTR != 0;
            c.wait_event(Wq::Reshape, is_so, "reshape_stripes == 0, or INTR")
        }
        2 if c.set().reshape_stripes != 0 => Flow::Ret(0),
        2 => {
            let set = c.set();
            set.reshape_position = set.progress;
            c.act(|| "reshape_position = reshape_progress".to_owned());
            Flow::Next
        }
        3 => c.set_sb(sb::CHANGE_DEVS),
        4 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        5 => {
            let set = c.set();
            let is_so = set.sb_flags == 0 || set.recovery & INTR != 0;
            c.wait_event(Wq::Sb, is_so, "sb_flags == 0, or INTR")
        }
        6 => {
            if c.test(INTR) {
                Flow::Ret(0)
            } else {
                Flow::Next
            }
        }
        7 => {
            let set = c.set();
            set.safe = set.reshape_position;
            c.act(|| "reshape_safe = reshape_position".to_owned());
            Flow::Next
        }
        8 => c.wake_up(Wq::Reshape),
        9 | 10 => Flow::Goto(COPY),
        // raid5_get_active_stripe, which does not look at INTR: the pool has room for one expansion.
        COPY => {
            let set = c.set();
            let row = reshape.next_row(set.progress);
            let is_so = set.expand == 0;
            if is_so {
                set.expand = row + 1;
                set.active_stripes += 1;
                set.reshape_stripes += 1;
            }
            c.wait_event(Wq::Stripe, is_so, "a free stripe")
        }
        12 => {
            let set = c.set();
            let step = reshape.new_disks();
            set.progress = if reshape.is_backwards() { set.progress - step } else { set.progress + step };
            let progress = set.progress;
            c.act(|| format!("reshape_progress = {progress}"));
            Flow::Next
        }
        13 => {
            c.set().expand_phase = 1;
            c.act(|| "marks the source stripes, releases all to raid5d".to_owned());
            Flow::Next
        }
        14 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        _ => Flow::Ret(1),
    }
}

/// The condition of `reshape_request` for writing the superblocks; `min_offset_diff` is the
/// [`disk::OFFSET`], negative when growing.
fn must_record(reshape: Reshape, progress: u8, safe: u8) -> bool {
    let (old, new) = (reshape.old_disks(), reshape.new_disks());
    if reshape.is_backwards() {
        let writepos = progress / new - 1 + disk::OFFSET;
        let (readpos, safepos) = (progress / old + 1, safe / old + 1);
        safepos > writepos && readpos < writepos
    } else {
        let writepos = progress / new + 1;
        let readpos = (progress / old).saturating_sub(1) + disk::OFFSET;
        let safepos = (safe / old).saturating_sub(1) + disk::OFFSET;
        safepos < writepos && readpos > writepos
    }
}

/// `end_reshape` (raid5.c, v6.12).
pub(super) fn end_reshape(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            if c.test(INTR) {
                Flow::Ret(0)
            } else {
                Flow::Next
            }
        }
        1 => {
            let set = c.set();
            set.progress = MAX;
            set.safe = MAX;
            set.reshape_position = MAX;
            set.layout = 1;
            c.act(|| "the reshape is complete: reshape_progress = MaxSector".to_owned());
            Flow::Next
        }
        2 => c.wake_up(Wq::Reshape),
        _ => Flow::Ret(0),
    }
}
