//! Every way for an attempt to go, without a VM.

mod kernel_log;

use std::time::Duration;

use protocol::event::{Blame, Event};
use protocol::evidence::{Evidence, TaskStack};
use protocol::sample::{Sample, TaskSample};
use protocol::state::StorageState;
use protocol::wire::{
    Exit, Finished, LoadedModule, MODULE_REFUSED, Message, ModuleFile, ReplacedModules, Request, Survivor,
};
use protocol::{HangKind, Outcome};

use super::{AttemptState, Effect, Opening};
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
        let state = AttemptState::new(1, Opening { session: SESSION, seed: vec![] }, job, LIMITS);
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

/// The thread of an array that the test no longer looks at stands in md, and the test passes.
#[test]
fn a_thread_that_stands_when_the_test_passes_is_a_hang() {
    let busy = |n: u64| {
        let mut raid1d = task(7, "md0_raid1", 'D', 5);
        raid1d.frames = vec!["md_super_wait+0x1/0x2 [md_mod]".to_owned()];
        vec![task(100 + n as u32, &format!("step{n}"), 'S', 1), raid1d]
    };
    let play = Play::testing().samples(30, busy).finished(30, Exit::Code(0));
    assert_eq!(play.sent.last(), Some(&Request::Diagnose { attempt: 1 }));
    let outcome = play.agent(31, Message::Diagnosed { attempt: 1 }).collected(32).outcome(VmEnd::Clean);
    let Outcome::Hang { kind: HangKind::NoProgress, seen, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(seen.as_deref(), Some("the test passed, and md0_raid1 stands in md or dm"));
    // Of long ago, it says nothing; nor if it stood for a moment.
    let play = Play::testing().samples(20, busy).heartbeats(31).finished(31, Exit::Code(0));
    assert!(matches!(play.sent.last(), Some(Request::Collect { .. })));
    let play = Play::testing().samples(10, busy).finished(10, Exit::Code(0));
    assert!(matches!(play.sent.last(), Some(Request::Collect { .. })));
}

#[test]
fn what_nobody_can_kill_and_stands_is_a_hang_though_the_test_passed() {
    let play = Play::testing().leaves(10, Exit::Code(0));
    assert!(!matches!(play.sent.last(), Some(Request::Collect { .. })), "it is watched first");
    let play = play.samples(30, |_| vec![task(60, "dd", 'D', 5)]);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let play = play.agent(31, Message::Diagnosed { attempt: 1 });
    assert!(matches!(play.sent.last(), Some(Request::Collect { .. })));
    let (outcome, n_left) = play.collected(32).outcome_and_left();
    let Outcome::Hang { kind: HangKind::NoProgress, seen, .. } = outcome else { panic!("{outcome:?}") };
    let expect = "the test passed, and left behind dd (pid 60), which cannot be killed";
    assert_eq!((seen.as_deref(), n_left), (Some(expect), 1));
}

#[test]
fn corruption_that_a_test_found_stays_though_it_left_something_behind() {
    let corrupt = "a b differ: byte 1, line 1\n";
    let play = Play::testing();
    let play = play.agent(5, Message::Output { attempt: 1, offset: 0, data: corrupt.into() });
    let play = play.leaves(10, Exit::Code(1)).samples(30, |_| vec![task(60, "dd", 'D', 5)]);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }), "it is asked about all the same");
    let (outcome, n_left) =
        play.agent(31, Message::Diagnosed { attempt: 1 }).collected(32).outcome_and_left();
    assert!(matches!(outcome, Outcome::DataCorruption { .. }), "{outcome:?}");
    assert_eq!(n_left, 1);
}

#[test]
fn what_only_takes_long_to_die_is_no_hang() {
    // It goes when its request completes.
    let play = Play::testing().leaves(10, Exit::Code(1));
    let play = play.samples(14, |_| vec![task(60, "dd", 'D', 5)]).samples(15, |_| vec![]);
    assert!(matches!(play.sent.last(), Some(Request::Collect { .. })));
    let (outcome, n_left) = play.collected(16).outcome_and_left();
    assert_eq!((outcome, n_left), (Outcome::Fail { how: "exit status 1".into() }, 0));
    // It takes minutes, and moves meanwhile.
    let play = Play::testing().leaves(10, Exit::Code(0)).samples(240, |n| vec![task(60, "dd", 'D', n)]);
    let play = play.samples(241, |_| vec![]);
    assert!(!play.sent.contains(&Request::Diagnose { attempt: 1 }));
    assert_eq!(play.collected(242).outcome_and_left(), (Outcome::Pass, 0));
}

/// A writer that tries again and again (md.c waits between two tries), say.
#[test]
fn what_moves_for_ever_though_it_was_killed_is_still_there() {
    let moves = |to| Play::testing().leaves(10, Exit::Code(0)).samples(to, |n| vec![task(60, "dd", 'D', n)]);
    assert!(!moves(250).sent.contains(&Request::Diagnose { attempt: 1 }), "it is watched for minutes");
    let play = moves(255);
    let says = |event: &Event| {
        matches!(event, Event::Remark { text, .. }
            if text.starts_with("left behind dd (pid 60): killed, and still there after 24"))
    };
    assert!(play.events.iter().any(says), "{:?}", play.events);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let play = play.agent(256, Message::Diagnosed { attempt: 1 }).collected(257);
    assert_eq!(play.outcome_and_left(), (Outcome::Pass, 1), "the verdict goes by who is left");
}

