//! A line of the kernel's log in both of its shapes, made comparable: the console's, and a record's of
//! `/dev/kmsg`.
//!
//! Pure. Deliberately not here: what a line means ([`crate::console`]), and which of the two is read
//! ([`super::KernelLog`]).

use std::hash::{DefaultHasher, Hash, Hasher};

/// A number for the words of a line, whatever surrounds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn of(text: &str) -> Digest {
        let mut hasher = DefaultHasher::new();
        text.trim().hash(&mut hasher);
        Digest(hasher.finish())
    }
}

/// `[   12.345678] text`, `[   12.345678][  T77] text` → its stamp in microseconds, and the text. Behind
/// unfinished words of somebody else a stamp counts if it is a whole one.
pub(super) fn stamped(line: &str) -> Option<(u64, &str)> {
    let mut from = 0;
    while let Some(at) = line[from..].find('[').map(|at| from + at) {
        if let Some((us, rest)) = stamp(&line[at + 1..], at == 0) {
            let text = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((_caller, text)) => text,
                None => rest,
            };
            return Some((us, text));
        }
        from = at + 1;
    }
    None
}

/// A stamp without its opening bracket, and what follows it.
fn stamp(text: &str, at_start: bool) -> Option<(u64, &str)> {
    let (digits, rest) = text.split_once(']')?;
    let (s, fraction) = digits.trim_start().split_once('.')?;
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let whole = if at_start { (1..=6).contains(&fraction.len()) } else { fraction.len() == 6 };
    if !whole || !all_digits(s) || !all_digits(fraction) {
        return None;
    }
    let us = format!("{fraction:0<6}").parse::<u64>().ok()?;
    Some((s.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(us)?, rest))
}

/// The text of a record without the kernel's escapes (`\x0a`; Documentation/ABI/testing/dev-kmsg), as it
/// stands on the console.
pub(super) fn unescaped(text: &str) -> String {
    if !text.as_bytes().contains(&b'\\') {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [b'x', high, low, ..] if *first == b'\\' => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digit(high).zip(digit(low)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line as the console would have it.
pub(super) fn as_on_console(at_us: u64, caller: Option<&str>, text: &str) -> String {
    let (s, us) = (at_us / 1_000_000, at_us % 1_000_000);
    match caller {
        Some(caller) => format!("[{s:5}.{us:06}][{caller:>6}] {text}"),
        None => format!("[{s:5}.{us:06}] {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_where_the_kernel_begins() {
        assert_eq!(stamped("[   12.345678] a [b] c"), Some((12_345_678, " a [b] c")));
        assert_eq!(stamped("[   12.345678][  T77] x"), Some((12_345_678, " x")));
        assert_eq!(stamped("[   12.3] x"), Some((12_300_000, " x")));
        assert_eq!(stamped("33% [x] [   80.000001] BUG: x"), Some((80_000_001, " BUG: x")));
        assert_eq!(
            stamped("[    9.0] [ BUG: Invalid wait context ]"),
            Some((9_000_000, " [ BUG: Invalid wait context ]"))
        );
        for line in
            ["x", "[", "[]", "[.]", "[1.]", "see [1.2]", "[99999999999999999999.000000] x", "[1.0000000] x"]
        {
            assert_eq!(stamped(line), None, "{line}");
        }
    }

    #[test]
    fn a_record_reads_as_on_the_console() {
        assert_eq!(unescaped(r"a\x0ab\x5cx0a \xc3\xa9 \x1b[2J \xzz \x"), "a\nb\\x0a é \u{1b}[2J \\xzz \\x");
        assert_eq!(as_on_console(12_345_678, Some("T77"), " <TASK>"), "[   12.345678][   T77]  <TASK>");
        let line = as_on_console(80_000_001, None, "BUG: x");
        assert_eq!(
            stamped(&line).map(|(us, text)| (us, Digest::of(text))),
            Some((80_000_001, Digest::of("BUG: x")))
        );
    }
}
