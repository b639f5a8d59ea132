//! Decides between a panic and a test that only prints one's words. Pure: times are data.
//!
//! A report of the hypervisor (pvpanic) is final. Words on the console count as a panic unless the guest
//! shows later that it is alive: its agent speaks, or it powers off as requested.

use std::time::Duration;

/// Time after a panic in which messages that the agent sent before it may still arrive.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The knowledge about a panic so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PanicWatch {
    hypervisor: Option<Duration>,
    console: Option<Duration>,
    /// True if the console showed words of a panic that was none.
    cried: bool,
}

impl PanicWatch {
    /// Notes that the console shows words of a panic.
    pub(crate) fn console_says(&mut self, at: Duration) {
        if !self.cried {
            self.console.get_or_insert(at);
        }
    }

    /// Notes that the hypervisor reports a panic.
    pub(crate) fn hypervisor_says(&mut self, at: Duration) {
        self.hypervisor.get_or_insert(at);
    }

    /// Notes that the agent spoke; after a panic it cannot.
    pub(crate) fn agent_spoke(&mut self, at: Duration) {
        if self.console.is_some_and(|since| at > since + LAST_WORDS) {
            self.lives();
        }
    }

    /// Notes that the guest powered off as requested.
    pub(crate) fn ended_as_asked(&mut self) {
        self.lives();
    }

    /// Time of the panic, if there was one.
    pub(crate) fn since(&self) -> Option<Duration> {
        self.hypervisor.or(self.console)
    }

    fn lives(&mut self) {
        if self.console.take().is_some() {
            self.cried = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn words_alone_are_no_panic_once_the_guest_lives() {
        let mut watch = PanicWatch::default();
        watch.console_says(S(5));
        watch.agent_spoke(S(6));
        assert_eq!(watch.since(), Some(S(5)), "it may have been on its way");
        watch.agent_spoke(S(9));
        assert_eq!(watch.since(), None);
        watch.console_says(S(20));
        assert_eq!(watch.since(), None, "who cried once is not heard again");
        let mut watch = PanicWatch::default();
        watch.console_says(S(5));
        watch.ended_as_asked();
        assert_eq!(watch.since(), None);
    }

    #[test]
    fn the_hypervisors_word_stands() {
        let mut watch = PanicWatch::default();
        watch.console_says(S(5));
        watch.hypervisor_says(S(5));
        watch.agent_spoke(S(60));
        watch.ended_as_asked();
        assert_eq!(watch.since(), Some(S(5)));
    }
}
