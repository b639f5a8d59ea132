//! The driver against a hypervisor that does what is asked of it, whatever that is.

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use protocol::Outcome;
use protocol::codec::Garbage;
use protocol::event::{AttemptFacts, Blame, Event};
use protocol::program::Exit;
use protocol::wire::{Finished, Message, Request};
use vm_images::host::Cancel;
use vm_images::host::progress::Silent;
use vm_images::store::Store;

use super::drive::Attempt;
use super::drive::AttemptContext;
use crate::event_log::EventLog;
use crate::machine::snapshot::Snapshots;
use crate::machine::{Access, Ask, Hypervisor, HypervisorEvent, InfraError, Input, Vm, VmEnd, VmSpec};
use crate::terminal::Terminal;
use crate::testing::{guest_facts, job, limits_of, vm};

/// What a fake guest does when it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guest {
    /// Runs the test, and passes.
    Good,
    /// Never says a word.
    Silent,
    /// Says nothing but rubbish.
    Rubbish,
    /// Its hypervisor dies at once.
    Dead,
    /// Its kernel oopses while it boots.
    Oopses,
}

/// Starts fake guests; counts those that booted and those that were restored.
struct Fake {
    booted: Guest,
    /// One that boots to be saved, if it is another.
    to_save: Option<Guest>,
    /// One for each restore in turn; the last one from then on.
    restored: Vec<Guest>,
    starts: Mutex<Vec<&'static str>>,
}

struct FakeVm {
    guest: Guest,
    inputs: SyncSender<Input>,
    ended: bool,
}

impl Hypervisor for Fake {
    fn identity(&self, _spec: &VmSpec) -> String {
        "fake".into()
    }

    fn start(&self, spec: &VmSpec, inputs: SyncSender<Input>) -> Result<Box<dyn Vm>, InfraError> {
        let mut starts = self.starts.lock().unwrap();
        let n_restored = starts.iter().filter(|how| **how == "restored").count();
        let (how, guest) = match spec.restore {
            Some(_) => ("restored", self.restored[n_restored.min(self.restored.len() - 1)]),
            None => ("booted", self.to_save.filter(|_| spec.saves).unwrap_or(self.booted)),
        };
        starts.push(how);
        let mut vm = FakeVm { guest, inputs, ended: false };
        if guest == Guest::Dead {
            vm.end(VmEnd::Failed { error: "QEMU was killed by signal 9".into() });
        }
        Ok(Box::new(vm))
    }
}

impl FakeVm {
    fn tell(&self, input: Input) {
        let inputs = self.inputs.clone();
        // As from a reading thread: the driver may not be listening yet.
        std::thread::spawn(move || inputs.send(input));
    }

    fn end(&mut self, end: VmEnd) {
        if !std::mem::replace(&mut self.ended, true) {
            self.tell(Input::Ended(end));
        }
    }

    fn answer(&self, request: &Request) -> Option<Message> {
        match request {
            Request::Hello { session, .. } => {
                let guest = guest_facts();
                Some(Message::Hello { version: protocol::wire::VERSION, session: *session, guest })
            }
            Request::StartTest(test) => Some(Message::Finished(Finished {
                attempt: test.attempt,
                exit: Exit::Code(0),
                wall_ms: 1,
                user_ms: 0,
                sys_ms: 0,
                output_bytes: 0,
                survivors: vec![],
            })),
            Request::PutFile { .. }
            | Request::StopTest { .. }
            | Request::Diagnose { .. }
            | Request::Shell(_)
            | Request::Collect { .. }
            | Request::PowerOff => None,
        }
    }
}

