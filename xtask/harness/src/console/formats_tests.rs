//! Tests each rule of the classifier with format strings from the kernel's sources:
//! `xtask/harness/testdata/kernel-formats.txt`.
//!
//! So no rule can be one that never matches: each has a format here that exists in the kernel, and the rule
//! recognises a line made from it. The sources are not in the repository. With `KERNEL_SOURCES=DIR`, where
//! each release is unpacked in a folder of its name, the `FROM` lines are checked, and
//! `UPDATE=1 cargo test -p harness kernel_formats` rewrites them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use protocol::evidence::ReportKind;
use regex::Regex;

use super::{openings, storage};
use crate::workspace::workspace;

/// A format string of the kernel, and the classifier's result for it.
#[derive(Debug, Default)]
struct Format {
    /// Text that the printing function puts before the format.
    before: String,
    /// The format string or its beginning, with adjacent literals joined.
    format: String,
    /// Values for its conversion specifiers, in order; a default where none is given.
    with: Vec<String>,
    after: String,
    /// Expected result: `storage-error | md: flush IO error`; for an opening, the first words of its title.
    says: String,
    /// Folder of the sources in which the format is searched.
    within: String,
    /// Releases and files that have the format: `6.12.117 drivers/md/md.c`.
    from: Vec<String>,
}

fn path() -> PathBuf {
    workspace().join("xtask/harness/testdata/kernel-formats.txt")
}

/// The text before the first format, and the formats.
fn read() -> (String, Vec<Format>) {
    let text = fs::read_to_string(path()).unwrap();
    let mut parts = text.split("\n\n");
    let head = parts.next().unwrap().to_owned();
    let formats = parts.filter(|part| !part.trim().is_empty()).map(|part| {
        let mut format = Format::default();
        for line in part.lines() {
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("`{line}` is no field"));
            match key {
                "BEFORE" => format.before = format!("{value} "),
                "FORMAT" => format.format = value.to_owned(),
                "WITH" => format.with = value.split(" | ").map(str::to_owned).collect(),
                "AFTER" => format.after = value.to_owned(),
                "SAYS" => format.says = value.to_owned(),
                "IN" => format.within = value.to_owned(),
                "FROM" => format.from.push(value.to_owned()),
                _ => panic!("`{key}` is no field"),
            }
        }
        format
    });
    (head, formats.collect())
}

impl Format {
    /// A line as the kernel would print it.
    fn line(&self) -> String {
        let directive =
            Regex::new(r"%(?:%|[-0-9.*#+ ]*(?:hh|h|ll|l|z|t|L)?(?:p[A-Za-z0-9]*|[a-zA-Z]))").unwrap();
        let mut with = self.with.iter();
        let filled = directive.replace_all(&self.format, |found: &regex::Captures<'_>| {
            let directive = &found[0];
            if directive == "%%" {
                return "%".to_owned();
            }
            match with.next().map(String::as_str) {
                Some("-") | None => Self::default_of(directive).to_owned(),
                Some(text) => text.to_owned(),
            }
        });
        let text = filled.replace("\\\"", "\"").replace("\\t", "\t").replace("\\n", "");
        format!("{}{text}{}", self.before, self.after)
    }

    fn default_of(directive: &str) -> &'static str {
        match directive.trim_start_matches(|c: char| !c.is_ascii_alphabetic()) {
            "pS" | "pSb" | "pB" => "raid5d+0x1/0x2 [raid456]",
            "ps" => "raid5d",
            "pg" => "vdc",
            "p" | "px" => "ffff888012345678",
            "s" => "md0",
            _ => "8",
        }
    }

    fn write(&self, to: &mut String) {
        let mut field = |key: &str, value: &str| {
            if !value.is_empty() {
                writeln!(to, "{key}: {value}").unwrap();
            }
        };
        field("BEFORE", self.before.trim_end());
        field("FORMAT", &self.format);
        field("WITH", &self.with.join(" | "));
        field("AFTER", &self.after);
        field("SAYS", &self.says);
        field("IN", &self.within);
        self.from.iter().for_each(|from| field("FROM", from));
    }
}

