//! Removes this process's temporary folder when the process is gone, even by SIGKILL.
//!
//! No signal handler runs on SIGKILL, so the cleaner is another process: it holds the read end of
//! a pipe whose write end only we hold, and wakes when the kernel closes ours. It runs in a
//! process group of its own, so that what kills our group spares it.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::store::remove_tree;

/// A running janitor. Dropping it lets the janitor finish its work and end.
#[derive(Debug)]
pub struct Janitor {
    child: Child,
}

impl Janitor {
    /// Starts `program args… folder` as the janitor of `folder`; that program must call [`serve`].
    pub fn start(program: &Path, args: &[&str], folder: &Path) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "must outlive us, which `host` forbids by design")]
        let child = Command::new(program)
            .args(args)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Janitor { child })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The janitor's whole life: wait for the end of standard input, remove the folder.
pub fn serve(folder: &Path) -> io::Result<()> {
    // Only folders that the store made are ever removed, whatever the command line says.
    if !folder.join(".alive").is_file() {
        return Err(io::Error::other(format!("`{}` is no temporary folder of the store", folder.display())));
    }
    let mut rest = Vec::new();
    let _ = io::stdin().read_to_end(&mut rest);
    // Children that die with their parent may still be writing for a moment.
    for _ in 0..50 {
        if !folder.exists() || remove_tree(folder).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    remove_tree(folder)
}
