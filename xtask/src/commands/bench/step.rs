//! What a step of a search over commits of md takes, from an edit to the verdict of a test of five seconds: as `bisect`
//! makes it, and by the plain ways: what was built goes on but the guest boots, and all of it from nothing.

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
const PROMISED_OF_BOOT: f64 = 1.3;
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
    from_nothing: Vec<f64>,
}

pub(super) fn steps(session: &Session, rounds: usize) -> Result<Exit> {
    ensure!(rounds > 0, "nothing is measured in no rounds");
    let apt = session.apt()?;
    let (images, clean) = (session.images(&apt)?, session.images(&apt)?.building_from_nothing());
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(session.store.temporary())?.keep();
    let (tree, spec) = edited_tree(session, &images, &scratch)?;
    let script = scratch.join("five-seconds.sh");
    fs::write(&script, SCRIPT).with_context(|| format!("failed to write `{}`", script.display()))?;
    let asked = |snapshots: bool| -> Result<Options> {
        let plain = options("lvm2", None, &scratch.join("runs"))?;
        Ok(Options { kernels: vec![spec.clone()], scripts: vec![script.clone()], snapshots, ..plain })
    };
    // The first of each kind is not a step: the guest is saved, all is built once.
    run(session, &asked(true)?)?;
    let mut edit = u64::from(std::process::id()) * 1000;
    let mut of_sources = Ways::default();
    let mut of_header = Ways::default();
    for round in 1..=rounds {
        for file in FILES.into_iter().chain([HEADER]) {
            session.terminal.timed(&format!("round {round} of {rounds}: {file}"));
            let ways = if file == HEADER { &mut of_header } else { &mut of_sources };
            let path = tree.join("drivers/md").join(file);
            let mut edited = || {
                edit += 1;
                edit_file(&path, edit)
            };
            edited()?;
            ways.ours.push(run(session, &asked(true)?)?);
            edited()?;
            ways.boots.push(run(session, &asked(false)?)?);
            edited()?;
            let built = from_nothing(&clean, &spec)?;
            // Not timed: what a run takes is there then.
            images.kernel(&spec)?;
            ways.from_nothing.push(built + run(session, &asked(false)?)?);
        }
    }
    session.terminal.end_step();
    vm_images::store::remove_tree(&scratch)?;
    outln!("a step, from the edit to the verdict of a test of 5 s; medians of {rounds} rounds, seconds");
    outln!("{:<28} {:>8} {:>18} {:>24}", "edit of", "ours", "builds on, boots", "from nothing, boots");
    let shown = |name: &str, ways: &mut Ways| {
        let (ours, boots, nothing) =
            (median(&mut ways.ours), median(&mut ways.boots), median(&mut ways.from_nothing));
        let (of_boot, of_nothing) = (boots / ours, nothing / ours);
        let (boots, nothing) =
            (format!("{boots:.1} ({of_boot:.2})"), format!("{nothing:.1} ({of_nothing:.1})"));
        outln!("{name:<28} {ours:>8.1} {boots:>18} {nothing:>24}");
        ours < PROMISED_S && of_boot >= PROMISED_OF_BOOT && of_nothing >= PROMISED_OF_NOTHING
    };
    let kept = shown(&FILES.join(", "), &mut of_sources);
    shown(HEADER, &mut of_header);
    outln!("in brackets: times as long as ours; promised for sources: under 20 s, 1.3 and 10 times");
    Ok(if kept { Exit::Passed } else { Exit::TestsFailed })
}

/// Seconds of a build of all modules.
fn from_nothing(clean: &Images<'_>, spec: &KernelSpec) -> Result<f64> {
    let started = Instant::now();
    clean.kernel(spec)?;
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
