//! Checks of the whole harness on real QEMU: each is a run like a user's, and what it must leave.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use protocol::Event;
use reports::record::{AttemptState, RunEnd};
use reports::{RunRecord, Verdict};
use rustix::process::{Pid, Signal, kill_process};

use vm_images::host::die_with_parent;

use crate::select::Selection;
use crate::session::Session;
use crate::suite::Suite;
use crate::test::{self, Options, Ran};
use crate::vm::accel::AccelChoice;

/// A check, by name.
type Check = (&'static str, fn(&Session) -> Result<()>);

/// All checks, cheapest set-up first.
pub(crate) const CHECKS: [Check; 6] = [
    ("suite data matches the guest", suite_data_matches_the_guest),
    ("canaries come out as they must", canaries),
    ("lvm2's tests run", lvm2_tests_run),
    ("SIGKILL leaves nothing running and loses nothing", sigkill),
    ("SIGINT ends a run with a report", sigint),
    ("KVM that cannot work is said to", kvm),
];

/// What a check waits for at most.
const PATIENCE: Duration = Duration::from_secs(180);

fn suite_data_matches_the_guest(session: &Session) -> Result<()> {
    let apt = session.apt()?;
    let guest = session.images(&apt)?.guest()?;
    let list = guest.path("lvm2-tests.txt");
    let text = fs::read_to_string(&list).with_context(|| format!("failed to read `{}`", list.display()))?;
    let installed: BTreeSet<_> = text.lines().collect();
    let suite = Suite::read(&crate::session::workspace().join("suites/lvm2"))?;
    let known: BTreeSet<_> = suite.tests.keys().map(String::as_str).collect();
    let unknown: Vec<_> = installed.difference(&known).collect();
    let gone: Vec<_> = known.difference(&installed).collect();
    ensure!(unknown.is_empty(), "installed, but not in suite.toml: {unknown:?}");
    ensure!(gone.is_empty(), "in suite.toml, but not installed: {gone:?}");
    Ok(())
}

fn canaries(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let ran = run(session, &out, "canary", &[], AccelChoice::Auto)?;
    for judged in &ran.judged {
        // An expectation that is met is a known failure, or a skip or warning that was expected.
        let as_it_must = match &judged.expectation {
            Some(expectation) => expectation.met,
            None => judged.verdict == Verdict::Passed,
        };
        ensure!(as_it_must, "{} came out {}: {}", judged.test, judged.verdict, judged.explanation());
    }
    let attempt = |name: &str| {
        let found = ran.record.attempts.iter().find(|attempt| attempt.test.name() == name);
        found.with_context(|| format!("canary {name} was not run"))
    };
    let log = |name: &str, file: &str| -> Result<Vec<u8>> {
        let path = ran.dir.join(&attempt(name)?.dir).join(file);
        fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))
    };
    let facts = |name: &str| match &attempt(name)?.state {
        AttemptState::Finished { facts, .. } => Ok(facts.clone()),
        AttemptState::NotStarted | AttemptState::Running => bail!("canary {name} did not finish"),
    };

    let flood = log("must-flood", "output.log")?;
    ensure!(flood.starts_with(b"first\n") && flood.ends_with(b"last\n"), "a flood lost its head or tail");
    ensure!(flood.len() < 20_000_000, "a flood's log grew to {} bytes", flood.len());
    let facts_of_flood = facts("must-flood")?;
    ensure!(
        facts_of_flood.output_bytes == 100_000_012,
        "a flood was counted as {}",
        facts_of_flood.output_bytes
    );
    ensure!(facts_of_flood.output_dropped > 0, "a flood dropped nothing");
    let survivors = facts("must-orphan")?.survivors;
    ensure!(
        survivors.iter().any(|survivor| survivor.comm == "sleep"),
        "an orphan went unseen: {survivors:?}"
    );
    ensure!(log("must-pass", "files/0")? == b"kept\n", "a file did not come back");
    let descriptors = String::from_utf8_lossy(&log("must-pass", "output.log")?).into_owned();
    // 3 is that of `ls` itself, reading the folder.
    ensure!(
        descriptors.split_whitespace().eq(["0", "1", "2", "3"]),
        "descriptors leak into tests: {descriptors}"
    );
    let console = log("must-crash", "console.log")?;
    ensure!(String::from_utf8_lossy(&console).contains("Kernel panic"), "the panic is not on the console");
    Ok(())
}

fn lvm2_tests_run(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let ran = run(session, &out, "lvm2", &["000-basic", "unit-test", "component-raid"], AccelChoice::Auto)?;
    for judged in &ran.judged {
        ensure!(
            judged.verdict == Verdict::Passed,
            "{}: {} {}",
            judged.test,
            judged.verdict,
            judged.explanation()
        );
    }
    Ok(())
}

fn sigkill(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let mut run = RunningTest::start(session, &out)?;
    let family = run.descendants();
    ensure!(!family.is_empty(), "a running test has no processes");
    let temporary = run.temporary_folders(session);
    ensure!(!temporary.is_empty(), "a running test has no temporary folder");
    kill_process(run.pid()?, Signal::KILL).context("failed to kill the run")?;
    run.child.wait().context("failed to wait for the run")?;
    wait_until("its processes are gone", || family.iter().all(|&pid| is_gone(pid)))?;
    wait_until("its temporary files are gone", || temporary.iter().all(|folder| !folder.exists()))?;
    let record = read_record(&run.run_dir()?)?;
    ensure!(record.end == RunEnd::Cut, "a killed run's record says {:?}", record.end);
    ensure!(record.attempts.iter().any(|attempt| attempt.guest.is_some()), "what was recorded is lost");
    Ok(())
}

