//! What a run consists of: which tests the options mean, on which kernels, with which machine and limits.
//!
//! Deliberately not here: in which order, and how many at a time ([`crate::runner`]).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use protocol::TestId;
use protocol::event::PlannedAttempt;
use reports::history::Durations;
use vm_images::digest::Digest;
use vm_images::images::Kernel;
use vm_images::kernel_spec::KernelSpec;
use vm_images::modules::config_of;

use crate::exit::usage;
use crate::prepare::{self, BootKernel, Prepared};
use crate::runner::Planned;
use crate::runner::attempt::TimeLimits;
use crate::runner::schedule::{Budget, Item, Length};
use crate::script;
use crate::select::{LeftOut, check_flavour, in_flavours, select};
use crate::shard::{Shard, deal};
use crate::suite::{Job, Runs, Suite};
use crate::test::{DEFAULT_SUITE, Options, suite_named};
use crate::vm::{Accel, VmSpec};

/// Time limits that no suite names, at the speed of KVM.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(20);
const GRACE_PERIOD: Duration = Duration::from_secs(5);
/// What outlives SIGKILL may wait for a device; in a guest that has its time this is decided by its samples.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(600);

/// A test that is to be run.
pub(crate) struct ChosenJob {
    pub(crate) job: Job,
    /// Words of a command line that try it again.
    pub(crate) again: Vec<String>,
    /// The only kernels that it runs on; none if it runs on those of the command line.
    pub(crate) kernels: Vec<KernelSpec>,
    /// How many times it is tried at least.
    pub(crate) n_tries: u32,
}

impl ChosenJob {
    /// True if it runs on this kernel of a run.
    fn runs_on(&self, kernel: &Kernel) -> bool {
        self.kernels.is_empty() || self.kernels.contains(&kernel.spec)
    }
}

/// The kernels that `jobs` run on: those that they name themselves, and for the others those of the command line.
pub(crate) fn kernels_of(jobs: &[ChosenJob], named: &[KernelSpec]) -> Vec<KernelSpec> {
    let mut kernels: Vec<KernelSpec> = Vec::new();
    for job in jobs {
        let wanted = if job.kernels.is_empty() { named } else { &job.kernels };
        for spec in wanted {
            if !kernels.contains(spec) {
                kernels.push(spec.clone());
            }
        }
    }
    kernels
}

/// What the options mean.
pub(crate) struct Chosen {
    pub(crate) jobs: Vec<ChosenJob>,
    /// Selected, and not run: not in that flavour, or not there at all.
    pub(crate) left_out: Vec<LeftOut>,
}

impl Chosen {
    /// The same without a suite's tests that the guest does not have: not run, rather than failed.
    pub(crate) fn without(mut self, gone: &BTreeSet<String>, suite: &str, version: &str) -> Self {
        let is_gone = |job: &Job| job.id.suite() == suite && gone.contains(job.id.name());
        let (gone, jobs): (Vec<_>, Vec<_>) = self.jobs.into_iter().partition(|chosen| is_gone(&chosen.job));
        let reason = format!("{suite} {version} has no such test");
        self.left_out.extend(gone.into_iter().map(|chosen| (chosen.job.id, reason.clone())));
        Chosen { jobs, left_out: self.left_out }
    }
}

/// The tests that are selected, and the user's own.
pub(crate) fn choose_jobs(suite: &Suite, options: &Options) -> Result<Chosen> {
    let mut common = Vec::new();
    if !options.append.is_empty() {
        common.extend(["--append".to_owned(), options.append.clone()]);
    }
    let mut jobs = Vec::new();
    if !options.scripts.is_empty() {
        let needs = options.script_needs.as_deref().map(str::parse).transpose()?;
        let run_as = suite_named(script::RUN_AS)?;
        let flavours = match options.flavours.as_slice() {
            [] => vec![None],
            all => all.iter().map(|flavour| Some(flavour.as_str())).collect(),
        };
        for path in &options.scripts {
            for flavour in &flavours {
                let mut again =
                    [common.clone(), script::again(path, options.script_needs.as_deref())].concat();
                if let Some(flavour) = flavour {
                    check_flavour(&run_as, flavour)?;
                    again.extend(["--flavour".to_owned(), (*flavour).to_owned()]);
                }
                let job = script::job(path, needs.as_ref(), &run_as, *flavour)?;
                if jobs.iter().any(|other: &ChosenJob| other.job.id == job.id) {
                    bail!("two scripts have the name `{}`; give one another name", job.id.name());
                }
                jobs.push(ChosenJob { job, again, kernels: vec![], n_tries: 1 });
            }
        }
        if options.selection.is_empty() {
            return Ok(Chosen { jobs, left_out: vec![] });
        }
    }
    let tests = select(suite, &options.selection)?;
    let (tests, left_out) = in_flavours(suite, tests, &options.flavours)?;
    for test in tests {
        let mut again = common.clone();
        if suite.name != DEFAULT_SUITE {
            again.extend(["--suite".to_owned(), suite.name.clone()]);
        }
        again.push(test.to_string());
        let job = match suite.runs(&test) {
            Runs::Own => suite.job(&test)?,
            Runs::Test(other) => suite_named(other.suite())?.job(&other)?,
            Runs::Script(path) => script::job(&path, None, &suite_named(script::RUN_AS)?, None)?,
        };
        let (kernels, n_tries) = suite.own_kernels(&test);
        jobs.push(ChosenJob { job: Job { id: test, ..job }, again, kernels, n_tries });
    }
    Ok(Chosen { jobs, left_out })
}

