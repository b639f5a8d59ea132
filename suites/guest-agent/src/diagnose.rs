//! Writing down how a guest hangs. Each question is asked by a process of its own, for each may wait for a
//! lock that the hang holds; one that does not come back is evidence, too.
//!
//! What comes back goes into files for the host, and in short as [`Evidence`] to the agent, a line each. How
//! answers are read is in [`crate::probe`].

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use protocol::codec::{LineDecoder, encode};
use protocol::evidence::{Evidence, TaskStack};
use protocol::state::{StorageState, Unanswered};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::boot::FILES_DIR;
use crate::launch;
use crate::probe::{self, Question};
use crate::sample;

/// First argument of the stage.
pub(crate) const DIAGNOSE: &str = "diagnose";

/// After this long a question whose process stands still is given up.
const PATIENCE: Duration = Duration::from_secs(2);
/// After this long every question is given up: the machine is slow.
const PATIENCE_AT_MOST: Duration = Duration::from_secs(4);
/// How often those are looked at that have not come back.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Looks in a row at which a process that stands still has not been given a processor. Not a time: a guest
/// that the host lets starve sees few of them.
const STILL_LOOKS: u32 = 5;
/// The kernel logs its tasks when everything else is known, or after this: it may keep the processor long.
const LOG_AFTER: Duration = Duration::from_secs(1);
/// Bytes of an answer at most.
const ANSWER_MAX: usize = 1 << 20;
/// Stacks in one message.
const STACKS_AT_ONCE: usize = 12;

/// A question that was asked.
struct Asked {
    question: Question,
    pid: Pid,
    /// Closed once it has answered, or was given up.
    pipe: Option<OwnedFd>,
    answer: Vec<u8>,
    since: Instant,
    slices: u64,
    still_looks: u32,
    given_up: Option<Unanswered>,
}

/// Asks all questions about the tasks of `cgroup`, and about md and dm.
pub(crate) fn diagnose_main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let cgroup = args.next().unwrap_or_default();
    let begun = Instant::now();
    let mut asked: Vec<Asked> = Question::first(&cgroup).into_iter().filter_map(Asked::ask).collect();
    // Listing them may take a lock as well: after all others.
    asked.extend(Question::arrays().into_iter().filter_map(Asked::ask));
    wait_for(&mut asked, begun + LOG_AFTER);
    let mut log = Asked::ask(Question::Log);
    wait_for(&mut asked, begun + PATIENCE_AT_MOST + 2 * LOOK_EVERY);
    for asked in &asked {
        asked.keep();
    }
    say(&Evidence::State(Box::new(state_of(&asked))));
    let waiting = log.as_mut().map(std::slice::from_mut).unwrap_or_default();
    wait_for(waiting, Instant::now() + PATIENCE);
    ExitCode::SUCCESS
}

fn say(evidence: &Evidence) {
    // The agent may be gone: then nobody needs to know.
    let _ = std::io::stdout().write_all(&encode(evidence));
}

/// What all answers come to.
fn state_of(asked: &[Asked]) -> StorageState {
    let answer = |wanted: &Question| {
        let found = asked.iter().find(|asked| asked.question == *wanted);
        found.map(|asked| String::from_utf8_lossy(&asked.answer)).unwrap_or_default()
    };
    let lines = |wanted: &Question| answer(wanted).lines().map(str::to_owned).collect::<Vec<_>>();
    let suspended = probe::suspended(&answer(&Question::DmInfo));
    let targets = probe::targets(&answer(&Question::DmTable), &answer(&Question::DmStatus), &suspended);
    let arrays = asked.iter().filter_map(|asked| match &asked.question {
        Question::Array(name) => Some(probe::array(name, &String::from_utf8_lossy(&asked.answer))),
        _ => None,
    });
    let mdstat = lines(&Question::Mdstat).into_iter().filter(|line| !line.trim().is_empty()).collect();
    let state = StorageState {
        mdstat,
        arrays: arrays.collect(),
        targets,
        suspended,
        in_flight: probe::in_flight(&answer(&Question::InFlight)),
        held_locks: lines(&Question::Locks),
        unanswered: asked.iter().filter_map(|asked| asked.given_up.clone()).collect(),
        n_left_out: 0,
    };
    state.bounded()
}

