//! The rules for lines of md, dm and file systems: pattern, kind and title.
//!
//! From the sources of 6.1 to 7.3; `xtask/harness/testdata/kernel-formats.txt` has the format that each rule
//! was written for. Only data that differ from what was written are corruption: a checksum, number or
//! structure that is wrong. Data that could not be read or written, and anything given up, aborted or shut
//! down, are a storage error, whatever the kernel calls it.

use protocol::evidence::ReportKind::{Corruption, StorageError};

use super::{Group, Rule};

const fn lost(pattern: &'static str, title: &'static str) -> Rule {
    Rule { kind: StorageError, pattern, title }
}

const fn changed(pattern: &'static str, title: &'static str) -> Rule {
    Rule { kind: Corruption, pattern, title }
}

pub(super) const GROUPS: &[Group] = &[
    Group { beginnings: &["md", "dm-raid456: ", "multipath: "], rules: MD },
    Group { beginnings: &["device-mapper: "], rules: DM },
    Group { beginnings: &["EXT4-fs "], rules: EXT4 },
    Group { beginnings: &["JBD2: ", "Aborting journal"], rules: JBD2 },
    Group { beginnings: &["XFS ("], rules: XFS },
    Group { beginnings: &["BTRFS"], rules: BTRFS },
    Group {
        beginnings: &[
            "Buffer I/O",
            "blk_update_request",
            "I/O error",
            "critical ",
            "protection error",
            "timeout error",
            "bcache",
        ],
        rules: BLOCK,
    },
    // Lines that begin with any device's or array's name.
    Group { beginnings: &[], rules: NAMED },
];

