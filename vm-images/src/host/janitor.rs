//! Cleans up after this process when it is gone, even by SIGKILL: ends the processes that it had started, and
//! removes its temporary folder.
//!
//! No signal handler runs on SIGKILL, so the cleaner is another process: it holds the read end of
//! a pipe whose write end only we hold, and wakes when the kernel closes ours. Over the same pipe it
//! hears which process groups are alive. It runs in a process group of its own, so that a signal to
//! our group spares it.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::host::tree::remove_tree;

/// A running janitor. Dropping it lets the janitor finish its work and end.
#[derive(Debug)]
pub struct Janitor {
    child: Mutex<Child>,
    pipe: Mutex<Option<ChildStdin>>,
}

/// Process groups that the janitor would end; until this is dropped.
#[derive(Debug)]
pub struct Watched<'a> {
    janitor: &'a Janitor,
    groups: Vec<u32>,
}

impl Janitor {
    /// Starts `program args… folder` as the janitor of `folder`; that program must call [`serve`].
    pub fn start(program: &Path, args: &[&str], folder: &Path) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "must outlive us, which `host` forbids by design")]
        let mut child = Command::new(program)
            .args(args)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take();
        Ok(Janitor { child: Mutex::new(child), pipe: Mutex::new(pipe) })
    }

    /// Says that these process groups live.
    pub fn watch(&self, groups: &[u32]) -> Watched<'_> {
        self.tell('+', groups);
        Watched { janitor: self, groups: groups.to_vec() }
    }

    /// Tells the janitor of `groups`. One that died cannot be told, which is no error: it is only a
    /// precaution.
    fn tell(&self, sign: char, groups: &[u32]) {
        if let Some(pipe) = self.pipe.lock().expect("no panic with the lock").as_mut() {
            for group in groups {
                let _ = pipe.write_all(format!("{sign}{group}\n").as_bytes());
            }
        }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.janitor.tell('-', &self.groups);
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.pipe.lock().expect("no panic with the lock").take());
        let _ = self.child.lock().expect("no panic with the lock").wait();
    }
}

/// The janitor's whole life: listen until the pipe ends, end what is left, remove the folder.
pub fn serve(folder: &Path) -> io::Result<()> {
    // Only folders that the store made are ever removed, whatever the command line says.
    if !folder.join(".alive").is_file() {
        return Err(io::Error::other(format!("`{}` is no temporary folder of the store", folder.display())));
    }
    let mut groups = BTreeSet::new();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let number = line.get(1..).and_then(|digits| digits.parse::<i32>().ok());
        match (line.chars().next(), number) {
            (Some('+'), Some(group)) => drop(groups.insert(group)),
            (Some('-'), Some(group)) => drop(groups.remove(&group)),
            _ => {}
        }
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    // A process that is being killed may still write for a moment.
    for _ in 0..50 {
        if !folder.exists() || remove_tree(folder).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    remove_tree(folder)
}
