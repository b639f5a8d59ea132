//! The share of the last half minute that was a guest's own. Pure.
//!
//! The kernel's watchdogs measure time by clocks that go on while the host lets other processes run: a guest
//! that starves reports lockups and stalls that are the host's doing. Deliberately not here: how the guest's
//! own time is measured ([`super::heartbeat`]).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use protocol::evidence::ReportKind;

/// Time that is looked back: as long as the shortest of the kernel's watchdogs takes (20 s for a soft lockup,
/// twice `watchdog_thresh`; 21 s for an RCU stall), and some.
const WINDOW: Duration = Duration::from_secs(30);
/// Shortest time of which the share can be said.
const KNOWN_MIN: Duration = Duration::from_secs(5);
/// Age at which the newest look no longer says anything of now.
const LOOK_COUNTS_FOR: Duration = Duration::from_secs(10);
/// Longest time from a stall's first line to its last: the stacks of all processors come slowly over a serial
/// line, and the rest of the log may have to come first.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// Share of the time looked back below which the guest starved, percent.
const OWN_PERCENT: u128 = 50;

/// Looks of the last half minute: when, and the guest's own time since the look before, milliseconds.
#[derive(Debug, Default)]
pub(crate) struct OwnShare {
    looks: VecDeque<(Duration, u64)>,
    /// By kind, when a stall was last begun to be told, and whether the guest starved whenever one was.
    begun: BTreeMap<ReportKind, (Duration, bool)>,
}

impl OwnShare {
    /// The host says how much of the time since the last look was the guest's own.
    pub(crate) fn look(&mut self, at: Duration, own_ms: u64) {
        self.looks.push_back((at, own_ms));
        while self.looks.front().is_some_and(|(then, _)| *then + WINDOW < at) {
            self.looks.pop_front();
        }
    }

    /// The first line of a report of this kind came. What the watchdog measured lies before it, not before
    /// the last.
    pub(crate) fn begins(&mut self, at: Duration, kind: ReportKind) {
        if !kind.is_a_stall() {
            return;
        }
        // Which of several is told when they are complete, nobody knows: the one that had its time counts.
        let before = self.told_since(at, kind).unwrap_or(true);
        let starved = before && self.was_starved(at);
        self.begun.insert(kind, (at, starved));
    }

    /// True if a report that is complete at `at` is a stall that the host may have caused.
    pub(crate) fn explains(&self, at: Duration, kind: ReportKind) -> bool {
        kind.is_a_stall() && self.told_since(at, kind).unwrap_or_else(|| self.was_starved(at))
    }

    fn told_since(&self, at: Duration, kind: ReportKind) -> Option<bool> {
        self.begun.get(&kind).filter(|(then, _)| at <= *then + TOLD_WITHIN).map(|(_, starved)| *starved)
    }

    /// True if the host kept the guest waiting most of the time before `at`, as far as that is known.
    fn was_starved(&self, at: Duration) -> bool {
        // The time that the first look counts for began before it.
        let (Some((begun, _)), Some((newest, _))) = (self.looks.front(), self.looks.back()) else {
            return false;
        };
        let known = newest.saturating_sub(*begun);
        if at > *newest + LOOK_COUNTS_FOR {
            return false;
        }
        let own_ms: u64 = self.looks.iter().skip(1).map(|(_, own_ms)| *own_ms).sum();
        known >= KNOWN_MIN && u128::from(own_ms) * 100 < known.as_millis() * OWN_PERCENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second, of which so many milliseconds are the guest's own, for so many seconds.
    fn after(seconds: u64, own_ms: u64) -> bool {
        let mut share = OwnShare::default();
        (0..=seconds).for_each(|second| share.look(Duration::from_secs(second), own_ms));
        share.was_starved(Duration::from_secs(seconds))
    }

    #[test]
    fn a_guest_that_waits_for_the_host_most_of_the_time_starves() {
        assert!(after(60, 300));
        assert!(!after(60, 700));
        assert!(!after(60, 1000));
        assert!(!after(3, 0), "too little is known");
        assert!(!OwnShare::default().was_starved(Duration::from_secs(60)));
    }

    #[test]
    fn a_stall_is_judged_by_the_time_before_its_first_line() {
        let at = Duration::from_secs;
        let (kind, other) = (ReportKind::RcuStall, ReportKind::Lockup);
        let mut share = OwnShare::default();
        (0..40).for_each(|second| share.look(at(second), 100));
        share.begins(at(40), kind);
        share.begins(at(40), ReportKind::Oops);
        (40..75).for_each(|second| share.look(at(second), 1000));
        assert!(share.explains(at(75), kind) && !share.explains(at(75), other));
        assert!(!share.explains(at(75), ReportKind::Oops), "no time makes a fault");
        // It had its time, and starved while it told of it.
        share.begins(at(75), other);
        (75..110).for_each(|second| share.look(at(second), 100));
        assert!(!share.explains(at(110), other));
        // One more begins before that is told: it may be the first that is.
        share.begins(at(110), other);
        assert!(!share.explains(at(111), other));
        // Nothing of it was heard for long: what is known is now.
        (110..240).for_each(|second| share.look(at(second), 100));
        assert!(share.explains(at(240), other));
    }

    #[test]
    fn what_is_long_past_does_not_count() {
        let mut share = OwnShare::default();
        (0..60).for_each(|second| share.look(Duration::from_secs(second), 0));
        (60..100).for_each(|second| share.look(Duration::from_secs(second), 1000));
        assert!(!share.was_starved(Duration::from_secs(100)));
        assert!(!share.was_starved(Duration::from_secs(200)), "nobody has looked for long");
        // A host that is too busy to look: a look is worth three seconds at most.
        (0..4).for_each(|n| share.look(Duration::from_secs(200 + n * 9), 3000));
        assert!(share.was_starved(Duration::from_secs(228)));
    }
}
