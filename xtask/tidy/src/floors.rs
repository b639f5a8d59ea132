//! Floors: the modules at the top of a package, or within one module, stand on each other in one order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use crate::complaint::Complaint;
use crate::rust::{Import, Package};
use crate::settings::{FLOORS_FILE, Floors};

/// Name of the guard.
pub const RULE: &str = "floors";

/// Complaints about one entry of `floors.toml`: `key` is the package's name, or `package::module` for the
/// modules within one; `floors_toml` is the file's text, for its lines.
pub fn check(package: &Package, key: &str, floors: &Floors, floors_toml: &str) -> Vec<Complaint> {
    let within = within(key);
    let mut complaints = Vec::new();
    let mut floor_of: BTreeMap<&str, usize> = BTreeMap::new();
    for (idx, rooms) in floors.iter().enumerate() {
        for room in rooms {
            floor_of.insert(room, idx);
        }
    }
    let rooms = rooms(package, &within);
    for (room, file) in &rooms {
        if !floor_of.contains_key(room.as_str()) {
            complaints.push(Complaint {
                file: file.clone(),
                line: 1,
                rule: RULE,
                text: format!("module `{room}` is on no floor of `{key}`"),
                mend: format!("give it one in {FLOORS_FILE}"),
            });
        }
    }
    for room in floor_of.keys().filter(|room| !rooms.contains_key(**room)) {
        complaints.push(Complaint {
            file: FLOORS_FILE.to_owned(),
            line: line_of(floors_toml, key),
            rule: RULE,
            text: format!("`{key}` has no module `{room}`"),
            mend: "take it off its floor".to_owned(),
        });
    }
    // The names that an import brings in are mentioned further down: one complaint is enough for all of them.
    let mut pairs: BTreeMap<(usize, &str), Vec<(Import, &str)>> = BTreeMap::new();
    for (import, from, to) in between_rooms(package, &within) {
        pairs.entry((import.from, to)).or_default().push((import, from));
    }
    for ((file, to), imports) in &pairs {
        let (first, from) =
            imports.iter().min_by_key(|(import, _)| import.line).expect("a pair has an import");
        let (Some(here), Some(there)) = (floor_of.get(from), floor_of.get(to)) else { continue };
        if there >= here {
            let place = if there == here { "on the same floor" } else { "on a higher floor" };
            complaints.push(Complaint {
                file: package.files[*file].path.clone(),
                line: first.line,
                rule: RULE,
                text: format!("`{from}` imports `{}` of `{to}`, which is {place}", first.words),
                mend: format!("move it down, hand it in, or change the order in {FLOORS_FILE}"),
            });
        }
    }
    complaints
}

/// True if a package has modules enough for an order.
pub fn needs_floors(package: &Package) -> bool {
    rooms(package, &[]).len() > 1
}

/// The floors that today's imports allow, as an entry of `floors.toml`, with each module's files and imports.
pub fn show(package: &Package, key: &str) -> String {
    let within = within(key);
    let rooms = rooms(package, &within);
    let mut imports: BTreeMap<&str, BTreeMap<&str, Vec<&Import>>> = BTreeMap::new();
    let all = between_rooms(package, &within);
    for (import, from, to) in &all {
        imports.entry(from).or_default().entry(to).or_default().push(import);
    }
    let mut graph: DiGraphMap<&str, ()> = DiGraphMap::new();
    for room in rooms.keys() {
        graph.add_node(room);
    }
    for (from, into) in &imports {
        for to in into.keys() {
            graph.add_edge(from, to, ());
        }
    }
    // A component comes after all that it imports.
    let mut level: BTreeMap<&str, usize> = BTreeMap::new();
    let mut circles: Vec<Vec<&str>> = Vec::new();
    for component in tarjan_scc(&graph) {
        let below =
            component.iter().flat_map(|room| graph.neighbors(room)).filter_map(|room| level.get(room));
        let here = below.max().map_or(0, |below| below + 1);
        for room in &component {
            level.insert(room, here);
        }
        if component.len() > 1 {
            circles.push(component.to_vec());
        }
    }
    let mut shown = String::new();
    for room in rooms.keys() {
        let n_files =
            package.files.iter().filter(|file| room_of(&file.module, &within) == Some(room)).count();
        let plural = if n_files == 1 { "" } else { "s" };
        let _ = write!(shown, "# {room}: {n_files} file{plural}");
        for (idx, (to, imports)) in imports.get(room.as_str()).into_iter().flatten().enumerate() {
            let before = if idx == 0 { "; imports" } else { "," };
            let first = imports[0];
            let at = &package.files[first.from].path;
            let name = at.rsplit('/').next().unwrap_or(at);
            let _ = write!(shown, "{before} {to} ({}x, {name}:{})", imports.len(), first.line);
        }
        shown.push('\n');
    }
    for circle in &circles {
        let _ = writeln!(shown, "# in a circle: {}", circle.join(", "));
    }
    let quoted = if key.contains(':') { format!("\"{key}\"") } else { key.to_owned() };
    let _ = writeln!(shown, "{quoted} = [");
    let levels: BTreeSet<usize> = level.values().copied().collect();
    for floor in levels {
        let names: Vec<String> =
            level.iter().filter(|(_, at)| **at == floor).map(|(room, _)| format!("\"{room}\"")).collect();
        let _ = writeln!(shown, "    [{}],", names.join(", "));
    }
    shown.push_str("]\n");
    shown
}

