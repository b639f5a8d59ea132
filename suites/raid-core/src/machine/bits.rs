//! The flag words of md and dm-raid, with upstream's names.

/// `mddev->recovery` (md.h, `enum recovery_flags`).
pub mod recovery {
    /// A sync thread runs, or will run: from the daemon's decision to the reaping.
    pub const RUNNING: u16 = 1 << 0;
    /// Somebody wants the sync thread to stop.
    pub const INTR: u16 = 1 << 1;
    /// The sync thread is done and waits to be reaped.
    pub const DONE: u16 = 1 << 2;
    /// Somebody wants the daemon to look whether a sync is due.
    pub const NEEDED: u16 = 1 << 3;
    /// The sync was asked for by the user.
    pub const REQUESTED: u16 = 1 << 4;
    /// The sync only compares.
    pub const CHECK: u16 = 1 << 5;
    /// The sync is a resync (or a check, or a repair).
    pub const SYNC: u16 = 1 << 6;
    /// The sync fills a spare.
    pub const RECOVER: u16 = 1 << 7;
    /// The sync changes the layout.
    pub const RESHAPE: u16 = 1 << 8;
    /// No sync thread may start.
    pub const FROZEN: u16 = 1 << 9;
    /// dm-raid: the sync thread may not work until the table is loaded again.
    pub const WAIT: u16 = 1 << 10;

    /// Names, in the order of the bits.
    pub const NAMES: [&str; 11] = [
        "RUNNING",
        "INTR",
        "DONE",
        "NEEDED",
        "REQUESTED",
        "CHECK",
        "SYNC",
        "RECOVER",
        "RESHAPE",
        "FROZEN",
        "WAIT",
    ];
}

/// `mddev->sb_flags` (md.h, `enum mddev_sb_flags`).
pub mod sb {
    /// Some device's state changed.
    pub const CHANGE_DEVS: u8 = 1 << 0;
    /// Clean to dirty or back.
    pub const CHANGE_CLEAN: u8 = 1 << 1;
    /// Writes wait until the superblocks are written.
    pub const CHANGE_PENDING: u8 = 1 << 2;

    /// Names, in the order of the bits.
    pub const NAMES: [&str; 3] = ["CHANGE_DEVS", "CHANGE_CLEAN", "CHANGE_PENDING"];
}

/// `rs->runtime_flags` (dm-raid.c, `RT_FLAG_*`).
pub mod rt {
    /// The constructor or `raid_preresume` has already run once.
    pub const PRERESUMED: u8 = 1 << 0;
    /// `raid_resume` has run at least once.
    pub const RESUMED: u8 = 1 << 1;
    /// Between `raid_postsuspend` (or the constructor) and `raid_resume`.
    pub const SUSPENDED: u8 = 1 << 2;
    /// Between `raid_presuspend` and `raid_resume` (v6.9).
    pub const FROZEN: u8 = 1 << 3;
    /// The superblocks have to be written before the first resume.
    pub const UPDATE_SBS: u8 = 1 << 4;
    /// The table asks for a reshape.
    pub const RESHAPE_RS: u8 = 1 << 5;

    /// Names, in the order of the bits.
    pub const NAMES: [&str; 6] =
        ["RS_PRERESUMED", "RS_RESUMED", "RS_SUSPENDED", "RS_FROZEN", "UPDATE_SBS", "RESHAPE_RS"];
}

/// The names of the bits that are set, joined by `|`.
pub fn names(word: u16, names: &[&str]) -> String {
    let set: Vec<&str> =
        names.iter().enumerate().filter(|(bit, _)| word & (1 << bit) != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { "-".to_owned() } else { set.join("|") }
}
