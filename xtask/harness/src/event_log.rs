//! Writes `events.jsonl`: each event is in the kernel's hands before anybody hears of it; and keeps what they come
//! to so far.

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

use crate::error::usage;

/// What goes before the reason why an event could not be appended.
pub(crate) const FAILED: &str =
    "failed to append to events.jsonl; what it holds is whole, and the run ends here";

/// The event log of a run.
#[derive(Debug)]
pub struct EventLog {
    started: Instant,
    /// Time on the log's clock when we began: a log that is resumed goes on where it stopped.
    before: Duration,
    file: Mutex<Writer>,
    live: Mutex<LiveRecord>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    /// A line was cut short: what is appended now would be glued to it.
    torn: bool,
}

impl EventLog {
    /// Creates the log of a new run, which begins now.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        // Held as long as we live: nobody resumes a run that is still at work. A file system without locks will do.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let file = Mutex::new(Writer { file, torn: false });
        Ok(EventLog { started: Instant::now(), before: Duration::ZERO, file, live: Mutex::default() })
    }

    /// Goes on with the log of a run that was cut off. A line that was torn goes; what was whole stays.
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

    /// Appends an event. One write a line, so that a SIGKILL tears nothing but the last line.
    pub(crate) fn append(&self, event: Event) -> io::Result<()> {
        let at_ms = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
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
        // While the file is ours, so that both have the same order.
        self.live.lock().expect("no panic with the lock").add(record);
        Ok(())
    }

    /// Looks at what has happened so far.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&RunRecord) -> T) -> T {
        at(self.live.lock().expect("no panic with the lock").record())
    }

    /// What has happened so far.
    pub(crate) fn record(&self) -> RunRecord {
        self.look(RunRecord::clone)
    }
}
