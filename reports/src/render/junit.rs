//! `junit.xml` for CI servers: one test suite per kernel.
//!
//! The `junit-report` crate writes the cases. It writes text as it comes, so everything passes
//! through `attribute` or `block` first; and it knows neither `<properties>` nor several tries of one
//! case, so these are put in afterwards (`with_additions`), the latter as surefire's schema has them:
//! `<rerunFailure>` in a case that failed, `<flakyFailure>` in one that passed in the end.
//!
//! How verdicts map: what is bad is a `failure`; broken machinery and interruptions are an
//! `error`; what was skipped, not run, known or known to be flaky is `skipped` with the reason, because
//! a CI server must neither fail on it nor count it as a pass; the rest passes, also what failed and
//! passed when it was tried again.

use std::collections::BTreeMap;

use junit_report::{Duration, OffsetDateTime, Report, TestCase, TestResult, TestSuite};
use protocol::storage_state::StorageState;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer};
use time::format_description::well_known::Rfc3339;

use crate::judge::judged::Judged;
use crate::judge::signature::Signature;
use crate::judge::verdict::Verdict;
use crate::record::{Attempt, RunRecord};
use crate::render::words::findings::{report_lines, stack_lines};
use crate::render::words::reproduce;
use crate::render::words::storage;
use crate::text::{self, MAX_LAST_LINES, MAX_LINE_WIDTH};

/// Longest time of one test that is written, so that no sum of them overflows.
const MAX_DURATION_MS: u64 = 366 * 24 * 3_600_000;

/// Why a report could not be written as XML.
#[derive(Debug, thiserror::Error)]
pub enum JunitError {
    /// The cases could not be written.
    #[error("failed to write junit.xml: {0}; please report it as a bug of md-regress")]
    Cases(#[from] junit_report::Error),
    /// The XML that was written could not be read back.
    #[error("failed to read back junit.xml: {0}; please report it as a bug of md-regress")]
    ReadBack(#[from] quick_xml::Error),
    /// Properties and tries could not be put in.
    #[error("failed to add to junit.xml: {0}; please report it as a bug of md-regress")]
    Properties(#[from] std::io::Error),
}

/// The text of `junit.xml`.
pub fn render(record: &RunRecord, judged: &[Judged]) -> Result<String, JunitError> {
    let mut report = Report::new();
    let mut additions = Additions::default();
    let names = case_names(judged);
    for kernel_idx in record.kernel_idxs() {
        let cases = judged.iter().zip(&names).filter(|(judged, _)| judged.kernel_idx == kernel_idx);
        let mut suite = TestSuite::new(&attribute(&record.kernel_label(kernel_idx)));
        suite.package = suite.name.clone();
        suite.set_timestamp(timestamp(&record.run.started_at));
        for (judged, name) in cases {
            suite.add_testcase(case(record, judged, name));
            additions.tries.push(tries(record, judged));
        }
        report.add_testsuite(suite);
        additions.properties.push(suite_properties(record, kernel_idx));
    }
    let mut xml = Vec::new();
    report.write_xml(&mut xml)?;
    with_additions(&String::from_utf8_lossy(&xml), &additions)
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
        lines.extend(attempt.map(|attempt| stacks(record, judged, attempt)).unwrap_or_default());
        lines
            .extend(attempt.and_then(|attempt| attempt.storage.as_ref()).into_iter().flat_map(storage_lines));
        let reports = attempt.map(|attempt| report_lines(judged, attempt)).unwrap_or_default();
        lines.extend(reports.into_iter().map(|line| format!("kernel: {line}")));
        lines.extend(attempt.map(output_lines).unwrap_or_default());
        Some(block(&lines))
    };
    match judged.verdict {
        Verdict::Passed | Verdict::PassedWithComplaints | Verdict::UnexpectedPass => TestResult::Success,
        Verdict::Flaky if judged.is_redeemed() => TestResult::Success,
        Verdict::Failed | Verdict::Hung | Verdict::Crashed | Verdict::Corrupted | Verdict::UnexpectedSkip => {
            TestResult::Failure { type_, message, cause: cause() }
        }
        Verdict::Infra | Verdict::Interrupted => TestResult::Error { type_, message, cause: cause() },
        Verdict::KnownFailure | Verdict::Flaky | Verdict::Skipped | Verdict::NotRun => {
            TestResult::SkippedWithCause { type_, message, cause: None }
        }
    }
}

/// The text of `<system-out>`: remarks, where the log is, and the last lines of output.
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
    lines.extend(judged.tries_lines());
    lines.extend(attempt.remarks.iter().map(|remark| format!("remark: {}", remark.text)));
    lines.extend(judged.missing_issue_lines().into_iter().map(|line| format!("remark: {line}")));
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
        let link = matched.info.link.as_ref().map(|link| format!(", {link}")).unwrap_or_default();
        lines.push(format!("{}: {}{link}", matched.info.id, matched.fix_sentence()));
    }
    lines
}

