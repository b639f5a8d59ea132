//! The scenarios of docs/md/scenarios.md as data: who does what, on which array.

use crate::machine::bits::{recovery, rt};
use crate::machine::disk::{self, Reshape};
use crate::machine::names::F;
use crate::machine::state::{
    self, Bio, Dm, MAX, N_TASKS, N_USERS, Role, Sb, Set, State, Task, daemon, role, worker,
};

/// The personality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// raid5 of three disks, or of four after the reshape.
    Raid5,
    /// raid10 of two disks.
    Raid10,
}

impl Level {
    /// `pers->quiesce`.
    pub(crate) fn quiesce(self) -> F {
        match self {
            Self::Raid5 => F::Raid5Quiesce,
            Self::Raid10 => F::Raid10Quiesce,
        }
    }
}

/// A message to the raid target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Message {
    /// "idle"
    Idle = 0,
    /// "frozen"
    Frozen = 1,
    /// "check"
    Check = 2,
}

/// One command of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `dmsetup load`: the constructor of a table's raid_set.
    Ctr(u8),
    /// `dmsetup suspend`.
    Suspend {
        /// With `--noflush`.
        noflush: bool,
    },
    /// `dmsetup suspend` of each device that a member is on: superblocks and bitmap are no longer written.
    /// There must be no other IO by then.
    SuspendMembers,
    /// `dmsetup resume`: an inactive table takes over.
    Resume,
    /// `dmsetup remove`.
    Remove,
    /// `dmsetup clear`.
    Clear,
    /// `dmsetup message`.
    Message(Message),
    /// `echo idle > sync_action`.
    SysIdle,
    /// `echo frozen > sync_action`.
    SysFrozen,
    /// `echo check > sync_action`.
    SysCheck,
    /// `echo … > suspend_lo`: holds IO back for a moment.
    SuspendLo,
    /// Waits until the second table is live.
    AfterSwap,
    /// A member fails (not a command: the disk does it).
    FailMember,
    /// Reads a logical block.
    Read(u8),
    /// Reads a logical block and the next one with one bio.
    ReadTwo(u8),
    /// Writes a logical block; on raid10 a member fails the write.
    Write(u8),
}

/// A user and its commands.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// Its name in the story.
    pub name: &'static str,
    /// Its commands; none: there is no such user.
    pub script: &'static [Op],
    /// It may wait for ever (but not spin): nobody promised that its IO can be done.
    pub patient: bool,
}

/// The wishes of a dm table for its raid_set.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// `rs->runtime_flags` that the constructor sets.
    pub rt: u8,
    /// A member is not in sync, and is to be rebuilt.
    pub rebuild: bool,
}

/// A table without wishes.
const PLAIN: Table = Table { rt: 0, rebuild: false };

/// A table with a member to be rebuilt.
const REBUILD: Table = Table { rt: 0, rebuild: true };

/// The array at the beginning.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The first raid_set is active, and its daemon is about to look; else there is no table yet.
    pub live: bool,
    /// `recovery` of that raid_set.
    pub recovery: u16,
    /// `resync_offset` on the disks.
    pub resync_offset: u8,
    /// `reshape_position` on the disks.
    pub reshape_position: u8,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The name that the command line takes.
    pub name: &'static str,
    /// The scenario in a line.
    pub title: &'static str,
    /// The personality.
    pub level: Level,
    /// The reshape, if there is one.
    pub reshape: Reshape,
    /// Under dm-raid; else an md array with sysfs.
    pub is_dm: bool,
    /// The members' data are looked at (I7, I8).
    pub data: bool,
    /// `raid_preresume` fails to load the bitmap.
    pub preresume_fails: bool,
    /// Chunks that a sync takes.
    pub chunks: u8,
    /// The array at the beginning.
    pub start: Start,
    /// There are too many states to see all: so many random walks are taken instead.
    pub walks: u32,
    /// The tables of the two raid_sets.
    pub tables: [Table; 2],
    /// The users; the last two do IO.
    pub users: [User; N_USERS],
}

const NOBODY: User = User { name: "", script: &[], patient: false };
const DISK: User = User { name: "disk", script: &[Op::FailMember], patient: true };
const LIVE_RESYNC: Start =
    Start { live: true, recovery: recovery::NEEDED, resync_offset: 0, reshape_position: MAX };
const RESHAPE_AT_6: Start =
    Start { live: true, recovery: recovery::NEEDED, resync_offset: MAX, reshape_position: 6 };
