//! The lines that a bench prints: keeps them, and on request writes them into the documents' page of figures.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use harness::run::begin::{harness_version, host_facts};
use harness::terminal::outln;

/// Lines of the one bench that this process runs.
static LINES: Mutex<String> = Mutex::new(String::new());

/// Prints a line of a bench, and keeps it.
pub(super) fn print(line: &str) {
    outln!("{line}");
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.push_str(line);
    lines.push('\n');
}

/// Formats and prints a line of a bench, and keeps it for the documents.
macro_rules! figure {
    ($($arg:tt)*) => { $crate::bench::page::print(&format!($($arg)*)) };
}
pub(super) use figure;

/// Writes the printed lines between the markers of bench `name` in the document `path`.
///
/// # Errors
///
/// The document cannot be read or written, or has no such markers.
pub(super) fn write(path: &Path, name: &str, command: &str) -> Result<()> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("failed to read `{shown}`"))?;
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let host = host_facts();
    let fact = |name: &str| host.get(name).map_or("?", String::as_str);
    let today = time::OffsetDateTime::now_utc().date();
    let block = format!(
        "`{command}`, {today}, md-regress {}, {} processors, {} of memory:\n\n```text\n{lines}```\n",
        harness_version(),
        fact("cpus"),
        fact("memory"),
    );
    let text = replace(&text, name, &block).with_context(|| {
        format!(
            "`{shown}` has no place for it: a line `<!-- bench {name} -->`, and `<!-- /bench -->` after it"
        )
    })?;
    fs::write(path, text).with_context(|| format!("failed to write `{shown}`"))
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

    #[test]
    fn only_what_is_between_its_markers_changes() {
        let page = "a\n<!-- bench vm -->\nold\n<!-- /bench -->\nb\n<!-- bench hang -->\nx\n<!-- /bench -->\n";
        let written = replace(page, "vm", "new\n").unwrap();
        assert_eq!(written, page.replace("old", "new"));
        assert_eq!(replace(page, "suite", "new\n"), None);
        assert_eq!(replace("<!-- bench vm -->\nopen\n", "vm", "new\n"), None);
    }
}
