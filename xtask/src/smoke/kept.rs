//! Keeps what a check that failed leaves behind: its runs, with their logs.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use harness::run::folder::{create_folder, default_runs};
use harness::session::Session;

use super::SCRATCH;

/// Begins the name of a folder with the runs of a check that failed.
pub(crate) const PREFIX: &str = "selftest-";

/// Folders of checks that are there.
pub(crate) fn folders(session: &Session) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(session.store.temporary()).into_iter().flatten().flatten();
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SCRATCH));
    entries.map(|entry| entry.path()).filter(named).collect()
}

/// Copies the folders of checks that have come since there were those of `before` to where runs lie; gives
/// the folder that they are in, or nothing if none has come.
pub(crate) fn keep(session: &Session, before: &BTreeSet<PathBuf>) -> Result<Option<PathBuf>> {
    let new: Vec<_> = folders(session).difference(before).cloned().collect();
    if new.is_empty() {
        return Ok(None);
    }
    let to = create_folder(&default_runs(), PREFIX)?;
    let log = session.store.temporary().join("keep.log");
    // Not followed: links in a run's folder lead into it.
    let copy = session.host.call("cp").args(["-r", "--no-dereference"]).args(&new).arg(&to);
    copy.run(&log).with_context(|| format!("failed to keep the check's files in `{}`", to.display()))?;
    Ok(Some(to))
}
