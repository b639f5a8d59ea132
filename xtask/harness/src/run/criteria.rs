//! The criteria by which runs are judged: the expectations of a suite, and the known issues, as in this work
//! tree.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};
use reports::{Expectations, KnownIssues};

use crate::error::usage;
use crate::workspace::workspace;

/// The criteria by which runs are judged.
#[derive(Clone, Debug, Default)]
pub struct Criteria {
    /// Expectations by suite; in a suite without an entry, every test is expected to pass.
    pub expectations: BTreeMap<String, Expectations>,
    /// Criteria issues, which apply to every suite.
    pub known_issues: KnownIssues,
}

/// Reads `suites/SUITE/expectations.toml` of this work tree; without that file all tests are expected to
/// pass. Its entries may name these known issues.
pub fn expectations_of(suite: &str, known_issues: &KnownIssues) -> Result<Expectations> {
    let path = workspace().join("suites").join(suite).join("expectations.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", path.display())),
    };
    let shown = path.strip_prefix(workspace()).unwrap_or(&path);
    Expectations::parse(&text, &shown.to_string_lossy(), known_issues).map_err(|error| usage(error.into()))
}

/// Reads `suites/known-issues.toml` of this work tree.
pub fn known_issues() -> Result<KnownIssues> {
    let path = workspace().join("suites/known-issues.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let shown = path.strip_prefix(workspace()).unwrap_or(&path);
    KnownIssues::parse(&text, &shown.to_string_lossy()).map_err(|error| usage(error.into()))
}

impl Criteria {
    /// The criteria for runs of this suite.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or is invalid.
    pub fn of_suite(suite: &str) -> Result<Criteria> {
        Criteria::of_suites(&[suite.to_owned()])
    }

    /// The criteria for runs of these suites.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or is invalid.
    pub fn of_suites(suites: &[String]) -> Result<Criteria> {
        let known_issues = known_issues()?;
        let each = suites.iter().map(|suite| Ok((suite.clone(), expectations_of(suite, &known_issues)?)));
        Ok(Criteria { expectations: each.collect::<Result<_>>()?, known_issues })
    }
}
