//! `cargo xtask shell` as used by a person at a terminal and by a script.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, ensure};
use harness::session::Session;
use harness::suite::suite_named;
use reports::render::words::reproduce::shell_line;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use vm_images::host::die_with_parent;

use super::{Scratch, wait_until};

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";
const CTRL_BRACKET: &str = "\x1d";

/// Expected texts differ from typed ones, which are echoed; hence the sums.
pub(super) fn terminal(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let mut user = AtTerminal::start(&out, "lvm2", (31, 97))?;
    user.expect("three times within a second ends the VM")?;
    user.expect("# ")?;
    ensure!(!user.echoes()?, "the terminal is not raw");
    user.types("tty; stty size\r")?;
    user.expect("/dev/pts/0\r\n31 97\r\n")?;
    user.types("echo $TERM-$LVM_TEST_FLAVOUR-$PWD\r")?;
    user.expect("screen-ndev-vanilla-/usr/share/lvm2-testsuite\r\n")?;

    // Ctrl-C reaches the job in the foreground.
    user.types("sh -c 'echo begin-$((1+1)); exec sleep 1000'\r")?;
    user.expect("begin-2")?;
    user.types(CTRL_C)?;
    user.types("echo status-$?\r")?;
    user.expect("status-130")?;

    user.types("sleep 1000 &\r")?;
    user.types("jobs\r")?;
    user.expect("Running")?;
    user.types(
        "sh -c 'trap \"echo goes-$((2+2))\" CONT; echo begin-$((2+2)); while :; do sleep 0.1; done'\r",
    )?;
    user.expect("begin-4")?;
    user.types(CTRL_Z)?;
    user.expect("Stopped")?;
    user.expect("# ")?;
    user.types("fg\r")?;
    user.expect("goes-4")?;
    user.types(CTRL_C)?;
    user.types("echo again-$?\r")?;
    user.expect("again-130")?;

    // The job in the foreground is told of a new size.
    user.types("sh -c 'trap \"stty size\" WINCH; echo ready-$((3+3)); while :; do sleep 0.1; done'\r")?;
    user.expect("ready-6")?;
    user.resize((40, 120))?;
    user.expect("40 120")?;
    user.types(CTRL_C)?;

    // While the shell is stopped, the terminal is in its original mode.
    user.signals(Signal::TSTP)?;
    wait_until("a stopped shell lends the terminal", || user.echoes().unwrap_or(false))?;
    // The terminal is restored before the stop; a signal to continue would come too early.
    wait_until("a stopped shell stands", || user.is_stopped())?;
    user.signals(Signal::CONT)?;
    wait_until("a shell that goes on has the terminal", || !user.echoes().unwrap_or(true))?;

    // A test is run as the shell's hint says.
    let test = protocol::TestId::new("lvm2", "shell/000-basic.sh")?;
    let by_hand = shell_line(&suite_named("lvm2")?.job(&test)?.argv);
    user.types(&format!("{by_hand} | tail -1; echo ended-${{PIPESTATUS[0]}}\r"))?;
    user.expect("ended-0")?;

    user.types("echo kept >$MD_REGRESS_FILES/note; (exit 3)\r")?;
    user.types("exit\r")?;
    user.ends_with(0)?;
    let logs = fs::read_dir(&out.0)?.flatten().next().context("the shell left no folder")?.path();
    ensure!(fs::read(logs.join("files/0"))? == b"kept\n", "a file did not come back");
    let kernel_log = fs::read_to_string(logs.join("kernel.log"))?;
    ensure!(kernel_log.contains("Linux version "), "the kernel's log lacks the boot");
    ensure!(!user.text().contains("Linux version "), "the kernel's log is in the terminal");
    Ok(())
}

