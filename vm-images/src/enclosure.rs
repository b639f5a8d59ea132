//! Runs programs inside a root of ours (compilers, LVM2's build): in namespaces of their own, with
//! user namespaces where we are not root.
//!
//! Programs that re-exec themselves (gcc) cannot be run through the root's dynamic loader as QEMU
//! can, so they need a real change of root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::{Host, HostError};
use crate::store::remove_tree;

/// Where the working folder is seen from inside.
pub const INSIDE: &str = "/mnt";

/// What lets an ordinary user change the root.
pub const ALLOW_NAMESPACES: &str = "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or on Ubuntu \
    kernel.apparmor_restrict_unprivileged_userns=0)";

/// How this host lets us change the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Mount and pid namespaces, as root.
    Namespaces,
    /// The same within a user namespace that maps us to root.
    UserNamespaces,
    /// Plain chroot as root with device nodes of our own: a container that forbids namespaces.
    Chroot,
}

/// A root that programs can be run in.
#[derive(Debug)]
pub struct Enclosure<'a> {
    host: &'a Host,
    way: Way,
    root: PathBuf,
    shared: bool,
}

/// Why a root cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnclosureError {
    /// The program inside failed, or was interrupted.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No way works.
    #[error(
        "this host lets no ordinary user change the root, which building LVM2 and mdadm needs \
         (tried: {tried}); {ALLOW_NAMESPACES}, or run as root, or in the container of README.md"
    )]
    Forbidden {
        /// What each way said.
        tried: String,
    },
    /// The root could not be prepared.
    #[error("failed to prepare `{}`: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl<'a> Enclosure<'a> {
    /// Finds, by trying for real, how `root` can be entered. `work` is a folder for the try. A root that
    /// is `shared` is never written to; one that is not may be changed by what runs in it.
    pub fn new(
        host: &'a Host,
        root: &Path,
        shared: bool,
        work: &Path,
        log: &Path,
    ) -> Result<Self, EnclosureError> {
        let is_root = rustix::process::geteuid().is_root();
        let ways: &[Way] = if is_root { &[Way::Namespaces, Way::Chroot] } else { &[Way::UserNamespaces] };
        let mut tried = Vec::new();
        for &way in ways {
            let enclosure = Enclosure { host, way, root: root.to_owned(), shared };
            match enclosure.run(work, &["/usr/bin/true"], log) {
                Ok(()) => return Ok(enclosure),
                Err(error @ EnclosureError::Host(HostError::Cancelled)) => return Err(error),
                Err(error) => tried.push(format!("{way:?}: {error}")),
            }
        }
        Err(EnclosureError::Forbidden { tried: tried.join("; ") })
    }

    /// Runs `argv` inside, with `work` at [`INSIDE`], output to `log`. Everything that it started
    /// ends with it.
    pub fn run(&self, work: &Path, argv: &[&str], log: &Path) -> Result<(), EnclosureError> {
        match self.way {
            Way::Namespaces => self.unshared(&[], work, argv, log),
            Way::UserNamespaces => self.unshared(&["--user", "--map-root-user"], work, argv, log),
            Way::Chroot => self.chrooted(work, argv, log),
        }
    }

    fn unshared(&self, more: &[&str], work: &Path, argv: &[&str], log: &Path) -> Result<(), EnclosureError> {
        // The mounts live in the namespace and go with it; nothing is left in the root.
        let script = "root=$1 work=$2; shift 2; mount --rbind /dev \"$root/dev\" && \
                      mount --bind \"$work\" \"$root/mnt\" && exec chroot \"$root\" \"$@\"";
        let call = self.host.call("unshare").args(["--mount", "--pid", "--fork", "--kill-child"]).args(more);
        Ok(call.args(["sh", "-c", script, "sh"]).arg(&self.root).arg(work).args(clean(argv)).run(log)?)
    }

    /// Without mounts, the working folder is moved into the root and back again; into a copy of it (of
    /// hard links: quick) if the root is shared.
    fn chrooted(&self, work: &Path, argv: &[&str], log: &Path) -> Result<(), EnclosureError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| EnclosureError::Io { path, source }
        };
        let mut root = self.root.clone();
        if self.shared {
            let mut copy = work.as_os_str().to_owned();
            copy.push(".root");
            root = PathBuf::from(copy);
            self.host.call("cp").arg("-al").arg(&self.root).arg(&root).run(log)?;
        }
        make_device_nodes(&root)?;
        let inside = root.join("mnt");
        fs::remove_dir(&inside).map_err(at(&inside))?;
        fs::rename(work, &inside).map_err(at(&inside))?;
        let result = self.host.call("chroot").arg(&root).args(clean(argv)).run(log);
        fs::rename(&inside, work).map_err(at(work))?;
        if self.shared {
            remove_tree(&root).map_err(at(&root))?;
        } else {
            fs::create_dir(&inside).map_err(at(&inside))?;
        }
        Ok(result?)
    }
}

/// The same environment whoever calls.
fn clean<'a>(argv: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin", "HOME=/", "LC_ALL=C.UTF-8"];
    all.extend(argv);
    all
}

/// The devices that builds use.
fn make_device_nodes(root: &Path) -> Result<(), EnclosureError> {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    for (name, minor) in [("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)] {
        let path = root.join("dev").join(name);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, minor))
            .map_err(|error| EnclosureError::Io { path, source: error.into() })?;
    }
    Ok(())
}
