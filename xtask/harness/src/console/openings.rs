//! Recognises the lines by which kernel reports begin.
//!
//! Pure. The formats are those of 5.10 to 7.3 on x86, arm64 and powerpc;
//! `xtask/harness/testdata/kernel-formats.txt` says where each is in the kernel's sources, and a test checks
//! every rule with it. Deliberately not here: which lines belong to a report (`reports.rs`), its title
//! (`titles.rs`), and single-line reports (`storage.rs`).

mod rules;

use std::sync::LazyLock;

use protocol::evidence::ReportKind;
use regex::{Captures, Regex};
use rules::{BEGINNINGS, RULES, Rule};

use super::lasting::lasting;

/// Content of the line that opens a report, before the stack has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) kind: ReportKind,
    /// Words of the title: `BUG: kernel NULL pointer dereference`.
    pub(super) words: String,
    /// Words from further opening lines of the same report.
    pub(super) other_words: Vec<String>,
    /// Function named by the line itself.
    pub(super) function: Option<String>,
    /// Related function, for the title if the stack has none: for instance the callback of a freed timer.
    pub(super) hint: Option<String>,
    /// Source file named by the line.
    pub(super) file: Option<String>,
    /// Name of the task that hit the problem, `lvm`.
    pub(super) comm: Option<String>,
    /// Process id of that task.
    pub(super) pid: Option<u32>,
    /// Pool of a workqueue stall, `cpus=0 node=0 flags=0x0 nice=0`.
    pub(super) pool: Option<String>,
    pub(super) tail: Tail,
    pub(super) part: Part,
    pub(super) detail: Detail,
    /// True if the beginning of the line is missing.
    pub(super) is_clipped: bool,
}

/// The end of a report's title, after the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// ` in FUNCTION`; a report without a stack is incomplete.
    Stack,
    /// ` in FUNCTION` if there is a stack.
    MaybeStack,
    /// Nothing: the words say all.
    Nothing,
}

/// The part of a report that an opening line is. The kernel prints several for one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A report of its own.
    Whole,
    /// The reason for a WARNING or a BUG that comes next, or came just before: `list_del corruption…`,
    /// `refcount_t: underflow…`. It names the bug better than those do.
    Reason,
    /// The kernel's own words before an exception: `BUG: kernel NULL pointer dereference`, `kernel BUG at`.
    Headline,
    /// The processor's exception: `Oops: 0000 [#1]`.
    Exception,
    /// `cut here`: a report follows; if its opening line is lost, it was a WARNING.
    CutHere,
}

/// Which fault the words name; lines of the same report may say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// A certain one.
    Named,
    /// None: that there is a WARNING or a BUG, not why.
    Unnamed,
    /// None: that the processor objected to something.
    Exception,
    /// None: that code in Rust panicked, which ends in a BUG.
    RustPanic,
}

static PATTERNS: LazyLock<Vec<(&'static Rule, Regex)>> = LazyLock::new(|| {
    let compiled =
        |rule: &'static Rule| (rule, Regex::new(rule.pattern).expect("a regular expression of our own"));
    RULES.iter().map(compiled).collect()
});

/// The report that begins with this line, which must have no time stamp.
pub(super) fn opening(line: &str) -> Option<Opening> {
    if BEGINNINGS.iter().any(|start| line.starts_with(start))
        && let Some((_, opening)) = matching(line)
    {
        return Some(opening);
    }
    let whole = restored(line)?;
    let (rule, mut opening) = matching(&whole)?;
    // The fallback rule would match any line.
    if RULES.last().is_some_and(|last| std::ptr::eq(last, rule)) {
        return None;
    }
    opening.is_clipped = true;
    Some(opening)
}

fn matching(line: &str) -> Option<(&'static Rule, Opening)> {
    PATTERNS.iter().find_map(|(rule, pattern)| Some((*rule, rule.opening(line, &pattern.captures(line)?))))
}

/// The first pattern that matches a line, and the result: for the test that every rule is used.
#[cfg(test)]
pub(super) fn recognised(line: &str) -> Option<(&'static str, Opening)> {
    opening(line).filter(|opening| !opening.is_clipped)?;
    matching(line).map(|(rule, opening)| (rule.pattern, opening))
}

#[cfg(test)]
pub(super) fn patterns() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.pattern)
}

