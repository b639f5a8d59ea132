//! Tests with lines of md, dm and file systems, errors and others.

use protocol::evidence::ReportKind::{Corruption, StorageError};

use super::*;

fn check(line: &str, kind: ReportKind, title: &str) {
    assert_eq!(storage_line(line), Some((kind, title.to_owned())), "{line}");
}

/// Composed from the kernel's printk formats, except for those that the corpus has, too.
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

/// From the formats of 6.1 to 7.3: lost redundancy, lost writes, and arrays that do not start.
#[test]
fn what_md_loses_is_a_storage_error() {
    for (line, title) in [
        ("md0: could not start resync thread...", "md: could not start resync thread"),
        ("mdX: could not start resync thread...", "md: could not start resync thread"),
        ("home: could not start resync thread...", "md: could not start resync thread"),
        (
            "md/raid:md0: starting dirty degraded array - data corruption possible.",
            "md/raid: starting a dirty degraded array, data corruption possible",
        ),
        (
            "md/raid:md0: starting dirty degraded array with PPL.",
            "md/raid: starting a dirty degraded array, data corruption possible",
        ),
        ("md: kicking non-fresh vdc from array!", "md: member kicked, it is not fresh"),
        ("md: vdc flush io error -5", "md: flush IO error"),
        ("md: bitmap read error: (4096B @ 8192): -5", "md: bitmap read error"),
        ("md0: bitmap superblock UUID mismatch", "md: bitmap of another array"),
        ("md/llbitmap: md0: bitmap superblock UUID mismatch", "md: bitmap of another array"),
        ("md0: disabling internal bitmap due to errors", "md: bitmap disabled due to errors"),
        ("md0: kicking failed bitmap file bitmap from array!", "md: bitmap disabled due to errors"),
        ("md0: bitmap initialisation failed: -5", "md: bitmap not initialised"),
        ("md0: failed to create bitmap (-5)", "md: bitmap not initialised"),
        ("md0: invalid bitmap file superblock: bad magic", "md: bitmap superblock invalid"),
        ("md/raid10:md0: Error: degraded raid0!", "md/raid10: degraded raid0"),
        ("md: failed to register dev-vdc for md0", "md: could not register a member"),
        ("md/raid0md0: Disk failure on vdb detected, failing array.", "md/raid0: disk failure, array failed"),
        (
            "md/linearmd0: Disk failure on vdb detected, failing array.",
            "md/linear: disk failure, array failed",
        ),
        ("md/raid:md0: read error NOT corrected!! (sector 8 on vdc).", "md/raid: read error not corrected"),
        (
            "md/raid:md0: read error on replacement device (sector 8 on vdc).",
            "md/raid: read error not correctable",
        ),
        ("md/raid:md0: 300 read_errors > 256 stripes", "md/raid: unrecoverable read error"),
        (
            "md/raid10:md0: read correction write failed (8 sectors at 16 on vdc)",
            "md/raid10: unrecoverable read error",
        ),
        ("md/raid10:md0: vdc: failing drive", "md/raid10: failing a device"),
        ("md/raid1:md0: vdc: Failing raid device", "md/raid1: failing a device"),
        ("md/raid10:md0: cannot recovery sector 8 + 8.", "md/raid10: sector cannot be recovered"),
        ("md: pers->run() failed ...", "md: array did not start"),
        ("md: fatal superblock inconsistency in vdb -- removing from array", "md: member refused"),
        ("md: vdb does not have a valid v1.2 superblock, not importing!", "md: member refused"),
        ("md: could not read vdb's sb, not importing!", "md: member refused"),
        ("md/raid:md0: journal disk is missing, force array readonly", "md/raid: journal disk is missing"),
        ("md/raid:md0: failed to rewrite stripes to journal", "md/raid: recovery from the journal failed"),
        ("md/llbitmap: md0: invalid super block magic number", "md: bitmap superblock invalid"),
        ("md0: can't update sb for read-only array md0", "md: superblock of a read-only array not updated"),
    ] {
        check(line, StorageError, title);
    }
    check("md: invalid superblock checksum on vdb", Corruption, "md: superblock checksum invalid");
}

