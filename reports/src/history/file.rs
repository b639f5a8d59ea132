//! The history file: reads it, appends to it.
//!
//! One `write(2)` for all lines that come together, under a lock, so that runs at the same time do not mix.
//! What cannot be written in full is taken back, so that what was there stays whole. Deliberately not here:
//! where the file lies, and when an attempt is appended, which the harness knows.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::history::line::{FORMAT, HistoryLine};

/// The content of a history file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Every line that could be read, oldest first.
    pub lines: Vec<HistoryLine>,
    /// Lines that were torn, damaged or of a newer version.
    pub n_passed_over: usize,
}

impl History {
    /// Reads a history file's bytes. Total: what makes no sense is counted.
    pub fn parse(bytes: &[u8]) -> History {
        let mut history = History::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<HistoryLine>(line) {
                Ok(line) if line.format <= FORMAT => history.lines.push(line),
                Ok(_) | Err(_) => history.n_passed_over += 1,
            }
        }
        history
    }

    /// Those of `lines` that are not there yet, by run and attempt.
    pub fn lacks(&self, lines: Vec<HistoryLine>) -> Vec<HistoryLine> {
        let known: HashSet<_> = self.lines.iter().map(|line| (line.run.as_str(), line.attempt)).collect();
        lines.into_iter().filter(|line| !known.contains(&(line.run.as_str(), line.attempt))).collect()
    }
}

/// Why the history cannot be read or appended to.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file is there, and cannot be read.
    #[error("failed to read the history `{path}`", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Lines could not be appended in full, so none of them is there.
    #[error("failed to append to the history `{path}`; what it holds is whole", path = .path.display())]
    Append {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads the history in `path`; an empty one if there is no such file yet.
///
/// # Errors
///
/// The file is there and cannot be read.
pub fn read(path: &Path) -> Result<History, HistoryError> {
    match fs::read(path) {
        Ok(bytes) => Ok(History::parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(History::default()),
        Err(source) => Err(HistoryError::Read { path: path.to_owned(), source }),
    }
}

/// Appends `lines` to the history in `path`: all of them or none. Makes the file and its folder if they are
/// missing.
///
/// # Errors
///
/// The file cannot be opened, locked or written in full.
pub fn append(path: &Path, lines: &[HistoryLine]) -> Result<(), HistoryError> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line).expect("plain fields always serialise");
        bytes.push(b'\n');
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .and_then(|()| OpenOptions::new().read(true).append(true).create(true).open(path))
        .and_then(|mut file| {
            // Let go when the file is closed.
            flock(&file, FlockOperation::LockExclusive)?;
            append_locked(&mut file, bytes)
        })
        .map_err(|source| HistoryError::Append { path: path.to_owned(), source })
}

fn append_locked(file: &mut File, mut bytes: Vec<u8>) -> io::Result<()> {
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    // A line that was torn stays one line: the next would be lost with it.
    if last != *b"\n" {
        bytes.insert(0, b'\n');
    }
    let written = loop {
        match file.write(&bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => break written,
        }
    };
    let error = match written {
        Ok(n) if n == bytes.len() => return Ok(()),
        Ok(_) => io::Error::from(io::ErrorKind::StorageFull),
        Err(error) => error,
    };
    file.set_len(len)?;
    Err(error)
}
