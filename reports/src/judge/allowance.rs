//! What a test causes on purpose: which reports of the kernel, and which lines of its own output, say nothing
//! against it.
//!
//! One rule for all who may say so: suites in `expectations.toml` (`[[allow]]`), scripts in their header
//! (`# md-regress: allow=REGEX`), which the record keeps, so that a run that is judged again is judged alike.
//! Deliberately not here: what a report that nobody allows means ([`crate::judge::verdict`]).

use crate::judge::expectations::Expectations;
use crate::judge::title_pattern::TitlePattern;
use crate::record::Attempt;

/// Why something is allowed that a script allows itself.
const OWN_HEADER: &str = "the script's own header";

/// All that one attempt is allowed.
pub(crate) struct Allowances<'a> {
    attempt: &'a Attempt,
    release: Option<&'a str>,
    suite: Option<&'a Expectations>,
    own: Vec<TitlePattern>,
}

impl<'a> Allowances<'a> {
    /// By its suite, on a kernel of this release, and by what the attempt says itself. A pattern of the
    /// record's that makes no sense allows nothing.
    pub(crate) fn of(
        attempt: &'a Attempt,
        release: Option<&'a str>,
        suite: Option<&'a Expectations>,
    ) -> Self {
        let own = attempt.allow.iter().filter_map(|text| TitlePattern::parse(text).ok()).collect();
        Allowances { attempt, release, suite, own }
    }

    /// Why the report of this title is allowed, or the line of the test's own output; nothing if it is not.
    pub(crate) fn reason(&self, title: &str) -> Option<&str> {
        let report = self.attempt.kernel_reports.iter().find(|report| report.title == title);
        let kind = report.map(|report| report.kind);
        if let Some(suite) = self.suite
            && let Some(entry) = suite.allowing(&self.attempt.test, self.release, kind, title)
        {
            return Some(&entry.reason);
        }
        self.own.iter().any(|pattern| pattern.allows(kind, title)).then_some(OWN_HEADER)
    }
}
