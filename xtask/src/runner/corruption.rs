//! Finds the lines of a test's output that say that data is not what was written. Pure.
//!
//! They count when the test fails: one that passes has looked at its data itself. Traces are passed over,
//! for they show the commands that would look, and so is all that follows the epilogue of a failure: the
//! script's own source. Deliberately not here: what the kernel says (`console`), and which tests
//! corrupt on purpose (`expectations.toml`).

use std::sync::LazyLock;

use regex::RegexSet;

/// Longest title, characters.
const TITLE_MAX: usize = 200;

static PATTERNS: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new([
        // cmp, with and without -b; diff of binary files.
        r"^\S+ \S+ differ: (?:byte|char) \d+",
        r"^(?:Binary files|Files) \S+ and \S+ differ$",
        // md5sum -c and its kin.
        r"^\S.*: FAILED$",
        r"^\w+sum: WARNING: \d+ computed checksums? did NOT match",
        r"(?i)\bchecksum mismatch\b",
        // fsck of ext4.
        r"UNEXPECTED INCONSISTENCY",
        r"^\S+: \*{4,} WARNING: Filesystem still has errors",
        r"^(?:fsck|e2fsck|fsck\.\w+): .*(?:checksum does not match|Superblock checksum)",
        // xfs_repair -n.
        r"^(?:Metadata corruption detected at|Metadata CRC error detected at) ",
        // What reads of a broken file system, and of dm-integrity, end with: EUCLEAN, EILSEQ.
        r": Structure needs cleaning$",
        r": Invalid or incomplete multibyte or wide character$",
        // What a script prints of md's own check.
        r"\bmismatch_cnt\W{1,4}[1-9]\d*\s*$",
    ])
    .expect("regular expressions of our own")
});

/// The title, if this line of output speaks of data that changed.
pub(crate) fn corruption_line(line: &str) -> Option<String> {
    let text = line.trim_end();
    if is_traced(text) || !PATTERNS.is_match(text) {
        return None;
    }
    Some(text.trim_start().chars().take(TITLE_MAX).collect())
}

/// `+ cmp a b` of `set -x`, `#x.sh:10+ cmp a b` and `##x.sh:10+ …` of LVM2's PS4, `## …` of its libraries.
fn is_traced(line: &str) -> bool {
    line.starts_with('+') || line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_compare_are_heard() {
        for line in [
            "/mnt/a /tmp/a differ: byte 4097, line 3",
            "a b differ: byte 1, line 1 is 101 A 132 Z",
            "a b differ: char 1, line 1",
            "Binary files a and b differ",
            "/mnt/random: FAILED",
            "md5sum: WARNING: 1 computed checksum did NOT match",
            "/dev/md0: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.",
            "/dev/md0: ********** WARNING: Filesystem still has errors **********",
            "cat: /mnt/file: Structure needs cleaning",
            "dd: error reading '/mnt/file': Invalid or incomplete multibyte or wide character",
            "mismatch_cnt: 128",
            "/sys/block/md0/md/mismatch_cnt = 8",
        ] {
            assert_eq!(corruption_line(line).as_deref(), Some(line));
        }
    }

    #[test]
    fn commands_and_good_news_are_not() {
        for line in [
            "#integrity-caching.sh:10+ cmp -b mnt/fileA fileA differ: byte 1",
            "+ grep UNEXPECTED INCONSISTENCY log",
            "++ echo mismatch_cnt: 128",
            "/mnt/random: OK",
            "mismatch_cnt: 0",
            "/dev/md0: clean, 11/32768 files, 5877/131072 blocks",
            "  Logical volume vg/lv contains no checksums.",
            "## Line: 10 \t cmp a b differ: byte 1",
        ] {
            assert_eq!(corruption_line(line), None, "{line}");
        }
    }
}
