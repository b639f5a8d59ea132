//! The operations of which a task's steps consist: on bits, on locks, waits, wakes and member IO.
//!
//! A task runs one kernel function at a time (`kernel/`), each written as numbered steps, whose operations
//! are those of [`Cpu`]. Deliberately not here: which step comes next (`kernel/step.rs`).

use crate::era::{Era, Switch};
use crate::machine::bits::{names, recovery, rt, sb};
use crate::machine::names::F;
use crate::machine::state::{N_TASKS, Queue, Set, State, Task};
use crate::scenario::Scenario;

/// Invariants that one step broke; those that a state breaks are found by the explorer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) u32);

/// The invariants that a step can break, as bits by their number in docs/md/invariants.md.
pub(crate) mod invariant {
    /// One reap per registered thread, under `reconfig_mutex`; never two sync threads on one mddev.
    pub(crate) const I3: u32 = 1 << 3;
    /// No sync IO while dm has the device suspended.
    pub(crate) const I5: u32 = 1 << 5;
    /// Only one raid_set writes the members.
    pub(crate) const I6: u32 = 1 << 6;
    /// A read returns the last acknowledged version.
    pub(crate) const I7: u32 = 1 << 7;
    /// An IO fails that need not.
    pub(crate) const I9: u32 = 1 << 9;
    /// No unlock of a lock that is not held.
    pub(crate) const I11: u32 = 1 << 11;
    /// FROZEN persists after message "frozen".
    pub(crate) const I12: u32 = 1 << 12;
    /// Nothing freed is referenced.
    pub(crate) const I13: u32 = 1 << 13;
    /// A work item that is about to return uses no freed raid_set: apart from I13, because no kernel waits
    /// for it.
    pub(crate) const I14: u32 = 1 << 14;
    /// A command is refused as busy only because of a sync thread that is there.
    pub(crate) const I15: u32 = 1 << 15;
    /// A resume finds the array frozen, and no sync thread (`WARN_ON_ONCE` in `raid_resume`, v6.9).
    pub(crate) const I17: u32 = 1 << 17;
    /// Not an invariant: a second sync thread has taken the place of one that lives, and the model has only
    /// one.
    pub(crate) const OVERTAKEN: u32 = 1 << 0;
    /// The invariants after whose breach nothing that follows means anything.
    pub(crate) const ENDS: u32 = I7 | I13 | I14 | OVERTAKEN;
}

/// Where a function goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// To the next step.
    Next,
    /// To that step.
    Goto(u8),
    /// Into a function, with an argument; then to the next step.
    Call(F, u8),
    /// Back to the caller, with a value.
    Ret(u8),
    /// Nowhere: it cannot go on in this state.
    Block,
    /// To sleep; when woken, this step again.
    Sleep(Queue),
    /// The task ends.
    Exit,
}

impl Flow {
    /// Goes on elsewhere than at the next step.
    pub(crate) fn then(self, at: u8) -> Self {
        if self == Self::Next { Self::Goto(at) } else { self }
    }

    /// Returns, when it goes on. What follows a step without an operation belongs to it.
    pub(crate) fn then_return(self) -> Self {
        if self == Self::Next { Self::Ret(0) } else { self }
    }
}

/// The three mutexes of an mddev.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Reconfig,
    Suspend,
    Sync,
}

impl Lock {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reconfig => "reconfig_mutex",
            Self::Suspend => "suspend_mutex",
            Self::Sync => "sync_mutex",
        }
    }

    fn of(self, set: &mut Set) -> &mut u8 {
        match self {
            Self::Reconfig => &mut set.reconfig,
            Self::Suspend => &mut set.suspend_mutex,
            Self::Sync => &mut set.sync_mutex,
        }
    }
}

/// A kind of wait queue; with the raid_set it is a [`Queue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wq {
    Resync,
    Sb,
    Recovery,
    Reshape,
    Quiescent,
    Stripe,
    Barrier,
}

