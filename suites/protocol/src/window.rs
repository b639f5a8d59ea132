//! Flow control for a shell's bytes: a sender has only so many bytes under way, and the receiver says how
//! many it has taken. So neither side ever waits for the other, and neither stores more than a window.
//!
//! Pure. A message costs its bytes and [`MESSAGE_COST`], because a flood of single letters fills
//! a channel, too.

use crate::wire::MAX_CHUNK;

/// Cost of a message beside its bytes: about the memory that a channel needs to hold it.
pub const MESSAGE_COST: u64 = 1024;

/// The sender's side.
#[derive(Debug)]
pub struct SendWindow {
    size: u64,
    sent: u64,
    taken: u64,
}

impl SendWindow {
    /// Nothing is under way, and `size` may be.
    pub fn new(size: u64) -> Self {
        Self { size, sent: 0, taken: 0 }
    }

    /// How many bytes the next message may hold; `None` if no message may be sent now.
    pub fn room(&self) -> Option<usize> {
        let room = self.size.saturating_sub(self.sent - self.taken).checked_sub(MESSAGE_COST)?;
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(MAX_CHUNK);
        (room > 0).then_some(room)
    }

    /// A message of `n_bytes` was sent.
    pub fn sent(&mut self, n_bytes: usize) {
        self.sent += MESSAGE_COST + n_bytes as u64;
    }

    /// The receiver says how much it has taken in all. An impossible number is ignored: the peer is not
    /// trusted.
    pub fn taken(&mut self, total: u64) {
        if (self.taken..=self.sent).contains(&total) {
            self.taken = total;
        }
    }
}

/// The receiver's side.
#[derive(Debug)]
pub struct ReceiveWindow {
    size: u64,
    arrived: u64,
    taken: u64,
    said: u64,
}

impl ReceiveWindow {
    /// Nothing has arrived; `size` is the sender's.
    pub fn new(size: u64) -> Self {
        Self { size, arrived: 0, taken: 0, said: 0 }
    }

    /// A message of `n_bytes` has arrived. Returns false if the sender may not have sent it: then it
    /// is to be dropped.
    pub fn arrived(&mut self, n_bytes: usize) -> bool {
        let arrived = self.arrived + MESSAGE_COST + n_bytes as u64;
        let allowed = arrived - self.said <= self.size;
        if allowed {
            self.arrived = arrived;
            self.taken += MESSAGE_COST;
        }
        allowed
    }

    /// So many of the bytes that arrived have found their place.
    pub fn took(&mut self, n_bytes: usize) {
        self.taken = (self.taken + n_bytes as u64).min(self.arrived);
    }

    /// The total to tell the sender, if it is time: not after every letter, but before the sender has to
    /// wait.
    pub fn say(&mut self) -> Option<u64> {
        let due = self.taken - self.said >= self.size / 2;
        due.then(|| {
            self.said = self.taken;
            self.taken
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 64 * 1024;

    #[test]
    fn single_letters_fill_a_window_soon() {
        let mut window = SendWindow::new(SIZE);
        let n = std::iter::from_fn(|| window.room().map(|_| window.sent(1))).count();
        assert!(n < 64, "{n}");
    }

    #[test]
    fn nonsense_opens_no_window() {
        let mut window = SendWindow::new(SIZE);
        window.sent(100);
        window.taken(5000);
        window.taken(MESSAGE_COST);
        window.taken(0);
        assert_eq!(window.taken, MESSAGE_COST);
        let mut window = ReceiveWindow::new(SIZE);
        assert!(window.arrived(30_000) && window.arrived(30_000) && !window.arrived(30_000));
    }

    proptest! {
        /// However pieces are cut and however late they are taken: never more than a window is under way, and
        /// once everything is taken the sender may go on.
        #[test]
        fn a_window_never_closes_for_good(
            steps in proptest::collection::vec((1usize..40_000, 0usize..80_000), 1..200),
        ) {
            let mut sender = SendWindow::new(SIZE);
            let mut receiver = ReceiveWindow::new(SIZE);
            let mut waiting = 0;
            for (wish, take) in steps {
                if let Some(room) = sender.room() {
                    let n = wish.min(room);
                    sender.sent(n);
                    prop_assert!(receiver.arrived(n));
                    waiting += n;
                }
                let take = take.min(waiting);
                receiver.took(take);
                waiting -= take;
                receiver.say().into_iter().for_each(|total| sender.taken(total));
                prop_assert!(waiting as u64 <= SIZE);
            }
            receiver.took(waiting);
            receiver.say().into_iter().for_each(|total| sender.taken(total));
            prop_assert!(sender.room().is_some());
        }
    }
}
