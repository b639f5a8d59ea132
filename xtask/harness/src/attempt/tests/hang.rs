//! A test that hangs, or is slow, in a guest that speaks.

use super::*;

/// A task stood in md while another of the test's goes on with its own work until the limit.
#[test]
fn a_limit_that_is_reached_while_a_task_stands_in_md_is_a_hang() {
    let limit_s = LIMITS.test_timeout.as_secs();
    let busy = |n: u64| {
        let mut dd = task(60, "dd", 'D', 5);
        dd.frames = vec!["md_write_start+0x1/0x2 [md_mod]".to_owned()];
        let mut cc1 = task(100 + n as u32, &format!("step{n}"), 'R', n);
        (cc1.user_ms, cc1.frames) = (n * 900, vec![]);
        vec![dd, cc1]
    };
    let play = (3..limit_s + 5).fold(Play::testing(), |play, second| {
        let said = Message::Output { attempt: 1, offset: second, data: vec![b'x'] };
        play.agent(second, said).agent(second, Message::Sample(sample(second, busy(second))))
    });
    let outcome = play.agent(limit_s + 6, Message::Diagnosed { attempt: 1 }).collected(limit_s + 7);
    let outcome = outcome.outcome(VmEnd::Clean);
    let Outcome::Hang { seen: Some(seen), .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(seen, "still running after its limit of 100 s");
}

#[test]
fn silence_is_a_hang_while_the_guest_lives() {
    let play = Play::testing().heartbeats(36);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }), "asked before it goes");
    assert!(!play.killed);
    // It speaks, so it may be slow.
    let play = play.heartbeats(50);
    assert!(!play.sent.iter().any(|request| matches!(request, Request::Collect { .. })), "{:?}", play.sent);
    // Nor does it answer, bring its files, or power off.
    let play = play.heartbeats(80);
    assert!(play.killed);
    let outcome = play.outcome(VmEnd::Killed);
    assert!(
        matches!(outcome, Outcome::Hang { kind: HangKind::NoOutput, silent_ms, .. } if silent_ms >= 30_000)
    );
}

#[test]
fn whoever_is_silent_and_gets_on_is_slow() {
    let writing = |n_s: u64| {
        (4..n_s).fold(Play::testing(), |play, second| {
            let mut dd = task(2, "dd", 'D', 9);
            dd.storage.iter_mut().for_each(|storage| storage.done = second);
            let sample = Sample { io_done: second, ..sample(second, vec![dd]) };
            play.agent(second, Message::Sample(sample)).heartbeats(second)
        })
    };
    let play = writing(100);
    assert!(!play.sent.contains(&Request::Diagnose { attempt: 1 }), "{:?}", play.sent);
    // Nobody looks any more: what was seen last says nothing.
    let play = play.heartbeats(112);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }), "{:?}", play.sent);
}

fn hung() -> Play {
    let mut play = Play::testing();
    for second in 4..13 {
        play = play.agent(second, standing(second));
    }
    play
}

/// Seen under a slow KVM: the kernel printed its tasks for half a minute, and the agent could not speak.
#[test]
fn a_guest_that_prints_its_tasks_writes_down_how_it_hangs() {
    let gave_up = |play: &Play| play.sent.iter().any(|request| matches!(request, Request::Collect { .. }));
    let limit_s = LIMITS.grace_period.as_secs();
    let asked = hung();
    let begun_s = asked.now.as_secs();
    let prints = |to: u64| (begun_s..to).fold(hung(), |play, second| play.console(second, "task:dd state:D"));
    assert!(gave_up(&hung().wait(begun_s + limit_s + 2)), "nobody says anything");
    let play = prints(begun_s + 2 * limit_s);
    assert!(!gave_up(&play), "{:?}", play.sent);
    assert!(gave_up(&prints(begun_s + 5 * limit_s)), "it prints for ever");
}

#[test]
fn a_test_that_ends_after_it_was_called_hung_was_not_stuck() {
    let remarks = |play: &Play| {
        let is_ours =
            |event: &&Event| matches!(event, Event::Remark { text, .. } if text.contains("slow, not stuck"));
        play.events.iter().filter(is_ours).count()
    };
    let asked = hung();
    assert!(asked.sent.contains(&Request::Diagnose { attempt: 1 }), "{:?}", asked.sent);
    assert!(matches!(asked.outcome(VmEnd::Killed), Outcome::Hang { kind: HangKind::NoProgress, .. }));
    let play = hung().finished(14, Exit::Code(0)).agent(15, Message::Diagnosed { attempt: 1 });
    assert_eq!(remarks(&play), 1, "{:?}", play.events);
    let outcome = play.outcome(VmEnd::Clean);
    assert!(
        matches!(&outcome, Outcome::Infra { error } if error.contains("(passed)") && error.contains("no progress")),
        "{outcome:?}"
    );
    // Also while its files come back; and once only.
    let play = hung().agent(14, Message::Diagnosed { attempt: 1 });
    let play = play.finished(15, Exit::Code(1)).finished(15, Exit::Code(1));
    assert_eq!(remarks(&play), 1);
    let play = play.tell(16, Input::Ended(VmEnd::Clean));
    let (outcome, facts) = play.state.finish(play.now, 0);
    assert!(matches!(outcome, Outcome::Infra { .. }));
    assert_eq!(facts.garbage_messages, 1);
    // A limit was exceeded all the same.
    let play = Play::testing().heartbeats(36).finished(36, Exit::Code(0));
    assert_eq!(remarks(&play), 1);
    assert!(matches!(play.outcome(VmEnd::Clean), Outcome::Hang { kind: HangKind::NoOutput, .. }));
}

