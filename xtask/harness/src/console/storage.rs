//! Recognises the single lines by which md, dm and file systems report lost redundancy, IO errors, and
//! corrupted data.
//!
//! Pure. A title has no device, sector, count or errno, so that one bug has one title. Deliberately not here:
//! which of these lines a test causes on purpose; expectations.toml allows them.

mod rules;

use std::sync::LazyLock;

use protocol::evidence::ReportKind;
use regex::Regex;

use rules::{GROUPS, WITHIN};

/// A pattern for such a line, and its kind and title.
struct Rule {
    kind: ReportKind,
    pattern: &'static str,
    /// Title of the report; `$name` is replaced by that group of the pattern.
    title: &'static str,
}

/// Rules for the lines of one subsystem. The first match counts, so special rules come before general ones.
struct Group {
    /// First words of its lines, so that all other lines are cheap. Empty: the lines begin with any name, and
    /// contain one of [`WITHIN`].
    beginnings: &'static [&'static str],
    rules: &'static [Rule],
}

static PATTERNS: LazyLock<Vec<Vec<(&'static Rule, Regex)>>> = LazyLock::new(|| {
    let compiled =
        |rule: &'static Rule| (rule, Regex::new(rule.pattern).expect("a regular expression of our own"));
    GROUPS.iter().map(|group| group.rules.iter().map(compiled).collect()).collect()
});

/// Kind and title that `line`, without its time stamp, reports; `None` for every other line.
pub(super) fn storage_line(line: &str) -> Option<(ReportKind, String)> {
    let (_, title, kind) = recognised(line)?;
    Some((kind, title))
}

/// The first rule that a line matches, with its title and kind.
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

/// The first pattern that a line matches: for the test that every rule is used.
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
