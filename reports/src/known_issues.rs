//! Known bugs of md and dm-raid, and how to recognise them: `suites/known-issues.toml`.
//!
//! ```toml
//! [[issue]]
//! id = "stop-barrier"                # a short name; lower case, digits, `-`
//! title = "what is wrong, in a sentence"
//! # How to recognise it. All that is given must hold; at least one of `stacks`, `report`, `tests`.
//! stacks = ["stop_sync_thread ← md_stop ← raid_dtr"]  # each of them another task; frames in this
//!                                    # order, others between them; `a|b` is either, a leading `^`
//!                                    # means the innermost of md and dm
//! without-stacks = ["^raid5d"]       # and no task stands so: what tells it from a bug that looks the same
//! sync-at-rest = true                # no sync thread is at work in md
//! report = "regex"                   # in a kernel report: `TITLE, in f ← g`
//! outcome = "hang"                   # hang | kernel-crash | data-corruption | fail | timeout; a hang is also what
//!                                    # leaves a task that cannot be killed, or that the kernel reports as hung
//! hang-kind = "livelock"             # as in events.jsonl
//! tests = ["lvm2:shell/lvconvert-*"] # globs
//! # Which kernels have it.
//! present = [">=6.7, <6.8", "6.1"]   # upstream versions; who is newer than `<6.8` has the fix. `6.9 to 7.3` are
//!                                    # the branches that were looked at: of others nothing is known
//! fixed-in = { "6.12" = "6.12.110", "7.3" = "7.3" }  # branch: first stable release, and so first Debian build,
//!                                    # with the fix; a mainline release has it for all that are newer, too
//! absent = ["6.1"]                   # upstream versions without it, where the first with it is not known
//! debian = { "6.12" = "6.12.111" }   # branch: first package of Debian's with the fix, where known
//! # What is known of it.
//! fix = "1baae052cccd"               # upstream commit; absent: none is known
//! subject = "md: Don't …"            # its first line, by which changelogs list it: what `fixed-in` and `debian`
//!                                    # say is held against them (known_issues_changelog_tests.rs)
//! unchecked = true                   # the commit's id, or that the signature is this bug's, is from memory
//! seen = true                        # md-regress's authors saw it happen; default false
//! bug = "what happens, in sentences"
//! link = "https://…"                 # absent: the fix in the kernel's tree, if it is checked
//! strikes = ["lvm2:shell/x.sh"]      # tests that always meet it where it is present
//! ```
//!
//! Deliberately not here: what follows for a verdict, which is nothing. A known bug is still a bug.

use protocol::evidence::{KernelReport, ReportKind, TaskStack};
use protocol::{HangKind, Outcome, TestId};
use regex::Regex;
use serde::Deserialize;
use toml::Spanned;

use crate::expectations::{ExpectedOutcome, glob_matches, line_of, one_line};
use crate::kernel_version::{Range, Version};
use crate::signature::{ARROW, Role, TaskSignature, is_same_function, telling, telling_frames};

/// Issues that one failure is said to look like, at most.
const MAX_MATCHES: usize = 3;

/// Frames of a stack that other bugs may share as well.
const WIDE_FRAMES: usize = 2;

/// How long a task must have stood still, milliseconds, to be part of a hang though it could be killed.
const STILL_MS: u64 = 5_000;

/// Commits of the kernel's tree, by id.
const COMMITS: &str = "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/commit/?id=";

/// All known issues, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct KnownIssues {
    issues: Vec<KnownIssue>,
}

/// A bug, how to recognise it, and which kernels have it.
#[derive(Clone, Debug)]
pub struct KnownIssue {
    /// What is told of it.
    about: About,
    stacks: Vec<Pattern>,
    /// Where no task may stand.
    without_stacks: Vec<Pattern>,
    sync_at_rest: bool,
    report: Option<Regex>,
    outcome: Option<ExpectedOutcome>,
    hang_kind: Option<HangKind>,
    tests: Vec<String>,
    strikes: Vec<String>,
    present: Vec<Range>,
    absent: Vec<Range>,
    /// Branch, and the first version of it with the fix.
    fixed_in: Vec<(Version, Version)>,
    /// The same of Debian's packages.
    debian: Vec<(Version, Version)>,
}

