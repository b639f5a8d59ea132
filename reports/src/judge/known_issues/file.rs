//! Reads `suites/known-issues.toml` (pure): what serde cannot check is checked here, and an error names the
//! line.
//!
//! Deliberately not here: what looks like an issue.

use std::collections::BTreeMap;

use protocol::HangKind;
use regex::Regex;
use serde::Deserialize;
use toml::Spanned;

use super::{IssueInfo, KnownIssue, KnownIssues, KnownIssuesError, StackPattern};
use crate::judge::data_file::{EntryError, line_of, one_line};
use crate::judge::expected_outcome::ExpectedOutcome;
use crate::judge::kernel_version::{Range, Version};
use crate::judge::signature::ARROW;

/// Commits of the kernel's tree, by id.
const COMMITS: &str = "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/commit/?id=";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    issue: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    id: Spanned<String>,
    title: Spanned<String>,
    #[serde(default)]
    stacks: Vec<Spanned<String>>,
    #[serde(default)]
    without_stacks: Vec<Spanned<String>>,
    #[serde(default)]
    sync_at_rest: bool,
    report: Option<Spanned<String>>,
    outcome: Option<ExpectedOutcome>,
    hang_kind: Option<HangKind>,
    #[serde(default)]
    tests: Vec<String>,
    #[serde(default)]
    present: Vec<Spanned<String>>,
    #[serde(default)]
    absent: Vec<Spanned<String>>,
    #[serde(default)]
    fixed_in: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    debian: BTreeMap<String, Spanned<String>>,
    fix: Option<Spanned<String>>,
    subject: Option<Spanned<String>>,
    #[serde(default)]
    unchecked: bool,
    #[serde(default)]
    seen: bool,
    #[serde(default)]
    bug: String,
    link: Option<Spanned<String>>,
    #[serde(default)]
    strikes: Vec<Spanned<String>>,
}

impl KnownIssues {
    /// Parses the text of a file; `path` is only named, in errors and in reports.
    pub fn parse(text: &str, path: &str) -> Result<KnownIssues, KnownIssuesError> {
        let place = |offset: usize| format!("{path}:{}", line_of(text, offset));
        let file: File = toml::from_str(text).map_err(|error| KnownIssuesError {
            place: place(error.span().map_or(0, |span| span.start)),
            problem: error.message().trim_end().replace('\n', ", "),
        })?;
        let mut issues: Vec<KnownIssue> = Vec::new();
        for entry in file.issue {
            let start = entry.span().start;
            let entry = entry.into_inner();
            let id_at = entry.id.span().start;
            let issue = check_entry(entry, start, place(start))
                .map_err(|(offset, problem)| KnownIssuesError { place: place(offset), problem })?;
            if let Some(other) = issues.iter().find(|other| other.info.id == issue.info.id) {
                let problem = format!("`{}` is taken by the entry at {}", other.info.id, other.info.place);
                return Err(KnownIssuesError { place: place(id_at), problem });
            }
            issues.push(issue);
        }
        Ok(KnownIssues { issues })
    }
}

