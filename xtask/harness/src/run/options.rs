//! What a run is asked to do.

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

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kernels to test.
    pub kernels: Vec<KernelSpec>,
    /// Suite to take tests from.
    pub suite: String,
    /// Which tests of the suite.
    pub selection: Selection,
    /// What the guest is built from, where that is not Debian's source packages.
    pub sources: Sources,
    /// Flavours that tests are run in; the suite's default one if there are none.
    pub flavours: Vec<String>,
    /// The user's own scripts, and what they need.
    pub scripts: Vec<PathBuf>,
    /// What the user's scripts need: memory, disks, times.
    pub script_needs: Option<String>,
    /// Added to the kernel's command line.
    pub append: String,
    /// How guest code is to be executed.
    pub accel: AccelChoice,
    /// How many times each test is tried.
    pub times: Times,
    /// What fails the run.
    pub policy: Policy,
    /// Only this part of it.
    pub shard: Option<Shard>,
    /// VMs at a time; by default as many as the processors bear.
    pub n_vms: Option<usize>,
    /// Folder of the runs; by default `reports/out`.
    pub out: Option<PathBuf>,
    /// The history that durations are read from, and attempts appended to; none at all without.
    pub history: Option<PathBuf>,
    /// Folders with debug information of the kernels.
    pub debug_info: Vec<PathBuf>,
    /// Restore VMs from snapshots rather than boot each.
    pub snapshots: bool,
    /// Write the guest's memory where one hangs or crashes.
    pub dump: bool,
    /// What a benchmark changes.
    pub tuning: Tuning,
}

impl Options {
    /// One try of a suite's default tests, of which no history is kept; the kernels are still to be named.
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
