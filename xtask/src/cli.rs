//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use vm_images::kernel_spec::KernelSpec;

/// Regression tests for md and dm-raid: real kernels in QEMU, real test suites, verdicts with evidence.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = crate::exit::HELP)]
pub(crate) struct Cli {
    /// Base of the Debian archive (…/debian); else the one of the host's own package configuration
    #[arg(long, global = true, value_name = "URL", env = "MD_REGRESS_MIRROR")]
    pub(crate) mirror: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the tools root and the guest image, or say where they are
    Image,
    /// List or fetch kernels
    #[command(subcommand)]
    Kernel(KernelCommand),
    /// Renew vm-images/artifacts.lock: the newest packages and kernels that the mirror has
    Update(UpdateOptions),
    /// Remove a temporary folder when standard input ends
    #[command(hide = true)]
    Janitor { folder: PathBuf },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// Show the kernels that the mirror offers, oldest first: branch, version, spec
    #[command(after_help = "Examples:\n  cargo xtask kernel list\n  cargo xtask kernel list 6.12")]
    List {
        /// Only this branch, for example 6.12
        branch: Option<String>,
        /// Also the kernels that are not built for the cloud
        #[arg(long)]
        all_flavours: bool,
    },
    /// Fetch kernels and prepare them for booting
    #[command(after_help = "Examples:\n  cargo xtask kernel fetch deb:6.1 deb:6.12.107+deb13-cloud-amd64")]
    Fetch {
        /// deb:BRANCH or deb:RELEASE
        #[arg(required = true)]
        specs: Vec<KernelSpec>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct UpdateOptions {
    /// Branches to pin
    #[arg(long = "kernel", value_name = "SPEC", default_values = ["deb:6.1", "deb:6.12"])]
    pub(crate) kernels: Vec<KernelSpec>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
