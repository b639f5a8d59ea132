//! A commit of a repository, as a user names it: `PATH@REV`.
//!
//! Both parts may hold an `@` (`linux@HEAD@{1}`), so where the path ends is only known by which folders there
//! are. They are looked at when the text is read, and never again.

use std::fmt;
use std::path::{Path, PathBuf};

/// A commit, by the repository that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Top of the repository, or a folder below it.
    pub path: PathBuf,
    /// A name of the commit that git knows: an id, a tag, `HEAD@{1}`.
    pub rev: String,
}

impl Revision {
    /// Reads `PATH@REV`; `None` if there is no revision, or nothing in front of one. What exists as it stands
    /// is a path, whatever signs are in its name; otherwise the longest path that is a folder counts.
    pub fn parse(text: &str) -> Option<Self> {
        if Path::new(text).exists() {
            return None;
        }
        let splits = text.rmatch_indices('@').filter_map(|(at, _)| {
            let (path, rev) = (&text[..at], &text[at + 1..]);
            let is_split = !path.is_empty() && !rev.is_empty();
            is_split.then(|| Revision { path: PathBuf::from(path), rev: rev.to_owned() })
        });
        let mut splits = splits.peekable();
        let last = splits.peek().cloned();
        splits.find(|revision| revision.path.is_dir()).or(last)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.path.display(), self.rev)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_path_ends_where_a_folder_does() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["linux", "a@b"] {
            fs::create_dir(at(name)).unwrap();
        }
        let check = |name: &str, expect: Option<(&str, &str)>| {
            let text = at(name).display().to_string();
            let revision = Revision::parse(&text);
            let expect = expect.map(|(path, rev)| Revision { path: at(path), rev: rev.to_owned() });
            assert_eq!(revision, expect, "{name}");
            assert!(revision.is_none_or(|revision| revision.to_string() == text), "{name}");
        };
        check("linux", None);
        check("a@b", None);
        check("linux@v6.8", Some(("linux", "v6.8")));
        check("a@b@HEAD@{1}", Some(("a@b", "HEAD@{1}")));
        check("linux@@{u}", Some(("linux", "@{u}")));
        // Neither exists: the error will be about the path.
        check("none@v6.8", Some(("none", "v6.8")));
        check("none", None);
        check("linux@", None);
        assert_eq!(Revision::parse("@v6.8"), None);
    }
}
