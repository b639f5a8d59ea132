//! Every file that a comment, a message or a page cites is in the repository, and every link of a page leads
//! somewhere.
//!
//! A citation is a word that names a path below a folder at the top of the work tree (`reports/src`; also
//! with `*`, `{a,b}` and `NAME`), or a `.rs` or `.md` file by its name or the end of its path. Words with
//! placeholders, absolute paths and URLs are none. Literals in code for tests are made up, and left out.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::complaint::Complaint;
use crate::markdown::{self, Page};
use crate::pieces::{Kind, pieces};
use crate::rust::Package;
use crate::settings::{Elsewhere, FILE};
use crate::tree::{Tree, folder_of, join, matches};

/// Name of the guard.
pub const RULE: &str = "cited";

/// Complaints about citations of files that are not there, and about entries of the list that nobody needs.
///
/// # Errors
///
/// A Rust file doesn't parse.
pub fn check(tree: &Tree, packages: &[Package], elsewhere: &[Elsewhere]) -> Result<Vec<Complaint>> {
    let mut search = Search { tree, elsewhere, used: BTreeSet::new(), complaints: Vec::new() };
    for (path, text) in tree.texts(".rs") {
        let code = packages.iter().flat_map(|package| &package.files).find(|file| file.path == path);
        for piece in pieces(text).with_context(|| format!("failed to parse `{path}`"))? {
            let is_made_up = code.is_none_or(|file| file.is_test_line(piece.line));
            if piece.kind == Kind::Literal && is_made_up {
                continue;
            }
            for (idx, line) in piece.text.lines().enumerate() {
                search.words(path, piece.line + idx, line);
            }
        }
    }
    for end in [".md", ".toml", ".sh"] {
        for (path, text) in tree.texts(end).filter(|(path, _)| *path != FILE) {
            let page = if end == ".md" { markdown::page(text) } else { Page::default() };
            search.links(path, &page);
            for (idx, line) in text.lines().enumerate() {
                // A link's destination is no word; its text may be broken, and begin some lines above.
                let mut line = line.to_owned();
                let near = idx.saturating_sub(2)..=idx + 1;
                for (_, link) in page.links.iter().filter(|(at, _)| near.contains(at)) {
                    line = line.replace(&format!("({link})"), "");
                }
                search.words(path, idx + 1, &line);
            }
        }
    }
    let settings = tree.text(FILE).unwrap_or_default();
    for (idx, entry) in elsewhere.iter().enumerate().filter(|(idx, _)| !search.used.contains(idx)) {
        let quoted = format!("\"{}\"", entry.path);
        let line = settings.lines().position(|line| line.starts_with("path") && line.contains(&quoted));
        search.complaints.push(Complaint {
            file: FILE.to_owned(),
            line: line.map_or(idx, |line| line + 1),
            rule: RULE,
            text: format!("no file cites `{}` any more", entry.path),
            mend: "remove the entry".to_owned(),
        });
    }
    search.complaints.sort();
    search.complaints.dedup_by(|a, b| (&a.file, a.line, &a.text) == (&b.file, b.line, &b.text));
    Ok(search.complaints)
}

struct Search<'a> {
    tree: &'a Tree,
    elsewhere: &'a [Elsewhere],
    /// Entries of `elsewhere` that something needed.
    used: BTreeSet<usize>,
    complaints: Vec<Complaint>,
}

