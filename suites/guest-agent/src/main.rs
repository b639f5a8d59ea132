//! The guest agent: first process of the guest, and the harness's hand in it.
//!
//! Boots ([`boot`]), then serves requests ([`serve`]): runs one test at a time, or a shell, sends what
//! it prints and what the kernel logs, and brings files back. The same binary is its own second
//! stage for what must happen between `fork` and `exec`, or may wait for ever ([`launch`], [`collect`],
//! [`sample`], [`diagnose`]).
//!
//! Deliberately not here: judgement. The agent reports exits, bytes and survivors; what they mean
//! is the harness's business. It also never calls `sync`, and never opens a path of the test's
//! from the first process, because either may wait for ever.

mod boot;
mod cgroup;
mod collect;
mod diagnose;
mod disks;
mod ends;
mod guest;
mod inbox;
mod kmsg;
mod launch;
mod mdstat;
mod modules;
mod output;
mod ports;
mod probe;
mod running;
mod sample;
mod sampler;
mod serve;
mod shell;
mod sleeps;
mod supervised;
mod syncs;
mod test_run;
mod waits;

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of the host's greeting, which no test is told; 0 before there was one.
static SESSION: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    if std::process::id() == 1 {
        first_process();
    }
    // Not through `args`: it panics on what is no text, and a test's words need not be.
    let mut args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).skip(1);
    match args.next().as_deref() {
        Some(launch::LAUNCH) => launch::launch_main(args),
        Some(launch::COLLECT) => collect::collect_main(args),
        Some(sample::SAMPLE) => sample::sample_main(args),
        Some(diagnose::DIAGNOSE) => diagnose::diagnose_main(args),
        Some(probe::PROBE) => probe::probe_main(args),
        Some(_) | None => {
            eprintln!("md-regress-agent: runs as the first process of a guest, and this is none");
            ExitCode::from(2)
        }
    }
}

fn first_process() -> ! {
    // The kernel would panic if its first process died, and blame itself in the log.
    std::panic::set_hook(Box::new(|panic| fatal(&panic.to_string())));
    let failure = match boot::boot() {
        Ok(notes) => serve::serve(notes),
        Err(error) => error.to_string(),
    };
    fatal(&failure)
}

/// A host greeted the agent with this number: it signs its last words.
pub(crate) fn greeted(session: u64) {
    SESSION.store(session, Ordering::Relaxed);
}

/// Says why on the console, and ends the machine. Signed, for a test can write there, too.
fn fatal(why: &str) -> ! {
    let session = Some(SESSION.load(Ordering::Relaxed)).filter(|session| *session != 0);
    write_line(&protocol::last_words::say(session, why));
    boot::power_off()
}

/// Says something on the console.
fn say(text: &str) {
    write_line(&format!("md-regress-agent: {text}"));
}

/// Writes a line to the console, and waits until it is out.
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
