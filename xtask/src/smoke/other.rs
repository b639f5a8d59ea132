//! Another `xtask`, started as a user would start it, for checks of what it says and leaves.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use vm_images::host::die_with_parent;

use super::Scratch;
use harness::session::Session;

/// Without the user's own defaults: a check is the same for everybody.
pub(super) fn neutral(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MD_REGRESS_"))
    {
        command.env_remove(name);
    }
    command.env("MD_REGRESS_CONFIG", "/dev/null");
    // What a check builds is ours.
    command.env("MD_REGRESS_TRUST_SOURCE", "true");
    // Nor does it count as something that the user ran.
    command.env("MD_REGRESS_HISTORY", "/dev/null");
}

/// How to start it.
pub(super) struct Other {
    /// Words in front of it, such as `unshare --mount`.
    wrapper: Vec<OsString>,
    store: PathBuf,
    env: Vec<(String, String)>,
}

/// What came of one that ended by itself.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Other {
    /// With the same store as ours.
    pub(super) fn new(session: &Session) -> Self {
        Other { wrapper: vec![], store: session.store.root().to_owned(), env: vec![] }
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
    ) -> Result<Started> {
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
        // Were we killed ourselves, it would go on for minutes.
        die_with_parent(&mut command);
        let child = command.spawn().context("failed to start another xtask")?;
        Ok(Started { child, folder })
    }

    /// Runs it to its end.
    pub(super) fn run<A: AsRef<OsStr>>(
        &self,
        out: &Scratch,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Ended> {
        self.start(out, args)?.wait()
    }
}

/// One that runs; killed when it is dropped.
pub(super) struct Started {
    pub(super) child: Child,
    folder: PathBuf,
}

impl Started {
    pub(super) fn wait(mut self) -> Result<Ended> {
        let status = self.child.wait().context("failed to wait for another xtask")?;
        Ok(Ended { status, stdout: self.said("stdout"), stderr: self.said("stderr") })
    }

    /// What it has said so far on `stdout` or `stderr`.
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

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// It must have ended with this code and said all of these texts on standard error.
    pub(super) fn expect(&self, code: i32, texts: &[&str]) -> Result<()> {
        ensure!(self.status.code() == Some(code), "ended with {}, not {code}: {}", self.status, self.stderr);
        for text in texts {
            ensure!(self.stderr.contains(text), "`{text}` is not said: {}", self.stderr);
        }
        Ok(())
    }
}
