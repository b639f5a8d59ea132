//! Tells a guest that is lost from one that the host lets starve, once its agent has fallen silent. Pure:
//! gets what the host says, with its times, and reads no clock.
//!
//! Only the guest's own time counts, in which the host did not keep its threads waiting. A
//! processor that the guest left idle is its own time, too, for an agent that wakes is given one at once.
//! Deliberately not here: what a lost guest is asked ([`super::interrogation`]).

use std::time::Duration;

use crate::machine::{Answer, Ask, HostTimes, ThreadTimes};

/// Silence of the agent, which speaks every second, after which the host is asked.
const ASK_AFTER: Duration = Duration::from_secs(2);
/// Interval at which the host is asked from then on.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The guest's own time without a word of its agent after which it is lost, milliseconds.
const LOST_AFTER_MS: u64 = 8_000;
/// Most of the guest's own time that one look at the host counts for, milliseconds: if the host was too busy
/// to be asked more often, little is known of the time between.
const LOOK_MS_MAX: u64 = 3_000;
/// Largest factor by which a starving guest is given more time to answer.
const SLOWNESS_MAX: u32 = 10;
/// Share of the guest's own time spent on a processor from which on it is said to be busy, percent.
const BUSY_PERCENT: u64 = 50;

/// A silence of the agent, and what the host says of it.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    asked: Option<Duration>,
    answered: Option<Duration>,
    last: Option<HostTimes>,
    own_ms: u64,
    ran_ms: u64,
    waited_ms: u64,
}

/// The meaning of a silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nothing yet.
    Wait,
    /// Ask the hypervisor this.
    Ask(Vec<Ask>),
    /// The guest had time enough to speak: `seen` by the host, and `slowness`, all of the time as a multiple
    /// of the guest's own.
    Lost { seen: String, slowness: u32 },
    /// The guest cannot speak, and that is no fault of its own.
    HostsFault { error: String },
}

impl Silence {
    /// The agent spoke.
    pub(crate) fn broken(&mut self) {
        *self = Silence::default();
    }

    /// True while the silence is one that the host is asked about.
    pub(crate) fn is_long(mute: Duration) -> bool {
        mute > ASK_AFTER
    }

    /// Looks at the clock: the agent has been silent for `mute`; a hypervisor that answers nothing for
    /// `patience` cannot run a guest either.
    pub(crate) fn tick(&mut self, at: Duration, mute: Duration, patience: Duration) -> Finding {
        if !Silence::is_long(mute) {
            return Finding::Wait;
        }
        if self.own_ms >= LOST_AFTER_MS {
            return Finding::Lost { seen: self.words(), slowness: self.slowness() };
        }
        let Some(asked) = self.asked else {
            self.asked = Some(at);
            self.answered = Some(at);
            return Finding::Ask(vec![Ask::RunState, Ask::Times]);
        };
        if self.answered.is_some_and(|answered| at > answered + patience) {
            let error = format!("QEMU has not answered for {} s: is it stopped?", patience.as_secs());
            return Finding::HostsFault { error };
        }
        if at < asked + ASK_EVERY {
            return Finding::Wait;
        }
        self.asked = Some(at);
        Finding::Ask(vec![Ask::RunState, Ask::Times])
    }

    /// Takes an answer of the hypervisor's.
    pub(crate) fn take(&mut self, at: Duration, answer: &Answer) -> Finding {
        if self.asked.is_none() {
            // The agent spoke meanwhile.
            return Finding::Wait;
        }
        self.answered = Some(at);
        match answer {
            Answer::RunState(state) if !state.executes => {
                return Finding::HostsFault {
                    error: format!("QEMU does not run the guest: it is `{}`", state.name),
                };
            }
            Answer::Times(times) => self.look(times),
            Answer::RunState(_) | Answer::Registers(_) | Answer::Dumped(_) => {}
        }
        Finding::Wait
    }

    fn look(&mut self, now: &HostTimes) {
        let Some(last) = self.last.replace(now.clone()) else { return };
        let Some(Between { own_ms, ran_ms, waited_ms }) = Between::of(&last, now) else { return };
        self.own_ms += own_ms;
        self.ran_ms += ran_ms;
        self.waited_ms += waited_ms;
    }