/// Lines of md and its levels. dm-raid's arrays are all called mdX.
const MD: &[Rule] = &[
    lost(r"^md/(?<level>raid1?\d?):\S+: Disk failure on ", "md/$level: disk failure, device disabled"),
    lost(
        r"^md/(?<level>raid0|linear):?\S*: Disk failure on \S+ detected",
        "md/$level: disk failure, array failed",
    ),
    lost(
        r"^md/(?<level>raid\d*|multipath):\S+: Cannot continue operation",
        "md/$level: cannot continue operation",
    ),
    lost(
        r"^md/(?<level>raid\d*):\S+: read error (?:not correctable|on replacement device)",
        "md/$level: read error not correctable",
    ),
    lost(r"^md/(?<level>raid\d*):\S+: read error NOT corrected", "md/$level: read error not corrected"),
    lost(r"^md/(?<level>raid\d*):\S+: read error corrected", "md/$level: read error corrected"),
    lost(
        r"^md/(?<level>raid\d*):.*(?:unrecoverable I/O|Too many read errors|exceeded read_error threshold|read_errors > |unable to read back corrected|read correction write failed)",
        "md/$level: unrecoverable read error",
    ),
    lost(
        r"^md/(?<level>raid\d*):\S+: recovery aborted due to read error",
        "md/$level: recovery aborted due to a read error",
    ),
    lost(r"^md/(?<level>raid\d*):\S+: cannot recovery sector", "md/$level: sector cannot be recovered"),
    lost(r"^md/(?<level>raid\d*):\S+: \S+ [Ff]ailing (?:raid device|drive)", "md/$level: failing a device"),
    lost(
        r"^(?:md/raid\d*:.*|dm-raid456: )io across reshape position",
        "md/raid456: io across reshape position while reshape can't make progress",
    ),
    lost(
        r"^md/(?<level>raid\d*):\S+: (?<what>cannot start dirty degraded array|not enough operational (?:mirrors|devices)|failed to run raid set)",
        "md/$level: $what",
    ),
    lost(
        r"^md/(?<level>raid\d*):\S+: starting dirty degraded array",
        "md/$level: starting a dirty degraded array, data corruption possible",
    ),
    lost(r"^md/(?<level>raid\d*):\S+: Error: degraded raid0", "md/$level: degraded raid0"),
    lost(r"^md/(?<level>raid\d*):\S+: journal disk is missing", "md/$level: journal disk is missing"),
    lost(
        r"^md/(?<level>raid\d*):\S+: (?:failed to rewrite stripes|cannot allocate memory to rewrite|Cannot get enough stripes)",
        "md/$level: recovery from the journal failed",
    ),
    lost(r"^md/(?<level>raid\d*):\S+: PPL header signature does not match", "md/$level: PPL headers differ"),
    lost(
        r"^md/(?<level>raid\d*):\S+: compute_blocknr: map not correct",
        "md/$level: map of blocks not correct",
    ),
    changed(r"^(?:md/raid\d*:)?\S+: mismatch sector in range ", "md: mismatch found by a check"),
    lost(r"^md: super_written gets error", "md: superblock write error"),
    lost(r"^md: \S+ flush io error", "md: flush IO error"),
    lost(r"^md: bitmap read error", "md: bitmap read error"),
    lost(r"^md\S*: could not start resync thread", "md: could not start resync thread"),
    lost(
        r"^md/(?<level>raid\d*):\S+: insufficient working devices for recovery",
        "md/$level: too few devices for a recovery",
    ),
    lost(
        r"^multipath: (?:IO failure on|only one IO path left|\S+ unrecoverable IO read error)",
        "md/multipath: path failed",
    ),
    lost(r"^md: \S+ still in use", "md: array still in use"),
    changed(r"^md: invalid superblock checksum on ", "md: superblock checksum invalid"),
    lost(
        r"^md: (?:\S+: )?(?:disabled device|invalid raid superblock|cannot handle|error, md|md_import_device returned|fatal superblock inconsistency|\S+ does not have a valid v\S+ superblock|could not read \S+ sb, not importing|\S+ has (?:different UUID|same UUID but|strangely different|zero or unknown size)|could not open device|\S+ has a bad)",
        "md: member refused",
    ),
    lost(r"^md: kicking non-fresh \S+ from array", "md: member kicked, it is not fresh"),
    lost(r"^md: failed to register dev-", "md: could not register a member"),
    lost(
        r"^md: (?:pers->run\(\) failed|do_md_run\(\) returned|cannot find a valid disk|starting \S+ failed)",
        "md: array did not start",
    ),
    lost(r"^md: \S+: (?:data overlaps metadata|metadata overlaps data)", "md: data and metadata overlap"),
    lost(r"^md: \S+ bogus bblog_shift", "md: list of bad blocks refused"),
    lost(r"^md: (?:updating array disks failed|couldn't update array info)", "md: array not updated"),
    lost(r"^md\S*: can't update sb for read-only array", "md: superblock of a read-only array not updated"),
    lost(r"^md\S*: bitmap superblock UUID mismatch", "md: bitmap of another array"),
    lost(r"^md\S*: \S+: bitmap superblock UUID mismatch", "md: bitmap of another array"),
    lost(r"^md\S*: disabling internal bitmap due to errors", "md: bitmap disabled due to errors"),
    lost(r"^md\S*: kicking failed bitmap file ", "md: bitmap disabled due to errors"),
    lost(r"^md\S*: (?:bitmap initialisation failed|failed to create bitmap)", "md: bitmap not initialised"),
    lost(
        r"^md: \S+: (?:failed to read bitmap from any device|invalid bitmap magic)",
        "md: bitmap not initialised",
    ),
    lost(
        r"^md\S*: (?:invalid bitmap file superblock|bitmap file too short)",
        "md: bitmap superblock invalid",
    ),
    lost(
        r"^md/llbitmap: .*(?:no super block found|read super block failed|invalid super block|exceeds array sync size|chunksize|out of range)",
        "md: bitmap superblock invalid",
    ),
    lost(r"^md/llbitmap: failed to zero disk", "md/llbitmap: a disk was not zeroed"),
    lost(
        r"^md/llbitmap: .*(?:not finished in|waiting for page \d+ timeout)",
        "md/llbitmap: the bitmap does not get on",
    ),
    lost(r"^md\S*: invalid bit \d+ state", "md/llbitmap: invalid state of a bit"),
    lost(r"^md\S*: unknown check_state", "md/raid: unknown state of a check"),
    lost(
        r"^md-cluster.*(?:[Cc]ould not|[Cc]annot|can't|[Ff]ailed|[Uu]nable|timeout|cannot allocate)",
        "md-cluster: error",
    ),
    lost(
        r"^md/(?<level>raid\d*|linear):\S+: .*(?:failed to|couldn't allocate|aborting|Aborting|not on a stripe boundary|disabling PPL|make_request: Sector)",
        "md/$level: error",
    ),
];

