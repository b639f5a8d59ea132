//! `cargo xtask bench`: the figures of docs/figures.md, each measured on the spot. Compared alternatives take
//! turns within one call, and ratios of medians are printed, because the speed of machines drifts.

mod bisect;
mod build;
mod command;
mod conditions;
mod edits;
mod figures;
mod hang;
mod model;
mod overhead;
mod page;
mod report;
mod setup;
mod step;
pub(crate) mod suite;
mod virtme;
mod vm;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{ArgMatches, Args, Command, Subcommand};
use harness::machine::accel::AccelChoice;
use harness::machine::{Accel, Tuning};
use harness::run::prepare::{self, Prepared};
use harness::run::{self, Options};
use harness::session::Session;
use harness::suite::select::Selection;
use harness::terminal::out;
use harness::workspace::{absolute, workspace};
use reports::Verdict;
use reports::record::AttemptState;
use vm_images::build::checkout::Sources;
use vm_images::spec::KernelSpec;

use crate::bench::conditions::Conditions;
use crate::bench::figures::Figures;
use crate::bench::suite::BenchSuiteOptions;
use crate::exit::Exit;

pub(crate) const BENCH_VM_HELP: &str = "\
Examples:
  cargo xtask bench vm
  cargo xtask bench vm --rounds 20 --no-virtme
  cargo xtask bench vm --no-virtme --kernel deb:6.12     the kernel that tests run on
  cargo xtask bench vm --accel kvm --markdown            KVM or an error; a report to send

virtme-ng comes from PyPI by pip, into the store; it is given the same QEMU, accelerator, kernel,
memory and processor.";

const BENCH_HANG_HELP: &str = "\
Examples:
  cargo xtask bench hang --rounds 1 --pairs 1
  cargo xtask bench hang --rounds 1 --pairs 1 --markdown     a report to send
  cargo xtask bench hang --accel kvm                         KVM or an error that says why not";

const BENCH_OVERHEAD_HELP: &str = "\
Examples:
  cargo xtask bench overhead
  cargo xtask bench overhead --pairs 1 --accel tcg --markdown     a report to send";

