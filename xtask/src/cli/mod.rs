//! The command line.

pub(crate) mod bisect;
pub(crate) mod config;
pub(crate) mod settings;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Parser, Subcommand};
use regex::Regex;
use reports::Policy;
use vm_images::checkout::Sources;
use vm_images::kernel_spec::{DebianSpec, KernelSpec, KernelSpecs};
use vm_images::store::STORE_VARIABLE;

use crate::bench::suite::SuiteBench;
use harness::error::usage;
use harness::machine::Tuning;
use harness::machine::accel::AccelChoice;
use harness::run::history;
use harness::run::options::Options;
use harness::run::shard::Shard;
use harness::run::tries::Times;
use harness::session;
use harness::shell;
use harness::suite::DEFAULT_SUITE;
use harness::suite::script;
use harness::suite::select::Selection;

/// Regression tests for md and dm-raid: real kernels in QEMU, real test suites, verdicts with evidence.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = crate::exit::HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What all commands understand.
#[derive(Clone, Debug, Args)]
pub(crate) struct GlobalOptions {
    /// Base of the Debian archive (…/debian); else the one of the host's own package configuration
    #[arg(long, global = true, value_name = "URL", env = "MD_REGRESS_MIRROR")]
    pub(crate) mirror: Option<String>,
    /// Folder that images are kept in (default: ~/.cache/md-regress)
    #[arg(long, global = true, value_name = "DIR", env = STORE_VARIABLE)]
    pub(crate) store: Option<PathBuf>,
    /// `private` for one of md-regress's own, or a program; else the host's if it is 9.0 or newer
    #[arg(long, global = true, value_name = "QEMU", env = "MD_REGRESS_QEMU")]
    pub(crate) qemu: Option<String>,
    /// Build trees, commits and checkouts of the user's even where this host forbids the namespaces that keep what they
    /// run from the network: only for sources whose authors you know
    #[arg(long, global = true, env = "MD_REGRESS_TRUST_SOURCE", value_parser = FalseyValueParser::new())]
    pub(crate) trust_source: bool,
}

impl From<GlobalOptions> for session::Options {
    fn from(options: GlobalOptions) -> Self {
        let GlobalOptions { mirror, store, qemu, trust_source } = options;
        session::Options { mirror, store, qemu, trust_source }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run tests, each in a VM of its own, and report
    #[command(after_help = format!("{TEST_HELP}\n\n{}", crate::exit::HELP))]
    Test(TestOptions),
    /// Find the commit, or the build of Debian's, that broke a test, or mended it
    #[command(after_help = bisect::BISECT_HELP)]
    Bisect(bisect::BisectOptions),
    /// Test a kernel tree for `git bisect run`
    #[command(after_help = bisect::STEP_HELP)]
    BisectStep(bisect::StepOptions),
    /// Build and test every commit of a series: a table of patches and tests
    #[command(after_help = bisect::SERIES_HELP)]
    Series(bisect::SeriesOptions),
    /// Judge a run again from its events, without a VM, by the expectations of this work tree
    #[command(after_help = format!("{REPLAY_HELP}\n\n{}", crate::exit::HELP))]
    Replay(ReplayOptions),
    /// Open a shell in the guest that a test gets: same kernel, image, machine, modules, environment
    #[command(after_help = SHELL_HELP)]
    Shell(ShellOptions),
    /// Explore the port of md's and dm-raid's control logic, kernel by kernel; no VM is needed
    #[command(after_help = MODEL_HELP)]
    Model(ModelOptions),
    /// Show a suite's tests: name, and tags
    #[command(
        after_help = "Examples:\n  cargo xtask list --tag reshape\n  cargo xtask list -E . | wc -l\n  cargo xtask list -v integrity-caching       with what it needs, and what the tags mean\n  cargo xtask list --json --tag raid | jq -r '.[].id'\n  cargo xtask list --classes                  what fails a run, and the names for --fail-on"
    )]
    List(ListOptions),
    /// Make the tools root and the guest image, or say where they are
    #[command(
        after_help = "Examples:\n  MD_REGRESS_STORE=/srv/md-regress cargo xtask image\n  cargo xtask image --lvm2-src ~/src/lvm2      does this work tree build?"
    )]
    Image(SourceOptions),
    /// List or fetch kernels
    #[command(subcommand)]
    Kernel(KernelCommand),
    /// Renew vm-images/artifacts.lock: the newest packages and kernels that the mirror has
    #[command(
        after_help = "Examples:\n  cargo xtask update --dry-run\n  cargo xtask update --kernel deb:7.3      pin this branch, too"
    )]
    Update(UpdateOptions),
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
    Clean(CleanOptions),
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
        after_help = "Examples:\n  cargo xtask selftest\n  cargo xtask selftest --no-vm        formatting, lints, unit tests\n  cargo xtask selftest --only-vm -f kill   one check on real QEMU"
    )]
    Selftest(SelftestOptions),
    /// Measure md-regress itself; each figure in README.md comes from one of these
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Check module docs and the direction of dependencies
    Tidy,
    /// Remove a temporary folder when standard input ends
    #[command(hide = true)]
    Janitor { folder: PathBuf },
}

