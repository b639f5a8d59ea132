//! A run of tests, from top to bottom: prepare → plan → run → record → verdicts → reports.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use protocol::Event;
use protocol::event::{Blame, Script};
use reports::history::Durations;
use reports::judge_one;
use reports::{Policy, RunRecord};
use vm_images::checkout::Sources;
use vm_images::kernel_spec::KernelSpec;
use vm_images::progress::Progress;

use crate::beginning::{Beginning, create_run};
use crate::exit::usage;
use crate::history::{self, Keeper};
use crate::model_suite;
use crate::own_modules;
use crate::plan::{Chosen, ChosenJob, Lacking, budget, check_modules, choose_jobs, kernels_of, part, plan};
use crate::prepare::{self, BootKernel, Prepared};
use crate::report::{self, Known, Ran};
use crate::resume::Resumed;
use crate::runner::event_log::{EventLog, FAILED};
use crate::runner::tries::{Came, Times};
use crate::runner::{self, Planned, RunContext};
use crate::script;
use crate::script_record;
use crate::select::Selection;
use crate::session::{Session, workspace};
use crate::settings;
use crate::shard::Shard;
use crate::suite::{Job, Suite};
use crate::symbols::{self, DebugFiles, Located};
use crate::vm::Accel;
use crate::vm::accel::AccelChoice;
use crate::vm::snapshot::Snapshots;

/// The suite that is meant when none is named.
pub(crate) const DEFAULT_SUITE: &str = "lvm2";

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) kernels: Vec<KernelSpec>,
    pub(crate) suite: String,
    pub(crate) selection: Selection,
    /// What the guest is built from, where that is not Debian's source packages.
    pub(crate) sources: Sources,
    /// Flavours that tests are run in; the suite's default one if there are none.
    pub(crate) flavours: Vec<String>,
    /// The user's own scripts, and what they need.
    pub(crate) scripts: Vec<PathBuf>,
    pub(crate) script_needs: Option<String>,
    /// Added to the kernel's command line.
    pub(crate) append: String,
    pub(crate) accel: AccelChoice,
    /// How many times each test is tried.
    pub(crate) times: Times,
    /// What fails the run.
    pub(crate) policy: Policy,
    /// Only this part of it.
    pub(crate) shard: Option<Shard>,
    /// VMs at a time; by default as many as the processors bear.
    pub(crate) n_vms: Option<usize>,
    /// Folder of the runs; by default `reports/out`.
    pub(crate) out: Option<PathBuf>,
    /// The history that durations are read from, and attempts appended to; none at all without.
    pub(crate) history: Option<PathBuf>,
    /// Folders with debug information of the kernels.
    pub(crate) debug_info: Vec<PathBuf>,
    /// Go on with this run; of the other options only the number of VMs counts.
    pub(crate) resume: Option<PathBuf>,
    /// Restore VMs from snapshots rather than boot each.
    pub(crate) snapshots: bool,
    /// Write the guest's memory where one hangs or crashes.
    pub(crate) dump: bool,
    /// Changes each test before it is planned: benchmarks run some in a plainer way.
    pub(crate) change: Option<fn(Job) -> Job>,
}

