//! `cargo xtask list`: the tests of a suite, with what they exercise and need.

use anyhow::Result;

use crate::exit::Exit;
use crate::select::{Selection, select};
use crate::test::suite_named;

pub(crate) fn run(name: &str, selection: &Selection, verbose: bool) -> Result<Exit> {
    let suite = suite_named(name)?;
    let tests = select(&suite, selection)?;
    for id in &tests {
        let test = &suite.tests[id.name()];
        println!("{:<64} {}", id.to_string(), test.tags.join(" "));
        if verbose {
            for (word, list) in [("needs", &test.needs), ("wants", &test.wants)] {
                if !list.is_empty() {
                    println!("    {word} {}", list.join(" "));
                }
            }
        }
    }
    if verbose {
        println!("{}: {}", suite.name, suite.about);
        if let Some(version) = &suite.written_for {
            println!("written for version {version}");
        }
        for (tag, meaning) in &suite.tag_docs {
            println!("tag {tag:<14} {meaning}");
        }
        for flavour in &suite.flavours.known {
            println!("flavour {flavour}");
        }
    }
    Ok(if tests.is_empty() { Exit::NothingRan } else { Exit::Passed })
}