const REPLAY_HELP: &str = "\
Examples:
  cargo xtask replay                                 the newest run
  cargo xtask replay 2026-11-22T18-45-53Z --check    would the verdicts be the same?
  cargo xtask replay ~/from-ci/run --out /tmp/again  a run from elsewhere, left as it is

A run that was killed is judged as far as its events go. The exit code is the one that `test`
would have given; with --check it is 0 if the verdicts are the same, and 1 if one differs.";

#[derive(Debug, Args)]
pub(crate) struct ReplayOptions {
    /// Folder of a run, or its name among the runs
    #[arg(default_value = "latest")]
    pub(crate) run: PathBuf,
    /// Write the reports into this folder, and leave those of the run as they are
    #[arg(id = "reports", long = "out", value_name = "DIR", conflicts_with = "check")]
    pub(crate) reports: Option<PathBuf>,
    /// Write nothing; fail if a verdict is not the one in the run's verdicts.json
    #[arg(long)]
    pub(crate) check: bool,
    /// Judge by these classes, and not by those that the run was given (as for `test`)
    #[arg(id = "replay_fail_on", long = "fail-on", value_name = "CLASS", value_delimiter = ',', value_parser = class)]
    pub(crate) fail_on: Option<Vec<String>>,
    /// The same of what passed when it was tried again
    #[arg(id = "replay_flaky", long = "flaky", value_enum, value_name = "WHAT")]
    pub(crate) flaky: Option<FlakyChoice>,
    /// Folder with debug information, for stacks with lines: `vmlinux`, modules as `*.ko` or `*.ko.debug`. As -dbg
    /// packages unpack it (/usr/lib/debug), or a kernel tree; may be given several times. The run's events are left as they are
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_DEBUG_INFO")]
    pub(crate) debug_info: Vec<PathBuf>,
    /// Folder that runs are looked for in (default: reports/out)
    #[arg(id = "out", long = "runs", value_name = "DIR", env = "MD_REGRESS_OUT")]
    pub(crate) runs: Option<PathBuf>,
}

const MODEL_HELP: &str = "\
Examples:
  cargo xtask model                           the table, beside what is expected
  cargo xtask model --scenario S1,S3 --all    in all kernels, and after each patch of the series
  cargo xtask model show S3 --era 6.7         the shortest way into the hang, step by step
  cargo xtask model show S1 --era 6.6 --mermaid
  cargo xtask model show S14 --era 6.8 --with ReapDirectly
  cargo xtask model walk --scenario S5a --era 6.8 --seed 1 --for 10s

