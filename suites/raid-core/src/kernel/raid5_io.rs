//! raid5.c: a bio's way onto its stripes, past a reshape.

use crate::cpu::{Cpu, Flow, Wq};
use crate::era::Switch;
use crate::kernel::dm_raid::end_io;
use crate::kernel::md_io::{put_active_io, reshape_disabled, reshape_interrupted};
use crate::machine::names::F;
use crate::machine::state::{self, MAX, Queue};

/// Return values of `make_stripe_request`.
const SUCCESS: u8 = 0;
const SCHEDULE_AND_RETRY: u8 = 1;
const WAIT_RESHAPE: u8 = 2;
const RETRY: u8 = 3;
const FAIL: u8 = 4;

/// `raid5_make_request` (raid5.c, v6.12). Argument: which bio. Returns 0 if the bio could not be made
/// (P11 as merged), else 1.
pub(super) fn raid5_make_request(c: &mut Cpu<'_>, at: u8) -> Flow {
    const LEAVE: u8 = 6;
    const GIVE_BACK: u8 = 8;
    let idx = c.arg() as usize;
    match at {
        0 if c.s.bios[idx].write == 0 => Flow::Goto(2),
        0 => Flow::Call(F::MdWriteStart, 0),
        1 if c.ret() == 0 => Flow::Ret(0),
        1 => Flow::Next,
        // md_account_bio; from here on every wake of wait_for_reshape counts.
        2 => {
            let (on, queue) = (c.on(), Wq::Reshape.queue(c.on()));
            c.set().active_io += 1;
            c.task().listens = queue;
            c.task().woken = 0;
            let bio = &mut c.s.bios[idx];
            bio.phase = 1;
            bio.made = 0;
            bio.remaining = 1;
            bio.previous = 0;
            bio.set = on as u8;
            c.act(|| "md_account_bio: gets active_io".to_owned());
            Flow::Next
        }
        3 => Flow::Call(F::MakeStripeRequest, idx as u8),
        4 => match c.ret() {
            SCHEDULE_AND_RETRY => Flow::Next,
            RETRY => Flow::Goto(3),
            SUCCESS if c.s.bios[idx].made < c.s.bios[idx].len => Flow::Goto(3),
            _ => Flow::Goto(LEAVE),
        },
        5 => {
            let queue = c.task().listens;
            if c.task().woken != 0 {
                c.task().woken = 0;
                c.act(|| "wait_woken: was woken".to_owned());
                return Flow::Goto(3);
            }
            c.act(|| "wait_woken: waits on wait_for_reshape for the reshape to move".to_owned());
            Flow::Sleep(queue)
        }
        LEAVE => {
            c.task().listens = Queue::None;
            c.task().woken = 0;
            let failed = c.ret() == FAIL;
            if c.ret() == WAIT_RESHAPE {
                return give_back(c, idx, GIVE_BACK);
            }
            c.s.bios[idx].error |= u8::from(failed);
            put_bio(c, idx);
            c.act(|| match failed {
                true => "bi_status = BLK_STS_IOERR; bio_endio".to_owned(),
                false => "bio_endio of the submitter's part".to_owned(),
            });
            Flow::Next
        }
        7 => Flow::Ret(1),
        // 418b3e64e445 waits for the stripes that its clone is on.
        GIVE_BACK if c.s.bios[idx].remaining != 0 => c.block(|| "the bio's stripes (completion)".to_owned()),
        GIVE_BACK => {
            c.s.bios[idx].phase = 0;
            put_active_io(c);
            c.act(|| "gives the bio back".to_owned());
            Flow::Next
        }
        _ => Flow::Ret(0),
    }
}

/// STRIPE_WAIT_RESHAPE: v6.9 frees md's clone (`md_free_cloned_bio`), whatever stripes it is on.
fn give_back(c: &mut Cpu<'_>, idx: usize, wait: u8) -> Flow {
    let waits = c.has(Switch::C418b);
    let bio = &mut c.s.bios[idx];
    if waits {
        bio.phase = 3;
        bio.remaining -= 1;
        c.act(|| "bio_endio of the submitter's part".to_owned());
        return Flow::Goto(wait);
    }
    bio.freed |= bio.queued;
    bio.queued = 0;
    bio.phase = 0;
    put_active_io(c);
    c.act(|| "md_free_cloned_bio: the bio cannot be made".to_owned());
    Flow::Goto(wait + 1)
}

/// One of those who hold the clone is done with it; the last one ends it.
pub(super) fn put_bio(c: &mut Cpu<'_>, idx: usize) {
    let bio = &mut c.s.bios[idx];
    bio.remaining -= 1;
    if bio.remaining == 0 && bio.phase == 1 {
        end_io(c, idx);
    }
    c.touches_both();
}

