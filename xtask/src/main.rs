//! `cargo xtask`: parse, call, exit code.

mod beginning;
mod bisect;
mod children;
mod cli;
mod commands;
mod config;
mod console;
mod exit;
#[cfg(test)]
mod fuzz;
mod history;
mod model_suite;
mod own_modules;
mod plan;
mod prepare;
mod report;
mod resume;
mod run_order;
mod runner;
mod script;
mod script_record;
mod select;
mod session;
mod settings;
mod shard;
mod shell;
mod signals;
mod smoke;
mod suite;
mod symbols;
mod terminal;
mod test;
mod vm;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use vm_images::error::Fault;
use vm_images::host::Cancel;
use vm_images::progress::Progress;

use crate::cli::{BenchCommand, Cli, Command};
use crate::config::Config;
use crate::exit::{Exit, StepExit, UsageError};
use crate::session::Session;
use crate::terminal::Terminal;

/// Name of the command whose exit codes are git's.
const STEP: &str = "bisect-step";

fn main() -> ExitCode {
    // Before anything else: it takes a process with one thread.
    if let Some(code) = vm_images::enclosure::served() {
        return code;
    }
    let terminal = Arc::new(Terminal::detect());
    let config = Config::load();
    let command = Cli::command();
    let command = match &config {
        Ok(Some(config)) => config.apply(command),
        Ok(None) | Err(_) => command,
    };
    let parsed =
        command.try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        // To git, clap's own code for what makes no sense would be a bad commit.
        Err(error) if error.use_stderr() && std::env::args_os().any(|word| word == STEP) => {
            let _ = error.print();
            return StepExit::Stop.into();
        }
        // Ends the process by itself for `--help`, `--version` and what makes no sense.
        Err(error) => error.exit(),
    };
    if let Command::Janitor { folder } = &cli.command {
        let served = vm_images::janitor::serve(folder);
        return if served.is_ok() { Exit::Passed.into() } else { Exit::Infra.into() };
    }
    let cancel = Cancel::default();
    if let Command::BisectStep(_) = &cli.command {
        return commands::bisect_step::guarded(&terminal, &cancel, || {
            config?;
            signals::install(&cancel)?;
            let session = Session::open(&cancel, Arc::clone(&terminal), cli.global)?;
            let Command::BisectStep(options) = cli.command else { unreachable!("looked at above") };
            commands::bisect_step::run(&session, options)
        });
    }
    // An exploration has nothing to clean up: a signal ends it at once.
    let explores = matches!(&cli.command, Command::Model(_) | Command::Bench(BenchCommand::Model { .. }));
    let result = config.and_then(|config| {
        if !explores {
            signals::install(&cancel)?;
        }
        run(cli, &matches, config.as_ref(), &cancel, &terminal)
    });
    terminal.end_step();
    match result {
        Ok(exit) => exit.into(),
        Err(_) if cancel.is_cancelled() => {
            terminal.say("interrupted");
            Exit::Interrupted.into()
        }
        Err(error) => {
            terminal.say(&format!("error: {error:#}"));
            exit_of(&error).into()
        }
    }
}

fn run(
    cli: Cli,
    matches: &ArgMatches,
    config: Option<&Config>,
    cancel: &Cancel,
    terminal: &Arc<Terminal>,
) -> anyhow::Result<Exit> {
    if let Command::Completions { shell } = cli.command {
        return Ok(commands::completions::run(shell));
    }
    // Files are all it needs: it works where no store can be.
    if let Command::Replay(options) = &cli.command {
        return commands::replay::run(terminal, options);
    }
    if let Command::Model(options) = &cli.command {
        return commands::model::run(terminal, options);
    }
    let mut global = cli.global;
    // What our own checks build is ours, also where nothing encloses it.
    global.trust_source |= matches!(&cli.command, Command::Selftest(_));
    let session = Session::open(cancel, Arc::clone(terminal), global)?;
    match cli.command {
        Command::Bisect(options) => commands::bisect::run(&session, options),
        Command::Series(options) => commands::series::run(&session, options),
        Command::Test(options) => {
            cli::check_resume(matches, &options)?;
            commands::test::run(&session, &options.into())
        }
        Command::Shell(options) => commands::shell::run(&session, &options.into()),
        Command::Bench(command) => commands::bench::run(&session, &command),
        Command::Selftest(options) => commands::selftest::run(&session, &options),
        Command::Tidy => commands::tidy::run(),
        Command::List(options) => commands::list::run(&session, options),
        Command::Doctor { run } => {
            let matches = matches.subcommand().map_or(matches, |(_, below)| below);
            commands::doctor::run(&session, &run, matches, config)
        }
        Command::Clean(options) => commands::clean::run(&session, &options),
        Command::Image(sources) => commands::image::make(&session, &sources.into()),
        Command::Kernel(command) => commands::kernel::run(&session, &command),
        Command::Update(options) => commands::update::run(&session, &options),
        Command::Janitor { .. }
        | Command::Completions { .. }
        | Command::Replay(_)
        | Command::Model(_)
        | Command::BisectStep(_) => {
            unreachable!("served already")
        }
    }
}

/// An error of the user's is told from one of the host's by its type.
fn exit_of(error: &anyhow::Error) -> Exit {
    let is_usage = error.chain().any(|cause| {
        cause.is::<UsageError>()
            || cause.is::<vm_images::kernel_spec::BadKernelSpec>()
            || Fault::of(cause).is_some_and(|fault| matches!(fault, Fault::Source | Fault::Request))
    });
    if is_usage { Exit::Usage } else { Exit::Infra }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_images::build::error::{BuildError, CheckoutError};
    use vm_images::error::ImageError;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_of_the_users_is_told_from_one_of_the_hosts() {
        assert_eq!(exit_of(&exit::usage(anyhow::anyhow!("no test matches `x`"))), Exit::Usage);
        assert_eq!(exit_of(&anyhow::anyhow!("disk on fire")), Exit::Infra);
        let checkout = CheckoutError::Changed { dir: "/src/lvm2".into() };
        assert_eq!(exit_of(&ImageError::from(BuildError::from(checkout)).into()), Exit::Usage);
        let exposed = vm_images::enclosure::EnclosureError::Exposed { tried: "no".to_owned() };
        assert_eq!(
            exit_of(&ImageError::from(BuildError::from(exposed)).into()),
            Exit::Usage,
            "--trust-source mends it"
        );
        let bad = "6.12".parse::<vm_images::kernel_spec::KernelSpec>().unwrap_err();
        assert_eq!(exit_of(&bad.into()), Exit::Usage);
    }
}