/// Lines of dm's targets, and of the metadata library that several use (drivers/md/persistent-data).
const DM: &[Rule] = &[
    changed(r"^device-mapper: integrity: .*[Cc]hecksum failed", "dm-integrity: checksum failed"),
    changed(
        r"^device-mapper: integrity: Error on (?:superblock|journal) mac",
        "dm-integrity: mac does not match",
    ),
    changed(r"^device-mapper: integrity: Error on tag mismatch", "dm-integrity: mismatch"),
    changed(
        r"^device-mapper: integrity: Error on invalid sector in journal",
        "dm-integrity: journal invalid",
    ),
    changed(r"^device-mapper: \w+: .*INTEGRITY AEAD ERROR", "dm-crypt: integrity AEAD error"),
    lost(
        r"^device-mapper: integrity: .*(?:Error on|error on|I/O error|superblock was changed)",
        "dm-integrity: IO error",
    ),
    lost(
        r"^device-mapper: integrity: .*(?:invalid access|invalid bitmap access|out of memory)",
        "dm-integrity: error",
    ),
    lost(r"^device-mapper: raid: Failed to read superblock", "dm-raid: failed to read a superblock"),
    lost(r"^device-mapper: raid: .*(?:Failed|failed|Unable|unable|[Ee]rror)", "dm-raid: error"),
    changed(r"^device-mapper: verity: .* block \d+ is corrupted", "dm-verity: block is corrupted"),
    lost(r"^device-mapper: verity: .*(?:reached maximum errors|Error hashing)", "dm-verity: too many errors"),
    lost(r"^device-mapper: verity-fec: .*corrected \d+ errors", "dm-verity: errors corrected"),
    lost(r"^device-mapper: verity-fec: .*(?:failed)", "dm-verity: errors not corrected"),
    changed(
        r"^device-mapper: (?<where>btree spine|btree|array|space map common|index|bitmap|thin metadata|cache metadata|clone metadata|era): .*(?:[Cc]heck failed|failed): (?:csum|checksum) ",
        "dm $where: metadata checksum failed",
    ),
    changed(
        r"^device-mapper: (?<where>btree spine|array|space map common|thin metadata|cache metadata|clone metadata|era): .*(?:failed: (?:blocknr|magic|max_entries|too many entries|node is neither|value_size)|check failed: (?:blocknr|magic))",
        "dm $where: metadata is corrupted",
    ),
    changed(
        r"^device-mapper: block manager: (?:.* validator check failed|validator mismatch)",
        "dm block manager: metadata check failed",
    ),
    changed(
        r"^device-mapper: (?<where>btree|space map common): (?:mismatched value size|node max_entries mismatch|bad btree metadata|metadata block out of bounds|overflow btree is missing an entry)",
        "dm $where: metadata is corrupted",
    ),
    lost(
        r"^device-mapper: (?<where>btree|array|space map common|space map metadata|transaction manager|block manager|thin metadata|cache metadata|clone metadata): .*(?:[Ff]ailed|[Uu]nable|[Cc]ouldn't|[Cc]ould not|too big|too small|recursive|bad |bug in|lost track|shift out of bounds|is dirty|wrong size)",
        "dm $where: error",
    ),
    changed(
        r"^device-mapper: snapshots: Corruption detected",
        "dm-snapshot: exception on disk but not in memory",
    ),
    changed(
        r"^device-mapper: persistent snapshot: Invalid or corrupt snapshot",
        "dm-snapshot: invalid or corrupt",
    ),
    lost(
        r"^device-mapper: snapshots: (?:Invalidating snapshot|Snapshot is (?:marked )?invalid)",
        "dm-snapshot: invalidated",
    ),
    lost(r"^device-mapper: snapshots: Snapshot overflowed", "dm-snapshot: overflowed"),
    lost(
        r"^device-mapper: (?:snapshots|persistent snapshot): .*(?:[Ee]rror|shutting down merge|write.?header failed|zero_disk_area)",
        "dm-snapshot: IO error",
    ),
    lost(
        r"^device-mapper: (?<target>thin|cache): .*switching \w+ to (?:read-only|fail) mode",
        "dm-$target: switched to a failure mode",
    ),
    changed(r"^device-mapper: writecache: two identical entries", "dm-writecache: two identical entries"),
    lost(
        r"^device-mapper: (?<target>multipath|raid1|mirror|thin|cache|writecache|era|clone|delay|dirty region log): .*(?:[Ff]ailing |Failing|[Ff]ailed|failure|volumes dead|I/O error|[Ee]rror|lost|aborting|Aborting|[Uu]nable|[Cc]ould not|[Cc]ouldn't)",
        "dm-$target: error",
    ),
    lost(r"^device-mapper: table: .*preresume failed", "dm: preresume failed"),
    lost(
        r"^device-mapper: core: .*(?:Forcibly removing mapped_device still in use|still exists with \d+ references)",
        "dm: device still in use",
    ),
    lost(r"^device-mapper: bufio: .*leaked", "dm-bufio: buffers leaked"),
    lost(r"^device-mapper: core: .*(?:Preresume method failed|mapping table unavailable)", "dm: error"),
    // dm-vdo names instance and thread: `device-mapper: vdo0:journalQ: …` (drivers/md/dm-vdo/logger.c).
    lost(
        r"^device-mapper: vdo.*Unrecoverable error, entering read-only mode",
        "dm-vdo: entered read-only mode",
    ),
    changed(
        r"^device-mapper: vdo.*(?:[Cc]orrupt index page|Torn write detected|inconsistent chapter \d+|had bad magic number|page map mismatch)",
        "dm-vdo: metadata is corrupted",
    ),
    lost(
        r"^device-mapper: vdo.*(?:error reading physical page|cannot write recovery journal|cannot write slab journal|failed slab summary update|super block save failed|geometry block save failed|synchronous flush failed|cannot sync chapter)",
        "dm-vdo: IO error",
    ),
];

