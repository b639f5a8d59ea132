//! The figures of a bench: shown on the terminal as they come, and kept for the report.
//!
//! Deliberately not here: Markdown ([`super::report`]) and the host ([`super::conditions`]).

use std::cell::RefCell;

use harness::terminal::outln;

use super::conditions::Machines;

/// Figures in the order in which they were measured.
pub(super) struct Figures {
    /// Shows a line.
    show: Box<dyn Fn(&str)>,
    blocks: RefCell<Vec<Block>>,
    machines: RefCell<Machines>,
}

/// Some figures that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Rows of cells under the names of columns.
    Table {
        /// What was measured, and how; may be empty.
        title: String,
        columns: Vec<Column>,
        rows: Vec<Vec<String>>,
    },
    /// Single figures: name, and value with its unit.
    Values {
        /// What they are about; may be empty.
        title: String,
        rows: Vec<(String, String)>,
    },
    /// A sentence about the figures.
    Note(String),
}

impl Block {
    /// The block with each of its texts changed.
    pub(super) fn changed(&self, change: &dyn Fn(&str) -> String) -> Block {
        match self {
            Block::Table { title, columns, rows } => Block::Table {
                title: change(title),
                columns: columns
                    .iter()
                    .map(|column| Column { name: change(&column.name), ..column.clone() })
                    .collect(),
                rows: rows.iter().map(|cells| cells.iter().map(|cell| change(cell)).collect()).collect(),
            },
            Block::Values { title, rows } => Block::Values {
                title: change(title),
                rows: rows.iter().map(|(name, value)| (change(name), change(value))).collect(),
            },
            Block::Note(text) => Block::Note(change(text)),
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Name, with the unit of its cells if they have none.
    pub(super) name: String,
    /// Least width on the terminal, characters.
    width: usize,
    pub(super) is_right: bool,
}

/// A column of words.
pub(super) fn left(name: impl Into<String>, width: usize) -> Column {
    Column { name: name.into(), width, is_right: false }
}

/// A column of numbers.
pub(super) fn right(name: impl Into<String>, width: usize) -> Column {
    Column { name: name.into(), width, is_right: true }
}

/// A table that rows are added to.
pub(super) struct Table<'a> {
    figures: &'a Figures,
    block_idx: usize,
    columns: Vec<Column>,
}

impl Table<'_> {
    /// Shows a row and keeps it: a cell for each column, missing ones empty.
    pub(super) fn row(&self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<_> = cells.into_iter().collect();
        (self.figures.show)(&line(&self.columns, &cells));
        if let Some(Block::Table { rows, .. }) = self.figures.blocks.borrow_mut().get_mut(self.block_idx) {
            rows.push(cells);
        }
    }
}

impl Figures {
    /// None yet; they will be shown on standard output.
    pub(super) fn on_stdout() -> Figures {
        Figures::shown_by(|line| outln!("{line}"))
    }

    fn shown_by(show: impl Fn(&str) + 'static) -> Figures {
        Figures { show: Box::new(show), blocks: RefCell::default(), machines: RefCell::default() }
    }

