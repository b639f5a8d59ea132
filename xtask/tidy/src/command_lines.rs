//! The `cargo xtask …` lines of pages, as words: the shell's rules undone, the program's own arguments left.
//!
//! Only `xtask` knows whether they make sense: it hands them to its own parser of command lines.

use crate::markdown;
use crate::tree::Tree;

/// Name of the guard that `xtask` makes of these.
pub const RULE: &str = "command-lines";

/// One call of `cargo xtask` in a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Path of the page.
    pub file: String,
    /// Line on which the command begins.
    pub line: usize,
    /// Arguments behind `cargo xtask`.
    pub words: Vec<String>,
    /// True if something may be missing: a command that is only named in a sentence, or one with `…`.
    pub is_partial: bool,
}

/// All of them, page by page: those of code blocks, and those within sentences.
pub fn find(tree: &Tree) -> Vec<CommandLine> {
    let mut found = Vec::new();
    for (file, text) in tree.texts(".md") {
        let page = markdown::page(text);
        let blocks = page.blocks.iter().flat_map(|(first, text)| {
            joined(text).into_iter().map(move |(idx, line)| (first + idx, line, false))
        });
        let inline = page.inline.iter().map(|(line, text)| (*line, text.clone(), true));
        for (line, text, is_inline) in blocks.chain(inline) {
            for call in calls(&text) {
                found.push(CommandLine {
                    file: file.to_owned(),
                    line,
                    is_partial: is_inline || call.is_open,
                    words: call.words,
                });
            }
        }
    }
    found.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    found
}

/// The lines of a block with their indices, those that end with a backslash joined with the next.
fn joined(block: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (idx, line) in block.lines().enumerate() {
        let (part, more) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        match lines.last_mut().filter(|_| goes_on) {
            Some((_, last)) => last.push_str(part),
            None => lines.push((idx, part.to_owned())),
        }
        goes_on = more;
    }
    lines
}

/// A call of `cargo xtask`.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    words: Vec<String>,
    /// True if it has `…`, or nothing at all behind `cargo xtask`.
    is_open: bool,
}

/// The calls in a line of shell, also those within `$(…)` and `<(…)`.
fn calls(line: &str) -> Vec<Call> {
    let mut shell = Shell::default();
    shell.read(line);
    let mut calls = Vec::new();
    for command in shell.commands {
        let start = command.windows(2).position(|pair| pair[0] == "cargo" && pair[1] == "xtask");
        let Some(start) = start else { continue };
        let words: Vec<String> =
            command[start + 2..].iter().map(|word| without_brackets(word).to_owned()).collect();
        calls.push(Call { is_open: words.is_empty() || words.iter().any(|word| is_ellipsis(word)), words });
    }
    calls
}

/// Stands for a value, or for any number of words.
fn is_ellipsis(word: &str) -> bool {
    matches!(word, "…" | "...")
}

/// `[--check]` is `--check`: what may be left out must make sense, too.
fn without_brackets(word: &str) -> &str {
    let word = word.strip_prefix('[').unwrap_or(word);
    if word.contains('[') { word } else { word.strip_suffix(']').unwrap_or(word) }
}

/// A reader of shell lines: commands that `|`, `;`, `&`, parentheses and redirections set apart.
#[derive(Debug, Default)]
struct Shell {
    commands: Vec<Vec<String>>,
    command: Vec<String>,
    word: Option<String>,
    /// The next word is a redirection's file.
    redirects: bool,
}