/// `make_stripe_request` (raid5.c, v6.12), for the bio's next block. P11 answers STRIPE_WAIT_RESHAPE when
/// the reshape that it would have to wait for cannot move, and in v2 STRIPE_FAIL; 1d24d4c1ea1d does so
/// under dm only while dm suspends.
pub(super) fn make_stripe_request(c: &mut Cpu<'_>, at: u8) -> Flow {
    const OUT: u8 = 6;
    let idx = c.arg() as usize;
    let piece = c.s.bios[idx].made;
    let block = c.s.bios[idx].block + piece;
    let reshape = c.scenario.reshape;
    match at {
        // get_reshape_loc, under device_lock.
        0 => {
            let set = *c.set();
            let (mut previous, mut inside) = (set.progress == MAX && set.layout == 0, false);
            if set.progress != MAX {
                previous = reshape.is_ahead(block, set.progress);
                inside = !previous && reshape.is_ahead(block, set.safe);
            }
            let bio = &mut c.s.bios[idx];
            bio.previous = bio.previous & !(1 << piece) | u8::from(previous) << piece;
            c.act(|| {
                let place = if inside {
                    "inside the reshape"
                } else if previous {
                    "ahead of the reshape, or none: old layout"
                } else {
                    "behind the reshape: new layout"
                };
                format!("block {block} is {place}")
            });
            if inside { Flow::Goto(OUT) } else { Flow::Next }
        }
        // raid5_get_active_stripe
        1 => {
            let set = c.set();
            let is_so = set.quiesce == 0;
            if is_so {
                set.active_stripes += 1;
                c.s.bios[idx].held = 1 << piece;
            }
            c.wait_event(Wq::Quiescent, is_so, "!quiesce")
        }
        2 => {
            let set = *c.set();
            let previous = c.s.bios[idx].is_previous(piece);
            let expanding = set.expand != 0 && !previous && block / reshape.new_disks() == set.expand - 1;
            let moved = previous && set.progress != MAX && !stripe_is_ahead(c, block, set.progress);
            let gone = previous && set.progress == MAX && set.layout == 1;
            c.act(|| {
                if moved || expanding {
                    "the reshape is in the stripe"
                } else if gone {
                    "the layout has changed"
                } else {
                    "the stripe is not touched by the reshape"
                }
                .to_owned()
            });
            if gone {
                Flow::Goto(8)
            } else if moved || expanding {
                Flow::Goto(5)
            } else {
                Flow::Next
            }
        }
        3 => {
            let bio = &mut c.s.bios[idx];
            bio.queued |= 1 << piece;
            bio.remaining += 1;
            c.act(|| "adds the bio to the stripe, releases it to raid5d".to_owned());
            Flow::Next
        }
        4 => {
            c.s.bios[idx].made += 1;
            c.s.bios[idx].held = 0;
            let (on, there) = (c.on(), c.set().thread != 0);
            match c.md_wakeup_thread(state::daemon(on), there) {
                Flow::Next => Flow::Ret(SUCCESS),
                other => other,
            }
        }
        5 => release(c, idx).then(10),
        OUT if c.has(Switch::P11) || c.has(Switch::P11v2) => {
            if reshape_interrupted(c) {
                Flow::Next
            } else {
                Flow::Ret(SCHEDULE_AND_RETRY)
            }
        }
        OUT if c.has(Switch::C868b) => Flow::Ret(if reshape_disabled(c) { FAIL } else { SCHEDULE_AND_RETRY }),
        OUT => Flow::Ret(SCHEDULE_AND_RETRY),
        7 if c.has(Switch::C1d24) && c.scenario.is_dm && c.set().dm_suspending == 0 => {
            Flow::Ret(SCHEDULE_AND_RETRY)
        }
        7 => Flow::Ret(if c.has(Switch::P11) { WAIT_RESHAPE } else { FAIL }),
        8 => release(c, idx).then(12),
        10 | 12 if c.set().active_stripes != 0 => Flow::Next,
        10 | 12 => c.wake_up(Wq::Quiescent),
        11 => Flow::Goto(OUT),
        _ => Flow::Ret(RETRY),
    }
}

/// `stripe_ahead_of_reshape` (raid5.c), under device_lock: all of the old stripe is still ahead. Before
/// c467e97f079f the greatest sector was taken with min(), so it was 0, and a backward reshape was always
/// taken to be ahead.
fn stripe_is_ahead(c: &Cpu<'_>, block: u8, progress: u8) -> bool {
    let reshape = c.scenario.reshape;
    let min = block / reshape.old_disks() * reshape.old_disks();
    let max = if c.has(Switch::C467e) { min + reshape.old_disks() - 1 } else { 0 };
    if reshape.is_backwards() { max < progress } else { min >= progress }
}

/// `raid5_release_stripe` of a stripe that nothing was added to; the last one wakes who quiesces, and
/// raid5d, if the reshape has marked the stripe as a source meanwhile (STRIPE_HANDLE).
fn release(c: &mut Cpu<'_>, idx: usize) -> Flow {
    c.s.bios[idx].held = 0;
    if c.set().expand_phase == 1 && c.set().thread != 0 {
        let on = c.on();
        c.md_wakeup_thread(state::daemon(on), true);
    }
    c.set().active_stripes -= 1;
    c.wake_up(Wq::Stripe)
}
