//! The end of a run for a terminal: what happened, what went wrong and how to see it again.
//!
//! Builds text and prints nothing. Whether there are colours (`NO_COLOR`, a pipe) and how wide the
//! terminal is, the caller knows.

use crate::judge::judged::Judged;
use crate::judge::result::{RunResult, counts_line};
use crate::judge::verdict::Verdict;
use crate::record::{Attempt, RunEnd, RunRecord};
use crate::render::side_by_side;
use crate::render::style::{Color, TerminalStyle, color, painted};
use crate::render::words::findings::report_lines;
use crate::render::words::reproduce;
use crate::render::words::storage;
use crate::text;

/// Lines of output that are shown of what went wrong; the report has more.
const N_OUTPUT_LINES: usize = 5;

/// Reports of the kernel that are shown of what went wrong.
const N_REPORT_LINES: usize = 5;

/// With more plain passes than this, they are only counted.
const MAX_PASSED_LINES: usize = 30;

/// Columns of the longest verdict, `unexpected pass`.
const VERDICT_WIDTH: usize = 15;

/// The text, with a line end at its end.
pub fn render(record: &RunRecord, judged: &[Judged], style: &TerminalStyle) -> String {
    let (explained, others): (Vec<&Judged>, Vec<&Judged>) =
        judged.iter().partition(|judged| judged.verdict.needs_explaining());
    let table = match record.kernel_idxs().len() {
        0 | 1 => None,
        _ => side_by_side::table(record, judged, style, MAX_PASSED_LINES),
    };
    let mut out = match table {
        Some(table) => table + &notes(record, &others, style),
        None => list(record, &others, style),
    };
    // What went wrong comes last, next to the prompt.
    for judged in explained {
        out += &verdict_line(record, judged, style);
        out += &explanation(record, judged, style);
    }
    for judged in others {
        let of_many = record.kernel_idxs().len() > 1;
        let kernel =
            if of_many { format!(" on {}", record.kernel_label(judged.kernel_idx)) } else { String::new() };
        for line in judged.missing_issue_lines() {
            out += &clipped(&format!("remark: {}{kernel}: {line}", judged.test), style);
        }
    }
    for remark in &record.remarks {
        out += &clipped(&format!("remark: {}", remark.text), style);
    }
    out += &end(record, judged, style);
    out
}

/// A line for each verdict; plain passes are only counted if they are many.
fn list(record: &RunRecord, others: &[&Judged], style: &TerminalStyle) -> String {
    let n_passed = others.iter().filter(|judged| judged.verdict == Verdict::Passed).count();
    let mut out = String::new();
    for judged in others {
        if n_passed <= MAX_PASSED_LINES || judged.verdict != Verdict::Passed {
            out += &verdict_line(record, judged, style);
        }
    }
    if n_passed > MAX_PASSED_LINES {
        let word = format!("{:VERDICT_WIDTH$}", Verdict::Passed);
        out += &format!("{} {n_passed} tests\n", painted(&word, color(Verdict::Passed), style));
    }
    out
}

/// Lines for verdicts that need no explanation at length, and of which the table has no room to say all.
fn notes(record: &RunRecord, others: &[&Judged], style: &TerminalStyle) -> String {
    let telling = others.iter().filter(|judged| !judged.in_short().is_empty() || !judged.tries.is_empty());
    telling.map(|judged| verdict_line(record, judged, style)).collect()
}

