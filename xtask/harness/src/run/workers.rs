//! Carries out a plan with several VMs at a time. The order is decided in [`crate::run::schedule`] and
//! [`crate::run::tries`]; an attempt is driven in [`crate::attempt::drive`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use protocol::event::PlannedAttempt;
use protocol::{Event, Outcome};
use reports::Judged;

use crate::attempt::TimeLimits;
use crate::attempt::drive::{Attempt, AttemptContext};
use crate::clock::millis;
use crate::event_log::FAILED;
use crate::machine::VmSpec;
use crate::machine::qemu::OVERHEAD_MIB;
use crate::run::schedule::{Budget, Item, Length, Schedule};
use crate::run::tries::{Times, Tries, TryResult};
use crate::suite::Job;
use crate::terminal::Terminal;
use crate::words::count;

/// A planned attempt.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) attempt: PlannedAttempt,
    pub(crate) job: Job,
    /// The VM, without the path of its console log.
    pub(crate) vm: VmSpec,
    pub(crate) limits: TimeLimits,
    /// The test, and its kernel if a run has several: what all its tries are called by the progress display.
    pub(crate) test_name: String,
    /// Folder of the test's first try, below the run's own.
    pub(crate) first_dir: String,
    /// Which try of the test this is, from 1.
    pub(crate) try_idx: u32,
    /// Time that it will take.
    pub(crate) length: Length,
}

/// Memory that counts for a VM, MiB. A guest touches little of what it has: of 2 GiB, RAID tests of lvm2 280
/// MB in the median and 374 at most, with QEMU (Pss). Three quarters are counted: one that fills its memory
/// finds it.
pub(crate) fn memory_mib(vm: &VmSpec) -> u64 {
    u64::from(vm.ram_mib) * 3 / 4 + OVERHEAD_MIB
}

impl Planned {
    /// Another try of this attempt, with the given numbers.
    pub(crate) fn again(&self, number: u32, try_idx: u32, retry_of: Option<u32>) -> Planned {
        Planned {
            attempt: PlannedAttempt {
                attempt: number,
                // No first try has a `~` in its folder's name.
                dir: format!("{}~{try_idx}", self.first_dir),
                retry_of,
                ..self.attempt.clone()
            },
            try_idx,
            ..self.clone()
        }
    }

    /// The name that the progress display shows: `lvm2:shell/x.sh (try 2)`.
    pub(crate) fn name(&self) -> String {
        match self.try_idx {
            0 | 1 => self.test_name.clone(),
            later => format!("{} (try {later})", self.test_name),
        }
    }

    /// The attempt as an item of the schedule.
    pub(crate) fn item(&self) -> Item {
        Item {
            attempt: self.attempt.attempt,
            length: self.length,
            memory_mib: memory_mib(&self.vm),
            vcpus: self.vm.vcpus,
        }
    }
}

/// Everything that the attempts of a run share.
#[derive(Clone, Copy)]
pub(crate) struct RunContext<'a> {
    /// The context passed to each attempt.
    pub(crate) attempt: AttemptContext<'a>,
    /// Folder of the run.
    pub(crate) dir: &'a Path,
    /// Folder for files that go when this process ends.
    pub(crate) scratch: &'a Path,
    pub(crate) terminal: &'a Terminal,
    /// Called with the number of each finished attempt, after it was recorded: judges it.
    pub(crate) after: &'a (dyn Fn(u32) -> Result<Judged> + Sync),
}