    /// Begins a table: shows its title and the names of its columns.
    pub(super) fn table(&self, title: impl Into<String>, columns: Vec<Column>) -> Table<'_> {
        let title = title.into();
        self.begin(&title);
        let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
        (self.show)(&line(&columns, &names));
        let block_idx = self.push(Block::Table { title, columns: columns.clone(), rows: vec![] });
        Table { figures: self, block_idx, columns }
    }

    /// Begins a group of single figures: shows its title.
    pub(super) fn group(&self, title: impl Into<String>) {
        let title = title.into();
        self.begin(&title);
        self.push(Block::Values { title, rows: vec![] });
    }

    /// Shows a single figure and keeps it, in the group that began last unless something came between.
    pub(super) fn value(&self, name: impl Into<String>, value: impl Into<String>) {
        if !matches!(self.blocks.borrow().last(), Some(Block::Values { .. })) {
            self.push(Block::Values { title: String::new(), rows: vec![] });
        }
        if let Some(Block::Values { title, rows }) = self.blocks.borrow_mut().last_mut() {
            let (name, value) = (name.into(), value.into());
            let indent = if title.is_empty() { "" } else { "  " };
            (self.show)(&format!("{indent}{name}: {value}"));
            rows.push((name, value));
        }
    }

    /// Shows a sentence about the figures and keeps it.
    pub(super) fn note(&self, text: impl Into<String>) {
        let text = text.into();
        (self.show)(&text);
        self.push(Block::Note(text));
    }

    /// Shows a line that concerns only this machine, such as a folder; no report has it.
    pub(super) fn aside(&self, text: &str) {
        (self.show)(text);
    }

    /// Remembers what VMs ran on, for the report's conditions.
    pub(super) fn ran_on(&self, qemu: &str, accel: &str, kernel: &str) {
        self.machines.borrow_mut().add(qemu, accel, kernel);
    }

    /// The same, from the record of a run.
    pub(super) fn ran(&self, record: &reports::RunRecord) {
        let Some(machine) = &record.machine else { return };
        for kernel in record.kernels.values() {
            self.ran_on(&machine.qemu, &machine.accel, &kernel.release);
        }
    }

    /// Everything that was kept.
    pub(super) fn into_parts(self) -> (Vec<Block>, Machines) {
        (self.blocks.into_inner(), self.machines.into_inner())
    }

    /// Shows an empty line between blocks, and the title.
    fn begin(&self, title: &str) {
        if !self.blocks.borrow().is_empty() {
            (self.show)("");
        }
        if !title.is_empty() {
            (self.show)(title);
        }
    }

    /// Appends a block, and returns its index.
    fn push(&self, block: Block) -> usize {
        let mut blocks = self.blocks.borrow_mut();
        blocks.push(block);
        blocks.len() - 1
    }
}

/// A line of a table on the terminal.
fn line(columns: &[Column], cells: &[String]) -> String {
    let mut line = String::new();
    for (idx, column) in columns.iter().enumerate() {
        let (cell, width) = (cells.get(idx).map_or("", String::as_str), column.width);
        let gap = match (idx, column.is_right) {
            (0, _) => "",
            (_, true) => " ",
            (_, false) => "  ",
        };
        line.push_str(gap);
        line.push_str(&if column.is_right { format!("{cell:>width$}") } else { format!("{cell:<width$}") });
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn cells_stand_under_the_names_of_their_columns() {
        let columns = [left("stops in", 10), right("verdict, s", 12), left("kind", 6)];
        let shown =
            |cells: &[&str]| line(&columns, &cells.iter().map(|&cell| cell.into()).collect::<Vec<_>>());
        assert_eq!(shown(&["stops in", "verdict, s", "kind"]), "stops in     verdict, s  kind");
        assert_eq!(shown(&["a-write", "9.0", "Silent"]), "a-write             9.0  Silent");
        assert_eq!(shown(&["a-read"]), "a-read", "nothing stands behind the last cell");
    }

    #[test]
    fn figures_are_shown_and_kept_in_their_order() {
        let shown = Rc::new(RefCell::new(String::new()));
        let lines = Rc::clone(&shown);
        let figures = Figures::shown_by(move |line| lines.borrow_mut().push_str(&format!("{line}\n")));
        let table = figures.table("t", vec![left("a", 1), right("b", 1)]);
        table.row(["x".to_owned(), "1".to_owned()]);
        figures.value("free", "1 s");
        table.row(["y".to_owned()]);
        figures.value("free too", "2 s");
        figures.group("g");
        figures.value("in it", "3 s");
        figures.note("n");
        figures.aside("/a/folder");
        figures.value("behind the note", "4 s");
        let expected = "\
t
a b
x 1
free: 1 s
y
free too: 2 s

g
  in it: 3 s
n
/a/folder
behind the note: 4 s
";
        assert_eq!(shown.borrow().as_str(), expected);
        let values = |title: &str, rows: &[(&str, &str)]| Block::Values {
            title: title.to_owned(),
            rows: rows.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        let (blocks, _) = figures.into_parts();
        assert_eq!(
            blocks,
            [
                Block::Table {
                    title: "t".to_owned(),
                    columns: vec![left("a", 1), right("b", 1)],
                    rows: vec![vec!["x".to_owned(), "1".to_owned()], vec!["y".to_owned()]],
                },
                values("", &[("free", "1 s"), ("free too", "2 s")]),
                values("g", &[("in it", "3 s")]),
                Block::Note("n".to_owned()),
                values("", &[("behind the note", "4 s")]),
            ]
        );
    }
}
