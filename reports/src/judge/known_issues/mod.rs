//! Known bugs of md and dm-raid, and how to recognise them: `suites/known-issues.toml`, whose keys are in
//! docs/reference/known-issues-toml.md.
//!
//! An issue that a failure looks like explains it and never changes a verdict: a known bug is still a bug.
//! Deliberately not here: how the file is read (`file.rs`).

use protocol::evidence::{KernelReport, ReportKind, TaskStack};
use protocol::{HangKind, Outcome, TestId};
use regex::Regex;

use crate::judge::data_file::glob_matches;
use crate::judge::expected_outcome::ExpectedOutcome;
use crate::judge::kernel_version::{Range, Version};
use crate::judge::signature::{ARROW, Role, TaskSignature, is_same_function, telling_frames, telling_tasks};

mod file;

/// Issues that one failure is said to look like, at most.
const MAX_MATCHES: usize = 3;

/// Frames of a stack that other bugs may share as well.
const WIDE_FRAMES: usize = 2;

/// How long a task must have stood still, milliseconds, to be part of a hang though it could be killed.
const STILL_MS: u64 = 5_000;

/// All known issues, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct KnownIssues {
    issues: Vec<KnownIssue>,
}

/// A bug, how to recognise it, and which kernels have it.
#[derive(Clone, Debug)]
pub struct KnownIssue {
    /// Texts about it, for reports.
    info: IssueInfo,
    stacks: Vec<StackPattern>,
    /// Where no task may stand.
    without_stacks: Vec<StackPattern>,
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
    /// Branch, and the first Debian package of it with the fix.
    debian: Vec<(Version, Version)>,
}

/// Texts about a known issue, for reports. All of it is this project's text, not a guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueInfo {
    /// Short name.
    pub id: String,
    /// The bug in a sentence.
    pub title: String,
    /// The course of the bug, in sentences; may be empty.
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
pub struct IssueMatch {
    /// The issue.
    pub info: IssueInfo,
    /// Whether this kernel should have it.
    pub standing: Standing,
    /// The first version with the fix: of this kernel's branch if that is known, else of each branch
    /// that is.
    pub fixed_in: Vec<String>,
    /// The first Debian packages with the fix, likewise, as far as they are known.
    pub debian: Vec<String>,
    /// It was recognised by a stack so short that other bugs may share it.
    pub is_wide: bool,
}

/// Whether a kernel has an issue, by its version.
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

/// The facts of an attempt that a bug is recognised by.
#[derive(Clone, Copy, Debug)]
pub struct Symptoms<'a> {
    /// Which test.
    pub test: &'a TestId,
    /// The outcome that it really came to.
    pub outcome: &'a Outcome,
    /// Where tasks stood.
    pub stacks: &'a [TaskStack],
    /// Reports in the kernel's log.
    pub reports: &'a [KernelReport],
    /// The test left a process that could not be killed. Whatever else it came to, that hangs.
    pub has_unkillable: bool,
    /// The kernel's sources, if known.
    pub version: Option<&'a Version>,
}

/// Frames of one task, innermost first, each by any of several names.
#[derive(Clone, Debug)]
struct StackPattern {
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

impl KnownIssues {
    /// The issues that this looks like, the likeliest first. If the kernel is known to have one of
    /// them, only such; one that little was asked for never stands against a more exact one.
    pub fn matching(&self, symptoms: &Symptoms<'_>) -> Vec<IssueMatch> {
        let mut matches: Vec<(usize, IssueMatch)> = self
            .issues
            .iter()
            .filter(|issue| issue.looks_like(symptoms))
            .map(|issue| (issue.n_details(), issue.matched(symptoms.version)))
            .collect();
        matches.sort_by_key(|(n_details, matched)| {
            (matched.standing, matched.is_wide, std::cmp::Reverse(*n_details))
        });
        // What is surely meant leaves no room for what may be.
        if let Some((_, IssueMatch { standing: Standing::Present, is_wide, .. })) = matches.first()
            && !is_wide
        {
            matches.retain(|(_, matched)| matched.standing == Standing::Present && !matched.is_wide);
        }
        matches.truncate(MAX_MATCHES);
        matches.into_iter().map(|(_, matched)| matched).collect()
    }

    /// The issue with this id.
    pub fn named(&self, id: &str) -> Option<&KnownIssue> {
        self.issues.iter().find(|issue| issue.id() == id)
    }

    /// The issues that this test always runs into on this kernel.
    pub fn expected_from<'a>(
        &'a self,
        test: &TestId,
        version: Option<&Version>,
    ) -> impl Iterator<Item = &'a IssueInfo> {
        self.issues
            .iter()
            .filter(move |issue| names_test(&issue.strikes, test))
            .filter(move |issue| issue.standing(version) == Standing::Present)
            .map(|issue| &issue.info)
    }
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
    /// From stacks of tasks that nothing but the kernel holds up: a script that was merely slow has tasks,
    /// too.
    Blocked,
    /// From the kernel's own reports of hung tasks alone.
    Reported,
}

