//! Questions that a guest which no longer answers is asked from outside, and their order. Pure: inputs with
//! their time in, questions out.
//!
//! The kernel is asked through its console (a break, then a sysrq key), which takes interrupts. One that
//! does not answer that has them off: an interrupt that cannot be masked makes it say where it is, and ends
//! it, so a dump of its memory is made before.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::evidence::TaskStack;

use crate::console::Backtraces;
use crate::machine::{Answer, Ask, HostTimes};

/// SysRq keys, the most telling first: backtraces of the processors, blocked tasks, locks, all tasks, memory.
const KEYS: [char; 5] = ['l', 'w', 'd', 't', 'm'];
/// Beginning of each of the kernel's answers to a key (sysrq.c, `__handle_sysrq`).
const ANSWER: &str = "sysrq: ";
/// Longest time until the kernel's first answer begins; without one, its interrupts are off.
const FIRST_ANSWER: Duration = Duration::from_millis(1500);
/// Silence of the console after which an answer is complete.
const QUIET: Duration = Duration::from_millis(400);
/// Longest time for one answer: that of a big guest is long, and its console is slow.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// Longest time for the last answer, which is the panic that the NMI causes.
const LAST_ANSWER: Duration = Duration::from_secs(3);

/// Longest time for writing a guest's memory to a file.
pub(crate) const DUMP_MAX: Duration = Duration::from_secs(600);

/// The question that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// This key of [`KEYS`] was sent at this time.
    Asked {
        key_idx: usize,
        at: Duration,
    },
    /// The memory is being written.
    Dumping {
        since: Duration,
    },
    /// The NMI was sent.
    NmiSent {
        at: Duration,
    },
    Done,
}

/// One guest's interrogation.
#[derive(Debug)]
pub(crate) struct Interrogation {
    step: Step,
    /// When the console last said something.
    heard: Option<Duration>,
    slowness: u32,
    wants_dump: bool,
    traces: Backtraces,
    /// Report of what was asked and seen, by paragraphs.
    notes: Vec<String>,
    /// The kernel was sent an NMI, which makes it panic.
    nmi_sent: bool,
    /// The evidence has been handed over.
    is_handed_over: bool,
}

/// Evidence of a guest that did not answer, collected from outside of it.
#[derive(Debug)]
pub(crate) struct OutsideEvidence {
    /// Stacks of tasks, those on a processor first.
    pub(crate) stacks: Vec<TaskStack>,
    /// Parent of each process that the kernel listed, by process id.
    pub(crate) parents: BTreeMap<u32, u32>,
    /// Report of what the host saw, for people.
    pub(crate) text: String,
}

impl Interrogation {
    /// Begins with a guest that takes `slowness` times as long for everything; `wants_dump` if its memory is
    /// to be written before an NMI ends its kernel.
    pub(crate) fn begin(at: Duration, slowness: u32, wants_dump: bool) -> (Self, Vec<Ask>) {
        let begun = Interrogation {
            step: Step::Asked { key_idx: 0, at },
            heard: None,
            slowness,
            wants_dump,
            traces: Backtraces::default(),
            notes: vec![],
            nmi_sent: false,
            is_handed_over: false,
        };
        (begun, vec![Ask::RunState, Ask::Times, Ask::Registers, Ask::SysRq(KEYS[0])])
    }

    /// True once nothing more is to come.
    pub(crate) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// True if the kernel was sent an NMI: a panic that follows is our doing.
    pub(crate) fn was_nmi_sent(&self) -> bool {
        self.nmi_sent
    }

    /// Looks at the clock.
    pub(crate) fn tick(&mut self, at: Duration) -> Vec<Ask> {
        let slow = |duration: Duration| duration * self.slowness;
        let quiet =
            |since: Duration| self.heard.is_some_and(|heard| heard >= since && at >= heard + slow(QUIET));
        match self.step {
            Step::Asked { key_idx: 0, at: asked } if self.heard.is_none() => {
                if at < asked + slow(FIRST_ANSWER) {
                    return vec![];
                }
                // Twice: a processor that moves on in a loop shows itself.
                let mut asks = vec![Ask::Times, Ask::Registers];
                asks.extend(if self.wants_dump { vec![] } else { self.send_nmi(at) });
                if self.wants_dump {
                    self.step = Step::Dumping { since: at };
                }
                asks
            }
            Step::Asked { key_idx, at: asked } if quiet(asked) || at >= asked + slow(ANSWER_MAX) => {
                match KEYS.get(key_idx + 1) {
                    Some(&key) => {
                        self.step = Step::Asked { key_idx: key_idx + 1, at };
                        vec![Ask::SysRq(key)]
                    }
                    None => {
                        self.step = Step::Done;
                        vec![]
                    }
                }
            }
            Step::Dumping { since } if at >= since + DUMP_MAX => {
                self.notes.push(NOT_WRITTEN.to_owned());
                self.send_nmi(at)
            }
            Step::NmiSent { at: sent } if quiet(sent) || at >= sent + slow(LAST_ANSWER) => {
                self.step = Step::Done;
                vec![]
            }
            Step::Asked { .. } | Step::Dumping { .. } | Step::NmiSent { .. } | Step::Done => vec![],
        }
    }

    /// True while it waits for the memory to be written.
    pub(crate) fn is_dumping(&self) -> bool {
        matches!(self.step, Step::Dumping { .. })
    }

    /// The memory has been written, or cannot be.
    pub(crate) fn dumped(&mut self, at: Duration) -> Vec<Ask> {
        if self.is_dumping() { self.send_nmi(at) } else { vec![] }
    }

