//! `cargo xtask bisect`: begins or continues a search, shows its progress, and writes its reports.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use harness::bisect::conduct::{Ended, Listener, search};
use harness::bisect::decide::{Conclusion, Observation, Position, Purpose, SearchRules, passes_that_tell};
use harness::bisect::exclusive::SearchLock;
use harness::bisect::git::{Repository, Scratch, ScratchError};
use harness::bisect::graph::Graph;
use harness::bisect::observe::{Sighting, Trial};
use harness::bisect::published::{VersionRange, several_branches};
use harness::bisect::report;
use harness::bisect::search::steps_left;
use harness::bisect::state::{FORMAT, KernelSource, Question, Reverted, SearchEnd, SearchState};
use harness::bisect::trial::{Tester, Trials, check_room, pinned, room_needed_mib};
use harness::error::usage;
use harness::run::folder::create_folder;
use harness::run::folder::default_runs;
use harness::run::options::Options;
use harness::run::order;
use harness::run::script_record;
use harness::run::settings::words_as_asked;
use harness::session::Session;
use harness::terminal::outln;
use harness::workspace::shown_path;
use vm_images::host::progress::Progress;
use vm_images::kernel::overlay;
use vm_images::spec::debian::DebianSpec;

use crate::commands::test::settings;
use crate::commands::trial_options::{TrialOptions, probability, rate};
use crate::exit::Exit;

pub(crate) const BISECT_HELP: &str = "\
Examples:
  cargo xtask bisect --kernel-tree ~/linux --good v6.12.95 --bad HEAD --overlay deb:6.12 -E lvconvert-raid-reshape.sh
  cargo xtask bisect --kernel-tree ~/linux --good v6.6 --bad v6.7 --script repro.sh -- drivers/md
  cargo xtask bisect --kernels deb:6.12.43..6.12.117 --script repro.sh     Debian's builds: nothing is built
  cargo xtask bisect --kernels deb:6.12.107..6.12.111 --find-fix --script repro.sh
  cargo xtask bisect --resume                    go on where the newest search was cut off

Both ends are tested first. From then on only the failure that was seen at the bad end counts: what fails in
another way, does not build, does not boot or skips is left out, and said. A test that fails only sometimes is
tried as often as it takes. Where the kernel reports nothing, failures by chance look alike: how often they come
is learnt from the passing end and all other trials, and --signature leaves them out. The tree is only read. The
report is in reports/out/bisect-<time>/: report.txt, bisect.log (for `git bisect replay`), state.json, and each run
below runs/.

Exit codes:
  0    one commit was found
  1    it is one of several, which no test tells apart, or only the most likely one
  2    the question makes no sense: no repository, no such revision, an end that is not as it was said to be
  4    the harness or the host failed; nothing is known, --resume goes on
  130  interrupted; --resume goes on";

/// `cargo xtask bisect`.
#[derive(Debug, Args)]
pub(crate) struct BisectOptions {
    /// Kernel tree, a git repository; it is only read
    #[arg(long, value_name = "DIR", conflicts_with = "range")]
    pub(crate) kernel_tree: Option<PathBuf>,
    /// Revision without the bug
    #[arg(long, value_name = "REV", requires = "kernel_tree")]
    pub(crate) good: Option<String>,
    /// Revision with the bug
    #[arg(long, value_name = "REV", requires = "kernel_tree")]
    pub(crate) bad: Option<String>,
    /// Build only md, its levels and dm-raid of each commit, on this kernel of Debian's; without it, whole
    /// kernels
    #[arg(long, value_name = "SPEC", requires = "kernel_tree")]
    pub(crate) overlay: Option<DebianSpec>,
    /// Search Debian's builds, as deb:6.12.43..6.12.117, instead of a tree's commits
    #[arg(id = "range", long = "kernels", value_name = "RANGE")]
    pub(crate) range: Option<VersionRange>,
    /// The bug is in the older one: find what mended it
    #[arg(long)]
    pub(crate) find_fix: bool,
    /// Try each end so many times at least (default: as often as it takes)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: Option<u32>,
    /// Go on until the answer is that likely
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = probability)]
    pub(crate) confidence: f64,
    /// How often the test is believed to fail by chance, before any trial, where the kernel does not report
    /// what failed: 5%, or 0.05 (default: 3%; trials tell more, first of all those of the passing end)
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) chance_failures: Option<f64>,
    /// Only a failure that mentions this counts: in its signature, known issue, detail or last lines
    #[arg(long, value_name = "TEXT")]
    pub(crate) signature: Option<String>,
    /// Go on with a search that was cut off, as it was asked: its folder (default: the newest)
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        default_missing_value = "latest",
        conflicts_with_all = ["kernel_tree", "range", "find_fix", "repeat", "confidence", "chance_failures", "signature", "scripts", "paths"]
    )]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) trial: TrialOptions,
    /// Only commits that touch these, relative to the tree's top (default with --overlay: what it builds)
    #[arg(last = true, value_name = "PATH")]
    pub(crate) paths: Vec<String>,
}