/// Path of the module around the rooms; empty for those at the top of the package.
fn within(key: &str) -> Vec<String> {
    key.split("::").skip(1).map(str::to_owned).collect()
}

fn room_of<'a>(module: &'a [String], within: &[String]) -> Option<&'a str> {
    module.strip_prefix(within)?.first().map(String::as_str)
}

/// Room -> path of the file at its top.
fn rooms(package: &Package, within: &[String]) -> BTreeMap<String, String> {
    let mut rooms = BTreeMap::new();
    for file in &package.files {
        if let Some(room) = room_of(&file.module, within)
            && file.module.len() == within.len() + 1
        {
            rooms.insert(room.to_owned(), file.path.clone());
        }
    }
    rooms
}

/// Imports of one room from another, with the names of both.
fn between_rooms<'a>(package: &'a Package, within: &[String]) -> Vec<(Import, &'a str, &'a str)> {
    let of = |file: usize| room_of(&package.files[file].module, within);
    package
        .imports()
        .into_iter()
        .filter_map(|import| {
            let (from, to) = (of(import.from)?, of(import.to)?);
            (from != to).then_some((import, from, to))
        })
        .collect()
}

fn line_of(floors_toml: &str, key: &str) -> usize {
    let names = |line: &str| {
        let line = line.trim_start_matches('"');
        line.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', '=', '"']))
    };
    floors_toml.lines().position(names).map_or(0, |idx| idx + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rust::read_package;
    use crate::tree::Tree;

    fn package() -> Package {
        let tree = Tree::of([
            ("p/Cargo.toml", "[package]\nname = \"p\"\n"),
            ("p/src/lib.rs", "mod low;\nmod beside;\nmod high;\npub use high::top::Top;\n"),
            ("p/src/low.rs", "//! Low.\nuse crate::Top;\n"),
            ("p/src/beside.rs", "use crate::low;\n"),
            (
                "p/src/high/mod.rs",
                "pub mod top;\nmod under;\nuse crate::{beside, low::Low};\n#[cfg(test)] mod tests { use crate::x::Y; }",
            ),
            ("p/src/high/top.rs", "use super::under::U;\npub struct Top;\n"),
            ("p/src/high/under.rs", "pub struct U;\n"),
        ]);
        read_package(&tree, "p").unwrap()
    }

    fn complaints(key: &str, floors: &[&[&str]]) -> Vec<String> {
        let floors: Floors =
            floors.iter().map(|rooms| rooms.iter().map(|room| (*room).to_owned()).collect()).collect();
        let text = "# Floors.\np = []\n";
        check(&package(), key, &floors, text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_import_of_a_higher_floor_is_named_also_through_a_re_export() {
        let found = complaints("p", &[&["low"], &["beside"], &["high"]]);
        assert_eq!(
            found,
            [
                "p/src/low.rs:2: floors: `low` imports `crate::Top` of `high`, which is on a higher floor; move it down, \
              hand it in, or change the order in xtask/tidy/floors.toml"
            ]
        );
    }

    #[test]
    fn an_import_of_a_neighbour_is_named() {
        let found = complaints("p", &[&["low", "beside"], &["high"]]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[1].starts_with("p/src/beside.rs:1: floors: `beside` imports `crate::low` of `low`, which is on the same floor"),
            "{found:?}"
        );
    }

    #[test]
    fn a_module_on_no_floor_and_one_that_is_gone_are_named() {
        let found = complaints("p", &[&["low"], &["high", "gone"]]);
        assert!(
            found.contains(
                &"p/src/beside.rs:1: floors: module `beside` is on no floor of `p`; give it one in xtask/tidy/floors.toml"
                    .to_owned()
            ),
            "{found:?}"
        );
        assert!(
            found.contains(
                &"xtask/tidy/floors.toml:2: floors: `p` has no module `gone`; take it off its floor"
                    .to_owned()
            ),
            "{found:?}"
        );
    }

    #[test]
    fn a_file_is_named_once_for_all_that_it_takes_from_a_module() {
        let tree = Tree::of([
            ("p/Cargo.toml", "[package]\nname = \"p\"\n"),
            ("p/src/lib.rs", "mod low;\nmod high;\n"),
            ("p/src/low.rs", "use crate::high::{A, B};\nfn f(a: A) -> B { B::of(a) }\n"),
            ("p/src/high.rs", "pub struct A;\npub struct B;\n"),
        ]);
        let floors = vec![vec!["low".to_owned()], vec!["high".to_owned()]];
        assert_eq!(check(&read_package(&tree, "p").unwrap(), "p", &floors, "").len(), 1);
    }

    #[test]
    fn modules_within_a_module_have_floors_too() {
        assert_eq!(complaints("p::high", &[&["under"], &["top"]]), [""; 0]);
        let found = complaints("p::high", &[&["top"], &["under"]]);
        assert!(
            found[0].starts_with("p/src/high/top.rs:1: floors: `top` imports `super::under::U`"),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_shown_can_be_put_into_the_file() {
        let shown = show(&package(), "p::high");
        assert_eq!(
            shown,
            "# top: 1 file; imports under (1x, top.rs:1)\n# under: 1 file\n\"p::high\" = [\n    [\"under\"],\n    \
             [\"top\"],\n]\n"
        );
        let circle = show(&package(), "p");
        assert!(circle.contains("# in a circle: "), "{circle}");
    }
}
