//! `junit.xml` for CI servers: one test suite per kernel.
//!
//! The `junit-report` crate writes the cases. It writes text as it comes, so everything passes
//! through `attribute` or `block` first; and it knows no `<properties>`, so these are put in
//! afterwards (`with_properties`).
//!
//! How verdicts map: what is bad is a `failure`; broken machinery and interruptions are an
//! `error`; what was skipped, not run, known or flaky is `skipped` with the reason, because a CI
//! server must neither fail on it nor count it as a pass; the rest passes.

use std::collections::BTreeMap;

use junit_report::{Duration, OffsetDateTime, Report, TestCase, TestResult, TestSuite};
use protocol::state::StorageState;
use quick_xml::events::{BytesEnd, BytesStart, Event};
use quick_xml::{Reader, Writer};
use time::format_description::well_known::Rfc3339;

use crate::findings::{report_lines, stack_lines};
use crate::record::{Attempt, RunRecord};
use crate::reproduce;
use crate::storage;
use crate::text::{self, MAX_LAST_LINES, MAX_LINE_WIDTH};
use crate::verdict::{Judged, Verdict};

/// Longest time of one test that is written, so that no sum of them overflows.
const MAX_DURATION_MS: u64 = 366 * 24 * 3_600_000;

/// Why a report could not be written as XML.
#[derive(Debug, thiserror::Error)]
pub enum JunitError {
    /// The cases could not be written.
    #[error("failed to write junit.xml: {0}; please report it as a bug of md-regress")]
    Cases(#[from] junit_report::Error),
    /// What was written could not be read back.
    #[error("failed to read back junit.xml: {0}; please report it as a bug of md-regress")]
    ReadBack(#[from] quick_xml::Error),
    /// The properties could not be put in.
    #[error("failed to add properties to junit.xml: {0}; please report it as a bug of md-regress")]
    Properties(#[from] std::io::Error),
}

/// The text of `junit.xml`.
pub fn render(record: &RunRecord, judged: &[Judged]) -> Result<String, JunitError> {
    let mut report = Report::new();
    let mut properties = Vec::new();
    let names = case_names(judged);
    for kernel_idx in record.kernel_idxs() {
        let cases = judged.iter().zip(&names).filter(|(judged, _)| judged.kernel_idx == kernel_idx);
        let mut suite = TestSuite::new(&attribute(&record.kernel_label(kernel_idx)));
        suite.package = suite.name.clone();
        suite.set_timestamp(timestamp(&record.run.started_at));
        suite.add_testcases(cases.map(|(judged, name)| case(record, judged, name)));
        report.add_testsuite(suite);
        properties.push(suite_properties(record, kernel_idx));
    }
    let mut xml = Vec::new();
    report.write_xml(&mut xml)?;
    with_properties(&String::from_utf8_lossy(&xml), &properties)
}

/// The start of the run; the beginning of time if the record does not say it in a way that can be
/// written again (`junit-report` panics on years that RFC 3339 cannot hold).
fn timestamp(started_at: &str) -> OffsetDateTime {
    OffsetDateTime::parse(started_at, &Rfc3339)
        .ok()
        .filter(|time| time.format(&Rfc3339).is_ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A name for each case, unique among those of its kernel, or CI servers would merge them.
fn case_names(judged: &[Judged]) -> Vec<String> {
    let mut seen: BTreeMap<(u32, &protocol::TestId), usize> = BTreeMap::new();
    let name = |judged: &Judged| match judged.test.flavour() {
        Some(flavour) => format!("{}@{flavour}", judged.test.name()),
        None => judged.test.name().to_owned(),
    };
    judged
        .iter()
        .map(|judged| {
            let n = seen.entry((judged.kernel_idx, &judged.test)).or_default();
            *n += 1;
            if *n == 1 { name(judged) } else { format!("{} ({n})", name(judged)) }
        })
        .collect()
}

fn case(record: &RunRecord, judged: &Judged, name: &str) -> TestCase {
    let attempt = judged.attempt.and_then(|number| record.attempt(number));
    let duration_ms = attempt.and_then(Attempt::duration_ms).unwrap_or(0).min(MAX_DURATION_MS);
    let class = format!("{}.{}", judged.test.suite(), record.kernel_label(judged.kernel_idx));
    TestCase {
        name: attribute(name),
        time: Duration::milliseconds(duration_ms.cast_signed()),
        result: result(record, judged, attempt),
        classname: Some(attribute(&class)),
        filepath: None,
        system_out: attempt.and_then(|attempt| system_out(judged, attempt)),
        system_err: None,
    }
}

fn result(record: &RunRecord, judged: &Judged, attempt: Option<&Attempt>) -> TestResult {
    let type_ = judged.verdict.name().to_owned();
    let explanation = judged.explanation();
    let in_short = judged.in_short();
    let message = attribute(if in_short.is_empty() { judged.verdict.name() } else { in_short.as_str() });
    let cause = || {
        let mut lines = vec![format!("{}: {explanation}", judged.verdict)];
        lines.extend(findings(judged));
        lines.extend(
            attempt
                .and_then(|attempt| reproduce::command(record, attempt))
                .map(|command| format!("reproduce: {command}")),
        );
        lines.extend(attempt.map(log_line));
        lines.extend(attempt.map(stacks).unwrap_or_default());
        lines
            .extend(attempt.and_then(|attempt| attempt.storage.as_ref()).into_iter().flat_map(storage_lines));
        let reports = attempt.map(|attempt| report_lines(judged, attempt)).unwrap_or_default();
        lines.extend(reports.into_iter().map(|line| format!("kernel: {line}")));
        lines.extend(attempt.map(output_lines).unwrap_or_default());
        Some(block(&lines))
    };
    match judged.verdict {
        Verdict::Passed | Verdict::PassedWithComplaints | Verdict::UnexpectedPass => TestResult::Success,
        Verdict::Failed | Verdict::Hung | Verdict::Crashed | Verdict::Corrupted | Verdict::UnexpectedSkip => {
            TestResult::Failure { type_, message, cause: cause() }
        }
        Verdict::Infra | Verdict::Interrupted => TestResult::Error { type_, message, cause: cause() },
        Verdict::KnownFailure | Verdict::Flaky | Verdict::Skipped | Verdict::NotRun => {
            TestResult::SkippedWithCause { type_, message, cause: None }
        }
    }
}

/// What was noticed, where the log is, and how it ends.
fn system_out(judged: &Judged, attempt: &Attempt) -> Option<String> {
    attempt.finished()?;
    let mut lines = Vec::new();
    match judged.verdict {
        // There is no other place for the words of what counts as a pass.
        Verdict::PassedWithComplaints | Verdict::UnexpectedPass => {
            lines.push(format!("{}: {}", judged.verdict, judged.in_short()));
        }
        Verdict::Passed
        | Verdict::Failed
        | Verdict::Hung
        | Verdict::Crashed
        | Verdict::Corrupted
        | Verdict::KnownFailure
        | Verdict::Flaky
        | Verdict::Skipped
        | Verdict::UnexpectedSkip
        | Verdict::NotRun
        | Verdict::Interrupted
        | Verdict::Infra => {}
    }
    lines.extend(attempt.remarks.iter().map(|remark| format!("remark: {}", remark.text)));
    lines.extend(judged.not_struck_lines().into_iter().map(|line| format!("remark: {line}")));
    lines.push(log_line(attempt));
    lines.extend(output_lines(attempt));
    Some(block(&lines))
}

/// Signature and known issues.
fn findings(judged: &Judged) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(signature) = &judged.signature {
        lines.extend(signature.lines().into_iter().map(|line| format!("signature: {line}")));
    }
    lines.extend(judged.issue_lines());
    for matched in &judged.known_issues {
        let link = matched.about.link.as_ref().map(|link| format!(", {link}")).unwrap_or_default();
        lines.push(format!("{}: {}{link}", matched.about.id, matched.fix_sentence()));
    }
    lines
}

/// The stacks that matter.
fn stacks(attempt: &Attempt) -> Vec<String> {
    let lines = stack_lines(attempt);
    if lines.is_empty() {
        return lines;
    }
    ["where they stood:".to_owned()].into_iter().chain(lines).collect()
}

/// How md and dm stood.
fn storage_lines(state: &StorageState) -> Vec<String> {
    let lines = storage::lines(state).into_iter();
    ["md and dm:".to_owned()].into_iter().chain(lines.map(|line| format!("  {line}"))).collect()
}

fn log_line(attempt: &Attempt) -> String {
    format!("logs: {}/ (output.log, console.log, kernel.log)", attempt.dir)
}

fn output_lines(attempt: &Attempt) -> Vec<String> {
    let lines = attempt.finished().map(|(_, facts)| text::last_lines(facts, MAX_LAST_LINES, MAX_LINE_WIDTH));
    let lines = lines.unwrap_or_default();
    if lines.is_empty() {
        return lines;
    }
    let title = "the last lines of its output:".to_owned();
    [title].into_iter().chain(lines).collect()
}

fn suite_properties(record: &RunRecord, kernel_idx: u32) -> Vec<(String, String)> {
    let mut properties = vec![
        ("run".to_owned(), record.run.name.clone()),
        ("harness".to_owned(), record.run.harness.clone()),
        ("command".to_owned(), reproduce::shell_line(&record.run.command)),
    ];
    let mut add = |name: &str, value: &str| properties.push((name.to_owned(), value.to_owned()));
    if let Some(kernel) = record.kernels.get(&kernel_idx) {
        add("kernel.spec", &kernel.spec);
        add("kernel.exact_spec", &kernel.exact_spec);
        add("kernel.release", &kernel.release);
        if let Some(version) = &kernel.package_version {
            add("kernel.package_version", version);
        }
        add("kernel.digest", &kernel.digest);
    }
    if let Some(machine) = &record.machine {
        add("accel", &machine.accel);
        add("accel.reason", &machine.reason);
        add("qemu", &machine.qemu);
        add("cpu", &machine.cpu);
        add("time_scale_percent", &machine.time_scale_percent.to_string());
    }
    if let Some(image) = &record.image {
        add("image.digest", &image.digest);
        for (package, version) in &image.versions {
            add(&format!("version.{package}"), version);
        }
        for (package, checkout) in &image.checkouts {
            add(&format!("checkout.{package}.dir"), &checkout.dir);
            if let Some(commit) = &checkout.commit {
                add(&format!("checkout.{package}.commit"), commit);
            }
            add(&format!("checkout.{package}.digest"), &checkout.digest);
        }
    }
    for (name, value) in &record.run.host {
        add(&format!("host.{name}"), value);
    }
    properties
}

/// Puts `<properties>` first in each `<testsuite>`, and indents what is there.
fn with_properties(xml: &str, properties: &[Vec<(String, String)>]) -> Result<String, JunitError> {
    let mut reader = Reader::from_str(xml);
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    let mut suites = properties.iter();
    loop {
        match reader.read_event()? {
            Event::Eof => break,
            Event::Start(start) if start.name().as_ref() == "testsuite" => {
                writer.write_event(Event::Start(start))?;
                write_properties(&mut writer, suites.next())?;
            }
            Event::Empty(start) if start.name().as_ref() == "testsuite" => {
                writer.write_event(Event::Start(start))?;
                write_properties(&mut writer, suites.next())?;
                writer.write_event(Event::End(BytesEnd::new("testsuite")))?;
            }
            // Not our enum: every other event passes through as it is.
            event => writer.write_event(event)?,
        }
    }
    let mut text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    text.push('\n');
    Ok(text)
}

fn write_properties(
    writer: &mut Writer<Vec<u8>>,
    properties: Option<&Vec<(String, String)>>,
) -> std::io::Result<()> {
    writer.write_event(Event::Start(BytesStart::new("properties")))?;
    for (name, value) in properties.into_iter().flatten() {
        let mut property = BytesStart::new("property");
        property.push_attribute(("name", attribute(name).as_str()));
        property.push_attribute(("value", attribute(value).as_str()));
        writer.write_event(Event::Empty(property))?;
    }
    writer.write_event(Event::End(BytesEnd::new("properties")))
}

/// Text for an attribute: one printable line of bounded length. The writer escapes markup.
fn attribute(value: &str) -> String {
    text::clip(&text::printable(value), MAX_LINE_WIDTH)
}

/// Text for a CDATA block: printable lines of bounded length, and nothing that ends the block.
fn block(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| attribute(line)).collect();
    lines.join("\n").replace("]]>", "]]]]><![CDATA[>")
}

#[cfg(test)]
#[path = "junit_tests.rs"]
mod tests;
