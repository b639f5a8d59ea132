//! Verdicts on several kernels side by side, for a terminal: a row per test, a column per kernel.
//!
//! Deliberately not here: explanations, which follow the table ([`crate::render::terminal`]).

use std::collections::BTreeMap;

use protocol::TestId;

use crate::judge::judged::Judged;
use crate::judge::verdict::Verdict;
use crate::record::{Attempt, RunRecord};
use crate::render::style::{TerminalStyle, color, painted};
use crate::text;

/// Narrowest column for the names of tests.
const NAME_WIDTH_MIN: usize = 24;
/// Between columns.
const GAP: &str = "  ";

/// The table; nothing if the terminal is too narrow for so many kernels. With more rows of plain passes
/// than `passed_rows_max`, these are only counted.
pub(crate) fn table(
    record: &RunRecord,
    judged: &[Judged],
    style: &TerminalStyle,
    passed_rows_max: usize,
) -> Option<String> {
    let kernel_idxs = record.kernel_idxs();
    let rows = rows(judged);
    let cell_texts =
        |judged: &[&Judged]| judged.iter().map(|judged| cell_text(record, judged)).collect::<Vec<_>>();
    let columns: Vec<(u32, String, usize)> = kernel_idxs
        .iter()
        .map(|&kernel_idx| {
            let label = text::printable(&record.kernel_label(kernel_idx));
            let cells = rows.iter().filter_map(|row| row.cells.get(&kernel_idx));
            let widest = cells.map(|cell| text::columns(&cell_texts(cell).join(", "))).max().unwrap_or(0);
            let width = widest.max(text::columns(&label));
            (kernel_idx, label, width)
        })
        .collect();
    let taken: usize = columns.iter().map(|(_, _, width)| width + GAP.len()).sum();
    let room = style.width.checked_sub(taken).filter(|room| *room >= NAME_WIDTH_MIN)?;
    let names = rows.iter().map(|row| text::columns(&row.test.to_string())).max().unwrap_or(0);
    let name_width = names.min(room);

    let n_passed = rows.iter().filter(|row| row.is_passed(kernel_idxs.len())).count();
    let mut out = " ".repeat(name_width);
    for (_, label, width) in &columns {
        out += GAP;
        out += &padded(label, *width);
    }
    out = out.trim_end().to_owned() + "\n";
    for row in &rows {
        if n_passed > passed_rows_max && row.is_passed(kernel_idxs.len()) {
            continue;
        }
        let name = text::clip(&text::printable(&row.test.to_string()), name_width);
        let mut line = padded(&name, name_width);
        for (kernel_idx, _, width) in &columns {
            line += GAP;
            let cell = row.cells.get(kernel_idx).map_or(&[][..], Vec::as_slice);
            let plain = if cell.is_empty() { "-".to_owned() } else { cell_texts(cell).join(", ") };
            let painted: Vec<_> = cell
                .iter()
                .map(|judged| painted(&cell_text(record, judged), color(judged.verdict), style))
                .collect();
            let shown = if cell.is_empty() { plain.clone() } else { painted.join(", ") };
            line += &shown;
            line += &" ".repeat(width.saturating_sub(text::columns(&plain)));
        }
        out += line.trim_end();
        out += "\n";
    }
    if n_passed > passed_rows_max {
        out += &format!("{n_passed} more tests passed on all kernels\n");
    }
    Some(out)
}

struct Row<'a> {
    test: &'a TestId,
    /// By kernel; several attempts share a cell.
    cells: BTreeMap<u32, Vec<&'a Judged>>,
}

impl Row<'_> {
    fn is_passed(&self, n_kernels: usize) -> bool {
        self.cells.len() == n_kernels
            && self.cells.values().flatten().all(|judged| judged.verdict == Verdict::Passed)
    }
}

/// In the order in which tests come first.
fn rows(judged: &[Judged]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut places: BTreeMap<&TestId, usize> = BTreeMap::new();
    for judged in judged {
        let place = *places.entry(&judged.test).or_insert_with(|| {
            rows.push(Row { test: &judged.test, cells: BTreeMap::new() });
            rows.len() - 1
        });
        rows[place].cells.entry(judged.kernel_idx).or_default().push(judged);
    }
    rows
}

fn cell_text(record: &RunRecord, judged: &Judged) -> String {
    let attempt = judged.attempt.and_then(|number| record.attempt(number));
    let duration = attempt.and_then(Attempt::duration_ms).map_or_else(String::new, text::duration);
    format!("{} {duration}", judged.verdict).trim_end().to_owned() + &judged.tries_mark()
}

fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text::columns(text))))
}
