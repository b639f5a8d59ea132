//! One finding of a guard: where, which guard, what is wrong, and how it is mended.

use std::fmt;

/// Something in the work tree that a guard refuses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// Path below the top of the work tree.
    pub file: String,
    /// Line, counted from 1; 0 if the whole file is meant.
    pub line: usize,
    /// Name of the guard, as `tidy.toml` and `--only` have it.
    pub rule: &'static str,
    /// The fault, with the names that it takes to find it.
    pub text: String,
    /// One way to mend it.
    pub mend: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}: {}; {}", self.rule, self.text, self.mend)
    }
}
