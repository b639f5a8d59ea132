//! Which package of the workspace may depend on which: the folders show the pipeline.

use std::collections::BTreeMap;

use crate::complaint::Complaint;
use crate::settings::FILE;
use crate::tree::Tree;
use crate::workspace::Member;

/// Name of the guard.
pub const RULE: &str = "packages";

const SECTIONS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Complaints about dependencies that the table doesn't allow, and packages that it doesn't have.
pub fn check(tree: &Tree, members: &[Member], allowed: &BTreeMap<String, Vec<String>>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for member in members {
        let file = member.manifest_path();
        let Some(allowed) = allowed.get(&member.name) else {
            complaints.push(Complaint {
                file,
                line: 0,
                rule: RULE,
                text: format!("package `{}` is not in the table of dependencies", member.name),
                mend: format!("give it a line in [dependencies] of {FILE}"),
            });
            continue;
        };
        for name in dependencies(&member.manifest) {
            let is_ours = members.iter().any(|other| other.name == name);
            if is_ours && !allowed.contains(&name) {
                complaints.push(Complaint {
                    line: line_of(tree.text(&file).unwrap_or_default(), &name),
                    file: file.clone(),
                    rule: RULE,
                    text: format!("`{}` may not depend on `{name}`", member.name),
                    mend: format!(
                        "move what it needs of `{name}` down, or allow it in {FILE} and say why in ARCHITECTURE.md"
                    ),
                });
            }
        }
    }
    complaints
}

/// Names of the packages that a manifest depends on, in whatever section.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let per_target =
        targets.into_iter().flat_map(|targets| targets.values()).filter_map(toml::Value::as_table);
    let mut names = Vec::new();
    for table in std::iter::once(manifest).chain(per_target) {
        for section in SECTIONS {
            for (key, value) in table.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                let renamed = value.get("package").and_then(toml::Value::as_str);
                names.push(renamed.unwrap_or(key).to_owned());
            }
        }
    }
    names
}

fn line_of(manifest: &str, name: &str) -> usize {
    let names = |line: &str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '.', '=']))
            || line.contains(&format!("package = \"{name}\""))
    };
    manifest.lines().position(names).map_or(0, |idx| idx + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::members;

    const TOP: (&str, &str) = ("Cargo.toml", "[workspace]\nmembers = [\"low\", \"high\"]\n");
    const HIGH: (&str, &str) =
        ("high/Cargo.toml", "[package]\nname = \"high\"\n[dependencies]\nlow.workspace = true\n");

    fn complaints(low: &str, allowed: &[(&str, &[&str])]) -> Vec<String> {
        let tree = Tree::of([TOP, HIGH, ("low/Cargo.toml", low)]);
        let allowed = allowed
            .iter()
            .map(|(name, allowed)| {
                ((*name).to_owned(), allowed.iter().map(|name| (*name).to_owned()).collect())
            })
            .collect();
        check(&tree, &members(&tree).unwrap(), &allowed).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_dependency_against_the_direction_is_named() {
        let low = "[package]\nname = \"low\"\n\n[dev-dependencies]\nhigh = { path = \"../high\" }\n";
        let found = complaints(low, &[("high", &["low"]), ("low", &[])]);
        assert_eq!(
            found,
            [
                "low/Cargo.toml:5: packages: `low` may not depend on `high`; move what it needs of `high` down, or allow \
              it in xtask/tidy/tidy.toml and say why in ARCHITECTURE.md"
            ]
        );
    }

    #[test]
    fn a_new_name_or_a_section_for_one_target_hides_nothing() {
        let low =
            "[package]\nname = \"low\"\n[target.'cfg(unix)'.dependencies]\nx = { package = \"high\" }\n";
        let found = complaints(low, &[("high", &["low"]), ("low", &[])]);
        assert!(found[0].starts_with("low/Cargo.toml:4: packages: "), "{found:?}");
    }

    #[test]
    fn a_package_without_a_line_in_the_table_is_named() {
        let found = complaints("[package]\nname = \"low\"\n", &[("high", &["low"])]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("low/Cargo.toml: packages: package `low` is not"), "{found:?}");
    }

    #[test]
    fn what_the_table_allows_is_fine() {
        let found = complaints("[package]\nname = \"low\"\n", &[("high", &["low"]), ("low", &[])]);
        assert_eq!(found, [""; 0]);
    }
}
