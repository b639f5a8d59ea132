//! Which part of the kernel's log has been read from `/dev/kmsg`: stretches of it without a gap, by the
//! stamps of their first and last lines.
//!
//! Pure. Sequence numbers say that nothing is missing within a stretch. So what the console shows of that
//! time is in it, or is not the kernel's.

use std::collections::VecDeque;

use super::line::Digest;

/// Stretches that are told apart. Of older ones only what is missing between them is known.
const STRETCHES_MAX: usize = 32;
/// Lines at one stamp that are told apart by their text.
const EDGE_MAX: usize = 256;

/// Records that did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// Between these stamps.
    pub(super) from_us: u64,
    pub(super) to_us: u64,
    pub(super) n_missing: u64,
    /// Those of them that the guest agent left out; the kernel left out the rest.
    pub(super) n_left_out: u64,
    /// Lines that the console has of them.
    pub(super) n_found: u64,
    /// Messages that the console says that it dropped meanwhile.
    pub(super) n_dropped: u64,
}

impl Gap {
    /// Messages that neither has: lost by the kernel, left out by the agent.
    pub(super) fn lost(&self) -> (u64, u64) {
        let of_kernel = self.n_missing - self.n_left_out;
        // Records that were found count as the agent's first: which they are is not known, and a loss is to
        // be told.
        let found_of_ours = self.n_found.min(self.n_left_out);
        let kernel = of_kernel.saturating_sub(self.n_found - found_of_ours);
        // A record may be several lines: what the console itself calls dropped is not made good by their
        // number.
        let kernel = kernel.max(self.n_dropped.min(of_kernel));
        (kernel, self.n_left_out - found_of_ours)
    }
}

/// Records in a row.
#[derive(Debug)]
struct Stretch {
    first_us: u64,
    last_us: u64,
    /// The texts at either end: other lines may bear the same stamp.
    head: Vec<Digest>,
    tail: Vec<Digest>,
    /// The gap before it.
    gap: Gap,
}

/// The place of a line of the console in the records' order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Into a stretch that has been read, this one since the first: it is there, or is not the kernel's.
    Read(u64),
    /// Before this stretch, where records are missing.
    Gap(u64),
    /// After all that has been read.
    Ahead,
}

/// All that has been read.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    stretches: VecDeque<Stretch>,
    /// Those that are no longer kept.
    n_forgotten: u64,
    closed: Vec<Gap>,
}

impl Coverage {
    /// True if nothing is missing since the first record.
    pub(super) fn is_in_one_piece(&self) -> bool {
        self.n_forgotten == 0 && self.stretches.len() == 1
    }

    /// A record that follows the one before.
    pub(super) fn extend(&mut self, us: u64, texts: &[Digest]) {
        let Some(newest) = self.stretches.back_mut() else { return self.begin(us, texts, 0, 0) };
        // The clocks of two processors may differ by a little.
        if us > newest.last_us {
            newest.last_us = us;
            newest.tail.clear();
        }
        if us == newest.last_us {
            add(&mut newest.tail, texts);
        }
        if us == newest.first_us {
            add(&mut newest.head, texts);
        }
    }

    /// A record after others that are missing, of which the agent left some out.
    pub(super) fn begin(&mut self, us: u64, texts: &[Digest], n_missing: u64, n_left_out: u64) {
        let from_us = self.stretches.back().map_or(us, |before| before.last_us);
        let n_left_out = n_left_out.min(n_missing);
        let gap = Gap { from_us, to_us: us, n_missing, n_left_out, n_found: 0, n_dropped: 0 };
        let mut edge = Vec::new();
        add(&mut edge, texts);
        let stretch = Stretch { first_us: us, last_us: us, head: edge.clone(), tail: edge, gap };
        self.stretches.push_back(stretch);
        if self.stretches.len() > STRETCHES_MAX
            && let Some(oldest) = self.stretches.pop_front()
        {
            self.n_forgotten += 1;
            match self.closed.first_mut() {
                Some(sum) => sum.add(&oldest.gap),
                None => self.closed.push(oldest.gap),
            }
        }
    }

    /// The place of a line of this stamp and text.
    pub(super) fn place(&self, us: u64, text: Digest) -> Place {
        for (idx, stretch) in self.stretches.iter().enumerate().rev() {
            let number = self.n_forgotten + idx as u64;
            let is_newest = idx + 1 == self.stretches.len();
            if us > stretch.last_us {
                return if is_newest { Place::Ahead } else { Place::Gap(number + 1) };
            }
            if us == stretch.last_us {
                if holds(&stretch.tail, text) {
                    return Place::Read(number);
                }
                return if is_newest { Place::Ahead } else { Place::Gap(number + 1) };
            }
            let begins_before = us > stretch.first_us || (us == stretch.first_us && number == 0);
            if us < stretch.last_us
                && (begins_before || (us == stretch.first_us && holds(&stretch.head, text)))
            {
                return Place::Read(number);
            }
        }
        match self.stretches.len() {
            0 => Place::Ahead,
            _ => Place::Gap(self.n_forgotten),
        }
    }