#[test]
fn output_that_was_only_counted_is_a_sign_of_life() {
    let mut play = Play::testing();
    for second in 4..60 {
        let beat =
            Message::Heartbeat { uptime_ms: 0, mem_available_kib: 0, output_bytes: second, sampler: None };
        play = play.agent(second, beat);
    }
    assert!(!play.killed);
}

#[test]
fn a_test_that_goes_on_and_on_times_out() {
    let mut play = Play::testing();
    for second in 4..110 {
        play = play.agent(second, Message::Output { attempt: 1, offset: second - 4, data: b"x".to_vec() });
    }
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let play = play.heartbeats(150);
    assert!(play.killed);
    assert_eq!(play.outcome(VmEnd::Killed), Outcome::Timeout { limit_ms: 100_000 });
}

#[test]
fn who_cannot_look_because_of_the_hang_tells_of_it() {
    let beat = |sampler| Message::Heartbeat { uptime_ms: 0, mem_available_kib: 0, output_bytes: 0, sampler };
    let mut play = Play::testing();
    for second in 4..30 {
        play = play.agent(second, beat(Some(if second % 10 == 0 { 'S' } else { 'D' })));
    }
    assert!(!play.sent.contains(&Request::Diagnose { attempt: 1 }), "it goes on now and then");
    for second in 30..43 {
        play = play.agent(second, beat(Some('D')));
    }
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let outcome = play.agent(43, Message::Diagnosed { attempt: 1 }).outcome(VmEnd::Clean);
    let Outcome::Hang { kind: HangKind::NoProgress, seen: Some(seen), .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(seen.contains("waits in the kernel itself"), "{seen}");
}

#[test]
fn who_cannot_look_may_wait_for_what_the_test_sleeps_until() {
    let beat =
        || Message::Heartbeat { uptime_ms: 0, mem_available_kib: 0, output_bytes: 0, sampler: Some('D') };
    let sleeps = TaskSample { sleeps_ms: Some(20_000), ..task(3, "sleep", 'S', 1) };
    let seen = Message::Sample(sample(4, vec![task(2, "dd", 'D', 9), sleeps]));
    let blind = |n_s: u64| {
        (5..n_s).fold(Play::testing().agent(4, seen.clone()), |play, second| play.agent(second, beat()))
    };
    assert!(!blind(33).sent.contains(&Request::Diagnose { attempt: 1 }));
    assert!(blind(40).sent.contains(&Request::Diagnose { attempt: 1 }));
}

#[test]
fn tasks_that_no_sample_has_room_for_are_remarked_once() {
    let cut = |second| {
        Message::Sample(Sample { n_left_out: 7, ..sample(second, vec![task(1, "bash", 'S', second)]) })
    };
    let play = Play::testing().agent(4, cut(4)).agent(5, cut(5));
    let is_cut = |event: &&Event| matches!(event, Event::Remark { text, .. } if text.contains("7 were not"));
    assert_eq!(play.events.iter().filter(is_cut).count(), 1, "{:?}", play.events);
}

#[test]
fn a_stuck_test_is_asked_about_and_its_files_come_back() {
    let play = hung();
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let seen = play.events.iter().find_map(|event| match event {
        Event::StacksSeen { stacks, .. } => Some(stacks.clone()),
        _ => None,
    });
    assert_eq!(seen.unwrap()[0].comm, "lvm");
    // What the guest writes down adds to that, and takes nothing away.
    let stack = |pid, comm: &str| TaskStack {
        pid,
        comm: comm.to_owned(),
        of_test: false,
        state: 'D',
        still_ms: 0,
        frames: vec!["x\u{1b}[2J+0x1/0x2".to_owned(); 100],
    };
    let evidence = |evidence| Message::Evidence { attempt: 1, evidence };
    let play = play.agent(13, evidence(Evidence::Stacks(vec![stack(2, "another"), stack(7, "mdX_resync")])));
    let Some(Event::StacksSeen { stacks, .. }) = play.events.last() else { panic!("{:?}", play.events) };
    let names: Vec<_> = stacks.iter().map(|stack| stack.comm.as_str()).collect();
    assert_eq!(names, ["lvm", "mdX_resync"]);
    assert_eq!((stacks[1].frames.len(), stacks[1].frames[0].as_str()), (40, "x[2J+0x1/0x2"));
    let state = StorageState { suspended: vec!["x".to_owned(); 100], ..StorageState::default() };
    let play = play.agent(13, evidence(Evidence::State(Box::new(state))));
    let Some(Event::StateSeen { state, .. }) = play.events.last() else { panic!("{:?}", play.events) };
    assert_eq!((state.suspended.len(), state.n_left_out), (40, 60));
    let play = play.agent(14, Message::Diagnosed { attempt: 1 });
    assert!(matches!(play.sent.last(), Some(Request::Collect { .. })));
    let collected = Input::Files(Ok(Message::Collected { attempt: 1, n_files: 0, n_left_out: 0 }));
    let play = play.tell(15, collected);
    assert_eq!(play.sent.last(), Some(&Request::PowerOff));
    let outcome = play.outcome(VmEnd::Clean);
    assert!(matches!(outcome, Outcome::Hang { kind: HangKind::NoProgress, .. }), "{outcome:?}");
}
