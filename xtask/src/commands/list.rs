//! `cargo xtask list`: the tests of a suite, with what they exercise and need.

use std::collections::BTreeSet;

use anyhow::Result;
use vm_images::progress::Progress;

use crate::exit::{Exit, usage};
use crate::select::{Selection, select};
use crate::session::Session;
use crate::terminal::outln;
use crate::test::suite_named;

pub(crate) fn run(session: &Session, name: &str, selection: &Selection, verbose: bool) -> Result<Exit> {
    let suite = suite_named(name)?;
    let tests = select(&suite, selection).map_err(usage)?;
    let width = tests.iter().map(|id| id.to_string().len()).max().unwrap_or_default();
    for id in &tests {
        let test = &suite.tests[id.name()];
        outln!("{:<width$}  {}", id.to_string(), test.tags.join(" "));
        if verbose {
            for (word, list) in [("needs", &test.needs), ("wants", &test.wants)] {
                if !list.is_empty() {
                    outln!("    {word} {}", list.join(" "));
                }
            }
        }
    }
    if verbose {
        let shown: BTreeSet<_> = tests.iter().flat_map(|id| &suite.tests[id.name()].tags).collect();
        for (tag, meaning) in suite.tag_docs.iter().filter(|(tag, _)| shown.contains(tag)) {
            outln!("tag {tag:<14} {meaning}");
        }
    }
    let about = suite.written_for.as_ref().map(|version| format!(" ({version})")).unwrap_or_default();
    session.terminal.note(&format!(
        "{} of {} tests of suite {}{about}: {}; -E . shows all, -v what the tags mean",
        tests.len(),
        suite.tests.len(),
        suite.name,
        suite.about,
    ));
    if verbose && !suite.flavours.known.is_empty() {
        session.terminal.note(&format!("flavours: {}", suite.flavours.known.join(", ")));
    }
    Ok(if tests.is_empty() { Exit::NothingRan } else { Exit::Passed })
}
