//! After the test: what it left behind, and a guest that does not power off.

use super::*;

/// The thread of an array that the test no longer looks at stands in md, and the test passes.
#[test]
fn a_thread_that_stands_when_the_test_passes_is_a_hang() {
    let busy = |n: u64| {
        let mut raid1d = task(7, "md0_raid1", 'D', 5);
        raid1d.frames = vec!["md_super_wait+0x1/0x2 [md_mod]".to_owned()];
        vec![task(100 + n as u32, &format!("step{n}"), 'S', 1), raid1d]
    };
    let play = Play::testing().samples(30, busy).finished(30, Exit::Code(0));
    assert_eq!(play.sent.last(), Some(&Request::Diagnose { attempt: 1 }));
    let outcome = play.agent(31, Message::Diagnosed { attempt: 1 }).collected(32).outcome(VmEnd::Clean);
    let Outcome::Hang { kind: HangKind::NoProgress, seen, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(seen.as_deref(), Some("the test passed, and md0_raid1 stands in md or dm"));
    // Of long ago, it says nothing; nor if it stood for a moment.
    let play = Play::testing().samples(20, busy).heartbeats(31).finished(31, Exit::Code(0));
    assert!(matches!(play.sent.last(), Some(Request::Collect { .. })));
    let play = Play::testing().samples(10, busy).finished(10, Exit::Code(0));
    assert!(matches!(play.sent.last(), Some(Request::Collect { .. })));
}

#[test]
fn what_nobody_can_kill_and_stands_is_a_hang_though_the_test_passed() {
    let play = Play::testing().leaves(10, Exit::Code(0));
    assert!(!matches!(play.sent.last(), Some(Request::Collect { .. })), "it is watched first");
    let play = play.samples(30, |_| vec![task(60, "dd", 'D', 5)]);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let play = play.agent(31, Message::Diagnosed { attempt: 1 });
    assert!(matches!(play.sent.last(), Some(Request::Collect { .. })));
    let (outcome, n_left) = play.collected(32).outcome_and_left();
    let Outcome::Hang { kind: HangKind::NoProgress, seen, .. } = outcome else { panic!("{outcome:?}") };
    let expect = "the test passed, and left behind dd (pid 60), which cannot be killed";
    assert_eq!((seen.as_deref(), n_left), (Some(expect), 1));
}

#[test]
fn corruption_that_a_test_found_stays_though_it_left_something_behind() {
    let corrupt = "a b differ: byte 1, line 1\n";
    let play = Play::testing();
    let play = play.agent(5, Message::Output { attempt: 1, offset: 0, data: corrupt.into() });
    let play = play.leaves(10, Exit::Code(1)).samples(30, |_| vec![task(60, "dd", 'D', 5)]);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }), "it is asked about all the same");
    let (outcome, n_left) =
        play.agent(31, Message::Diagnosed { attempt: 1 }).collected(32).outcome_and_left();
    assert!(matches!(outcome, Outcome::DataCorruption { .. }), "{outcome:?}");
    assert_eq!(n_left, 1);
}

#[test]
fn what_only_takes_long_to_die_is_no_hang() {
    // It goes when its request completes.
    let play = Play::testing().leaves(10, Exit::Code(1));
    let play = play.samples(14, |_| vec![task(60, "dd", 'D', 5)]).samples(15, |_| vec![]);
    assert!(matches!(play.sent.last(), Some(Request::Collect { .. })));
    let (outcome, n_left) = play.collected(16).outcome_and_left();
    assert_eq!((outcome, n_left), (Outcome::Fail { how: "exit status 1".into() }, 0));
    // It takes minutes, and moves meanwhile.
    let play = Play::testing().leaves(10, Exit::Code(0)).samples(240, |n| vec![task(60, "dd", 'D', n)]);
    let play = play.samples(241, |_| vec![]);
    assert!(!play.sent.contains(&Request::Diagnose { attempt: 1 }));
    assert_eq!(play.collected(242).outcome_and_left(), (Outcome::Pass, 0));
}

/// A writer that tries again and again (md.c waits between two tries), say.
#[test]
fn what_moves_for_ever_though_it_was_killed_is_still_there() {
    let moves = |to| Play::testing().leaves(10, Exit::Code(0)).samples(to, |n| vec![task(60, "dd", 'D', n)]);
    assert!(!moves(250).sent.contains(&Request::Diagnose { attempt: 1 }), "it is watched for minutes");
    let play = moves(255);
    let says = |event: &Event| {
        matches!(event, Event::Remark { text, .. }
            if text.starts_with("left behind dd (pid 60): killed, and still there after 24"))
    };
    assert!(play.events.iter().any(says), "{:?}", play.events);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let play = play.agent(256, Message::Diagnosed { attempt: 1 }).collected(257);
    assert_eq!(play.outcome_and_left(), (Outcome::Pass, 1), "the verdict goes by who is left");
}

