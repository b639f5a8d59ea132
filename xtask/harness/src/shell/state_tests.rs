//! Every way for a shell to go, without a VM.

use super::*;
use crate::machine::{ShutdownCause, VmEnd};
use crate::testing::{LIMITS, guest_facts, shutdown};
use protocol::wire::{MAX_CHUNK, VERSION};

const SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

struct Play {
    state: ShellState,
    now: Duration,
    effects: Vec<Effect>,
}

impl Play {
    /// Booted and open.
    fn open(terminal: Option<TerminalSize>) -> Self {
        let program = Program {
            argv: vec!["bash".into()],
            cwd: "/".into(),
            env: Default::default(),
            make_dirs: vec![],
            load_modules: vec![],
            replaced: None,
            disks: vec![],
        };
        let state = ShellState::new(Opening { session: 7, entropy: vec![] }, program, terminal, LIMITS);
        let guest = guest_facts();
        let play = Play { state, now: Duration::ZERO, effects: vec![] };
        play.says(1, Message::Hello { version: VERSION, session: 7, guest })
            .says(1, Message::Shell(ShellMessage::Opened))
    }

    fn at(mut self, second: u64, event: Event) -> Self {
        let target = Duration::from_secs(second);
        while self.now < target {
            self.now += Duration::from_secs(1);
            let effects = self.state.tick(self.now);
            self.effects.extend(effects);
        }
        let effects = self.state.apply(self.now, event);
        self.effects.extend(effects);
        self
    }

    fn says(self, second: u64, message: Message) -> Self {
        self.at(second, Event::Vm(Input::Agent(Ok(message))))
    }

    fn told(self, second: u64, input: Input) -> Self {
        self.at(second, Event::Vm(input))
    }

    fn types(self, second: u64, bytes: &[u8]) -> Self {
        self.at(second, Event::Typed(bytes.to_vec()))
    }

    /// All input that was sent.
    fn sent(&self) -> Vec<u8> {
        let data = self.effects.iter().filter_map(|effect| match effect {
            Effect::Send(Request::Shell(ShellRequest::Input { data })) => Some(data.clone()),
            _ => None,
        });
        data.flatten().collect()
    }

    fn did(&self, effect: &Effect) -> bool {
        self.effects.contains(effect)
    }

    fn end(self) -> End {
        self.state.finish().end
    }
}

fn ended(exit: Exit) -> Message {
    Message::Shell(ShellMessage::Ended { exit })
}

#[test]
fn a_shell_that_exits_powers_the_guest_off() {
    let collected = Message::Collected { attempt: ATTEMPT, n_files: 0, n_left_out: 0 };
    let play = Play::open(Some(SIZE)).types(2, b"exit\r").says(3, ended(Exit::Code(0)));
    assert!(play.did(&Effect::Opened) && play.sent() == b"exit\r");
    let play = play.told(4, Input::Files(Ok(collected)));
    assert!(play.did(&Effect::Send(Request::PowerOff)));
    let shutdown = shutdown(ShutdownCause::PoweredOff);
    let play = play.told(5, Input::Hypervisor(shutdown)).told(5, Input::Ended(VmEnd::Clean));
    assert!(!play.did(&Effect::Kill));
    assert_eq!(play.end(), End::Exited(Exit::Code(0)));
}

#[test]
fn piped_input_is_read_as_fast_as_it_is_taken_and_then_ends() {
    let mut play = Play::open(None);
    let n_asked = |play: &Play| play.effects.iter().filter(|e| **e == Effect::ReadOn).count();
    let mut n_typed = 0;
    while n_asked(&play) > n_typed {
        play = play.types(2, &[b'x'; 16 * 1024]);
        n_typed += 1;
        assert!(n_typed < 100, "a guest that takes nothing must not be fed for ever");
    }
    assert!(play.sent().len() < INPUT_WINDOW as usize);
    let total = INPUT_WINDOW / 2;
    play = play.says(3, Message::Shell(ShellMessage::InputTaken { total }));
    assert_eq!(play.sent().len(), n_typed * 16 * 1024);
    let play = play.at(4, Event::TypedEnd);
    assert!(play.did(&shell(ShellRequest::InputEnd)));
}