/// The pattern that recognises a line, and the result.
fn judged(line: &str) -> Option<(&'static str, String)> {
    let kind_name = |kind: ReportKind| serde_json::to_value(kind).unwrap().as_str().unwrap().to_owned();
    if let Some((pattern, opening)) = openings::recognised(line) {
        return Some((pattern, format!("{} | {}", kind_name(opening.kind), opening.words)));
    }
    let (kind, title) = storage::storage_line(line)?;
    Some((storage::pattern_of(line)?, format!("{} | {title}", kind_name(kind))))
}

#[test]
fn every_rule_matches_a_format_of_the_kernel() {
    let (_, formats) = read();
    let mut wrong = String::new();
    let mut matched = BTreeSet::new();
    for format in &formats {
        let line = format.line();
        match judged(&line) {
            Some((pattern, says)) => {
                matched.insert(pattern);
                if says != format.says {
                    writeln!(wrong, "{line}\n  says {}\n  is   {says}", format.says).unwrap();
                }
            }
            None => writeln!(wrong, "{line}\n  is nothing").unwrap(),
        }
        if format.from.is_empty() {
            writeln!(wrong, "{}\n  is of no kernel", format.format).unwrap();
        }
    }
    for pattern in openings::patterns().chain(storage::patterns()) {
        if !matched.contains(pattern) {
            writeln!(wrong, "{pattern}\n  matches no format").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The sources of one release: the text of each file with adjacent literals joined, by path.
fn sources(dir: &Path) -> BTreeMap<String, String> {
    let joint = Regex::new(r#""\s*(?:\\\s*)?""#).unwrap();
    let mut all = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let is_source =
                path.extension().is_some_and(|extension| ["c", "h", "rs"].iter().any(|of| extension == *of));
            // Headers declare formats that are printed elsewhere, and are a third of all files.
            let is_told_of = !["include", "boot", "dts", "tests"].iter().any(|folder| path.ends_with(folder));
            if path.is_dir() && is_told_of {
                todo.push(path);
            } else if is_source {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                all.insert(name, joint.replace_all(&text, "").into_owned());
            }
        }
    }
    all
}

#[test]
fn kernel_formats_are_in_the_kernels_sources() {
    let (head, mut formats) = read();
    assert!(!formats.is_empty());
    let Some(dir) = std::env::var_os("KERNEL_SOURCES") else {
        // Without sources, check at least that each format has a well-formed origin.
        let is_place = |from: &String| {
            from.split_once(' ').is_some_and(|(release, file)| {
                release.starts_with(|c: char| c.is_ascii_digit()) && file.contains('/')
            })
        };
        assert!(formats.iter().flat_map(|format| &format.from).all(is_place));
        return;
    };
    let mut releases: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).collect();
    releases.retain(|entry| entry.file_type().unwrap().is_dir());
    let mut releases: Vec<_> = releases.into_iter().map(|entry| entry.path()).collect();
    releases.sort();
    let mut found = vec![Vec::new(); formats.len()];
    for release in releases {
        let files = sources(&release);
        let name = release.file_name().unwrap().to_str().unwrap();
        for (format, found) in formats.iter().zip(&mut found) {
            let holds = |(file, text): &(&String, &String)| {
                file.starts_with(&format.within) && text.contains(format.format.as_str())
            };
            if let Some((file, _)) = files.iter().find(holds) {
                found.push(format!("{name} {file}"));
            }
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        let mut text = head;
        for (format, found) in formats.iter_mut().zip(found) {
            format.from = found;
            text.push_str("\n\n");
            format.write(&mut text);
            text.truncate(text.trim_end().len());
        }
        fs::write(path(), text + "\n").unwrap();
        return;
    }
    let mut wrong = String::new();
    for (format, found) in formats.iter().zip(found) {
        if format.from != found {
            writeln!(wrong, "{}\n  is said to be of {:?}\n  is of {found:?}", format.format, format.from)
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
