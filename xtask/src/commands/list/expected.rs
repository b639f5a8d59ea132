//! `cargo xtask list --expected` and `--stale`: what is expected of tests, on which kernels, and what nobody
//! has met for long.

use std::path::PathBuf;

use anyhow::Result;
use harness::error::usage;
use harness::model;
use harness::run::criteria::Criteria;
use harness::run::history;
use harness::session::Session;
use harness::suite::suite_names;
use harness::terminal::outln;
use reports::judge::expectations::{Expectation, KernelFacts};
use reports::judge::kernel_version::Version;
use reports::record::Kernel;
use vm_images::host::progress::Progress;
use vm_images::spec::KernelSpec;

use crate::exit::Exit;

/// Prints the expectations of a suite; with a kernel, those that hold on it, and why the others do not.
pub(super) fn list(session: &Session, suite: &str, kernel: Option<&str>) -> Result<Exit> {
    let mut known = suite_names()?;
    known.push(model::suite::NAME.to_owned());
    if !known.iter().any(|name| name == suite) {
        return Err(usage(anyhow::anyhow!("there is no suite `{suite}`; there are {}", known.join(", "))));
    }
    let criteria = Criteria::of_suite(suite)?;
    let entries = criteria.expectations[suite].entries();
    let Some(kernel) = kernel else {
        for entry in entries {
            show(entry);
        }
        session.terminal.note(&format!("{} expectations of suite {suite}", entries.len()));
        return Ok(Exit::Passed);
    };
    let kernel = resolved(session, kernel)?;
    let version = Version::of(&kernel);
    let facts = KernelFacts { release: Some(&kernel.release), version: version.as_ref() };
    let (here, elsewhere): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.holds_on(facts));
    for entry in &here {
        show(entry);
    }
    for entry in &elsewhere {
        outln!("not here         {}: {}", entry.place, why_not(entry, version.as_ref()));
    }
    let sources =
        version.map_or("sources of no known version".to_owned(), |version| format!("sources {version}"));
    session.terminal.note(&format!(
        "{} of {} expectations of suite {suite} hold on {} ({sources})",
        here.len(),
        entries.len(),
        kernel.release
    ));
    Ok(Exit::Passed)
}

/// Prints the stale expectations of all suites.
pub(super) fn list_stale(session: &Session, file: Option<PathBuf>, n_attempts: usize) -> Result<Exit> {
    let criteria = Criteria::of_suites(&suite_names()?)?;
    let file = file.unwrap_or_else(history::default_file);
    let (stale, n_passed_over) = history::stale(&file, &criteria, n_attempts)?;
    for stale in &stale {
        outln!("{}", stale.sentence());
        outln!("    {}", stale.entry.reason);
    }
    if n_passed_over > 0 {
        session.terminal.note(&format!("lines of `{}` that cannot be read: {n_passed_over}", file.display()));
    }
    let n = stale.len();
    session.terminal.note(&format!("{n} stale, by the last {n_attempts} attempts of each test or more"));
    Ok(Exit::Passed)
}

/// An expectation in a few lines.
fn show(entry: &Expectation) {
    outln!("{:<16} {:<12} {}", entry.outcome, entry.because.name(), entry.tests().join(" "));
    outln!("    on {}", kernels(entry));
    outln!("    {} ({})", entry.reason, entry.place);
}

/// On which kernels, in words.
fn kernels(entry: &Expectation) -> String {
    let named = entry.kernels().map(|kernels| kernels.join(" "));
    let ids: Vec<_> = entry.known_issues().iter().map(|issue| issue.id()).collect();
    let all = || if ids.is_empty() { "all kernels".to_owned() } else { "kernels".to_owned() };
    match ids.as_slice() {
        [] => named.unwrap_or_else(all),
        ids => format!("{} with {}", named.unwrap_or_else(all), ids.join(" or ")),
    }
}

/// Why an expectation does not hold on a kernel of this version.
fn why_not(entry: &Expectation, version: Option<&Version>) -> String {
    let standing = |issue: &reports::judge::known_issues::KnownIssue| {
        format!("{}: {}", issue.id(), issue.standing(version).name())
    };
    let issues: Vec<_> = entry.known_issues().iter().map(standing).collect();
    let about = format!("on {}", kernels(entry));
    if issues.is_empty() { about } else { format!("{about} ({})", issues.join(", ")) }
}

/// The kernel that the user names. A spec is resolved as for a test; an overlay is not built: its version is
/// not known anyway.
fn resolved(session: &Session, text: &str) -> Result<Kernel> {
    let plain = |release: &str, package_version: Option<String>| Kernel {
        spec: text.to_owned(),
        exact_spec: text.to_owned(),
        release: release.to_owned(),
        package_version,
        digest: String::new(),
    };
    if !text.contains(':') {
        return if text.starts_with(|c: char| c.is_ascii_digit()) {
            Ok(plain(text, None))
        } else {
            Err(usage(anyhow::anyhow!(
                "`{text}` is no kernel: expected `6.12.117`, a release, or `deb:6.12`"
            )))
        };
    }
    let base = text.split_once("+md:").or_else(|| text.split_once("+plant:")).map_or(text, |(base, _)| base);
    let spec: KernelSpec = base.parse().map_err(|error| usage(anyhow::anyhow!("{error}")))?;
    let apt = session.apt()?;
    let kernel = session.images(&apt)?.kernel(&spec)?;
    session.terminal.end_step();
    Ok(plain(&kernel.release, kernel.package_version.clone()))
}