#[test]
fn what_is_left_in_a_guest_that_starves_or_waits_for_a_delay_is_watched_for_longer() {
    let moves = |n| vec![task(60, "dd", 'D', n)];
    // The host let the guest run for a third of the time: a second in three counts.
    let mut play = Play::testing().leaves(10, Exit::Code(0));
    for second in 10..400 {
        let ran_ms = second * 1000 / 3;
        let vcpus = vec![ThreadTimes { ran_ms, waited_ms: second * 1000 - ran_ms, ..ThreadTimes::default() }];
        let times = HostTimes { at_ms: second * 1000, devices: ThreadTimes::default(), vcpus };
        play = play.tell(second, Input::Answer(Answer::Times(times)));
        play = play.agent(second, Message::Sample(sample(second, moves(second))));
    }
    assert!(!play.sent.contains(&Request::Diagnose { attempt: 1 }));
    // The kernel ends the wait by itself.
    let delayed = |n| {
        let mut dd = task(60, "dd", 'D', n);
        dd.storage.as_mut().unwrap().ends_ms = 100_000;
        vec![dd]
    };
    let play = Play::testing().leaves(10, Exit::Code(0)).samples(340, delayed);
    assert!(!play.sent.contains(&Request::Diagnose { attempt: 1 }));
    assert!(play.samples(360, delayed).sent.contains(&Request::Diagnose { attempt: 1 }));
}

#[test]
fn what_is_left_while_nobody_can_look_is_still_there() {
    let play = Play::testing().leaves(10, Exit::Code(0)).heartbeats(75);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let play = play.agent(76, Message::Diagnosed { attempt: 1 }).collected(77);
    assert_eq!(play.outcome_and_left(), (Outcome::Pass, 1), "the verdict goes by who is left");
}

/// A task stood in md while another of the test's goes on with its own work until the limit.
#[test]
fn a_limit_that_is_reached_while_a_task_stands_in_md_is_a_hang() {
    let limit_s = LIMITS.test_timeout.as_secs();
    let busy = |n: u64| {
        let mut dd = task(60, "dd", 'D', 5);
        dd.frames = vec!["md_write_start+0x1/0x2 [md_mod]".to_owned()];
        let mut cc1 = task(100 + n as u32, &format!("step{n}"), 'R', n);
        (cc1.user_ms, cc1.frames) = (n * 900, vec![]);
        vec![dd, cc1]
    };
    let play = (3..limit_s + 5).fold(Play::testing(), |play, second| {
        let said = Message::Output { attempt: 1, offset: second, data: vec![b'x'] };
        play.agent(second, said).agent(second, Message::Sample(sample(second, busy(second))))
    });
    let outcome = play.agent(limit_s + 6, Message::Diagnosed { attempt: 1 }).collected(limit_s + 7);
    let outcome = outcome.outcome(VmEnd::Clean);
    let Outcome::Hang { seen: Some(seen), .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(seen, "still running after its limit of 100 s");
}

#[test]
fn a_power_off_that_waits_in_md_is_a_hang() {
    let play = Play::testing().finished(10, Exit::Code(0)).collected(11).wait(17);
    assert!(play.asked.contains(&Ask::SysRq('l')), "{:?}", play.asked);
    let agent = "\
sysrq: Show Blocked State
task:init            state:D stack:0     pid:1     tgid:1     ppid:0      flags:0x00004002
Call Trace:
 <TASK>
 __schedule+0x4ea/0xbe0
 __md_stop_writes+0x1/0x2 [md_mod]
 md_notify_reboot+0x1/0x2 [md_mod]
 </TASK>";
    let play = play.console(17, agent).wait(50);
    assert!(play.killed);
    let outcome = play.outcome(VmEnd::Killed);
    let Outcome::Hang { seen: Some(seen), .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(seen, "the test passed, and the guest does not power off: that waits in md or dm");
}

/// It need not be the agent itself that waits: whoever blocks in md or dm then is what it waits for.
#[test]
fn a_power_off_that_waits_for_who_stands_in_md_is_a_hang() {
    let after = |state: &str, frame: &str| {
        let play = Play::testing().finished(10, Exit::Code(0)).collected(11).wait(17);
        let words = format!(
            "sysrq: Show Blocked State\n\
             task:kworker/u4:1    state:{state} stack:0     pid:31    tgid:31    ppid:2      flags:0x00004000\n\
             Call Trace:\n <TASK>\n __schedule+0x4ea/0xbe0\n {frame}\n </TASK>"
        );
        let play = play.console(17, &words).wait(50);
        assert!(play.killed);
        play.outcome(VmEnd::Killed)
    };
    let Outcome::Hang { seen: Some(seen), .. } = after("D", "md_write_start+0x1/0x2 [md_mod]") else {
        panic!("no hang");
    };
    assert_eq!(seen, "the test passed, and the guest does not power off: kworker/u4:1 waits in md or dm");
    assert_eq!(after("D", "io_schedule+0x1/0x2"), Outcome::Pass, "it waits for something else");
    assert_eq!(after("S", "md_thread+0x1/0x2 [md_mod]"), Outcome::Pass, "it is at rest");
}

#[test]
fn a_guest_that_does_not_power_off_is_killed_and_the_pass_stands() {
    let play = Play::testing().finished(10, Exit::Code(0)).wait(30);
    assert!(play.killed);
    assert_eq!(play.outcome(VmEnd::Killed), Outcome::Pass);
}

#[test]
fn a_kernel_that_says_nothing_does_not_boot() {
    let play = Play::new().wait(62);
    assert!(play.killed);
    assert!(
        matches!(play.outcome(VmEnd::Killed), Outcome::KernelCrash { title } if title.contains("does not boot"))
    );
}

#[test]
fn a_panic_while_booting_is_the_kernels() {
    let play = Play::new().console(1, "[    0.5] Kernel panic - not syncing: VFS: Unable to mount root fs");
    let outcome = play.outcome(VmEnd::Clean);
    assert!(matches!(outcome, Outcome::KernelCrash { title } if title.contains("Unable to mount")));
}

#[test]
fn an_agent_that_gives_up_is_ours() {
    let gone = shutdown(ShutdownCause::PoweredOff);
    let fatal = "md-regress-agent: FATAL: no disk mdr-root";
    let play = Play::new().tell(1, Input::Hypervisor(gone)).console(1, fatal);
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::Infra { error } if error.contains("mdr-root")));
}

/// The guest powers off without having been asked, after these lines on the console.
fn powered_off(play: Play, lines: &[&str]) -> Play {
    let gone = shutdown(ShutdownCause::PoweredOff);
    lines
        .iter()
        .fold(play.heartbeats(10), |play, line| play.console(10, line))
        .tell(10, Input::Hypervisor(gone))
}

