//! Patches as switches, kernels as sets of switches: one code runs every era. P1 to P11 are the patches of
//! the v2 series (docs/md/series-v2.md).

/// One patch that changes the control logic. What it changes is said where the port asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Switch {
    /// 130443d60b1b (v6.6): idle and frozen set INTR, wake, unlock, and wait on `resync_wait`.
    C130443,
    /// 644e2537fdc7: `rs_start_reshape` sets WAIT, so that the sync thread does not work before a reload.
    C644e,
    /// 868bba54a3bc (v6.5, gone with what follows 714d20150ed8 in v6.7): `mddev_suspend` lets IO fail that
    /// waits for a reshape which the suspend keeps from going on (`pers->prepare_suspend`).
    C868b,
    /// 446931543982 (v6.5): `md_unregister_thread` takes the thread's pointer without `pers_lock`.
    C44693,
    /// 9dfbdafda3b3 (only in the 6.1 series, where it still is; upstream took it back): `action_store` gives
    /// `reconfig_mutex` up to unregister the sync thread, and then reaps.
    C9dfb,
    /// 5e2cf333b7bd (v6.1 to v6.7, and v6.9: bed9e27baf52 took it back for v6.8, 3445139e3a59 restored it):
    /// raid5d, after stripes, waits for superblocks that only it may be about to write (CVE-2024-39476).
    C5e2c,
    /// 151f66bb618d (v6.10, 6.1.94): raid5d leaves at CHANGE_PENDING instead of trying again the stripes that
    /// `handle_stripe` turns back. With a913d1f6a7f6 (v6.19, and in the stable series): neither does so on a
    /// read-only array, where nothing clears the flag.
    C151f,
    /// 714d20150ed8 and what follows it (v6.7): `mddev_suspend` is called without `reconfig_mutex`, and
    /// counts the array as suspended only when its IO has drained.
    Suspend67,
    /// db5e653d7c9f and its series (v6.7): the worker, not the daemon, chooses the action, under
    /// `reconfig_mutex`, and removes and adds spares, also on a read-only array, for which the daemon sets
    /// RUNNING, frozen or not.
    StartSync67,
    /// f52f5c71f3d4 (v6.7): one `stop_sync_thread` for all; only the daemon reaps.
    F52f5,
    /// c467e97f079f (v6.7): `stripe_ahead_of_reshape` compares the right blocks.
    C467e,
    /// P1, 1baae052cccd (v6.8): `md_check_recovery` also looks at a suspended array.
    P1,
    /// P2, 55a48ad2db64 (v6.8): the sync thread of a read-only array is reaped as well.
    P2,
    /// P3, 82ec0ae59d02 (v6.8): `md_do_sync` always sets DONE.
    P3,
    /// P4, ad39c08186f8 (v6.8): a reshape's thread is registered by the worker only.
    P4,
    /// P5 as in v2: helpers to stop the sync thread that also take `sync_mutex`.
    P5v2,
    /// P5 as merged, 7a2347e284d7 (v6.9): helpers that leave `sync_mutex` alone.
    P5,
    /// P6 as in v2: presuspend freezes and stops, resume and presuspend_undo unfreeze.
    P6v2,
    /// P6 as merged, 16c4770c75b1 (v6.9): `md_stop_writes` freezes and stops.
    P6,
    /// 2f03d0c2cd45 (v6.9): `md_run` leaves FROZEN set for dm-raid.
    RunKeepsFrozen,
    /// P7, cd32b27a66db (v6.9): `raid_message` uses the helpers under `reconfig_mutex`.
    P7,
    /// P8 as in v2, never merged: dm-raid does not suspend the mddev.
    P8,
    /// P9, 5625ff8b72b0 (v6.9): the personality may prepare for a suspend. Only a hook.
    P9,
    /// P10, 314e9af06551 (v6.9): `md_is_rdwr` moves to md.h. Only moved code.
    P10,
    /// P11 as in v2: IO that waits for a reshape that cannot move fails.
    P11v2,
    /// P11 as merged, 41425f96d7aa (v6.9): such IO is given back to dm.
    P11,
    /// 9e46c70e829b (v6.8): the worker does not suspend the array during an interrupted reshape.
    C9e46,
    /// The new `sync_action` of v6.11, up to d249e5418884: `action_store` waits for a work item that may turn
    /// out to have nothing to do (5ce10a38590c) and uses the helpers (c8ecfe680c37), `stop_sync_thread` looks
    /// at FROZEN (df79234bdc3f), and `md_do_sync` sees it, too (7d9f107a4e94); and 03e792eaf18e of the same
    /// release.
    SyncAction,
    /// 3199a34bfaf7 (v6.11): `raid_resume` warns of a sync thread, not of RUNNING, which need not mean one.
    C3199,
    /// 55dcfdf8af9c (v6.18, not in 6.12.117): `raid_postsuspend` makes the array read-only.
    C55dc,
    /// cefcb9297fbd (v7.0, 6.12.114): `__md_stop_writes` neither quiesces a read-only array of dm-raid nor
    /// flushes its bitmap.
    Ccefc,
    /// cf86bb53b9c9 (6.12.94): `mddev_suspend` wakes the IO that waits for the reshape.
    Cf86,
    /// 418b3e64e445 (v7.x): a bio is given back only when the stripes that it is on are done with it.
    C418b,
    /// 1d24d4c1ea1d (v7.x): IO is given back to dm only while dm suspends.
    C1d24,
    /// In no kernel: `__md_stop_writes` reaps directly, under `reconfig_mutex`, as before v6.7.
    ReapDirectly,
    /// In no kernel: `md_do_sync` does not look at WAIT.
    NoWait,
    /// In no kernel: whoever stops a sync thread also waits for a work item that already runs (`work_busy`,
    /// as `action_store` does since v6.11).
    WorkBusy,
    /// In no kernel: `raid_dtr` freezes and stops the sync thread before it stops the array.
    DtrStops,
    /// A mutation, to see I10 fail: wakes of `resync_wait` are lost.
    LostWake,
    /// A mutation, to see I4 fail: `md_start_sync` forgets to register the thread.
    LostThread,
    /// A mutation, to see I11 fail: `mddev_unlock` unlocks twice.
    DoubleUnlock,
}

