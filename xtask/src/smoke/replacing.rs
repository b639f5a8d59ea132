//! Modules in place of the kernel's: a test runs on those that were built, restored and booted, or not at
//! all.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use harness::machine::accel::AccelChoice;
use harness::machine::greeting::Opening;
use harness::machine::talk::Talk;
use harness::machine::{Access, Input, VmSpec};
use harness::run::options::Options;
use harness::run::prepare::{self, Prepared};
use harness::session::Session;
use protocol::program::{Exit, Program, ReplacedModules};
use protocol::wire::{Message, OutputBudget, Request, StartTest};
use reports::record::AttemptState;
use vm_images::build::checkout::Sources;

use super::{PATIENCE, Scratch, options, run_with};

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
    let said = refusal(session, &prepared, &plain, &[start(1, &[], modules(&other))])?;
    ensure!(said.contains("is not of build"), "other modules were refused with `{said}`");
    // The kernel's own md is there first.
    let tests = [start(1, &["md_mod"], None), start(2, &[], modules(&plain))];
    let said = refusal(session, &prepared, &plain, &tests)?;
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
fn refusal(session: &Session, prepared: &Prepared, spec: &VmSpec, tests: &[StartTest]) -> Result<String> {
    let replaced = spec.replaced.as_ref().context("nothing is replaced")?;
    let mut talk = Talk::start(&prepared.qemu, spec, Opening::without_entropy(), session.host.cancel())?;
    talk.wait_for_answer(PATIENCE, |_| {})?;
    talk.vm().plug_disk(&replaced.image, &replaced.modules.serial, Access::Read)?;
    let mut said = String::new();
    let mut exit = None;
    for test in tests {
        talk.send(&Request::StartTest(test.clone()))?;
        exit = Some(talk.wait(PATIENCE, |input| match input {
            Input::Agent(Ok(Message::Note { text })) => {
                said += &text;
                None
            }
            Input::Agent(Ok(Message::Finished(finished))) => Some(finished.exit),
            _ => None,
        })?);
    }
    let is_refused = matches!(exit, Some(Exit::NotStarted(_)));
    ensure!(is_refused, "the test ended with {exit:?}, on other modules than it should");
    Ok(said)
}
