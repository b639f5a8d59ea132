//! Tests of the schedule with arbitrary attempts and hosts: invariants, and how good the schedules are.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn timed(attempt: u32, ms: u64) -> Item {
    Item { attempt, length: Length::Timed(ms), memory_mib: 1, vcpus: 1 }
}

fn vms(n_vms: usize) -> Budget {
    Budget { n_vms, vcpus: None, memory_mib: None }
}

/// Observations while a schedule was carried out.
#[derive(Debug, Default)]
struct Played {
    /// Attempts in the order of their starts, with the time.
    starts: Vec<(u32, u64)>,
    end: u64,
}

/// Carries out a schedule in which each attempt takes as long as `lengths` says.
fn play(mut schedule: Schedule, lengths: &BTreeMap<u32, u64>, mut look: impl FnMut(&Schedule)) -> Played {
    let mut played = Played::default();
    let mut ends: BTreeSet<(u64, u32)> = BTreeSet::new();
    loop {
        while let Some(attempt) = schedule.start() {
            played.starts.push((attempt, played.end));
            ends.insert((played.end + lengths[&attempt], attempt));
            look(&schedule);
        }
        let Some((at, attempt)) = ends.pop_first() else { return played };
        played.end = at;
        schedule.finish(attempt);
    }
}

/// The shortest possible total, by trying all assignments.
fn best(n: usize, lengths: &[u64]) -> u64 {
    fn go(ends: &mut Vec<u64>, lengths: &[u64], best: &mut u64) {
        let Some((length, rest)) = lengths.split_first() else {
            *best = (*best).min(ends.iter().copied().max().unwrap_or(0));
            return;
        };
        for idx in 0..ends.len() {
            ends[idx] += length;
            if ends[idx] < *best {
                go(ends, rest, best);
            }
            ends[idx] -= length;
        }
    }
    let mut least = u64::MAX;
    go(&mut vec![0; n], lengths, &mut least);
    least
}

fn any_item() -> impl Strategy<Value = (bool, u64, u64, u32)> {
    (any::<bool>(), 0..1000_u64, 1..5000_u64, 1..5_u32)
}

fn items(parts: &[(bool, u64, u64, u32)]) -> Vec<Item> {
    (1..)
        .zip(parts)
        .map(|(attempt, &(known, ms, memory_mib, vcpus))| {
            let length = if known { Length::Timed(ms) } else { Length::AtMost(ms) };
            Item { attempt, length, memory_mib, vcpus }
        })
        .collect()
}

proptest! {
    #[test]
    fn all_run_once_within_the_budget_and_none_starves(
        parts in proptest::collection::vec(any_item(), 0..30),
        real in proptest::collection::vec(0..1000_u64, 30),
        n_vms in 1..6_usize,
        vcpus in proptest::option::of(1..8_u32),
        memory_mib in proptest::option::of(1..12_000_u64),
    ) {
        let items = items(&parts);
        let budget = Budget { n_vms, vcpus, memory_mib };
        // The real durations have nothing to do with the expected ones.
        let lengths = items.iter().zip(&real).map(|(item, &ms)| (item.attempt, ms)).collect();
        let played = play(Schedule::new(budget, items.clone()), &lengths, |schedule| {
            let running: Vec<_> = schedule.running.values().collect();
            assert!(running.len() <= n_vms);
            if running.len() > 1 {
                assert!(vcpus.is_none_or(|most| running.iter().map(|item| item.vcpus).sum::<u32>() <= most));
                let memory = running.iter().map(|item| item.memory_mib).sum::<u64>();
                assert!(memory_mib.is_none_or(|most| memory <= most));
            }
        });
        let order: Vec<u32> = played.starts.iter().map(|(attempt, _)| *attempt).collect();
        prop_assert_eq!(order.iter().copied().collect::<BTreeSet<_>>().len(), items.len());
        prop_assert_eq!(order.len(), items.len());
        // The later attempts that overtake one take no more than the budget's number of VMs.
        let mut wanted = items.clone();
        wanted.sort_by_key(Item::rank);
        for (place, item) in wanted.iter().enumerate() {
            let started = order.iter().position(|attempt| *attempt == item.attempt).unwrap();
            let later: BTreeSet<_> = wanted[place + 1..].iter().map(|item| item.attempt).collect();
            let n_overtaken = order[..started].iter().filter(|attempt| later.contains(attempt)).count();
            prop_assert!(n_overtaken <= n_vms, "{} overtook {}", n_overtaken, item.attempt);
        }
    }

    /// Graham's bound for known durations: 4/3 − 1/(3n).
    #[test]
    fn longest_first_is_within_a_third_of_the_best(
        lengths in proptest::collection::vec(1..60_u64, 1..9),
        n_vms in 1..4_usize,
    ) {
        let items: Vec<_> = (1..).zip(&lengths).map(|(attempt, &ms)| timed(attempt, ms)).collect();
        let by_number = items.iter().zip(&lengths).map(|(item, &ms)| (item.attempt, ms)).collect();
        let schedule = Schedule::new(vms(n_vms), items);
        let expected = schedule.left_ms(|_| 0);
        let played = play(schedule, &by_number, |_| {});
        let n = n_vms as u64;
        prop_assert!(played.end * 3 * n <= best(n_vms, &lengths) * (4 * n - 1), "{} ms", played.end);
        prop_assert_eq!(expected, Some(played.end));
    }
}

#[test]
fn what_was_never_timed_comes_first() {
    let unknown = |attempt, ms| Item { length: Length::AtMost(ms), ..timed(attempt, 0) };
    let mut schedule = Schedule::new(vms(9), [timed(1, 5), unknown(2, 30), timed(3, 90), unknown(4, 60)]);
    let order: Vec<_> = std::iter::from_fn(|| schedule.start()).collect();
    assert_eq!(order, [4, 2, 3, 1]);
}

#[test]
fn one_that_wants_more_than_there_is_runs_alone() {
    let big = Item { memory_mib: 100, ..timed(1, 50) };
    let budget = Budget { memory_mib: Some(10), ..vms(4) };
    let mut schedule = Schedule::new(budget, [big, timed(2, 5), timed(3, 4)]);
    assert_eq!((schedule.start(), schedule.start()), (Some(1), None));
    schedule.finish(1);
    assert_eq!((schedule.start(), schedule.start()), (Some(2), Some(3)));
}

#[test]
fn what_is_left_counts_the_running_by_what_is_left_of_them() {
    let unknown = Item { length: Length::AtMost(1_000_000), ..timed(4, 0) };
    let mut schedule = Schedule::new(vms(2), [timed(1, 100), timed(2, 60), timed(3, 20), unknown]);
    assert_eq!(schedule.start(), Some(4));
    assert_eq!(schedule.start(), Some(1));
    // Attempt 4 counts as 60, of which 50 have passed; 1 has 50 left; then 2 and 3 start.
    assert_eq!(schedule.left_ms(|_| 50), Some(70));
    let all_new = Schedule::new(vms(2), [unknown, Item { attempt: 5, ..unknown }, timed(6, 1)]);
    assert_eq!(all_new.left_ms(|_| 0), None);
}
