//! Decides which attempt starts when. Pure: is told what is planned, running and finished.
//!
//! Longest first, because a long attempt that starts last keeps one VM busy while all others are idle. The
//! total is then at most 4/3 of the best possible (Graham 1969). Attempts of unknown duration start before
//! all others: they may be long. Deliberately not here: clocks, threads, and the origin of durations.

use std::collections::BTreeMap;

/// An attempt to be scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Number of the attempt.
    pub(crate) attempt: u32,
    /// Expected duration.
    pub(crate) length: Length,
    /// Memory of its VM including QEMU, MiB.
    pub(crate) memory_mib: u64,
    /// Virtual processors of its VM.
    pub(crate) vcpus: u32,
}

/// Expected duration of an attempt with its VM, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// The duration in the history.
    Timed(u64),
    /// No duration is known; this is the limit.
    AtMost(u64),
}

/// Resources that a run may use at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Number of VMs.
    pub(crate) n_vms: usize,
    /// Virtual processors of all VMs together; `None` for no limit, if the user gave the number of VMs.
    pub(crate) vcpus: Option<u32>,
    /// Memory of all VMs together, MiB; `None` for no limit, if the host's memory is unknown.
    pub(crate) memory_mib: Option<u64>,
}

/// The waiting and the running attempts.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    budget: Budget,
    /// Waiting attempts, those to start first at the front.
    waiting: Vec<Waiting>,
    running: BTreeMap<u32, Item>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    item: Item,
    /// Number of later attempts that were started before this one, because it did not fit.
    n_overtaken: usize,
}

impl Item {
    /// Sort key; the smallest starts first.
    fn rank(&self) -> (bool, std::cmp::Reverse<u64>, u32) {
        let (timed, ms) = match self.length {
            Length::AtMost(ms) => (false, ms),
            Length::Timed(ms) => (true, ms),
        };
        (timed, std::cmp::Reverse(ms), self.attempt)
    }
}

impl Schedule {
    /// A schedule in which all attempts wait.
    pub(crate) fn new(budget: Budget, items: impl IntoIterator<Item = Item>) -> Self {
        let mut schedule = Schedule { budget, waiting: Vec::new(), running: BTreeMap::new() };
        for item in items {
            schedule.add(item);
        }
        schedule
    }

    /// Adds a waiting attempt.
    pub(crate) fn add(&mut self, item: Item) {
        let place = self.waiting.partition_point(|waiting| waiting.item.rank() <= item.rank());
        self.waiting.insert(place, Waiting { item, n_overtaken: 0 });
    }

    /// Moves the next attempt from waiting to running and returns it; `None` if none fits or waits.
    pub(crate) fn start(&mut self) -> Option<u32> {
        // An attempt that was overtaken by as many others as there are VMs is not overtaken again: the others
        // wait until it fits.
        let n_considered = self
            .waiting
            .iter()
            .position(|waiting| waiting.n_overtaken >= self.budget.n_vms)
            .map_or(self.waiting.len(), |place| place + 1);
        let place = self.waiting[..n_considered].iter().position(|waiting| self.fits(&waiting.item))?;
        for waiting in &mut self.waiting[..place] {
            waiting.n_overtaken += 1;
        }
        let Waiting { item, .. } = self.waiting.remove(place);
        self.running.insert(item.attempt, item);
        Some(item.attempt)
    }

    /// Removes a finished attempt.
    pub(crate) fn finish(&mut self, attempt: u32) {
        self.running.remove(&attempt);
    }

    /// Forgets all waiting attempts.
    pub(crate) fn stop(&mut self) {
        self.waiting.clear();
    }

    /// True if there is room for one more VM.
    pub(crate) fn has_room(&self) -> bool {
        self.running.len() < self.budget.n_vms
    }

    /// Number of waiting and of running attempts.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.waiting.len(), self.running.len())
    }

    /// True if `item` fits beside the running ones. Alone it always fits: if the host is too small for it,
    /// trying will show that.
    fn fits(&self, item: &Item) -> bool {
        if self.running.is_empty() {
            return true;
        }
        let vcpus = self.running.values().map(|item| item.vcpus).sum::<u32>() + item.vcpus;
        let memory = self.running.values().map(|item| item.memory_mib).sum::<u64>() + item.memory_mib;
        self.has_room()
            && self.budget.vcpus.is_none_or(|most| vcpus <= most)
            && self.budget.memory_mib.is_none_or(|most| memory <= most)
    }

    /// Time until all attempts are finished, milliseconds, ignoring memory; `None` if too few durations are
    /// known. `ran_ms` is the time that a running attempt has taken. Unknown durations count as the average.
    pub(crate) fn left_ms(&self, ran_ms: impl Fn(u32) -> u64) -> Option<u64> {
        let items = || self.running.values().chain(self.waiting.iter().map(|waiting| &waiting.item));
        let timed: Vec<u64> = items()
            .filter_map(|item| match item.length {
                Length::Timed(ms) => Some(ms),
                Length::AtMost(_) => None,
            })
            .collect();
        // Fewer than half known: an estimate would be a guess.
        if timed.is_empty() || timed.len() * 2 < items().count() {
            return None;
        }
        let average = timed.iter().sum::<u64>() / timed.len() as u64;
        let length = |item: &Item| match item.length {
            Length::Timed(ms) => ms,
            Length::AtMost(most) => average.min(most),
        };
        let left = self.running.values().map(|item| length(item).saturating_sub(ran_ms(item.attempt)));
        let waiting = self.waiting.iter().map(|waiting| length(&waiting.item));
        Some(makespan(self.budget.n_vms, left.chain(waiting)))
    }
}

/// Time at which the last of `lengths` ends if each goes to the first free one of `n` VMs, in the unit of
/// `lengths`.
pub(crate) fn makespan(n: usize, lengths: impl IntoIterator<Item = u64>) -> u64 {
    let mut ends = vec![0_u64; n.max(1)];
    for length in lengths {
        if let Some(first) = ends.iter_mut().min() {
            *first = first.saturating_add(length);
        }
    }
    ends.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
