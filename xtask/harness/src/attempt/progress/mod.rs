//! Tells stuck from slow, by the guest's samples. Pure: gets samples, reads no clock.
//!
//! Slow moves: a task is given a processor now and then, a request completes, a resync advances, or a
//! sleep has an end that somebody named. Hang does not. Evidence is kept by task and by device: what goes on beside a
//! task that stands says nothing of it, but for who might end its wait. Windows are counted in samples, not in seconds of
//! ours, and a sample counts for as much as the host let the guest run since the one before: a guest that starves
//! is never called stuck for it.
//!
//! The rules are a table ([`rules`]); here is what they are held against. Deliberately not here: what the guest looks at.

mod motion;
mod rules;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::HangKind;
use protocol::evidence::{STACKS_MAX, TaskStack};
use protocol::sample::{EVERY_MS, Sample, TaskSample};

use motion::{Between, Done, SPIN_PERCENT, TaskMotion};
use rules::{
    Beside, Excuse, IDLES, LONG_SLEEP, Longer, RULES, Rule, STOOD_AT_LIMIT, STOOD_FOR_EVER, STOOD_SUSPENDED,
    TROUBLE, What, Where,
};
use tasks::{is_blocked, is_inside, is_md_thread, is_sync_thread};

/// Of the time between two samples, the part that must have been the guest's own for the second to count, percent.
const OWN_PERCENT: u64 = 75;
/// Names of programs that are remembered.
const PROGRAMS_MAX: usize = 1000;
/// New programs in a row of samples without work that a poll may come to: one that runs for a moment twice a second is
/// first seen at any time, and a test that goes on takes one program after the other.
const POLL_PROGRAMS: u32 = 1;
/// A task that gets less processor than this between two samples only polls, milliseconds.
const POLL_MS: u64 = 400;
/// Of so many samples, requests must have completed in so many for a silent test to be getting on: the log's daemon and
/// the file system of the guest's own write now and then, whatever the test does.
const REQUESTS_LOOKED_AT: u32 = 15;
const REQUESTS_IN: u32 = 4;
/// Samples after which the newest move of a page no longer says that memory is short.
const PAGING_COUNTS_FOR: u32 = 5;

/// What has been seen of a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Who sleeps for longer is nobody that the test could be waiting for.
    sleep_ms_max: u64,
    /// The guest's own time that no sample has been counted for yet, milliseconds; nothing as long as the host has
    /// not said.
    own_ms: Option<u64>,
    tasks: BTreeMap<u32, TaskMotion>,
    /// By array: samples in a row in which its resync, recovery or reshape did not advance.
    arrays: BTreeMap<String, u32>,
    /// Names of all programs that the test has run so far.
    programs: BTreeSet<String>,
    last: Option<Sample>,
    /// Programs that were new in the samples of `same_programs`.
    new_programs: u32,
    /// One bit for each of the last samples, the newest lowest: requests completed.
    requests: u32,
    rows: Rows,
    /// The kernel's own detectors have spoken, and what of that still stands has not been seen yet.
    kernel_reports_hung: bool,
    /// Samples that counted.
    watched: u32,
}

/// Samples in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Rows {
    /// No task of the test was given a processor.
    nobody_moves: u32,
    /// None did more than poll.
    only_polls: u32,
    /// None took programs that it had not had.
    same_programs: u32,
    /// None computed, and nothing was done on any device.
    only_idles: u32,
    /// The test printed nothing.
    says_nothing: u32,
    /// Nothing shows that the test gets on with anything.
    no_work: u32,
    /// Tasks that work in md or dm spent all of a processor on that, together, and got nothing done.
    spin_together: u32,
    /// No page was reclaimed or swapped.
    no_paging: u32,
    /// Nothing but polls was done on any device.
    all_idle: u32,
}

/// A hang, and the tasks that say most about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hang {
    pub(crate) kind: HangKind,
    /// For how long nothing has moved, milliseconds.
    pub(crate) still_ms: u64,
    pub(crate) stacks: Vec<TaskStack>,
    /// The task that spins, if its stack has not been seen: the processor it is on must be asked.
    pub(crate) unseen: Option<u32>,
}

impl Progress {
    /// Of a test that is ended when it has been silent for so long.
    pub(crate) fn of_test_silent_for(timeout: Duration) -> Self {
        let sleep_ms_max = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let rows = Rows { no_paging: PAGING_COUNTS_FOR, ..Rows::default() };
        Progress { sleep_ms_max, rows, ..Progress::default() }
    }

