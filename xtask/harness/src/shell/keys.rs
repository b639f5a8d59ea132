//! Keys that the harness itself heeds, and the name of the terminal in the guest. Pure.

use std::time::Duration;

/// Ctrl-].
const ESCAPE: u8 = 0x1d;
/// How often it is to be typed: once means something to editors.
const TIMES: usize = 3;
/// Within which time.
const WITHIN: Duration = Duration::from_secs(1);

/// The way out, as users are told of it.
pub(crate) const HOW: &str = "Ctrl-] three times within a second";

/// Looks for the keys that end the VM, whatever state it is in.
#[derive(Debug, Default)]
pub(crate) struct EscapeKeys {
    /// When each of the last ones was typed, without another key in between.
    typed: Vec<Duration>,
}

impl EscapeKeys {
    /// Looks at what was typed. True if it ends the VM.
    pub(crate) fn look(&mut self, bytes: &[u8], at: Duration) -> bool {
        for &byte in bytes {
            if byte == ESCAPE {
                self.typed.retain(|&before| at.saturating_sub(before) <= WITHIN);
                self.typed.push(at);
                if self.typed.len() >= TIMES {
                    return true;
                }
            } else {
                self.typed.clear();
            }
        }
        false
    }
}

/// Terminals that the guest knows by name: the common ones of Debian's ncurses-base.
const KNOWN_TERMS: [&str; 17] = [
    "ansi",
    "dumb",
    "linux",
    "rxvt",
    "rxvt-unicode",
    "rxvt-unicode-256color",
    "screen",
    "screen-256color",
    "screen.xterm-256color",
    "tmux",
    "tmux-256color",
    "vt100",
    "vt102",
    "vt220",
    "xterm",
    "xterm-256color",
    "xterm-color",
];

/// The name of the terminal in the guest (TERM): its own where the guest knows that, else the one that nearly
/// all of today's are like.
pub(crate) fn guest_term(term: Option<&str>) -> &str {
    match term {
        None | Some("") => "dumb",
        Some(term) if KNOWN_TERMS.contains(&term) => term,
        Some(_) => "xterm-256color",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_within_a_second_end_the_vm() {
        let check = |keys: &[(u64, &[u8])], expect: bool| {
            let mut escape = EscapeKeys::default();
            let seen = keys.iter().any(|&(ms, bytes)| escape.look(bytes, Duration::from_millis(ms)));
            assert_eq!(seen, expect, "{keys:?}");
        };
        check(&[(0, b"\x1d\x1d\x1d")], true);
        check(&[(0, b"\x1d"), (400, b"\x1d"), (800, b"\x1d")], true);
        check(&[(0, b"\x1d"), (400, b"\x1d"), (1500, b"\x1d")], false);
        check(&[(0, b"\x1d"), (400, b"\x1d"), (1200, b"\x1d"), (1300, b"\x1d")], true);
        check(&[(0, b"\x1d\x1dx\x1d")], false);
        check(&[(0, b"]]]")], false);
    }

    #[test]
    fn terminals_that_the_guest_does_not_know() {
        assert_eq!(guest_term(Some("tmux-256color")), "tmux-256color");
        assert_eq!(guest_term(Some("xterm-kitty")), "xterm-256color");
        assert_eq!(guest_term(None), "dumb");
    }
}
