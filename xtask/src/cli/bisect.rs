//! The command lines of `bisect`, `bisect-step` and `series`.

use std::path::PathBuf;

use clap::Args;
use vm_images::kernel_spec::DebianSpec;

use crate::cli::{GuestOptions, PolicyOptions, SelectionOptions};
use harness::bisect::published::Range;
use harness::run::options::Options;
use harness::suite::DEFAULT_SUITE;

pub(crate) const BISECT_HELP: &str = "\
Examples:
  cargo xtask bisect --kernel-tree ~/linux --good v6.12.95 --bad HEAD --overlay deb:6.12 -E lvconvert-raid-reshape.sh
  cargo xtask bisect --kernel-tree ~/linux --good v6.6 --bad v6.7 --script repro.sh -- drivers/md
  cargo xtask bisect --kernels deb:6.12.43..6.12.117 --script repro.sh     Debian's builds: nothing is built
  cargo xtask bisect --kernels deb:6.12.107..6.12.111 --find-fix --script repro.sh
  cargo xtask bisect --resume                    go on where the newest search was cut off

Both ends are tested first. From then on only the failure that was seen at the bad end counts: what fails in
another way, does not build, does not boot or skips is left out, and said. A test that fails only sometimes is
tried as often as it takes. Where the kernel reports nothing, failures by chance look alike: how often they come
is learnt from the passing end and all other trials, and --signature leaves them out. The tree is only read. The
report is in reports/out/bisect-<time>/: report.txt, bisect.log (for `git bisect replay`), state.json, and each run
below runs/.

Exit codes:
  0    one commit was found
  1    it is one of several, which no test tells apart, or only the most likely one
  2    the question makes no sense: no repository, no such revision, an end that is not as it was said to be
  4    the harness or the host failed; nothing is known, --resume goes on
  130  interrupted; --resume goes on";

pub(crate) const STEP_HELP: &str = "\
Examples:
  cargo xtask bisect-step --print --overlay deb:6.12 lvconvert-raid-reshape     the line to give to git
  git bisect run /path/to/xtask bisect-step --overlay=deb:6.12 --signature=stop_sync_thread -- lvconvert-raid-reshape

Tests the work tree that it is called in, as it is: with what another program has applied to it.

Exit codes, for git:
  0    good
  1    bad
  125  skip: it does not build or boot, the tests skip, or they go wrong in another way than --signature says
  129  nothing is known: the host, the harness or the command line is at fault, and git stops
  130  interrupted, and git stops";

pub(crate) const SERIES_HELP: &str = "\
Examples:
  cargo xtask series --kernel-tree ~/linux --base v6.12.95 --tip HEAD --overlay deb:6.12 -E lvconvert-raid-reshape.sh
  cargo xtask series --kernel-tree ~/linux --base origin/master --mbox v2-series.mbox --overlay deb:6.12 integrity-caching

The exit code is 0 if every test passed on every commit after the base, 1 if not; else as for `test`.";

/// What is run on each kernel, and how.
#[derive(Debug, Args)]
pub(crate) struct TrialOptions {
    #[command(flatten)]
    selection: SelectionOptions,
    /// A script of your own as the test; may be given several times
    #[arg(long = "script", value_name = "FILE")]
    scripts: Vec<PathBuf>,
    /// What the scripts need, as for `test`
    #[arg(long, value_name = "NEEDS", requires = "scripts")]
    script_needs: Option<String>,
    /// Suite to take tests from
    #[arg(long, default_value = DEFAULT_SUITE, env = "MD_REGRESS_SUITE")]
    suite: String,
    /// Flavour that tests are run in
    #[arg(long = "flavour", value_name = "NAME", env = "MD_REGRESS_FLAVOUR", value_delimiter = ',')]
    flavours: Vec<String>,
    #[command(flatten)]
    guest: GuestOptions,
    #[command(flatten)]
    policy: PolicyOptions,
    /// Folder with debug information, as for `test`
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_DEBUG_INFO")]
    debug_info: Vec<PathBuf>,
    /// VMs at a time (default: as many as the processors bear)
    #[arg(short = 'j', long = "jobs", value_name = "N", env = "MD_REGRESS_JOBS", value_parser = clap::value_parser!(u16).range(1..))]
    n_vms: Option<u16>,
    /// Folder that is written to
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_OUT")]
    out: Option<PathBuf>,
}

