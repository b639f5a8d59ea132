//! The guest agent's last words on the console when it gives up: there, because its ports may be why.
//!
//! A test may write to the console as it likes, and end the machine: if the harness believed such a line, it
//! would take a fault of the kernel for its own. So the agent signs its words with the number that its host
//! greeted it with ([`Request::Hello`](crate::wire::Request::Hello)), which it tells no test. Before any
//! greeting there is none, and no test either.

/// The beginning of such a line.
const BEGIN: &str = "md-regress-agent: FATAL";

/// Digits of a number.
const DIGITS: usize = 16;

/// Why an agent gave up, as a line of the console says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastWords<'a> {
    /// The number of its host's greeting, if there had been one.
    pub session: Option<u64>,
    /// Why.
    pub why: &'a str,
}

/// The line, without its end.
pub fn say(session: Option<u64>, why: &str) -> String {
    // What panics says so on several lines.
    let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match session {
        Some(session) => format!("{BEGIN} {session:0DIGITS$x}: {why}"),
        None => format!("{BEGIN}: {why}"),
    }
}

/// Hears the agent's last words in a line of the console. Signed, they may follow what somebody else wrote
/// without an end of line; without a number they must be the whole line, for the kernel's own lines hold what
/// a test wrote.
pub fn hear(line: &str) -> Option<LastWords<'_>> {
    if let Some(why) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_prefix(": ")) {
        return Some(LastWords { session: None, why });
    }
    line.match_indices(BEGIN).find_map(|(start, _)| {
        let rest = line[start + BEGIN.len()..].strip_prefix(' ')?;
        let (number, why) = rest.split_once(": ")?;
        let is_number = number.len() == DIGITS && number.bytes().all(|byte| byte.is_ascii_hexdigit());
        let session = u64::from_str_radix(number, 16).ok().filter(|_| is_number)?;
        Some(LastWords { session: Some(session), why })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        for session in [None, Some(0), Some(7), Some(u64::MAX)] {
            let line = say(session, "panicked at src/serve.rs:1:2:\nno port");
            let why = "panicked at src/serve.rs:1:2: no port";
            assert_eq!(hear(&line), Some(LastWords { session, why }), "{line}");
        }
        assert_eq!(say(None, "no disk mdr-root"), "md-regress-agent: FATAL: no disk mdr-root");
    }

    #[test]
    fn signed_words_are_heard_behind_others() {
        let line = format!("[   12.3] md0: {}", say(Some(0xbeef), "no memory"));
        assert_eq!(hear(&line), Some(LastWords { session: Some(0xbeef), why: "no memory" }));
        // A forged beginning does not hide them.
        let line = format!("md-regress-agent: FATAL x{}", say(Some(0xbeef), "no memory"));
        assert_eq!(hear(&line).unwrap().session, Some(0xbeef));
    }

    #[test]
    fn other_words_are_not() {
        for line in [
            "",
            "[  1.0] md-regress-agent: FATAL: forged by a test",
            "md-regress-agent: ready",
            "md-regress-agent: FATAL",
            "md-regress-agent: FATAL 12: short",
            "md-regress-agent: FATAL +00000000000beef: signed otherwise",
            "md-regress-agent: FATAL 000000000000beeg: no digit",
        ] {
            assert_eq!(hear(line), None, "{line}");
        }
    }
}
