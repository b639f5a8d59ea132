//! The phases of an attempt. Each owns the data that means something only while it lasts.

use std::time::Duration;

use crate::attempt::interrogation::Interrogation;
use crate::attempt::suspicion::Suspicion;

/// How far an attempt is.
#[derive(Debug)]
pub(super) enum Phase {
    /// The guest boots, or is restored: its agent has not answered the greeting.
    Booting,
    /// The test runs.
    Testing(Testing),
    /// The test hangs, or stands at its end; the guest writes down what it can.
    Diagnosing(Diagnosing),
    /// The guest no longer answers: the host asks it.
    Interrogating(Interrogating),
    /// The guest is stopped, and its memory is written to a file.
    Dumping(Dumping),
    /// The test has ended, and what it left behind cannot be killed: does it stand, or only take long?
    Lingering(Lingering),
    /// The test has ended, or was given up; its files come back.
    Collecting(Collecting),
    /// The guest was asked to power off.
    Ending {
        /// When it was asked.
        since: Duration,
    },
    /// The VM is gone.
    Ended,
}

/// Data of a test that runs.
#[derive(Debug)]
pub(super) struct Testing {
    /// When the test was asked to start.
    pub(super) since: Duration,
    /// When the newest output came, or was counted by the agent.
    pub(super) last_output: Duration,
    /// When the newest sample came; 0 before the first.
    pub(super) last_sample: Duration,
    /// Heartbeats in a row with the sampler in D state.
    pub(super) blind_beats: u32,
    /// A task that may spin in md or dm, and whose stack the processors are asked for.
    pub(super) suspicion: Option<Suspicion>,
    /// The remark was made that samples do not hold all tasks.
    pub(super) is_cut_remarked: bool,
    /// The test's time is over.
    pub(super) is_at_limit: bool,
}

impl Testing {
    /// The test is asked to start.
    pub(super) fn new(at: Duration) -> Self {
        Testing {
            since: at,
            last_output: at,
            last_sample: Duration::ZERO,
            blind_beats: 0,
            suspicion: None,
            is_cut_remarked: false,
            is_at_limit: false,
        }
    }
}

/// A test that was given up while its guest still spoke. It is not killed, and may end by itself after all.
#[derive(Clone, Copy, Debug)]
pub(super) struct GivenUp {
    pub(super) at: Duration,
    /// The test's time was over.
    pub(super) is_at_limit: bool,
}

/// Data of a guest that writes down how its test hangs.
#[derive(Debug)]
pub(super) struct Diagnosing {
    pub(super) since: Duration,
    /// The test, unless it had ended.
    pub(super) given_up: Option<GivenUp>,
}

/// Data of a guest whose files come back.
#[derive(Debug)]
pub(super) struct Collecting {
    pub(super) since: Duration,
    /// When a part of a file last came.
    pub(super) last_file: Duration,
    /// The test, unless it had ended.
    pub(super) given_up: Option<GivenUp>,
}

/// Data of a guest that the host asks.
#[derive(Debug)]
pub(super) struct Interrogating {
    pub(super) interrogation: Interrogation,
    pub(super) why: Why,
}

/// Reason for asking a guest from outside.
#[derive(Debug)]
pub(super) enum Why {
    /// The agent fell silent while the test ran, which goes on if the agent speaks again.
    AgentIsSilent(Testing),
    /// The guest was asked to power off, and did not.
    NoPowerOff {
        /// When it was asked.
        since: Duration,
    },
}

/// Data of a guest whose memory is written.
#[derive(Debug)]
pub(super) struct Dumping {
    pub(super) since: Duration,
    /// The interrogation that went before, if one did.
    pub(super) interrogation: Option<Interrogation>,
}

/// Data of what a test left behind.
#[derive(Debug)]
pub(super) struct Lingering {
    pub(super) since: Duration,
    /// When the newest sample came, or the watch began.
    pub(super) last_sample: Duration,
}

