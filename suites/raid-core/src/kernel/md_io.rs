//! md.c: superblocks, suspending the array, and the way of a bio through md.

use crate::cpu::{Cpu, Flow, Lock, Wq};
use crate::era::Switch;
use crate::machine::bits::sb;
use crate::machine::names::F;
use crate::machine::state::{self, MAX};
use crate::scenario::Level;

/// `md_update_sb` (md.c, v6.12). Argument 1 forces it. The flags are tested and cleared one by one,
/// then the superblocks are written; if another change came meanwhile, again.
pub(super) fn md_update_sb(c: &mut Cpu<'_>, at: u8) -> Flow {
    const REPEAT: u8 = 3;
    const SUSPENDED: u8 = 10;
    match at {
        0 => {
            if c.is_rdwr() {
                Flow::Goto(REPEAT)
            } else {
                Flow::Next
            }
        }
        1 if c.arg() == 1 => c.set_sb(sb::CHANGE_DEVS),
        1 => Flow::Next,
        2 => Flow::Ret(0),
        REPEAT => c.clear_sb(sb::CHANGE_DEVS),
        4 => c.clear_sb(sb::CHANGE_CLEAN),
        5 if c.s.dm.members_suspended != 0 => Flow::Goto(SUSPENDED),
        5 => {
            let set = *c.set();
            c.s.sb.resync_offset = set.resync_offset;
            c.s.sb.reshape_position = set.reshape_position;
            c.s.sb.layout = set.layout;
            c.touches_both();
            c.act(|| match set.reshape_position {
                MAX => "writes the superblocks".to_owned(),
                position => format!("writes the superblocks: reshape_position {position}"),
            });
            Flow::Next
        }
        6 => {
            let set = c.set();
            let again = set.sb_flags & (sb::CHANGE_DEVS | sb::CHANGE_CLEAN) != 0;
            if !again {
                set.sb_flags &= !sb::CHANGE_PENDING;
                // A failed member that the superblocks tell of is no longer Blocked.
                if set.failed_member == state::BLOCKED {
                    set.failed_member = state::RECORDED;
                }
            }
            c.act(|| if again { "has to write again" } else { "clears sb_flags CHANGE_PENDING" }.to_owned());
            if again { Flow::Goto(REPEAT) } else { Flow::Next }
        }
        7 => c.wake_up(Wq::Sb),
        SUSPENDED => Flow::Call(F::MdSuperWait, 0),
        11 => Flow::Goto(5),
        _ => Flow::Ret(0),
    }
}

/// `write_sb_page` (md-bitmap.c, v6.12; in `write_page` before v6.5), as `md_bitmap_flush` comes to it. That
/// it writes is all that the model has of the bitmap.
pub(super) fn write_sb_page(_c: &mut Cpu<'_>, at: u8) -> Flow {
    if at == 0 { Flow::Call(F::MdSuperWait, 0) } else { Flow::Ret(0) }
}

/// `md_super_wait` (md.c, v6.12): what was written to the members is there.
pub(super) fn md_super_wait(c: &mut Cpu<'_>, _at: u8) -> Flow {
    match c.s.dm.members_suspended {
        0 => Flow::Ret(0),
        _ => c.block(|| "writes to suspended members".to_owned()),
    }
}

/// `mddev_unlock` (md.c, v6.12): also wakes the daemon, and who waits for the superblocks.
pub(super) fn mddev_unlock(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => c.unlock(Lock::Reconfig),
        1 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        2 => c.wake_up(Wq::Sb),
        3 if c.has(Switch::DoubleUnlock) => c.unlock(Lock::Reconfig),
        _ => Flow::Ret(0),
    }
}

