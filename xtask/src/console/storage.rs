//! Recognises the single lines by which md, dm, ext4, jbd2, xfs and dm-integrity report lost redundancy,
//! IO errors, and data that is not what was written.
//!
//! Pure. A title names no device, sector, count or errno, so that a bug has one. Deliberately not here:
//! which of these a test causes on purpose; expectations.toml allows them.

use std::sync::LazyLock;

use protocol::evidence::ReportKind;
use protocol::evidence::ReportKind::{Corruption, StorageError};
use regex::Regex;

/// What a line says, if it is one of those; `$name` in a title stands for a group of its pattern. The
/// first that matches counts, so that what is special comes before what is general.
const LINES: [(ReportKind, &str, &str); 39] = [
    // md and its levels. dm-raid's arrays are all called mdX.
    (
        StorageError,
        r"^md/(?<level>raid\d*):\S+: Disk failure on ",
        "md/$level: disk failure, device disabled",
    ),
    (
        StorageError,
        r"^md/(?<level>raid\d*|multipath):\S+: Cannot continue operation",
        "md/$level: cannot continue operation",
    ),
    (
        StorageError,
        r"^md/(?<level>raid\d*):\S+: read error not correctable",
        "md/$level: read error not correctable",
    ),
    (StorageError, r"^md/(?<level>raid\d*):\S+: read error corrected", "md/$level: read error corrected"),
    (
        StorageError,
        r"^md/(?<level>raid\d*):.*(?:unrecoverable I/O|Too many read errors|exceeded read_error threshold|read error, but)",
        "md/$level: unrecoverable read error",
    ),
    (
        StorageError,
        r"^md/(?<level>raid\d*):.*io across reshape position",
        "md/$level: io across reshape position while reshape can't make progress",
    ),
    (
        StorageError,
        r"^md/(?<level>raid\d*):\S+: (?<what>cannot start dirty degraded array|not enough operational (?:mirrors|devices)|failed to run raid set)",
        "md/$level: $what",
    ),
    (Corruption, r"^(?:md/raid\d*:)?\S+: mismatch sector in range ", "md: mismatch found by a check"),
    (StorageError, r"^md: super_written gets error", "md: superblock write error"),
    (StorageError, r"^md: (?:\S+: )?could not start resync thread", "md: could not start resync thread"),
    (StorageError, r"^md: \S+ still in use", "md: array still in use"),
    (
        StorageError,
        r"^md: (?:\S+: )?(?:disabled device|invalid superblock|cannot handle|error, md)",
        "md: member refused",
    ),
    // dm-raid and dm-integrity, and dm-crypt with integrity.
    (Corruption, r"^device-mapper: integrity: .*[Cc]hecksum failed", "dm-integrity: checksum failed"),
    (Corruption, r"^device-mapper: \w+: .*INTEGRITY AEAD ERROR", "dm-crypt: integrity AEAD error"),
    (Corruption, r"^device-mapper: integrity: .*[Mm]ismatch", "dm-integrity: mismatch"),
    (StorageError, r"^device-mapper: integrity: .*(?:Error on|error on|I/O error)", "dm-integrity: IO error"),
    (
        StorageError,
        r"^device-mapper: raid: Failed to read superblock",
        "dm-raid: failed to read a superblock",
    ),
    (StorageError, r"^device-mapper: raid: .*(?:Failed|failed|Unable|unable|[Ee]rror)", "dm-raid: error"),
    (
        StorageError,
        r"^device-mapper: (?<target>multipath|raid1|mirror|thin|cache|writecache|era): .*(?:Failing|failed|I/O error|lost)",
        "dm-$target: error",
    ),
    // ext4 and its journal: what an IO error explains is no corruption.
    (
        StorageError,
        r"^EXT4-fs (?:error|warning|\().*(?:I/O error|unable to read|Cannot read|error reading|error -5|errno?=-5|reading directory lblock|potential data loss|Delayed block allocation failed|previous I/O error)",
        "ext4: IO error",
    ),
    (
        Corruption,
        r"^EXT4-fs (?:error|warning)? ?\(.*checksum.*(?:fail|invalid|mismatch|does not match)",
        "ext4: checksum error",
    ),
    (
        Corruption,
        r"^EXT4-fs \(.*(?:invalid \w+ checksum|Checksum for group \d+ failed)",
        "ext4: checksum error",
    ),
    (
        StorageError,
        r"^EXT4-fs error \(device [^)]*\): (?:ext4_journal_check_start|__ext4_std_error|ext4_convert_unwritten)\b",
        "ext4: journal aborted",
    ),
    (
        StorageError,
        r"^EXT4-fs error \(device [^)]*\) in .*(?:IO failure|Journal has aborted|Readonly filesystem)",
        "ext4: journal aborted",
    ),
    (Corruption, r"^EXT4-fs error \(device [^)]*\)(?::| in) (?<function>\w+):", "ext4: error in $function"),
    (Corruption, r"^EXT4-fs error ", "ext4: error"),
    (Corruption, r"^JBD2: .*[Cc]hecksum", "jbd2: checksum error"),
    (
        StorageError,
        r"^(?:JBD2: .*(?:I/?O error|[Ee]rror -5)|Aborting journal on device )",
        "jbd2: journal aborted",
    ),
    // xfs. Errors 74 and 117 are EBADMSG and EUCLEAN: what was read makes no sense.
    (
        Corruption,
        r"^XFS \(\S+\): Metadata corruption detected at (?<function>[A-Za-z_]\w*)",
        "xfs: metadata corruption in $function",
    ),
    (
        Corruption,
        r"^XFS \(\S+\): Metadata CRC error detected at (?<function>[A-Za-z_]\w*)",
        "xfs: metadata CRC error in $function",
    ),
    (
        Corruption,
        r"^XFS \(\S+\): Internal error .*Caller (?<function>[A-Za-z_]\w*)",
        "xfs: internal error in $function",
    ),
    (Corruption, r"^XFS \(\S+\): metadata I/O error in .* error (?:74|117)\b", "xfs: metadata corruption"),
    (Corruption, r"^XFS \(\S+\): .*[Cc]orruption (?:of|warning|detected)", "xfs: metadata corruption"),
    (StorageError, r"^XFS \(\S+\): (?:metadata|log) I/O error", "xfs: metadata IO error"),
    (StorageError, r"^XFS \(\S+\): writeback error on inode", "xfs: writeback error"),
    (StorageError, r"^XFS \(\S+\): .*(?:shut ?down|Shutting down)", "xfs: file system shut down"),
    // The page cache over md and dm.
    (StorageError, r"^Buffer I/O error on dev(?:ice)? (?<which>md|dm)[-_\w]*,", "buffer I/O error on $which"),
    (
        StorageError,
        r"^(?:blk_update_request: )?I/O error, dev (?<which>md|dm)[-_\w]*, ",
        "I/O error on $which",
    ),
    (
        Corruption,
        r"^(?:BTRFS|bcache|dm-verity|device-mapper: verity).*(?:corrupt|checksum)",
        "file system corruption",
    ),
];