    fn slowness(&self) -> u32 {
        let times = (self.own_ms + self.waited_ms).div_ceil(self.own_ms.max(1));
        u32::try_from(times).unwrap_or(SLOWNESS_MAX).clamp(1, SLOWNESS_MAX)
    }

    fn words(&self) -> String {
        let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
        let (own, ran) = (seconds(self.own_ms), seconds(self.ran_ms));
        let what = if self.ran_ms * 100 >= self.own_ms * BUSY_PERCENT {
            format!(
                "a processor of the guest's runs ({ran}), and its agent has not spoken for {own} of its time"
            )
        } else {
            format!(
                "the guest's processors stand idle (busy for {ran}), and its agent has not spoken for {own} of its time"
            )
        };
        match self.waited_ms {
            0..1000 => what,
            waited => format!("{what} (the host kept it waiting for {} more)", seconds(waited)),
        }
    }
}

/// Time that the host gave a guest between two looks at its threads, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Between {
    own_ms: u64,
    ran_ms: u64,
    waited_ms: u64,
}

impl Between {
    /// Nothing if that cannot be said, or is nothing at all.
    fn of(last: &HostTimes, now: &HostTimes) -> Option<Self> {
        let elapsed_ms = now.at_ms.saturating_sub(last.at_ms);
        let threads = |times: &HostTimes| [&[times.devices][..], &times.vcpus].concat();
        // A thread that waits for the host's disk or memory is kept waiting as well. One that pages in all
        // the time is rarely seen at it.
        let pages_in =
            threads(now).iter().zip(threads(last)).any(|(now, last)| now.major_faults > last.major_faults);
        if elapsed_ms == 0 || pages_in || threads(now).iter().any(|thread| thread.is_blocked) {
            return None;
        }
        let waited = |now: &ThreadTimes, last: &ThreadTimes| now.waited_ms.saturating_sub(last.waited_ms);
        let ran = |now: &ThreadTimes, last: &ThreadTimes| now.ran_ms.saturating_sub(last.ran_ms);
        // The agent's word takes a processor of the guest's, and then the devices' thread.
        let of_vcpus = now.vcpus.iter().zip(&last.vcpus).map(|(now, last)| waited(now, last)).max();
        let waited_ms = of_vcpus.unwrap_or_default() + waited(&now.devices, &last.devices);
        let own_ms = elapsed_ms.saturating_sub(waited_ms).min(LOOK_MS_MAX);
        let busiest = now.vcpus.iter().zip(&last.vcpus).map(|(now, last)| ran(now, last)).max();
        Some(Between { own_ms, ran_ms: busiest.unwrap_or_default().min(own_ms), waited_ms })
    }
}

/// The guest's own time, look by look, while its agent speaks.
#[derive(Debug, Default)]
pub(crate) struct OwnTime {
    last: Option<HostTimes>,
}

