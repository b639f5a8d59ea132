//! `cargo xtask bench vm`: from asking for a VM to a command's output and the VM being gone, restored, booted, and by
//! virtme-ng; the memory of VMs, and the disk that a snapshot takes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use protocol::program::{Exit, Program};
use protocol::wire::{Message, OutputBudget, Request, StartTest, VERSION};
use vm_images::build::checkout::Sources;
use vm_images::spec::KernelSpec;

use super::virtme::{self, Virtme};
use super::{BENCH_RAM_MIB, median};
use crate::bench::page::figure;
use crate::children::{descendants_of, pss_kib};
use crate::exit;
use harness::attempt::drive::opening;
use harness::machine::accel::AccelChoice;
use harness::machine::snapshot::Snapshots;
use harness::machine::{Hypervisor, Input, Vm, VmSpec, qemu};
use harness::run::plan::boot_timeout;
use harness::run::prepare;
use harness::session::Session;

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
    kernel: &KernelSpec,
    n_rounds: u32,
    with_virtme: bool,
) -> Result<exit::Exit> {
    let specs = std::slice::from_ref(kernel);
    let prepared = prepare::prepare(session, specs, &Sources::default(), AccelChoice::Tcg)?;
    let boot = prepared.kernels.first().context("no kernel to boot")?;
    let release = boot.kernel.release.as_str();
    let log = session.store.temporary().join("bench-qemu.log");
    let booted = VmSpec { log, ..boot.vm(&prepared.guest, prepared.chosen.accel, BENCH_RAM_MIB, 1) };
    let hypervisor: &dyn Hypervisor = &prepared.qemu;
    let snapshots = Snapshots::new(hypervisor, &session.store, &*session.terminal, session.host.cancel());
    let state = snapshots.of(&booted, boot_timeout(prepared.chosen.accel))?;
    let restored = VmSpec { restore: Some(state.clone()), ..booted.clone() };
    let apt = session.apt()?;
    let virtme = match with_virtme {
        true => Some(Virtme::prepare(session, &session.images(&apt)?, &prepared.qemu, &boot.kernel)?),
        false => None,
    };

    let (mut ours, mut cold) = (Vec::new(), Vec::new());
    let (mut theirs, mut theirs_tuned) = (Vec::new(), Vec::new());
    for round in 1..=n_rounds {
        session.host.cancel().check()?;
        session.terminal.timed(&format!("round {round} of {n_rounds}"));
        ours.push(once(hypervisor, &restored, release)?);
        cold.push(once(hypervisor, &booted, release)?);
        if let Some(virtme) = &virtme {
            theirs.push(virtme.once(BENCH_RAM_MIB, "", release)?.as_secs_f64());
            theirs_tuned.push(virtme.once(BENCH_RAM_MIB, qemu::CHEAPER, release)?.as_secs_f64());
        }
    }
    figure!(
        "ask for a VM, have the output of `uname -r`, VM gone: {release}, 1 processor, {BENCH_RAM_MIB} MiB, {}, medians of {n_rounds}",
        prepared.chosen.accel
    );
    figure!("{:<44} {:>10} {:>10} {:>10}", "seconds until", "answer", "output", "gone");
    let ours = show("ours, restored", &ours);
    show("ours, booted", &cold);
    if with_virtme {
        let (plain, tuned) = (median(&mut theirs), median(&mut theirs_tuned));
        for (what, gone) in [("", plain), (", our kernel options", tuned)] {
            let name = format!("virtme-ng {}{what}", virtme::VERSION);
            figure!("{name:<44} {:>10} {:>10} {gone:>10.2}", "", "");
        }
        figure!(
            "ratio, virtme-ng to ours restored: {:.1}; with our kernel options {:.1}",
            plain / ours,
            tuned / ours
        );
    }
    memory(session, hypervisor, &restored, release)?;
    let folder = state.parent().context("a snapshot has a folder")?;
    let blocks = fs::read_dir(folder)
        .and_then(|files| files.map(|file| Ok(file?.metadata()?.blocks())).sum::<std::io::Result<u64>>());
    let blocks = blocks.with_context(|| format!("failed to look at `{}`", folder.display()))?;
    figure!("disk of its snapshot: {} MB (its memory is a sparse file)", blocks * 512 / 1_000_000);
    Ok(exit::Exit::Passed)
}