#[test]
fn an_agent_that_gives_up_while_a_test_runs_is_ours() {
    let fatal = protocol::last_words::say(Some(SESSION), "panicked at src/serve.rs:1:2: no memory");
    let play = powered_off(Play::testing(), &[&fatal]);
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::Infra { error } if error.contains("no memory")));
    // Behind what a test wrote without an end of line, too.
    let play = powered_off(Play::testing(), &[&format!("no line end{fatal}")]);
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::Infra { .. }));
}

#[test]
fn a_test_cannot_speak_for_the_agent() {
    let other = protocol::last_words::say(Some(SESSION + 1), "forged");
    for forged in ["md-regress-agent: FATAL: forged", &other] {
        let outcome = powered_off(Play::testing(), &[forged]).outcome(VmEnd::Clean);
        assert!(
            matches!(&outcome, Outcome::KernelCrash { title } if title.contains("went away by itself")),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_kernel_that_faults_may_be_why_the_agent_gives_up() {
    let fatal = protocol::last_words::say(Some(SESSION), "no memory");
    let oops = "[   10.0] BUG: kernel NULL pointer dereference, address: 8";
    let outcome = powered_off(Play::testing(), &[oops, &fatal]).outcome(VmEnd::Clean);
    assert!(matches!(&outcome, Outcome::KernelCrash { title } if title.contains("NULL")), "{outcome:?}");
}

#[test]
fn an_agent_that_gives_up_and_does_not_go_is_no_hang() {
    let fatal = protocol::last_words::say(Some(SESSION), "no memory");
    let play = Play::testing().heartbeats(10).console(10, &fatal).wait(60);
    assert!(play.killed);
    let outcome = play.outcome(VmEnd::Killed);
    assert!(matches!(&outcome, Outcome::Infra { error } if error.contains("no memory")), "{outcome:?}");
}

#[test]
fn what_a_test_came_to_stands_when_the_agent_gives_up_after_it() {
    let fatal = protocol::last_words::say(Some(SESSION), "no memory");
    let play = powered_off(Play::testing().finished(9, Exit::Code(0)), &[&fatal]);
    let play = play.tell(10, Input::Ended(VmEnd::Clean));
    let told = |event: &Event| matches!(event, Event::Remark { text, blame: Blame::Harness, .. } if text.contains("no memory"));
    assert!(play.events.iter().any(told), "{:?}", play.events);
    assert_eq!(play.state.finish(play.now, 0).0, Outcome::Pass);
}

#[test]
fn a_dead_qemu_is_the_hosts() {
    let end = VmEnd::Failed { error: "QEMU was killed by signal 9".into() };
    assert!(
        matches!(Play::testing().wait(10).outcome(end), Outcome::Infra { error } if error.contains("signal 9"))
    );
}

#[test]
fn a_qemu_that_is_ended_from_outside_is_the_hosts() {
    let event = shutdown(ShutdownCause::Outside);
    let play = Play::testing().tell(5, Input::Hypervisor(event));
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::Infra { error } if error.contains("host-signal")));
    assert!(matches!(Play::testing().outcome(VmEnd::Clean), Outcome::Infra { .. }));
}

#[test]
fn a_guest_that_qemu_stops_is_the_hosts() {
    let play = Play::testing().tell(5, Input::Hypervisor(HypervisorEvent::Stopped));
    assert!(play.killed);
    assert!(matches!(play.outcome(VmEnd::Killed), Outcome::Infra { error } if error.contains("stopped")));
}

#[test]
fn the_consoles_last_words_count_even_if_they_come_late() {
    let event = shutdown(ShutdownCause::Guest);
    let play = Play::testing()
        .tell(5, Input::Hypervisor(event))
        .console(5, "[   10.0] BUG: unable to handle page fault for address: 1");
    let outcome = play.outcome(VmEnd::Clean);
    assert!(matches!(outcome, Outcome::KernelCrash { title } if title.starts_with("BUG: unable")));
}

#[test]
fn an_oops_that_the_test_survives_is_recorded_beside_its_pass() {
    let play = Play::testing()
        .console(5, "[   10.0] BUG: kernel NULL pointer dereference, address: 0")
        .finished(10, Exit::Code(0))
        .tell(11, Input::Ended(VmEnd::Clean));
    let told: Vec<_> = play.events.iter().filter_map(reported).collect();
    assert_eq!(told, ["BUG: kernel NULL pointer dereference"]);
    assert_eq!(play.state.finish(play.now, 0).0, Outcome::Pass);
}

fn kmsg(seq: u64, at_us: u64, text: &str) -> Message {
    Message::Kmsg { seq, at_us, level: 4, facility: 0, caller: None, left_out: 0, text: text.into() }
}

fn reported(event: &Event) -> Option<&str> {
    match event {
        Event::KernelReported { report, .. } => Some(&report.title),
        _ => None,
    }
}

/// The agent sends the same log a second time, with other stamps even.
#[test]
fn a_report_of_the_kernels_is_recorded_once() {
    let line = "md/raid1:md0: Disk failure on vdc, disabling device.";
    let record = |seq| kmsg(seq, 0, line);
    let play = Play::testing()
        .console(5, &format!("[   10.0] {line}"))
        .agent(5, record(1))
        .console(6, &format!("[   11.0] {line}"))
        .agent(6, record(2))
        .finished(10, Exit::Code(0))
        .tell(11, Input::Ended(VmEnd::Clean));
    let told: Vec<_> = play.events.iter().filter_map(reported).collect();
    assert_eq!(told, ["md/raid1: disk failure, device disabled"]);
}

#[test]
fn a_crash_is_named_by_the_function_that_faulted() {
    let play = Play::testing()
        .console(5, "[   10.0] BUG: kernel NULL pointer dereference, address: 0000000000000008")
        .console(5, "[   10.0] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI")
        .console(5, "[   10.0] RIP: 0010:md_run+0x12/0x34 [md_mod]")
        .console(5, "[   10.1] Kernel panic - not syncing: Fatal exception");
    let title = "BUG: kernel NULL pointer dereference in md_run".to_owned();
    assert_eq!(play.outcome(VmEnd::Clean), Outcome::KernelCrash { title });
}

#[test]
fn a_guest_cannot_fill_the_record() {
    let mut play = Play::testing();
    for _ in 0..1000 {
        play = play.agent(4, Message::Started { attempt: 1, pid: 50, probed: None });
        play = play.agent(4, Message::Note { text: "x".repeat(60_000) });
    }
    let bytes: usize = play.events.iter().map(|event| format!("{event:?}").len()).sum();
    assert!(bytes < 100_000, "{bytes} bytes of events");
    assert_eq!(play.events.iter().filter(|event| matches!(event, Event::TestStarted { .. })).count(), 1);
}

/// Found by fuzzing: each piece put the end off, and an empty one costs a guest nothing.
#[test]
fn a_guest_cannot_bring_files_back_for_ever() {
    let mut play = Play::testing().finished(10, Exit::Code(0));
    let start = Message::FileStart { attempt: 1, file_idx: 0, path: "/x".into(), size: 1 };
    play = play.tell(10, Input::Files(Ok(start)));
    for second in 11..100 {
        let piece = Message::FileData { attempt: 1, file_idx: 0, data: vec![] };
        play = play.tell(second, Input::Files(Ok(piece)));
    }
    assert!(play.killed);
    let late = |event: &Event| matches!(event, Event::Remark { text, .. } if text == "files did not come back in time");
    assert!(play.events.iter().any(late));
    assert_eq!(play.outcome(VmEnd::Killed), Outcome::Pass);
}

#[test]
fn a_file_that_has_ended_does_not_go_on() {
    let files = |message| Input::Files(Ok(message));
    let piece = || files(Message::FileData { attempt: 1, file_idx: 0, data: vec![1] });
    let end = || files(Message::FileEnd { attempt: 1, file_idx: 0, error: None });
    let play = Play::testing()
        .finished(4, Exit::Code(0))
        .tell(4, piece())
        .tell(4, files(Message::FileStart { attempt: 1, file_idx: 0, path: "/x".into(), size: 1 }))
        .tell(4, piece())
        .tell(4, end())
        .tell(4, piece())
        .tell(4, end())
        .tell(5, Input::Ended(VmEnd::Clean));
    assert_eq!(play.state.finish(play.now, 0).1.garbage_messages, 3);
}

#[test]
fn silence_is_a_hang_while_the_guest_lives() {
    let play = Play::testing().heartbeats(36);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }), "asked before it goes");
    assert!(!play.killed);
    // It speaks, so it may be slow.
    let play = play.heartbeats(50);
    assert!(!play.sent.iter().any(|request| matches!(request, Request::Collect { .. })), "{:?}", play.sent);
    // Nor does it answer, bring its files, or power off.
    let play = play.heartbeats(80);
    assert!(play.killed);
    let outcome = play.outcome(VmEnd::Killed);
    assert!(
        matches!(outcome, Outcome::Hang { kind: HangKind::NoOutput, silent_ms, .. } if silent_ms >= 30_000)
    );
}

