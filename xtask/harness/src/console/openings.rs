//! Recognises the line by which a report in a kernel's log begins.
//!
//! Pure. The formats are those of 5.10 to 7.3 on x86, arm64 and powerpc; `xtask/harness/testdata/kernel-formats.txt`
//! says where in the kernel's sources each comes from, and a test holds every rule against it. Deliberately
//! not here: which lines belong to a report (`reports.rs`), what it is called (`titles.rs`), and lines that
//! are a report by themselves (`storage.rs`).

mod rules;

use std::sync::LazyLock;

use protocol::evidence::ReportKind;
use regex::{Captures, Regex};

use super::lasting::lasting;
use rules::{BEGINNINGS, RULES, Rule};

/// What the first line of a report says, before its stack has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) kind: ReportKind,
    /// `BUG: kernel NULL pointer dereference`.
    pub(super) words: String,
    /// Words that other lines of the same report have for it.
    pub(super) other_words: Vec<String>,
    /// The function that the line itself names.
    pub(super) function: Option<String>,
    /// A function that has to do with it, to be named if the stack has none: the callback of a timer that was
    /// freed.
    pub(super) hint: Option<String>,
    /// The source file that the line names.
    pub(super) file: Option<String>,
    /// The task that it struck, `lvm`.
    pub(super) comm: Option<String>,
    /// Its process id.
    pub(super) pid: Option<u32>,
    /// The pool that a workqueue stalls in, `cpus=0 node=0 flags=0x0 nice=0`.
    pub(super) pool: Option<String>,
    pub(super) tail: Tail,
    pub(super) part: Part,
    pub(super) detail: Detail,
    /// The beginning of the line is missing.
    pub(super) is_clipped: bool,
}

/// What follows the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// ` in FUNCTION`: a report without a stack was cut.
    Stack,
    /// ` in FUNCTION`, if there is a stack.
    MaybeStack,
    /// Nothing: the words say all.
    Nothing,
}

/// Which part of a report a line is: a fault is told in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A report of its own.
    Whole,
    /// Why there will be a WARNING or a BUG, or just was: `list_del corruption…`, `refcount_t: underflow…`.
    /// It names the bug better than they do.
    Reason,
    /// What the kernel was about when the processor objected: `BUG: kernel NULL pointer dereference`, `kernel
    /// BUG at`.
    Headline,
    /// The processor's exception: `Oops: 0000 [#1]`.
    Exception,
    /// `cut here`: something follows, and it is a WARNING if its line was lost.
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

/// What begins with this line, which has no time stamp any more.
pub(super) fn opening(line: &str) -> Option<Opening> {
    if BEGINNINGS.iter().any(|start| line.starts_with(start))
        && let Some((_, opening)) = matching(line)
    {
        return Some(opening);
    }
    let whole = restored(line)?;
    let (rule, mut opening) = matching(&whole)?;
    // The rule for what has no rule would take any line.
    if RULES.last().is_some_and(|last| std::ptr::eq(last, rule)) {
        return None;
    }
    opening.is_clipped = true;
    Some(opening)
}

fn matching(line: &str) -> Option<(&'static Rule, Opening)> {
    PATTERNS.iter().find_map(|(rule, pattern)| Some((*rule, rule.opening(line, &pattern.captures(line)?))))
}

/// The pattern that a line matches first, with what it opens: for the test that no rule is idle.
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

/// `RNING: CPU: 0 PID: 7 at …` → `WARNING: CPU: 0 PID: 7 at …`: a console with several writers loses the
/// first letters of a line.
fn restored(line: &str) -> Option<String> {
    const WORDS: [&str; 3] = ["WARNING: ", "BUG: K", "INFO: task "];
    // By the letter that each could begin with, lest every line be compared with all.
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
    /// What `cut here` announces, as long as nobody says what it is.
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

    /// Takes file and function from what is left of a WARNING's line: `…ID: 4049 at drivers/md/dm-raid.c:4105
    /// raid_resume+0xee/0x100`.
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

    /// True if a report without a stack was cut.
    pub(super) fn needs_stack(&self) -> bool {
        self.tail == Tail::Stack
    }

    /// Goes on with a further line of the same report, and keeps whatever says more: a reason more than the
    /// WARNING that it is of, what the kernel says more than the exception that it took.
    pub(super) fn deepen(&mut self, next: Opening) {
        let is_more = match (self.part, next.part) {
            (Part::CutHere, _) => true,
            // Of a panic in Rust, what matters is the BUG that it ends in: its stack is the panic's.
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
