//! A story as text for a terminal, a column per task. A column begins where the task's name stands and may go
//! on to the right edge, because only one task acts in a line. The steps of one task in one function are one
//! paragraph.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use textwrap::core::Word;
use textwrap::{Options, WordSeparator, WordSplitter};

use crate::story::{Change, Story};

/// Columns of the step numbers.
const GUTTER: usize = 9;
/// A column has at least so many to its right.
const LAST: usize = 36;

/// Stands for steps that are left out.
const LEFT_OUT: &str = "…";

/// How a story is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Columns of the terminal.
    pub width: usize,
    /// Every step; else without those of which nothing is left when the next task takes over.
    pub full: bool,
}

impl Default for Page {
    fn default() -> Self {
        Self { width: 100, full: false }
    }
}

/// The steps of one task in one function without a break.
struct Paragraph<'a> {
    first: usize,
    last: usize,
    column: usize,
    stack: &'a [String],
    /// The user's command, where it begins.
    command: Option<&'a str>,
    /// The steps in words; [`LEFT_OUT`] for steps that are left out.
    texts: Vec<&'a str>,
    flags: Vec<String>,
}

impl Paragraph<'_> {
    /// All of its steps are left out.
    fn is_left_out(&self) -> bool {
        self.texts == [LEFT_OUT]
    }

    fn function(&self) -> &str {
        self.stack.first().map_or("(work queue)", String::as_str)
    }
}

impl Story {
    /// The story as text for a terminal.
    pub fn to_text(&self, page: Page) -> String {
        let tasks = self.tasks();
        let columns = Columns::new(&tasks, page.width);
        let mut text = format!("{}\n{}, after {} steps\n\n", self.scenario, self.finding, self.lines.len());
        text.push_str(&columns.header(&tasks));
        let cycle = self.lines.len() - self.repeats;
        let paragraphs = self.paragraphs(&tasks, page.full);
        let alike = |a: &Paragraph<'_>, b: &Paragraph<'_>| {
            a.is_left_out() && b.is_left_out() && a.column == b.column && b.first != cycle
        };
        for run in paragraphs.chunk_by(alike) {
            if self.repeats > 0 && run[0].first == cycle {
                text.push_str("-- from here on it repeats --\n");
            }
            columns.write(&mut text, run);
        }
        if paragraphs.iter().any(|paragraph| paragraph.texts.contains(&LEFT_OUT)) {
            let legend =
                "(…: nothing of these steps is left when the next task takes over; --full shows them)";
            let _infallible = writeln!(text, "\n{}", textwrap::fill(legend, page.width));
        }
        self.write_end(&mut text, page.width);
        text
    }

    fn paragraphs<'a>(&'a self, tasks: &[&str], full: bool) -> Vec<Paragraph<'a>> {
        let several = self.lines.iter().any(|line| line.flags.iter().any(|change| change.raid_set == 1));
        let cycle = self.lines.len() - self.repeats;
        let mut paragraphs: Vec<Paragraph<'a>> = Vec::new();
        let mut commands: Vec<Option<&String>> = vec![None; tasks.len()];
        let mut shown = Shown::default();
        for (idx, line) in self.lines.iter().enumerate() {
            let column = tasks.iter().position(|task| *task == line.task).expect("a task of the story");
            let breaks = self.repeats > 0 && idx == cycle;
            let goes_on = paragraphs.last().is_some_and(|last| {
                last.column == column && last.flags.is_empty() && last.stack == line.stack && !breaks
            });
            if !goes_on {
                let command = line.stack.last();
                paragraphs.push(Paragraph {
                    first: idx,
                    last: idx,
                    column,
                    stack: &line.stack,
                    command: command
                        .filter(|is| commands[column] != Some(is) && line.stack.len() > 1)
                        .map(String::as_str),
                    texts: Vec::new(),
                    flags: Vec::new(),
                });
                commands[column] = command;
            }
            let paragraph = paragraphs.last_mut().expect("there is one now");
            paragraph.last = idx;
            if full || line.matters {
                paragraph.texts.push(&line.text);
                paragraph.flags =
                    line.flags.iter().filter_map(|change| shown.show(change, several)).collect();
            } else if paragraph.texts.last() != Some(&LEFT_OUT) {
                paragraph.texts.push(LEFT_OUT);
            }
        }
        paragraphs
    }

    fn write_end(&self, text: &mut String, width: usize) {
        let mut paragraph = |first: &str, rest: &str, words: &str| {
            let options = Options::new(width).initial_indent(first).subsequent_indent(rest);
            for line in textwrap::wrap(words, plain(options)) {
                let _infallible = writeln!(text, "{line}");
            }
        };
        if !self.waiting.is_empty() || !self.flags.is_empty() {
            paragraph("", "", "\nat the end");
        }
        for waiting in &self.waiting {
            let task = &waiting.task;
            let mut sentence = match (waiting.stack.first(), waiting.wait.split_once(' ')) {
                (Some(function), Some((verb @ ("waits" | "sleeps"), what))) => {
                    format!("{task} {verb} in {function} {what}")
                }
                (Some(function), _) => format!("{task} in {function}: {}", waiting.wait),
                (None, _) => format!("{task} {}", waiting.wait),
            };
            if !waiting.why.is_empty() {
                let _infallible = write!(sentence, "; {}", waiting.why);
            }
            paragraph("  ", "    ", &sentence);
            if waiting.stack.len() > 1 {
                paragraph("      ", "      ", &waiting.stack.join(" ← "));
            }
        }
        for remedy in &self.remedies {
            paragraph("  ", "    ", remedy);
        }
        for flags in &self.flags {
            paragraph("  ", "    ", flags);
        }
    }
}

