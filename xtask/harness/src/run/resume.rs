//! Resumes a run that was cut off, with its options and its plan from its events.
//!
//! Finished attempts stay; those that had begun are made again. Kernels, guest and scripts must be unchanged,
//! or the record would mix two runs.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use protocol::Event;
use protocol::event::{PlannedAttempt, Script};
use reports::RunRecord;
use reports::record::Attempt;

use vm_images::host::progress::Progress;
use vm_images::store::digest::Digest;

use crate::clock::rfc3339_now;
use crate::error::usage;
use crate::event_log::{EventLog, FAILED};
use crate::run::begin::{Begun, harness_version};
use crate::run::history;
use crate::run::options::Options;
use crate::run::prepare::Prepared;
use crate::run::script_record;
use crate::run::workers::Planned;
use crate::run::{criteria::Criteria, folder};
use crate::session::Session;
use crate::suite::script;

/// A run that is resumed.
pub struct Resumed {
    pub(crate) dir: PathBuf,
    pub(crate) events: EventLog,
    /// The record up to the interruption.
    pub(crate) record: RunRecord,
}

impl Resumed {
    /// Takes the run over; an error if it is still active.
    pub fn take_over(run: &Path, out: &Path) -> Result<Resumed> {
        let dir = folder::find_run(run, out)?;
        let events = EventLog::resume(&dir.join("events.jsonl"))?;
        let record = events.look(RunRecord::clone);
        let resumed = Resumed { dir, events, record };
        resumed.check_whole().map_err(usage)?;
        Ok(resumed)
    }

    /// Checks that the run got as far as its plan, and names no folders outside its own.
    fn check_whole(&self) -> Result<()> {
        let shown = self.dir.display();
        let RunRecord { run, attempts, machine, image, .. } = &self.record;
        let again = "run the command again";
        ensure!(
            !run.settings.is_empty(),
            "`{shown}` was made by an md-regress that could not resume; {again}"
        );
        ensure!(
            !attempts.is_empty() && machine.is_some() && image.is_some(),
            "`{shown}` was cut off before its plan was made; {again}"
        );
        for attempt in attempts {
            let mut parts = Path::new(&attempt.dir).components();
            ensure!(
                !attempt.dir.is_empty() && parts.all(|part| matches!(part, Component::Normal(_))),
                "`{shown}` names a folder outside its own, `{}`; it is damaged",
                attempt.dir
            );
        }
        Ok(())
    }

    /// Arguments of `cargo xtask test` that the run began with.
    pub fn settings(&self) -> &[String] {
        &self.record.run.settings
    }

    /// The options of the resumed run, on exactly its kernels, with `n_vms` VMs at a time if that is given.
    /// `then` are the options parsed from its settings ([`Resumed::settings`]).
    ///
    /// # Errors
    ///
    /// The record names an invalid kernel.
    pub fn options(&self, then: Options, n_vms: Option<usize>) -> Result<Options> {
        let kernels = self.record.kernels.values().map(|kernel| kernel.exact_spec.parse());
        Ok(Options {
            kernels: kernels.collect::<Result<_, _>>().context("a kernel of the run makes no sense")?,
            n_vms: n_vms.or(then.n_vms),
            ..then
        })
    }

    /// Returns an error if a script was edited since.
    pub fn check_scripts(&self) -> Result<()> {
        script_record::check_unchanged(&self.record.run.scripts, &self.dir)
    }

    /// Returns an error if a script in `plan`, which was read after that check, was edited.
    pub(crate) fn check_jobs(&self, plan: &[Planned]) -> Result<()> {
        let of = |script: &Script| {
            let name = script::file_name(Path::new(&script.path));
            let mut files = plan.iter().filter(|planned| planned.attempt.test.suite() == script::SUITE);
            let file = files.find_map(|planned| planned.job.files.iter().find(|file| file.name == name))?;
            Some(Script { digest: Digest::of_bytes(&file.content).to_string(), ..script.clone() })
        };
        let now: Vec<_> = self.record.run.scripts.iter().filter_map(of).collect();
        script_record::check_same(&self.record.run.scripts, &now, &self.dir)
    }

