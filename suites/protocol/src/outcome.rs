//! The outcome of one attempt at a test: facts, not judgement.

use serde::{Deserialize, Serialize};

/// The outcome of one attempt. Whether it is good or bad, expected or news, is a verdict,
/// and is derived later (`reports::judge`), from the same events as often as one likes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The test said that it passed.
    Pass,
    /// The test said that it failed.
    Fail {
        /// How it ended, in words: `exit status 1`, `killed by signal 6`.
        how: String,
    },
    /// The test said that it could not run here.
    Skip {
        /// The test's own words, or why the harness did not start it.
        reason: String,
    },
    /// The test passed and warned about something (lvm2's `TEST WARNING`).
    Warn {
        /// The first warning.
        warning: String,
    },
    /// The test was still making noise when its time limit ended.
    Timeout {
        /// The limit that it reached, `test_timeout`, milliseconds.
        limit_ms: u64,
    },
    /// The test, or the whole guest, stopped moving.
    Hang {
        /// Which signal was missing.
        kind: HangKind,
        /// For how long it had been missing, milliseconds.
        silent_ms: u64,
        /// The host's view of the hang, in words, where that says more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<String>,
    },
    /// The kernel panicked, or the machine was reset or went away by the guest's doing.
    KernelCrash {
        /// The line that names the crash, or how the machine ended.
        title: String,
    },
    /// Data that was read is not the data that was written.
    DataCorruption {
        /// The line that names it.
        title: String,
    },
    /// The user, or a signal, ended the run.
    Interrupted,
    /// The harness or the host failed; nothing is known about the kernel or the test.
    Infra {
        /// The failure, in words.
        error: String,
    },
}

/// Which sign of life was missing when a hang was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HangKind {
    /// The test printed nothing for `silence_timeout`.
    NoOutput,
    /// Tasks sit in the same stack in D state and nothing moves.
    NoProgress,
    /// The guest agent no longer answers.
    HeartbeatLost,
    /// The kernel's own hung-task detector spoke.
    HungTask,
    /// A resync, recovery or reshape is running and does not advance.
    SyncStalled,
    /// Kernel time is spent in md or dm frames and nothing moves.
    Livelock,
}

impl Outcome {
    /// Its name in files, `kernel-crash`.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Fail { .. } => "fail",
            Outcome::Skip { .. } => "skip",
            Outcome::Warn { .. } => "warn",
            Outcome::Timeout { .. } => "timeout",
            Outcome::Hang { .. } => "hang",
            Outcome::KernelCrash { .. } => "kernel-crash",
            Outcome::DataCorruption { .. } => "data-corruption",
            Outcome::Interrupted => "interrupted",
            Outcome::Infra { .. } => "infra",
        }
    }

    /// One short line for people, without the outcome's own name.
    pub fn detail(&self) -> String {
        match self {
            Outcome::Pass | Outcome::Interrupted => String::new(),
            Outcome::Fail { how } => how.clone(),
            Outcome::Skip { reason } => reason.clone(),
            Outcome::Warn { warning } => warning.clone(),
            Outcome::Timeout { limit_ms } => {
                format!("still running after its limit of {} s", limit_ms / 1000)
            }
            Outcome::Hang { kind, silent_ms, seen } => {
                let what = match kind {
                    HangKind::NoOutput => "no output",
                    HangKind::NoProgress => "no progress",
                    HangKind::HeartbeatLost => "no heartbeat from the guest",
                    HangKind::HungTask => "the kernel reports a hung task",
                    HangKind::SyncStalled => "the sync thread does not advance",
                    HangKind::Livelock => "livelock in md/dm",
                };
                let seen = seen.as_ref().map(|seen| format!(": {seen}")).unwrap_or_default();
                format!("{what} for {} s{seen}", silent_ms / 1000)
            }
            Outcome::KernelCrash { title } | Outcome::DataCorruption { title } => title.clone(),
            Outcome::Infra { error } => error.clone(),
        }
    }
}
