//! Starting processes, the only place in the agent that does.
//!
//! A child must join a cgroup, lead a session and lose the agent's privileges before it runs
//! foreign code. What would take `unsafe` between `fork` and `exec` is done by a second stage
//! instead: the agent runs its own binary again, as `launch` or `collect`. What touches paths
//! that a test may have wedged is done there too, so that the agent itself never waits for them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use protocol::wire::StartTest;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit};

use crate::boot::FILES_DIR;

/// First argument of the stage that becomes a test.
pub(crate) const LAUNCH: &str = "launch";
/// First argument of the process that sends files.
pub(crate) const COLLECT: &str = "collect";

/// The agent's binary. It was deleted with the initramfs, and the kernel keeps it for us.
const SELF: &str = "/proc/self/exe";

/// How large a test's pipe is: a burst need not wait for the agent to be scheduled.
const PIPE_SIZE: usize = 1024 * 1024;

/// What a test's environment holds unless the request says otherwise.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("TERM", "dumb"),
    ("LANG", "C.UTF-8"),
    ("MD_REGRESS_FILES", FILES_DIR),
];

/// A test that is being started.
#[derive(Debug)]
pub(crate) struct Launched {
    /// The launcher, and after its `exec` the test's own process.
    pub(crate) pid: Pid,
    /// Closes when the launcher has become the test; otherwise says `errno what`.
    pub(crate) report: OwnedFd,
    /// The test's output.
    pub(crate) output: OwnedFd,
}

/// Why a request to start a test makes no sense; `None` if it does.
pub(crate) fn objection(test: &StartTest) -> Option<&'static str> {
    let strings = || {
        let env = test.env.iter().flat_map(|(key, value)| [key, value]);
        let lists = test.argv.iter().chain(&test.make_dirs).chain(&test.load_modules);
        lists.chain([&test.cwd]).chain(env)
    };
    if test.argv.first().is_none_or(String::is_empty) {
        Some("argv names no program")
    } else if strings().any(|text| text.contains('\0')) {
        Some("a string holds NUL")
    } else if test.env.keys().any(|key| key.is_empty() || key.contains('=')) {
        Some("the name of a variable is empty or holds `=`")
    } else {
        None
    }
}

#[expect(clippy::disallowed_methods, reason = "in the guest, the agent is the supervisor")]
fn command(program: &str) -> Command {
    Command::new(program)
}

/// Starts a test: its launcher, which joins `cgroup` and becomes the test.
pub(crate) fn launch(test: &StartTest, cgroup: &Path) -> io::Result<Launched> {
    let (output, output_end) = pipe()?;
    let (report, report_end) = pipe()?;
    // Best effort: a smaller pipe only makes a noisy test slower.
    let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE_SIZE);
    let mut env: BTreeMap<&str, &str> = BTreeMap::from(ENVIRONMENT);
    env.extend(test.env.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let child = command(SELF)
        .arg0("md-regress-launch")
        .arg(LAUNCH)
        .arg(cgroup)
        .arg(&test.cwd)
        .arg(test.make_dirs.len().to_string())
        .args(&test.make_dirs)
        .arg(test.load_modules.len().to_string())
        .args(&test.load_modules)
        .args(&test.argv)
        .env_clear()
        .envs(env)
        // Standard input carries the report: that way no descriptor has to be passed by number.
        .stdin(Stdio::from(report_end))
        .stdout(Stdio::from(output_end.try_clone()?))
        .stderr(Stdio::from(output_end))
        .spawn()?;
    Ok(Launched { pid: pid_of(&child)?, report, output })
}

/// Starts the process that sends the files matching `patterns` to `port`.
pub(crate) fn collect(attempt: u32, patterns: &[String], max_bytes: u64, port: &OwnedFd) -> io::Result<Pid> {
    let child = command(SELF)
        .arg0("md-regress-collect")
        .arg(COLLECT)
        .arg(attempt.to_string())
        .arg(max_bytes.to_string())
        .args(patterns)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::from(port.try_clone()?))
        .spawn()?;
    pid_of(&child)
}