/// Checks what serde cannot; an error has the offset of the value that is at fault.
fn check_entry(entry: Entry, start: usize, place: String) -> Result<KnownIssue, EntryError> {
    let id = entry.id.get_ref();
    let is_slug = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if id.is_empty() || !id.chars().all(is_slug) {
        let problem = format!("`{id}` is no id: expected lower-case letters, digits and `-`");
        return Err((entry.id.span().start, problem));
    }
    if entry.title.get_ref().trim().is_empty() {
        return Err((entry.title.span().start, "`title` is empty; say what is wrong".to_owned()));
    }
    if entry.stacks.is_empty() && entry.report.is_none() && entry.tests.is_empty() {
        let problem = "nothing to recognise it by: give `stacks`, `report` or `tests`".to_owned();
        return Err((start, problem));
    }
    if entry.stacks.is_empty() && entry.report.is_none() && entry.outcome.is_none() {
        let problem = "`tests` alone would excuse every failure; give `outcome` as well".to_owned();
        return Err((start, problem));
    }
    if let (Some(without), true) = (entry.without_stacks.first(), entry.stacks.is_empty()) {
        return Err((without.span().start, "`without-stacks` says nothing without `stacks`".to_owned()));
    }
    let stacks = entry.stacks.iter().map(check_pattern).collect::<Result<_, _>>()?;
    let without_stacks = entry.without_stacks.iter().map(check_pattern).collect::<Result<_, _>>()?;
    let report = match &entry.report {
        None => None,
        Some(report) => Some(Regex::new(report.get_ref()).map_err(|error| {
            (report.span().start, format!("`report` is no regular expression: {}", one_line(&error)))
        })?),
    };
    let present = entry.present.iter().map(check_range).collect::<Result<_, _>>()?;
    let absent = entry.absent.iter().map(check_range).collect::<Result<_, _>>()?;
    let firsts = |of: &BTreeMap<String, Spanned<String>>| {
        of.iter().map(|(branch, version)| check_fixed_in(branch, version)).collect::<Result<Vec<_>, _>>()
    };
    let (fixed_in, debian) = (firsts(&entry.fixed_in)?, firsts(&entry.debian)?);
    for strike in &entry.strikes {
        if entry.present.is_empty() && entry.fixed_in.is_empty() {
            let problem = "`strikes` says nothing without `present` or `fixed-in`".to_owned();
            return Err((strike.span().start, problem));
        }
        if !strike.get_ref().contains(':') {
            let problem = format!("`{}` names no suite: expected `lvm2:shell/x.sh`", strike.get_ref());
            return Err((strike.span().start, problem));
        }
    }
    let fix = match &entry.fix {
        None => None,
        Some(fix) if is_commit(fix.get_ref()) => Some(fix.get_ref().clone()),
        Some(fix) => {
            let problem = format!("`{}` is no commit: expected 12 to 40 hexadecimal digits", fix.get_ref());
            return Err((fix.span().start, problem));
        }
    };
    let link = match entry.link {
        Some(link) if !is_link(link.get_ref()) => {
            let problem = format!("`{}` is no link: expected `https://…`", link.get_ref());
            return Err((link.span().start, problem));
        }
        Some(link) => Some(link.into_inner()),
        None => fix.as_ref().filter(|_| !entry.unchecked).map(|fix| format!("{COMMITS}{fix}")),
    };
    let info = IssueInfo {
        id: id.clone(),
        title: entry.title.into_inner().trim().to_owned(),
        bug: entry.bug.split_whitespace().collect::<Vec<_>>().join(" "),
        fix,
        subject: entry.subject.map(Spanned::into_inner),
        unchecked: entry.unchecked,
        seen: entry.seen,
        link,
        place,
    };
    let strikes = entry.strikes.into_iter().map(Spanned::into_inner).collect();
    Ok(KnownIssue {
        info,
        stacks,
        without_stacks,
        sync_at_rest: entry.sync_at_rest,
        report,
        outcome: entry.outcome,
        hang_kind: entry.hang_kind,
        tests: entry.tests,
        strikes,
        present,
        absent,
        fixed_in,
        debian,
    })
}

pub(super) fn check_pattern(pattern: &Spanned<String>) -> Result<StackPattern, EntryError> {
    let text = pattern.get_ref().trim();
    let (anchored, frames) = match text.strip_prefix('^') {
        Some(frames) => (true, frames),
        None => (false, text),
    };
    let frames: Vec<Vec<String>> = frames
        .split(ARROW.trim())
        .map(|frame| frame.split('|').map(|name| name.trim().to_owned()).collect())
        .collect();
    let is_name =
        |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !frames.iter().flatten().all(is_name) {
        let problem = format!("`{text}` is no stack: expected function names, `f{ARROW}g|h`");
        return Err((pattern.span().start, problem));
    }
    Ok(StackPattern { anchored, frames })
}

fn check_range(range: &Spanned<String>) -> Result<Range, EntryError> {
    Range::parse(range.get_ref()).ok_or_else(|| {
        let problem = format!(
            "`{}` is no range of versions: expected `>=6.7, <6.8`, `6.1` or `6.9 to 7.3`",
            range.get_ref()
        );
        (range.span().start, problem)
    })
}

fn check_fixed_in(branch: &str, first: &Spanned<String>) -> Result<(Version, Version), EntryError> {
    let problem = |problem: String| (first.span().start, problem);
    let (Some(of), Some(version)) = (Version::parse(branch), Version::parse(first.get_ref())) else {
        let first = first.get_ref();
        return Err(problem(format!(
            "`{branch}` = `{first}`: expected a branch and a version, `6.12` = `6.12.110`"
        )));
    };
    if !version.is_of(&of) {
        return Err(problem(format!("`{version}` is not of the branch `{branch}`")));
    }
    Ok((of, version))
}

fn is_commit(text: &str) -> bool {
    (12..=40).contains(&text.len()) && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

pub(super) fn is_link(text: &str) -> bool {
    text.starts_with("https://")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:?=&%+~#@;,".contains(c))
}
