//! `cargo xtask tidy`: asks the guards of package `tidy`, and puts each `cargo xtask …` line of the pages to
//! our own parser of command lines.
//!
//! The package is run as a program, so that nothing else that we do compiles its parsers of Rust and
//! Markdown.

use anyhow::{Context, Result, anyhow};

use harness::error::usage;
use harness::terminal::outln;
use harness::workspace::{cargo, workspace};
use vm_images::host::quick;

use crate::exit::Exit;

mod command_lines;

/// Options of `tidy`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TidyOptions {
    /// Ask every guard, also those that are off in xtask/tidy/tidy.toml
    #[arg(long, conflicts_with_all = ["only", "show_rooms"])]
    all: bool,
    /// Ask this guard alone, also if it is off
    #[arg(long, value_name = "GUARD", conflicts_with = "show_rooms")]
    only: Option<String>,
    /// Print a package's modules, what each imports, and the floors that this makes
    #[arg(long, value_name = "PACKAGE[::MODULE]")]
    show_rooms: Option<String>,
}

/// What `--help` adds: each guard, and how to see it fail.
pub(crate) const HELP: &str = "\
Prints nothing and exits with 0 if all is well; otherwise it prints a line per complaint,
`FILE:LINE: GUARD: what is wrong; how to mend it`, and exits with 1. It needs no VM and no store.

Guards, and how to see each of them fail:
  packages       a package depends only on those that [dependencies] of tidy.toml allows it
                 try: add `vm-images.workspace = true` to [dependencies] of reports/Cargo.toml
  headers        each Rust file opens with `//! `
                 try: delete all `//!` lines at the top of a file
  floors         a module imports only those of lower floors, by floors.toml; tests are left out
                 try: swap two floors of a package
  circles        the files of a package do not import each other in a circle; tests are left out
                 An import leads to the file that defines the name, whatever re-exports it; a
                 module and those within it may import each other.
                 try: `use crate::high::Name;` in a file that `high` imports
  cited          what comments, messages, pages, TOML files and scripts cite is in the repository,
                 and each link of a page leads to a file and a heading; [[elsewhere]] of tidy.toml
                 lists files that are rightly not here, with reasons
                 try: misspell the name of a page in a comment
  widths         comments are not wider than max_width of rustfmt.toml; lines with a URL may be
                 try: join two lines of a comment
  sizes          README.md and ARCHITECTURE.md have at most the bytes that tidy.toml gives them
                 try: lower one of the two there
  command-lines  each `cargo xtask …` line of a page is one that this program accepts
                 Words in capitals or <> stand for any value, … for a value or for any words, and
                 no file needs to exist.
                 try: write `cargo xtask tset` into README.md, as code

Both files lie in xtask/tidy. [guards] of tidy.toml turns them on and off.

Examples:
  cargo xtask tidy
  cargo xtask tidy --only circles
  cargo xtask tidy --show-rooms reports            the modules of a package, ready for floors.toml
  cargo xtask tidy --show-rooms harness::attempt   those within a module";

/// Prints what is not as it should be; `parser` is that of our own command line.
pub(crate) fn run(options: &TidyOptions, parser: &clap::Command) -> Result<Exit> {
    let asked = ask(options, &[])?;
    for line in asked.lines() {
        outln!("{line}");
    }
    if options.show_rooms.is_some() {
        return Ok(Exit::Passed);
    }
    let lines = ask(options, &["command-lines"])?;
    let refused = command_lines::refused(parser, &lines)?;
    for complaint in &refused {
        outln!("{complaint}");
    }
    Ok(if asked.is_empty() && refused.is_empty() { Exit::Passed } else { Exit::TestsFailed })
}

/// Standard output of the package's program.
fn ask(options: &TidyOptions, command: &[&str]) -> Result<String> {
    let shell = quick::shell(workspace())?;
    let cargo = cargo();
    let mut call = xshell::cmd!(shell, "{cargo} run --quiet --package tidy --");
    if options.all {
        call = call.arg("--all");
    }
    if let Some(guard) = &options.only {
        call = call.args(["--only", guard]);
    }
    if let Some(package) = &options.show_rooms {
        call = call.args(["--show-rooms", package]);
    }
    let output = call.args(command).quiet().ignore_status().output().context("failed to run cargo")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        // With 1, there are complaints.
        Some(0 | 1) => Ok(String::from_utf8(output.stdout)?),
        // What was asked makes no sense, or a file of the work tree doesn't.
        Some(2) => Err(usage(anyhow!("{}", stderr.trim().trim_start_matches("error: ")))),
        _ => Err(anyhow!("failed to run package `tidy`: {}", stderr.trim())),
    }
}