/// Beginning of the names of searches' folders, before the time.
const FOLDER: &str = "bisect-";

pub(crate) fn run(session: &Session, options: BisectOptions) -> Result<Exit> {
    let out = options.trial.out().unwrap_or_else(default_runs);
    let options_are_new = options.resume.is_none();
    let (dir, mut state, _lock) = match &options.resume {
        Some(named) => {
            if options.trial.selects() {
                return Err(usage(anyhow::anyhow!(
                    "--resume goes on with the tests that were asked for; name none"
                )));
            }
            let dir = find(named, &out)?;
            // First checks that this is a search's folder at all; the state counts that is read under the
            // lock.
            SearchState::read(&dir)?;
            let lock = SearchLock::take(&dir)?;
            let state = SearchState::read(&dir)?;
            script_record::check_unchanged(&state.question.scripts, &dir)?;
            session.terminal.say(&format!(
                "going on with {} after {} trials",
                dir.display(),
                state.trials.len()
            ));
            (dir, state, lock)
        }
        None => begin(session, options, &out)?,
    };
    session.terminal.say(&report::opening(&state));
    let tests = Options { out: Some(dir.join("runs")), ..settings::options(&state.question.settings)? };
    let scripts = state.question.scripts.clone();
    let source = state.question.source.clone();
    let mut trials = Trials { session, source, options: tests, scripts: &scripts, dir: &dir };
    let mut listener = ProgressListener { session, dir: &dir };
    let mut is_stopped = false;
    let done = search(&mut state, &mut trials, &mut listener).and_then(|ended| match ended {
        Ended::Found(conclusion) => finish(session, &mut state, &trials, &conclusion, &dir),
        Ended::Stopped(trouble) => {
            is_stopped = true;
            Err(usage(anyhow::anyhow!(report::explain(&state, &trouble))))
        }
    });
    if done.is_err() && options_are_new && state.trials.is_empty() && !dir.join("runs").exists() {
        // Not even a run began, so there is nothing to continue, and no log.
        let _stays_if_it_must = fs::remove_dir_all(&dir);
        return done;
    }
    // A search that was stopped as pointless would stop again.
    if done.is_err() && !is_stopped && (session.host.cancel().is_cancelled() || !state.trials.is_empty()) {
        session.terminal.say(&format!("to go on: cargo xtask bisect --resume {}", dir.display()));
    }
    done
}

/// The folder of a search to continue.
fn find(named: &Path, out: &Path) -> Result<PathBuf> {
    if named != Path::new("latest") {
        let here = [named.to_owned(), out.join(named)].into_iter().find(|dir| dir.is_dir());
        return here.ok_or_else(|| usage(anyhow::anyhow!("there is no folder `{}`", named.display())));
    }
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    let searches = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(FOLDER));
    // A search without any trial is passed over.
    let goes_on = |dir: &PathBuf| SearchState::read(dir).is_ok_and(|state| !state.trials.is_empty());
    let mut all: Vec<PathBuf> = searches.map(|entry| entry.path()).collect();
    order::sort(&mut all);
    let newest = all.iter().rev().find(|dir| goes_on(dir)).or(all.last()).cloned();
    newest.ok_or_else(|| {
        usage(anyhow::anyhow!("there is no bisection in `{}` that could go on", shown_path(out)))
    })
}

/// Begins the search that the options ask for, in a folder of its own.
fn begin(
    session: &Session,
    options: BisectOptions,
    out: &Path,
) -> Result<(PathBuf, SearchState, SearchLock)> {
    if !options.trial.selects() {
        return Err(usage(anyhow::anyhow!("which test? Name one, or give -E, --tag or --script")));
    }
    let rules = SearchRules {
        repeat: options.repeat,
        confidence: options.confidence,
        find_fix: options.find_fix,
        chance_failures: options.chance_failures,
    };
    let words = options.signature.clone();
    let (source, old, new, graph) = match &options.range {
        Some(range) => published(session, range)?,
        None => commits(session, &options)?,
    };
    let n_steps = steps_left(graph.n_subjects());
    check_room(session.store.root(), room_needed_mib(&source, n_steps))?;
    let tests = Options::from(options.trial);
    let settings = words_as_asked(&tests);
    let dir = create_folder(out, FOLDER)?;
    let lock = SearchLock::take(&dir)?;
    let scripts = script_record::keep(&tests.scripts, &dir);
    if scripts.is_err() {
        let _stays_if_it_must = fs::remove_dir_all(&dir);
    }
    let question = Question { source, old, new, rules, words, settings, scripts: scripts? };
    let state = SearchState { format: FORMAT, question, graph, trials: vec![], reverted: None };
    state.write(&dir)?;
    Ok((dir, state, lock))
}

