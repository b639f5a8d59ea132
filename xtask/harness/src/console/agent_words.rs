//! Recognises on the console that the guest agent gave up: an error of the harness, not of the kernel. Pure.
//!
//! Deliberately not here: the format of these lines ([`protocol::last_words`]), and what else may have ended
//! the machine ([`crate::guest::end`]).

use std::time::Duration;

use protocol::last_words::{LastWords, hear};

/// Last words of one guest's agent, as far as the console showed them.
#[derive(Debug)]
pub(crate) struct AgentWords {
    /// Session number with which the agent was greeted.
    session: u64,
    /// The first line of this format, whoever wrote it.
    any: Option<String>,
    /// The first such line with the session number, and its time since the machine started.
    signed: Option<(Duration, String)>,
}

impl AgentWords {
    /// A watch for the agent that was greeted with this session number.
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

    /// Why the agent gave up, if it did. Once the agent was ready, a test may write such lines, too, so only
    /// a line with the session number counts. Before that nobody else writes, and the agent may not know the
    /// number yet.
    pub(crate) fn gave_up(&self, was_ready: bool) -> Option<&str> {
        let signed = self.signed.as_ref().map(|(_, why)| why.as_str());
        if was_ready { signed } else { signed.or(self.any.as_deref()) }
    }

    /// Time of the line with the session number; from then on no agent serves the guest.
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
        // A restored guest keeps the session number of the greeting before its snapshot.
        assert_eq!(heard(&[&say(Some(1), "no port")]).gave_up(false), Some("no port"));
    }
}
