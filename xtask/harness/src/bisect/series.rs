//! The table of a patch series: the result of each test on each commit. Pure.

use reports::text::printable;

use super::observe::{Class, Sighting, Trial, TrialResult, first_error};
use super::state::short;

/// Commits, and the results of their tests.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Names of the tests in the order in which they were first seen.
    tests: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    /// One cell for each of the table's tests, or one text for all.
    cells: Cells,
}

#[derive(Clone, Debug)]
enum Cells {
    Each(Vec<Cell>),
    All(String),
}

#[derive(Clone, Debug)]
struct Cell {
    test: String,
    text: String,
    passed: bool,
}

impl Table {
    /// Adds a commit; number 0 is the base.
    pub fn add(&mut self, number: usize, id: &str, title: &str, trial: &Trial) {
        let cells = match trial {
            Trial::Unbuildable { error } => Cells::All(format!("**does not build**: {}", first_error(error))),
            Trial::Ran { seen, .. } => Cells::Each(cells(seen)),
        };
        if let Cells::Each(cells) = &cells {
            for Cell { test, .. } in cells {
                if !self.tests.contains(test) {
                    self.tests.push(test.clone());
                }
            }
        }
        self.push(number, id, title, cells);
    }

    /// Adds a commit of which nothing is known, because the host or the harness failed.
    pub fn add_unknown(&mut self, number: usize, id: &str, title: &str, why: &str) {
        self.push(number, id, title, Cells::All(format!("nothing is known: {why}")));
    }

    fn push(&mut self, number: usize, id: &str, title: &str, cells: Cells) {
        let number = if number == 0 { "base".to_owned() } else { number.to_string() };
        self.rows.push(Row { name: format!("{number} | `{}` {}", short(id), cell(title)), cells });
    }

    /// True if every commit after the base was built, and every test passed on it. The base may fail: the
    /// series may mend it.
    pub fn all_passed(&self) -> bool {
        self.rows.iter().skip(1).all(|row| match &row.cells {
            Cells::Each(cells) => cells.iter().all(|cell| cell.passed),
            Cells::All(_) => false,
        })
    }

    /// The table as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| patch | commit |");
        self.tests.iter().for_each(|test| text.push_str(&format!(" {} |", cell(test))));
        text.push_str("\n|--:|---|");
        self.tests.iter().for_each(|_| text.push_str("---|"));
        text.push('\n');
        for row in &self.rows {
            text.push_str(&format!("| {} |", row.name));
            for test in &self.tests {
                let shown = match &row.cells {
                    Cells::All(all) => all.as_str(),
                    Cells::Each(cells) => cells
                        .iter()
                        .find(|cell| cell.test == *test)
                        .map_or("not run", |cell| cell.text.as_str()),
                };
                text.push_str(&format!(" {} |", cell(shown)));
            }
            text.push('\n');
        }
        text
    }
}

/// One cell for each test; if a test was tried several times, each different result with its count.
fn cells(seen: &[Sighting]) -> Vec<Cell> {
    let mut tests: Vec<&str> = Vec::new();
    for sighting in seen {
        if !tests.contains(&sighting.test.as_str()) {
            tests.push(&sighting.test);
        }
    }
    let one = |test: &str| {
        let tries: Vec<_> = seen.iter().filter(|sighting| sighting.test == test).collect();
        let mut ways: Vec<(bool, String, usize)> = Vec::new();
        for sighting in &tries {
            let (passed, text) = (is_passed(sighting), in_short(sighting));
            match ways.iter_mut().find(|(_, other, _)| *other == text) {
                Some((_, _, n)) => *n += 1,
                None => ways.push((passed, text, 1)),
            }
        }
        // Failures stand before passes.
        ways.sort_by_key(|(passed, _, _)| *passed);
        let shown = |(_, text, n): &(bool, String, usize)| match tries.len() {
            1 => text.clone(),
            all => format!("{n} of {all} {text}"),
        };
        let text = ways.iter().map(shown).collect::<Vec<_>>().join("; ");
        Cell { test: test.to_owned(), text, passed: ways.iter().all(|(passed, ..)| *passed) }
    };
    tests.into_iter().map(one).collect()
}

