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
/// Its processors. The inner harness runs two VMs at a time, as on any small host.
const VCPUS: u32 = 1;
/// Its kernel: the one that is tested anyway.
const KERNEL: &str = "deb:6.12";

/// Parts of the work tree that the harness reads while it runs.
const READ_AT_RUN_TIME: [&str; 2] = ["suites", "vm-images"];

/// Runs `xtask` with `words` in an outer guest, with its output on ours. The store there holds the artifacts
/// that this process has asked for so far.
///
/// # Errors
/// If the outer guest cannot be made or started; how it ended is in what it gives.
pub(crate) fn run(session: &Session, words: &[&str]) -> Result<FinishedShell> {
    let xtask = std::env::current_exe().context("failed to find our own program")?;
    let agent = build_agent(session)?;
    let image = image(session, &xtask, &agent)?;
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is no text");
    let mut argv = vec!["sh".to_owned(), "-c".to_owned(), START.to_owned(), "outer".to_owned()];
    for path in [workspace(), session.store.root(), &xtask, &agent] {
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
            outer: Some(image),
        },
    )
}

/// The image with the outer guest's xtask, work tree and store: a squashfs in our temporary folder.
fn image(session: &Session, xtask: &Path, agent: &Path) -> Result<PathBuf> {
    session.terminal.step("making the image of an outer guest");
    let apt = session.apt()?;
    let tools = session.images(&apt)?.tools()?;
    let work = tempfile::Builder::new().prefix("outer-").tempdir_in(session.store.temporary())?.keep();
    let (tree, log) = (work.join("tree"), work.join("log"));
    let copy = |from: &Path, below: &Path, words: &[&str]| {
        let to = below.parent().context("a file has a folder")?;
        fs::create_dir_all(to).with_context(|| format!("failed to create `{}`", to.display()))?;
        Ok::<_, anyhow::Error>(session.host.call("cp").args(words).arg(from).arg(below).run(&log)?)
    };
    let store = session.store.root();
    for artifact in session.store.asked_for() {
        let place = artifact.strip_prefix(store).context("an artifact lies outside of its store")?;
        // Links: nothing of it is written there or here.
        copy(&artifact, &tree.join("store").join(place), &["-al"])?;
    }
    let of_workspace = |path: &Path| {
        let place = path.strip_prefix(workspace()).context("xtask was built outside of its work tree")?;
        Ok::<_, anyhow::Error>(tree.join("workspace").join(place))
    };
    for path in READ_AT_RUN_TIME.map(|name| workspace().join(name)) {
        copy(&path, &of_workspace(&path)?, &["-a"])?;
    }
    for file in [xtask, agent] {
        copy(file, &of_workspace(file)?, &["-a"])?;
    }
    let host = tree.join("host");
    copy(&apt.mirror().keyring, &host.join("usr/share/keyrings/debian-archive-keyring.gpg"), &["-L"])?;
    let lists = host.join("etc/apt");
    fs::create_dir_all(&lists).with_context(|| format!("failed to create `{}`", lists.display()))?;
    fs::write(lists.join("sources.list"), format!("deb {} trixie main\n", apt.mirror().debian))?;
    let image = work.join("outer.squashfs");
    tools.squashfs(&session.host, &tree, &image, &[]).run(&log)?;
    session.terminal.end_step();
    Ok(image)
}