impl Shell {
    fn read(&mut self, line: &str) {
        let mut rest = line;
        while let Some(letter) = rest.chars().next() {
            let after = &rest[letter.len_utf8()..];
            rest = match letter {
                '\'' => self.quoted(after, '\''),
                '"' => self.quoted(after, '"'),
                '\\' => {
                    let next = after.chars().next();
                    self.word.get_or_insert_default().extend(next);
                    &after[next.map_or(0, char::len_utf8)..]
                }
                '#' if self.word.is_none() => "",
                '$' if after.starts_with('(') => self.substituted(after),
                '<' if after.starts_with('(') => self.substituted(after),
                '<' if placeholder(rest).is_some() => {
                    let length = placeholder(rest).unwrap_or(1);
                    self.word.get_or_insert_default().push_str(&rest[..length]);
                    &rest[length..]
                }
                '<' | '>' => {
                    // The digit of `2>` is no word.
                    self.word =
                        self.word.take().filter(|word| !word.chars().all(|digit| digit.is_ascii_digit()));
                    self.end_word();
                    self.redirects = true;
                    after.trim_start_matches(['>', '<', '&'])
                }
                '|' | ';' | '&' | '(' | ')' => {
                    self.end_command();
                    after
                }
                space if space.is_whitespace() => {
                    self.end_word();
                    after
                }
                other => {
                    self.word.get_or_insert_default().push(other);
                    after
                }
            };
        }
        self.end_command();
    }

    fn quoted<'a>(&mut self, text: &'a str, quote: char) -> &'a str {
        let (inner, rest) = text.split_once(quote).unwrap_or((text, ""));
        self.word.get_or_insert_default().push_str(inner);
        rest
    }

    /// `(…)` behind a `$` or `<`: a word that nobody knows yet, and a line of its own.
    fn substituted<'a>(&mut self, text: &'a str) -> &'a str {
        let mut depth = 0;
        let end = text.find(|letter| {
            depth += i32::from(letter == '(') - i32::from(letter == ')');
            depth == 0
        });
        let end = end.unwrap_or(text.len());
        let mut inner = Shell::default();
        inner.read(text[..end].trim_start_matches('('));
        self.commands.append(&mut inner.commands);
        self.word.get_or_insert_default().push_str("$(…)");
        text.get(end + 1..).unwrap_or_default()
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take()
            && !std::mem::take(&mut self.redirects)
        {
            self.command.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.redirects = false;
        if !self.command.is_empty() {
            self.commands.push(std::mem::take(&mut self.command));
        }
    }
}

/// Length of `<SOME NAME>` at the beginning of a text.
fn placeholder(text: &str) -> Option<usize> {
    let end = text.find('>')?;
    let name = &text[1..end];
    let is_name = name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || " _-.".contains(letter));
    is_name.then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Vec<String>> {
        calls(line).into_iter().map(|call| call.words).collect()
    }

    #[test]
    fn the_shell_is_undone() {
        assert_eq!(words("cargo xtask test --kernel deb:6.1 # why"), [["test", "--kernel", "deb:6.1"]]);
        assert_eq!(words("$ A=1 cargo xtask list 'a b' \"c\" d\\ e"), [["list", "a b", "c", "d e"]]);
        assert_eq!(words("cargo xtask list | less; cargo xtask doctor && x"), [["list"], ["doctor"]]);
        assert_eq!(words("cargo xtask completions fish >~/x.fish 2>&1"), [["completions", "fish"]]);
        assert_eq!(words("source <(cargo xtask completions bash)"), [["completions", "bash"]]);
        assert_eq!(
            words("cargo xtask test --kernel $(git tag | tail -1) x"),
            [["test", "--kernel", "$(…)", "x"]]
        );
        assert_eq!(words("cargo xtask replay <RUN> [--check]"), [["replay", "<RUN>", "--check"]]);
        assert_eq!(words("my-cargo xtask test"), [[""; 0]; 0]);
    }

    #[test]
    fn what_is_left_out_is_said() {
        let open = |line: &str| calls(line)[0].is_open;
        assert!(open("cargo xtask test …") && open("cargo xtask ..."));
        assert!(!open("cargo xtask test"));
    }

    #[test]
    fn blocks_and_sentences_are_read_with_their_lines() {
        let text = "# A\n\nRun `cargo xtask list`.\n\n```console\n$ cargo xtask test \\\n    --all\n$ cargo xtask doctor\n```\n";
        let found: Vec<(usize, String, bool)> = find(&Tree::of([("docs/a.md", text)]))
            .into_iter()
            .map(|line| (line.line, line.words.join(" "), line.is_partial))
            .collect();
        assert_eq!(
            found,
            [
                (3, "list".to_owned(), true),
                (6, "test --all".to_owned(), false),
                (8, "doctor".to_owned(), false)
            ]
        );
    }
}
