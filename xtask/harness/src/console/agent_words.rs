//! Hears the guest agent give up on the console: the harness's fault, not the kernel's. Pure.
//!
//! Deliberately not here: how it says so ([`protocol::last_words`]), and what else may have ended the machine
//! ([`crate::guest::end`]).

use std::time::Duration;

use protocol::last_words::{LastWords, hear};

/// What the agent of one guest was heard to say.
#[derive(Debug)]
pub(crate) struct AgentWords {
    /// The number that this guest is greeted with.
    session: u64,
    /// The first such line, whoever wrote it.
    any: Option<String>,
    /// The first that bears the number, and when it came.
    signed: Option<(Duration, String)>,
}

impl AgentWords {
    /// Of a guest that is greeted with this number.
    pub(crate) fn new(session: u64) -> Self {
        AgentWords { session, any: None, signed: None }
    }

    /// Looks at one console line.
    pub(crate) fn look(&mut self, at: Duration, line: &str) {
        let Some(LastWords { session, why }) = hear(line) else { return };
        self.any.get_or_insert_with(|| why.to_owned());
        if session == Some(self.session) {
            self.signed.get_or_insert_with(|| (at, why.to_owned()));
        }
    }

    /// Why the agent gave up, if it did. Once it was ready, a test may run, and only signed words are its own; before,
    /// nobody else speaks, and it may not know the number yet.
    pub(crate) fn gave_up(&self, was_ready: bool) -> Option<&str> {
        let signed = self.signed.as_ref().map(|(_, why)| why.as_str());
        if was_ready { signed } else { signed.or(self.any.as_deref()) }
    }

    /// When its signed words came, if they did: from then on nobody serves the guest.
    pub(crate) fn gone_since(&self) -> Option<Duration> {
        self.signed.as_ref().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use protocol::last_words::say;

    use super::*;

    fn heard(lines: &[&str]) -> AgentWords {
        let mut words = AgentWords::new(7);
        lines.iter().for_each(|line| words.look(Duration::from_secs(1), line));
        words
    }

    #[test]
    fn the_agents_last_words_are_its_own() {
        let words = heard(&["md-regress-agent: FATAL: no disk mdr-root"]);
        assert_eq!((words.gave_up(false), words.gave_up(true)), (Some("no disk mdr-root"), None));
        assert_eq!(heard(&["[  1.0] md-regress-agent: FATAL: forged by a test"]).gave_up(false), None);
    }

    #[test]
    fn once_it_was_ready_only_signed_words_count() {
        let forged = ["md-regress-agent: FATAL: forged", &say(Some(8), "with another number")];
        assert_eq!(heard(&forged).gave_up(true), None);
        let own = say(Some(7), "out of memory");
        let words = heard(&[forged[0], forged[1], &own]);
        assert_eq!(
            (words.gave_up(true), words.gone_since()),
            (Some("out of memory"), Some(Duration::from_secs(1)))
        );
        // A restored guest has the number of the greeting that it was saved after.
        assert_eq!(heard(&[&say(Some(1), "no port")]).gave_up(false), Some("no port"));
    }
}