/// Runs tests and writes reports of what came of them; nothing if no test is selected.
pub(crate) fn run(session: &Session, options: &Options) -> Result<Option<Ran>> {
    if options.suite == model_suite::NAME {
        return model_suite::run(session, options);
    }
    let started = Instant::now();
    let out = options.out.clone().unwrap_or_else(report::default_runs);
    let resumed = options.resume.as_ref().map(|run| Resumed::take_over(run, &out)).transpose()?;
    let as_begun = resumed.as_ref().map(|resumed| resumed.options(options)).transpose()?;
    let options = as_begun.as_ref().unwrap_or(options);
    if let Some(resumed) = &resumed {
        resumed.check_scripts()?;
    }

    let mut suite = suite_named(&options.suite)?;
    let known = Known {
        expectations: BTreeMap::from([(suite.name.clone(), report::expectations_of(&options.suite)?)]),
        known_issues: report::known_issues()?,
    };
    let mut kernels = options.kernels.clone();
    kernels.dedup();
    // A mistyped name is told before anything is prepared, unless only a checkout knows what there is.
    if !options.sources.has(&suite.name) {
        let Chosen { jobs, left_out } = choose_jobs(&suite, options).map_err(usage)?;
        if jobs.is_empty() {
            for (test, reason) in left_out {
                session.terminal.say(&format!("{test}: {reason}"));
            }
            return Ok(None);
        }
        kernels = kernels_of(&jobs, &kernels);
    }

    let prepared = prepare::prepare(session, &kernels, &options.sources, options.accel)?;
    if let Some(resumed) = &resumed {
        resumed.check_same(&prepared)?;
    }
    let installed = prepared.installed_tests(&suite.name)?;
    let difference = installed.map(|installed| suite.meet(&installed)).unwrap_or_default();
    let chosen = choose_jobs(&suite, options).map_err(usage)?;
    let version = prepared.versions.get(&suite.name).map(String::as_str).unwrap_or_default();
    let Chosen { mut jobs, left_out } = chosen.without(&difference.gone, &suite.name, version);
    if jobs.is_empty() && left_out.is_empty() {
        return Ok(None);
    }
    if let Some(change) = options.change {
        for chosen in &mut jobs {
            chosen.job = change(chosen.job.clone());
        }
    }
    let lacking = check_modules(&prepared, &jobs)?;
    let accel = prepared.chosen.accel;
    let durations = durations(session, options, accel)?;
    let mut whole = plan(&prepared, &jobs, &options.append, &durations, options.times.n_planned())?;
    own_modules::give(session, &prepared, &mut whole)?;

    let (dir, events, plan) = match resumed {
        Some(resumed) => {
            let plan = resumed.plan(&whole)?;
            resumed.check_jobs(&plan)?;
            resumed.go_on(session, options.history.as_deref(), &known)?;
            (resumed.dir, resumed.events, plan)
        }
        None => {
            let (mut plan, part) = part(whole, options.shard);
            let dir = create_run(&out)?;
            let scripts = keep_scripts(&options.scripts, &jobs, &mut plan, &dir)?;
            let events = EventLog::create(&dir.join("events.jsonl"))
                .with_context(|| format!("failed to create events.jsonl in `{}`", dir.display()))?;
            let budget = budget(options.n_vms, accel, &plan);
            let n_vms = runner::n_workers(budget, options.times, plan.len());
            let beginning =
                Beginning { prepared: &prepared, options, n_vms, plan: &plan, scripts, part, left_out };
            beginning.record(&events, &dir).context(FAILED)?;
            for Lacking { kernel_idx, test, text } in lacking {
                let of = |planned: &&Planned| {
                    planned.attempt.kernel_idx == kernel_idx && planned.attempt.test == test
                };
                let Some(planned) = plan.iter().find(of) else { continue };
                let attempt = Some(planned.attempt.attempt);
                // As where a test itself says that it tested less: nothing is wrong with a kernel that is built so.
                events.append(Event::Remark { attempt, blame: Blame::Test, text }).context(FAILED)?;
            }
            for text in version_mismatch(&suite, &prepared).into_iter().chain(difference.text(&suite.name)) {
                session.terminal.note(&text);
                let remark = Event::Remark { attempt: None, blame: Blame::Harness, text };
                events.append(remark).context(FAILED)?;
            }
            (dir, events, plan)
        }
    };
    let done = done(&events, &known);
    let n_left = plan.len() - done.len();
    let budget = budget(options.n_vms, accel, &plan);
    announce(session, &prepared, n_left, runner::n_workers(budget, options.times, n_left), started);

    let cancel = session.host.cancel();
    let snapshots =
        options.snapshots.then(|| Snapshots::new(&prepared.qemu, &session.store, &*session.terminal, cancel));
    let keeper = Keeper::new(options.history.as_deref(), &known, &events, &session.terminal);
    let context = RunContext {
        hypervisor: &prepared.qemu,
        snapshots: snapshots.as_ref(),
        dump: options.dump,
        dir: &dir,
        scratch: session.store.temporary(),
        events: &events,
        terminal: &session.terminal,
        cancel,
        after: &|attempt| keeper.take(attempt),
    };
    runner::run(context, plan, &done, options.times, budget)?;
    record_lines(&events, &report::read_record(&dir)?, &prepared, &options.debug_info)?;
    events.append(Event::RunFinished { interrupted: cancel.is_cancelled() }).context(FAILED)?;

    let record = report::read_record(&dir)?;
    let ran = Ran::judge(dir, record, &known);
    ran.write(&ran.dir)?;
    Ok(Some(ran))
}

/// Keeps a copy of what will run of the user's scripts, and tells the plan to try it again by that.
pub(crate) fn keep_scripts(
    paths: &[PathBuf],
    jobs: &[ChosenJob],
    plan: &mut [Planned],
    dir: &Path,
) -> Result<Vec<Script>> {
    let content_of = |path: &Path| {
        let name = script::file_name(path);
        let is_of =
            |chosen: &&ChosenJob| chosen.job.id.suite() == script::SUITE && chosen.job.id.name() == name;
        jobs.iter().find(is_of)?.job.files.iter().find(|file| file.name == name)
    };
    let mut kept = Vec::new();
    for path in paths {
        let file = content_of(path).with_context(|| format!("no job runs script `{}`", path.display()))?;
        let script = script_record::keep_content(path, &file.content, dir)?;
        let (was, copy) = (script::again(path, None), settings::absolute(dir).join(&script.copy));
        for word in plan.iter_mut().flat_map(|planned| &mut planned.attempt.again) {
            if was.get(1) == Some(word) {
                *word = copy.display().to_string();
            }
        }
        kept.push(script);
    }
    Ok(kept)
}

