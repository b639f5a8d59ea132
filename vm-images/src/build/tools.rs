//! The tools root: QEMU and the makers of images, run through the root's own dynamic loader.
//!
//! This works for programs that do not re-exec themselves (QEMU, mksquashfs and depmod do not).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::host::{Call, Host};

/// Folders of libraries, relative to the root.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// An unpacked tools root.
#[derive(Clone, Debug)]
pub struct Tools {
    root: PathBuf,
}

impl Tools {
    /// The tools in `root`.
    pub fn new(root: PathBuf) -> Self {
        Tools { root }
    }

    /// Folder of the root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The words that start `program` (`usr/bin/mksquashfs`): to be followed by its arguments.
    pub fn command(&self, program: &str) -> Vec<OsString> {
        let libraries: Vec<_> =
            LIBRARIES.iter().map(|folder| self.root.join(folder).into_os_string()).collect();
        vec![
            self.root.join("usr/lib64/ld-linux-x86-64.so.2").into_os_string(),
            "--library-path".into(),
            libraries.join(":".as_ref()),
            self.root.join(program).into_os_string(),
        ]
    }

    /// A call of `program`.
    pub fn call<'a>(&self, host: &'a Host, program: &str) -> Call<'a> {
        let mut words = self.command(program).into_iter();
        let loader = words.next().expect("a command has a first word");
        host.call(loader).args(words)
    }

    /// Makes a squashfs image of `tree`: uncompressed, because the guest would pay for each read,
    /// owned by root whoever we are, and the same bytes for the same content.
    pub fn squashfs<'a>(&self, host: &'a Host, tree: &Path, image: &Path, leave_out: &[&str]) -> Call<'a> {
        let call = self
            .call(host, "usr/bin/mksquashfs")
            .arg(tree)
            .arg(image)
            .args(["-noappend", "-all-root", "-no-xattrs", "-no-progress", "-quiet"])
            .args(["-noI", "-noD", "-noF", "-noX", "-mkfs-time", "0", "-all-time", "0"]);
        if leave_out.is_empty() { call } else { call.arg("-e").args(leave_out) }
    }
}