/// `mddev_suspend` (md.c). v6.7 (714d20150ed8): takes `suspend_mutex`, and counts `suspended` up only when
/// all IO has drained. Before: under `reconfig_mutex`, with a way for the daemon to write the superblocks
/// meanwhile, and with `raid5_prepare_suspend` (868bba54a3bc, v6.5 and v6.6). cf86bb53b9c9 wakes IO that
/// waits for a reshape that cannot move.
pub(super) fn mddev_suspend(c: &mut Cpu<'_>, at: u8) -> Flow {
    const V6_6: u8 = 20;
    match at {
        0 if !c.has(Switch::Suspend67) => Flow::Goto(V6_6),
        0 => c.lock(Lock::Suspend),
        1 if c.set().suspended > 0 => Flow::Goto(6),
        1 => {
            c.set().killed = 1;
            c.act(|| "kills active_io".to_owned());
            Flow::Next
        }
        2 if c.has(Switch::Cf86) && c.scenario.level == Level::Raid5 => {
            if reshape_interrupted(c) {
                Flow::Next
            } else {
                Flow::Goto(4)
            }
        }
        2 => Flow::Goto(4),
        3 => c.wake_up(Wq::Reshape),
        4 => {
            let drained = c.set().active_io == 0;
            c.wait_event(Wq::Sb, drained, "active_io == 0")
        }
        5 => Flow::Next,
        6 => {
            c.set().suspended += 1;
            c.act(|| "counts suspended up".to_owned());
            Flow::Next
        }
        7 => c.unlock(Lock::Suspend),
        8 => Flow::Ret(0),
        V6_6 => {
            let set = c.set();
            set.suspended += 1;
            let first = set.suspended == 1;
            c.act(|| "counts suspended up".to_owned());
            if first { Flow::Next } else { Flow::Ret(0) }
        }
        21 => c.wake_up(Wq::Sb),
        22 => {
            let set = c.set();
            set.allow_sb = 1;
            set.killed = 1;
            c.act(|| "kills active_io".to_owned());
            Flow::Next
        }
        23 if !c.has(Switch::C868b) || c.scenario.level != Level::Raid5 => Flow::Goto(25),
        23 => {
            let drained = c.set().active_io == 0;
            let stopped = !reshape_inprogress(c.set());
            c.set_arg(u8::from(drained));
            c.wait_event(Wq::Sb, stopped || drained, "no reshape in progress, or active_io == 0")
        }
        24 if c.arg() == 1 => Flow::Next,
        24 => c.wake_up(Wq::Reshape),
        25 => {
            let drained = c.set().active_io == 0;
            c.wait_event(Wq::Sb, drained, "active_io == 0")
        }
        26 => Flow::Call(c.scenario.level.quiesce(), 1),
        27 => {
            c.set().allow_sb = 0;
            c.act(|| "clears MD_ALLOW_SB_UPDATE".to_owned());
            Flow::Next
        }
        28 => {
            let is_so = c.set().updating_sb == 0;
            c.wait_event(Wq::Sb, is_so, "!MD_UPDATING_SB")
        }
        _ => Flow::Ret(0),
    }
}

/// `__mddev_resume` (md.c, v6.12; argument: whether NEEDED is set). Before v6.7 under `reconfig_mutex`.
pub(super) fn mddev_resume(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 if !c.has(Switch::Suspend67) => Flow::Next,
        0 => c.lock(Lock::Suspend),
        1 => {
            let set = c.set();
            set.suspended -= 1;
            let last = set.suspended == 0;
            c.act(|| "counts suspended down".to_owned());
            if last { Flow::Next } else { Flow::Goto(8) }
        }
        2 => {
            c.set().killed = 0;
            c.act(|| "resurrects active_io".to_owned());
            Flow::Next
        }
        3 => c.wake_up(Wq::Sb),
        4 if c.has(Switch::Suspend67) => Flow::Next,
        4 => Flow::Call(c.scenario.level.quiesce(), 0),
        5 if c.arg() == 0 => Flow::Next,
        5 => c.set_bit(crate::machine::bits::recovery::NEEDED),
        6 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        7 => {
            let (on, there) = (c.on(), c.set().sync_thread != 0);
            c.md_wakeup_thread(state::sync(on), there)
        }
        8 if c.has(Switch::Suspend67) => c.unlock(Lock::Suspend),
        _ => Flow::Ret(0),
    }
}

/// `suspend_lo_store` (md.c, v6.12). Before v6.7 it holds `reconfig_mutex` all the while.
pub(super) fn suspend_lo_store(c: &mut Cpu<'_>, at: u8) -> Flow {
    let locks = !c.has(Switch::Suspend67);
    match at {
        0 if locks => c.lock(Lock::Reconfig),
        0 => Flow::Next,
        1 => Flow::Call(F::MddevSuspend, 0),
        2 => Flow::Call(F::MddevResume, 1),
        3 if locks => Flow::Call(F::MddevUnlock, 0),
        _ => Flow::Ret(0),
    }
}

/// `reshape_inprogress` (raid5.c, v6.6, 868bba54a3bc).
fn reshape_inprogress(set: &state::Set) -> bool {
    use crate::machine::bits::recovery::{DONE, INTR, RESHAPE, RUNNING};
    set.recovery & (RESHAPE | RUNNING | DONE | INTR) == RESHAPE | RUNNING
}