/// Lines of ext4. It prints "error" after an IO error, an abort or a remount, too.
const EXT4: &[Rule] = &[
    lost(
        r"^EXT4-fs (?:error|warning|\().*(?:I/O error|unable to read|Cannot read|[Cc]an't read|could ?n[o']t read|error reading|error -5|err=?-5|errno?=-5|error (?:5|-5) loading|read error|reading directory lblock|while reading|potential data loss|Delayed block allocation failed|previous I/O error|[Dd]ata will be lost|Error writing to MMP|Cannot get buffer)",
        "ext4: IO error",
    ),
    changed(
        r"^EXT4-fs (?:(?:error|warning) )?\(.*(?:[Cc]hecksum|csum).*(?:fail|invalid|mismatch|does not match)",
        "ext4: checksum error",
    ),
    changed(
        r"^EXT4-fs (?:(?:error|warning) )?\(.*(?:[Ii]nvalid (?:\w+ )?checksum|[Ff]ailed checksum|[Bb]ad (?:\w+ ){0,3}checksum|Checksum for group \d+ failed|hash validation failed)",
        "ext4: checksum error",
    ),
    changed(r"^EXT4-fs error \(device [^)]*\) in .*Filesystem failed CRC", "ext4: checksum error"),
    changed(
        r"^EXT4-fs error \(device [^)]*\) in (?<function>\w+):\d+: Corrupt filesystem",
        "ext4: error in $function",
    ),
    // Consequences of an aborted journal, or of an error printed before: these say nothing about the data on
    // disk.
    lost(
        r"^EXT4-fs error \(device [^)]*\)(?::| in) .*(?:Detected aborted journal|Couldn't clean up the journal|Journal (?:has aborted|got removed)|IO failure|Readonly filesystem|Out of memory|Abort forced by user|: error \d+$)",
        "ext4: journal aborted",
    ),
    lost(
        r"^EXT4-fs error \(device [^)]*\): (?:ext4_journal_check_start|__ext4_std_error|ext4_convert_unwritten\w*|ext4_put_super|ext4_remount|__?ext4_remount|ext4_handle_error|trigger_test_error|ext4_force_shutdown)\b",
        "ext4: journal aborted",
    ),
    lost(
        r"^EXT4-fs error \(device [^)]*\): (?<function>kmmpd|ext4_multi_mount_protect|read_mmp_block|write_mmp_block):",
        "ext4: failure in $function",
    ),
    changed(
        r"^EXT4-fs error \(device [^)]*\): (?<function>\w+):\d+: .*(?:[Cc]orrupt|[Ii]nvalid|[Bb]ad |inconsistent|[Ii]ncorrect|unexpected|[Uu]nexpected|deleted inode referenced|linked to parent dir|doubly allocated|already (?:cleared|allocated|freed)|system zone|overlap|not in datazone|clusters in bitmap|circular|missing|reserved|wrong|[Uu]nattached|strange|nonexistent|found cleared|marked uninitialized|padding at end|same ino|refers to|eh_entries|EXT_|ix |logical |newblock|p_ext|p_hdr|ee_len|k -?\d|nlink|can not handle truncate|groups_count|attempt to clear|has no extents|doesn't use extents|not empty on read-only|directory entry|rec_len|inode number|extra_isize|free clusters|block_group|tree depth|[Ii]llegal|bogus|unallocated|hole found|immutable or append)",
        "ext4: error in $function",
    ),
    lost(
        r"^EXT4-fs error \(device [^)]*\): (?<function>\w+):\d+: .*(?:[Ff]ailed to|\((?:error|err) -?\d+\)|, err(?:or)? -?\w+$|bh = NULL|comm kmmpd)",
        "ext4: failure in $function",
    ),
    changed(
        r"^EXT4-fs (?:warning )?\(.*(?:group descriptors corrupted|corrupt root inode|has (?:bad|corrupt) superblock|corruption in group|[Cc]orrupt directory|not in group \(block|overlaps (?:superblock|block group)|Magic mismatch|bad inline directory|tree cycle)",
        "ext4: metadata is corrupted",
    ),
    lost(r"^EXT4-fs error \(device [^)]*\)(?::| in) (?<function>\w+):", "ext4: failure in $function"),
    lost(r"^EXT4-fs error ", "ext4: failure"),
    lost(
        r"^EXT4-fs \(.*(?:error loading journal|Could not load journal|journal bmap failed)",
        "ext4: journal not loaded",
    ),
];