/// All switches, in the order of their numbers.
pub const SWITCHES: [Switch; 41] = [
    Switch::C130443,
    Switch::C644e,
    Switch::C868b,
    Switch::C44693,
    Switch::C9dfb,
    Switch::C5e2c,
    Switch::C151f,
    Switch::Suspend67,
    Switch::StartSync67,
    Switch::F52f5,
    Switch::C467e,
    Switch::P1,
    Switch::P2,
    Switch::P3,
    Switch::P4,
    Switch::P5v2,
    Switch::P5,
    Switch::P6v2,
    Switch::P6,
    Switch::RunKeepsFrozen,
    Switch::P7,
    Switch::P8,
    Switch::P9,
    Switch::P10,
    Switch::P11v2,
    Switch::P11,
    Switch::C9e46,
    Switch::SyncAction,
    Switch::C3199,
    Switch::C55dc,
    Switch::Ccefc,
    Switch::Cf86,
    Switch::C418b,
    Switch::C1d24,
    Switch::ReapDirectly,
    Switch::NoWait,
    Switch::WorkBusy,
    Switch::DtrStops,
    Switch::LostWake,
    Switch::LostThread,
    Switch::DoubleUnlock,
];

/// A kernel: which patches it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Era {
    switches: u64,
}

impl Era {
    /// A kernel with exactly these patches.
    pub const fn of(switches: &[Switch]) -> Self {
        Self { switches: 0 }.with(switches)
    }

    /// This kernel and these patches.
    pub const fn with(mut self, switches: &[Switch]) -> Self {
        let mut idx = 0;
        while idx < switches.len() {
            self.switches |= 1 << switches[idx] as u64;
            idx += 1;
        }
        self
    }

    /// This kernel without one patch.
    pub const fn without(mut self, switch: Switch) -> Self {
        self.switches &= !(1 << switch as u64);
        self
    }

