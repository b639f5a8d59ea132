//! What a suite is known to do: `suites/<suite>/expectations.toml`, whose keys are in
//! docs/reference/expectations-toml.md.
//!
//! An entry that names a known issue holds on the kernels that have it, by that issue's own entry: what is
//! known of kernels is said once.
//!
//! Deliberately not here: what follows from an expectation that is met or missed ([`super::attempt`]), and
//! reading the file from the disk.

use protocol::evidence::ReportKind;
use protocol::{Outcome, TestId};
use regex::Regex;
use serde::Deserialize;
use toml::Spanned;

use crate::judge::data_file::{EntryError, glob_matches, line_of, one_line};
use crate::judge::expected_outcome::ExpectedOutcome;
use crate::judge::kernel_version::Version;
use crate::judge::known_issues::{KnownIssue, KnownIssues, Standing};
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
    /// Whose fault that is.
    pub because: Because,
    /// Why, in a sentence.
    pub reason: String,
    /// Each is searched in each line of the signature: a deadlock has two halves.
    signature: Vec<Regex>,
    /// Known issues: it holds where the kernel has one of them, and must look like one that it has. If none
    /// is named, it may look like any or none.
    known_issues: Vec<KnownIssue>,
    /// True if they may also pass.
    pub flaky: bool,
    /// True if a pass is no good news: what was put there to be found was not found.
    pub must: bool,
    /// File and line of the entry, for those who want to change it.
    pub place: String,
}

/// Whose fault it is that a test does other than pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// The test's own: it is wrong, or does so on purpose.
    Test,
    /// The kernel's: a bug, or something that it lacks.
    Kernel,
    /// The guest's, the flavour's or the machine's.
    Environment,
}

/// The kernel that an attempt ran on, as far as expectations go by it.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelFacts<'a> {
    /// `uname -r`, if the kernel got that far.
    pub release: Option<&'a str>,
    /// Its sources, if known.
    pub version: Option<&'a Version>,
}

/// Facts of a finished attempt that an entry is held against.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptTexts<'a> {
    /// The last lines that it printed.
    pub last_lines: &'a [String],
    /// Lines of its signature.
    pub signature: &'a [String],
    /// Ids of the known issues that it looks like.
    pub known_issues: &'a [&'a str],
    /// Version of the kernel's sources, if known.
    pub version: Option<&'a Version>,
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
    because: Spanned<Because>,
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
    /// Parses the text of a file, whose entries may name these known issues; `path` is only named, in errors
    /// and in reports.
    ///
    /// # Errors
    ///
    /// The text is no such file, an entry names an issue that is not known, or kernels that cannot have the
    /// issue that it names.
    pub fn parse(
        text: &str,
        path: &str,
        known_issues: &KnownIssues,
    ) -> Result<Expectations, ExpectationsError> {
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
                check_entry(entry.into_inner(), place(start), known_issues)
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

    /// The entries about this test that hold on this kernel. An entry that names kernels never holds on one
    /// whose release is unknown.
    pub fn about<'a>(
        &'a self,
        test: &'a TestId,
        kernel: KernelFacts<'a>,
    ) -> impl Iterator<Item = &'a Expectation> {
        self.entries.iter().filter(move |entry| entry.is_about(test) && entry.holds_on(kernel))
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
fn check_entry(entry: Entry, place: String, all_issues: &KnownIssues) -> Result<Expectation, EntryError> {
    let kernels_at = entry.kernels.as_ref().map_or(0, |kernels| kernels.span().start);
    let scope = check_scope(entry.tests, entry.kernels)?;
    let pattern = entry.pattern.as_ref().map(|pattern| check_regex_at("match", pattern)).transpose()?;
    let (signature_at, signature) = check_texts("signature", entry.signature)?;
    let signature: Vec<Regex> = signature
        .iter()
        .map(|text| check_regex("signature", text).map_err(|problem| (signature_at, problem)))
        .collect::<Result<_, _>>()?;
    let (issues_at, ids) = check_texts("known-issue", entry.known_issue)?;
    let named = |id: &String| {
        let problem = || format!("`{id}` is no known issue: suites/known-issues.toml has no such id");
        all_issues.named(id).cloned().ok_or_else(|| (issues_at, problem()))
    };
    let known_issues: Vec<KnownIssue> = ids.iter().map(named).collect::<Result<_, _>>()?;
    let (because_at, because) = (entry.because.span().start, entry.because.into_inner());
    if because != Because::Kernel && !known_issues.is_empty() {
        let problem = "a known issue is the kernel's fault: expected `because = \"kernel\"`".to_owned();
        return Err((because_at, problem));
    }
    let says_what = pattern.is_some() || !signature.is_empty() || !known_issues.is_empty();
    if because == Because::Kernel && !says_what && !entry.must {
        let problem = "a fault of the kernel's needs `signature`, `known-issue` or `match`, or it would excuse the \
                       next one, too";
        return Err((because_at, problem.to_owned()));
    }
    if !known_issues.is_empty() && !entry.must {
        check_kernels(&scope, &known_issues).map_err(|problem| (kernels_at, problem))?;
    }
    Ok(Expectation {
        scope,
        pattern,
        signature,
        known_issues,
        must: entry.must,
        outcome: entry.outcome,
        because,
        reason: check_reason(entry.reason, "expected")?,
        flaky: entry.flaky,
        place,
    })
}

