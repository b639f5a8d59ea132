//! The state of the model: small, flat, without pointers, so that it can be copied and hashed.

use bytemuck::{Pod, Zeroable};

use crate::machine::disk::N_CELLS;
use crate::machine::names::F;

pub use crate::machine::disk::MAX;

/// Tasks that run a user's commands: lvm, a second user, two that do IO.
pub const N_USERS: usize = 4;
/// All tasks: the users, and daemon, worker and sync thread of each raid_set.
pub const N_TASKS: usize = N_USERS + 6;
/// Depth of the deepest call chain.
pub const MAX_DEPTH: usize = 10;
/// [`Set::failed_member`]: the superblocks do not say so yet (`Blocked`).
pub const BLOCKED: u8 = 1;
/// [`Set::failed_member`]: they do; it is to be removed.
pub const RECORDED: u8 = 2;
/// [`Set::failed_member`]: it is no longer part of the array.
pub const REMOVED: u8 = 3;

/// [`Set::member_to_rebuild`]: its data are to be rebuilt.
pub const TO_REBUILD: u8 = 1;
/// [`Set::member_to_rebuild`]: they are, but who reaps the sync thread has not seen it yet.
pub const REBUILT: u8 = 2;

/// The role of a task, which goes by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs a script of the scenario.
    User(usize),
    /// raid5d (or raid10d) of a raid_set.
    Daemon(usize),
    /// The work queue's worker, for a raid_set's `sync_work`.
    Worker(usize),
    /// The sync thread of a raid_set.
    Sync(usize),
}

/// The daemon's task of a raid_set.
pub const fn daemon(set: usize) -> usize {
    N_USERS + set
}

/// The worker's task of a raid_set.
pub const fn worker(set: usize) -> usize {
    N_USERS + 2 + set
}

/// The sync thread's task of a raid_set.
pub const fn sync(set: usize) -> usize {
    N_USERS + 4 + set
}

/// The role of a task.
pub const fn role(task: usize) -> Role {
    if task < N_USERS {
        Role::User(task)
    } else if task < N_USERS + 2 {
        Role::Daemon(task - N_USERS)
    } else if task < N_USERS + 4 {
        Role::Worker(task - N_USERS - 2)
    } else {
        Role::Sync(task - N_USERS - 4)
    }
}

/// Where a task sleeps until it is woken. Waits for a lock, a completion or a work item are not
/// here: such a task simply cannot go on, which is the same and takes fewer states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Queue(u8);

#[expect(non_upper_case_globals, reason = "they are the cases of an enum, in a type of plain bytes")]
impl Queue {
    /// Runs.
    pub const None: Self = Self(0);
    /// `resync_wait` (md.c; one for all arrays).
    pub const ResyncWait: Self = Self(1);
    /// `mddev->sb_wait`.
    pub const SbWait0: Self = Self(2);
    /// `mddev->sb_wait` of the second raid_set.
    pub const SbWait1: Self = Self(3);
    /// `mddev->recovery_wait`.
    pub const RecoveryWait0: Self = Self(4);
    /// `mddev->recovery_wait` of the second raid_set.
    pub const RecoveryWait1: Self = Self(5);
    /// `conf->wait_for_reshape` (v6.8; before, `wait_for_overlap`).
    pub const WaitForReshape0: Self = Self(6);
    /// `conf->wait_for_reshape` of the second raid_set.
    pub const WaitForReshape1: Self = Self(7);
    /// `conf->wait_for_quiescent`.
    pub const WaitForQuiescent0: Self = Self(8);
    /// `conf->wait_for_quiescent` of the second raid_set.
    pub const WaitForQuiescent1: Self = Self(9);
    /// `conf->wait_for_stripe`.
    pub const WaitForStripe0: Self = Self(10);
    /// `conf->wait_for_stripe` of the second raid_set.
    pub const WaitForStripe1: Self = Self(11);
    /// `conf->wait_barrier` of raid10.
    pub const WaitBarrier0: Self = Self(12);
    /// `conf->wait_barrier` of the second raid_set.
    pub const WaitBarrier1: Self = Self(13);
    /// `thread->wqueue` of the md thread that sleeps.
    pub const Thread: Self = Self(14);
}

/// One level of a call chain: which function, how far, with which argument or local.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Frame {
    f: u8,
    /// The step that comes next.
    pub at: u8,
    /// Argument, or the one local that outlives a step.
    pub a: u8,
}

impl Frame {
    /// No frame.
    pub const NONE: Self = Self::new(F::None, 0);

    /// At the beginning of a function.
    pub const fn new(f: F, a: u8) -> Self {
        Self { f: f as u8, at: 0, a }
    }

    /// The function.
    #[inline]
    pub fn f(self) -> F {
        F::ALL[self.f as usize]
    }
}

