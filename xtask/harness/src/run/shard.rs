//! Shards: divides a run's attempts among several hosts. Pure.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

/// Shard number `shard` of `n_shards`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Number of the shard, from 1.
    pub(crate) shard: u32,
    pub(crate) n_shards: u32,
}

/// Why a text is not a [`Shard`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no part of a whole: it looks like 2/5, from 1/N to N/N")]
pub struct BadShard(String);

impl FromStr for Shard {
    type Err = BadShard;

    fn from_str(text: &str) -> Result<Self, BadShard> {
        let numbers =
            text.split_once('/').and_then(|(shard, n)| Some((shard.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((shard, n_shards)) if (1..=n_shards).contains(&shard) => Ok(Shard { shard, n_shards }),
            Some(_) | None => Err(BadShard(text.to_owned())),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shard, self.n_shards)
    }
}

/// The shard, from 1, of each of `lengths`: the longest first, each to the shard with the least to do. Equal
/// input gives equal output.
pub(crate) fn deal(lengths: &[u64], n_shards: u32) -> Vec<u32> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&idx| (Reverse(lengths[idx]), idx));
    let mut loads: Vec<(u64, u32)> = (1..=n_shards.max(1)).map(|shard| (0, shard)).collect();
    let mut parts = vec![1; lengths.len()];
    for idx in order {
        if let Some(least) = loads.iter_mut().min() {
            parts[idx] = least.1;
            // Attempts that take no time are spread, too.
            least.0 = least.0.saturating_add(lengths[idx].max(1));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_read() {
        assert_eq!("2/5".parse(), Ok(Shard { shard: 2, n_shards: 5 }));
        for text in ["", "2", "0/5", "6/5", "1/0", "-1/5", "a/b", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    proptest! {
        /// No shard has more to do than another by more than the length of one test.
        #[test]
        fn parts_are_alike_long(lengths in proptest::collection::vec(1..1000_u64, 0..40), n in 1..6_u32) {
            let parts = deal(&lengths, n);
            prop_assert_eq!(parts.len(), lengths.len());
            let load = |shard: u32| {
                parts.iter().zip(&lengths).filter(|(part, _)| **part == shard).map(|(_, ms)| ms).sum::<u64>()
            };
            let loads: Vec<u64> = (1..=n).map(load).collect();
            prop_assert_eq!(loads.iter().sum::<u64>(), lengths.iter().sum::<u64>());
            let longest = lengths.iter().max().copied().unwrap_or(0);
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= longest);
        }
    }
}
