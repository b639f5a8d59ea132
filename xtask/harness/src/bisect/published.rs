//! `deb:6.12.43..6.12.117`: the kernel builds that Debian has published, as subjects of a search. Pure.

use std::cmp::Ordering;
use std::str::FromStr;

use vm_images::debian::kernels::{DebianKernel, compare_versions};
use vm_images::spec::debian::DEFAULT_FLAVOUR;

/// A range of kernel versions, from the old end to the new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRange {
    old: String,
    new: String,
}

/// Why a text is not a usable range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    /// The text cannot be parsed.
    #[error("`{0}` is no range of kernels; one looks like deb:6.12.43..6.12.117")]
    Text(String),
    /// An end of the range names no published build.
    #[error("the mirror has no build of {version}; of its branch it has {}", has.join(", "))]
    NoBuild {
        /// The version that was named.
        version: String,
        /// The versions that are published.
        has: Vec<String>,
    },
    /// The ends are in the wrong order.
    #[error("{old} is not older than {new}")]
    Order {
        /// The first end as given.
        old: String,
        /// The second end as given, which is older.
        new: String,
    },
}

impl FromStr for VersionRange {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        let bad = || BadRange::Text(text.to_owned());
        let (old, new) = text.strip_prefix("deb:").and_then(|rest| rest.split_once("..")).ok_or_else(bad)?;
        let new = new.strip_prefix("deb:").unwrap_or(new);
        let is_version = |version: &str| {
            version.starts_with(|c: char| c.is_ascii_digit())
                && version.chars().filter(|c| *c == '.').count() == 2
        };
        if !is_version(old) || !is_version(new) {
            return Err(bad());
        }
        Ok(VersionRange { old: old.to_owned(), new: new.to_owned() })
    }
}

impl VersionRange {
    /// The builds of the range, oldest first, one for each Linux version.
    pub fn choose(&self, offered: &[DebianKernel]) -> Result<Vec<DebianKernel>, BadRange> {
        let mut builds: Vec<DebianKernel> = Vec::new();
        for kernel in offered.iter().filter(|kernel| kernel.flavour == DEFAULT_FLAVOUR) {
            // Sorted by package version: a rebuild of the same Linux for an older release of Debian
            // (`~bpo12`) sorts first.
            match builds.last_mut() {
                Some(last) if upstream(&last.version) == upstream(&kernel.version) => *last = kernel.clone(),
                Some(_) | None => builds.push(kernel.clone()),
            }
        }
        if compare_versions(upstream(&self.old), upstream(&self.new)) != Ordering::Less {
            return Err(BadRange::Order { old: self.old.clone(), new: self.new.clone() });
        }
        let place = |version: &str| {
            let found = builds.iter().position(|kernel| upstream(&kernel.version) == upstream(version));
            found.ok_or_else(|| {
                let branch = branch(version);
                let has = builds.iter().filter(|kernel| kernel.branch == branch);
                let has = has.map(|kernel| upstream(&kernel.version).to_owned()).collect();
                BadRange::NoBuild { version: version.to_owned(), has }
            })
        };
        let (old, new) = (place(&self.old)?, place(&self.new)?);
        Ok(builds[old..=new].to_vec())
    }
}

/// The stable branches of these builds, as text, if there is more than one.
pub fn several_branches(builds: &[DebianKernel]) -> Option<String> {
    let mut branches: Vec<&str> = builds.iter().map(|kernel| kernel.branch.as_str()).collect();
    branches.dedup();
    let (last, before) = branches.split_last()?;
    (!before.is_empty()).then(|| format!("{} and {last}", before.join(", ")))
}

/// The Linux version in a package version: `6.12.117` in `6.12.117-1~bpo12+1`.
fn upstream(version: &str) -> &str {
    version.split(['-', '+', '~']).next().unwrap_or(version)
}

fn branch(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(release: &str, version: &str) -> DebianKernel {
        DebianKernel {
            release: release.to_owned(),
            branch: branch(version),
            flavour: DEFAULT_FLAVOUR.to_owned(),
            version: version.to_owned(),
            files: vec![],
        }
    }

    fn offered() -> Vec<DebianKernel> {
        vec![
            kernel("6.1.0-47-cloud-amd64", "6.1.176-1"),
            kernel("6.12.94+deb13-cloud-amd64", "6.12.94-1"),
            kernel("6.12.95+deb12-cloud-amd64", "6.12.95-1~bpo12+1"),
            kernel("6.12.95+deb13-cloud-amd64", "6.12.95-1"),
            kernel("6.12.107+deb13-cloud-amd64", "6.12.107-1"),
        ]
    }

    #[test]
    fn a_range_is_one_build_a_version() {
        let range: VersionRange = "deb:6.12.94..6.12.107".parse().unwrap();
        let builds = range.choose(&offered()).unwrap();
        let releases: Vec<_> = builds.iter().map(|kernel| kernel.release.as_str()).collect();
        assert_eq!(
            releases,
            ["6.12.94+deb13-cloud-amd64", "6.12.95+deb13-cloud-amd64", "6.12.107+deb13-cloud-amd64"]
        );
    }

    #[test]
    fn what_is_no_range_is_said() {
        for text in ["6.12.94..6.12.95", "deb:6.12.94", "deb:6.12..6.13", "deb:6.12.94..", "deb:6.12.94..x"] {
            assert_eq!(text.parse::<VersionRange>(), Err(BadRange::Text(text.to_owned())));
        }
        let error =
            |text: &str| text.parse::<VersionRange>().unwrap().choose(&offered()).unwrap_err().to_string();
        let no_build = "the mirror has no build of 6.12.96; of its branch it has 6.12.94, 6.12.95, 6.12.107";
        assert_eq!(error("deb:6.12.96..6.12.107"), no_build);
        assert_eq!(error("deb:6.12.107..6.12.94"), "6.12.107 is not older than 6.12.94");
    }
}