/// One task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Task {
    /// 1 if the task exists.
    pub alive: u8,
    /// How many frames there are.
    pub depth: u8,
    /// Where it sleeps.
    pub sleep: Queue,
    /// On which queue it stays between checks (`wait_woken`).
    pub listens: Queue,
    /// Woken since it listens.
    pub woken: u8,
    /// Return value of the last call.
    pub ret: u8,
    /// `THREAD_WAKEUP` of an md thread.
    pub wakeup: u8,
    /// `kthread_should_stop`.
    pub should_stop: u8,
    /// The raid_set that it works on.
    pub on: u8,
    /// The call chain, outermost first.
    pub frames: [Frame; MAX_DEPTH],
}

impl Task {
    /// A task that does not exist.
    pub const NONE: Self = Self {
        alive: 0,
        depth: 0,
        sleep: Queue::None,
        listens: Queue::None,
        woken: 0,
        ret: 0,
        wakeup: 0,
        should_stop: 0,
        on: 0,
        frames: [Frame::NONE; MAX_DEPTH],
    };

    /// A task that is about to run a function.
    pub fn starting(f: F, on: u8) -> Self {
        let mut task = Self { alive: 1, depth: 1, on, ..Self::NONE };
        task.frames[0] = Frame::new(f, 0);
        task
    }

    /// The innermost frame.
    #[inline]
    pub fn top(&self) -> Frame {
        self.frames[self.depth as usize - 1]
    }

    /// The innermost frame.
    #[inline]
    pub fn top_mut(&mut self) -> &mut Frame {
        &mut self.frames[self.depth as usize - 1]
    }
}

/// A bio on its way: what the IO task and the daemon share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Bio {
    /// First logical block.
    pub block: u8,
    /// Blocks.
    pub len: u8,
    /// 1 for a write.
    pub write: u8,
    /// 0 not there, 1 under way in md, 2 complete, 3 to be given back when its stripes are done.
    pub phase: u8,
    /// Blocks that have been added to their stripe so far.
    pub made: u8,
    /// `bi_remaining` of md's clone: its submitter, and each block that is on a stripe.
    pub remaining: u8,
    /// The blocks that lie on a stripe and wait for the daemon, as bits.
    pub queued: u8,
    /// The blocks that go by the layout before the reshape, as bits.
    pub previous: u8,
    /// The block whose stripe its submitter holds, as a bit: nobody handles a stripe that is held.
    pub held: u8,
    /// The blocks that lie on a stripe although md has freed its clone.
    pub freed: u8,
    /// It fails.
    pub error: u8,
    /// The raid_set whose stripes it is on.
    pub set: u8,
}

impl Bio {
    /// No bio.
    pub const NONE: Self = Self {
        block: 0,
        len: 0,
        write: 0,
        phase: 0,
        made: 0,
        remaining: 0,
        queued: 0,
        previous: 0,
        held: 0,
        freed: 0,
        error: 0,
        set: 0,
    };

    /// True if this block of the bio goes by the layout before the reshape.
    pub fn is_previous(&self, piece: u8) -> bool {
        self.previous & (1 << piece) != 0
    }
}

/// A `raid_set` with its `mddev` and `r5conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Set {
    /// `mddev->recovery`.
    pub recovery: u16,
    /// `mddev->sb_flags`.
    pub sb_flags: u8,
    /// `rs->runtime_flags`.
    pub rt: u8,
    /// 0 never built, 1 there, 2 freed.
    pub life: u8,
    /// Holder of `reconfig_mutex`: task + 1.
    pub reconfig: u8,
    /// Holder of `suspend_mutex`: task + 1.
    pub suspend_mutex: u8,
    /// Holder of `sync_mutex`: task + 1.
    pub sync_mutex: u8,
    /// `mddev->suspended`.
    pub suspended: u8,
    /// `active_io` is killed (`percpu_ref_kill`).
    pub killed: u8,
    /// References on `active_io`.
    pub active_io: u8,
    /// `mddev->ro`: 0 read-write, 1 read-only.
    pub ro: u8,
    /// `mddev->in_sync`.
    pub in_sync: u8,
    /// `mddev->sync_seq`, modulo 4.
    pub sync_seq: u8,
    /// `mddev->sync_thread` is set.
    pub sync_thread: u8,
    /// `mddev->thread` is set.
    pub thread: u8,
    /// `sync_work`: 0 idle, 1 pending, 2 runs.
    pub work: u8,
    /// `work` again pending while it runs.
    pub work_again: u8,
    /// `mddev->resync_offset`, in chunks, or `MAX`.
    pub resync_offset: u8,
    /// `mddev->recovery_active`.
    pub recovery_active: u8,
    /// `mddev->reshape_position`, in logical blocks, or `MAX`.
    pub reshape_position: u8,
    /// `conf->reshape_progress`.
    pub progress: u8,
    /// `conf->reshape_safe`.
    pub safe: u8,
    /// `conf->reshape_stripes`.
    pub reshape_stripes: u8,
    /// The stripe that expands: its row + 1.
    pub expand: u8,
    /// The content of its sources when they were read.
    pub pages: [u8; 3],
    /// 0 being set up, 1 sources marked, 2 sources read.
    pub expand_phase: u8,
    /// Sync stripes that raid5d has to handle.
    pub sync_stripes: u8,
    /// `conf->active_stripes`.
    pub active_stripes: u8,
    /// `conf->quiesce`.
    pub quiesce: u8,
    /// A member has its place, but is not in sync: [`TO_REBUILD`] or [`REBUILT`].
    pub member_to_rebuild: u8,
    /// A member has failed: [`BLOCKED`], [`RECORDED`] or [`REMOVED`].
    pub failed_member: u8,
    /// raid10: `conf->barrier`.
    pub barrier: u8,
    /// raid10: `conf->nr_pending`, writes that the barrier waits for.
    pub nr_pending: u8,
    /// raid10: `conf->nr_waiting`, writes that wait for the barrier.
    pub nr_waiting: u8,
    /// raid10: writes in `conf->retry_list` that a member failed, as bits.
    pub failed: u8,
    /// raid10: writes in `conf->bio_end_io_list`, which wait for the superblocks, as bits.
    pub ending: u8,
    /// dm has suspended it, or not yet resumed it (no sync IO may be seen).
    pub quiet: u8,
    /// v6.6: `MD_ALLOW_SB_UPDATE`, the daemon may write the superblocks for who suspends.
    pub allow_sb: u8,
    /// v6.6: `MD_UPDATING_SB`, it does.
    pub updating_sb: u8,
    /// 7.3: `MD_DM_SUSPENDING`.
    pub dm_suspending: u8,
    /// The layout without a reshape: 0 the old one, 1 the new one.
    pub layout: u8,
}

