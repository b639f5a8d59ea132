//! The scenarios of domain.md, section 4, as data: who does what, on which array.

use crate::bits::{recovery, rt};
use crate::disk;
use crate::kernel::F;
use crate::state::{Bio, Dm, MAX, N_TASKS, N_USERS, Sb, Set, State, Task, daemon, worker};

/// The personality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// raid5 of three disks, or of four after the reshape.
    Raid5,
    /// raid1 of two disks.
    Raid1,
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
    /// `echo … > suspend_lo`: holds IO back.
    MdSuspend,
    /// `echo … > suspend_lo`: lets it go on.
    MdResume,
    /// Reads a logical block.
    Read(u8),
    /// Writes a logical block.
    Write(u8),
}

/// A user and what it does.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// Its name in the story.
    pub name: &'static str,
    /// Its commands; none: there is no such user.
    pub script: &'static [Op],
}

/// What a dm table asks of its raid_set.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// `rs->runtime_flags` that the constructor sets.
    pub rt: u8,
    /// There is a spare to be added.
    pub spare: bool,
}

/// A table without wishes.
const PLAIN: Table = Table { rt: 0, spare: false };

/// What there is at the beginning.
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
    /// What happens in it.
    pub title: &'static str,
    /// The personality.
    pub level: Level,
    /// Under dm-raid; else an md array with sysfs.
    pub is_dm: bool,
    /// The members' data are looked at (I7, I8).
    pub data: bool,
    /// `raid_preresume` fails to load the bitmap.
    pub preresume_fails: bool,
    /// Chunks that a sync takes.
    pub chunks: u8,
    /// What there is at the beginning.
    pub start: Start,
    /// Nothing more is looked at when the second raid_set's reshape has recorded this position.
    pub horizon: Option<u8>,
    /// The tables of the two raid_sets.
    pub tables: [Table; 2],
    /// The users; the last two do IO.
    pub users: [User; N_USERS],
}

const NOBODY: User = User { name: "", script: &[] };
const LIVE_RESYNC: Start =
    Start { live: true, recovery: recovery::NEEDED, resync_offset: 0, reshape_position: MAX };
const NO_TABLE: Start = Start { live: false, recovery: 0, resync_offset: MAX, reshape_position: MAX };

const fn lvm(script: &'static [Op]) -> [User; N_USERS] {
    [User { name: "lvm", script }, NOBODY, NOBODY, NOBODY]
}

const fn lvm_and(script: &'static [Op], other: User) -> [User; N_USERS] {
    [User { name: "lvm", script }, other, NOBODY, NOBODY]
}

const DM_RAID5: Scenario = Scenario {
    name: "",
    title: "",
    level: Level::Raid5,
    is_dm: true,
    data: false,
    preresume_fails: false,
    chunks: 2,
    start: LIVE_RESYNC,
    horizon: None,
    tables: [PLAIN, PLAIN],
    users: [NOBODY; N_USERS],
};

/// All scenarios, in the order of the table.
pub const SCENARIOS: [Scenario; 9] = [
    Scenario {
        name: "S1",
        title: "a resync runs; the device is suspended, then removed",
        users: lvm(&[Op::Suspend { noflush: false }, Op::Remove]),
        ..DM_RAID5
    },
    Scenario {
        name: "S2",
        title: "a new table writes its superblocks; the resume fails; the device is removed",
        start: Start { resync_offset: 0, ..NO_TABLE },
        tables: [Table { rt: rt::UPDATE_SBS, spare: false }, PLAIN],
        preresume_fails: true,
        users: lvm(&[Op::Ctr(0), Op::Resume, Op::Remove]),
        ..DM_RAID5
    },
    Scenario {
        name: "S3",
        title: "a table asks for a reshape, which has to wait for a reload; the device is suspended",
        chunks: 4,
        start: NO_TABLE,
        tables: [Table { rt: rt::UPDATE_SBS | rt::RESHAPE_RS, spare: false }, PLAIN],
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
        name: "S5b",
        title: "a new table writes its superblocks and resumes: does it sync before?",
        start: Start { resync_offset: 0, ..NO_TABLE },
        tables: [Table { rt: rt::UPDATE_SBS, spare: false }, PLAIN],
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
        name: "S7",
        title: "a reshape is frozen; a read across its position; suspend and resume",
        chunks: 4,
        data: true,
        start: Start { live: true, recovery: recovery::FROZEN, resync_offset: MAX, reshape_position: 9 },
        users: [
            User { name: "lvm", script: &[Op::Suspend { noflush: true }, Op::Resume] },
            NOBODY,
            User { name: "io", script: &[Op::Read(9)] },
            NOBODY,
        ],
        ..DM_RAID5
    },
    Scenario {
        name: "S10",
        title: "a resync runs on an md array; idle beside frozen",
        is_dm: false,
        chunks: 1,
        users: lvm_and(&[Op::SysFrozen], User { name: "mdadm", script: &[Op::SysIdle] }),
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

    /// Whether nothing more is looked at.
    pub fn is_beyond(&self, state: &State) -> bool {
        let set = &state.sets[1];
        // The old raid_set may still run, and is to be seen doing so: only the new one's work ends it.
        self.horizon.is_some_and(|horizon| {
            set.life == 1 && set.ro == 0 && set.progress > horizon && set.safe >= horizon
        })
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
            },
            sb: Sb {
                resync_offset: start.resync_offset,
                reshape_position: start.reshape_position,
                layout: 0,
            },
            tasks: [Task::NONE; N_TASKS],
            bios: [Bio::NONE; 2],
            cells: if self.data {
                disk::reshaped_to(if start.reshape_position == MAX { 0 } else { start.reshape_position })
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
                spare: u8::from(self.tables[0].spare),
                ..Set::NONE
            };
            state.tasks[daemon(0)] = Task::starting(F::MdThread, 0);
            state.tasks[daemon(0)].wakeup = 1;
            state.tasks[worker(0)] = Task::starting(F::WorkerThread, 0);
        }
        state
    }
}
