//! The report of a bench in Markdown: its conditions and its figures, fit to be pasted into an issue, a mail
//! or a page of figures. Pure.

use reports::text::printable;

use super::conditions::Conditions;
use super::figures::{Block, Column, left, right};

/// Width of sentences, characters; tables are as wide as they are.
const WIDTH: usize = 110;

/// The report of bench `name`. Paths below `folders`, the user's own, are left out of the figures.
pub(super) fn render(name: &str, conditions: &Conditions, blocks: &[Block], folders: &[String]) -> String {
    let mut text = format!("### bench {name}\n");
    let rows = conditions.rows().into_iter().map(|(name, value)| vec![name.to_owned(), value]);
    text.push_str(&table(&[left("condition", 0), left("value", 0)], &rows.collect::<Vec<_>>()));
    for block in blocks {
        text.push_str(&match block.changed(&|text| without_paths(text, folders)) {
            Block::Table { title, columns, rows } => sentence(&title) + &table(&columns, &rows),
            Block::Values { title, rows } => {
                let rows: Vec<_> = rows.into_iter().map(|(name, value)| vec![name, value]).collect();
                sentence(&title) + &table(&[left("what", 0), right("figure", 0)], &rows)
            }
            Block::Note(note) => sentence(&note),
        });
    }
    text
}

/// A paragraph, after an empty line; nothing if there is no text.
fn sentence(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("\n{}\n", textwrap::fill(&inline(text), textwrap::Options::new(WIDTH).break_words(false)))
}

/// A table, after an empty line.
fn table(columns: &[Column], rows: &[Vec<String>]) -> String {
    let mut text = String::from("\n|");
    columns.iter().for_each(|column| text.push_str(&format!(" {} |", cell(&column.name))));
    text.push_str("\n|");
    columns.iter().for_each(|column| text.push_str(if column.is_right { "--:|" } else { "---|" }));
    text.push('\n');
    for row in rows {
        text.push('|');
        for idx in 0..columns.len() {
            let shown = cell(row.get(idx).map_or("", String::as_str));
            text.push_str(&if shown.is_empty() { " |".to_owned() } else { format!(" {shown} |") });
        }
        text.push('\n');
    }
    text
}

/// Text within which nothing is markup but code: parts of it may be a guest's words.
fn inline(text: &str) -> String {
    printable(text).replace('<', "&lt;").replace('[', "\\[")
}

/// The same in a table, where a `|` ends a cell. A backslash in front of one would escape ours, so a space
/// comes between.
fn cell(text: &str) -> String {
    inline(text).replace("\\|", "\\ |").replace('|', "\\|")
}

/// `text` with `…` for each path that is one of `folders` or lies below it. A path in backticks goes as far
/// as these.
fn without_paths(text: &str, folders: &[String]) -> String {
    let ends = |letter: char| letter.is_whitespace() || "`'\",;:()|".contains(letter);
    let mut folders: Vec<_> = folders.iter().filter(|folder| folder.len() > 1).collect();
    // A folder within another one first, so that no part of its name is left.
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
    let mut text = text.to_owned();
    for folder in folders {
        while let Some(from) = text.find(folder.as_str()) {
            let rest = from + folder.len();
            let length = match text[..from].ends_with('`') {
                true => text[rest..].find('`'),
                false => text[rest..].find(ends),
            };
            let to = length.map_or(text.len(), |length| rest + length);
            text.replace_range(from..to, "…");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::conditions::{Host, Machines};

    fn conditions() -> Conditions {
        let mut machines = Machines::default();
        machines.add("QEMU emulator version 9.2.4", "kvm", "6.12.118");
        let host = Host {
            processor: "Processor 9".to_owned(),
            n_processors: "16".to_owned(),
            memory: "32000 MiB".to_owned(),
            is_vm: Some(false),
            kernel: "6.18.1".to_owned(),
        };
        let (command, version) = ("cargo xtask bench vm --out DIR".to_owned(), "0.1.0 (abc)".to_owned());
        Conditions { command, date: "2026-12-01".to_owned(), version, host, machines }
    }

    fn words(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|&cell| cell.to_owned()).collect()
    }

    #[test]
    fn a_report_is_conditions_and_tables() {
        let blocks = [
            Block::Table {
                title: "medians of 5".to_owned(),
                columns: vec![left("seconds until", 44), right("output", 10), right("gone", 10)],
                rows: vec![words(&["ours", "0.23", "0.24"]), words(&["theirs", "", "4.47"])],
            },
            Block::Values { title: String::new(), rows: vec![("disk".to_owned(), "136 MB".to_owned())] },
            Block::Note("a note".to_owned()),
        ];
        let expected = "\
### bench vm

| condition | value |
|---|---|
| command | `cargo xtask bench vm --out DIR` |
| date | 2026-12-01 |
| md-regress | 0.1.0 (abc) |
| processor | Processor 9 |
| processors | 16 |
| memory | 32000 MiB |
| the host is a VM | no |
| host kernel | 6.18.1 |
| QEMU | 9.2.4 |
| accelerator | kvm |
| guest kernel | 6.12.118 |

medians of 5

| seconds until | output | gone |
|---|--:|--:|
| ours | 0.23 | 0.24 |
| theirs | | 4.47 |

| what | figure |
|---|--:|
| disk | 136 MB |

a note
";
        assert_eq!(render("vm", &conditions(), &blocks, &[]), expected);
    }

    #[test]
    fn a_guests_words_are_no_markup() {
        assert_eq!(cell("a|b\\|c <img> [x](y)\u{1b}[31m"), "a\\|b\\ \\|c &lt;img> \\[x](y)");
        let rows = [words(&["one\ntwo"])];
        assert_eq!(table(&[left("a", 0)], &rows), "\n| a |\n|---|\n| one\\x0atwo |\n");
    }

    #[test]
    fn sentences_are_as_wide_as_documents() {
        let text = sentence(&"word ".repeat(60));
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(sentence(""), "");
    }

    #[test]
    fn no_path_of_the_user_gets_in() {
        let folders = ["/home/jane".to_owned(), "/home/jane/.cache/md-regress".to_owned(), "/".to_owned()];
        let why = "failed to read `/home/jane/.cache/md-regress/tmp/x y`, see /home/jane/a.log: /dev/md0";
        let blocks = [
            Block::Note(why.to_owned()),
            Block::Values { title: "/home/jane".to_owned(), rows: vec![] },
            Block::Table {
                title: String::new(),
                columns: vec![left("a", 0)],
                rows: vec![words(&["tree:/home/jane/linux|x"])],
            },
        ];
        let text = render("vm", &conditions(), &blocks, &folders);
        assert!(!text.contains("jane") && !text.contains("md-regress/tmp"), "{text}");
        assert!(text.contains("failed to read `…`, see …: /dev/md0"), "{text}");
        assert!(text.contains("| tree:…\\|x |"), "{text}");
    }
}
