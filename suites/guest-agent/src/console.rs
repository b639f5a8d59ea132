//! The agent's words on the guest's console: remarks for people, and why it gives up.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of the host's greeting, which no test is told; 0 before there was one.
static SESSION: AtomicU64 = AtomicU64::new(0);

/// A host greeted the agent with this number: it signs the agent's last words.
pub(crate) fn greeted(session: u64) {
    SESSION.store(session, Ordering::Relaxed);
}

/// Says why the agent gives up. Signed, for a test can write to the console, too.
pub(crate) fn say_last(why: &str) {
    let session = Some(SESSION.load(Ordering::Relaxed)).filter(|session| *session != 0);
    write_line(&protocol::last_words::say(session, why));
}

/// Says something.
pub(crate) fn say(text: &str) {
    write_line(&format!("md-regress-agent: {text}"));
}

/// Writes a line, and waits until it is out.
fn write_line(line: &str) {
    let line = format!("{line}\n");
    match OpenOptions::new().write(true).open("/dev/console") {
        Ok(mut console) => {
            let _ = console.write_all(line.as_bytes());
            let _ = rustix::termios::tcdrain(&console);
        }
        Err(_) => eprint!("{line}"),
    }
}
