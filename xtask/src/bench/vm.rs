//! `cargo xtask bench vm`: from asking for a VM to a command's output and the VM being gone, restored,
//! booted, and by virtme-ng; the memory of VMs, and the disk that a snapshot takes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::machine::accel::AccelChoice;
use harness::machine::greeting::Opening;
use harness::machine::snapshot::Snapshots;
use harness::machine::talk::Talk;
use harness::machine::{Hypervisor, Input, VmSpec, qemu};
use harness::run::plan::boot_timeout;
use harness::run::prepare;
use harness::session::Session;
use protocol::program::{Exit, Program};
use protocol::wire::{Message, OutputBudget, Request, StartTest};
use vm_images::build::checkout::Sources;
use vm_images::spec::KernelSpec;

use super::virtme::{self, Virtme};
use super::{BENCH_RAM_MIB, median};
use crate::bench::figures::{Figures, Table, left, right};
use crate::children::{descendants_of, pss_kib};
use crate::exit;

/// How long a VM may take for each step.
const PATIENCE: Duration = Duration::from_secs(180);

/// VMs at a time whose memory is counted, and what they must fit in, MiB.
const N_AT_ONCE: usize = 8;
const FITS_MIB: u64 = 16 << 10;

/// How long a VM took to come to each point, seconds since it was asked for.
struct Took {
    answer_s: f64,
    output_s: f64,
    gone_s: f64,
}

/// Each way `n_rounds` times, in turn.
pub(super) fn vm(
    session: &Session,
    figures: &Figures,
    accel: AccelChoice,
    kernel: &KernelSpec,
    n_rounds: u32,
    with_virtme: bool,
) -> Result<exit::Exit> {
    let specs = std::slice::from_ref(kernel);
    let prepared = prepare::prepare(session, specs, &Sources::default(), accel)?;
    let accel = prepared.chosen.accel;
    let boot = prepared.kernels.first().context("no kernel to boot")?;
    let release = boot.kernel.release.as_str();
    figures.ran_on(&prepared.qemu.version, &accel.to_string(), release);
    let log = session.store.temporary().join("bench-qemu.log");
    let booted = VmSpec { log, ..boot.vm(&prepared.guest, accel, BENCH_RAM_MIB, 1) };
    let hypervisor: &dyn Hypervisor = &prepared.qemu;
    let snapshots = Snapshots::new(hypervisor, &session.store, &*session.terminal, session.host.cancel());
    let snapshot = snapshots.of(&booted, boot_timeout(prepared.chosen.time_scale))?;
    let restored = VmSpec { restore: Some(snapshot.state().to_owned()), ..booted.clone() };
    let apt = session.apt()?;
    let mut virtme = match with_virtme {
        true => {
            let images = session.images(&apt)?;
            let made = Virtme::prepare(session, &images, &prepared.qemu, &boot.kernel, accel);
            or_without(figures, session, made)?
        }
        false => None,
    };

    let (mut ours, mut cold) = (Vec::new(), Vec::new());
    let (mut theirs, mut theirs_tuned) = (Vec::new(), Vec::new());
    for round in 1..=n_rounds {
        session.host.cancel().check()?;
        session.terminal.timed(&format!("round {round} of {n_rounds}"));
        ours.push(once(session, hypervisor, &restored, release)?);
        cold.push(once(session, hypervisor, &booted, release)?);
        if let Some(tool) = &virtme {
            let both = ["", qemu::CHEAPER].map(|append| tool.once(BENCH_RAM_MIB, append, release));
            let both = both.into_iter().collect::<Result<Vec<_>>>();
            match or_without(figures, session, both)?.as_deref() {
                Some([plain, tuned]) => {
                    theirs.push(plain.as_secs_f64());
                    theirs_tuned.push(tuned.as_secs_f64());
                }
                Some(_) | None => virtme = None,
            }
        }
    }
    let title = format!(
        "ask for a VM, have the output of `uname -r`, VM gone: {release}, 1 processor, {BENCH_RAM_MIB} MiB, {accel}, medians of {n_rounds}"
    );
    let columns =
        vec![left("seconds until", 44), right("answer", 10), right("output", 10), right("gone", 10)];
    let table = figures.table(title, columns);
    let ours = show(&table, "ours, restored", &ours);
    show(&table, "ours, booted", &cold);
    if virtme.is_some() {
        let (plain, tuned) = (median(&mut theirs), median(&mut theirs_tuned));
        for (what, gone) in [("", plain), (", our kernel options", tuned)] {
            let name = format!("virtme-ng {}{what}", virtme::VERSION);
            table.row([name, String::new(), String::new(), format!("{gone:.2}")]);
        }
        figures.value("ratio, virtme-ng to ours restored", format!("{:.1}", plain / ours));
        figures.value("the same with our kernel options", format!("{:.1}", tuned / ours));
    }
    memory(session, figures, hypervisor, &restored, release)?;
    let folder = snapshot.state().parent().context("a snapshot has a folder")?;
    let blocks = fs::read_dir(folder)
        .and_then(|files| files.map(|file| Ok(file?.metadata()?.blocks())).sum::<std::io::Result<u64>>());
    let blocks = blocks.with_context(|| format!("failed to look at `{}`", folder.display()))?;
    let disk = format!("{} MB", blocks * 512 / 1_000_000);
    figures.value("disk of its snapshot (its memory is a sparse file)", disk);
    Ok(exit::Exit::Passed)
}