fn is_passed(sighting: &Sighting) -> bool {
    matches!(sighting.result, TrialResult::Passed | TrialResult::Complained(_))
}

fn in_short(sighting: &Sighting) -> String {
    match &sighting.result {
        TrialResult::Passed => "passed".to_owned(),
        TrialResult::Complained(wrong) | TrialResult::Wrong(wrong) => match wrong.signature.first() {
            Some(signature) => format!("{}: {signature}", emphasis(wrong.class)),
            None => format!("{}: {}", emphasis(wrong.class), wrong.detail),
        },
        TrialResult::Skipped { .. } | TrialResult::NoBoot { .. } => sighting.in_short(),
    }
}

/// The word for a class of failure, bold if it counts against the commit.
fn emphasis(class: Class) -> String {
    match class {
        Class::Complaint => class.word().to_owned(),
        Class::Hang | Class::Crash | Class::Corruption | Class::Failure | Class::Timeout => {
            format!("**{}**", class.word())
        }
    }
}

/// `text` without anything that would end a table cell or be markup.
fn cell(text: &str) -> String {
    printable(text).replace('|', "\\|").replace('\n', " ").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::observe::Failure;
    use super::*;

    fn ran(result: TrialResult) -> Trial {
        let test = "lvm2:shell/x.sh".to_owned();
        Trial::Ran {
            run: "r".into(),
            seen: vec![Sighting { test, dir: "d".into(), reproduce: None, result }],
        }
    }

    #[test]
    fn each_commit_fails_in_its_own_way() {
        let mut table = Table::default();
        let wrong = |class, signature: &[&str]| {
            let signature = signature.iter().map(|&line| line.to_owned()).collect();
            TrialResult::Wrong(Failure {
                class,
                detail: "x | y".into(),
                signature,
                known_issues: vec![],
                last_lines: vec![],
            })
        };
        let id = "0123456789abcdef0123456789abcdef01234567";
        table.add(0, id, "base", &ran(TrialResult::Passed));
        table.add(1, id, "md: break it", &ran(wrong(Class::Hang, &["lvm: md_stop"])));
        table.add(2, id, "md: break it | more", &Trial::Unbuildable { error: "md.c:1: error: no".into() });
        table.add(3, id, "md: mend half", &ran(wrong(Class::Corruption, &[])));
        assert!(!table.all_passed());
        assert_eq!(
            table.markdown(),
            "| patch | commit | lvm2:shell/x.sh |\n|--:|---|---|\n\
             | base | `0123456789ab` base | passed |\n\
             | 1 | `0123456789ab` md: break it | **hung**: lvm: md_stop |\n\
             | 2 | `0123456789ab` md: break it \\| more | **does not build**: md.c:1: error: no |\n\
             | 3 | `0123456789ab` md: mend half | **corrupted**: x \\| y |\n"
        );
    }

    #[test]
    fn what_a_series_mends_fails_on_its_base_only() {
        let (id, mut table) = ("0123456789ab", Table::default());
        let failed = || {
            let (class, detail) = (Class::Failure, "exit code 1".to_owned());
            TrialResult::Wrong(Failure {
                class,
                detail,
                signature: vec![],
                known_issues: vec![],
                last_lines: vec![],
            })
        };
        table.add(0, id, "base", &ran(failed()));
        table.add(1, id, "md: mend it", &ran(TrialResult::Passed));
        assert!(table.all_passed());
        let tries = [failed(), TrialResult::Passed, TrialResult::Passed].map(|came| match ran(came) {
            Trial::Ran { seen, .. } => seen,
            Trial::Unbuildable { .. } => vec![],
        });
        table.add(2, id, "md: more", &Trial::Ran { run: "r".into(), seen: tries.concat() });
        assert!(!table.all_passed());
        assert!(table.markdown().contains("| 1 of 3 **failed**: exit code 1; 2 of 3 passed |"));
        let mut table = Table::default();
        table.add(0, id, "base", &ran(TrialResult::Passed));
        table.add_unknown(1, id, "md: x", "the disk is full");
        assert!(!table.all_passed() && table.markdown().contains("nothing is known: the disk is full"));
    }
}