/// `cargo xtask bisect`.
#[derive(Debug, Args)]
pub(crate) struct BisectOptions {
    /// Kernel tree, a git repository; it is only read
    #[arg(long, value_name = "DIR", conflicts_with = "range")]
    pub(crate) kernel_tree: Option<PathBuf>,
    /// Revision without the bug
    #[arg(long, value_name = "REV", requires = "kernel_tree")]
    pub(crate) good: Option<String>,
    /// Revision with the bug
    #[arg(long, value_name = "REV", requires = "kernel_tree")]
    pub(crate) bad: Option<String>,
    /// Build only md, its levels and dm-raid of each commit, on this kernel of Debian's; without it, whole kernels
    #[arg(long, value_name = "SPEC", requires = "kernel_tree")]
    pub(crate) overlay: Option<DebianSpec>,
    /// Search Debian's builds, as deb:6.12.43..6.12.117, instead of a tree's commits
    #[arg(id = "range", long = "kernels", value_name = "RANGE")]
    pub(crate) range: Option<Range>,
    /// The bug is in the older one: find what mended it
    #[arg(long)]
    pub(crate) find_fix: bool,
    /// Try each end so many times at least (default: as often as it takes)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: Option<u32>,
    /// Go on until the answer is that likely
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = probability)]
    pub(crate) confidence: f64,
    /// How often the test is believed to fail by chance, before any trial, where the kernel does not report what
    /// failed: 5%, or 0.05 (default: 3%; trials tell more, first of all those of the passing end)
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) chance_failures: Option<f64>,
    /// Only a failure that mentions this counts: in its signature, known issue, detail or last lines
    #[arg(long, value_name = "TEXT")]
    pub(crate) signature: Option<String>,
    /// Go on with a search that was cut off, as it was asked: its folder (default: the newest)
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        default_missing_value = "latest",
        conflicts_with_all = ["kernel_tree", "range", "find_fix", "repeat", "confidence", "chance_failures", "signature", "scripts", "paths"]
    )]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) trial: TrialOptions,
    /// Only commits that touch these, relative to the tree's top (default with --overlay: what it builds)
    #[arg(last = true, value_name = "PATH")]
    pub(crate) paths: Vec<String>,
}

/// `cargo xtask bisect-step`.
#[derive(Debug, Args)]
pub(crate) struct StepOptions {
    /// Kernel tree (default: the one that it is called in)
    #[arg(long, value_name = "DIR")]
    pub(crate) kernel_tree: Option<PathBuf>,
    /// Build only its md, levels and dm-raid, on this kernel of Debian's
    #[arg(long, value_name = "SPEC")]
    pub(crate) overlay: Option<DebianSpec>,
    /// Only a failure that mentions this is bad; another is skipped
    #[arg(long, value_name = "TEXT")]
    pub(crate) signature: Option<String>,
    /// Try so many times; one failure is bad
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: u32,
    /// Print the line to give to git, and test nothing
    #[arg(long)]
    pub(crate) print: bool,
    #[command(flatten)]
    pub(crate) trial: TrialOptions,
}

/// `cargo xtask series`.
#[derive(Debug, Args)]
pub(crate) struct SeriesOptions {
    /// Kernel tree, a git repository; it is only read
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) kernel_tree: PathBuf,
    /// What the series is based on
    #[arg(long, value_name = "REV")]
    pub(crate) base: String,
    /// Its last commit
    #[arg(long, value_name = "REV", required_unless_present = "mbox", conflicts_with = "mbox")]
    pub(crate) tip: Option<String>,
    /// Or the mails that it came in
    #[arg(long, value_name = "FILE")]
    pub(crate) mbox: Option<PathBuf>,
    /// Build only md, its levels and dm-raid of each commit, on this kernel of Debian's; without it, whole kernels
    #[arg(long, value_name = "SPEC")]
    pub(crate) overlay: Option<DebianSpec>,
    /// Try each test so many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: u32,
    #[command(flatten)]
    pub(crate) trial: TrialOptions,
}

fn probability(text: &str) -> Result<f64, &'static str> {
    let p: Option<f64> = text.parse().ok();
    p.filter(|p| (0.5..1.0).contains(p)).ok_or("not a probability from 0.5 to less than 1, such as 0.95")
}

/// `5%` or `0.05`.
fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    let rate = rate.ok().filter(|rate| (0.001..=0.3).contains(rate));
    rate.ok_or("not a rate from 0.1% to 30%, such as 5% or 0.05")
}

impl TrialOptions {
    /// The folder that is written to, if one is named.
    pub(crate) fn out(&self) -> Option<PathBuf> {
        self.out.clone()
    }

    /// True if it says what is to be run.
    pub(crate) fn selects(&self) -> bool {
        !self.scripts.is_empty() || !self.selection.is_empty()
    }
}

impl From<TrialOptions> for Options {
    fn from(options: TrialOptions) -> Self {
        Options {
            selection: options.selection.into_selection(),
            sources: options.guest.sources.into(),
            flavours: options.flavours,
            scripts: options.scripts,
            script_needs: options.script_needs,
            append: options.guest.append,
            accel: options.guest.accel,
            policy: options.policy.into(),
            n_vms: options.n_vms.map(usize::from),
            out: options.out,
            debug_info: options.debug_info,
            snapshots: !options.guest.no_snapshot,
            // Without a history: kernels between two releases would blur what is known of either.
            ..Options::new(&options.suite)
        }
    }
}
