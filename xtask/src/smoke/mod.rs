//! Smoke checks of the whole harness on real QEMU. Each makes a run as a user would, and checks the results.

mod bad_input;
mod basics;
mod bisecting;
mod checkouts;
mod hosts;
pub(crate) mod kept;
mod killing;
pub(crate) mod kvm;
mod many;
mod other_xtask;
mod replacing;
mod restoring;
mod shell;
mod strangers;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use harness::machine::accel::AccelChoice;
use harness::run::finished::FinishedRun;
use harness::run::{self, Options};
use harness::session::Session;
use harness::suite::select::Selection;

/// A check, with its name.
pub(crate) type Check = (&'static str, fn(&Session) -> Result<()>);

/// All checks, those with the cheapest set-up first.
pub(crate) const CHECKS: [Check; 29] = [
    ("suite data matches the guest", basics::suite_data_matches_the_guest),
    ("canaries come out as they must", basics::canaries),
    ("lvm2's tests run", basics::lvm2_tests_run),
    ("a restored guest is as good as a booted one", restoring::restored_is_as_good_as_booted),
    ("a snapshot that is damaged is replaced by a boot", restoring::damaged),
    ("modules in place of the kernel's are those that were built", replacing::built_modules_run),
    ("a test of other modules than were built does not start", replacing::other_modules_do_not),
    ("a shell has a terminal with job control", shell::terminal),
    ("a shell gives the terminal back however it ends", shell::ways_out),
    ("a shell works in a pipe", shell::pipes),
    ("SIGKILL leaves nothing running and loses nothing", killing::sigkill),
    ("SIGINT ends a run with a report", killing::sigint),
    ("what is shown is recorded, whenever a run is killed", bad_input::shown_is_recorded),
    ("a run that is killed and resumed comes to the same", many::resume),
    ("tests are tried many times", many::tries),
    ("KVM that cannot work is said to", basics::kvm),
    ("KVM works, in an outer guest if need be", kvm::short),
    ("words that make no sense are named", bad_input::wrong_words),
    ("a kernel that does not boot is the kernel's fault", bad_input::kernel_that_does_not_boot),
    ("a QEMU that dies is the host's fault", bad_input::dead_qemu),
    ("an output folder that cannot be written", bad_input::unwritable_output),
    ("no network and an empty store", bad_input::no_network),
    ("two runs at once", bad_input::two_at_once),
    ("an artifact that is damaged is made again", bad_input::damaged_artifact),
    ("a full disk at each stage", bad_input::full_disk),
    ("a host without namespaces", bad_input::no_namespaces),
    ("a stranger's build does nothing to the host", strangers::builds_are_enclosed),
    ("git bisect run names the commit, and stops where nothing is known", bisecting::step),
    ("a user's mdadm is what the guest has", checkouts::mdadm),
];

/// Longest wait of a check for an event.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs tests as a user would, but into a folder of the check's own.
fn run(
    session: &Session,
    out: &Scratch,
    suite: &str,
    patterns: &[&str],
    accel: AccelChoice,
) -> Result<FinishedRun> {
    run_with(session, &Options { accel, ..options(out, suite, patterns)? })
}

fn options(out: &Scratch, suite: &str, patterns: &[&str]) -> Result<Options> {
    Ok(Options {
        kernels: vec!["deb:6.12".parse()?],
        selection: Selection {
            patterns: patterns.iter().map(|&pattern| pattern.to_owned()).collect(),
            ..Selection::default()
        },
        out: Some(out.0.clone()),
        ..Options::new(suite)
    })
}

fn run_with(session: &Session, options: &Options) -> Result<FinishedRun> {
    run::run(session, options)?.context("no test was selected")
}

/// Begins the names of checks' folders.
const SCRATCH: &str = "smoke-";

/// A folder below the store's temporary one, which goes with this process in any case.
struct Scratch(
    PathBuf,
    /// Store of the folder.
    PathBuf,
);

impl Scratch {
    fn new(session: &Session) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(session.store.temporary());
        let folder = folder.context("failed to make a folder")?.keep();
        Ok(Scratch(folder, session.store.root().to_owned()))
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        ensure!(Instant::now() < end, "waited {} s in vain until {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