/// Finds the lines of the frames that were seen: with what an overlay was built with, and what the user has.
fn record_lines(
    events: &EventLog,
    record: &RunRecord,
    prepared: &Prepared,
    folders: &[PathBuf],
) -> Result<()> {
    for (kernel_idx, BootKernel { kernel, .. }) in (0u32..).zip(&prepared.kernels) {
        let folders = kernel.debug_info().into_iter().chain(folders.iter().cloned()).collect();
        let files = DebugFiles { folders, release: kernel.release.clone() };
        let Located { frames, remarks } = symbols::locate(record, kernel_idx, &files);
        for text in remarks {
            events.append(Event::Remark { attempt: None, blame: Blame::Host, text }).context(FAILED)?;
        }
        if !frames.is_empty() {
            events.append(Event::FramesLocated { kernel_idx, frames }).context(FAILED)?;
        }
    }
    Ok(())
}

/// What is over already, because the run was resumed, and what it came to.
pub(crate) fn done(events: &EventLog, known: &Known) -> Vec<(u32, Came)> {
    events.look(|record| {
        let over = record.attempts.iter().filter(|attempt| attempt.finished().is_some());
        over.map(|attempt| {
            let judged = judge_one(record, attempt, &known.expectations, &known.known_issues);
            (attempt.number, Came::of(&judged))
        })
        .collect()
    })
}

fn announce(session: &Session, prepared: &Prepared, n_attempts: usize, n_vms: usize, started: Instant) {
    let chosen = &prepared.chosen;
    session.terminal.note(&format!("accelerator: {} ({})", chosen.accel, chosen.reason));
    for checkout in &prepared.checkouts {
        let (name, from) = (checkout.project.name(), checkout.dir.display());
        session.terminal.note(&format!("{name} {} from `{from}`", checkout.version()));
    }
    let releases: Vec<_> = prepared.kernels.iter().map(|kernel| kernel.kernel.release.as_str()).collect();
    session.terminal.note(&format!(
        "{} on {}, {n_vms} at a time; prepared in {:.1} s",
        count(n_attempts, "attempt"),
        releases.join(", "),
        started.elapsed().as_secs_f32(),
    ));
}

/// How long tests take, as far as it is known.
fn durations(session: &Session, options: &Options, accel: Accel) -> Result<Durations> {
    let Some(file) = &options.history else { return Ok(Durations::default()) };
    let history = history::read(file)?;
    if history.n_passed_over > 0 {
        let (n, file) = (count(history.n_passed_over, "line"), file.display());
        session.terminal.note(&format!("{n} of `{file}` cannot be read and was passed over"));
    }
    Ok(history.durations(&accel.to_string()))
}

/// The suite of that name, in `suites/`.
pub(crate) fn suite_named(name: &str) -> Result<Suite> {
    let folder = workspace().join("suites").join(name);
    if folder.join("suite.toml").is_file() {
        return Suite::read(&folder).map_err(usage);
    }
    Err(usage(anyhow::anyhow!("no suite `{name}`; there are {}", suite_names()?.join(", "))))
}

/// The suites of this work tree, sorted.
pub(crate) fn suite_names() -> Result<Vec<String>> {
    let suites = workspace().join("suites");
    let entries = fs::read_dir(&suites).with_context(|| format!("failed to read `{}`", suites.display()))?;
    let mut names: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path().join("suite.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// A suite's list of tests, tags and needs is of one version; what the guest has may be another. Of a
/// checkout that is expected, and only how its tests differ is news.
fn version_mismatch(suite: &Suite, prepared: &Prepared) -> Option<String> {
    if prepared.checkouts.iter().any(|checkout| checkout.project.name() == suite.name) {
        return None;
    }
    let (written_for, version) = (suite.written_for.as_ref()?, prepared.versions.get(&suite.name)?);
    let upstream = version.split(['-', '+', '~']).next().unwrap_or(version);
    (upstream != written_for).then(|| {
        format!("suites/{}/suite.toml was written for {written_for}, the guest has {version}", suite.name)
    })
}

/// `1 vCPU`, `2 vCPUs`.
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
