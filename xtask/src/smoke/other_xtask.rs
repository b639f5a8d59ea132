//! An `xtask` in a process of its own, started as a user would, for checks of its output and its effects.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use harness::session::Session;
use rustix::process::{Pid, Signal, kill_process};
use vm_images::host::die_with_parent;

use super::Scratch;
use crate::options::AGENT_VARIABLE;

/// Removes the user's own defaults, so that a check is the same for everybody.
pub(super) fn neutral(command: &mut Command) {
    let ours = |name: &OsStr| name.to_string_lossy().starts_with("MD_REGRESS_") && name != AGENT_VARIABLE;
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env("MD_REGRESS_CONFIG", "/dev/null");
    // Checks build only our own sources.
    command.env("MD_REGRESS_TRUST_SOURCE", "true");
    // Checks are no attempts of the user's, so they stay out of the history.
    command.env("MD_REGRESS_HISTORY", "/dev/null");
}

/// How to start the process.
pub(super) struct OtherXtask {
    /// Arguments before the program, such as `unshare --mount`.
    wrapper: Vec<OsString>,
    store: PathBuf,
    env: Vec<(String, String)>,
}

/// Exit status and output of a process that ended by itself.
pub(super) struct FinishedXtask {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl OtherXtask {
    /// With the same store as this process.
    pub(super) fn new(session: &Session) -> Self {
        OtherXtask { wrapper: vec![], store: session.store.root().to_owned(), env: vec![] }
    }

    pub(super) fn store(mut self, store: &Path) -> Self {
        store.clone_into(&mut self.store);
        self
    }

    pub(super) fn wrapped(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(OsString::from).collect();
        self
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it, with its output in files of `out`.
    pub(super) fn start<A: AsRef<OsStr>>(
        &self,
        out: &Scratch,
        args: impl IntoIterator<Item = A>,
    ) -> Result<RunningXtask> {
        let program = std::env::current_exe()?;
        let mut words = self.wrapper.iter().map(OsString::as_os_str).chain([program.as_os_str()]);
        let first = words.next().context("a program is there")?;
        let folder = tempfile::Builder::new().prefix("said-").tempdir_in(&out.0)?.keep();
        let file = |name: &str| fs::File::create(folder.join(name));
        #[expect(clippy::disallowed_methods, reason = "started as a user would, without our help")]
        let mut command = Command::new(first);
        command.args(words).arg("--store").arg(&self.store).args(args);
        neutral(&mut command);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(file("stdout")?).stderr(file("stderr")?);
        // Otherwise it would go on for minutes after this process was killed.
        die_with_parent(&mut command);
        let child = command.spawn().context("failed to start another xtask")?;
        Ok(RunningXtask { child, folder })
    }

    /// Runs it to its end.
    pub(super) fn run<A: AsRef<OsStr>>(
        &self,
        out: &Scratch,
        args: impl IntoIterator<Item = A>,
    ) -> Result<FinishedXtask> {
        self.start(out, args)?.wait()
    }
}

/// A running process; killed when dropped.
pub(super) struct RunningXtask {
    pub(super) child: Child,
    folder: PathBuf,
}

impl RunningXtask {
    pub(super) fn wait(mut self) -> Result<FinishedXtask> {
        let status = self.child.wait().context("failed to wait for another xtask")?;
        Ok(FinishedXtask { status, stdout: self.said("stdout"), stderr: self.said("stderr") })
    }

    /// Output on `stdout` or `stderr` so far.
    pub(super) fn said(&self, stream: &str) -> String {
        let bytes = fs::read(self.folder.join(stream)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(super) fn pid(&self) -> Result<Pid> {
        Pid::from_raw(i32::try_from(self.child.id())?).context("a child has a process id")
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).context("failed to signal another xtask")
    }
}

impl Drop for RunningXtask {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl FinishedXtask {
    /// Checks the exit code, and that standard error contains all of these texts.
    pub(super) fn expect(&self, code: i32, texts: &[&str]) -> Result<()> {
        ensure!(self.status.code() == Some(code), "ended with {}, not {code}: {}", self.status, self.stderr);
        for text in texts {
            ensure!(self.stderr.contains(text), "`{text}` is not said: {}", self.stderr);
        }
        Ok(())
    }
}
