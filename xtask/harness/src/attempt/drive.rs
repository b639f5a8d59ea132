//! Drives one attempt: feeds what a VM tells into [`AttemptState`], with the time, and carries its
//! effects out.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use protocol::event::{AttemptFacts, Blame};
use protocol::{Event, Outcome};
use vm_images::host::Cancel;

use crate::attempt::{AttemptState, Effect, TimeLimits};
use crate::event_log::{EventLog, FAILED};
use crate::guest::capped_log::CappedLog;
use crate::guest::files::{Collected, names};
use crate::machine::greeting::Opening;
use crate::machine::snapshot::{NotRestored, Snapshots};
use crate::machine::start::{
    CarriedOut, Decide, Ended, Hands, StartTimeouts, Started, drive, remove_empty_log, restore_or_boot,
};
use crate::machine::{Access, Answer, Ask, Hypervisor, INPUTS_MAX, Input, Vm, VmSpec};
use crate::suite::Job;
use crate::terminal::Line;

/// Bytes kept of the beginning, and of the end, of each log.
pub(crate) const LOG_CAP: u64 = 8 << 20;

/// Bytes kept of all files that come back from an attempt.
pub(crate) const FILES_CAP: u64 = 128 << 20;

/// Name of the guest's memory, among an attempt's logs.
const DUMP: &str = "memory.kdump";
/// Room that a dump leaves free on the disk beyond the guest's memory, MiB: other attempts write, too.
const DUMP_SPARE_MIB: u64 = 2048;

/// Resources that an attempt shares with the others of its run.
#[derive(Clone, Copy)]
pub(crate) struct AttemptContext<'a> {
    pub(crate) hypervisor: &'a dyn Hypervisor,
    /// Where VMs are restored from, unless each boots.
    pub(crate) snapshots: Option<&'a Snapshots<'a>>,
    /// Write the guest's memory where one hangs or crashes.
    pub(crate) dump: bool,
    /// The run's record.
    pub(crate) events: &'a EventLog,
    pub(crate) cancel: &'a Cancel,
}

/// Everything that one attempt needs.
pub(crate) struct Attempt<'a> {
    pub(crate) number: u32,
    pub(crate) job: Job,
    pub(crate) vm: VmSpec,
    pub(crate) limits: TimeLimits,
    /// Folder of its logs; it exists.
    pub(crate) dir: &'a Path,
    /// Folder for its disks, which go with it.
    pub(crate) scratch: &'a Path,
}

/// The logs that an attempt writes.
struct Logs {
    console: CappedLog,
    kernel: CappedLog,
    output: CappedLog,
    files: Collected,
}

/// The disks that an attempt is given: sparse files, which go when it is over.
struct Disks<'a> {
    scratch: &'a Path,
    sizes: &'a [u64],
    images: Vec<tempfile::TempPath>,
}

impl Disks<'_> {
    fn make(&mut self, idx: usize) -> Result<PathBuf> {
        let size = *self.sizes.get(idx).context("no such disk")?;
        let image = tempfile::Builder::new().prefix("disk-").tempfile_in(self.scratch);
        let image =
            image.with_context(|| format!("failed to make a disk in `{}`", self.scratch.display()))?;
        image.as_file().set_len(size).context("failed to size a disk")?;
        let image = image.into_temp_path();
        let path = image.to_owned();
        self.images.push(image);
        Ok(path)
    }
}

impl Decide for AttemptState {
    type Event = Input;
    type Effect = Effect;

    fn apply(&mut self, at: Duration, input: Input) -> Vec<Effect> {
        self.apply(at, input)
    }

    fn tick(&mut self, at: Duration) -> Vec<Effect> {
        self.tick(at)
    }

    fn interrupt(&mut self) -> Vec<Effect> {
        self.interrupt()
    }

    fn fail(&mut self, error: String) -> Vec<Effect> {
        self.fail(error)
    }

    fn is_over(&self) -> bool {
        self.is_over()
    }
}

