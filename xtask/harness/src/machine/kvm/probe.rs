//! Boots a guest under KVM to its agent's answer.
//!
//! Deliberately not here: how long that answer is good for ([`super::answers`]), and what its last words
//! say if there is none ([`super::last_words`]).

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use vm_images::host::{Cancel, HostError};

use super::last_words::{NoAnswer, no_answer, qemu_gave_up};
use super::patience::{BOOT_MAX, Patience, SILENCE_MAX};
use super::{Absent, KvmAnswer, facts};
use crate::clock::millis;
use crate::console::Lines;
use crate::machine::greeting::Opening;
use crate::machine::talk::{Talk, Unheard};
use crate::machine::{Hypervisor, HypervisorEvent, Input, VmEnd, VmSpec};

/// How often it is looked whether the guest is given up.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bytes of QEMU's log that are looked at.
const LOG_MAX: usize = 64 * 1024;

/// What a guest showed while it booted.
#[derive(Default)]
struct Signs {
    patience: Patience,
    lines: Lines,
    last_line: String,
    is_stopped: bool,
}

impl Signs {
    fn see(&mut self, at: Duration, input: &Input) {
        match input {
            Input::Console(bytes) => {
                self.patience.saw(at);
                let last_line = &mut self.last_line;
                self.lines.push(bytes, |line| {
                    if !line.trim().is_empty() {
                        line.clone_into(last_line);
                    }
                });
            }
            Input::Hypervisor(HypervisorEvent::Stopped) => self.is_stopped = true,
            Input::Hypervisor(_) | Input::Agent(_) | Input::Files(_) | Input::Answer(_) | Input::Ended(_) => {
            }
        }
    }

    /// The end of our patience, if it has come.
    fn given_up(&self, at: Duration) -> Option<NoAnswer> {
        if self.is_stopped {
            Some(NoAnswer::Stopped)
        } else if !self.patience.left(at).is_zero() {
            None
        } else if at >= BOOT_MAX {
            Some(NoAnswer::Endless(BOOT_MAX))
        } else {
            Some(NoAnswer::Silent(SILENCE_MAX))
        }
    }
}

/// Boots a guest of `spec`, which takes KVM; `kernel` is the digest of its kernel.
///
/// # Errors
/// If `cancel` cut it short: that is no answer.
pub(crate) fn boot(
    hypervisor: &dyn Hypervisor,
    spec: &VmSpec,
    kernel: &str,
    cancel: &Cancel,
) -> Result<KvmAnswer> {
    let facts = facts::read();
    let unclear = |absent: Absent| KvmAnswer::Unclear { absent, kernels: vec![kernel.to_owned()] };
    let in_words = |why: String| unclear(super::absent::say(why, super::absent::DMESG));
    let started = Instant::now();
    let mut talk = match Talk::start(hypervisor, spec, Opening::without_entropy(), cancel) {
        Ok(talk) => talk,
        Err(error) => return Ok(in_words(format!("/dev/kvm opens, but {error}"))),
    };
    let mut signs = Signs::default();
    let end = loop {
        let at = started.elapsed();
        if let Some(given_up) = signs.given_up(at) {
            break given_up;
        }
        let wait = signs.patience.left(at).min(LOOK_EVERY);
        match talk.wait_for_answer(wait, |input| signs.see(started.elapsed(), input)) {
            Ok(_) => return Ok(KvmAnswer::Works { boot_ms: millis(started.elapsed()) }),
            Err(Unheard::Late) => {}
            Err(Unheard::Ended(VmEnd::Failed { error })) => {
                return Ok(qemu_gave_up(&error, &log(spec), kernel, &facts));
            }
            Err(Unheard::Ended(VmEnd::Clean | VmEnd::Killed)) => break NoAnswer::Gone,
            Err(Unheard::OtherAgent(why)) => return Ok(in_words(format!("/dev/kvm opens, but {why}"))),
            Err(Unheard::Cancelled) => return Err(HostError::Cancelled.into()),
        }
    };
    let is_virtual = facts.processor.is_virtual;
    Ok(unclear(no_answer(end, &signs.last_line, &log(spec), is_virtual)))
}

