//! Writes `events.jsonl`: an event is written before anybody acts on it. Also keeps the record that the
//! events add up to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use protocol::{Event, Record};
use reports::{LiveRecord, RunRecord};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::clock::millis;
use crate::error::usage;

/// First words of the error when an event could not be appended.
pub(crate) const FAILED: &str =
    "failed to append to events.jsonl; what it holds is whole, and the run ends here";

/// The event log of a run.
#[derive(Debug)]
pub struct EventLog {
    started: Instant,
    /// Time on the log's clock when this process began; more than zero for a resumed run.
    before: Duration,
    file: Mutex<Writer>,
    live: Mutex<LiveRecord>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    /// True after a partial line was written: the next one would be appended to it.
    torn: bool,
}

impl EventLog {
    /// Creates the log of a new run, which begins now.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        // The lock is held until the process ends, so that nobody resumes a run that is still active. A file
        // system without locks is accepted.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let file = Mutex::new(Writer { file, torn: false });
        Ok(EventLog { started: Instant::now(), before: Duration::ZERO, file, live: Mutex::default() })
    }

    /// Continues the log of a run that was cut off. A partial last line is removed; whole lines stay.
    pub(crate) fn resume(path: &Path) -> Result<Self> {
        let shown = path.display();
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(path)
            .map_err(|error| usage(anyhow!("cannot resume by `{shown}`: {error}")))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(usage(anyhow!("`{shown}` belongs to a run that is still at work; wait for its end")));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("failed to read `{shown}`"))?;
        let log = reports::record::events::parse_events(&bytes, path).map_err(|error| usage(error.into()))?;
        let n_torn = log.torn.map_or(0, |torn| torn.n_bytes);
        file.set_len((bytes.len() - n_torn) as u64).with_context(|| format!("failed to mend `{shown}`"))?;
        if !bytes[..bytes.len() - n_torn].ends_with(b"\n") {
            file.write_all(b"\n").with_context(|| format!("failed to mend `{shown}`"))?;
        }
        let last_ms = log.records.iter().map(|record| record.at_ms).max().unwrap_or(0);
        let mut live = LiveRecord::default();
        log.records.into_iter().for_each(|record| live.add(record));
        Ok(EventLog {
            started: Instant::now(),
            before: Duration::from_millis(last_ms),
            file: Mutex::new(Writer { file, torn: false }),
            live: Mutex::new(live),
        })
    }

    /// Time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.before + self.started.elapsed()
    }

    /// Appends an event with one write, so that a SIGKILL can tear only the last line.
    pub(crate) fn append(&self, event: Event) -> io::Result<()> {
        let at_ms = millis(self.elapsed());
        let record = Record { at_ms, event };
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        let mut writer = self.file.lock().expect("no panic with the lock");
        if writer.torn {
            return Err(io::Error::other("an earlier event could not be written"));
        }
        let written = writer.file.write_all(&line);
        writer.torn = written.is_err();
        written?;
        // Under the file's lock, so that the record has the same order.
        self.live.lock().expect("no panic with the lock").add(record);
        Ok(())
    }

    /// Calls `at` with the record of all events so far.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&RunRecord) -> T) -> T {
        at(self.live.lock().expect("no panic with the lock").record())
    }

    /// A copy of the record of all events so far.
    pub(crate) fn record(&self) -> RunRecord {
        self.look(RunRecord::clone)
    }
}
