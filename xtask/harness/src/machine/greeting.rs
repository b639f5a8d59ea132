//! The greeting by which a guest counts as up: the harness says hello, and the guest's agent answers.
//!
//! Deliberately not here: who waits for the answer, and how long ([`super::talk`], [`super::start`]).

use anyhow::{Context, Result};
use protocol::wire::{Request, VERSION};
use rustix::rand::GetRandomFlags;

/// The contents of a greeting: random, and never twice the same.
#[derive(Clone, Debug)]
pub struct Opening {
    /// A number that no guest has seen.
    pub session: u64,
    /// For the guest's random pool.
    pub entropy: Vec<u8>,
}

impl Opening {
    /// Draws a new one.
    ///
    /// # Errors
    /// If the host's kernel has no random numbers.
    pub fn draw() -> Result<Opening> {
        let mut random = [0; 40];
        // Up to 256 bytes are never cut short (getrandom(2)).
        rustix::rand::getrandom(&mut random, GetRandomFlags::empty())
            .context("failed to draw random numbers")?;
        let (session, entropy) = random.split_at(8);
        let session = session.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        Ok(Opening { session, entropy: entropy.to_vec() })
    }

    /// For a guest in which nothing runs that is to be random: one that is saved, or only has to answer.
    pub fn without_entropy() -> Opening {
        Opening { session: 1, entropy: vec![] }
    }

    /// The request that greets.
    pub fn hello(&self) -> Request {
        Request::Hello { version: VERSION, session: self.session, entropy: self.entropy.clone() }
    }

    /// Whether an agent's hello answers this one: not if it bears another number. An error if the agent
    /// cannot be talked to.
    pub fn is_answered(&self, version: u32, session: u64) -> Result<bool, String> {
        if session != self.session {
            return Ok(false);
        }
        if version != VERSION {
            return Err(format!("the guest agent speaks version {version} of the protocol, not {VERSION}"));
        }
        Ok(true)
    }
}