Kernels: 6.1 (Debian's 6.1.192), 6.5, 6.6, 6.7, P1, P1-2 … P1-10 (6.7 with the first patches of the series),
v2 (all of it), 6.8, 6.9, 6.12, 7.3. The exit code is 1 if a cell is not as expected.";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ModelOptions {
    #[command(subcommand)]
    pub(crate) command: Option<ModelCommand>,
    /// Only these scenarios
    #[arg(long = "scenario", value_name = "NAME", value_delimiter = ',')]
    pub(crate) scenarios: Vec<String>,
    /// These kernels
    #[arg(long = "era", value_name = "KERNEL", value_delimiter = ',')]
    pub(crate) eras: Vec<String>,
    /// All kernels
    #[arg(long, conflicts_with = "eras")]
    pub(crate) all: bool,
    /// Stop a cell after so many states; it is then marked with a question mark
    #[arg(long, value_name = "N", default_value_t = 30_000_000)]
    pub(crate) max_states: usize,
    /// For programs
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Tell the worst of what a scenario comes to, step by step, and who waits for what at the end
    Show(ShowOptions),
    /// Take long random walks, which go where there are too many states to see all
    Walk(WalkOptions),
    /// Look at a scenario's states in a browser (stateright's Explorer)
    Explore(ExploreOptions),
}