type Ends = (KernelSource, SearchEnd, SearchEnd, Graph);

fn published(session: &Session, range: &VersionRange) -> Result<Ends> {
    let apt = session.apt()?;
    let offered = session.images(&apt)?.kernels_offered()?;
    session.terminal.end_step();
    let builds = range.choose(&offered).map_err(|error| usage(error.into()))?;
    if let Some(branches) = several_branches(&builds) {
        session.terminal.note(&format!(
            "{branches} are no line: bugs and fixes come to each of them at a time of its own, so that the answer may be \
             one of several changes. A branch at a time tells more"
        ));
    }
    let end = |kernel: &vm_images::debian::kernels::DebianKernel| SearchEnd {
        name: format!("deb:{}", kernel.release),
        id: kernel.release.clone(),
        title: kernel.version.clone(),
    };
    let (old, later) = builds.split_first().context("a range has two ends")?;
    let new = end(later.last().context("a range has two ends")?);
    let graph = Graph::linear(later.iter().map(|kernel| (kernel.release.clone(), kernel.version.clone())))?;
    Ok((KernelSource::Published, end(old), new, graph))
}

fn commits(session: &Session, options: &BisectOptions) -> Result<Ends> {
    let missing = |what| usage(anyhow::anyhow!("{what} is missing; or --kernels RANGE for Debian's builds"));
    let tree = options.kernel_tree.as_ref().ok_or_else(|| missing("--kernel-tree DIR"))?;
    let good = options.good.as_ref().ok_or_else(|| missing("--good REV"))?;
    let bad = options.bad.as_ref().ok_or_else(|| missing("--bad REV"))?;
    let repository = Repository::open(&session.host, tree, session.store.temporary())?;
    let (good, bad) = (repository.commit(good)?, repository.commit(bad)?);
    repository.check_md(&good)?;
    repository.check_md(&bad)?;
    let (old, new, terms) =
        if options.find_fix { (bad, good, ("bad", "good")) } else { (good, bad, ("good", "bad")) };
    repository.check_ancestor(&old, &new, terms)?;
    let overlay = options.overlay.as_ref().map(|overlay| pinned(session, overlay)).transpose()?;
    let paths = match &options.paths[..] {
        [] if overlay.is_some() => overlay::SOURCES.map(str::to_owned).to_vec(),
        paths => paths.to_vec(),
    };
    let graph = repository.graph(&old, &new, &paths)?;
    Ok((KernelSource::Commits { tree: repository.top.clone(), overlay, paths }, old, new, graph))
}

/// Shows each trial, and saves the state.
struct ProgressListener<'s> {
    session: &'s Session,
    dir: &'s Path,
}

impl Listener for ProgressListener<'_> {
    fn begins(&mut self, state: &SearchState, position: Position, why: Purpose) {
        let number = state.trials.len() + 1;
        self.session.terminal.timed(&format!("trial {number}: {}", report::begins(state, position, why)));
    }

    fn over(&mut self, state: &SearchState, observation: &Observation) -> Result<()> {
        state.write(self.dir)?;
        let number = state.trials.len();
        self.session.terminal.timed(&format!("trial {number}: {}", report::over(state, observation)));
        let is_first =
            state.observations().iter().filter(|(_, seen)| *seen == Observation::Failed).count() == 1;
        if *observation == Observation::Failed
            && is_first
            && let Some(warning) = state.target().as_ref().and_then(report::warning_if_unsigned)
        {
            self.session.terminal.note(&warning);
        }
        let mut before = state.clone();
        before.trials.pop();
        if report::differences(&before).is_none()
            && let Some(advice) = report::differences(state)
        {
            self.session.terminal.note(&advice);
        }
        let log = self.dir.join("bisect.log");
        fs::write(&log, state.git_log(None)).with_context(|| format!("failed to write `{}`", log.display()))
    }
}