impl Rule {
    fn opening(&self, line: &str, found: &Captures<'_>) -> Opening {
        let group = |name| found.name(name).map(|group| group.as_str().trim().to_owned());
        let mut words = String::new();
        found.expand(self.words, &mut words);
        if self.kind == ReportKind::Panic {
            line.clone_into(&mut words);
        }
        Opening {
            kind: self.kind,
            words: lasting(&words),
            other_words: Vec::new(),
            function: group("function"),
            hint: group("hint"),
            file: group("file"),
            comm: group("comm"),
            pid: found.name("pid").and_then(|pid| pid.as_str().parse().ok()),
            pool: group("pool"),
            tail: self.tail,
            part: self.part,
            detail: self.detail,
            is_clipped: false,
        }
    }
}

/// Completes a line whose first letters were lost on a console with several writers:
/// `RNING: CPU: 0 PID: 7 at …` → `WARNING: CPU: 0 PID: 7 at …`.
fn restored(line: &str) -> Option<String> {
    const WORDS: [&str; 3] = ["WARNING: ", "BUG: K", "INFO: task "];
    // A cheap check of the first letter before all comparisons.
    if !line.starts_with(['A', 'R', 'N', 'I', 'G', 'U', 'F', 'O', ':', 'C']) {
        return None;
    }
    if line.starts_with("CPU: ") && line.contains(" at ") {
        return Some(format!("WARNING: {line}"));
    }
    WORDS.iter().find_map(|word| {
        let clipped = (1..word.len() - 2).find(|&from| line.starts_with(&word[from..]))?;
        Some(format!("{}{line}", &word[..clipped]))
    })
}

impl Opening {
    /// The opening for `cut here`, until another line says what it is.
    pub(super) fn cut_here() -> Opening {
        Opening {
            kind: ReportKind::Warning,
            words: "WARNING".into(),
            other_words: Vec::new(),
            function: None,
            hint: None,
            file: None,
            comm: None,
            pid: None,
            pool: None,
            tail: Tail::Stack,
            part: Part::CutHere,
            detail: Detail::Unnamed,
            is_clipped: true,
        }
    }

    /// Takes file and function from what is left of a WARNING's line:
    /// `…ID: 4049 at drivers/md/dm-raid.c:4105 raid_resume+0xee/0x100`.
    pub(super) fn take_place(&mut self, text: &str) {
        static PLACE: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"(?<file>[\w./+-]+\.(?:[chS]|rs)):\d+ ?(?:at )?(?:(?<function>[A-Za-z_][\w.]*)\+0x)?")
                .expect("a regular expression of our own")
        });
        if let Some(found) = PLACE.captures(text).filter(|_| self.file.is_none()) {
            self.file = Some(found["file"].to_owned());
            self.function = found.name("function").map(|function| function.as_str().to_owned());
        }
    }

    /// True if a report without a stack is incomplete.
    pub(super) fn needs_stack(&self) -> bool {
        self.tail == Tail::Stack
    }

    /// Adds a further opening line of the same report, and keeps the more telling words: a reason rather than
    /// its WARNING, the kernel's words rather than the exception.
    pub(super) fn deepen(&mut self, next: Opening) {
        let is_more = match (self.part, next.part) {
            (Part::CutHere, _) => true,
            // A panic in Rust ends in a BUG, which names it better: the stack is the panic's.
            (Part::Reason, Part::Headline) => self.detail == Detail::RustPanic,
            (Part::Reason | Part::Headline, _) => false,
            (Part::Whole, Part::Reason) => self.kind == ReportKind::Warning,
            (Part::Whole, Part::Headline | Part::Exception) => false,
            (Part::Exception, Part::Headline | Part::Exception) => {
                self.detail == Detail::Exception && next.detail != Detail::Exception
            }
            (Part::Whole | Part::Exception, _) => false,
        };
        if is_more {
            let old = std::mem::replace(self, next);
            self.file = self.file.take().or(old.file);
            if old.part != Part::CutHere {
                self.other_words.push(old.words);
            }
        } else if self.part == Part::Reason && next.part != Part::CutHere && next.detail == Detail::Unnamed {
            self.other_words.push(next.words);
        }
    }
}

#[cfg(test)]
#[path = "openings_tests.rs"]
mod tests;
