//! Files that a reader meets first stay short.

use std::collections::BTreeMap;

use crate::complaint::Complaint;
use crate::tree::Tree;

/// Name of the guard.
pub const RULE: &str = "sizes";

/// Complaints about files that have more bytes than they may.
pub fn check(tree: &Tree, sizes: &BTreeMap<String, usize>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (path, bytes_max) in sizes {
        let Some(text) = tree.text(path) else { continue };
        if text.len() > *bytes_max {
            // The first line of which a part is too much.
            let line = text.as_bytes()[..*bytes_max].iter().filter(|byte| **byte == b'\n').count() + 1;
            complaints.push(Complaint {
                file: path.clone(),
                line,
                rule: RULE,
                text: format!("the file has {} bytes, and may have {bytes_max}", text.len()),
                mend: "move what goes into detail to docs/".to_owned(),
            });
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_over_its_size_is_named_with_the_line_where_it_should_end() {
        let sizes = BTreeMap::from([("README.md".to_owned(), 8)]);
        let found = check(&Tree::of([("README.md", "12345\n789\n")]), &sizes);
        assert_eq!(
            found[0].to_string(),
            "README.md:2: sizes: the file has 10 bytes, and may have 8; move what goes into detail to docs/"
        );
        assert_eq!(check(&Tree::of([("README.md", "12345\n7\n")]), &sizes), []);
    }
}