impl Search<'_> {
    fn words(&mut self, file: &str, line: usize, text: &str) {
        for word in citations(text) {
            for path in without_braces(&word) {
                if self.is_citation(&path) && !self.is_there(file, &path) {
                    self.complain(
                        file,
                        line,
                        &path,
                        format!("cites `{path}`, which is not in the repository"),
                    );
                }
            }
        }
    }

    fn links(&mut self, file: &str, page: &Page) {
        for (line, link) in &page.links {
            let is_remote = link.contains("://") || link.starts_with("mailto:");
            if is_remote {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => file.to_owned(),
                path if path.starts_with('/') => join("", path),
                path => join(folder_of(file), path),
            };
            if !self.tree.has_file(&target) && !self.tree.has_folder(&target) && !target.is_empty() {
                self.complain(
                    file,
                    *line,
                    &target,
                    format!("links to `{path}`, which is not in the repository"),
                );
            } else if !anchor.is_empty()
                && target.ends_with(".md")
                && let Some(text) = self.tree.text(&target)
                && !markdown::page(text).anchors.iter().any(|heading| heading == anchor)
            {
                let text = format!("links to `#{anchor}`, which is no heading of {target}");
                self.complain(file, *line, link, text);
            }
        }
    }

    fn complain(&mut self, file: &str, line: usize, path: &str, text: String) {
        let entry = self.elsewhere.iter().position(|entry| is_meant(&entry.path, path));
        if let Some(idx) = entry {
            self.used.insert(idx);
            return;
        }
        self.complaints.push(Complaint {
            file: file.to_owned(),
            line,
            rule: RULE,
            text,
            mend: format!("cite what is there, or say in [[elsewhere]] of {FILE} where it is"),
        });
    }

    /// True if a word of this form names a file of the repository.
    fn is_citation(&self, path: &str) -> bool {
        match path.split_once('/') {
            Some((top, below)) if !top.starts_with("..") && !below.is_empty() => {
                (!top.contains('*') && self.tree.has_folder(top)) || has_own_end(path)
            }
            _ => has_own_end(path),
        }
    }

    /// True if there is such a file or folder: from the top, from the file that cites it, or by the end of a
    /// path.
    fn is_there(&self, file: &str, path: &str) -> bool {
        let pattern = with_stars(path);
        if pattern.contains('*') {
            let folders = self.tree.paths().map(folder_of);
            return self.tree.paths().chain(folders).any(|path| matches(&pattern, path));
        }
        let beside = join(folder_of(file), path);
        let end = format!("/{}", path.trim_end_matches('/'));
        [path, &beside].iter().any(|path| self.tree.has_file(path) || self.tree.has_folder(path))
            || (has_own_end(path) && self.tree.paths().any(|known| known.ends_with(&end)))
    }
}