#[test]
fn whoever_is_silent_and_gets_on_is_slow() {
    let writing = |n_s: u64| {
        (4..n_s).fold(Play::testing(), |play, second| {
            let mut dd = task(2, "dd", 'D', 9);
            dd.storage.iter_mut().for_each(|storage| storage.done = second);
            let sample = Sample { io_done: second, ..sample(second, vec![dd]) };
            play.agent(second, Message::Sample(sample)).heartbeats(second)
        })
    };
    let play = writing(100);
    assert!(!play.sent.contains(&Request::Diagnose { attempt: 1 }), "{:?}", play.sent);
    // Nobody looks any more: what was seen last says nothing.
    let play = play.heartbeats(112);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }), "{:?}", play.sent);
}

/// At this second a task of the test's stands in md.
fn standing(second: u64) -> Message {
    Message::Sample(sample(second, vec![task(2, "lvm", 'D', 9)]))
}

fn hung() -> Play {
    let mut play = Play::testing();
    for second in 4..13 {
        play = play.agent(second, standing(second));
    }
    play
}

#[test]
fn a_test_that_ends_after_it_was_called_hung_was_not_stuck() {
    let remarks = |play: &Play| {
        let is_ours =
            |event: &&Event| matches!(event, Event::Remark { text, .. } if text.contains("slow, not stuck"));
        play.events.iter().filter(is_ours).count()
    };
    let asked = hung();
    assert!(asked.sent.contains(&Request::Diagnose { attempt: 1 }), "{:?}", asked.sent);
    assert!(matches!(asked.outcome(VmEnd::Killed), Outcome::Hang { kind: HangKind::NoProgress, .. }));
    let play = hung().finished(14, Exit::Code(0)).agent(15, Message::Diagnosed { attempt: 1 });
    assert_eq!(remarks(&play), 1, "{:?}", play.events);
    let outcome = play.outcome(VmEnd::Clean);
    assert!(
        matches!(&outcome, Outcome::Infra { error } if error.contains("(passed)") && error.contains("no progress")),
        "{outcome:?}"
    );
    // Also while its files come back; and once only.
    let play = hung().agent(14, Message::Diagnosed { attempt: 1 });
    let play = play.finished(15, Exit::Code(1)).finished(15, Exit::Code(1));
    assert_eq!(remarks(&play), 1);
    let play = play.tell(16, Input::Ended(VmEnd::Clean));
    let (outcome, facts) = play.state.finish(play.now, 0);
    assert!(matches!(outcome, Outcome::Infra { .. }));
    assert_eq!(facts.garbage_messages, 1);
    // A limit was exceeded all the same.
    let play = Play::testing().heartbeats(36).finished(36, Exit::Code(0));
    assert_eq!(remarks(&play), 1);
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::Hang { kind: HangKind::NoOutput, .. }));
}

