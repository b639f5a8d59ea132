//! What an attempt really came to: what the test says, unless the kernel's log, or what the test left behind,
//! says worse.
//!
//! Pure. The outcome that is recorded is a fact, of the test or of the harness that ended it. Here it is put
//! beside the others: a script's exit 0 over an oops is a crash, over a task that nobody can kill a hang.
//! Verdicts, expectations, signatures and known issues all go by what comes out here. Deliberately not here:
//! whether somebody expected it.

use protocol::event::AttemptFacts;
use protocol::evidence::{KernelReport, TaskStack};
use protocol::wire::Survivor;
use protocol::{HangKind, Outcome};

use crate::faults::{Severity, most_telling};
use crate::judge::signature::telling_frames;

/// How long a task must have stood in D state, in md or dm, for a test that reached its limit of time to be
/// hung and not busy, milliseconds. Longer than any window in which a hang is called at once.
const STOOD_MS: u64 = 60_000;

/// For how long what is unkillable had been waited for at least, milliseconds.
const KILL_WAIT_MS: u64 = 2000;

/// Survivors that are named at most.
const MAX_NAMED: usize = 6;

/// Observations beside the outcome that the test or the harness recorded.
pub(crate) struct Observations<'a> {
    /// Measured, and left behind.
    pub(crate) facts: &'a AttemptFacts,
    /// Where tasks stood, if anybody was asked.
    pub(crate) stacks: &'a [TaskStack],
    /// Kernel reports that nobody allows, and how bad each is.
    pub(crate) reports: &'a [(&'a KernelReport, Severity)],
}

/// The outcome that an attempt really came to: the recorded one, or a worse one that was seen.
pub(crate) fn came_to(outcome: &Outcome, observed: &Observations<'_>) -> Outcome {
    let crash = || observed.gravest(Severity::Crash).map(|title| Outcome::KernelCrash { title });
    let hang = || observed.left_behind();
    let corruption = || observed.gravest(Severity::Corruption).map(|title| Outcome::DataCorruption { title });
    let failure = || observed.gravest(Severity::Failure).map(|how| Outcome::Fail { how });
    let worse = match outcome {
        Outcome::Interrupted | Outcome::KernelCrash { .. } => None,
        // After an oops, what hangs or reads rubbish is its consequence.
        Outcome::Hang { .. } | Outcome::DataCorruption { .. } => crash(),
        // A host that failed meanwhile changes nothing of what the kernel said.
        Outcome::Infra { .. } => crash().or_else(corruption).or_else(failure),
        Outcome::Timeout { .. } => {
            let stood = || if observed.facts.looked_at_limit { None } else { observed.stood(outcome) };
            crash().or_else(stood).or_else(hang).or_else(corruption)
        }
        Outcome::Fail { .. } => crash().or_else(hang).or_else(corruption),
        Outcome::Pass | Outcome::Warn { .. } | Outcome::Skip { .. } => {
            crash().or_else(hang).or_else(corruption).or_else(failure)
        }
    };
    worse.unwrap_or_else(|| outcome.clone())
}

/// The test's own result in words, for one that came to something worse; empty if it had none.
pub(crate) fn own_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Pass => "the test itself passed".to_owned(),
        Outcome::Warn { warning } => format!("the test itself passed, and warned: {warning}"),
        Outcome::Skip { reason } => format!("the test itself skipped: {reason}"),
        Outcome::Fail { .. }
        | Outcome::Timeout { .. }
        | Outcome::Hang { .. }
        | Outcome::KernelCrash { .. }
        | Outcome::DataCorruption { .. }
        | Outcome::Infra { .. } => outcome.detail(),
        Outcome::Interrupted => String::new(),
    }
}

impl Observations<'_> {
    /// Title of the gravest report of this severity, the first of these.
    fn gravest(&self, severity: Severity) -> Option<String> {
        let of_severity = self.reports.iter().filter(|(_, its)| *its == severity).map(|(report, _)| *report);
        most_telling(of_severity).map(|report| report.title.clone())
    }

    /// Processes of the test's that outlived it, were killed, and stand all the same.
    fn left_behind(&self) -> Option<Outcome> {
        let standing: Vec<&Survivor> = self.facts.survivors.iter().filter(|one| one.unkillable).collect();
        if standing.is_empty() {
            return None;
        }
        let still_ms = |one: &&Survivor| {
            self.stacks.iter().find(|stack| stack.pid == one.pid).map_or(KILL_WAIT_MS, |stack| stack.still_ms)
        };
        let silent_ms = standing.iter().map(still_ms).max().unwrap_or(KILL_WAIT_MS).max(KILL_WAIT_MS);
        let name = |one: &&Survivor| match one.comm.as_str() {
            "" => format!("pid {}", one.pid),
            comm => format!("{comm} (pid {})", one.pid),
        };
        let mut names: Vec<_> = standing.iter().take(MAX_NAMED).map(name).collect();
        if standing.len() > MAX_NAMED {
            names.push(format!("{} more", standing.len() - MAX_NAMED));
        }
        let seen = Some(format!("the test left behind what cannot be killed: {}", names.join(", ")));
        Some(Outcome::Hang { kind: HangKind::NoProgress, silent_ms, seen })
    }

    /// A test that reached its limit while one of its tasks, or a thread of md's or dm's, stood in md or dm;
    /// in records of a time when nobody asked that at once, with all that the guest told.
    fn stood(&self, outcome: &Outcome) -> Option<Outcome> {
        let stood = self
            .stacks
            .iter()
            .filter(|stack| stack.state == 'D' && stack.still_ms >= STOOD_MS)
            .filter(|stack| !telling_frames(&stack.frames).is_empty())
            .max_by_key(|stack| (stack.of_test, stack.still_ms))?;
        let seen = Some(format!("{}; {} stood in md or dm all that time", outcome.detail(), stood.comm));
        Some(Outcome::Hang { kind: HangKind::NoProgress, silent_ms: stood.still_ms, seen })
    }
}

#[cfg(test)]
#[path = "came_to_tests.rs"]
mod tests;
