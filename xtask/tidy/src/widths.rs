//! Comments are not wider than the code, which `rustfmt` keeps to its width.

use anyhow::{Context, Result};
use unicode_width::UnicodeWidthStr;

use crate::complaint::Complaint;
use crate::pieces::{Kind, pieces};
use crate::tree::Tree;

/// Name of the guard.
pub const RULE: &str = "widths";

/// Complaints about comments that go beyond `max_width` of `rustfmt.toml`, URLs apart.
///
/// # Errors
///
/// `rustfmt.toml` has no width, or a Rust file doesn't parse.
pub fn check(tree: &Tree) -> Result<Vec<Complaint>> {
    let settings = tree.text("rustfmt.toml").context("there is no `rustfmt.toml`")?;
    let settings: toml::Table = toml::from_str(settings).context("failed to parse `rustfmt.toml`")?;
    let width_max = settings.get("max_width").and_then(toml::Value::as_integer);
    let width_max = usize::try_from(width_max.context("`rustfmt.toml` sets no `max_width`")?)?;
    let mut complaints = Vec::new();
    for (path, text) in tree.texts(".rs") {
        let lines: Vec<&str> = text.lines().collect();
        let comments = pieces(text).with_context(|| format!("failed to parse `{path}`"))?;
        for comment in comments.into_iter().filter(|piece| piece.kind == Kind::Comment) {
            for (idx, part) in comment.text.lines().enumerate() {
                let line = comment.line + idx;
                let width = lines.get(line - 1).map_or(0, |line| line.width());
                if width > width_max && !part.contains("://") {
                    complaints.push(Complaint {
                        file: path.to_owned(),
                        line,
                        rule: RULE,
                        text: format!("the comment has {width} columns, the code at most {width_max}"),
                        mend: "break the line".to_owned(),
                    });
                }
            }
        }
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let tree = Tree::of([("rustfmt.toml", "max_width = 20\n"), ("a.rs", text)]);
        check(&tree).unwrap().iter().map(|complaint| complaint.line).collect()
    }

    #[test]
    fn a_wide_comment_is_named() {
        let tree =
            Tree::of([("rustfmt.toml", "max_width = 20\n"), ("a.rs", "//! A.\n    // 3456789 1234567\n")]);
        let found = check(&tree).unwrap();
        assert_eq!(
            found[0].to_string(),
            "a.rs:2: widths: the comment has 22 columns, the code at most 20; break the line"
        );
    }

    #[test]
    fn columns_count_and_not_bytes() {
        assert_eq!(lines("// ääääääääääääääääü\n"), [0; 0]);
        assert_eq!(lines("// ääääääääääääääääüü\n"), [1]);
        assert_eq!(lines("/// 漢字漢字漢字漢字漢\n"), [1], "two columns each");
    }

    #[test]
    fn a_url_and_a_string_may_be_wide() {
        assert_eq!(lines("/// https://example.org/a/b/c\n"), [0; 0]);
        assert_eq!(lines("const A: &str = \"// a long string\";\n"), [0; 0]);
    }

    #[test]
    fn a_comment_behind_code_counts_with_it() {
        assert_eq!(lines("const A: u32 = 1; // one\n"), [1]);
    }
}
