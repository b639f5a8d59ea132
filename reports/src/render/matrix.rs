//! Verdicts of several runs side by side, as Markdown: a row per test, a column per mdadm and kernel.
//!
//! For the question which of the two a failure belongs to. Deliberately not here: explanations, which each
//! run's own reports have.

use std::collections::BTreeSet;

use protocol::TestId;

use crate::judge::judged::Judged;
use crate::record::RunRecord;
use crate::text;

/// A run with one version of mdadm, on its kernels.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// The record of the run.
    pub record: &'a RunRecord,
    /// Its verdicts.
    pub judged: &'a [Judged],
}

/// The table of all runs.
pub fn markdown(runs: &[Column<'_>]) -> String {
    let tests: BTreeSet<&TestId> =
        runs.iter().flat_map(|run| run.judged.iter().map(|judged| &judged.test)).collect();
    let columns: Vec<(&Column<'_>, u32)> =
        runs.iter().flat_map(|run| run.record.kernel_idxs().into_iter().map(move |idx| (run, idx))).collect();
    let mut out = "| test |".to_owned();
    for (run, kernel_idx) in &columns {
        out += &format!(" mdadm {}, {} |", mdadm(run.record), cell(&run.record.kernel_label(*kernel_idx)));
    }
    out += "\n|---|";
    out += &"---|".repeat(columns.len());
    out += "\n";
    for test in tests {
        out += &format!("| {} |", cell(&test.to_string()));
        for (run, kernel_idx) in &columns {
            let here = |judged: &&Judged| judged.kernel_idx == *kernel_idx && judged.test == *test;
            let verdicts: Vec<_> = run
                .judged
                .iter()
                .filter(here)
                .map(|judged| format!("{}{}", judged.verdict, judged.tries_mark()))
                .collect();
            // A version of mdadm has tests that another lacks.
            let shown = if verdicts.is_empty() { "-".to_owned() } else { verdicts.join(", ") };
            out += &format!(" {shown} |");
        }
        out += "\n";
    }
    out
}

/// The version of mdadm in a run's guest.
fn mdadm(record: &RunRecord) -> String {
    let version = record.image.as_ref().and_then(|image| image.versions.get("mdadm"));
    version.map_or_else(|| "unknown".to_owned(), |version| cell(version))
}

/// Text that came from a guest or a user, fit for a cell.
fn cell(text: &str) -> String {
    text::printable(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::judge::known_issues::KnownIssues;
    use crate::{judge, testing};

    #[test]
    fn a_test_has_a_row_and_each_mdadm_a_column_for_each_kernel() {
        let run = |version: &str| {
            let mut record = RunRecord::from_events(testing::sample_events());
            record.image.as_mut().unwrap().versions.insert("mdadm".to_owned(), version.to_owned());
            record
        };
        let (old, new) = (run("4.2-5"), run("4.4|11"));
        let judged = judge(&old, &BTreeMap::new(), &KnownIssues::default());
        let first = judged[0].test.clone();
        let without: Vec<_> = judged.iter().filter(|judged| judged.test != first).cloned().collect();
        let table =
            markdown(&[Column { record: &old, judged: &judged }, Column { record: &new, judged: &without }]);
        let n_kernels = old.kernel_idxs().len();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0].matches("mdadm 4.2-5, ").count(), n_kernels, "{table}");
        assert_eq!(lines[0].matches("mdadm 4.4\\|11, ").count(), n_kernels, "{table}");
        assert_eq!(lines[1].matches("---|").count(), 1 + 2 * n_kernels);
        let tests: BTreeSet<_> = judged.iter().map(|judged| &judged.test).collect();
        assert_eq!(lines.len(), 2 + tests.len(), "{table}");
        let row = lines.iter().find(|line| line.starts_with(&format!("| {first} |"))).unwrap();
        assert!(row.contains(&judged[0].verdict.to_string()), "{row}");
        assert!(row.ends_with(&" - |".repeat(n_kernels)), "what a run lacks is no verdict: {row}");
    }
}