const RESHAPE_AT_9: Start = Start { reshape_position: 9, ..RESHAPE_AT_6 };
const FROZEN_RESHAPE: Start =
    Start { live: true, recovery: recovery::FROZEN, resync_offset: MAX, reshape_position: 9 };
const NO_TABLE: Start = Start { live: false, recovery: 0, resync_offset: MAX, reshape_position: MAX };

const fn user(name: &'static str, script: &'static [Op]) -> User {
    User { name, script, patient: false }
}

const fn lvm(script: &'static [Op]) -> [User; N_USERS] {
    [User { name: "lvm", script, patient: false }, NOBODY, NOBODY, NOBODY]
}

const fn lvm_and(script: &'static [Op], other: User) -> [User; N_USERS] {
    [User { name: "lvm", script, patient: false }, other, NOBODY, NOBODY]
}

const DM_RAID5: Scenario = Scenario {
    name: "",
    title: "",
    level: Level::Raid5,
    reshape: Reshape::Grow,
    is_dm: true,
    data: false,
    preresume_fails: false,
    chunks: 2,
    start: LIVE_RESYNC,
    walks: 0,
    tables: [PLAIN, PLAIN],
    users: [NOBODY; N_USERS],
};

/// All scenarios, in the order of the table.
pub const SCENARIOS: [Scenario; 27] = [
    Scenario {
        name: "S1",
        title: "a resync runs; the device is suspended, then removed",
        users: lvm(&[Op::Suspend { noflush: false }, Op::Remove]),
        ..DM_RAID5
    },
    Scenario {
        name: "S1r",
        title: "a resync runs on raid10; the device is suspended, then removed",
        level: Level::Raid10,
        chunks: 1,
        users: lvm(&[Op::Suspend { noflush: false }, Op::Remove]),
        ..DM_RAID5
    },
    Scenario {
        name: "S2",
        title: "a new table writes its superblocks; the resume fails; the device is removed",
        start: Start { resync_offset: 0, ..NO_TABLE },
        tables: [Table { rt: rt::UPDATE_SBS, rebuild: false }, PLAIN],
        preresume_fails: true,
        users: lvm(&[Op::Ctr(0), Op::Resume, Op::Remove]),
        ..DM_RAID5
    },
    Scenario {
        name: "S3",
        title: "a table asks for a reshape, which has to wait for a reload; the device is suspended",
        chunks: 4,
        start: NO_TABLE,
        tables: [Table { rt: rt::UPDATE_SBS | rt::RESHAPE_RS, rebuild: false }, PLAIN],
        users: lvm(&[Op::Ctr(0), Op::Resume, Op::Suspend { noflush: false }, Op::Remove]),
        ..DM_RAID5
    },
    Scenario {
        name: "S4",
        title: "a table with an interrupted reshape is loaded and cleared, never resumed",
        chunks: 4,
        start: Start { reshape_position: 6, ..NO_TABLE },
        users: lvm(&[Op::Ctr(0), Op::Clear]),
        ..DM_RAID5
    },
    Scenario {
        name: "S5a",
        title: "a reshape runs; the device is suspended, the table loaded again and resumed",
        chunks: 4,
        data: true,
        start: RESHAPE_AT_9,
        walks: 20_000,
        users: [
            user("lvm", &[Op::Suspend { noflush: true }, Op::Ctr(1), Op::Resume]),
            NOBODY,
            User { name: "io", script: &[Op::AfterSwap, Op::Write(10)], patient: true },
            NOBODY,
        ],
        ..DM_RAID5
    },
    Scenario {
        name: "S5b",
        title: "a new table writes its superblocks and resumes: does it sync before?",
        start: Start { resync_offset: 0, ..NO_TABLE },
        tables: [Table { rt: rt::UPDATE_SBS, rebuild: false }, PLAIN],
        users: lvm(&[Op::Ctr(0), Op::Resume]),
        ..DM_RAID5
    },
    Scenario {
        name: "S6",
        title: "a resync runs; message \"idle\" beside the daemon",
        chunks: 1,
        users: lvm(&[Op::Message(Message::Idle)]),
        ..DM_RAID5
    },
    Scenario {
        name: "S6f",
        title: "a resync runs; message \"frozen\" beside the daemon",
        chunks: 1,
        users: lvm(&[Op::Message(Message::Frozen)]),
        ..DM_RAID5
    },
    Scenario {
        name: "S6r",
        title: "a reshape runs; message \"frozen\" beside the daemon",
        chunks: 4,
        data: true,
        start: RESHAPE_AT_9,
        users: lvm(&[Op::Message(Message::Frozen)]),
        ..DM_RAID5
    },
    Scenario {
        name: "S7",
        title: "a reshape is frozen; a read across its position; suspend and resume",
        chunks: 4,
        data: true,
        start: FROZEN_RESHAPE,
        users: [
            user("lvm", &[Op::Suspend { noflush: true }, Op::Resume]),
            NOBODY,
            user("io", &[Op::Read(9)]),
            NOBODY,
        ],
        ..DM_RAID5
    },
    Scenario {
        name: "S7b",
        title: "a backward reshape runs; a write beside it",
        reshape: Reshape::Shrink,
        chunks: 6,
        data: true,
        start: RESHAPE_AT_6,
        users: [NOBODY, NOBODY, user("io", &[Op::Write(5)]), NOBODY],
        ..DM_RAID5
    },
    Scenario {
        name: "S8",
        title: "a read is in flight; the device is removed",
        chunks: 1,
        start: Start { live: true, ..NO_TABLE },
        users: [user("lvm", &[Op::Remove]), NOBODY, user("io", &[Op::Read(0)]), NOBODY],
        ..DM_RAID5
    },
    Scenario {
        name: "S9",
        title: "a reshape goes on, with a member to be rebuilt beside it and a read across its position",
        chunks: 4,
        data: true,
        start: RESHAPE_AT_9,
        tables: [REBUILD, PLAIN],
        users: [NOBODY, NOBODY, user("io", &[Op::Read(9)]), NOBODY],
        ..DM_RAID5
    },
    Scenario {
        name: "S10",
        title: "a resync runs on an md array; idle beside frozen",
        is_dm: false,
        chunks: 1,
        users: lvm_and(&[Op::SysFrozen], user("mdadm", &[Op::SysIdle])),
        ..DM_RAID5
    },
    Scenario {
        name: "S11",
        title: "a raid10 array resyncs; a member fails a write; frozen",
        level: Level::Raid10,
        is_dm: false,
        chunks: 2,
        users: [user("mdadm", &[Op::SysFrozen]), NOBODY, user("io", &[Op::Write(0)]), NOBODY],
        ..DM_RAID5
    },
    Scenario {
        name: "S12",
        title: "a reshape is frozen; a read of two stripes, the second across its position; suspend",
        chunks: 4,
        data: true,
        start: FROZEN_RESHAPE,
        users: [
            user("lvm", &[Op::Suspend { noflush: true }]),
            NOBODY,
            User { name: "io", script: &[Op::ReadTwo(8)], patient: true },
            NOBODY,
        ],
        ..DM_RAID5
    },
    Scenario {
        name: "S13",
        title: "a read across a running reshape's position on an md array; frozen, then suspend_lo",
        is_dm: false,
        chunks: 4,
        start: RESHAPE_AT_9,
        users: [
            user("mdadm", &[Op::SysFrozen, Op::SuspendLo]),
            NOBODY,
            User { name: "io", script: &[Op::Read(9)], patient: true },
            NOBODY,
        ],
        ..DM_RAID5
    },
    Scenario {
        name: "S14",
        title: "a resync runs; a member fails beside a suspend",
        walks: 20_000,
        chunks: 1,
        users: lvm_and(&[Op::Suspend { noflush: false }], DISK),
        ..DM_RAID5
    },
    Scenario {
        name: "S14u",
        title: "a new table writes its superblocks, while a member fails",
        walks: 20_000,
        chunks: 1,
        start: Start { resync_offset: 0, ..NO_TABLE },
        tables: [Table { rt: rt::UPDATE_SBS, rebuild: false }, PLAIN],
        users: lvm_and(&[Op::Ctr(0), Op::Resume], DISK),
        ..DM_RAID5
    },
    Scenario {
        name: "S15",
        title: "a reshape is about to go on on an md array; a read across its position beside suspend_lo",
        is_dm: false,
        chunks: 4,
        start: RESHAPE_AT_9,
        users: [user("mdadm", &[Op::SuspendLo]), NOBODY, user("io", &[Op::Read(9)]), NOBODY],
        ..DM_RAID5
    },
    Scenario {
        name: "S16",
        title: "an md array looks whether a sync is due, and none is; check is asked for",
        is_dm: false,
        chunks: 1,
        start: Start { resync_offset: MAX, ..LIVE_RESYNC },
        users: [user("mdadm", &[Op::SysCheck]), NOBODY, NOBODY, NOBODY],
        ..DM_RAID5
    },
    Scenario {
        name: "S17",
        title: "the device is suspended, then what its members are on; the device is removed",
        chunks: 1,
        start: Start { live: true, ..NO_TABLE },
        users: lvm(&[Op::Suspend { noflush: false }, Op::SuspendMembers, Op::Remove]),
        ..DM_RAID5
    },
    Scenario {
        name: "S18",
        title: "a table with a member to be rebuilt is loaded and cleared, never resumed",
        start: NO_TABLE,
        tables: [REBUILD, PLAIN],
        users: lvm(&[Op::Ctr(0), Op::Clear]),
        ..DM_RAID5
    },
    Scenario {
        name: "S18r",
        title: "a table with a member to be rebuilt is loaded and resumed",
        start: NO_TABLE,
        tables: [REBUILD, PLAIN],
        chunks: 1,
        users: lvm(&[Op::Ctr(0), Op::Resume]),
        ..DM_RAID5
    },
    Scenario {
        name: "S18u",
        title: "a table with a member to be rebuilt writes its superblocks and resumes",
        start: NO_TABLE,
        tables: [Table { rt: rt::UPDATE_SBS, rebuild: true }, PLAIN],
        chunks: 1,
        users: lvm(&[Op::Ctr(0), Op::Resume]),
        ..DM_RAID5
    },
    Scenario {
        name: "S19",
        title: "a member is being rebuilt; the device is suspended, then removed",
        start: Start { resync_offset: MAX, ..LIVE_RESYNC },
        tables: [REBUILD, PLAIN],
        chunks: 1,
        users: lvm(&[Op::Suspend { noflush: false }, Op::Remove]),
        ..DM_RAID5
    },
];

