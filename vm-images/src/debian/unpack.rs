//! Unpacks Debian packages into a folder: no maintainer script runs, no root rights are needed.
//!
//! The effects of scripts that our roots need are made where each root is made, each with its reason.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::host::{Host, HostError};

/// Unpacks all `packages` into `root`, two at a time: decompression is what takes the time.
pub(crate) fn unpack(host: &Host, packages: &[PathBuf], root: &Path, log: &Path) -> Result<(), HostError> {
    let is_base_files = |path: &&PathBuf| path.to_string_lossy().contains("-base-files_");
    // base-files has the links /bin, /lib and /sbin, through which all others are unpacked.
    let (first, others): (Vec<_>, Vec<_>) = packages.iter().partition(is_base_files);
    for package in first {
        unpack_one(host, package, root, log)?;
    }
    let queue = Mutex::new(others.into_iter());
    let n_workers = std::thread::available_parallelism().map_or(2, |n| n.get().min(4));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..n_workers)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().expect("no worker panics with the lock").next();
                        match next {
                            Some(package) => unpack_one(host, package, root, log)?,
                            None => return Ok(()),
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })
}

fn unpack_one(host: &Host, package: &Path, root: &Path, log: &Path) -> Result<(), HostError> {
    host.call("dpkg-deb").arg("--extract").arg(package).arg(root).run(log)
}

/// Makes a link in a root, replacing what is there: what update-alternatives would have done.
pub(crate) fn link(root: &Path, target: &str, name: &str) -> io::Result<()> {
    let path = root.join(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(target, path),
    }
}
