//! The options of a run.

use std::path::PathBuf;

use reports::Policy;
use vm_images::build::checkout::Sources;
use vm_images::spec::KernelSpec;

use crate::machine::Tuning;
use crate::machine::accel::AccelChoice;
use crate::run::folder::default_runs;
use crate::run::shard::Shard;
use crate::run::tries::Times;
use crate::suite::select::Selection;

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kernels to test.
    pub kernels: Vec<KernelSpec>,
    /// Suite to take tests from.
    pub suite: String,
    /// Selected tests of the suite.
    pub selection: Selection,
    /// Sources that the guest is built from, instead of Debian's source packages.
    pub sources: Sources,
    /// Flavours that tests run in; empty for the suite's default one.
    pub flavours: Vec<String>,
    /// The user's own scripts to run as tests.
    pub scripts: Vec<PathBuf>,
    /// Needs of these scripts: memory, disks, times. See [`crate::suite::script`].
    pub script_needs: Option<String>,
    /// Arguments added to the kernel's command line.
    pub append: String,
    /// Accelerator for guest code.
    pub accel: AccelChoice,
    /// Number of tries of each test.
    pub times: Times,
    /// Verdicts that fail the run.
    pub policy: Policy,
    /// The shard of the tests to run; `None` for all.
    pub shard: Option<Shard>,
    /// Number of VMs at a time; `None` for as many as processors and memory allow.
    pub n_vms: Option<usize>,
    /// Folder of the runs; `None` for `reports/out`.
    pub out: Option<PathBuf>,
    /// History file from which durations are read, and to which attempts are appended; `None` for neither.
    pub history: Option<PathBuf>,
    /// Folders with debug information of the kernels.
    pub debug_info: Vec<PathBuf>,
    /// True to restore VMs from snapshots, false to boot each.
    pub snapshots: bool,
    /// True to write a dump of the guest's memory after a hang or crash.
    pub dump: bool,
    /// Changes that a benchmark makes.
    pub tuning: Tuning,
}

impl Options {
    /// Options for one try of a suite's default tests, without a history. The kernels still have to be named.
    pub fn new(suite: &str) -> Options {
        Options {
            kernels: vec![],
            suite: suite.to_owned(),
            selection: Selection::default(),
            sources: Sources::default(),
            flavours: vec![],
            scripts: vec![],
            script_needs: None,
            append: String::new(),
            accel: AccelChoice::Auto,
            times: Times::default(),
            policy: Policy::default(),
            shard: None,
            n_vms: None,
            out: None,
            history: None,
            debug_info: vec![],
            snapshots: true,
            dump: false,
            tuning: Tuning::default(),
        }
    }

    /// Folder of the runs.
    pub fn runs(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(default_runs)
    }
}
