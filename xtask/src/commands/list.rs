//! `cargo xtask list`: the tests of a suite, with what they exercise and need.

use anyhow::Result;

use crate::exit::{Exit, usage};
use crate::select::{Selection, select};
use crate::terminal::outln;
use crate::test::suite_named;

pub(crate) fn run(name: &str, selection: &Selection, verbose: bool) -> Result<Exit> {
    let suite = suite_named(name)?;
    let tests = select(&suite, selection).map_err(usage)?;
    for id in &tests {
        let test = &suite.tests[id.name()];
        outln!("{:<64} {}", id.to_string(), test.tags.join(" "));
        if verbose {
            for (word, list) in [("needs", &test.needs), ("wants", &test.wants)] {
                if !list.is_empty() {
                    outln!("    {word} {}", list.join(" "));
                }
            }
        }
    }
    if verbose {
        outln!("{}: {}", suite.name, suite.about);
        if let Some(version) = &suite.written_for {
            outln!("written for version {version}");
        }
        for (tag, meaning) in &suite.tag_docs {
            outln!("tag {tag:<14} {meaning}");
        }
        for flavour in &suite.flavours.known {
            outln!("flavour {flavour}");
        }
    }
    Ok(if tests.is_empty() { Exit::NothingRan } else { Exit::Passed })
}
