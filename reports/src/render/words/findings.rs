//! Signature, known issues and stacks in words, alike for every report.
//!
//! Gives plain lines that may hold guests' words as they came. What makes them fit to show in a
//! terminal, in XML or in Markdown, each report does for itself.

use protocol::Outcome;
use protocol::event::Place;
use protocol::evidence::{KernelReport, TaskStack};

use crate::faults::{Severity, most_telling};
use crate::judge::judged::Judged;
use crate::judge::known_issues::IssueMatch;
use crate::judge::signature::{ARROW, is_resting_daemon, telling_tasks};
use crate::record::{Attempt, RunRecord};
use crate::text;

/// Tasks whose stacks a report shows at most.
const MAX_TASKS: usize = 6;

/// Frames of one task that a report shows at most.
const MAX_FRAMES: usize = 16;

/// Tasks that are only named, at most.
const MAX_NAMES: usize = 6;

/// Kernel reports that a report lists at most.
const MAX_REPORTS: usize = 20;

/// Files that a report names at most, and columns of a name.
const MAX_FILES: usize = 12;
const MAX_FILE_WIDTH: usize = 40;

/// The facts about a known issue, a line each: fix, link, bug, and how sure that is.
pub(crate) fn issue_details(matched: &IssueMatch) -> Vec<String> {
    let info = &matched.info;
    let seen = if info.seen { "seen here before" } else { "never seen here before" };
    let mut lines = vec![matched.fix_sentence()];
    lines.extend(info.link.clone());
    lines.extend((!info.bug.is_empty()).then(|| info.bug.clone()));
    lines.push(format!("{seen}, see {}", info.place));
    lines
}

/// The reports in the kernel's log, in order, with a mark at those that the test causes on purpose.
pub(crate) fn report_lines(judged: &Judged, attempt: &Attempt) -> Vec<String> {
    let reports = attempt.kernel_reports.iter().map(|report| {
        let title = &report.title;
        let corrupted = match (report.corrupted, report.starved) {
            (_, true) => " (the host kept the guest waiting most of that time)",
            (true, false) => " (its text is mixed with another's)",
            (false, false) => "",
        };
        match judged.allowed.get(title) {
            Some(reason) => format!("{title}{corrupted} (allowed: {reason})"),
            None => format!("{title}{corrupted}"),
        }
    });
    let mut lines: Vec<_> = reports.take(MAX_REPORTS).collect();
    let n_more = attempt.kernel_reports.len() - lines.len();
    lines.extend((n_more > 0).then(|| format!("… and {n_more} more, see kernel.log")));
    lines
}

/// The files that came back from the guest, `0 hang-dm-info.txt`: a file's number is its name in `files/`.
pub(crate) fn file_names(attempt: &Attempt) -> Vec<String> {
    let files = attempt.finished().map(|(_, facts)| facts.files.as_slice()).unwrap_or_default();
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut names: Vec<_> = files
        .iter()
        .take(MAX_FILES)
        .map(|file| format!("{} {}", file.file_idx, text::clip(&name(&file.path), MAX_FILE_WIDTH)))
        .collect();
    let n_more = files.len() - names.len();
    names.extend((n_more > 0).then(|| format!("… and {n_more} more, see files.txt")));
    names
}

/// The stacks that matter, the most telling first: who it is, then its frames, indented, with what
/// was cut counted. Tasks at one place share a stack.
pub(crate) fn stack_lines(record: &RunRecord, judged: &Judged, attempt: &Attempt) -> Vec<String> {
    let telling: Vec<&TaskStack> =
        telling_tasks(&attempt.stacks).into_iter().map(|(stack, _)| stack).collect();
    let mut groups: Vec<Vec<&TaskStack>> = Vec::new();
    for stack in telling {
        let same = |group: &&mut Vec<&TaskStack>| {
            group[0].frames == stack.frames
                && group[0].state == stack.state
                && group[0].of_test == stack.of_test
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(stack),
            None => groups.push(vec![stack]),
        }
    }
    // What died is why others wait.
    let mut lines = fault_lines(record, judged, attempt);
    for group in groups.iter().take(MAX_TASKS) {
        let stack = group[0];
        lines.push(task_line(stack));
        if let [_, others @ ..] = group.as_slice()
            && !others.is_empty()
        {
            lines.push(format!("  (and {})", names(others)));
        }
        lines.extend(frame_lines(record, attempt, &stack.frames));
    }
    if groups.len() > MAX_TASKS {
        lines.push(format!("… and {} more stacks in md or dm", groups.len() - MAX_TASKS));
    }
    // Who should have reaped, resumed or answered, and does nothing.
    let resting: Vec<_> = attempt.stacks.iter().filter(|stack| is_resting_daemon(stack)).collect();
    if !resting.is_empty() && !groups.is_empty() {
        lines.push(format!("at rest in md_thread: {}", names(&resting)));
    }
    lines
}

