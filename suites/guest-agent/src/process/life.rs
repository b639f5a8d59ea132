//! The life of one supervised process, a test's or a shell's, as pure decisions.
//!
//! [`Life`] is told what is observed and what time it is, and says what to do next. It never
//! waits: each phase after the program's own process has ended has a deadline, so that neither a
//! process in D state nor a pipe that a daemon holds keeps the harness from its answer.

use std::time::{Duration, Instant};

use protocol::program::Exit;
use protocol::wire::{Finished, Survivor};

use crate::process::cgroup::Process;

/// How long a killed process may take to go before it counts as unkillable.
pub(crate) const KILL_WAIT: Duration = Duration::from_secs(2);

/// Processes that are listed at most.
pub(crate) const MAX_SURVIVORS: usize = 32;

/// How far the launcher has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launch {
    /// It is still preparing.
    Pending,
    /// It has become the test.
    Done,
    /// It could not: this errno.
    Failed(i32),
}

/// The caller's view of the program and its processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    /// How far the launcher has come.
    pub(crate) launch: Launch,
    /// Somebody still holds the writing end of its pipe.
    pub(crate) pipe_open: bool,
    /// Somebody still lives in its cgroup.
    pub(crate) populated: bool,
}

/// The caller's next action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Say that the test runs.
    Started,
    /// Note who survived ([`Life::survived`]), then kill the cgroup.
    NoteAndKill,
    /// Kill the cgroup (again).
    Kill,
    /// Drain the pipe once more and report.
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    /// Its own process has ended; the processes that it left may end by themselves until then.
    Grace(Instant),
    /// The processes that it left have been killed; they may take until then to go.
    Killing(Instant),
    Over,
}

/// One program.
///
/// Invariant: [`Step::Finish`] comes exactly once, at the latest `grace` and [`KILL_WAIT`] after
/// the test's own process has ended, or [`KILL_WAIT`] after [`Self::stop`].
#[derive(Debug)]
pub(crate) struct Life {
    attempt: u32,
    pid: u32,
    grace: Duration,
    started: Instant,
    phase: Phase,
    exit: Option<Exit>,
    ended: Option<Instant>,
    /// Its own process has been waited for.
    reaped: bool,
    survivors: Vec<Survivor>,
}

impl Life {
    /// The launcher, process `pid`, exists since `now`.
    pub(crate) fn new(attempt: u32, pid: u32, grace: Duration, now: Instant) -> Self {
        Self {
            attempt,
            pid,
            grace,
            started: now,
            phase: Phase::Starting,
            exit: None,
            ended: None,
            reaped: false,
            survivors: Vec::new(),
        }
    }

    /// The number of the attempt.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The test's own process has ended and was waited for.
    pub(crate) fn reaped(&mut self, exit: Exit, now: Instant) {
        self.reaped = true;
        self.exit.get_or_insert(exit);
        self.ended.get_or_insert(now);
    }

    /// The harness wants it to end. Returns what to do at once.
    pub(crate) fn stop(&mut self, now: Instant) -> Option<Step> {
        match self.phase {
            Phase::Starting | Phase::Running | Phase::Grace(_) => {
                self.phase = Phase::Killing(now + KILL_WAIT);
                Some(Step::Kill)
            }
            Phase::Killing(_) | Phase::Over => None,
        }
    }

    /// True while something may change without any descriptor becoming readable.
    pub(crate) fn is_ending(&self) -> bool {
        match self.phase {
            Phase::Starting | Phase::Running | Phase::Over => false,
            Phase::Grace(_) | Phase::Killing(_) => true,
        }
    }

    /// True once the end of its own process is known.
    pub(crate) fn has_ended(&self) -> bool {
        self.reaped
    }

    /// True while its remaining processes are being killed.
    pub(crate) fn is_killing(&self) -> bool {
        matches!(self.phase, Phase::Killing(_))
    }

