//! Whose fault an end is: the kernel's, the guest agent's, QEMU's or the host's.

use super::*;

#[test]
fn a_kernel_that_says_nothing_does_not_boot() {
    let play = Play::new().wait(62);
    assert!(play.killed);
    assert!(
        matches!(play.outcome(VmEnd::Killed), Outcome::KernelCrash { title } if title.contains("does not boot"))
    );
}

#[test]
fn a_panic_while_booting_is_the_kernels() {
    let play = Play::new().console(1, "[    0.5] Kernel panic - not syncing: VFS: Unable to mount root fs");
    let outcome = play.outcome(VmEnd::Clean);
    assert!(matches!(outcome, Outcome::KernelCrash { title } if title.contains("Unable to mount")));
}

#[test]
fn an_agent_that_gives_up_is_ours() {
    let gone = shutdown(ShutdownCause::PoweredOff);
    let fatal = "md-regress-agent: FATAL: no disk mdr-root";
    let play = Play::new().tell(1, Input::Hypervisor(gone)).console(1, fatal);
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::Infra { error } if error.contains("mdr-root")));
}

/// The guest powers off without having been asked, after these lines on the console.
fn powered_off(play: Play, lines: &[&str]) -> Play {
    let gone = shutdown(ShutdownCause::PoweredOff);
    lines
        .iter()
        .fold(play.heartbeats(10), |play, line| play.console(10, line))
        .tell(10, Input::Hypervisor(gone))
}

#[test]
fn an_agent_that_gives_up_while_a_test_runs_is_ours() {
    let fatal = protocol::last_words::say(Some(SESSION), "panicked at src/serve.rs:1:2: no memory");
    let play = powered_off(Play::testing(), &[&fatal]);
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::Infra { error } if error.contains("no memory")));
    // Behind what a test wrote without an end of line, too.
    let play = powered_off(Play::testing(), &[&format!("no line end{fatal}")]);
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::Infra { .. }));
}

