//! The guest agent: first process of the guest, and the harness's hand in it.
//!
//! Boots ([`boot`]), then serves requests ([`serve`]): runs one test at a time, or a shell ([`process`]),
//! sends what it prints and what the kernel logs, and brings files back ([`link`]). The same binary is its
//! own second stage ([`stage`]) for what must happen between `fork` and `exec`, or may wait for ever
//! ([`watch`]).
//!
//! Deliberately not here: judgement. The agent reports exits, bytes and survivors; what they mean
//! is the harness's business. It also never calls `sync`, and never opens a path of the test's
//! from the first process, because either may wait for ever.

mod boot;
mod bucket;
mod console;
mod guest;
mod link;
mod paths;
mod process;
mod serial;
mod serve;
mod stage;
mod watch;

use std::process::ExitCode;

use stage::Stage;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        first_process();
    }
    // Not through `args`: it panics on what is no text, and a test's words need not be.
    let mut args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).skip(1);
    match args.next().as_deref().and_then(Stage::named) {
        Some(Stage::Launch) => process::launch::launch_main(args),
        Some(Stage::Collect) => link::collect::collect_main(args),
        Some(Stage::Sample) => watch::sampler::sample_main(args),
        Some(Stage::Diagnose) => watch::diagnose::diagnose_main(args),
        Some(Stage::Ask) => watch::ask::ask_main(args),
        None => {
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

/// Says why on the console, and ends the machine.
fn fatal(why: &str) -> ! {
    console::say_last(why);
    boot::power_off()
}