    /// The host let the guest run for so long, or left it idle, since it was last asked.
    pub(crate) fn had_time(&mut self, own_ms: u64) {
        self.own_ms = Some((self.own_ms.unwrap_or(0).saturating_add(own_ms)).min(2 * EVERY_MS));
    }

    /// What the next sample counts for: nothing if the host kept the guest waiting most of the time.
    fn spend(&mut self) -> u32 {
        let Some(own_ms) = &mut self.own_ms else { return 1 };
        if *own_ms * 100 < EVERY_MS * OWN_PERCENT {
            return 0;
        }
        *own_ms = own_ms.saturating_sub(EVERY_MS);
        1
    }

    /// True once it has been watched for so many samples that counted, and for as long as the kernel may take
    /// to end by itself what a task of the test waits for now.
    pub(crate) fn was_watched_for(&self, samples: u32) -> bool {
        let of_test = self.newest().filter(|task| task.of_test);
        let ends_ms = of_test.filter_map(|task| Some(task.storage.as_ref()?.ends_ms)).max().unwrap_or(0);
        let more = u32::try_from(ends_ms.div_ceil(EVERY_MS)).unwrap_or(u32::MAX);
        self.watched >= samples.saturating_add(more)
    }

    /// The test said something: it is not silent. What stands in storage stands all the same.
    pub(crate) fn spoke(&mut self) {
        self.rows.says_nothing = 0;
    }

    /// True if in the last samples more was done than a poll does: requests, a resync, a computation. Who is silent
    /// all the same is slow.
    pub(crate) fn is_getting_on(&self) -> bool {
        self.last.is_some() && self.rows.no_work < IDLES
    }

    /// The kernel's own detectors speak of a hung task, a lockup or a stall: one of those that stand now, and none of the
    /// test's doing if that moves on.
    pub(crate) fn kernel_reports_hung(&mut self) {
        for seen in self.tasks.values_mut() {
            seen.is_reported = seen.still > 0;
        }
        // It may not have been looked at yet.
        self.kernel_reports_hung = !self.tasks.values().any(|seen| seen.is_reported);
    }

    /// What a long silence of the test's is: a hung task, if the kernel says so as well.
    pub(crate) fn kind_of_silence(&self) -> HangKind {
        let stands = self.newest().any(|task| self.reported(task) >= IDLES);
        if stands { HangKind::HungTask } else { HangKind::NoOutput }
    }

    /// True if this was a task of the test's when it was last looked at.
    pub(crate) fn is_of_test(&self, pid: u32) -> bool {
        self.newest().any(|task| task.pid == pid && task.of_test)
    }

    /// It spins elsewhere than in md or dm.
    pub(crate) fn spins_elsewhere(&mut self, pid: u32) {
        if let Some(seen) = self.tasks.get_mut(&pid) {
            seen.spinning = 0;
        }
    }

    /// For how long a sampler that has fallen silent in the kernel may be waiting for what ends by itself, or by the
    /// test's doing, milliseconds after its newest sample.
    pub(crate) fn may_wait_ms(&self) -> u64 {
        let sleeps = self.newest().filter(|task| task.of_test && !tasks::is_timeout(task));
        let slept = sleeps.filter_map(|task| {
            let ms = task.sleeps_ms.filter(|ms| *ms <= self.sleep_ms_max)?;
            // Of one that named no end, as long as a test may be silent.
            Some(if ms == 0 { self.sleep_ms_max } else { ms })
        });
        let ended = self.newest().filter_map(|task| Some(task.storage.as_ref()?.ends_ms));
        slept.chain(ended).max().unwrap_or(0).min(self.sleep_ms_max)
    }

