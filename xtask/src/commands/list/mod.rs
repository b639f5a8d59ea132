//! `cargo xtask list`: the tests of a suite, with their subjects and needs; for people or as JSON.
//!
//! Deliberately not here: what is expected of them (`expected.rs`).

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use harness::error::usage;
use harness::model;
use harness::session::Session;
use harness::suite::DEFAULT_SUITE;
use harness::suite::Suite;
use harness::suite::select::{in_flavours, select};
use harness::suite::suite_named;
use harness::terminal::outln;
use protocol::TestId;
use reports::Policy;
use reports::faults::FaultClass;
use serde::Serialize;
use vm_images::host::progress::Progress;

use crate::exit::Exit;
use crate::options::SelectionOptions;

mod expected;

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    pub(crate) selection: SelectionOptions,
    /// Suite to show
    #[arg(long, default_value = DEFAULT_SUITE, env = "MD_REGRESS_SUITE")]
    pub(crate) suite: String,
    /// In this flavour; may be given several times
    #[arg(long = "flavour", value_name = "NAME", value_delimiter = ',')]
    pub(crate) flavours: Vec<String>,
    /// Also what each test needs, and what the tags mean
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// For programs: everything that is known of each
    #[arg(long)]
    pub(crate) json: bool,
    /// No tests, but the classes of `test --fail-on`: what each is, and what it makes of a test
    #[arg(long)]
    pub(crate) classes: bool,
    /// No tests, but the suite's expectations: what is expected, on which kernels, and whose fault it is
    #[arg(long, conflicts_with_all = ["classes", "json"])]
    pub(crate) expected: bool,
    /// With --expected: only what holds on this kernel, a version or release (6.12.117) or a spec (deb:6.12)
    #[arg(id = "expected_on", long = "kernel", value_name = "KERNEL", requires = "expected")]
    pub(crate) kernel: Option<String>,
    /// No tests, but the expectations of all suites that a test's last N attempts did not meet
    #[arg(
        long, value_name = "N", num_args = 0..=1, require_equals = true,
        default_missing_value = STALE_AFTER, conflicts_with_all = ["classes", "json", "expected"]
    )]
    pub(crate) stale: Option<NonZeroUsize>,
    /// With --stale: the history (default: reports/history.jsonl)
    #[arg(id = "stale_history", long = "history", value_name = "FILE", requires = "stale")]
    pub(crate) history: Option<PathBuf>,
}

/// Attempts that `--stale` looks at without a number.
const STALE_AFTER: &str = "10";

/// A test as JSON shows it. Existing fields stay; more may be added.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    /// Name as in every report.
    id: String,
    suite: &'a str,
    name: &'a str,
    /// Flavour; `None` for the suite's default one.
    flavour: Option<&'a str>,
    tags: &'a [String],
    needs: &'a [String],
    wants: &'a [String],
    ram_mib: u32,
    vcpus: u32,
    /// Time without output after which the test is stopped under KVM, seconds.
    silence_timeout_s: u64,
    /// Total time after which the test is stopped under KVM, seconds.
    test_timeout_s: u64,
}

pub(crate) fn run(session: &Session, options: ListOptions) -> Result<Exit> {
    if options.classes {
        classes();
        return Ok(Exit::Passed);
    }
    if options.expected {
        return expected::list(session, &options.suite, options.kernel.as_deref());
    }
    if let Some(n_attempts) = options.stale {
        return expected::list_stale(session, options.history, n_attempts.get());
    }
    if options.suite == model::suite::NAME {
        let n = model::suite::list(&options.selection.into_selection().patterns, options.json)?;
        return Ok(if n == 0 { Exit::NothingRan } else { Exit::Passed });
    }
    let suite = suite_named(&options.suite)?;
    let tests = select(&suite, &options.selection.into_selection()).map_err(usage)?;
    let (tests, left_out) = in_flavours(&suite, tests, &options.flavours).map_err(usage)?;
    if options.json {
        let all = tests.iter().map(|id| listed(&suite, id)).collect::<Result<Vec<_>>>()?;
        outln!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        show(session, &suite, &tests, options.verbose);
    }
    for (test, reason) in left_out {
        session.terminal.note(&format!("{test} {reason}"));
    }
    Ok(if tests.is_empty() { Exit::NothingRan } else { Exit::Passed })
}

