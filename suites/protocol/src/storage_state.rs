//! How md and dm stood when a test got no further: the first thing that a maintainer asks for, beside stacks.
//!
//! Facts as the kernel gives them. Bounded in number and length, because a guest sends them
//! ([`StorageState::bounded`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Lines, arrays and targets of a kind at most; the files that come back have all.
pub const LINES_MAX: usize = 40;
/// Arrays at most.
pub const ARRAYS_MAX: usize = 16;
/// Characters of a line at most.
pub const LINE_MAX: usize = 240;
/// Bytes of all of it at most, so that it fits a message.
pub const TEXT_MAX: usize = 40_000;

/// md and dm as they stood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageState {
    /// Lines of `/proc/mdstat`. Arrays of dm-raid are not in it.
    pub mdstat: Vec<String>,
    /// Arrays of md, by `/sys/block/mdX/md`.
    pub arrays: Vec<ArrayState>,
    /// Targets of dm that tell how an array is: raid, integrity and the like.
    pub targets: Vec<TargetState>,
    /// Names of dm devices that are suspended.
    pub suspended: Vec<String>,
    /// Block devices with requests that have not come back.
    pub in_flight: Vec<InFlight>,
    /// Held locks, as lockdep lists them, where the kernel has it.
    pub held_locks: Vec<String>,
    /// Questions that the kernel did not answer: they wait, too.
    pub unanswered: Vec<Unanswered>,
    /// Lines, arrays and devices that were left out.
    pub n_left_out: u32,
}

/// An array of md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayState {
    /// `md0`.
    pub name: String,
    /// Attribute → value: `sync_action` → `frozen`. An attribute that could not be read is not here.
    pub attributes: BTreeMap<String, String>,
}

/// A target of a dm device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetState {
    /// Name of the device.
    pub device: String,
    /// Its line of `dmsetup table`; empty if there was no answer.
    pub table: String,
    /// Its line of `dmsetup status --noflush`; empty if there was no answer.
    pub status: String,
}

/// A block device with IO that has not come back (`/sys/block/NAME/inflight`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// `dm-12`, and its name if it is of dm: `dm-12 vg-lv_rimage_0`.
    pub device: String,
    /// Reads.
    pub n_reads: u64,
    /// Writes, discards and flushes.
    pub n_writes: u64,
}

/// A question that was not answered in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// `dmsetup status --noflush`, `/sys/block/md0/md`.
    pub what: String,
    /// How long it was waited for, milliseconds.
    pub waited_ms: u64,
    /// State letter of the process that asked, as in `/proc/PID/stat`: `D` waits, `R` is slow.
    pub state: char,
    /// Where it waits, innermost first.
    pub frames: Vec<String>,
}

impl StorageState {
    /// True if there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == StorageState::default()
    }

    /// This state, cut to the limits and without control characters.
    pub fn bounded(self) -> StorageState {
        let mut room = Room { left: TEXT_MAX, n_left_out: self.n_left_out };
        // The most telling parts come first, so that they are cut last.
        let unanswered = room.keep(self.unanswered, LINES_MAX, |unanswered, room| {
            let frames = room.lines(unanswered.frames, crate::sample::FRAMES_MAX);
            Unanswered { what: room.line(&unanswered.what), frames, ..unanswered }
        });
        let targets = room.keep(self.targets, LINES_MAX, |target, room| TargetState {
            device: room.line(&target.device),
            table: room.line(&target.table),
            status: room.line(&target.status),
        });
        let arrays = room.keep(self.arrays, ARRAYS_MAX, |array, room| ArrayState {
            name: room.line(&array.name),
            attributes: room.attributes(array.attributes),
        });
        let suspended = room.lines(self.suspended, LINES_MAX);
        let in_flight = room.keep(self.in_flight, LINES_MAX, |device, room| InFlight {
            device: room.line(&device.device),
            ..device
        });
        let mdstat = room.lines(self.mdstat, LINES_MAX);
        let held_locks = room.lines(self.held_locks, LINES_MAX);
        let n_left_out = room.n_left_out;
        StorageState { mdstat, arrays, targets, suspended, in_flight, held_locks, unanswered, n_left_out }
    }
}