/// The host says, each second from 4 on, that it gave the guest all of its time; the console speaks when it is
/// asked for `key`.
fn mute(mut play: Play, to: u64, key: Option<Ask>, words: &str) -> Play {
    for second in play.now.as_secs()..to {
        let vcpus = vec![ThreadTimes { ran_ms: second * 1000, ..ThreadTimes::default() }];
        let times = HostTimes { at_ms: second * 1000, devices: ThreadTimes::default(), vcpus };
        play = play.tell(second, Input::Answer(Answer::Times(times)));
        if key.as_ref().is_some_and(|key| play.asked.contains(key)) {
            play = play.console(second, words);
        }
    }
    play
}

#[test]
fn a_mute_guest_is_a_lost_heartbeat_and_struck() {
    let play = mute(Play::testing(), 30, None, "");
    assert!(play.asked.contains(&Ask::SysRq('l')) && play.asked.contains(&Ask::Nmi), "{:?}", play.asked);
    assert!(play.killed && play.host.contains("NMI"), "{}", play.host);
    let outcome = play.outcome(VmEnd::Killed);
    let Outcome::Hang { kind: HangKind::HeartbeatLost, silent_ms: 8000..14_000, seen: Some(seen) } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert!(seen.contains("a processor of the guest's runs"), "{seen}");
}

#[test]
fn the_panic_that_we_caused_is_no_crash() {
    let panic = "[   40.0] Kernel panic - not syncing: NMI: Not continuing\n\
        [   40.0] CPU: 0 PID: 99 Comm: dd Not tainted 6.1.0 #1\n\
        [   40.0] Call Trace:\n\
        [   40.0]  <TASK>\n\
        [   40.0]  spin+0x1/0x20 [canary]\n\
        [   40.0]  </TASK>";
    let play = mute(Play::testing(), 18, None, "");
    assert!(play.asked.contains(&Ask::Nmi) && !play.killed);
    let play = play.console(18, panic).tell(18, Input::Hypervisor(HypervisorEvent::Panicked));
    let play = play.tell(19, Input::Ended(VmEnd::Clean));
    assert!(!play.events.iter().any(|event| reported(event).is_some()), "{:?}", play.events);
    let seen = play.events.iter().find_map(|event| match event {
        Event::StacksSeen { stacks, .. } => Some(stacks[0].clone()),
        _ => None,
    });
    assert_eq!(seen.map(|stack| (stack.comm, stack.frames.len())), Some(("dd".to_owned(), 1)));
    let outcome = play.state.finish(play.now, 0).0;
    assert!(matches!(outcome, Outcome::Hang { kind: HangKind::HeartbeatLost, .. }), "{outcome:?}");
}