impl Wq {
    pub(crate) fn queue(self, on: usize) -> Queue {
        match (self, on) {
            (Self::Resync, _) => Queue::ResyncWait,
            (Self::Sb, 0) => Queue::SbWait0,
            (Self::Sb, _) => Queue::SbWait1,
            (Self::Recovery, 0) => Queue::RecoveryWait0,
            (Self::Recovery, _) => Queue::RecoveryWait1,
            (Self::Reshape, 0) => Queue::WaitForReshape0,
            (Self::Reshape, _) => Queue::WaitForReshape1,
            (Self::Quiescent, 0) => Queue::WaitForQuiescent0,
            (Self::Quiescent, _) => Queue::WaitForQuiescent1,
            (Self::Stripe, 0) => Queue::WaitForStripe0,
            (Self::Stripe, _) => Queue::WaitForStripe1,
            (Self::Barrier, 0) => Queue::WaitBarrier0,
            (Self::Barrier, _) => Queue::WaitBarrier1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Resync => "resync_wait",
            Self::Sb => "sb_wait",
            Self::Recovery => "recovery_wait",
            Self::Reshape => "wait_for_reshape",
            Self::Quiescent => "wait_for_quiescent",
            Self::Stripe => "wait_for_stripe",
            Self::Barrier => "wait_barrier",
        }
    }
}

/// One task during one step.
pub(crate) struct Cpu<'a> {
    pub(crate) s: &'a mut State,
    pub(crate) era: Era,
    pub(crate) scenario: &'a Scenario,
    pub(crate) me: usize,
    pub(crate) broken: Broken,
    /// Which of several outcomes this step takes.
    choice: u8,
    /// How many there are.
    pub(crate) choices: u8,
    /// The step has touched shared state: it is over.
    pub(crate) acted: bool,
    /// The step touched what both raid_sets share: the members, `resync_wait`.
    pub(crate) global: bool,
    note: Option<&'a mut Note>,
}

/// A step in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note {
    /// The call chain when it acted, outermost first.
    pub(crate) stack: Vec<F>,
    /// The operation, in words.
    pub(crate) text: String,
    /// The flag or thread that it looked at, if the sync thread's life depends on that.
    pub(crate) looked: Option<Look>,
    /// The thing that it needs to go on, if it cannot.
    pub(crate) needs: Option<Needs>,
}

/// The thing that a step looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// A bit of `recovery`.
    Bit(u16),
    /// Bits of `sb_flags`.
    Sb(u8),
    /// The array's being read-only.
    ReadOnly,
    /// The array's being suspended.
    Suspended,
    /// Something that is no flag.
    Other,
}

impl Look {
    /// Turns the flag that was looked at into its opposite; false if it is no single flag.
    pub(crate) fn turn_round(self, set: &mut Set) -> bool {
        match self {
            Self::Bit(bit) => set.recovery ^= bit,
            Self::Sb(bits) => set.sb_flags ^= bits,
            Self::ReadOnly => set.ro ^= 1,
            Self::Suspended if set.suspended != 0 || set.killed != 0 => (set.suspended, set.killed) = (0, 0),
            Self::Suspended | Self::Other => return false,
        }
        true
    }
}

/// The thing that a task needs to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// A mutex that this task holds.
    Lock(usize),
    /// The end of this task, or of what it does.
    Task(usize),
    /// `THREAD_WAKEUP`: an md thread without work.
    Wakeup,
    /// A condition that must become true.
    Condition,
}

impl<'a> Cpu<'a> {
    /// Before a step of task `me`; with a note, what it does is written down.
    pub(crate) fn new(
        s: &'a mut State,
        era: Era,
        scenario: &'a Scenario,
        me: usize,
        choice: u8,
        note: Option<&'a mut Note>,
    ) -> Self {
        Cpu { s, era, scenario, me, broken: Broken(0), choice, choices: 1, acted: false, global: false, note }
    }
}