    /// The gap before this stretch, if it is still known.
    pub(super) fn gap_mut(&mut self, number: u64) -> Option<&mut Gap> {
        let idx = usize::try_from(number.checked_sub(self.n_forgotten)?).ok()?;
        self.stretches.get_mut(idx).map(|stretch| &mut stretch.gap)
    }

    /// Number of the newest stretch.
    pub(super) fn newest(&self) -> u64 {
        (self.n_forgotten + self.stretches.len() as u64).saturating_sub(1)
    }

    /// All that is missing; of the oldest the sum.
    pub(super) fn gaps(&self) -> impl Iterator<Item = &Gap> {
        let open = self.stretches.iter().map(|stretch| &stretch.gap);
        self.closed.iter().chain(open).filter(|gap| gap.n_missing > 0)
    }
}

impl Gap {
    fn add(&mut self, other: &Gap) {
        // Each gap by itself: what one has too much is nothing that another lacks.
        let ((kernel, ours), (other_kernel, other_ours)) = (self.lost(), other.lost());
        let n_left_out = ours.saturating_add(other_ours);
        let n_missing = kernel.saturating_add(other_kernel).saturating_add(n_left_out);
        *self = Gap { to_us: other.to_us, n_missing, n_left_out, n_found: 0, n_dropped: 0, ..*self };
    }
}

fn add(edge: &mut Vec<Digest>, texts: &[Digest]) {
    let room = EDGE_MAX - edge.len();
    edge.extend(texts.iter().take(room));
}

/// True if this text is there, or may be: of too many, not all are known.
fn holds(edge: &[Digest], text: Digest) -> bool {
    edge.contains(&text) || edge.len() == EDGE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text)
    }

    #[test]
    fn a_line_belongs_where_its_stamp_and_text_say() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.place(5, digest("a")), Place::Ahead);
        coverage.begin(10, &[digest("a")], 0, 0);
        assert_eq!(coverage.place(10, digest("a")), Place::Read(0));
        assert_eq!(coverage.place(10, digest("b")), Place::Ahead, "may follow at the same stamp");
        coverage.extend(20, &[digest("b")]);
        for (us, text, place) in [
            (9, "x", Place::Gap(0)),
            (10, "x", Place::Read(0)),
            (15, "x", Place::Read(0)),
            (20, "b", Place::Read(0)),
            (20, "c", Place::Ahead),
            (21, "b", Place::Ahead),
        ] {
            assert_eq!(coverage.place(us, digest(text)), place, "{us} {text}");
        }
        coverage.begin(30, &[digest("d")], 3, 0);
        coverage.extend(40, &[digest("e")]);
        for (us, text, place) in [
            (20, "b", Place::Read(0)),
            (20, "c", Place::Gap(1)),
            (25, "x", Place::Gap(1)),
            (30, "d", Place::Read(1)),
            (30, "c", Place::Gap(1)),
            (35, "x", Place::Read(1)),
        ] {
            assert_eq!(coverage.place(us, digest(text)), place, "{us} {text}");
        }
    }

    #[test]
    fn a_clock_that_is_behind_a_little_changes_nothing() {
        let mut coverage = Coverage::default();
        coverage.begin(10, &[digest("a")], 0, 0);
        coverage.extend(20, &[digest("b")]);
        coverage.extend(19, &[digest("c")]);
        assert_eq!(coverage.place(19, digest("c")), Place::Read(0));
        assert_eq!(coverage.place(20, digest("b")), Place::Read(0));
    }

    #[test]
    fn what_the_console_has_is_not_lost() {
        let gap = Gap { from_us: 0, to_us: 1, n_missing: 10, n_left_out: 0, n_found: 0, n_dropped: 0 };
        assert_eq!(gap.lost(), (10, 0));
        assert_eq!(Gap { n_found: 4, ..gap }.lost(), (6, 0));
        assert_eq!(Gap { n_found: 20, ..gap }.lost(), (0, 0));
        assert_eq!(Gap { n_found: 20, n_dropped: 3, ..gap }.lost(), (3, 0));
        assert_eq!(Gap { n_left_out: 7, n_found: 8, ..gap }.lost(), (2, 0));
        assert_eq!(Gap { n_left_out: 10, n_found: 4, ..gap }.lost(), (0, 6));
    }

    #[test]
    fn many_gaps_are_summed_up() {
        let mut coverage = Coverage::default();
        for n in 0..1000 {
            coverage.begin(n * 10, &[], u64::from(n > 0), 0);
        }
        let lost: u64 = coverage.gaps().map(|gap| gap.lost().0).sum();
        assert_eq!((lost, coverage.gaps().count()), (999, STRETCHES_MAX + 1));
        assert_eq!(coverage.place(1, digest("x")), Place::Gap(1000 - STRETCHES_MAX as u64));
    }
}
