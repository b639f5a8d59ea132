//! Fuzzes one attempt with a guest that sends anything at any time, endlessly. The attempt must end within
//! its limits, ask for few things, and keep a bounded record.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use protocol::Outcome;
use protocol::codec::{Garbage, LineDecoder};
use protocol::event::{AttemptFacts, Event};
use protocol::evidence::STACKS_MAX;
use protocol::program::Exit;
use protocol::wire::{Finished, Message, Request, VERSION};

use super::hostile::{agent_message, files_message};
use super::mutate::{cuts, damaged, damages};
use super::recorded::{self, ATTEMPT, SESSION};
use crate::attempt::{AttemptState, Effect, TimeLimits};
use crate::machine::greeting::Opening;
use crate::machine::{
    Answer, Ask, HostTimes, HypervisorEvent, Input, RunState, ShutdownCause, ThreadTimes, VmEnd,
};
use crate::suite::{Contract, Job};
use crate::testing::{guest_facts, job, shutdown};

/// Interval at which the driver looks at the clock.
const TICK: Duration = Duration::from_millis(100);

const LIMITS: TimeLimits = TimeLimits {
    boot_timeout: Duration::from_secs(3),
    restore_timeout: Duration::from_secs(1),
    silence_timeout: Duration::from_secs(3),
    // Long enough that the host is asked for its view of a hang.
    test_timeout: Duration::from_secs(14),
    heartbeat_timeout: Duration::from_secs(4),
    grace_period: Duration::from_millis(500),
    leaving_timeout: Duration::from_secs(14),
};

/// Longest time until any guest is gone or killed: it boots, runs its test, is watched as long again for
/// leftover processes, diagnoses a hang, sends files for twelve grace periods, powers off, and is asked five
/// things from outside for four seconds each, and by an NMI. A tick may be late by one.
const LONGEST: Duration =
    Duration::from_millis(3000 + 2 * 14_000 + 4 * 500 + 12 * 500 + 500 + 5 * 4000 + 3000 + 6 * 100);

/// A message of a VM: an [`Input`] that can be repeated.
#[derive(Clone, Debug)]
pub(super) enum Word {
    Console(Vec<u8>),
    Agent(Message),
    Files(Message),
    /// A line that is no valid message, on either port.
    Garbage {
        files: bool,
    },
    /// This number of files, with consecutive numbers after the first.
    Storm {
        n_files: u32,
    },
    Hypervisor(HypervisorEvent),
    Ended(VmEnd),
}

/// The inputs that a message becomes: one, or for a storm many.
fn inputs(word: &Word) -> Vec<Input> {
    let garbage = || Garbage { error: String::new(), excerpt: String::new() };
    match word.clone() {
        Word::Console(bytes) => vec![Input::Console(bytes)],
        Word::Agent(message) => vec![Input::Agent(Ok(message))],
        Word::Files(message) => vec![Input::Files(Ok(message))],
        Word::Garbage { files: false } => vec![Input::Agent(Err(garbage()))],
        Word::Garbage { files: true } => vec![Input::Files(Err(garbage()))],
        Word::Storm { n_files } => {
            let start = |file_idx| {
                let path = "x".repeat(2000);
                Input::Files(Ok(Message::FileStart { attempt: ATTEMPT, file_idx, path, size: u64::MAX }))
            };
            (0..n_files).map(start).collect()
        }
        Word::Hypervisor(event) => vec![Input::Hypervisor(event)],
        Word::Ended(end) => vec![Input::Ended(end)],
    }
}

fn word() -> impl Strategy<Value = Word> {
    let said = prop_oneof![
        3 => proptest::sample::select(vec![
            "[    4.2] BUG: kernel NULL pointer dereference, address: 0\n",
            "[    4.3] Kernel panic - not syncing: x\n",
            "md-regress-agent: FATAL: forged\n",
            "\n",
            "[    1.0] no line end",
        ]).prop_map(|line| line.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..300),
        1 => (any::<u8>(), 1..10_000_usize).prop_map(|(byte, n_bytes)| vec![byte; n_bytes]),
    ];
    let event = proptest::sample::select(vec![
        HypervisorEvent::Panicked,
        shutdown(ShutdownCause::PoweredOff),
        shutdown(ShutdownCause::Outside),
        HypervisorEvent::Stopped,
        HypervisorEvent::Migrated,
        HypervisorEvent::Refused { error: "no".into() },
    ]);
    let end =
        proptest::sample::select(vec![VmEnd::Clean, VmEnd::Killed, VmEnd::Failed { error: "x".into() }]);
    prop_oneof![
        30 => agent_message().prop_map(Word::Agent),
        30 => files_message().prop_map(Word::Files),
        8 => said.prop_map(Word::Console),
        4 => any::<bool>().prop_map(|files| Word::Garbage { files }),
        1 => (0..3000_u32).prop_map(|n_files| Word::Storm { n_files }),
        1 => event.prop_map(Word::Hypervisor),
        1 => end.prop_map(Word::Ended),
    ]
}