/// A module that a test wants and its kernel lacks.
pub(crate) struct Lacking {
    pub(crate) kernel_idx: u32,
    pub(crate) test: TestId,
    pub(crate) text: String,
}

/// Refuses a kernel that lacks a module which is required; gives what only makes a test skip or test less.
pub(crate) fn check_modules(prepared: &Prepared, jobs: &[ChosenJob]) -> Result<Vec<Lacking>> {
    let named = |modules: &[&str]| {
        let all: Vec<_> = modules.iter().map(|module| format!("{module} ({})", config_of(module))).collect();
        all.join(", ")
    };
    let mut lacking = Vec::new();
    for (kernel_idx, BootKernel { kernel, .. }) in (0u32..).zip(&prepared.kernels) {
        for ChosenJob { job, .. } in jobs.iter().filter(|chosen| chosen.runs_on(kernel)) {
            let required = kernel.lacks(&job.required_modules)?;
            if !required.is_empty() {
                return Err(usage(anyhow::anyhow!(
                    "kernel `{}` ({}) lacks {}, which {} needs; choose another kernel, or build it in",
                    kernel.spec,
                    kernel.release,
                    named(&required),
                    job.id,
                )));
            }
            let wanted = kernel.lacks(&job.wanted_modules)?;
            if !wanted.is_empty() {
                let text = format!("the kernel lacks {}: it skips or tests less", named(&wanted));
                lacking.push(Lacking { kernel_idx, test: job.id.clone(), text });
            }
        }
    }
    Ok(lacking)
}

/// Every test on every kernel, kernel by kernel; then all of them once more, until each is there `n_tries` times.
pub(crate) fn plan(
    prepared: &Prepared,
    jobs: &[ChosenJob],
    append: &str,
    durations: &Durations,
    n_tries: u32,
) -> Result<Vec<Planned>> {
    let accel = prepared.chosen.accel;
    let mut plan: Vec<Planned> = Vec::new();
    let mut wanted = Vec::new();
    for (kernel_idx, kernel) in (0u32..).zip(&prepared.kernels) {
        for ChosenJob { job, again, n_tries: own, .. } in
            jobs.iter().filter(|chosen| chosen.runs_on(&kernel.kernel))
        {
            let release = &kernel.kernel.release;
            let limits = limits(accel, job);
            let name = match prepared.kernels.len() {
                1 => job.id.to_string(),
                _ => format!("{} on {release}", job.id),
            };
            let attempt = PlannedAttempt {
                attempt: u32::try_from(plan.len()).context("too many attempts")? + 1,
                test: job.id.clone(),
                kernel_idx,
                dir: dir_of(prepared, kernel_idx, &job.id),
                again: again.clone(),
                retry_of: None,
                allow: job.allow.clone(),
            };
            wanted.push(*own);
            plan.push(Planned {
                attempt,
                vm: VmSpec {
                    append: append.to_owned(),
                    preload: kernel.preload(&job.preload_modules),
                    stock: job.stock,
                    ..kernel.vm(&prepared.guest, accel, job.ram_mib, job.vcpus)
                },
                length: length(durations, &job.id, release, limits.test_timeout),
                limits,
                job: job.clone(),
                name,
            });
        }
    }
    let first_tries = plan.clone();
    let most = wanted.iter().copied().max().unwrap_or(1);
    for try_idx in 2..=most.max(n_tries) {
        for (planned, wanted) in first_tries.iter().zip(&wanted) {
            if try_idx > n_tries.max(*wanted) {
                continue;
            }
            let number = u32::try_from(plan.len()).context("too many attempts")? + 1;
            plan.push(planned.again(number, try_idx, None));
        }
    }
    Ok(plan)
}

/// Which part of a whole a plan is.
pub(crate) struct Part {
    pub(crate) shard: Shard,
    /// Of who does what.
    pub(crate) digest: Digest,
}

