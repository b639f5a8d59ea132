//! The end of a run for a terminal: what happened, what went wrong and how to see it again.
//!
//! Builds text and prints nothing. Whether there are colours (`NO_COLOR`, a pipe) and how wide the
//! terminal is, the caller knows.

use crate::judge::judged::Judged;
use crate::judge::result::{RunResult, counts_line};
use crate::judge::verdict::Verdict;
use crate::record::{Attempt, RunEnd, RunRecord};
use crate::render::side_by_side;
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

/// How the text is to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// True for ANSI colours.
    pub color: bool,
    /// Columns of the terminal. Commands to copy and paths are never cut.
    pub width: usize,
    /// The run's folder, as the user would name it, `reports/out/NAME`.
    pub run_dir: String,
    /// The folder of the reports, which is the run's unless they were asked for elsewhere.
    pub reports_dir: String,
}

impl Options {
    /// 100 columns without colours.
    pub fn plain(run_dir: &str) -> Options {
        let run_dir = run_dir.to_owned();
        Options { color: false, width: 100, reports_dir: run_dir.clone(), run_dir }
    }
}

/// The text, with a line end at its end.
pub fn render(record: &RunRecord, judged: &[Judged], options: &Options) -> String {
    let (explained, others): (Vec<&Judged>, Vec<&Judged>) =
        judged.iter().partition(|judged| judged.verdict.needs_explaining());
    let table = match record.kernel_idxs().len() {
        0 | 1 => None,
        _ => side_by_side::table(record, judged, options, MAX_PASSED_LINES),
    };
    let mut out = match table {
        Some(table) => table + &notes(record, &others, options),
        None => list(record, &others, options),
    };
    // What went wrong comes last, next to the prompt.
    for judged in explained {
        out += &verdict_line(record, judged, options);
        out += &explanation(record, judged, options);
    }
    for judged in others {
        let of_many = record.kernel_idxs().len() > 1;
        let kernel =
            if of_many { format!(" on {}", record.kernel_label(judged.kernel_idx)) } else { String::new() };
        for line in judged.not_struck_lines() {
            out += &clipped(&format!("remark: {}{kernel}: {line}", judged.test), options);
        }
    }
    for remark in &record.remarks {
        out += &clipped(&format!("remark: {}", remark.text), options);
    }
    out += &end(record, judged, options);
    out
}

/// A line for each verdict; plain passes are only counted if they are many.
fn list(record: &RunRecord, others: &[&Judged], options: &Options) -> String {
    let n_passed = others.iter().filter(|judged| judged.verdict == Verdict::Passed).count();
    let mut out = String::new();
    for judged in others {
        if n_passed <= MAX_PASSED_LINES || judged.verdict != Verdict::Passed {
            out += &verdict_line(record, judged, options);
        }
    }
    if n_passed > MAX_PASSED_LINES {
        let word = format!("{:VERDICT_WIDTH$}", Verdict::Passed);
        out += &format!("{} {n_passed} tests\n", painted(&word, color(Verdict::Passed), options));
    }
    out
}

/// What a table has no room for, of what needs no explanation at length.
fn notes(record: &RunRecord, others: &[&Judged], options: &Options) -> String {
    let telling = others.iter().filter(|judged| !judged.in_short().is_empty() || !judged.tries.is_empty());
    telling.map(|judged| verdict_line(record, judged, options)).collect()
}

fn verdict_line(record: &RunRecord, judged: &Judged, options: &Options) -> String {
    let attempt = judged.attempt.and_then(|number| record.attempt(number));
    let duration = attempt.and_then(Attempt::duration_ms).map_or_else(String::new, text::duration);
    let mut rest = format!(" {duration:>12}  {}{}", judged.test, judged.tries_mark());
    if record.kernels.len() > 1 || !record.kernels.contains_key(&judged.kernel_idx) {
        rest += &format!(" on {}", record.kernel_label(judged.kernel_idx));
    }
    let room = options.width.saturating_sub(VERDICT_WIDTH);
    let mut below = String::new();
    // Of what went wrong, the explanation follows in lines of its own.
    if !judged.verdict.needs_explaining() {
        let explanation = judged.in_short();
        let joined = format!("{rest}: {explanation}");
        if explanation.is_empty() {
        } else if text::columns(&text::printable(&joined)) <= room {
            rest = joined;
        } else {
            below = clipped(&format!("    {explanation}"), options);
        }
    }
    for line in judged.tries_lines() {
        below += &wrapped(&line, options);
    }
    // Of what went wrong and was made up for, nobody shows more.
    let redeemed = judged.tries.iter().filter(|_| judged.is_redeemed());
    for attempt in redeemed.filter_map(|one| record.attempt(one.attempt)) {
        below +=
            &format!("    logs: {}\n", text::printable(&format!("{}/{}/", options.run_dir, attempt.dir)));
    }
    let word = format!("{:VERDICT_WIDTH$}", judged.verdict);
    let rest = text::clip(&text::printable(&rest), room);
    format!("{}{}\n{below}", painted(&word, color(judged.verdict), options), rest.trim_end())
}