/// Messages, each after a pause.
type TimedWords = Vec<(Duration, Word)>;

fn script() -> impl Strategy<Value = TimedWords> {
    proptest::collection::vec((pause(), word()), 1..30)
}

fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![4 => 5..100_u64, 2 => 100..600_u64, 1 => 600..4000_u64].prop_map(Duration::from_millis)
}

/// The first `n_words` messages of a well-behaved guest; after them it turns hostile.
fn well_behaved(n_words: usize) -> TimedWords {
    let guest = guest_facts();
    let (attempt, file_idx) = (ATTEMPT, 0);
    let finished = Finished {
        attempt,
        exit: Exit::Code(0),
        wall_ms: 1,
        user_ms: 1,
        sys_ms: 1,
        output_bytes: 3,
        survivors: vec![],
    };
    let words = [
        Word::Agent(Message::Hello { version: VERSION, session: SESSION, guest }),
        Word::Agent(Message::Started { attempt, pid: 50, probed: None }),
        Word::Agent(Message::Output { attempt, offset: 0, data: b"ok\n".to_vec() }),
        Word::Agent(Message::Finished(finished)),
        Word::Files(Message::FileStart { attempt, file_idx, path: "/run/x".into(), size: 1 }),
        Word::Files(Message::FileData { attempt, file_idx, data: b"x".to_vec() }),
        Word::Files(Message::FileEnd { attempt, file_idx, error: None }),
        Word::Files(Message::Collected { attempt, n_files: 1, n_left_out: 0 }),
    ];
    words.into_iter().take(n_words).map(|word| (Duration::from_millis(20), word)).collect()
}

/// A job whose suite makes something of each kind of line.
fn job_with_contract() -> Job {
    Job {
        contract: Contract {
            skip_exit: Some(200),
            skip_line: Some("TEST SKIPPED".into()),
            warn_line: Some("TEST WARNING".into()),
            fail_line: Some("set +vx; STACKTRACE; set -vx".into()),
            weakened_lines: vec!["Found dm-".into()],
            ..Contract::default()
        },
        ..job("shell/x.sh")
    }
}

/// Does what the driver does (`attempt/drive.rs`), and checks.
pub(super) struct Watched {
    state: AttemptState,
    now: Duration,
    sent: Vec<&'static str>,
    n_kills: usize,
    events: Vec<Event>,
    /// Questions to the hypervisor that it has not answered.
    asked: Vec<Ask>,
    /// Bytes of output, and the position at which the next may begin.
    output_bytes: u64,
    output_end: u64,
    /// Messages passed on to the keeper of files.
    pub(super) files: Vec<Message>,
}

impl Watched {
    pub(super) fn new() -> Self {
        let opening = Opening { session: SESSION, entropy: vec![] };
        let state = AttemptState::new(ATTEMPT, opening, job_with_contract(), LIMITS);
        let mut watched = Watched {
            state,
            now: Duration::ZERO,
            sent: vec![],
            n_kills: 0,
            events: vec![],
            asked: vec![],
            output_bytes: 0,
            output_end: 0,
            files: vec![],
        };
        let effects = watched.state.begin();
        watched.carry_out(effects).unwrap();
        watched
    }

    /// An attempt up to the point where a well-behaved guest's test has ended and its files may come.
    pub(super) fn collecting() -> Self {
        let mut watched = Watched::new();
        for (pause, word) in well_behaved(4) {
            watched.say(pause, &word).unwrap();
        }
        watched
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), TestCaseError> {
        prop_assert!(effects.len() <= 20, "{} effects at once", effects.len());
        for effect in effects {
            match effect {
                Effect::Send(request) => self.sent.push(match request {
                    Request::Hello { .. } => "hello",
                    Request::PutFile { .. } => "put file",
                    Request::StartTest(_) => "start",
                    Request::StopTest { .. } => "stop",
                    Request::Collect { .. } => "collect",
                    Request::Diagnose { .. } => "diagnose",
                    Request::Shell(_) => "shell",
                    Request::PowerOff => "power off",
                }),
                Effect::PlugDisk { .. } | Effect::PlugModules { .. } => {}
                Effect::Ask(ask) => self.asked.push(ask),
                Effect::Dump => prop_assert!(false, "nobody wants a dump"),
                Effect::HostEvidence(text) => prop_assert!(text.len() < 10_000),
                Effect::Kill => self.n_kills += 1,
                Effect::Record(event) => self.events.push(event),
                Effect::Output { offset, data } => {
                    prop_assert!(offset >= self.output_end, "output goes back");
                    self.output_bytes += data.len() as u64;
                    self.output_end = offset + data.len() as u64;
                }
                Effect::File(message) => self.files.push(message),
                Effect::KernelLog(text) => prop_assert!(text.len() < 70_000),
                Effect::Show(_) => {}
            }
        }
        Ok(())
    }