const BENCH_SETUP_HELP: &str = "\
Examples:
  cargo xtask bench setup
  cargo xtask bench setup --accel kvm     KVM or an error that says why not";

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Set up an empty store; then from the second start to the first test's first line
    #[command(after_help = BENCH_SETUP_HELP)]
    Setup {
        #[command(flatten)]
        accel: AccelOption,
    },
    /// What the harness costs a test, and what memory a flood of output costs the harness
    #[command(after_help = BENCH_OVERHEAD_HELP)]
    Overhead {
        /// Pairs of runs to take the median of
        #[arg(long, default_value_t = 4)]
        pairs: usize,
        #[command(flatten)]
        accel: AccelOption,
    },
    /// What a step of a search over commits of md takes, against a boot and a build from nothing, and with
    /// --kernel-tree against make in a whole tree; with --simulate how often whole searches are right, and
    /// what they cost, against repeating each step until it is sure
    Bisect {
        /// Whole searches by lot: no kernel is built, no VM runs
        #[arg(long)]
        simulate: bool,
        /// Real steps of each kind
        #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "simulate")]
        rounds: usize,
        /// A whole kernel tree, to run make in a copy of it: as it stands a step, and once from nothing
        #[arg(long, value_name = "DIR", conflicts_with = "simulate")]
        kernel_tree: Option<PathBuf>,
        /// Searches
        #[arg(long, value_name = "N", default_value_t = 2000)]
        searches: u64,
        /// Commits to search
        #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=100_000))]
        commits: usize,
        /// How often a trial of a bad commit fails
        #[arg(long, value_name = "P", default_value_t = 0.3)]
        rate: f64,
        /// How often any trial fails by chance, for the table of searches whose failures bear no mark
        #[arg(
            long,
            value_name = "P,…",
            default_value = "0,0.02,0.05,0.1",
            value_delimiter = ',',
            requires = "simulate"
        )]
        noise: Vec<f64>,
        /// Searches of each line of that table
        #[arg(long, value_name = "N", default_value_t = 400, requires = "simulate")]
        cell: u64,
        /// The number that the first search's random numbers start from
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        #[command(flatten)]
        accel: AccelOption,
    },
    /// The model: the whole table, states per second, memory; and the quick part of it that `selftest` runs
    Model {
        /// Only the quick part
        #[arg(long)]
        quick: bool,
    },
    /// What an edit of md costs until its modules can be plugged in, and the same from nothing, which must
    /// give the same modules
    Build {
        /// Edits of each file to take the median of
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Ask for a VM, have a command's output, VM gone: ours and virtme-ng's; memory of VMs, disk of a
    /// snapshot
    #[command(after_help = BENCH_VM_HELP)]
    Vm {
        /// Times that each way is gone; medians are shown
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: u32,
        /// Leave virtme-ng out
        #[arg(long)]
        no_virtme: bool,
        /// Kernel that both boot; one for any machine, because virtme-ng's root wants 9p, which those for the
        /// cloud lack
        #[arg(long, value_name = "SPEC", default_value = "deb:6.12-amd64")]
        kernel: KernelSpec,
        #[command(flatten)]
        accel: AccelOption,
    },
    /// 20 RAID tests of LVM2's by our scheduler and by LVM2's own runner in one VM: wall times, verdicts side
    /// by side
    #[command(after_help = suite::BENCH_SUITE_HELP)]
    Suite(BenchSuiteOptions),
    /// Make a git repository of the real drivers/md with a bug planted in one of 37 commits, to search it
    #[command(alias = "history")]
    Commits {
        /// Folder to make it in
        dir: PathBuf,
        /// The bug, of suites/planted/plants
        #[arg(long, value_name = "NAME", default_value = "e3")]
        plant: String,
    },
    /// From a test's last move to the verdict and to the evidence; what watching costs
    #[command(after_help = BENCH_HANG_HELP)]
    Hang {
        /// Hangs of each kind
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Pairs of runs, watched and not, to take the median of
        #[arg(long, default_value_t = 3)]
        pairs: usize,
        #[command(flatten)]
        accel: AccelOption,
    },
}

/// The accelerator of a bench that starts VMs; both sides of a comparison have the same one.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct AccelOption {
    /// How guest code is executed
    #[arg(long, value_enum, default_value_t, env = "MD_REGRESS_ACCEL")]
    accel: AccelChoice,
}

/// Test whose overhead is measured: a test of dm-raid, short enough for several pairs, and as talkative as
/// all of them.
const TEST: &str = "shell/component-raid.sh";
/// Memory of a compared VM, MiB; as much as LVM2's tests need.
const BENCH_RAM_MIB: u32 = 2048;

/// Parameters of a bench, and the destination of its figures.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
    /// Also print a report in Markdown, to be pasted into an issue or a mail: conditions and figures, without
    /// paths. With a file, put it there instead, between the markers of the bench
    #[arg(long, global = true, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub(crate) markdown: Option<Option<PathBuf>>,
}

impl BenchCommand {
    /// Name of its markers in the page of figures.
    fn name(&self) -> &'static str {
        match self {
            BenchCommand::Setup { .. } => "setup",
            BenchCommand::Overhead { .. } => "overhead",
            BenchCommand::Build { .. } => "build",
            BenchCommand::Bisect { simulate: false, .. } => "bisect",
            BenchCommand::Bisect { simulate: true, .. } => "bisect-simulate",
            BenchCommand::Model { .. } => "model",
            BenchCommand::Vm { .. } => "vm",
            BenchCommand::Suite(_) => "suite",
            BenchCommand::Commits { .. } => "commits",
            BenchCommand::Hang { .. } => "hang",
        }
    }
}

