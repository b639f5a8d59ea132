//! What a suite is known to do: `suites/<suite>/expectations.toml`, whose keys are in
//! docs/reference/expectations-toml.md.
//!
//! Deliberately not here: what follows from an expectation that is met or missed ([`super::attempt`]), and
//! reading the file from the disk.

use std::fmt;

use protocol::evidence::ReportKind;
use protocol::{Outcome, TestId};
use regex::Regex;
use serde::Deserialize;
use toml::Spanned;

use crate::judge::data_file::{EntryError, glob_matches, line_of, one_line};
use crate::judge::title_pattern::TitlePattern;

/// All expectations of one suite, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    entries: Vec<Expectation>,
    allowed: Vec<Allowance>,
}

/// Reports of the kernel that some tests cause on purpose.
#[derive(Clone, Debug)]
pub struct Allowance {
    scope: Scope,
    reports: Vec<TitlePattern>,
    /// Why, in a sentence.
    pub reason: String,
    /// File and line of the entry, for those who want to change it.
    pub place: String,
}

/// Which tests an entry is about, on which kernels.
#[derive(Clone, Debug)]
struct Scope {
    tests: Vec<String>,
    kernels: Option<Vec<String>>,
}

/// One thing that is known about some tests.
#[derive(Clone, Debug)]
pub struct Expectation {
    scope: Scope,
    pattern: Option<Regex>,
    /// The outcome that is expected of them.
    pub outcome: ExpectedOutcome,
    /// Why, in a sentence.
    pub reason: String,
    /// Each is searched in each line of the signature: a deadlock has two halves.
    signature: Vec<Regex>,
    /// Which known issues it must look like one of; if none is named, any or none.
    known_issues: Vec<String>,
    /// True if they may also pass.
    pub flaky: bool,
    /// True if a pass is no good news: what was put there to be found was not found.
    pub must: bool,
    /// File and line of the entry, for those who want to change it.
    pub place: String,
}

/// Texts of a finished attempt that an entry's patterns are searched in.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptTexts<'a> {
    /// The last lines that it printed.
    pub last_lines: &'a [String],
    /// Lines of its signature.
    pub signature: &'a [String],
    /// Ids of the known issues that it looks like.
    pub known_issues: &'a [&'a str],
}

/// An outcome that can be expected. A pass is what is expected without an entry, and nobody can
/// expect an interruption or a broken host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectedOutcome {
    /// [`Outcome::Fail`].
    Fail,
    /// [`Outcome::Skip`].
    Skip,
    /// [`Outcome::Warn`].
    Warn,
    /// [`Outcome::Timeout`].
    Timeout,
    /// [`Outcome::Hang`].
    Hang,
    /// [`Outcome::KernelCrash`].
    KernelCrash,
    /// [`Outcome::DataCorruption`].
    DataCorruption,
}

/// Why a text is no list of expectations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ExpectationsError {
    place: String,
    problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    expect: Vec<Spanned<Entry>>,
    #[serde(default)]
    allow: Vec<Spanned<AllowEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowEntry {
    tests: Spanned<Vec<String>>,
    kernels: Option<Spanned<OneOrMore>>,
    reports: Spanned<Vec<Spanned<String>>>,
    reason: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    tests: Spanned<Vec<String>>,
    kernels: Option<Spanned<OneOrMore>>,
    outcome: ExpectedOutcome,
    #[serde(rename = "match")]
    pattern: Option<Spanned<String>>,
    signature: Option<Spanned<Texts>>,
    known_issue: Option<Spanned<Texts>>,
    reason: Spanned<String>,
    #[serde(default)]
    flaky: bool,
    #[serde(default)]
    must: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a kernel branch like \"6.12\", or a list of them")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of them")]
enum Texts {
    One(String),
    More(Vec<String>),
}

impl Expectations {
    /// Parses the text of a file; `path` is only named, in errors and in reports.
    pub fn parse(text: &str, path: &str) -> Result<Expectations, ExpectationsError> {
        let place = |offset: usize| format!("{path}:{}", line_of(text, offset));
        let file: File = toml::from_str(text).map_err(|error| ExpectationsError {
            place: place(error.span().map_or(0, |span| span.start)),
            problem: error.message().trim_end().replace('\n', ", "),
        })?;
        let entries = file
            .expect
            .into_iter()
            .map(|entry| {
                let start = entry.span().start;
                check_entry(entry.into_inner(), place(start))
                    .map_err(|(offset, problem)| ExpectationsError { place: place(offset), problem })
            })
            .collect::<Result<_, _>>()?;
        let allowed = file
            .allow
            .into_iter()
            .map(|entry| {
                let start = entry.span().start;
                check_allowance(entry.into_inner(), place(start))
                    .map_err(|(offset, problem)| ExpectationsError { place: place(offset), problem })
            })
            .collect::<Result<_, _>>()?;
        Ok(Expectations { entries, allowed })
    }