    /// True if it has been reported.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The next action. To be called until it returns nothing.
    pub(crate) fn step(&mut self, observed: Observed, now: Instant) -> Option<Step> {
        match self.phase {
            Phase::Starting => match observed.launch {
                Launch::Pending => None,
                Launch::Done => {
                    // Preparing, such as loading modules, is no time of the test's. One that has
                    // already ended was too fast to tell the two apart.
                    if self.ended.is_none() {
                        self.started = now;
                    }
                    self.phase = Phase::Running;
                    Some(Step::Started)
                }
                Launch::Failed(errno) => {
                    self.exit = Some(Exit::NotStarted(errno));
                    self.ended.get_or_insert(now);
                    self.phase = Phase::Killing(now + KILL_WAIT);
                    Some(Step::Kill)
                }
            },
            Phase::Running => {
                let ended = self.ended?;
                self.phase = Phase::Grace(ended + self.grace);
                self.step(observed, now)
            }
            Phase::Grace(_) if !observed.pipe_open && !observed.populated => self.over(),
            Phase::Grace(until) if now >= until => {
                self.phase = Phase::Killing(now + KILL_WAIT);
                Some(Step::NoteAndKill)
            }
            Phase::Grace(_) => None,
            Phase::Killing(until) if (self.reaped && !observed.populated) || now >= until => self.over(),
            Phase::Killing(_) | Phase::Over => None,
        }
    }

    fn over(&mut self) -> Option<Step> {
        self.phase = Phase::Over;
        Some(Step::Finish)
    }

    /// Notes the processes that outlived the program's own.
    pub(crate) fn survived(&mut self, processes: Vec<Process>) {
        self.survivors = processes.into_iter().map(|p| survivor(p, false)).collect();
    }

    /// The report. `left` are the processes that are still there.
    pub(crate) fn finished(
        &mut self,
        left: Vec<Process>,
        cpu_ms: Option<(u64, u64)>,
        output_bytes: u64,
        now: Instant,
    ) -> Finished {
        let mut survivors = std::mem::take(&mut self.survivors);
        for process in left {
            match survivors.iter_mut().find(|known| known.pid == process.pid) {
                Some(known) => known.unkillable = true,
                None => survivors.push(survivor(process, true)),
            }
        }
        // Its threads may be stuck while its first one looks dead: then it is on no list.
        if !self.reaped && !survivors.iter().any(|known| known.pid == self.pid) {
            survivors.push(Survivor { pid: self.pid, comm: String::new(), state: 'Z', unkillable: true });
        }
        // If there are too many, those that nothing kills matter most.
        survivors.sort_by_key(|known| !known.unkillable);
        survivors.truncate(MAX_SURVIVORS);
        let (user_ms, sys_ms) = cpu_ms.unwrap_or_default();
        let wall = self.ended.unwrap_or(now).saturating_duration_since(self.started);
        Finished {
            attempt: self.attempt,
            exit: self.exit.unwrap_or(Exit::Signal(9)),
            wall_ms: wall.as_millis().try_into().unwrap_or(u64::MAX),
            user_ms,
            sys_ms,
            output_bytes,
            survivors,
        }
    }
}