/// Where the kernel faulted, if it did. A console's last lines show it as well, but without lines of the
/// source. What the test causes on purpose, and what the kernel only warns of, is no place where anything
/// stands.
fn fault_lines(record: &RunRecord, judged: &Judged, attempt: &Attempt) -> Vec<String> {
    let is_located = |frame: &String| record.lines.contains_key(&(attempt.kernel_idx, frame.clone()));
    let is_on_the_console = matches!(attempt.finished(), Some((Outcome::KernelCrash { .. }, _)));
    let is_fault = |report: &&KernelReport| {
        record.run.policy.severity_of(report) == Severity::Crash
            && !judged.allowed.contains_key(&report.title)
            && if is_on_the_console {
                report.frames.iter().any(is_located)
            } else {
                !report.frames.is_empty()
            }
    };
    let Some(report) = most_telling(attempt.kernel_reports.iter().filter(is_fault)) else {
        return Vec::new();
    };
    let lines = frame_lines(record, attempt, &report.frames).into_iter();
    [format!("{}:", report.title)].into_iter().chain(lines).collect()
}

/// A line for each frame, indented, with its place in the source where that is known, and what was cut
/// counted.
pub(crate) fn frame_lines(record: &RunRecord, attempt: &Attempt, frames: &[String]) -> Vec<String> {
    let line = |frame: &String| match record.lines.get(&(attempt.kernel_idx, frame.clone())) {
        Some(places) => format!("  {frame} ({})", places_text(places)),
        None => format!("  {frame}"),
    };
    let mut lines: Vec<_> = frames.iter().take(MAX_FRAMES).map(line).collect();
    let n_more = frames.len() - lines.len();
    lines.extend((n_more > 0).then(|| format!("  … and {n_more} more")));
    lines
}

/// `drivers/md/raid1.c:1711 close_sync ← drivers/md/raid1.c:2650`: what was inlined is named, the function
/// itself is named by the frame.
fn places_text(places: &[Place]) -> String {
    let of_itself = places.len().saturating_sub(1);
    let place = |(idx, Place { function, file, line }): (usize, &Place)| {
        if idx < of_itself { format!("{file}:{line} {function}") } else { format!("{file}:{line}") }
    };
    places.iter().enumerate().map(place).collect::<Vec<_>>().join(ARROW)
}

/// `mdX_raid1 (pid 927), mdX_raid5 (pid 930)`.
fn names(stacks: &[&TaskStack]) -> String {
    let names = stacks.iter().take(MAX_NAMES).map(|stack| format!("{} (pid {})", stack.comm, stack.pid));
    let n_more = stacks.len().saturating_sub(MAX_NAMES);
    let more = (n_more > 0).then(|| format!("{n_more} more"));
    names.chain(more).collect::<Vec<_>>().join(", ")
}

/// `lvm (pid 812, of the test), state D, still for 41.0 s:`.
fn task_line(stack: &TaskStack) -> String {
    let of = if stack.of_test { ", of the test" } else { "" };
    let TaskStack { pid, comm, state, still_ms, .. } = stack;
    // Not known of a task that was looked at once.
    let still =
        if *still_ms > 0 { format!(", still for {}", text::duration(*still_ms)) } else { String::new() };
    format!("{comm} (pid {pid}{of}), state {state}{still}:")
}
