//! Resources of every command: cancellation by signals, the store with its janitor, the terminal. Made once
//! in `main`, dropped last.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use vm_images::build::checkout::{Checkout, Sources};
use vm_images::build::project::Project;
use vm_images::debian::apt::Apt;
use vm_images::debian::lock::Lock;
use vm_images::debian::mirror::Mirror;
use vm_images::host::janitor::Janitor;
use vm_images::host::{Cancel, Host};
use vm_images::images::Images;
use vm_images::store::Store;

use crate::terminal::Terminal;
use crate::workspace::{lock_file, workspace};

/// Name of the hidden command that runs [`Janitor`].
pub const JANITOR_COMMAND: &str = "janitor";

/// Options that every command has.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Base URL of the Debian archive; `None` for the host's own mirror.
    pub mirror: Option<String>,
    /// Folder of the store; `None` for [`Store::default_root`].
    pub store: Option<PathBuf>,
    /// `private` for the QEMU of the tools root, or a program; `None` for the host's if it is new enough.
    pub qemu: Option<String>,
    /// Build a user's sources even where no sandbox is available for the programs that they run.
    pub trust_source: bool,
    /// A guest agent that was built before; `None` to build it.
    pub agent: Option<PathBuf>,
}

/// One call of `cargo xtask`.
pub struct Session {
    /// Starts and ends programs.
    pub host: Host,
    /// Store of images.
    pub store: Store,
    /// Terminal for progress.
    pub terminal: Arc<Terminal>,
    /// Options of this call.
    pub options: Options,
    /// Declared last, so that it is dropped last and cleans up after everything else.
    _janitor: Arc<Janitor>,
}

impl Session {
    /// Opens the store and starts its janitor.
    pub fn open(cancel: &Cancel, terminal: Arc<Terminal>, options: Options) -> Result<Self> {
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

    /// Debian's archives, from the chosen mirror or the host's.
    pub fn apt(&self) -> Result<Apt<'_>> {
        let mirror = Mirror::detect(self.options.mirror.as_deref())?;
        Ok(Apt::new(&self.host, &self.store, mirror, &*self.terminal))
    }

    /// The checkouts of user's sources that a command line names, in their present state, and the source
    /// packages that it names, unpacked.
    pub fn checkouts(&self, sources: &Sources) -> Result<Vec<Checkout>> {
        let log = self.store.temporary().join("git.log");
        let mut checkouts = sources.look_at(&self.host, &log)?;
        if let Some(wanted) = &sources.mdadm_version {
            let apt = self.apt()?;
            let (dir, version) = self.images(&apt)?.unpacked_source(Project::Mdadm, wanted)?;
            let unpacked = Checkout::look_at(&self.host, Project::Mdadm, &dir, &log)?;
            checkouts.push(unpacked.of_package(version));
        }
        Ok(checkouts)
    }

    /// Images made of packages from `apt`, as pinned by the lock file of this work tree.
    pub fn images<'a>(&'a self, apt: &'a Apt<'a>) -> Result<Images<'a>> {
        let lock = Lock::read(&lock_file())?;
        let plants = workspace().join("suites/planted/plants");
        Ok(Images::new(&self.host, &self.store, apt, lock, &*self.terminal)
            .with_plants(plants)
            .trusting_sources(self.options.trust_source))
    }
}
