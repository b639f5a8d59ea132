//! `cargo xtask clean`: frees disk space. Without an option it only says what there is. Everything that it
//! removes is made again when needed, except runs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use harness::error::usage;
use harness::run::folder::default_runs;
use harness::run::order;
use harness::session::Session;
use harness::terminal::outln;
use vm_images::store::space::bytes_of;

use crate::exit::Exit;
use crate::smoke::kept;

#[derive(Debug, Args)]
pub(crate) struct CleanOptions {
    /// Guests to restore
    #[arg(long)]
    pub(crate) snapshots: bool,
    /// Roots, guest images, kernels
    #[arg(long)]
    pub(crate) images: bool,
    /// What kernels and their modules are built with and from
    #[arg(long)]
    pub(crate) builds: bool,
    /// Fetched packages
    #[arg(long)]
    pub(crate) downloads: bool,
    /// All of these
    #[arg(long)]
    pub(crate) all: bool,
    /// Old runs, which cannot be made again; never by --all
    #[arg(long)]
    pub(crate) runs: bool,
    /// Newest runs that stay
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) keep: usize,
    /// Folder of the runs
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_OUT")]
    pub(crate) out: Option<PathBuf>,
    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Also while another md-regress uses the store
    #[arg(long)]
    pub(crate) force: bool,
}

/// Kinds of files in the store, by the option that removes them.
const KINDS: [(&str, &[&str], &str); 4] = [
    ("--snapshots", &["snapshots"], "guests to restore; each takes one boot to make again"),
    (
        "--images",
        &[
            "tools",
            "build",
            "guest",
            "guest-checkout",
            "lvm2",
            "lvm2-checkout",
            "mdadm",
            "mdadm-checkout",
            "kernel",
            "kernel-own",
            "initramfs",
            "apt",
            "probes",
            "logs",
            "replacements",
        ],
        "roots, guest image, kernels; about two minutes to make again",
    ),
    (
        "--builds",
        &[
            "build",
            "headers",
            "kbuild",
            "kernel-source",
            "known-files",
            "modules",
            "modules-from-nothing",
            "overlay",
            "own-kernel",
            "own-kernel-from-nothing",
            "planted",
        ],
        "what kernels and their modules are built with and from; the first build takes minutes again",
    ),
    ("--downloads", &["files"], "packages as they were fetched"),
];

pub(crate) fn run(session: &Session, options: &CleanOptions) -> Result<Exit> {
    let out = options.out.clone().unwrap_or_else(default_runs);
    let chosen = [options.snapshots, options.images, options.builds, options.downloads]
        .map(|chosen| chosen || options.all);
    let runs = old_runs(&out, options.keep)?;
    let n_others = session.store.n_others()?;
    if (options.runs || chosen.contains(&true)) && n_others > 0 && !options.force {
        return Err(usage(anyhow::anyhow!(
            "the store is in use by {n_others} other md-regress; wait for it, or use --force"
        )));
    }
    let stock = session.store.inventory();
    let mut is_anything_chosen = options.runs;
    for ((option, kinds, meaning), chosen) in KINDS.into_iter().zip(chosen) {
        let of_kind = stock.iter().filter(|stock| kinds.contains(&stock.kind.as_str()));
        let bytes: u64 = of_kind.map(|stock| stock.bytes).sum();
        is_anything_chosen |= chosen;
        if chosen && !options.dry_run {
            kinds.iter().for_each(|kind| session.store.remove_all(kind));
        }
        line(option, bytes, chosen, options.dry_run, meaning);
    }
    let bytes = runs.iter().map(|run| bytes_of(run)).sum();
    if options.runs && !options.dry_run {
        for run in &runs {
            fs::remove_dir_all(run).with_context(|| format!("failed to remove run `{}`", run.display()))?;
        }
    }
    let meaning =
        format!("runs in {}, but for the newest {}: {} of them", out.display(), options.keep, runs.len());
    line("--runs", bytes, options.runs, options.dry_run, &meaning);
    outln!("store: {}", session.store.root().display());
    if !is_anything_chosen {
        session.terminal.say("nothing was removed: say what by an option");
    }
    Ok(Exit::Passed)
}

fn line(option: &str, bytes: u64, chosen: bool, dry_run: bool, meaning: &str) {
    let done = match (chosen, dry_run) {
        (true, false) => "removed",
        (true, true) => "would go",
        (false, _) => "",
    };
    outln!("{option:<12} {:>8} MB  {done:<8}  {meaning}", bytes / 1_000_000);
}

/// True for the folder of a check that failed (`selftest`).
fn is_check(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(kept::PREFIX) && path.is_dir()
}

/// True for the folder of a shell.
fn is_shell(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("shell-") && path.join("console.log").is_file()
}

/// All runs except the newest `keep`, oldest first. Only folders with events are runs.
fn old_runs(out: &Path, keep: usize) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", out.display())),
    };
    let is_run = |path: &PathBuf| {
        !path.is_symlink() && (path.join("events.jsonl").is_file() || is_shell(path) || is_check(path))
    };
    let mut runs: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_run).collect();
    order::sort(&mut runs);
    runs.truncate(runs.len().saturating_sub(keep));
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_runs_go() {
        let out = tempfile::tempdir().unwrap();
        for name in ["2026-01-01T00-00-00Z", "2026-01-02T00-00-00Z", "2026-01-03T00-00-00Z"] {
            fs::create_dir(out.path().join(name)).unwrap();
            fs::write(out.path().join(name).join("events.jsonl"), "").unwrap();
        }
        fs::create_dir(out.path().join("0-not-a-run")).unwrap();
        assert!(old_runs(out.path(), 3).unwrap().is_empty());
        let check = out.path().join("selftest-2026-01-04T00-00-00Z");
        fs::create_dir(&check).unwrap();
        assert_eq!(old_runs(out.path(), 3).unwrap().len(), 1, "a failed check's runs are runs");
        fs::remove_dir(&check).unwrap();
        std::os::unix::fs::symlink("2026-01-03T00-00-00Z", out.path().join("latest")).unwrap();
        assert_eq!(old_runs(out.path(), 1).unwrap().len(), 2);
        assert_eq!(old_runs(out.path(), 2).unwrap(), [out.path().join("2026-01-01T00-00-00Z")]);
        assert!(old_runs(out.path(), 9).unwrap().is_empty());
        assert!(old_runs(&out.path().join("none"), 0).unwrap().is_empty());
    }
}
