//! The plan of a run: each attempt's test, kernel, machine and limits.
//!
//! Deliberately not here: the order of attempts, and how many run at a time ([`crate::run::workers`]).

use std::time::Duration;

use anyhow::{Context, Result};
use protocol::TestId;
use protocol::event::PlannedAttempt;
use reports::history::Durations;
use vm_images::store::digest::Digest;

use crate::attempt::TimeLimits;
use crate::clock::millis;
use crate::machine::VmSpec;
use crate::machine::accel::TimeScale;
use crate::run::choose::ChosenJob;
use crate::run::options::Options;
use crate::run::prepare::Prepared;
use crate::run::schedule::Length;
use crate::run::shard::{Shard, deal};
use crate::run::workers::Planned;
use crate::suite::Job;

/// Time limits that do not depend on the suite, under KVM.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(20);
const GRACE_PERIOD: Duration = Duration::from_secs(5);
/// Time for processes that SIGKILL did not end, which may wait for a device. In a guest that gets enough CPU
/// time, its samples decide earlier.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(600);

/// Plans every test on every kernel, kernel by kernel; then all of them again, until each has its number of
/// tries.
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
            let limits = limits(prepared.chosen.time_scale, job);
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
                job: job.clone(),
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

/// The shard of a plan.
pub(crate) struct ShardPart {
    pub(crate) shard: Shard,
    /// Digest of the assignment of tests to shards; equal in all shards of one run.
    pub(crate) digest: Digest,
}

/// The attempts of `whole` that `shard` runs; all if it is `None`. Shards take equally long, as far as
/// durations are known.
pub(crate) fn part(whole: Vec<Planned>, shard: Option<Shard>) -> (Vec<Planned>, Option<ShardPart>) {
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
    (plan, Some(ShardPart { shard, digest }))
}

/// Expected duration of a test: from the history, else at most its limit.
fn length(durations: &Durations, test: &TestId, release: &str, limit: Duration) -> Length {
    let limit = || millis(limit);
    durations.of(test, release).map_or_else(|| Length::AtMost(limit()), Length::Timed)
}

/// Folder of an attempt, by kernel and test. Kernels of one release are distinguished by their number.
fn dir_of(prepared: &Prepared, kernel_idx: u32, test: &TestId) -> String {
    let releases = || prepared.kernels.iter().map(|kernel| kernel.kernel.release.as_str());
    let release = releases().nth(kernel_idx as usize).unwrap_or_default();
    if releases().filter(|other| *other == release).count() > 1 {
        format!("{release}-{kernel_idx}/{}", test.slug())
    } else {
        format!("{release}/{}", test.slug())
    }
}

/// Time limit of booting.
pub fn boot_timeout(scale: TimeScale) -> Duration {
    scale.apply(BOOT_TIMEOUT)
}

/// All time limits of a job, those of its suite and the others.
pub(crate) fn limits(scale: TimeScale, job: &Job) -> TimeLimits {
    TimeLimits {
        boot_timeout: boot_timeout(scale),
        restore_timeout: scale.apply(RESTORE_TIMEOUT),
        silence_timeout: scale.apply(job.silence_timeout),
        test_timeout: scale.apply(job.test_timeout),
        heartbeat_timeout: scale.apply(HEARTBEAT_TIMEOUT),
        grace_period: scale.apply(GRACE_PERIOD),
        leaving_timeout: scale.apply(LEAVING_TIMEOUT),
    }
}
