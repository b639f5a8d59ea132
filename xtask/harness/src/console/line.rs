//! Splits a line of a log into the prefix of a console, a journal or dmesg, the caller, and the kernel's
//! words; and finds where another line begins in the middle of one.
//!
//! Pure, and without allocation: every line of every log passes here. Deliberately not here: the meaning of
//! the words.

/// A line of a log without its prefix, or the part of it that one writer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogLine<'a> {
    /// The kernel's caller id, `T1` (thread) or `C0` (CPU), if the kernel prints it (`CONFIG_PRINTK_CALLER`).
    pub(super) caller: Option<&'a str>,
    /// The kernel's words. A line without a stamp keeps its leading spaces.
    pub(super) text: &'a str,
    /// True if the line has a time stamp and another line begins in its middle: two writers shared the
    /// console.
    pub(super) is_cut: bool,
}

impl<'a> LogLine<'a> {
    /// The pieces of a line. If a test wrote no line end, or two CPUs wrote at once, the kernel's next line
    /// follows other text, but has its own stamp. A record of /dev/kmsg with several lines separates them by
    /// `\x0a`; a bare carriage return starts a new line, too.
    pub(super) fn pieces(line: &'a str) -> Pieces<'a> {
        Pieces { rest: Some(line), caller: None }
    }

    /// The first piece, which is the whole line unless two lines were mixed.
    pub(super) fn of(line: &'a str) -> Self {
        Self::pieces(line).next().unwrap_or(LogLine { caller: None, text: "", is_cut: false })
    }
}

/// Iterator of [`LogLine::pieces`].
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    rest: Option<&'a str>,
    /// Caller of the piece before, if that was in the same record.
    caller: Option<&'a str>,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = LogLine<'a>;

    fn next(&mut self) -> Option<LogLine<'a>> {
        let line = self.rest.take()?;
        let prefix = Prefix::of(line);
        let (end, skipped) = next_begins(line, prefix.end).unwrap_or((line.len(), 0));
        if end < line.len() {
            self.rest = Some(&line[end + skipped..]);
        }
        let text = line[prefix.end..end].trim_end();
        let text = if prefix.end > 0 { text.trim_start() } else { text };
        let is_cut = prefix.is_stamped && skipped == 0 && end < line.len();
        let caller = prefix.caller.or(self.caller.take());
        self.caller = caller.filter(|_| skipped == RECORD_BREAK.len());
        Some(LogLine { caller, text, is_cut })
    }
}

/// The end of a line within a record of /dev/kmsg (msg_add_ext_text, printk.c).
const RECORD_BREAK: &[u8] = b"\\x0a";

/// Position after `from` where a further line begins, and the number of bytes before it that are no text.
fn next_begins(line: &str, from: usize) -> Option<(usize, usize)> {
    let bytes = line.as_bytes();
    (from..bytes.len()).find_map(|at| match bytes[at] {
        b'[' if stamp_end(&bytes[at..]).is_some_and(|(_, decimals)| decimals == 6) => Some((at, 0)),
        b'\\' if bytes[at..].starts_with(b"\\x0a") => Some((at, 4)),
        b'\r' if at + 1 < bytes.len() => Some((at, 1)),
        _ => None,
    })
}

/// `[   12.345678]` at the beginning: the position after it, and its number of decimals.
fn stamp_end(bytes: &[u8]) -> Option<(usize, usize)> {
    let run = |from: usize, of: fn(&u8) -> bool| bytes[from..].iter().take_while(|byte| of(byte)).count();
    if bytes.first() != Some(&b'[') {
        return None;
    }
    let spaces = run(1, |byte| *byte == b' ');
    let digits = run(1 + spaces, u8::is_ascii_digit);
    let point = 1 + spaces + digits;
    if digits == 0 || bytes.get(point) != Some(&b'.') {
        return None;
    }
    let decimals = run(point + 1, u8::is_ascii_digit);
    let end = point + 1 + decimals;
    (decimals > 0 && bytes.get(end) == Some(&b']')).then_some((end + 1, decimals))
}

/// Prefix of a line, before the kernel's words.
struct Prefix<'a> {
    /// Position of the words, or of the spaces before them.
    end: usize,
    caller: Option<&'a str>,
    is_stamped: bool,
}

