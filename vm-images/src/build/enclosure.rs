//! Runs programs inside a root of ours (compilers, LVM2's build) without any rights on the host: the code
//! that they build is often a stranger's, and so are its makefiles.
//!
//! Programs that re-exec themselves (gcc) cannot be run through the root's dynamic loader as QEMU can, so
//! they need a real change of root. This file decides in which way, and whether that way is safe enough for
//! the code in question; [`crate::build::enclosed`] does it, and says what a program finds inside. The root
//! is never written to. The working folder and what is built in it may belong to a user without any rights,
//! until [`crate::build::handover`] takes it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

pub use crate::build::enclosed::served;
use crate::build::enclosed::{Enclosed, Way, make_device_nodes};
use crate::build::handover::unshare;
use crate::build::ids::powerless_id;
use crate::host::tree::remove_tree;
use crate::host::{Host, HostError};

/// Advice by which an ordinary user may change the root.
pub const ALLOW_NAMESPACES: &str = "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or on Ubuntu \
    kernel.apparmor_restrict_unprivileged_userns=0)";
/// Advice by which root in a container may make namespaces.
pub const ALLOW_IN_CONTAINER: &str = "let the container make namespaces (docker and podman: --cap-add SYS_ADMIN --security-opt seccomp=unconfined \
     --security-opt apparmor=unconfined)";

/// Whose code runs inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Code of Debian's, whose signature was checked; ours; or code that the user says to trust.
    Trusted,
    /// Anybody's code: a tree, a commit, a series.
    Stranger,
}

/// A root that programs can be run in.
#[derive(Debug)]
pub struct Enclosure<'a> {
    host: &'a Host,
    way: Way,
    /// User and group of the programs on the host.
    id: u32,
    root: PathBuf,
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
        /// The error of each way.
        tried: String,
    },
    /// Only a way works that is not safe enough for a stranger's code.
    #[error(
        "this host forbids namespaces, without which what a source runs while it is built reaches the network \
         (tried: {tried}); {ALLOW_IN_CONTAINER}, or if you know who wrote that source, say --trust-source"
    )]
    Exposed {
        /// The errors of the better ways.
        tried: String,
    },
    /// The root or the working folder could not be prepared.
    #[error("failed to prepare `{}`: {source}", path.display())]
    Io {
        /// The file that could not be prepared.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The ways to try, best first, each with the user that the program then runs as.
fn ways(is_root: bool, powerless: Option<u32>) -> Vec<(Way, u32)> {
    match (is_root, powerless) {
        (true, Some(id)) => vec![(Way::Root, id), (Way::Chroot, id)],
        // Root of a user namespace that has no other users is an ordinary user to the host.
        (true, None) | (false, _) => vec![(Way::User, 0)],
    }
}

/// Whether programs of this trust may run in a way.
fn will_do(way: Way, trust: Trust) -> bool {
    match (way, trust) {
        (Way::Root | Way::User, Trust::Trusted | Trust::Stranger) | (Way::Chroot, Trust::Trusted) => true,
        (Way::Chroot, Trust::Stranger) => false,
    }
}

/// The means by which this host lets programs be enclosed, found out beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Possible {
    /// Namespaces.
    Namespaces,
    /// No namespaces, so trusted sources only; and why.
    TrustedOnly(String),
    /// Not at all, and why.
    Nothing(String),
}

fn powerless() -> Option<u32> {
    let map = |file: &str| fs::read_to_string(Path::new("/proc/self").join(file)).unwrap_or_default();
    powerless_id(&map("uid_map"), &map("gid_map"))
}

