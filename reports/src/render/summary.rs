//! `summary.md`: the run for people, as GitHub shows it.
//!
//! Text that a guest may have written stands only in code spans and in fences, both longer than
//! any run of backticks within, so that it never becomes markup, a link or a mention.

use protocol::event::{AttemptFacts, Blame};

use crate::judge::judged::Judged;
use crate::judge::kernel_version::Version;
use crate::judge::known_issues::IssueMatch;
use crate::judge::result::{RunResult, counts_line};
use crate::judge::verdict::Verdict;
use crate::record::{Attempt, Remark, RunEnd, RunRecord};
use crate::render::words::findings::{file_names, issue_details, report_lines, stack_lines};
use crate::render::words::reproduce;
use crate::render::words::storage;
use crate::text::{self, MAX_LAST_LINES};

/// Most verdicts that get a section of their own; a summary for GitHub may not grow past 1 MiB.
const MAX_SECTIONS: usize = 50;

/// Most remarks in one list.
const MAX_REMARKS: usize = 50;

/// Widest text in a table cell or a sentence.
const MAX_SPAN_WIDTH: usize = 200;

/// Widest text about a known issue.
const MAX_BUG_WIDTH: usize = 1000;

/// Widest line in a fence.
const MAX_FENCE_WIDTH: usize = 300;

/// The text of `summary.md`.
pub fn render(record: &RunRecord, judged: &[Judged]) -> String {
    let mut out = String::new();
    let result = RunResult::of(record, judged);
    out += &format!("# {}: {}\n\n", capitalised(&result.to_string()), code(&record.run.name));
    out += &format!("{} in {}", counts_line(judged), text::duration(record.elapsed_ms));
    out += match record.end {
        RunEnd::Finished => ".\n\n",
        RunEnd::Interrupted => "; the run was **interrupted**.\n\n",
        RunEnd::Cut => "; the events **just stop**: the harness was killed, or is still at work.\n\n",
    };
    out += &kernels(record);
    out += &machine(record);
    out += &tests(record, judged);
    let explained: Vec<&Judged> = judged.iter().filter(|judged| judged.verdict.needs_explaining()).collect();
    for judged in explained.iter().take(MAX_SECTIONS) {
        out += &section(record, judged);
    }
    if explained.len() > MAX_SECTIONS {
        let n_more = explained.len() - MAX_SECTIONS;
        out += &format!("\n…and {n_more} more that went wrong: see `verdicts.json` and `junit.xml`.\n");
    }
    out + &other_remarks(record, judged)
}

fn kernels(record: &RunRecord) -> String {
    if record.kernels.is_empty() {
        return "No kernel became ready.\n\n".to_owned();
    }
    let mut out = "| Kernel | Release | Exactly | Package | Digest |\n|---|---|---|---|---|\n".to_owned();
    for kernel in record.kernels.values() {
        let package = kernel.package_version.as_deref().unwrap_or_default();
        out += &row([&kernel.spec, &kernel.release, &kernel.exact_spec, package, &kernel.digest].map(cell));
    }
    out + "\n"
}

fn machine(record: &RunRecord) -> String {
    let mut out = String::new();
    if let Some(machine) = &record.machine {
        out += &format!("- accelerator {}: {}\n", code(&machine.accel), code(&machine.reason));
        out += &format!(
            "- QEMU {}, CPU {}, time limits at {} %\n",
            code(&machine.qemu),
            code(&machine.cpu),
            machine.time_scale_percent
        );
    }
    if let Some(image) = &record.image {
        let versions =
            image.versions.iter().map(|(name, version)| format!(", {} {}", code(name), code(version)));
        out += &format!("- guest image {}{}\n", code(&image.digest), versions.collect::<String>());
        for (name, checkout) in &image.checkouts {
            let commit = checkout.commit.iter().map(|commit| format!(" at {}", code(commit)));
            out += &format!(
                "- {} from checkout {}{}, digest {}\n",
                code(name),
                code(&checkout.dir),
                commit.collect::<String>(),
                code(&checkout.digest)
            );
        }
    }
    out += &format!("- started {} by {}\n", code(&record.run.started_at), code(&record.run.harness));
    out += &format!("- {}\n\n", code(&reproduce::shell_line(&record.run.command)));
    out
}