#[derive(Debug, clap::Args)]
pub(crate) struct WalkOptions {
    /// Only these scenarios
    #[arg(long = "scenario", value_name = "NAME", value_delimiter = ',')]
    pub(crate) scenarios: Vec<String>,
    /// Kernel
    #[arg(long, value_name = "KERNEL", default_value = "7.3")]
    pub(crate) era: String,
    /// The first walk's seed; the next ones count on from it. By default another one each time
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// For how long
    #[arg(long = "for", value_name = "TIME", value_parser = time, default_value = "10s")]
    pub(crate) duration: Duration,
    /// Tell the first hang or corruption, or the first of these (as for `show`)
    #[arg(long, value_name = "TEXT")]
    pub(crate) finding: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExploreOptions {
    /// Scenario
    pub(crate) scenario: String,
    /// Kernel
    #[arg(long, value_name = "KERNEL", default_value = "6.7")]
    pub(crate) era: String,
    /// Where to serve the page
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    pub(crate) at: String,
}

#[derive(Debug, Args)]
pub(crate) struct ShowOptions {
    /// Scenario
    pub(crate) scenario: String,
    /// Kernel
    #[arg(long, value_name = "KERNEL", default_value = "6.7")]
    pub(crate) era: String,
    /// With these switches (era.rs): patches, or the mail's what-ifs
    #[arg(long, value_name = "SWITCH", value_delimiter = ',')]
    pub(crate) with: Vec<String>,
    /// Without these
    #[arg(long, value_name = "SWITCH", value_delimiter = ',')]
    pub(crate) without: Vec<String>,
    /// Not the worst, but this: DL, DC, livelock, churn, EIO, V, I5, or a part of its words
    #[arg(long, value_name = "TEXT")]
    pub(crate) finding: Option<String>,
    /// Stop after so many states
    #[arg(long, value_name = "N", default_value_t = 30_000_000)]
    pub(crate) max_states: usize,
    /// Every step, also those of which nothing is left when the next task takes over
    #[arg(long, conflicts_with_all = ["json", "mermaid", "html"])]
    pub(crate) full: bool,
    /// For programs
    #[arg(long, conflicts_with_all = ["mermaid", "html"])]
    pub(crate) json: bool,
    /// As a sequence diagram
    #[arg(long, conflicts_with = "html")]
    pub(crate) mermaid: bool,
    /// As a page with a column per task
    #[arg(long)]
    pub(crate) html: bool,
}

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

#[derive(Debug, Args)]
pub(crate) struct SelftestOptions {
    /// Leave out what boots a VM
    #[arg(long, conflicts_with = "only_vm")]
    pub(crate) no_vm: bool,
    /// Only what boots a VM
    #[arg(long)]
    pub(crate) only_vm: bool,
    /// Of the checks that boot a VM, only those whose name contains this
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
}

const BENCH_VM_HELP: &str = "\
Examples:
  cargo xtask bench vm
  cargo xtask bench vm --rounds 20 --no-virtme
  cargo xtask bench vm --no-virtme --kernel deb:6.12     the kernel that tests run on

virtme-ng comes from PyPI by pip, into the store; it is given the same QEMU, kernel, memory and processor.";

const BENCH_SUITE_HELP: &str = "\
Examples:
  cargo xtask bench suite                                   both runners, about a quarter of an hour
  cargo xtask bench suite --out /var/tmp/bench              the same, and goes on there if it was cut off
  cargo xtask bench suite --out /var/tmp/bench --cold       only what is missing there: each VM booted
  cargo xtask bench suite -j 2 -j 3 -j 4 -j 6 --no-runner   how many VMs at a time pay off
  cargo xtask bench suite --tests raid10 --tests vgsplit    some of the sample";

#[derive(Debug, Args)]
pub(crate) struct BenchSuiteOptions {
    /// Only tests of the sample whose names hold this; may be given several times
    #[arg(long, value_name = "PART")]
    tests: Vec<String>,
    /// VMs at a time (default: as for `test`); may be given several times, for a run each
    #[arg(short = 'j', long = "jobs", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    n_vms: Vec<u16>,
    /// Also boot each VM rather than restore it: the verdicts must be the same
    #[arg(long)]
    cold: bool,
    /// Leave LVM2's own runner out
    #[arg(long)]
    no_runner: bool,
    /// Folder that what was measured is kept in; what it has is not measured again
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// File that tells how long tests take, and that attempts are appended to (default: reports/history.jsonl)
    #[arg(long, value_name = "FILE", env = "MD_REGRESS_HISTORY")]
    history: Option<PathBuf>,
}

impl BenchSuiteOptions {
    /// As the bench wants it.
    pub(crate) fn asked(&self) -> SuiteBench {
        SuiteBench {
            tests: self.tests.clone(),
            n_vms: self.n_vms.clone(),
            cold: self.cold,
            no_runner: self.no_runner,
            out: self.out.clone(),
            history: self.history.clone().unwrap_or_else(history::default_file),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Set up an empty store; then from the second start to the first test's first line
    Setup,
    /// What the harness costs a test, and what memory a flood of output costs the harness
    Overhead {
        /// Pairs of runs to take the median of
        #[arg(long, default_value_t = 4)]
        pairs: usize,
    },
    /// What a step of a search over commits of md takes, against a boot and a build from nothing, and with --kernel-tree
    /// against make in a whole tree; with --simulate how often whole searches are right, and what they cost, against
    /// repeating each step until it is sure
    Bisect {
        /// Whole searches by lot: no kernel is built, no VM runs
        #[arg(long)]
        simulate: bool,
        /// Real steps of each kind
        #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "simulate")]
        rounds: usize,
        /// A whole kernel tree, to run make in a copy of it: as it stands a step, and once from nothing
        #[arg(long, value_name = "DIR", conflicts_with = "simulate")]
        kernel_tree: Option<PathBuf>,
        /// Searches
        #[arg(long, value_name = "N", default_value_t = 2000)]
        searches: u64,
        /// Commits to search
        #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=100_000))]
        commits: usize,
        /// How often a trial of a bad commit fails
        #[arg(long, value_name = "P", default_value_t = 0.3)]
        rate: f64,
        /// How often any trial fails by chance, for the table of searches whose failures bear no mark
        #[arg(
            long,
            value_name = "P,…",
            default_value = "0,0.02,0.05,0.1",
            value_delimiter = ',',
            requires = "simulate"
        )]
        noise: Vec<f64>,
        /// Searches of each line of that table
        #[arg(long, value_name = "N", default_value_t = 400, requires = "simulate")]
        cell: u64,
        /// The number that the first search's random numbers start from
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
    },
    /// The model: the whole table, states per second, memory; and the quick part of it that `selftest` runs
    Model {
        /// Only the quick part
        #[arg(long)]
        quick: bool,
    },
    /// What an edit of md costs until its modules can be plugged in, and the same from nothing, which must
    /// give the same modules
    Build {
        /// Edits of each file to take the median of
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Ask for a VM, have a command's output, VM gone: ours and virtme-ng's; memory of VMs, disk of a snapshot
    #[command(after_help = BENCH_VM_HELP)]
    Vm {
        /// Times that each way is gone; medians are shown
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: u32,
        /// Leave virtme-ng out
        #[arg(long)]
        no_virtme: bool,
        /// Kernel that both boot; one for any machine, because virtme-ng's root wants 9p, which those for the cloud lack
        #[arg(long, value_name = "SPEC", default_value = "deb:6.12-amd64")]
        kernel: KernelSpec,
    },
    /// 20 RAID tests of LVM2's by our scheduler and by LVM2's own runner in one VM: wall times, verdicts side by side
    #[command(after_help = BENCH_SUITE_HELP)]
    Suite(BenchSuiteOptions),
    /// Make a git history of the real drivers/md with a bug planted in one of 37 commits, to search it
    History {
        /// Folder to make it in
        dir: PathBuf,
        /// The bug, of suites/planted/plants
        #[arg(long, value_name = "NAME", default_value = "e3")]
        plant: String,
    },
    /// From a test's last move to the verdict and to the evidence; what watching costs
    Hang {
        /// Hangs of each kind
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Pairs of runs, watched and not, to take the median of
        #[arg(long, default_value_t = 3)]
        pairs: usize,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    pub(crate) selection: SelectionOptions,
    /// Suite to show
    #[arg(long, default_value = DEFAULT_SUITE, env = "MD_REGRESS_SUITE")]
    pub(crate) suite: String,
    /// In this flavour; may be given several times
    #[arg(long = "flavour", value_name = "NAME", value_delimiter = ',')]
    pub(crate) flavours: Vec<String>,
    /// Also what each test needs, and what the tags mean
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// For programs: everything that is known of each
    #[arg(long)]
    pub(crate) json: bool,
    /// No tests, but the classes of `test --fail-on`: what each is, and what it makes of a test
    #[arg(long)]
    pub(crate) classes: bool,
}

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

#[derive(Debug, Args)]
pub(crate) struct UpdateOptions {
    /// Branches to pin beside those that are pinned
    #[arg(long = "kernel", value_name = "SPEC", default_values = ["deb:6.1", "deb:6.12"])]
    pub(crate) kernels: Vec<DebianSpec>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

const TEST_HELP: &str = "\
Examples:
  cargo xtask test                                   the two tests of the seed, on deb:6.12
  cargo xtask test --kernel deb:6.1 --kernel deb:6.12
  cargo xtask test 'lvconvert-raid-*'                names or globs, with or without shell/ and .sh
  cargo xtask test --tag reshape --exclude '*-load*'
  cargo xtask test -E 'lvcreate-raid.*'              a regular expression, searched in suite:name
  cargo xtask test --flavour udev-vanilla lvcreate-raid
  cargo xtask test --script hang.sh --script-needs ram=2G,disks=4x256M --kernel deb:6.1 --kernel deb:6.12
  cargo xtask test --repeat 40 integrity-caching     how often does it fail?
  cargo xtask test --for 2h --until-fail --tag reshape
  cargo xtask test --lvm2-src ~/src/lvm2 my-new-test your own LVM2, with the tests that it has
  cargo xtask test --kernel deb:6.12+md:$HOME/linux  the md and dm-raid of your own kernel tree
  cargo xtask test --kernel git:$HOME/linux@v6.7     a kernel of your own

The report is in reports/out/latest: summary.md, junit.xml, verdicts.json, events.jsonl, and each
test's logs.";

/// Which tests. Each of these adds tests, but for `--exclude`; without any, the suite's default ones
/// are meant.
#[derive(Debug, Args)]
pub(crate) struct SelectionOptions {
    /// Names or globs (default: the suite's default tags)
    #[arg(value_name = "TEST")]
    patterns: Vec<String>,
    /// Also all tests with this tag
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Also all tests that match a regular expression
    #[arg(short = 'E', long = "expression", value_name = "REGEX")]
    expressions: Vec<Regex>,
    /// Leave out tests that match a name or glob
    #[arg(long, value_name = "TEST")]
    exclude: Vec<String>,
}

impl SelectionOptions {
    /// True if nothing is named, so that the suite's default tests are meant.
    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.tags.is_empty() && self.expressions.is_empty()
    }

    /// As the core wants it.
    pub(crate) fn into_selection(self) -> Selection {
        Selection {
            patterns: self.patterns,
            expressions: self.expressions,
            tags: self.tags,
            exclude: self.exclude,
        }
    }
}

/// What the guest's LVM2 and mdadm are built from.
#[derive(Clone, Debug, Args)]
pub(crate) struct SourceOptions {
    /// Build LVM2 and its tests from this git work tree (with what is not committed) or unpacked source,
    /// instead of Debian's source package
    #[arg(long, value_name = "DIR")]
    lvm2_src: Option<PathBuf>,
    /// The same for mdadm
    #[arg(long, value_name = "DIR")]
    mdadm_src: Option<PathBuf>,
}

impl From<SourceOptions> for Sources {
    fn from(options: SourceOptions) -> Self {
        Sources { lvm2: options.lvm2_src, mdadm: options.mdadm_src }
    }
}

/// What a guest is made of, and how it runs.
#[derive(Debug, Args)]
pub(crate) struct GuestOptions {
    /// Add to the kernel's command line
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub(crate) append: String,
    #[command(flatten)]
    pub(crate) sources: SourceOptions,
    /// How guest code is executed
    #[arg(long, value_enum, default_value_t, env = "MD_REGRESS_ACCEL")]
    pub(crate) accel: AccelChoice,
    /// Boot each VM instead of restoring it from a snapshot that was saved after one boot
    #[arg(long)]
    pub(crate) no_snapshot: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    #[command(flatten)]
    selection: SelectionOptions,
    /// Run a script of your own as a test; may be given several times. It runs as LVM2's tests do: their
    /// folder, environment, and exit contract (0 passed, 200 skipped). Among its first lines it may say which
    /// reports of the kernel it causes on purpose, by their titles: `# md-regress: allow=REGEX`
    #[arg(long = "script", value_name = "FILE")]
    scripts: Vec<PathBuf>,
    /// What the scripts need, for example ram=2G,disks=4x256M,vcpus=2,timeout=20m,silence=90s,modules=raid456;
    /// disks are named in $MD_REGRESS_DISKS. A script may say it itself: `# md-regress: disks=4x256M`
    #[arg(long, value_name = "NEEDS", requires = "scripts")]
    script_needs: Option<String>,
    /// Write the guest's memory to the attempt's folder where a test hangs or the kernel crashes, for drgn or
    /// crash (as large as what the guest uses)
    #[arg(long)]
    dump: bool,
    /// Run only the I-th of N parts, alike long as far as the history tells; all parts need the same history
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Go on with a run that was killed or interrupted: its folder, or its name (default: the newest). What is over
    /// stays; what had begun begins again
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = "latest")]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    run: RunOptions,
}

/// Refuses options that a run which is resumed cannot have: it goes on as it began.
pub(crate) fn check_resume(matches: &ArgMatches, options: &TestOptions) -> anyhow::Result<()> {
    if options.resume.is_none() {
        return Ok(());
    }
    let matches = matches.subcommand().map_or(matches, |(_, below)| below);
    let command = TestOptions::augment_args(clap::Command::new("test"));
    let other = command.get_arguments().find(|argument| {
        let id = argument.get_id().as_str();
        !["resume", "n_vms", "out"].contains(&id)
            && matches.try_contains_id(id).is_ok()
            && matches.value_source(id) == Some(ValueSource::CommandLine)
    });
    match other {
        None => Ok(()),
        Some(argument) => {
            let name = argument.get_long().map_or("the tests".to_owned(), |name| format!("--{name}"));
            Err(usage(anyhow::anyhow!(
                "a run that is resumed goes on as it began: leave out {name} (-j may change)"
            )))
        }
    }
}

/// How many times tests are run.
#[derive(Debug, Args)]
pub(crate) struct TimesOptions {
    /// Try each test so many times, and say how often it failed; with --until-fail or --for, at most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repeat: Option<u32>,
    /// Try each test again and again until it goes wrong
    #[arg(long)]
    until_fail: bool,
    /// Try each test again and again, as long as this: 90s, 20m, 2h; what has begun is carried to its end
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    within: Option<Duration>,
    /// Try again, up to so many times, what a test itself says failed, and what the host spoilt; what passes then is
    /// flaky, and fails no run (but see --flaky). Crashes, hangs and changed data stand
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), conflicts_with_all = ["repeat", "until_fail", "within"])]
    retries: Option<u32>,
}