    /// At the end of a test's time: a task of the test, or a thread of md or dm, that has stood in D state inside of md
    /// or dm with nothing done on its device; for longer, also one that waits for the device elsewhere. What a limit ended
    /// then was no slow test.
    pub(crate) fn stood_in_storage(&self) -> Option<Hang> {
        let window = |task: &TaskSample| {
            let is_suspended = task.storage.as_ref().is_some_and(|storage| storage.is_suspended);
            let samples = if is_suspended { STOOD_SUSPENDED } else { STOOD_AT_LIMIT };
            self.lengthened(samples, rules::RULES[0].longer, task)
        };
        let stands = |task: &&TaskSample| {
            let Some(seen) = self.tasks.get(&task.pid).filter(|_| task.state == 'D') else { return false };
            let window = window(task);
            let waits_for_a_device = task.storage.as_ref().is_some_and(|storage| !storage.device.is_empty());
            if tasks::in_storage(task) {
                seen.stood() >= window || seen.still >= window.max(STOOD_FOR_EVER)
            } else {
                task.of_test && waits_for_a_device && seen.stood() >= window.max(STOOD_FOR_EVER)
            }
        };
        let still = |task: &TaskSample| self.tasks.get(&task.pid).map_or(0, |seen| seen.still);
        let task = self.newest().filter(stands).max_by_key(|task| (task.of_test, still(task)))?;
        let kind = if task.of_test { HangKind::NoProgress } else { HangKind::SyncStalled };
        Some(self.stuck(kind, still(task)))
    }

    /// At the end of a test that did not notice: a thread of md or dm that has stood in D state inside of md
    /// or dm with nothing done on its device, and its name. Not if something below it is suspended, or nobody
    /// knows: a test may end with that. A resync's only if it should move: one may be frozen on purpose.
    pub(crate) fn thread_stood(&self) -> Option<(&str, Hang)> {
        let stood = |task: &TaskSample| {
            let is_suspended = task.storage.as_ref().is_none_or(|storage| storage.is_suspended);
            let seen = self.tasks.get(&task.pid)?;
            if task.of_test || task.state != 'D' || !tasks::in_storage(task) || is_suspended {
                return None;
            }
            let is_sync = is_sync_thread(task);
            let samples = if is_sync { self.sync_stood(task, seen, false) } else { seen.stood() };
            let window = self.lengthened(STOOD_AT_LIMIT, rules::RULES[0].longer, task);
            let kind = if is_sync { HangKind::SyncStalled } else { HangKind::NoProgress };
            (samples >= window).then_some((samples, kind))
        };
        let stood = self.newest().filter_map(|task| Some((task, stood(task)?)));
        let (task, (samples, kind)) = stood.max_by_key(|(_, (samples, _))| *samples)?;
        Some((&task.comm, self.stuck(kind, samples)))
    }

    fn newest(&self) -> impl Iterator<Item = &TaskSample> {
        self.last.iter().flat_map(|sample| &sample.tasks)
    }

    // ---- what is seen ------------------------------------------------------------------------

    /// Takes a sample; says so if the test is stuck.
    pub(crate) fn take(&mut self, sample: Sample) -> Option<Hang> {
        let sample = sample.bounded();
        let Some(last) = self.last.take() else {
            self.tasks = sample.tasks.iter().map(|task| (task.pid, TaskMotion::new(task))).collect();
            self.remember(sample);
            return None;
        };
        // The guest's clock says how much a sample is worth; one that came twice is worth nothing.
        let elapsed_ms = sample.uptime_ms.saturating_sub(last.uptime_ms);
        if elapsed_ms < EVERY_MS / 4 {
            self.last = Some(last);
            return None;
        }
        let between = Between { step: self.spend(), elapsed_ms, done: Done::between(&last, &sample) };
        self.watched = self.watched.saturating_add(between.step);
        self.look_at_arrays(&last, &sample, &between);
        self.look_at_tasks(&last, &sample, &between);
        self.remember(sample);
        self.judge()
    }

    fn look_at_arrays(&mut self, last: &Sample, now: &Sample, between: &Between) {
        self.rows.all_idle = between.count(!between.done.is_much(), self.rows.all_idle);
        let unmoved = now.syncs.iter().map(|sync| {
            let has_moved = last.syncs.iter().any(|old| sync.has_moved_since(old));
            let n = self.arrays.get(&sync.array).map(|n| between.count(!has_moved, *n));
            // Arrays are asked seldom, and only when there is something to ask.
            (sync.array.clone(), n.unwrap_or(self.rows.all_idle))
        });
        self.arrays = unmoved.collect();
    }

