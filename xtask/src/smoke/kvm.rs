//! Checks under KVM: on this host if its KVM works, else in an outer guest, where this program runs them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use harness::machine::Accel;
use harness::machine::accel::AccelChoice;
use harness::run::finished::FinishedRun;
use harness::run::options::Options;
use harness::run::prepare;
use harness::session::Session;
use harness::shell::state::End;
use harness::workspace::shown_path;
use protocol::Event;
use protocol::program::Exit;
use reports::record::AttemptState;
use rustix::io::Errno;
use vm_images::build::checkout::Sources;
use vm_images::host::progress::Progress;

use super::other_xtask::OtherXtask;
use super::{Check, Scratch, basics, hosts, killing, many, options, replacing, restoring, run, run_with};
use crate::outer;

/// The checks, each of another kind. The first one finds out that KVM works.
const CHECKS: [Check; 9] = [
    ("KVM: doctor says that it works, and since when", doctor),
    ("KVM: each kind of canary comes out as it must", kinds),
    ("KVM: a restored guest is as good as a booted one", restoring::restored_is_as_good_as_booted),
    ("KVM: two VMs at a time", two_at_a_time),
    ("KVM: the memory of a guest that hangs is dumped", dump),
    ("KVM: a program in a shell", shell),
    ("KVM: tests are tried many times", many::tries),
    ("KVM: SIGKILL leaves nothing running and loses nothing", killing::sigkill),
    ("KVM: modules in place of the kernel's are those that were built", replacing::built_modules_run),
];

/// Checks that take long, made by hand only.
const LONG: [Check; 2] = [
    ("KVM: all canaries come out as they must", basics::canaries),
    ("KVM: verdicts of restored guests are those of booted ones", restored_and_booted),
];

/// Kernels whose modules are replaced, as [`replacing`] takes them.
const REPLACED: [&str; 2] = ["deb:6.12+plant:none", "deb:6.12+plant:e3"];

/// One canary of each kind: passes, fails, hangs, faults, freezes, spins in md, is slow, corrupts.
const KINDS: [&str; 8] = [
    "must-pass",
    "must-fail",
    "must-hang",
    "must-oops",
    "must-freeze",
    "must-livelock",
    "must-slow",
    "must-corrupt",
];

/// The checks that are to be made: all, or only those that are short; with those that change the machine, if
/// it is an outer guest.
pub(crate) fn checks(with_long: bool, in_outer_guest: bool) -> impl Iterator<Item = Check> {
    let long = LONG.into_iter().filter(move |_| with_long);
    let of_machine = hosts::CHECKS.into_iter().filter(move |_| in_outer_guest && with_long);
    CHECKS.into_iter().chain(long).chain(of_machine)
}

/// True if a guest boots under KVM on this host.
pub(crate) fn works_here(session: &Session) -> Result<bool> {
    let prepared = prepare::prepare(session, &["deb:6.12".parse()?], &Sources::default(), AccelChoice::Auto)?;
    session.terminal.note(&format!("accelerator: {} ({})", prepared.chosen.accel, prepared.chosen.reason));
    Ok(prepared.chosen.accel == Accel::Kvm)
}