    /// The entry that allows a report of this title to this test on a kernel of this release; without a kind,
    /// a line of the test's own output.
    pub(crate) fn allowing(
        &self,
        test: &TestId,
        release: Option<&str>,
        kind: Option<ReportKind>,
        title: &str,
    ) -> Option<&Allowance> {
        self.allowed.iter().find(|entry| entry.scope.covers(test, release) && entry.allows(kind, title))
    }

    /// The entries about this test on a kernel of this release. An entry that names kernels is
    /// never about a kernel whose release is unknown.
    pub fn about<'a>(
        &'a self,
        test: &'a TestId,
        release: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Expectation> {
        self.entries.iter().filter(move |entry| entry.scope.covers(test, release))
    }

    /// All entries, in the order of the file.
    pub fn entries(&self) -> &[Expectation] {
        &self.entries
    }
}

fn check_scope(
    tests: Spanned<Vec<String>>,
    kernels: Option<Spanned<OneOrMore>>,
) -> Result<Scope, EntryError> {
    let tests_at = tests.span().start;
    let tests = tests.into_inner();
    if tests.is_empty() || tests.iter().any(String::is_empty) {
        return Err((tests_at, "`tests` names no test; `*` stands for all of them".to_owned()));
    }
    let Some(kernels) = kernels else { return Ok(Scope { tests, kernels: None }) };
    let kernels_at = kernels.span().start;
    let kernels = match kernels.into_inner() {
        OneOrMore::One(kernel) => vec![kernel],
        OneOrMore::More(kernels) => kernels,
    };
    if kernels.is_empty() {
        return Err((kernels_at, "`kernels` is empty; leave it out to mean all of them".to_owned()));
    }
    if let Some(bad) = kernels.iter().find(|kernel| !is_release_prefix(kernel)) {
        let problem = format!("`{bad}` is no kernel branch or release: expected `6.12`, `6.12.113`");
        return Err((kernels_at, problem));
    }
    Ok(Scope { tests, kernels: Some(kernels) })
}

fn check_regex(key: &str, pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("`{key}` is no regular expression: {}", one_line(&error)))
}

fn check_regex_at(key: &str, pattern: &Spanned<String>) -> Result<Regex, EntryError> {
    check_regex(key, pattern.get_ref()).map_err(|problem| (pattern.span().start, problem))
}

/// A text or some, and where they are; none if the key is not there.
fn check_texts(key: &str, texts: Option<Spanned<Texts>>) -> Result<(usize, Vec<String>), EntryError> {
    let Some(texts) = texts else { return Ok((0, Vec::new())) };
    let start = texts.span().start;
    let texts = match texts.into_inner() {
        Texts::One(text) => vec![text],
        Texts::More(texts) => texts,
    };
    if texts.is_empty() {
        return Err((start, format!("`{key}` is empty; leave it out if it does not matter")));
    }
    Ok((start, texts))
}

fn check_reason(reason: Spanned<String>, what: &str) -> Result<String, EntryError> {
    if reason.get_ref().trim().is_empty() {
        return Err((
            reason.span().start,
            format!("`reason` is empty; say in a sentence why this is {what}"),
        ));
    }
    Ok(reason.into_inner().trim().to_owned())
}

fn check_allowance(entry: AllowEntry, place: String) -> Result<Allowance, EntryError> {
    let scope = check_scope(entry.tests, entry.kernels)?;
    let reports_at = entry.reports.span().start;
    let reports = entry.reports.into_inner();
    if reports.is_empty() {
        return Err((reports_at, "`reports` is empty; name the titles that are allowed".to_owned()));
    }
    let check = |report: &Spanned<String>| {
        TitlePattern::parse(report.get_ref())
            .map_err(|problem| (report.span().start, format!("`reports` {problem}")))
    };
    let reports = reports.iter().map(check).collect::<Result<_, _>>()?;
    Ok(Allowance { scope, reports, reason: check_reason(entry.reason, "allowed")?, place })
}

