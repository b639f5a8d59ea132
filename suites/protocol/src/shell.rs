//! Requests and messages about a shell in the guest: one program of the user's, its standard streams
//! or its terminal carried over the agent's port, under flow control ([`crate::window`]).
//!
//! A guest has one shell in its life; it goes with the machine.

use serde::{Deserialize, Serialize};

use crate::program::{Exit, Program};

/// Bytes of input that may be under way. Few, because input that a hanging guest does not take waits in a
/// socket, which must never be full.
pub const INPUT_WINDOW: u64 = 64 * 1024;

/// Bytes of output that may be under way.
pub const OUTPUT_WINDOW: u64 = 256 * 1024;

/// From the harness to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "shell", rename_all = "kebab-case")]
pub enum ShellRequest {
    /// Starts the shell; [`ShellMessage::Opened`] or [`ShellMessage::Ended`] follows.
    Open {
        /// The program to run.
        program: Program,
        /// Give it a terminal of this size; without one, its standard streams are pipes.
        terminal: Option<TerminalSize>,
    },
    /// Bytes for its standard input, or as typed on its terminal. Goes by [`INPUT_WINDOW`].
    Input {
        /// The bytes.
        #[serde(with = "crate::codec::base64_bytes")]
        data: Vec<u8>,
    },
    /// No more input follows: its standard input ends.
    InputEnd,
    /// The terminal has another size now. Goes by [`INPUT_WINDOW`], too, as a message without bytes.
    Resize {
        /// The new one.
        size: TerminalSize,
    },
    /// How much output the harness has taken, in all, as [`crate::window`] counts.
    OutputTaken {
        /// Bytes, and the costs of messages.
        total: u64,
    },
    /// Nobody reads this stream any more: a writer should get an error.
    CloseOutput {
        /// The stream.
        stream: Stream,
    },
}

/// From the agent to the harness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "shell", rename_all = "kebab-case")]
pub enum ShellMessage {
    /// The shell runs, and takes input.
    Opened,
    /// A piece of what it writes, in order; nothing is ever dropped. Goes by [`OUTPUT_WINDOW`].
    Output {
        /// Where it writes to.
        stream: Stream,
        /// The bytes, as they are.
        #[serde(with = "crate::codec::base64_bytes")]
        data: Vec<u8>,
    },
    /// How much input the agent has passed on, in all, as [`crate::window`] counts.
    InputTaken {
        /// Bytes, and the costs of messages.
        total: u64,
    },
    /// The shell's own process has ended, and this follows the last of its output.
    Ended {
        /// How it ended.
        exit: Exit,
    },
}

/// Where a program writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Its standard output, or its terminal.
    Output,
    /// Its standard error.
    Errors,
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{LineDecoder, MAX_LINE, encode};
    use crate::wire::{MAX_CHUNK, Message, Request};

    #[test]
    fn the_largest_pieces_fit_a_line_and_come_through() {
        let data = vec![0xff; MAX_CHUNK];
        let request = Request::Shell(ShellRequest::Input { data: data.clone() });
        let message = Message::Shell(ShellMessage::Output { stream: Stream::Errors, data });
        let (sent, said) = (encode(&request), encode(&message));
        assert!(sent.len().max(said.len()) <= MAX_LINE);
        let mut seen = Vec::new();
        LineDecoder::new().push(&sent, |line| seen.push(line));
        assert_eq!(seen, [Ok(request)]);
        let mut seen = Vec::new();
        LineDecoder::new().push(&said, |line| seen.push(line));
        assert_eq!(seen, [Ok(message)]);
    }

    #[test]
    fn a_request_is_one_flat_object() {
        let size = TerminalSize { rows: 24, columns: 80 };
        let line = encode(&Request::Shell(ShellRequest::Resize { size }));
        let expect = br#"{"type":"shell","shell":"resize","size":{"rows":24,"columns":80}}"#;
        assert_eq!(line.trim_ascii_end(), expect);
    }
}
