//! Starting processes, the only place in the agent that does.
//!
//! A child must join a cgroup, lead a session and lose the agent's privileges before it runs
//! foreign code. What would take `unsafe` between `fork` and `exec` is done by a second stage
//! instead: the agent runs its own binary again, as `launch` or `collect`. What touches paths
//! that a test may have wedged is done there too, so that the agent itself never waits for them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use protocol::wire::{LoadedModule, Program};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit};

use crate::boot::FILES_DIR;
use crate::diagnose::DIAGNOSE;
use crate::modules;
use crate::sample::SAMPLE;

/// First argument of the stage that becomes a test.
pub(crate) const LAUNCH: &str = "launch";
/// First argument of the process that sends files.
pub(crate) const COLLECT: &str = "collect";

/// The agent's binary. It was deleted with the initramfs, and the kernel keeps it for us.
const SELF: &str = "/proc/self/exe";

/// Where the kernel itself looks for it, whatever a test's `PATH` says.
pub(crate) const MODPROBE: &str = "/sbin/modprobe";

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
    /// What [`ReportReader`] reads.
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

#[expect(clippy::disallowed_methods, reason = "in the guest, the agent is the supervisor")]
fn command(program: &str) -> Command {
    Command::new(program)
}

/// What a program prints; whoever calls waits for it.
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
    let mut env: BTreeMap<&str, &str> = BTreeMap::from(ENVIRONMENT);
    env.extend(program.env.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let child = command(SELF)
        .arg0("md-regress-launch")
        .arg(LAUNCH)
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
        .env_clear()
        .envs(env)
        // Standard input carries the report: that way no descriptor has to be passed by number.
        .stdin(Stdio::from(report_end))
        .stdout(output)
        .stderr(errors)
        .spawn()?;
    Ok(Launched { pid: pid_of(&child)?, report })
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

/// Starts the process that samples the processes of `cgroup`; what it sees comes through the pipe.
pub(crate) fn sampler(cgroup: &Path) -> io::Result<(Pid, OwnedFd)> {
    witness("md-regress-sample", SAMPLE, cgroup)
}

/// Starts the process that writes down what a hang's report needs; what it sees comes through the pipe. It ends
/// after seconds, whatever becomes of the questions that it asks.
pub(crate) fn diagnosis(cgroup: &Path) -> io::Result<(Pid, OwnedFd)> {
    witness("md-regress-diagnose", DIAGNOSE, cgroup)
}

fn witness(name: &str, stage: &str, cgroup: &Path) -> io::Result<(Pid, OwnedFd)> {
    let (seen, seen_end) = pipe()?;
    let child = command(SELF)
        .arg0(name)
        .arg(stage)
        .arg(cgroup)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::from(seen_end))
        .spawn()?;
    Ok((pid_of(&child)?, seen))
}

/// Starts a process that asks one question (of [`crate::probe::Question::command`]); its answer comes through the
/// pipe.
pub(crate) fn question(words: &[&str]) -> io::Result<(Pid, OwnedFd)> {
    let (program, arguments) = words.split_first().ok_or(Errno::INVAL)?;
    let mut asking = command(if program.is_empty() { SELF } else { program });
    if program.is_empty() {
        asking.arg0("md-regress-probe");
    }
    let (answer, answer_end) = pipe()?;
    let errors_end = answer_end.try_clone()?;
    let child = asking
        .args(arguments)
        .env_clear()
        .envs(ENVIRONMENT)
        .stdin(Stdio::null())
        .stdout(Stdio::from(answer_end))
        .stderr(Stdio::from(errors_end))
        .spawn()?;
    Ok((pid_of(&child)?, answer))
}

fn pid_of(child: &std::process::Child) -> io::Result<Pid> {
    let raw = i32::try_from(child.id()).ok();
    raw.and_then(Pid::from_raw).ok_or_else(|| io::Error::other("child has no process id"))
}

/// A pipe whose reading end, the first, never blocks.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

/// What a launcher had to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// What went wrong and stopped nothing.
    pub(crate) remarks: Vec<String>,
    /// Why it did not become the test: errno, and what it was doing.
    pub(crate) failure: Option<(i32, String)>,
    /// The module that it loaded in place of the kernel's, as the kernel has it.
    pub(crate) probed: Option<LoadedModule>,
}

/// Before the name and the build id of a module, in a launcher's report.
const PROBED: &str = "probed";

/// Parses the launcher's report: lines of `errno what`, where 0 marks a remark, and of `probed NAME BUILD-ID`.
fn parse_report(text: &str) -> Report {
    let mut report = Report::default();
    for (errno, what) in text.lines().filter_map(|line| line.split_once(' ')) {
        if errno == PROBED {
            let loaded = what.split_once(' ');
            report.probed =
                loaded.map(|(name, id)| LoadedModule { name: name.to_owned(), build_id: id.to_owned() });
            continue;
        }
        match errno.parse() {
            Ok(0) => report.remarks.push(what.to_owned()),
            Ok(errno) => report.failure = Some((errno, what.to_owned())),
            Err(_) => {}
        }
    }
    report
}

