//! The work tree in memory: every path that git would keep, and the text of those files that are read.
//!
//! The guards are functions of a [`Tree`], so that a test makes one up in a line. Only [`Tree::read`] touches
//! files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// Names of files that are read end so; of the others only the path is known.
const READ: [&str; 6] = ["rs", "md", "toml", "sh", "yml", "lock"];

/// Paths below the top of the work tree, with `/` between folders, and their text.
#[derive(Debug, Default, Clone)]
pub struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Reads all files below `top` but those that its `.gitignore` leaves out.
    ///
    /// # Errors
    ///
    /// A folder or a file that can't be read.
    pub fn read(top: &Path) -> Result<Tree> {
        let mut files = BTreeMap::new();
        let patterns = std::fs::read_to_string(top.join(".gitignore")).unwrap_or_default();
        let below_top = |path: &Path| {
            path.strip_prefix(top).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let walk = walkdir::WalkDir::new(top)
            .into_iter()
            .filter_entry(|entry| entry.depth() == 0 || !is_left_out(&patterns, &below_top(entry.path())));
        for entry in walk {
            let entry = entry.with_context(|| format!("failed to look through `{}`", top.display()))?;
            if entry.file_type().is_dir() {
                continue;
            }
            let path = entry.path();
            let is_read = entry.file_type().is_file()
                && path.extension().is_some_and(|end| READ.iter().any(|read| end == *read));
            let text = if is_read {
                let bytes =
                    std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
                String::from_utf8(bytes).ok()
            } else {
                None
            };
            files.insert(below_top(path), text);
        }
        Ok(Tree { files })
    }

    /// A tree of made-up files, for tests and examples.
    pub fn of<const N: usize>(files: [(&str, &str); N]) -> Tree {
        let files = files.into_iter().map(|(path, text)| (path.to_owned(), Some(text.to_owned())));
        Tree { files: files.collect() }
    }

    /// Adds made-up files.
    pub fn extend<P: Into<String>, T: Into<String>>(&mut self, files: impl IntoIterator<Item = (P, T)>) {
        self.files.extend(files.into_iter().map(|(path, text)| (path.into(), Some(text.into()))));
    }

    /// The text of a file that is read.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// True if there is such a file, read or not.
    pub fn has_file(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// True if some file lies below `path`.
    pub fn has_folder(&self, path: &str) -> bool {
        let below = format!("{}/", path.trim_end_matches('/'));
        self.files.range(below.clone()..).next().is_some_and(|(path, _)| path.starts_with(&below))
    }

    /// All paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Path and text of the files that are read and whose name ends with `end`.
    pub fn texts<'a>(&'a self, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(end))
            .filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }
}

/// True for git's own folder, and what a `.gitignore` names by its path from the top, by its name, or
/// by the end of its name: the forms that this work tree uses.
fn is_left_out(gitignore: &str, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let named = gitignore.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    name == ".git"
        || named.map(|line| line.trim_end_matches('/')).any(|pattern| match pattern.strip_prefix('/') {
            Some(whole) => matches(whole, path),
            None => matches(pattern, name),
        })
}

/// True if a path has the form of a pattern, in which `*` stands for any part of a name.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == path };
    let Some(rest) = path.strip_prefix(before) else { return false };
    let name = rest.find('/').unwrap_or(rest.len());
    (0..=name).filter(|end| rest.is_char_boundary(*end)).any(|end| matches(after, &rest[end..]))
}

/// `folder/path`, or `path` alone at the top; `.` and `..` in `path` are followed as far as the top.
pub(crate) fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The folder that a file lies in; empty at the top.
pub(crate) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_climb() {
        assert_eq!(join("docs/how", "../use/a.md"), "docs/use/a.md");
        assert_eq!(join("", "a.md"), "a.md");
        assert_eq!(folder_of("a/b/c.rs"), "a/b");
    }

    #[test]
    fn a_star_is_any_part_of_a_name() {
        assert!(matches("a/*.md", "a/b.md") && matches("*", "b") && matches("a/*/c*", "a/b/cd"));
        assert!(!matches("a/*.md", "a/b/c.md") && !matches("a/*", "b/a") && !matches("a", "ab"));
    }

    #[test]
    fn what_git_ignores_is_left_out() {
        let ignored = |path| is_left_out("# Made.\n/reports/out\n*.snap.new\n", path);
        assert!(ignored(".git") && ignored("reports/out") && ignored("a/b.snap.new"));
        assert!(
            !ignored("a/reports/out") && !ignored("a/target") && !ignored(".github") && !ignored("a/b.snap")
        );
    }

    #[test]
    fn a_folder_is_there_if_a_file_lies_below_it() {
        let tree = Tree::of([("a/b/c.rs", "")]);
        assert!(tree.has_folder("a/b") && tree.has_folder("a/") && !tree.has_folder("a/b/c"));
        assert!(!tree.has_folder("a/bb"));
    }
}
