//! Starting processes, the only place in the agent that does.
//!
//! A child must join a cgroup, lead a session and lose the agent's privileges before it runs
//! foreign code. What would take `unsafe` between `fork` and `exec` is done by a second stage
//! instead: the agent runs its own binary again ([`crate::stage`]). What touches paths that a test
//! may have wedged is done there too, so that the agent itself never waits for them.
//! Deliberately not here: what a launcher prepares ([`crate::process::launch`]).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::OFlags;
use rustix::process::Pid;

use crate::paths;
use crate::stage::Stage;

/// A test's environment, unless the request says otherwise.
pub(crate) const ENVIRONMENT: [(&str, &str); 5] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("TERM", "dumb"),
    ("LANG", "C.UTF-8"),
    ("MD_REGRESS_FILES", paths::FILES),
];

/// A command that is about to run a program of the guest's.
#[expect(clippy::disallowed_methods, reason = "in the guest, the agent is the supervisor")]
pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

/// A command that is about to run the agent's own binary, as a stage, without an environment.
pub(crate) fn stage(stage: Stage) -> Command {
    let mut command = command(paths::SELF);
    command.arg0(stage.process_name()).arg(stage.word()).env_clear();
    command
}

/// Runs a program and returns its standard output; the caller waits for its end.
pub(crate) fn output_of(argv: &[&str]) -> io::Result<String> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let output = command(program)
        .args(arguments)
        .env_clear()
        .envs(ENVIRONMENT)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Starts the process that sends the files matching `patterns` to `port`.
pub(crate) fn collect(attempt: u32, patterns: &[String], max_bytes: u64, port: &OwnedFd) -> io::Result<Pid> {
    let child = stage(Stage::Collect)
        .arg(attempt.to_string())
        .arg(max_bytes.to_string())
        .args(patterns)
        .stdin(Stdio::null())
        .stdout(Stdio::from(port.try_clone()?))
        .spawn()?;
    pid_of(&child)
}

/// Starts the process that samples the processes of `cgroup`; what it sees comes through the pipe.
pub(crate) fn sampler(cgroup: &Path) -> io::Result<(Pid, OwnedFd)> {
    witness(Stage::Sample, cgroup)
}

/// Starts the process that writes down what a hang's report needs; what it sees comes through the pipe. It
/// ends after seconds, whatever becomes of the questions that it asks.
pub(crate) fn diagnosis(cgroup: &Path) -> io::Result<(Pid, OwnedFd)> {
    witness(Stage::Diagnose, cgroup)
}

fn witness(which: Stage, cgroup: &Path) -> io::Result<(Pid, OwnedFd)> {
    let (seen, seen_end) = pipe()?;
    let child = stage(which).arg(cgroup).stdin(Stdio::null()).stdout(Stdio::from(seen_end)).spawn()?;
    Ok((pid_of(&child)?, seen))
}

/// Starts a process that asks one question of a diagnosis; its answer comes through the pipe.
pub(crate) fn question(asking: &mut Command) -> io::Result<(Pid, OwnedFd)> {
    let (answer, answer_end) = pipe()?;
    let errors_end = answer_end.try_clone()?;
    let child = asking
        .env_clear()
        .envs(ENVIRONMENT)
        .stdin(Stdio::null())
        .stdout(Stdio::from(answer_end))
        .stderr(Stdio::from(errors_end))
        .spawn()?;
    Ok((pid_of(&child)?, answer))
}

/// The process id of a child.
pub(crate) fn pid_of(child: &std::process::Child) -> io::Result<Pid> {
    let raw = i32::try_from(child.id()).ok();
    raw.and_then(Pid::from_raw).ok_or_else(|| io::Error::other("child has no process id"))
}

/// A pipe whose reading end, the first, never blocks.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    Ok((reader, writer))
}
