//! Writes `events.jsonl`: each event is in the kernel's hands before anybody hears of it; and keeps what they come
//! to so far.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use protocol::{Event, Record};
use reports::{LiveRecord, RunRecord};

/// What goes before the reason why an event could not be appended.
pub(crate) const FAILED: &str =
    "failed to append to events.jsonl; what it holds is whole, and the run ends here";

/// The event log of a run.
#[derive(Debug)]
pub(crate) struct EventLog {
    started: Instant,
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
        let file = Mutex::new(Writer { file, torn: false });
        Ok(EventLog { started: Instant::now(), file, live: Mutex::default() })
    }

    /// Time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
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
}