/// What virtme-ng gave, or nothing and a note: it costs its own rows only. An interruption is an error.
fn or_without<T>(figures: &Figures, session: &Session, result: Result<T>) -> Result<Option<T>> {
    session.host.cancel().check()?;
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            figures.note(format!("without virtme-ng: {error:#}"));
            Ok(None)
        }
    }
}

/// Prints the medians; gives that of the whole.
fn show(table: &Table<'_>, what: &str, all: &[Took]) -> f64 {
    let of = |point: fn(&Took) -> f64| median(&mut all.iter().map(point).collect::<Vec<_>>());
    let (answer, output, gone) = (of(|took| took.answer_s), of(|took| took.output_s), of(|took| took.gone_s));
    let shown = [answer, output, gone].map(|seconds| format!("{seconds:.2}"));
    table.row([what.to_owned()].into_iter().chain(shown));
    gone
}

/// A VM that has run a command, and still lives.
struct Living<'a> {
    talk: Talk<'a>,
    answer: Duration,
    output: Duration,
}

/// From asking for the VM to its end, timed.
fn once(session: &Session, hypervisor: &dyn Hypervisor, spec: &VmSpec, release: &str) -> Result<Took> {
    let asked = Instant::now();
    let Living { talk, answer, output } = live(session, hypervisor, spec, release, asked)?;
    talk.end(PATIENCE)?;
    Ok(Took {
        answer_s: answer.as_secs_f64(),
        output_s: output.as_secs_f64(),
        gone_s: asked.elapsed().as_secs_f64(),
    })
}

fn live<'a>(
    session: &'a Session,
    hypervisor: &dyn Hypervisor,
    spec: &VmSpec,
    release: &str,
    asked: Instant,
) -> Result<Living<'a>> {
    let mut talk = Talk::start(hypervisor, spec, Opening::draw()?, session.host.cancel())?;
    talk.wait_for_answer(PATIENCE, |_| {})?;
    let answer = asked.elapsed();
    let program = Program {
        argv: ["uname", "-r"].map(str::to_owned).to_vec(),
        cwd: "/".to_owned(),
        env: [("PATH".to_owned(), "/usr/sbin:/usr/bin".to_owned())].into(),
        make_dirs: vec![],
        load_modules: vec![],
        disks: vec![],
        replaced: None,
    };
    let output = OutputBudget { burst_bytes: 1 << 20, bytes_per_s: 1 << 20 };
    let test = StartTest { attempt: 1, program, output, grace_ms: 500, sampled: false };
    talk.send(&Request::StartTest(test))?;
    let mut said = Vec::new();
    let exit = talk.wait(PATIENCE, |input| match input {
        Input::Agent(Ok(Message::Output { data, .. })) => {
            said.extend(data);
            None
        }
        Input::Agent(Ok(Message::Finished(finished))) => Some(finished.exit),
        _ => None,
    })?;
    let output = asked.elapsed();
    let said = String::from_utf8_lossy(&said);
    ensure!(exit == Exit::Code(0) && said.trim() == release, "`uname -r` said `{said}` and came to {exit:?}");
    Ok(Living { talk, answer, output })
}

/// What QEMU takes of the host's memory, for one VM and for several at once, each when it has run a command.
fn memory(
    session: &Session,
    figures: &Figures,
    hypervisor: &dyn Hypervisor,
    spec: &VmSpec,
    release: &str,
) -> Result<()> {
    let own = std::process::id();
    let before = descendants_of(own);
    let pss_mib = || -> Result<u64> {
        let new = descendants_of(own).into_iter().filter(|pid| !before.contains(pid));
        Ok(new.map(pss_kib).sum::<Result<u64>>()? / 1024)
    };
    let mut living = Vec::new();
    for n in 1..=N_AT_ONCE {
        session.host.cancel().check()?;
        let log = log_of(&spec.log, n);
        living.push(live(session, hypervisor, &VmSpec { log, ..spec.clone() }, release, Instant::now())?);
        if n == 1 {
            let name = format!("memory of one VM of {BENCH_RAM_MIB} MiB (Pss of QEMU)");
            figures.value(name, format!("{} MiB", pss_mib()?));
        }
    }
    let all = pss_mib()?;
    let fits = if all <= FITS_MIB { "fits in" } else { "DOES NOT FIT IN" };
    let value = format!("{all} MiB, {fits} {} GiB", FITS_MIB >> 10);
    figures.value(format!("memory of {N_AT_ONCE} such VMs at once"), value);
    Ok(())
}

fn log_of(log: &Path, n: usize) -> std::path::PathBuf {
    log.with_extension(format!("{n}.log"))
}