/// The beginning of what QEMU said: what comes later are registers.
fn log(spec: &VmSpec) -> String {
    let bytes = fs::read(&spec.log).unwrap_or_default();
    String::from_utf8_lossy(&bytes[..bytes.len().min(LOG_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::SyncSender;

    use protocol::wire::{Message, VERSION};

    use super::*;
    use crate::machine::{InfraError, Vm};
    use crate::testing::{IdleVm, guest_facts, vm};

    /// Starts a VM that writes a log and tells one thing.
    struct Fake {
        log: &'static str,
        tells: fn() -> Input,
    }

    impl Hypervisor for Fake {
        fn identity(&self, _: &VmSpec) -> String {
            "fake".into()
        }
        fn start(&self, spec: &VmSpec, inputs: SyncSender<Input>) -> Result<Box<dyn Vm>, InfraError> {
            fs::write(&spec.log, self.log).unwrap();
            inputs.send((self.tells)()).unwrap();
            // Nothing follows, and nothing ends.
            std::mem::forget(inputs);
            Ok(Box::new(IdleVm))
        }
    }

    fn probed(log: &'static str, tells: fn() -> Input, cancel: &Cancel) -> Result<KvmAnswer> {
        let folder = tempfile::tempdir().unwrap();
        let spec = VmSpec { log: folder.path().join("log"), ..vm() };
        boot(&Fake { log, tells }, &spec, "k", cancel)
    }

    #[test]
    fn a_guest_that_answers_says_how_long_it_took() {
        let hello =
            || Input::Agent(Ok(Message::Hello { version: VERSION, session: 1, guest: guest_facts() }));
        let answer = probed("", hello, &Cancel::default()).unwrap();
        assert!(answer.works().unwrap() < s(10), "{answer:?}");
    }

    #[test]
    fn all_of_qemus_log_is_looked_at() {
        let ended = || Input::Ended(VmEnd::Failed { error: "QEMU was killed by signal 6: …".into() });
        let log = "error: failed to set MSR 0x10a to 0xc000069\nAssertion …\n";
        let answer = probed(log, ended, &Cancel::default()).unwrap();
        assert!(matches!(&answer, KvmAnswer::Broken(absent) if absent.why.contains("0x10a")), "{answer:?}");
    }

    #[test]
    fn a_guest_that_qemu_stopped_is_not_waited_for() {
        let stopped = || Input::Hypervisor(HypervisorEvent::Stopped);
        let started = Instant::now();
        let answer = probed("error: kvm run failed Bad address\n", stopped, &Cancel::default()).unwrap();
        assert!(started.elapsed() < s(10));
        let KvmAnswer::Unclear { absent, kernels } = answer else { panic!("{answer:?}") };
        assert!(absent.why.contains("kvm run failed Bad address"), "{absent}");
        assert_eq!(kernels, ["k"]);
    }

    #[test]
    fn a_probe_that_is_cut_short_is_no_answer() {
        let cancel = Cancel::default();
        cancel.cancel();
        assert!(probed("", || Input::Console(b"x".to_vec()), &cancel).is_err());
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_the_guest_shows_decides_when_and_how_it_is_given_up() {
        let mut signs = Signs::default();
        assert_eq!(signs.given_up(s(19)), None);
        assert_eq!(signs.given_up(s(20)), Some(NoAnswer::Silent(s(20))));
        signs.see(s(19), &Input::Console(b"[ 0.1] one\r\n\r\n[ 0.2] tw".to_vec()));
        assert_eq!(signs.given_up(s(38)), None);
        assert_eq!(signs.given_up(s(39)), Some(NoAnswer::Silent(s(20))));
        assert_eq!(signs.last_line, "[ 0.1] one");
        signs.see(s(118), &Input::Console(b"o\n".to_vec()));
        assert_eq!(signs.given_up(s(120)), Some(NoAnswer::Endless(s(120))));
        assert_eq!(signs.last_line, "[ 0.2] two");
        signs.see(s(30), &Input::Hypervisor(HypervisorEvent::Stopped));
        assert_eq!(signs.given_up(s(31)), Some(NoAnswer::Stopped));
    }
}
