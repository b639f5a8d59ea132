//! What earlier versions recorded under words that were wrong, put right when it is read. Pure.
//!
//! A report's kind is decided when it is found, and stands in the events. Up to format 3 some lines were
//! called corruption that speak of none: what was recorded of them is read as what it is.

use protocol::evidence::{KernelReport, ReportKind};

/// The last format whose kinds are to be corrected.
const LAST_WRONG: u32 = 3;

/// Every mount of btrfs came under it, which names its checksum algorithm (btrfs_init_csum_hash, disk-io.c).
const EVERY_MOUNT: &str = "file system corruption";

/// The title that such a report has now.
const UNTOLD: &str = "btrfs, bcache or dm-verity spoke of checksums";

/// Titles that were given as [`ReportKind::Corruption`] and mean no changed data.
const NO_CORRUPTION: [&str; 7] = [
    EVERY_MOUNT,
    // A journal that cannot be closed, a remount that aborts, a block of multi-mount protection that cannot
    // be written, a bitmap or inode that cannot be read (ext4_put_super, __ext4_remount, kmmpd,
    // ext4_wait_block_bitmap, __ext4_get_inode_loc; fs/ext4 of 6.12): all come of IO errors.
    "ext4: error in ext4_put_super",
    "ext4: error in ext4_remount",
    "ext4: error in kmmpd",
    "ext4: error in ext4_wait_block_bitmap",
    "ext4: error in ext4_get_inode_loc",
    "ext4: error in __ext4_get_inode_loc",
];

/// The report as it is read today.
pub(crate) fn corrected(format: u32, report: KernelReport) -> KernelReport {
    let is_wrong = format <= LAST_WRONG
        && report.kind == ReportKind::Corruption
        && NO_CORRUPTION.contains(&report.title.as_str());
    if !is_wrong {
        return report;
    }
    // The line itself is not recorded, and nobody can say now whether it was one of the others.
    let title = if report.title == EVERY_MOUNT { UNTOLD.to_owned() } else { report.title };
    KernelReport { kind: ReportKind::StorageError, title, ..report }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_wrong_then_is_corrected() {
        let kind = |format, title: &str| {
            let title = title.to_owned();
            let (alt_titles, frames, causes) = (vec![], vec![], vec![]);
            let report = KernelReport {
                kind: ReportKind::Corruption,
                title,
                alt_titles,
                corrupted: false,
                frames,
                causes,
                starved: false,
            };
            corrected(format, report).kind
        };
        assert_eq!(kind(3, "file system corruption"), ReportKind::StorageError);
        assert_eq!(kind(3, "ext4: error in kmmpd"), ReportKind::StorageError);
        assert_eq!(kind(3, "ext4: error in ext4_lookup"), ReportKind::Corruption);
        assert_eq!(kind(4, "file system corruption"), ReportKind::Corruption);
    }
}
