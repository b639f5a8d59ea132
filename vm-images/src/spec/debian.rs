//! Debian's kernels, as a user names them: `deb:6.12`, `deb:6.12-amd64`, `deb:6.12.107+deb13-cloud-amd64`.
//! Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spec::error::BadKernelSpec;

/// Debian's flavour of the kernel that is used unless another is named: small, with all of md and dm
/// but md-linear and dm-dust.
pub const DEFAULT_FLAVOUR: &str = "cloud-amd64";

/// Flavours that Debian builds for this architecture.
const FLAVOURS: [&str; 3] = ["cloud-amd64", "rt-amd64", "amd64"];

/// A kernel of Debian's. In a file it is written as on a command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DebianSpec {
    /// `deb:6.12`, `deb:6.12-amd64`: the newest build of a branch.
    Branch {
        /// Upstream's branch, `6.12`.
        branch: String,
        /// Debian's flavour of the kernel, `cloud-amd64` unless said otherwise.
        flavour: String,
    },
    /// `deb:6.12.107+deb13-cloud-amd64`: exactly this one, by `uname -r`.
    Exact {
        /// `uname -r`.
        release: String,
    },
}

impl FromStr for DebianSpec {
    type Err = BadKernelSpec;

    fn from_str(text: &str) -> Result<Self, BadKernelSpec> {
        let bad = || BadKernelSpec::new(text);
        let name = text.strip_prefix("deb:").ok_or_else(bad)?;
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || "+.-~".contains(c)) {
            return Err(bad());
        }
        let (version, flavour) = split_flavour(name);
        if is_branch(version) {
            let flavour = flavour.unwrap_or(DEFAULT_FLAVOUR).to_owned();
            return Ok(DebianSpec::Branch { branch: version.to_owned(), flavour });
        }
        match flavour {
            Some(_) if version.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(DebianSpec::Exact { release: name.to_owned() })
            }
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for DebianSpec {
    type Error = BadKernelSpec;

    fn try_from(text: String) -> Result<Self, BadKernelSpec> {
        text.parse()
    }
}

impl From<DebianSpec> for String {
    fn from(spec: DebianSpec) -> String {
        spec.to_string()
    }
}

impl fmt::Display for DebianSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DebianSpec::Branch { branch, flavour } if flavour == DEFAULT_FLAVOUR => write!(f, "deb:{branch}"),
            DebianSpec::Branch { branch, flavour } => write!(f, "deb:{branch}-{flavour}"),
            DebianSpec::Exact { release } => write!(f, "deb:{release}"),
        }
    }
}

/// The parts of a release or branch with a flavour behind it: `6.12-rt-amd64` is of `6.12` and `rt-amd64`.
pub(crate) fn split_flavour(name: &str) -> (&str, Option<&str>) {
    for flavour in FLAVOURS {
        if let Some(version) = name.strip_suffix(flavour).and_then(|rest| rest.strip_suffix('-')) {
            return (version, Some(flavour));
        }
    }
    (name, None)
}

/// True for an upstream branch, two numbers: `6.12`.
pub(crate) fn is_branch(version: &str) -> bool {
    let parts: Vec<_> = version.split('.').collect();
    parts.len() == 2 && parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_file_it_is_its_own_text() {
        for text in ["deb:6.12", "deb:6.1-amd64", "deb:6.12.107+deb13-cloud-amd64"] {
            let spec: DebianSpec = text.parse().unwrap();
            let written = serde_json::to_string(&spec).unwrap();
            assert_eq!(written, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<DebianSpec>(&written).unwrap(), spec);
        }
        assert!(serde_json::from_str::<DebianSpec>("\"deb:latest\"").is_err());
    }
}
