//! `cargo xtask series`: builds and tests every commit of a patch series.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use harness::bisect::git::{Repository, Scratch, ScratchError};
use harness::bisect::series::Table;
use harness::bisect::state::KernelSource;
use harness::bisect::trial::{self, check_room, is_infra, pinned, room_needed_mib, spec};
use harness::error::usage;
use harness::run::folder::create_folder;
use harness::run::folder::default_runs;
use harness::run::options::Options;
use harness::run::tries::Times;
use harness::session::Session;
use harness::terminal::{out, outln};
use harness::workspace::shown_path;
use vm_images::host::progress::Progress;
use vm_images::spec::debian::DebianSpec;

use crate::commands::trial_options::TrialOptions;
use crate::exit::Exit;

pub(crate) const SERIES_HELP: &str = "\
Examples:
  cargo xtask series --kernel-tree ~/linux --base v6.12.95 --tip HEAD --overlay deb:6.12 -E lvconvert-raid-reshape.sh
  cargo xtask series --kernel-tree ~/linux --base origin/master --mbox v2-series.mbox --overlay deb:6.12 integrity-caching

The exit code is 0 if every test passed on every commit after the base, 1 if not; else as for `test`.";

/// `cargo xtask series`.
#[derive(Debug, Args)]
pub(crate) struct SeriesOptions {
    /// Kernel tree, a git repository; it is only read
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) kernel_tree: PathBuf,
    /// What the series is based on
    #[arg(long, value_name = "REV")]
    pub(crate) base: String,
    /// Its last commit
    #[arg(long, value_name = "REV", required_unless_present = "mbox", conflicts_with = "mbox")]
    pub(crate) tip: Option<String>,
    /// Or the mails that it came in
    #[arg(long, value_name = "FILE")]
    pub(crate) mbox: Option<PathBuf>,
    /// Build only md, its levels and dm-raid of each commit, on this kernel of Debian's; without it, whole
    /// kernels
    #[arg(long, value_name = "SPEC")]
    pub(crate) overlay: Option<DebianSpec>,
    /// Try each test so many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: u32,
    #[command(flatten)]
    pub(crate) trial: TrialOptions,
}

pub(crate) fn run(session: &Session, options: SeriesOptions) -> Result<Exit> {
    if !options.trial.selects() {
        return Err(usage(anyhow::anyhow!("which tests? Name some, or give -E, --tag or --script")));
    }
    let repository = Repository::open(&session.host, &options.kernel_tree, session.store.temporary())?;
    let base = repository.commit(&options.base)?;
    repository.check_md(&base)?;
    let overlay = options.overlay.as_ref().map(|overlay| pinned(session, overlay)).transpose()?;
    let scratch;
    let (tree, commits) = match (&options.tip, &options.mbox) {
        (Some(tip), _) => {
            let tip = repository.commit(tip)?;
            repository.check_ancestor(&base, &tip, ("base", "tip"))?;
            let graph = repository.graph(&base, &tip, &[])?;
            let commits =
                graph.subjects().iter().map(|subject| (subject.id.clone(), subject.title.clone())).collect();
            (repository.top.clone(), commits)
        }
        (None, Some(mbox)) => {
            scratch = Scratch::create(&repository, &session.store.temporary().join("series"))?;
            let ids = scratch.apply_mailbox(&base.id, mbox).map_err(|error| match error {
                ScratchError::DoesNotApply(why) => {
                    usage(anyhow::anyhow!("`{}` does not apply to `{}`: {why}", mbox.display(), base.name))
                }
                ScratchError::Failed(error) => error,
            })?;
            let ours = Repository::open(&session.host, scratch.dir(), session.store.temporary())?;
            let named = ids.iter().map(|id| ours.commit(id).map(|commit| (commit.id, commit.title)));
            (scratch.dir().to_owned(), named.collect::<Result<Vec<_>>>()?)
        }
        (None, None) => unreachable!("one of them is required"),
    };
    if commits.is_empty() {
        return Err(usage(anyhow::anyhow!("the series has no commit on top of `{}`", base.name)));
    }
    let source = KernelSource::Commits { tree, overlay, paths: vec![] };
    check_room(session.store.root(), room_needed_mib(&source, 0))?;
    let dir = create_folder(&options.trial.out().unwrap_or_else(default_runs), "series-")?;
    let times = Times { repeat: Some(options.repeat), ..Times::default() };
    let tests = Options { times, out: Some(dir.join("runs")), ..Options::from(options.trial) };
    let all: Vec<(String, String)> = [(base.id, base.title)].into_iter().chain(commits).collect();
    let (mut table, mut is_all_known) = (Table::default(), true);
    for (number, (id, title)) in all.iter().enumerate() {
        let what = if number == 0 { "base".to_owned() } else { format!("{number} of {}", all.len() - 1) };
        session.terminal.timed(&format!("{what}: {} (\"{title}\")", harness::bisect::state::short(id)));
        match trial::run(session, &tests, spec(&source, id)) {
            Ok(trial) => table.add(number, id, title, &trial),
            // The other commits are still worth testing.
            Err(error) if is_infra(&error) => {
                session.terminal.note(&format!("{error:#}"));
                table.add_unknown(number, id, title, &format!("{:#}", error.root_cause()));
                is_all_known = false;
            }
            Err(error) => return Err(error),
        }
        // Written after each commit, so that it is not lost if a later one fails.
        let path = dir.join("series.md");
        fs::write(&path, table.markdown())
            .with_context(|| format!("failed to write `{}`", path.display()))?;
    }
    out(&table.markdown());
    outln!("report: {}", shown_path(&dir.join("series.md")));
    Ok(match (table.all_passed(), is_all_known) {
        (_, false) => Exit::Infra,
        (true, true) => Exit::Passed,
        (false, true) => Exit::TestsFailed,
    })
}
