//! Begins a run: its folder, and the first events, which describe it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use protocol::Event;
use protocol::event::{Blame, Checkout, Script};
use vm_images::build::git;
use vm_images::host::progress::Progress;
use vm_images::host::quick;

use crate::clock::rfc3339_now;
use crate::event_log::{EventLog, FAILED};
use crate::run::choose::{ChosenTests, MissingModule};
use crate::run::folder::create_run;
use crate::run::options::Options;
use crate::run::plan::ShardPart;
use crate::run::prepare::Prepared;
use crate::run::script_record;
use crate::run::settings;
use crate::run::shard::Shard;
use crate::run::workers::Planned;
use crate::session::Session;
use crate::workspace::workspace;

/// A run that has begun: its folder, its record so far, and its attempts.
pub struct Begun {
    pub(crate) dir: PathBuf,
    pub(crate) events: EventLog,
    pub(crate) plan: Vec<Planned>,
}

/// Everything that is known before the first VM starts, except the plan.
pub(crate) struct Beginning<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) options: &'a Options,
    /// Number of VMs at a time.
    pub(crate) n_vms: usize,
    /// The shard that this run is, if the tests were divided.
    pub(crate) part: Option<ShardPart>,
    pub(crate) chosen: ChosenTests,
    /// Modules that tests want and their kernels lack.
    pub(crate) lacking: Vec<MissingModule>,
}

impl Beginning<'_> {
    /// Makes the run's folder, keeps copies of the user's scripts there, and writes the first events.
    pub(crate) fn begin(self, session: &Session, mut plan: Vec<Planned>) -> Result<Begun> {
        let dir = create_run(&self.options.runs())?;
        let scripts = script_record::keep_planned(&self.options.scripts, &self.chosen.jobs, &mut plan, &dir)?;
        let events = create_log(&dir)?;
        self.record(&events, &dir, &plan, &scripts).context(FAILED)?;
        for MissingModule { kernel_idx, test, text } in self.lacking {
            let of =
                |planned: &&Planned| planned.attempt.kernel_idx == kernel_idx && planned.attempt.test == test;
            let Some(planned) = plan.iter().find(of) else { continue };
            let attempt = Some(planned.attempt.attempt);
            // Blamed on the test, as when a test itself says that it tested less: a kernel built without a
            // module is no bug.
            events.append(Event::Remark { attempt, blame: Blame::Test, text }).context(FAILED)?;
        }
        for text in self.chosen.remarks {
            session.terminal.note(&text);
            let remark = Event::Remark { attempt: None, blame: Blame::Harness, text };
            events.append(remark).context(FAILED)?;
        }
        Ok(Begun { dir, events, plan })
    }

    fn record(
        &self,
        events: &EventLog,
        run_dir: &Path,
        plan: &[Planned],
        scripts: &[Script],
    ) -> std::io::Result<()> {
        let Beginning { prepared, options, n_vms, part, chosen, .. } = self;
        let mut host = host_facts();
        host.insert("vms".to_owned(), n_vms.to_string());
        let run = run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        events.append(Event::RunStarted {
            format: protocol::event::FORMAT,
            run,
            started_at: rfc3339_now(),
            harness: harness_version(),
            command: command_line(std::env::args_os()),
            settings: settings::words(options, prepared.chosen.accel),
            scripts: scripts.to_vec(),
            host,
            fail_on: options.policy.words().to_vec(),
            flaky_fails: options.policy.flaky_fails,
        })?;
        let accel = prepared.chosen.accel;
        events.append(Event::MachineChosen {
            accel: accel.to_string(),
            reason: prepared.chosen.reason.clone(),
            qemu: prepared.qemu.version.clone(),
            cpu: accel.cpu(false).to_owned(),
            time_scale_percent: prepared.chosen.time_scale.percent,
        })?;
        for (kernel_idx, kernel) in (0u32..).zip(&prepared.kernels) {
            let kernel = &kernel.kernel;
            events.append(Event::KernelReady {
                kernel_idx,
                spec: kernel.spec.to_string(),
                exact_spec: kernel.exact_spec.to_string(),
                release: kernel.release.clone(),
                package_version: kernel.package_version.clone(),
                digest: kernel.digest().to_string(),
            })?;
        }
        events.append(Event::ImageReady {
            digest: prepared.guest.digest.to_string(),
            versions: prepared.versions.clone(),
            checkouts: prepared.checkouts.iter().map(checkout_facts).collect(),
        })?;
        for change in &prepared.replaced {
            let text = format!("not as pinned in artifacts.lock: {change}");
            events.append(Event::Remark { attempt: None, blame: Blame::Host, text })?;
        }
        if let Some(ShardPart { shard, digest }) = part {
            let Shard { shard, n_shards } = *shard;
            events.append(Event::Sharded { shard, n_shards, digest: digest.to_string() })?;
        }
        events.append(Event::Planned {
            attempts: plan.iter().map(|planned| planned.attempt.clone()).collect(),
        })?;
        for (kernel_idx, _) in (0u32..).zip(&prepared.kernels) {
            for (test, reason) in &chosen.left_out {
                let (test, reason) = (test.clone(), reason.clone());
                events.append(Event::NotPlanned { test, kernel_idx, reason })?;
            }
        }
        Ok(())
    }
}