/// Carries out `plan` within `budget`, until done or cancelled. The results are in the run's events. The
/// events must already contain the plan; further tries are added to them. Attempts in `done` were finished
/// before a resumed run was interrupted, and are not made again.
pub(crate) fn carry_out(
    context: RunContext<'_>,
    plan: Vec<Planned>,
    done: &[(u32, TryResult)],
    times: Times,
    budget: Budget,
) -> Result<()> {
    let n_workers = n_workers(budget, times, plan.len() - done.len());
    let work = SharedWork::new(context, plan, done, times, Budget { n_vms: n_workers, ..budget });
    std::thread::scope(|scope| {
        let thread = |name: String| std::thread::Builder::new().name(name);
        // Each worker starts its VMs in its own thread, because a VM dies with the thread that started it.
        let workers: Vec<_> = (0..n_workers)
            .map(|idx| thread(format!("vm-{idx}")).spawn_scoped(scope, || work.carry_out()))
            .collect::<Result<_, _>>()
            .context("failed to start a thread")?;
        thread("progress".into()).spawn_scoped(scope, || work.show()).context("failed to start a thread")?;
        let results = workers.into_iter().map(|worker| worker.join());
        let result = results
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        work.end();
        result
    })
}

/// Number of VMs that a run uses at a time: no more than there are attempts.
pub(crate) fn n_workers(budget: Budget, times: Times, n_planned: usize) -> usize {
    if times.is_open() { budget.n_vms.max(1) } else { budget.n_vms.clamp(1, n_planned.max(1)) }
}

/// State that the workers share.
struct SharedWork<'a> {
    context: RunContext<'a>,
    times: Times,
    state: Mutex<WorkState>,
    /// Signalled when an attempt or the whole run ends.
    changed: Condvar,
}

struct WorkState {
    schedule: Schedule,
    tries: Tries,
    /// All attempts, by number.
    plan: BTreeMap<u32, Planned>,
    /// Start times of the running attempts.
    since: BTreeMap<u32, Instant>,
    n_done: usize,
    over: bool,
}

impl WorkState {
    /// Progress as text: `12 of 67, about 6 min left`.
    fn progress(&self, times: Times) -> String {
        let (n_waiting, n_running) = self.schedule.counts();
        let n_all = self.n_done + n_waiting + n_running;
        if times.is_open() {
            return count(self.n_done, "attempt");
        }
        let ran = |attempt: u32| {
            let since = self.since.get(&attempt).map(Instant::elapsed).unwrap_or_default();
            millis(since)
        };
        match self.schedule.left_ms(ran) {
            Some(ms) if ms > 0 => {
                format!("{} of {n_all}, about {} left", self.n_done, reports::text::duration(ms))
            }
            Some(_) | None => format!("{} of {n_all}", self.n_done),
        }
    }
}

impl<'a> SharedWork<'a> {
    fn new(
        context: RunContext<'a>,
        plan: Vec<Planned>,
        done: &[(u32, TryResult)],
        times: Times,
        budget: Budget,
    ) -> Self {
        let done: BTreeMap<u32, TryResult> = done.iter().copied().collect();
        let left = plan.iter().filter(|planned| !done.contains_key(&planned.attempt.attempt));
        let schedule = Schedule::new(budget, left.map(Planned::item));
        let key = |planned: &Planned| {
            let PlannedAttempt { attempt, test, kernel_idx, retry_of, .. } = &planned.attempt;
            (*attempt, (test.clone(), *kernel_idx), *retry_of)
        };
        let mut tries = Tries::new(times, plan.iter().map(key));
        done.iter().for_each(|(attempt, came)| tries.over(*attempt, *came));
        let plan = plan.into_iter().map(|planned| (planned.attempt.attempt, planned)).collect();
        let state =
            WorkState { schedule, tries, plan, since: BTreeMap::new(), n_done: done.len(), over: false };
        SharedWork { context, times, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, WorkState> {
        self.state.lock().expect("no panic with the lock")
    }

    /// Waits for a change; returns after a moment anyway, to check for cancellation.
    fn wait<'s>(&self, state: MutexGuard<'s, WorkState>) -> MutexGuard<'s, WorkState> {
        let waited = self.changed.wait_timeout(state, Duration::from_millis(300));
        waited.expect("no panic with the lock").0
    }

    /// Makes one attempt after another until nothing is left to start.
    fn carry_out(&self) -> Result<()> {
        let result = self.until_over();
        if result.is_err() {
            // The record could not be written: the other workers stop, too.
            self.end();
        }
        result
    }

