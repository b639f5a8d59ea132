//! An outer guest: an emulated machine whose kernel has KVM, with this work tree's xtask and a filled store
//! in it. The harness runs in it under KVM where the host has none.
//!
//! QEMU's emulator has AMD's virtualisation (`-cpu max`), and Debian's kernels for the cloud have `kvm-amd`.
//! What the inner harness writes is in the outer guest's memory and goes with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use harness::machine::accel::AccelChoice;
use harness::run::prepare::build_agent;
use harness::session::Session;
use harness::shell::{self, FinishedShell, Options};
use harness::workspace::workspace;
use vm_images::build::checkout::Sources;
use vm_images::host::progress::Progress;

/// Makes the machine ready in the outer guest, and starts xtask.
const START: &str = include_str!("outer/start.sh");

/// Memory of the outer guest, MiB: the inner guests' memory, and all that is written.
const RAM_MIB: u32 = 6144;
/// Its processors. With two the emulator loses guests, inner and outer (docs/how/kvm.md).
const VCPUS: u32 = 1;
/// Its kernel: the one that is tested anyway.
const KERNEL: &str = "deb:6.12";

/// Parts of the work tree that the harness reads while it runs.
const READ_AT_RUN_TIME: [&str; 2] = ["suites", "vm-images"];

/// Runs `xtask` with `words` in an outer guest that is given `image`, with its output on ours.
///
/// # Errors
/// If the outer guest cannot be started; how it ended is in what it gives.
pub(crate) fn run(session: &Session, image: &Path, words: &[&str]) -> Result<FinishedShell> {
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is no text");
    let mut argv = vec!["sh".to_owned(), "-c".to_owned(), START.to_owned(), "outer".to_owned()];
    for path in [workspace(), session.store.root()] {
        argv.push(text(path)?);
    }
    argv.extend(words.iter().map(|&word| word.to_owned()));
    shell::run(
        session,
        &Options {
            kernels: vec![KERNEL.parse()?],
            suite: "canary".to_owned(),
            sources: Sources::default(),
            append: String::new(),
            accel: AccelChoice::Tcg,
            snapshots: false,
            ram_mib: Some(RAM_MIB),
            vcpus: Some(VCPUS),
            out: None,
            argv,
            outer_image: Some(image.to_owned()),
        },
    )
}

/// True in an outer guest: it has the image.
pub(crate) fn is_here() -> bool {
    let blocks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut serials = blocks.filter_map(|block| fs::read_to_string(block.path().join("serial")).ok());
    serials.any(|serial| serial.trim() == "mdr-outer")
}

/// The image with the outer guest's xtask, work tree and store, which holds `artifacts` of this store: a
/// squashfs in our temporary folder.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn image(session: &Session, artifacts: &[PathBuf]) -> Result<PathBuf> {
    let xtask = std::env::current_exe().context("failed to find our own program")?;
    let agent = build_agent(session)?;
    session.terminal.step("making the image of an outer guest");
    let apt = session.apt()?;
    let tools = session.images(&apt)?.tools()?;
    let work = tempfile::Builder::new().prefix("outer-").tempdir_in(session.store.temporary())?;
    let (tree, log) = (work.path().join("tree"), session.store.temporary().join("outer.log"));
    let copy = |from: &Path, to: &Path, words: &[&str]| {
        let folder = to.parent().context("a file has a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
        Ok::<_, anyhow::Error>(session.host.call("cp").args(words).arg(from).arg(to).run(&log)?)
    };
    let store = session.store.root();
    for artifact in artifacts {
        let place = artifact.strip_prefix(store).context("an artifact lies outside of its store")?;
        // Links: nothing of it is written there or here.
        copy(artifact, &tree.join("store").join(place), &["-al"])?;
    }
    for name in READ_AT_RUN_TIME {
        copy(&workspace().join(name), &tree.join("workspace").join(name), &["-a"])?;
    }
    copy(&xtask, &tree.join("xtask"), &["-L"])?;
    copy(&agent, &tree.join("agent"), &["-L"])?;
    copy(&apt.mirror().keyring, &tree.join("keys.gpg"), &["-L"])?;
    let list = tree.join("sources.list");
    fs::write(&list, format!("deb {} trixie main\n", apt.mirror().debian))
        .with_context(|| format!("failed to write `{}`", list.display()))?;
    let image = session.store.temporary().join("outer.squashfs");
    tools.squashfs(&session.host, &tree, &image, &[]).run(&log)?;
    session.terminal.end_step();
    Ok(image)
}
