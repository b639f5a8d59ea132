//! A guest that no longer speaks: starved, lost, asked from outside, its memory written.

use super::*;

/// The host says, each second from 4 on, that it gave the guest all of its time; the console speaks when it
/// is asked for `key`.
fn mute(mut play: Play, to: u64, key: Option<Ask>, words: &str) -> Play {
    for second in play.now.as_secs()..to {
        let vcpus = vec![ThreadTimes { ran_ms: second * 1000, ..ThreadTimes::default() }];
        let times = HostTimes { at_ms: second * 1000, devices: ThreadTimes::default(), vcpus };
        play = play.tell(second, Input::Answer(Answer::Times(times)));
        if key.as_ref().is_some_and(|key| play.asked.contains(key)) {
            play = play.console(second, words);
        }
    }
    play
}

#[test]
fn a_mute_guest_is_a_lost_heartbeat_and_is_sent_an_nmi() {
    let play = mute(Play::testing(), 30, None, "");
    assert!(play.asked.contains(&Ask::SysRq('l')) && play.asked.contains(&Ask::Nmi), "{:?}", play.asked);
    assert!(play.killed && play.host.contains("NMI"), "{}", play.host);
    let outcome = play.outcome(VmEnd::Killed);
    let Outcome::Hang { kind: HangKind::HeartbeatLost, silent_ms: 8000..14_000, seen: Some(seen) } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert!(seen.contains("a processor of the guest's runs"), "{seen}");
}

#[test]
fn the_panic_that_we_caused_is_no_crash() {
    let panic = "[   40.0] Kernel panic - not syncing: NMI: Not continuing\n\
        [   40.0] CPU: 0 PID: 99 Comm: dd Not tainted 6.1.0 #1\n\
        [   40.0] Call Trace:\n\
        [   40.0]  <TASK>\n\
        [   40.0]  spin+0x1/0x20 [canary]\n\
        [   40.0]  </TASK>";
    let play = mute(Play::testing(), 18, None, "");
    assert!(play.asked.contains(&Ask::Nmi) && !play.killed);
    let play = play.console(18, panic).tell(18, Input::Hypervisor(HypervisorEvent::Panicked));
    let play = play.tell(19, Input::Ended(VmEnd::Clean));
    assert!(!play.events.iter().any(|event| reported(event).is_some()), "{:?}", play.events);
    let seen = play.events.iter().find_map(|event| match event {
        Event::StacksSeen { stacks, .. } => Some(stacks[0].clone()),
        _ => None,
    });
    assert_eq!(seen.map(|stack| (stack.comm, stack.frames.len())), Some(("dd".to_owned(), 1)));
    let outcome = play.state.finish(play.now, 0).0;
    assert!(matches!(outcome, Outcome::Hang { kind: HangKind::HeartbeatLost, .. }), "{outcome:?}");
}

