//! Damage to a stream of bytes, as data: it can be shrunk, and a failing case prints the damage rather than a
//! megabyte.

use proptest::prelude::*;
use proptest::sample::Index;

/// Largest damaged stream, bytes.
const MAX_BYTES: usize = 1 << 20;

/// One change of a stream.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    FlipBit {
        at: Index,
        bit: u8,
    },
    Insert {
        at: Index,
        bytes: Vec<u8>,
    },
    Remove {
        at: Index,
        n_bytes: usize,
    },
    /// A byte repeated many times: an endless line.
    Stretch {
        at: Index,
        byte: u8,
        n_times: usize,
    },
    /// A piece repeated many times: endless nesting, or a duplicate key.
    Repeat {
        at: Index,
        n_bytes: usize,
        n_times: usize,
    },
    /// A number replaced by another.
    Number {
        nth: Index,
        to: &'static str,
    },
    /// A JSON value, or the beginning of one, replaced by another.
    Value {
        nth: Index,
        to: Value,
    },
    /// A field added to an object, possibly a duplicate.
    Field {
        nth: Index,
        name: &'static str,
        value: Value,
    },
    DropLine {
        nth: Index,
    },
    CopyLine {
        nth: Index,
        to: Index,
    },
    SwapLines {
        one: Index,
        other: Index,
    },
}

/// Pieces that have broken parsers before.
#[rustfmt::skip]
const PIECES: [&[u8]; 37] = [
    b"\n", b"\n\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\\ud800",
    b"\\u0000", b"\\", b"\"", b"{", b"}", b"[", b"]", b",", b":", b"null", b"-", b"1e999", b"-0", b"0.5",
    b"\x1b[2J", b"\x1b]0;", "\u{202e}".as_bytes(), "\u{feff}".as_bytes(), b"[    1.0] ", b"[", b"] ",
    b"[    4.2] BUG: ", b"\nKernel panic - not syncing: ", b"\nmd-regress-agent: FATAL: ", b"\nTEST SKIPPED",
    b"\nFound dm-", b"../../",
];

#[rustfmt::skip]
const NUMBERS: [&str; 16] = [
    "0", "1", "-1", "4", "255", "256", "2147483647", "2147483648", "4294967295", "4294967296",
    "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "1e308",
    "99999999999999999999999999999999999999999999999999",
];

/// A JSON value as text.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(&'static str),
    /// A string of many repetitions.
    Long(&'static str, usize),
    /// Arrays or objects nested in each other.
    Nested {
        objects: bool,
        depth: usize,
        closed: bool,
    },
}

impl Value {
    fn text(&self) -> String {
        match self {
            Value::Text(text) => (*text).to_owned(),
            Value::Long(piece, n_times) => format!("\"{}\"", piece.repeat(*n_times)),
            Value::Nested { objects, depth, closed } => {
                let (open, close) = if *objects { ("{\"a\":", "}") } else { ("[", "]") };
                let close = if *closed { close.repeat(*depth) } else { String::new() };
                format!("{}0{close}", open.repeat(*depth))
            }
        }
    }
}

#[rustfmt::skip]
const TEXTS: [&str; 9] =
    ["null", "true", "\"\"", "[]", "{}", "\"\\u0000\"", "\"\\ud800\"", "\"hello\"", "{\"code\":0}"];

#[rustfmt::skip]
const NAMES: [&str; 14] = [
    "type", "attempt", "data", "offset", "seq", "exit", "survivors", "path", "event", "format", "facts", "outcome",
    "error", "unknown",
];

fn value() -> impl Strategy<Value = Value> {
    let long = proptest::sample::select(vec!["x", "\\u0000", "日", "../", "A==="]);
    prop_oneof![
        proptest::sample::select(TEXTS.to_vec()).prop_map(Value::Text),
        proptest::sample::select(NUMBERS.to_vec()).prop_map(Value::Text),
        (long, 1..20_000_usize).prop_map(|(piece, n_times)| Value::Long(piece, n_times)),
        (any::<bool>(), 1..20_000_usize, any::<bool>()).prop_map(|(objects, depth, closed)| Value::Nested {
            objects,
            depth,
            closed
        }),
        (any::<bool>(), 1..200_usize).prop_map(|(objects, depth)| Value::Nested {
            objects,
            depth,
            closed: true
        }),
    ]
}