/// The scenario of that name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name.eq_ignore_ascii_case(name))
}

impl Scenario {
    /// Chunks that a sync takes.
    pub fn chunks(&self) -> u8 {
        self.chunks
    }

    /// A task's name in a story.
    pub fn task_name(&self, task: usize) -> String {
        let both = self.users.iter().any(|user| user.script.iter().any(|op| matches!(op, Op::Ctr(1))));
        let of = |name: &str, set: usize| if both { format!("{name}/{set}") } else { name.to_owned() };
        match role(task) {
            Role::User(user) => self.users[user].name.to_owned(),
            Role::Daemon(set) => match self.level {
                Level::Raid5 => of("raid5d", set),
                Level::Raid10 => of("raid10d", set),
            },
            Role::Worker(set) => of("worker", set),
            Role::Sync(set) => of("sync", set),
        }
    }

    /// The state at the beginning.
    pub fn initial(&self) -> State {
        let start = self.start;
        let mut state = State {
            sets: [Set::NONE; 2],
            dm: Dm {
                live: MAX,
                inactive: MAX,
                suspended: 1,
                block_io: 1,
                noflush: 0,
                srcu: 0,
                pending: 0,
                removed: 0,
                open: self.users[2..].iter().filter(|user| !user.script.is_empty()).count() as u8,
                members_suspended: 0,
            },
            sb: Sb {
                resync_offset: start.resync_offset,
                reshape_position: start.reshape_position,
                layout: 0,
            },
            tasks: [Task::NONE; N_TASKS],
            bios: [Bio::NONE; 2],
            cells: if self.data {
                self.reshape.reshaped_to(match start.reshape_position {
                    MAX => self.reshape.begin(),
                    position => position,
                })
            } else {
                [0; disk::N_CELLS]
            },
            pad: Default::default(),
            acked: 0,
        };
        for (idx, user) in self.users.iter().enumerate() {
            if !user.script.is_empty() {
                state.tasks[idx] = Task::starting(F::Script, 0);
            }
        }
        if start.live {
            state.dm.live = 0;
            state.dm.suspended = 0;
            state.dm.block_io = 0;
            state.sets[0] = Set {
                life: 1,
                rt: rt::PRERESUMED | rt::RESUMED,
                recovery: start.recovery,
                thread: 1,
                resync_offset: start.resync_offset,
                reshape_position: start.reshape_position,
                progress: start.reshape_position,
                safe: start.reshape_position,
                member_to_rebuild: if self.tables[0].rebuild { state::TO_REBUILD } else { 0 },
                ..Set::NONE
            };
            state.tasks[daemon(0)] = Task::starting(F::MdThread, 0);
            state.tasks[daemon(0)].wakeup = 1;
            state.tasks[worker(0)] = Task::starting(F::WorkerThread, 0);
        }
        state
    }
}
