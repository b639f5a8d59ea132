//! Tells what a shell shows of the commands it runs (`set -x`, `set -v`) from what a script says. Pure.
//!
//! Deliberately not here: what a script's words mean ([`super::output`], [`super::corruption`]).

use std::sync::LazyLock;

use regex::Regex;

/// `+ cmd` of `set -x` (bash(1), PS4: its first character is repeated for each level), also where PS4 is
/// longer (`+file:12: cmd`); `#file:12+ cmd` and `##file:12+ cmd` of LVM2's PS4 (lib/inittest, 2.03.31), and
/// the `## …` that its libraries print of themselves.
static TRACE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(?:\+|##|#[^\s:]+:\d+\+)").expect("a regular expression of our own"));

/// A command that ends the script, at the end of a line: traced, or where `set -v` shows the source. Before a
/// trace may stand what was printed without an end of line.
static EXIT: LazyLock<Regex> = LazyLock::new(|| {
    let traced = r"(?P<trace>\++ |#+[^\s:]+:\d+\+ )";
    let source = r"(?:^|[;&|{(]|\b(?:then|else|do)\s)\s*";
    Regex::new(&format!(r"(?:{traced}|{source})exit (?P<code>\d+)[\s;}})]*$"))
        .expect("a regular expression of our own")
});

/// True for a line that shows a command, and says nothing.
pub(crate) fn is_trace(line: &str) -> bool {
    TRACE.is_match(line)
}

/// Meaning of a line for somebody who looks for a script's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says<'a> {
    /// The script's own words.
    Words(&'a str),
    /// A command, or nothing.
    Nothing,
    /// The command that ends the script with the status that was asked about, and what was printed before it
    /// on the same line.
    Exit(Option<&'a str>),
}

/// Looks at a line of a script that may end with status `code`.
pub(crate) fn says(line: &str, code: i32) -> Says<'_> {
    let text = line.trim();
    if let Some(found) = EXIT.captures(text)
        && found["code"] == code.to_string()
    {
        let before = found.name("trace").map_or("", |trace| text[..trace.start()].trim());
        return Says::Exit((!before.is_empty() && !is_trace(before)).then_some(before));
    }
    if text.is_empty() || is_trace(text) { Says::Nothing } else { Says::Words(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_no_words() {
        for line in [
            "+ exit 1",
            "++ losetup -f",
            "+repro.sh:12: mdadm --stop /dev/md0",
            "+(repro.sh:12): main(): true",
            "#integrity.sh:10+ skip",
            "##lvconvert.sh:19+ aux have_raid 1 3 0",
            "## DEBUG: device busy",
            "",
            "  ",
        ] {
            assert_eq!(says(line, 200), Says::Nothing, "{line}");
        }
    }

    #[test]
    fn words_are_words() {
        for line in [
            "no NOWAIT writes here, though nothing is in their way",
            "# SKIP: no raid6 in this kernel",
            "mdadm: exit 1 of the monitor",
            "its exit 200 would be a skip",
            "the helper came to exit 200",
            "1 + exit 5",
        ] {
            assert_eq!(says(line, 200), Says::Words(line), "{line}");
        }
    }

    #[test]
    fn the_end_of_a_script_is_known_however_it_is_shown() {
        for line in
            ["+ exit 200", "++ exit 200", "#x.sh:3+ exit 200", "exit 200", "  || { echo no; exit 200; }"]
        {
            assert_eq!(says(line, 200), Says::Exit(None), "{line}");
        }
        assert_eq!(says("no disk+ exit 200", 200), Says::Exit(Some("no disk")));
        assert_eq!(says("no disk + exit 200", 200), Says::Exit(Some("no disk")));
        // Another status is no end of the kind that was asked about.
        assert_eq!(says("+ exit 200", 77), Says::Nothing);
    }
}
