//! Makes the title of a report.
//!
//! Pure. One bug has one title, so a title names the fault and the function, but no address, process id, CPU
//! or count. Nor does it name the task, because lvm, dmsetup and a worker may reach the same wait by the same
//! bug; an alternative title does. The title of a hang names the innermost function of md or dm, because that
//! is where the wait comes from. Deliberately not here: how a report begins (`openings.rs`).

use protocol::evidence::ReportKind;

use super::helpers::is_generic;
use super::lasting::lasting_comm;
use super::openings::{Opening, Tail};
use super::stack::{guilty, plain};

/// Longest title, characters.
const TITLE_MAX: usize = 160;

/// A title, its alternatives, and whether a part is missing from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Title {
    pub(super) title: String,
    pub(super) alt_titles: Vec<String>,
    pub(super) is_cut: bool,
}

impl Opening {
    /// The title, once the stack is known, innermost frame first. `held_at` is the function that took the
    /// lock in question, `blamed` the work that a stalled workqueue waits for.
    pub(super) fn title(&self, frames: &[String], held_at: Option<&str>, blamed: Option<&str>) -> Title {
        let own = |function: &&str| !function.is_empty() && !is_generic(function);
        let named = || self.function.as_deref().and_then(plain_functions);
        // A wait or a spin in md or dm is named by their function, a fault by the function that faulted.
        let found = || guilty(frames, self.kind.is_of_hang()).map(str::to_owned);
        let held = || held_at.map(plain).filter(own).map(str::to_owned);
        let hinted = || self.hint.as_deref().map(plain).filter(own).map(str::to_owned);
        let place = match self.tail {
            Tail::Nothing => blamed.filter(own).map(str::to_owned),
            // When a task exits with a lock held, its stack is only that of the exit.
            Tail::Stack | Tail::MaybeStack if self.is_about_what_is_held() => held().or_else(found),
            Tail::Stack | Tail::MaybeStack => {
                named().or_else(found).or_else(held).or_else(hinted).or_else(|| self.file.clone())
            }
        };
        let with = |words: &str| match &place {
            Some(place) => clip(&format!("{words} in {place}")),
            None => clip(words),
        };
        let mut alt_titles = Vec::new();
        if let Some(comm) = &self.comm {
            alt_titles.push(with(&format!("{} of {}", self.words, lasting_comm(comm))));
        }
        if let Some(file) = &self.file {
            alt_titles.push(clip(&format!("{} at {file}", self.words)));
        }
        alt_titles.extend(self.other_words.iter().map(|words| with(words)));
        // syzbot's names for these.
        for (ours, theirs) in [("refcount_t: ", "refcount bug"), ("ODEBUG: ", "ODEBUG bug")] {
            if self.words.starts_with(ours) {
                alt_titles.push(with(theirs));
            }
        }
        let title = with(&self.words);
        alt_titles.retain(|alt| *alt != title);
        alt_titles.dedup();
        Title { title, alt_titles, is_cut: self.needs_stack() && place.is_none() }
    }

    fn is_about_what_is_held(&self) -> bool {
        self.kind == ReportKind::Lockdep
            && ["still has locks held", "lock held when returning"]
                .iter()
                .any(|words| self.words.contains(words))
    }
}

/// The functions of a data race without suffixes and helpers, in alphabetical order, as either side may come
/// first: `f.isra.0 / g` → `f / g`. `None` if all are helpers.
fn plain_functions(functions: &str) -> Option<String> {
    let plain = |function: &str| function.trim().split(['.', '+', ' ']).next().unwrap_or_default().to_owned();
    let mut all: Vec<_> = functions.split(" / ").map(plain).collect();
    all.retain(|function| !function.is_empty() && !is_generic(function));
    all.sort_unstable();
    (!all.is_empty()).then(|| all.join(" / "))
}

fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TITLE_MAX).collect()
}