impl Vm for FakeVm {
    fn send(&mut self, request: &Request) -> Result<(), InfraError> {
        match self.guest {
            Guest::Good => {
                if let Some(message) = self.answer(request) {
                    self.tell(Input::Agent(Ok(message)));
                }
                if let Request::Collect { attempt, .. } = request {
                    self.tell(Input::Files(Ok(Message::Collected {
                        attempt: *attempt,
                        n_files: 0,
                        n_left_out: 0,
                    })));
                }
                if *request == Request::PowerOff {
                    self.end(VmEnd::Clean);
                }
            }
            Guest::Rubbish => {
                let rubbish = Garbage { error: "no JSON".into(), excerpt: "\u{1b}[2J".into() };
                self.tell(Input::Agent(Err(rubbish)));
                self.tell(Input::Console(vec![0xff; 5000]));
            }
            Guest::Oopses => {
                let oops = b"[    1.0] BUG: kernel NULL pointer dereference, address: 8\n";
                self.tell(Input::Console(oops.to_vec()));
            }
            Guest::Silent | Guest::Dead => {}
        }
        Ok(())
    }

    fn save_memory(&mut self, _: &Path) -> Result<(), InfraError> {
        Ok(())
    }

    fn save(&mut self, to: &Path) -> Result<(), InfraError> {
        std::fs::write(to, "state").unwrap();
        self.tell(Input::Hypervisor(HypervisorEvent::Migrated));
        Ok(())
    }

    fn plug_disk(&mut self, _image: &Path, _serial: &str, _access: Access) -> Result<(), InfraError> {
        Ok(())
    }

    fn ask(&mut self, _ask: &Ask) -> Result<(), InfraError> {
        Ok(())
    }

    fn kill(&mut self) {
        self.end(VmEnd::Killed);
    }
}

/// What came of an attempt, how its guests started, and what was remarked.
struct Played {
    outcome: Outcome,
    facts: AttemptFacts,
    starts: Vec<&'static str>,
    remarks: Vec<String>,
    /// Whom they blame.
    blamed: Vec<Blame>,
}

fn play(booted: Guest, restored: Guest, with_snapshots: bool) -> Played {
    play_all(booted, vec![restored], with_snapshots, 1)
}

/// So many attempts in one run, one after the other: what came of the last, and how all guests started.
fn play_all(booted: Guest, restored: Vec<Guest>, with_snapshots: bool, n_attempts: u32) -> Played {
    play_fake(Fake { booted, to_save: None, restored, starts: Mutex::default() }, with_snapshots, n_attempts)
}

fn play_fake(fake: Fake, with_snapshots: bool, n_attempts: u32) -> Played {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let (cancel, terminal) = (Cancel::default(), Terminal::detect());
    let snapshots = Snapshots::new(&fake, &store, &Silent, &cancel);
    let log = folder.path().join("events.jsonl");
    let events = EventLog::create(&log).unwrap();
    let context = AttemptContext {
        hypervisor: &fake,
        snapshots: with_snapshots.then_some(&snapshots),
        dump: false,
        events: &events,
        cancel: &cancel,
    };
    let limits = limits_of(Duration::from_millis(400));
    let vm = VmSpec { log: folder.path().join("qemu.log"), ..vm() };
    let job = job("x");
    let attempts = (1..=n_attempts).map(|number| {
        let (job, vm) = (job.clone(), vm.clone());
        let attempt = Attempt { number, job, vm, limits, dir: folder.path(), scratch: folder.path() };
        attempt.run(context, &terminal.line("x")).unwrap()
    });
    let (outcome, facts) = attempts.last().unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<protocol::Record>(line).unwrap());
    let remarks = records.filter_map(|record| match record.event {
        Event::Remark { text, blame, .. } => Some((text, blame)),
        _ => None,
    });
    let (remarks, blamed) = remarks.unzip();
    Played { outcome, facts, starts: fake.starts.into_inner().unwrap(), remarks, blamed }
}

#[test]
fn a_guest_that_answers_nothing_does_not_boot() {
    for guest in [Guest::Silent, Guest::Rubbish] {
        let played = play(guest, Guest::Good, false);
        assert!(
            matches!(&played.outcome, Outcome::KernelCrash { title } if title.contains("does not boot")),
            "{guest:?}: {:?}",
            played.outcome
        );
        assert_eq!(played.starts, ["booted"]);
    }
}

