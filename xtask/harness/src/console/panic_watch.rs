//! Tells a panic from a test that only writes of one. Pure: times are data.
//!
//! The hypervisor's word (pvpanic) stands. Words on the console are taken for a panic until the guest shows
//! that it lives: its agent speaks long after them, or it powers off as it was asked to.

use std::time::Duration;

/// After a panic, a word of the agent may still be on its way for so long.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What is known of a panic.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PanicWatch {
    hypervisor: Option<Duration>,
    console: Option<Duration>,
    /// The console spoke of a panic that was none.
    cried: bool,
}

impl PanicWatch {
    /// The console speaks of a panic.
    pub(crate) fn console_says(&mut self, at: Duration) {
        if !self.cried {
            self.console.get_or_insert(at);
        }
    }

    /// The hypervisor reports one.
    pub(crate) fn hypervisor_says(&mut self, at: Duration) {
        self.hypervisor.get_or_insert(at);
    }

    /// The agent spoke: a kernel that panicked lets nobody speak.
    pub(crate) fn agent_spoke(&mut self, at: Duration) {
        if self.console.is_some_and(|since| at > since + LAST_WORDS) {
            self.lives();
        }
    }

    /// The guest powered off, as it was asked to.
    pub(crate) fn ended_as_asked(&mut self) {
        self.lives();
    }

    /// When it panicked, if it did.
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
