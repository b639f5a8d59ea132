//! Tests of the history: what a line says, what is read of a damaged file, how long tests take, and that runs
//! at the same time do not mix their lines.

use std::fs::OpenOptions;
use std::path::Path;

use proptest::prelude::*;
use protocol::TestId;

use super::file::{History, append, read};
use super::line::HistoryLine;
use crate::testing;

fn line(run: &str, attempt: u32, test: &str, release: &str, vm_ms: u64) -> HistoryLine {
    let (record, judged) = testing::sample();
    let plain = HistoryLine::of(&record, &judged[0], "2026-11-22T17:06:00Z").unwrap();
    let test = TestId::new("lvm2", test).unwrap();
    HistoryLine { run: run.into(), attempt, test, release: release.into(), vm_ms, ..plain }
}

fn bytes(lines: &[HistoryLine]) -> Vec<u8> {
    lines.iter().flat_map(|line| serde_json::to_vec(line).unwrap().into_iter().chain([b'\n'])).collect()
}

#[test]
fn a_line_says_what_an_attempt_came_to() {
    let (record, judged) = testing::hung();
    let line = HistoryLine::of(&record, &judged[0], "2026-11-22T17:06:00Z").unwrap();
    assert_eq!((line.outcome.as_str(), line.verdict.as_str()), ("hang", "hung"));
    assert_eq!((line.release.as_str(), line.accel.as_str()), ("6.1.0-56-cloud-amd64", "tcg"));
    assert_eq!((line.host_cpus, line.test_ms), (Some(2), Some(88_000)));
    assert!(line.signature.as_ref().unwrap().contains("md_stop"), "{line:?}");
    assert_eq!(History::parse(&bytes(std::slice::from_ref(&line))).lines, [line]);
}

#[test]
fn what_is_not_over_has_no_line() {
    let (record, judged) = testing::sample();
    let lines: Vec<_> = judged.iter().filter_map(|judged| HistoryLine::of(&record, judged, "")).collect();
    let finished = record.attempts.iter().filter(|attempt| attempt.finished().is_some()).count();
    assert_eq!(lines.len(), finished);
}

#[test]
fn torn_lines_are_passed_over_and_counted() {
    let lines = [line("a", 1, "x", "6.12", 1), line("a", 2, "x", "6.12", 2)];
    let whole = bytes(&lines);
    // Killed in the middle of a line, and another run appended since.
    let torn = [&whole[..], &whole[..40], b"\n", &whole[..]].concat();
    let history = History::parse(&torn);
    assert_eq!((history.lines.len(), history.n_passed_over), (4, 1));
    let newer = String::from_utf8(whole).unwrap().replace("\"format\":1", "\"format\":2");
    assert_eq!(History::parse(newer.as_bytes()).n_passed_over, 2);
}

#[test]
fn a_duration_is_the_median_of_the_newest_on_this_kernel_or_else_on_any() {
    let old = (0..10).map(|n| line("a", n, "x", "6.12", 1_000_000));
    let new = [10, 50, 30, 20, 40].map(|ms| line("b", 1, "x", "6.12", ms));
    let hung = line("c", 1, "x", "6.1", 9);
    let of_kvm = HistoryLine { accel: "kvm".into(), ..line("d", 1, "x", "6.12", 1) };
    let lost = HistoryLine { outcome: "infra".into(), ..line("e", 1, "x", "6.12", 1) };
    let lines: Vec<_> = old.chain(new).chain([hung, of_kvm, lost]).collect();
    let durations = History { lines, n_passed_over: 0 }.durations("tcg");
    let test = TestId::new("lvm2", "x").unwrap();
    assert_eq!(durations.of(&test, "6.12"), Some(30));
    assert_eq!(durations.of(&test, "6.1"), Some(9));
    assert_eq!(durations.of(&test, "7.3"), Some(30));
    assert_eq!(durations.of(&TestId::new("lvm2", "y").unwrap(), "6.12"), None);
}