/// Creates the event log of a run in its folder `dir`.
pub(crate) fn create_log(dir: &Path) -> Result<EventLog> {
    EventLog::create(&dir.join("events.jsonl"))
        .with_context(|| format!("failed to create events.jsonl in `{}`", dir.display()))
}

/// The command line as it was given, for the record, with invalid UTF-8 replaced: names of files may be any
/// bytes, and `std::env::args` would panic.
pub fn command_line(args: impl Iterator<Item = OsString>) -> Vec<String> {
    let words = args.skip(1).map(|word| word.to_string_lossy().into_owned());
    ["cargo".to_owned(), "xtask".to_owned()].into_iter().chain(words).collect()
}

/// Facts about the host, for the record.
pub fn host_facts() -> BTreeMap<String, String> {
    let uname = rustix::system::uname();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().next().and_then(|line| line.strip_prefix("MemTotal:")).unwrap_or("?").trim();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    BTreeMap::from([
        ("kernel".to_owned(), uname.release().to_string_lossy().into_owned()),
        ("cpus".to_owned(), cpus.to_string()),
        ("memory".to_owned(), memory.to_owned()),
    ])
}

/// Version and commit of md-regress.
pub fn harness_version() -> String {
    let commit = git_commit(workspace()).map(|commit| format!(" ({commit})")).unwrap_or_default();
    format!("{}{commit}", env!("CARGO_PKG_VERSION"))
}

fn git_commit(tree: &Path) -> Option<String> {
    let shell = quick::shell(tree).ok()?;
    let describe = git::quick_call(&shell).args(["describe", "--always", "--dirty", "--abbrev=12"]);
    Some(quick::read(describe).ok()?.trim_end().to_owned())
}

fn checkout_facts(checkout: &vm_images::build::checkout::Checkout) -> (String, Checkout) {
    let facts = Checkout {
        dir: checkout.dir.to_string_lossy().into_owned(),
        commit: checkout.commit.clone(),
        digest: checkout.digest.to_string(),
        package: checkout.package.clone(),
    };
    (checkout.project.name().to_owned(), facts)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_word_that_is_no_text_is_recorded_as_near_as_text_can_come() {
        let words = [b"xtask".to_vec(), b"test".to_vec(), b"--script=a\xff.sh".to_vec()];
        let command = command_line(words.into_iter().map(OsString::from_vec));
        assert_eq!(command, ["cargo", "xtask", "test", "--script=a\u{fffd}.sh"]);
    }
}