    fn look_at_tasks(&mut self, last: &Sample, now: &Sample, between: &Between) {
        let (mut moved, mut busy) = (false, false);
        let (mut spin_ms, mut spin_done) = (0_u64, false);
        let mut new_programs = BTreeSet::new();
        let mut tasks = BTreeMap::new();
        for task in &now.tasks {
            let before = self.tasks.remove(&task.pid);
            let is_new = before.is_none();
            let mut seen = before.unwrap_or_else(|| TaskMotion::new(task));
            let step = if is_new { None } else { Some(seen.take(task, between)) };
            if task.of_test {
                moved |= step.as_ref().is_none_or(|step| step.has_moved);
                busy |= step.as_ref().is_some_and(|step| step.spent_ms > POLL_MS);
                if is_new && self.is_new_program(&task.comm) {
                    new_programs.insert(task.comm.as_str());
                }
            }
            if let Some(step) = step.filter(|_| is_md_thread(task) || tasks::in_storage(task)) {
                spin_ms = spin_ms.saturating_add(step.sys_ms);
                spin_done |= step.sys_ms > 0 && step.much_done;
            }
            tasks.insert(task.pid, seen);
        }
        if self.kernel_reports_hung {
            self.kernel_reports_hung = false;
            tasks.values_mut().for_each(|seen| seen.is_reported = seen.still > 0);
        }
        self.tasks = tasks;
        self.new_programs =
            self.new_programs.saturating_add(u32::try_from(new_programs.len()).unwrap_or(u32::MAX));
        let goes_on = self.new_programs > POLL_PROGRAMS;
        if goes_on || busy {
            self.new_programs = 0;
        }
        self.requests = self.requests << 1 | u32::from(between.done.requests);
        let n_with_requests = (self.requests & ((1 << REQUESTS_LOOKED_AT) - 1)).count_ones();
        let Done { syncs, storage_writes, .. } = between.done;
        let works = busy || goes_on || syncs || storage_writes || n_with_requests >= REQUESTS_IN;
        let spins =
            spin_ms.saturating_mul(100) >= between.elapsed_ms.saturating_mul(SPIN_PERCENT) && !spin_done;
        let pages = now.paging != 0 && last.paging != 0 && now.paging != last.paging;
        let rows = self.rows;
        self.rows = Rows {
            nobody_moves: between.count(!moved, rows.nobody_moves),
            only_polls: between.count(!(busy || goes_on), rows.only_polls),
            same_programs: between.count(!goes_on, rows.same_programs),
            only_idles: between.count(!(busy || between.done.any), rows.only_idles),
            says_nothing: between.count(true, rows.says_nothing),
            no_work: between.count(!works, rows.no_work),
            spin_together: between.count(spins, rows.spin_together),
            no_paging: between.count(!pages, rows.no_paging),
            all_idle: rows.all_idle,
        };
    }

    fn remember(&mut self, sample: Sample) {
        for task in sample.tasks.iter().filter(|task| task.of_test) {
            if self.programs.len() < PROGRAMS_MAX && !self.programs.contains(&task.comm) {
                self.programs.insert(task.comm.clone());
            }
        }
        self.last = Some(sample);
    }

    /// A polling loop starts the same programs again and again, also those that are seldom seen at work.
    fn is_new_program(&self, comm: &str) -> bool {
        !self.programs.contains(comm) && !["sleep", "bash", "sh", "cat", "grep"].contains(&comm)
    }

    // ---- what it comes to --------------------------------------------------------------------

    fn judge(&self) -> Option<Hang> {
        RULES.iter().find_map(|rule| {
            let task = self.newest().find(|task| {
                let window = self.lengthened(rule.samples, rule.longer, task);
                self.row_of(rule.beside) >= window
                    && self.samples_of(rule.what, task) >= window
                    && !self.is_excused(rule.excuse, task)
            })?;
            Some(self.stuck_by(rule, task))
        })
    }

    fn stuck_by(&self, rule: &Rule, task: &TaskSample) -> Hang {
        let stuck = self.stuck(rule.kind, self.samples_of(rule.what, task));
        let in_storage = self.tasks.get(&task.pid).is_some_and(|seen| seen.in_storage);
        let unseen = (rule.what == What::Spin && !in_storage && !is_md_thread(task)).then_some(task.pid);
        Hang { unseen, ..stuck }
    }

    fn stuck(&self, kind: HangKind, samples: u32) -> Hang {
        Hang { kind, still_ms: u64::from(samples) * EVERY_MS, stacks: self.stacks(), unseen: None }
    }

    fn row_of(&self, beside: Beside) -> u32 {
        match beside {
            Beside::NobodyMoves => self.rows.nobody_moves,
            Beside::Polls => self.rows.only_polls,
            Beside::PollsSilently => self.rows.only_polls.min(self.rows.says_nothing),
            Beside::SamePrograms => self.rows.same_programs,
            Beside::Anything => u32::MAX,
        }
    }