/// Where the tasks' columns begin.
struct Columns {
    begins: Vec<usize>,
    width: usize,
}

impl Columns {
    fn new(tasks: &[&str], width: usize) -> Self {
        let width = width.max(GUTTER + LAST);
        let between = (width - GUTTER - LAST) / tasks.len().saturating_sub(1).max(1);
        let step = between.min(20);
        Self { begins: (0..tasks.len()).map(|idx| GUTTER + idx * step).collect(), width }
    }

    fn header(&self, tasks: &[&str]) -> String {
        let mut header = String::new();
        for (idx, (task, begin)) in tasks.iter().zip(&self.begins).enumerate() {
            let end = self.begins.get(idx + 1).map_or(usize::MAX, |next| next - 1);
            let name: String = task.chars().take(end - begin).collect();
            let _infallible = write!(header, "{:1$}{name}", "", begin - header.chars().count());
        }
        header + "\n"
    }

    /// The rails of the columns to the left, so that the eye finds the column.
    fn margin(&self, column: usize, number: &str) -> String {
        let mut margin = format!("{number:GUTTER$}");
        for begin in &self.begins[..column] {
            let _infallible = write!(margin, "{:1$}│", "", begin.saturating_sub(margin.chars().count()));
        }
        let rest = self.begins[column].saturating_sub(margin.chars().count());
        let apart = usize::from(!margin.ends_with([' ', '│']));
        let _infallible = write!(margin, "{:1$}", "", rest.max(apart));
        margin
    }

