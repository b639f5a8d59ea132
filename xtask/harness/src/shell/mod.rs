//! A shell in a guest, from top to bottom: prepare → restore or boot → carry bytes → collect files.
//!
//! [`state`] decides, [`streams`] and [`host_terminal`] are the user's side of it. Deliberately not here:
//! what the user is told of the end ([`crate::commands::shell`]).

pub mod host_terminal;
pub(crate) mod keys;
pub mod state;
mod streams;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use protocol::program::Program;
use reports::render::words::reproduce::shell_line;
use vm_images::build::checkout::Sources;
use vm_images::host::Cancel;
use vm_images::host::progress::Progress;
use vm_images::spec::KernelSpec;

use crate::attempt::TimeLimits;
use crate::attempt::drive::{FILES_CAP, LOG_CAP};
use crate::error::usage;
use crate::guest::capped_log::CappedLog;
use crate::guest::files::Collected;
use crate::machine::accel::AccelChoice;
use crate::machine::greeting::Opening;
use crate::machine::snapshot::{NotRestored, Snapshots};
use crate::machine::start::{
    CarriedOut, Ended, Hands, StartTimeouts, drive, remove_empty_log, restore_or_boot,
};
use crate::machine::{Access, Hypervisor, INPUTS_MAX, Input, TICK, Vm, VmSpec};
use crate::run::folder::create_folder;
use crate::run::folder::default_runs;
use crate::run::plan::limits;
use crate::run::prepare;
use crate::session::Session;
use crate::suite::{Job, suite_named};
use crate::words::count;
use crate::workspace::shown_path;

use host_terminal::RawMode;
use state::{Effect, End, Event, Finished, ShellState};
use streams::{TerminalSignals, Writer};

/// Largest command line that is passed on, bytes: with the rest of the request it must fit a line.
const ARGV_MAX: usize = 32 * 1024;

/// Options of a shell.
#[derive(Clone, Debug)]
pub struct Options {
    /// Exactly one, or it makes no sense.
    pub kernels: Vec<KernelSpec>,
    /// Suite whose machine, modules and environment the shell gets.
    pub suite: String,
    /// Sources of the guest's LVM2 and mdadm.
    pub sources: Sources,
    /// Added to the kernel's command line.
    pub append: String,
    /// How guest code is to be executed.
    pub accel: AccelChoice,
    /// Restore the guest from a snapshot rather than boot it.
    pub snapshots: bool,
    /// Memory, MiB; the suite's by default.
    pub ram_mib: Option<u32>,
    /// Processors; the suite's by default.
    pub vcpus: Option<u32>,
    /// Folder of the runs; by default `reports/out`.
    pub out: Option<PathBuf>,
    /// Program to run; bash, if nothing.
    pub argv: Vec<String>,
    /// An image for guests of the guest's ([`VmSpec::outer_image`]). Such a shell has no input and no
    /// terminal, whoever calls it.
    pub outer_image: Option<PathBuf>,
}

/// A shell that is over.
#[derive(Debug)]
pub struct FinishedShell {
    /// Folder of its logs.
    pub dir: PathBuf,
    /// How it ended.
    pub finished: Finished,
    /// It had a terminal.
    pub interactive: bool,
}

/// Opens a shell, and returns when it is over.
pub fn run(session: &Session, options: &Options) -> Result<FinishedShell> {
    let started = Instant::now();
    let suite = suite_named(&options.suite)?;
    let example = suite.example()?;
    let interactive = options.outer_image.is_none() && host_terminal::is_interactive();
    let program = program(options, &example, interactive)?;

    if options.kernels.len() != 1 {
        return Err(usage(anyhow::anyhow!("a shell runs on one kernel; name it with --kernel")));
    }
    let prepared = prepare::prepare(session, &options.kernels, &options.sources, options.accel)?;
    let kernel = prepared.kernels.first().context("no kernel to boot")?;
    let accel = prepared.chosen.accel;
    let dir = create_folder(&options.out.clone().unwrap_or_else(default_runs), "shell-")?;
    let (ram_mib, vcpus) = suite.machine_size();
    let (ram_mib, vcpus) = (options.ram_mib.unwrap_or(ram_mib), options.vcpus.unwrap_or(vcpus));
    let vm = VmSpec {
        log: dir.join("qemu.log"),
        append: options.append.clone(),
        outer_image: options.outer_image.clone(),
        ..kernel.vm(&prepared.guest, accel, ram_mib, vcpus)
    };

    let note = |text: &str| session.terminal.note(text);
    note(&format!("accelerator: {accel} ({})", prepared.chosen.reason));
    let release = &kernel.kernel.release;
    let seconds = started.elapsed().as_secs_f32();
    let vcpus = count(usize::try_from(vcpus)?, "processor");
    note(&format!("{release}, {ram_mib} MiB, {vcpus}; prepared in {seconds:.1} s"));
    let shown = shown_path(&dir);
    note(&format!("kernel messages go to {shown}/kernel.log and console.log"));
    if interactive {
        if options.argv.is_empty() {
            note(&format!("to run a test by hand: {}", shell_line(&example.argv)));
        }
        note(&format!("{} ends the VM", keys::HOW));
    }

    let cancel = session.host.cancel();
    let snapshots =
        options.snapshots.then(|| Snapshots::new(&prepared.qemu, &session.store, &*session.terminal, cancel));
    let opened = Shell {
        session,
        hypervisor: &prepared.qemu,
        program: Program {
            replaced: vm.replaced.as_ref().map(|replaced| replaced.modules.clone()),
            ..program
        },
        interactive,
        has_input: options.outer_image.is_none(),
        limits: limits(prepared.chosen.time_scale, &example),
        dir: &dir,
        cancel,
    };
    let finished = opened.run(&vm, snapshots.as_ref())?;
    Ok(FinishedShell { dir, finished, interactive })
}