    /// For how many samples this has been so of a task; 0 if it is not.
    fn samples_of(&self, what: What, task: &TaskSample) -> u32 {
        let Some(seen) = self.tasks.get(&task.pid) else { return 0 };
        match what {
            What::Task(place) if task.of_test && is_blocked(task) && self.is_at(place, task) => seen.stood(),
            What::Task(_) => 0,
            What::Spin => seen.spinning,
            What::SpinTogether if is_md_thread(task) || tasks::in_storage(task) => self.rows.spin_together,
            What::SpinTogether => 0,
            What::Reported => {
                let Rows { only_idles, says_nothing, all_idle, .. } = self.rows;
                self.reported(task).min(only_idles).min(says_nothing).min(all_idle)
            }
            What::SyncThread if task.state == 'D' => self.sync_stood(task, seen, false),
            What::SyncThread => 0,
            What::SyncThreadAsleep if task.state == 'S' => self.sync_stood(task, seen, true),
            What::SyncThreadAsleep => 0,
        }
    }

    /// For how many samples what the kernel has reported has stood since. The same task may have been reported and gone
    /// on long ago.
    fn reported(&self, task: &TaskSample) -> u32 {
        let seen = self.tasks.get(&task.pid).filter(|seen| seen.is_reported);
        seen.filter(|_| is_blocked(task) || task.state == 'R').map_or(0, |seen| seen.still)
    }

    /// For how many samples a sync thread has stood, and an array that may be its own should have moved.
    fn sync_stood(&self, task: &TaskSample, seen: &TaskMotion, asleep: bool) -> u32 {
        let syncs = self.last.as_ref().map_or(&[][..], |sample| &sample.syncs);
        if !is_sync_thread(task) || asleep && syncs.is_empty() {
            return 0;
        }
        let known = task.storage.as_ref().is_some_and(|storage| !storage.device.is_empty());
        if syncs.is_empty() {
            return seen.stood();
        }
        // What the arrays say themselves counts, if they say anything.
        let should_move = |sync: &&protocol::sample::Sync| {
            sync.should_move && !(asleep && sync.is_capped) && tasks::may_be_of(task, &sync.array)
        };
        let unmoved = syncs.iter().filter(should_move).filter_map(|sync| self.arrays.get(&sync.array));
        let unmoved = unmoved.max().copied().unwrap_or(0);
        if asleep {
            // One that sleeps may wait for another array's to end (md.c, md_do_sync: DELAYED).
            let others = self.newest().filter(|task| is_sync_thread(task));
            let still = others.filter_map(|task| Some(self.tasks.get(&task.pid)?.still)).min().unwrap_or(0);
            return unmoved.min(still).min(seen.idle);
        }
        unmoved.min(if known { seen.stood() } else { seen.still })
    }

    fn is_at(&self, place: Where, task: &TaskSample) -> bool {
        let is_known = task.storage.is_some();
        match place {
            Where::AtKnownDevice => is_known,
            Where::Inside => self.waits_inside(task),
            Where::InsideKnown => is_known && self.waits_inside(task),
            Where::Outside => !self.waits_inside(task),
            Where::OutsideKnown => is_known && !self.waits_inside(task),
        }
    }

    /// It stands in md or dm itself, or waits for a request that they have taken, or for a device of which somebody else stands
    /// there.
    fn waits_inside(&self, task: &TaskSample) -> bool {
        let device = |task: &TaskSample| {
            let storage = task.storage.as_ref();
            storage.map(|storage| storage.device.clone()).filter(|device| !device.is_empty())
        };
        let is_trouble = |other: &TaskSample| {
            let may_be_same = device(other).zip(device(task)).is_none_or(|(other, own)| other == own);
            let stands = self.tasks.get(&other.pid).is_some_and(|seen| seen.still >= TROUBLE);
            stands && may_be_same && is_blocked(other) && is_inside(other)
        };
        // A request that md or dm has taken and not answered is inside of them, wherever its task waits for it.
        let is_taken = task.storage.as_ref().is_some_and(|storage| storage.is_busy);
        tasks::in_storage(task) || is_taken || self.newest().any(is_trouble)
    }