/// Lines of ext4's journal.
const JBD2: &[Rule] = &[
    changed(r"^JBD2: .*[Cc]hecksum (?:error|found|recovering)", "jbd2: checksum error"),
    changed(
        r"^JBD2: (?:corrupted journal superblock|journal transaction \d+ on \S+ is corrupt|bad block at offset)",
        "jbd2: journal is corrupted",
    ),
    lost(
        r"^JBD2: (?:.*(?:I/?O error|[Ee]rror -5)|Failed to read block at|error -?\d+ scanning|\(error -?\d+\) unable to wipe|Detected IO errors|journal (?:recovery|reset) failed|recovery pass \d+ ended)",
        "jbd2: journal aborted",
    ),
    lost(r"^Aborting journal on device ", "jbd2: journal aborted"),
    lost(
        r"^JBD2: (?:Spotted dirty metadata|.*assertion failure|leaked \d+ journal_heads)",
        "jbd2: journal in disorder",
    ),
];

/// Lines of xfs. Errors 74 and 117 are EBADMSG and EUCLEAN: the data that were read are wrong.
const XFS: &[Rule] = &[
    changed(
        r"^XFS \(\S+\): Metadata corruption detected at (?<function>[A-Za-z_]\w*)",
        "xfs: metadata corruption in $function",
    ),
    changed(
        r"^XFS \(\S+\): Metadata CRC error detected at (?<function>[A-Za-z_]\w*)",
        "xfs: metadata CRC error in $function",
    ),
    // A transaction cancelled after it changed something, mostly because of an IO error.
    lost(r"^XFS \(\S+\): Internal error xfs_trans_cancel", "xfs: a changed transaction was cancelled"),
    changed(
        r"^XFS \(\S+\): Internal error .*Caller (?<function>[A-Za-z_]\w*)",
        "xfs: internal error in $function",
    ),
    changed(
        r"^XFS \(\S+\): (?:metadata|log recovery .*) I/O error .* error -?(?:74|117)\b",
        "xfs: metadata corruption",
    ),
    changed(r"^XFS \(\S+\): Corruption of on-disk metadata", "xfs: metadata corruption"),
    // Data in memory are no longer trusted, after any error during a change, such as an IO error.
    lost(r"^XFS \(\S+\): Corruption of in-memory data", "xfs: file system shut down"),
    lost(r"^XFS \(\S+\): Corruption Alert: Buffer at .* permanent write failures", "xfs: metadata IO error"),
    changed(r"^XFS \(\S+\): log record CRC mismatch", "xfs: log record CRC mismatch"),
    lost(r"^XFS \(\S+\): Torn write \(CRC failure\) detected", "xfs: torn write in the log"),
    changed(
        r"^XFS \(\S+\): .*(?:[Cc]orruption (?:warning|detected|in |\. Please|not fixed)|CORRUPTED BTREE|[Cc]orrupt (?:btree|\w+bt|dinode|inode|dquot|iclog)|dquot corrupt|corrupted root inode|Reset corrupted|[Bb]ad (?:\w+ ){0,2}inode|bad symlink length|Log inconsistent|\w+ inode .* is corrupt|header mismatch|record corruption)",
        "xfs: metadata corruption",
    ),
    lost(r"^XFS \(\S+\): (?:metadata|log|Log|Metadata) I/O [Ee]rror", "xfs: metadata IO error"),
    lost(r"^XFS \(\S+\): log recovery .* I/O error", "xfs: metadata IO error"),
    lost(r"^XFS \(\S+\): Failing async write", "xfs: metadata IO error"),
    lost(
        r"^XFS \(\S+\): (?:log mount|log mount/recovery|log mount finish|Failed to recover|failed to (?:find|locate) log)",
        "xfs: log recovery failed",
    ),
    lost(r"^XFS \(\S+\): .*(?:shut ?down|Shutting down)", "xfs: file system shut down"),
    lost(r"^XFS \(\S+\): .*unmount record failed", "xfs: file system shut down"),
    lost(
        r"^XFS \(\S+\): (?:ifree/icount mismatch|Uncorrected metadata errors)",
        "xfs: counters do not match",
    ),
];

