//! Runs attempts, several VMs at a time: pure decisions in [`attempt`] and [`output`], threads and
//! files in [`drive`].

pub(crate) mod attempt;
#[cfg(test)]
pub(crate) mod attempt_tests;
pub(crate) mod capped_log;
pub(crate) mod collected;
pub(crate) mod corruption;
pub(crate) mod drive;
#[cfg(test)]
mod drive_tests;
pub(crate) mod event_log;
pub(crate) mod fate;
pub(crate) mod output;
mod progress;

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use protocol::event::PlannedAttempt;
use protocol::{Event, Outcome};
use vm_images::host::Cancel;

use crate::runner::attempt::TimeLimits;
use crate::runner::drive::Attempt;
use crate::runner::event_log::EventLog;
use crate::suite::Job;
use crate::terminal::Terminal;
use crate::vm::snapshot::Snapshots;
use crate::vm::{Hypervisor, VmSpec};

/// One attempt that is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) attempt: PlannedAttempt,
    pub(crate) job: Job,
    /// The VM, but for its log.
    pub(crate) vm: VmSpec,
    pub(crate) limits: TimeLimits,
    /// What the progress display calls it.
    pub(crate) name: String,
}

/// What all attempts of a run share.
#[derive(Clone, Copy)]
pub(crate) struct RunContext<'a> {
    pub(crate) hypervisor: &'a dyn Hypervisor,
    /// Where VMs are restored from, unless each boots.
    pub(crate) snapshots: Option<&'a Snapshots<'a>>,
    /// Folder of the run.
    pub(crate) dir: &'a Path,
    /// Folder for what goes with the process.
    pub(crate) scratch: &'a Path,
    pub(crate) events: &'a EventLog,
    pub(crate) terminal: &'a Terminal,
    pub(crate) cancel: &'a Cancel,
}

/// Runs all of `plan`, `n_vms` at a time, until done or cancelled. What happened is in the run's events.
pub(crate) fn run(context: RunContext<'_>, plan: Vec<Planned>, n_vms: usize) -> Result<()> {
    let n_all = plan.len();
    let queue = Mutex::new(plan.into_iter().collect::<VecDeque<_>>());
    std::thread::scope(|scope| {
        // Each worker starts its VMs itself: a VM dies with the thread that started it.
        let workers: Vec<_> = (0..n_vms.clamp(1, n_all.max(1)))
            .map(|idx| {
                let work = || -> Result<()> {
                    while !context.cancel.is_cancelled() {
                        let next = queue.lock().expect("no panic with the lock").pop_front();
                        let Some(planned) = next else { return Ok(()) };
                        let result = one(context, planned);
                        if result.is_err() {
                            // The record cannot be kept: the other workers stop, too.
                            queue.lock().expect("no panic with the lock").clear();
                        }
                        result?;
                    }
                    Ok(())
                };
                std::thread::Builder::new()
                    .name(format!("vm-{idx}"))
                    .spawn_scoped(scope, work)
                    .context("failed to start a thread")
            })
            .collect::<Result<_>>()?;
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn one(context: RunContext<'_>, planned: Planned) -> Result<()> {
    let RunContext { events, terminal, .. } = context;
    let number = planned.attempt.attempt;
    let dir = context.dir.join(&planned.attempt.dir);
    fs::create_dir_all(&dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
    events.append(Event::VmStarting { attempt: number }).context(event_log::FAILED)?;
    if !terminal.is_live() {
        terminal.timed(&format!("start  {}", planned.name));
    }
    let line = terminal.line(&planned.name);
    let vm = VmSpec { log: dir.join("qemu.log"), ..planned.vm };
    let attempt =
        Attempt { number, job: planned.job, vm, limits: planned.limits, dir: &dir, scratch: context.scratch };
    let (outcome, facts) = attempt.run(context, &line)?;
    drop(line);
    let text = done_line(&planned.name, &outcome, facts.test_ms);
    events.append(Event::AttemptFinished { attempt: number, outcome, facts }).context(event_log::FAILED)?;
    terminal.timed(&text);
    Ok(())
}

/// `pass   lvm2:shell/x.sh  88.1 s`.
fn done_line(name: &str, outcome: &Outcome, test_ms: Option<u64>) -> String {
    let word = match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail { .. } => "FAIL",
        Outcome::Skip { .. } => "skip",
        Outcome::Warn { .. } => "warn",
        Outcome::Timeout { .. } => "TIMEOUT",
        Outcome::Hang { .. } => "HANG",
        Outcome::KernelCrash { .. } => "CRASH",
        Outcome::DataCorruption { .. } => "CORRUPT",
        Outcome::Interrupted => "interrupted",
        Outcome::Infra { .. } => "INFRA",
    };
    let time = test_ms.map(|ms| format!("  {}.{} s", ms / 1000, ms % 1000 / 100)).unwrap_or_default();
    let detail = outcome.detail();
    let detail = if detail.is_empty() {
        detail
    } else {
        format!("  {}", reports::text::clip(&reports::text::printable(&detail), 120))
    };
    format!("{word:<6} {name}{time}{detail}")
}