fn explanation(record: &RunRecord, judged: &Judged, options: &Options) -> String {
    let mut out = String::new();
    let explanation = judged.explanation();
    if !explanation.is_empty() {
        out += &clipped(&format!("    {explanation}"), options);
    }
    let Some(attempt) = judged.attempt.and_then(|number| record.attempt(number)) else { return out };
    if let Some(signature) = &judged.signature {
        for line in signature.lines() {
            out += &clipped(&format!("    signature: {line}"), options);
        }
    }
    for line in judged.issue_lines() {
        out += &clipped(&format!("    {line}"), options);
    }
    for matched in &judged.known_issues {
        out += &clipped(&format!("    {}: {}", matched.about.id, matched.fix_sentence()), options);
    }
    for line in attempt.storage.iter().flat_map(storage::in_short) {
        out += &clipped(&format!("    {line}"), options);
    }
    for line in report_lines(judged, attempt).iter().take(N_REPORT_LINES) {
        out += &clipped(&format!("    kernel: {line}"), options);
    }
    for remark in &attempt.remarks {
        out += &clipped(&format!("    remark: {}", remark.text), options);
    }
    if let Some((outcome, facts)) = attempt.finished() {
        let width = options.width.saturating_sub(6);
        for line in text::telling_lines(outcome, facts, N_OUTPUT_LINES, width) {
            out += format!("    | {line}").trim_end();
            out += "\n";
        }
    }
    out += &format!("    logs: {}\n", text::printable(&format!("{}/{}/", options.run_dir, attempt.dir)));
    if let Some(command) = reproduce::command(record, attempt) {
        out += &format!("    reproduce: {}\n", text::printable(&command));
    }
    out
}

fn end(record: &RunRecord, judged: &[Judged], options: &Options) -> String {
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
        painted(&result.to_string(), paint, options),
        counts_line(judged),
        text::duration(record.elapsed_ms),
        text::printable(&format!("{}/summary.md", options.reports_dir)),
    )
}

/// Numbers are not cut off: a long line goes on in the next.
fn wrapped(line: &str, options: &Options) -> String {
    let (mut out, mut start) = (String::new(), "   ".to_owned());
    for word in text::printable(line).split(' ') {
        if text::columns(&start) + 1 + text::columns(word) > options.width && !start.trim().is_empty() {
            out += &clipped(&start, options);
            start = "     ".to_owned();
        }
        start = format!("{start} {word}");
    }
    out + &clipped(&start, options)
}

fn clipped(line: &str, options: &Options) -> String {
    text::clip(&text::printable(line), options.width).trim_end().to_owned() + "\n"
}

#[derive(Clone, Copy)]
pub(crate) enum Color {
    Green,
    Red,
    Yellow,
    Plain,
}

pub(crate) fn color(verdict: Verdict) -> Color {
    match verdict {
        Verdict::Passed => Color::Green,
        Verdict::Failed
        | Verdict::Hung
        | Verdict::Crashed
        | Verdict::Corrupted
        | Verdict::UnexpectedSkip
        | Verdict::Infra => Color::Red,
        Verdict::PassedWithComplaints | Verdict::UnexpectedPass | Verdict::Flaky | Verdict::Interrupted => {
            Color::Yellow
        }
        Verdict::KnownFailure | Verdict::Skipped | Verdict::NotRun => Color::Plain,
    }
}

pub(crate) fn painted(text: &str, color: Color, options: &Options) -> String {
    let code = match color {
        Color::Green => 32,
        Color::Red => 31,
        Color::Yellow => 33,
        Color::Plain => return text.to_owned(),
    };
    if options.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
#[path = "terminal_tests.rs"]
mod tests;
