//! Each Rust file opens with what it does.

use crate::complaint::Complaint;
use crate::tree::Tree;

/// Name of the guard.
pub const RULE: &str = "headers";

/// Complaints about Rust files that don't begin with `//! `.
pub fn check(tree: &Tree) -> Vec<Complaint> {
    tree.texts(".rs")
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| Complaint {
            file: path.to_owned(),
            line: 1,
            rule: RULE,
            text: "the file does not open with `//! `".to_owned(),
            mend: "say there what it does, and what it deliberately does not".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_header_is_named() {
        let tree = Tree::of([("a/src/lib.rs", "//! A.\n"), ("a/src/b.rs", "use x;\n//! B.\n")]);
        let found: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "a/src/b.rs:1: headers: the file does not open with `//! `; say there what it does, and what it \
              deliberately does not"
            ]
        );
    }
}
