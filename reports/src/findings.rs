//! Signature, known issues and stacks in words, alike for every report.
//!
//! Gives plain lines that may hold guests' words as they came. What makes them fit to show in a
//! terminal, in XML or in Markdown, each report does for itself.

use protocol::evidence::TaskStack;

use crate::record::Attempt;
use crate::signature::{Signature, telling};
use crate::text;
use crate::verdict::{Judged, Verdict};

/// Tasks whose stacks a report shows at most.
const MAX_TASKS: usize = 5;

/// Frames of one task that a report shows at most.
const MAX_FRAMES: usize = 16;

impl Judged {
    /// Explanation, signature and known issue in one line.
    pub(crate) fn in_short(&self) -> String {
        let explanation = self.explanation();
        let headline = self.signature.as_ref().map_or_else(String::new, Signature::headline);
        let issue = self.issue_lines().into_iter().next().unwrap_or_default();
        // A crash's explanation is mostly the title of its report, which the signature begins with.
        let parts = if headline.starts_with(&explanation) {
            vec![headline, issue]
        } else if explanation.contains(&headline) {
            vec![explanation, issue]
        } else {
            vec![explanation, headline, issue]
        };
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// A line for each known issue that it looks like; of a hang that looks like none, that too.
    pub(crate) fn issue_lines(&self) -> Vec<String> {
        if !self.known_issues.is_empty() {
            return self.known_issues.iter().map(|matched| matched.sentence()).collect();
        }
        let is_news = match self.verdict {
            Verdict::Hung | Verdict::Crashed => self.signature.is_some(),
            Verdict::Passed
            | Verdict::PassedWithComplaints
            | Verdict::Failed
            | Verdict::Corrupted
            | Verdict::KnownFailure
            | Verdict::UnexpectedPass
            | Verdict::Flaky
            | Verdict::Skipped
            | Verdict::UnexpectedSkip
            | Verdict::NotRun
            | Verdict::Interrupted
            | Verdict::Infra => false,
        };
        if is_news { vec!["unknown signature: no known issue has it".to_owned()] } else { Vec::new() }
    }

    /// A line for each known issue that should have struck.
    pub(crate) fn not_struck_lines(&self) -> Vec<String> {
        let line = |id: &str, title: &str| format!("known issue {id} did not strike this time: {title}");
        self.not_struck.iter().map(|about| line(&about.id, &about.title)).collect()
    }
}

/// The stacks that matter, the most telling first: who it is, then its frames, indented, with what
/// was cut counted.
pub(crate) fn stack_lines(attempt: &Attempt) -> Vec<String> {
    let telling = telling(&attempt.stacks);
    let mut lines = Vec::new();
    for (stack, _) in telling.iter().take(MAX_TASKS) {
        lines.push(task_line(stack));
        lines.extend(stack.frames.iter().take(MAX_FRAMES).map(|frame| format!("  {frame}")));
        if stack.frames.len() > MAX_FRAMES {
            lines.push(format!("  … and {} more", stack.frames.len() - MAX_FRAMES));
        }
    }
    if telling.len() > MAX_TASKS {
        lines.push(format!("… and {} more tasks in md or dm", telling.len() - MAX_TASKS));
    }
    lines
}

/// `lvm (pid 812, of the test), state D, still for 41.0 s:`.
fn task_line(stack: &TaskStack) -> String {
    let of = if stack.of_test { ", of the test" } else { "" };
    let TaskStack { pid, comm, state, still_ms, .. } = stack;
    format!("{comm} (pid {pid}{of}), state {state}, still for {}:", text::duration(*still_ms))
}