/// A few changes.
pub(super) fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let at = any::<Index>;
    let bytes = prop_oneof![
        4 => proptest::sample::select(PIECES.to_vec()).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let one = prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Damage::FlipBit { at, bit }),
        6 => (at(), bytes).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        3 => (at(), 1..200_usize).prop_map(|(at, n_bytes)| Damage::Remove { at, n_bytes }),
        1 => (at(), any::<u8>(), 1..200_000_usize)
            .prop_map(|(at, byte, n_times)| Damage::Stretch { at, byte, n_times }),
        2 => (at(), 1..40_usize, 1..3000_usize)
            .prop_map(|(at, n_bytes, n_times)| Damage::Repeat { at, n_bytes, n_times }),
        6 => (at(), proptest::sample::select(NUMBERS.to_vec()))
            .prop_map(|(nth, to)| Damage::Number { nth, to }),
        4 => (at(), value()).prop_map(|(nth, to)| Damage::Value { nth, to }),
        4 => (at(), proptest::sample::select(NAMES.to_vec()), value())
            .prop_map(|(nth, name, value)| Damage::Field { nth, name, value }),
        2 => at().prop_map(|nth| Damage::DropLine { nth }),
        3 => (at(), at()).prop_map(|(nth, to)| Damage::CopyLine { nth, to }),
        3 => (at(), at()).prop_map(|(one, other)| Damage::SwapLines { one, other }),
    ];
    proptest::collection::vec(one, 0..8)
}

/// The stream after all changes.
pub(super) fn damaged(stream: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = stream.to_vec();
    for damage in damages {
        damage.apply(&mut bytes);
        bytes.truncate(MAX_BYTES);
    }
    bytes
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        // In an empty stream the only position is its end.
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match self {
            Damage::FlipBit { at, bit } => {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] ^= 1 << bit;
                }
            }
            Damage::Insert { at, bytes: new } => {
                let at = place(at, bytes);
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Remove { at, n_bytes } => {
                let at = place(at, bytes);
                let end = (at + n_bytes).min(bytes.len());
                bytes.drain(at..end);
            }
            Damage::Stretch { at, byte, n_times } => {
                let at = place(at, bytes);
                bytes.splice(at..at, std::iter::repeat_n(*byte, *n_times));
            }
            Damage::Repeat { at, n_bytes, n_times } => {
                let at = place(at, bytes);
                let end = (at + n_bytes).min(bytes.len());
                let more = bytes[at..end].repeat(*n_times);
                bytes.splice(at..at, more);
            }
            Damage::Number { nth, to } => {
                let is_start =
                    |&at: &usize| bytes[at].is_ascii_digit() && (at == 0 || !bytes[at - 1].is_ascii_digit());
                let starts: Vec<usize> = (0..bytes.len()).filter(is_start).collect();
                if starts.is_empty() {
                    return;
                }
                let start = *nth.get(&starts);
                let n_digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                bytes.splice(start..start + n_digits, to.bytes());
            }
            Damage::Value { nth, to } => {
                if let Some(start) = nth_after(bytes, b":", nth) {
                    let is_end = |byte: &u8| b",}]\n".contains(byte);
                    let end = bytes[start..].iter().position(is_end).map_or(bytes.len(), |n| start + n);
                    bytes.splice(start..end, to.text().into_bytes());
                }
            }
            Damage::Field { nth, name, value } => {
                if let Some(at) = nth_after(bytes, b"{,", nth) {
                    bytes.splice(at..at, format!("\"{name}\":{},", value.text()).into_bytes());
                }
            }
            Damage::DropLine { nth } => change_lines(bytes, |lines| {
                lines.remove(nth.index(lines.len()));
            }),
            Damage::CopyLine { nth, to } => change_lines(bytes, |lines| {
                let line = nth.get(lines).clone();
                lines.insert(to.index(lines.len() + 1), line);
            }),
            Damage::SwapLines { one, other } => change_lines(bytes, |lines| {
                let n_lines = lines.len();
                lines.swap(one.index(n_lines), other.index(n_lines));
            }),
        }
    }
}

/// The position after one of the bytes in `these`.
fn nth_after(bytes: &[u8], these: &[u8], nth: &Index) -> Option<usize> {
    let places: Vec<usize> = (0..bytes.len()).filter(|&at| these.contains(&bytes[at])).collect();
    if places.is_empty() { None } else { Some(nth.get(&places) + 1) }
}

fn change_lines(bytes: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    if !lines.is_empty() {
        change(&mut lines);
        *bytes = lines.concat();
    }
}

/// How a stream is split.
#[derive(Clone, Debug)]
pub(super) enum Cuts {
    At(Vec<Index>),
    Every(usize),
}

/// Any way to split a stream.
pub(super) fn cuts() -> impl Strategy<Value = Cuts> {
    prop_oneof![
        3 => proptest::collection::vec(any::<Index>(), 0..12).prop_map(Cuts::At),
        1 => (1..6000_usize).prop_map(Cuts::Every),
    ]
}

impl Cuts {
    /// The pieces, in order; some may be empty.
    pub(super) fn pieces<'a>(&self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        match self {
            Cuts::Every(n_bytes) => bytes.chunks(*n_bytes).collect(),
            Cuts::At(places) => {
                let mut places: Vec<usize> =
                    places.iter().map(|place| place.index(bytes.len() + 1)).collect();
                places.extend([0, bytes.len()]);
                places.sort_unstable();
                places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
            }
        }
    }
}