impl From<TimesOptions> for Times {
    fn from(options: TimesOptions) -> Self {
        let TimesOptions { repeat, until_fail, within, retries } = options;
        Times::new(repeat, until_fail, within, retries)
    }
}

fn time(text: &str) -> Result<Duration, &'static str> {
    script::duration(text).ok_or("not a time up to a week, such as 90s, 20m or 2h")
}

/// What fails a run.
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyOptions {
    /// Classes of what the kernel reports that fail a run, beside those that do by default: a name (warning,
    /// storage-error, hung-task, kernel-log, test-warning …), or complaints for all of them; no-NAME lets a class pass.
    /// Several with commas; the last word on a class counts. `cargo xtask list --classes` shows what each is, and what it
    /// does by default
    #[arg(long, value_name = "CLASS", env = "MD_REGRESS_FAIL_ON", value_delimiter = ',', value_parser = class)]
    fail_on: Vec<String>,
    /// What failed, and passed when it was tried again
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    flaky: FlakyChoice,
}

/// What becomes of a run in which a test was flaky.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FlakyChoice {
    /// Passes: it is shown
    #[default]
    Pass,
    /// Fails
    Fail,
}

fn class(text: &str) -> Result<String, String> {
    Policy::of(&[text.to_owned()], false).map(|_| text.to_owned())
}