/// Measures, and makes a report if one was asked for. `matches` are what `command`, the whole command line's,
/// made of this one.
pub(crate) fn run(
    session: &Session,
    options: &BenchOptions,
    command: &Command,
    matches: &ArgMatches,
) -> Result<Exit> {
    let name = options.command.name();
    // Before anything is measured, which takes minutes.
    if let Some(Some(page)) = &options.markdown {
        page::check(page, name)?;
    }
    let figures = Figures::on_stdout();
    let measured = measure_all(session, &options.command, &figures);
    let Some(page) = &options.markdown else { return measured };
    // What was measured before an error is worth a report, but not the page's place.
    if let Err(error) = &measured {
        figures.note(format!("ended early: {error:#}"));
    }
    let (blocks, machines) = figures.into_parts();
    let conditions = Conditions::of(command::shown(command, matches), machines);
    let report = report::render(name, &conditions, &blocks, &users_folders(session, &options.command));
    match page {
        Some(page) if measured.is_ok() => page::write(page, name, &report)?,
        Some(_) | None => out(&format!("\n{report}")),
    }
    measured
}

/// Folders of the user's that no report names: where a bench keeps what it measured, the store, the work
/// tree, the current folder, and home.
fn users_folders(session: &Session, command: &BenchCommand) -> Vec<String> {
    let out = if let BenchCommand::Suite(options) = command { options.asked().out } else { None };
    let folders = [
        out.as_deref().map(absolute),
        Some(session.store.root().to_owned()),
        Some(workspace().to_owned()),
        std::env::current_dir().ok(),
        std::env::var_os("HOME").map(PathBuf::from),
    ];
    folders.into_iter().flatten().map(|folder| folder.display().to_string()).collect()
}

fn measure_all(session: &Session, command: &BenchCommand, figures: &Figures) -> Result<Exit> {
    match command {
        BenchCommand::Setup { accel } => setup::setup(session, figures, accel.accel),
        BenchCommand::Overhead { pairs, accel } => overhead::overhead(session, figures, accel.accel, *pairs),
        BenchCommand::Build { rounds } => build::build(session, figures, *rounds),
        BenchCommand::Bisect { simulate: false, rounds, kernel_tree, accel, .. } => {
            step::steps(session, figures, accel.accel, *rounds, kernel_tree.as_deref())
        }
        BenchCommand::Bisect { simulate: true, searches, cell, commits, rate, noise, seed, .. } => {
            let simulation = bisect::Simulation {
                n_searches: *searches,
                n_of_cell: *cell,
                n_commits: *commits,
                rate: *rate,
                noise: noise.clone(),
                seed: *seed,
            };
            bisect::simulate(figures, &simulation)
        }
        BenchCommand::Model { quick } => model::model(figures, *quick),
        BenchCommand::Vm { rounds, no_virtme, kernel, accel } => {
            vm::vm(session, figures, accel.accel, kernel, *rounds, !no_virtme)
        }
        BenchCommand::Suite(options) => suite::suite(session, figures, &options.asked()),
        BenchCommand::Commits { dir, plant } => bisect::commits(session, figures, dir, plant),
        BenchCommand::Hang { rounds, pairs, accel } => {
            hang::hang(session, figures, accel.accel, *rounds, *pairs)
        }
    }
}

struct RunTimes {
    test_s: f64,
    /// Time from the agent's answer to the end of the VM, without the test's, seconds.
    around_s: f64,
    /// CPU time that sampling took in the guest, seconds; `None` if the test was not watched.
    sampling_s: Option<f64>,
}

/// Prepares everything that [`options`] want before any time is measured, and settles the accelerator, so
/// that all runs of a bench have the same one.
fn prepared(session: &Session, figures: &Figures, accel: AccelChoice) -> Result<(Prepared, AccelChoice)> {
    let specs = options(accel, "lvm2", None, Path::new(""))?.kernels;
    let prepared = prepare::prepare(session, &specs, &Sources::default(), accel)?;
    let settled = match prepared.chosen.accel {
        Accel::Kvm => AccelChoice::Kvm,
        Accel::Tcg => AccelChoice::Tcg,
    };
    for kernel in &prepared.kernels {
        let accel = prepared.chosen.accel.to_string();
        figures.ran_on(&prepared.qemu.version, &accel, &kernel.kernel.release);
    }
    Ok((prepared, settled))
}

