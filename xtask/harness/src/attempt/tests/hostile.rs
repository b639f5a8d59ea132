//! A guest that says what makes no sense, or too much.

use super::*;

#[test]
fn a_guest_cannot_fill_the_record() {
    let mut play = Play::testing();
    for _ in 0..1000 {
        play = play.agent(4, Message::Started { attempt: 1, pid: 50, probed: None });
        play = play.agent(4, Message::Note { text: "x".repeat(60_000) });
    }
    let bytes: usize = play.events.iter().map(|event| format!("{event:?}").len()).sum();
    assert!(bytes < 100_000, "{bytes} bytes of events");
    assert_eq!(play.events.iter().filter(|event| matches!(event, Event::TestStarted { .. })).count(), 1);
}

/// Found by fuzzing: each piece put the end off, and an empty one costs a guest nothing.
#[test]
fn a_guest_cannot_bring_files_back_for_ever() {
    let mut play = Play::testing().finished(10, Exit::Code(0));
    let start = Message::FileStart { attempt: 1, file_idx: 0, path: "/x".into(), size: 1 };
    play = play.tell(10, Input::Files(Ok(start)));
    for second in 11..100 {
        let piece = Message::FileData { attempt: 1, file_idx: 0, data: vec![] };
        play = play.tell(second, Input::Files(Ok(piece)));
    }
    assert!(play.killed);
    let late = |event: &Event| matches!(event, Event::Remark { text, .. } if text == "files did not come back in time");
    assert!(play.events.iter().any(late));
    assert_eq!(play.outcome(VmEnd::Killed), Outcome::Pass);
}

#[test]
fn a_file_that_has_ended_does_not_go_on() {
    let files = |message| Input::Files(Ok(message));
    let piece = || files(Message::FileData { attempt: 1, file_idx: 0, data: vec![1] });
    let end = || files(Message::FileEnd { attempt: 1, file_idx: 0, error: None });
    let play = Play::testing()
        .finished(4, Exit::Code(0))
        .tell(4, piece())
        .tell(4, files(Message::FileStart { attempt: 1, file_idx: 0, path: "/x".into(), size: 1 }))
        .tell(4, piece())
        .tell(4, end())
        .tell(4, piece())
        .tell(4, end())
        .tell(5, Input::Ended(VmEnd::Clean));
    assert_eq!(play.state.finish(play.now, 0).1.garbage_messages, 3);
}

#[test]
fn a_stale_or_foreign_message_is_garbage() {
    let play = Play::new()
        .tell(1, Play::hello(SESSION + 1))
        .agent(1, Message::Started { attempt: 9, pid: 50, probed: None })
        .tell(1, Play::hello(SESSION))
        .agent(2, Message::Output { attempt: 1, offset: u64::MAX, data: vec![1, 2] });
    let play = play.tell(3, Input::Ended(VmEnd::Killed));
    assert_eq!(play.state.finish(play.now, 0).1.garbage_messages, 3);
}

#[test]
fn dropped_output_is_counted_once() {
    let piece = |offset| Message::Output { attempt: 1, offset, data: vec![0; 10] };
    let play = Play::testing().agent(4, piece(0)).agent(5, piece(100)).finished(6, Exit::Code(0));
    let play = play.tell(7, Input::Ended(VmEnd::Clean));
    let (_, facts) = play.state.finish(play.now, 7);
    assert_eq!((facts.output_bytes, facts.output_dropped), (110, 97));
}
