//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::bench::BenchOptions;
use crate::commands::{
    bisect, bisect_step, clean, kernel, list, matrix, model, replay, selftest, series, shell, test, tidy,
    update,
};
use crate::options::{GlobalOptions, RunOptions, SourceOptions};

/// Regression tests for md and dm-raid: real kernels in QEMU, real test suites, verdicts with evidence.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = crate::exit::HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run tests, each in a VM of its own, and report
    #[command(after_help = format!("{}\n\n{}", test::TEST_HELP, crate::exit::HELP))]
    Test(test::TestOptions),
    /// Find the commit, or the build of Debian's, that broke a test, or mended it
    #[command(after_help = bisect::BISECT_HELP)]
    Bisect(bisect::BisectOptions),
    /// Test a kernel tree for `git bisect run`
    #[command(after_help = bisect_step::STEP_HELP)]
    BisectStep(bisect_step::StepOptions),
    /// Build and test every commit of a series: a table of patches and tests
    #[command(after_help = series::SERIES_HELP)]
    Series(series::SeriesOptions),
    /// Run the same tests with several versions of mdadm on several kernels: a table of both
    #[command(after_help = matrix::MATRIX_HELP)]
    Matrix(matrix::MatrixOptions),
    /// Judge a run again from its events, without a VM, by the expectations of this work tree
    #[command(after_help = format!("{}\n\n{}", replay::REPLAY_HELP, crate::exit::HELP))]
    Replay(replay::ReplayOptions),
    /// Open a shell in the guest that a test gets: same kernel, image, machine, modules, environment
    #[command(after_help = shell::SHELL_HELP)]
    Shell(shell::ShellOptions),
    /// Explore the port of md's and dm-raid's control logic, kernel by kernel; no VM is needed
    #[command(after_help = model::MODEL_HELP)]
    Model(model::ModelOptions),
    /// Show a suite's tests (name, and tags), or what is expected of them
    #[command(
        after_help = "Examples:\n  cargo xtask list --tag reshape\n  cargo xtask list -E . | wc -l\n  cargo xtask list -v integrity-caching       with what it needs, and what the tags mean\n  cargo xtask list --json --tag raid | jq -r '.[].id'\n  cargo xtask list --classes                  what fails a run, and the names for --fail-on\n  cargo xtask list --expected --kernel 6.7.9  what is expected on this kernel\n  cargo xtask list --stale                    what the last 10 attempts of a test did not meet"
    )]
    List(list::ListOptions),
    /// Make the tools root and the guest image, or say where they are
    #[command(
        after_help = "Examples:\n  MD_REGRESS_STORE=/srv/md-regress cargo xtask image\n  cargo xtask image --lvm2-src ~/src/lvm2      does this work tree build?"
    )]
    Image(SourceOptions),
    /// List or fetch kernels
    #[command(subcommand)]
    Kernel(kernel::KernelCommand),
    /// Renew vm-images/artifacts.lock: the newest packages and kernels that the mirror has
    #[command(
        after_help = "Examples:\n  cargo xtask update --dry-run\n  cargo xtask update --kernel deb:7.3      pin this branch, too"
    )]
    Update(update::UpdateOptions),
    /// Say what is there, what is missing, and what was chosen and why
    #[command(
        after_help = "Takes the options of `test`, to show what they come to.\n\nExamples:\n  cargo xtask doctor\n  cargo xtask doctor --accel kvm"
    )]
    Doctor {
        #[command(flatten)]
        run: RunOptions,
    },
    /// Free disk space; without an option, say what each would free
    #[command(
        after_help = "Examples:\n  cargo xtask clean                     what there is\n  cargo xtask clean --snapshots\n  cargo xtask clean --runs --keep 20    all runs but the newest 20\n  cargo xtask clean --all --dry-run"
    )]
    Clean(clean::CleanOptions),
    /// Print what a shell needs to complete our options
    #[command(
        after_help = "Examples:\n  source <(cargo xtask completions bash)\n  cargo xtask completions fish >~/.config/fish/completions/xtask.fish"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Run the project's own tests: exactly what CI runs
    #[command(
        after_help = "Examples:\n  cargo xtask selftest\n  cargo xtask selftest --no-vm        formatting, lints, unit tests\n  cargo xtask selftest --only-vm -f kill   one check on real QEMU\n  cargo xtask selftest --kvm --short      under KVM, in an emulated machine if this host has none"
    )]
    Selftest(selftest::SelftestOptions),
    /// Measure md-regress itself; each figure in docs/figures.md comes from one of these
    #[command(
        after_help = "Examples:\n  cargo xtask bench vm\n  cargo xtask bench hang --rounds 1 --pairs 1\n  cargo xtask bench vm --markdown                      also a report, for an issue or a mail\n  cargo xtask bench vm --markdown=docs/figures.md      the report between the markers of this page"
    )]
    Bench(BenchOptions),
    /// Check what neither compiler nor clippy does: floors, circles, cited files, pages and their commands
    #[command(after_help = tidy::HELP)]
    Tidy(tidy::TidyOptions),
    /// Remove a temporary folder when standard input ends
    #[command(hide = true)]
    Janitor { folder: PathBuf },
}