pub(super) fn ways_out(session: &Session) -> Result<()> {
    type Leave = fn(&mut AtTerminal) -> Result<()>;
    let ways: [(&str, Leave, &str, i32); 6] = [
        ("exit", |user| user.types("exit 5\r"), "", 0),
        (
            "a panic",
            |user| user.types("echo c >/proc/sysrq-trigger\r"),
            "Kernel panic - not syncing: sysrq triggered crash",
            1,
        ),
        (
            "power off",
            |user| user.types("echo o >/proc/sysrq-trigger\r"),
            "the machine went away by itself",
            1,
        ),
        ("keys, in a guest that takes none", AtTerminal::leave_by_keys, "ended by Ctrl-]", 130),
        ("the end of QEMU", AtTerminal::kill_qemu, "QEMU was killed by signal 9", 4),
        ("SIGTERM", |user| user.signals(Signal::TERM), "interrupted", 130),
    ];
    for (way, leave, says, code) in ways {
        let out = Scratch::new(session)?;
        let mut user = AtTerminal::start(&out, "canary", (24, 80))?;
        user.expect("# ")?;
        leave(&mut user).and_then(|()| user.ends_with(code)).with_context(|| format!("left by {way}"))?;
        ensure!(user.text().contains(says), "left by {way}: it does not say `{says}`: {}", user.text());
    }
    // The second of two signals ends the process at once, unless the first has done so.
    let out = Scratch::new(session)?;
    let mut user = AtTerminal::start(&out, "canary", (24, 80))?;
    user.expect("# ")?;
    user.signals(Signal::TERM)?;
    user.signals(Signal::HUP)?;
    user.ends().context("left by two signals")
}

pub(super) fn pipes(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let failed = script(&out, &["--", "false"], b"")?;
    ensure!(failed.status.code() == Some(1), "`false` ended with {}", failed.status);
    let said = text(&failed.stderr);
    ensure!(said.contains("`false` ended with status 1"), "its status is not said: {said}");

    let both = script(&out, &["--", "sh", "-c", "echo out; echo err >&2"], b"")?;
    ensure!(both.status.success() && both.stdout == b"out\n", "output is mixed: {}", text(&both.stdout));
    ensure!(text(&both.stderr).contains("err\n"), "errors are lost");

    let piped = script(&out, &[], b"uname -s\ntest -t 0 || echo no terminal\nexit 7\n")?;
    ensure!(piped.stdout == b"Linux\nno terminal\n", "a script prints {}", text(&piped.stdout));
    ensure!(piped.status.code() == Some(1), "a script that fails ended with {}", piped.status);

    // More than all windows and pipes hold, each byte checked.
    let much: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let echoed = script(&out, &["--", "cat"], &much)?;
    ensure!(echoed.stdout == much, "{} of {} bytes came back", echoed.stdout.len(), much.len());
    // Input that nobody reads must not block anything.
    let ignored = script(&out, &["--", "true"], &much)?;
    ensure!(ignored.status.success(), "`true` with input ended with {}", ignored.status);

    let none = script(&out, &["--", "no-such-program"], b"")?;
    ensure!(none.status.code() == Some(2), "a program that does not exist ended with {}", none.status);
    Ok(())
}

/// The command line of this program's `shell`, for the canaries' small machine.
fn program(out: &Scratch, suite: &str) -> Result<Vec<String>> {
    let path = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a path is no text");
    let xtask = path(&std::env::current_exe()?)?;
    Ok(vec![
        xtask,
        "--store".into(),
        path(&out.1)?,
        "shell".into(),
        "--suite".into(),
        suite.into(),
        "--out".into(),
        path(&out.0)?,
    ])
}

/// Runs the shell as a script does.
fn script(out: &Scratch, arguments: &[&str], input: &[u8]) -> Result<Output> {
    let words = program(out, "canary")?;
    #[expect(clippy::disallowed_methods, reason = "started as a user would, with pipes of our own")]
    let mut command = Command::new(&words[0]);
    die_with_parent(&mut command);
    super::other_xtask::neutral(&mut command);
    let mut child = command
        .args(&words[1..])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start another xtask")?;
    let mut stdin = child.stdin.take().context("a child has no standard input")?;
    let input = input.to_vec();
    // The shell may end without reading all of it.
    let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().context("failed to wait for another xtask")?;
    let _ = feeder.join();
    Ok(output)
}

/// A person at a terminal, with this program's `shell` in the foreground.
struct AtTerminal {
    ours: OwnedFd,
    theirs: OwnedFd,
    settings_before: String,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    /// Number of bytes of the screen's text that were matched.
    looked: usize,
}