    fn input(&mut self, input: Input) -> Result<(), TestCaseError> {
        let effects = self.state.apply(self.now, input);
        self.carry_out(effects)?;
        let effects = self.state.tick(self.now);
        self.carry_out(effects)
    }

    fn pause(&mut self, pause: Duration) -> Result<(), TestCaseError> {
        let until = self.now + pause;
        while self.now < until && !self.is_done() {
            self.now = until.min(self.now + TICK);
            let effects = self.state.tick(self.now);
            self.carry_out(effects)?;
            self.answer()?;
        }
        Ok(())
    }

    /// Answers for the hypervisor: the guest runs all the time.
    fn answer(&mut self) -> Result<(), TestCaseError> {
        let ran_ms = u64::try_from(self.now.as_millis()).unwrap();
        let vcpus = vec![ThreadTimes { ran_ms, ..ThreadTimes::default() }];
        let times = HostTimes { at_ms: ran_ms, devices: ThreadTimes::default(), vcpus };
        for ask in std::mem::take(&mut self.asked) {
            let answer = match ask {
                Ask::RunState => Answer::RunState(RunState { executes: true, name: "running".into() }),
                Ask::Times => Answer::Times(times.clone()),
                Ask::Registers => Answer::Registers("RIP=0".into()),
                Ask::SysRq(_) | Ask::Nmi | Ask::StopOnPanic | Ask::Dump(_) => continue,
            };
            if !self.state.is_over() {
                let effects = self.state.apply(self.now, Input::Answer(answer));
                self.carry_out(effects)?;
            }
        }
        Ok(())
    }

    pub(super) fn say(&mut self, pause: Duration, word: &Word) -> Result<(), TestCaseError> {
        self.pause(pause)?;
        for input in inputs(word) {
            if self.state.is_over() {
                break;
            }
            self.input(input)?;
        }
        Ok(())
    }

    /// True if nothing more can come: the host ends what was killed.
    fn is_done(&self) -> bool {
        self.state.is_over() || self.n_kills > 0
    }

    /// Repeats the messages endlessly.
    fn say_for_ever(&mut self, script: &TimedWords) -> Result<(), TestCaseError> {
        for (pause, word) in script.iter().cycle() {
            prop_assert!(self.now <= LONGEST, "it goes on and on: {:?} after {:?}", self.sent, self.now);
            if self.is_done() {
                break;
            }
            self.say(*pause, word)?;
        }
        Ok(())
    }

    /// Ends the VM after its last messages, and checks the record.
    fn end(mut self, last_words: &TimedWords) -> Result<(Outcome, AttemptFacts), TestCaseError> {
        for (_, word) in last_words {
            self.say(Duration::ZERO, word)?;
        }
        if !self.state.is_over() {
            self.input(Input::Ended(VmEnd::Killed))?;
        }
        prop_assert!(self.state.is_over());
        prop_assert!(self.n_kills <= 1, "killed {} times", self.n_kills);
        // A test that hangs is asked for a diagnosis once, before its files.
        let all = if self.sent.contains(&"diagnose") {
            &["hello", "start", "diagnose", "collect", "power off"][..]
        } else {
            &["hello", "start", "collect", "power off"][..]
        };
        prop_assert_eq!(&self.sent[..], &all[..self.sent.len().min(all.len())]);
        self.check_events()?;
        let (outcome, facts) = self.state.finish(self.now, self.output_bytes / 2);
        prop_assert_eq!(
            facts.output_bytes - facts.output_dropped,
            self.output_bytes - self.output_bytes / 2,
            "what the log holds"
        );
        prop_assert!(outcome.detail().len() < 13_000);
        check_facts(&facts)?;
        Ok((outcome, facts))
    }

    fn check_events(&self) -> Result<(), TestCaseError> {
        let (mut n_ready, mut n_started, mut n_bytes, mut titles) = (0, 0, 0, BTreeSet::new());
        for event in &self.events {
            n_bytes += serde_json::to_string(event).unwrap().len();
            match event {
                Event::VmReady { attempt: ATTEMPT, .. } => n_ready += 1,
                Event::TestStarted { attempt: ATTEMPT } => n_started += 1,
                Event::Remark { attempt: Some(ATTEMPT), .. } => {}
                Event::StacksSeen { attempt: ATTEMPT, stacks } => {
                    prop_assert!(
                        stacks.len() <= STACKS_MAX && stacks.iter().all(|stack| stack.frames.len() <= 40)
                    );
                }
                Event::StateSeen { attempt: ATTEMPT, state } => {
                    prop_assert_eq!(&state.clone().bounded(), state, "not bounded");
                }
                Event::KernelReported { attempt: ATTEMPT, report } => {
                    prop_assert!(titles.insert(&report.title), "reported twice: {}", report.title);
                }
                other => prop_assert!(false, "not an attempt's own event: {:?}", other),
            }
        }
        prop_assert!(n_ready <= 1 && n_started <= n_ready);
        prop_assert!(titles.len() <= 50, "{} reports", titles.len());
        prop_assert!(self.events.len() <= 70 + titles.len(), "{} events", self.events.len());
        prop_assert!(n_bytes < 1 << 20, "{} bytes of events", n_bytes);
        Ok(())
    }
}