/// Attempts of the sample's test that is expected to skip; what a line lacks is as in an older one.
#[test]
fn lines_tell_which_expectations_are_stale() {
    let expectations = testing::sample_expectations();
    let (record, judged) = testing::sample();
    let skipped = judged.iter().find(|judged| judged.verdict == crate::Verdict::Skipped).unwrap();
    let met = HistoryLine::of(&record, skipped, "2026-11-21").unwrap();
    assert_eq!(met.met.as_deref(), Some("skip"));
    let passed =
        HistoryLine { verdict: "unexpected-pass".into(), met: None, at: "2026-11-22".into(), ..met.clone() };
    let lost = HistoryLine { verdict: "infra".into(), ..passed.clone() };
    let older = HistoryLine { verdict: "skipped".into(), met: None, ..met.clone() };
    let stale = |lines: &[&HistoryLine]| {
        let lines: Vec<_> = lines.iter().map(|line| (*line).clone()).collect();
        let mut whole = bytes(&lines);
        // A line that was torn costs nothing but itself.
        whole.extend_from_slice(b"{\"format\":1,\"at\n");
        let stale = History::parse(&whole).stale(&expectations, 2);
        stale.into_iter().map(|stale| (stale.n_missed, stale.since, stale.last_met)).collect::<Vec<_>>()
    };
    let expect = [(2, "2026-11-22".to_owned(), Some("2026-11-21".to_owned()))];
    assert_eq!(stale(&[&met, &passed, &lost, &passed, &lost]), expect);
    assert_eq!(stale(&[&older, &passed, &passed]), expect);
    assert_eq!(stale(&[&met, &passed, &met, &passed]), []);
    assert_eq!(stale(&[&passed, &passed, &older]), []);
}

#[test]
fn no_attempt_is_kept_twice() {
    let history = History { lines: vec![line("a", 1, "x", "6.12", 1)], n_passed_over: 0 };
    let lacking = history.lacks(vec![line("a", 1, "x", "6.12", 1), line("a", 2, "x", "6.12", 1)]);
    assert_eq!(lacking.iter().map(|line| line.attempt).collect::<Vec<_>>(), [2]);
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = History::parse(&bytes);
    }
}

fn plain_line(attempt: u32) -> HistoryLine {
    let text = format!(
        r#"{{"format":1,"at":"","run":"r","attempt":{attempt},"test":"lvm2:x","kernel":"deb:6.12","release":"6.12",
        "kernel_digest":"","image_digest":"","accel":"tcg","vcpus":1,"host_cpus":2,"n_vms":2,"outcome":"pass",
        "verdict":"passed","test_ms":1,"vm_ms":2,"signature":null}}"#
    );
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_torn_line_costs_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made/history.jsonl");
    assert_eq!(read(&file).unwrap(), History::default());
    append(&file, &[plain_line(1), plain_line(2)]).unwrap();
    let whole = std::fs::metadata(&file).unwrap().len();
    OpenOptions::new().write(true).open(&file).unwrap().set_len(whole - 9).unwrap();
    append(&file, &[plain_line(3)]).unwrap();
    let history = read(&file).unwrap();
    assert_eq!(history.lines.iter().map(|line| line.attempt).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(history.n_passed_over, 1);
}

#[test]
fn runs_at_once_do_not_mix_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.jsonl");
    std::thread::scope(|scope| {
        for run in 0..8 {
            let file = &file;
            scope.spawn(move || (0..50).for_each(|n| append(file, &[plain_line(run * 50 + n)]).unwrap()));
        }
    });
    let history = read(&file).unwrap();
    assert_eq!((history.lines.len(), history.n_passed_over), (400, 0));
}

/// Nothing can be written to `/dev/full` (full(4)); a file system that is full for real: see the smoke
/// checks.
#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let error = append(Path::new("/dev/full"), &[plain_line(1)]).unwrap_err().to_string();
    assert!(error.starts_with("failed to append to the history `/dev/full`"), "{error}");
}