/// Checks what serde cannot; an error has the offset of the value that is at fault.
fn check_entry(entry: Entry, place: String) -> Result<Expectation, EntryError> {
    let scope = check_scope(entry.tests, entry.kernels)?;
    let pattern = entry.pattern.as_ref().map(|pattern| check_regex_at("match", pattern)).transpose()?;
    let (signature_at, signature) = check_texts("signature", entry.signature)?;
    let signature = signature
        .iter()
        .map(|text| check_regex("signature", text).map_err(|problem| (signature_at, problem)))
        .collect::<Result<_, _>>()?;
    let (_, known_issues) = check_texts("known-issue", entry.known_issue)?;
    Ok(Expectation {
        scope,
        pattern,
        signature,
        known_issues,
        must: entry.must,
        outcome: entry.outcome,
        reason: check_reason(entry.reason, "expected")?,
        flaky: entry.flaky,
        place,
    })
}

fn is_release_prefix(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '~' | '_'))
}

impl Scope {
    fn covers(&self, test: &TestId, release: Option<&str>) -> bool {
        let flavoured = format!("{}@{}", test.name(), test.flavour().unwrap_or_default());
        let named = self.tests.iter().any(|glob| {
            let name = if glob.contains('@') { flavoured.as_str() } else { test.name() };
            glob_matches(glob, name)
        });
        named
            && match (&self.kernels, release) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(kernels), Some(release)) => {
                    kernels.iter().any(|prefix| release_begins_with(release, prefix))
                }
            }
    }
}

impl Allowance {
    fn allows(&self, kind: Option<ReportKind>, title: &str) -> bool {
        self.reports.iter().any(|pattern| pattern.allows(kind, title))
    }
}

impl Expectation {
    /// True if an attempt with this outcome, which shows this, is what was expected.
    pub fn is_met_by(&self, outcome: &Outcome, shown: AttemptTexts<'_>) -> bool {
        let found = |regex: &Regex, lines: &[String]| lines.iter().any(|line| regex.is_match(line));
        let matches = |regex: &Regex| regex.is_match(&outcome.detail()) || found(regex, shown.last_lines);
        ExpectedOutcome::of(outcome) == Some(self.outcome)
            && self.pattern.as_ref().is_none_or(matches)
            && self.signature.iter().all(|regex| found(regex, shown.signature))
            && (self.known_issues.is_empty()
                || self.known_issues.iter().any(|id| shown.known_issues.contains(&id.as_str())))
    }
}

impl Expectation {
    /// True if its `match` or its `signature` names a report of this title.
    pub(crate) fn names(&self, title: &str) -> bool {
        self.pattern.iter().chain(&self.signature).any(|regex| regex.is_match(title))
    }
}

impl ExpectedOutcome {
    /// The kind of an outcome, if it can be expected.
    pub fn of(outcome: &Outcome) -> Option<ExpectedOutcome> {
        match outcome {
            Outcome::Pass | Outcome::Interrupted | Outcome::Infra { .. } => None,
            Outcome::Fail { .. } => Some(ExpectedOutcome::Fail),
            Outcome::Skip { .. } => Some(ExpectedOutcome::Skip),
            Outcome::Warn { .. } => Some(ExpectedOutcome::Warn),
            Outcome::Timeout { .. } => Some(ExpectedOutcome::Timeout),
            Outcome::Hang { .. } => Some(ExpectedOutcome::Hang),
            Outcome::KernelCrash { .. } => Some(ExpectedOutcome::KernelCrash),
            Outcome::DataCorruption { .. } => Some(ExpectedOutcome::DataCorruption),
        }
    }
}

impl fmt::Display for ExpectedOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExpectedOutcome::Fail => "fail",
            ExpectedOutcome::Skip => "skip",
            ExpectedOutcome::Warn => "warn",
            ExpectedOutcome::Timeout => "timeout",
            ExpectedOutcome::Hang => "hang",
            ExpectedOutcome::KernelCrash => "kernel-crash",
            ExpectedOutcome::DataCorruption => "data-corruption",
        })
    }
}

/// True if `release` begins with `prefix` and the component is whole: `6.12` begins `6.12.113`
/// and `6.12-rc1`, not `6.120`.
fn release_begins_with(release: &str, prefix: &str) -> bool {
    release.strip_prefix(prefix).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

#[cfg(test)]
#[path = "expectations_tests.rs"]
mod tests;