/// Room that is left within the limits.
struct Room {
    left: usize,
    n_left_out: u32,
}

impl Room {
    fn keep<T>(&mut self, all: Vec<T>, max: usize, keep: impl Fn(T, &mut Room) -> T) -> Vec<T> {
        let n = all.len();
        let mut kept = Vec::new();
        for one in all.into_iter().take(max) {
            if self.left == 0 {
                break;
            }
            kept.push(keep(one, self));
        }
        let n_left_out = u32::try_from(n - kept.len()).unwrap_or(u32::MAX);
        self.n_left_out = self.n_left_out.saturating_add(n_left_out);
        kept
    }

    fn lines(&mut self, all: Vec<String>, max: usize) -> Vec<String> {
        self.keep(all, max, |line, room| room.line(&line))
    }

    fn attributes(&mut self, all: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let all: Vec<_> = all.into_iter().collect();
        let kept = self.keep(all, LINES_MAX, |(name, value), room| (room.line(&name), room.line(&value)));
        kept.into_iter().collect()
    }

    fn line(&mut self, line: &str) -> String {
        let chars = line.chars().filter(|c| !c.is_control()).take(LINE_MAX);
        chars
            .take_while(|c| {
                // A quote takes two in JSON.
                let left = self.left.checked_sub(c.len_utf8().max(2));
                self.left = left.unwrap_or(0);
                left.is_some()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode;
    use proptest::prelude::*;

    fn any_state() -> impl Strategy<Value = StorageState> {
        let line = || prop_oneof![9 => ".{0,40}", 1 => "[\"\\\\é]{300,400}"];
        let lines = || proptest::collection::vec(line(), 0..60);
        let target = (line(), line(), line()).prop_map(|(device, table, status)| TargetState {
            device,
            table,
            status,
        });
        let array = (line(), proptest::collection::btree_map(line(), line(), 0..50))
            .prop_map(|(name, attributes)| ArrayState { name, attributes });
        let device = (line(), any::<u64>(), any::<u64>()).prop_map(|(device, n_reads, n_writes)| InFlight {
            device,
            n_reads,
            n_writes,
        });
        let unanswered = (line(), any::<u64>(), any::<char>(), lines())
            .prop_map(|(what, waited_ms, state, frames)| Unanswered { what, waited_ms, state, frames });
        let lists = (
            proptest::collection::vec(array, 0..20),
            proptest::collection::vec(target, 0..50),
            proptest::collection::vec(device, 0..50),
            proptest::collection::vec(unanswered, 0..50),
        );
        (lines(), lines(), lines(), any::<u32>(), lists).prop_map(
            |(mdstat, suspended, held_locks, n_left_out, (arrays, targets, in_flight, unanswered))| {
                StorageState {
                    mdstat,
                    arrays,
                    targets,
                    suspended,
                    in_flight,
                    held_locks,
                    unanswered,
                    n_left_out,
                }
            },
        )
    }

    proptest! {
        /// `encode` panics on what does not fit.
        #[test]
        fn whatever_is_bounded_fits_a_message(state in any_state()) {
            let bounded = state.bounded();
            encode(&bounded);
            prop_assert_eq!(bounded.clone().bounded(), bounded);
        }
    }

    #[test]
    fn what_fits_is_kept_and_the_rest_is_counted() {
        let state = StorageState {
            mdstat: vec!["unused devices: <none>".to_owned()],
            suspended: (0..50).map(|n| format!("pv{n}")).collect(),
            ..StorageState::default()
        };
        let bounded = state.clone().bounded();
        assert_eq!(bounded.mdstat, state.mdstat);
        assert_eq!((bounded.suspended.len(), bounded.n_left_out), (LINES_MAX, 10));
        assert!(StorageState::default().bounded().is_empty());
    }
}
