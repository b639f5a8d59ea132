//! No circle of imports between the files of a package, tests apart.
//!
//! An edge between a module and one around it doesn't count: `mod.rs` says what its folder shows, and that is
//! all.

use std::collections::{BTreeMap, VecDeque};

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use crate::complaint::Complaint;
use crate::rust::{Import, Package};

/// Name of the guard.
pub const RULE: &str = "circles";

/// One complaint for each set of files that all lead to each other, with a shortest circle among them.
pub fn check(package: &Package) -> Vec<Complaint> {
    let mut edges: BTreeMap<(usize, usize), Import> = BTreeMap::new();
    for import in package.imports() {
        if !package.are_akin(import.from, import.to) {
            edges.entry((import.from, import.to)).or_insert(import);
        }
    }
    let graph: DiGraphMap<usize, ()> = edges.keys().copied().collect::<Vec<_>>().into_iter().collect();
    let mut complaints = Vec::new();
    for component in tarjan_scc(&graph).into_iter().filter(|component| component.len() > 1) {
        let circle = shortest(&graph, &component);
        complaints.push(complaint(package, &edges, &component, &circle));
    }
    complaints.sort();
    complaints
}

fn complaint(
    package: &Package,
    edges: &BTreeMap<(usize, usize), Import>,
    component: &[usize],
    circle: &[usize],
) -> Complaint {
    let steps: Vec<&Import> =
        (0..circle.len()).map(|idx| &edges[&(circle[idx], circle[(idx + 1) % circle.len()])]).collect();
    let mut text = if component.len() == circle.len() {
        format!("{} files import each other in a circle:", circle.len())
    } else {
        let mut names: Vec<&str> = component.iter().map(|file| package.files[*file].path.as_str()).collect();
        names.sort_unstable();
        format!(
            "{} files import each other in circles ({}), a shortest one:",
            component.len(),
            names.join(", ")
        )
    };
    for step in &steps {
        text.push_str(&format!(
            " {}:{} imports `{}` of {},",
            package.files[step.from].path, step.line, step.words, package.files[step.to].path
        ));
    }
    text.pop();
    Complaint {
        file: package.files[steps[0].from].path.clone(),
        line: steps[0].line,
        rule: RULE,
        text,
        mend: "move what both need into a file below them, or hand it in".to_owned(),
    }
}

/// A shortest circle within a component, from its first file in the package's order.
fn shortest(graph: &DiGraphMap<usize, ()>, component: &[usize]) -> Vec<usize> {
    let mut starts = component.to_vec();
    starts.sort_unstable();
    starts
        .iter()
        .filter_map(|start| circle_through(graph, *start))
        .min_by_key(Vec::len)
        .expect("files of a component lie on a circle")
}

