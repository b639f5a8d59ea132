//! Puts command lines of pages to clap: would `cargo xtask` accept them? A pure function of both.

use anyhow::{Context, Result};
use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde::Deserialize;

/// A call of `cargo xtask` in a page, as the guards' program prints it.
#[derive(Debug, Deserialize)]
struct Line {
    file: String,
    line: usize,
    /// Behind `cargo xtask`.
    words: Vec<String>,
    /// Something may be missing: it is only named in a sentence, or has `…`.
    is_partial: bool,
}

/// Values that may stand where a page has a placeholder: a number, a kernel, a range, a share, a duration, a
/// commit.
const STAND_INS: [&str; 7] = ["1", "deb:6.1", "deb:6.1.1..6.1.2", "1/2", "1s", "v6.7", "x=1"];

/// Complaints about the lines, which are JSON objects, that `parser` refuses.
///
/// # Errors
///
/// A line that is no such object.
pub(crate) fn refused(parser: &Command, lines: &str) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for line in lines.lines() {
        let line: Line =
            serde_json::from_str(line).with_context(|| format!("failed to parse the command line {line}"))?;
        // An ellipsis stands for a value, or for words without which the line makes sense.
        let spared = line.words.iter().filter(|word| !is_ellipsis(word)).cloned().collect();
        let why = why_not(parser, line.words.clone(), line.is_partial)
            .and_then(|_| why_not(parser, spared, line.is_partial));
        if let Some(why) = why {
            complaints.push(format!(
                "{}:{}: command-lines: `cargo xtask {}` is refused: {why}; say what it accepts today",
                line.file,
                line.line,
                line.words.join(" ")
            ));
        }
    }
    Ok(complaints)
}

fn is_ellipsis(word: &str) -> bool {
    matches!(word, "…" | "...")
}

/// The reason for which a command line is refused.
fn why_not(parser: &Command, mut words: Vec<String>, is_partial: bool) -> Option<String> {
    // Each round puts a value for one placeholder.
    for _ in 0..=words.len() {
        let error = parse(parser, &words).err()?;
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return None,
            ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::TooFewValues
            | ErrorKind::WrongNumberOfValues
                if is_partial =>
            {
                return None;
            }
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                let Some((idx, value)) = placeholder(&words, &error) else { return Some(reason(&error)) };
                match stand_in(parser, &words, idx, &value, &error) {
                    Some(with) => words = with,
                    // Only the value is in question, and any will do.
                    None => return None,
                }
            }
            _ => return Some(reason(&error)),
        }
    }
    None
}

fn parse(parser: &Command, words: &[String]) -> Result<(), clap::Error> {
    let words = std::iter::once("cargo xtask").chain(words.iter().map(String::as_str));
    parser.clone().try_get_matches_from(words).map(|_| ())
}

/// The refused value and its word, if it only stands for one.
fn placeholder(words: &[String], error: &clap::Error) -> Option<(usize, String)> {
    let ContextValue::String(value) = error.get(ContextKind::InvalidValue)? else { return None };
    let idx = words.iter().position(|word| word == value || word.ends_with(&format!("={value}")))?;
    is_placeholder(value).then(|| (idx, value.clone()))
}

/// `NAME`, `I/N`, `<NAME>`, `…` and `$(…)` are; what has a small letter and none of the signs is not.
fn is_placeholder(value: &str) -> bool {
    let is_shouted = value.contains(|letter: char| letter.is_ascii_uppercase())
        && !value.contains(|letter: char| letter.is_ascii_lowercase());
    is_shouted || value == "..." || value.contains(['<', '…', '$', '{'])
}

/// The words with a value for one placeholder that the parser takes, so that it says what it thinks of the
/// rest.
fn stand_in(
    parser: &Command,
    words: &[String],
    idx: usize,
    value: &str,
    error: &clap::Error,
) -> Option<Vec<String>> {
    let listed = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => values.clone(),
        _ => Vec::new(),
    };
    let any = STAND_INS.iter().map(|value| (*value).to_owned());
    listed.into_iter().chain(any).find_map(|candidate| {
        let mut with = words.to_vec();
        let before = with[idx].strip_suffix(value).unwrap_or_default();
        with[idx] = format!("{before}{candidate}");
        let refused =
            parse(parser, &with).err().and_then(|error| match error.get(ContextKind::InvalidValue) {
                Some(ContextValue::String(value)) => Some(value.clone()),
                _ => None,
            });
        (refused.as_deref() != Some(&candidate)).then_some(with)
    })
}

/// The first paragraph of clap's message, in one line.
fn reason(error: &clap::Error) -> String {
    let message = error.to_string();
    let lines = message.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let lines: Vec<&str> = lines.collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, CommandFactory};

    use super::*;
    use crate::cli::Cli;

    fn parser() -> Command {
        let test = Command::new("test")
            .arg(Arg::new("repeat").long("repeat").value_parser(clap::value_parser!(u32)))
            .arg(Arg::new("accel").long("accel").value_parser(["kvm", "tcg"]))
            .arg(Arg::new("check").long("check").action(ArgAction::SetTrue))
            .arg(Arg::new("folder").required(true));
        Command::new("cargo xtask").subcommand_required(true).subcommand(test)
    }

    fn complaint(words: &[&str], is_partial: bool) -> Option<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        why_not(&parser(), words, is_partial)
    }

    #[test]
    fn a_refused_line_is_named() {
        let lines = r#"{"file":"README.md","line":7,"words":["tset","x"],"is_partial":false}"#;
        let found = refused(&parser(), lines).unwrap();
        assert_eq!(
            found,
            [
                "README.md:7: command-lines: `cargo xtask tset x` is refused: unrecognized subcommand 'tset'; say what \
              it accepts today"
            ]
        );
        assert!(refused(&parser(), "nonsense").is_err());
    }

    #[test]
    fn placeholders_stand_for_any_value_but_hide_nothing_behind_them() {
        assert_eq!(complaint(&["test", "--repeat", "N", "--accel=ACCEL", "FOLDER"], false), None);
        assert_eq!(complaint(&["test", "--repeat", "$(…)", "<DIR>"], false), None);
        let hidden = complaint(&["test", "--repeat", "N", "--accel", "<ACCEL>", "--chekc", "x"], false);
        assert!(hidden.unwrap().contains("--chekc"));
        assert!(complaint(&["test", "--repeat", "many", "x"], false).unwrap().contains("many"));
    }

    #[test]
    fn only_what_is_named_in_a_sentence_may_miss_arguments() {
        assert_eq!(complaint(&["test"], true), None);
        assert!(complaint(&["test"], false).unwrap().contains("<folder>"));
        assert_eq!(complaint(&[], true), None);
        assert!(complaint(&["test", "--gone"], true).is_some());
    }

    #[test]
    fn an_ellipsis_is_a_value_or_any_words() {
        let found = |words: &str| {
            let words: Vec<&str> = words.split(' ').collect();
            let line = serde_json::json!({ "file": "a.md", "line": 1, "words": words, "is_partial": true });
            refused(&parser(), &line.to_string()).unwrap().len()
        };
        assert_eq!(
            (found("test --repeat … x"), found("test x --check …"), found("test --gone …")),
            (0, 0, 1)
        );
    }

    #[test]
    fn help_is_fine() {
        assert_eq!(complaint(&["test", "--help"], false), None);
        assert_eq!(complaint(&["--help"], false), None);
    }

    #[test]
    fn our_own_parser_is_asked() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(why_not(&Cli::command(), words("test --kernel SPEC --repeat N"), false), None);
        assert!(why_not(&Cli::command(), words("test --colonel deb:6.1"), false).is_some());
    }
}