#[test]
fn a_spin_in_md_that_starves_the_agent_is_a_livelock() {
    let trace = "[   40.0] sysrq: Show backtrace of all active CPUs\n\
        [   40.0] CPU: 0 PID: 99 Comm: dd Not tainted 6.1.0 #1\n\
        [   40.0]  <TASK>\n\
        [   40.0] RIP: 0010:md_handle_request+0x1/0x20 [md_mod]\n\
        [   40.0]  </TASK>";
    let play = mute(Play::testing(), 40, Some(Ask::SysRq('l')), trace);
    assert!(!play.asked.contains(&Ask::Nmi), "it answers");
    let outcome = play.outcome(VmEnd::Killed);
    let Outcome::Hang { kind: HangKind::Livelock, seen: Some(seen), .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(seen.starts_with("dd spins in md or dm; "), "{seen}");
}

#[test]
fn whoever_came_after_the_test_is_of_the_test() {
    let of_test = |pid: u32, comm: &str, entry: &str| {
        let trace = format!(
            "[   40.0] sysrq: Show backtrace of all active CPUs\n\
             [   40.0] CPU: 0 PID: {pid} Comm: {comm} Not tainted 6.1.0 #1\n\
             [   40.0]  <TASK>\n\
             [   40.0] RIP: 0010:md_handle_request+0x1/0x20 [md_mod]\n\
             [   40.0]  {entry}+0x1/0x20\n\
             [   40.0]  </TASK>"
        );
        let play = mute(Play::testing(), 40, Some(Ask::SysRq('l')), &trace);
        play.events.iter().find_map(|event| match event {
            Event::StacksSeen { stacks, .. } => Some(stacks[0].of_test),
            _ => None,
        })
    };
    // The test's own process is 50; nobody was sampled.
    assert_eq!(of_test(99, "dd", "entry_SYSCALL_64_after_hwframe"), Some(true));
    assert_eq!(of_test(49, "dd", "entry_SYSCALL_64_after_hwframe"), Some(false));
    assert_eq!(of_test(99, "md0_raid5", "ret_from_fork_asm"), Some(false));
    for helper in ["exe", "dmsetup", "modprobe", "(udev-worker)", "systemd-udevd"] {
        assert_eq!(of_test(99, helper, "entry_SYSCALL_64_after_hwframe"), Some(false), "{helper}");
    }
}

#[test]
fn a_helper_that_the_test_started_is_of_the_test() {
    let blocked = |pid: u32, parent: u32| {
        format!(
            "[   40.0] task:dmsetup state:D stack:0 pid:{pid} tgid:{pid} ppid:{parent} flags:0x4002\n\
             [   40.0]  <TASK>\n\
             [   40.0]  dm_suspend+0x1/0x20 [dm_mod]\n\
             [   40.0]  </TASK>"
        )
    };
    let trace = format!(
        "[   40.0] sysrq: Show Blocked State\n{}\n{}\n\
         [   40.0] task:bash state:S stack:0 pid:60 tgid:60 ppid:50 flags:0x4002\n\
         [   40.0]  do_wait+0x1/0x2",
        blocked(99, 60),
        blocked(98, 1)
    );
    let play = mute(Play::testing(), 40, Some(Ask::SysRq('l')), &trace);
    let seen = play.events.iter().find_map(|event| match event {
        Event::StacksSeen { stacks, .. } => {
            Some(stacks.iter().map(|stack| (stack.pid, stack.of_test)).collect::<Vec<_>>())
        }
        _ => None,
    });
    assert_eq!(seen, Some(vec![(99, true), (98, false)]));
}

#[test]
fn what_was_sampled_before_a_guest_fell_silent_is_told() {
    let play = Play::testing().agent(4, standing(4)).agent(5, standing(5));
    let play = mute(play, 40, None, "");
    let stacks = play.events.iter().find_map(|event| match event {
        Event::StacksSeen { stacks, .. } => Some(stacks.clone()),
        _ => None,
    });
    let stacks = stacks.expect("a stack");
    assert_eq!((stacks[0].comm.as_str(), stacks[0].pid), ("lvm", 2));
    let told = |event: &Event| matches!(event, Event::Remark { text, .. } if text.starts_with("seen before the guest") && text.contains("lvm (pid 2)"));
    assert!(play.events.iter().any(told), "{:?}", play.events);
}

#[test]
fn a_guest_that_speaks_again_was_not_lost() {
    let beat = Message::Heartbeat { uptime_ms: 0, mem_available_kib: 0, output_bytes: 0, sampler: None };
    let play = mute(Play::testing(), 20, Some(Ask::SysRq('l')), "[   40.0] sysrq: Show Memory");
    assert!(play.asked.contains(&Ask::SysRq('w')), "{:?}", play.asked);
    let play = play.agent(20, beat).finished(21, Exit::Code(0));
    // Whoever was slow, it changes no verdict.
    let told = |event: &Event| matches!(event, Event::Remark { text, blame: Blame::Harness, .. } if text.contains("then went on"));
    assert!(play.events.iter().any(told), "{:?}", play.events);
    assert_eq!(play.outcome(VmEnd::Clean), Outcome::Pass);
}

#[test]
fn a_guest_that_starves_is_not_silent() {
    let mut play = Play::testing();
    for second in 4..60 {
        let vcpus = vec![ThreadTimes { waited_ms: second * 1000, ..ThreadTimes::default() }];
        let times = HostTimes { at_ms: second * 1000, devices: ThreadTimes::default(), vcpus };
        play = play.tell(second, Input::Answer(Answer::Times(times)));
    }
    assert!(!play.killed && play.sent.len() == 2, "{:?}", play.sent);
    // At its limit it is asked from outside, and called what it is known to be.
    let mut late = Play::testing();
    for second in 4..130 {
        let vcpus = vec![ThreadTimes { waited_ms: second * 1000, ..ThreadTimes::default() }];
        let times = HostTimes { at_ms: second * 1000, devices: ThreadTimes::default(), vcpus };
        late = late.tell(second, Input::Answer(Answer::Times(times)));
    }
    assert!(late.killed && late.asked.contains(&Ask::SysRq('l')));
    assert_eq!(late.outcome(VmEnd::Killed), Outcome::Timeout { limit_ms: 100_000 });
    let play = play.heartbeats(70);
    assert!(!play.killed, "what it printed meanwhile had no way here");
}

#[test]
fn a_guest_that_qemu_does_not_run_is_the_hosts() {
    let play = Play::testing()
        .wait(6)
        .tell(6, Input::Answer(Answer::RunState(RunState { executes: false, name: "io-error".into() })));
    assert!(play.killed);
    assert!(matches!(play.outcome(VmEnd::Killed), Outcome::Infra { error } if error.contains("`io-error`")));
    // Nor is one whose QEMU is stopped itself.
    let play = Play::testing().wait(30);
    assert!(
        matches!(play.outcome(VmEnd::Killed), Outcome::Infra { error } if error.contains("has not answered"))
    );
}

#[test]
fn memory_is_written_before_a_guest_goes() {
    let job = job("shell/x.sh");
    let opening = Opening { session: SESSION, seed: vec![] };
    let state = || AttemptState::new(1, opening.clone(), job.clone(), LIMITS).with_dump(true);
    let testing = || {
        let play = Play::of(state()).tell(2, Play::hello(SESSION));
        assert!(play.asked.contains(&Ask::StopOnPanic));
        play.agent(3, Message::Started { attempt: 1, pid: 50, probed: None })
    };
    let written = |play: Play| {
        assert!(play.dumped && !play.killed);
        let second = play.now.as_secs() + 1;
        // To be written, the guest is stopped.
        let play = play.tell(second, Input::Hypervisor(HypervisorEvent::Stopped));
        assert!(!play.killed);
        let play = play.tell(second, Input::Answer(Answer::Dumped(Ok(()))));
        let told =
            |event: &Event| matches!(event, Event::Remark { text, .. } if text.contains("memory.kdump"));
        assert!(play.events.iter().any(told));
        play
    };
    let panicked = testing().tell(5, Input::Hypervisor(HypervisorEvent::Panicked));
    let panicked = panicked.tell(5, Input::Hypervisor(HypervisorEvent::Stopped)).wait(7);
    let panicked = written(panicked);
    assert!(panicked.killed);
    assert!(matches!(panicked.outcome(VmEnd::Killed), Outcome::KernelCrash { .. }));

    let lost = written(mute(testing(), 18, None, ""));
    assert_eq!(lost.asked.last(), Some(&Ask::Nmi), "its panic comes after");
    assert!(matches!(lost.outcome(VmEnd::Killed), Outcome::Hang { kind: HangKind::HeartbeatLost, .. }));

    let silent = testing().heartbeats(36).agent(36, Message::Diagnosed { attempt: 1 });
    let collected = Input::Files(Ok(Message::Collected { attempt: 1, n_files: 0, n_left_out: 0 }));
    let silent = written(silent.tell(37, collected));
    assert!(matches!(silent.outcome(VmEnd::Killed), Outcome::Hang { kind: HangKind::NoOutput, .. }));

    let passed = testing().finished(10, Exit::Code(0)).wait(30);
    assert!(!passed.dumped);
}

#[test]
fn output_that_was_only_counted_is_a_sign_of_life() {
    let mut play = Play::testing();
    for second in 4..60 {
        let beat =
            Message::Heartbeat { uptime_ms: 0, mem_available_kib: 0, output_bytes: second, sampler: None };
        play = play.agent(second, beat);
    }
    assert!(!play.killed);
}

#[test]
fn a_test_that_goes_on_and_on_times_out() {
    let mut play = Play::testing();
    for second in 4..110 {
        play = play.agent(second, Message::Output { attempt: 1, offset: second - 4, data: b"x".to_vec() });
    }
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let play = play.heartbeats(150);
    assert!(play.killed);
    assert_eq!(play.outcome(VmEnd::Killed), Outcome::Timeout { limit_ms: 100_000 });
}

#[test]
fn a_panic_is_named_by_its_first_line_and_ends_the_vm() {
    let play = Play::testing()
        .console(5, "[   10.0] BUG: kernel NULL pointer dereference, address: 0")
        .console(5, "[   10.1] Kernel panic - not syncing: Fatal exception");
    // The machine does not reset by itself: it is killed after the grace period.
    let play = play.wait(14);
    assert!(play.killed);
    let outcome = play.outcome(VmEnd::Killed);
    assert!(matches!(outcome, Outcome::KernelCrash { title } if title.starts_with("BUG: kernel NULL")));
}

#[test]
fn a_panic_after_the_test_has_passed_is_a_crash_all_the_same() {
    let play = Play::testing()
        .finished(10, Exit::Code(0))
        .console(11, "[   10.1] Kernel panic - not syncing: stack-protector");
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::KernelCrash { .. }));
}

