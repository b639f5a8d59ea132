//! A test's output: all of it counted, the newest part kept, released within a budget.
//!
//! Pure: bytes and instants come in, chunks go out. Deliberately not here: reading the pipe and
//! writing to the host ([`crate::serve`]).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use protocol::wire::{MAX_CHUNK, OutputBudget};

use crate::bucket::TokenBucket;

/// Bytes that are kept whatever the budget says: a failing test's last words.
pub(crate) const KEEP: usize = 64 * 1024;

/// Bytes that may wait for the host while the budget still covers them.
const BACKLOG: usize = 1024 * 1024;

/// A chunk that is smaller than this waits a moment for more to come: a test that prints letter
/// by letter would otherwise cost a message, and a round trip to the host, per letter.
const WORTH_SENDING: usize = 4 * 1024;

/// How long a small chunk waits.
const COALESCE: Duration = Duration::from_millis(25);

/// The output of one test.
///
/// Invariant: `pending` is always the newest part of what was printed, without a gap, and never
/// holds more than [`BACKLOG`] bytes.
#[derive(Debug)]
pub(crate) struct OutputLog {
    pending: VecDeque<u8>,
    total: u64,
    bucket: TokenBucket,
    released: Instant,
    finished: bool,
}

impl OutputLog {
    /// Nothing printed yet.
    pub(crate) fn new(budget: OutputBudget, now: Instant) -> Self {
        Self {
            pending: VecDeque::new(),
            total: 0,
            bucket: TokenBucket::new(budget.burst_bytes, budget.bytes_per_s, now),
            released: now,
            finished: false,
        }
    }

    /// Bytes printed so far, kept or not.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// True if everything that is ever to be released has been.
    pub(crate) fn is_drained(&self) -> bool {
        self.finished && self.pending.is_empty()
    }

