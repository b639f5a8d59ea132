//! Runs programs of the host: each in its own process group, killed when we die or are cancelled, its output
//! kept.
//!
//! The only place outside `xtask/harness/src/machine` that starts processes. It knows no program's meaning.

pub mod janitor;
pub mod progress;
pub mod quick;
pub mod tree;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::host::janitor::Janitor;

/// Set once, when the user or a signal ends the run; read by everything that waits.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks everything that holds a clone of this to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// True once somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// An error, once somebody asked.
    pub fn check(&self) -> Result<(), HostError> {
        if self.is_cancelled() { Err(HostError::Cancelled) } else { Ok(()) }
    }
}

/// Why a program of the host did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The run was cancelled while it ran; it has been killed.
    #[error("interrupted")]
    Cancelled,
    /// It could not be started.
    #[error("failed to start `{program}`: {source}{}", hint(program, source))]
    NotStarted {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// There is no folder to start it from.
    #[error("failed to start a program: {0}")]
    NoFolder(xshell::Error),
    /// It ended with an error.
    #[error("`{command}` failed ({status}){}\n{tail}", named(log.as_deref()))]
    Failed {
        /// Program and arguments, shortened.
        command: String,
        /// Its exit status.
        status: ExitStatus,
        /// File with all its output; `None` for a program of [`quick`], which has no log.
        log: Option<PathBuf>,
        /// The last lines of its output.
        tail: String,
    },
    /// Its log could not be written or read.
    #[error("failed to use log `{}`: {source}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn named(log: Option<&Path>) -> String {
    log.map(|log| format!("; log: {}", log.display())).unwrap_or_default()
}

fn hint(program: &str, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        format!(
            " (md-regress prepares its images with Debian's own tools; on another host use the container of README.md; missing: {program})"
        )
    } else {
        String::new()
    }
}

/// Makes a child die when the thread that spawns it dies, even by SIGKILL of the whole process.
///
/// The parent-death signal is tied to the *spawning thread*: that thread must outlive the child's
/// use, which holds wherever it also waits for the child.
pub fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let arm = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // Had the parent died before the line above, no signal would ever come.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        }
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed: the closure makes two
    // system calls, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(arm);
    }
}

/// Starts a program of the host and waits for it.
#[derive(Clone, Debug)]
pub struct Host {
    cancel: Cancel,
    kept_logs: Option<PathBuf>,
    janitor: Option<Arc<Janitor>>,
}

/// One call of a program.
#[derive(Debug)]
pub struct Call<'a> {
    host: &'a Host,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    without_env: Vec<OsString>,
    dir: Option<PathBuf>,
    stdin: Option<PathBuf>,
    shown_as: Option<String>,
}

impl Host {
    /// A host whose programs end when `cancel` is set.
    pub fn new(cancel: Cancel) -> Self {
        Host { cancel, kept_logs: None, janitor: None }
    }

    /// Tells `janitor` of each process group. It ends the processes that a program started, too, if we die:
    /// the parent-death signal reaches only the program itself.
    pub fn watched_by(mut self, janitor: Arc<Janitor>) -> Self {
        self.janitor = Some(janitor);
        self
    }

    /// Copies the log of each program that fails into `folder`: most logs are temporary.
    pub fn keep_logs(mut self, folder: PathBuf) -> Self {
        self.kept_logs = Some(folder);
        self
    }

    /// The cancellation that its programs obey.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Prepares a call of `program`.
    pub fn call(&self, program: impl AsRef<OsStr>) -> Call<'_> {
        Call {
            host: self,
            program: program.as_ref().to_owned(),
            args: vec![],
            env: vec![],
            without_env: vec![],
            dir: None,
            stdin: None,
            shown_as: None,
        }
    }
}

