//! Writing down how a guest hangs. Each question is asked by a process of its own, because each may wait for
//! a lock that the hang holds; a question without an answer is evidence, too.
//!
//! Answers go into files for the host, and in short as [`Evidence`] to the agent, a line each. How they are
//! read is in [`crate::watch::answers`].

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use protocol::codec::{LineDecoder, encode};
use protocol::evidence::{Evidence, STACKS_MAX, TaskStack};
use protocol::frames::is_storage_frame;
use protocol::storage_state::{StorageState, Unanswered};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::paths::FILES;
use crate::process::spawn;
use crate::watch::answers;
use crate::watch::ask::Question;
use crate::watch::task;

/// How often questions that have not been answered are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Looks after which a question whose process stands still is given up. Not a time: a guest that the host
/// lets starve sees few of them.
const PATIENCE_LOOKS: u32 = 10;
/// Looks in a row at which a process that stands still has not moved.
const STILL_LOOKS: u32 = 5;
/// Looks after which every question is given up, even if its process runs, or waits for a processor or for
/// the host's disk: it is only slow, but evidence must come to an end.
const PATIENCE_LOOKS_AT_MOST: u32 = 60;
/// Looks after which the kernel's own lists are no longer waited for: they come last, and are in its log by
/// then.
const LOG_LOOKS_AT_MOST: u32 = 10;
/// The kernel is asked to log its tasks when everything else is known, or after this: it may keep the
/// processor for long.
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
    patience: Patience,
    given_up: Option<Unanswered>,
}

/// Asks all questions about the tasks of `cgroup`, and about md and dm.
pub(crate) fn diagnose_main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let cgroup = args.next().unwrap_or_default();
    let begun = Instant::now();
    let mut asked: Vec<Asked> = Question::first(&cgroup).into_iter().filter_map(Asked::ask).collect();
    // Listing them may take a lock as well: after all others.
    asked.extend(Question::arrays().into_iter().filter_map(Asked::ask));
    wait_for(&mut asked, Some(begun + LOG_AFTER));
    let mut log = Asked::ask(Question::Log);
    wait_for(&mut asked, None);
    say(&Evidence::State(Box::new(state_of(&asked))));
    let waiting = log.as_mut().map(std::slice::from_mut).unwrap_or_default();
    wait_for(waiting, None);
    ExitCode::SUCCESS
}

fn say(evidence: &Evidence) {
    // The agent may be gone: then nobody needs to know.
    let _ = std::io::stdout().write_all(&encode(evidence));
}

/// The state of storage, from all answers together.
fn state_of(asked: &[Asked]) -> StorageState {
    let answer = |wanted: &Question| {
        let found = asked.iter().find(|asked| asked.question == *wanted);
        found.map(|asked| String::from_utf8_lossy(&asked.answer)).unwrap_or_default()
    };
    let lines = |wanted: &Question| answer(wanted).lines().map(str::to_owned).collect::<Vec<_>>();
    let suspended = answers::suspended(&answer(&Question::DmInfo));
    let targets = answers::targets(&answer(&Question::DmTable), &answer(&Question::DmStatus), &suspended);
    let arrays = asked.iter().filter_map(|asked| match &asked.question {
        Question::Array(name) => Some(answers::array(name, &String::from_utf8_lossy(&asked.answer))),
        _ => None,
    });
    let mdstat = lines(&Question::Mdstat).into_iter().filter(|line| !line.trim().is_empty()).collect();
    let state = StorageState {
        mdstat,
        arrays: arrays.collect(),
        targets,
        suspended,
        in_flight: answers::in_flight(&answer(&Question::InFlight)),
        held_locks: lines(&Question::Locks),
        unanswered: asked.iter().filter_map(|asked| asked.given_up.clone()).collect(),
        n_left_out: 0,
    };
    state.bounded()
}

/// Takes answers until all are there or given up, or it is time to go on.
fn wait_for(asked: &mut [Asked], until: Option<Instant>) {
    let mut next_look = Instant::now() + LOOK_EVERY;
    loop {
        let now = Instant::now();
        let waiting: Vec<usize> = (0..asked.len()).filter(|&idx| asked[idx].pipe.is_some()).collect();
        if waiting.is_empty() || until.is_some_and(|until| now >= until) {
            return;
        }
        let timeout = until.map_or(next_look, |until| until.min(next_look)).saturating_duration_since(now);
        for idx in readable(asked, &waiting, timeout) {
            asked[idx].read();
        }
        if Instant::now() >= next_look {
            next_look = Instant::now() + LOOK_EVERY;
            asked.iter_mut().for_each(Asked::look);
        }
    }
}