fn pid_of(child: &std::process::Child) -> io::Result<Pid> {
    let raw = i32::try_from(child.id()).ok();
    raw.and_then(Pid::from_raw).ok_or_else(|| io::Error::other("child has no process id"))
}

/// A pipe whose reading end, the first, never blocks.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

/// Parses the launcher's report: errno, and what it was doing.
pub(crate) fn parse_report(report: &str) -> Option<(i32, &str)> {
    let (errno, what) = report.trim_end().split_once(' ')?;
    Some((errno.parse().ok()?, what))
}

/// The launcher: prepares itself and becomes the test. Returns only if it can't.
pub(crate) fn launch_main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let report = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3);
    let (error, what) = match become_test(&mut args) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    if let Ok(report) = report {
        let errno = error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error());
        let _ = rustix::io::write(report, format!("{errno} {what}\n").as_bytes());
    }
    ExitCode::from(127)
}

/// A list on the command line: how many, then each.
fn counted(args: &mut impl Iterator<Item = String>) -> Option<Vec<String>> {
    let n: usize = args.next()?.parse().ok()?;
    Some(args.take(n).collect())
}

fn become_test(
    args: &mut impl Iterator<Item = String>,
) -> Result<std::convert::Infallible, (io::Error, String)> {
    let missing = || (io::Error::from(Errno::INVAL), "read the arguments".to_owned());
    let cgroup = args.next().ok_or_else(missing)?;
    let cwd = args.next().ok_or_else(missing)?;
    let dirs = counted(args).ok_or_else(missing)?;
    let modules = counted(args).ok_or_else(missing)?;
    let program = args.next().ok_or_else(missing)?;

    // First of all, so that nothing which follows can escape a StopTest.
    fs::write(Path::new(&cgroup).join("cgroup.procs"), "0").map_err(|e| (e, format!("join {cgroup}")))?;
    // A test is what the kernel should kill when memory ends; the agent is not.
    fs::write("/proc/self/oom_score_adj", "0").map_err(|e| (e, "set oom_score_adj".to_owned()))?;
    let _ = rustix::process::setpriority_process(None, 0);
    let unlimited = Rlimit { current: None, maximum: None };
    let _ = rustix::process::setrlimit(Resource::Core, unlimited);
    // As a Debian login has it; the kernel gives its first process a hard limit of 4096.
    let files = Rlimit { current: Some(1024), maximum: Some(524_288) };
    let _ = rustix::process::setrlimit(Resource::Nofile, files);
    rustix::process::setsid().map_err(|e| (e.into(), "lead a session".to_owned()))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    null.and_then(|null| rustix::stdio::dup2_stdin(null.as_fd()))
        .map_err(|e| (e.into(), "open /dev/null".to_owned()))?;
    for dir in dirs {
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir);
        made.map_err(|e| (e, format!("make directory {dir}")))?;
    }
    for module in modules {
        // A module that is missing or built in is no error: the test says what it lacks.
        let mut modprobe = command("modprobe");
        let _ = modprobe.args(["-q", "--"]).arg(module).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
    std::env::set_current_dir(&cwd).map_err(|e| (e, format!("enter directory {cwd}")))?;
    Err((command(&program).args(args).exec(), format!("execute {program}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::wire::OutputBudget;

    fn request() -> StartTest {
        StartTest {
            attempt: 1,
            argv: vec!["true".into()],
            cwd: "/".into(),
            env: BTreeMap::new(),
            make_dirs: vec![],
            load_modules: vec![],
            output: OutputBudget { burst_bytes: 0, bytes_per_s: 0 },
            grace_ms: 0,
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(objection(&request()), None);
        assert!(objection(&StartTest { argv: vec![], ..request() }).is_some());
        assert!(objection(&StartTest { cwd: "/\0".into(), ..request() }).is_some());
        let env = BTreeMap::from([("A=B".into(), "c".into())]);
        assert!(objection(&StartTest { env, ..request() }).is_some());
    }

    #[test]
    fn reports() {
        assert_eq!(parse_report("2 execute no-such\n"), Some((2, "execute no-such")));
        assert_eq!(parse_report(""), None);
    }
}
