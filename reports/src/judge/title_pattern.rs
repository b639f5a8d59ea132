//! Patterns over titles of kernel reports that say what a test causes on purpose.
//!
//! One rule for all who may say so, `[[allow]]` in `expectations.toml` and a script's header: a pattern must
//! name something, and a fault of the kernel's must be named from its first word on.

use protocol::evidence::ReportKind;
use regex::Regex;

use crate::judge::data_file::one_line;

/// Titles with nothing in common but that they are titles: a pattern that matches all of them would hide the
/// next bug.
const UNLIKE: [&str; 4] = [
    "BUG: KASAN: slab-use-after-free in raid1d",
    "md: superblock write error",
    "kernel panic: 0",
    "/dev/x: FAILED",
];

/// Titles that are allowed: a regular expression, searched in them.
#[derive(Clone, Debug)]
pub struct TitlePattern(Regex);

impl TitlePattern {
    /// Checks it; an error says what is wrong with it, after the name of where it was said.
    pub fn parse(text: &str) -> Result<TitlePattern, String> {
        let regex =
            Regex::new(text).map_err(|error| format!("is no regular expression: {}", one_line(&error)))?;
        if regex.is_match("") || UNLIKE.iter().all(|title| regex.is_match(title)) {
            return Err(format!("would allow anything by `{text}`; name the titles"));
        }
        Ok(TitlePattern(regex))
    }

    /// True if it allows this title: of a report of this kind, or of a line of the test's own.
    ///
    /// A fault of the kernel's must be named from its first word on: `raid1` allows what md/raid1 says of a
    /// failed disk, and neither a NULL dereference nor a WARNING in raid1_write_request.
    pub(crate) fn allows(&self, kind: Option<ReportKind>, title: &str) -> bool {
        match kind {
            Some(
                ReportKind::Panic
                | ReportKind::Oops
                | ReportKind::Bug
                | ReportKind::MemoryError
                | ReportKind::Lockup
                | ReportKind::Warning
                | ReportKind::Undefined
                | ReportKind::DataRace
                | ReportKind::Lockdep
                | ReportKind::RcuStall
                | ReportKind::WorkqueueStall,
            ) => self.names_from_its_first_word(title),
            None | Some(ReportKind::HungTask | ReportKind::StorageError | ReportKind::Corruption) => {
                self.0.is_match(title)
            }
        }
    }

    /// True if it matches from the beginning on, and would not if the first word were another: `.*raid1`
    /// names nothing.
    fn names_from_its_first_word(&self, title: &str) -> bool {
        let begins = |text: &str| self.0.find(text).is_some_and(|found| found.start() == 0);
        let rest = title.find(' ').map_or("", |end| &title[end..]);
        begins(title) && !begins(&format!("{ANOTHER_WORD}{rest}"))
    }
}

/// A word that no title begins with.
const ANOTHER_WORD: &str = "~0~";

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, kind: ReportKind, title: &str) -> bool {
        TitlePattern::parse(pattern).unwrap().allows(Some(kind), title)
    }

    #[test]
    fn a_pattern_that_names_nothing_is_refused() {
        for text in ["", ".*", ".", "[a-z]", r"\w+", "e|x", "^", "$"] {
            let error = TitlePattern::parse(text).unwrap_err();
            assert_eq!(error, format!("would allow anything by `{text}`; name the titles"));
        }
        assert!(TitlePattern::parse("disk failure(").unwrap_err().starts_with("is no regular expression: "));
    }

    #[test]
    fn a_fault_of_the_kernels_is_named_from_its_first_word_on() {
        use ReportKind::{Lockup, MemoryError, Oops, StorageError, Warning};
        assert!(allows("raid1", StorageError, "md/raid1: disk failure, device disabled"));
        assert!(!allows("raid1", Warning, "WARNING in raid1_write_request"));
        assert!(allows("^WARNING in raid1_", Warning, "WARNING in raid1_write_request"));
        assert!(!allows(".*raid1", MemoryError, "KASAN: slab-use-after-free in raid1d"));
        let null = "BUG: kernel NULL pointer dereference in raid1_write_request";
        assert!(!allows("raid1", Oops, null));
        assert!(!allows("raid1", MemoryError, "KASAN: use-after-free in raid1d"));
        assert!(!allows("raid1|lockup", Lockup, "BUG: soft lockup in raid1d"));
        assert!(allows("BUG: kernel NULL pointer .* in raid1_", Oops, null));
        assert!(allows("raid1|BUG: kernel NULL", Oops, null));
    }
}
