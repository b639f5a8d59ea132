//! Locks a search against a second process: two would each overwrite the other's trials.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::usage;

/// Name of the lock file in the search's folder. `state.json` cannot be locked: it is replaced after each
/// trial.
const FILE: &str = "lock";

/// Lock on a search's folder while this value lives; the kernel drops it when the process dies, however that
/// happens.
#[derive(Debug)]
pub struct SearchLock {
    _file: File,
}

impl SearchLock {
    /// Locks the search in `dir`; returns an error if another process holds it.
    pub fn take(dir: &Path) -> Result<SearchLock> {
        let path = dir.join(FILE);
        let failed = || format!("failed to lock `{}`", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(failed)?;
        // A file system without locks is accepted, as it is for the event log of a run.
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            let mut holder = String::new();
            let _unknown = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => String::new(),
                process => format!(" (process {process})"),
            };
            return Err(usage(anyhow!(
                "`{}` belongs to a search that is still at work{holder}; wait for its end, or interrupt it and then \
                 --resume",
                dir.display()
            )));
        }
        file.set_len(0).and_then(|()| file.rewind()).with_context(failed)?;
        writeln!(file, "{}", std::process::id()).with_context(failed)?;
        Ok(SearchLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_is_still_at_work_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let held = SearchLock::take(dir.path()).unwrap();
        let error = SearchLock::take(dir.path()).unwrap_err();
        assert!(crate::error::is_users_fault(&error));
        let text = error.to_string();
        let process = format!("(process {})", std::process::id());
        assert!(
            text.contains("still at work") && text.contains(&process) && text.contains("--resume"),
            "{text}"
        );
        drop(held);
        SearchLock::take(dir.path()).unwrap();
    }
}
