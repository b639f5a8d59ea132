//! Drives one attempt: feeds what a VM tells into [`AttemptState`], with the time, and carries its
//! effects out.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use protocol::event::{AttemptFacts, Blame};
use protocol::{Event, Outcome};
use rustix::rand::GetRandomFlags;
use vm_images::host::Cancel;

use crate::attempt::{AttemptState, Effect, Opening, TimeLimits};
use crate::event_log::{EventLog, FAILED};
use crate::guest::capped_log::CappedLog;
use crate::guest::files::{Collected, names};
use crate::machine::snapshot::{NotRestored, SnapshotError, Snapshots};
use crate::machine::{Access, Answer, Ask, Hypervisor, Input, Vm, VmSpec};
use crate::suite::Job;
use crate::terminal::Line;

/// Inputs that may wait to be looked at: a guest that floods is slowed down, not stored.
pub(crate) const INPUTS_MAX: usize = 64;
/// How often the clock is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// Bytes kept of the beginning, and of the end, of each log.
pub(crate) const LOG_CAP: u64 = 8 << 20;

/// Bytes kept of all files that come back from an attempt.
pub(crate) const FILES_CAP: u64 = 128 << 20;

/// Name of the guest's memory, among an attempt's logs.
const DUMP: &str = "memory.kdump";
/// What a dump leaves free on the disk beyond the guest's memory, MiB: other attempts write, too.
const DUMP_SPARE_MIB: u64 = 2048;

/// What an attempt shares with the others of its run.
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

/// What one VM came to.
enum Tried {
    Over(Outcome, Box<AttemptFacts>),
    /// A VM that was to be restored never answered, for this reason.
    NotRestored(NotRestored),
}

impl Attempt<'_> {
    /// Runs it to its end, in a VM of its own: one that is restored, if `snapshots` has one or can
    /// make one, else one that boots. An error is one of the record itself (a full disk): everything else
    /// is an outcome.
    pub(crate) fn run(self, context: AttemptContext<'_>, line: &Line) -> Result<(Outcome, AttemptFacts)> {
        let AttemptContext { snapshots, events, .. } = context;
        // Half the time that booting gets: a guest that does not boot is booted again, for the record.
        let snapshot =
            snapshots.map(|snapshots| (snapshots, snapshots.of(&self.vm, self.limits.boot_timeout / 2)));
        let remark = |blame: Blame, text: String| {
            let event = Event::Remark { attempt: Some(self.number), blame, text };
            events.append(event).context(FAILED)
        };
        let mut unsaved = None;
        match snapshot {
            Some((snapshots, Ok(state))) => {
                let vm = VmSpec { restore: Some(state), ..self.vm.clone() };
                let limits = TimeLimits { boot_timeout: self.limits.restore_timeout, ..self.limits };
                match self.try_in(&vm, limits, context, line)? {
                    Tried::Over(outcome, facts) => {
                        snapshots.restored(&self.vm);
                        return Ok((outcome, *facts));
                    }
                    Tried::NotRestored(why) => remark(Blame::Host, snapshots.not_restored(&self.vm, &why))?,
                }
            }
            Some((_, Err(SnapshotError::Infra(why)))) => {
                remark(Blame::Host, format!("no snapshot could be made ({why}): booted instead"))?;
            }
            // What keeps a guest from booting shows when it is booted.
            Some((_, Err(SnapshotError::Crashed(why)))) => unsaved = Some((Blame::Kernel, why)),
            Some((_, Err(SnapshotError::NoBoot(why)))) => unsaved = Some((Blame::Host, why)),
            Some((_, Err(SnapshotError::Cancelled))) | None => {}
        }
        match self.try_in(&self.vm, self.limits, context, line)? {
            Tried::Over(outcome, facts) => {
                // It booted after all. A guest that is to be saved loads more than one that is booted for a test: what
                // the kernel said of its own fault there is the kernel's; that it was slow is the host's, and no test's.
                if let Some((blame, why)) =
                    unsaved.filter(|_| !matches!(outcome, Outcome::KernelCrash { .. }))
                {
                    remark(blame, format!("no guest could be saved to be restored ({why}): booted instead"))?;
                }
                Ok((outcome, *facts))
            }
            Tried::NotRestored(NotRestored::Broken(error) | NotRestored::Late(error)) => {
                Ok((Outcome::Infra { error }, AttemptFacts::default()))
            }
        }
    }

    fn try_in(
        &self,
        vm_spec: &VmSpec,
        limits: TimeLimits,
        context: AttemptContext<'_>,
        line: &Line,
    ) -> Result<Tried> {
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
                let facts = AttemptFacts::default();
                return Ok(Tried::Over(Outcome::Infra { error: error.to_string() }, Box::new(facts)));
            }
        };
        let state = AttemptState::new(self.number, opening()?, self.job.clone(), limits);
        let replaced = vm_spec.replaced.as_ref().map(|replaced| replaced.modules.clone());
        let mut state = state.with_dump(context.dump).with_modules(replaced);
        let disks = Disks { scratch: self.scratch, sizes: &self.job.disks, images: vec![] };
        let ram_mib = vm_spec.ram_mib;
        let modules = vm_spec.replaced.as_ref().map(|replaced| replaced.image.as_path());
        let mut hands = Hands { vm, logs, disks, modules, dir: self.dir, ram_mib, events, line };
        let mut effects = state.begin();
        let mut interrupted = false;
        while !state.is_over() {
            // If the record cannot be kept, the VM ends (it is dropped) rather than go on unrecorded.
            hands.carry_out(started.elapsed(), effects, &mut state)?;
            effects = match told.recv_timeout(TICK) {
                Ok(input) => {
                    if let Input::Console(bytes) = &input {
                        hands.logs.console.write(bytes).context("failed to write the console log")?;
                    }
                    state.apply(started.elapsed(), input)
                }
                Err(RecvTimeoutError::Timeout) => vec![],
                Err(RecvTimeoutError::Disconnected) => {
                    let end = crate::machine::VmEnd::Failed { error: "lost the VM's channels".into() };
                    state.apply(started.elapsed(), Input::Ended(end))
                }
            };
            effects.extend(state.tick(started.elapsed()));
            if cancel.is_cancelled() && !interrupted {
                interrupted = true;
                effects.extend(state.interrupt());
            }
        }
        hands.carry_out(started.elapsed(), effects, &mut state)?;
        let Hands { vm, logs, .. } = hands;
        drop(vm);
        let dropped = logs.output.dropped();
        for log in [logs.console, logs.kernel, logs.output] {
            log.close().context("failed to finish a log")?;
        }
        // QEMU has nothing to say when all is well.
        if fs::symlink_metadata(&vm_spec.log).is_ok_and(|data| data.is_file() && data.len() == 0) {
            let _ = fs::remove_file(&vm_spec.log);
        }
        let (answered, late) = (state.is_ready(), state.is_late());
        let (outcome, mut facts) = state.finish(started.elapsed(), dropped);
        facts.restored = vm_spec.restore.is_some();
        if !facts.files.is_empty() {
            let list = self.dir.join("files.txt");
            fs::write(&list, names(&facts.files)).context("failed to list the guest's files")?;
        }
        Ok(if facts.restored && !answered && !interrupted {
            let why = if late { NotRestored::Late } else { NotRestored::Broken };
            Tried::NotRestored(why(outcome.detail()))
        } else {
            Tried::Over(outcome, Box::new(facts))
        })
    }
}

