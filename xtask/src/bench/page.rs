//! A page of figures, such as docs/figures.md: the report of each bench between its markers.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Looks whether the page `path` has a place for bench `name`.
///
/// # Errors
///
/// The page cannot be read, or has no such markers.
pub(super) fn check(path: &Path, name: &str) -> Result<()> {
    renewed(path, name, "").map(|_| ())
}

/// Writes a report between the markers of bench `name` in the page `path`.
///
/// # Errors
///
/// The page cannot be read or written, or has no such markers.
pub(super) fn write(path: &Path, name: &str, report: &str) -> Result<()> {
    fs::write(path, renewed(path, name, report)?)
        .with_context(|| format!("failed to write `{}`", path.display()))
}

/// The page's text with the report in its place.
fn renewed(path: &Path, name: &str, report: &str) -> Result<String> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("failed to read `{shown}`"))?;
    replace(&text, name, report).with_context(|| {
        format!(
            "`{shown}` has no place for it: a line `<!-- bench {name} -->`, and `<!-- /bench -->` after it"
        )
    })
}

/// `text` with `block` between the markers of bench `name`; `None` if it has none.
fn replace(text: &str, name: &str, block: &str) -> Option<String> {
    let begin = format!("<!-- bench {name} -->\n");
    let from = text.find(&begin)? + begin.len();
    let to = from + text[from..].find("<!-- /bench -->")?;
    Some(format!("{}{block}{}", &text[..from], &text[to..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "a\n<!-- bench vm -->\nold\n<!-- /bench -->\nb\n<!-- bench hang -->\nx\n<!-- /bench -->\n";

    #[test]
    fn only_what_is_between_its_markers_changes() {
        let written = replace(PAGE, "vm", "new\n").unwrap();
        assert_eq!(written, PAGE.replace("old", "new"));
        assert_eq!(replace(PAGE, "suite", "new\n"), None);
        assert_eq!(replace("<!-- bench vm -->\nopen\n", "vm", "new\n"), None);
    }

    #[test]
    fn a_page_without_a_place_is_an_error_before_anything_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page.md");
        fs::write(&page, PAGE).unwrap();
        check(&page, "hang").unwrap();
        write(&page, "hang", "new\n").unwrap();
        assert_eq!(fs::read_to_string(&page).unwrap(), PAGE.replace("\nx\n", "\nnew\n"));
        let error = check(&page, "suite").unwrap_err().to_string();
        assert!(error.ends_with("a line `<!-- bench suite -->`, and `<!-- /bench -->` after it"), "{error}");
    }

    #[test]
    fn the_projects_page_has_a_place_for_each_bench() {
        let page = harness::workspace::workspace().join("docs/figures.md");
        for name in
            ["setup", "overhead", "hang", "vm", "suite", "bisect", "build", "bisect-simulate", "model"]
        {
            check(&page, name).unwrap();
        }
    }
}