    /// True if the kernel has the patch.
    #[inline]
    pub const fn has(self, switch: Switch) -> bool {
        self.switches & (1 << switch as u64) != 0
    }
}

/// 6.1.192: Debian's 6.1, with what the stable series took.
pub const V6_1: Era = Era::of(&[Switch::C644e, Switch::C9dfb, Switch::C151f, Switch::C467e]);
/// v6.5: before 130443d60b1b.
pub const V6_5: Era = Era::of(&[Switch::C644e, Switch::C868b, Switch::C44693, Switch::C5e2c]);
/// v6.6.
pub const V6_6: Era = V6_5.with(&[Switch::C130443]);
/// v6.7, with the regressions that the v2 series is about.
pub const V6_7: Era =
    V6_6.without(Switch::C868b).with(&[Switch::Suspend67, Switch::StartSync67, Switch::F52f5, Switch::C467e]);
/// v6.8-rc1, on which the v2 series was made: v6.7 without raid5d's wait.
const BASE: Era = V6_7.without(Switch::C5e2c);
/// The first four patches of the v2 series.
pub const P1_4: Era = BASE.with(&[Switch::P1, Switch::P2, Switch::P3, Switch::P4]);
/// The first eight patches of the v2 series.
pub const P1_8: Era = P1_4.with(&[Switch::P5v2, Switch::P6v2, Switch::P7, Switch::P8]);
/// The whole v2 series.
pub const V2: Era = P1_8.with(&[Switch::P9, Switch::P10, Switch::P11v2]);
/// v6.8: with the patches of the series that it merged.
pub const V6_8: Era = P1_4.with(&[Switch::C9e46]);
/// v6.9: the whole series as merged.
pub const V6_9: Era = V6_8.with(&[
    Switch::C5e2c,
    Switch::P5,
    Switch::P6,
    Switch::RunKeepsFrozen,
    Switch::P7,
    Switch::P9,
    Switch::P10,
    Switch::P11,
]);
/// 6.12.117 of Debian's 6.12.
pub const V6_12: Era = V6_9.without(Switch::C5e2c).with(&[
    Switch::C151f,
    Switch::SyncAction,
    Switch::C3199,
    Switch::Ccefc,
    Switch::Cf86,
]);
/// 7.3.
pub const V7_3: Era = V6_12.with(&[Switch::C55dc, Switch::C418b, Switch::C1d24]);

/// The kernels of the table, by the names that the command line takes.
pub const ERAS: [(&str, Era); 19] = [
    ("6.1", V6_1),
    ("6.5", V6_5),
    ("6.6", V6_6),
    ("6.7", V6_7),
    ("P1", BASE.with(&[Switch::P1])),
    ("P1-2", BASE.with(&[Switch::P1, Switch::P2])),
    ("P1-3", BASE.with(&[Switch::P1, Switch::P2, Switch::P3])),
    ("P1-4", P1_4),
    ("P1-5", P1_4.with(&[Switch::P5v2])),
    ("P1-6", P1_4.with(&[Switch::P5v2, Switch::P6v2])),
    ("P1-7", P1_4.with(&[Switch::P5v2, Switch::P6v2, Switch::P7])),
    ("P1-8", P1_8),
    ("P1-9", P1_8.with(&[Switch::P9])),
    ("P1-10", P1_8.with(&[Switch::P9, Switch::P10])),
    ("v2", V2),
    ("6.8", V6_8),
    ("6.9", V6_9),
    ("6.12", V6_12),
    ("7.3", V7_3),
];

/// The switch of that name.
pub fn switch_named(name: &str) -> Option<Switch> {
    SWITCHES.into_iter().find(|switch| format!("{switch:?}").eq_ignore_ascii_case(name))
}

/// The era of that name.
pub fn named(name: &str) -> Option<Era> {
    ERAS.iter().find(|(known, _)| *known == name).map(|(_, era)| *era)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_has_its_own_bit() {
        for (idx, switch) in SWITCHES.into_iter().enumerate() {
            assert_eq!(switch as usize, idx, "{switch:?}");
        }
    }
}