    /// Writes one paragraph, or several that are left out.
    fn write(&self, text: &mut String, run: &[Paragraph<'_>]) {
        let [paragraph, ..] = run else { return };
        let number = match (paragraph.first + 1, run.last().map_or(0, |last| last.last + 1)) {
            (first, last) if first == last => format!("{first:>4}"),
            (first, last) => format!("{first:>4}-{last}"),
        };
        let first = self.margin(paragraph.column, &number);
        let rest = self.margin(paragraph.column, "") + "  ";
        let mut wrapped = |first: &str, rest: &str, words: &str| {
            let options = Options::new(self.width).initial_indent(first).subsequent_indent(rest);
            for line in textwrap::wrap(words, plain(options)) {
                let _infallible = writeln!(text, "{}", line.trim_end());
            }
        };
        let command = paragraph.command.map_or(String::new(), |command| format!("{command} ▸ "));
        if paragraph.is_left_out() {
            let mut functions: Vec<&str> = run.iter().map(Paragraph::function).collect();
            let mut seen = Vec::new();
            functions.retain(|function| {
                !seen.contains(function) && {
                    seen.push(function.to_owned());
                    true
                }
            });
            return wrapped(&first, &rest, &format!("{command}… {}", functions.join(", ")));
        }
        let words = format!("{command}{}: {}", paragraph.function(), paragraph.texts.join("; "));
        wrapped(&first, &rest, &words);
        for change in &paragraph.flags {
            wrapped(&rest, &(rest.clone() + "  "), change);
        }
    }
}

fn plain(options: Options<'_>) -> Options<'_> {
    options.word_splitter(WordSplitter::NoHyphenation).word_separator(WordSeparator::Custom(pieces))
}

/// Breaks lines at blanks, and between flags.
fn pieces(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    Box::new(line.split_inclusive([' ', '|']).map(Word::from))
}

/// The flag words as they were last shown: a change follows on from that, whatever was left out between.
#[derive(Default)]
struct Shown<'a>(BTreeMap<(usize, &'static str), &'a str>);

impl<'a> Shown<'a> {
    fn show(&mut self, change: &'a Change, several: bool) -> Option<String> {
        let before = self.0.insert((change.raid_set, change.word), &change.after).unwrap_or(&change.before);
        let change = Change { before: before.to_owned(), ..change.clone() };
        (change.before != change.after).then(|| match several {
            true => format!("raid_set {} {change}", change.raid_set),
            false => change.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::{Invariant, Kind, Limits, explore};
    use crate::story::tell;
    use crate::{era, scenario};

    fn story(scenario: &str, era: &str, kind: Kind) -> Story {
        let (scenario, era) = (scenario::named(scenario).unwrap(), era::named(era).unwrap());
        let outcome = explore(scenario, era, Limits::default());
        tell(scenario, era, outcome.findings.iter().find(|finding| finding.kind == kind).unwrap())
    }

    #[test]
    fn the_regressions_of_v6_7_are_told() {
        insta::assert_snapshot!("s1", story("S1", "6.7", Kind::Deadlock).to_text(Page::default()));
        insta::assert_snapshot!("s3", story("S3", "6.7", Kind::Deadlock).to_text(Page::default()));
        insta::assert_snapshot!("s4", story("S4", "6.7", Kind::Deadlock).to_text(Page::default()));
    }

    #[test]
    fn what_repeats_is_marked() {
        let text = story("S3", "6.9", Kind::Churn).to_text(Page::default());
        assert_eq!(text.matches("-- from here on it repeats --").count(), 1);
    }

    #[test]
    fn every_step_is_shown_or_counted() {
        let story = story("S3", "6.7", Kind::Deadlock);
        for full in [true, false] {
            let tasks = story.tasks();
            let mut next = 0;
            for paragraph in story.paragraphs(&tasks, full) {
                assert_eq!(paragraph.first, next);
                next = paragraph.last + 1;
            }
            assert_eq!(next, story.lines.len());
        }
        let text = story.to_text(Page { width: 100, full: true });
        assert!(!text.contains(LEFT_OUT));
        let words =
            |text: &str| text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        for line in &story.lines {
            assert!(words(&text).contains(&words(&line.text)), "{}", line.text);
        }
    }

    /// Each change that is shown follows on from the one before, and the last one leads to the end.
    #[test]
    fn no_flag_word_is_lost_between_what_is_shown() {
        for (scenario, era, kind) in
            [("S1", "6.7", Kind::Deadlock), ("S6f", "6.9", Kind::Broken(Invariant::I12))]
        {
            let story = story(scenario, era, kind);
            let tasks = story.tasks();
            let mut recovery = "NEEDED".to_owned();
            for paragraph in story.paragraphs(&tasks, false) {
                for change in paragraph.flags.iter().filter_map(|change| change.strip_prefix("recovery: ")) {
                    let (before, after) = change.split_once(" → ").unwrap();
                    assert_eq!(recovery, before, "{change}");
                    recovery = after.to_owned();
                }
            }
            assert!(story.flags[0].starts_with(&format!("raid_set 0: {recovery}")));
        }
    }

    /// Message "frozen" sets FROZEN and clears it again: both are told, though nothing of it is left.
    #[test]
    fn what_holds_the_sync_thread_back_is_never_left_out() {
        let text = story("S6f", "6.9", Kind::Broken(Invariant::I12)).to_text(Page::default());
        assert!(text.contains("sets FROZEN") && text.contains("clears FROZEN"), "{text}");
    }

    #[test]
    fn it_fits_the_terminal_or_the_least_that_can_be_read() {
        for (scenario, era, kind) in [("S1", "6.6", Kind::Deadlock), ("S3", "6.7", Kind::Deadlock)] {
            let story = story(scenario, era, kind);
            for width in [60, 80, 100, 160] {
                for full in [false, true] {
                    let text = story.to_text(Page { width, full });
                    for line in text.lines().skip(2) {
                        assert!(line.chars().count() <= width, "{width}: {line}");
                    }
                }
            }
        }
    }
}