impl<'a> Enclosure<'a> {
    /// Finds, by trying each way, how `root` can be entered to run code of `trust`. `work` is a folder for
    /// the try.
    pub fn new(
        host: &'a Host,
        root: &Path,
        work: &Path,
        log: &Path,
        trust: Trust,
    ) -> Result<Self, EnclosureError> {
        let mut tried = Vec::new();
        for (way, id) in ways(rustix::process::geteuid().is_root(), powerless()) {
            let enclosure = Enclosure { host, way, id, root: root.to_owned() };
            if !will_do(way, trust) {
                return Err(EnclosureError::Exposed { tried: tried.join("; ") });
            }
            // The powerless user must get in, whatever our umask.
            if way != Way::User {
                lchown(work, Some(id), Some(id))
                    .map_err(|source| EnclosureError::Io { path: work.to_owned(), source })?;
            }
            match enclosure.run(work, &[], &["/usr/bin/true"], log) {
                Ok(()) => return Ok(enclosure),
                Err(error @ EnclosureError::Host(HostError::Cancelled)) => return Err(error),
                Err(error) => tried.push(format!("{way:?}: {}", why(&error))),
            }
        }
        Err(EnclosureError::Forbidden { tried: tried.join("; ") })
    }

    /// Finds out what this host allows, by trying in an empty root below `scratch`.
    pub fn possible(host: &Host, scratch: &Path, log: &Path) -> Possible {
        let (root, work) = (scratch.join("root"), scratch.join("work"));
        let folders = ["dev", "tmp", "mnt"].map(|name| root.join(name)).into_iter().chain([work.clone()]);
        for folder in folders {
            if let Err(error) = fs::create_dir_all(&folder) {
                return Possible::Nothing(error.to_string());
            }
        }
        let mut tried = Vec::new();
        for (way, id) in ways(rustix::process::geteuid().is_root(), powerless()) {
            let enclosure = Enclosure { host, way, id, root: root.clone() };
            // The root is empty: a way works if it gets as far as not finding the program.
            let said = match enclosure.run(&work, &[], &["/none"], log) {
                Ok(()) => String::new(),
                Err(error) => why(&error),
            };
            match (way, said.contains("failed to start `/none`")) {
                (Way::Root | Way::User, true) => return Possible::Namespaces,
                (Way::Chroot, true) => return Possible::TrustedOnly(tried.join("; ")),
                (_, false) => tried.push(format!("{way:?}: {said}")),
            }
        }
        Possible::Nothing(tried.join("; "))
    }

    /// Lets the programs inside write to `work` and everything in it, but for the folders `sealed` below it.
    pub fn give(&self, work: &Path, sealed: &[&str]) -> Result<(), EnclosureError> {
        match self.way {
            Way::User => Ok(()),
            Way::Root | Way::Chroot => {
                give_to(self.id, work, sealed).map_err(|(path, source)| EnclosureError::Io { path, source })
            }
        }
    }

    /// Runs `argv` inside, with `work` at `/mnt` and its output in `log`. The program can write only to
    /// `/tmp`, which goes when it ends, and to what it was given ([`Self::give`]), but not to the folders
    /// `sealed` in `work`. Everything that it started ends with it.
    pub fn run(&self, work: &Path, sealed: &[&str], argv: &[&str], log: &Path) -> Result<(), EnclosureError> {
        let result = match self.way {
            Way::Root | Way::User => self.start(&self.root, work, sealed, argv, log),
            Way::Chroot => self.chrooted(work, sealed, argv, log),
        };
        // The program had the log open; where it runs as our user, it could have made the file executable.
        let _ = fs::set_permissions(log, fs::Permissions::from_mode(0o644));
        result
    }

    fn start(
        &self,
        root: &Path,
        work: &Path,
        sealed: &[&str],
        argv: &[&str],
        log: &Path,
    ) -> Result<(), EnclosureError> {
        let enclosed = Enclosed {
            way: self.way,
            id: self.id,
            root: root.to_owned(),
            work: work.to_owned(),
            sealed: sealed.iter().map(PathBuf::from).collect(),
            argv: argv.iter().map(OsString::from).collect(),
        };
        // This program, even if its file was replaced meanwhile.
        let call = self.host.call("/proc/self/exe").args(enclosed.words());
        Ok(call.shown_as(argv.join(" ")).run(log)?)
    }

