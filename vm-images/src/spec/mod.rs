//! A kernel, as a user names it: `deb:6.12`, `deb:6.12.107+deb13-cloud-amd64`, `deb:6.12+md:PATH`,
//! `tree:PATH`.
//!
//! Pure, but for the folders that are looked at to find where the path of `PATH@REV` ends ([`revision`]).

pub mod debian;
pub mod error;
pub mod revision;
pub mod user;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::spec::debian::DebianSpec;
use crate::spec::error::BadKernelSpec;
use crate::spec::revision::Revision;
use crate::spec::user::{UserSource, UserSpec};

/// A kernel, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelSpec {
    /// One of Debian's.
    Debian {
        /// The kernel.
        base: DebianSpec,
        /// The source that replaces its md.
        overlay: Option<Overlay>,
    },
    /// One that the user brings.
    User(UserSpec),
}

/// The source that replaces a kernel's md, raid levels and dm-raid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// `+md:PATH`: those of a kernel tree, or of its drivers/md.
    Tree(PathBuf),
    /// `+md:PATH@REV`: those of a commit of a repository, or of a folder in it.
    Commit(Revision),
    /// `+plant:NAME`: those of the kernel's own source, with a bug planted.
    Plant(String),
}

/// The sign between a kernel and a tree or commit.
const TREE: &str = "+md:";
/// The sign between a kernel and a plant.
const PLANT: &str = "+plant:";

/// Several kernels in one text. A comma ends a kernel only where another one begins: it may also be part of a
/// name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSpecs(pub Vec<KernelSpec>);

impl FromStr for KernelSpecs {
    type Err = BadKernelSpec;

    fn from_str(text: &str) -> Result<Self, BadKernelSpec> {
        let mut specs: Vec<String> = Vec::new();
        for part in text.split(',') {
            let begins = SCHEMES.iter().any(|scheme| part.starts_with(scheme));
            match specs.last_mut() {
                Some(last) if !begins => *last = format!("{last},{part}"),
                Some(_) | None => specs.push(part.to_owned()),
            }
        }
        Ok(KernelSpecs(specs.iter().map(|spec| spec.parse()).collect::<Result<_, _>>()?))
    }
}

/// Beginnings of all kernels' names.
const SCHEMES: [&str; 4] = ["deb:", "tree:", "git:", "image:"];

impl FromStr for KernelSpec {
    type Err = BadKernelSpec;

    fn from_str(text: &str) -> Result<Self, BadKernelSpec> {
        let bad = || BadKernelSpec::new(text);
        if !text.starts_with("deb:") {
            return text.parse().map(KernelSpec::User).map_err(|_| bad());
        }
        // Versions contain `+`, too: the first of our own words ends them. A path may contain anything.
        let first = [TREE, PLANT].into_iter().filter_map(|word| Some((text.find(word)?, word))).min();
        let Some((at, word)) = first else { return Ok(KernelSpec::from(text.parse::<DebianSpec>()?)) };
        let what = &text[at + word.len()..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let overlay = match word {
            TREE if !what.is_empty() => match Revision::parse(what) {
                Some(revision) => Overlay::Commit(revision),
                None => Overlay::Tree(PathBuf::from(what)),
            },
            PLANT if !what.is_empty() && what.chars().all(is_name) => Overlay::Plant(what.to_owned()),
            _ => return Err(bad()),
        };
        Ok(KernelSpec::Debian { base: text[..at].parse().map_err(|_| bad())?, overlay: Some(overlay) })
    }
}

impl KernelSpec {
    /// Debian's kernel `base` with another md.
    pub fn overlaid(base: DebianSpec, overlay: Overlay) -> Self {
        KernelSpec::Debian { base, overlay: Some(overlay) }
    }

    /// A kernel that is built from a tree or a commit.
    pub fn built_from(source: UserSource) -> Self {
        KernelSpec::User(UserSpec::Source { source, lockdep: false })
    }
}

impl From<DebianSpec> for KernelSpec {
    fn from(base: DebianSpec) -> Self {
        KernelSpec::Debian { base, overlay: None }
    }
}

impl fmt::Display for KernelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelSpec::Debian { base, overlay } => {
                base.fmt(f)?;
                overlay.as_ref().map_or(Ok(()), |overlay| overlay.fmt(f))
            }
            KernelSpec::User(spec) => spec.fmt(f),
        }
    }
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overlay::Tree(path) => write!(f, "{TREE}{}", path.display()),
            Overlay::Commit(revision) => write!(f, "{TREE}{revision}"),
            Overlay::Plant(name) => write!(f, "{PLANT}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_ends_a_version_that_has_a_plus() {
        let spec: KernelSpec = "deb:6.12.107+deb13-cloud-amd64+md:a+plant:b".parse().unwrap();
        let base = DebianSpec::Exact { release: "6.12.107+deb13-cloud-amd64".to_owned() };
        assert_eq!(spec, KernelSpec::Debian { base, overlay: Some(Overlay::Tree("a+plant:b".into())) });
    }

    #[test]
    fn a_comma_parts_two_kernels_only_where_one_begins() {
        let split = |text: &str| {
            let specs = text.parse::<KernelSpecs>().map(|specs| specs.0);
            specs.map(|specs| specs.iter().map(KernelSpec::to_string).collect::<Vec<_>>())
        };
        assert_eq!(split("deb:6.1,deb:6.12").unwrap(), ["deb:6.1", "deb:6.12"]);
        assert_eq!(
            split("tree:/a,b,lockdep,image:bzImage,modules=/m,deb:6.1").unwrap(),
            ["tree:/a,b,lockdep", "image:bzImage,modules=/m", "deb:6.1"]
        );
        for text in ["", "deb:6.1,", "deb:6.1,6.12", ",deb:6.1"] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    #[test]
    fn specs_round_trip_and_nonsense_is_refused() {
        for text in [
            "deb:6.12",
            "deb:6.12-amd64",
            "deb:6.12.107+deb13-cloud-amd64",
            "deb:6.12.107+deb13-cloud-amd64+md:../linux+md:2/drivers/md",
            "deb:6.12+plant:e3",
            "tree:/x,lockdep",
            "git:/x@v6.7",
        ] {
            assert_eq!(text.parse::<KernelSpec>().unwrap().to_string(), text);
        }
        for text in [
            "6.12",
            "deb:",
            "deb:latest",
            "deb:6.12.107",
            "deb:../x-amd64",
            "tree:",
            "git:/x",
            "deb:6.12+md:",
            "deb:latest+md:/x",
            "deb:6.12+plant:../e3",
            "deb:6.12+other:x",
        ] {
            assert!(text.parse::<KernelSpec>().is_err(), "{text}");
        }
    }
}