    fn until_over(&self) -> Result<()> {
        while let Some(planned) = self.next()? {
            let number = planned.attempt.attempt;
            let judged = one(self.context, planned, || {
                let mut state = self.lock();
                state.schedule.finish(number);
                state.since.remove(&number);
                state.n_done += 1;
                state.progress(self.times)
            })?;
            self.lock().tries.over(number, TryResult::of(&judged));
            self.changed.notify_all();
        }
        Ok(())
    }

    /// The next attempt to start; waits until one fits. `None` if all were started, or the run ends.
    fn next(&self) -> Result<Option<Planned>> {
        let mut state = self.lock();
        loop {
            if state.over || self.context.attempt.cancel.is_cancelled() {
                return Ok(None);
            }
            let started = match state.schedule.start() {
                None if state.schedule.counts().0 == 0 => {
                    self.plan_more(&mut state)?;
                    state.schedule.start()
                }
                started => started,
            };
            if let Some(attempt) = started {
                state.since.insert(attempt, Instant::now());
                return Ok(state.plan.get(&attempt).cloned());
            }
            // Running attempts may have to be tried again.
            if state.schedule.counts() == (0, 0) {
                return Ok(None);
            }
            state = self.wait(state);
        }
    }

    /// Plans another try, if one is wanted and there is room.
    fn plan_more(&self, state: &mut WorkState) -> Result<()> {
        let number = state.plan.keys().next_back().map_or(1, |last| last + 1);
        let elapsed = self.context.attempt.events.elapsed();
        let more = if state.schedule.has_room() { state.tries.next(number, elapsed) } else { None };
        if let Some(more) = more
            && let Some(like) = state.plan.get(&more.like)
        {
            let planned = like.again(number, more.try_idx, more.is_retry.then_some(more.like));
            let attempts = vec![planned.attempt.clone()];
            self.context.attempt.events.append(Event::Planned { attempts }).context(FAILED)?;
            state.schedule.add(planned.item());
            state.plan.insert(number, planned);
        }
        Ok(())
    }

    /// Makes the workers stop after their present attempts.
    fn end(&self) {
        let mut state = self.lock();
        state.over = true;
        state.schedule.stop();
        drop(state);
        self.changed.notify_all();
    }

    /// Shows the progress on live lines.
    fn show(&self) {
        if !self.context.terminal.is_live() {
            return;
        }
        let line = self.context.terminal.line("all");
        let mut state = self.lock();
        while !state.over {
            line.set(&state.progress(self.times));
            state = self.wait(state);
        }
    }
}

/// Makes one attempt and records it. `over` is called when its VM is gone, and returns the progress as text.
fn one(context: RunContext<'_>, planned: Planned, over: impl FnOnce() -> String) -> Result<Judged> {
    let RunContext { attempt: AttemptContext { events, .. }, terminal, .. } = context;
    let (number, name) = (planned.attempt.attempt, planned.name());
    let dir = context.dir.join(&planned.attempt.dir);
    fs::create_dir_all(&dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
    events.append(Event::VmStarting { attempt: number }).context(FAILED)?;
    if !terminal.is_live() {
        terminal.timed(&format!("start  {name}"));
    }
    let line = match planned.length {
        Length::Timed(ms) => terminal.line(&format!("{name} (~{})", reports::text::duration(ms))),
        Length::AtMost(_) => terminal.line(&name),
    };
    let vm = VmSpec { log: dir.join("qemu.log"), ..planned.vm };
    let attempt =
        Attempt { number, job: planned.job, vm, limits: planned.limits, dir: &dir, scratch: context.scratch };
    let result = attempt.run(context.attempt, &line);
    drop(line);
    let progress = over();
    let (outcome, facts) = result?;
    let text = format!("{}  ({progress})", done_line(&name, &outcome, facts.test_ms));
    events.append(Event::AttemptFinished { attempt: number, outcome, facts }).context(FAILED)?;
    terminal.timed(&text);
    (context.after)(number)
}

/// The line for a finished attempt: `pass   lvm2:shell/x.sh  88.1 s`.
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