#[test]
fn a_machine_that_goes_away_in_the_middle_is_a_crash() {
    let event = shutdown(ShutdownCause::PoweredOff);
    let play = Play::testing().tell(5, Input::Hypervisor(event));
    assert!(
        matches!(play.outcome(VmEnd::Clean), Outcome::KernelCrash { title } if title.contains("guest-shutdown"))
    );
}

#[test]
fn an_interrupted_attempt_says_so() {
    let mut play = Play::testing().wait(5);
    let effects = play.state.interrupt();
    play.carry_out(effects);
    assert!(play.killed);
    assert_eq!(play.outcome(VmEnd::Killed), Outcome::Interrupted);
}

#[test]
fn a_stale_or_foreign_message_is_garbage() {
    let play = Play::new()
        .tell(1, Play::hello(SESSION + 1))
        .agent(1, Message::Started { attempt: 9, pid: 50, probed: None })
        .tell(1, Play::hello(SESSION))
        .agent(2, Message::Output { attempt: 1, offset: u64::MAX, data: vec![1, 2] });
    let play = play.tell(3, Input::Ended(VmEnd::Killed));
    assert_eq!(play.state.finish(play.now, 0).1.garbage_messages, 3);
}

#[test]
fn dropped_output_is_counted_once() {
    let piece = |offset| Message::Output { attempt: 1, offset, data: vec![0; 10] };
    let play = Play::testing().agent(4, piece(0)).agent(5, piece(100)).finished(6, Exit::Code(0));
    let play = play.tell(7, Input::Ended(VmEnd::Clean));
    let (_, facts) = play.state.finish(play.now, 7);
    assert_eq!((facts.output_bytes, facts.output_dropped), (110, 97));
}

#[test]
fn lost_kernel_log_records_are_counted() {
    let record = |seq| kmsg(seq, 0, "x");
    let play = Play::testing().agent(4, record(5)).agent(4, record(6)).agent(4, record(10));
    let play = play.tell(5, Input::Ended(VmEnd::Killed));
    assert_eq!(play.state.finish(play.now, 0).1.kmsg_lost, 3);
}

#[test]
fn a_test_that_cries_panic_is_no_panic() {
    let heartbeat = || {
        Input::Agent(Ok(Message::Heartbeat {
            uptime_ms: 1,
            mem_available_kib: 1,
            output_bytes: 0,
            sampler: None,
        }))
    };
    let cry = || Input::Console(b"[    9.0] Kernel panic - not syncing: says a test\n".to_vec());
    let play = Play::testing().tell(5, cry()).tell(6, heartbeat()).tell(9, heartbeat()).wait(12);
    assert!(!play.killed, "the guest goes on");
    let play = Play::testing().tell(5, cry()).wait(12);
    assert!(play.killed, "nothing is heard after a real one");
    // It passes at once: the guest lives to power off.
    let collected = Input::Files(Ok(Message::Collected { attempt: 1, n_files: 0, n_left_out: 0 }));
    let off = Input::Hypervisor(shutdown(ShutdownCause::PoweredOff));
    let play = Play::testing().tell(5, cry()).finished(5, Exit::Code(0)).tell(5, collected).tell(6, off);
    assert_eq!(play.outcome(VmEnd::Clean), Outcome::Pass);
}

#[test]
fn a_record_of_several_lines_is_several_lines() {
    let line = super::kernel_log_line(1_500_000, "one\\x0atwo \\x5c_SB_ \\x1b[2J");
    assert_eq!(line, "[    1.500000] one\n[    1.500000] two \\_SB_ \\x1b[2J\n");
}

