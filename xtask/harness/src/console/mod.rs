//! Classifies console output. Never reads files or clocks: callers pass bytes.

mod agent_words;
mod backtraces;
#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod formats_tests;
mod helpers;
mod lasting;
mod line;
mod open_report;
mod openings;
mod panic_watch;
mod reports;
mod stack;
mod storage;
mod tasks;
mod titles;
mod workqueue;

pub(crate) use agent_words::AgentWords;
pub(crate) use backtraces::Backtraces;
pub(crate) use panic_watch::PanicWatch;
#[cfg(test)]
pub(crate) use reports::identity;
pub(crate) use reports::{REPORTS_MAX, Reports};

use std::collections::VecDeque;

use line::LogLine;

/// Longest line that is looked at, bytes; the rest of a longer one is ignored.
const MAX_LINE: usize = 4096;

/// Splits output into lines of bounded length, as lossy text without line ends.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Takes bytes and calls `each` with every complete line.
    pub(crate) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = MAX_LINE - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                each(String::from_utf8_lossy(&self.line).trim_end_matches('\r'));
                self.line.clear();
            }
        }
    }

    /// The last line, which has no end yet.
    pub(crate) fn rest(&self) -> String {
        String::from_utf8_lossy(&self.line).into_owned()
    }
}

/// The signs on the console that the kernel ended.
#[derive(Debug, Default)]
pub(crate) struct Crash {
    /// The first line that names a fault, without its time stamp.
    fault: Option<String>,
    panicked: bool,
    /// The newest line that is not empty.
    newest: String,
    /// The lines that say most about the end: from the first fault on, else the newest.
    tail: VecDeque<String>,
}

/// Maximum number of lines that are kept for the report.
const TAIL_LINES: usize = 20;

/// First words of lines in which the kernel names a fault.
const FAULTS: [&str; 7] = [
    "BUG: ",
    "Oops: ",
    "general protection fault",
    "kernel BUG at ",
    "Unable to handle kernel",
    "Internal error: ",
    "Kernel panic - not syncing: ",
];

impl Crash {
    /// Looks at one console line.
    pub(crate) fn look(&mut self, line: &str) {
        if !line.trim().is_empty() {
            line.clone_into(&mut self.newest);
            self.keep(line);
        }
        for piece in LogLine::pieces(line) {
            self.look_at(piece.text, line);
        }
    }

    fn look_at(&mut self, text: &str, line: &str) {
        if FAULTS.iter().any(|fault| text.starts_with(fault)) {
            if self.fault.is_none() {
                self.tail = VecDeque::from([line.to_owned()]);
            }
            self.fault.get_or_insert_with(|| text.to_owned());
        }
        self.panicked |= text.starts_with("Kernel panic - not syncing: ");
    }

    fn keep(&mut self, line: &str) {
        if self.tail.len() == TAIL_LINES {
            if self.fault.is_some() {
                return;
            }
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }

    /// The lines that say most about the end: from the first fault on, else the newest; 20 at most.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// True after the kernel printed that it panics.
    pub(crate) fn panicked(&self) -> bool {
        self.panicked
    }

    /// The line that names the fault, if there was one.
    pub(crate) fn title(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The newest line that is not empty.
    pub(crate) fn newest(&self) -> &str {
        &self.newest
    }
}

/// Number of messages that were lost before this line, if the line says so. A slow console or reader loses
/// messages (`** 123 printk messages dropped **`, kernel/printk/printk.c since 3.x;
/// `Missed 4 kernel messages` of journald). The line stands at the place of the gap.
pub(crate) fn dropped_messages(line: &str) -> Option<u64> {
    // A cheap check first: most lines have neither.
    if !line.contains("** ") && !line.contains("Missed ") {
        return None;
    }
    let text = LogLine::of(line).text.trim();
    if let Some(rest) = text.strip_prefix("** ").and_then(|rest| rest.strip_suffix(" **")) {
        let (number, what) = rest.split_once(' ')?;
        let said = matches!(what, "printk messages dropped" | "printk message dropped");
        return said.then(|| number.parse().ok()).flatten();
    }
    let rest = text.strip_prefix("systemd-journald").unwrap_or(text);
    let rest = rest.trim_start_matches(|c: char| c == '[' || c == ']' || c == ':' || c.is_ascii_digit());
    let (number, what) = rest.trim_start().strip_prefix("Missed ")?.split_once(' ')?;
    what.starts_with("kernel messages").then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(lines: &[&str]) -> Crash {
        let mut crash = Crash::default();
        lines.iter().for_each(|line| crash.look(line));
        crash
    }

    #[test]
    fn a_crash_is_named_by_its_first_fault() {
        let crash = look(&[
            "[    3.1] md: md0 stopped.",
            "[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000008",
            "[   12.345900] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI",
            "[   12.400000] Kernel panic - not syncing: Fatal exception",
        ]);
        assert_eq!(crash.title(), Some("BUG: kernel NULL pointer dereference, address: 0000000000000008"));
        assert!(crash.panicked());
    }

    #[test]
    fn what_follows_a_fault_is_kept_and_else_the_newest() {
        let numbered =
            |range: std::ops::Range<u32>| range.map(|n| format!("[    1.0] line {n}")).collect::<Vec<_>>();
        let before = numbered(0..100);
        let mut lines: Vec<_> = before.iter().map(String::as_str).collect();
        assert_eq!(look(&lines).tail(), before[80..]);
        lines.push("[    2.0] Kernel panic - not syncing: VFS");
        let after = numbered(200..300);
        lines.extend(after.iter().map(String::as_str));
        let tail = look(&lines).tail();
        assert_eq!((tail[0].as_str(), tail.len()), ("[    2.0] Kernel panic - not syncing: VFS", 20));
        assert_eq!(tail[1..], after[..19]);
    }

    #[test]
    fn words_of_a_test_are_no_crash() {
        let crash = look(&["[    1.0] a test printed BUG: here", "BUGS: none", "[x", "[]"]);
        assert_eq!(crash.title(), None);
        assert!(!crash.panicked());
    }

    #[test]
    fn dropped_messages_are_counted() {
        for (line, n) in [
            ("[   60.000003] ** 123 printk messages dropped **", 123),
            ("[   60.000003][    T7] ** 1 printk messages dropped **", 1),
            ("** 4312 printk messages dropped **\r", 4312),
            ("systemd-journald[211]: Missed 7 kernel messages", 7),
        ] {
            assert_eq!(dropped_messages(line), Some(n), "{line}");
        }
        for line in [
            "[   60.0] md: md0 stopped.",
            "** x printk messages dropped **",
            "** 5 messages of a test **",
            "says ** 5 printk messages dropped **",
            "Missed it",
        ] {
            assert_eq!(dropped_messages(line), None, "{line}");
        }
    }

    #[test]
    fn lines_are_bounded() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        lines.push(&vec![b'x'; 100_000], |line| seen.push(line.len()));
        lines.push(b"\nnext\r\n", |line| seen.push(line.len()));
        assert_eq!(seen, [MAX_LINE, 4]);
    }
}