/// Options for one test of a suite, or for none of its tests, in a VM of its own.
fn options(accel: AccelChoice, suite: &str, name: Option<&str>, out: &Path) -> Result<Options> {
    Ok(Options {
        accel,
        kernels: vec!["deb:6.12".parse()?],
        selection: Selection {
            patterns: name.iter().map(|&name| name.to_owned()).collect(),
            ..Selection::default()
        },
        n_vms: Some(1),
        out: Some(out.to_owned()),
        ..Options::new(suite)
    })
}

fn one(
    session: &Session,
    figures: &Figures,
    accel: AccelChoice,
    suite: &str,
    name: &str,
    tuning: Tuning,
) -> Result<RunTimes> {
    let out = scratch(session)?;
    measure(session, figures, &Options { tuning, ..options(accel, suite, Some(name), out.path())? })
}

fn scratch(session: &Session) -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(session.store.temporary());
    folder.context("failed to make a folder")
}

fn measure(session: &Session, figures: &Figures, options: &Options) -> Result<RunTimes> {
    let ran = run::run(session, options)?.context("no test was selected")?;
    figures.ran(&ran.record);
    let judged = ran.judged.first().context("nothing was judged")?;
    ensure!(
        matches!(judged.verdict, Verdict::Passed | Verdict::PassedWithComplaints),
        "{} came out {}: {}",
        judged.test,
        judged.verdict,
        judged.explanation()
    );
    let attempt = ran.record.attempts.first().context("nothing was tried")?;
    let AttemptState::Finished { facts, .. } = &attempt.state else {
        anyhow::bail!("the test did not finish")
    };
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    let test_ms = facts.test_ms.context("the test was not timed")?;
    let ready_ms = attempt.ready_after_ms.context("the VM was not ready")?;
    Ok(RunTimes {
        test_s: seconds(test_ms),
        sampling_s: facts.sampling_ms.map(seconds),
        around_s: seconds(facts.vm_ms.saturating_sub(ready_ms + test_ms)),
    })
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// Peak memory of this process, MB (`VmHWM`, proc(5)).
fn peak_memory_mb() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    /// The parsed bench of a command line behind `cargo xtask bench`.
    fn parsed(line: &str) -> BenchCommand {
        let words = ["xtask", "bench"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            crate::cli::Command::Bench(options) => options.command,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn each_bench_with_vms_takes_an_accelerator() {
        for name in ["setup", "overhead", "bisect", "vm", "suite", "hang"] {
            for (word, choice) in [("kvm", AccelChoice::Kvm), ("tcg", AccelChoice::Tcg)] {
                let accel = match parsed(&format!("{name} --accel {word}")) {
                    BenchCommand::Setup { accel }
                    | BenchCommand::Overhead { accel, .. }
                    | BenchCommand::Bisect { accel, .. }
                    | BenchCommand::Vm { accel, .. }
                    | BenchCommand::Hang { accel, .. } => accel.accel,
                    BenchCommand::Suite(options) => options.asked().accel,
                    other => panic!("{other:?} starts no VM"),
                };
                assert_eq!(accel, choice, "{name}");
            }
            let command = Cli::command();
            let bench = command.find_subcommand("bench").and_then(|bench| bench.find_subcommand(name));
            let option = bench.unwrap().get_arguments().find(|option| option.get_id() == "accel").unwrap();
            assert_eq!(option.get_default_values(), ["auto"], "{name}");
            assert_eq!(option.get_env().unwrap(), "MD_REGRESS_ACCEL", "{name}");
        }
    }

    #[test]
    fn a_report_is_printed_or_put_into_a_file() {
        let markdown = |line: &str| {
            let words = ["xtask", "bench"].into_iter().chain(line.split(' '));
            match Cli::try_parse_from(words).unwrap().command {
                crate::cli::Command::Bench(options) => options.markdown,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(markdown("vm"), None);
        assert_eq!(markdown("vm --markdown --rounds 1"), Some(None));
        assert_eq!(markdown("vm --markdown=a.md"), Some(Some("a.md".into())));
    }

    #[test]
    fn medians() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&mut [4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }
}
