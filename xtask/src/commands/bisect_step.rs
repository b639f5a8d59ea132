//! `xtask bisect-step`: tests a kernel tree as it is, for `git bisect run`.
//!
//! Any error of ours ends with an exit code at which git stops, never with one that blames a commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use harness::bisect::decide::Observation;
use harness::bisect::git::Repository;
use harness::bisect::target::Target;
use harness::bisect::trial;
use harness::error::usage;
use harness::run::options::Options;
use harness::run::settings::words_as_asked;
use harness::run::tries::Times;
use harness::session::Session;
use harness::terminal::{Terminal, outln};
use harness::workspace::absolute;
use reports::render::words::reproduce::shell_line;
use vm_images::host::Cancel;
use vm_images::spec::debian::DebianSpec;
use vm_images::spec::user::UserSource;
use vm_images::spec::{KernelSpec, Overlay};

use crate::commands::trial_options::TrialOptions;
use crate::exit::StepExit;

pub(crate) const STEP_HELP: &str = "\
Examples:
  cargo xtask bisect-step --print --overlay deb:6.12 lvconvert-raid-reshape     the line to give to git
  git bisect run /path/to/xtask bisect-step --overlay=deb:6.12 --signature=stop_sync_thread -- lvconvert-raid-reshape

Tests the work tree that it is called in, as it is: with what another program has applied to it.

Exit codes, for git:
  0    good
  1    bad
  125  skip: it does not build or boot, the tests skip, or they go wrong in another way than --signature says
  129  nothing is known: the host, the harness or the command line is at fault, and git stops
  130  interrupted, and git stops";

/// `cargo xtask bisect-step`.
#[derive(Debug, Args)]
pub(crate) struct StepOptions {
    /// Kernel tree (default: the one that it is called in)
    #[arg(long, value_name = "DIR")]
    pub(crate) kernel_tree: Option<PathBuf>,
    /// Build only its md, levels and dm-raid, on this kernel of Debian's
    #[arg(long, value_name = "SPEC")]
    pub(crate) overlay: Option<DebianSpec>,
    /// Only a failure that mentions this is bad; another is skipped
    #[arg(long, value_name = "TEXT")]
    pub(crate) signature: Option<String>,
    /// Try so many times; one failure is bad
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: u32,
    /// Print the line to give to git, and test nothing
    #[arg(long)]
    pub(crate) print: bool,
    #[command(flatten)]
    pub(crate) trial: TrialOptions,
}

/// Runs `step`; its errors and panics become exit codes that stop git.
pub(crate) fn guarded(
    terminal: &Terminal,
    cancel: &Cancel,
    step: impl FnOnce() -> Result<StepExit>,
) -> ExitCode {
    let exit = match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(exit)) => exit,
        Ok(Err(_)) if cancel.is_cancelled() => {
            terminal.say("bisect-step: interrupted");
            StepExit::Interrupted
        }
        Ok(Err(error)) => {
            terminal.say(&format!("bisect-step: nothing is known of this commit: {error:#}"));
            StepExit::Stop
        }
        // The panic has printed its message.
        Err(_) => StepExit::Stop,
    };
    exit.into()
}

pub(crate) fn run(session: &Session, options: StepOptions) -> Result<StepExit> {
    if !options.trial.selects() {
        return Err(usage(anyhow::anyhow!("which test? Name one, or give -E, --tag or --script")));
    }
    let StepOptions { kernel_tree, overlay, signature, repeat, print, trial } = options;
    let times = Times { repeat: Some(repeat), ..Times::default() };
    let tests = Options { times, ..Options::from(trial) };
    if print {
        let program = std::env::current_exe().context("failed to find our own program")?;
        let mut words =
            vec!["git".to_owned(), "bisect".to_owned(), "run".to_owned(), program.display().to_string()];
        words.push("bisect-step".to_owned());
        words.extend(kernel_tree.map(|tree| format!("--kernel-tree={}", absolute(&tree).display())));
        words.extend(overlay.map(|overlay| format!("--overlay={overlay}")));
        words.extend(signature.map(|text| format!("--signature={text}")));
        // A step has no history, whatever the options say.
        words.extend(words_as_asked(&tests).into_iter().filter(|word| word != "--no-history"));
        outln!("{}", shell_line(&words));
        return Ok(StepExit::Good);
    }
    let here = kernel_tree.as_deref().unwrap_or(Path::new("."));
    let tree = match Repository::open(&session.host, here, session.store.temporary()) {
        Ok(repository) => repository.top,
        // A tree that was named need not be a git repository.
        Err(_) if kernel_tree.is_some() => absolute(here),
        Err(error) => return Err(error),
    };
    let kernel = match overlay {
        Some(base) => KernelSpec::overlaid(base, Overlay::Tree(tree)),
        None => KernelSpec::built_from(UserSource::Tree(tree)),
    };
    let target = signature.map_or(Target::Anything, Target::words);
    let trial = trial::run(session, &tests, kernel)?;
    let (exit, text) = match target.observe(&trial) {
        Observation::Passed => (StepExit::Good, "good".to_owned()),
        Observation::Failed => {
            let what =
                target.met_by(&trial).map(|sighting| format!(": {} {}", sighting.test, sighting.in_short()));
            (StepExit::Bad, format!("bad{}", what.unwrap_or_default()))
        }
        Observation::Other(why) => (StepExit::Skip, format!("skip, it goes wrong in another way: {why}")),
        Observation::Untestable(why) => (StepExit::Skip, format!("skip: {why}")),
    };
    session.terminal.say(&format!("bisect-step: {}", reports::text::printable(&text)));
    Ok(exit)
}