/// True if IO that waits for the reshape is to fail (`make_stripe_request`, v6.6, 868bba54a3bc): the reshape
/// is not in progress, and cannot get there, because the array is suspended or read-only.
pub(super) fn reshape_disabled(c: &mut Cpu<'_>) -> bool {
    let set = c.set();
    let disabled = !reshape_inprogress(set) && (set.killed != 0 || set.ro != 0);
    c.look(|| if disabled { "the reshape cannot go on" } else { "the reshape may go on" }.to_owned());
    disabled
}

/// `md_handle_request` (md.c, v6.12). Returns 0 if the bio is given back to dm (P11 as merged).
pub(super) fn md_handle_request(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            let live = c.set().killed == 0;
            c.wait_event(Wq::Sb, live, "the array not to be suspended")
        }
        1 => {
            let live = c.set().killed == 0;
            if live {
                c.set().active_io += 1;
            }
            c.act(|| if live { "gets active_io" } else { "active_io is killed" }.to_owned());
            if live { Flow::Next } else { Flow::Goto(0) }
        }
        2 => {
            let bio = c.arg();
            Flow::Call(
                match c.scenario.level {
                    Level::Raid5 => F::Raid5MakeRequest,
                    Level::Raid10 => F::Raid10MakeRequest,
                },
                bio,
            )
        }
        3 => {
            let made = c.ret();
            put_active_io(c);
            c.act(|| "puts active_io".to_owned());
            match made {
                0 if c.scenario.is_dm && c.has(Switch::P11) && c.scenario.level == Level::Raid5 => {
                    Flow::Ret(0)
                }
                0 => Flow::Goto(0),
                other => Flow::Ret(other),
            }
        }
        _ => unreachable!("md_handle_request"),
    }
}

/// `percpu_ref_put(&mddev->active_io)`: the last one of a killed reference wakes who suspends.
pub(super) fn put_active_io(c: &mut Cpu<'_>) {
    let set = c.set();
    set.active_io -= 1;
    if set.active_io == 0 && set.killed != 0 {
        c.wake_up(Wq::Sb);
    }
}

/// `md_write_start` (md.c, v6.12). Before v6.11 (03e792eaf18e, which came with d249e5418884) it gives up
/// when the array is being suspended: returns 0.
pub(super) fn md_write_start(c: &mut Cpu<'_>, at: u8) -> Flow {
    match at {
        0 => {
            let set = c.set();
            let clean = set.in_sync != 0;
            if clean {
                set.in_sync = 0;
                set.sb_flags |= sb::CHANGE_CLEAN | sb::CHANGE_PENDING;
            }
            c.act(|| if clean { "clean to dirty: sets CHANGE_PENDING" } else { "already dirty" }.to_owned());
            if clean { Flow::Next } else { Flow::Goto(2) }
        }
        1 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        2 => {
            let set = c.set();
            let written = set.sb_flags & sb::CHANGE_PENDING == 0;
            let dying = set.killed != 0 && !c.has(Switch::SyncAction);
            c.set_arg(u8::from(dying));
            c.wait_event(Wq::Sb, written || dying, "!CHANGE_PENDING")
        }
        _ => Flow::Ret(u8::from(c.arg() == 0)),
    }
}

/// `reshape_interrupted` (md.h, v6.9, 503f9d43790f).
pub(super) fn reshape_interrupted(c: &mut Cpu<'_>) -> bool {
    use crate::machine::bits::recovery::{FROZEN, INTR, RUNNING, WAIT};
    let set = c.set();
    let interrupted = set.reshape_position != MAX
        && (set.recovery & RUNNING == 0 || set.recovery & (WAIT | INTR | FROZEN) != 0);
    c.look(|| {
        if interrupted { "the reshape is interrupted" } else { "no reshape is interrupted" }.to_owned()
    });
    interrupted
}

/// `md_error` (md.c, v6.12), with `raid5_error` or `raid10_error`: a member fails, and IO waits until the
/// superblocks say so.
pub(super) fn md_error(c: &mut Cpu<'_>, at: u8) -> Flow {
    use crate::machine::bits::recovery::{INTR, NEEDED, RECOVER};
    match at {
        0 => {
            c.set().failed_member = state::BLOCKED;
            c.act(|| "a member fails: Faulty, Blocked".to_owned());
            Flow::Next
        }
        1 => c.set_bit(INTR),
        2 => c.set_sb(sb::CHANGE_DEVS | sb::CHANGE_PENDING),
        3 => c.set_bit(RECOVER),
        4 => c.set_bit(INTR),
        5 => c.set_bit(NEEDED),
        6 => {
            let (on, there) = (c.on(), c.set().thread != 0);
            c.md_wakeup_thread(state::daemon(on), there)
        }
        _ => Flow::Ret(0),
    }
}