/// The questions among `waiting` whose answer goes on.
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
        let (pid, pipe) = spawn::question(&mut question.command()).ok()?;
        let (answer, since) = (Vec::new(), Instant::now());
        Some(Asked {
            question,
            pid,
            pipe: Some(pipe),
            answer,
            since,
            patience: Patience::default(),
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

    /// The answer has ended. It is kept at once: the host may lose its patience with the other questions.
    fn answered(&mut self) {
        self.pipe = None;
        let text = match &self.question {
            Question::Stacks { .. } => self.tell_stacks(),
            _ => String::from_utf8_lossy(&self.answer).into_owned(),
        };
        let unanswered = self.given_up.as_ref().map(answers::unanswered_text).unwrap_or_default();
        self.keep(&(text + &unanswered));
    }

    /// Tells the host of tasks at once: they matter most, and the other answers may take long.
    fn tell_stacks(&self) -> String {
        let mut stacks: Vec<TaskStack> = Vec::new();
        LineDecoder::new().push(&self.answer, |line| stacks.extend(line.ok()));
        let text = stacks.iter().map(answers::stack_text).collect();
        let telling: Vec<_> = stacks.into_iter().filter(answers::is_telling).collect();
        // More are not kept; the file has them all.
        let telling = &telling[..telling.len().min(STACKS_MAX)];
        for some in telling.chunks(STACKS_AT_ONCE) {
            say(&Evidence::Stacks(some.iter().cloned().map(TaskStack::bounded).collect()));
        }
        text
    }

    /// Looks at a question that has not been answered, and gives it up if its process waits for something.
    fn look(&mut self) {
        if self.pipe.is_none() {
            return;
        }
        let pid = self.pid.as_raw_nonzero().get().cast_unsigned();
        let schedstat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
        let state = task::state_of(self.pid).unwrap_or('?');
        let frames = task::stack(pid);
        let at_most = match self.question {
            Question::Log => LOG_LOOKS_AT_MOST,
            _ => PATIENCE_LOOKS_AT_MOST,
        };
        if !self.patience.ends(task::slices(&schedstat), state, &frames, at_most) {
            return;
        }
        let what = self.question.waits_at(&String::from_utf8_lossy(&self.answer));
        let waited_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.given_up = Some(Unanswered { what, waited_ms, state, frames });
        self.answered();
    }

    /// Puts the answer where the host collects it.
    fn keep(&self, text: &str) {
        if let Some(name) = self.question.file()
            && !text.is_empty()
        {
            // Several arrays share one file.
            let file = fs::OpenOptions::new().append(true).create(true).open(Path::new(FILES).join(name));
            let _ = file.and_then(|mut file| file.write_all(text.as_bytes()));
        }
    }
}

/// How long an answer is waited for: a process that is only slow is waited for longer.
#[derive(Clone, Copy, Debug, Default)]
struct Patience {
    n_looks: u32,
    still_looks: u32,
    slices: u64,
}

impl Patience {
    /// Takes a look; true once the question is to be given up.
    fn ends(&mut self, slices: u64, state: char, frames: &[String], at_most: u32) -> bool {
        self.n_looks += 1;
        // Ready to run, it waits for a processor; paging in, for the host's disk.
        let is_slow = state == 'R' || slices != self.slices || waits_for_a_page(frames);
        self.still_looks = if is_slow { 0 } else { self.still_looks + 1 };
        self.slices = slices;
        self.n_looks >= PATIENCE_LOOKS && self.still_looks >= STILL_LOOKS || self.n_looks >= at_most
    }
}

/// True while a program or its library is read from the host's disk, in which no array has part.
fn waits_for_a_page(frames: &[String]) -> bool {
    let pages = ["filemap_", "folio_wait_bit", "folio_lock", "wait_on_page_bit", "page_cache_ra"];
    let reads =
        frames.iter().any(|frame| pages.iter().any(|name| frame.trim_start_matches('_').starts_with(name)));
    reads && !frames.iter().any(|frame| is_storage_frame(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many looks a process is given up that shows these slices, states and frames, look by look.
    fn looks(show: impl Fn(u32) -> (u64, char, &'static str)) -> u32 {
        let mut patience = Patience::default();
        let ends = |n: &u32| {
            let (slices, state, frame) = show(*n);
            patience.ends(slices, state, &[frame.to_owned()], PATIENCE_LOOKS_AT_MOST)
        };
        (1..1000).find(ends).unwrap()
    }

    #[test]
    fn a_question_that_waits_is_given_up_and_a_slow_one_is_waited_for() {
        assert_eq!(looks(|_| (3, 'D', "md_seq_show+0x1/0x2 [md_mod]")), PATIENCE_LOOKS);
        assert_eq!(looks(|_| (3, 'S', "do_wait+0x1/0x2")), PATIENCE_LOOKS);
        // It starves, it works, it is loaded from a disk.
        assert_eq!(looks(|_| (0, 'R', "")), PATIENCE_LOOKS_AT_MOST);
        assert_eq!(looks(|n| (n.into(), 'S', "")), PATIENCE_LOOKS_AT_MOST);
        assert_eq!(looks(|_| (3, 'D', "__filemap_get_folio+0x1/0x2")), PATIENCE_LOOKS_AT_MOST);
        assert_eq!(looks(|n| if n < 20 { (0, 'R', "") } else { (1, 'D', "dm_hash_lock+0x1/0x2") }), 25);
    }
}