/// Lines of btrfs. It prints "checksum" as information at each mount.
const BTRFS: &[Rule] = &[
    changed(
        r"^BTRFS:? (?:warning|error|critical|alert) \(device [^)]*\):? .*(?:csum (?:failed|error|mismatch)|checksum (?:verify failed|error at|mismatch)|bad csum|csum for on-disk super block no longer)",
        "btrfs: checksum error",
    ),
    changed(
        r"^BTRFS:? (?:warning|error|critical|alert) \(device [^)]*\):? .*(?:parent transid verify failed|transid mismatch|bad tree block|bad fsid on logical|level verify failed|tree (?:level|first key) mismatch|tree root owner mismatch|owner mismatch|bad key order|block corruption detected|super block corruption|superblock corruption|corrupt(?:ed)? (?:leaf|node|superblock|chunk)|has bad (?:bytenr|chunk tree uuid|fsid|generation)|mismatch with chunk|extent tree corruption|mismatched (?:block owner|level)|log zone corrupted|inode mode mismatch)",
        "btrfs: metadata corruption",
    ),
    changed(
        r"^BTRFS:? (?:error|critical) \(device [^)]*\):? .*errs: wr \d+, rd \d+, flush \d+, (?:corrupt [1-9]|corrupt \d+, gen [1-9])",
        "btrfs: a device returned data that is not what was written",
    ),
    changed(
        r"^BTRFS:? (?:error|critical) \(device [^)]*\):? .*(?:errno=-117\b|Filesystem corrupted)",
        "btrfs: metadata corruption",
    ),
    lost(
        r"^BTRFS:? (?:warning|error|critical|alert) \(device [^)]*\):? .*(?:errs: wr|lost (?:page|super block) write|errors while writing supers|error writing primary super|IO error|IO failure|unexpected block io error|failed to read)",
        "btrfs: IO error",
    ),
    lost(
        r"^BTRFS:? (?:warning|error|critical|info) \(device [^)]*\):? (?:scrub: )?(?:read error corrected|fixed up error|unable to fixup)",
        "btrfs: error found by a read or a scrub",
    ),
    lost(
        r"^BTRFS:? (?:warning|error|critical|alert|info) \(device [^)]*\):? .*(?:[Tt]ransaction (?:\d+ )?aborted|commit of aborted transaction|forced readonly|errno=-\d+)",
        "btrfs: transaction aborted",
    ),
];

/// Lines of the page cache and the block layer above md and dm.
const BLOCK: &[Rule] = &[
    lost(r"^Buffer I/O error on dev(?:ice)? (?<which>md|dm)[-_\w]*,", "buffer I/O error on $which"),
    changed(r"^protection error, dev (?<which>md|dm)[-_\w]*, ", "protection error on $which"),
    lost(
        r"^(?:blk_update_request: )?(?:I/O|critical (?:target|medium|space allocation)|timeout) error, dev (?<which>md|dm)[-_\w]*, ",
        "I/O error on $which",
    ),
    changed(r"^bcache: .*(?:bad checksum|corrupted btree|bad csum)", "bcache: metadata is corrupted"),
];

/// Words in lines that begin with the name of a device or an array.
pub(super) const WITHIN: &[&str] =
    &[": mismatch sector in range ", " tag error at ", ": writeback error on ", ": could not start resync"];

const NAMED: &[Rule] = &[
    changed(r"^\S+: mismatch sector in range \d+-\d+", "md: mismatch found by a check"),
    changed(
        r"^(?:dm|md)[-_\w]*: (?:guard|ref) tag error at ",
        "block: guard or reference tag does not match",
    ),
    lost(r"^\S+: writeback error on inode \d+, offset ", "xfs: writeback error"),
    lost(r"^\S+: could not start resync thread", "md: could not start resync thread"),
];
