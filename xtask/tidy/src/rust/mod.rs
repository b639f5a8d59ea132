//! A package's modules as `rustc` sees them, tests apart: which file holds which module, which names each
//! module has, and which other file each import leads to.
//!
//! No macro is expanded: paths inside of macro calls are found among their tokens, and names that a macro
//! makes are taken to be defined in the module that the path names.

mod find;
mod resolve;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub use find::read_package;

/// A package: its files, their scopes, and what they mention.
#[derive(Debug, Default)]
pub struct Package {
    /// Every file that some target reaches through `mod`, tests apart.
    pub files: Vec<SourceFile>,
    scopes: Vec<Scope>,
    mentions: Vec<Mention>,
    /// Root scope of the library, if there is one, and the name by which the package's binaries import it.
    library: Option<(usize, String)>,
}

/// A file, which is one module; modules written inline belong to their file.
#[derive(Debug)]
pub struct SourceFile {
    /// Path below the top of the work tree.
    pub path: String,
    /// Path of the module, from below the crate's root: empty for `lib.rs` and `main.rs`.
    pub module: Vec<String>,
    /// Root scope of the crate that the file belongs to.
    root: usize,
    /// Lines of the items that only tests have.
    tests: Vec<RangeInclusive<usize>>,
}

impl SourceFile {
    /// True if the line, counted from 1, lies in an item that only tests have.
    pub fn is_test_line(&self, line: usize) -> bool {
        self.tests.iter().any(|lines| lines.contains(&line))
    }
}

/// A path in a file that leads to another file of the package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// Index of the file that imports.
    pub from: usize,
    /// Index of the file that defines what is imported.
    pub to: usize,
    /// Line of the path in `from`.
    pub line: usize,
    /// The path as it is written.
    pub words: String,
}

/// A module with its names: a file's, or one written inline.
#[derive(Debug)]
struct Scope {
    parent: Option<usize>,
    root: usize,
    file: usize,
    names: BTreeMap<String, Vec<Binding>>,
    globs: Vec<Vec<String>>,
}

/// Meaning of a name within a scope.
#[derive(Debug, Clone)]
enum Binding {
    /// Defined here.
    Item,
    /// A module of the package.
    Module(usize),
    /// Imported by this path.
    Use(Vec<String>),
}

/// A path that a file mentions, in an import or in code.
#[derive(Debug)]
struct Mention {
    scope: usize,
    path: Vec<String>,
    line: usize,
}

impl Package {
    /// All imports between two different files, each once a line, in the order of files and lines.
    pub fn imports(&self) -> Vec<Import> {
        let mut imports: Vec<Import> = Vec::new();
        for mention in &self.mentions {
            let from = self.scopes[mention.scope].file;
            for to in self.files_of(mention) {
                if to != from {
                    imports.push(Import { from, to, line: mention.line, words: mention.path.join("::") });
                }
            }
        }
        imports.sort();
        imports.dedup_by(|a, b| (a.from, a.to, a.line) == (b.from, b.to, b.line));
        imports
    }

    /// True if one of the two files is a module around the other.
    pub fn are_akin(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.files[a], &self.files[b]);
        a.root == b.root && (a.module.starts_with(&b.module) || b.module.starts_with(&a.module))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    /// Imports of a package of these files below `src`, as `FILE:LINE FILE`.
    fn imports<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        let mut tree = Tree::of([("Cargo.toml", "[package]\nname = \"p\"\n")]);
        tree.extend(files.map(|(path, text)| (format!("src/{path}"), text)));
        let package = read_package(&tree, "").unwrap();
        let name = |file: usize| package.files[file].path.trim_start_matches("src/");
        let shown = |import: &Import| format!("{}:{} {}", name(import.from), import.line, name(import.to));
        package.imports().iter().map(shown).collect()
    }

    #[test]
    fn new_names_and_chains_of_re_exports_are_followed() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("a.rs", "use crate::b as other;\nfn f() { other::New::g() }\n"),
            ("b.rs", "pub use crate::c::Old as New;\n"),
            ("c.rs", "pub struct Old;\n"),
        ];
        assert_eq!(imports(files), ["a.rs:1 b.rs", "a.rs:2 c.rs", "b.rs:1 c.rs"]);
    }

    #[test]
    fn names_that_import_each_other_come_to_an_end() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "pub use crate::b::*;\n"),
            ("b.rs", "pub use crate::a::X;\n"),
        ];
        assert_eq!(imports(files), ["a.rs:1 b.rs", "b.rs:1 a.rs"]);
    }

    #[test]
    fn files_are_found_as_the_compiler_does() {
        let files = [
            ("lib.rs", "mod a;\n#[path = \"odd/name.rs\"]\nmod b;\nmod inline { mod deep; }\n"),
            ("a.rs", "mod inner;\n#[path = \"beside.rs\"]\nmod c;\n"),
            ("a/inner.rs", "use super::super::b::B;\n"),
            ("beside.rs", "use crate::inline::deep::D;\n"),
            ("odd/name.rs", "pub struct B;\n"),
            ("inline/deep.rs", "pub struct D;\n"),
        ];
        assert_eq!(imports(files), ["a/inner.rs:1 odd/name.rs", "beside.rs:1 inline/deep.rs"]);
    }

    #[test]
    fn names_of_other_crates_and_of_the_file_itself_are_no_imports() {
        let files = [
            ("lib.rs", "mod a;\nmod regex;\n"),
            (
                "a.rs",
                "use std::fmt;\nuse ::regex::Regex;\nuse other::regex;\npub(in crate::a) struct A;\nfn f(a: A) -> fmt::Result { regex::f() }\n",
            ),
            ("regex.rs", ""),
        ];
        assert_eq!(imports(files), [""; 0]);
    }

    #[test]
    fn conditions_that_hold_in_tests_only_are_told_from_others() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\n"),
            (
                "a.rs",
                "#[cfg(all(test, unix))]\nuse crate::b;\n#[cfg(not(test))]\nuse crate::b;\nimpl A {\n    #[cfg(test)]\n    fn f() { crate::b::g() }\n}\n",
            ),
            ("b.rs", ""),
        ];
        assert_eq!(imports(files), ["a.rs:4 b.rs"]);
    }

    #[test]
    fn a_module_without_a_file_and_nonsense_are_errors() {
        let package = |text: &str| {
            let tree = Tree::of([("Cargo.toml", "[package]\nname = \"p\"\n"), ("src/lib.rs", text)]);
            read_package(&tree, "").unwrap_err().to_string()
        };
        assert_eq!(package("\nmod gone;\n"), "`src/lib.rs:2`: module `gone` has no file");
        assert!(package("\nfn {\n").starts_with("failed to parse `src/lib.rs:2`"), "{}", package("\nfn {\n"));
    }
}