/// Words that might be citations.
fn citations(text: &str) -> Vec<String> {
    let is_between = |letter: char| letter.is_whitespace() || "\"'`()[]|;=\\“”‘’".contains(letter);
    text.split(is_between)
        .filter_map(|word| {
            let word = word.trim_start_matches(['*', '_', ',']);
            // Without a line or an anchor behind it.
            let word = match word.find([':', '#']) {
                Some(at) if !word[at..].starts_with("::") && !word[at..].starts_with("://") => &word[..at],
                _ => word,
            };
            let word = word.trim_end_matches(['.', ',', '!', '?', ':', '_']);
            let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./*{},+".contains(letter);
            let is_path =
                !word.starts_with(['/', '-']) && !word.contains("...") && word.chars().all(is_plain);
            (is_path && word.contains(['/', '.'])).then(|| word.to_owned())
        })
        .collect()
}

/// Braces with a comma stand for several paths; others are a placeholder, and the word is no path.
fn without_braces(word: &str) -> Vec<String> {
    let Some((before, rest)) = word.split_once('{') else {
        return if word.contains(['}', ',']) { Vec::new() } else { vec![word.to_owned()] };
    };
    let Some((inner, after)) = rest.split_once('}') else { return Vec::new() };
    if !inner.contains(',') {
        return Vec::new();
    }
    inner.split(',').flat_map(|part| without_braces(&format!("{before}{part}{after}"))).collect()
}

/// A part in capitals stands for any: `suites/NAME/suite.toml` is there if some suite is. Pages are named in
/// capitals.
fn with_stars(path: &str) -> String {
    let Some((_, below)) = path.split_once('/') else { return path.to_owned() };
    let is_name = |stem: &str| {
        stem.len() > 1 && stem.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
    };
    let parts = below.split('/').map(|part| match part.split_once('.') {
        None if is_name(part) => "*".to_owned(),
        Some((stem, end)) if is_name(stem) && end != "md" => format!("*.{end}"),
        _ => part.to_owned(),
    });
    let below: Vec<String> = parts.collect();
    format!("{}/{}", path.split('/').next().unwrap_or_default(), below.join("/"))
}

/// True for a file of a kind that nearly only this repository's prose names.
fn has_own_end(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    [".rs", ".md"].iter().any(|end| name.strip_suffix(end).is_some_and(|stem| !stem.is_empty()))
}

/// True if an entry of the list is about this path.
fn is_meant(entry: &str, path: &str) -> bool {
    let path = if entry.contains('/') { path } else { path.rsplit('/').next().unwrap_or(path) };
    if let Some(folder) = entry.strip_suffix('/') {
        return path == folder || path.starts_with(entry);
    }
    matches(entry, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rust::read_package;

    fn complaints<const N: usize>(files: [(&str, &str); N], elsewhere: &[&str]) -> Vec<String> {
        let mut tree =
            Tree::of([("p/Cargo.toml", "[package]\nname = \"p\"\n"), ("docs/how/a.md", "# A title\n")]);
        tree.extend(files);
        let packages = [read_package(&tree, "p").unwrap()];
        let elsewhere: Vec<Elsewhere> = elsewhere
            .iter()
            .map(|path| Elsewhere { path: (*path).to_owned(), reason: "made up".to_owned() })
            .collect();
        check(&tree, &packages, &elsewhere).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let found = complaints([("p/src/lib.rs", "//! P.\n\n// See gone.md, section 4.\n")], &[]);
        assert_eq!(
            found,
            [
                "p/src/lib.rs:3: cited: cites `gone.md`, which is not in the repository; cite what is there, or say in \
              [[elsewhere]] of xtask/tidy/tidy.toml where it is"
            ]
        );
    }

    #[test]
    fn comments_messages_pages_and_scripts_are_read() {
        let found = complaints(
            [
                ("p/src/lib.rs", "//! In `p/src/x.rs`.\nconst A: &str = \"see docs/b.md\";\n"),
                ("README.md", "Text.\nSee `docs/how/{a,c}.md`.\n"),
                ("run.sh", "# like p/run.sh\n"),
                ("a.toml", "x = \"p/y.toml\"\n"),
            ],
            &[],
        );
        let cited: Vec<&str> = found.iter().filter_map(|line| line.split('`').nth(1)).collect();
        assert_eq!(cited, ["docs/how/c.md", "p/y.toml", "p/src/x.rs", "docs/b.md", "p/run.sh"]);
    }

    #[test]
    fn a_file_is_found_from_the_top_from_beside_and_by_its_end() {
        let files = [
            (
                "p/src/lib.rs",
                "//! `lib.rs`, `src/lib.rs:12`, `p/src`, `how/a.md`, docs/how/*.md, `docs/{how,how/a.md}`, docs/NAME/a.md.\n",
            ),
            ("docs/how/b.md", "../how/a.md\n"),
        ];
        assert_eq!(complaints(files, &[]), [""; 0]);
    }

    #[test]
    fn placeholders_urls_and_foreign_paths_are_no_citations() {
        let files = [(
            "p/src/lib.rs",
            "//! p/<NAME>/x.rs, https://example.org/p/x.md, /p/x.rs, ~/p/x.rs, drivers/md/md.c, $p/x.rs, p/…/x.rs.\n\
             const A: &str = \"p/{name}.rs\";\n#[cfg(test)]\nmod tests { const B: &str = \"p/made/up.rs\"; }\n",
        )];
        assert_eq!(complaints(files, &[]), [""; 0]);
    }

    #[test]
    fn a_link_is_followed_to_its_heading() {
        let files = [(
            "docs/b.md",
            "# B\n\n[one](how/a.md#a-title) [two](#b) [three](https://example.org/#x)\n[four](how/a.md#gone)\n\
             [five](a.md) [six](how/)\n",
        )];
        let found = complaints(files, &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0]
                .starts_with("docs/b.md:4: cited: links to `#gone`, which is no heading of docs/how/a.md")
        );
        assert!(found[1].starts_with("docs/b.md:5: cited: links to `a.md`, which is not in the repository"));
    }

    #[test]
    fn a_file_elsewhere_needs_an_entry_and_an_entry_needs_a_citation() {
        let files = [("p/src/lib.rs", "//! Writes p/out/events.md and `nightly-7.md`.\n")];
        assert_eq!(complaints(files, &["p/out/", "nightly-*.md"]), [""; 0]);
        let found = complaints(files, &["p/out/", "nightly-*.md", "other.md"]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("no file cites `other.md` any more"), "{found:?}");
    }
}