/// Takes answers until all are there, or it is time to go on.
fn wait_for(asked: &mut [Asked], until: Instant) {
    let mut next_look = Instant::now() + LOOK_EVERY;
    loop {
        let now = Instant::now();
        let waiting: Vec<usize> = (0..asked.len()).filter(|&idx| asked[idx].pipe.is_some()).collect();
        if waiting.is_empty() || now >= until {
            return;
        }
        let timeout = until.min(next_look).saturating_duration_since(now);
        for idx in readable(asked, &waiting, timeout) {
            asked[idx].read();
        }
        if Instant::now() >= next_look {
            next_look = Instant::now() + LOOK_EVERY;
            asked.iter_mut().for_each(Asked::look);
        }
    }
}

/// Those of `waiting` that have something to read.
fn readable(asked: &[Asked], waiting: &[usize], timeout: Duration) -> Vec<usize> {
    let pipes: Vec<_> =
        waiting.iter().filter_map(|&idx| Some((idx, asked[idx].pipe.as_ref()?.as_fd()))).collect();
    let mut fds: Vec<_> = pipes.iter().map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout =
        Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
    if poll(&mut fds, Some(&timeout)).is_err() {
        return Vec::new();
    }
    let ready = pipes.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
    ready.map(|((idx, _), _)| *idx).collect()
}

impl Asked {
    fn ask(question: Question) -> Option<Asked> {
        let (pid, pipe) = launch::question(&question.command()).ok()?;
        let (answer, since) = (Vec::new(), Instant::now());
        Some(Asked {
            question,
            pid,
            pipe: Some(pipe),
            answer,
            since,
            slices: 0,
            still_looks: 0,
            given_up: None,
        })
    }

    fn read(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while let Some(pipe) = &self.pipe {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => self.answered(),
                Ok(n) => {
                    let room = ANSWER_MAX - self.answer.len();
                    self.answer.extend_from_slice(&buffer[..n.min(room)]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.answered(),
            }
        }
    }

    fn answered(&mut self) {
        self.pipe = None;
        if matches!(self.question, Question::Stacks { .. }) {
            // At once: they matter most, and what comes after them may take long.
            let mut stacks: Vec<TaskStack> = Vec::new();
            LineDecoder::new().push(&self.answer, |line| stacks.extend(line.ok()));
            let text: String = stacks.iter().map(probe::stack_text).collect();
            let telling: Vec<_> = stacks.into_iter().filter(probe::is_telling).collect();
            for some in telling.chunks(STACKS_AT_ONCE) {
                say(&Evidence::Stacks(some.iter().cloned().map(TaskStack::bounded).collect()));
            }
            self.answer = text.into_bytes();
        }
    }

    /// Looks at one that has not come back, and gives it up if it waits for something.
    fn look(&mut self) {
        if self.pipe.is_none() {
            return;
        }
        let pid = self.pid.as_raw_nonzero().get().cast_unsigned();
        let schedstat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
        let slices = sample::slices(&schedstat);
        self.still_looks = if slices == self.slices { self.still_looks + 1 } else { 0 };
        self.slices = slices;
        let waited = self.since.elapsed();
        let stands = waited >= PATIENCE && self.still_looks >= STILL_LOOKS;
        if !stands && waited < PATIENCE_AT_MOST {
            return;
        }
        self.answered();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = sample::parse_stat(&stat).map_or('?', |stat| stat.state);
        let what = self.question.waits_at(&String::from_utf8_lossy(&self.answer));
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let unanswered = Unanswered { what, waited_ms, state, frames: sample::stack(pid) };
        self.answer.extend_from_slice(probe::unanswered_text(&unanswered).as_bytes());
        self.given_up = Some(unanswered);
    }

    /// Puts the answer where the host collects it.
    fn keep(&self) {
        if let Some(name) = self.question.file()
            && !self.answer.is_empty()
        {
            // Several arrays share one file.
            let file = fs::OpenOptions::new().append(true).create(true).open(Path::new(FILES_DIR).join(name));
            let _ = file.and_then(|mut file| file.write_all(&self.answer));
        }
    }
}
