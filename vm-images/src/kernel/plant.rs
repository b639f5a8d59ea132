//! Plants: bugs that are put into a kernel's source by small edits, as data. Pure.
//!
//! An edit names its place (file, function, a few words that stand there once) and the text that replaces
//! those words. White space does not count. An edit whose words are not found exactly once is an error: if a
//! bug was not planted, its test would prove nothing.

use serde::Deserialize;

/// A planted bug: `suites/planted/plants/NAME.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plant {
    /// The bug that the kernel has with it.
    pub title: String,
    /// The edits; without any, the source stays as it is.
    #[serde(default, rename = "edit")]
    pub edits: Vec<Edit>,
}

/// One edit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// File of `drivers/md`.
    pub file: String,
    /// The function that it is in.
    pub function: String,
    /// Words that stand in it exactly once.
    pub find: String,
    /// Text that replaces them.
    pub replace: String,
}

/// Why an edit cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// No such function, or several.
    #[error("`{file}` defines `{function}` {n} times, expected once")]
    Function {
        /// The file.
        file: String,
        /// The function.
        function: String,
        /// How often it was found.
        n: usize,
    },
    /// The words are not there, or several times.
    #[error("`{find}` stands {n} times in `{function}` of `{file}`, expected once")]
    Words {
        /// The file.
        file: String,
        /// The function.
        function: String,
        /// The words.
        find: String,
        /// How often they were found.
        n: usize,
    },
}

impl Plant {
    /// Parses the text of a plant's file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plant: Plant = toml::from_str(text).map_err(|error| error.to_string())?;
        match plant.edits.iter().find(|edit| edit.find.split_whitespace().next().is_none()) {
            Some(edit) => Err(format!("an edit of `{}` has no words to find", edit.function)),
            None => Ok(plant),
        }
    }

    /// The files that it edits, each once.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<_> = self.edits.iter().map(|edit| edit.file.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// `text`, which is the file `file`, with all edits of this file made.
    pub fn apply(&self, file: &str, text: &str) -> Result<String, EditError> {
        let mut edits = self.edits.iter().filter(|edit| edit.file == file);
        edits.try_fold(text.to_owned(), |text, edit| edit.apply(&text))
    }
}

impl Edit {
    fn apply(&self, text: &str) -> Result<String, EditError> {
        let bodies = bodies(text, &self.function);
        let &[(start, end)] = &bodies[..] else {
            let (file, function) = (self.file.clone(), self.function.clone());
            return Err(EditError::Function { file, function, n: bodies.len() });
        };
        let body = &text[start..end];
        let words: Vec<_> = self.find.split_whitespace().collect();
        let found: Vec<_> =
            body.char_indices().filter_map(|(at, _)| Some((at, match_words(body, at, &words)?))).collect();
        let &[(from, to)] = &found[..] else {
            let (file, function) = (self.file.clone(), self.function.clone());
            return Err(EditError::Words { file, function, find: self.find.clone(), n: found.len() });
        };
        Ok([&text[..start], &body[..from], &self.replace, &body[to..], &text[end..]].concat())
    }
}

/// Where `words` end, if they stand at `at` with any white space between them.
fn match_words(text: &str, at: usize, words: &[&str]) -> Option<usize> {
    let mut rest = &text[at..];
    for (idx, word) in words.iter().enumerate() {
        let trimmed = rest.trim_start();
        if (idx == 0) != (trimmed.len() == rest.len()) {
            return None;
        }
        rest = trimmed.strip_prefix(word)?;
    }
    Some(text.len() - rest.len())
}

/// The definitions of `function`, each from its name to the brace that ends it. Relies on the kernel's style:
/// of a definition, only its first line, a return type, and its opening and closing brace stand at the
/// beginning of a line.
fn bodies(text: &str, function: &str) -> Vec<(usize, usize)> {
    let call = format!("{function}(");
    let mut found = Vec::new();
    for (at, _) in text.match_indices(&call) {
        let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let before = &text[line..at];
        let is_word_start = !before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let in_column_0 =
            before.is_empty() || before.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let rest = &text[at..];
        let (Some(open), true) = (rest.find("\n{"), is_word_start && in_column_0) else { continue };
        // A declaration ends before any brace begins.
        if rest[..open].contains(';') {
            continue;
        }
        if let Some(close) = rest[open..].find("\n}") {
            found.push((at, at + open + close + 2));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "static void stop(struct box *box, bool locked);\n\
        \n\
        static void\nmd_stop(struct box *box)\n{\n\tstop(box, true);\n\tflush(box);\n}\n\
        \n\
        static void stop(struct box *box, bool locked)\n{\n\tif (idle(box) ||\n\t    gone(box)) {\n\t\treturn;\n\t}\n\
        \tflush(box);\n}\n";

    fn plant(function: &str, find: &str, replace: &str) -> Plant {
        let edit = format!(
            "file = 'box.c'\nfunction = '{function}'\nfind = '''{find}'''\nreplace = '''{replace}'''"
        );
        Plant::parse(&format!("title = 'a box'\n[[edit]]\n{edit}")).unwrap()
    }

    #[test]
    fn an_edit_is_made_whatever_the_white_space() {
        let planted = plant("stop", "if (idle(box) ||   gone(box)) {", "if (idle(box)) {")
            .apply("box.c", SOURCE)
            .unwrap();
        assert_eq!(planted, SOURCE.replace("if (idle(box) ||\n\t    gone(box)) {", "if (idle(box)) {"));
    }

    #[test]
    fn words_of_other_functions_do_not_count() {
        let planted = plant("md_stop", "flush(box);", "").apply("box.c", SOURCE).unwrap();
        assert_eq!(planted.matches("flush(box)").count(), 1);
        assert!(planted.contains("gone(box)) {\n\t\treturn;\n\t}\n\tflush(box)"), "{planted}");
        assert_eq!(plant("stop", "flush(box);", "").apply("other.c", SOURCE).unwrap(), SOURCE);
    }

    #[test]
    fn words_that_are_not_there_once_are_an_error() {
        let n_words = |find| match plant("stop", find, "").apply("box.c", SOURCE) {
            Err(EditError::Words { n, .. }) => n,
            other => panic!("{other:?}"),
        };
        assert_eq!(n_words("drain(box)"), 0);
        assert_eq!(n_words("(box)"), 3);
        let error = plant("start", "flush(box);", "").apply("box.c", SOURCE).unwrap_err();
        assert_eq!(error.to_string(), "`box.c` defines `start` 0 times, expected once");
    }

    #[test]
    fn an_edit_of_nothing_is_refused() {
        let text = "title = 'a'\n[[edit]]\nfile = 'a.c'\nfunction = 'f'\nfind = ' '\nreplace = 'x'";
        assert!(Plant::parse(text).unwrap_err().contains('f'));
    }
}
