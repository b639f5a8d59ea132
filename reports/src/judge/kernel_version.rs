//! Versions of kernels, as far as it matters for which bugs they have: `6.12.107`, `6.13-rc2`.
//!
//! Deliberately not here: what a distribution adds to a version. A Debian build has the fixes of the
//! stable release that it is made from; fixes that it takes early are not known here.

use std::cmp::Ordering;
use std::fmt;

use crate::record::Kernel;

/// A version of the kernel's sources.
#[derive(Clone, Debug)]
pub struct Version {
    /// `6.12.107` is 6, 12, 107; missing ones are 0.
    numbers: [u32; 3],
    /// How many of the numbers were written.
    n_written: usize,
    /// Number of the release candidate.
    rc: Option<u32>,
}

/// A range of versions: between bounds (`>=6.7, <6.8`), a whole branch (`6.1`), or all branches between two
/// (`6.9 to 7.3`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Range {
    /// All versions that begin with this one.
    Branch(Version),
    /// From the first branch to the last, both whole. What is older or newer was not looked at, so that
    /// nothing follows for it.
    Branches {
        /// The first.
        first: Version,
        /// The last.
        last: Version,
    },
    /// From the first, before the second.
    Bounds {
        /// `>=`.
        from: Option<Version>,
        /// `<`.
        before: Option<Version>,
    },
}

impl Version {
    /// Parses `6.12`, `6.12.107`, `6.13-rc2`; nothing may follow.
    pub fn parse(text: &str) -> Option<Version> {
        let (version, rest) = Version::parse_prefix(text)?;
        rest.is_empty().then_some(version)
    }

    /// Parses as much of `text` as is a version.
    fn parse_prefix(text: &str) -> Option<(Version, &str)> {
        let mut numbers = [0; 3];
        let mut n_written = 0;
        let mut rest = text;
        for number in &mut numbers {
            let after = match n_written {
                0 => rest,
                _ => match rest.strip_prefix('.') {
                    Some(after) if after.starts_with(|c: char| c.is_ascii_digit()) => after,
                    Some(_) | None => break,
                },
            };
            let n_digits = after.bytes().take_while(u8::is_ascii_digit).count();
            *number = after[..n_digits].parse().ok()?;
            n_written += 1;
            rest = &after[n_digits..];
        }
        let mut rc = None;
        if let Some(after) = rest.strip_prefix("-rc").or_else(|| rest.strip_prefix("~rc")) {
            let n_digits = after.bytes().take_while(u8::is_ascii_digit).count();
            rc = Some(after[..n_digits].parse().ok()?);
            rest = &after[n_digits..];
        }
        (n_written >= 2).then_some((Version { numbers, n_written, rc }, rest))
    }

    /// Which sources a kernel was made from; `None` where that cannot be known: a kernel whose md was
    /// replaced by another's (`+md:`, `+plant:`), and a release like Debian's `6.1.0-56-amd64`, which names
    /// an ABI, without the package's version.
    pub fn of(kernel: &Kernel) -> Option<Version> {
        if kernel.overlay().is_some() { None } else { Version::of_base(kernel) }
    }

    /// Version of the kernel below an overlay.
    fn of_base(kernel: &Kernel) -> Option<Version> {
        if let Some(package) = &kernel.package_version {
            let upstream = package.rsplit_once(':').map_or(package.as_str(), |(_, version)| version);
            return Version::parse_prefix(upstream).map(|(version, _)| version);
        }
        let (version, rest) = Version::parse_prefix(&kernel.release)?;
        (!names_abi(&version, rest)).then_some(version)
    }

    /// The branch or version that a release (`uname -r`) with this beginning is of: `6`, `6.12`, `6.12.113`,
    /// and 6.1 of `6.1.0-56`, which names an ABI. `None` if the beginning is no version.
    pub(crate) fn of_release_prefix(prefix: &str) -> Option<Version> {
        if let Ok(major) = prefix.parse() {
            return Some(Version { numbers: [major, 0, 0], n_written: 1, rc: None });
        }
        let (version, rest) = Version::parse_prefix(prefix)?;
        let n_written = if names_abi(&version, rest) { 2 } else { version.n_written };
        Some(Version { n_written, ..version })
    }