/// The report of a launcher, as it comes.
#[derive(Debug)]
pub(crate) struct ReportReader {
    /// Closes when the launcher has become the test, or has ended because it could not.
    fd: Option<OwnedFd>,
    text: Vec<u8>,
}

impl ReportReader {
    /// Nothing read yet.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd: Some(fd), text: Vec::new() }
    }

    /// Readable when there is something to [`Self::read`].
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there. Returns the whole report, once, when the launcher has said everything.
    pub(crate) fn read(&mut self) -> Option<Report> {
        let fd = self.fd.as_ref()?;
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(fd, &mut buffer) {
                // Little: the launcher sends a remark, a module and a failure at most.
                Ok(n) if n > 0 => self.text.extend_from_slice(&buffer[..n]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Ok(_) | Err(_) => break,
            }
        }
        self.fd = None;
        Some(parse_report(&String::from_utf8_lossy(&self.text)))
    }

    /// Whatever it still has to say is not wanted.
    pub(crate) fn close(&mut self) {
        self.fd = None;
    }
}

/// The launcher's end of the report.
struct Reporter(OwnedFd);

impl Reporter {
    fn probed(&self, module: &LoadedModule) {
        let line = format!("{PROBED} {} {}\n", module.name, module.build_id);
        let _ = rustix::io::write(&self.0, line.as_bytes());
    }

    fn say(&self, errno: i32, what: &str) {
        // One line, and short enough for the pipe to take it whole.
        let words: Vec<&str> = what.split_whitespace().collect();
        let what: String = words.join(" ").chars().take(900).collect();
        let _ = rustix::io::write(&self.0, format!("{errno} {what}\n").as_bytes());
    }
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
    // A test is what the kernel should kill when memory ends; the agent is not.
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
    load_modules(&load, report);
    std::env::set_current_dir(&cwd).map_err(|e| (e, format!("enter directory {cwd}")))?;
    let mut test = command(&program);
    if !disks.is_empty() {
        test.env("MD_REGRESS_DISKS", find_disks(&disks)?.join(" "));
    }
    Err((test.args(args).exec(), format!("execute {program}")))
}

/// How long plugged disks may take to appear.
const DISKS_APPEAR: Duration = Duration::from_secs(30);

/// Device nodes of the disks with these serial numbers, once they are all there.
pub(crate) fn find_disks(serials: &[String]) -> Result<Vec<String>, (io::Error, String)> {
    let end = Instant::now() + DISKS_APPEAR;
    loop {
        let mut nodes = BTreeMap::new();
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let node = format!("/dev/{}", entry.file_name().to_string_lossy());
            if let Ok(serial) = fs::read_to_string(entry.path().join("serial"))
                && Path::new(&node).exists()
            {
                nodes.insert(serial.trim().to_owned(), node);
            }
        }
        let Some(missing) = serials.iter().find(|serial| !nodes.contains_key(*serial)) else {
            return Ok(serials.iter().filter_map(|serial| nodes.remove(serial)).collect());
        };
        if Instant::now() > end {
            return Err((io::Error::from(Errno::NODEV), format!("find disk {missing}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
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

/// Loads one module; what modprobe says if it does not.
pub(crate) fn modprobe(module: &str) -> Result<(), String> {
    let output = command(MODPROBE).args(["--", module]).stdout(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("cannot execute {MODPROBE}: {error}")),
    }
}

/// Loads modules. One that is missing or built in is no error: the test says what it lacks. One
/// that is there and does not load is worth a remark, because the test may just skip.
fn load_modules(modules: &[String], report: &Reporter) {
    if modules.is_empty() {
        return;
    }
    let mut modprobe = command(MODPROBE);
    // All in one process, which goes on after one that fails.
    match modprobe.args(["-a", "--"]).args(modules).stdout(Stdio::null()).output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let errors: Vec<&str> = errors.lines().filter(|line| !line.contains(" not found ")).collect();
            if !errors.is_empty() {
                report.say(0, &errors.join("; "));
            }
        }
        Err(error) => report.say(0, &format!("cannot execute {MODPROBE}: {error}")),
    }
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

    #[test]
    fn reports() {
        assert_eq!(parse_report(""), Report::default());
        assert_eq!(
            parse_report("0 no module x\n2 execute no-such\n"),
            Report {
                remarks: vec!["no module x".to_owned()],
                failure: Some((2, "execute no-such".to_owned())),
                probed: None,
            }
        );
        let probed = LoadedModule { name: "md_mod".to_owned(), build_id: "0a".to_owned() };
        assert_eq!(parse_report("probed md_mod 0a\n").probed, Some(probed));
    }
}