impl<'a> Prefix<'a> {
    fn of(line: &'a str) -> Prefix<'a> {
        let mut end = before_kernel(line);
        let bytes = line.as_bytes();
        let mut is_stamped = false;
        if let Some((length, _)) = stamp_end(&bytes[end..]) {
            (end, is_stamped) = (end + length, true);
        } else if let Some(length) = calendar_stamp(&line[end..]) {
            (end, is_stamped) = (end + length, true);
        }
        let mut caller = None;
        // dmesg puts a space before the caller, the console does not.
        let gap = usize::from(is_stamped && line[end..].starts_with(" ["));
        if let Some((name, length)) = caller_id(&line[end + gap..]) {
            (caller, end) = (Some(name), end + gap + length);
        }
        Prefix { end, caller, is_stamped }
    }
}

/// `[   T12]`, `[ C1]`: the caller and the length of the whole.
fn caller_id(text: &str) -> Option<(&str, usize)> {
    let rest = text.strip_prefix('[')?;
    let (name, _) = rest.split_once(']')?;
    let end = name.len() + 2;
    let name = name.trim_start();
    let number = name.strip_prefix(['T', 'C'])?;
    let is_id = number.starts_with(|first: char| first.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'/');
    is_id.then_some((name, end))
}

/// Length of `[Fri May 10 17:51:08 2024]`, the stamp of `dmesg -T`.
fn calendar_stamp(text: &str) -> Option<usize> {
    let (stamp, _) = text.strip_prefix('[')?.split_once(']')?;
    let is_day =
        ["Mon ", "Tue ", "Wed ", "Thu ", "Fri ", "Sat ", "Sun "].iter().any(|day| stamp.starts_with(day));
    (is_day && stamp.len() == 24 && stamp.matches(':').count() == 2).then_some(stamp.len() + 2)
}

/// Length of the text before the kernel's own stamp: a level (`<6>`, `kern  :warn  : `) or a journal's prefix
/// (`May 10 17:51:08 server kernel: `, `kernel: `).
fn before_kernel(line: &str) -> usize {
    let mut at = 0;
    if let Some(rest) = line.strip_prefix('<')
        && let digits = rest.bytes().take_while(u8::is_ascii_digit).count()
        && (1..=3).contains(&digits)
        && rest.as_bytes().get(digits) == Some(&b'>')
    {
        at = digits + 2;
    }
    let rest = &line[at..];
    if rest.starts_with("kern  :")
        && let Some(level) = rest[7..].find(": ").filter(|length| *length < 10)
    {
        return at + 7 + level + 2;
    }
    if let Some(text) = rest.strip_prefix("kernel:") {
        return line.len() - text.trim_start_matches(' ').len();
    }
    // A date with the name of a month and a day, or with a year.
    let is_date = rest.as_bytes().first().is_some_and(u8::is_ascii_uppercase)
        && rest.as_bytes().get(3) == Some(&b' ')
        && rest.as_bytes().get(9) == Some(&b':')
        || rest.as_bytes().first().is_some_and(u8::is_ascii_digit)
            && rest.as_bytes().get(4) == Some(&b'-')
            && rest.as_bytes().get(10) == Some(&b'T');
    match rest.find(" kernel:").filter(|found| is_date && *found < 120) {
        // One space follows `kernel:`; further spaces belong to the kernel's text, as after a stamp.
        Some(found) => at + found + " kernel:".len() + usize::from(rest[found + 8..].starts_with(' ')),
        None => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(line: &str) -> Vec<(Option<&str>, &str, bool)> {
        LogLine::pieces(line).map(|piece| (piece.caller, piece.text, piece.is_cut)).collect()
    }

    #[test]
    fn what_stands_before_the_kernels_words_is_taken_off() {
        for (line, caller) in [
            ("[   12.345678] md: md0 stopped.", None),
            ("[    1.1] md: md0 stopped.", None),
            ("[   12.345678][   T10] md: md0 stopped.", Some("T10")),
            ("[   12.345678] [    C1] md: md0 stopped.", Some("C1")),
            ("<6>[ 5487.973655][ T9272] md: md0 stopped.\r", Some("T9272")),
            ("kernel: [ 1451.122942] md: md0 stopped.", None),
            ("kernel: md: md0 stopped.", None),
            ("May 10 17:51:08 server kernel: md: md0 stopped.", None),
            ("May  1 17:51:08 server kernel: [   12.345678] md: md0 stopped.", None),
            ("2024-05-10T17:51:08.123456+02:00 server kernel: md: md0 stopped.", None),
            ("[Fri May 10 17:51:08 2024] md: md0 stopped.", None),
            ("kern  :warn  : [   12.345678] md: md0 stopped.", None),
            ("md: md0 stopped.", None),
        ] {
            assert_eq!(pieces(line), [(caller, "md: md0 stopped.", false)], "{line}");
        }
    }

    #[test]
    fn words_that_look_like_a_head_stay() {
        for line in [
            "[ BUG: Invalid wait context ]",
            "[c000000003b7b8a0] [c0080000051a0f24] raid5d+0x1/0x2 [raid456]",
            "[x",
            "[]",
            "[1.2.3] version",
            "  WARNING: VG x is old",
            "a kernel: of maize",
            "Linux kernel: 6.12",
        ] {
            assert_eq!(pieces(line), [(None, line, false)], "{line}");
        }
    }

    #[test]
    fn a_line_that_begins_behind_other_text_is_found() {
        assert_eq!(
            pieces("progress 33% ... [   80.000001][   T7] BUG: x"),
            [(None, "progress 33% ...", false), (Some("T7"), "BUG: x", false)]
        );
        assert_eq!(
            pieces("[   79.1] WARNING: at md_st[   80.000001] art+0x1/0x2"),
            [(None, "WARNING: at md_st", true), (None, "art+0x1/0x2", false)]
        );
        assert_eq!(
            pieces(" 1%\r 2%\rBUG: x"),
            [(None, " 1%", false), (None, " 2%", false), (None, "BUG: x", false)]
        );
        assert_eq!(
            pieces(r"[    1.000001][ T7] one\x0a two"),
            [(Some("T7"), "one", false), (Some("T7"), " two", false)]
        );
    }
}