#[test]
fn a_test_cannot_speak_for_the_agent() {
    let other = protocol::last_words::say(Some(SESSION + 1), "forged");
    for forged in ["md-regress-agent: FATAL: forged", &other] {
        let outcome = powered_off(Play::testing(), &[forged]).outcome(VmEnd::Clean);
        assert!(
            matches!(&outcome, Outcome::KernelCrash { title } if title.contains("went away by itself")),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_kernel_that_faults_may_be_why_the_agent_gives_up() {
    let fatal = protocol::last_words::say(Some(SESSION), "no memory");
    let oops = "[   10.0] BUG: kernel NULL pointer dereference, address: 8";
    let outcome = powered_off(Play::testing(), &[oops, &fatal]).outcome(VmEnd::Clean);
    assert!(matches!(&outcome, Outcome::KernelCrash { title } if title.contains("NULL")), "{outcome:?}");
}

#[test]
fn an_agent_that_gives_up_and_does_not_go_is_no_hang() {
    let fatal = protocol::last_words::say(Some(SESSION), "no memory");
    let play = Play::testing().heartbeats(10).console(10, &fatal).wait(60);
    assert!(play.killed);
    let outcome = play.outcome(VmEnd::Killed);
    assert!(matches!(&outcome, Outcome::Infra { error } if error.contains("no memory")), "{outcome:?}");
}

#[test]
fn what_a_test_came_to_stands_when_the_agent_gives_up_after_it() {
    let fatal = protocol::last_words::say(Some(SESSION), "no memory");
    let play = powered_off(Play::testing().finished(9, Exit::Code(0)), &[&fatal]);
    let play = play.tell(10, Input::Ended(VmEnd::Clean));
    let told = |event: &Event| matches!(event, Event::Remark { text, blame: Blame::Harness, .. } if text.contains("no memory"));
    assert!(play.events.iter().any(told), "{:?}", play.events);
    assert_eq!(play.state.finish(play.now, 0).0, Outcome::Pass);
}

#[test]
fn a_dead_qemu_is_the_hosts() {
    let end = VmEnd::Failed { error: "QEMU was killed by signal 9".into() };
    assert!(
        matches!(Play::testing().wait(10).outcome(end), Outcome::Infra { error } if error.contains("signal 9"))
    );
}

#[test]
fn a_qemu_that_is_ended_from_outside_is_the_hosts() {
    let event = shutdown(ShutdownCause::Outside);
    let play = Play::testing().tell(5, Input::Hypervisor(event));
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::Infra { error } if error.contains("host-signal")));
    assert!(matches!(Play::testing().outcome(VmEnd::Clean), Outcome::Infra { .. }));
}

#[test]
fn a_guest_that_qemu_stops_is_the_hosts() {
    let play = Play::testing().tell(5, Input::Hypervisor(HypervisorEvent::Stopped));
    assert!(play.killed);
    assert!(matches!(play.outcome(VmEnd::Killed), Outcome::Infra { error } if error.contains("stopped")));
}

#[test]
fn the_consoles_last_words_count_even_if_they_come_late() {
    let event = shutdown(ShutdownCause::Guest);
    let play = Play::testing()
        .tell(5, Input::Hypervisor(event))
        .console(5, "[   10.0] BUG: unable to handle page fault for address: 1");
    let outcome = play.outcome(VmEnd::Clean);
    assert!(matches!(outcome, Outcome::KernelCrash { title } if title.starts_with("BUG: unable")));
}

#[test]
fn a_panic_is_named_by_its_first_line_and_ends_the_vm() {
    let play = Play::testing()
        .console(5, "[   10.0] BUG: kernel NULL pointer dereference, address: 0")
        .console(5, "[   10.1] Kernel panic - not syncing: Fatal exception");
    // The machine does not reset by itself: it is killed after the grace period.
    let play = play.wait(14);
    assert!(play.killed);
    let outcome = play.outcome(VmEnd::Killed);
    assert!(matches!(outcome, Outcome::KernelCrash { title } if title.starts_with("BUG: kernel NULL")));
}

#[test]
fn a_panic_after_the_test_has_passed_is_a_crash_all_the_same() {
    let play = Play::testing()
        .finished(10, Exit::Code(0))
        .console(11, "[   10.1] Kernel panic - not syncing: stack-protector");
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::KernelCrash { .. }));
}

#[test]
fn a_machine_that_goes_away_in_the_middle_is_a_crash() {
    let event = shutdown(ShutdownCause::PoweredOff);
    let play = Play::testing().tell(5, Input::Hypervisor(event));
    assert!(
        matches!(play.outcome(VmEnd::Clean), Outcome::KernelCrash { title } if title.contains("guest-shutdown"))
    );
}

#[test]
fn a_test_that_cries_panic_is_no_panic() {
    let heartbeat = || {
        Input::Agent(Ok(Message::Heartbeat {
            uptime_ms: 1,
            mem_available_kib: 1,
            output_bytes: 0,
            sampler: None,
        }))
    };
    let cry = || Input::Console(b"[    9.0] Kernel panic - not syncing: says a test\n".to_vec());
    let play = Play::testing().tell(5, cry()).tell(6, heartbeat()).tell(9, heartbeat()).wait(12);
    assert!(!play.killed, "the guest goes on");
    let play = Play::testing().tell(5, cry()).wait(12);
    assert!(play.killed, "nothing is heard after a real one");
    // It passes at once: the guest lives to power off.
    let collected = Input::Files(Ok(Message::Collected { attempt: 1, n_files: 0, n_left_out: 0 }));
    let off = Input::Hypervisor(shutdown(ShutdownCause::PoweredOff));
    let play = Play::testing().tell(5, cry()).finished(5, Exit::Code(0)).tell(5, collected).tell(6, off);
    assert_eq!(play.outcome(VmEnd::Clean), Outcome::Pass);
}
