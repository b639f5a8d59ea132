//! Which attempt starts when: pure decisions, told what is planned, what runs and what ended.
//!
//! Longest first, because a long one that comes last keeps one VM busy while all others are done: no order by
//! lengths is ever worse than 4/3 of the best possible (Graham 1969). What has never been timed comes before all
//! others: it may be long. Deliberately not here: clocks, threads, and where lengths come from.

use std::collections::BTreeMap;

/// An attempt that wants to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its number.
    pub(crate) attempt: u32,
    /// How long it will take.
    pub(crate) length: Length,
    /// Memory of its VM with what runs it, MiB.
    pub(crate) memory_mib: u64,
    /// Processors of its VM.
    pub(crate) vcpus: u32,
}

/// How long an attempt takes, with its VM, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// As it was timed.
    Timed(u64),
    /// Nobody knows; no longer than this.
    AtMost(u64),
}

/// What may be used at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// VMs.
    pub(crate) n_vms: usize,
    /// Processors of all VMs together; no limit if the user said how many VMs.
    pub(crate) vcpus: Option<u32>,
    /// Memory of all VMs together, MiB; no limit if the host does not say what it has.
    pub(crate) memory_mib: Option<u64>,
}

/// What waits and what runs.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    budget: Budget,
    /// In the order in which they are wanted.
    waiting: Vec<Waiting>,
    running: BTreeMap<u32, Item>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    item: Item,
    /// How many were started that come after it, because it did not fit.
    n_overtaken: usize,
}

impl Item {
    /// Smaller is wanted earlier.
    fn rank(&self) -> (bool, std::cmp::Reverse<u64>, u32) {
        let (timed, ms) = match self.length {
            Length::AtMost(ms) => (false, ms),
            Length::Timed(ms) => (true, ms),
        };
        (timed, std::cmp::Reverse(ms), self.attempt)
    }
}

impl Schedule {
    /// Nothing runs yet.
    pub(crate) fn new(budget: Budget, items: impl IntoIterator<Item = Item>) -> Self {
        let mut schedule = Schedule { budget, waiting: Vec::new(), running: BTreeMap::new() };
        for item in items {
            schedule.add(item);
        }
        schedule
    }

    /// Adds one more.
    pub(crate) fn add(&mut self, item: Item) {
        let place = self.waiting.partition_point(|waiting| waiting.item.rank() <= item.rank());
        self.waiting.insert(place, Waiting { item, n_overtaken: 0 });
    }

    /// The attempt that is to start now, and from now on runs; nothing if none fits, or none waits.
    pub(crate) fn start(&mut self) -> Option<u32> {
        // Who has been overtaken by a whole round of others waits no longer: the VMs run empty for it.
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

    /// An attempt is over.
    pub(crate) fn finish(&mut self, attempt: u32) {
        self.running.remove(&attempt);
    }

    /// Forgets all that waits.
    pub(crate) fn stop(&mut self) {
        self.waiting.clear();
    }

    /// True if one more VM could run, did anything want one.
    pub(crate) fn has_room(&self) -> bool {
        self.running.len() < self.budget.n_vms
    }

    /// How many wait, and how many run.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.waiting.len(), self.running.len())
    }

    /// Who is alone always fits: a test that wants more than there is must be tried to be told so.
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

    /// How long all of it will still take, milliseconds, if memory is no matter; nothing if too little is known.
    /// `ran_ms` says how long a running one has been at it. One that was never timed counts as the average.
    pub(crate) fn left_ms(&self, ran_ms: impl Fn(u32) -> u64) -> Option<u64> {
        let items = || self.running.values().chain(self.waiting.iter().map(|waiting| &waiting.item));
        let timed: Vec<u64> = items()
            .filter_map(|item| match item.length {
                Length::Timed(ms) => Some(ms),
                Length::AtMost(_) => None,
            })
            .collect();
        // Most must be known, or the number would be made up.
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

/// When the last of `lengths` is over, each given to the first of `n` that is free.
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
