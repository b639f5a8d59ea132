//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use regex::Regex;
use vm_images::kernel_spec::KernelSpec;

use crate::select::Selection;
use crate::test;
use crate::vm::accel::AccelChoice;

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
    /// Run tests, each in a VM of its own, and report
    #[command(after_help = TEST_HELP)]
    Test(TestOptions),
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

const TEST_HELP: &str = "\
Examples:
  cargo xtask test                                   the two tests that the project began with, on Debian's 6.12
  cargo xtask test --kernel deb:6.1 --kernel deb:6.12
  cargo xtask test 'lvconvert-raid-*'                names or globs, with or without shell/ and .sh
  cargo xtask test --tag reshape --exclude '*-load*'
  cargo xtask test -E 'lvcreate-raid.*'              a regular expression, searched in suite:name

The report is in reports/out/latest: summary.md, junit.xml, events.jsonl, and each test's logs.";

#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Tests to run: names or globs (default: the suite's default tags)
    #[arg(value_name = "TEST")]
    patterns: Vec<String>,
    /// Kernel to test: deb:BRANCH (its newest build) or deb:RELEASE; may be given several times
    #[arg(long = "kernel", value_name = "SPEC", default_value = "deb:6.12", env = "MD_REGRESS_KERNEL")]
    kernels: Vec<KernelSpec>,
    /// Suite to take tests from
    #[arg(long, default_value = "lvm2")]
    suite: String,
    /// Also run all tests with this tag
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Also run all tests that match a regular expression
    #[arg(short = 'E', long = "expression", value_name = "REGEX")]
    expressions: Vec<Regex>,
    /// Leave out tests that match a name or glob
    #[arg(long, value_name = "TEST")]
    exclude: Vec<String>,
    /// How guest code is executed
    #[arg(long, value_enum, default_value_t, env = "MD_REGRESS_ACCEL")]
    accel: AccelChoice,
    /// VMs at a time (default: as many as the processors bear)
    #[arg(short, long = "jobs", value_name = "N")]
    n_vms: Option<usize>,
    /// Folder that runs are written to
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_OUT")]
    out: Option<PathBuf>,
}

impl From<TestOptions> for test::Options {
    fn from(options: TestOptions) -> Self {
        test::Options {
            kernels: options.kernels,
            suite: options.suite,
            selection: Selection {
                patterns: options.patterns,
                expressions: options.expressions,
                tags: options.tags,
                exclude: options.exclude,
            },
            accel: options.accel,
            n_vms: options.n_vms,
            out: options.out,
        }
    }
}