/// What is told of a known issue. All of it is this project's text, not a guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Short name.
    pub id: String,
    /// What is wrong, in a sentence.
    pub title: String,
    /// What happens, in sentences; may be empty.
    pub bug: String,
    /// The commit that fixes it.
    pub fix: Option<String>,
    /// That commit's first line.
    pub subject: Option<String>,
    /// True if the entry is from memory in part.
    pub unchecked: bool,
    /// True if this project saw it happen.
    pub seen: bool,
    /// Where to read more.
    pub link: Option<String>,
    /// File and line of the entry.
    pub place: String,
}

/// A known issue that a failure looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The issue.
    pub about: About,
    /// Whether this kernel should have it.
    pub standing: Standing,
    /// The first version with the fix: of this kernel's branch if that is known, else of each branch
    /// that is.
    pub fixed_in: Vec<String>,
    /// The same of Debian's packages, as far as they are known.
    pub debian: Vec<String>,
    /// It was recognised by a stack so short that other bugs may share it.
    pub is_wide: bool,
}

/// What a kernel's version says of an issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// The kernel has it.
    Present,
    /// It is not known whether the kernel has it.
    Unknown,
    /// The kernel has the fix.
    Fixed,
    /// The kernel is older than the bug.
    Older,
}

/// What an attempt left to recognise a bug by.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Which test.
    pub test: &'a TestId,
    /// What it came to.
    pub outcome: &'a Outcome,
    /// Where tasks stood.
    pub stacks: &'a [TaskStack],
    /// What the kernel reported.
    pub reports: &'a [KernelReport],
    /// The test left a process that could not be killed. Whatever else it came to, that hangs.
    pub has_unkillable: bool,
    /// The kernel's sources, if known.
    pub version: Option<&'a Version>,
}

/// Frames of one task, innermost first, each by any of several names.
#[derive(Clone, Debug)]
struct Pattern {
    anchored: bool,
    frames: Vec<Vec<String>>,
}

/// Why a text is no list of known issues.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct KnownIssuesError {
    place: String,
    problem: String,
}

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
    fixed_in: std::collections::BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    debian: std::collections::BTreeMap<String, Spanned<String>>,
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
            if let Some(other) = issues.iter().find(|other| other.about.id == issue.about.id) {
                let problem = format!("`{}` is taken by the entry at {}", other.about.id, other.about.place);
                return Err(KnownIssuesError { place: place(id_at), problem });
            }
            issues.push(issue);
        }
        Ok(KnownIssues { issues })
    }

    /// The issues that this looks like, the likeliest first. If the kernel is known to have one of
    /// them, only such; one that little was asked for never stands against a more exact one.
    pub fn matching(&self, evidence: &Evidence<'_>) -> Vec<Match> {
        let mut matches: Vec<(usize, Match)> = self
            .issues
            .iter()
            .filter(|issue| issue.looks_like(evidence))
            .map(|issue| (issue.n_details(), issue.matched(evidence.version)))
            .collect();
        matches.sort_by_key(|(n_details, matched)| {
            (matched.standing, matched.is_wide, std::cmp::Reverse(*n_details))
        });
        // What is surely meant leaves no room for what may be.
        if let Some((_, Match { standing: Standing::Present, is_wide, .. })) = matches.first()
            && !is_wide
        {
            matches.retain(|(_, matched)| matched.standing == Standing::Present && !matched.is_wide);
        }
        matches.truncate(MAX_MATCHES);
        matches.into_iter().map(|(_, matched)| matched).collect()
    }

    /// The issues that this test should have met on this kernel.
    pub fn that_strike<'a>(
        &'a self,
        test: &TestId,
        version: Option<&Version>,
    ) -> impl Iterator<Item = &'a About> {
        self.issues
            .iter()
            .filter(move |issue| names_test(&issue.strikes, test))
            .filter(move |issue| issue.standing(version) == Standing::Present)
            .map(|issue| &issue.about)
    }
}

