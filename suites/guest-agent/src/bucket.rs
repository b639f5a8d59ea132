//! A token bucket: how much may be sent at once, and how much per second after that. Pure.

use std::time::{Duration, Instant};

/// Allows `burst` units at once and `per_s` units per second after that.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    burst: u64,
    per_s: u64,
    tokens: u64,
    refilled: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(burst: u64, per_s: u64, now: Instant) -> Self {
        Self { burst, per_s, tokens: burst, refilled: now }
    }

    /// Units that may be spent at once, of a full bucket.
    pub(crate) fn burst(&self) -> u64 {
        self.burst
    }

    /// How many units may be spent now.
    pub(crate) fn available(&mut self, now: Instant) -> u64 {
        let elapsed_ns = now.saturating_duration_since(self.refilled).as_nanos();
        let earned = elapsed_ns.saturating_mul(u128::from(self.per_s)) / 1_000_000_000;
        // The clock moves by what the whole units took, so that frequent looks lose no fractions;
        // rounded up, so that they win none either.
        if earned > 0 {
            let spent_ns = (earned * 1_000_000_000).div_ceil(u128::from(self.per_s));
            self.tokens = self.tokens.saturating_add(earned.try_into().unwrap_or(u64::MAX)).min(self.burst);
            self.refilled += Duration::from_nanos(spent_ns.try_into().unwrap_or(u64::MAX));
        }
        self.tokens
    }

    /// Spends units. What is not there is not owed: a caller may overdraw on purpose.
    pub(crate) fn spend(&mut self, n: u64) {
        self.tokens = self.tokens.saturating_sub(n);
    }

    /// How long until `n` units are there; `None` if they never will be.
    pub(crate) fn wait_for(&mut self, n: u64, now: Instant) -> Option<Duration> {
        let missing = n.saturating_sub(self.available(now));
        if missing == 0 {
            return Some(Duration::ZERO);
        }
        if n > self.burst || self.per_s == 0 {
            return None;
        }
        let us = u128::from(missing) * 1_000_000 / u128::from(self.per_s) + 1;
        Some(Duration::from_micros(us.try_into().unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_refills_up_to_its_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100, 10, start);
        bucket.spend(100);
        assert_eq!(bucket.available(start), 0);
        assert_eq!(bucket.wait_for(5, start), Some(Duration::from_micros(500_001)));
        assert_eq!(bucket.available(start + Duration::from_millis(500)), 5);
        assert_eq!(bucket.available(start + Duration::from_secs(60)), 100);
        assert_eq!(bucket.wait_for(101, start), None);
    }

    #[test]
    fn frequent_looks_at_a_slow_bucket_lose_nothing() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100, 10, start);
        bucket.spend(100);
        for ms in 0..1000 {
            bucket.available(start + Duration::from_millis(ms));
        }
        assert_eq!(bucket.available(start + Duration::from_secs(1)), 10);
    }

    #[test]
    fn frequent_looks_at_a_fast_bucket_win_nothing() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(u64::MAX, 1_999_999, start);
        bucket.spend(u64::MAX);
        for us in 0..=1_000_000 {
            bucket.available(start + Duration::from_micros(us));
        }
        let earned = bucket.available(start + Duration::from_secs(1));
        assert!((1_998_000..=1_999_999).contains(&earned), "{earned}");
    }
}
