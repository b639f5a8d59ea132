//! `bench build`: the time to build md in a step of a search. An edit is built on top of the last build, and
//! for comparison from nothing. Both must give identical modules.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::session::Session;
use vm_images::build::workshop::BuildTuning;
use vm_images::debian::apt::Apt;
use vm_images::host::progress::Progress;
use vm_images::images::Images;
use vm_images::kernel::Kernel;
use vm_images::spec::{KernelSpec, Overlay};

use super::median;
use crate::bench::figures::{Figures, left, right};
use crate::exit::Exit;

/// Edited files: those that most commits to md change, and their common header.
const FILES: [&str; 4] = ["raid5.c", "md.c", "dm-raid.c", "md.h"];
/// Kernel whose md is edited.
const KERNEL: &str = "deb:6.12";

pub(super) fn build(session: &Session, figures: &Figures, rounds: usize) -> Result<Exit> {
    ensure!(rounds > 0, "nothing is measured in no rounds");
    let apt = session.apt()?;
    let (images, clean) = both_ways(session, &apt)?;
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(session.store.temporary())?.keep();
    let (tree, spec) = edited_tree(session, &images, &scratch)?;
    let first = timed(&images, &spec)?;
    figures.value(format!("modules of {}, first build", first.0.release), format!("{:.1} s", first.1));
    let columns =
        vec![left("edit of", 12), right("goes on, s", 14), right("from nothing, s", 16), right("ratio", 8)];
    let table = figures.table(format!("medians of {rounds}"), columns);
    for file in FILES {
        let (mut incremental, mut from_nothing) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            session.terminal.timed(&format!("{file}: round {round} of {rounds}"));
            edit(&tree, file)?;
            let (on, seconds) = timed(&images, &spec)?;
            incremental.push(seconds);
            let (nothing, seconds) = timed(&clean, &spec)?;
            from_nothing.push(seconds);
            ensure!(same(&on, &nothing)?, "{file}: what is built on differs from what is built from nothing");
        }
        let (on, nothing) = (median(&mut incremental), median(&mut from_nothing));
        let shown = [on, nothing, nothing / on].map(|number| format!("{number:.1}"));
        table.row([file.to_owned()].into_iter().chain(shown));
    }
    session.terminal.end_step();
    vm_images::host::tree::remove_tree(&scratch)?;
    Ok(Exit::Passed)
}

/// Images that are built from what there is, and others that are built from nothing.
pub(super) fn both_ways<'a>(session: &'a Session, apt: &'a Apt<'a>) -> Result<(Images<'a>, Images<'a>)> {
    let clean = session.images(apt)?.tuned(BuildTuning { from_nothing: true });
    Ok((session.images(apt)?, clean))
}

/// A copy of the kernel's source below `scratch`, to be edited, and the kernel with its md.
pub(super) fn edited_tree(
    session: &Session,
    images: &Images<'_>,
    scratch: &Path,
) -> Result<(PathBuf, KernelSpec)> {
    let source = images.kernel_source(&images.kernel(&KERNEL.parse()?)?)?;
    let (tree, log) = (scratch.join("linux"), scratch.join("log"));
    session.host.call("cp").arg("-a").arg(source.path("tree")).arg(&tree).run(&log)?;
    let spec = KernelSpec::overlaid(KERNEL.parse()?, Overlay::Tree(tree.clone()));
    Ok((tree, spec))
}

/// Makes a change to a file of md in `tree` that affects the compiled code, and that no earlier call has
/// made: the store has the modules of those.
pub(super) fn edit(tree: &Path, file: &str) -> Result<()> {
    static N_EDITS: AtomicU64 = AtomicU64::new(0);
    let number = u64::from(std::process::id()) * 1000 + N_EDITS.fetch_add(1, Ordering::Relaxed);
    let file = tree.join("drivers/md").join(file);
    let text = match file.extension() {
        Some(extension) if extension == "h" => format!("\n#define MD_REGRESS_EDIT_{number} {number}\n"),
        Some(_) | None => {
            format!(
                "\nint md_regress_edit_{number}(void);\nint md_regress_edit_{number}(void) {{ return {number}; }}\n"
            )
        }
    };
    let opened = OpenOptions::new().append(true).open(&file);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("failed to edit `{}`", file.display()))
}

fn timed(images: &Images<'_>, spec: &KernelSpec) -> Result<(Kernel, f64)> {
    let started = Instant::now();
    let kernel = images.kernel(spec)?;
    Ok((kernel, started.elapsed().as_secs_f64()))
}

/// True if both kernels give the guest identical modules.
fn same(one: &Kernel, other: &Kernel) -> Result<bool> {
    let image = |kernel: &Kernel| {
        let replacement = kernel.replacement.as_ref().context("nothing was replaced")?;
        let image = replacement.image();
        fs::read(&image).with_context(|| format!("failed to read `{}`", image.display()))
    };
    Ok(image(one)? == image(other)?)
}