    /// The first version after all of this branch: 6.2 after 6.1, 6.1.3 after 6.1.2.
    pub(crate) fn next(&self) -> Version {
        let mut numbers = self.numbers;
        let last = &mut numbers[self.n_written - 1];
        *last = last.saturating_add(1);
        Version { numbers, n_written: self.n_written, rc: None }
    }

    /// True if this version is of that branch: `6.12.107` is of `6.12`.
    pub fn is_of(&self, branch: &Version) -> bool {
        self.numbers[..branch.n_written] == branch.numbers[..branch.n_written]
    }
}

/// True if a release of this version, with this rest, names an ABI: `6.1.0-56-amd64`.
fn names_abi(version: &Version, rest: &str) -> bool {
    version.numbers[2] == 0
        && version.rc.is_none()
        && rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// A kernel in a sentence, `6.1.192`, `6.12.117 with md of ~/linux`; `None` where not even its version is
/// known. Nobody is to take an overlay's bug for the bare kernel's.
pub(crate) fn in_words(kernel: &Kernel) -> Option<String> {
    match kernel.overlay() {
        Some(md) => {
            let base =
                Version::of_base(kernel).map_or_else(|| kernel.release.clone(), |base| base.to_string());
            Some(format!("{base} with md of {md}"))
        }
        None => Version::of(kernel).map(|version| version.to_string()),
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        let rc = |version: &Version| version.rc.unwrap_or(u32::MAX);
        (self.numbers, rc(self)).cmp(&(other.numbers, rc(other)))
    }
}

/// `6.7` is `6.7.0`.
impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.numbers[..self.n_written].iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))?;
        self.rc.map_or(Ok(()), |rc| write!(f, "-rc{rc}"))
    }
}

impl Range {
    /// Parses `>=6.7, <6.8`, `<6.6`, `6.1` or `6.9 to 7.3`.
    pub fn parse(text: &str) -> Option<Range> {
        if let Some(branch) = Version::parse(text.trim()) {
            return Some(Range::Branch(branch));
        }
        if let Some((first, last)) = text.split_once(" to ") {
            let (first, last) = (Version::parse(first.trim())?, Version::parse(last.trim())?);
            return (first < last).then_some(Range::Branches { first, last });
        }
        let (mut from, mut before) = (None, None);
        for bound in text.split(',').map(str::trim) {
            let (place, version) = match (bound.strip_prefix(">="), bound.strip_prefix('<')) {
                (Some(version), _) => (&mut from, version),
                (None, Some(version)) => (&mut before, version),
                (None, None) => return None,
            };
            if place.replace(Version::parse(version.trim())?).is_some() {
                return None;
            }
        }
        let is_empty = matches!((&from, &before), (Some(from), Some(before)) if from >= before);
        (!is_empty).then_some(Range::Bounds { from, before })
    }

    /// True if this version is in the range.
    pub fn contains(&self, version: &Version) -> bool {
        match self {
            Range::Branch(branch) => version.is_of(branch),
            Range::Branches { first, last } => version >= first && (version <= last || version.is_of(last)),
            Range::Bounds { from, before } => {
                from.as_ref().is_none_or(|from| version >= from)
                    && before.as_ref().is_none_or(|before| version < before)
            }
        }
    }

    /// Versions of which one lies in each stretch that this range tells from another: its ends, and what
    /// follows it.
    pub(crate) fn changes(&self) -> Vec<Version> {
        match self {
            Range::Branch(branch) => vec![branch.clone(), branch.next()],
            Range::Branches { first, last } => vec![first.clone(), last.clone(), last.next()],
            Range::Bounds { from, before } => from.iter().chain(before).cloned().collect(),
        }
    }

