//! Recognises the single lines by which md, dm and the file systems above them report lost redundancy, IO
//! errors, and data that is not what was written.
//!
//! Pure. A title names no device, sector, count or errno, so that a bug has one. Deliberately not here:
//! which of these a test causes on purpose; expectations.toml allows them.

mod rules;

use std::sync::LazyLock;

use protocol::evidence::ReportKind;
use regex::Regex;

use rules::{GROUPS, WITHIN};

/// What a line says, if it is one of those.
struct Rule {
    kind: ReportKind,
    pattern: &'static str,
    /// `$name` stands for a group of the pattern.
    title: &'static str,
}

/// Rules for the lines of one subsystem. The first that matches counts, so that what is special comes before
/// what is general.
struct Group {
    /// How its lines begin, so that a line that is none of them costs next to nothing. None: they begin with
    /// any name, and hold one of [`WITHIN`].
    beginnings: &'static [&'static str],
    rules: &'static [Rule],
}

static PATTERNS: LazyLock<Vec<Vec<(&'static Rule, Regex)>>> = LazyLock::new(|| {
    let compiled =
        |rule: &'static Rule| (rule, Regex::new(rule.pattern).expect("a regular expression of our own"));
    GROUPS.iter().map(|group| group.rules.iter().map(compiled).collect()).collect()
});

/// What `line`, without its time stamp, reports; `None` for every other line.
pub(super) fn storage_line(line: &str) -> Option<(ReportKind, String)> {
    let (_, title, kind) = recognised(line)?;
    Some((kind, title))
}

/// The rule that a line matches, with the title and kind that it comes to.
fn recognised(line: &str) -> Option<(&'static Rule, String, ReportKind)> {
    GROUPS.iter().zip(PATTERNS.iter()).find_map(|(group, patterns)| {
        let may_be = if group.beginnings.is_empty() {
            WITHIN.iter().any(|words| line.contains(words))
        } else {
            group.beginnings.iter().any(|start| line.starts_with(start))
        };
        if !may_be {
            return None;
        }
        patterns.iter().find_map(|(rule, pattern)| {
            let found = pattern.captures(line)?;
            let mut title = String::new();
            found.expand(rule.title, &mut title);
            Some((*rule, title, rule.kind))
        })
    })
}

/// The pattern that a line matches first: for the test that no rule is idle.
#[cfg(test)]
pub(super) fn pattern_of(line: &str) -> Option<&'static str> {
    recognised(line).map(|(rule, ..)| rule.pattern)
}

#[cfg(test)]
pub(super) fn patterns() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|group| group.rules).map(|rule| rule.pattern)
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