/// The short checks in a plain self-test: on a host without KVM, in an outer guest.
pub(super) fn short(session: &Session) -> Result<()> {
    if !works_here(session)? {
        let code = in_outer_guest(session, &["selftest", "--kvm", "--inside", "--short"])?;
        ensure!(code == 0, "in the outer guest they ended with exit code {code}");
        return Ok(());
    }
    for (name, check) in checks(false, false) {
        session.terminal.timed(&format!("checking on a real guest: {name}"));
        check(session).with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// Outer guests that are started at most, one after another: the emulator's virtualisation loses about one in
/// ten, which then no longer answers, whatever runs in it.
const OUTER_GUESTS_MAX: u32 = 3;

/// Runs xtask with `words` in an outer guest, and gives its exit code. One that is lost is said to be, and
/// another takes its place; an exit code is never asked for twice.
///
/// # Errors
/// If the outer guest cannot be made, or each goes away before xtask has ended.
pub(crate) fn in_outer_guest(session: &Session, words: &[&str]) -> Result<i32> {
    let (filled, artifacts) = session.store.asked_for_by(|| fill(session));
    filled?;
    let image = outer::image(session, &artifacts)?;
    let mut n_lost = 0;
    loop {
        let ended = outer::run(session, &image, words)?;
        let lost = match ended.finished.end {
            End::Exited(Exit::Code(code)) => return Ok(code),
            End::Exited(Exit::Signal(signal)) => format!("its shell was killed by signal {signal}"),
            End::Exited(Exit::NotStarted(errno)) => {
                format!("its shell could not be started: {}", Errno::from_raw_os_error(errno))
            }
            End::Escaped | End::Interrupted => bail!("interrupted"),
            End::Crashed { title } => format!("it crashed: {title}"),
            End::Hung { silent } => format!("it fell silent for {} s", silent.as_secs()),
            End::Infra { error } => error,
        };
        n_lost += 1;
        let words = format!("outer guest {n_lost} was lost: {lost}; logs: {}/", shown_path(&ended.dir));
        ensure!(n_lost < OUTER_GUESTS_MAX, "{words}");
        session.terminal.say(&words);
    }
}

/// Has the store hand out all that the checks take, so that it is there in the outer guest: nothing can be
/// fetched or built in it.
fn fill(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    // With a module of the suite's own.
    run(session, &out, "canary", &["must-oops"], AccelChoice::Tcg)?;
    let specs = REPLACED.iter().map(|spec| spec.parse()).collect::<Result<Vec<_>, _>>()?;
    prepare::prepare(session, &specs, &Sources::default(), AccelChoice::Tcg)?;
    Ok(())
}

fn under_kvm(ran: &FinishedRun) -> Result<()> {
    let accel = ran.record.machine.as_ref().map(|machine| machine.accel.as_str());
    ensure!(accel == Some("kvm"), "the run was under {accel:?}");
    Ok(())
}

fn doctor(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let ran = run(session, &out, "canary", &["must-pass"], AccelChoice::Kvm)?;
    under_kvm(&ran)?;
    basics::as_they_must(&ran)?;
    let said = OtherXtask::new(session).run(&out, ["doctor"])?.stdout;
    ensure!(said.contains("accelerator: kvm (a guest boot"), "doctor says: {said}");
    Ok(())
}

fn kinds(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let ran = run(session, &out, "canary", &KINDS, AccelChoice::Kvm)?;
    under_kvm(&ran)?;
    ensure!(ran.judged.len() == KINDS.len(), "{} of {} canaries were run", ran.judged.len(), KINDS.len());
    basics::as_they_must(&ran)
}

fn two_at_a_time(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let tests = ["must-pass", "must-fail", "must-orphan", "must-skip"];
    let options = Options { n_vms: Some(2), accel: AccelChoice::Kvm, ..options(&out, "canary", &tests)? };
    let ran = run_with(session, &options)?;
    under_kvm(&ran)?;
    basics::as_they_must(&ran)?;
    let log = reports::read_events(&ran.dir.join("events.jsonl"))?;
    let (mut now, mut most) = (0, 0);
    for record in &log.records {
        match record.event {
            Event::VmStarting { .. } => now += 1,
            Event::AttemptFinished { .. } => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    ensure!(most == 2, "{most} VMs ran at a time");
    Ok(())
}

fn dump(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let options = Options { dump: true, accel: AccelChoice::Kvm, ..options(&out, "canary", &["must-hang"])? };
    let ran = run_with(session, &options)?;
    under_kvm(&ran)?;
    basics::as_they_must(&ran)?;
    let attempt = ran.record.attempts.first().context("nothing was tried")?;
    let dump = ran.dir.join(&attempt.dir).join("memory.kdump");
    // The flattened form of a kdump, as a pipe would get it.
    let mut start = [0; 12];
    let mut file = File::open(&dump).with_context(|| format!("failed to open `{}`", dump.display()))?;
    file.read_exact(&mut start).with_context(|| format!("failed to read `{}`", dump.display()))?;
    ensure!(start == *b"makedumpfile", "`{}` begins with {start:?}", dump.display());
    Ok(())
}

fn shell(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let folder = out.0.clone();
    let words = ["shell", "--accel", "kvm", "--suite", "canary", "--out"].map(AsRef::as_ref);
    let program =
        ["--", "sh", "-c", "cat /sys/devices/system/clocksource/clocksource0/available_clocksource; exit 3"];
    let words = words.into_iter().chain([folder.as_os_str()]).chain(program.map(AsRef::as_ref));
    let ended = OtherXtask::new(session).run(&out, words)?;
    ended.expect(1, &["ended with status 3", "accelerator: kvm"])?;
    // The clock that only KVM gives its guests is there, whichever the guest has chosen.
    ensure!(ended.stdout.contains("kvm-clock"), "the guest's clocks are {}", ended.stdout);
    Ok(())
}

fn restored_and_booted(session: &Session) -> Result<()> {
    let mut verdicts = Vec::new();
    for snapshots in [true, false] {
        let out = Scratch::new(session)?;
        let options = Options { snapshots, accel: AccelChoice::Kvm, ..options(&out, "canary", &KINDS)? };
        let ran = run_with(session, &options)?;
        under_kvm(&ran)?;
        for attempt in &ran.record.attempts {
            let AttemptState::Finished { facts, .. } = &attempt.state else {
                bail!("{} did not finish", attempt.test)
            };
            ensure!(facts.restored == snapshots, "{}: restored is {}", attempt.test, facts.restored);
        }
        let each = ran.judged.iter().map(|judged| (judged.test.clone(), judged.verdict));
        verdicts.push(each.collect::<BTreeMap<_, _>>());
    }
    ensure!(verdicts[0] == verdicts[1], "restored {:?}, booted {:?}", verdicts[0], verdicts[1]);
    Ok(())
}