impl Symptoms<'_> {
    /// Where a hang is to be read from. A hang is a hang whatever the test's time limit, exit status or panic
    /// made of it: the tasks stand where they stood.
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
        let tasks = telling_tasks(self.stacks).into_iter();
        tasks.filter(|(stack, _)| stands(stack)).map(|(_, task)| task).collect()
    }

    /// The frames of the tasks that the kernel itself reported. In a hang any report may show one; else only
    /// one that says so.
    fn reported_frames(&self) -> Vec<Vec<String>> {
        let is_of_hang = |report: &&KernelReport| {
            matches!(self.outcome, Outcome::Hang { .. }) || report.kind == ReportKind::HungTask
        };
        self.reports.iter().filter(is_of_hang).map(|report| telling_frames(&report.frames)).collect()
    }
}

impl KnownIssue {
    /// Its short name.
    pub fn id(&self) -> &str {
        &self.info.id
    }

    /// File and line of its entry.
    pub fn place(&self) -> &str {
        &self.info.place
    }

    fn looks_like(&self, symptoms: &Symptoms<'_>) -> bool {
        (self.tests.is_empty() || names_test(&self.tests, symptoms.test))
            && self.is_outcome(symptoms)
            && self.hang_kind.is_none_or(
                |wanted| matches!(symptoms.outcome, Outcome::Hang { kind, .. } if *kind == wanted),
            )
            && self.report.as_ref().is_none_or(|regex| matches_report(regex, symptoms.reports))
            && self.matches_stacks(symptoms)
    }

    /// True if the attempt came to what this issue makes of one. A hang that is known by its stacks is one
    /// wherever they are seen.
    fn is_outcome(&self, symptoms: &Symptoms<'_>) -> bool {
        match self.outcome {
            None => true,
            Some(ExpectedOutcome::Hang) if !self.stacks.is_empty() => true,
            Some(outcome) => ExpectedOutcome::of(symptoms.outcome) == Some(outcome),
        }
    }

    fn matches_stacks(&self, symptoms: &Symptoms<'_>) -> bool {
        if self.stacks.is_empty() {
            return true;
        }
        let is_hang = matches!(symptoms.outcome, Outcome::Hang { .. });
        // Who waits for a task that died says nothing of why that died.
        let faults: Vec<_> =
            symptoms.reports.iter().filter(|report| report.kind == ReportKind::Oops).collect();
        if !faults.is_empty() && (is_hang || self.outcome == Some(ExpectedOutcome::Hang)) {
            let mut frames = faults.iter().map(|fault| telling_frames(&fault.frames)).collect();
            return is_hang && assign(&self.stacks, &mut frames);
        }
        let tasks = match self.outcome {
            Some(ExpectedOutcome::Hang) => symptoms.hung_tasks(),
            Some(_) | None => telling_tasks(symptoms.stacks).into_iter().map(|(_, task)| task).collect(),
        };
        if self.sync_at_rest && tasks.iter().any(|task| task.role == Role::Sync) {
            return false;
        }
        let mut frames: Vec<Vec<String>> = tasks.into_iter().map(|task| task.frames).collect();
        if frames.is_empty() {
            // The kernel's own reports of blocked tasks are stacks too.
            frames = symptoms.reported_frames();
        }
        let is_other = frames.iter().any(|task| self.without_stacks.iter().any(|pattern| pattern.fits(task)));
        !is_other && assign(&self.stacks, &mut frames)
    }

    /// How exact the entry is: of two issues that a failure looks like, the more exact one comes first.
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

    fn matched(&self, version: Option<&Version>) -> IssueMatch {
        IssueMatch {
            info: self.info.clone(),
            standing: self.standing(version),
            fixed_in: firsts(&self.fixed_in, version),
            debian: firsts(&self.debian, version),
            is_wide: self.is_wide(),
        }
    }

    /// Whether a kernel of this version has the issue. A stable branch with a fix of its own is judged by
    /// that, the others by upstream's versions.
    pub fn standing(&self, version: Option<&Version>) -> Standing {
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

impl KnownIssue {
    /// True if a release of this branch, or this release, is known to have the issue. Release candidates are
    /// left out, but for one that is asked about itself.
    ///
    /// Whether a version has the issue changes only at versions that the entry names, and after branches that
    /// it names: one version from each stretch is enough.
    pub(crate) fn is_present_within(&self, branch: &Version) -> bool {
        let ranges = self.present.iter().chain(&self.absent);
        let named = ranges.flat_map(Range::changes);
        let fixes = self.fixed_in.iter().flat_map(|(of, first)| [of.clone(), of.next(), first.clone()]);
        let mut versions = [branch.clone()].into_iter().chain(named).chain(fixes);
        versions.any(|version| version.is_of(branch) && self.standing(Some(&version)) == Standing::Present)
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
fn assign(patterns: &[StackPattern], tasks: &mut Vec<Vec<String>>) -> bool {
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

impl StackPattern {
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

impl IssueMatch {
    /// One line: what it looks like, and what to make of that.
    pub fn sentence(&self) -> String {
        let IssueInfo { id, title, .. } = &self.info;
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
        let Some(fix) = &self.info.fix else {
            return match self.fixed_in.as_slice() {
                [] => "no fix is known".to_owned(),
                versions => format!("fixed in {}", versions.join(", ")),
            };
        };
        let unchecked = if self.info.unchecked { " (from memory, not checked)" } else { "" };
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
mod cases_tests;
#[cfg(test)]
mod changelog_tests;
#[cfg(test)]
mod tests;
