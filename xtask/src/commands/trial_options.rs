//! Options of commands that test one kernel after the other: `bisect`, `bisect-step` and `series`.

use std::path::PathBuf;

use clap::Args;
use harness::run::options::Options;
use harness::suite::DEFAULT_SUITE;

use crate::options::{GuestOptions, PolicyOptions, SelectionOptions};

/// Options for the tests that run on each kernel.
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

pub(crate) fn probability(text: &str) -> Result<f64, &'static str> {
    let p: Option<f64> = text.parse().ok();
    p.filter(|p| (0.5..1.0).contains(p)).ok_or("not a probability from 0.5 to less than 1, such as 0.95")
}

/// Parses a rate, `5%` or `0.05`.
pub(crate) fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    let rate = rate.ok().filter(|rate| (0.001..=0.3).contains(rate));
    rate.ok_or("not a rate from 0.1% to 30%, such as 5% or 0.05")
}

impl TrialOptions {
    /// The output folder, if one is named.
    pub(crate) fn out(&self) -> Option<PathBuf> {
        self.out.clone()
    }

    /// True if the options select a test.
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
            // No history: attempts on kernels between two releases would distort what is known of either.
            ..Options::new(&options.suite)
        }
    }
}
