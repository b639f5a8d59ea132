//! `tidy`: looks for what the guards refuse, a line a complaint.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tidy::tree::Tree;

/// The guards of md-regress's work tree
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Circles of imports between the files of one package, tests apart
    ///
    /// Exit code 0 without a circle, 1 with some. Example: tidy circles reports
    Circles {
        /// Folder of the package, with its Cargo.toml
        folder: PathBuf,
        /// Every import between two files, also
        #[arg(long)]
        imports: bool,
    },
}

fn main() -> Result<ExitCode> {
    let Command::Circles { folder, imports } = Cli::parse().command;
    let complaints = circles(&folder, imports)?;
    Ok(if complaints { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[allow(clippy::print_stdout, reason = "the lines are what this program is for")]
fn circles(folder: &Path, shows_imports: bool) -> Result<bool> {
    let package = tidy::rust::read_package(&Tree::read(folder)?, "")?;
    if shows_imports {
        for import in package.imports() {
            println!(
                "{}:{} -> {} ({})",
                package.files[import.from].path, import.line, package.files[import.to].path, import.words
            );
        }
    }
    let complaints = tidy::circles::check(&package);
    for complaint in &complaints {
        println!("{complaint}");
    }
    Ok(!complaints.is_empty())
}
