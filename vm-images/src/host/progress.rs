//! Messages about the progress of long work. The terminal decides how they are shown.

/// Hears about the steps of preparing images.
pub trait Progress: Send + Sync {
    /// A step begins; the text replaces the last one: `unpacking 96 packages`.
    fn step(&self, what: &str);
    /// The last step is over, and none follows at once.
    fn end_step(&self) {}
    /// Something that must stay visible: a version that had to be replaced, a fallback.
    fn note(&self, text: &str);
}

impl std::fmt::Debug for dyn Progress + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

/// A receiver that shows nothing; for tests, and for work that is part of other work.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _what: &str) {}
    fn note(&self, _text: &str) {}
}