impl ReplayOptions {
    /// What the run is judged by: as it was recorded, but for what is said now.
    pub(crate) fn policy(&self, recorded: &Policy) -> Policy {
        let flaky_fails = self.flaky.map_or(recorded.flaky_fails, |flaky| flaky == FlakyChoice::Fail);
        let words = self.fail_on.as_deref().unwrap_or(recorded.words());
        Policy::of(words, flaky_fails).expect("each word was looked at when it was read")
    }
}

impl From<PolicyOptions> for Policy {
    fn from(options: PolicyOptions) -> Self {
        let flaky_fails = options.flaky == FlakyChoice::Fail;
        Policy::of(&options.fail_on, flaky_fails).expect("each word was looked at when it was read")
    }
}

/// How tests are run.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Kernel to test: deb:BRANCH or deb:BRANCH-FLAVOUR (the build that artifacts.lock pins, else the
    /// newest), or deb:RELEASE; with +md:PATH after it, with the md and dm-raid of a kernel tree, with
    /// +md:PATH@REV of a commit. Or one of your own: tree:PATH and git:PATH@REV are built (with ,lockdep after
    /// them, to prove the order of locks), image:BZIMAGE,modules=DIR is as you built it. May be given several
    /// times; has no say in suites whose tests name their kernels (planted)
    #[arg(long = "kernel", value_name = "SPEC", default_value = "deb:6.12", env = "MD_REGRESS_KERNEL")]
    pub(crate) kernels: Vec<KernelSpecs>,
    /// Suite to take tests from
    #[arg(long, default_value = DEFAULT_SUITE, env = "MD_REGRESS_SUITE")]
    pub(crate) suite: String,
    /// Flavour that tests are run in (lvm2's word for a set of variables); may be given several times
    #[arg(long = "flavour", value_name = "NAME", env = "MD_REGRESS_FLAVOUR", value_delimiter = ',')]
    pub(crate) flavours: Vec<String>,
    #[command(flatten)]
    pub(crate) guest: GuestOptions,
    #[command(flatten)]
    pub(crate) times: TimesOptions,
    #[command(flatten)]
    pub(crate) policy: PolicyOptions,
    /// VMs at a time (default: as many as the processors bear)
    #[arg(short = 'j', long = "jobs", value_name = "N", env = "MD_REGRESS_JOBS", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) n_vms: Option<u16>,
    /// Folder that runs are written to
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_OUT")]
    pub(crate) out: Option<PathBuf>,
    /// File that every attempt is appended to, and that tells how long tests take (default: reports/history.jsonl)
    #[arg(long, value_name = "FILE", env = "MD_REGRESS_HISTORY")]
    pub(crate) history: Option<PathBuf>,
    /// Neither read nor keep a history
    #[arg(long)]
    pub(crate) no_history: bool,
    /// Folder with debug information, for stacks with lines: `vmlinux`, modules as `*.ko` or `*.ko.debug`. As -dbg
    /// packages unpack it (/usr/lib/debug), or a kernel tree; may be given several times
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_DEBUG_INFO")]
    pub(crate) debug_info: Vec<PathBuf>,
}