impl OwnTime {
    /// The guest's own time since the last look, milliseconds; nothing at the first.
    pub(crate) fn look(&mut self, now: &HostTimes) -> Option<u64> {
        let last = self.last.replace(now.clone())?;
        Some(Between::of(&last, now).map_or(0, |between| between.own_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::RunState;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn state(name: &str, executes: bool) -> RunState {
        RunState { executes, name: name.into() }
    }

    /// Plays a silence of so many seconds, whose threads at each second are as `times` says; gives what it
    /// comes to and after how many seconds.
    fn play(seconds: u64, times: impl Fn(u64) -> HostTimes) -> Option<(u64, Finding)> {
        let mut silence = Silence::default();
        (1..=seconds * 2).find_map(|half| {
            let at = Duration::from_millis(half * 500);
            match silence.tick(at, at, PATIENCE) {
                Finding::Wait => None,
                Finding::Ask(asks) => {
                    assert_eq!(asks, [Ask::RunState, Ask::Times]);
                    assert_eq!(silence.take(at, &Answer::RunState(state("running", true))), Finding::Wait);
                    let found = silence.take(at, &Answer::Times(times(half / 2)));
                    assert_eq!(found, Finding::Wait);
                    None
                }
                found @ (Finding::Lost { .. } | Finding::HostsFault { .. }) => Some((half / 2, found)),
            }
        })
    }

    fn times(second: u64, vcpus: &[(u64, u64)]) -> HostTimes {
        let thread = |&(ran_ms, waited_ms): &(u64, u64)| ThreadTimes {
            ran_ms: ran_ms * second,
            waited_ms: waited_ms * second,
            ..ThreadTimes::default()
        };
        HostTimes {
            at_ms: second * 1000,
            devices: ThreadTimes::default(),
            vcpus: vcpus.iter().map(thread).collect(),
        }
    }

    /// The guest is lost after so many seconds, and `words` say how.
    fn check_lost(vcpus: &[(u64, u64)], after: u64, words: &str) {
        match play(300, |second| times(second, vcpus)) {
            Some((second, Finding::Lost { seen, .. })) => {
                assert_eq!(second, after, "{seen}");
                assert!(seen.contains(words), "{seen}");
            }
            other => panic!("{vcpus:?}: {other:?}"),
        }
    }

    #[test]
    fn a_guest_that_runs_and_says_nothing_is_lost_within_seconds() {
        check_lost(&[(1000, 0)], 11, "a processor of the guest's runs (8.0 s)");
        check_lost(&[(1000, 0), (3, 0)], 11, "a processor of the guest's runs");
    }

    #[test]
    fn so_is_one_that_has_halted() {
        check_lost(&[(1, 0)], 11, "stand idle (busy for 0.0 s)");
        check_lost(&[(1, 0), (0, 0)], 11, "stand idle");
    }

    #[test]
    fn a_guest_that_starves_has_little_time() {
        // A tenth of a processor.
        check_lost(&[(100, 900)], 83, "(the host kept it waiting for 72.0 s more)");
        assert_eq!(play(600, |second| times(second, &[(10, 990)])), None, "8 s are 800 of ours");
        let blocked = |second| {
            let mut times = times(second, &[(0, 0)]);
            times.vcpus[0].is_blocked = true;
            times
        };
        assert_eq!(play(600, blocked), None, "it waits for the host's disk");
        let paging = |second: u64| {
            let mut times = times(second, &[(10, 0)]);
            times.devices.major_faults = 40 * second;
            times
        };
        assert_eq!(play(600, paging), None, "the host reads its memory from a disk");
    }

    #[test]
    fn a_long_gap_between_two_looks_says_little() {
        let mut silence = Silence::default();
        for (at_s, at_ms) in [(2, 0), (60, 58_000), (120, 118_000)] {
            let at = Duration::from_secs(at_s + 1);
            assert!(matches!(silence.tick(at, at, Duration::from_secs(100)), Finding::Ask(_)));
            silence.take(at, &Answer::Times(HostTimes { at_ms, ..times(0, &[(0, 0)]) }));
        }
        assert_eq!(silence.own_ms, 2 * LOOK_MS_MAX);
    }

    #[test]
    fn a_guest_that_is_stopped_is_not_lost() {
        let mut silence = Silence::default();
        let at = Duration::from_secs(3);
        silence.tick(at, at, PATIENCE);
        let found = silence.take(at, &Answer::RunState(state("io-error", false)));
        assert!(matches!(found, Finding::HostsFault { error } if error.contains("io-error")));
    }

    #[test]
    fn a_qemu_that_answers_nothing_is_the_hosts() {
        let mut silence = Silence::default();
        let found = (3..100).find_map(|second| {
            let at = Duration::from_secs(second);
            match silence.tick(at, at, PATIENCE) {
                Finding::HostsFault { error } => Some((second, error)),
                Finding::Wait | Finding::Ask(_) => None,
                Finding::Lost { seen, .. } => panic!("{seen}"),
            }
        });
        assert_eq!(found.unwrap().0, 24);
    }

    #[test]
    fn a_word_ends_the_silence() {
        let mut silence = Silence::default();
        for second in 3..9 {
            let at = Duration::from_secs(second);
            silence.tick(at, at, PATIENCE);
            silence.take(at, &Answer::Times(times(second, &[(1000, 0)])));
        }
        silence.broken();
        let late = Answer::RunState(state("io-error", false));
        assert_eq!(silence.take(Duration::from_secs(9), &late), Finding::Wait, "asked before it spoke");
        assert_eq!(silence.own_ms, 0);
    }
}
