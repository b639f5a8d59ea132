//! What runs are judged by: the expectations of a suite, and the known issues, as this work tree has them.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};
use reports::{Expectations, KnownIssues};

use crate::error::usage;
use crate::workspace::workspace;

/// What runs are judged by.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// By suite; of one without an entry, every test is expected to pass.
    pub expectations: BTreeMap<String, Expectations>,
    /// Failures that are known, in every suite.
    pub known_issues: KnownIssues,
}

/// What `suites/SUITE/expectations.toml` of this work tree says; a suite without one expects passes.
pub fn expectations_of(suite: &str) -> Result<Expectations> {
    let path = workspace().join("suites").join(suite).join("expectations.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", path.display())),
    };
    let shown = path.strip_prefix(workspace()).unwrap_or(&path);
    Expectations::parse(&text, &shown.to_string_lossy()).map_err(|error| usage(error.into()))
}

/// What `suites/known-issues.toml` of this work tree says.
pub fn known_issues() -> Result<KnownIssues> {
    let path = workspace().join("suites/known-issues.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let shown = path.strip_prefix(workspace()).unwrap_or(&path);
    KnownIssues::parse(&text, &shown.to_string_lossy()).map_err(|error| usage(error.into()))
}

impl Known {
    /// What runs of the suite of this name are judged by.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or makes no sense.
    pub(crate) fn of_suite(suite: &str) -> Result<Known> {
        let expectations = BTreeMap::from([(suite.to_owned(), expectations_of(suite)?)]);
        Ok(Known { expectations, known_issues: known_issues()? })
    }
}
