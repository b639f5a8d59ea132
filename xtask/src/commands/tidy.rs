//! `cargo xtask tidy`: checks that neither the compiler nor clippy makes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::exit::Exit;
use harness::terminal::outln;
use harness::workspace::workspace;

/// Allowed dependencies between the packages of the workspace: they follow the pipeline.
const MAY_DEPEND_ON: [(&str, &[&str]); 7] = [
    ("xtask", &["harness", "protocol", "raid-core", "reports", "vm-images"]),
    ("xtask/harness", &["protocol", "raid-core", "reports", "vm-images"]),
    ("reports", &["protocol"]),
    ("vm-images", &[]),
    ("suites/guest-agent", &["protocol"]),
    ("suites/protocol", &[]),
    ("suites/raid-core", &[]),
];

pub(crate) fn run() -> Result<Exit> {
    let complaints = check(workspace())?;
    for complaint in &complaints {
        outln!("{complaint}");
    }
    Ok(if complaints.is_empty() { Exit::Passed } else { Exit::TestsFailed })
}

fn check(top: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for (package, allowed) in MAY_DEPEND_ON {
        let manifest = top.join(package).join("Cargo.toml");
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("failed to read `{}`", manifest.display()))?;
        complaints.extend(dependencies(package, &text, allowed)?);
        check_folder(&top.join(package).join("src"), top, &mut complaints)?;
    }
    Ok(complaints)
}

fn dependencies(package: &str, manifest: &str, allowed: &[&str]) -> Result<Vec<String>> {
    let manifest: toml::Table = toml::from_str(manifest)?;
    let ours = ["harness", "protocol", "raid-core", "reports", "vm-images", "guest-agent", "xtask"];
    let mut complaints = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let names =
            manifest.get(section).and_then(toml::Value::as_table).into_iter().flat_map(|table| table.keys());
        for name in names.filter(|name| ours.contains(&name.as_str())) {
            if !allowed.contains(&name.as_str()) {
                complaints
                    .push(format!("{package}/Cargo.toml: may not depend on `{name}` (ARCHITECTURE.md)"));
            }
        }
    }
    Ok(complaints)
}

fn check_folder(folder: &Path, top: &Path, complaints: &mut Vec<String>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read `{}`", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            check_folder(&path, top, complaints)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            if !text.starts_with("//! ") {
                let shown = path.strip_prefix(top).unwrap_or(&path).display();
                complaints.push(format!("{shown}: does not open with `//! ` and what the file does"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_work_tree_is_tidy() {
        assert_eq!(check(workspace()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_against_the_direction_is_named() {
        let complaints =
            dependencies("vm-images", "[dependencies]\nreports.workspace = true\n", &[]).unwrap();
        assert!(complaints[0].contains("`reports`"), "{complaints:?}");
    }
}
