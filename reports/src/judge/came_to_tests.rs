//! What an attempt really came to, by what was seen beside its outcome.

use super::*;

fn survivor(pid: u32, comm: &str, unkillable: bool) -> Survivor {
    Survivor { pid, comm: comm.to_owned(), state: 'D', unkillable }
}

fn stack(pid: u32, state: char, still_ms: u64, frame: &str) -> TaskStack {
    let frames = vec![frame.to_owned()];
    TaskStack { pid, comm: "dd".to_owned(), of_test: true, state, still_ms, frames }
}

fn check(outcome: &Outcome, survivors: &[Survivor], stacks: &[TaskStack]) -> Outcome {
    let facts = AttemptFacts { survivors: survivors.to_vec(), ..AttemptFacts::default() };
    came_to(outcome, &Observations { facts: &facts, stacks, reports: &[] })
}

#[test]
fn what_cannot_be_killed_is_a_hang_whatever_the_test_says() {
    let left = [survivor(812, "dd", true), survivor(815, "", true), survivor(9, "sleep", false)];
    let fail = Outcome::Fail { how: "exit status 1".to_owned() };
    for outcome in
        [Outcome::Pass, fail, Outcome::Skip { reason: String::new() }, Outcome::Timeout { limit_ms: 1 }]
    {
        let found = check(&outcome, &left, &[stack(812, 'D', 7000, "md_stop+0x1/0x2 [md_mod]")]);
        let expect = "no progress for 7 s: the test left behind what cannot be killed: dd (pid 812), pid 815";
        assert!(matches!(found, Outcome::Hang { .. }) && found.detail() == expect, "{}", found.detail());
    }
    // What could be killed is the test's untidiness, and what ended the machine says more.
    assert_eq!(check(&Outcome::Pass, &left[2..], &[]), Outcome::Pass);
    let crash = Outcome::KernelCrash { title: "x".to_owned() };
    assert_eq!(check(&crash, &left, &[]), crash);
    let corrupted = Outcome::DataCorruption { title: "x".to_owned() };
    assert_eq!(check(&corrupted, &left, &[]), corrupted);
}

#[test]
fn at_the_limit_a_task_that_stood_in_md_makes_it_a_hang() {
    let timeout = Outcome::Timeout { limit_ms: 600_000 };
    let stood = check(&timeout, &[], &[stack(5, 'D', 580_000, "stop_sync_thread+0x1/0x2 [md_mod]")]);
    let expect =
        "no progress for 580 s: still running after its limit of 600 s; dd stood in md or dm all that time";
    assert_eq!(stood.detail(), expect);
    // What was looked at then, with all that the guest told, is not decided again.
    let facts = AttemptFacts { looked_at_limit: true, ..AttemptFacts::default() };
    let stacks = [stack(5, 'D', 580_000, "stop_sync_thread+0x1/0x2 [md_mod]")];
    assert_eq!(came_to(&timeout, &Observations { facts: &facts, stacks: &stacks, reports: &[] }), timeout);
    for other in [
        stack(5, 'D', 3000, "stop_sync_thread+0x1/0x2 [md_mod]"),
        stack(5, 'R', 580_000, "raid5d+0x1/0x2 [raid456]"),
        stack(5, 'D', 580_000, "pipe_read+0x1/0x2"),
    ] {
        assert_eq!(check(&timeout, &[], &[other]), timeout);
    }
}
