//! Reads `events.jsonl`, including one whose writer died in the middle of a line.
//!
//! Deliberately not here: what the events mean ([`crate::record`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protocol::event::FORMAT;
use protocol::{Event, Record};
use serde::Deserialize;

use crate::record::RunRecord;

/// The content of an `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedEvents {
    /// Every whole line, in order.
    pub records: Vec<Record>,
    /// The rest after the last whole line, if the writer was killed while it wrote.
    pub torn: Option<TornTail>,
}

/// The beginning of a line that was never finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Number of the line, from 1.
    pub line: usize,
    /// How many bytes of it are there.
    pub n_bytes: usize,
}

/// Why a file of events cannot be used. Causes are part of the message, so that the next step comes
/// last; none is a `source`, or it would be said twice.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read `{path}`: {cause}; name the folder of a run that has started", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// There is not one whole line.
    #[error(
        "`{path}` holds no whole event: the harness was killed before it wrote one; run again",
        path = .path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The first line does not begin a run.
    #[error(
        "`{path}` does not begin with `run-started`: expected the events.jsonl of a run",
        path = .path.display()
    )]
    NotARun {
        /// The file.
        path: PathBuf,
    },
    /// A later md-regress wrote the file.
    #[error(
        "`{path}` has event format {found}, this md-regress knows up to {FORMAT}; \
         read it with the md-regress that wrote it, or a newer one",
        path = .path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The format that it names.
        found: u64,
    },
    /// A finished line makes no sense.
    #[error(
        "`{path}`, line {line} is damaged: {cause}; repair or remove the line",
        path = .path.display(), cause = without_place(.cause)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The parser's error.
        cause: serde_json::Error,
    },
}

/// Serde's message without its place, which is one within the line: always `at line 1 …`.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// Reads the events of a run.
pub fn read_events(path: &Path) -> Result<ParsedEvents, ReadError> {
    let bytes = fs::read(path).map_err(|cause| ReadError::Io { path: path.to_owned(), cause })?;
    parse_events(&bytes, path)
}

/// Parses the bytes of an `events.jsonl`; `path` is only named in errors.
pub fn parse_events(bytes: &[u8], path: &Path) -> Result<ParsedEvents, ReadError> {
    let mut records = Vec::new();
    let mut torn = None;
    for (line_idx, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let (text, whole) = match line.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (line, false),
        };
        if line_idx == 0 && whole {
            check_header(text, path)?;
        }
        match serde_json::from_slice(text) {
            // An object that closes is complete, even if the power went before the line's end.
            Ok(record) => records.push(record),
            Err(_) if !whole => torn = Some(TornTail { line: line_idx + 1, n_bytes: line.len() }),
            Err(cause) => {
                return Err(ReadError::Damaged { path: path.to_owned(), line: line_idx + 1, cause });
            }
        }
    }
    match records.first() {
        None => Err(ReadError::Empty { path: path.to_owned() }),
        Some(Record { event: Event::RunStarted { format, .. }, .. }) if *format > FORMAT => {
            Err(ReadError::TooNew { path: path.to_owned(), found: u64::from(*format) })
        }
        Some(Record { event: Event::RunStarted { .. }, .. }) => Ok(ParsedEvents { records, torn }),
        Some(_) => Err(ReadError::NotARun { path: path.to_owned() }),
    }
}

/// Looks at the format alone: a newer one may have changed everything else about the line.
fn check_header(line: &[u8], path: &Path) -> Result<(), ReadError> {
    #[derive(Deserialize)]
    struct Header {
        event: String,
        format: u64,
    }
    match serde_json::from_slice::<Header>(line) {
        Ok(header) if header.event == "run-started" && header.format > u64::from(FORMAT) => {
            Err(ReadError::TooNew { path: path.to_owned(), found: header.format })
        }
        // The full parse says it better.
        Ok(_) | Err(_) => Ok(()),
    }
}

impl ParsedEvents {
    /// Folds the events, and remarks on a torn tail.
    pub fn into_record(self) -> RunRecord {
        let mut record = RunRecord::from_events(self.records);
        if let Some(torn) = self.torn {
            record.add_oddity(format!(
                "line {} of the events breaks off after {} bytes: the harness was killed while it wrote",
                torn.line, torn.n_bytes
            ));
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn lines(records: &[Record]) -> String {
        records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect()
    }

    fn check(bytes: &[u8]) -> Result<ParsedEvents, String> {
        parse_events(bytes, Path::new("out/x/events.jsonl")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_torn_last_line_is_reported_and_the_rest_is_kept() {
        let records = testing::sample_events();
        let whole = lines(&records);
        let log = check(&[whole.as_bytes(), b"{\"at_ms\":99,\"ev"].concat()).unwrap();
        assert_eq!(log.records, records);
        assert_eq!(log.torn, Some(TornTail { line: records.len() + 1, n_bytes: 15 }));
        let remarks = log.into_record().remarks;
        assert!(remarks.last().unwrap().text.contains("breaks off after 15 bytes"), "{remarks:?}");
    }

    #[test]
    fn a_file_cut_anywhere_keeps_its_whole_lines() {
        let records = &testing::sample_events()[..8];
        let whole = lines(records).into_bytes();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap();
        for cut in first + 1..=whole.len() {
            let log = check(&whole[..cut]).unwrap();
            assert_eq!(log.records[..], records[..log.records.len()], "cut at {cut}");
            let n_newlines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert!(log.records.len() >= n_newlines, "cut at {cut}");
            assert_eq!(log.torn.is_some(), log.records.len() == n_newlines && whole[cut - 1] != b'\n');
        }
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_named() {
        let records = testing::sample_events();
        let text = lines(&records[..2]) + "{\"at_ms\":3,\"event\":\"vm-sta\n" + &lines(&records[2..]);
        let error = check(text.as_bytes()).unwrap_err();
        assert_eq!(
            error,
            "`out/x/events.jsonl`, line 3 is damaged: EOF while parsing a string; repair or remove the line"
        );
    }

    #[test]
    fn a_tail_of_zero_bytes_is_torn() {
        let log = check(&[lines(&testing::sample_events()).as_bytes(), &[0; 512]].concat()).unwrap();
        assert_eq!(log.torn.unwrap().n_bytes, 512);
    }

    #[test]
    fn a_newer_format_is_refused_even_if_its_shape_changed() {
        let error = check(b"{\"at_ms\":0,\"event\":\"run-started\",\"format\":7,\"new\":{}}\n").unwrap_err();
        assert!(error.contains("has event format 7, this md-regress knows up to 4"), "{error}");
    }

    #[test]
    fn what_is_no_run_is_refused() {
        assert!(check(b"").unwrap_err().contains("holds no whole event"));
        assert!(check(b"{\"at_ms\":0,").unwrap_err().contains("holds no whole event"));
        assert!(check(b"hello\n").unwrap_err().contains("line 1 is damaged"));
        let not_first = lines(&testing::sample_events()[1..]);
        assert!(check(not_first.as_bytes()).unwrap_err().contains("does not begin with `run-started`"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_events(Path::new("/nowhere/events.jsonl")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read `/nowhere/events.jsonl`: "), "{error}");
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = check(&bytes);
        }
    }
}