/// Refuses a kernel on which none of the issues can be expected: the entry would be about nothing there.
fn check_kernels(scope: &Scope, issues: &[KnownIssue]) -> Result<(), String> {
    let can_be = |kernel: &str| {
        // What is no version, or says too little of one, contradicts nothing.
        Version::of_release_prefix(kernel)
            .is_none_or(|branch| issues.iter().any(|issue| issue.is_present_within(&branch)))
    };
    match scope.kernels.iter().flatten().find(|kernel| !can_be(kernel)) {
        None => Ok(()),
        Some(kernel) => {
            let names: Vec<_> =
                issues.iter().map(|issue| format!("`{}` ({})", issue.id(), issue.place())).collect();
            let names = names.join(" or ");
            Err(format!("`{kernel}` does not have {names}; without `kernels`, the known issue says which do"))
        }
    }
}

fn is_release_prefix(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '~' | '_'))
}

impl Scope {
    fn covers(&self, test: &TestId, release: Option<&str>) -> bool {
        self.names(test) && self.has_kernel(release)
    }

    fn names(&self, test: &TestId) -> bool {
        let flavoured = format!("{}@{}", test.name(), test.flavour().unwrap_or_default());
        self.tests.iter().any(|glob| {
            let name = if glob.contains('@') { flavoured.as_str() } else { test.name() };
            glob_matches(glob, name)
        })
    }

    fn has_kernel(&self, release: Option<&str>) -> bool {
        match (&self.kernels, release) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(kernels), Some(release)) => {
                kernels.iter().any(|prefix| release_begins_with(release, prefix))
            }
        }
    }
}

impl Because {
    /// The word in files, `environment`.
    pub fn name(self) -> &'static str {
        match self {
            Because::Test => "test",
            Because::Kernel => "kernel",
            Because::Environment => "environment",
        }
    }
}

impl Allowance {
    fn allows(&self, kind: Option<ReportKind>, title: &str) -> bool {
        self.reports.iter().any(|pattern| pattern.allows(kind, title))
    }
}

impl Expectation {
    /// Globs over the names of its tests.
    pub fn tests(&self) -> &[String] {
        &self.scope.tests
    }

    /// Beginnings of the releases that it names; `None` if it names none.
    pub fn kernels(&self) -> Option<&[String]> {
        self.scope.kernels.as_deref()
    }

    /// The known issues that it names.
    pub fn known_issues(&self) -> &[KnownIssue] {
        &self.known_issues
    }

    /// True if it is about this test, on whatever kernel.
    pub fn is_about(&self, test: &TestId) -> bool {
        self.scope.names(test)
    }

    /// True if it holds on this kernel: one of those that it names, and with a known issue that it names.
    pub fn holds_on(&self, kernel: KernelFacts<'_>) -> bool {
        self.scope.has_kernel(kernel.release)
            && (self.known_issues.is_empty() || self.issues_on(kernel.version).next().is_some())
    }

    /// The known issues that it expects on a kernel of this version. Where a bug was put there to be found,
    /// the version says nothing.
    fn issues_on(&self, version: Option<&Version>) -> impl Iterator<Item = &KnownIssue> {
        self.known_issues.iter().filter(move |issue| match issue.standing(version) {
            Standing::Present => true,
            Standing::Unknown => self.must,
            Standing::Fixed | Standing::Older => false,
        })
    }

    /// True if an attempt with this outcome, which shows this, is what was expected.
    pub fn is_met_by(&self, outcome: &Outcome, shown: AttemptTexts<'_>) -> bool {
        let found = |regex: &Regex, lines: &[String]| lines.iter().any(|line| regex.is_match(line));
        let matches = |regex: &Regex| regex.is_match(&outcome.detail()) || found(regex, shown.last_lines);
        let mut expected = self.issues_on(shown.version);
        ExpectedOutcome::of(outcome) == Some(self.outcome)
            && self.pattern.as_ref().is_none_or(matches)
            && self.signature.iter().all(|regex| found(regex, shown.signature))
            && (self.known_issues.is_empty()
                || expected.any(|issue| shown.known_issues.contains(&issue.id())))
    }
}

impl Expectation {
    /// True if its `match` or its `signature` names a report of this title.
    pub(crate) fn names(&self, title: &str) -> bool {
        self.pattern.iter().chain(&self.signature).any(|regex| regex.is_match(title))
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
