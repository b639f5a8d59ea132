//! What the readers of `expectations.toml` and `known-issues.toml` share: places of errors, and globs over
//! test names.

/// A mistake in a file: the offset of the value at fault, bytes, and what is wrong with it.
pub(crate) type EntryError = (usize, String);

/// Number of the line, from 1, that the byte at `offset` is in.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// A regex error in one line: its last line says what is wrong, those before it draw where.
pub(crate) fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// `*` is any text, `?` any one character. Takes the last `*` as long as needed, so the time is
/// bounded by the product of both lengths.
pub(crate) fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                g += 1;
                t += 1;
            }
            Some(_) | None => match star {
                Some((star_g, star_t)) => {
                    star = Some((star_g, star_t + 1));
                    g = star_g + 1;
                    t = star_t + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}