fn survivor(process: Process, unkillable: bool) -> Survivor {
    Survivor { pid: process.pid, comm: process.comm, state: process.state, unkillable }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);
    const BUSY: Observed = Observed { launch: Launch::Done, pipe_open: true, populated: true };
    const QUIET: Observed = Observed { launch: Launch::Done, pipe_open: false, populated: false };
    const MS: Duration = Duration::from_millis(1);

    fn running() -> (Life, Instant) {
        let now = Instant::now();
        let mut run = Life::new(1, 100, GRACE, now);
        assert_eq!(run.step(Observed { launch: Launch::Pending, ..BUSY }, now), None);
        assert_eq!(run.step(BUSY, now), Some(Step::Started));
        assert_eq!(run.step(BUSY, now), None);
        (run, now)
    }

    fn process(pid: u32, state: char) -> Process {
        Process { pid, comm: format!("p{pid}"), state }
    }

    #[test]
    fn a_test_that_cleans_up_finishes_at_once() {
        let (mut run, t0) = running();
        let end = t0 + MS * 70;
        run.reaped(Exit::Code(3), end);
        assert_eq!(run.step(QUIET, end + MS), Some(Step::Finish));
        assert_eq!(run.step(QUIET, end + MS), None);
        let finished = run.finished(vec![], Some((5, 6)), 7, end + MS * 9);
        assert_eq!((finished.exit, finished.wall_ms), (Exit::Code(3), 70));
        assert_eq!((finished.user_ms, finished.sys_ms, finished.output_bytes), (5, 6, 7));
        assert_eq!(finished.survivors, []);
    }

    #[test]
    fn a_daemon_is_killed_after_the_grace_period_and_listed() {
        let (mut run, t0) = running();
        run.reaped(Exit::Code(0), t0);
        assert_eq!(run.step(BUSY, t0 + GRACE - MS), None);
        assert_eq!(run.step(BUSY, t0 + GRACE), Some(Step::NoteAndKill));
        run.survived(vec![process(200, 'S')]);
        assert_eq!(run.step(BUSY, t0 + GRACE + MS), None);
        assert_eq!(run.step(QUIET, t0 + GRACE + MS * 2), Some(Step::Finish));
        let finished = run.finished(vec![], None, 0, t0 + GRACE);
        assert_eq!(finished.exit, Exit::Code(0));
        assert_eq!((finished.survivors[0].pid, finished.survivors[0].unkillable), (200, false));
    }

    #[test]
    fn what_nothing_kills_does_not_delay_the_report() {
        let (mut run, t0) = running();
        run.reaped(Exit::Code(0), t0);
        assert_eq!(run.step(BUSY, t0 + GRACE), Some(Step::NoteAndKill));
        run.survived((200..240).map(|pid| process(pid, 'S')).collect());
        assert_eq!(run.step(BUSY, t0 + GRACE + KILL_WAIT), Some(Step::Finish));
        let finished = run.finished(vec![process(239, 'D'), process(300, 'D')], None, 0, t0);
        assert_eq!(finished.survivors.len(), MAX_SURVIVORS);
        let unkillable: Vec<u32> =
            finished.survivors.iter().filter(|s| s.unkillable).map(|s| s.pid).collect();
        assert_eq!(unkillable, [239, 300]);
    }

    #[test]
    fn a_stopped_test_finishes_even_if_its_own_process_does_not_die() {
        let (mut run, t0) = running();
        assert_eq!(run.stop(t0), Some(Step::Kill));
        assert_eq!(run.stop(t0), None);
        assert_eq!(run.step(BUSY, t0 + MS), None);
        assert_eq!(run.step(BUSY, t0 + KILL_WAIT), Some(Step::Finish));
        let finished = run.finished(vec![process(100, 'D')], None, 0, t0 + KILL_WAIT);
        assert_eq!((finished.exit, finished.wall_ms), (Exit::Signal(9), 2000));
        assert_eq!((finished.survivors[0].pid, finished.survivors[0].unkillable), (100, true));
    }

    #[test]
    fn a_stopped_process_whose_first_thread_is_dead_is_still_listed() {
        let (mut run, t0) = running();
        run.stop(t0);
        assert_eq!(run.step(BUSY, t0 + KILL_WAIT), Some(Step::Finish));
        assert_eq!(run.finished(vec![], None, 0, t0).survivors[0].pid, 100);
    }

    #[test]
    fn a_test_that_does_not_start_says_why() {
        let t0 = Instant::now();
        let mut run = Life::new(1, 100, GRACE, t0);
        assert_eq!(run.step(Observed { launch: Launch::Failed(2), ..BUSY }, t0), Some(Step::Kill));
        run.reaped(Exit::Code(127), t0 + MS);
        assert_eq!(run.step(QUIET, t0 + MS), Some(Step::Finish));
        assert_eq!(run.finished(vec![], None, 0, t0).exit, Exit::NotStarted(2));
    }

    #[test]
    fn a_killed_test_reports_its_signal() {
        let (mut run, t0) = running();
        assert_eq!(run.stop(t0), Some(Step::Kill));
        run.reaped(Exit::Signal(9), t0 + MS);
        assert_eq!(run.step(QUIET, t0 + MS), Some(Step::Finish));
        assert!(run.is_over());
    }
}
