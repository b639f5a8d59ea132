//! The time of a step of a search over commits of md, from an edit to the verdict of a five-second test.
//! Compared are `bisect` with an overlay; the same build, but a booted guest; the overlay's modules built
//! from nothing, and a boot; `make` in a whole kernel tree, and a boot, as developers do without overlays;
//! and a whole kernel built from nothing, and a boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::machine::accel::AccelChoice;
use harness::run::{self, Options};
use harness::session::Session;
use reports::Verdict;
use vm_images::host::progress::Progress;
use vm_images::images::Images;
use vm_images::spec::KernelSpec;
use vm_images::spec::user::UserSource;

use super::build::{both_ways, edit, edited_tree};
use super::{median, options, prepared};
use crate::bench::figures::{Figures, left, right};
use crate::exit::Exit;

/// Promises: seconds of a step, and the ratios of the other ways to it.
const PROMISED_S: f64 = 20.0;
const PROMISED_OF_MAKE: f64 = 1.3;
const PROMISED_OF_NOTHING: f64 = 10.0;

/// Files that most commits to md change; their common header is reported separately.
const FILES: [&str; 3] = ["raid5.c", "md.c", "dm-raid.c"];
const HEADER: &str = "md.h";

/// A test of five seconds that mostly waits, like tests of resyncs.
const SCRIPT: &str = "#!/bin/bash
# md-regress: ram=768M,disks=2x64M,timeout=2m,modules=raid1
set -ex
mdadm --create /dev/md0 --run --level=1 --raid-devices=2 $MD_REGRESS_DISKS
mdadm --wait /dev/md0 || true
sleep $((5 - SECONDS))
mdadm --stop /dev/md0
";

/// Seconds of a step in each way, one for each round.
#[derive(Default)]
struct StepSeconds {
    ours: Vec<f64>,
    boots: Vec<f64>,
    modules_from_nothing: Vec<f64>,
    make: Vec<f64>,
}

/// A copy of drivers/md, or of a whole kernel tree, that is edited.
struct Edited {
    tree: PathBuf,
    spec: KernelSpec,
}