#[test]
fn metadata_of_dm_that_is_not_what_was_written_is_corruption() {
    for (line, title) in [
        (
            "device-mapper: btree spine: node_check failed: csum 3411267813 != wanted 3411267814",
            "dm btree spine: metadata checksum failed",
        ),
        (
            "device-mapper: btree spine: node_check failed: blocknr 7 != wanted 8",
            "dm btree spine: metadata is corrupted",
        ),
        (
            "device-mapper: block manager: btree_node validator check failed for block 17",
            "dm block manager: metadata check failed",
        ),
        (
            "device-mapper: array: array_block_check failed: csum 12 != wanted 13",
            "dm array: metadata checksum failed",
        ),
        (
            "device-mapper: space map common: index_check failed: csum 12 != wanted 13",
            "dm space map common: metadata checksum failed",
        ),
        (
            "device-mapper: space map common: bitmap check failed: csum 12 != wanted 13",
            "dm space map common: metadata checksum failed",
        ),
        (
            "device-mapper: thin metadata: sb_check failed: csum 5: wanted 6",
            "dm thin metadata: metadata checksum failed",
        ),
        (
            "device-mapper: cache metadata: sb_check failed: csum 5: wanted 6",
            "dm cache metadata: metadata checksum failed",
        ),
        ("device-mapper: era: sb_check failed: csum 5: wanted 6", "dm era: metadata checksum failed"),
        (
            "device-mapper: clone metadata: Superblock check failed: checksum 5, expected 6",
            "dm clone metadata: metadata checksum failed",
        ),
        ("device-mapper: verity: 252:3: data block 5 is corrupted", "dm-verity: block is corrupted"),
        (
            "device-mapper: snapshots: Corruption detected: exception for block 5 is on disk but not in memory",
            "dm-snapshot: exception on disk but not in memory",
        ),
        (
            "device-mapper: integrity: Error on tag mismatch when replaying journal: -84",
            "dm-integrity: mismatch",
        ),
    ] {
        check(line, Corruption, title);
    }
    for (line, title) in [
        (
            "device-mapper: snapshots: Invalidating snapshot: Error reading/writing.",
            "dm-snapshot: invalidated",
        ),
        (
            "device-mapper: snapshots: Snapshot overflowed: Unable to allocate exception.",
            "dm-snapshot: overflowed",
        ),
        ("device-mapper: integrity: Error on writing journal: -5", "dm-integrity: IO error"),
        ("device-mapper: writecache: error writing metadata", "dm-writecache: error"),
        (
            "device-mapper: thin: 252:3: metadata operation 'dm_pool_commit_metadata' failed: error = -5",
            "dm-thin: error",
        ),
        (
            "device-mapper: thin: 252:3: switching pool to read-only mode",
            "dm-thin: switched to a failure mode",
        ),
        ("device-mapper: raid1: Mirror read failed.", "dm-raid1: error"),
        ("device-mapper: verity-fec: 252:3: FEC 4096: corrected 1 errors", "dm-verity: errors corrected"),
    ] {
        check(line, StorageError, title);
    }
}

#[test]
fn what_an_io_error_brings_to_a_file_system_is_no_corruption() {
    for (line, title) in [
        (
            "EXT4-fs error (device dm-6): ext4_put_super:1324: comm umount: Couldn't clean up the journal",
            "ext4: journal aborted",
        ),
        (
            "EXT4-fs error (device dm-6): ext4_remount:6483: comm mount: Abort forced by user",
            "ext4: journal aborted",
        ),
        (
            "EXT4-fs error (device dm-6): kmmpd:179: comm kmmpd-dm-6: Error writing to MMP block",
            "ext4: IO error",
        ),
        (
            "EXT4-fs error (device dm-6): ext4_wait_block_bitmap:582: comm ext4lazyinit: Cannot read block bitmap - block_group = 1, block_bitmap = 259",
            "ext4: IO error",
        ),
        (
            "EXT4-fs error (device md0): ext4_get_inode_loc:4671: inode #2: block 83: comm ls: unable to read itable block",
            "ext4: IO error",
        ),
        ("EXT4-fs error (device md0) in ext4_do_update_inode:5107: IO failure", "ext4: journal aborted"),
        ("EXT4-fs error (device md0) in ext4_reserve_inode_write:5800: error 28", "ext4: journal aborted"),
        (
            "EXT4-fs error (device md0): ext4_split_extent_at:3223: inode #12: comm dd: Failed split extent on 7, err -5",
            "ext4: failure in ext4_split_extent_at",
        ),
        (
            "EXT4-fs error (device md0): ext4_xattr_delete_inode:2930: inode #12: comm rm: inode loc (error -5)",
            "ext4: IO error",
        ),
        ("JBD2: I/O error when updating journal superblock for md0-8.", "jbd2: journal aborted"),
        (
            "XFS (md0): Corruption of in-memory data (0x8) detected at xfs_trans_cancel+0x1/0x2 [xfs] (fs/xfs/xfs_trans.c:1).  Shutting down filesystem.",
            "xfs: file system shut down",
        ),
        (
            "XFS (md0): Internal error xfs_trans_cancel at line 957 of file fs/xfs/xfs_trans.c.  Caller xfs_create+0x1/0x2 [xfs]",
            "xfs: a changed transaction was cancelled",
        ),
        (
            "XFS (md0): Corruption Alert: Buffer at daddr 0x8 had permanent write failures!",
            "xfs: metadata IO error",
        ),
        (
            "XFS (md0): metadata I/O error in \"xfs_read_agf+0x1/0x2 [xfs]\" at daddr 0x1 len 1 error 5",
            "xfs: metadata IO error",
        ),
        ("md0: writeback error on inode 131, offset 0, sector 8", "xfs: writeback error"),
        (
            "BTRFS error (device md0): bdev /dev/md0 errs: wr 3, rd 0, flush 0, corrupt 0, gen 0",
            "btrfs: IO error",
        ),
        ("BTRFS warning (device md0): lost page write due to IO error on /dev/md0 (-5)", "btrfs: IO error"),
        (
            "BTRFS: error (device md0 state A) in btrfs_commit_transaction:2494: errno=-5 IO failure (Error while writing out transaction)",
            "btrfs: IO error",
        ),
        ("BTRFS info (device md0 state E): forced readonly", "btrfs: transaction aborted"),
    ] {
        check(line, StorageError, title);
    }
}