static PATTERNS: LazyLock<Vec<(ReportKind, Regex, &'static str)>> = LazyLock::new(|| {
    let compiled = |pattern| Regex::new(pattern).expect("a regular expression of our own");
    LINES.iter().map(|&(kind, pattern, title)| (kind, compiled(pattern), title)).collect()
});

/// Beginnings that all of them have, so that a line that is none of them costs next to nothing.
const BEGINNINGS: [&str; 11] = [
    "md",
    "device-mapper: ",
    "EXT4-fs ",
    "JBD2: ",
    "Aborting journal",
    "XFS (",
    "Buffer I/O",
    "blk_update_request",
    "I/O error",
    "BTRFS",
    "bcache",
];

/// What `line`, without its time stamp, reports; `None` for every other line.
pub(super) fn storage_line(line: &str) -> Option<(ReportKind, String)> {
    if !BEGINNINGS.iter().any(|start| line.starts_with(start))
        && !line.contains(": mismatch sector in range ")
    {
        return None;
    }
    PATTERNS.iter().find_map(|(kind, pattern, title)| {
        let found = pattern.captures(line)?;
        let mut text = String::new();
        found.expand(title, &mut text);
        Some((*kind, text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, kind: ReportKind, title: &str) {
        assert_eq!(storage_line(line), Some((kind, title.to_owned())), "{line}");
    }

    /// Composed from the kernel's printk formats, except for those that the corpus has too.
    #[test]
    fn a_line_is_named_without_its_devices_and_numbers() {
        check(
            "md/raid:mdX: Disk failure on dm-66, disabling device.",
            StorageError,
            "md/raid: disk failure, device disabled",
        );
        check(
            "md/raid1:md0: Disk failure on vdc, disabling device.",
            StorageError,
            "md/raid1: disk failure, device disabled",
        );
        check("md: super_written gets error=-5", StorageError, "md: superblock write error");
        check(
            "md/raid:md0: read error not correctable (sector 8 on vdc).",
            StorageError,
            "md/raid: read error not correctable",
        );
        check(
            "md/raid456:mdX: io across reshape position while reshape can't make progress.",
            StorageError,
            "md/raid456: io across reshape position while reshape can't make progress",
        );
        check("mdX: mismatch sector in range 0-8", Corruption, "md: mismatch found by a check");
        check(
            "device-mapper: integrity: dm-9: Checksum failed at sector 0x30",
            Corruption,
            "dm-integrity: checksum failed",
        );
        check(
            "device-mapper: crypt: dm-3: INTEGRITY AEAD ERROR, sector 8",
            Corruption,
            "dm-crypt: integrity AEAD error",
        );
        check(
            "EXT4-fs error (device dm-3): ext4_lookup:1815: inode #2: comm ls: deleted inode referenced: 12",
            Corruption,
            "ext4: error in ext4_lookup",
        );
        check("EXT4-fs (dm-3): I/O error while writing superblock", StorageError, "ext4: IO error");
        check(
            "EXT4-fs error (device md0): __ext4_find_entry:1683: inode #2: comm ls: reading directory lblock 0",
            StorageError,
            "ext4: IO error",
        );
        check(
            "EXT4-fs error (device vdc): ext4_journal_check_start:84: comm dd: Detected aborted journal",
            StorageError,
            "ext4: journal aborted",
        );
        check(
            "XFS (dm-3): Metadata CRC error detected at xfs_agf_read_verify+0xc0/0xf0 [xfs], xfs_agf block 0x1",
            Corruption,
            "xfs: metadata CRC error in xfs_agf_read_verify",
        );
        check("XFS (dm-3): log I/O error -5", StorageError, "xfs: metadata IO error");
        check(
            "Buffer I/O error on dev md0, logical block 3, lost async page write",
            StorageError,
            "buffer I/O error on md",
        );
    }

    #[test]
    fn what_is_no_error_is_none() {
        for line in [
            "md: md0 stopped.",
            "md/raid:mdX: raid level 5 active with 3 out of 3 devices, algorithm 2",
            "device-mapper: raid: Superblocks created for new raid set",
            "EXT4-fs (dm-3): mounted filesystem with ordered data mode",
            "XFS (dm-3): Ending clean mount",
            "Buffer I/O error on dev vdc, logical block 0, async page read",
            "mdadm says Disk failure on x",
        ] {
            assert_eq!(storage_line(line), None, "{line}");
        }
    }
}