impl Cpu<'_> {
    /// The raid_set that the task works on.
    pub(crate) fn on(&self) -> usize {
        self.s.tasks[self.me].on as usize
    }

    pub(crate) fn set(&mut self) -> &mut Set {
        let on = self.on();
        &mut self.s.sets[on]
    }

    pub(crate) fn task(&mut self) -> &mut Task {
        &mut self.s.tasks[self.me]
    }

    pub(crate) fn has(&self, switch: Switch) -> bool {
        self.era.has(switch)
    }

    /// Return value of the last call.
    pub(crate) fn ret(&self) -> u8 {
        self.s.tasks[self.me].ret
    }

    /// The frame's argument or local.
    pub(crate) fn arg(&self) -> u8 {
        self.s.tasks[self.me].top().a
    }

    pub(crate) fn set_arg(&mut self, a: u8) {
        self.task().top_mut().a = a;
    }

    pub(crate) fn breaks(&mut self, invariant: u32) {
        self.broken.0 |= invariant;
    }

    /// This step touches what both raid_sets share.
    pub(crate) fn touches_both(&mut self) {
        self.global = true;
    }

    /// This step takes one of several outcomes: the explorer tries all.
    pub(crate) fn choose(&mut self, choices: u8) -> u8 {
        assert!(choices > 0, "nothing to choose from");
        self.choices = choices;
        self.choice
    }

    /// This step touched shared state; says in words how.
    pub(crate) fn act(&mut self, words: impl FnOnce() -> String) {
        self.acted = true;
        self.say(words);
    }

    fn say(&mut self, words: impl FnOnce() -> String) {
        if let Some(note) = &mut self.note {
            let task = &self.s.tasks[self.me];
            note.stack = task.frames[..task.depth as usize].iter().map(|frame| frame.f()).collect();
            note.text = words();
        }
    }

    /// Acts ([`Self::act`]) by a look on which the sync thread's life depends.
    pub(crate) fn look(&mut self, words: impl FnOnce() -> String) {
        self.look_at(Look::Other, words);
    }

    /// Acts by a look at a flag that could be otherwise.
    pub(crate) fn look_at(&mut self, what: Look, words: impl FnOnce() -> String) {
        self.act(words);
        if let Some(note) = &mut self.note {
            note.looked = Some(what);
        }
    }

    /// Notes the thing that the task needs to go on.
    pub(crate) fn needs(&mut self, needs: Needs) {
        if let Some(note) = &mut self.note {
            note.needs = Some(needs);
        }
    }

    /// Cannot go on until this holds.
    pub(crate) fn block(&mut self, until: impl FnOnce() -> String) -> Flow {
        self.needs(Needs::Condition);
        self.say(|| format!("waits for {}", until()));
        Flow::Block
    }

    /// Cannot go on until another task has ended or has done something.
    pub(crate) fn block_for(&mut self, task: usize, until: impl FnOnce() -> String) -> Flow {
        let flow = self.block(until);
        self.needs(Needs::Task(task));
        flow
    }

    // Bits.

    pub(crate) fn test(&mut self, bit: u16) -> bool {
        let set = self.set().recovery & bit != 0;
        self.look_at(Look::Bit(bit), || format!("{} {}", name(bit), if set { "is set" } else { "is clear" }));
        set
    }

    pub(crate) fn set_bit(&mut self, bit: u16) -> Flow {
        self.set().recovery |= bit;
        self.act(|| format!("sets {}", name(bit)));
        Flow::Next
    }

    pub(crate) fn clear_bit(&mut self, bit: u16) -> Flow {
        self.set().recovery &= !bit;
        self.act(|| format!("clears {}", name(bit)));
        Flow::Next
    }

    pub(crate) fn test_and_clear(&mut self, bit: u16) -> bool {
        let was = self.set().recovery & bit != 0;
        self.set().recovery &= !bit;
        self.act(|| format!("clears {}, which was {}", name(bit), if was { "set" } else { "clear" }));
        was
    }

    pub(crate) fn test_sb(&mut self, bits: u8) -> bool {
        let set = self.set().sb_flags & bits != 0;
        self.act(|| {
            let what = names(bits.into(), &sb::NAMES);
            format!("sb_flags: {what} {}", if set { "set" } else { "clear" })
        });
        set
    }

    pub(crate) fn set_sb(&mut self, bits: u8) -> Flow {
        self.set().sb_flags |= bits;
        self.act(|| format!("sets sb_flags {}", names(bits.into(), &sb::NAMES)));
        Flow::Next
    }

    pub(crate) fn clear_sb(&mut self, bits: u8) -> Flow {
        self.set().sb_flags &= !bits;
        self.act(|| format!("clears sb_flags {}", names(bits.into(), &sb::NAMES)));
        Flow::Next
    }

    pub(crate) fn test_rt(&mut self, bit: u8) -> bool {
        let set = self.set().rt & bit != 0;
        self.act(|| format!("{} {}", names(bit.into(), &rt::NAMES), if set { "is set" } else { "is clear" }));
        set
    }

    pub(crate) fn set_rt(&mut self, bit: u8) -> Flow {
        self.set().rt |= bit;
        self.act(|| format!("sets {}", names(bit.into(), &rt::NAMES)));
        Flow::Next
    }

    pub(crate) fn clear_rt(&mut self, bit: u8) -> Flow {
        self.set().rt &= !bit;
        self.act(|| format!("clears {}", names(bit.into(), &rt::NAMES)));
        Flow::Next
    }

    /// `md_is_rdwr` (md.h, v6.9); before P10 the same comparison where it is needed.
    pub(crate) fn is_rdwr(&mut self) -> bool {
        let rdwr = if self.has(Switch::P10) { md_is_rdwr(self.set()) } else { self.set().ro == 0 };
        if rdwr {
            self.act(|| "the array is read-write".to_owned());
        } else {
            self.look_at(Look::ReadOnly, || "the array is read-only".to_owned());
        }
        rdwr
    }

    // Locks.

    pub(crate) fn lock(&mut self, lock: Lock) -> Flow {
        let me = self.me as u8 + 1;
        let holder = *lock.of(self.set());
        if holder != 0 {
            let scenario = self.scenario;
            let flow = self.block(|| {
                let who = scenario.task_name(holder as usize - 1);
                format!("{}, which {who} holds", lock.name())
            });
            self.needs(Needs::Lock(holder as usize - 1));
            return flow;
        }
        *lock.of(self.set()) = me;
        self.act(|| format!("locks {}", lock.name()));
        Flow::Next
    }

    pub(crate) fn trylock(&mut self, lock: Lock) -> bool {
        let me = self.me as u8 + 1;
        let holder = *lock.of(self.set());
        let free = holder == 0;
        if free {
            *lock.of(self.set()) = me;
        }
        if free {
            self.act(|| format!("trylock of {} succeeds", lock.name()));
        } else {
            let scenario = self.scenario;
            self.look(|| {
                let who = scenario.task_name(holder as usize - 1);
                format!("trylock of {} fails: {who} holds it", lock.name())
            });
        }
        free
    }

    pub(crate) fn unlock(&mut self, lock: Lock) -> Flow {
        if *lock.of(self.set()) != self.me as u8 + 1 {
            self.breaks(invariant::I11);
        }
        *lock.of(self.set()) = 0;
        self.act(|| format!("unlocks {}", lock.name()));
        Flow::Next
    }

    pub(crate) fn holds_reconfig(&mut self) -> bool {
        self.set().reconfig == self.me as u8 + 1
    }

    // Waits and wakes.

    /// `wait_event`: goes on if it is so, else sleeps on the queue, and looks again when woken.
    pub(crate) fn wait_event(&mut self, wq: Wq, is_so: bool, words: &str) -> Flow {
        self.global |= wq == Wq::Resync;
        if is_so {
            self.act(|| format!("{}: {words}: goes on", wq.name()));
            return Flow::Next;
        }
        self.needs(Needs::Condition);
        self.act(|| format!("waits on {} for {words}", wq.name()));
        Flow::Sleep(wq.queue(self.on()))
    }

    /// `wake_up`: all who sleep on the queue look again.
    pub(crate) fn wake_up(&mut self, wq: Wq) -> Flow {
        self.global |= wq == Wq::Resync;
        let queue = wq.queue(self.on());
        let is_lost = wq == Wq::Resync && self.has(Switch::LostWake);
        for task in self.s.tasks.iter_mut().filter(|_| !is_lost) {
            if task.sleep == queue {
                task.sleep = Queue::None;
            }
            if task.listens == queue {
                task.woken = 1;
            }
        }
        self.act(|| format!("wakes {}", wq.name()));
        Flow::Next
    }

    /// `md_wakeup_thread` (md.c): sets THREAD_WAKEUP and wakes `thread->wqueue`. Both at once: who
    /// looks between them sees the flag, and the wake that follows only makes it look again.
    pub(crate) fn md_wakeup_thread(&mut self, task: usize, there: bool) -> Flow {
        if there && self.s.tasks[task].alive != 0 {
            self.s.tasks[task].wakeup = 1;
            if self.s.tasks[task].sleep == Queue::Thread {
                self.s.tasks[task].sleep = Queue::None;
            }
        }
        let scenario = self.scenario;
        self.act(|| match there {
            true => format!("md_wakeup_thread({})", scenario.task_name(task)),
            false => "md_wakeup_thread(NULL)".to_owned(),
        });
        Flow::Next
    }

    /// `wake_up_process`: whatever the task sleeps on, it looks again.
    pub(crate) fn wake_up_process(&mut self, task: usize) {
        assert!(task < N_TASKS);
        self.s.tasks[task].sleep = Queue::None;
    }
}

/// `md_is_rdwr` (md.h, v6.9).
fn md_is_rdwr(set: &Set) -> bool {
    set.ro == 0
}

fn name(bit: u16) -> String {
    names(bit, &recovery::NAMES)
}