#[test]
fn who_cannot_look_because_of_the_hang_tells_of_it() {
    let beat = |sampler| Message::Heartbeat { uptime_ms: 0, mem_available_kib: 0, output_bytes: 0, sampler };
    let mut play = Play::testing();
    for second in 4..30 {
        play = play.agent(second, beat(Some(if second % 10 == 0 { 'S' } else { 'D' })));
    }
    assert!(!play.sent.contains(&Request::Diagnose { attempt: 1 }), "it goes on now and then");
    for second in 30..43 {
        play = play.agent(second, beat(Some('D')));
    }
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let outcome = play.agent(43, Message::Diagnosed { attempt: 1 }).outcome(VmEnd::Clean);
    let Outcome::Hang { kind: HangKind::NoProgress, seen: Some(seen), .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(seen.contains("waits in the kernel itself"), "{seen}");
}

#[test]
fn who_cannot_look_may_wait_for_what_the_test_sleeps_until() {
    let beat =
        || Message::Heartbeat { uptime_ms: 0, mem_available_kib: 0, output_bytes: 0, sampler: Some('D') };
    let sleeps = TaskSample { sleeps_ms: Some(20_000), ..task(3, "sleep", 'S', 1) };
    let seen = Message::Sample(sample(4, vec![task(2, "dd", 'D', 9), sleeps]));
    let blind = |n_s: u64| {
        (5..n_s).fold(Play::testing().agent(4, seen.clone()), |play, second| play.agent(second, beat()))
    };
    assert!(!blind(33).sent.contains(&Request::Diagnose { attempt: 1 }));
    assert!(blind(40).sent.contains(&Request::Diagnose { attempt: 1 }));
}

#[test]
fn tasks_that_no_sample_has_room_for_are_remarked_once() {
    let cut = |second| {
        Message::Sample(Sample { n_left_out: 7, ..sample(second, vec![task(1, "bash", 'S', second)]) })
    };
    let play = Play::testing().agent(4, cut(4)).agent(5, cut(5));
    let is_cut = |event: &&Event| matches!(event, Event::Remark { text, .. } if text.contains("7 were not"));
    assert_eq!(play.events.iter().filter(is_cut).count(), 1, "{:?}", play.events);
}

#[test]
fn a_stuck_test_is_asked_about_and_its_files_come_back() {
    let play = hung();
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let seen = play.events.iter().find_map(|event| match event {
        Event::StacksSeen { stacks, .. } => Some(stacks.clone()),
        _ => None,
    });
    assert_eq!(seen.unwrap()[0].comm, "lvm");
    // What the guest writes down adds to that, and takes nothing away.
    let stack = |pid, comm: &str| TaskStack {
        pid,
        comm: comm.to_owned(),
        of_test: false,
        state: 'D',
        still_ms: 0,
        frames: vec!["x\u{1b}[2J+0x1/0x2".to_owned(); 100],
    };
    let evidence = |evidence| Message::Evidence { attempt: 1, evidence };
    let play = play.agent(13, evidence(Evidence::Stacks(vec![stack(2, "another"), stack(7, "mdX_resync")])));
    let Some(Event::StacksSeen { stacks, .. }) = play.events.last() else { panic!("{:?}", play.events) };
    let names: Vec<_> = stacks.iter().map(|stack| stack.comm.as_str()).collect();
    assert_eq!(names, ["lvm", "mdX_resync"]);
    assert_eq!((stacks[1].frames.len(), stacks[1].frames[0].as_str()), (40, "x[2J+0x1/0x2"));
    let state = StorageState { suspended: vec!["x".to_owned(); 100], ..StorageState::default() };
    let play = play.agent(13, evidence(Evidence::State(Box::new(state))));
    let Some(Event::StateSeen { state, .. }) = play.events.last() else { panic!("{:?}", play.events) };
    assert_eq!((state.suspended.len(), state.n_left_out), (40, 60));
    let play = play.agent(14, Message::Diagnosed { attempt: 1 });
    assert!(matches!(play.sent.last(), Some(Request::Collect { .. })));
    let collected = Input::Files(Ok(Message::Collected { attempt: 1, n_files: 0, n_left_out: 0 }));
    let play = play.tell(15, collected);
    assert_eq!(play.sent.last(), Some(&Request::PowerOff));
    let outcome = play.outcome(VmEnd::Clean);
    assert!(matches!(outcome, Outcome::Hang { kind: HangKind::NoProgress, .. }), "{outcome:?}");
}

/// A guest whose md_mod was built here, as build 11.
fn with_modules() -> Play {
    let file = |name: &str, build_id: &str| ModuleFile {
        name: name.into(),
        path: format!("6.12/{name}.ko"),
        build_id: build_id.into(),
    };
    let modules = vec![file("md_mod", "11"), file("raid1", "22")];
    let replaced = ReplacedModules { serial: "s".into(), modules, probe: "md_mod".into() };
    let job = job("shell/x.sh");
    let state = AttemptState::new(1, Opening { session: SESSION, seed: vec![] }, job, LIMITS);
    Play::of(state.with_modules(Some(replaced))).tell(2, Play::hello(SESSION))
}

fn started(name: &str, build_id: &str) -> Message {
    let probed = Some(LoadedModule { name: name.into(), build_id: build_id.into() });
    Message::Started { attempt: 1, pid: 50, probed }
}

#[test]
fn a_test_runs_on_the_modules_that_were_built_and_the_record_says_so() {
    let play = with_modules();
    let asked = play
        .sent
        .iter()
        .any(|request| matches!(request, Request::StartTest(start) if start.program.replaced.is_some()));
    assert!(asked, "{:?}", play.sent);
    let play = play.agent(3, started("md_mod", "11"));
    let position = |wanted: fn(&Event) -> bool| play.events.iter().position(wanted).unwrap();
    let replaced = position(
        |event| matches!(event, Event::ModulesReplaced { built, .. } if built["raid1"] == "22" && built.len() == 2),
    );
    assert!(replaced < position(|event| matches!(event, Event::TestStarted { .. })));
    assert_eq!(play.finished(4, Exit::Code(0)).outcome(VmEnd::Clean), Outcome::Pass);
}

#[test]
fn a_test_of_other_modules_than_were_built_is_none() {
    let unknown = Message::Started { attempt: 1, pid: 50, probed: None };
    for said in [started("md_mod", "12"), started("raid1", "22"), started("md_mod", ""), unknown] {
        let play = with_modules().agent(3, said);
        assert!(play.killed && !play.events.iter().any(|event| matches!(event, Event::TestStarted { .. })));
        // Whatever it says of the test: nothing is known of the kernel.
        let outcome = play.finished(4, Exit::Code(0)).outcome(VmEnd::Killed);
        assert!(matches!(&outcome, Outcome::Infra { error } if error.contains("md_mod")), "{outcome:?}");
    }
    // One that ends without ever having said.
    let outcome = with_modules().finished(4, Exit::Code(0)).outcome(VmEnd::Clean);
    assert!(matches!(outcome, Outcome::Infra { .. }), "{outcome:?}");
}

#[test]
fn a_module_that_does_not_load_is_the_kernels_fault() {
    let title = "md_mod does not load".to_owned();
    let outcome = with_modules().finished(4, Exit::NotStarted(MODULE_REFUSED)).outcome(VmEnd::Clean);
    assert_eq!(outcome, Outcome::KernelCrash { title });
    let outcome = with_modules().finished(4, Exit::NotStarted(5)).outcome(VmEnd::Clean);
    assert!(matches!(outcome, Outcome::Infra { .. }), "{outcome:?}");
}
