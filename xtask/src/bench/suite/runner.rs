//! LVM2's own runner in a guest: the script that starts it, and its journal.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use harness::run::finished::FinishedRun;
use reports::Verdict;

use super::SampleTest;

/// A script that prepares and starts the runner, and returns its files.
const SCRIPT: &str = include_str!("runner.sh");
/// The default flavour of both sides.
const FLAVOUR: &str = "ndev-vanilla";

/// The script that runs `tests`.
pub(super) fn script(tests: &[&str]) -> String {
    // The runner matches names as parts of ids; with folder and extension each matches only itself.
    format!("{SCRIPT}\nrun_by_lvm2 {FLAVOUR} {}\n", tests.join(","))
}

/// Result of each test, from the runner's journal.
pub(super) fn results(ran: &FinishedRun) -> Result<BTreeMap<String, SampleTest>> {
    let (judged, attempt) =
        ran.judged.first().zip(ran.record.attempts.first()).context("nothing was tried")?;
    let dir = ran.dir.join(&attempt.dir);
    if !matches!(judged.verdict, Verdict::Passed | Verdict::PassedWithComplaints) {
        bail!("lvm2's runner did not get through: {}; logs: `{}`", judged.explanation(), dir.display());
    }
    let (_, facts) = attempt.finished().context("the runner did not finish")?;
    let journal = facts.files.iter().find(|file| file.path.ends_with("/journal"));
    let journal =
        journal.with_context(|| format!("the runner left no journal; logs: `{}`", dir.display()))?;
    let path = dir.join("files").join(journal.file_idx.to_string());
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    Ok(parse(&text))
}

/// Parses lines like `ndev-vanilla:shell/x.sh passed 1:02.345 wall …`; the last line of a test counts.
fn parse(journal: &str) -> BTreeMap<String, SampleTest> {
    let mut tests = BTreeMap::new();
    for line in journal.lines() {
        let mut words = line.split_whitespace();
        let (Some(id), Some(state)) = (words.next(), words.next()) else { continue };
        let Some((_, test)) = id.split_once(':') else { continue };
        let test_s = words.next().and_then(seconds).unwrap_or_default();
        tests.insert(test.to_owned(), SampleTest { verdict: state.to_owned(), why: String::new(), test_s });
    }
    tests
}

/// A duration in seconds: `1:02.345`, or with hours before it.
fn seconds(text: &str) -> Option<f64> {
    text.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read() {
        let journal = "\
ndev-vanilla:shell/a.sh    started     --- 2026-11-24 11:31:29 ---
ndev-vanilla:shell/a.sh    passed       1:12.500 wall  0:04.365 user  0:08.809 sys    9 M mem
ndev-vanilla:shell/b-c.sh  started     --- 2026-11-24 11:31:42 ---
";
        let tests = parse(journal);
        assert_eq!((tests["shell/a.sh"].verdict.as_str(), tests["shell/a.sh"].test_s), ("passed", 72.5));
        // The machine died during this test.
        assert_eq!(tests["shell/b-c.sh"].verdict, "started");
    }

    #[test]
    fn the_script_names_each_test_once() {
        assert!(
            script(&["shell/a.sh", "shell/b.sh"])
                .ends_with("run_by_lvm2 ndev-vanilla shell/a.sh,shell/b.sh\n")
        );
    }
}
