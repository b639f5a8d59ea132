//! Every way for an attempt to go, without a VM: stories, by theme.

mod blame;
mod hang;
mod hostile;
mod kernel_log;
mod leftovers;
mod lost;
mod modules;

use std::time::Duration;

use protocol::event::{Blame, Event};
use protocol::evidence::{Evidence, TaskStack};
use protocol::program::{Exit, LoadedModule, MODULE_REFUSED, ModuleFile, ReplacedModules};
use protocol::sample::{Sample, TaskSample};
use protocol::storage_state::StorageState;
use protocol::wire::{Finished, Message, Request, Survivor};
use protocol::{HangKind, Outcome};

use super::{AttemptState, Effect};
use crate::machine::greeting::Opening;
use crate::machine::{
    Answer, Ask, HostTimes, HypervisorEvent, Input, RunState, ShutdownCause, ThreadTimes, VmEnd,
};
use crate::testing::{LIMITS, guest_facts, job, sample, shutdown, task};

const SESSION: u64 = 77;

/// Plays inputs at whole seconds, with ticks in between, and keeps what came of them.
struct Play {
    state: AttemptState,
    now: Duration,
    sent: Vec<Request>,
    killed: bool,
    events: Vec<Event>,
    asked: Vec<Ask>,
    dumped: bool,
    host: String,
}

impl Play {
    fn new() -> Self {
        let job = job("shell/x.sh");
        let state = AttemptState::new(1, Opening { session: SESSION, entropy: vec![] }, job, LIMITS);
        Self::of(state)
    }

    fn of(state: AttemptState) -> Self {
        let mut play = Play {
            state,
            now: Duration::ZERO,
            sent: vec![],
            killed: false,
            events: vec![],
            asked: vec![],
            dumped: false,
            host: String::new(),
        };
        let effects = play.state.begin();
        play.carry_out(effects);
        play
    }

    /// Booted, test started.
    fn testing() -> Self {
        Play::new()
            .tell(2, Self::hello(SESSION))
            .agent(3, Message::Started { attempt: 1, pid: 50, probed: None })
    }

    fn hello(session: u64) -> Input {
        let guest = guest_facts();
        Input::Agent(Ok(Message::Hello { version: protocol::wire::VERSION, session, guest }))
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(request) => self.sent.push(request),
                Effect::Kill => self.killed = true,
                Effect::Record(event) => self.events.push(event),
                Effect::Ask(ask) => self.asked.push(ask),
                Effect::Dump => self.dumped = true,
                Effect::HostEvidence(text) => self.host = text,
                Effect::PlugModules { .. }
                | Effect::PlugDisk { .. }
                | Effect::Output { .. }
                | Effect::KernelLog(_)
                | Effect::File(_)
                | Effect::Show(_) => {}
            }
        }
    }

    /// Lets time pass until `second`.
    fn wait(mut self, second: u64) -> Self {
        while self.now < Duration::from_secs(second) {
            self.now += Duration::from_millis(500);
            let effects = self.state.tick(self.now);
            self.carry_out(effects);
        }
        self
    }

    fn tell(self, second: u64, input: Input) -> Self {
        let mut play = self.wait(second);
        let effects = play.state.apply(play.now, input);
        play.carry_out(effects);
        play
    }

    fn agent(self, second: u64, message: Message) -> Self {
        self.tell(second, Input::Agent(Ok(message)))
    }

    fn console(self, second: u64, text: &str) -> Self {
        self.tell(second, Input::Console(format!("{text}\n").into_bytes()))
    }

    fn heartbeats(mut self, to: u64) -> Self {
        for second in self.now.as_secs()..to {
            let beat =
                Message::Heartbeat { uptime_ms: 0, mem_available_kib: 0, output_bytes: 0, sampler: None };
            self = self.agent(second, beat);
        }
        self
    }

    fn finished(self, second: u64, exit: Exit) -> Self {
        let finished = Finished {
            attempt: 1,
            exit,
            wall_ms: 1234,
            user_ms: 1,
            sys_ms: 2,
            output_bytes: 0,
            survivors: vec![],
        };
        self.agent(second, Message::Finished(finished))
    }

    /// Ends, and leaves a process behind that nobody could kill.
    fn leaves(self, second: u64, exit: Exit) -> Self {
        let left = Survivor { pid: 60, comm: "dd".into(), state: 'D', unkillable: true };
        let finished = Finished {
            attempt: 1,
            exit,
            wall_ms: 1234,
            user_ms: 1,
            sys_ms: 2,
            output_bytes: 0,
            survivors: vec![left],
        };
        self.agent(second, Message::Finished(finished))
    }

    /// A sample each second, of what `tasks` makes of it.
    fn samples(mut self, to: u64, tasks: impl Fn(u64) -> Vec<TaskSample>) -> Self {
        for second in self.now.as_secs()..to {
            self = self.agent(second, Message::Sample(sample(second, tasks(second))));
        }
        self
    }

    fn collected(self, second: u64) -> Self {
        let collected = Message::Collected { attempt: 1, n_files: 0, n_left_out: 0 };
        self.tell(second, Input::Files(Ok(collected)))
    }

    /// Outcome, and how many are still said to be unkillable.
    fn outcome_and_left(self) -> (Outcome, usize) {
        let now = self.now.as_secs();
        let play = self.tell(now, Input::Ended(VmEnd::Clean));
        let (outcome, facts) = play.state.finish(play.now, 0);
        (outcome, facts.survivors.iter().filter(|one| one.unkillable).count())
    }

    fn outcome(self, end: VmEnd) -> Outcome {
        let now = self.now.as_secs();
        let play = self.tell(now, Input::Ended(end));
        play.state.finish(play.now, 0).0
    }
}

#[test]
fn a_test_passes_and_the_guest_powers_off() {
    let play = Play::testing().finished(10, Exit::Code(0));
    assert!(matches!(play.sent.last(), Some(Request::Collect { .. })));
    let collected = Message::Collected { attempt: 1, n_files: 0, n_left_out: 0 };
    let play = play.tell(11, Input::Files(Ok(collected)));
    assert_eq!(play.sent.last(), Some(&Request::PowerOff));
    assert!(!play.killed);
    assert_eq!(play.outcome(VmEnd::Clean), Outcome::Pass);
}

fn reported(event: &Event) -> Option<&str> {
    match event {
        Event::KernelReported { report, .. } => Some(&report.title),
        _ => None,
    }
}

/// At this second a task of the test's stands in md.
fn standing(second: u64) -> Message {
    Message::Sample(sample(second, vec![task(2, "lvm", 'D', 9)]))
}

#[test]
fn an_interrupted_attempt_says_so() {
    let mut play = Play::testing().wait(5);
    let effects = play.state.interrupt();
    play.carry_out(effects);
    assert!(play.killed);
    assert_eq!(play.outcome(VmEnd::Killed), Outcome::Interrupted);
}
