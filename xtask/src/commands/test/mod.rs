//! `cargo xtask test`: runs tests, and shows the results.

pub(crate) mod settings;

use std::path::PathBuf;

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use harness::error::usage;
use harness::machine::Tuning;
use harness::model;
use harness::run::history;
use harness::run::options::Options;
use harness::run::resume::Resumed;
use harness::run::shard::Shard;
use harness::run::{self, folder::default_runs};
use harness::session::Session;

use crate::exit::Exit;
use crate::options::{RunOptions, SelectionOptions, all};

pub(crate) const TEST_HELP: &str = "\
Examples:
  cargo xtask test                                   the two tests that found v6.7's regressions, on deb:6.12
  cargo xtask test --kernel deb:6.1 --kernel deb:6.12
  cargo xtask test 'lvconvert-raid-*'                names or globs, with or without shell/ and .sh
  cargo xtask test --tag reshape --exclude '*-load*'
  cargo xtask test -E 'lvcreate-raid.*'              a regular expression, searched in suite:name
  cargo xtask test --flavour udev-vanilla lvcreate-raid
  cargo xtask test --script hang.sh --script-needs ram=2G,disks=4x256M --kernel deb:6.1 --kernel deb:6.12
  cargo xtask test --repeat 40 integrity-caching     how often does it fail?
  cargo xtask test --for 2h --until-fail --tag reshape
  cargo xtask test --lvm2-src ~/src/lvm2 my-new-test your own LVM2, with the tests that it has
  cargo xtask test --suite mdadm --tag reshape       mdadm's own tests; --mdadm deb:4.2 for another version
  cargo xtask test --kernel deb:6.12+md:$HOME/linux  the md and dm-raid of your own kernel tree
  cargo xtask test --kernel git:$HOME/linux@v6.7     a kernel of your own

The report is in reports/out/latest: summary.md, junit.xml, verdicts.json, events.jsonl, and each
test's logs.";

#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    #[command(flatten)]
    selection: SelectionOptions,
    /// Run a script of your own as a test; may be given several times. It runs as LVM2's tests do: their
    /// folder, environment, and exit contract (0 passed, 200 skipped). Among its first lines it may say which
    /// reports of the kernel it causes on purpose, by their titles: `# md-regress: allow=REGEX`
    #[arg(long = "script", value_name = "FILE")]
    scripts: Vec<PathBuf>,
    /// What the scripts need, for example
    /// ram=2G,disks=4x256M,vcpus=2,timeout=20m,silence=90s,modules=raid456; disks are named in
    /// $MD_REGRESS_DISKS. A script may say it itself: `# md-regress: disks=4x256M`
    #[arg(long, value_name = "NEEDS", requires = "scripts")]
    script_needs: Option<String>,
    /// Write the guest's memory to the attempt's folder where a test hangs or the kernel crashes, for drgn or
    /// crash (as large as what the guest uses)
    #[arg(long)]
    dump: bool,
    /// Run shard I of N. Shards are balanced by recorded durations, so every shard must be given the same
    /// --history
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Go on with a run that was killed or interrupted: its folder, or its name (default: the newest). What
    /// is over stays; what had begun begins again
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = "latest")]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    run: RunOptions,
}

/// Refuses options that a resumed run cannot have: it continues as it began.
pub(crate) fn check_resume(matches: &ArgMatches, options: &TestOptions) -> anyhow::Result<()> {
    if options.resume.is_none() {
        return Ok(());
    }
    let matches = matches.subcommand().map_or(matches, |(_, below)| below);
    let command = TestOptions::augment_args(clap::Command::new("test"));
    let other = command.get_arguments().find(|argument| {
        let id = argument.get_id().as_str();
        !["resume", "n_vms", "out"].contains(&id)
            && matches.try_contains_id(id).is_ok()
            && matches.value_source(id) == Some(ValueSource::CommandLine)
    });
    match other {
        None => Ok(()),
        Some(argument) => {
            let name = argument.get_long().map_or("the tests".to_owned(), |name| format!("--{name}"));
            Err(usage(anyhow::anyhow!(
                "a run that is resumed goes on as it began: leave out {name} (-j may change)"
            )))
        }
    }
}

impl From<TestOptions> for Options {
    fn from(options: TestOptions) -> Self {
        Options {
            kernels: all(options.run.kernels),
            suite: options.run.suite,
            selection: options.selection.into_selection(),
            sources: options.run.guest.sources.into(),
            flavours: options.run.flavours,
            scripts: options.scripts,
            script_needs: options.script_needs,
            append: options.run.guest.append,
            accel: options.run.guest.accel,
            times: options.run.times.into(),
            policy: options.run.policy.into(),
            shard: options.shard,
            n_vms: options.run.n_vms.map(usize::from),
            out: options.run.out,
            history: (!options.run.no_history)
                .then(|| options.run.history.unwrap_or_else(history::default_file)),
            debug_info: options.run.debug_info,
            snapshots: !options.run.guest.no_snapshot,
            dump: options.dump,
            tuning: Tuning::default(),
        }
    }
}

pub(crate) fn run(session: &Session, mut options: TestOptions) -> Result<Exit> {
    let cut_off = options.resume.take();
    let options = Options::from(options);
    let finished = match cut_off {
        Some(run) => {
            let runs = options.out.clone().unwrap_or_else(default_runs);
            let resumed = Resumed::take_over(&run, &runs)?;
            let then = settings::options(resumed.settings()).map_err(usage)?;
            let options = resumed.options(then, options.n_vms)?;
            resumed.check_scripts()?;
            run::go_on(session, &options, resumed)?
        }
        None if options.suite == model::suite::NAME => model::suite::run(session, &options)?,
        None => run::run(session, &options)?,
    };
    let Some(finished) = finished else {
        session.terminal.say("nothing to run: no test is selected");
        return Ok(Exit::NothingRan);
    };
    Ok(finished.show(&session.terminal, &finished.dir).into())
}
