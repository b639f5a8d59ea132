//! Messages to the host, and their order.
//!
//! They are pulled, not pushed: whenever the port takes more, the most important line that is there is
//! encoded ([`Agent::next_line`]). So a slow host costs no memory, and what it gets is fresh.

use std::rc::Rc;
use std::time::Instant;

use protocol::codec::encode;
use protocol::shell::ShellMessage;
use protocol::wire::Message;

use super::Agent;
use crate::boot;
use crate::guest;
use crate::link::ports::Wrote;
use crate::process::shell::Shell;
use crate::watch::task;

/// Batches written in one round.
const BATCHES_AT_ONCE: usize = 32;
/// Messages that may wait before no further requests are read.
pub(super) const MAX_CONTROL: usize = 1000;
/// Longest text of a note or a refusal, bytes: escaped, it must still fit a line.
const MAX_TEXT: usize = 4096;

impl Agent {
    /// Writes as long as the host takes it, within bounds.
    pub(super) fn write(&mut self, now: Instant) {
        self.write_again = false;
        if !self.port.has_session() {
            return;
        }
        for _ in 0..BATCHES_AT_ONCE {
            while self.port.out.has_room()
                && let Some(line) = self.next_line(now)
            {
                self.port.out.push(&line);
            }
            if self.port.out.is_empty() {
                return;
            }
            match self.port.write(now) {
                Wrote::All => {}
                Wrote::Blocked | Wrote::Gone => return,
            }
        }
        self.write_again = true;
    }

    /// The most important line that waits.
    fn next_line(&mut self, now: Instant) -> Option<Rc<[u8]>> {
        if let Some(message) = self.next_news(now) {
            return Some(encode(&message).into());
        }
        // What the kernel said during the test comes before its end, as far as the budget goes.
        if let Some(line) = self.kmsg.as_mut().and_then(|kmsg| kmsg.backlog.pop(now)) {
            return Some(line);
        }
        self.next_end().map(|message| encode(&message).into())
    }

    /// The next message of those that go before the kernel's log.
    fn next_news(&mut self, now: Instant) -> Option<Message> {
        if let Some(message) = self.control.pop_front() {
            return Some(message);
        }
        // Somebody is waiting for an echo.
        if let Some(message) = self.shell.as_mut().and_then(Shell::next_message) {
            return Some(Message::Shell(message));
        }
        self.test.as_mut().and_then(|test| test.next_output(now))
    }

    /// The next message of those that go after the kernel's log.
    fn next_end(&mut self) -> Option<Message> {
        if let Some(exit) = self.shell.as_mut().and_then(Shell::next_end) {
            return Some(Message::Shell(ShellMessage::Ended { exit }));
        }
        let over = self.test.take_if(|test| test.is_sent())?;
        let cgroup = over.process.cgroup().to_owned();
        let report = over.into_report()?;
        if report.survivors.iter().any(|one| one.unkillable) {
            self.left = Some(cgroup);
        } else {
            self.sampler = None;
        }
        Some(Message::Finished(report))
    }

    pub(super) fn note(&mut self, text: String) {
        if self.control.len() < MAX_CONTROL {
            self.control.push_back(Message::Note { text: clip(text) });
        }
    }

    pub(super) fn refuse(&mut self, reason: String) {
        self.control.push_back(Message::Refused { reason: clip(reason) });
    }

    pub(super) fn heartbeat(&mut self) {
        if !self.port.has_session() {
            return;
        }
        // A host that does not read finds one when it comes back, not all of them.
        self.control.retain(|message| !matches!(message, Message::Heartbeat { .. }));
        self.control.push_back(Message::Heartbeat {
            uptime_ms: guest::uptime_ms(),
            mem_available_kib: guest::mem_available_kib(),
            output_bytes: self.test.as_ref().map_or(0, |test| test.output.total()),
            sampler: self.sampler.as_ref().and_then(|sampler| task::state_of(sampler.pid())),
        });
    }

    /// Tells the host how the kernel says that it is: its taint, and how far its log goes.
    pub(super) fn tell_kernel_state(&mut self, now: Instant) {
        if !self.port.has_session() {
            return;
        }
        // First the taint: what causes it is logged before or after it, but has been by the time of a
        // report's end.
        let tainted = boot::tainted();
        let log_end = self.kmsg.as_mut().and_then(|kmsg| {
            kmsg.catch_up(now);
            kmsg.end()
        });
        self.control.push_back(Message::KernelState { tainted, log_end });
    }
}

/// The beginning of a text, [`MAX_TEXT`] bytes at most.
fn clip(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}