/// The stacks that matter.
fn stacks(record: &RunRecord, judged: &Judged, attempt: &Attempt) -> Vec<String> {
    let lines = stack_lines(record, judged, attempt);
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

/// Elements that `junit-report` cannot write.
#[derive(Default)]
struct Additions {
    /// Properties of each suite, in order.
    properties: Vec<Vec<(String, String)>>,
    /// Properties of each case, in order.
    tries: Vec<Vec<TryElement>>,
}

/// A try that is not the case's own result.
struct TryElement {
    name: &'static str,
    type_: &'static str,
    message: String,
    stack_trace: String,
}

/// Most tries of one case that are written.
const MAX_TRIES: usize = 50;

/// The tries that failed, but for the one that the case itself shows.
fn tries(record: &RunRecord, judged: &Judged) -> Vec<TryElement> {
    let passed = judged.is_redeemed();
    let failed = judged.tries.iter().filter(|one| {
        let is_shown = !passed && judged.attempt == Some(one.attempt);
        (one.verdict.is_bad() || one.verdict == Verdict::Infra) && !is_shown
    });
    failed
        .take(MAX_TRIES)
        .map(|one| {
            let attempt = record.attempt(one.attempt);
            let mut lines: Vec<String> = attempt.map(log_line).into_iter().collect();
            lines.extend(one.signature.iter().flat_map(Signature::lines));
            lines.extend(attempt.map(output_lines).unwrap_or_default());
            let name = match (passed, one.verdict == Verdict::Infra) {
                (true, false) => "flakyFailure",
                (true, true) => "flakyError",
                (false, false) => "rerunFailure",
                (false, true) => "rerunError",
            };
            // Text, not CDATA: the writer escapes it.
            let stack_trace = lines.iter().map(|line| attribute(line)).collect::<Vec<_>>().join("\n");
            let message = format!("attempt {}: {}", one.attempt, one.in_short);
            TryElement { name, type_: one.verdict.name(), message: attribute(&message), stack_trace }
        })
        .collect()
}

/// Puts `<properties>` first in each `<testsuite>`, and tries behind each case's own result; indents what is
/// there.
fn with_additions(xml: &str, additions: &Additions) -> Result<String, JunitError> {
    let mut reader = Reader::from_str(xml);
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    let mut suites = additions.properties.iter();
    let mut cases = additions.tries.iter();
    // Of the case that is open: what is still to be put in.
    let mut tries: &[TryElement] = &[];
    loop {
        match reader.read_event()? {
            Event::Eof => break,
            Event::Start(start) if start.name().as_ref() == b"testsuite" => {
                writer.write_event(Event::Start(start))?;
                write_properties(&mut writer, suites.next())?;
            }
            Event::Empty(start) if start.name().as_ref() == b"testsuite" => {
                writer.write_event(Event::Start(start))?;
                write_properties(&mut writer, suites.next())?;
                writer.write_event(Event::End(BytesEnd::new("testsuite")))?;
            }
            Event::Start(start) if start.name().as_ref() == b"testcase" => {
                tries = cases.next().map_or(&[], Vec::as_slice);
                writer.write_event(Event::Start(start))?;
            }
            Event::Empty(start) if start.name().as_ref() == b"testcase" => {
                let tries = cases.next().map_or(&[][..], Vec::as_slice);
                if tries.is_empty() {
                    writer.write_event(Event::Empty(start))?;
                } else {
                    writer.write_event(Event::Start(start))?;
                    write_tries(&mut writer, tries)?;
                    writer.write_event(Event::End(BytesEnd::new("testcase")))?;
                }
            }
            Event::Start(start) if start.name().as_ref() == b"system-out" => {
                write_tries(&mut writer, std::mem::take(&mut tries))?;
                writer.write_event(Event::Start(start))?;
            }
            Event::End(end) if end.name().as_ref() == b"testcase" => {
                write_tries(&mut writer, std::mem::take(&mut tries))?;
                writer.write_event(Event::End(end))?;
            }
            // Not our enum: every other event passes through as it is.
            event => writer.write_event(event)?,
        }
    }
    let mut text = String::from_utf8_lossy(&writer.into_inner()).into_owned();
    text.push('\n');
    Ok(text)
}

fn write_tries(writer: &mut Writer<Vec<u8>>, tries: &[TryElement]) -> std::io::Result<()> {
    for TryElement { name, type_, message, stack_trace } in tries {
        let mut start = BytesStart::new(*name);
        start.push_attribute(("message", message.as_str()));
        start.push_attribute(("type", *type_));
        writer.write_event(Event::Start(start))?;
        writer.write_event(Event::Start(BytesStart::new("stackTrace")))?;
        writer.write_event(Event::Text(BytesText::new(stack_trace)))?;
        writer.write_event(Event::End(BytesEnd::new("stackTrace")))?;
        writer.write_event(Event::End(BytesEnd::new(*name)))?;
    }
    Ok(())
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