    /// Takes a line of the console. The first answer begins with [`ANSWER`]; until then, it is somebody
    /// else's word.
    pub(crate) fn heard(&mut self, at: Duration, line: &str) {
        let has_begun = self.heard.is_some() || matches!(self.step, Step::NmiSent { .. } | Step::Done);
        if has_begun || line.contains(ANSWER) {
            self.heard = Some(at);
        }
        if !self.is_handed_over {
            self.traces.look(line);
        }
    }

    /// The hypervisor answered.
    pub(crate) fn take(&mut self, answer: &Answer) {
        if self.is_handed_over {
            return;
        }
        match answer {
            Answer::RunState(state) => self.notes.push(format!("QEMU says: {}", state.name)),
            Answer::Times(times) => self.notes.push(in_words(times)),
            Answer::Registers(text) => self.notes.push(text.trim().to_owned()),
            Answer::Dumped(_) => {}
        }
    }

    /// Hands the evidence over, once: the guest is gone, or nothing more is wanted.
    pub(crate) fn hand_over(&mut self) -> Option<OutsideEvidence> {
        if std::mem::replace(&mut self.is_handed_over, true) {
            return None;
        }
        let parents = self.traces.parents().clone();
        let text = self.notes.join("\n\n") + "\n";
        Some(OutsideEvidence { stacks: std::mem::take(&mut self.traces).stacks(), parents, text })
    }

    /// True once the evidence has been handed over: nothing more is asked.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.is_handed_over
    }

    fn send_nmi(&mut self, at: Duration) -> Vec<Ask> {
        self.step = Step::NmiSent { at };
        self.nmi_sent = true;
        self.notes.push(NMI_SENT.to_owned());
        vec![Ask::Nmi]
    }
}

const NOT_WRITTEN: &str = "Writing the guest's memory took too long and was given up.";

const NMI_SENT: &str = "The kernel did not answer a break on its console (sysrq l): interrupts are off, or its first processor is lost.\n\
    It was sent an NMI, which it answers on the console, with a panic that is not its own.";

fn in_words(times: &HostTimes) -> String {
    let mut text = format!("{} ms after the VM began, the host had given", times.at_ms);
    let vcpus = times.vcpus.iter().enumerate().map(|(idx, vcpu)| (format!("vCPU {idx}"), vcpu));
    for (name, thread) in vcpus.chain([("devices".to_owned(), &times.devices)]) {
        text += &format!(
            "\n  {name}: {} ms of a processor, {} ms of waiting for one",
            thread.ran_ms, thread.waited_ms
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Plays a guest whose console speaks at these times, milliseconds; gives what it was asked, and when it
    /// was done.
    fn play(wants_dump: bool, speaks: impl Fn(u64, &[Ask]) -> bool) -> (Vec<Ask>, u64) {
        let (mut asking, mut asked) = Interrogation::begin(MS(0), 1, wants_dump);
        for at in (100..60_000).step_by(100) {
            if speaks(at, &asked) {
                asking.heard(MS(at), "[  1.0] sysrq: a word");
            }
            asked.extend(asking.tick(MS(at)));
            if asking.is_dumping() && at % 2000 == 0 {
                asked.extend(asking.dumped(MS(at)));
            }
            if asking.is_done() {
                return (asked, at);
            }
        }
        panic!("never done: {asked:?}");
    }

    #[test]
    fn a_kernel_that_answers_is_asked_everything_and_lives() {
        let (asked, at) = play(true, |at, _| at % 1000 == 200);
        let keys: Vec<_> = asked.iter().filter(|ask| matches!(ask, Ask::SysRq(_))).collect();
        assert_eq!(keys.len(), KEYS.len());
        assert!(!asked.contains(&Ask::Nmi));
        assert!(at <= 6000, "{at}");
    }

    #[test]
    fn a_kernel_that_goes_on_answering_is_not_listened_to_for_ever() {
        let (_, at) = play(false, |_, _| true);
        assert!(at <= 21_000, "{at}");
    }

    #[test]
    fn a_kernel_with_its_interrupts_off_is_sent_an_nmi() {
        let (asked, at) = play(false, |_, asked| asked.contains(&Ask::Nmi));
        assert_eq!(asked.last(), Some(&Ask::Nmi));
        assert!(at <= 5000, "{at}");
        let (asked, at) = play(false, |_, _| false);
        assert_eq!(asked.last(), Some(&Ask::Nmi), "not even then");
        assert!(at <= 5000, "{at}");
    }

    #[test]
    fn another_word_on_the_console_is_no_answer() {
        let (mut asking, _) = Interrogation::begin(MS(0), 1, false);
        asking.heard(MS(100), "[  1.0] EXT4-fs (vda): a last word of before");
        assert!(asking.tick(MS(1600)).contains(&Ask::Nmi));
        asking.heard(MS(1700), "[  2.0] Kernel panic - not syncing: NMI: Not continuing");
        asking.tick(MS(2200));
        assert!(asking.is_done(), "its panic is heard out");
    }

    #[test]
    fn a_dump_that_does_not_end_is_not_waited_for() {
        let (mut asking, _) = Interrogation::begin(MS(0), 1, true);
        asking.tick(MS(1600));
        assert!(asking.is_dumping() && asking.tick(MS(500_000)).is_empty());
        assert_eq!(asking.tick(MS(601_600)), [Ask::Nmi]);
        assert!(asking.dumped(MS(602_000)).is_empty(), "too late");
        assert!(asking.hand_over().is_some_and(|evidence| evidence.text.contains("took too long")));
    }

    #[test]
    fn its_memory_is_written_before() {
        let (asked, at) = play(true, |_, _| false);
        assert_eq!((asked.last(), at), (Some(&Ask::Nmi), 5000));
    }
}