#[test]
fn what_is_left_in_a_guest_that_starves_or_waits_for_a_delay_is_watched_for_longer() {
    let moves = |n| vec![task(60, "dd", 'D', n)];
    // The host let the guest run for a third of the time: a second in three counts.
    let mut play = Play::testing().leaves(10, Exit::Code(0));
    for second in 10..400 {
        let ran_ms = second * 1000 / 3;
        let vcpus = vec![ThreadTimes { ran_ms, waited_ms: second * 1000 - ran_ms, ..ThreadTimes::default() }];
        let times = HostTimes { at_ms: second * 1000, devices: ThreadTimes::default(), vcpus };
        play = play.tell(second, Input::Answer(Answer::Times(times)));
        play = play.agent(second, Message::Sample(sample(second, moves(second))));
    }
    assert!(!play.sent.contains(&Request::Diagnose { attempt: 1 }));
    // The kernel ends the wait by itself.
    let delayed = |n| {
        let mut dd = task(60, "dd", 'D', n);
        dd.storage.as_mut().unwrap().ends_ms = 100_000;
        vec![dd]
    };
    let play = Play::testing().leaves(10, Exit::Code(0)).samples(340, delayed);
    assert!(!play.sent.contains(&Request::Diagnose { attempt: 1 }));
    assert!(play.samples(360, delayed).sent.contains(&Request::Diagnose { attempt: 1 }));
}

#[test]
fn what_is_left_while_nobody_can_look_is_still_there() {
    let play = Play::testing().leaves(10, Exit::Code(0)).heartbeats(75);
    assert!(play.sent.contains(&Request::Diagnose { attempt: 1 }));
    let play = play.agent(76, Message::Diagnosed { attempt: 1 }).collected(77);
    assert_eq!(play.outcome_and_left(), (Outcome::Pass, 1), "the verdict goes by who is left");
}

#[test]
fn a_power_off_that_waits_in_md_is_a_hang() {
    let play = Play::testing().finished(10, Exit::Code(0)).collected(11).wait(17);
    assert!(play.asked.contains(&Ask::SysRq('l')), "{:?}", play.asked);
    let agent = "\
sysrq: Show Blocked State
task:init            state:D stack:0     pid:1     tgid:1     ppid:0      flags:0x00004002
Call Trace:
 <TASK>
 __schedule+0x4ea/0xbe0
 __md_stop_writes+0x1/0x2 [md_mod]
 md_notify_reboot+0x1/0x2 [md_mod]
 </TASK>";
    let play = play.console(17, agent).wait(50);
    assert!(play.killed);
    let outcome = play.outcome(VmEnd::Killed);
    let Outcome::Hang { seen: Some(seen), .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(seen, "the test passed, and the guest does not power off: that waits in md or dm");
}

/// It need not be the agent itself that waits: whoever blocks in md or dm then is what it waits for.
#[test]
fn a_power_off_that_waits_for_who_stands_in_md_is_a_hang() {
    let after = |state: &str, frame: &str| {
        let play = Play::testing().finished(10, Exit::Code(0)).collected(11).wait(17);
        let words = format!(
            "sysrq: Show Blocked State\n\
             task:kworker/u4:1    state:{state} stack:0     pid:31    tgid:31    ppid:2      flags:0x00004000\n\
             Call Trace:\n <TASK>\n __schedule+0x4ea/0xbe0\n {frame}\n </TASK>"
        );
        let play = play.console(17, &words).wait(50);
        assert!(play.killed);
        play.outcome(VmEnd::Killed)
    };
    let Outcome::Hang { seen: Some(seen), .. } = after("D", "md_write_start+0x1/0x2 [md_mod]") else {
        panic!("no hang");
    };
    assert_eq!(seen, "the test passed, and the guest does not power off: kworker/u4:1 waits in md or dm");
    assert_eq!(after("D", "io_schedule+0x1/0x2"), Outcome::Pass, "it waits for something else");
    assert_eq!(after("S", "md_thread+0x1/0x2 [md_mod]"), Outcome::Pass, "it is at rest");
}

#[test]
fn a_guest_that_does_not_power_off_is_killed_and_the_pass_stands() {
    let play = Play::testing().finished(10, Exit::Code(0)).wait(30);
    assert!(play.killed);
    assert_eq!(play.outcome(VmEnd::Killed), Outcome::Pass);
}