fn verdict_line(record: &RunRecord, judged: &Judged, style: &TerminalStyle) -> String {
    let attempt = judged.attempt.and_then(|number| record.attempt(number));
    let duration = attempt.and_then(Attempt::duration_ms).map_or_else(String::new, text::duration);
    let mut rest = format!(" {duration:>12}  {}{}", judged.test, judged.tries_mark());
    if record.kernels.len() > 1 || !record.kernels.contains_key(&judged.kernel_idx) {
        rest += &format!(" on {}", record.kernel_label(judged.kernel_idx));
    }
    let room = style.width.saturating_sub(VERDICT_WIDTH);
    let mut below = String::new();
    // Of what went wrong, the explanation follows in lines of its own.
    if !judged.verdict.needs_explaining() {
        let explanation = judged.in_short();
        let joined = format!("{rest}: {explanation}");
        if explanation.is_empty() {
        } else if text::columns(&text::printable(&joined)) <= room {
            rest = joined;
        } else {
            below = clipped(&format!("    {explanation}"), style);
        }
    }
    for line in judged.tries_lines() {
        below += &wrapped(&line, style);
    }
    // Of what went wrong and was made up for, nobody shows more.
    let redeemed = judged.tries.iter().filter(|_| judged.is_redeemed());
    for attempt in redeemed.filter_map(|one| record.attempt(one.attempt)) {
        below += &format!("    logs: {}\n", text::printable(&format!("{}/{}/", style.run_dir, attempt.dir)));
    }
    let word = format!("{:VERDICT_WIDTH$}", judged.verdict);
    let rest = text::clip(&text::printable(&rest), room);
    format!("{}{}\n{below}", painted(&word, color(judged.verdict), style), rest.trim_end())
}

fn explanation(record: &RunRecord, judged: &Judged, style: &TerminalStyle) -> String {
    let mut out = String::new();
    let explanation = judged.explanation();
    if !explanation.is_empty() {
        out += &clipped(&format!("    {explanation}"), style);
    }
    let Some(attempt) = judged.attempt.and_then(|number| record.attempt(number)) else { return out };
    if let Some(signature) = &judged.signature {
        for line in signature.lines() {
            out += &clipped(&format!("    signature: {line}"), style);
        }
    }
    for line in judged.issue_lines() {
        out += &clipped(&format!("    {line}"), style);
    }
    for matched in &judged.known_issues {
        out += &clipped(&format!("    {}: {}", matched.info.id, matched.fix_sentence()), style);
    }
    for line in attempt.storage.iter().flat_map(storage::in_short) {
        out += &clipped(&format!("    {line}"), style);
    }
    for line in report_lines(judged, attempt).iter().take(N_REPORT_LINES) {
        out += &clipped(&format!("    kernel: {line}"), style);
    }
    for remark in &attempt.remarks {
        out += &clipped(&format!("    remark: {}", remark.text), style);
    }
    if let Some((outcome, facts)) = attempt.finished() {
        let width = style.width.saturating_sub(6);
        for line in text::telling_lines(outcome, facts, N_OUTPUT_LINES, width) {
            out += format!("    | {line}").trim_end();
            out += "\n";
        }
    }
    out += &format!("    logs: {}\n", text::printable(&format!("{}/{}/", style.run_dir, attempt.dir)));
    if let Some(command) = reproduce::command(record, attempt) {
        out += &format!("    reproduce: {}\n", text::printable(&command));
    }
    out
}

fn end(record: &RunRecord, judged: &[Judged], style: &TerminalStyle) -> String {
    let result = RunResult::of(record, judged);
    let paint = match result {
        RunResult::Passed => Color::Green,
        RunResult::TestsFailed | RunResult::InfraError => Color::Red,
        RunResult::NothingRan | RunResult::Interrupted => Color::Yellow,
    };
    let cut = match record.end {
        RunEnd::Finished | RunEnd::Interrupted => "",
        RunEnd::Cut => " (the events just stop: the harness was killed, or is still at work)",
    };
    format!(
        "{}: {} in {}{cut}\nreport: {}\n",
        painted(&result.to_string(), paint, style),
        counts_line(judged),
        text::duration(record.elapsed_ms),
        text::printable(&format!("{}/summary.md", style.reports_dir)),
    )
}

/// Numbers are not cut off: a long line goes on in the next.
fn wrapped(line: &str, style: &TerminalStyle) -> String {
    let (mut out, mut start) = (String::new(), "   ".to_owned());
    for word in text::printable(line).split(' ') {
        if text::columns(&start) + 1 + text::columns(word) > style.width && !start.trim().is_empty() {
            out += &clipped(&start, style);
            start = "     ".to_owned();
        }
        start = format!("{start} {word}");
    }
    out + &clipped(&start, style)
}

fn clipped(line: &str, style: &TerminalStyle) -> String {
    text::clip(&text::printable(line), style.width).trim_end().to_owned() + "\n"
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
