//! Compares the parts of a bench: wall times, ratios, and verdicts side by side with the reasons for
//! differences.

use super::{SampleRun, SampleTest};
use crate::bench::figures::{Figures, left, right};

/// True if two words mean the same result, one ours and one of LVM2's runner.
fn agree(one: &str, other: &str) -> bool {
    let same = |word: &str| match word {
        "warnings" | "complained" => "complained".to_owned(),
        "timeout" | "hung" => "hung".to_owned(),
        other => other.to_owned(),
    };
    same(one) == same(other)
}

/// Shows the comparison; all others are compared with the first part.
pub(super) fn show(figures: &Figures, parts: &[SampleRun], runner_first: bool) {
    let Some(first) = parts.first() else { return };
    let columns =
        [("VMs", 6), ("wall, s", 10), ("tests, s", 10), ("peak, MiB", 12), ("restored", 10), ("ratio", 8)];
    let columns = columns.map(|(name, width)| right(name, width));
    let times =
        figures.table(first.conditions.as_str(), [left("runner", 24)].into_iter().chain(columns).collect());
    for part in parts {
        let tests_s: f64 = part.tests.values().map(|test| test.test_s).sum();
        times.row([
            part.name.clone(),
            if part.name.starts_with("lvm2") { "1 (2)".to_owned() } else { part.n_vms.to_string() },
            format!("{:.1}", part.wall_s),
            format!("{tests_s:.1}"),
            part.peak_mib.to_string(),
            part.n_restored.to_string(),
            format!("{:.2}", first.wall_s / part.wall_s),
        ]);
    }
    if runner_first {
        figures.note("ratio: how much less wall time than lvm2's runner in one stock VM of two processors");
        figures.note(
            "stock: as virtme-ng starts one (mitigations and all; under TCG `-cpu max`); ours: our options, \
             under TCG our processor",
        );
    }
    let names = parts.iter().map(|part| right(part.name.as_str(), 24));
    let columns = [left("verdict, and the test's time, s", 56)].into_iter().chain(names).collect();
    let verdicts = figures.table("", columns);
    for test in first.tests.keys() {
        verdicts.row([test.clone()].into_iter().chain(parts.iter().map(|part| cell(part.tests.get(test)))));
    }
    for (test, told) in &first.tests {
        for part in &parts[1..] {
            let Some(other) = part.tests.get(test) else { continue };
            if !agree(&told.verdict, &other.verdict) {
                let why =
                    [&told.why, &other.why].map(String::as_str).into_iter().filter(|why| !why.is_empty());
                let why = why.collect::<Vec<_>>().join("; ");
                let (one, two) = (&told.verdict, &other.verdict);
                figures.note(format!("{test}: {one} in {}, {two} in {}: {why}", first.name, part.name));
            }
        }
    }
    let n = n_differences(parts);
    figures.note(format!("{n} of {} tests differ in their verdicts", first.tests.len()));
}

fn cell(test: Option<&SampleTest>) -> String {
    test.map_or_else(|| "-".to_owned(), |test| format!("{} {:.1}", test.verdict, test.test_s))
}

/// Number of tests whose results differ between parts.
fn n_differences(parts: &[SampleRun]) -> usize {
    let Some(first) = parts.first() else { return 0 };
    let differs = |(test, told): (&String, &SampleTest)| {
        parts[1..]
            .iter()
            .any(|part| part.tests.get(test).is_none_or(|other| !agree(&told.verdict, &other.verdict)))
    };
    first.tests.iter().filter(|&entry| differs(entry)).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn part(verdicts: &[(&str, &str)]) -> SampleRun {
        let tests = verdicts.iter().map(|&(name, verdict)| {
            (name.to_owned(), SampleTest { verdict: verdict.to_owned(), why: String::new(), test_s: 1.0 })
        });
        SampleRun {
            name: String::new(),
            conditions: String::new(),
            wall_s: 1.0,
            n_vms: 1,
            peak_mib: 0,
            n_restored: 0,
            tests: tests.collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn verdicts_differ_by_what_they_mean() {
        let theirs = part(&[("a", "passed"), ("b", "warnings"), ("c", "timeout"), ("d", "passed")]);
        let ours = part(&[("a", "passed"), ("b", "complained"), ("c", "hung"), ("d", "complained")]);
        assert_eq!(n_differences(&[theirs.clone(), ours]), 1);
        assert_eq!(n_differences(&[theirs, part(&[("a", "passed")])]), 3);
    }
}
