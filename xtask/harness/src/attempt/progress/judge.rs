//! Holds the table of rules ([`super::rules`]) against what was seen of a test, and judges what stands when a
//! test ends.

use protocol::HangKind;
use protocol::evidence::{STACKS_MAX, TaskStack};
use protocol::sample::{EVERY_MS, TaskSample};

use super::motion::TaskMotion;
use super::rules::{
    Beside, Excuse, LONG_SLEEP, Longer, RULES, Rule, STOOD_AT_LIMIT, STOOD_FOR_EVER, STOOD_SUSPENDED,
    TROUBLE, WAITS, What, Where,
};
use super::tasks::{is_blocked, is_inside, is_md_thread, is_sync_thread};
use super::{Hang, PAGING_COUNTS_FOR, Progress, Rows, tasks};

impl Progress {
    /// At the end of a test's time: a task of the test, or a thread of md or dm, that has stood in D state
    /// inside of md or dm with nothing done on its device; for longer, also one that waits for the device
    /// elsewhere. What a limit ended then was no slow test.
    pub(crate) fn stood_in_storage(&self) -> Option<Hang> {
        let window = |task: &TaskSample| {
            let is_suspended = task.storage.as_ref().is_some_and(|storage| storage.is_suspended);
            let samples = if is_suspended { STOOD_SUSPENDED } else { STOOD_AT_LIMIT };
            self.lengthened(samples, WAITS, task)
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
        Some(self.hang(kind, still(task)))
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
            let window = self.lengthened(STOOD_AT_LIMIT, WAITS, task);
            let kind = if is_sync { HangKind::SyncStalled } else { HangKind::NoProgress };
            (samples >= window).then_some((samples, kind))
        };
        let stood = self.newest().filter_map(|task| Some((task, stood(task)?)));
        let (task, (samples, kind)) = stood.max_by_key(|(_, (samples, _))| *samples)?;
        Some((&task.comm, self.hang(kind, samples)))
    }

    // ---- the table ---------------------------------------------------------------------------

    /// The hang that the newest sample completes, if it does.
    pub(super) fn judge(&self) -> Option<Hang> {
        self.first_row_met().map(|(rule, task)| self.hang_by(rule, task))
    }

    /// The first row of the table that is met, and the task that meets it.
    pub(super) fn first_row_met(&self) -> Option<(&'static Rule, &TaskSample)> {
        RULES.iter().find_map(|rule| {
            let task = self.newest().find(|task| {
                let window = self.lengthened(rule.samples, rule.longer, task);
                self.row_of(rule.beside) >= window
                    && self.samples_of(rule.what, task) >= window
                    && !self.is_excused(rule.excuse, task)
            })?;
            Some((rule, task))
        })
    }

    fn hang_by(&self, rule: &Rule, task: &TaskSample) -> Hang {
        let hang = self.hang(rule.kind, self.samples_of(rule.what, task));
        let in_storage = self.tasks.get(&task.pid).is_some_and(|seen| seen.in_storage);
        let unseen = (rule.what == What::Spin && !in_storage && !is_md_thread(task)).then_some(task.pid);
        Hang { unseen, ..hang }
    }

    fn hang(&self, kind: HangKind, samples: u32) -> Hang {
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

    /// Samples for which `what` has been true of a task; 0 if it is not.
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

    /// Samples for which a task has stood since the kernel reported it. It may have been reported and gone on
    /// long ago.
    pub(super) fn reported(&self, task: &TaskSample) -> u32 {
        let seen = self.tasks.get(&task.pid).filter(|seen| seen.is_reported);
        seen.filter(|_| is_blocked(task) || task.state == 'R').map_or(0, |seen| seen.still)
    }

    /// Samples for which a sync thread has stood, and an array that may be its own should have moved.
    fn sync_stood(&self, task: &TaskSample, seen: &TaskMotion, asleep: bool) -> u32 {
        let syncs = self.last.as_ref().map_or(&[][..], |sample| &sample.syncs);
        if !is_sync_thread(task) || asleep && syncs.is_empty() {
            return 0;
        }
        let known = task.storage.as_ref().is_some_and(|storage| !storage.device.is_empty());
        if syncs.is_empty() {
            return seen.stood();
        }
        // The arrays' own word counts, if they say anything.
        let should_move = |sync: &&protocol::sample::Sync| {
            sync.should_move && !(asleep && sync.is_capped) && tasks::may_be_of(task, &sync.array)
        };
        let unmoved = syncs.iter().filter(should_move).filter_map(|sync| self.arrays.get(&sync.array));
        let unmoved = unmoved.max().copied().unwrap_or(0);
        if asleep {
            // A sync thread that sleeps may wait for another array's to end (md.c, md_do_sync: DELAYED).
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

    /// True if a task stands in md or dm itself, or waits for a request that they have taken, or for a device
    /// at which somebody else stands in md or dm.
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
        // A request that md or dm has taken and not answered is inside of them, wherever its task waits for
        // it.
        let is_taken = task.storage.as_ref().is_some_and(|storage| storage.is_busy);
        tasks::in_storage(task) || is_taken || self.newest().any(is_trouble)
    }

    /// The window of `samples`, as the circumstances in `longer` that are true of this task lengthen it.
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

    /// True if a worker of dm-delay's is there, and nobody has said how long it holds requests back.
    fn has_unknown_delays(&self, task: &TaskSample) -> bool {
        let has_delays = self.newest().any(|task| task.comm.contains("kdelayd"));
        has_delays && task.storage.as_ref().is_none_or(|storage| storage.ends_ms == 0)
    }

    /// True if pages were reclaimed or swapped a moment ago.
    fn lacks_memory(&self) -> bool {
        self.rows.no_paging < PAGING_COUNTS_FOR
    }

    /// Tasks of the test that sleep, by their own word, for less time than it may be silent. That timeout(1)
    /// will send a signal is of no use to a task that does not react to one.
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

    /// Stacks of the tasks, by the newest sample: the test's that are blocked first, then the sync threads,
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
