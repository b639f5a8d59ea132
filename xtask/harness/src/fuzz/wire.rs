//! Fuzzes the framing and parsing of the ports, and QMP: any bytes, in any pieces.

use proptest::prelude::*;
use protocol::codec::{Garbage, LineDecoder, MAX_LINE};
use protocol::wire::Message;

use super::hostile::any_message;
use super::mutate::{cuts, damaged, damages};
use super::recorded;
use crate::machine::qmp::{self, Said};
use crate::machine::{HypervisorEvent, RunState, ShutdownCause};

/// Longest report of a line that is no valid message, bytes.
const GARBAGE_MAX: usize = 200 * 4 + 200 * 3;

fn decode(pieces: &[&[u8]]) -> Vec<Result<Message, Garbage>> {
    let mut decoder = LineDecoder::new();
    let mut seen = Vec::new();
    for piece in pieces {
        decoder.push(piece, |message| seen.push(message));
    }
    seen
}

fn check(bytes: &[u8], pieces: &[&[u8]]) -> Result<(), TestCaseError> {
    let whole = decode(&[bytes]);
    prop_assert!(decode(pieces) == whole, "how the stream is cut changes what it says");
    let n_lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    prop_assert!(whole.len() <= n_lines);
    for message in &whole {
        match message {
            Err(Garbage { error, excerpt }) => {
                prop_assert!(error.len() + excerpt.len() <= GARBAGE_MAX, "{} bytes of error", error.len());
            }
            Ok(message) => {
                let again = serde_json::to_vec(message).unwrap();
                prop_assert_eq!(&serde_json::from_slice::<Message>(&again).unwrap(), message);
            }
        }
    }
    // Whatever came before, the next line is understood.
    let good = Message::Started { attempt: 1, pid: 50, probed: None };
    let rest = protocol::codec::encode(&good);
    prop_assert_eq!(decode(&[bytes, b"\n", &rest]).pop(), Some(Ok(good)));
    Ok(())
}

proptest! {
    #[test]
    fn a_damaged_stream_is_read_the_same_in_any_pieces(
        of_files in any::<bool>(),
        damages in damages(),
        cuts in cuts(),
    ) {
        let bytes = damaged(if of_files { recorded::FILES } else { recorded::AGENT }, &damages);
        check(&bytes, &cuts.pieces(&bytes))?;
    }

    #[test]
    fn any_messages_go_through(
        messages in proptest::collection::vec(any_message(), 1..8),
        damages in damages(),
        cuts in cuts(),
    ) {
        let lines = messages.iter().map(|message| serde_json::to_string(message).unwrap() + "\n");
        let sound = lines.clone().filter(|line| line.len() <= MAX_LINE).count();
        let bytes = lines.collect::<String>().into_bytes();
        prop_assert_eq!(decode(&[&bytes]).iter().filter(|message| message.is_ok()).count(), sound);
        let bytes = damaged(&bytes, &damages);
        check(&bytes, &cuts.pieces(&bytes))?;
    }

    #[test]
    fn any_bytes_are_read_the_same_in_any_pieces(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        cuts in cuts(),
    ) {
        check(&bytes, &cuts.pieces(&bytes))?;
    }

    /// QEMU is not hostile, but it may quote hostile text, and a line may be cut short.
    #[test]
    fn qmp_says_no_more_than_is_there(damages in damages()) {
        let bytes = damaged(recorded::QMP, &damages);
        for line in bytes.split(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(line);
            match qmp::parse(&line) {
                None | Some(Said::Broke(_) | Said::Dumped(Ok(()))) => {}
                Some(Said::Event(HypervisorEvent::Panicked | HypervisorEvent::Stopped | HypervisorEvent::Migrated)) => {}
                Some(
                    Said::Event(
                        HypervisorEvent::Shutdown { reason: words, .. } | HypervisorEvent::Refused { error: words },
                    )
                    | Said::RunState(RunState { name: words, .. })
                    | Said::Registers(words)
                    | Said::Dumped(Err(words)),
                ) => {
                    prop_assert!(words.len() <= line.len().max("the migration failed".len()));
                }
                Some(Said::Vcpus(threads)) => prop_assert!(threads.len() <= line.len()),
            }
        }
    }
}

#[test]
fn the_recorded_streams_are_sound() {
    for stream in [recorded::AGENT, recorded::FILES] {
        let seen = decode(&[stream]);
        let garbage: Vec<_> = seen.iter().filter(|message| message.is_err()).collect();
        assert!(
            seen.len() > 3 && garbage.is_empty(),
            "the protocol has changed: record again (xtask/harness/testdata/README.md): {garbage:?}"
        );
    }
    let qmp = String::from_utf8_lossy(recorded::QMP);
    let events: Vec<_> = qmp.lines().filter_map(qmp::parse).collect();
    let shutdown = HypervisorEvent::Shutdown { cause: ShutdownCause::Guest, reason: "guest-panic".into() };
    let expect = [HypervisorEvent::Migrated, HypervisorEvent::Panicked, shutdown].map(Said::Event);
    assert_eq!(events, expect);
}
