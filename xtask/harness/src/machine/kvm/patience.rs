//! How long a guest that boots under KVM is waited for: by its signs of life. Pure: time comes in as data.
//!
//! Where KVM runs nothing, nothing is ever printed. A KVM inside a VM boots guests in 5 to 25 s, and prints
//! all the while.

use std::time::Duration;

/// A guest whose console is silent for so long is given up: under a KVM that works it answers in about a
/// second.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(20);
/// A guest that goes on printing is given up after this.
pub(super) const BOOT_MAX: Duration = Duration::from_secs(120);

/// Signs of life of a guest that boots. Times are since its start.
#[derive(Debug, Default)]
pub(super) struct Patience {
    last_sign: Duration,
}

impl Patience {
    /// The guest printed something.
    pub(super) fn saw(&mut self, at: Duration) {
        self.last_sign = at;
    }

    /// How much longer the guest is waited for, if it shows no further sign. Zero if it is given up.
    pub(super) fn left(&self, at: Duration) -> Duration {
        (self.last_sign + SILENCE_MAX).min(BOOT_MAX).saturating_sub(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_guest_that_prints_nothing_is_given_up_soon() {
        let patience = Patience::default();
        assert_eq!(patience.left(s(0)), s(20));
        assert_eq!(patience.left(s(19)), s(1));
        assert_eq!(patience.left(s(20)), s(0));
        assert_eq!(patience.left(s(21)), s(0));
    }

    #[test]
    fn a_guest_that_goes_on_printing_has_longer_but_not_for_ever() {
        let mut patience = Patience::default();
        for at in (0..119).step_by(10) {
            assert_ne!(patience.left(s(at)), s(0), "given up at {at} s");
            patience.saw(s(at));
        }
        assert_eq!(patience.left(s(110)), s(10), "its whole time ends before its silence would");
        patience.saw(s(119));
        assert_eq!(patience.left(s(120)), s(0));
    }

    #[test]
    fn a_guest_that_falls_silent_is_given_up() {
        let mut patience = Patience::default();
        patience.saw(s(15));
        assert_eq!(patience.left(s(34)), s(1));
        assert_eq!(patience.left(s(35)), s(0));
    }
}
