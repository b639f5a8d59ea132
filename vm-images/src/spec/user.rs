//! Kernels of a user's own, as the user names them: `tree:PATH`, `git:PATH@REV`, `image:BZIMAGE,modules=DIR`. Pure.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A kernel that no distribution built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnSpec {
    /// A source that is built.
    Source {
        /// Where it is.
        source: OwnSource,
        /// With the options that prove the order of locks.
        lockdep: bool,
    },
    /// What somebody else built.
    Image {
        /// The bzImage.
        image: PathBuf,
        /// Its modules, as `make modules_install` leaves them.
        modules: PathBuf,
    },
}

/// A source of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnSource {
    /// `tree:PATH`: a tree as it is.
    Tree(PathBuf),
    /// `git:PATH@REV`: a commit. Where the path ends is only known by what there is
    /// ([`crate::build::git::split_revision`]).
    Commit(PathBuf),
}

const TREE: &str = "tree:";
const GIT: &str = "git:";
const IMAGE: &str = "image:";
const MODULES: &str = ",modules=";
const LOCKDEP: &str = ",lockdep";

/// What the user wrote is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoOwnSpec;

impl FromStr for OwnSpec {
    type Err = NoOwnSpec;

    fn from_str(text: &str) -> Result<Self, NoOwnSpec> {
        let path = |text: &str| if text.is_empty() { Err(NoOwnSpec) } else { Ok(PathBuf::from(text)) };
        if let Some(rest) = text.strip_prefix(IMAGE) {
            let (image, modules) = rest.split_once(MODULES).ok_or(NoOwnSpec)?;
            return Ok(OwnSpec::Image { image: path(image)?, modules: path(modules)? });
        }
        let (text, lockdep) = match text.strip_suffix(LOCKDEP) {
            Some(text) => (text, true),
            None => (text, false),
        };
        let source = if let Some(rest) = text.strip_prefix(TREE) {
            OwnSource::Tree(path(rest)?)
        } else if let Some(rest) = text.strip_prefix(GIT) {
            let is_split =
                rest.split_once('@').is_some_and(|(path, _)| !path.is_empty()) && !rest.ends_with('@');
            OwnSource::Commit(path(rest).and_then(|path| if is_split { Ok(path) } else { Err(NoOwnSpec) })?)
        } else {
            return Err(NoOwnSpec);
        };
        Ok(OwnSpec::Source { source, lockdep })
    }
}

impl fmt::Display for OwnSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OwnSpec::Source { source, lockdep } => {
                match source {
                    OwnSource::Tree(path) => write!(f, "{TREE}{}", path.display())?,
                    OwnSource::Commit(path) => write!(f, "{GIT}{}", path.display())?,
                }
                f.write_str(if *lockdep { LOCKDEP } else { "" })
            }
            OwnSpec::Image { image, modules } => {
                write!(f, "{IMAGE}{}{MODULES}{}", image.display(), modules.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_round_trip() {
        for text in [
            "tree:/home/me/linux",
            "tree:../linux@work,lockdep",
            "git:/home/me/linux@v6.7-rc1",
            "git:a@b@HEAD@{1},lockdep",
            "image:arch/x86/boot/bzImage,modules=/tmp/mods",
        ] {
            assert_eq!(text.parse::<OwnSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "tree:",
            "tree:,lockdep",
            "git:",
            "git:/linux",
            "git:@v6.7",
            "git:/linux@",
            "image:",
            "image:bzImage",
            "image:,modules=/x",
            "image:x,modules=",
            "/linux",
            "deb:6.12",
        ] {
            assert!(text.parse::<OwnSpec>().is_err(), "{text}");
        }
    }
}