    /// Returns an error if kernels, guest image, accelerator or QEMU differ from those of the record.
    pub(crate) fn check_same(&self, prepared: &Prepared) -> Result<()> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, was: &str, is: &str| {
            if was != is {
                differences.push(format!("{what} was {was} and is {is}"));
            }
        };
        let kernels = self.record.kernels.values();
        for (kernel, boot) in kernels.zip(&prepared.kernels) {
            compare(&format!("kernel `{}`", kernel.spec), &kernel.digest, &boot.kernel.digest().to_string());
        }
        if let Some(image) = &self.record.image {
            compare("the guest image", &image.digest, &prepared.guest.digest.to_string());
        }
        if let Some(machine) = &self.record.machine {
            compare("the accelerator", &machine.accel, &prepared.chosen.accel.to_string());
            compare("QEMU", &machine.qemu, &prepared.qemu.version);
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(usage(anyhow!(
            "`{}` cannot be resumed, its results would be of two things: {}; run the command again instead",
            self.dir.display(),
            differences.join(", ")
        )))
    }

    /// Records that the run is resumed. Removes the folders of unfinished attempts, and appends attempts that
    /// the history lacks.
    pub(crate) fn go_on(
        self,
        session: &Session,
        plan: Vec<Planned>,
        history: Option<&Path>,
        criteria: &Criteria,
    ) -> Result<Begun> {
        self.check_jobs(&plan)?;
        let harness = harness_version();
        let resumed_at = rfc3339_now();
        self.events.append(Event::RunResumed { resumed_at, harness }).context(FAILED)?;
        self.events.look(|record| {
            for attempt in record.attempts.iter().filter(|attempt| attempt.finished().is_none()) {
                let dir = self.dir.join(&attempt.dir);
                match vm_images::host::tree::remove_tree(&dir) {
                    Err(error) if dir.exists() => {
                        return Err(error).with_context(|| format!("failed to remove `{}`", dir.display()));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            Ok(())
        })?;
        if let Some(file) = history
            && let Err(error) = self.events.look(|record| history::catch_up(file, record, criteria))
        {
            session.terminal.note(&format!("{error:#}"));
        }
        Ok(Begun { dir: self.dir, events: self.events, plan })
    }

    /// The run's plan, from the record. `fresh` is the plan made anew from the options, which has the jobs.
    pub(crate) fn plan(&self, fresh: &[Planned]) -> Result<Vec<Planned>> {
        let mut of: BTreeMap<_, _> = BTreeMap::new();
        for planned in fresh {
            of.entry((&planned.attempt.test, planned.attempt.kernel_idx)).or_insert(planned);
        }
        let mut n_tries: BTreeMap<_, u32> = BTreeMap::new();
        let attempts = self.record.attempts.iter().map(|attempt| {
            let like = of.get(&(&attempt.test, attempt.kernel_idx)).with_context(|| {
                format!(
                    "`{}` cannot be resumed: its test {} is no longer there; run the command again instead",
                    self.dir.display(),
                    attempt.test
                )
            })?;
            let try_idx = n_tries.entry((&attempt.test, attempt.kernel_idx)).or_insert(0);
            *try_idx += 1;
            Ok(Planned { attempt: planned_as(attempt), try_idx: *try_idx, ..(*like).clone() })
        });
        attempts.collect::<Result<_>>().map_err(usage)
    }
}

fn planned_as(attempt: &Attempt) -> PlannedAttempt {
    PlannedAttempt {
        attempt: attempt.number,
        test: attempt.test.clone(),
        kernel_idx: attempt.kernel_idx,
        dir: attempt.dir.clone(),
        again: attempt.again.clone(),
        retry_of: attempt.retry_of,
        allow: attempt.allow.clone(),
    }
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