/// Prints the table of classes that may fail a run.
fn classes() {
    let policy = Policy::default();
    outln!("{:<16} {:<11} {:<12} what it is", "class", "by itself", "in md or dm");
    for class in FaultClass::all() {
        let [alone, with_storage] =
            [false, true].map(|of_storage| policy.severity_of_class(class, of_storage));
        outln!("{class:<16} {alone:<11} {with_storage:<12} {}", class.about());
    }
}

fn listed<'a>(suite: &'a Suite, id: &'a TestId) -> Result<Listed<'a>> {
    let test = &suite.tests[id.name()];
    let job = suite.job(id)?;
    Ok(Listed {
        id: id.to_string(),
        suite: id.suite(),
        name: id.name(),
        flavour: id.flavour(),
        tags: &test.tags,
        needs: &test.needs,
        wants: &test.wants,
        ram_mib: job.ram_mib,
        vcpus: job.vcpus,
        silence_timeout_s: job.silence_timeout.as_secs(),
        test_timeout_s: job.test_timeout.as_secs(),
    })
}

fn show(session: &Session, suite: &Suite, tests: &[TestId], verbose: bool) {
    let width = tests.iter().map(|id| id.to_string().len()).max().unwrap_or_default();
    for id in tests {
        let test = &suite.tests[id.name()];
        outln!("{:<width$}  {}", id.to_string(), test.tags.join(" "));
        if verbose {
            for (word, list) in [("needs", &test.needs), ("wants", &test.wants)] {
                if !list.is_empty() {
                    outln!("    {word} {}", list.join(" "));
                }
            }
        }
    }
    if verbose {
        let shown: BTreeSet<_> = tests.iter().flat_map(|id| &suite.tests[id.name()].tags).collect();
        for (tag, meaning) in suite.tag_docs.iter().filter(|(tag, _)| shown.contains(tag)) {
            outln!("tag {tag:<14} {meaning}");
        }
    }
    let about = suite.written_for.as_ref().map(|version| format!(" ({version})")).unwrap_or_default();
    session.terminal.note(&format!(
        "{} of {} tests of suite {}{about}: {}; -E . shows all, -v what the tags mean",
        tests.len(),
        suite.tests.len(),
        suite.name,
        suite.about,
    ));
    if verbose && !suite.flavours.known.is_empty() {
        session.terminal.note(&format!("flavours: {}", suite.flavours.known.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness::workspace::workspace;

    #[test]
    fn a_run_and_the_list_mean_the_same_by_stale() {
        assert_eq!(STALE_AFTER, reports::judge::staleness::STALE_AFTER.to_string());
    }

    #[test]
    fn every_test_can_be_listed_as_json() {
        let suite = Suite::read(&workspace().join("suites/lvm2")).unwrap();
        let id: TestId = "lvm2:shell/integrity-caching.sh@ndev-lvmpolld".parse().unwrap();
        let json = serde_json::to_value(listed(&suite, &id).unwrap()).unwrap();
        assert_eq!(json["id"], "lvm2:shell/integrity-caching.sh@ndev-lvmpolld");
        assert_eq!(json["name"], "shell/integrity-caching.sh");
        assert_eq!(json["flavour"], "ndev-lvmpolld");
        assert!(json["tags"].as_array().unwrap().contains(&"v6.7-regressions".into()));
        for name in suite.tests.keys() {
            listed(&suite, &TestId::new("lvm2", name).unwrap()).unwrap();
        }
    }
}
