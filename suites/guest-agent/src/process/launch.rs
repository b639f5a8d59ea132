//! The launcher: the preparations in the guest before a program runs, and how the agent asks for them.
//!
//! [`launch`] runs in the agent, [`launch_main`] in the stage that becomes the program: it joins a cgroup,
//! takes the place in a session and the limits of a login, loads modules, waits for disks. Deliberately not
//! here: how a process is started ([`spawn`]).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use protocol::program::Program;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit};

use crate::process::modules;
use crate::process::report::Reporter;
use crate::process::spawn::{self, pipe};
use crate::serial::find_disks;
use crate::stage::Stage;

/// How large a test's pipe is: a burst need not wait for the agent to be scheduled.
const PIPE_SIZE: usize = 1024 * 1024;

/// A program that is being started.
#[derive(Debug)]
pub(crate) struct Launched {
    /// The launcher, and after its `exec` the program's own process.
    pub(crate) pid: Pid,
    /// The pipe that a [`ReportReader`](crate::process::report::ReportReader) reads.
    pub(crate) report: OwnedFd,
}

/// Why a request to run something makes no sense; `None` if it does.
pub(crate) fn objection(program: &Program) -> Option<&'static str> {
    let strings = || {
        let env = program.env.iter().flat_map(|(key, value)| [key, value]);
        let lists = program.argv.iter().chain(&program.make_dirs).chain(&program.load_modules);
        let replaced = program.replaced.iter().flat_map(|replaced| {
            let files = replaced.modules.iter().flat_map(|file| [&file.name, &file.path, &file.build_id]);
            files.chain([&replaced.serial, &replaced.probe])
        });
        lists.chain(&program.disks).chain([&program.cwd]).chain(env).chain(replaced)
    };
    if program.argv.first().is_none_or(String::is_empty) {
        Some("argv names no program")
    } else if strings().any(|text| text.contains('\0')) {
        Some("a string holds NUL")
    } else if program.env.keys().any(|key| key.is_empty() || key.contains('=')) {
        Some("the name of a variable is empty or holds `=`")
    } else {
        None
    }
}

/// Starts a test: its launcher, which joins `cgroup` and becomes the test. Also returns the test's output.
pub(crate) fn launch_test(test: &Program, cgroup: &Path) -> io::Result<(Launched, OwnedFd)> {
    let (output, output_end) = pipe()?;
    // Best effort: a smaller pipe only makes a noisy test slower.
    let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE_SIZE);
    let errors_end = output_end.try_clone()?;
    Ok((launch(test, cgroup, "/dev/null", output_end.into(), errors_end.into())?, output))
}

/// Starts a launcher. It opens `input` as its standard input; if that is a terminal, the terminal is its
/// controlling one, and takes the place of `output` and `errors`.
pub(crate) fn launch(
    program: &Program,
    cgroup: &Path,
    input: &str,
    output: Stdio,
    errors: Stdio,
) -> io::Result<Launched> {
    let (report, report_end) = pipe()?;
    let replaced = program.replaced.as_ref().map(modules::words).unwrap_or_default();
    let mut env: BTreeMap<&str, &str> = BTreeMap::from(spawn::ENVIRONMENT);
    env.extend(program.env.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let child = spawn::stage(Stage::Launch)
        .arg(cgroup)
        .arg(&program.cwd)
        .arg(input)
        .arg(program.make_dirs.len().to_string())
        .args(&program.make_dirs)
        .arg(replaced.len().to_string())
        .args(&replaced)
        .arg(program.load_modules.len().to_string())
        .args(&program.load_modules)
        .arg(program.disks.len().to_string())
        .args(&program.disks)
        .args(&program.argv)
        .envs(env)
        // Standard input carries the report: that way no descriptor has to be passed by number.
        .stdin(Stdio::from(report_end))
        .stdout(output)
        .stderr(errors)
        .spawn()?;
    Ok(Launched { pid: spawn::pid_of(&child)?, report })
}

/// The launcher: prepares itself and becomes the test. Returns only if it can't.
pub(crate) fn launch_main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let Ok(report) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map(Reporter) else {
        return ExitCode::from(127);
    };
    let (error, what) = match become_test(&mut args, &report) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    report.say(error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error()), &what);
    ExitCode::from(127)
}