fn tests(record: &RunRecord, judged: &[Judged]) -> String {
    let kernel_idxs = record.kernel_idxs();
    match kernel_idxs.as_slice() {
        [] => "No test was selected.\n".to_owned(),
        [_] => table_of_one(record, judged),
        _ => table_side_by_side(record, judged, &kernel_idxs) + &notes(record, judged),
    }
}

fn table_of_one(record: &RunRecord, judged: &[Judged]) -> String {
    let mut out = "## Tests\n\n| Verdict | Test | Duration | Detail |\n|---|---|--:|---|\n".to_owned();
    for judged in judged {
        let test = cell(judged.test.to_string());
        let details = [judged.in_short()].into_iter().chain(judged.tries_lines());
        let details: Vec<_> = details.filter(|detail| !detail.is_empty()).map(cell).collect();
        out += &row([verdict(judged), test, duration(record, judged), details.join("; ")]);
    }
    out
}

/// One row per test, one column per kernel; several attempts share a cell.
fn table_side_by_side(record: &RunRecord, judged: &[Judged], kernel_idxs: &[u32]) -> String {
    let mut tests: Vec<&protocol::TestId> = Vec::new();
    let mut cells: std::collections::BTreeMap<(&protocol::TestId, u32), Vec<String>> = Default::default();
    for judged in judged {
        if !tests.contains(&&judged.test) {
            tests.push(&judged.test);
        }
        let text = format!("{} {}", verdict(judged), duration(record, judged)).trim_end().to_owned();
        cells.entry((&judged.test, judged.kernel_idx)).or_default().push(text + &judged.tries_mark());
    }
    let labels = kernel_idxs.iter().map(|kernel_idx| cell(record.kernel_label(*kernel_idx)));
    let mut out = "## Tests\n\n".to_owned();
    out += &row(["Test".to_owned()].into_iter().chain(labels));
    out += &format!("|---{}|\n", "|--:".repeat(kernel_idxs.len()));
    for test in tests {
        let tried = kernel_idxs.iter().map(|kernel_idx| match cells.get(&(test, *kernel_idx)) {
            Some(texts) => texts.join(", "),
            None => "–".to_owned(),
        });
        out += &row([cell(test.to_string())].into_iter().chain(tried));
    }
    out
}