const SHELL_HELP: &str = "\
Examples:
  cargo xtask shell                                  bash, on deb:6.12, in the guest of LVM2's tests
  cargo xtask shell --kernel deb:6.1 --suite canary --vcpus 2
  cargo xtask shell -- dmsetup targets               one program, its output, the end
  cargo xtask shell -- sh -c 'lvm version | head -1; uname -r'
  echo 'uname -r' | cargo xtask shell                commands from a pipe

On a terminal every key is the guest's, Ctrl-C and Ctrl-Z too; Ctrl-] three times within a second ends the
VM, whatever state it is in. Everything in the guest goes with it, but for what was put into
$MD_REGRESS_FILES, which is copied to the folder of the logs.

Exit codes:
  0    the shell was left; or the program, or the commands of the pipe, ended with status 0
  1    they ended with another (which is said), or the kernel crashed, does not boot or hangs
  2    the command line makes no sense, or the guest has no such program
  4    the harness or the host failed; nothing is known about the kernel
  130  interrupted, or ended by Ctrl-]";

#[derive(Debug, Args)]
pub(crate) struct ShellOptions {
    /// Kernel to boot, as for `test`; one
    #[arg(long = "kernel", value_name = "SPEC", default_value = "deb:6.12", env = "MD_REGRESS_KERNEL")]
    kernels: Vec<KernelSpecs>,
    /// Suite whose machine, modules and environment the shell gets
    #[arg(long, default_value = DEFAULT_SUITE, env = "MD_REGRESS_SUITE")]
    suite: String,
    #[command(flatten)]
    guest: GuestOptions,
    /// Memory of the VM (default: the suite's)
    #[arg(long = "ram", value_name = "MIB", value_parser = clap::value_parser!(u32).range(256..))]
    ram_mib: Option<u32>,
    /// Processors of the VM (default: the suite's)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: Option<u32>,
    /// Folder in which the logs' folder is made
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_OUT")]
    out: Option<PathBuf>,
    /// Program to run instead of bash, with its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    argv: Vec<String>,
}