/// The program that runs in the guest, prepared as for a test.
fn program(options: &Options, example: &Job, interactive: bool) -> Result<Program> {
    let argv = if options.argv.is_empty() { vec!["bash".to_owned()] } else { options.argv.clone() };
    if argv.iter().map(|word| word.len() + 8).sum::<usize>() > ARGV_MAX {
        let error =
            anyhow::anyhow!("the command line exceeds {ARGV_MAX} bytes; pipe a script into the shell");
        return Err(usage(error));
    }
    let mut env = example.env.clone();
    if interactive {
        let term = std::env::var("TERM").ok();
        env.insert("TERM".to_owned(), keys::guest_term(term.as_deref()).to_owned());
    }
    Ok(Program {
        argv,
        cwd: example.cwd.clone(),
        env,
        make_dirs: example.make_dirs.clone(),
        load_modules: example.load_modules.clone(),
        disks: vec![],
        replaced: None,
    })
}

/// Everything that a shell needs, but its VM.
struct Shell<'a> {
    session: &'a Session,
    hypervisor: &'a dyn Hypervisor,
    program: Program,
    interactive: bool,
    /// Standard input is the program's.
    has_input: bool,
    limits: TimeLimits,
    dir: &'a Path,
    cancel: &'a Cancel,
}

impl Shell<'_> {
    /// In a VM that is restored, if it can be, else in one that boots.
    fn run(&self, vm: &VmSpec, snapshots: Option<&Snapshots<'_>>) -> Result<Finished> {
        let booted_instead = |why: String| {
            self.session.terminal.note(&why);
            Ok(())
        };
        let timeouts = StartTimeouts { boot: self.limits.boot_timeout, restore: self.limits.restore_timeout };
        let run = |vm: &VmSpec, boot_timeout| self.run_in(vm, TimeLimits { boot_timeout, ..self.limits });
        Ok(restore_or_boot(vm, snapshots, timeouts, booted_instead, run)?.result)
    }

    fn run_in(&self, vm_spec: &VmSpec, limits: TimeLimits) -> Result<Ended<Finished>> {
        let started = Instant::now();
        let (events_in, events) = sync_channel(INPUTS_MAX);
        let (inputs, told) = sync_channel(INPUTS_MAX);
        let vm = self.hypervisor.start(vm_spec, inputs)?;
        let forward = events_in.clone();
        let pass_on = move || {
            for input in told {
                if forward.send(Event::Vm(input)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("vm".into()).spawn(pass_on).context("failed to start a thread")?;

        let terminal = self.interactive.then(host_terminal::size);
        let mut state = ShellState::new(Opening::draw()?, self.program.clone(), terminal, limits);
        let mut hands = ShellHands {
            shell: self,
            vm,
            modules: vm_spec.replaced.as_ref().map(|replaced| replaced.image.clone()),
            console: self.log("console.log")?,
            kernel: self.log("kernel.log")?,
            files: Collected::new(self.dir.join("files"), FILES_CAP),
            writer: Writer::start(events_in.clone())?,
            permits: None,
            raw: None,
            events: events_in,
        };
        let first = state.begin();
        let interrupted = drive(&mut state, &mut hands, &events, first, started, self.cancel)?;
        let finished = state.finish();
        hands.close(&events, self.cancel, &finished)?;
        remove_empty_log(&vm_spec.log);
        let unanswered = match &finished.end {
            End::Crashed { title: why } | End::Infra { error: why } if !finished.ready && !interrupted => {
                let not_restored = if finished.late { NotRestored::Late } else { NotRestored::Broken };
                Some(not_restored(why.clone()))
            }
            End::Crashed { .. }
            | End::Infra { .. }
            | End::Exited(_)
            | End::Escaped
            | End::Interrupted
            | End::Hung { .. } => None,
        };
        Ok(Ended { result: finished, unanswered })
    }

    fn log(&self, name: &str) -> Result<CappedLog> {
        let path = self.dir.join(name);
        CappedLog::create(&path, LOG_CAP).with_context(|| format!("failed to create `{}`", path.display()))
    }
}

/// Carries effects out.
struct ShellHands<'a> {
    shell: &'a Shell<'a>,
    vm: Box<dyn Vm>,
    /// Image of the modules that take the place of the kernel's.
    modules: Option<PathBuf>,
    console: CappedLog,
    kernel: CappedLog,
    files: Collected,
    writer: Writer,
    /// Permits a piece of input to be read.
    permits: Option<Sender<()>>,
    /// While the terminal is the guest's. The signals go first: one that comes late must not make the
    /// terminal raw again.
    raw: Option<(TerminalSignals, RawMode)>,
    events: SyncSender<Event>,
}

impl Hands<ShellState> for ShellHands<'_> {
    fn see(&mut self, event: &Event) -> Result<()> {
        if let Event::Vm(Input::Console(bytes)) = event {
            self.console.write(bytes).context("failed to write the console log")?;
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<CarriedOut<Event>> {
        match effect {
            Effect::Send(request) => return Ok(self.vm.send(&request).into()),
            Effect::PlugModules { serial } => {
                if let Some(image) = &self.modules {
                    return Ok(self.vm.plug_disk(image, &serial, Access::Read).into());
                }
            }
            Effect::Kill => self.vm.kill(),
            Effect::Opened => {
                let resized = match self.shell.interactive {
                    true => {
                        self.shell.session.terminal.end_step();
                        let raw = RawMode::enter().context("failed to prepare the terminal")?;
                        self.raw = Some((TerminalSignals::listen(self.events.clone())?, raw));
                        // It may have changed while nobody listened.
                        CarriedOut::Happened(Event::Resized(host_terminal::size()))
                    }
                    false => CarriedOut::Done,
                };
                // Only now: what is read while a terminal is not raw comes by lines.
                self.permits = match self.shell.has_input {
                    true => Some(streams::read_input(self.events.clone())?),
                    false => None,
                };
                return Ok(resized);
            }
            Effect::ReadOn => {
                // The reader is gone once input has ended.
                let _ = self.permits.as_ref().map(|permits| permits.send(()));
            }
            Effect::Write(stream, data) => self.writer.write(stream, data),
            Effect::KernelLog(text) => {
                self.kernel.write(text.as_bytes()).context("failed to write the kernel log")?;
            }
            Effect::File(message) => {
                self.files.take(&message).context("failed to keep a file of the guest")?;
            }
            Effect::Say(text) => {
                let text = reports::text::printable(&text);
                match &self.raw {
                    Some(_) => host_terminal::say(&text),
                    None => self.shell.session.terminal.say(&text),
                }
            }
        }
        Ok(CarriedOut::Done)
    }
}

impl ShellHands<'_> {
    /// Has the last of the output written, and gives the terminal back.
    fn close(self, events: &Receiver<Event>, cancel: &Cancel, finished: &Finished) -> Result<()> {
        drop(self.vm);
        self.writer.finish();
        // Whoever reads our output may take their time; only a signal ends that.
        while !cancel.is_cancelled() {
            match events.recv_timeout(TICK) {
                Ok(Event::WrittenAll) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        if self.raw.is_some() && !matches!(finished.end, End::Exited(_)) {
            host_terminal::reset();
        }
        drop(self.raw);
        for log in [self.console, self.kernel] {
            log.close().context("failed to finish a log")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_typed() {
        let check = |argv: &[&str], expect: &str| {
            let argv: Vec<_> = argv.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(shell_line(&argv), expect);
        };
        check(&["bash", "-norc", "/usr/x.sh"], "bash -norc /usr/x.sh");
        check(&["sh", "-c", "echo it's; x"], r"sh -c 'echo it'\''s; x'");
        check(&["x", ""], "x ''");
    }
}