    /// So many samples, or as many more as what else is under way makes of them for this task.
    fn lengthened(&self, samples: u32, longer: &[Longer], task: &TaskSample) -> u32 {
        let Some(newest) = &self.last else { return samples };
        let storage = task.storage.as_ref();
        let (mut times, mut least, mut more) = (1, samples, 0);
        for longer in longer {
            match *longer {
                Longer::Host(n) if newest.host_io > 0 => times = times.max(n),
                Longer::Helper(n) if newest.tasks.iter().any(tasks::waits_for_a_helper) => {
                    times = times.max(n)
                }
                Longer::Delay(n) if self.has_unknown_delays(task) => times = times.max(n),
                Longer::Kernel => {
                    let ends_ms = storage.map_or(0, |storage| storage.ends_ms);
                    more = u32::try_from(ends_ms.div_ceil(EVERY_MS)).unwrap_or(u32::MAX);
                }
                Longer::Memory(n) if self.lacks_memory() && tasks::waits_for_memory(task) => {
                    least = least.max(n)
                }
                Longer::Suspended(n) if storage.is_some_and(|storage| storage.is_suspended) => {
                    least = least.max(n);
                }
                Longer::Steps(n) if storage.is_none() && self.sleeps(task).next().is_some() => {
                    least = least.max(n);
                }
                Longer::Host(_)
                | Longer::Helper(_)
                | Longer::Delay(_)
                | Longer::Memory(_)
                | Longer::Suspended(_)
                | Longer::Steps(_) => {}
            }
        }
        (samples.saturating_mul(times)).max(least).saturating_add(more)
    }

    /// A worker of dm-delay's is there, and nobody has said how long it holds requests back.
    fn has_unknown_delays(&self, task: &TaskSample) -> bool {
        let has_delays = self.newest().any(|task| task.comm.contains("kdelayd"));
        has_delays && task.storage.as_ref().is_none_or(|storage| storage.ends_ms == 0)
    }

    /// Pages were reclaimed or swapped a moment ago.
    fn lacks_memory(&self) -> bool {
        self.rows.no_paging < PAGING_COUNTS_FOR
    }

    /// Tasks of the test that sleep, by their own word, for less time than it may be silent. That timeout(1) will send
    /// a signal is of no use to who does not react to one.
    fn sleeps(&self, judged: &TaskSample) -> impl Iterator<Item = &TaskSample> {
        let reacts = tasks::dies_of_a_signal(judged);
        let is_future = |task: &TaskSample| task.sleeps_ms.is_some_and(|ms| ms <= self.sleep_ms_max);
        self.newest()
            .filter(move |task| task.of_test && is_future(task) && (reacts || !tasks::is_timeout(task)))
    }

    fn is_excused(&self, excuse: Excuse, judged: &TaskSample) -> bool {
        let mut sleeps = self.sleeps(judged);
        match excuse {
            Excuse::Never => false,
            Excuse::Sleep => sleeps.next().is_some(),
            // A sleep whose end was named long ago is still to come: what waits may wait for that.
            Excuse::LongSleep => {
                sleeps.any(|task| self.tasks.get(&task.pid).is_some_and(|seen| seen.still >= LONG_SLEEP))
            }
        }
    }

    /// Where the tasks stand, by the newest sample: the test's that are blocked first, then the sync threads,
    /// then other threads of md and dm.
    pub(crate) fn stacks(&self) -> Vec<TaskStack> {
        let mut telling: Vec<_> = self
            .newest()
            .filter_map(|task| {
                let seen = self.tasks.get(&task.pid)?;
                let frames = if task.frames.is_empty() { &seen.frames } else { &task.frames };
                let tells = is_blocked(task) || task.state == 'R' || is_sync_thread(task);
                if frames.is_empty() || !tells {
                    return None;
                }
                let rank =
                    (!task.of_test, !is_sync_thread(task), !is_blocked(task), std::cmp::Reverse(seen.still));
                let stack = TaskStack {
                    pid: task.pid,
                    comm: task.comm.clone(),
                    of_test: task.of_test,
                    state: task.state,
                    still_ms: u64::from(seen.still) * EVERY_MS,
                    frames: frames.clone(),
                };
                Some((rank, stack))
            })
            .collect();
        telling.sort_by_key(|(rank, _)| *rank);
        telling.into_iter().map(|(_, stack)| stack).take(STACKS_MAX).collect()
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
pub(super) mod tests;
