//! JSON lines of bounded length: the framing of both ports.
//!
//! [`LineDecoder`] takes bytes in any pieces from a peer that is not trusted and gives back
//! whole messages or [`Garbage`]. It never holds more than [`MAX_LINE`] bytes and finds the next
//! line again after any rubbish.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest line that either side accepts, bytes, newline included.
pub const MAX_LINE: usize = 64 * 1024;

/// Encodes one message as a line.
///
/// # Panics
/// If the message exceeds [`MAX_LINE`]: callers bound its content
/// ([`crate::wire::MAX_CHUNK`], lists of limited length).
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages have no maps with non-string keys");
    line.push(b'\n');
    assert!(line.len() <= MAX_LINE, "message of {} bytes exceeds MAX_LINE", line.len());
    line
}

/// A line that could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// Why; its beginning, at most 200 characters, because it quotes the line.
    pub error: String,
    /// The beginning of the line, at most 200 bytes, as lossy text.
    pub excerpt: String,
}

/// Splits a byte stream into lines and parses each.
#[derive(Debug, Default)]
pub struct LineDecoder {
    line: Vec<u8>,
    /// The current line is already too long: skip to its end.
    overlong: bool,
}

impl LineDecoder {
    /// An empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes, and hands each complete line to `each`, parsed or as garbage.
    /// Empty lines are passed over: a peer may send one to end a half-sent line.
    pub fn push<T: DeserializeOwned>(&mut self, mut bytes: &[u8], mut each: impl FnMut(Result<T, Garbage>)) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            self.extend(&bytes[..end]);
            bytes = &bytes[end + 1..];
            if self.overlong {
                each(Err(self.garbage(format!("line exceeds {MAX_LINE} bytes"))));
            } else if !self.line.is_empty() {
                let parsed = serde_json::from_slice(&self.line);
                each(parsed.map_err(|error| self.garbage(error.to_string())));
            }
            self.reset();
        }
        self.extend(bytes);
    }

    /// Forgets a half-received line.
    pub fn reset(&mut self) {
        self.line.clear();
        self.overlong = false;
    }

    fn extend(&mut self, bytes: &[u8]) {
        // Keep what fits: the beginning of an overlong line is its excerpt.
        let room = MAX_LINE - 1 - self.line.len();
        if bytes.len() > room {
            self.overlong = true;
        }
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn garbage(&self, error: String) -> Garbage {
        let excerpt = &self.line[..self.line.len().min(200)];
        Garbage {
            error: error.chars().take(200).collect(),
            excerpt: String::from_utf8_lossy(excerpt).into_owned(),
        }
    }
}

/// Serde helper: bytes as standard base64 text.
pub mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes bytes as base64 text.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads base64 text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MAX_CHUNK, Message, Request};
    use proptest::prelude::*;

    fn decode_all(pieces: &[&[u8]]) -> Vec<Result<Message, Garbage>> {
        let mut decoder = LineDecoder::new();
        let mut seen = Vec::new();
        for piece in pieces {
            decoder.push(piece, |message| seen.push(message));
        }
        seen
    }

    #[test]
    fn the_largest_chunk_fits_a_line() {
        let message = Message::Output { attempt: u32::MAX, offset: u64::MAX, data: vec![0xff; MAX_CHUNK] };
        assert!(encode(&message).len() <= MAX_LINE);
    }

    #[test]
    fn an_overlong_line_is_garbage_and_the_next_is_found() {
        let long = vec![b'x'; 3 * MAX_LINE];
        let good = encode(&Message::Started { attempt: 7, pid: 50, probed: None });
        let seen = decode_all(&[&long, b"\n", &good]);
        assert!(seen[0].as_ref().unwrap_err().error.contains("exceeds"));
        assert_eq!(seen[1], Ok(Message::Started { attempt: 7, pid: 50, probed: None }));
    }

    /// Found by fuzzing: the parser quotes a word that it does not know, and a line has room for a long one.
    #[test]
    fn garbage_is_reported_in_few_words() {
        let line = format!("{{\"type\":\"{}\"}}\n", "x".repeat(60_000));
        let garbage = decode_all(&[line.as_bytes()])[0].clone().unwrap_err();
        assert!(garbage.error.starts_with("unknown variant `xxx"), "{}", garbage.error);
        assert_eq!((garbage.error.len(), garbage.excerpt.len()), (200, 200));
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut decoder = LineDecoder::new();
        for _ in 0..100 {
            decoder.push(&[b'x'; 32 * 1024], |_: Result<Message, Garbage>| panic!("no line ended"));
            assert!(decoder.line.len() < MAX_LINE && decoder.line.capacity() <= 2 * MAX_LINE);
        }
    }

    #[test]
    fn requests_round_trip() {
        let request = Request::Hello { version: 1, session: u64::MAX, entropy: vec![0, 255] };
        let mut decoder = LineDecoder::new();
        let mut seen = Vec::new();
        decoder.push(&encode(&request), |r| seen.push(r));
        assert_eq!(seen, [Ok(request)]);
    }

    proptest! {
        /// Any cut of the stream gives the same messages.
        #[test]
        fn cuts_do_not_matter(data in proptest::collection::vec(any::<u8>(), 0..2000), cut in 0usize..4000) {
            let mut stream = encode(&Message::Output { attempt: 1, offset: 0, data: data.clone() });
            stream.extend(encode(&Message::Started { attempt: 2, pid: 50, probed: None }));
            let cut = cut.min(stream.len());
            let seen = decode_all(&[&stream[..cut], &stream[cut..]]);
            prop_assert_eq!(seen, [
                Ok(Message::Output { attempt: 1, offset: 0, data }),
                Ok(Message::Started { attempt: 2, pid: 50, probed: None }),
            ]);
        }

        /// Rubbish never panics, never grows without bound, and never hides a later message.
        #[test]
        fn rubbish_is_survived(rubbish in proptest::collection::vec(any::<u8>(), 0..10_000)) {
            let good = encode(&Message::Started { attempt: 3, pid: 50, probed: None });
            let seen = decode_all(&[&rubbish, b"\n", &good]);
            prop_assert_eq!(seen.last(), Some(&Ok(Message::Started { attempt: 3, pid: 50, probed: None })));
        }
    }
}
