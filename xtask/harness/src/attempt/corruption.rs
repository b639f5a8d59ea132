//! Finds the lines of a test's output that say that data is not what was written. Pure.
//!
//! They count when the test fails: one that passes has looked at its data itself. Traces are passed over, for
//! they show the commands that would look, and so is all that follows the epilogue of a failure: the script's
//! own source. A file system that a check finds inconsistent may have lost writes to an IO error or to a
//! journal that was not replayed: after such words the check proves nothing. Deliberately not here: what the
//! kernel says (`console`), and which tests corrupt on purpose (`expectations.toml`).

use std::sync::LazyLock;

use regex::RegexSet;

/// Longest title, characters.
const TITLE_MAX: usize = 200;

/// Words of programs that have compared data, or its checksum, with what it was.
static CHANGED: LazyLock<RegexSet> = LazyLock::new(|| {
    set(&[
        // cmp, with and without -b; diff of binary files, and diff -q.
        r"^\S+ \S+ differ: (?:byte|char) \d+",
        r"^(?:Binary files|Files) \S+ and \S+ differ$",
        // md5sum -c and its kin. Their `FILE: FAILED` alone may be anybody's.
        r"^\w+sum: WARNING: \d+ computed checksums? did NOT match",
        r"(?i)\bchecksum mismatch\b",
        // e2fsck and libext2fs.
        r"^(?:fsck|e2fsck|fsck\.\w+|ext2fs_open2): .*(?:checksum does not match|[Bb]ad (?:block |inode )?checksum)",
        // xfs_repair -n.
        r"^(?:Metadata corruption detected at|Metadata CRC error detected at) ",
        // btrfs check.
        r"^(?:checksum verify|parent transid verify) failed on \d+",
        // Reads of dm-integrity end with EILSEQ. Others mean names and texts by it.
        r"^(?:cat|cmp|cp|dd|head|tail|od|hexdump|xxd|fio|pread\d*|read|\w+sum): .*: Invalid or incomplete multibyte or wide character$",
        r"[Rr]ead error.*: Invalid or incomplete multibyte or wide character$",
        // fio --verify.
        r"^(?:fio: )?\w+: verify failed at file ",
        r"^verify: bad (?:magic )?header\b",
        // A script's words about md's own check.
        r"\bmismatch_cnt\W{1,4}[1-9]\d*\s*$",
    ])
});

/// Words that something is not consistent: that data changed unless it was lost.
static INCONSISTENT: LazyLock<RegexSet> = LazyLock::new(|| {
    set(&[
        // e2fsck -p, -n.
        r"^\S+: UNEXPECTED INCONSISTENCY",
        r"^\S+: \*{4,} WARNING: Filesystem still has errors",
        // EUCLEAN: a file system whose structures make no sense. mount ends its sentence.
        r": Structure needs cleaning\.?$",
    ])
});

/// Words of what makes a file system inconsistent although each block is what was written.
static LOST: LazyLock<RegexSet> = LazyLock::new(|| {
    set(&[
        r": Input/output error\b",
        r"\(Input/output error\)",
        r"\bI/O error\b",
        r"\bshort (?:read|write)\b",
        r"skipping journal recovery",
        r": Read-only file system\b",
        r": No space left on device\b",
    ])
});

fn set(patterns: &[&str]) -> RegexSet {
    RegexSet::new(patterns).expect("regular expressions of our own")
}

/// Looks for the first such line.
#[derive(Debug, Default)]
pub(crate) struct CorruptionScan {
    /// Something may have been lost.
    has_lost: bool,
    found: Option<String>,
}

impl CorruptionScan {
    /// Looks at the next line of output.
    pub(crate) fn look(&mut self, line: &str) {
        if self.found.is_some() {
            return;
        }
        let text = line.trim();
        if is_traced(text) {
            return;
        }
        if CHANGED.is_match(text) || !self.has_lost && INCONSISTENT.is_match(text) {
            self.found = Some(text.chars().take(TITLE_MAX).collect());
        } else {
            self.has_lost |= LOST.is_match(text);
        }
    }

    /// The first line that speaks of data that changed.
    pub(crate) fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }
}

/// `+ cmp a b` of `set -x`, `#x.sh:10+ cmp a b` and `##x.sh:10+ …` of LVM2's PS4, `## …` of its libraries.
fn is_traced(text: &str) -> bool {
    text.starts_with(['+', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&str]) -> Option<String> {
        let mut scan = CorruptionScan::default();
        lines.iter().for_each(|line| scan.look(line));
        scan.found().map(str::to_owned)
    }

    #[test]
    fn programs_that_compare_are_heard() {
        for line in [
            "/mnt/a /tmp/a differ: byte 4097, line 3",
            "a b differ: byte 1, line 1 is 101 A 132 Z",
            "a b differ: char 1, line 1",
            "Binary files a and b differ",
            "Files /mnt/a and /tmp/a differ",
            "md5sum: WARNING: 1 computed checksum did NOT match",
            "/dev/md0: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.",
            "/dev/md0: ********** WARNING: Filesystem still has errors **********",
            "ext2fs_open2: Superblock checksum does not match superblock",
            "cat: /mnt/file: Structure needs cleaning",
            "mount: /mnt: mount(2) system call failed: Structure needs cleaning.",
            "dd: error reading '/mnt/file': Invalid or incomplete multibyte or wide character",
            "checksum verify failed on 30408704 wanted 0x1 found 0x2",
            "crc32c: verify failed at file /dev/md0 offset 4096, length 4096",
            "verify: bad magic header 0, wanted acca at file /dev/md0 offset 0, length 4096",
            "mismatch_cnt: 128",
            "/sys/block/md0/md/mismatch_cnt = 8",
        ] {
            assert_eq!(found(&[line]).as_deref(), Some(line));
        }
    }

    #[test]
    fn commands_and_good_news_are_not() {
        for line in [
            "#integrity-caching.sh:10+ cmp -b mnt/fileA fileA differ: byte 1",
            "+ grep UNEXPECTED INCONSISTENCY log",
            "++ echo mismatch_cnt: 128",
            "  + echo mismatch_cnt: 128",
            "/mnt/random: OK",
            "mismatch_cnt: 0",
            "/dev/md0: clean, 11/32768 files, 5877/131072 blocks",
            "  Logical volume vg/lv contains no checksums.",
            "## Line: 10 \t cmp a b differ: byte 1",
            // Anybody's words.
            "check of the third array: FAILED",
            "md5sum: WARNING: 1 listed file could not be read",
            "rm: cannot remove 'x': Invalid or incomplete multibyte or wide character",
            "the log has UNEXPECTED INCONSISTENCY in it",
        ] {
            assert_eq!(found(&[line]), None, "{line}");
        }
    }

    #[test]
    fn what_an_io_error_leaves_behind_is_no_changed_data() {
        let fsck = "/dev/md0: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.";
        for cause in [
            "dd: error writing '/dev/md0': Input/output error",
            "Error reading block 3 (Input/output error) while reading inode and block bitmaps.",
            "Warning: skipping journal recovery because doing a read-only filesystem check.",
            "touch: cannot touch '/mnt/a': Read-only file system",
        ] {
            assert_eq!(found(&[cause, fsck]), None, "{cause}");
            assert!(found(&[cause, "a b differ: byte 1, line 1"]).is_some(), "who compares knows");
        }
        assert!(
            found(&["+ echo Input/output error: Input/output error", fsck]).is_some(),
            "a trace is no error"
        );
    }
}