/// Prints the medians; gives that of the whole.
fn show(what: &str, all: &[Took]) -> f64 {
    let of = |point: fn(&Took) -> f64| median(&mut all.iter().map(point).collect::<Vec<_>>());
    let (answer, output, gone) = (of(|took| took.answer_s), of(|took| took.output_s), of(|took| took.gone_s));
    figure!("{what:<44} {answer:>10.2} {output:>10.2} {gone:>10.2}");
    gone
}

/// A VM that has run a command, and still lives.
struct Living {
    vm: Box<dyn Vm>,
    told: Receiver<Input>,
    answer: Duration,
    output: Duration,
}

/// From asking for the VM to its end, timed.
fn once(hypervisor: &dyn Hypervisor, spec: &VmSpec, release: &str) -> Result<Took> {
    let asked = Instant::now();
    let Living { mut vm, told, answer, output } = live(hypervisor, spec, release, asked)?;
    vm.kill();
    wait(&told, asked, |input| matches!(input, Input::Ended(_)).then_some(()))?;
    drop(vm);
    Ok(Took {
        answer_s: answer.as_secs_f64(),
        output_s: output.as_secs_f64(),
        gone_s: asked.elapsed().as_secs_f64(),
    })
}

fn live(hypervisor: &dyn Hypervisor, spec: &VmSpec, release: &str, asked: Instant) -> Result<Living> {
    let (inputs, told) = sync_channel(64);
    let mut vm = hypervisor.start(spec, inputs)?;
    let opening = opening()?;
    vm.send(&Request::Hello { version: VERSION, session: opening.session, entropy: opening.entropy })?;
    wait(&told, asked, |input| matches!(input, Input::Agent(Ok(Message::Hello { .. }))).then_some(()))?;
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
    vm.send(&Request::StartTest(StartTest { attempt: 1, program, output, grace_ms: 500, sampled: false }))?;
    let mut said = Vec::new();
    let exit = wait(&told, asked, |input| match input {
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
    Ok(Living { vm, told, answer, output })
}

/// Waits for an input that `take` takes.
fn wait<T>(told: &Receiver<Input>, asked: Instant, mut take: impl FnMut(Input) -> Option<T>) -> Result<T> {
    const PATIENCE: Duration = Duration::from_secs(180);
    loop {
        let left = PATIENCE.saturating_sub(asked.elapsed());
        let input = told.recv_timeout(left).context("a VM did not do in time what it should")?;
        let end = match &input {
            Input::Ended(end) => Some(end.clone()),
            _ => None,
        };
        if let Some(answer) = take(input) {
            return Ok(answer);
        }
        if let Some(end) = end {
            bail!("a VM ended too early: {end:?}");
        }
    }
}

/// What QEMU takes of the host's memory, for one VM and for several at once, each when it has run a command.
fn memory(session: &Session, hypervisor: &dyn Hypervisor, spec: &VmSpec, release: &str) -> Result<()> {
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
        living.push(live(hypervisor, &VmSpec { log, ..spec.clone() }, release, Instant::now())?);
        if n == 1 {
            figure!("memory of one VM of {BENCH_RAM_MIB} MiB (Pss of QEMU): {} MiB", pss_mib()?);
        }
    }
    let all = pss_mib()?;
    let fits = if all <= FITS_MIB { "fits in" } else { "DOES NOT FIT IN" };
    figure!("memory of {N_AT_ONCE} such VMs at once: {all} MiB, {fits} {} GiB", FITS_MIB >> 10);
    Ok(())
}

fn log_of(log: &Path, n: usize) -> std::path::PathBuf {
    log.with_extension(format!("{n}.log"))
}
