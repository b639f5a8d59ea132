//! A search belongs to one process at a time: two would each write their own trials over the other's.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::usage;

/// The file that is locked, in the search's folder. `state.json` will not do: it is replaced after each trial.
const FILE: &str = "lock";

/// Holds a search as long as it lives; the kernel lets go of it when the process dies, however that is.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

impl Hold {
    /// Takes the search in `dir`; an error if another process has it.
    pub fn take(dir: &Path) -> Result<Hold> {
        let path = dir.join(FILE);
        let failed = || format!("failed to lock `{}`", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(failed)?;
        // As for a run's events: a file system without locks will do.
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
        Ok(Hold { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_is_still_at_work_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let held = Hold::take(dir.path()).unwrap();
        let error = Hold::take(dir.path()).unwrap_err();
        assert!(crate::error::is_users_fault(&error));
        let text = error.to_string();
        let process = format!("(process {})", std::process::id());
        assert!(
            text.contains("still at work") && text.contains(&process) && text.contains("--resume"),
            "{text}"
        );
        drop(held);
        Hold::take(dir.path()).unwrap();
    }
}
