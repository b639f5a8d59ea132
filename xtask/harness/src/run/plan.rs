//! What a run consists of: which tests the options mean, on which kernels, with which machine and limits.
//!
//! Deliberately not here: in which order, and how many at a time ([`crate::run::workers`]).

use std::time::Duration;

use anyhow::{Context, Result};
use protocol::TestId;
use protocol::event::PlannedAttempt;
use reports::history::Durations;
use vm_images::store::digest::Digest;

use crate::attempt::TimeLimits;
use crate::machine::{Accel, VmSpec};
use crate::run::choose::ChosenJob;
use crate::run::options::Options;
use crate::run::prepare::Prepared;
use crate::run::schedule::Length;
use crate::run::shard::{Shard, deal};
use crate::run::workers::Planned;
use crate::suite::Job;

/// Time limits that no suite names, at the speed of KVM.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(20);
const GRACE_PERIOD: Duration = Duration::from_secs(5);
/// What outlives SIGKILL may wait for a device; in a guest that has its time this is decided by its samples.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(600);

/// Every test on every kernel, kernel by kernel; then all of them once more, until each is there `n_tries` times.
pub(crate) fn plan(
    prepared: &Prepared,
    jobs: &[ChosenJob],
    options: &Options,
    durations: &Durations,
) -> Result<Vec<Planned>> {
    let n_tries = options.times.n_planned();
    let accel = prepared.chosen.accel;
    let mut plan: Vec<Planned> = Vec::new();
    let mut wanted = Vec::new();
    for (kernel_idx, kernel) in (0u32..).zip(&prepared.kernels) {
        for ChosenJob { job, again, n_tries: own, .. } in
            jobs.iter().filter(|chosen| chosen.runs_on(&kernel.kernel))
        {
            let release = &kernel.kernel.release;
            let limits = limits(accel, job);
            let test_name = match prepared.kernels.len() {
                1 => job.id.to_string(),
                _ => format!("{} on {release}", job.id),
            };
            let first_dir = dir_of(prepared, kernel_idx, &job.id);
            let attempt = PlannedAttempt {
                attempt: u32::try_from(plan.len()).context("too many attempts")? + 1,
                test: job.id.clone(),
                kernel_idx,
                dir: first_dir.clone(),
                again: again.clone(),
                retry_of: None,
                allow: job.allow.clone(),
            };
            wanted.push(*own);
            plan.push(Planned {
                attempt,
                vm: VmSpec {
                    append: options.append.clone(),
                    preload: kernel.preload(&job.preload_modules),
                    tuning: options.tuning,
                    ..kernel.vm(&prepared.guest, accel, job.ram_mib, job.vcpus)
                },
                length: length(durations, &job.id, release, limits.test_timeout),
                limits,
                job: Job { tuning: options.tuning, ..job.clone() },
                test_name,
                first_dir,
                try_idx: 1,
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
pub fn boot_timeout(accel: Accel) -> Duration {
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