/// The kernels of all options.
fn all(kernels: Vec<KernelSpecs>) -> Vec<KernelSpec> {
    kernels.into_iter().flat_map(|specs| specs.0).collect()
}

impl From<ShellOptions> for shell::Options {
    fn from(options: ShellOptions) -> Self {
        shell::Options {
            kernels: all(options.kernels),
            suite: options.suite,
            sources: options.guest.sources.into(),
            append: options.guest.append,
            accel: options.guest.accel,
            snapshots: !options.guest.no_snapshot,
            ram_mib: options.ram_mib,
            vcpus: options.vcpus,
            out: options.out,
            argv: options.argv,
        }
    }
}

impl From<TestOptions> for Options {
    fn from(options: TestOptions) -> Self {
        Options {
            kernels: all(options.run.kernels),
            suite: options.run.suite,
            selection: options.selection.into_selection(),
            sources: options.run.guest.sources.into(),
            flavours: options.run.flavours,
            scripts: options.scripts,
            script_needs: options.script_needs,
            append: options.run.guest.append,
            accel: options.run.guest.accel,
            times: options.run.times.into(),
            policy: options.run.policy.into(),
            shard: options.shard,
            n_vms: options.run.n_vms.map(usize::from),
            out: options.run.out,
            history: (!options.run.no_history)
                .then(|| options.run.history.unwrap_or_else(history::default_file)),
            debug_info: options.run.debug_info,
            snapshots: !options.run.guest.no_snapshot,
            dump: options.dump,
            tuning: Tuning::default(),
        }
    }
}