#[test]
fn output_is_acknowledged_once_it_is_written_and_never_exceeds_the_window() {
    let data = vec![b'x'; MAX_CHUNK];
    let output = || ShellMessage::Output { stream: Stream::Output, data: data.clone() };
    let mut play = Play::open(None);
    for _ in 0..100 {
        play = play.says(2, Message::Shell(output()));
    }
    let written = play.effects.iter().filter(|effect| matches!(effect, Effect::Write(..))).count();
    assert!(written * MAX_CHUNK <= OUTPUT_WINDOW as usize, "{written} pieces");
    let acknowledges =
        |effect: &Effect| matches!(effect, Effect::Send(Request::Shell(ShellRequest::OutputTaken { .. })));
    assert!(!play.effects.iter().any(acknowledges));
    for _ in 0..written {
        play = play.at(3, Event::Written { n_bytes: MAX_CHUNK });
    }
    assert!(play.effects.iter().any(acknowledges));
}

#[test]
fn only_a_changed_size_is_passed_on() {
    let size = TerminalSize { rows: 50, columns: 100 };
    let resize = shell(ShellRequest::Resize { size });
    let play = Play::open(Some(SIZE)).at(2, Event::Resized(SIZE)).at(3, Event::Resized(size));
    assert_eq!(play.effects.iter().filter(|effect| **effect == resize).count(), 1);
    assert!(!play.did(&shell(ShellRequest::Resize { size: SIZE })));
}

#[test]
fn the_keys_end_a_guest_that_takes_nothing_and_says_nothing() {
    let mut play = Play::open(Some(SIZE));
    for second in 2..200 {
        play = play.types(second, &[b'x'; 5000]);
    }
    let said = play.effects.iter().filter(|effect| matches!(effect, Effect::Say(_))).count();
    assert_eq!(said, 1, "once is enough");
    assert!(play.state.typed.len() <= TYPED_AHEAD_MAX && !play.did(&Effect::Kill));
    let play = play.types(200, b"\x1d\x1d\x1d");
    assert!(play.did(&Effect::Kill));
    assert_eq!(play.told(201, Input::Ended(VmEnd::Killed)).end(), End::Escaped);
}

#[test]
fn without_a_person_a_silent_guest_is_ended() {
    let play = Play::open(None).at(30, Event::TypedEnd);
    assert!(play.did(&Effect::Kill));
    assert!(matches!(play.told(31, Input::Ended(VmEnd::Killed)).end(), End::Hung { .. }));
}

#[test]
fn a_panic_is_the_kernels_and_shows_its_last_lines() {
    let console = b"[ 9.0] sysrq: Trigger a crash\r\n[ 9.1] Kernel panic - not syncing: sysrq\r\n";
    let play = Play::open(Some(SIZE)).told(2, Input::Console(console.to_vec()));
    let play = play.told(3, Input::Ended(VmEnd::Clean));
    let finished = play.state.finish();
    assert_eq!(finished.end, End::Crashed { title: "Kernel panic - not syncing: sysrq".into() });
    assert_eq!(finished.last_lines.len(), 2);
}

#[test]
fn ends_have_the_right_blame() {
    let end = |input| Play::open(Some(SIZE)).told(2, input).told(3, Input::Ended(VmEnd::Clean)).end();
    let reset = shutdown(ShutdownCause::Guest);
    assert!(matches!(end(Input::Hypervisor(reset)), End::Crashed { .. }));
    let outside = shutdown(ShutdownCause::Outside);
    assert!(matches!(end(Input::Hypervisor(outside)), End::Infra { .. }));
    let failed = VmEnd::Failed { error: "QEMU was killed by signal 9".into() };
    let play = Play::open(Some(SIZE)).told(2, Input::Ended(failed));
    assert!(matches!(play.end(), End::Infra { .. }));
    let mut play = Play::open(Some(SIZE)).at(2, Event::TypedEnd);
    assert!(play.did(&Effect::Kill), "the user's terminal has gone");
    play = play.told(3, Input::Ended(VmEnd::Killed));
    assert_eq!(play.end(), End::Interrupted);
}

#[test]
fn a_reader_that_has_seen_enough_is_passed_on() {
    let stream = Stream::Output;
    let play = Play::open(None).at(2, Event::OutputGone(stream)).says(3, ended(Exit::Signal(13)));
    assert!(play.did(&shell(ShellRequest::CloseOutput { stream })));
    let finished = play.told(4, Input::Ended(VmEnd::Clean)).state.finish();
    assert!(finished.output_gone);
}
