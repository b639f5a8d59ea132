//! `cargo xtask selftest`: exactly what CI runs. Formatting, lints, tidiness, unit tests, the quick part of
//! the model's table, and then checks on real QEMU ([`crate::smoke`]).

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use harness::clock::millis;
use harness::error::usage;
use harness::session::Session;
use harness::terminal::outln;
use harness::workspace::{self, shown_path, workspace};
use reports::text::duration;
use vm_images::host::progress::Progress;

use crate::commands::model;
use crate::commands::tidy::{self, TidyOptions};
use crate::exit::Exit;
use crate::outer;
use crate::smoke::{self, Check, kept, kvm};

#[derive(Debug, Args)]
pub(crate) struct SelftestOptions {
    /// Leave out what boots a VM
    #[arg(long, conflicts_with = "only_vm")]
    pub(crate) no_vm: bool,
    /// Only what boots a VM
    #[arg(long)]
    pub(crate) only_vm: bool,
    /// Only the checks under KVM, all of them: on this host, or, if its KVM does not work, in an emulated
    /// machine whose kernel has KVM (a quarter of an hour, 1 GB of disk, up to 6 GiB of memory)
    #[arg(long, conflicts_with_all = ["no_vm", "only_vm"])]
    pub(crate) kvm: bool,
    /// With --kvm: only the nine short checks that a plain self-test makes of it
    #[arg(long, requires = "kvm")]
    pub(crate) short: bool,
    /// With --kvm: this is the emulated machine
    #[arg(long, requires = "kvm", hide = true)]
    pub(crate) inside: bool,
    /// With --kvm: no checks, but this command in the emulated machine, even where KVM works
    #[arg(last = true, requires = "kvm", conflicts_with_all = ["short", "filter"], value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// Of the checks that boot a VM, only those whose name contains this
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
}

impl SelftestOptions {
    /// True if a check of this name is to be made.
    fn wants(&self, name: &str) -> bool {
        self.filter.as_deref().is_none_or(|wanted| name.contains(wanted))
    }
}

/// Cargo's own checks: a name, and cargo's arguments.
const CARGO_CHECKS: [(&str, &[&str]); 3] = [
    ("format", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
    ("unit tests", &["test", "--quiet", "--workspace"]),
];

/// `parser` is that of our own command line: the pages' commands are put to it.
pub(crate) fn run(session: &Session, options: &SelftestOptions, parser: &clap::Command) -> Result<Exit> {
    let started = Instant::now();
    let mut tally = Tally::default();
    if options.kvm {
        return check_kvm(session, options, started);
    }
    if !options.only_vm {
        for (name, arguments) in CARGO_CHECKS {
            session.terminal.timed(&format!("checking {name}"));
            tally.count(session, name, || cargo(session, arguments));
        }
        session.terminal.timed("checking the quick part of the model's table");
        tally.count(session, "model", model::check_quick);
        tally.count(session, "tidy", || {
            anyhow::ensure!(
                tidy::run(&TidyOptions::default(), parser)? == Exit::Passed,
                "see the lines above"
            );
            Ok(())
        });
    }
    if !options.no_vm {
        tally.on_guests(session, options, smoke::CHECKS);
    }
    Ok(tally.told(session, started))
}

/// The checks under KVM, or another command in an outer guest.
fn check_kvm(session: &Session, options: &SelftestOptions, started: Instant) -> Result<Exit> {
    if options.inside && !outer::is_here() {
        return Err(usage(anyhow::anyhow!("--inside changes the machine: it is for the emulated one only")));
    }
    if !options.command.is_empty() {
        let words: Vec<_> = options.command.iter().map(String::as_str).collect();
        return in_outer_guest(session, &words);
    }
    if !kvm::checks(!options.short, true).any(|(name, _)| options.wants(name)) {
        return Err(usage(anyhow::anyhow!("no check's name contains what --filter says")));
    }
    if options.inside || kvm::works_here(session)? {
        let mut tally = Tally::default();
        tally.on_guests(session, options, kvm::checks(!options.short, options.inside));
        return Ok(tally.told(session, started));
    }
    let mut words = vec!["selftest", "--kvm", "--inside"];
    words.extend(options.short.then_some("--short"));
    words.extend(options.filter.iter().flat_map(|filter| ["--filter", filter]));
    in_outer_guest(session, &words)
}

/// Runs xtask with `words` in an outer guest, and ends as that did.
fn in_outer_guest(session: &Session, words: &[&str]) -> Result<Exit> {
    let code = kvm::in_outer_guest(session, words)?;
    let known = [Exit::Passed, Exit::TestsFailed, Exit::Usage, Exit::NothingRan, Exit::Interrupted];
    Ok(known.into_iter().find(|exit| i32::from(exit.code()) == code).unwrap_or(Exit::Infra))
}

#[derive(Debug, Default)]
struct Tally {
    n_passed: u32,
    n_failed: u32,
}

impl Tally {
    /// Makes those of `checks` that are wanted.
    fn on_guests(
        &mut self,
        session: &Session,
        options: &SelftestOptions,
        checks: impl IntoIterator<Item = Check>,
    ) {
        for (name, check) in checks {
            if !options.wants(name) {
                continue;
            }
            session.terminal.timed(&format!("checking on a real guest: {name}"));
            self.count(session, name, || check(session));
        }
    }

    /// Says what came out.
    fn told(&self, session: &Session, started: Instant) -> Exit {
        if session.host.cancel().is_cancelled() {
            return Exit::Interrupted;
        }
        let Tally { n_passed, n_failed } = self;
        outln!("{n_passed} passed, {n_failed} failed in {}", duration(millis(started.elapsed())));
        match (n_passed, n_failed) {
            (_, 1..) => Exit::TestsFailed,
            (0, 0) => Exit::NothingRan,
            (1.., 0) => Exit::Passed,
        }
    }

    fn count(&mut self, session: &Session, name: &str, check: impl FnOnce() -> Result<()>) {
        if session.host.cancel().is_cancelled() {
            return;
        }
        let started = Instant::now();
        let before = kept::folders(session);
        let result = check();
        session.terminal.end_step();
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                self.n_passed += 1;
                outln!("ok      {seconds:6.1} s  {name}");
            }
            Err(error) => {
                self.n_failed += 1;
                outln!("FAILED  {seconds:6.1} s  {name}: {error:#}");
                match kept::keep(session, &before) {
                    Ok(Some(folder)) => outln!("        its runs: {}/", shown_path(&folder)),
                    Ok(None) => {}
                    Err(error) => session.terminal.note(&format!("{error:#}")),
                }
            }
        }
    }
}

/// Runs cargo with its output shown.
fn cargo(session: &Session, arguments: &[&str]) -> Result<()> {
    let log = session.store.temporary().join("cargo.log");
    let call = session.host.call(workspace::cargo()).dir(workspace()).args(arguments);
    let result = call.run(&log);
    if result.is_err()
        && let Ok(text) = std::fs::read_to_string(&log)
    {
        outln!("{text}");
    }
    Ok(result?)
}
