//! `tidy`: asks the guards, and prints a line a complaint. `cargo xtask tidy` calls it.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tidy::command_lines::{self, CommandLine};
use tidy::guards::{self, Choice};
use tidy::settings::Settings;
use tidy::tree::Tree;
use tidy::{circles, rust};

/// The guards of md-regress's work tree; `cargo xtask tidy --help` says what each of them refuses
///
/// Exit code 0 without a complaint, 1 with some, 2 if they can't be asked.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Ask every guard, also those that are off in tidy.toml
    #[arg(long, conflicts_with = "only")]
    all: bool,
    /// Ask one guard, also if it is off
    #[arg(long, value_name = "GUARD")]
    only: Option<String>,
    /// Print a package's modules, what they import, and the floors that this makes
    #[arg(long, value_name = "PACKAGE[::MODULE]")]
    show_rooms: Option<String>,
    /// Top of another work tree
    #[arg(long, value_name = "DIR")]
    top: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look for circles of imports between the files of one package, tests apart
    #[command(
        after_help = "Examples:\n  tidy circles reports\n  tidy circles reports --imports   every import, also"
    )]
    Circles {
        /// Folder of the package, with its Cargo.toml
        folder: PathBuf,
        /// Print every import between two files, also
        #[arg(long)]
        imports: bool,
    },
    /// Print the calls of `cargo xtask` in all pages, a JSON object a line, if their guard is asked for
    #[command(hide = true)]
    CommandLines,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<bool> {
    if let Some(Command::Circles { folder, imports }) = &cli.command {
        return circles(folder, *imports);
    }
    let top = cli.top.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    let tree = Tree::read(&top)?;
    if let Some(key) = &cli.show_rooms {
        out(guards::show_rooms(&tree, key)?.trim_end())?;
        return Ok(true);
    }
    let settings = Settings::read(&tree)?;
    let choice = match &cli.only {
        _ if cli.all => Choice::All,
        Some(name) => Choice::Only(name),
        None => Choice::Holding,
    };
    if let Some(Command::CommandLines) = &cli.command {
        if choice.has(command_lines::RULE, &settings)? {
            for line in command_lines::find(&tree) {
                out(json(&line))?;
            }
        }
        return Ok(true);
    }
    let complaints = guards::check(&tree, &settings, choice)?;
    complaints.iter().try_for_each(out)?;
    Ok(complaints.is_empty())
}

fn circles(folder: &Path, shows_imports: bool) -> Result<bool> {
    let package = rust::read_package(&Tree::read(folder)?, "")?;
    let name = |file: usize| package.files[file].path.as_str();
    if shows_imports {
        for import in package.imports() {
            out(format!("{}:{}: {} of {}", name(import.from), import.line, import.words, name(import.to)))?;
        }
    }
    let complaints = circles::check(&package);
    complaints.iter().try_for_each(out)?;
    Ok(complaints.is_empty())
}

fn json(line: &CommandLine) -> serde_json::Value {
    let CommandLine { file, line, words, is_partial } = line;
    serde_json::json!({ "file": file, "line": line, "words": words, "is_partial": is_partial })
}

/// Prints a line. Whoever reads may have seen enough: no more is said then.
fn out(line: impl Display) -> std::io::Result<()> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