/// The details for which a table side by side has no room, and that get no section either.
fn notes(record: &RunRecord, judged: &[Judged]) -> String {
    let lines = judged.iter().filter(|judged| !judged.verdict.needs_explaining()).filter_map(|judged| {
        let lines = [judged.in_short()].into_iter().chain(judged.tries_lines());
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).map(|line| code(&line)).collect();
        (!lines.is_empty()).then(|| {
            let kernel = code(&record.kernel_label(judged.kernel_idx));
            let test = code(&judged.test.to_string());
            format!("- {} {test} on {kernel}: {}\n", judged.verdict, lines.join("; "))
        })
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// One attempt that went wrong, in the order in which a maintainer reads: what, where, what it looks like,
/// who stands where, how the arrays are, what was said, and how to see it again.
fn section(record: &RunRecord, judged: &Judged) -> String {
    let title = capitalised(&judged.verdict.to_string());
    let kernel = kernel_with_version(record, judged.kernel_idx);
    let mut out = format!("\n## {title}: {} on {kernel}", code(&judged.test.to_string()));
    if let Some(signature) = &judged.signature {
        out += &format!(": {}", code(&signature.title()));
    }
    out += "\n\n";
    let explanation = judged.explanation();
    if !explanation.is_empty() {
        out += &format!("{}\n\n", code(&explanation));
    }
    out += &judged.tries_lines().iter().map(|line| format!("{}\n\n", code(line))).collect::<String>();
    let Some(attempt) = judged.attempt.and_then(|number| record.attempt(number)) else { return out };
    if let (Some(_), Some(kernel)) = (&judged.signature, record.kernels.get(&judged.kernel_idx)) {
        let package = kernel.package_version.as_ref().map(|version| format!(", package {}", code(version)));
        let spec = code(&kernel.exact_spec);
        out += &format!("Kernel: {}{}, {spec}\n\n", code(&kernel.release), package.unwrap_or_default());
    }
    out += &findings(record, judged, attempt);
    if let Some((_, facts)) = attempt.finished() {
        let output = output(facts);
        if judged.signature.is_some() && !output.is_empty() {
            out += "What it printed last:\n\n";
        }
        out += &output;
    }
    let reports = report_lines(judged, attempt);
    if !reports.is_empty() {
        let lines = reports.iter().map(|line| format!("- {}\n", code(line)));
        out += &format!("What the kernel reported:\n\n{}\n", lines.collect::<String>());
    }
    if !attempt.remarks.is_empty() {
        out += &remarks(&attempt.remarks[..attempt.remarks.len().min(MAX_REMARKS)]).concat();
        out += "\n";
    }
    out += &logs(attempt);
    if let Some(command) = reproduce::command(record, attempt) {
        out += &format!("\nreproduce:\n\n{}", fence("sh", &[text::printable(&command)]));
    }
    out
}

/// Where its files are, and when it was over.
fn logs(attempt: &Attempt) -> String {
    let mut out = format!("Logs: {}", code(&format!("{}/", attempt.dir)));
    if let Some(ms) = attempt.duration_ms() {
        out += &format!(", after {}", text::duration(ms));
    }
    let names = file_names(attempt);
    if !names.is_empty() {
        let names: Vec<_> = names.iter().map(|name| code(name)).collect();
        out += &format!("; from the guest, in {}: {}", code("files/"), names.join(", "));
    }
    out + "\n"
}

/// The release, and the version of the sources where the release does not begin with it.
fn kernel_with_version(record: &RunRecord, kernel_idx: u32) -> String {
    let label = record.kernel_label(kernel_idx);
    let version = record.kernels.get(&kernel_idx).and_then(Version::of).map(|version| version.to_string());
    match version {
        Some(version) if !label.starts_with(&version) => format!("{} ({})", code(&label), code(&version)),
        Some(_) | None => code(&label),
    }
}

/// Signature, known issues, the stacks that matter, and the state of md and dm.
fn findings(record: &RunRecord, judged: &Judged, attempt: &Attempt) -> String {
    let mut out = String::new();
    if let Some(signature) = &judged.signature {
        out += &format!("Signature:\n\n{}\n", fence("text", &fit(&signature.lines())));
    }
    for line in judged.issue_lines() {
        out += &format!("- {}\n", code(&line));
        let matched = judged.known_issues.iter().find(|matched| matched.sentence() == line);
        out += &matched.map_or_else(String::new, about_issue);
    }
    if judged.signature.is_some() || !judged.known_issues.is_empty() {
        out += "\n";
    }
    let stacks = stack_lines(record, judged, attempt);
    if !stacks.is_empty() {
        out += &format!("Where they stood:\n\n{}\n", fence("text", &fit(&stacks)));
    }
    if let Some(state) = &attempt.storage {
        out += &format!("md and dm:\n\n{}\n", fence("text", &fit(&storage::lines(state))));
    }
    out
}

/// Lines about a known issue.
fn about_issue(matched: &IssueMatch) -> String {
    let link = matched.info.link.as_ref();
    let line = |line: &String| match link {
        // Known to be one, and none of a guest's.
        Some(link) if link == line => format!("  - {link}\n"),
        Some(_) | None => format!("  - {}\n", code_of_width(line, MAX_BUG_WIDTH)),
    };
    issue_details(matched).iter().map(line).collect()
}

/// Lines for a fence: printable, and no wider than it may be.
fn fit(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| text::clip(&text::printable(line), MAX_FENCE_WIDTH)).collect()
}

fn output(facts: &AttemptFacts) -> String {
    let lines = text::last_lines(facts, MAX_LAST_LINES, MAX_FENCE_WIDTH);
    if !lines.is_empty() {
        fence("text", &lines) + "\n"
    } else if facts.test_ms.is_some() {
        "It printed nothing.\n\n".to_owned()
    } else {
        String::new()
    }
}

/// The remarks that stand in no section: those about the run, and about what went well.
fn other_remarks(record: &RunRecord, judged: &[Judged]) -> String {
    let mut lines = remarks(&record.remarks);
    for judged in judged.iter().filter(|judged| !judged.verdict.needs_explaining()) {
        let attempt = judged.attempt.and_then(|number| record.attempt(number));
        let test = code(&judged.test.to_string());
        let kernel = code(&record.kernel_label(judged.kernel_idx));
        for remark in attempt.map(|attempt| attempt.remarks.as_slice()).unwrap_or_default() {
            lines.push(format!("- {test} on {kernel}: {}: {}\n", blame(remark), code(&remark.text)));
        }
        for line in judged.missing_issue_lines() {
            lines.push(format!("- {test} on {kernel}: {}\n", code(&line)));
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let n_more = lines.len().saturating_sub(MAX_REMARKS);
    let more =
        if n_more == 0 { String::new() } else { format!("- …and {n_more} more, see `events.jsonl`\n") };
    format!("\n## Remarks\n\n{}{more}", lines[..lines.len() - n_more].concat())
}

fn remarks(remarks: &[Remark]) -> Vec<String> {
    remarks.iter().map(|remark| format!("- {}: {}\n", blame(remark), code(&remark.text))).collect()
}

fn blame(remark: &Remark) -> &'static str {
    match remark.blame {
        Blame::Kernel => "kernel",
        Blame::Test => "test",
        Blame::Harness => "harness",
        Blame::Host => "host",
    }
}

/// The verdict, in bold if somebody should look at it.
fn verdict(judged: &Judged) -> String {
    if judged.verdict.needs_explaining() || judged.verdict == Verdict::UnexpectedPass {
        format!("**{}**", judged.verdict)
    } else {
        judged.verdict.to_string()
    }
}

fn duration(record: &RunRecord, judged: &Judged) -> String {
    let attempt = judged.attempt.and_then(|number| record.attempt(number));
    attempt.and_then(Attempt::duration_ms).map_or_else(String::new, text::duration)
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().collect();
    format!("| {} |\n", cells.join(" | "))
}

/// A code span. Within one, Markdown takes nothing for markup but the closing backticks.
fn code(value: &str) -> String {
    code_of_width(value, MAX_SPAN_WIDTH)
}

fn code_of_width(value: &str, width: usize) -> String {
    let value = text::clip(&text::printable(value), width);
    let value = value.trim();
    if value.is_empty() {
        return String::new();
    }
    let ticks = "`".repeat(longest_run_of_backticks(value) + 1);
    let pad = if value.starts_with('`') || value.ends_with('`') { " " } else { "" };
    format!("{ticks}{pad}{value}{pad}{ticks}")
}

/// A code span in a table, where a `|` ends a cell even within a code span. A backslash in front
/// of it would escape our own backslash, so a space comes between.
fn cell(value: impl AsRef<str>) -> String {
    code(value.as_ref()).replace("\\|", "\\ |").replace('|', "\\|")
}

/// A fenced block of lines that hold no line ends.
fn fence(language: &str, lines: &[String]) -> String {
    let longest = lines.iter().map(|line| longest_run_of_backticks(line)).max().unwrap_or(0);
    let ticks = "`".repeat(3.max(longest + 1));
    format!("{ticks}{language}\n{}\n{ticks}\n", lines.join("\n"))
}

fn longest_run_of_backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
