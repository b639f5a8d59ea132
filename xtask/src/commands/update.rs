//! `cargo xtask update`: renews the lock file, and shows the changes.

use anyhow::Result;
use clap::Args;
use harness::session::Session;
use harness::terminal::outln;
use harness::workspace::lock_file;
use vm_images::debian::lock::Lock;
use vm_images::host::progress::Progress;
use vm_images::spec::debian::DebianSpec;

use crate::exit::Exit;

#[derive(Debug, Args)]
pub(crate) struct UpdateOptions {
    /// Branches to pin beside those that are pinned
    #[arg(long = "kernel", value_name = "SPEC", default_values = ["deb:6.1", "deb:6.12"])]
    pub(crate) kernels: Vec<DebianSpec>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

pub(crate) fn run(session: &Session, options: &UpdateOptions) -> Result<Exit> {
    let path = lock_file();
    let old = Lock::read(&path)?;
    let apt = session.apt()?;
    let new = session.images(&apt)?.newest_lock(&options.kernels)?;
    session.terminal.end_step();
    let changes = old.changes(&new);
    for change in &changes {
        outln!("{change}");
    }
    if options.dry_run {
        session.terminal.say(&format!("{} changes, not written (--dry-run)", changes.len()));
    } else {
        new.write(&path)?;
        session.terminal.say(&format!("{} changes written to {}", changes.len(), path.display()));
    }
    Ok(Exit::Passed)
}