#[test]
fn words_of_changed_data_are_corruption() {
    for (line, title) in [
        (
            "BTRFS warning (device md0): csum failed root 5 ino 257 off 0 csum 0x8941f998 expected csum 0x12345678 mirror 1",
            "btrfs: checksum error",
        ),
        (
            "BTRFS warning (device md0): checksum verify failed on logical 30408704 mirror 1 wanted 0x1 found 0x2 level 0",
            "btrfs: checksum error",
        ),
        (
            "BTRFS error (device md0): parent transid verify failed on logical 30408704 mirror 1 wanted 8 found 6",
            "btrfs: metadata corruption",
        ),
        (
            "BTRFS critical (device dm-3 state EA): corrupt leaf: root=5 block=30408704 slot=1 ino=257, invalid previous key",
            "btrfs: metadata corruption",
        ),
        (
            "BTRFS error (device md0): bdev /dev/md0 errs: wr 0, rd 0, flush 0, corrupt 1, gen 0",
            "btrfs: a device returned data that is not what was written",
        ),
        (
            "EXT4-fs error (device md0): ext4_validate_block_bitmap:423: comm dd: bg 3: bad block bitmap checksum",
            "ext4: checksum error",
        ),
        (
            "EXT4-fs error (device md0): ext4_mb_generate_buddy:1213: group 3, block bitmap and bg descriptor inconsistent: 9 vs 10 free clusters",
            "ext4: error in ext4_mb_generate_buddy",
        ),
        (
            "EXT4-fs error (device md0): __ext4_iget:5007: inode #12: block 5: comm ls: invalid block",
            "ext4: error in __ext4_iget",
        ),
        (
            "EXT4-fs error (device md0): __ext4_new_inode:1282: comm touch: failed to insert inode 12: doubly allocated?",
            "ext4: error in __ext4_new_inode",
        ),
        (
            "EXT4-fs error (device md0) in ext4_free_inode:362: Corrupt filesystem",
            "ext4: error in ext4_free_inode",
        ),
        ("EXT4-fs error (device md0) in ext4_free_inode:362: Filesystem failed CRC", "ext4: checksum error"),
        ("JBD2: Invalid checksum recovering data block 9 in journal block 8", "jbd2: checksum error"),
        (
            "XFS (md0): Internal error i != 1 at line 2111 of file fs/xfs/libxfs/xfs_alloc.c.  Caller xfs_free_ag_extent+0x1/0x2 [xfs]",
            "xfs: internal error in xfs_free_ag_extent",
        ),
        (
            "XFS (md0): Corruption of on-disk metadata (0x20) detected at xfs_iget+0x1/0x2 [xfs] (x.c:1).  Shutting down filesystem.",
            "xfs: metadata corruption",
        ),
        (
            "dm-4: guard tag error at sector 8 (rcvd 0001, want 0002)",
            "block: guard or reference tag does not match",
        ),
    ] {
        check(line, Corruption, title);
    }
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
        // Printed at each mount of btrfs.
        "BTRFS: device fsid 7d0b1b6e-7d13-4c0e-a0c0-0d7f2f8a1c10 devid 1 transid 6 /dev/md0 (9:0) scanned by mount (812)",
        "BTRFS info (device md0): first mount of filesystem 7d0b1b6e-7d13-4c0e-a0c0-0d7f2f8a1c10",
        "BTRFS info (device md0): using crc32c (crc32c-intel) checksum algorithm",
        "BTRFS info (device md0): using free-space-tree",
        "BTRFS warning (device md0): swapfile must not be checksummed",
        "EXT4-fs (dm-6): Remounting filesystem read-only",
        "EXT4-fs (md0): warning: mounting fs with errors, running e2fsck is recommended",
        "mdX: bitmap file is out of date, doing full recovery",
        "md/raid:mdX: not clean -- starting background reconstruction",
        "md/raid1:md0: active with 2 out of 2 mirrors",
        "md/raid1:md0: Operation continuing on 1 devices.",
        "md: recovery of RAID array mdX",
        "md: mdX: reshape interrupted.",
        "device-mapper: raid: raid456 discard support disabled due to discard_zeroes_data uncertainty.",
        "device-mapper: raid: Device 0 specified for rebuild; clearing superblock",
        "device-mapper: thin: 252:3: reached low water mark for data device: sending event.",
        "device-mapper: table: 252:0: linear: Device lookup failed (-ENODEV)",
        "device-mapper: ioctl: error adding target to table",
        "XFS (md0): Mounting V5 Filesystem",
        "JBD2: recovery complete",
    ] {
        assert_eq!(storage_line(line), None, "{line}");
    }
}