impl Attempt<'_> {
    /// Runs it to its end, in a VM of its own: one that is restored, if `snapshots` has one or can
    /// make one, else one that boots. An error is one of the record itself (a full disk): everything else
    /// is an outcome.
    pub(crate) fn run(self, context: AttemptContext<'_>, line: &Line) -> Result<(Outcome, AttemptFacts)> {
        let AttemptContext { snapshots, events, .. } = context;
        let remark = |blame: Blame, text: String| {
            let event = Event::Remark { attempt: Some(self.number), blame, text };
            events.append(event).context(FAILED)
        };
        let timeouts = StartTimeouts { boot: self.limits.boot_timeout, restore: self.limits.restore_timeout };
        let booted_instead = |why| remark(Blame::Host, why);
        let Started { result: (outcome, facts), unsaved } =
            restore_or_boot(&self.vm, snapshots, timeouts, booted_instead, |vm, boot_timeout| {
                self.run_in(vm, TimeLimits { boot_timeout, ..self.limits }, context, line)
            })?;
        // It booted after all. A guest that is to be saved loads more than one that is booted for a test:
        // what the kernel said of its own fault there is the kernel's; that it was slow is the host's, and no
        // test's.
        if let Some((blame, why)) = unsaved.filter(|_| !matches!(outcome, Outcome::KernelCrash { .. })) {
            remark(blame, format!("no guest could be saved to be restored ({why}): booted instead"))?;
        }
        Ok((outcome, facts))
    }

    fn run_in(
        &self,
        vm_spec: &VmSpec,
        limits: TimeLimits,
        context: AttemptContext<'_>,
        line: &Line,
    ) -> Result<Ended<(Outcome, AttemptFacts)>> {
        let AttemptContext { hypervisor, events, cancel, .. } = context;
        let started = Instant::now();
        let log = |name: &str| {
            let path = self.dir.join(name);
            CappedLog::create(&path, LOG_CAP)
                .with_context(|| format!("failed to create `{}`", path.display()))
        };
        let logs = Logs {
            console: log("console.log")?,
            kernel: log("kernel.log")?,
            output: log("output.log")?,
            files: Collected::new(self.dir.join("files"), FILES_CAP),
        };
        let (inputs, told) = sync_channel(INPUTS_MAX);
        let vm = match hypervisor.start(vm_spec, inputs) {
            Ok(vm) => vm,
            Err(error) => {
                let result = (Outcome::Infra { error: error.to_string() }, AttemptFacts::default());
                return Ok(Ended { result, unanswered: None });
            }
        };
        let state = AttemptState::new(self.number, Opening::draw()?, self.job.clone(), limits);
        let replaced = vm_spec.replaced.as_ref().map(|replaced| replaced.modules.clone());
        let mut state =
            state.with_dump(context.dump).with_modules(replaced).watched(!vm_spec.tuning.unwatched);
        let disks = Disks { scratch: self.scratch, sizes: &self.job.disks, images: vec![] };
        let ram_mib = vm_spec.ram_mib;
        let modules = vm_spec.replaced.as_ref().map(|replaced| replaced.image.as_path());
        let mut hands = AttemptHands { vm, logs, disks, modules, dir: self.dir, ram_mib, events, line };
        let first = state.begin();
        let interrupted = drive(&mut state, &mut hands, &told, first, started, cancel)?;
        let AttemptHands { vm, logs, .. } = hands;
        drop(vm);
        let dropped = logs.output.dropped();
        for log in [logs.console, logs.kernel, logs.output] {
            log.close().context("failed to finish a log")?;
        }
        remove_empty_log(&vm_spec.log);
        let (answered, late) = (state.is_ready(), state.is_late());
        let (outcome, mut facts) = state.finish(started.elapsed(), dropped);
        facts.restored = vm_spec.restore.is_some();
        if !facts.files.is_empty() {
            let list = self.dir.join("files.txt");
            fs::write(&list, names(&facts.files)).context("failed to list the guest's files")?;
        }
        let why = if late { NotRestored::Late } else { NotRestored::Broken };
        let unanswered = (!answered && !interrupted).then(|| why(outcome.detail()));
        Ok(Ended { result: (outcome, facts), unanswered })
    }
}

/// Carries effects out.
struct AttemptHands<'a> {
    vm: Box<dyn Vm>,
    logs: Logs,
    disks: Disks<'a>,
    /// Image of the modules that take the place of the kernel's.
    modules: Option<&'a Path>,
    /// Folder of the attempt's logs.
    dir: &'a Path,
    ram_mib: u32,
    events: &'a EventLog,
    line: &'a Line,
}

impl Hands<AttemptState> for AttemptHands<'_> {
    fn see(&mut self, input: &Input) -> Result<()> {
        if let Input::Console(bytes) = input {
            self.logs.console.write(bytes).context("failed to write the console log")?;
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<CarriedOut<Input>> {
        match effect {
            Effect::Send(request) => return Ok(self.vm.send(&request).into()),
            Effect::PlugDisk { idx, serial } => {
                let plugged = self
                    .disks
                    .make(idx)
                    .and_then(|image| Ok(self.vm.plug_disk(&image, &serial, Access::Write)?));
                if let Err(error) = plugged {
                    return Ok(CarriedOut::Failed(format!("{error:#}")));
                }
            }
            Effect::PlugModules { serial } => {
                let Some(image) = self.modules else {
                    unreachable!("modules that there are none of are not plugged in")
                };
                return Ok(self.vm.plug_disk(image, &serial, Access::Read).into());
            }
            Effect::Kill => self.vm.kill(),
            Effect::Ask(ask) => return Ok(self.vm.ask(&ask).into()),
            Effect::Dump => {
                if let Err(error) = self.dump() {
                    let answer = Answer::Dumped(Err(format!("{error:#}")));
                    return Ok(CarriedOut::Happened(Input::Answer(answer)));
                }
            }
            Effect::HostEvidence(text) => {
                let path = self.dir.join("host-evidence.txt");
                fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))?;
            }
            Effect::Record(event) => self.events.append(event).context(FAILED)?,
            Effect::Output { data, .. } => {
                self.logs.output.write(&data).context("failed to write the test's output")?;
            }
            Effect::KernelLog(text) => {
                self.logs.kernel.write(text.as_bytes()).context("failed to write the kernel log")?;
            }
            Effect::File(message) => {
                self.logs.files.take(&message).context("failed to keep a file of the guest")?;
            }
            Effect::Show(text) => self.line.set(&reports::text::printable(&text)),
        }
        Ok(CarriedOut::Done)
    }
}

impl AttemptHands<'_> {
    /// Has the guest's memory written, if the disk has room for all of it and some more.
    fn dump(&mut self) -> Result<()> {
        let disk = rustix::fs::statvfs(self.dir).context("failed to look at the disk's room")?;
        let (free, needed) =
            (disk.f_bavail * disk.f_frsize, (u64::from(self.ram_mib) + DUMP_SPARE_MIB) << 20);
        ensure!(
            free >= needed,
            "that may take {} MiB, and `{}` has {} MiB left",
            needed >> 20,
            self.dir.display(),
            free >> 20
        );
        Ok(self.vm.ask(&Ask::Dump(self.dir.join(DUMP)))?)
    }
}