impl AtTerminal {
    fn start(out: &Scratch, suite: &str, size: (u16, u16)) -> Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(&name, flags, Mode::empty()).context("failed to open a terminal")?;
        let settings_before = settings(&theirs)?;
        set_size(&ours, size)?;
        let words = program(out, suite)?;
        // It leads a session with this terminal, or it would not be told of a new size.
        #[expect(clippy::disallowed_methods, reason = "started as a user would, on a terminal of our own")]
        let mut command = Command::new("setsid");
        die_with_parent(&mut command);
        super::other_xtask::neutral(&mut command);
        let child = command
            .arg("--ctty")
            .args(&words)
            .env("TERM", "screen")
            .stdin(Stdio::from(theirs.try_clone()?))
            .stdout(Stdio::from(theirs.try_clone()?))
            .stderr(Stdio::from(theirs.try_clone()?))
            .spawn()
            .context("failed to start another xtask on a terminal")?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (reader, shared) = (ours.try_clone()?, Arc::clone(&seen));
        let read = move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = rustix::io::read(&reader, &mut buffer) {
                shared.lock().expect("no panic with the lock").extend_from_slice(&buffer[..n]);
            }
        };
        thread::Builder::new().name("terminal".into()).spawn(read).context("failed to start a thread")?;
        Ok(AtTerminal { ours, theirs, settings_before, child, seen, looked: 0 })
    }

    /// Everything on the screen so far.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("no panic with the lock")).into_owned()
    }

    fn types(&self, keys: &str) -> Result<()> {
        let mut keys = keys.as_bytes();
        while !keys.is_empty() {
            keys = &keys[rustix::io::write(&self.ours, keys).context("failed to type")?..];
        }
        Ok(())
    }

    /// Waits until this is printed, after the text that was waited for last.
    fn expect(&mut self, what: &str) -> Result<()> {
        let (seen, looked) = (Arc::clone(&self.seen), self.looked);
        let found = || {
            let seen = seen.lock().expect("no panic with the lock");
            let rest = &seen[looked..];
            let at = rest.windows(what.len()).position(|window| window == what.as_bytes())?;
            Some(looked + at + what.len())
        };
        let child = &mut self.child;
        // When the process has ended, its last output may still be on its way: `found` looks once more.
        let mut ended = || matches!(child.try_wait(), Ok(Some(_)));
        let waited = wait_until(&format!("`{what}` is printed"), || found().is_some() || ended());
        waited.with_context(|| format!("the terminal shows: {}", self.text()))?;
        let found = found().with_context(|| format!("`{what}` was not printed: {}", self.text()))?;
        self.looked = found;
        Ok(())
    }

    fn resize(&self, size: (u16, u16)) -> Result<()> {
        set_size(&self.ours, size)
    }

    fn echoes(&self) -> Result<bool> {
        Ok(tcgetattr(&self.theirs)?.local_modes.contains(LocalModes::ECHO))
    }

    fn signals(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a child has a process id")?;
        kill_process(pid, signal).context("failed to send a signal")
    }

    /// True if the kernel reports that it is stopped (proc(5), state `T`).
    fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    fn leave_by_keys(&mut self) -> Result<()> {
        self.types("stty raw -echo; echo deaf-$((1+1)); exec sleep 1000\r")?;
        self.expect("deaf-2")?;
        self.types(&"x".repeat(100_000))?;
        self.types(&CTRL_BRACKET.repeat(3))
    }

    fn kill_qemu(&mut self) -> Result<()> {
        let is_qemu = |pid: u32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains("qemu-system")
        };
        let own = self.child.id();
        let mut children = crate::children::processes().into_iter().filter(|&(_, parent)| parent == own);
        let (pid, _) = children.find(|&(pid, _)| is_qemu(pid)).context("the shell has no QEMU")?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("QEMU has no process id")?;
        kill_process(pid, Signal::KILL).context("failed to kill QEMU")
    }

    /// Waits for its end, with this exit code and with the terminal's original mode.
    fn ends_with(&mut self, code: i32) -> Result<()> {
        self.ends()?;
        let status = self.child.wait()?;
        ensure!(status.code() == Some(code), "it ended with {status}: {}", self.text());
        Ok(())
    }

    fn ends(&mut self) -> Result<()> {
        let mut status = None;
        wait_until("the shell ends", || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })
        .with_context(|| format!("the terminal shows: {}", self.text()))?;
        let after = settings(&self.theirs)?;
        ensure!(
            after == self.settings_before,
            "the terminal was left as {after}, not {}",
            self.settings_before
        );
        // The last output has still to come through the terminal.
        let mut length = usize::MAX;
        wait_until("the terminal is quiet", || {
            let now = self.text().len();
            std::mem::replace(&mut length, now) == now
        })
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings(terminal: &OwnedFd) -> Result<String> {
    Ok(format!("{:?}", tcgetattr(terminal)?))
}

fn set_size(terminal: &OwnedFd, (rows, columns): (u16, u16)) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).context("failed to size a terminal")
}