#[test]
fn a_hypervisor_that_dies_is_no_kernels_fault() {
    let played = play(Guest::Dead, Guest::Good, false);
    assert_eq!(played.outcome, Outcome::Infra { error: "QEMU was killed by signal 9".into() });
}

#[test]
fn a_machine_boots_once_and_is_restored() {
    let played = play(Guest::Good, Guest::Good, true);
    assert_eq!((&played.outcome, played.facts.restored), (&Outcome::Pass, true));
    assert_eq!(played.starts, ["booted", "restored"]);
    assert_eq!(played.remarks, Vec::<String>::new());
}

#[test]
fn what_cannot_be_restored_is_booted_and_said() {
    for restored in [Guest::Silent, Guest::Rubbish, Guest::Dead] {
        let played = play(Guest::Good, restored, true);
        assert_eq!((&played.outcome, played.facts.restored), (&Outcome::Pass, false), "{restored:?}");
        assert_eq!(played.starts, ["booted", "restored", "booted"]);
        assert!(played.remarks[0].contains("booted instead"), "{:?}", played.remarks);
    }
}

#[test]
fn a_state_that_is_broken_is_not_restored_again() {
    let played = play_all(Guest::Good, vec![Guest::Dead], true, 2);
    assert_eq!((&played.outcome, played.facts.restored), (&Outcome::Pass, false));
    assert_eq!(played.starts, ["booted", "restored", "booted", "booted"]);
    assert!(played.remarks[0].contains("could not be restored"), "{:?}", played.remarks);
}

#[test]
fn a_busy_host_costs_no_snapshot() {
    let late = [Guest::Silent, Guest::Silent, Guest::Good, Guest::Silent, Guest::Good];
    let played = play_all(Guest::Good, late.to_vec(), true, 5);
    assert_eq!((&played.outcome, played.facts.restored), (&Outcome::Pass, true));
    let expected =
        ["booted", "restored", "booted", "restored", "booted", "restored", "restored", "booted", "restored"];
    assert_eq!(played.starts, expected);
    assert!(played.remarks.iter().all(|text| text.contains("not restored in time")), "{:?}", played.remarks);
}

#[test]
fn a_state_that_is_late_again_and_again_is_given_up() {
    let played = play_all(Guest::Good, vec![Guest::Silent], true, 4);
    assert_eq!((&played.outcome, played.facts.restored), (&Outcome::Pass, false));
    let three = ["restored", "booted"].repeat(3);
    assert_eq!(played.starts, [vec!["booted"], three, vec!["booted"]].concat());
    assert!(played.remarks[2].contains("could not be restored"), "{:?}", played.remarks);
}

#[test]
fn a_kernel_that_does_not_boot_is_not_blamed_on_the_snapshot() {
    let played = play(Guest::Silent, Guest::Good, true);
    assert!(matches!(played.outcome, Outcome::KernelCrash { .. }), "{:?}", played.outcome);
    assert_eq!(played.remarks, Vec::<String>::new());
}

/// A remark that blames the kernel makes a pass a complaint: a host that is slow must not.
#[test]
fn a_guest_that_could_not_be_saved_is_the_kernels_only_if_the_kernel_says_so() {
    for (to_save, blame, words) in
        [(Guest::Silent, Blame::Host, "no answer for 0 s"), (Guest::Oopses, Blame::Kernel, "NULL pointer")]
    {
        let (booted, restored) = (Guest::Good, vec![Guest::Good]);
        let fake = Fake { booted, to_save: Some(to_save), restored, starts: Mutex::default() };
        let played = play_fake(fake, true, 1);
        assert_eq!((&played.outcome, played.facts.restored), (&Outcome::Pass, false), "{to_save:?}");
        assert_eq!((played.starts.as_slice(), played.blamed.as_slice()), (&["booted"; 2][..], &[blame][..]));
        assert!(played.remarks[0].contains(words), "{:?}", played.remarks);
    }
}
