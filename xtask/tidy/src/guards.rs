//! All guards, by name: which there are, which hold, and what they complain of.

use anyhow::{Context, Result, ensure};

use crate::complaint::Complaint;
use crate::rust::{Package, read_package};
use crate::settings::{FILE, FLOORS_FILE, Settings};
use crate::tree::Tree;
use crate::workspace::{Member, members};
use crate::{circles, cited, command_lines, floors, headers, packages, sizes, widths};

/// Names of the guards, in the order in which they are run.
pub const NAMES: [&str; 8] = [
    packages::RULE,
    headers::RULE,
    floors::RULE,
    circles::RULE,
    cited::RULE,
    widths::RULE,
    sizes::RULE,
    command_lines::RULE,
];

/// Which guards are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// Those that `tidy.toml` says hold.
    Holding,
    /// Every one.
    All,
    /// One by its name.
    Only(&'a str),
}

impl Choice<'_> {
    /// True if the guard is asked for.
    ///
    /// # Errors
    ///
    /// There is no guard of the name that was chosen.
    pub fn has(self, name: &str, settings: &Settings) -> Result<bool> {
        Ok(match self {
            Choice::Holding => settings.guards.get(name).copied().unwrap_or_default(),
            Choice::All => true,
            Choice::Only(wanted) => {
                ensure!(NAMES.contains(&wanted), "there is no guard `{wanted}`: {}", NAMES.join(", "));
                wanted == name
            }
        })
    }
}

/// What the guards complain of, all but that of command lines, which `xtask` is.
///
/// # Errors
///
/// A file that doesn't parse, or settings that make no sense.
pub fn check(tree: &Tree, settings: &Settings, choice: Choice<'_>) -> Result<Vec<Complaint>> {
    for name in settings.guards.keys() {
        ensure!(NAMES.contains(&name.as_str()), "`{FILE}`: there is no guard `{name}`");
    }
    let members = members(tree)?;
    let packages: Vec<Package> =
        members.iter().map(|member| read_package(tree, &member.folder)).collect::<Result<_>>()?;
    let mut complaints = Vec::new();
    for name in NAMES {
        if choice.has(name, settings)? {
            complaints.extend(one(name, tree, settings, &members, &packages)?);
        }
    }
    Ok(complaints)
}

fn one(
    name: &str,
    tree: &Tree,
    settings: &Settings,
    members: &[Member],
    packages: &[Package],
) -> Result<Vec<Complaint>> {
    Ok(match name {
        packages::RULE => packages::check(tree, members, &settings.dependencies),
        headers::RULE => headers::check(tree),
        floors::RULE => all_floors(tree, settings, members, packages),
        circles::RULE => packages.iter().flat_map(circles::check).collect(),
        cited::RULE => cited::check(tree, packages, &settings.elsewhere)?,
        widths::RULE => widths::check(tree)?,
        sizes::RULE => sizes::check(tree, &settings.sizes),
        _ => Vec::new(),
    })
}

fn all_floors(tree: &Tree, settings: &Settings, members: &[Member], packages: &[Package]) -> Vec<Complaint> {
    let text = tree.text(FLOORS_FILE).unwrap_or_default();
    let mut complaints = Vec::new();
    for (member, package) in members.iter().zip(packages) {
        if floors::needs_floors(package) && !settings.floors.contains_key(&member.name) {
            complaints.push(Complaint {
                file: FLOORS_FILE.to_owned(),
                line: 0,
                rule: floors::RULE,
                text: format!("package `{}` has no floors", member.name),
                mend: format!("put in what `cargo xtask tidy --show-rooms {}` prints", member.name),
            });
        }
        let is_within = |key: &str| key.split("::").next() == Some(&member.name);
        for (key, entry) in settings.floors.iter().filter(|(key, _)| is_within(key)) {
            complaints.extend(floors::check(package, key, entry, text));
        }
    }
    complaints
}

/// The floors that today's imports of a package allow; `key` is its name, or `package::module`.
///
/// # Errors
///
/// No such package, or one that doesn't parse.
pub fn show_rooms(tree: &Tree, key: &str) -> Result<String> {
    let name = key.split("::").next().unwrap_or(key);
    let members = members(tree)?;
    let member = members
        .iter()
        .find(|member| member.name == name)
        .with_context(|| format!("there is no package `{name}` in this workspace"))?;
    Ok(floors::show(&read_package(tree, &member.folder)?, key))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn this_work_tree_is_tidy() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let tree = Tree::read(&top).unwrap();
        let settings = Settings::read(&tree).unwrap();
        let complaints = check(&tree, &settings, Choice::Holding).unwrap();
        let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
        assert_eq!(lines, [""; 0]);
    }

    #[test]
    fn a_guard_that_is_off_keeps_quiet_until_it_is_asked_for() {
        let tree = Tree::of([
            ("Cargo.toml", "[workspace]\nmembers = [\"p\"]\n"),
            ("p/Cargo.toml", "[package]\nname = \"p\"\n"),
            ("p/src/lib.rs", "mod a;\nmod b;\n"),
            ("p/src/a.rs", "//! A.\n"),
            ("p/src/b.rs", "//! B.\n"),
        ]);
        let mut settings = Settings::default();
        let lines = |settings: &Settings, choice| check(&tree, settings, choice).unwrap().len();
        assert_eq!(lines(&settings, Choice::Holding), 0);
        assert_eq!(lines(&settings, Choice::Only("headers")), 1);
        assert_eq!(lines(&settings, Choice::Only("floors")), 1, "no floors are given");
        settings.guards.insert("headers".to_owned(), true);
        assert_eq!(lines(&settings, Choice::Holding), 1);
        assert!(check(&tree, &settings, Choice::Only("nonsense")).is_err());
    }
}
