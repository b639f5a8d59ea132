//! Guests with modules in the place of the kernel's.

use super::*;

/// A guest whose md_mod was built here, as build 11.
fn with_modules() -> Play {
    let file = |name: &str, build_id: &str| ModuleFile {
        name: name.into(),
        path: format!("6.12/{name}.ko"),
        build_id: build_id.into(),
    };
    let modules = vec![file("md_mod", "11"), file("raid1", "22")];
    let replaced = ReplacedModules { serial: "s".into(), modules, probe: "md_mod".into() };
    let job = job("shell/x.sh");
    let state = AttemptState::new(1, Opening { session: SESSION, entropy: vec![] }, job, LIMITS);
    Play::of(state.with_modules(Some(replaced))).tell(2, Play::hello(SESSION))
}

fn started(name: &str, build_id: &str) -> Message {
    let probed = Some(LoadedModule { name: name.into(), build_id: build_id.into() });
    Message::Started { attempt: 1, pid: 50, probed }
}

#[test]
fn a_test_runs_on_the_modules_that_were_built_and_the_record_says_so() {
    let play = with_modules();
    let asked = play
        .sent
        .iter()
        .any(|request| matches!(request, Request::StartTest(start) if start.program.replaced.is_some()));
    assert!(asked, "{:?}", play.sent);
    let play = play.agent(3, started("md_mod", "11"));
    let position = |wanted: fn(&Event) -> bool| play.events.iter().position(wanted).unwrap();
    let replaced = position(
        |event| matches!(event, Event::ModulesReplaced { built, .. } if built["raid1"] == "22" && built.len() == 2),
    );
    assert!(replaced < position(|event| matches!(event, Event::TestStarted { .. })));
    assert_eq!(play.finished(4, Exit::Code(0)).outcome(VmEnd::Clean), Outcome::Pass);
}

#[test]
fn a_test_of_other_modules_than_were_built_is_none() {
    let unknown = Message::Started { attempt: 1, pid: 50, probed: None };
    for said in [started("md_mod", "12"), started("raid1", "22"), started("md_mod", ""), unknown] {
        let play = with_modules().agent(3, said);
        assert!(play.killed && !play.events.iter().any(|event| matches!(event, Event::TestStarted { .. })));
        // Whatever it says of the test: nothing is known of the kernel.
        let outcome = play.finished(4, Exit::Code(0)).outcome(VmEnd::Killed);
        assert!(matches!(&outcome, Outcome::Infra { error } if error.contains("md_mod")), "{outcome:?}");
    }
    // One that ends without ever having said.
    let outcome = with_modules().finished(4, Exit::Code(0)).outcome(VmEnd::Clean);
    assert!(matches!(outcome, Outcome::Infra { .. }), "{outcome:?}");
}

#[test]
fn a_module_that_does_not_load_is_the_kernels_fault() {
    let title = "md_mod does not load".to_owned();
    let outcome = with_modules().finished(4, Exit::NotStarted(MODULE_REFUSED)).outcome(VmEnd::Clean);
    assert_eq!(outcome, Outcome::KernelCrash { title });
    let outcome = with_modules().finished(4, Exit::NotStarted(5)).outcome(VmEnd::Clean);
    assert!(matches!(outcome, Outcome::Infra { .. }), "{outcome:?}");
}