fn check_facts(facts: &AttemptFacts) -> Result<(), TestCaseError> {
    prop_assert!(facts.files.len() <= 1000 && facts.survivors.len() <= 32 && facts.last_lines.len() <= 20);
    for (place, file) in (0..).zip(&facts.files) {
        prop_assert_eq!(file.file_idx, place);
        prop_assert!(file.path.chars().count() <= 1000);
        prop_assert!(file.error.as_ref().is_none_or(|error| error.chars().count() <= 1000));
    }
    prop_assert!(facts.last_lines.iter().all(|line| line.len() <= 3 * 4096));
    Ok(())
}

proptest! {
    #[test]
    fn whatever_a_guest_says_it_ends_in_time(
        n_well_behaved in 0..9_usize,
        script in script(),
        last_words in proptest::collection::vec((pause(), word()), 0..6),
    ) {
        let mut watched = Watched::new();
        for (pause, word) in well_behaved(n_well_behaved) {
            watched.say(pause, &word)?;
        }
        watched.say_for_ever(&script)?;
        watched.end(&last_words)?;
    }

    #[test]
    fn a_user_can_end_it_at_any_time(
        n_well_behaved in 0..9_usize,
        script in script(),
        last_words in proptest::collection::vec((pause(), word()), 0..6),
        broken in any::<bool>(),
    ) {
        let mut watched = Watched::new();
        for (pause, word) in well_behaved(n_well_behaved).iter().chain(&script) {
            watched.say(*pause, word)?;
        }
        if !watched.state.is_over() {
            let effects =
                if broken { watched.state.fail("no disk".into()) } else { watched.state.interrupt() };
            watched.carry_out(effects)?;
            prop_assert_eq!(watched.n_kills, 1);
        }
        watched.end(&last_words)?;
    }

    #[test]
    fn damaged_real_streams_end_in_time(
        damages in (damages(), damages(), damages()),
        cuts in cuts(),
        pause in pause(),
    ) {
        let agent = damaged(recorded::AGENT, &damages.0);
        let files = damaged(recorded::FILES, &damages.1);
        let console = damaged(recorded::CONSOLE, &damages.2);
        let mut watched = Watched::new();
        let (mut agent_lines, mut files_lines) = (LineDecoder::new(), LineDecoder::new());
        let pieces = cuts.pieces(&agent).into_iter().map(|piece| (true, piece));
        for (is_agent, piece) in pieces.chain(cuts.pieces(&files).into_iter().map(|piece| (false, piece))) {
            let mut told = Vec::new();
            if is_agent {
                agent_lines.push(piece, |message| told.push(Input::Agent(message)));
            } else {
                files_lines.push(piece, |message| told.push(Input::Files(message)));
            }
            watched.pause(pause.min(Duration::from_millis(50)))?;
            for input in told {
                watched.input(input)?;
            }
        }
        for piece in cuts.pieces(&console) {
            watched.say(Duration::ZERO, &Word::Console(piece.to_vec()))?;
        }
        watched.say_for_ever(&vec![(pause, Word::Garbage { files: false })])?;
        watched.end(&vec![])?;
    }
}

#[test]
fn the_recorded_attempt_passes() {
    let mut watched = Watched::new();
    for (stream, wrap) in [
        (recorded::AGENT, Input::Agent as fn(Result<Message, Garbage>) -> Input),
        (recorded::FILES, Input::Files),
    ] {
        LineDecoder::new().push(stream, |message| watched.input(wrap(message)).unwrap());
    }
    let all = ["hello", "start", "collect", "power off"];
    assert_eq!(
        watched.sent, all,
        "the protocol has changed: record again (xtask/harness/testdata/README.md)"
    );
    let (outcome, facts) = watched.end(&vec![(Duration::ZERO, Word::Ended(VmEnd::Clean))]).unwrap();
    assert_eq!((outcome, facts.garbage_messages), (Outcome::Pass, 0));
    assert_eq!((facts.files.len(), facts.last_lines.join(" ")), (1, "0 1 2 3".to_owned()));
}
