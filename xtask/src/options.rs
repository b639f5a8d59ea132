//! Options that several commands have.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use harness::machine::accel::AccelChoice;
use harness::run::tries::Times;
use harness::session;
use harness::suite::DEFAULT_SUITE;
use harness::suite::script;
use harness::suite::select::Selection;
use regex::Regex;
use reports::Policy;
use vm_images::build::checkout::Sources;
use vm_images::spec::{KernelSpec, KernelSpecs};
use vm_images::store::STORE_VARIABLE;

/// Names a guest agent that was built before, of this very work tree.
pub(crate) const AGENT_VARIABLE: &str = "MD_REGRESS_AGENT";

/// Options that all commands have.
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
    /// Build trees, commits and checkouts of the user's even where this host forbids the namespaces that keep
    /// what they run from the network: only for sources whose authors you know
    #[arg(long, global = true, env = "MD_REGRESS_TRUST_SOURCE", value_parser = FalseyValueParser::new())]
    pub(crate) trust_source: bool,
    /// A guest agent that was built before, of this very work tree: for a host without cargo
    #[arg(long, global = true, value_name = "FILE", env = AGENT_VARIABLE, hide = true)]
    pub(crate) agent: Option<PathBuf>,
}

impl From<GlobalOptions> for session::Options {
    fn from(options: GlobalOptions) -> Self {
        let GlobalOptions { mirror, store, qemu, trust_source, agent } = options;
        session::Options { mirror, store, qemu, trust_source, agent }
    }
}

/// Options of a run.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Kernel to test: deb:BRANCH or deb:BRANCH-FLAVOUR (the build that artifacts.lock pins, else the
    /// newest), or deb:RELEASE; with +md:PATH after it, with the md and dm-raid of a kernel tree, with
    /// +md:PATH@REV of a commit. Or one of your own: tree:PATH and git:PATH@REV are built (with ,lockdep
    /// after them, to prove the order of locks), image:BZIMAGE,modules=DIR is as you built it. May be given
    /// several times; has no say in suites whose tests name their kernels (planted)
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
    /// File that every attempt is appended to, and that tells how long tests take (default:
    /// reports/history.jsonl)
    #[arg(long, value_name = "FILE", env = "MD_REGRESS_HISTORY")]
    pub(crate) history: Option<PathBuf>,
    /// Neither read nor keep a history
    #[arg(long)]
    pub(crate) no_history: bool,
    /// Folder with debug information, for stacks with lines: `vmlinux`, modules as `*.ko` or `*.ko.debug`. As
    /// -dbg packages unpack it (/usr/lib/debug), or a kernel tree; may be given several times
    #[arg(long, value_name = "DIR", env = "MD_REGRESS_DEBUG_INFO")]
    pub(crate) debug_info: Vec<PathBuf>,
}

/// Options that select tests. Each one adds tests, except `--exclude`; without any, the suite's default tests
/// are selected.
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
    /// True if nothing is selected, so that the suite's default tests are meant.
    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.tags.is_empty() && self.expressions.is_empty()
    }

    /// The selection in the library's form.
    pub(crate) fn into_selection(self) -> Selection {
        Selection {
            patterns: self.patterns,
            expressions: self.expressions,
            tags: self.tags,
            exclude: self.exclude,
        }
    }
}

/// Options for the sources of the guest's LVM2 and mdadm.
#[derive(Clone, Debug, Args)]
pub(crate) struct SourceOptions {
    /// Build LVM2 and its tests from this git work tree (with what is not committed) or unpacked source,
    /// instead of Debian's source package
    #[arg(long, value_name = "DIR")]
    lvm2_src: Option<PathBuf>,
    /// The same for mdadm
    #[arg(long, value_name = "DIR")]
    mdadm_src: Option<PathBuf>,
    /// Build mdadm and its tests from another of Debian's source packages: deb:4.6, deb:4.4-11
    #[arg(long, value_name = "deb:VERSION", value_parser = parse_mdadm, conflicts_with = "mdadm_src")]
    mdadm: Option<String>,
}

/// The version in `deb:VERSION`.
pub(crate) fn parse_mdadm(text: &str) -> Result<String, String> {
    let is_plain = |version: &str| {
        version.starts_with(|c: char| c.is_ascii_digit())
            && version.chars().all(|c| c.is_ascii_alphanumeric() || ".+-~".contains(c))
    };
    let version = text.strip_prefix("deb:").filter(|version| is_plain(version));
    version
        .map(str::to_owned)
        .ok_or_else(|| "expected `deb:4.6`; for a folder of yours --mdadm-src".to_owned())
}

impl From<SourceOptions> for Sources {
    fn from(options: SourceOptions) -> Self {
        Sources { lvm2: options.lvm2_src, mdadm: options.mdadm_src, mdadm_version: options.mdadm }
    }
}

/// Options for the guest's kernel command line, accelerator and start.
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

/// Options for the number of tries.
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
    /// Try again, up to so many times, what a test itself says failed, and what the host spoilt; what passes
    /// then is flaky, and fails no run (but see --flaky). Crashes, hangs and changed data stand
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), conflicts_with_all = ["repeat", "until_fail", "within"])]
    retries: Option<u32>,
}

impl From<TimesOptions> for Times {
    fn from(options: TimesOptions) -> Self {
        let TimesOptions { repeat, until_fail, within, retries } = options;
        Times::new(repeat, until_fail, within, retries)
    }
}

pub(crate) fn time(text: &str) -> Result<Duration, &'static str> {
    script::duration(text).ok_or("not a time up to a week, such as 90s, 20m or 2h")
}

/// Options for the verdicts that fail a run.
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyOptions {
    /// Classes of what the kernel reports that fail a run, beside those that do by default: a name (warning,
    /// storage-error, hung-task, kernel-log, test-warning …), or complaints for all of them; no-NAME lets a
    /// class pass. Several with commas; the last word on a class counts. `cargo xtask list --classes` shows
    /// what each is, and what it does by default
    #[arg(long, value_name = "CLASS", env = "MD_REGRESS_FAIL_ON", value_delimiter = ',', value_parser = class)]
    fail_on: Vec<String>,
    /// What failed, and passed when it was tried again
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    flaky: FlakyChoice,
}

/// Effect of a flaky test on the result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FlakyChoice {
    /// Passes: it is shown
    #[default]
    Pass,
    /// Fails
    Fail,
}

impl From<PolicyOptions> for Policy {
    fn from(options: PolicyOptions) -> Self {
        let flaky_fails = options.flaky == FlakyChoice::Fail;
        Policy::of(&options.fail_on, flaky_fails).expect("each word was looked at when it was read")
    }
}

pub(crate) fn class(text: &str) -> Result<String, String> {
    Policy::of(&[text.to_owned()], false).map(|_| text.to_owned())
}

/// The kernels of several `--kernel` options.
pub(crate) fn all(kernels: Vec<KernelSpecs>) -> Vec<KernelSpec> {
    kernels.into_iter().flat_map(|specs| specs.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_mdadm_is_debians() {
        assert_eq!(parse_mdadm("deb:4.4-11+deb13u1").unwrap(), "4.4-11+deb13u1");
        for bad in ["4.4", "deb:", "deb:x", "deb:4.4 5", "deb:4/../5", "../src"] {
            assert!(parse_mdadm(bad).unwrap_err().contains("--mdadm-src"), "{bad}");
        }
    }
}