/// Writes the report, tests the new end with the culprit reverted, and writes the report again.
fn finish(
    session: &Session,
    state: &mut SearchState,
    trials: &Trials<'_>,
    conclusion: &Conclusion,
    dir: &Path,
) -> Result<Exit> {
    let culprit = match (&state.question.source, &conclusion.first_new[..]) {
        (KernelSource::Commits { tree, overlay, .. }, &[culprit]) => {
            Some((tree.clone(), overlay.clone(), culprit))
        }
        (KernelSource::Commits { .. } | KernelSource::Published, _) => None,
    };
    let mut show = String::new();
    if let Some((tree, overlay, culprit)) = culprit {
        let repository = Repository::open(&session.host, &tree, session.store.temporary())?;
        show = repository.show(&state.graph.subject(culprit).id)?;
        // Shown before the next step, which may fail.
        session.terminal.say(&report::answer(state, conclusion));
        write_report(state, conclusion, &show, dir)?;
        match revert(session, state, &repository, culprit, overlay, trials, dir) {
            Ok(()) => {}
            Err(error) if session.host.cancel().is_cancelled() => return Err(error),
            Err(error) => session.terminal.note(&format!(
                "it could not be taken back, to see whether that helps: {error:#}; --resume tries again"
            )),
        }
    }
    write_report(state, conclusion, &show, dir)?;
    outln!("{}", report::answer(state, conclusion));
    for line in report::afterwards(state, conclusion, &show) {
        outln!("{line}");
    }
    if let Some(command) = report::reproduce(state, conclusion) {
        outln!("reproduce: {command}");
    }
    outln!("report: {}", shown_path(&dir.join("report.txt")));
    Ok(if conclusion.is_sure { Exit::Passed } else { Exit::TestsFailed })
}

/// Writes the present result, for people and for git.
fn write_report(state: &SearchState, conclusion: &Conclusion, show: &str, dir: &Path) -> Result<()> {
    let evidence = report::telling(state, conclusion).and_then(|(trial, shown)| evidence_of(trial, shown));
    let mail =
        report::mail(state, conclusion, show, &evidence.unwrap_or_default(), &files(state, conclusion));
    for (name, text) in [("report.txt", mail), ("bisect.log", state.git_log(Some(conclusion)))] {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))?;
    }
    Ok(())
}

/// Tests the new end with the culprit reverted, as often as it takes to know that a pass is not luck.
/// Continues after earlier such trials.
fn revert(
    session: &Session,
    state: &mut SearchState,
    repository: &Repository<'_>,
    culprit: usize,
    overlay: Option<DebianSpec>,
    trials: &Trials<'_>,
    dir: &Path,
) -> Result<()> {
    let id = &state.graph.subject(culprit).id;
    let folder = session.store.temporary().join("reverted");
    let scratch = Scratch::create(repository, &folder)?;
    let commit = match scratch.revert(id, &state.question.new.id) {
        Ok(commit) => commit,
        Err(ScratchError::DoesNotApply(why)) => {
            state.reverted = Some(Reverted::DoesNotApply { why });
            return state.write(dir);
        }
        Err(ScratchError::Failed(error)) => return Err(error),
    };
    let source = KernelSource::Commits { tree: scratch.dir().to_owned(), overlay, paths: vec![] };
    let mut trials =
        Trials { session, source, options: trials.options.clone(), scripts: trials.scripts, dir: trials.dir };
    let n_wanted = passes_that_tell(&state.graph, &state.sums(), state.question.rules, &[culprit]);
    let observe = state.observer();
    loop {
        let tried = match &state.reverted {
            Some(Reverted::Tried(tried)) => &tried[..],
            Some(Reverted::DoesNotApply { .. }) | None => &[],
        };
        let has_failed = tried.last().is_some_and(|last| observe(last) != Observation::Passed);
        if has_failed || tried.len() >= n_wanted as usize {
            return Ok(());
        }
        let number = tried.len() + 1;
        let (_, new) = state.terms();
        session.terminal.timed(&format!("{new} end with this commit taken back, {number} of {n_wanted}"));
        let trial = trials.test(&commit)?;
        match &mut state.reverted {
            Some(Reverted::Tried(tried)) => tried.push(trial),
            Some(Reverted::DoesNotApply { .. }) | None => state.reverted = Some(Reverted::Tried(vec![trial])),
        }
        state.write(dir)?;
    }
}

/// The report of the run that showed the failure.
fn evidence_of(trial: &Trial, shown: &Sighting) -> Option<String> {
    let Trial::Ran { run, .. } = trial else { return None };
    fs::read_to_string(Path::new(run).join(&shown.dir).join("report.txt")).ok()
}

/// Folders of the runs of the answer, and of its parents.
fn files(state: &SearchState, conclusion: &Conclusion) -> Vec<String> {
    let Some(&first) = conclusion.first_new.first() else { return vec![] };
    let parents = &state.graph.subject(first).parents;
    let mut positions: Vec<_> = parents.iter().map(|&parent| Position::Subject(parent)).collect();
    if positions.is_empty() {
        positions.push(Position::OldEnd);
    }
    positions.extend(conclusion.first_new.iter().map(|&idx| Position::Subject(idx)));
    let runs = state.trials.iter().filter(|recorded| positions.contains(&recorded.position));
    let runs = runs.filter_map(|recorded| match &recorded.trial {
        Trial::Ran { run, .. } => Some(format!("{}  {run}", state.shown(recorded.position))),
        Trial::Unbuildable { .. } => None,
    });
    runs.collect()
}