impl Phase {
    /// The test, if it runs, or did until its guest's agent fell silent.
    pub(super) fn test_mut(&mut self) -> Option<&mut Testing> {
        match self {
            Phase::Testing(testing)
            | Phase::Interrogating(Interrogating { why: Why::AgentIsSilent(testing), .. }) => Some(testing),
            Phase::Booting
            | Phase::Diagnosing(_)
            | Phase::Interrogating(_)
            | Phase::Dumping(_)
            | Phase::Lingering(_)
            | Phase::Collecting(_)
            | Phase::Ending { .. }
            | Phase::Ended => None,
        }
    }

    /// Takes the test out of [`Phase::Testing`], for the phase that the caller sets next.
    pub(super) fn take_test(&mut self) -> Option<Testing> {
        match std::mem::replace(self, Phase::Ended) {
            Phase::Testing(testing) => Some(testing),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Takes the note that the test was given up, if there is one: it counts once.
    pub(super) fn take_given_up(&mut self) -> Option<GivenUp> {
        match self {
            Phase::Diagnosing(Diagnosing { given_up, .. })
            | Phase::Collecting(Collecting { given_up, .. }) => given_up.take(),
            Phase::Booting
            | Phase::Testing(_)
            | Phase::Interrogating(_)
            | Phase::Dumping(_)
            | Phase::Lingering(_)
            | Phase::Ending { .. }
            | Phase::Ended => None,
        }
    }

    /// The test's time is over, whatever else has just been found.
    pub(super) fn reach_limit(&mut self) {
        if let Phase::Diagnosing(Diagnosing { given_up: Some(given_up), .. }) = self {
            given_up.is_at_limit = true;
        } else if let Some(testing) = self.test_mut() {
            testing.is_at_limit = true;
        }
    }

    /// The interrogation that is under way, or is over.
    pub(super) fn interrogation(&self) -> Option<&Interrogation> {
        match self {
            Phase::Interrogating(Interrogating { interrogation, .. }) => Some(interrogation),
            Phase::Dumping(Dumping { interrogation, .. }) => interrogation.as_ref(),
            Phase::Booting
            | Phase::Testing(_)
            | Phase::Diagnosing(_)
            | Phase::Lingering(_)
            | Phase::Collecting(_)
            | Phase::Ending { .. }
            | Phase::Ended => None,
        }
    }

    /// The interrogation that is under way, or is over.
    pub(super) fn interrogation_mut(&mut self) -> Option<&mut Interrogation> {
        match self {
            Phase::Interrogating(Interrogating { interrogation, .. }) => Some(interrogation),
            Phase::Dumping(Dumping { interrogation, .. }) => interrogation.as_mut(),
            Phase::Booting
            | Phase::Testing(_)
            | Phase::Diagnosing(_)
            | Phase::Lingering(_)
            | Phase::Collecting(_)
            | Phase::Ending { .. }
            | Phase::Ended => None,
        }
    }

    /// Goes on to [`Phase::Dumping`], with the interrogation if there is one.
    pub(super) fn begin_dump(&mut self, at: Duration) {
        let interrogation = match std::mem::replace(self, Phase::Ended) {
            Phase::Interrogating(Interrogating { interrogation, .. }) => Some(interrogation),
            Phase::Dumping(Dumping { interrogation, .. }) => interrogation,
            Phase::Booting
            | Phase::Testing(_)
            | Phase::Diagnosing(_)
            | Phase::Lingering(_)
            | Phase::Collecting(_)
            | Phase::Ending { .. }
            | Phase::Ended => None,
        };
        *self = Phase::Dumping(Dumping { since: at, interrogation });
    }

    /// Takes a line of the console, which may answer a question that was asked from outside.
    pub(super) fn hear(&mut self, at: Duration, line: &str) {
        if let Some(interrogation) = self.interrogation_mut() {
            interrogation.heard(at, line);
        }
        if let Some(suspicion) = self.test_mut().and_then(|testing| testing.suspicion.as_mut()) {
            suspicion.hear(line);
        }
    }
}
