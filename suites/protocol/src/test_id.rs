//! The name of a test: which suite, which test, which flavour.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names one test, written `suite:name` or `suite:name@flavour`,
/// for example `lvm2:shell/integrity-caching.sh`.
///
/// `flavour` is lvm2's word for a set of variables that a test is run with; `None` is the
/// suite's default flavour.
///
/// Invariant: no part is empty, each consists of ASCII letters, digits and `_ - . / + = ,` alone, and
/// none holds a path component `..`. A name therefore needs no quoting in a shell, reads the
/// same everywhere, and [`Self::slug`] is always one plain file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TestId {
    suite: String,
    name: String,
    flavour: Option<String>,
}

/// Why a text is no [`TestId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a test name: expected `suite:name` or `suite:name@flavour`, {reason}")]
pub struct BadTestId {
    text: String,
    reason: &'static str,
}

impl TestId {
    /// Builds the id of a test in its suite's default flavour.
    pub fn new(suite: &str, name: &str) -> Result<Self, BadTestId> {
        format!("{suite}:{name}").parse()
    }

    /// The id of this test in another flavour.
    pub fn with_flavour(&self, flavour: &str) -> Result<Self, BadTestId> {
        format!("{}:{}@{flavour}", self.suite, self.name).parse()
    }

    /// The suite's name, for example `lvm2`.
    pub fn suite(&self) -> &str {
        &self.suite
    }

    /// The test's name within its suite, for example `shell/integrity-caching.sh`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The flavour, if it is not the suite's default one.
    pub fn flavour(&self) -> Option<&str> {
        self.flavour.as_deref()
    }

    /// One file name for this test, safe on any host: what is not alphanumeric, `-`, `.` or `_`
    /// becomes `_`, and the length is bounded.
    pub fn slug(&self) -> String {
        let mut slug: String = self
            .to_string()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') { c } else { '_' })
            .collect();
        slug.truncate(120);
        slug
    }
}

impl fmt::Display for TestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.suite, self.name)?;
        match &self.flavour {
            Some(flavour) => write!(f, "@{flavour}"),
            None => Ok(()),
        }
    }
}

impl FromStr for TestId {
    type Err = BadTestId;

    fn from_str(text: &str) -> Result<Self, BadTestId> {
        let bad = |reason| BadTestId { text: text.chars().take(200).collect(), reason };
        let (suite, rest) = text.split_once(':').ok_or_else(|| bad("there is no `:`"))?;
        let (name, flavour) = match rest.split_once('@') {
            Some((name, flavour)) => (name, Some(flavour)),
            None => (rest, None),
        };
        for part in [Some(suite), Some(name), flavour].into_iter().flatten() {
            if part.is_empty() {
                return Err(bad("a part is empty"));
            }
            if !part.chars().all(|c| c.is_ascii_alphanumeric() || "_-./+=,".contains(c)) {
                return Err(bad("a part holds more than letters, digits and `_-./+=,`"));
            }
            if part.split('/').any(|component| component == "..") {
                return Err(bad("a part holds `..`"));
            }
        }
        Ok(TestId { suite: suite.to_owned(), name: name.to_owned(), flavour: flavour.map(str::to_owned) })
    }
}

impl TryFrom<String> for TestId {
    type Error = BadTestId;

    fn try_from(text: String) -> Result<Self, BadTestId> {
        text.parse()
    }
}

impl From<TestId> for String {
    fn from(id: TestId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_round_trips() {
        for text in ["lvm2:shell/integrity-caching.sh", "lvm2:shell/a.sh@ndev-lvmpolld"] {
            assert_eq!(text.parse::<TestId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        for text in [
            "",
            "x",
            ":",
            "a:",
            ":b",
            "a:b@",
            "a:../../etc/passwd",
            "a:b c",
            "a:b\n",
            "a:b:c",
            "a:b@c@d",
            "a:$(x)",
            "a:\u{202e}b",
        ] {
            assert!(text.parse::<TestId>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_slug_is_one_file_name(text in "[a-z0-9_./+=,-]{1,300}") {
            if let Ok(id) = format!("s:{text}").parse::<TestId>() {
                let slug = id.slug();
                prop_assert!(!slug.is_empty() && slug.len() <= 120);
                prop_assert!(!slug.contains('/') && slug != "." && slug != "..");
            }
        }
    }
}