    /// Runs `argv` without mounts: the working folder is moved into a copy of the root (made of hard links,
    /// so quickly), and back again. The copy's files belong to root, as whom the programs inside do not run.
    fn chrooted(
        &self,
        work: &Path,
        sealed: &[&str],
        argv: &[&str],
        log: &Path,
    ) -> Result<(), EnclosureError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| EnclosureError::Io { path, source }
        };
        let mut copy = work.as_os_str().to_owned();
        copy.push(".root");
        let root = PathBuf::from(copy);
        self.host.call("cp").arg("-al").arg(&self.root).arg(&root).run(log)?;
        unshare_writable_files(&root).map_err(|(path, source)| EnclosureError::Io { path, source })?;
        make_device_nodes(&root.join("dev")).map_err(|(path, source)| EnclosureError::Io { path, source })?;
        let temporary = root.join("tmp");
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777)).map_err(at(&temporary))?;
        let inside = root.join("mnt");
        fs::remove_dir(&inside).map_err(at(&inside))?;
        fs::rename(work, &inside).map_err(at(&inside))?;
        let result = self.start(&root, work, sealed, argv, log);
        fs::rename(&inside, work).map_err(at(work))?;
        remove_tree(&root).map_err(at(&root))?;
        result
    }
}

fn why(error: &EnclosureError) -> String {
    let text = error.to_string();
    // The program's own words are quoted below its command. The last ones count: earlier tries wrote to the
    // same log.
    let mut lines = text.lines().rev();
    let said = lines.find_map(|line| line.trim_start_matches([' ', '|']).strip_prefix("enclosure: "));
    said.or(text.lines().next()).unwrap_or_default().to_owned()
}

/// Replaces the hard links that anybody may write to by copies.
fn unshare_writable_files(root: &Path) -> Result<(), (PathBuf, io::Error)> {
    for entry in walkdir::WalkDir::new(root).into_iter().flatten() {
        let at = |error| (entry.path().to_owned(), error);
        let data = entry.metadata().map_err(|error| at(error.into()))?;
        if data.is_file() && data.mode() & 0o002 != 0 {
            unshare(entry.path()).map_err(at)?;
        }
    }
    Ok(())
}

/// Gives everything in `dir` to the user and group `id`, but for the folders `sealed`. Links are not
/// followed.
fn give_to(id: u32, dir: &Path, sealed: &[&str]) -> Result<(), (PathBuf, io::Error)> {
    let is_sealed = |path: &Path| sealed.iter().any(|name| path == dir.join(name));
    let walk = walkdir::WalkDir::new(dir).into_iter().filter_entry(|entry| !is_sealed(entry.path()));
    for entry in walk {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(dir).to_owned();
            (path, error.into())
        })?;
        let at = |error| (entry.path().to_owned(), error);
        let data = entry.metadata().map_err(|error| at(error.into()))?;
        if data.uid() != id || data.gid() != id {
            lchown(entry.path(), Some(id), Some(id)).map_err(at)?;
        }
    }
    // The sealed folders stay ours, and must be readable whatever our umask.
    for entry in sealed.iter().flat_map(|name| walkdir::WalkDir::new(dir.join(name)).into_iter().flatten()) {
        let at = |error| (entry.path().to_owned(), error);
        if entry.file_type().is_dir() {
            let mode = entry.metadata().map_err(|error| at(error.into()))?.mode();
            if mode & 0o055 != 0o055 {
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode & 0o777 | 0o055))
                    .map_err(at)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_need_namespaces() {
        assert_eq!(ways(true, Some(9)), [(Way::Root, 9), (Way::Chroot, 9)]);
        assert_eq!(ways(true, None), [(Way::User, 0)], "root has no rights where it is the only user");
        assert_eq!(ways(false, Some(9)), [(Way::User, 0)]);
        for way in [Way::Root, Way::User] {
            assert!(will_do(way, Trust::Stranger) && will_do(way, Trust::Trusted));
        }
        assert!(will_do(Way::Chroot, Trust::Trusted) && !will_do(Way::Chroot, Trust::Stranger));
    }
}