/// What effects are carried out with.
struct Hands<'a> {
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

impl Hands<'_> {
    fn carry_out(&mut self, at: Duration, effects: Vec<Effect>, state: &mut AttemptState) -> Result<()> {
        let mut effects = std::collections::VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send(request) => {
                    // What else was to be sent would wait as long, and in vain.
                    if let Err(error) = self.vm.send(&request) {
                        effects = state.fail(error.to_string()).into();
                    }
                }
                Effect::PlugDisk { idx, serial } => {
                    let plugged = self
                        .disks
                        .make(idx)
                        .and_then(|image| Ok(self.vm.plug_disk(&image, &serial, Access::Write)?));
                    if let Err(error) = plugged {
                        effects = state.fail(format!("{error:#}")).into();
                    }
                }
                Effect::PlugModules { serial } => {
                    let plugged = match self.modules {
                        Some(image) => self.vm.plug_disk(image, &serial, Access::Read),
                        None => unreachable!("modules that there are none of are not plugged in"),
                    };
                    if let Err(error) = plugged {
                        effects = state.fail(error.to_string()).into();
                    }
                }
                Effect::Kill => self.vm.kill(),
                Effect::Ask(ask) => {
                    if let Err(error) = self.vm.ask(&ask) {
                        effects = state.fail(error.to_string()).into();
                    }
                }
                Effect::Dump => {
                    if let Err(error) = self.dump() {
                        let answer = Answer::Dumped(Err(format!("{error:#}")));
                        effects.extend(state.apply(at, Input::Answer(answer)));
                    }
                }
                Effect::HostEvidence(text) => {
                    let path = self.dir.join("host-evidence.txt");
                    fs::write(&path, text)
                        .with_context(|| format!("failed to write `{}`", path.display()))?;
                }
                Effect::Record(event) => self.events.append(event).context(FAILED)?,
                Effect::Output { data, .. } => {
                    self.logs.output.write(&data).context("failed to write the test's output")?;
                }
                Effect::KernelLog(text) => {
                    self.logs.kernel.write(text.as_bytes()).context("failed to write the kernel log")?;
                }
                Effect::File(message) => {
                    self.logs.files.take(&message).context("failed to keep a file of the guest")?
                }
                Effect::Show(text) => self.line.set(&reports::text::printable(&text)),
            }
        }
        Ok(())
    }

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

/// Draws a new one.
pub fn opening() -> Result<Opening> {
    let mut random = [0; 40];
    // Up to 256 bytes are never cut short (getrandom(2)).
    rustix::rand::getrandom(&mut random, GetRandomFlags::empty()).context("failed to draw random numbers")?;
    let (session, entropy) = random.split_at(8);
    let session = session.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    Ok(Opening { session, entropy: entropy.to_vec() })
}