impl Call<'_> {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Takes a variable of ours out of its environment.
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.without_env.push(name.as_ref().to_owned());
        self
    }

    /// Sets its working directory.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Gives it this file as its standard input, which is empty otherwise.
    pub fn stdin_file(mut self, file: &Path) -> Self {
        self.stdin = Some(file.to_owned());
        self
    }

    /// Sets the words that stand for it in messages, instead of its program and arguments.
    pub fn shown_as(mut self, words: String) -> Self {
        self.shown_as = Some(words);
        self
    }

    /// Runs it to its end, standard output and error both appended to `log`.
    pub fn run(self, log: &Path) -> Result<(), HostError> {
        let file = open_log(log)?;
        self.wait(self.expression().stderr_to_stdout().stdout_file(file), log)
    }

    /// Runs it to its end and gives its standard output; standard error is appended to `log`.
    pub fn read(self, log: &Path) -> Result<String, HostError> {
        Ok(String::from_utf8_lossy(&self.read_bytes(log)?).into_owned())
    }

    /// [`Self::read`], byte for byte: names of files need not be text.
    pub fn read_bytes(self, log: &Path) -> Result<Vec<u8>, HostError> {
        // Into a file and not through a pipe, which a process that outlives the program would hold open.
        let unusable = |source| HostError::Log { path: log.to_owned(), source };
        let mut out = tempfile::tempfile().map_err(unusable)?;
        let stdout = out.try_clone().map_err(unusable)?;
        self.wait(self.expression().stdout_file(stdout).stderr_file(open_log(log)?), log)?;
        let mut bytes = Vec::new();
        io::Seek::rewind(&mut out)
            .and_then(|()| io::Read::read_to_end(&mut out, &mut bytes))
            .map_err(unusable)?;
        Ok(bytes)
    }

    fn expression(&self) -> duct::Expression {
        let expression = duct::cmd(&self.program, &self.args).unchecked();
        let mut expression = match &self.stdin {
            Some(file) => expression.stdin_path(file),
            None => expression.stdin_null(),
        };
        for (name, value) in &self.env {
            expression = expression.env(name, value);
        }
        // Of duct's settings of one variable, the first counts: a PATH that the caller names.
        expression = expression.env("PATH", search_path());
        for name in &self.without_env {
            expression = expression.env_remove(name);
        }
        if let Some(dir) = &self.dir {
            expression = expression.dir(dir);
        }
        expression.before_spawn(|command| {
            command.process_group(0);
            die_with_parent(command);
            Ok(())
        })
    }

    /// Waits for its end.
    fn wait(&self, expression: duct::Expression, log: &Path) -> Result<(), HostError> {
        self.host.cancel.check()?;
        let handle = expression.start().map_err(|source| HostError::NotStarted {
            program: self.program.to_string_lossy().into_owned(),
            source,
        })?;
        let _watched = self.host.janitor.as_ref().map(|janitor| janitor.watch(&handle.pids()));
        let unreadable = |source| HostError::Log { path: log.to_owned(), source };
        while handle.wait_timeout(Duration::from_millis(50)).map_err(unreadable)?.is_none() {
            if self.host.cancel.is_cancelled() {
                // The whole group: `Handle::kill` would spare grandchildren.
                for pid in handle.pids() {
                    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                        let _ = kill_process_group(pid, Signal::KILL);
                    }
                }
                let _ = handle.kill();
                return Err(HostError::Cancelled);
            }
        }
        let output = handle.into_output().map_err(unreadable)?;
        if output.status.success() {
            return Ok(());
        }
        // A signal of the terminal may reach the child before our own handler has run.
        self.host.cancel.check()?;
        let tail = tail_of(&fs::read(log).unwrap_or_default());
        let log = Some(self.keep(log));
        Err(HostError::Failed { command: self.shown(), status: output.status, log, tail })
    }

    /// A path at which the log can still be read later: in the folder for kept logs, if it could be copied
    /// there.
    fn keep(&self, log: &Path) -> PathBuf {
        let Some(folder) = &self.host.kept_logs else { return log.to_owned() };
        let shown = self.shown();
        let first = shown.split(' ').next().unwrap_or_default();
        let program = Path::new(first).file_name().unwrap_or_default().to_string_lossy();
        let kept = folder.join(format!("{program}-{}.log", std::process::id()));
        match fs::create_dir_all(folder).and_then(|()| fs::copy(log, &kept)) {
            Ok(_) => kept,
            Err(_) => log.to_owned(),
        }
    }

    fn shown(&self) -> String {
        if let Some(words) = &self.shown_as {
            return words.clone();
        }
        let words: Vec<_> =
            std::iter::once(&self.program).chain(&self.args).map(|word| word.to_string_lossy()).collect();
        shortened(words.join(" "))
    }
}

/// The folders that programs are looked for in. An ordinary user's PATH lacks what we call: chroot,
/// unshare's mount, ldconfig.
fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

fn shortened(command: String) -> String {
    match command.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command,
    }
}

fn open_log(path: &Path) -> Result<File, HostError> {
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|source| HostError::Log { path: path.to_owned(), source })
}

fn tail_of(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].iter().map(|line| format!("  | {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_failing_program_shows_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let host = Host::new(Cancel::default());
        let error =
            host.call("sh").args(["-c", "echo before; echo broken >&2; exit 3"]).run(&log).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("broken") && text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn what_outlives_a_program_does_not_hold_its_output() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(Cancel::default());
        let started = Instant::now();
        let script = "sleep 20 & echo $!";
        let said = host.call("sh").args(["-c", script]).read(&dir.path().join("log")).unwrap();
        let took = started.elapsed();
        let pid: i32 = said.trim().parse().unwrap();
        let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        assert!(took < Duration::from_secs(15), "{took:?}");
    }

    #[test]
    fn a_path_that_is_named_is_the_one_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(Cancel::default());
        let call = host.call("/bin/sh").env("PATH", "/named").args(["-c", "echo $PATH"]);
        assert_eq!(call.read(&dir.path().join("log")).unwrap(), "/named\n");
    }

    #[test]
    fn a_missing_program_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(Cancel::default());
        let error = host.call("no-such-program-here").run(&dir.path().join("log")).unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"), "{error}");
    }

    #[test]
    fn cancellation_ends_grandchildren_too() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let cancel = Cancel::default();
        let host = Host::new(cancel.clone());
        let script = format!("sleep 1000 & echo $! >{}; wait", pid_file.display());
        let started = Instant::now();
        let waiter = std::thread::spawn({
            let log = dir.path().join("log");
            move || host.call("sh").args(["-c", &script]).run(&log)
        });
        while fs::read_to_string(&pid_file).map_or(true, |text| text.trim().is_empty()) {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(10));
        }
        cancel.cancel();
        assert!(matches!(waiter.join().unwrap(), Err(HostError::Cancelled)));
        let pid: i32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        while !is_gone(pid) {
            assert!(started.elapsed() < Duration::from_secs(20), "grandchild {pid} survived");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Gone, or a zombie that only init has still to reap.
    fn is_gone(pid: i32) -> bool {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
            Err(_) => true,
        }
    }
}
