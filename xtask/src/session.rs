//! What every command stands on: cancellation by signals, the store with its janitor, the
//! terminal. Made once in `main`, dropped last.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use vm_images::apt::Apt;
use vm_images::checkout::{Checkout, Sources};
use vm_images::host::{Cancel, Host};
use vm_images::images::Images;
use vm_images::janitor::Janitor;
use vm_images::lock::Lock;
use vm_images::mirror::Mirror;
use vm_images::store::Store;

use crate::cli::GlobalOptions;
use crate::terminal::Terminal;

/// Name of the hidden command that [`Janitor`] runs.
pub(crate) const JANITOR_COMMAND: &str = "janitor";

/// One call of `cargo xtask`.
pub(crate) struct Session {
    pub(crate) host: Host,
    pub(crate) store: Store,
    pub(crate) terminal: Arc<Terminal>,
    /// What the user asked for.
    pub(crate) options: GlobalOptions,
    /// Last, so that it cleans up after everything else is gone.
    _janitor: Arc<Janitor>,
}

impl Session {
    /// Opens the store and starts its janitor.
    pub(crate) fn open(cancel: &Cancel, terminal: Arc<Terminal>, options: GlobalOptions) -> Result<Self> {
        let root = match &options.store {
            Some(root) => root.clone(),
            None => Store::default_root()?,
        };
        let store = Store::open(&root)?;
        let program = std::env::current_exe().context("failed to find our own program")?;
        let janitor = Janitor::start(&program, &[JANITOR_COMMAND], store.temporary())
            .context("failed to start the janitor of temporary files")?;
        let janitor = Arc::new(janitor);
        let host =
            Host::new(cancel.clone()).watched_by(Arc::clone(&janitor)).keep_logs(store.root().join("logs"));
        Ok(Session { host, store, terminal, options, _janitor: janitor })
    }

    /// Debian's archives, by the host's mirror or the one that was given.
    pub(crate) fn apt(&self) -> Result<Apt<'_>> {
        let mirror = Mirror::detect(self.options.mirror.as_deref())?;
        Ok(Apt::new(&self.host, &self.store, mirror, &*self.terminal))
    }

    /// The checkouts that a command line names, as they are now.
    pub(crate) fn checkouts(&self, sources: &Sources) -> Result<Vec<Checkout>> {
        Ok(sources.look_at(&self.host, &self.store.temporary().join("git.log"))?)
    }

    /// Images from `apt`, by the lock file of this work tree.
    pub(crate) fn images<'a>(&'a self, apt: &'a Apt<'a>) -> Result<Images<'a>> {
        let lock = Lock::read(&lock_file())?;
        let plants = workspace().join("suites/planted/plants");
        Ok(Images::new(&self.host, &self.store, apt, lock, &*self.terminal)
            .with_plants(plants)
            .trusting_sources(self.options.trust_source))
    }
}

/// Top of the work tree that this program was built from.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The lock file.
pub(crate) fn lock_file() -> PathBuf {
    workspace().join("vm-images/artifacts.lock")
}