    /// Takes what the test printed, and drops the oldest bytes that there is no room for.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Instant) {
        self.total += bytes.len() as u64;
        let covered = usize::try_from(self.bucket.available(now)).unwrap_or(usize::MAX);
        let room = covered.clamp(KEEP, BACKLOG);
        let newest = &bytes[bytes.len().saturating_sub(room)..];
        let excess = (self.pending.len() + newest.len()).saturating_sub(room);
        self.pending.drain(..excess);
        self.pending.extend(newest);
    }

    /// True if the test should wait a moment rather than lose output that its budget covers.
    ///
    /// A host that does not read never makes a test wait: `host_stalled` says so.
    pub(crate) fn should_hold_back(&mut self, host_stalled: bool, now: Instant) -> bool {
        !host_stalled
            && self.pending.len() >= BACKLOG / 2
            && self.pending.len() as u64 <= self.bucket.available(now)
    }

    /// The test has ended: what is pending is released whatever the budget says.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// How long until [`Self::next_chunk`] gives something; `None` if nothing is pending or the
    /// budget will never allow it.
    pub(crate) fn next_chunk_in(&mut self, now: Instant) -> Option<Duration> {
        if self.pending.is_empty() {
            return None;
        }
        if self.finished {
            return Some(Duration::ZERO);
        }
        let coalesce = if self.pending.len() >= WORTH_SENDING {
            Duration::ZERO
        } else {
            COALESCE.saturating_sub(now.saturating_duration_since(self.released))
        };
        let least = (self.pending.len().min(WORTH_SENDING) as u64).min(self.bucket.burst()).max(1);
        Some(coalesce.max(self.bucket.wait_for(least, now)?))
    }

    /// The next bytes to send, with their offset in the whole output.
    pub(crate) fn next_chunk(&mut self, now: Instant) -> Option<(u64, Vec<u8>)> {
        if self.next_chunk_in(now)? > Duration::ZERO {
            return None;
        }
        let allowed = if self.finished { u64::MAX } else { self.bucket.available(now) };
        let n = self.pending.len().min(MAX_CHUNK).min(usize::try_from(allowed).unwrap_or(usize::MAX));
        let offset = self.total - self.pending.len() as u64;
        self.bucket.spend(n as u64);
        self.released = now;
        Some((offset, self.pending.drain(..n).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NO_BUDGET: OutputBudget = OutputBudget { burst_bytes: 0, bytes_per_s: 0 };
    const AMPLE: OutputBudget = OutputBudget { burst_bytes: 1 << 30, bytes_per_s: 1 << 20 };

    fn drain(log: &mut OutputLog, now: Instant) -> Vec<(u64, Vec<u8>)> {
        std::iter::from_fn(|| log.next_chunk(now)).collect()
    }

    #[test]
    fn without_a_budget_the_tail_comes_at_the_end() {
        let now = Instant::now();
        let mut log = OutputLog::new(NO_BUDGET, now);
        let printed: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        log.push(&printed, now);
        assert_eq!(log.next_chunk(now + Duration::from_secs(9)), None);
        log.finish();
        let chunks = drain(&mut log, now);
        assert_eq!(chunks[0].0, (printed.len() - KEEP) as u64);
        let tail: Vec<u8> = chunks.into_iter().flat_map(|(_, data)| data).collect();
        assert_eq!(tail, printed[printed.len() - KEEP..]);
        assert!(log.is_drained());
        assert_eq!(log.total(), 300_000);
    }

    #[test]
    fn within_the_budget_nothing_is_lost() {
        let now = Instant::now();
        let mut log = OutputLog::new(AMPLE, now);
        let mut seen = Vec::new();
        let mut printed = 0;
        while printed < 10 << 20 {
            if !log.should_hold_back(false, now) {
                log.push(&[b'x'; 100_000], now);
                printed += 100_000;
            }
            seen.extend(log.next_chunk(now).into_iter().flat_map(|(_, data)| data));
        }
        seen.extend(drain(&mut log, now).into_iter().flat_map(|(_, data)| data));
        assert_eq!(seen.len(), printed);
    }

    #[test]
    fn a_host_that_does_not_read_never_holds_a_test_back() {
        let now = Instant::now();
        let mut log = OutputLog::new(AMPLE, now);
        for _ in 0..100 {
            log.push(&[b'x'; 100_000], now);
        }
        assert!(log.should_hold_back(false, now));
        assert!(!log.should_hold_back(true, now));
    }

    #[test]
    fn letters_are_gathered() {
        let start = Instant::now();
        let mut log = OutputLog::new(AMPLE, start);
        log.push(b"a", start);
        assert_eq!(log.next_chunk(start), None);
        log.push(b"b", start);
        assert_eq!(log.next_chunk_in(start), Some(COALESCE));
        assert_eq!(log.next_chunk(start + COALESCE), Some((0, b"ab".to_vec())));
    }

    proptest! {
        /// Whatever is printed and whenever it is looked at: pieces are true to their offsets,
        /// come in order, never exceed the budget before the end, and end with the newest bytes.
        #[test]
        fn pieces_are_true(
            steps in proptest::collection::vec((0usize..200_000, 0u64..50, any::<bool>()), 1..30),
            burst in 0u64..500_000,
            rate in 0u64..2_000_000,
        ) {
            let byte_at = |i: u64| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8;
            let start = Instant::now();
            let mut now = start;
            let mut log = OutputLog::new(OutputBudget { burst_bytes: burst, bytes_per_s: rate }, now);
            let (mut next, mut sent) = (0u64, 0u64);
            let mut check = |offset: u64, data: &[u8]| {
                assert!(offset >= next && data.len() <= MAX_CHUNK);
                assert!(data.iter().enumerate().all(|(i, &b)| b == byte_at(offset + i as u64)));
                next = offset + data.len() as u64;
            };
            for (n, ms, look) in steps {
                let from = log.total();
                log.push(&(0..n as u64).map(|i| byte_at(from + i)).collect::<Vec<_>>(), now);
                now += Duration::from_millis(ms);
                if look {
                    for (offset, data) in drain(&mut log, now) {
                        check(offset, &data);
                        sent += data.len() as u64;
                    }
                }
                let earned = (now - start).as_micros() as u64 * rate / 1_000_000;
                prop_assert!(sent <= burst + earned);
                prop_assert!(log.pending.len() <= BACKLOG);
            }
            log.finish();
            let printed = log.total();
            let kept = log.pending.len() as u64;
            for (offset, data) in drain(&mut log, now) {
                check(offset, &data);
            }
            prop_assert!(kept == 0 || next == printed);
            prop_assert!(log.is_drained());
        }
    }
}