#[test]
fn a_spin_in_md_that_starves_the_agent_is_a_livelock() {
    let trace = "[   40.0] sysrq: Show backtrace of all active CPUs\n\
        [   40.0] CPU: 0 PID: 99 Comm: dd Not tainted 6.1.0 #1\n\
        [   40.0]  <TASK>\n\
        [   40.0] RIP: 0010:md_handle_request+0x1/0x20 [md_mod]\n\
        [   40.0]  </TASK>";
    let play = mute(Play::testing(), 40, Some(Ask::SysRq('l')), trace);
    assert!(!play.asked.contains(&Ask::Nmi), "it answers");
    let outcome = play.outcome(VmEnd::Killed);
    let Outcome::Hang { kind: HangKind::Livelock, seen: Some(seen), .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(seen.starts_with("dd spins in md or dm; "), "{seen}");
}

#[test]
fn whoever_came_after_the_test_is_of_the_test() {
    let of_test = |pid: u32, comm: &str, entry: &str| {
        let trace = format!(
            "[   40.0] sysrq: Show backtrace of all active CPUs\n\
             [   40.0] CPU: 0 PID: {pid} Comm: {comm} Not tainted 6.1.0 #1\n\
             [   40.0]  <TASK>\n\
             [   40.0] RIP: 0010:md_handle_request+0x1/0x20 [md_mod]\n\
             [   40.0]  {entry}+0x1/0x20\n\
             [   40.0]  </TASK>"
        );
        let play = mute(Play::testing(), 40, Some(Ask::SysRq('l')), &trace);
        play.events.iter().find_map(|event| match event {
            Event::StacksSeen { stacks, .. } => Some(stacks[0].of_test),
            _ => None,
        })
    };
    // The test's own process is 50; nobody was sampled.
    assert_eq!(of_test(99, "dd", "entry_SYSCALL_64_after_hwframe"), Some(true));
    assert_eq!(of_test(49, "dd", "entry_SYSCALL_64_after_hwframe"), Some(false));
    assert_eq!(of_test(99, "md0_raid5", "ret_from_fork_asm"), Some(false));
    for helper in ["exe", "dmsetup", "modprobe", "(udev-worker)", "systemd-udevd"] {
        assert_eq!(of_test(99, helper, "entry_SYSCALL_64_after_hwframe"), Some(false), "{helper}");
    }
}

#[test]
fn a_helper_that_the_test_started_is_of_the_test() {
    let blocked = |pid: u32, parent: u32| {
        format!(
            "[   40.0] task:dmsetup state:D stack:0 pid:{pid} tgid:{pid} ppid:{parent} flags:0x4002\n\
             [   40.0]  <TASK>\n\
             [   40.0]  dm_suspend+0x1/0x20 [dm_mod]\n\
             [   40.0]  </TASK>"
        )
    };
    let trace = format!(
        "[   40.0] sysrq: Show Blocked State\n{}\n{}\n\
         [   40.0] task:bash state:S stack:0 pid:60 tgid:60 ppid:50 flags:0x4002\n\
         [   40.0]  do_wait+0x1/0x2",
        blocked(99, 60),
        blocked(98, 1)
    );
    let play = mute(Play::testing(), 40, Some(Ask::SysRq('l')), &trace);
    let seen = play.events.iter().find_map(|event| match event {
        Event::StacksSeen { stacks, .. } => {
            Some(stacks.iter().map(|stack| (stack.pid, stack.of_test)).collect::<Vec<_>>())
        }
        _ => None,
    });
    assert_eq!(seen, Some(vec![(99, true), (98, false)]));
}

#[test]
fn what_was_sampled_before_a_guest_fell_silent_is_told() {
    let play = Play::testing().agent(4, standing(4)).agent(5, standing(5));
    let play = mute(play, 40, None, "");
    let stacks = play.events.iter().find_map(|event| match event {
        Event::StacksSeen { stacks, .. } => Some(stacks.clone()),
        _ => None,
    });
    let stacks = stacks.expect("a stack");
    assert_eq!((stacks[0].comm.as_str(), stacks[0].pid), ("lvm", 2));
    let told = |event: &Event| matches!(event, Event::Remark { text, .. } if text.starts_with("seen before the guest") && text.contains("lvm (pid 2)"));
    assert!(play.events.iter().any(told), "{:?}", play.events);
}

#[test]
fn a_guest_that_speaks_again_was_not_lost() {
    let beat = Message::Heartbeat { uptime_ms: 0, mem_available_kib: 0, output_bytes: 0, sampler: None };
    let play = mute(Play::testing(), 20, Some(Ask::SysRq('l')), "[   40.0] sysrq: Show Memory");
    assert!(play.asked.contains(&Ask::SysRq('w')), "{:?}", play.asked);
    let play = play.agent(20, beat).finished(21, Exit::Code(0));
    // Whoever was slow, it changes no verdict.
    let told = |event: &Event| matches!(event, Event::Remark { text, blame: Blame::Harness, .. } if text.contains("then went on"));
    assert!(play.events.iter().any(told), "{:?}", play.events);
    assert_eq!(play.outcome(VmEnd::Clean), Outcome::Pass);
}

#[test]
fn a_guest_that_starves_is_not_silent() {
    let mut play = Play::testing();
    for second in 4..60 {
        let vcpus = vec![ThreadTimes { waited_ms: second * 1000, ..ThreadTimes::default() }];
        let times = HostTimes { at_ms: second * 1000, devices: ThreadTimes::default(), vcpus };
        play = play.tell(second, Input::Answer(Answer::Times(times)));
    }
    assert!(!play.killed && play.sent.len() == 2, "{:?}", play.sent);
    // At its limit it is asked from outside, and called what it is known to be.
    let mut late = Play::testing();
    for second in 4..130 {
        let vcpus = vec![ThreadTimes { waited_ms: second * 1000, ..ThreadTimes::default() }];
        let times = HostTimes { at_ms: second * 1000, devices: ThreadTimes::default(), vcpus };
        late = late.tell(second, Input::Answer(Answer::Times(times)));
    }
    assert!(late.killed && late.asked.contains(&Ask::SysRq('l')));
    assert_eq!(late.outcome(VmEnd::Killed), Outcome::Timeout { limit_ms: 100_000 });
    let play = play.heartbeats(70);
    assert!(!play.killed, "what it printed meanwhile had no way here");
}

#[test]
fn a_guest_that_qemu_does_not_run_is_the_hosts() {
    let play = Play::testing()
        .wait(6)
        .tell(6, Input::Answer(Answer::RunState(RunState { executes: false, name: "io-error".into() })));
    assert!(play.killed);
    assert!(matches!(play.outcome(VmEnd::Killed), Outcome::Infra { error } if error.contains("`io-error`")));
    // Nor is one whose QEMU is stopped itself.
    let play = Play::testing().wait(30);
    assert!(
        matches!(play.outcome(VmEnd::Killed), Outcome::Infra { error } if error.contains("has not answered"))
    );
}

#[test]
fn memory_is_written_before_a_guest_goes() {
    let job = job("shell/x.sh");
    let opening = Opening { session: SESSION, entropy: vec![] };
    let state = || AttemptState::new(1, opening.clone(), job.clone(), LIMITS).with_dump(true);
    let testing = || {
        let play = Play::of(state()).tell(2, Play::hello(SESSION));
        assert!(play.asked.contains(&Ask::StopOnPanic));
        play.agent(3, Message::Started { attempt: 1, pid: 50, probed: None })
    };
    let written = |play: Play| {
        assert!(play.dumped && !play.killed);
        let second = play.now.as_secs() + 1;
        // To be written, the guest is stopped.
        let play = play.tell(second, Input::Hypervisor(HypervisorEvent::Stopped));
        assert!(!play.killed);
        let play = play.tell(second, Input::Answer(Answer::Dumped(Ok(()))));
        let told =
            |event: &Event| matches!(event, Event::Remark { text, .. } if text.contains("memory.kdump"));
        assert!(play.events.iter().any(told));
        play
    };
    let panicked = testing().tell(5, Input::Hypervisor(HypervisorEvent::Panicked));
    let panicked = panicked.tell(5, Input::Hypervisor(HypervisorEvent::Stopped)).wait(7);
    let panicked = written(panicked);
    assert!(panicked.killed);
    assert!(matches!(panicked.outcome(VmEnd::Killed), Outcome::KernelCrash { .. }));

    let lost = written(mute(testing(), 18, None, ""));
    assert_eq!(lost.asked.last(), Some(&Ask::Nmi), "its panic comes after");
    assert!(matches!(lost.outcome(VmEnd::Killed), Outcome::Hang { kind: HangKind::HeartbeatLost, .. }));

    let silent = testing().heartbeats(36).agent(36, Message::Diagnosed { attempt: 1 });
    let collected = Input::Files(Ok(Message::Collected { attempt: 1, n_files: 0, n_left_out: 0 }));
    let silent = written(silent.tell(37, collected));
    assert!(matches!(silent.outcome(VmEnd::Killed), Outcome::Hang { kind: HangKind::NoOutput, .. }));

    let passed = testing().finished(10, Exit::Code(0)).wait(30);
    assert!(!passed.dumped);
}
