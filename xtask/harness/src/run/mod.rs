//! A run of tests, from top to bottom: choose → prepare → plan → begin or resume → carry out → finish →
//! judge.

pub mod begin;
pub mod budget;
pub mod choose;
pub mod criteria;
pub mod finished;
pub mod folder;
pub mod history;
pub mod options;
pub mod order;
pub mod plan;
pub mod prepare;
pub mod resume;
pub mod schedule;
pub mod script_record;
pub mod settings;
pub mod shard;
pub mod suite_modules;
pub mod tries;
pub mod workers;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use protocol::Event;
use protocol::event::Blame;
use reports::judge_one;
use vm_images::host::progress::Progress;

use crate::attempt::drive::AttemptContext;
use crate::event_log::{EventLog, FAILED};
use crate::machine::Accel;
use crate::machine::snapshot::Snapshots;
use crate::run::begin::{Beginning, Begun};
use crate::run::choose::Choice;
use crate::run::criteria::Criteria;
use crate::run::finished::FinishedRun;
use crate::run::history::HistoryKeeper;
pub use crate::run::options::Options;
use crate::run::prepare::{BootKernel, Prepared};
use crate::run::resume::Resumed;
use crate::run::tries::TryResult;
use crate::run::workers::RunContext;
use crate::session::Session;
use crate::suite::suite_named;
use crate::symbols::{self, DebugFiles, Located};
use crate::words::count;

/// Runs tests, and writes reports of the results; `None` if no test is selected.
pub fn run(session: &Session, options: &Options) -> Result<Option<FinishedRun>> {
    carry_through(session, options, None)
}

/// Resumes a run that was cut off; `options` are its own ([`Resumed::options`]).
pub fn go_on(session: &Session, options: &Options, resumed: Resumed) -> Result<Option<FinishedRun>> {
    carry_through(session, options, Some(resumed))
}

fn carry_through(
    session: &Session,
    options: &Options,
    resumed: Option<Resumed>,
) -> Result<Option<FinishedRun>> {
    let started = Instant::now();
    let suite = suite_named(&options.suite)?;
    let criteria = Criteria::of_suite(&suite.name)?;

    let choice = Choice::by_list(suite, options)?;
    if choice.is_empty() {
        choice.say_why(&session.terminal);
        return Ok(None);
    }
    let prepared = prepare::prepare(session, &choice.kernels(options), &options.sources, options.accel)?;
    if let Some(resumed) = &resumed {
        resumed.check_same(&prepared)?;
    }
    let chosen = choice.by_guest(options, &prepared)?;
    if chosen.is_empty() {
        return Ok(None);
    }

    let lacking = choose::check_modules(&prepared, &chosen.jobs)?;
    let durations = history::durations(session, options.history.as_deref(), prepared.chosen.accel)?;
    let mut whole = plan::plan(&prepared, &chosen.jobs, options, &durations)?;
    suite_modules::give(session, &prepared, &mut whole)?;
    let (plan, part) = match &resumed {
        Some(resumed) => (resumed.plan(&whole)?, None),
        None => plan::part(whole, options.shard),
    };
    let budget = budget::budget(options.n_vms, prepared.chosen.accel, &plan);

    let run = match resumed {
        Some(resumed) => resumed.go_on(session, plan, options.history.as_deref(), &criteria)?,
        None => {
            let n_vms = workers::n_workers(budget, options.times, plan.len());
            let beginning = Beginning { prepared: &prepared, options, n_vms, part, chosen, lacking };
            beginning.begin(session, plan)?
        }
    };
    let done = done(&run.events, &criteria);
    let n_left = run.plan.len() - done.len();
    announce(session, &prepared, n_left, workers::n_workers(budget, options.times, n_left), started);

    let Begun { dir, events, plan } = run;
    let cancel = session.host.cancel();
    let snapshots =
        options.snapshots.then(|| Snapshots::new(&prepared.qemu, &session.store, &*session.terminal, cancel));
    let keeper = HistoryKeeper::new(options.history.as_deref(), &criteria, &events, &session.terminal);
    let context = RunContext {
        attempt: AttemptContext {
            hypervisor: &prepared.qemu,
            snapshots: snapshots.as_ref(),
            dump: options.dump,
            events: &events,
            cancel,
        },
        dir: &dir,
        scratch: session.store.temporary(),
        terminal: &session.terminal,
        after: &|attempt| keeper.take(attempt),
    };
    workers::carry_out(context, plan, &done, options.times, budget)?;
    record_lines(&events, &prepared, &options.debug_info)?;
    history::remark_stale(options.history.as_deref(), &criteria, &events, &session.terminal)?;
    let run = finish(&events, &dir, cancel.is_cancelled(), &criteria)?;
    if prepared.chosen.accel == Accel::Kvm && run.has_infra_error() {
        prepare::kvm_answers(session, &prepared.qemu).forget();
    }
    Ok(Some(run))
}

/// Ends the record of a run, judges it, and writes its reports.
pub fn finish(events: &EventLog, dir: &Path, interrupted: bool, criteria: &Criteria) -> Result<FinishedRun> {
    events.append(Event::RunFinished { interrupted }).context(FAILED)?;
    let run = FinishedRun::judge(dir.to_owned(), events.record(), criteria);
    run.write(&run.dir)?;
    Ok(run)
}

/// Numbers and results of the attempts that a resumed run has finished before.
fn done(events: &EventLog, criteria: &Criteria) -> Vec<(u32, TryResult)> {
    events.look(|record| {
        let over = record.attempts.iter().filter(|attempt| attempt.finished().is_some());
        over.map(|attempt| {
            let judged = judge_one(record, attempt, &criteria.expectations, &criteria.known_issues);
            (attempt.number, TryResult::of(&judged))
        })
        .collect()
    })
}

/// Records the source lines of all frames, from the debug information that an overlay was built with, and
/// from that in the user's `folders`.
fn record_lines(events: &EventLog, prepared: &Prepared, folders: &[std::path::PathBuf]) -> Result<()> {
    for (kernel_idx, BootKernel { kernel, .. }) in (0u32..).zip(&prepared.kernels) {
        let folders = kernel.debug_info().into_iter().chain(folders.iter().cloned()).collect();
        let files = DebugFiles { folders, release: kernel.release.clone() };
        let Located { frames, remarks } = events.look(|record| symbols::locate(record, kernel_idx, &files));
        for text in remarks {
            events.append(Event::Remark { attempt: None, blame: Blame::Host, text }).context(FAILED)?;
        }
        if !frames.is_empty() {
            events.append(Event::FramesLocated { kernel_idx, frames }).context(FAILED)?;
        }
    }
    Ok(())
}

/// Prints what is about to run, and on what.
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
