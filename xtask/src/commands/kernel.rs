//! `cargo xtask kernel`: lists the kernels that the mirror offers, and fetches them.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Subcommand;
use harness::error::usage;
use harness::session::Session;
use harness::terminal::outln;
use vm_images::host::progress::Progress;
use vm_images::spec::KernelSpec;
use vm_images::spec::debian::DEFAULT_FLAVOUR;

use crate::exit::Exit;

#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// Show the kernels that the mirror offers, oldest first: branch, version, spec
    #[command(
        after_help = "Examples:\n  cargo xtask kernel list\n  cargo xtask kernel list 6.12\n  cargo xtask test --kernel $(cargo xtask kernel list --newest)"
    )]
    List {
        /// Only this branch, for example 6.12
        branch: Option<String>,
        /// Also the kernels that are not built for the cloud
        #[arg(long)]
        all_flavours: bool,
        /// Only the name of the newest branch, for --kernel
        #[arg(long, conflicts_with_all = ["branch", "all_flavours"])]
        newest: bool,
    },
    /// Fetch kernels and prepare them for booting
    #[command(after_help = "Examples:\n  cargo xtask kernel fetch deb:6.1 deb:6.12.107+deb13-cloud-amd64")]
    Fetch {
        /// As for `test`
        #[arg(required = true)]
        specs: Vec<KernelSpec>,
    },
}

pub(crate) fn run(session: &Session, command: &KernelCommand) -> Result<Exit> {
    match command {
        KernelCommand::List { newest: true, .. } => newest(session),
        KernelCommand::List { branch, all_flavours, newest: false } => {
            list(session, branch.as_deref(), *all_flavours)
        }
        KernelCommand::Fetch { specs } => fetch(session, specs),
    }
}

fn list(session: &Session, branch: Option<&str>, all_flavours: bool) -> Result<Exit> {
    let apt = session.apt()?;
    let kernels = session.images(&apt)?.kernels_offered()?;
    session.terminal.end_step();
    let branch = branch.map(|branch| branch.strip_prefix("deb:").unwrap_or(branch));
    let mut n_shown = 0;
    for kernel in &kernels {
        let wanted = branch.is_none_or(|branch| branch == kernel.branch)
            && (all_flavours || kernel.flavour == DEFAULT_FLAVOUR);
        if wanted {
            outln!("{:<8} {:<24} deb:{}", kernel.branch, kernel.version, kernel.release);
            n_shown += 1;
        }
    }
    if n_shown > 0 {
        return Ok(Exit::Passed);
    }
    let mut branches: Vec<_> = kernels.iter().map(|kernel| kernel.branch.as_str()).collect();
    branches.dedup();
    let branch = branch.unwrap_or("any branch");
    Err(usage(anyhow::anyhow!(
        "the mirror has no kernel of {branch}; it has branches {}",
        branches.join(", ")
    )))
}

/// Prints only the newest branch: nightly jobs cannot name it beforehand.
fn newest(session: &Session) -> Result<Exit> {
    let apt = session.apt()?;
    let kernels = session.images(&apt)?.kernels_offered()?;
    session.terminal.end_step();
    let ours = kernels.iter().rfind(|kernel| kernel.flavour == DEFAULT_FLAVOUR);
    let newest = ours.with_context(|| format!("the mirror has no kernel of flavour {DEFAULT_FLAVOUR}"))?;
    outln!("deb:{}", newest.branch);
    Ok(Exit::Passed)
}

fn fetch(session: &Session, specs: &[KernelSpec]) -> Result<Exit> {
    let apt = session.apt()?;
    let images = session.images(&apt)?;
    for spec in specs {
        let kernel = images.kernel(spec)?;
        session.terminal.end_step();
        let version = kernel.package_version.as_deref().unwrap_or("-");
        let folder = kernel.replacement.as_ref().map_or(kernel.artifact.dir.clone(), |replacement| {
            replacement.image().parent().map_or_else(Default::default, Path::to_owned)
        });
        outln!("{spec}  {}  {version}  {}", kernel.release, folder.display());
    }
    Ok(Exit::Passed)
}
