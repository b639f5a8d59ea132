//! Modules in place of the kernel's: a test runs on those that were built, restored and booted, or not at
//! all.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use protocol::program::{Exit, Program, ReplacedModules};
use protocol::wire::{Message, OutputBudget, Request, StartTest, VERSION};
use reports::record::AttemptState;
use vm_images::build::checkout::Sources;

use super::{PATIENCE, Scratch, options, run_with};
use harness::machine::accel::AccelChoice;
use harness::machine::{Access, Hypervisor, Input, VmEnd, VmSpec};
use harness::run::options::Options;
use harness::run::prepare::{self, Prepared};
use harness::session::Session;

/// Any quick test.
const TEST: &str = "show-clock-and-dice";

pub(super) fn built_modules_run(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let mut built = Vec::new();
    for (kernel, snapshots) in
        [("deb:6.12+plant:none", true), ("deb:6.12+plant:none", false), ("deb:6.12+plant:e3", true)]
    {
        let kernels = vec![kernel.parse()?];
        let ran = run_with(session, &Options { kernels, snapshots, ..options(&out, "canary", &[TEST])? })?;
        let attempt = ran.record.attempts.first().context("nothing was tried")?;
        let AttemptState::Finished { facts, .. } = &attempt.state else { bail!("the test did not finish") };
        ensure!(facts.restored == snapshots, "{kernel}: restored is {}", facts.restored);
        ensure!(
            attempt.modules.contains_key("md_mod"),
            "{kernel}: the record has modules {:?}",
            attempt.modules
        );
        built.push(attempt.modules.clone());
    }
    ensure!(built[0] == built[1], "restored and booted guests have other modules");
    ensure!(built[0]["md_mod"] != built[2]["md_mod"], "two sources came to one md_mod");
    Ok(())
}

pub(super) fn other_modules_do_not(session: &Session) -> Result<()> {
    let specs = ["deb:6.12+plant:none", "deb:6.12+plant:e3"].map(str::parse);
    let specs = specs.into_iter().collect::<Result<Vec<_>, _>>()?;
    let prepared = prepare::prepare(session, &specs, &Sources::default(), AccelChoice::Auto)?;
    let machine = |idx: usize| {
        let log = session.store.temporary().join("replacing.log");
        let kernel = prepared.kernels.get(idx).context("no kernel")?;
        Ok::<_, anyhow::Error>(VmSpec { log, ..kernel.vm(&prepared.guest, prepared.chosen.accel, 512, 1) })
    };
    let (plain, other) = (machine(0)?, machine(1)?);
    let modules = |vm: &VmSpec| Some(vm.replaced.as_ref()?.modules.clone());
    // The image of one, said to be the other.
    let said = refusal(&prepared, &plain, &[start(1, &[], modules(&other))])?;
    ensure!(said.contains("is not of build"), "other modules were refused with `{said}`");
    // The kernel's own md is there first.
    let tests = [start(1, &["md_mod"], None), start(2, &[], modules(&plain))];
    let said = refusal(&prepared, &plain, &tests)?;
    ensure!(said.contains("its own md_mod loaded already"), "stock modules were met with `{said}`");
    Ok(())
}

fn start(attempt: u32, load: &[&str], replaced: Option<ReplacedModules>) -> StartTest {
    let program = Program {
        argv: vec!["true".to_owned()],
        cwd: "/".to_owned(),
        env: BTreeMap::new(),
        make_dirs: vec![],
        load_modules: load.iter().map(|&module| module.to_owned()).collect(),
        disks: vec![],
        replaced,
    };
    StartTest {
        attempt,
        program,
        output: OutputBudget { burst_bytes: 1 << 20, bytes_per_s: 1 << 20 },
        grace_ms: 100,
        sampled: false,
    }
}

/// The guest agent's reason for not starting the last of `tests`, which it must refuse.
fn refusal(prepared: &Prepared, spec: &VmSpec, tests: &[StartTest]) -> Result<String> {
    let (inputs, told) = sync_channel(64);
    let mut vm = prepared.qemu.start(spec, inputs)?;
    vm.send(&Request::Hello { version: VERSION, session: 1, entropy: vec![] })?;
    let image = &spec.replaced.as_ref().context("nothing is replaced")?.image;
    let serial = &spec.replaced.as_ref().context("nothing is replaced")?.modules.serial;
    let mut waiting = tests.iter();
    let mut said = String::new();
    let end = Instant::now() + PATIENCE;
    loop {
        ensure!(Instant::now() < end, "the guest did not answer; it said `{said}`");
        let next = match told.recv_timeout(Duration::from_secs(1)) {
            Ok(Input::Agent(Ok(Message::Hello { .. }))) => {
                vm.plug_disk(image, serial, Access::Read)?;
                true
            }
            Ok(Input::Agent(Ok(Message::Note { text }))) => {
                said += &text;
                false
            }
            Ok(Input::Agent(Ok(Message::Finished(finished)))) => {
                if waiting.len() == 0 {
                    let is_refused = matches!(finished.exit, Exit::NotStarted(_));
                    ensure!(
                        is_refused,
                        "the test ended with {:?}, on other modules than it should",
                        finished.exit
                    );
                    return Ok(said);
                }
                true
            }
            Ok(Input::Ended(VmEnd::Clean | VmEnd::Killed | VmEnd::Failed { .. })) => {
                bail!("the guest went away")
            }
            Ok(
                Input::Console(_)
                | Input::Agent(_)
                | Input::Files(_)
                | Input::Hypervisor(_)
                | Input::Answer(_),
            )
            | Err(_) => false,
        };
        if next && let Some(test) = waiting.next() {
            vm.send(&Request::StartTest(test.clone()))?;
        }
    }
}