/// Checks what serde cannot; an error has the offset of the value that is at fault.
fn check_entry(entry: Entry, start: usize, place: String) -> Result<KnownIssue, (usize, String)> {
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
    let firsts = |of: &std::collections::BTreeMap<String, Spanned<String>>| {
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
    let about = About {
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
        about,
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

fn check_pattern(pattern: &Spanned<String>) -> Result<Pattern, (usize, String)> {
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
    Ok(Pattern { anchored, frames })
}

fn check_range(range: &Spanned<String>) -> Result<Range, (usize, String)> {
    Range::parse(range.get_ref()).ok_or_else(|| {
        let problem = format!(
            "`{}` is no range of versions: expected `>=6.7, <6.8`, `6.1` or `6.9 to 7.3`",
            range.get_ref()
        );
        (range.span().start, problem)
    })
}

fn check_fixed_in(branch: &str, first: &Spanned<String>) -> Result<(Version, Version), (usize, String)> {
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

fn is_link(text: &str) -> bool {
    text.starts_with("https://")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:?=&%+~#@;,".contains(c))
}

/// Globs over `suite:name`, in every flavour; one with `@` is compared with `suite:name@flavour`.
fn names_test(globs: &[String], test: &TestId) -> bool {
    let name = format!("{}:{}", test.suite(), test.name());
    let flavoured = format!("{name}@{}", test.flavour().unwrap_or_default());
    globs.iter().any(|glob| glob_matches(glob, if glob.contains('@') { &flavoured } else { &name }))
}

/// Where what stands in the kernel is to be read from, for an attempt that came to this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standstill {
    /// From all stacks that were taken, else from what the kernel reports.
    Anywhere,
    /// From stacks of tasks that nothing but the kernel holds up: a script that was merely slow has tasks, too.
    Blocked,
    /// From the kernel's own reports of hung tasks alone.
    Reported,
}

impl Evidence<'_> {
    /// Where a hang is to be read from. A hang is a hang whatever the test's time limit, exit status or panic made
    /// of it: the tasks stand where they stood.
    fn standstill(&self) -> Standstill {
        match self.outcome {
            Outcome::Hang { .. } => Standstill::Anywhere,
            Outcome::Timeout { .. } => Standstill::Blocked,
            Outcome::Pass
            | Outcome::Warn { .. }
            | Outcome::Fail { .. }
            | Outcome::Skip { .. }
            | Outcome::KernelCrash { .. }
            | Outcome::DataCorruption { .. }
            | Outcome::Interrupted
            | Outcome::Infra { .. } => {
                if self.has_unkillable {
                    Standstill::Blocked
                } else {
                    Standstill::Reported
                }
            }
        }
    }

    /// The telling tasks that a hang may be read from.
    fn hung_tasks(&self) -> Vec<TaskSignature> {
        let stands = |stack: &TaskStack| match self.standstill() {
            Standstill::Anywhere => true,
            Standstill::Blocked => stack.state == 'D' || stack.still_ms >= STILL_MS,
            Standstill::Reported => false,
        };
        let tasks = telling(self.stacks).into_iter();
        tasks.filter(|(stack, _)| stands(stack)).map(|(_, task)| task).collect()
    }

    /// The frames of the tasks that the kernel itself reported. In a hang any report may show one; else only one that
    /// says so.
    fn reported_frames(&self) -> Vec<Vec<String>> {
        let is_of_hang = |report: &&KernelReport| {
            matches!(self.outcome, Outcome::Hang { .. }) || report.kind == ReportKind::HungTask
        };
        self.reports.iter().filter(is_of_hang).map(|report| telling_frames(&report.frames)).collect()
    }
}

impl KnownIssue {
    fn looks_like(&self, evidence: &Evidence<'_>) -> bool {
        (self.tests.is_empty() || names_test(&self.tests, evidence.test))
            && self.is_outcome(evidence)
            && self.hang_kind.is_none_or(
                |wanted| matches!(evidence.outcome, Outcome::Hang { kind, .. } if *kind == wanted),
            )
            && self.report.as_ref().is_none_or(|regex| matches_report(regex, evidence.reports))
            && self.matches_stacks(evidence)
    }

    /// True if the attempt came to what this issue makes of one. A hang that is known by its stacks is one wherever
    /// they are seen.
    fn is_outcome(&self, evidence: &Evidence<'_>) -> bool {
        match self.outcome {
            None => true,
            Some(ExpectedOutcome::Hang) if !self.stacks.is_empty() => true,
            Some(outcome) => ExpectedOutcome::of(evidence.outcome) == Some(outcome),
        }
    }

    fn matches_stacks(&self, evidence: &Evidence<'_>) -> bool {
        if self.stacks.is_empty() {
            return true;
        }
        let is_hang = matches!(evidence.outcome, Outcome::Hang { .. });
        // Who waits for a task that died says nothing of why that died.
        let faults: Vec<_> =
            evidence.reports.iter().filter(|report| report.kind == ReportKind::Oops).collect();
        if !faults.is_empty() && (is_hang || self.outcome == Some(ExpectedOutcome::Hang)) {
            let mut frames = faults.iter().map(|fault| telling_frames(&fault.frames)).collect();
            return is_hang && assign(&self.stacks, &mut frames);
        }
        let tasks = match self.outcome {
            Some(ExpectedOutcome::Hang) => evidence.hung_tasks(),
            Some(_) | None => telling(evidence.stacks).into_iter().map(|(_, task)| task).collect(),
        };
        if self.sync_at_rest && tasks.iter().any(|task| task.role == Role::Sync) {
            return false;
        }
        let mut frames: Vec<Vec<String>> = tasks.into_iter().map(|task| task.frames).collect();
        if frames.is_empty() {
            // The kernel's own reports of blocked tasks are stacks too.
            frames = evidence.reported_frames();
        }
        let is_other = frames.iter().any(|task| self.without_stacks.iter().any(|pattern| pattern.fits(task)));
        !is_other && assign(&self.stacks, &mut frames)
    }

    /// How much must fit: of two issues that a failure looks like, the more exact one comes first.
    fn n_details(&self) -> usize {
        let n_frames: usize = self.stacks.iter().map(|pattern| pattern.frames.len()).sum();
        n_frames
            + self.without_stacks.len()
            + 2 * usize::from(self.report.is_some())
            + usize::from(self.sync_at_rest)
    }

    /// True if one short stack is all that is asked for.
    fn is_wide(&self) -> bool {
        self.stacks.len() == 1
            && self.stacks[0].frames.len() <= WIDE_FRAMES
            && self.report.is_none()
            && self.tests.is_empty()
            && self.without_stacks.is_empty()
            && !self.sync_at_rest
    }

    fn matched(&self, version: Option<&Version>) -> Match {
        Match {
            about: self.about.clone(),
            standing: self.standing(version),
            fixed_in: firsts(&self.fixed_in, version),
            debian: firsts(&self.debian, version),
            is_wide: self.is_wide(),
        }
    }

    /// What the kernel's version says. A stable branch with a fix of its own is judged by that, the
    /// others by upstream's versions.
    fn standing(&self, version: Option<&Version>) -> Standing {
        let Some(version) = version else { return Standing::Unknown };
        let in_range = self.present.iter().any(|range| range.contains(version));
        if self.absent.iter().any(|range| range.contains(version)) {
            return Standing::Older;
        }
        let is_older = !in_range
            && !self.present.is_empty()
            && self.present.iter().all(|range| range.start().is_some_and(|start| version < start));
        if is_older {
            return Standing::Older;
        }
        match self.fixed_in.iter().find(|(branch, _)| version.is_of(branch)) {
            Some((_, first)) if version >= first => Standing::Fixed,
            Some(_) => Standing::Present,
            // A mainline release with the fix comes before all newer ones.
            None if self.fixed_in.iter().any(|(branch, first)| branch == first && version >= first) => {
                Standing::Fixed
            }
            None if in_range => Standing::Present,
            None if self.present.iter().any(|range| range.end().is_some_and(|end| version >= end)) => {
                Standing::Fixed
            }
            None => Standing::Unknown,
        }
    }
}

/// The first versions of this version's branch, else those of all branches.
fn firsts(all: &[(Version, Version)], version: Option<&Version>) -> Vec<String> {
    let of_branch = all.iter().filter(|(branch, _)| version.is_some_and(|version| version.is_of(branch)));
    let firsts: Vec<String> = of_branch.map(|(_, first)| first.to_string()).collect();
    if firsts.is_empty() { all.iter().map(|(_, first)| first.to_string()).collect() } else { firsts }
}

fn matches_report(regex: &Regex, reports: &[KernelReport]) -> bool {
    reports.iter().any(|report| {
        let frames = telling_frames(&report.frames).join(ARROW);
        let mut titles = [&report.title].into_iter().chain(&report.alt_titles);
        titles.any(|title| regex.is_match(&format!("{title}, in {frames}")))
    })
}

/// True if every pattern finds a task of its own. Few patterns, few tasks: trying all is quick.
fn assign(patterns: &[Pattern], tasks: &mut Vec<Vec<String>>) -> bool {
    let Some((pattern, others)) = patterns.split_first() else { return true };
    for task_idx in 0..tasks.len() {
        if pattern.fits(&tasks[task_idx]) {
            let task = tasks.swap_remove(task_idx);
            let fits = assign(others, tasks);
            tasks.push(task);
            let last_idx = tasks.len() - 1;
            tasks.swap(task_idx, last_idx);
            if fits {
                return true;
            }
        }
    }
    false
}

impl Pattern {
    fn fits(&self, frames: &[String]) -> bool {
        let is_one_of =
            |names: &[String], frame: &str| names.iter().any(|name| is_same_function(name, frame));
        if self.anchored && !frames.first().is_some_and(|frame| is_one_of(&self.frames[0], frame)) {
            return false;
        }
        let mut rest = frames.iter();
        self.frames.iter().all(|names| rest.any(|frame| is_one_of(names, frame)))
    }
}

impl Match {
    /// One line: what it looks like, and what to make of that.
    pub fn sentence(&self) -> String {
        let About { id, title, .. } = &self.about;
        match self.standing {
            Standing::Present if self.is_wide => format!(
                "looks like {id}, which this kernel has, by a stack that other bugs may share: {title}"
            ),
            Standing::Present => format!("known issue {id}, which this kernel has: {title}"),
            Standing::Unknown => {
                format!("looks like {id}: {title}; whether this kernel has it is not known")
            }
            Standing::Fixed => format!("looks like {id}, which this kernel should have fixed: {title}"),
            Standing::Older => format!("looks like {id}, which this kernel is too old to have: {title}"),
        }
    }

    /// One line: the fix, and where it is.
    pub fn fix_sentence(&self) -> String {
        let Some(fix) = &self.about.fix else {
            return match self.fixed_in.as_slice() {
                [] => "no fix is known".to_owned(),
                versions => format!("fixed in {}", versions.join(", ")),
            };
        };
        let unchecked = if self.about.unchecked { " (from memory, not checked)" } else { "" };
        let place = match self.fixed_in.as_slice() {
            [] => "; no stable release with it is known".to_owned(),
            versions => format!("; first in {}", versions.join(", ")),
        };
        let debian = match self.debian.as_slice() {
            [] => String::new(),
            versions => format!("; in Debian since {}", versions.join(", ")),
        };
        format!("fixed by {fix}{unchecked}{place}{debian}")
    }
}

impl Standing {
    /// The name in files, `present`.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Present => "present",
            Standing::Unknown => "unknown",
            Standing::Fixed => "fixed",
            Standing::Older => "older",
        }
    }
}

#[cfg(test)]
#[path = "known_issues_changelog_tests.rs"]
mod changelog_tests;
#[cfg(test)]
#[path = "known_issues_tests.rs"]
mod tests;