    /// The first version after the range, if it says so.
    pub fn end(&self) -> Option<&Version> {
        match self {
            Range::Branch(_) | Range::Branches { .. } => None,
            Range::Bounds { before, .. } => before.as_ref(),
        }
    }

    /// The first version of the range, if it says so.
    pub fn start(&self) -> Option<&Version> {
        match self {
            Range::Branch(_) | Range::Branches { .. } => None,
            Range::Bounds { from, .. } => from.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    fn of(release: &str, package_version: Option<&str>, exact_spec: &str) -> Option<String> {
        let kernel = Kernel {
            spec: String::new(),
            exact_spec: exact_spec.to_owned(),
            release: release.to_owned(),
            package_version: package_version.map(str::to_owned),
            digest: String::new(),
        };
        Version::of(&kernel).map(|version| version.to_string())
    }

    #[test]
    fn a_kernel_s_sources_are_known_by_its_package_or_its_release() {
        for (release, package, expect) in [
            ("6.12.107+deb13-cloud-amd64", Some("6.12.107-1"), Some("6.12.107")),
            ("6.12.107+deb13-cloud-amd64", None, Some("6.12.107")),
            ("6.1.0-56-cloud-amd64", Some("6.1.192-2"), Some("6.1.192")),
            ("6.1.0-56-cloud-amd64", None, None),
            ("6.12.43+deb12-amd64", Some("1:6.12.43-1~bpo12+1"), Some("6.12.43")),
            ("6.7.0-00011-g1baae052cccd", None, None),
            ("6.7.0", None, Some("6.7.0")),
            ("6.8.0-rc3-md+", None, Some("6.8.0-rc3")),
            ("7.3~rc2-amd64", None, Some("7.3-rc2")),
            ("next-20261122", None, None),
            ("6", None, None),
            ("99999999999.1", None, None),
        ] {
            assert_eq!(of(release, package, "deb:x").as_deref(), expect, "{release} {package:?}");
        }
        assert_eq!(of("6.12.95+deb13", Some("6.12.95-1"), "deb:6.12.95+deb13+md:/planted"), None);
    }

    #[test]
    fn versions_are_ordered_and_have_branches() {
        assert!(version("6.7-rc8") < version("6.7"));
        assert_eq!(version("6.7"), version("6.7.0"));
        assert!(version("6.9") < version("6.12.1"));
        assert!(version("6.12.107").is_of(&version("6.12")));
        assert!(!version("6.1.12").is_of(&version("6.12")));
        assert!(!version("6.120.1").is_of(&version("6.12")));
    }

    #[test]
    fn ranges_hold_what_they_say() {
        let holds = |range: &str, text: &str| Range::parse(range).unwrap().contains(&version(text));
        assert!(holds(">=6.7, <6.8", "6.7") && holds(">=6.7, <6.8", "6.7.12"));
        assert!(!holds(">=6.7, <6.8", "6.8") && !holds(">=6.7, <6.8", "6.6.99"));
        assert!(holds("<6.6", "6.1.192") && holds("6.1", "6.1.192") && !holds("6.1", "6.12.1"));
        assert!(holds("6.9 to 7.3", "6.9") && holds("6.9 to 7.3", "6.12.1") && holds("6.9 to 7.3", "7.3.4"));
        assert!(!holds("6.9 to 7.3", "6.8.12") && !holds("6.9 to 7.3", "7.4-rc1"));
        let looked_at = Range::parse("6.9 to 7.3").unwrap();
        assert_eq!((looked_at.start(), looked_at.end()), (None, None), "nothing follows for other versions");
        for bad in [
            "6.9 to",
            "to 6.9",
            "7.3 to 6.9",
            "6.9 to 6.9",
            "6.9 to 7.3, <7.4",
            "",
            "6",
            ">6.7",
            "<=6.8",
            ">=6.8, <6.7",
            ">=6.7, >=6.8",
            "6.x",
            ">=6.7 <6.8",
        ] {
            assert_eq!(Range::parse(bad), None, "{bad}");
        }
    }
}
