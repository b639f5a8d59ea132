//! The part of an attempt that writes the guest's memory to a file, where a user wants that of a guest that
//! hangs or crashes.
//!
//! Deliberately not here: how it is written, and whether the disk has room ([`crate::attempt::drive`]).

use std::time::Duration;

/// Delay of a dump after a panic, whose last lines come before the machine stands still.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Whether the guest's memory is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dump {
    #[default]
    NotWanted,
    Wanted,
    /// Written, or tried.
    Done,
}

impl Dump {
    /// At the beginning of an attempt.
    pub(super) fn new(is_wanted: bool) -> Self {
        if is_wanted { Dump::Wanted } else { Dump::NotWanted }
    }

    /// True if the memory is still to be written.
    pub(super) fn is_wanted(self) -> bool {
        self == Dump::Wanted
    }

    /// True if a panic that came at `panicked` has had time for its last lines, and the memory is still to be
    /// written.
    pub(super) fn is_due(self, at: Duration, panicked: Duration) -> bool {
        self.is_wanted() && at > panicked + LAST_WORDS
    }

    /// A remark on what came of it.
    pub(super) fn remark(result: &Result<(), String>) -> String {
        match result {
            Ok(()) => "the guest's memory is in `memory.kdump`: with the kernel's debug symbols, \
                       `drgn -c memory.kdump` or `crash vmlinux memory.kdump` opens it"
                .to_owned(),
            Err(error) => format!("the guest's memory was not written: {error}"),
        }
    }
}
