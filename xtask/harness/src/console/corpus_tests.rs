//! Tests the classifier with real logs: `xtask/harness/testdata/kernel-logs/`.
//!
//! `UPDATE=1 cargo test -p harness corpus` rewrites the headers; read the differences before you keep them.
//! With `KERNEL_LOGS=DIR` the logs of another folder are used.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use protocol::evidence::{KernelReport, ReportKind, TaskStack};

use super::Reports;
use crate::workspace::workspace;

/// A log, and its header's fields about its origin.
struct Entry {
    kernel: String,
    how: String,
    /// The header as it stands in the file.
    header: String,
    log: String,
}

impl Entry {
    fn read(path: &Path) -> Entry {
        let text = fs::read_to_string(path).unwrap();
        let (header, log) = text.split_once("\n\n").expect("a header, an empty line, a log");
        let field = |key: &str| {
            let found = header.lines().find_map(|line| line.strip_prefix(key));
            found.unwrap_or_else(|| panic!("{}: no `{key}` in the header", path.display())).to_owned()
        };
        Entry {
            kernel: field("KERNEL: "),
            how: field("HOW: "),
            header: format!("{header}\n"),
            log: log.to_owned(),
        }
    }

    /// The header that the classifier would write.
    fn judged(&self) -> String {
        let mut reports = Reports::default();
        let mut told: Vec<_> = self.log.lines().flat_map(|line| reports.look(line)).collect();
        told.extend(reports.finish());
        let mut header = format!("KERNEL: {}\nHOW: {}\n", self.kernel, self.how);
        if let Some(title) = reports.fatal_title() {
            writeln!(header, "CRASH: {title}").unwrap();
        }
        for KernelReport { kind, title, alt_titles, corrupted, frames, causes, starved: _ } in &told {
            writeln!(header, "TITLE: {title}").unwrap();
            alt_titles.iter().for_each(|alt| writeln!(header, "ALT: {alt}").unwrap());
            writeln!(header, "TYPE: {}", name(*kind)).unwrap();
            writeln!(header, "CORRUPTED: {}", if *corrupted { "yes" } else { "no" }).unwrap();
            writeln!(header, "FRAMES: {}", frames.len()).unwrap();
            for TaskStack { comm, frames, .. } in causes {
                writeln!(header, "CAUSE: {comm} in {} frames", frames.len()).unwrap();
            }
        }
        header
    }
}

/// Name of a report kind as in `events.jsonl`.
fn name(kind: ReportKind) -> String {
    serde_json::to_value(kind).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn real_logs_are_classified_as_their_headers_say() {
    let dir = std::env::var_os("KERNEL_LOGS")
        .map_or_else(|| workspace().join("xtask/harness/testdata/kernel-logs"), std::path::PathBuf::from);
    let mut paths: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(!paths.is_empty(), "no logs in `{}`", dir.display());
    let is_update = std::env::var_os("UPDATE").is_some();
    let mut wrong = String::new();
    for path in paths {
        let entry = Entry::read(&path);
        let judged = entry.judged();
        if is_update {
            fs::write(&path, format!("{judged}\n{}", entry.log)).unwrap();
        } else if judged != entry.header {
            writeln!(wrong, "{}\n  says\n{}  is judged\n{judged}", path.display(), entry.header).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Logs without stamps: the kernel log from the guest agent has no callers, records of /dev/kmsg no stamps at
/// all.
#[test]
fn a_log_without_stamps_says_the_same() {
    let path = workspace().join("xtask/harness/testdata/kernel-logs/raid1-member-fails.txt");
    let entry = Entry::read(&path);
    let bare = |line: &str| line.split_once("] ").map_or(line, |(_, text)| text).to_owned() + "\n";
    let without = Entry { log: entry.log.lines().map(bare).collect(), ..Entry::read(&path) };
    assert_eq!(without.judged(), entry.judged());
}
