//! Fuzzes the console and the reading of a test's output: any bytes, in any pieces, in bounded memory.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use protocol::Outcome;
use protocol::program::Exit;
use reports::text::printable;

use super::mutate::{cuts, damaged, damages};
use super::recorded;
use crate::attempt::output::OutputScan;
use crate::console::{AgentWords, Crash, Lines, Reports, identity};
use crate::suite::{Contract, Suite};
use crate::workspace::workspace;

/// Longest line that is kept, bytes: each invalid byte becomes a character of three.
const LINE_MAX: usize = 3 * 4096;

fn lines(pieces: &[&[u8]]) -> (Vec<String>, String) {
    let (mut lines, mut seen) = (Lines::default(), Vec::new());
    for piece in pieces {
        lines.push(piece, |line| seen.push(line.to_owned()));
    }
    (seen, lines.rest())
}

fn check_console(bytes: &[u8], pieces: &[&[u8]]) -> Result<(), TestCaseError> {
    let whole = lines(&[bytes]);
    prop_assert!(lines(pieces) == whole, "how the console is cut changes its lines");
    let (seen, rest) = whole;
    prop_assert_eq!(seen.len(), bytes.iter().filter(|&&byte| byte == b'\n').count());
    prop_assert!(seen.iter().chain([&rest]).all(|line| line.len() <= LINE_MAX));
    let (mut crash, mut agent) = (Crash::default(), AgentWords::new(7));
    let mut title = None;
    for line in &seen {
        crash.look(line);
        agent.look(Duration::ZERO, line);
        // The first fault names the crash, whatever follows.
        title = title.or_else(|| crash.title().map(str::to_owned));
        prop_assert_eq!(crash.title(), title.as_deref());
        prop_assert!(!crash.panicked() || title.is_some(), "a panic without a title");
    }
    let mut reports = Reports::default();
    let mut told: Vec<_> = seen.iter().flat_map(|line| reports.look(line)).collect();
    told.extend(reports.finish());
    let bugs: BTreeSet<_> = told.iter().map(identity).collect();
    prop_assert!(
        bugs.len() == told.len() && told.len() <= 50,
        "a report is told twice, or they are too many"
    );
    for report in &told {
        prop_assert!(report.title.chars().count() <= 160 && report.frames.len() <= 40);
        prop_assert!(!report.title.chars().any(char::is_control));
    }
    for words in [crash.title(), agent.gave_up(false), Some(crash.newest())].into_iter().flatten() {
        prop_assert!(words.len() <= LINE_MAX && !words.contains('\n'));
        prop_assert!(!printable(words).chars().any(char::is_control));
    }
    Ok(())
}

fn contracts() -> Vec<Contract> {
    let contract = |suite: &str| Suite::read(&workspace().join("suites").join(suite)).unwrap().contract;
    vec![contract("lvm2"), contract("mdadm"), contract("canary"), Contract::default()]
}

const EXITS: [Exit; 5] =
    [Exit::Code(0), Exit::Code(1), Exit::Code(200), Exit::Signal(i32::MIN), Exit::NotStarted(i32::MAX)];

/// The complete result of a scan.
fn told(contract: &Contract, pieces: &[&[u8]]) -> Vec<(Outcome, Vec<String>, Vec<String>)> {
    let mut scan = OutputScan::new(contract.clone());
    pieces.iter().for_each(|piece| scan.push(piece));
    let outcomes = EXITS.map(|exit| scan.outcome(exit));
    outcomes.map(|outcome| (outcome.clone(), scan.telling_lines(&outcome), scan.weakened().to_vec())).to_vec()
}

fn check_output(bytes: &[u8], pieces: &[&[u8]]) -> Result<(), TestCaseError> {
    for contract in &contracts() {
        let whole = told(contract, &[bytes]);
        prop_assert!(told(contract, pieces) == whole, "how the output is cut changes what it says");
        for (outcome, last_lines, weakened) in whole {
            prop_assert!(last_lines.len() <= 20 && weakened.len() <= 10);
            prop_assert!(last_lines.iter().chain(&weakened).all(|line| line.len() <= LINE_MAX));
            prop_assert!(outcome.detail().len() <= LINE_MAX);
        }
    }
    Ok(())
}

/// Output of LVM2's tests with every way to end.
const OUTPUT: &[u8] = b"## RUN: x.sh\n#x.sh:19+ aux have_raid 1 3 0\nFound dm-raid target version 1.15.1\n\
    TEST WARNING: Ignoring command failure.\n#utils:254+ set +vx; STACKTRACE; set -vx\n## 1 STACKTRACE() called\n\
    TEST SKIPPED: needs more memory\n#x.sh:20+ skip\n## 1 skip() called from x.sh:20\nno line end";

proptest! {
    #[test]
    fn a_damaged_console_is_read_the_same_in_any_pieces(damages in damages(), cuts in cuts()) {
        let bytes = damaged(recorded::CONSOLE, &damages);
        check_console(&bytes, &cuts.pieces(&bytes))?;
    }

    #[test]
    fn damaged_output_is_read_the_same_in_any_pieces(damages in damages(), cuts in cuts()) {
        let bytes = damaged(OUTPUT, &damages);
        check_output(&bytes, &cuts.pieces(&bytes))?;
    }

    #[test]
    fn any_bytes_are_read_the_same_in_any_pieces(
        bytes in proptest::collection::vec(any::<u8>(), 0..20_000),
        cuts in cuts(),
    ) {
        check_console(&bytes, &cuts.pieces(&bytes))?;
        check_output(&bytes, &cuts.pieces(&bytes))?;
    }
}

#[test]
fn the_recorded_console_names_its_panic() {
    let mut crash = Crash::default();
    lines(&[recorded::CONSOLE]).0.iter().for_each(|line| crash.look(line));
    assert_eq!(crash.title(), Some("Kernel panic - not syncing: sysrq triggered crash"));
    assert!(crash.panicked());
}