/// The part of `whole` that `shard` does; all of it without. Parts are alike long, as far as lengths are known.
pub(crate) fn part(whole: Vec<Planned>, shard: Option<Shard>) -> (Vec<Planned>, Option<Part>) {
    let Some(shard) = shard else { return (whole, None) };
    let timed = || {
        whole.iter().filter_map(|planned| match planned.length {
            Length::Timed(ms) => Some(ms),
            Length::AtMost(_) => None,
        })
    };
    let average = timed().sum::<u64>() / u64::try_from(timed().count()).unwrap_or(1).max(1);
    let lengths: Vec<u64> = whole
        .iter()
        .map(|planned| match planned.length {
            Length::Timed(ms) => ms,
            Length::AtMost(most) => average.min(most),
        })
        .collect();
    let parts = deal(&lengths, shard.n_shards);
    let who: Vec<(String, String)> = whole
        .iter()
        .zip(&parts)
        .map(|(planned, part)| {
            (format!("{} {}", planned.attempt.test, planned.attempt.kernel_idx), part.to_string())
        })
        .collect();
    let digest = Digest::of_inputs(who.iter().map(|(test, part)| (test.as_str(), part.as_str())));
    let mine = whole.into_iter().zip(parts).filter(|(_, part)| *part == shard.shard);
    let plan = (1..)
        .zip(mine)
        .map(|(number, (planned, _))| Planned {
            attempt: PlannedAttempt { attempt: number, ..planned.attempt },
            ..planned
        })
        .collect();
    (plan, Some(Part { shard, digest }))
}

/// As it was timed; else its limit.
fn length(durations: &Durations, test: &TestId, release: &str, limit: Duration) -> Length {
    let limit = || u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    durations.of(test, release).map_or_else(|| Length::AtMost(limit()), Length::Timed)
}

/// VMs' processors, in percent of the host's, under emulation. Of a sample of 12 RAID tests of lvm2, 213 s were the
/// processor's and about 100 s sleep: one and a half times as many keep all busy, and more gain nothing.
const VCPUS_PERCENT_TCG: u32 = 150;
/// The same with KVM, where the processor's part is smaller, and the sleep is not. Not measured yet.
const VCPUS_PERCENT_KVM: u32 = 200;
/// Of the memory that is available, so much is left alone, MiB.
const MEMORY_SPARED_MIB: u64 = 512;

/// What a run may use at a time: what the user said, else what processors and memory bear.
pub(crate) fn budget(n_vms: Option<usize>, accel: Accel, plan: &[Planned]) -> Budget {
    if let Some(n_vms) = n_vms {
        return Budget { n_vms, vcpus: None, memory_mib: None };
    }
    let n_cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let percent = match accel {
        Accel::Tcg => VCPUS_PERCENT_TCG,
        Accel::Kvm => VCPUS_PERCENT_KVM,
    };
    let vcpus = (u32::try_from(n_cpus).unwrap_or(u32::MAX / 1000).saturating_mul(percent) / 100).max(1);
    let smallest =
        |of: fn(&Item) -> u64| plan.iter().map(|planned| of(&planned.item())).min().unwrap_or(1).max(1);
    let memory_mib = prepare::memory_available_mib().map(|mib| mib.saturating_sub(MEMORY_SPARED_MIB));
    let by_cpus = u64::from(vcpus) / smallest(|item| u64::from(item.vcpus));
    let by_memory = memory_mib.map_or(u64::MAX, |mib| mib / smallest(|item| item.memory_mib));
    let n_vms = usize::try_from(by_cpus.min(by_memory).max(1)).unwrap_or(usize::MAX);
    Budget { n_vms, vcpus: Some(vcpus), memory_mib }
}

/// A folder for each kernel and test; kernels of one release are told apart by their number.
fn dir_of(prepared: &Prepared, kernel_idx: u32, test: &TestId) -> String {
    let releases = || prepared.kernels.iter().map(|kernel| kernel.kernel.release.as_str());
    let release = releases().nth(kernel_idx as usize).unwrap_or_default();
    if releases().filter(|other| *other == release).count() > 1 {
        format!("{release}-{kernel_idx}/{}", test.slug())
    } else {
        format!("{release}/{}", test.slug())
    }
}

/// How long booting may take.
pub(crate) fn boot_timeout(accel: Accel) -> Duration {
    accel.scale(BOOT_TIMEOUT)
}

/// The suite's limits, and those that no suite names.
pub(crate) fn limits(accel: Accel, job: &Job) -> TimeLimits {
    TimeLimits {
        boot_timeout: boot_timeout(accel),
        restore_timeout: accel.scale(RESTORE_TIMEOUT),
        silence_timeout: accel.scale(job.silence_timeout),
        test_timeout: accel.scale(job.test_timeout),
        heartbeat_timeout: accel.scale(HEARTBEAT_TIMEOUT),
        grace_period: accel.scale(GRACE_PERIOD),
        leaving_timeout: accel.scale(LEAVING_TIMEOUT),
    }
}
