//! SIGINT, SIGTERM and SIGHUP cancel everything; a second one ends the process.

use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vm_images::host::Cancel;

/// Sets `cancel` at the first signal. A second one ends the process at once: child processes die with it, and
/// the janitor still cleans up.
pub(crate) fn install(cancel: &Cancel) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("failed to install signal handlers")?;
    let cancel = cancel.clone();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if cancel.is_cancelled() {
                    harness::shell::host_terminal::restore();
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                cancel.cancel();
            }
        })
        .context("failed to start the signal thread")?;
    Ok(())
}