fn sigint(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let mut run = RunningTest::start(session, &out)?;
    let family = run.descendants();
    kill_process(run.pid()?, Signal::INT).context("failed to interrupt the run")?;
    let status = run.child.wait().context("failed to wait for the run")?;
    ensure!(status.code() == Some(130), "an interrupted run ended with {status}");
    ensure!(family.iter().all(|&pid| is_gone(pid)), "an interrupted run left processes");
    let dir = run.run_dir()?;
    ensure!(read_record(&dir)?.end == RunEnd::Interrupted, "the record does not say that it was interrupted");
    ensure!(dir.join("junit.xml").is_file() && dir.join("summary.md").is_file(), "it left no report");
    Ok(())
}

fn kvm(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    match run(session, &out, "canary", &["must-pass"], AccelChoice::Kvm) {
        Ok(ran) => {
            ensure!(ran.judged.iter().all(|judged| judged.verdict == Verdict::Passed), "KVM boots no test")
        }
        Err(error) => {
            ensure!(error.to_string().contains("--accel kvm cannot work here: "), "unclear: {error:#}")
        }
    }
    Ok(())
}

/// Runs tests as a user would, but into a folder of ours.
fn run(session: &Session, out: &Scratch, suite: &str, patterns: &[&str], accel: AccelChoice) -> Result<Ran> {
    let options = Options {
        kernels: vec!["deb:6.12".parse()?],
        suite: suite.to_owned(),
        selection: Selection {
            patterns: patterns.iter().map(|&pattern| pattern.to_owned()).collect(),
            ..Selection::default()
        },
        accel,
        n_vms: None,
        out: Some(out.0.clone()),
        change: None,
    };
    test::run(session, &options)?.context("no test was selected")
}

/// A folder in the store's temporary one: it goes with the process, whatever happens.
struct Scratch(PathBuf);

impl Scratch {
    fn new(session: &Session) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("smoke-").tempdir_in(session.store.temporary());
        Ok(Scratch(folder.context("failed to make a folder")?.keep()))
    }
}

/// Another `xtask` that runs a test which does not end by itself for a while.
struct RunningTest {
    child: Child,
    out: PathBuf,
    /// Temporary folders in the store that were there before it: of other runs.
    folders_before: Vec<PathBuf>,
}

impl RunningTest {
    /// Starts it, and waits until its test runs.
    fn start(session: &Session, out: &Scratch) -> Result<Self> {
        let folders_before = temporary_folders(session);
        #[expect(clippy::disallowed_methods, reason = "it is killed here as a user would, without our help")]
        let mut command = Command::new(std::env::current_exe()?);
        // Were we killed ourselves, it would go on for minutes.
        die_with_parent(&mut command);
        let child = command
            .args(["test", "--suite", "canary", "must-stay-alive", "--out"])
            .arg(&out.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start another xtask")?;
        let run = RunningTest { child, out: out.0.clone(), folders_before };
        let started = || {
            session.host.cancel().is_cancelled()
                || run.run_dir().is_ok_and(|dir| has_started(&dir.join("events.jsonl")))
        };
        wait_until("its test runs", started)?;
        Ok(run)
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(i32::try_from(self.child.id())?).context("a child has a process id")
    }

    fn run_dir(&self) -> Result<PathBuf> {
        Ok(fs::canonicalize(self.out.join("latest"))?)
    }

    /// All processes below it, but for the janitor, whose work begins when it is gone.
    fn descendants(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut idx = 0;
        while let Some(&parent) = family.get(idx) {
            family.extend(processes().into_iter().filter(|&(_, ppid)| ppid == parent).map(|(pid, _)| pid));
            idx += 1;
        }
        family.remove(0);
        family.retain(|&pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            !String::from_utf8_lossy(&command).contains(crate::session::JANITOR_COMMAND)
        });
        family
    }

    /// Its own temporary folder in the store.
    fn temporary_folders(&self, session: &Session) -> Vec<PathBuf> {
        let mut folders = temporary_folders(session);
        folders.retain(|folder| !self.folders_before.contains(folder));
        folders
    }
}

fn temporary_folders(session: &Session) -> Vec<PathBuf> {
    let entries = session.store.temporary().parent().and_then(|tmp| fs::read_dir(tmp).ok());
    entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

impl Drop for RunningTest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has_started(events: &Path) -> bool {
    let Ok(log) = reports::read_events(events) else { return false };
    log.records.iter().any(|record| matches!(record.event, Event::TestStarted { .. }))
}

fn read_record(run_dir: &Path) -> Result<RunRecord> {
    Ok(reports::read_events(&run_dir.join("events.jsonl"))?.into_record())
}

/// Process ids with their parents'.
fn processes() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let ppid = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, ppid))
    })
    .collect()
}

/// Gone, or a zombie that only its new parent has still to reap.
fn is_gone(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        ensure!(Instant::now() < end, "waited {} s in vain until {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