fn circle_through(graph: &DiGraphMap<usize, ()>, start: usize) -> Option<Vec<usize>> {
    let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for next in graph.neighbors(file) {
            if next == start {
                let mut circle = vec![file];
                let mut at = file;
                while at != start {
                    at = came_from[&at];
                    circle.push(at);
                }
                circle.reverse();
                return Some(circle);
            }
            came_from.entry(next).or_insert_with(|| {
                queue.push_back(next);
                file
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rust::read_package;
    use crate::tree::Tree;

    /// Complaints about a package of these files below `src`.
    fn complaints<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        let files = files.map(|(path, text)| (format!("p/src/{path}"), text));
        let mut tree = Tree::of([("p/Cargo.toml", "[package]\nname = \"my-pack\"\n")]);
        tree.extend(files);
        let package = read_package(&tree, "p").unwrap();
        check(&package).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn two_files_that_import_each_other_are_named_with_their_lines() {
        let found = complaints([
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "//! A.\n\nuse crate::b::B;\n"),
            ("b.rs", "pub struct B;\nfn f() { super::a::g() }\n"),
        ]);
        assert_eq!(
            found,
            [
                "p/src/a.rs:3: circles: 2 files import each other in a circle: p/src/a.rs:3 imports `crate::b::B` of \
              p/src/b.rs, p/src/b.rs:2 imports `super::a::g` of p/src/a.rs; move what both need into a file \
              below them, or hand it in"
            ]
        );
    }

    #[test]
    fn one_way_is_no_circle() {
        let files = [("lib.rs", "mod a;\nmod b;\n"), ("a.rs", "use crate::b::B;"), ("b.rs", "pub struct B;")];
        assert_eq!(complaints(files), [""; 0]);
    }

    #[test]
    fn a_re_export_is_followed_to_where_the_name_is_defined() {
        let room = ("room/mod.rs", "mod left;\nmod right;\npub use left::Left;\npub use right::*;\n");
        let left = ("room/left.rs", "use super::Right;\npub struct Left;\n");
        let once = [
            ("lib.rs", "mod room;\n"),
            room,
            left,
            ("room/right.rs", "pub struct Right;\nuse crate::x::Y;\n"),
        ];
        assert_eq!(complaints(once), [""; 0]);
        let back = [
            ("lib.rs", "mod room;\npub use room::Left;\n"),
            room,
            left,
            ("room/right.rs", "use crate::Left;\npub struct Right;\n"),
        ];
        let found = complaints(back);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("p/src/room/right.rs:1 imports `crate::Left` of p/src/room/left.rs"),
            "{found:?}"
        );
    }

    #[test]
    fn a_module_and_those_within_it_are_no_circle() {
        let files = [
            ("lib.rs", "mod a;\n"),
            ("a/mod.rs", "mod b;\nuse b::B;\npub struct A;\n"),
            ("a/b.rs", "use super::A;\nuse crate::a;\npub struct B(A);\n"),
        ];
        assert_eq!(complaints(files), [""; 0]);
    }

    #[test]
    fn tests_are_left_out() {
        let files = [
            ("lib.rs", "mod a;\nmod b;\n"),
            (
                "a.rs",
                "pub struct A;\n#[cfg(test)]\nmod tests { use crate::b::B; }\n#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod more;\n",
            ),
            ("a_tests.rs", "use crate::b::B;\n"),
            ("b.rs", "use crate::a::A;\npub struct B;\n#[test]\nfn t() {}\n"),
        ];
        assert_eq!(complaints(files), [""; 0]);
    }

    #[test]
    fn an_inline_module_belongs_to_its_file() {
        let found = complaints([
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "pub mod inner { use super::super::b::B;\npub struct I; }\n"),
            ("b.rs", "use crate::a::inner::I;\npub struct B;\n"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn paths_in_macro_calls_and_attributes_count() {
        let by_macro = [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "fn f() { println!(\"{}\", crate::b::g()) }\n"),
            ("b.rs", "use crate::a::f;\n"),
        ];
        assert_eq!(complaints(by_macro).len(), 1);
        let by_attribute = [
            ("lib.rs", "mod a;\nmod b;\n"),
            ("a.rs", "struct A { #[serde(with = \"crate::b\")] x: u32 }\n"),
            ("b.rs", "use crate::a::A;\n"),
        ];
        assert_eq!(complaints(by_attribute).len(), 1);
    }

    #[test]
    fn a_binary_imports_its_library_by_name() {
        let files = [
            ("lib.rs", "pub mod a;\n"),
            ("a.rs", "pub struct A;\n"),
            ("main.rs", "use my_pack::a::A;\nfn main() {}\n"),
        ];
        assert_eq!(complaints(files), [""; 0]);
    }

    #[test]
    fn the_shortest_of_many_circles_is_told() {
        let found = complaints([
            ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\n"),
            ("a.rs", "use crate::b;\n"),
            ("b.rs", "use crate::c;\n"),
            ("c.rs", "use crate::a;\nuse crate::d;\n"),
            ("d.rs", "use crate::c;\n"),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("4 files"), "{found:?}");
        assert!(found[0].contains("p/src/c.rs:2 imports `crate::d`"), "{found:?}");
        assert!(!found[0].contains("p/src/a.rs:1"), "{found:?}");
    }
}
