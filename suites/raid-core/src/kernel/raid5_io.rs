//! raid5.c: a bio's way onto a stripe, past a reshape.

use crate::cpu::{Cpu, Flow, Wq};
use crate::disk::OLD_DISKS;
use crate::era::Switch;
use crate::kernel::F;
use crate::kernel::md_io::reshape_interrupted;
use crate::state::{self, MAX, Queue};

/// What `make_stripe_request` returns.
const SUCCESS: u8 = 0;
const SCHEDULE_AND_RETRY: u8 = 1;
const WAIT_RESHAPE: u8 = 2;
const RETRY: u8 = 3;

/// `raid5_make_request` (raid5.c, v6.12). Argument: which bio. Returns 0 if the bio could not be made
/// (P11 as merged), 2 if it failed (P11 as in v2), else 1.
pub(super) fn raid5_make_request(c: &mut Cpu<'_>, at: u8) -> Flow {
    const LEAVE: u8 = 6;
    let idx = c.arg() as usize;
    match at {
        0 if c.s.bios[idx].write == 0 => Flow::Goto(2),
        0 => Flow::Call(F::MdWriteStart, 0),
        1 if c.ret() == 0 => Flow::Ret(0),
        1 => Flow::Next,
        // md_account_bio; from here on every wake of wait_for_reshape counts.
        2 => {
            let queue = Wq::Reshape.queue(c.on());
            c.set().active_io += 1;
            c.task().listens = queue;
            c.task().woken = 0;
            c.act(|| "md_account_bio: gets active_io".to_owned());
            Flow::Next
        }
        3 => Flow::Call(F::MakeStripeRequest, idx as u8),
        4 => match c.ret() {
            SCHEDULE_AND_RETRY => Flow::Next,
            RETRY => Flow::Goto(3),
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
            let made = c.ret();
            c.task().listens = Queue::None;
            c.task().woken = 0;
            if made != WAIT_RESHAPE {
                return Flow::Ret(1);
            }
            super::md_io::put_active_io(c);
            c.act(|| "the bio cannot be made".to_owned());
            Flow::Ret(if c.has(Switch::P11) { 0 } else { 2 })
        }
        _ => unreachable!("raid5_make_request"),
    }
}

/// `make_stripe_request` (raid5.c, v6.12). P11 answers STRIPE_WAIT_RESHAPE when the reshape that the bio
/// would have to wait for cannot move; 1d24d4c1ea1d does so under dm only while dm suspends.
pub(super) fn make_stripe_request(c: &mut Cpu<'_>, at: u8) -> Flow {
    const OUT: u8 = 6;
    let idx = c.arg() as usize;
    let block = c.s.bios[idx].block;
    match at {
        // get_reshape_loc, under device_lock.
        0 => {
            let set = *c.set();
            let (mut previous, mut inside) = (set.progress == MAX && set.layout == 0, false);
            if set.progress != MAX {
                previous = block >= set.progress;
                inside = !previous && block >= set.safe;
            }
            c.s.bios[idx].previous = u8::from(previous);
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
            }
            c.wait_event(Wq::Quiescent, is_so, "!quiesce")
        }
        // stripe_ahead_of_reshape, under device_lock: is all of the old stripe still ahead?
        2 => {
            let set = *c.set();
            let previous = c.s.bios[idx].previous == 1;
            let expanding = set.expand != 0 && !previous && block / 3 == set.expand - 1;
            let moved = previous && set.progress != MAX && block / OLD_DISKS * OLD_DISKS < set.progress;
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
            c.s.bios[idx].phase = 1;
            c.s.bios[idx].set = c.on() as u8;
            c.act(|| "adds the bio to the stripe, releases it to raid5d".to_owned());
            Flow::Next
        }
        4 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            match c.md_wakeup_thread(state::daemon(on), there) {
                Flow::Next => Flow::Ret(SUCCESS),
                other => other,
            }
        }
        5 => release(c).then(10),
        OUT if c.has(Switch::P11) || c.has(Switch::P11v2) => {
            if reshape_interrupted(c) {
                Flow::Next
            } else {
                Flow::Ret(SCHEDULE_AND_RETRY)
            }
        }
        OUT => Flow::Ret(SCHEDULE_AND_RETRY),
        7 if c.has(Switch::C1d24) && c.scenario.is_dm && c.set().dm_suspending == 0 => {
            Flow::Ret(SCHEDULE_AND_RETRY)
        }
        7 => Flow::Ret(WAIT_RESHAPE),
        8 => release(c).then(12),
        10 | 12 if c.set().active_stripes != 0 => Flow::Next,
        10 | 12 => c.wake_up(Wq::Quiescent),
        11 => Flow::Goto(OUT),
        _ => Flow::Ret(RETRY),
    }
}

/// `raid5_release_stripe` of a stripe that nothing was added to; the last one wakes who quiesces.
fn release(c: &mut Cpu<'_>) -> Flow {
    c.set().active_stripes -= 1;
    c.wake_up(Wq::Stripe)
}