pub(super) fn steps(
    session: &Session,
    figures: &Figures,
    accel: AccelChoice,
    rounds: usize,
    kernel_tree: Option<&Path>,
) -> Result<Exit> {
    ensure!(rounds > 0, "nothing is measured in no rounds");
    let (_, accel) = prepared(session, figures, accel)?;
    let apt = session.apt()?;
    let (images, clean) = both_ways(session, &apt)?;
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(session.store.temporary())?.keep();
    let (tree, spec) = edited_tree(session, &images, &scratch)?;
    let overlay = Edited { tree, spec };
    let whole = kernel_tree.map(|tree| copied(session, tree, &scratch)).transpose()?;
    let script = scratch.join("five-seconds.sh");
    fs::write(&script, SCRIPT).with_context(|| format!("failed to write `{}`", script.display()))?;
    let runs = scratch.join("runs");
    let step = |of: &Edited, snapshots: bool| -> Result<f64> {
        let plain = options(accel, "lvm2", None, &runs)?;
        let (kernels, scripts) = (vec![of.spec.clone()], vec![script.clone()]);
        run(session, figures, &Options { kernels, scripts, snapshots, ..plain })
    };
    // The first step of each kind is not counted: it builds everything and saves the guest.
    step(&overlay, true)?;
    let mut from_nothing = None;
    if let Some(whole) = &whole {
        session.terminal.timed("a whole kernel from nothing, which takes minutes");
        let seconds = built(&clean, &whole.spec)?;
        // The kernel is built before, in a folder of its own, so that only the boot is timed.
        images.kernel(&whole.spec)?;
        from_nothing = Some(seconds + step(whole, false)?);
    }
    let mut of_sources = StepSeconds::default();
    let mut of_header = StepSeconds::default();
    for round in 1..=rounds {
        for file in FILES.into_iter().chain([HEADER]) {
            session.terminal.timed(&format!("round {round} of {rounds}: {file}"));
            let ways = if file == HEADER { &mut of_header } else { &mut of_sources };
            edit(&overlay.tree, file)?;
            ways.ours.push(step(&overlay, true)?);
            edit(&overlay.tree, file)?;
            ways.boots.push(step(&overlay, false)?);
            if let Some(whole) = &whole {
                edit(&whole.tree, file)?;
                ways.make.push(step(whole, false)?);
            }
            edit(&overlay.tree, file)?;
            let seconds = built(&clean, &overlay.spec)?;
            // Not timed: makes everything that a run needs.
            images.kernel(&overlay.spec)?;
            ways.modules_from_nothing.push(seconds + step(&overlay, false)?);
        }
    }
    session.terminal.end_step();
    vm_images::host::tree::remove_tree(&scratch)?;
    let title =
        format!("a step, from the edit to the verdict of a test of 5 s; medians of {rounds} rounds, seconds");
    let columns = vec![left("edit of", 36), right(FILES.join(", "), 26), right(HEADER, 18)];
    let table = figures.table(title, columns);
    let (ours, of_ours) = (median(&mut of_sources.ours), median(&mut of_header.ours));
    table.row(["ours: an overlay, restored".to_owned(), format!("{ours:.1}"), format!("{of_ours:.1}")]);
    let row = |name: &str, seconds: f64, of_header: f64| {
        let shown = |seconds: f64, ours: f64| format!("{seconds:.1} ({:.2})", seconds / ours);
        table.row([name.to_owned(), shown(seconds, ours), shown(of_header, of_ours)]);
        seconds / ours
    };
    row("the same, booted", median(&mut of_sources.boots), median(&mut of_header.boots));
    row(
        "its modules from nothing, booted",
        median(&mut of_sources.modules_from_nothing),
        median(&mut of_header.modules_from_nothing),
    );
    let mut kept = ours < PROMISED_S;
    if let Some(from_nothing) = from_nothing {
        let of_make =
            row("make in a kernel tree, booted", median(&mut of_sources.make), median(&mut of_header.make));
        let of_nothing = row("a kernel from nothing, booted", from_nothing, from_nothing);
        kept &= of_make >= PROMISED_OF_MAKE && of_nothing >= PROMISED_OF_NOTHING;
    }
    figures.note(
        "in brackets: times as long as ours; promised for sources: under 20 s, 1.3 times for make in a kernel tree, 10 \
         times for a kernel from nothing",
    );
    Ok(if kept { Exit::Passed } else { Exit::TestsFailed })
}

/// A copy of a whole tree, without its git history.
fn copied(session: &Session, tree: &Path, scratch: &Path) -> Result<Edited> {
    let copy = scratch.join("whole");
    session.terminal.timed(&format!("copying `{}`", tree.display()));
    fs::create_dir(&copy).with_context(|| format!("failed to make `{}`", copy.display()))?;
    let words =
        ["-c", r#"tar --create --directory "$1" --exclude=./.git . | tar --extract --directory "$2""#, "sh"];
    session.host.call("sh").args(words).arg(tree).arg(&copy).run(&scratch.join("log"))?;
    let spec = KernelSpec::built_from(UserSource::Tree(copy.clone()));
    Ok(Edited { tree: copy, spec })
}

/// Seconds of a build.
fn built(images: &Images<'_>, spec: &KernelSpec) -> Result<f64> {
    let started = Instant::now();
    images.kernel(spec)?;
    Ok(started.elapsed().as_secs_f64())
}

/// Seconds of a run, which must pass.
fn run(session: &Session, figures: &Figures, options: &Options) -> Result<f64> {
    let started = Instant::now();
    let ran = run::run(session, options)?.context("no test was selected")?;
    let seconds = started.elapsed().as_secs_f64();
    figures.ran(&ran.record);
    let judged = ran.judged.first().context("nothing was tried")?;
    ensure!(
        matches!(judged.verdict, Verdict::Passed | Verdict::PassedWithComplaints),
        "the test of five seconds did not pass: {}; logs: `{}`",
        judged.explanation(),
        ran.dir.display()
    );
    Ok(seconds)
}
