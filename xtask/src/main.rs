//! `cargo xtask`: parses the command line, calls the command, returns its exit code.

mod bench;
mod children;
mod cli;
mod commands;
mod config;
mod exit;
mod options;
mod outer;
mod signals;
mod smoke;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use harness::error::is_users_fault;
use harness::session::{self, Session};
use harness::terminal::Terminal;
use vm_images::host::Cancel;
use vm_images::host::progress::Progress;

use crate::bench::{BenchCommand, BenchOptions};
use crate::cli::{Cli, Command};
use crate::config::Config;
use crate::exit::{Exit, StepExit};

/// Name of the command whose exit codes are git's.
const STEP: &str = "bisect-step";

fn main() -> ExitCode {
    // Before anything else, because it needs a process with a single thread.
    if let Some(code) = vm_images::build::enclosure::served() {
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
        // clap's own exit code for a usage error would tell git that a commit is bad.
        Err(error) if error.use_stderr() && std::env::args_os().any(|word| word == STEP) => {
            let _ = error.print();
            return StepExit::Stop.into();
        }
        // Ends the process for `--help`, `--version` and usage errors.
        Err(error) => error.exit(),
    };
    if let Command::Janitor { folder } = &cli.command {
        let served = vm_images::host::janitor::serve(folder);
        return if served.is_ok() { Exit::Passed.into() } else { Exit::Infra.into() };
    }
    let cancel = Cancel::default();
    if let Command::BisectStep(_) = &cli.command {
        return commands::bisect_step::guarded(&terminal, &cancel, || {
            config?;
            signals::install(&cancel)?;
            let session = Session::open(&cancel, Arc::clone(&terminal), cli.global.into())?;
            let Command::BisectStep(options) = cli.command else { unreachable!("looked at above") };
            commands::bisect_step::run(&session, options)
        });
    }
    // An exploration has nothing to clean up: a signal ends it at once.
    let explores = matches!(
        &cli.command,
        Command::Model(_) | Command::Bench(BenchOptions { command: BenchCommand::Model { .. }, .. })
    );
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
        return Ok(commands::completions::run(Cli::command(), shell));
    }
    // Needs only files, so it must work without a store.
    if let Command::Replay(options) = &cli.command {
        return commands::replay::run(terminal, options);
    }
    if let Command::Model(options) = &cli.command {
        return commands::model::run(terminal, options);
    }
    if let Command::Tidy(options) = &cli.command {
        return commands::tidy::run(options, &Cli::command());
    }
    let mut global = session::Options::from(cli.global);
    // The checks build only our own sources, so they may run without a sandbox.
    global.trust_source |= matches!(&cli.command, Command::Selftest(_));
    let session = Session::open(cancel, Arc::clone(terminal), global)?;
    match cli.command {
        Command::Bisect(options) => commands::bisect::run(&session, options),
        Command::Series(options) => commands::series::run(&session, options),
        Command::Matrix(options) => commands::matrix::run(&session, options),
        Command::Test(options) => {
            commands::test::check_resume(matches, &options)?;
            commands::test::run(&session, options)
        }
        Command::Shell(options) => commands::shell::run(&session, &options.into()),
        Command::Bench(options) => bench::run(&session, &options, &Cli::command(), matches),
        Command::Selftest(options) => commands::selftest::run(&session, &options, &Cli::command()),
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
        | Command::Tidy(_)
        | Command::BisectStep(_) => {
            unreachable!("served already")
        }
    }
}

fn exit_of(error: &anyhow::Error) -> Exit {
    if is_users_fault(error) { Exit::Usage } else { Exit::Infra }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
