//! The user's own terminal: its size, and raw mode, which is left on every way out.
//!
//! The settings to go back to are kept for the whole process, because a panic and a second signal end
//! it without running destructors. (Of SIGKILL nobody hears; the user's shell puts that right.)

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use protocol::shell::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// How the terminal was before it was raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Brings back what a program that was cut off may have changed: the screen that scrolls, a cursor that
/// shows, plain keys, pastes without brackets, no mouse, no colours.
const RESET: &[u8] =
    b"\x1b[?1047l\x1b[?25h\x1b[?1l\x1b>\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[0m";

/// True if a person can type to us and see what we print.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Its size; what a terminal has that says none, if it says none.
pub(crate) fn size() -> TerminalSize {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TerminalSize { rows: size.ws_row, columns: size.ws_col }
        }
        Ok(_) | Err(_) => TerminalSize { rows: 24, columns: 80 },
    }
}

/// Raw mode: every key is the guest's. Ends when this is dropped.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Begins it.
    pub(crate) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        *locked() = Some(tcgetattr(io::stdin())?);
        let raw = RawMode(());
        again()?;
        Ok(raw)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Raw again, after somebody else had the terminal; nothing if it was not raw before.
pub(crate) fn again() -> io::Result<()> {
    if let Some(before) = &*locked() {
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
    }
    Ok(())
}

/// The terminal as it was, for as long as somebody else has it.
pub(crate) fn lend() {
    if let Some(before) = &*locked() {
        // There is nobody to tell if the terminal is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
    }
}

/// The terminal as it was, for good.
pub fn restore() {
    lend();
    *locked() = None;
}

/// Clears up after a program that could not do so itself.
pub(crate) fn reset() {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(RESET).and_then(|()| stdout.flush());
}

/// A line of ours, while the terminal is raw.
pub(crate) fn say(text: &str) {
    let _ = write!(io::stderr(), "\r\n{text}\r\n");
}

fn locked() -> MutexGuard<'static, Option<Termios>> {
    // What it holds is whole at any time.
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}