/// A list on the command line: how many, then each.
fn counted(args: &mut impl Iterator<Item = String>) -> Option<Vec<String>> {
    let n: usize = args.next()?.parse().ok()?;
    Some(args.take(n).collect())
}

fn become_test(
    args: &mut impl Iterator<Item = String>,
    report: &Reporter,
) -> Result<Infallible, (io::Error, String)> {
    let missing = || (io::Error::from(Errno::INVAL), "read the arguments".to_owned());
    let cgroup = args.next().ok_or_else(missing)?;
    let cwd = args.next().ok_or_else(missing)?;
    let input = args.next().ok_or_else(missing)?;
    let dirs = counted(args).ok_or_else(missing)?;
    let replaced = counted(args).ok_or_else(missing)?;
    let load = counted(args).ok_or_else(missing)?;
    let disks = counted(args).ok_or_else(missing)?;
    let program = args.next().ok_or_else(missing)?;

    // First of all, so that nothing which follows can escape a StopTest.
    fs::write(Path::new(&cgroup).join("cgroup.procs"), "0").map_err(|e| (e, format!("join {cgroup}")))?;
    // When memory ends, the kernel should kill the test, not the agent.
    fs::write("/proc/self/oom_score_adj", "0").map_err(|e| (e, "set oom_score_adj".to_owned()))?;
    let _ = rustix::process::setpriority_process(None, 0);
    let unlimited = Rlimit { current: None, maximum: None };
    let _ = rustix::process::setrlimit(Resource::Core, unlimited);
    // As a Debian login has it; the kernel gives its first process a hard limit of 4096.
    let files = Rlimit { current: Some(1024), maximum: Some(524_288) };
    let _ = rustix::process::setrlimit(Resource::Nofile, files);
    rustix::process::setsid().map_err(|e| (e.into(), "lead a session".to_owned()))?;
    set_streams(&input).map_err(|e| (e.into(), format!("open {input}")))?;
    for dir in dirs {
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir);
        made.map_err(|e| (e, format!("make directory {dir}")))?;
    }
    if let Some(replaced) = modules::parse(&replaced).filter(|_| !replaced.is_empty()) {
        report.probed(&modules::replace(&replaced)?);
    }
    if let Some(remark) = modules::load_all(&load) {
        report.say(0, &remark);
    }
    std::env::set_current_dir(&cwd).map_err(|e| (e, format!("enter directory {cwd}")))?;
    let mut test = spawn::command(&program);
    if !disks.is_empty() {
        test.env("MD_REGRESS_DISKS", find_disks(&disks)?.join(" "));
    }
    Err((test.args(args).exec(), format!("execute {program}")))
}

/// Opens standard input. A terminal becomes all three streams; the leader of a session that opens one
/// makes it its controlling terminal by that (tty_ioctl(4)).
fn set_streams(input: &str) -> rustix::io::Result<()> {
    // Open for writing, too, a pipe would never end.
    let kind = FileType::from_raw_mode(rustix::fs::stat(input)?.st_mode);
    let access = if kind == FileType::Fifo { OFlags::RDONLY } else { OFlags::RDWR };
    let input = rustix::fs::open(input, access | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&input)?;
    if rustix::termios::isatty(&input) {
        rustix::stdio::dup2_stdout(&input)?;
        rustix::stdio::dup2_stderr(&input)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Program {
        Program {
            argv: vec!["true".into()],
            cwd: "/".into(),
            env: BTreeMap::new(),
            make_dirs: vec![],
            load_modules: vec![],
            disks: vec![],
            replaced: None,
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(objection(&request()), None);
        assert!(objection(&Program { argv: vec![], ..request() }).is_some());
        assert!(objection(&Program { cwd: "/\0".into(), ..request() }).is_some());
        let env = BTreeMap::from([("A=B".into(), "c".into())]);
        assert!(objection(&Program { env, ..request() }).is_some());
    }
}
