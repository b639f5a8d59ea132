//! Sentences about lines that neither log has, and who is to blame for each.
//!
//! Pure. What neither log has is a complaint, whoever lost it: a report may have been among that. What the
//! harness left out of one and the other has is a remark.

use std::collections::BTreeSet;

use protocol::event::Blame;
use protocol::evidence::ReportKind;
use reports::faults::FaultClass;

use super::coverage::Gap;
use crate::console::REPORTS_MAX;

/// Counts of lines that are missing at the end of an attempt.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Messages that the console dropped where the other log was not read, and the stamp of the line before
    /// the first.
    pub(super) dropped: u64,
    pub(super) dropped_after_us: Option<u64>,
    /// Records that were announced and did not come, and lines that the console has after those that came.
    pub(super) unsent: u64,
    pub(super) ahead: u64,
}

impl Losses {
    /// A remark for each kind of loss.
    pub(super) fn told<'a>(&self, gaps: impl Iterator<Item = &'a Gap>) -> Vec<(Blame, String)> {
        let (mut kernel, mut ours, mut left_out) = (0_u64, 0_u64, 0_u64);
        let mut span: Option<(u64, u64)> = None;
        for gap in gaps {
            let (by_kernel, by_us) = gap.lost();
            kernel = kernel.saturating_add(by_kernel);
            ours = ours.saturating_add(by_us);
            left_out = left_out.saturating_add(gap.n_left_out);
            if by_kernel > 0 {
                span = Some((span.map_or(gap.from_us, |(from, _)| from), gap.to_us));
            }
        }
        let mut said = Vec::new();
        if let Some((from, to)) = span {
            let (from, to) = (seconds(from), seconds(to));
            let words = format!(
                "the kernel's log lacks {}, between {from} and {to} s after its boot: neither /dev/kmsg nor the console \
                 has what was said there",
                messages(kernel)
            );
            said.push((Blame::Kernel, words));
        }
        if self.dropped > 0 {
            let after =
                self.dropped_after_us.map_or_else(String::new, |us| format!(" after {} s", seconds(us)));
            let words = format!(
                "the console dropped {}{after}, and /dev/kmsg was not read there",
                messages(self.dropped)
            );
            said.push((Blame::Kernel, words));
        }
        if left_out > 0 {
            let has = match ours {
                0 => "the console has all of it".to_owned(),
                lacks => format!("the console lacks {lacks} of them"),
            };
            let words = format!(
                "the guest agent left out {} of a flood in the kernel's log; {has}",
                messages(left_out)
            );
            said.push((blame_for(ours), words));
        }
        if self.unsent > self.ahead {
            let words = format!(
                "the end of the kernel's log, {}, did not come from the guest agent; the console has {} of that",
                messages(self.unsent),
                self.ahead
            );
            said.push((blame_for(self.unsent - self.ahead), words));
        }
        said
    }
}

/// A kernel that says more than can be read has lost what it said, and only that it has not is a fact about
/// the harness.
fn blame_for(n_lacking: u64) -> Blame {
    if n_lacking > 0 { Blame::Kernel } else { Blame::Harness }
}

/// One remark for all kinds of reports of which there were more than are told.
pub(super) fn untold(cut: &BTreeSet<ReportKind>) -> Option<(Blame, String)> {
    if cut.is_empty() {
        return None;
    }
    let names: Vec<_> = cut.iter().map(|kind| FaultClass::Report(*kind).name()).collect();
    let words = format!(
        "the kernel reported more than {REPORTS_MAX} different ones of a kind ({}): the rest was left out",
        names.join(", ")
    );
    Some((Blame::Kernel, words))
}

fn messages(n: u64) -> String {
    if n == 1 { "1 message".to_owned() } else { format!("{n} messages") }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}
