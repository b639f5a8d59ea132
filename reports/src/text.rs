//! Makes text fit to show. A guest is not trusted: what it writes must not move a cursor, colour
//! a terminal, reorder a line, or make a report unreadable.
//!
//! Deliberately not here: what XML and Markdown need beyond that ([`crate::render::junit`],
//! [`crate::render::summary`]).

use protocol::Outcome;
use protocol::event::AttemptFacts;

/// Most lines of a test's output that a report shows.
pub const MAX_LAST_LINES: usize = 20;

/// Widest line of a test's output that a file shows, in columns.
pub const MAX_LINE_WIDTH: usize = 1000;

/// One line that any terminal and any XML 1.0 file can hold.
///
/// Whole escape sequences (colours, cursor movements, titles) are removed; a tab becomes a space;
/// every other control character, line end and direction mark is shown by its number, `\x07` or
/// `\u{202e}`. Text without any of these is returned as it is.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '\x1b'
            && let Some(n_bytes) = escape_sequence(rest.as_bytes())
        {
            rest = &rest[n_bytes..];
            continue;
        }
        match c {
            '\t' => shown.push(' '),
            c if (c as u32) < 0x80 && c.is_control() => shown.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_unfit(c) => shown.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => shown.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    shown
}

/// Control characters, and characters that act on the line around them or that XML forbids.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{fffe}'
                | '\u{ffff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Length of the escape sequence (ECMA-48) that `bytes` begin with, if it is complete. All of it
/// but the body of a string sequence is ASCII, so the length is a character boundary.
fn escape_sequence(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'[' => {
            let body = bytes[2..].iter().position(|byte| !(0x20..0x40).contains(byte))?;
            (0x40..0x7f).contains(&bytes[2 + body]).then_some(2 + body + 1)
        }
        b']' | b'P' | b'X' | b'^' | b'_' => {
            let body = &bytes[2..];
            let end = body.iter().position(|byte| matches!(byte, 0x07 | 0x1b))?;
            match body[end] {
                0x07 => Some(2 + end + 1),
                _ => (body.get(end + 1) == Some(&b'\\')).then_some(2 + end + 2),
            }
        }
        0x20..0x30 => {
            let body = bytes[1..].iter().position(|byte| !(0x20..0x30).contains(byte))?;
            (0x30..0x7f).contains(&bytes[1 + body]).then_some(1 + body + 1)
        }
        0x30..0x7f => Some(2),
        _ => None,
    }
}

/// Cuts `text` to at most `width` columns; what is cut ends in `…`.
pub fn clip(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let mut cut: String = text
        .chars()
        .take_while(|c| match left.checked_sub(columns_of(*c)) {
            Some(now_left) => {
                left = now_left;
                true
            }
            None => false,
        })
        .collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// Columns that `text` takes in a terminal, at most.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// Never too few: a character that might be a wide one counts as two.
fn columns_of(c: char) -> usize {
    match c {
        '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{ffdc}' | '\u{10000}'.. => 2,
        _ => 1,
    }
}

/// The last `n` lines that a test printed, each fit to show and at most `width` columns wide.
pub fn last_lines(facts: &AttemptFacts, n: usize, width: usize) -> Vec<String> {
    fit(&facts.last_lines[facts.last_lines.len().saturating_sub(n)..], width)
}

/// The `n` lines that say most about an outcome: of a crash the first, which name the fault.
pub fn telling_lines(outcome: &Outcome, facts: &AttemptFacts, n: usize, width: usize) -> Vec<String> {
    match outcome {
        Outcome::KernelCrash { .. } => fit(&facts.last_lines[..facts.last_lines.len().min(n)], width),
        Outcome::Pass
        | Outcome::Fail { .. }
        | Outcome::Skip { .. }
        | Outcome::Warn { .. }
        | Outcome::Timeout { .. }
        | Outcome::Hang { .. }
        | Outcome::DataCorruption { .. }
        | Outcome::Interrupted
        | Outcome::Infra { .. } => last_lines(facts, n, width),
    }
}

fn fit(lines: &[String], width: usize) -> Vec<String> {
    lines.iter().map(|line| clip(&printable(line.trim_end()), width)).collect()
}

/// A time for people: `0.4 s`, `88.0 s`, `6 min 06 s`, `2 h 05 min`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..100 => format!("{s}.{} s", ms % 1000 / 100),
        100..6000 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_sequences_go_and_control_characters_show() {
        for (input, expect) in [
            ("plain text, ünïcode ✓", "plain text, ünïcode ✓"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b[2J\x1b[1;1Hgone", "gone"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b(Bascii", "ascii"),
            ("\x1b]0;never ends", "\\x1b]0;never ends"),
            ("\x1b[31", "\\x1b[31"),
            ("a\tb", "a b"),
            ("over\rwrite\x07\x08", "over\\x0dwrite\\x07\\x08"),
            ("two\nlines", "two\\x0alines"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{fffe}", "\\u{fffe}"),
        ] {
            assert_eq!(printable(input), expect, "{input:?}");
        }
    }

    #[test]
    fn durations_read_well() {
        for (ms, expect) in [
            (0, "0.0 s"),
            (449, "0.4 s"),
            (99_999, "99.9 s"),
            (366_000, "6 min 06 s"),
            (7_500_000, "2 h 05 min"),
            (u64::MAX, "5124095576030 h 25 min"),
        ] {
            assert_eq!(duration(ms), expect);
        }
    }

    #[test]
    fn clipping_counts_columns() {
        assert_eq!(clip("abc", 3), "abc");
        assert_eq!(clip("abcd", 3), "ab…");
        assert_eq!(clip("日本語", 4), "日…");
        assert_eq!(clip("abc", 0), "");
    }

    proptest! {
        #[test]
        fn printable_text_is_fit_and_stays_as_it_is(text in any::<String>(), width in 0..40_usize) {
            let shown = printable(&text);
            prop_assert!(!shown.chars().any(is_unfit), "{shown:?}");
            prop_assert_eq!(&printable(&shown), &shown);
            prop_assert!(columns(&clip(&shown, width)) <= width);
        }

        #[test]
        fn escapes_never_split_a_character(text in "(\u{1b}[\\[\\]P (]?|[0-9;mH]|é|日|\u{7}|\u{1b}\\\\){0,12}") {
            printable(&text);
        }

        #[test]
        fn ordinary_text_is_kept(text in "[ -~àéüßΩ✓日]{0,80}") {
            prop_assert_eq!(printable(&text), text);
        }
    }
}