impl Set {
    /// A raid_set that was never built.
    pub const NONE: Self = Self {
        recovery: 0,
        sb_flags: 0,
        rt: 0,
        life: 0,
        reconfig: 0,
        suspend_mutex: 0,
        sync_mutex: 0,
        suspended: 0,
        killed: 0,
        active_io: 0,
        ro: 0,
        in_sync: 0,
        sync_seq: 0,
        sync_thread: 0,
        thread: 0,
        work: 0,
        work_again: 0,
        resync_offset: MAX,
        recovery_active: 0,
        reshape_position: MAX,
        progress: MAX,
        safe: MAX,
        reshape_stripes: 0,
        expand: 0,
        pages: [0; 3],
        expand_phase: 0,
        sync_stripes: 0,
        active_stripes: 0,
        quiesce: 0,
        member_to_rebuild: 0,
        failed_member: 0,
        barrier: 0,
        nr_pending: 0,
        nr_waiting: 0,
        failed: 0,
        ending: 0,
        quiet: 0,
        allow_sb: 0,
        updating_sb: 0,
        dm_suspending: 0,
        layout: 0,
    };
}

/// The dm device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Dm {
    /// The raid_set of the live table, or `MAX`.
    pub live: u8,
    /// The raid_set of the inactive table, or `MAX`.
    pub inactive: u8,
    /// `DMF_SUSPENDED`.
    pub suspended: u8,
    /// `DMF_BLOCK_IO_FOR_SUSPEND`.
    pub block_io: u8,
    /// `DMF_NOFLUSH_SUSPENDING`.
    pub noflush: u8,
    /// IOs inside `dm_split_and_process_bio` (`io_barrier`).
    pub srcu: u8,
    /// IOs that are not complete (`pending_io`).
    pub pending: u8,
    /// The map is gone (`__unbind`): IO fails.
    pub removed: u8,
    /// How many have the device open.
    pub open: u8,
    /// The devices that the members are on are suspended: IO to them does not come back.
    pub members_suspended: u8,
}

/// The content of the members' superblocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Sb {
    /// `resync_offset`.
    pub resync_offset: u8,
    /// `reshape_position`.
    pub reshape_position: u8,
    /// The layout, if there is no position.
    pub layout: u8,
}

/// Bytes between the sets and `acked`, which wants an even place.
const PAD: usize = (2 * std::mem::size_of::<Set>()
    + std::mem::size_of::<Dm>()
    + std::mem::size_of::<Sb>()
    + N_TASKS * std::mem::size_of::<Task>()
    + 2 * std::mem::size_of::<Bio>()
    + N_CELLS)
    % 2;

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct State {
    /// The raid_sets: that of the first table and that of a reload.
    pub sets: [Set; 2],
    /// The dm device.
    pub dm: Dm,
    /// The superblocks.
    pub sb: Sb,
    /// The tasks.
    pub tasks: [Task; N_TASKS],
    /// The bios of the two IO tasks.
    pub bios: [Bio; 2],
    /// The members' blocks, see `disk.rs`.
    pub cells: [u8; N_CELLS],
    /// Only for the size.
    pub pad: [u8; PAD],
    /// Per logical block, whether its new version was acknowledged.
    pub acked: u16,
}
