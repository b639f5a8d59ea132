//! What a step of a search over commits of md takes, from an edit to the verdict of a test of five seconds: as `bisect`
//! makes it with an overlay, and by the plain ways. These are the same build but a guest that boots; make in a whole
//! kernel tree, and a boot; the overlay's modules from nothing, and a boot; a whole kernel from nothing, and a boot.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use reports::Verdict;
use vm_images::images::Images;
use vm_images::kernel_spec::KernelSpec;
use vm_images::progress::Progress;

use super::build::{edit_file, edited_tree};
use super::{median, options};
use crate::exit::Exit;
use crate::session::Session;
use crate::terminal::outln;
use crate::test::{self, Options};

/// What is promised: seconds of a step, and how much longer the plain ways take.
const PROMISED_S: f64 = 20.0;
const PROMISED_OF_MAKE: f64 = 1.3;
const PROMISED_OF_NOTHING: f64 = 10.0;

/// What most commits to md change; the header that all share is told apart.
const FILES: [&str; 3] = ["raid5.c", "md.c", "dm-raid.c"];
const HEADER: &str = "md.h";

/// A test of five seconds, most of which it waits, as tests of resyncs do.
const SCRIPT: &str = "#!/bin/bash
# md-regress: ram=768M,disks=2x64M,timeout=2m,modules=raid1
set -ex
mdadm --create /dev/md0 --run --level=1 --raid-devices=2 $MD_REGRESS_DISKS
mdadm --wait /dev/md0 || true
sleep $((5 - SECONDS))
mdadm --stop /dev/md0
";

/// Seconds of a step in each way, a round each.
#[derive(Default)]
struct Ways {
    ours: Vec<f64>,
    boots: Vec<f64>,
    make: Vec<f64>,
    modules_from_nothing: Vec<f64>,
}

pub(super) fn steps(session: &Session, rounds: usize) -> Result<Exit> {
    ensure!(rounds > 0, "nothing is measured in no rounds");
    let apt = session.apt()?;
    let (images, clean) = (session.images(&apt)?, session.images(&apt)?.building_from_nothing());
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(session.store.temporary())?.keep();
    let (tree, overlay) = edited_tree(session, &images, &scratch)?;
    let whole: KernelSpec = format!("tree:{}", tree.display()).parse()?;
    let script = scratch.join("five-seconds.sh");
    fs::write(&script, SCRIPT).with_context(|| format!("failed to write `{}`", script.display()))?;
    let runs = scratch.join("runs");
    let asked = |spec: &KernelSpec, snapshots: bool| -> Result<Options> {
        let plain = options("lvm2", None, &runs)?;
        Ok(Options { kernels: vec![spec.clone()], scripts: vec![script.clone()], snapshots, ..plain })
    };
    // Never the edits of an earlier call: what those came to is in the store.
    let mut edit = u64::from(std::process::id()) * 1000;
    let mut edited = |file: &str| {
        edit += 1;
        edit_file(&tree.join("drivers/md").join(file), edit)
    };
    session.terminal.timed("a whole kernel from nothing, which takes minutes");
    edited(HEADER)?;
    let whole_from_nothing = built(&clean, &whole)?;
    // The first of each kind is not a step: all is built once, the guest is saved.
    session.terminal.timed("the first of each kind, which is not timed");
    run(session, &asked(&overlay, true)?)?;
    let whole_boots = run(session, &asked(&whole, false)?)?;
    let mut of_sources = Ways::default();
    let mut of_header = Ways::default();
    for round in 1..=rounds {
        for file in FILES.into_iter().chain([HEADER]) {
            session.terminal.timed(&format!("round {round} of {rounds}: {file}"));
            let ways = if file == HEADER { &mut of_header } else { &mut of_sources };
            edited(file)?;
            ways.ours.push(run(session, &asked(&overlay, true)?)?);
            edited(file)?;
            ways.boots.push(run(session, &asked(&overlay, false)?)?);
            edited(file)?;
            ways.make.push(run(session, &asked(&whole, false)?)?);
            edited(file)?;
            let seconds = built(&clean, &overlay)?;
            // Not timed: what a run takes is there then.
            images.kernel(&overlay)?;
            ways.modules_from_nothing.push(seconds + run(session, &asked(&overlay, false)?)?);
        }
    }
    session.terminal.end_step();
    vm_images::store::remove_tree(&scratch)?;
    outln!("a step, from the edit to the verdict of a test of 5 s; medians of {rounds} rounds, seconds");
    outln!("{:<34} {:>22} {:>22}", "edit of", FILES.join(", "), HEADER);
    let (ours, of_ours) = (median(&mut of_sources.ours), median(&mut of_header.ours));
    outln!("{:<34} {ours:>22.1} {of_ours:>22.1}", "ours: overlay, restored");
    let row = |name: &str, seconds: f64, of_header: f64| {
        let shown = |seconds: f64, ours: f64| format!("{seconds:.1} ({:.2})", seconds / ours);
        outln!("{name:<34} {:>22} {:>22}", shown(seconds, ours), shown(of_header, of_ours));
        seconds / ours
    };
    row("the same, booted", median(&mut of_sources.boots), median(&mut of_header.boots));
    let of_make =
        row("make in a whole tree, booted", median(&mut of_sources.make), median(&mut of_header.make));
    row(
        "modules from nothing, booted",
        median(&mut of_sources.modules_from_nothing),
        median(&mut of_header.modules_from_nothing),
    );
    let whole = whole_from_nothing + whole_boots;
    let of_nothing = row("a whole kernel from nothing, booted", whole, whole);
    outln!(
        "in brackets: times as long as ours; promised for sources: under 20 s, 1.3 times for make in a tree, 10 times for \
            a kernel from nothing"
    );
    let kept = ours < PROMISED_S && of_make >= PROMISED_OF_MAKE && of_nothing >= PROMISED_OF_NOTHING;
    Ok(if kept { Exit::Passed } else { Exit::TestsFailed })
}

/// Seconds of a build.
fn built(images: &Images<'_>, spec: &KernelSpec) -> Result<f64> {
    let started = Instant::now();
    images.kernel(spec)?;
    Ok(started.elapsed().as_secs_f64())
}

/// Seconds of a run, which must pass.
fn run(session: &Session, options: &Options) -> Result<f64> {
    let started = Instant::now();
    let ran = test::run(session, options)?.context("no test was selected")?;
    let seconds = started.elapsed().as_secs_f64();
    let judged = ran.judged.first().context("nothing was tried")?;
    ensure!(
        matches!(judged.verdict, Verdict::Passed | Verdict::PassedWithComplaints),
        "the test of five seconds did not pass: {}; logs: `{}`",
        judged.explanation(),
        ran.dir.display()
    );
    Ok(seconds)
}
