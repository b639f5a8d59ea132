//! Drives one attempt: feeds what a VM tells into [`AttemptState`], with the time, and carries its
//! effects out.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use protocol::event::AttemptFacts;
use protocol::{Event, Outcome};
use vm_images::host::Cancel;

use super::attempt::{AttemptState, Effect, TimeLimits};
use super::capped_log::CappedLog;
use super::collected::Collected;
use super::event_log::EventLog;
use crate::suite::Job;
use crate::terminal::Line;
use crate::vm::{Hypervisor, Input, Vm, VmSpec};

/// Inputs that may wait to be looked at: a guest that floods is slowed down, not stored.
const INPUTS_MAX: usize = 64;
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Bytes kept of the beginning, and of the end, of each log.
const LOG_CAP: u64 = 8 << 20;

/// Everything that one attempt needs.
pub(crate) struct Attempt<'a> {
    pub(crate) number: u32,
    pub(crate) job: Job,
    pub(crate) vm: VmSpec,
    pub(crate) limits: TimeLimits,
    /// Folder of its logs; it exists.
    pub(crate) dir: &'a Path,
}

/// The logs that an attempt writes.
struct Logs {
    console: CappedLog,
    kernel: CappedLog,
    output: CappedLog,
    files: Collected,
}

impl Attempt<'_> {
    /// Runs it to its end, in a VM of its own. An error is one of the record itself (a full disk):
    /// everything else is an outcome.
    pub(crate) fn run(
        self,
        hypervisor: &dyn Hypervisor,
        events: &EventLog,
        line: &Line,
        cancel: &Cancel,
    ) -> Result<(Outcome, AttemptFacts)> {
        let started = Instant::now();
        let log = |name: &str| {
            let path = self.dir.join(name);
            CappedLog::create(&path, LOG_CAP)
                .with_context(|| format!("failed to create `{}`", path.display()))
        };
        let mut logs = Logs {
            console: log("console.log")?,
            kernel: log("kernel.log")?,
            output: log("output.log")?,
            files: Collected::new(self.dir.join("files")),
        };
        events.append(Event::VmStarting { attempt: self.number }).context("failed to record an event")?;
        let (inputs, told) = sync_channel(INPUTS_MAX);
        let mut vm = match hypervisor.start(&self.vm, inputs) {
            Ok(vm) => vm,
            Err(error) => {
                let facts = AttemptFacts::default();
                return Ok((Outcome::Infra { error: error.to_string() }, facts));
            }
        };
        let mut state = AttemptState::new(self.number, fresh_number(), self.job, self.limits);
        let mut effects = state.begin();
        let mut interrupted = false;
        while !state.is_over() {
            // If the record cannot be kept, the VM ends (it is dropped) rather than go on unrecorded.
            carry_out(effects, &mut *vm, &mut logs, events, line, &mut state)?;
            effects = match told.recv_timeout(TICK) {
                Ok(input) => {
                    if let Input::Console(bytes) = &input {
                        logs.console.write(bytes).context("failed to write the console log")?;
                    }
                    state.apply(started.elapsed(), input)
                }
                Err(RecvTimeoutError::Timeout) => vec![],
                Err(RecvTimeoutError::Disconnected) => {
                    let end = crate::vm::VmEnd::Failed { error: "lost the VM's channels".into() };
                    state.apply(started.elapsed(), Input::Ended(end))
                }
            };
            effects.extend(state.tick(started.elapsed()));
            if cancel.is_cancelled() && !interrupted {
                interrupted = true;
                effects.extend(state.interrupt());
            }
        }
        carry_out(effects, &mut *vm, &mut logs, events, line, &mut state)?;
        drop(vm);
        let dropped = logs.output.dropped();
        for log in [logs.console, logs.kernel, logs.output] {
            log.close().context("failed to finish a log")?;
        }
        // QEMU has nothing to say when all is well.
        if fs::metadata(&self.vm.log).is_ok_and(|data| data.len() == 0) {
            let _ = fs::remove_file(&self.vm.log);
        }
        Ok(state.finish(started.elapsed(), dropped))
    }
}

fn carry_out(
    effects: Vec<Effect>,
    vm: &mut dyn Vm,
    logs: &mut Logs,
    events: &EventLog,
    line: &Line,
    state: &mut AttemptState,
) -> Result<()> {
    let mut effects = std::collections::VecDeque::from(effects);
    while let Some(effect) = effects.pop_front() {
        match effect {
            Effect::Send(request) => {
                if let Err(error) = vm.send(&request) {
                    effects.extend(state.fail(error.to_string()));
                }
            }
            Effect::Kill => vm.kill(),
            Effect::Record(event) => events.append(event).context("failed to record an event")?,
            Effect::Output { data, .. } => {
                logs.output.write(&data).context("failed to write the test's output")?;
            }
            Effect::KernelLog(text) => {
                logs.kernel.write(text.as_bytes()).context("failed to write the kernel log")?;
            }
            Effect::File(message) => {
                logs.files.take(&message).context("failed to keep a file of the guest")?
            }
            Effect::Show(text) => line.set(&reports::text::printable(&text)),
        }
    }
    Ok(())
}

/// A number that no guest has seen: hashers are seeded at random.
fn fresh_number() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
