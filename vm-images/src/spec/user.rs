//! Kernels that a user brings: `tree:PATH`, `git:PATH@REV`, `image:BZIMAGE,modules=DIR`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::spec::revision::Revision;

/// A kernel that the user brings, as a source or built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSpec {
    /// `tree:`, `git:`: a source that is built.
    Source {
        /// The folder or commit.
        source: UserSource,
        /// True if it is built with the options that prove the order of locks (`,lockdep`).
        lockdep: bool,
    },
    /// `image:`: a kernel that somebody else built.
    Image {
        /// The bzImage.
        image: PathBuf,
        /// Its modules, as `make modules_install` leaves them.
        modules: PathBuf,
    },
}

/// A source of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    /// `tree:PATH`: a tree as it is.
    Tree(PathBuf),
    /// `git:PATH@REV`: a commit.
    Commit(Revision),
}

const TREE: &str = "tree:";
const GIT: &str = "git:";
const IMAGE: &str = "image:";
const MODULES: &str = ",modules=";
const LOCKDEP: &str = ",lockdep";

/// The error of a text that names no such kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoUserSpec;

impl FromStr for UserSpec {
    type Err = NoUserSpec;

    fn from_str(text: &str) -> Result<Self, NoUserSpec> {
        let path = |text: &str| if text.is_empty() { Err(NoUserSpec) } else { Ok(PathBuf::from(text)) };
        if let Some(rest) = text.strip_prefix(IMAGE) {
            let (image, modules) = rest.split_once(MODULES).ok_or(NoUserSpec)?;
            return Ok(UserSpec::Image { image: path(image)?, modules: path(modules)? });
        }
        let (text, lockdep) = match text.strip_suffix(LOCKDEP) {
            Some(text) => (text, true),
            None => (text, false),
        };
        let source = if let Some(rest) = text.strip_prefix(TREE) {
            UserSource::Tree(path(rest)?)
        } else if let Some(rest) = text.strip_prefix(GIT) {
            UserSource::Commit(Revision::parse(rest).ok_or(NoUserSpec)?)
        } else {
            return Err(NoUserSpec);
        };
        Ok(UserSpec::Source { source, lockdep })
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserSpec::Source { source, lockdep } => {
                match source {
                    UserSource::Tree(path) => write!(f, "{TREE}{}", path.display())?,
                    UserSource::Commit(revision) => write!(f, "{GIT}{revision}")?,
                }
                f.write_str(if *lockdep { LOCKDEP } else { "" })
            }
            UserSpec::Image { image, modules } => {
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
            assert_eq!(text.parse::<UserSpec>().unwrap().to_string(), text);
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
            assert!(text.parse::<UserSpec>().is_err(), "{text}");
        }
    }
}
