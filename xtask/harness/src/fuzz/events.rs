//! Fuzzes `events.jsonl` as a damaged disk may return it: each line is read or refused, and a read record can
//! be reported.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use protocol::Record;
use reports::record::events::{ReadError, parse_events};

use super::mutate::{damaged, damages};
use super::recorded;

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    let is_sound = |line: &&[u8]| serde_json::from_slice::<Record>(line).is_ok();
    let log = match parse_events(bytes, Path::new("out/x/events.jsonl")) {
        Ok(log) => log,
        Err(error) => {
            let words = error.to_string();
            prop_assert!(words.starts_with("`out/x/events.jsonl`"), "{}", words);
            match error {
                ReadError::Damaged { line, .. } => {
                    let place = format!("line {line} is damaged");
                    prop_assert!(words.contains(&place), "{}", words);
                    prop_assert!(lines[..line - 1].iter().all(is_sound), "an earlier line is damaged");
                    prop_assert!(!is_sound(&lines[line - 1]));
                }
                ReadError::Empty { .. } => prop_assert!(lines.len() <= 1 && !bytes.ends_with(b"\n")),
                ReadError::NotARun { .. } | ReadError::TooNew { .. } => {}
                ReadError::Io { .. } => prop_assert!(false, "nothing was read"),
            }
            return Ok(());
        }
    };
    prop_assert_eq!(log.records.len() + usize::from(log.torn.is_some()), lines.len());
    let record = log.into_record();
    let judged = reports::judge(&record, &BTreeMap::new(), &reports::KnownIssues::default());
    prop_assert_eq!(judged.len(), record.attempts.len() + record.not_planned.len());
    reports::render::junit::render(&record, &judged).unwrap();
    reports::render::summary::render(&record, &judged);
    reports::render::verdicts_json::render(&record, &judged);
    let text = reports::render::terminal::render(
        &record,
        &judged,
        &reports::render::style::TerminalStyle::plain("out/x"),
    );
    prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    Ok(())
}

proptest! {
    #[test]
    fn damaged_events_are_reported_or_refused_by_line(damages in damages()) {
        check(&damaged(recorded::EVENTS, &damages))?;
    }

    #[test]
    fn any_bytes_are_reported_or_refused_by_line(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        check(&bytes)?;
    }
}
