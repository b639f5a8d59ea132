//! The sample: 20 of LVM2's RAID tests, each with the reason for its choice.
//!
//! They cover the levels, conversions and failures of dm-raid, and differ in length as all tests do. None
//! depends on the host's speed. lvchange-raid1-writemostly.sh is left out, because it fails where a resync
//! ends before the next command.

/// The tests, with the reason for each.
pub(super) const SAMPLE: [(&str, &str); 20] = [
    ("shell/component-raid.sh", "legs that are activated by themselves"),
    ("shell/integrity-misc.sh", "dm-integrity under raid"),
    ("shell/lvchange-raid-transient-failures.sh", "devices that come back"),
    ("shell/lvchange-raid456.sh", "scrubbing and rebuilding of raid4, 5 and 6"),
    ("shell/lvchange-rebuild-raid.sh", "legs that are written anew"),
    ("shell/lvconvert-raid-allocation.sh", "where images are put"),
    ("shell/lvconvert-raid-regionsize.sh", "the bitmap's regions, mostly waiting"),
    ("shell/lvconvert-raid-reshape-striped_to_linear.sh", "reshapes one after the other"),
    ("shell/lvconvert-raid-takeover-linear_to_raid4.sh", "takeover from level to level"),
    ("shell/lvconvert-raid0-striped.sh", "raid0 and back"),
    ("shell/lvconvert-raid1-split-trackchanges.sh", "a leg that is split off and comes back"),
    ("shell/lvconvert-raid10.sh", "raid10 gains and loses images"),
    ("shell/lvconvert-repair-raid.sh", "lost devices are replaced"),
    ("shell/lvconvert-repair-raid5.sh", "the same under raid5"),
    ("shell/lvconvert-snapshot-raid.sh", "a snapshot over raid"),
    ("shell/lvcreate-raid-nosync.sh", "arrays that begin in sync"),
    ("shell/lvcreate-raid10.sh", "raid10 in all shapes"),
    ("shell/lvcreate-raid1-read-error.sh", "a leg that fails to be read"),
    ("shell/lvextend-raid.sh", "arrays that grow"),
    ("shell/vgsplit-raid.sh", "arrays that change their group"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use harness::suite::suite_named;

    #[test]
    fn the_sample_is_of_the_suite() {
        let suite = suite_named("lvm2").unwrap();
        for (name, _) in SAMPLE {
            let test = protocol::TestId::new("lvm2", name).unwrap();
            assert!(suite.job(&test).is_ok(), "{name}");
        }
    }
}
