//! What the kernel's log comes to in an attempt: reports, remarks, and the name of a crash.

use protocol::event::{AttemptFacts, Blame};
use protocol::wire::Message;

use super::*;

const WARNING: [&str; 4] = [
    "WARNING: CPU: 0 PID: 9 at drivers/md/md.c:1 md_start+0x12/0x34 [md_mod]",
    "Call Trace:",
    " md_run+0x1/0x2 [md_mod]",
    "---[ end trace 0000000000000000 ]---",
];
const TITLE: &str = "WARNING in md_start";
/// Who is to blame for a remark: what makes a pass a complaint, and what does not.
const COMPLAINT: [Blame; 1] = [Blame::Kernel];

fn kmsg(seq: u64, at_us: u64, text: &str) -> Message {
    Message::Kmsg { seq, at_us, level: 4, facility: 0, caller: None, left_out: 0, text: text.into() }
}

fn state(tainted: u64, log_end: u64) -> Message {
    Message::KernelState { tainted: Some(tainted), log_end: Some(log_end) }
}

fn by_user(seq: u64, at_us: u64, text: &str) -> Message {
    Message::Kmsg { seq, at_us, level: 4, facility: 1, caller: None, left_out: 0, text: text.into() }
}

impl Play {
    fn records(self, second: u64, first: u64, lines: &[&str]) -> Self {
        (first..)
            .zip(lines)
            .fold(self, |play, (seq, line)| play.agent(second, kmsg(seq, seq * 1_000_000, line)))
    }

    /// The test passes, the guest powers off: what was reported, who is blamed by remarks, and what is known.
    fn passes(self, second: u64) -> (Vec<String>, Vec<Blame>, AttemptFacts) {
        let play = self.finished(second, Exit::Code(0)).tell(second, Input::Ended(VmEnd::Clean));
        let told = play.events.iter().filter_map(reported).map(str::to_owned).collect();
        let remark = |event: &Event| match event {
            Event::Remark { blame, .. } => Some(*blame),
            _ => None,
        };
        let blamed = play.events.iter().filter_map(remark).collect();
        let (outcome, facts) = play.state.finish(play.now, 0);
        assert_eq!(outcome, Outcome::Pass);
        (told, blamed, facts)
    }
}

/// After `dmesg -n 1`, only /dev/kmsg has it.
#[test]
fn a_muted_console_hides_no_report() {
    let (told, blamed, _) = Play::testing().records(5, 10, &WARNING).passes(8);
    assert_eq!((told, blamed), (vec![TITLE.to_owned()], vec![]));
}

#[test]
fn a_report_is_recorded_as_soon_as_the_agent_has_told_it() {
    let play = Play::testing().records(5, 10, &WARNING);
    assert_eq!(play.events.iter().filter_map(reported).collect::<Vec<_>>(), [TITLE]);
}

#[test]
fn what_a_test_says_to_the_kernels_log_is_no_report() {
    let words = "Kernel panic - not syncing: says a test";
    let heartbeat =
        || Message::Heartbeat { uptime_ms: 1, mem_available_kib: 1, output_bytes: 0, sampler: None };
    let play = Play::testing()
        .console(5, &format!("[    9.000000] {words}"))
        .agent(5, by_user(9, 9_000_000, words))
        .agent(6, heartbeat())
        .agent(10, heartbeat());
    let (told, blamed, _) = play.passes(12);
    assert_eq!((told, blamed), (vec![], vec![]));
    // Nor does it name the crash, if one comes of something else.
    let play = Play::testing()
        .console(5, "[    9.000000] BUG: says a test")
        .agent(5, by_user(9, 9_000_000, "BUG: says a test"))
        .tell(7, Input::Hypervisor(shutdown(ShutdownCause::PoweredOff)));
    let outcome = play.outcome(VmEnd::Clean);
    assert!(
        matches!(&outcome, Outcome::KernelCrash { title } if !title.contains("says a test")),
        "{outcome:?}"
    );
}

#[test]
fn what_is_lost_is_a_complaint() {
    let play = || Play::testing().records(5, 10, &["a"]);
    let (_, blamed, facts) = play().records(6, 15, &["b"]).passes(8);
    assert_eq!((&blamed[..], facts.kmsg_lost), (&COMPLAINT[..], 4));
    // Not if the console has it.
    let shown: String = (11..15).map(|second| format!("[   {second}.000000] md: words\n")).collect();
    let (_, blamed, facts) = play().console(5, &shown).records(6, 15, &["b"]).passes(8);
    assert_eq!((blamed, facts.kmsg_lost), (vec![], 4));
    let (_, blamed, _) = Play::testing().console(5, "** 7 printk messages dropped **").passes(8);
    assert_eq!(blamed, COMPLAINT);
}

#[test]
fn a_taint_that_no_report_goes_with_is_a_complaint() {
    let play = || Play::testing().agent(3, state(4096, 0));
    let (_, blamed, facts) = play().agent(5, state(4096 | 512, 0)).passes(8);
    assert_eq!(
        (&blamed[..], facts.taint_before, facts.taint_after),
        (&COMPLAINT[..], Some(4096), Some(4608))
    );
    let (told, blamed, _) = play().records(4, 10, &WARNING).agent(5, state(4096 | 512, 14)).passes(8);
    assert_eq!((told, blamed), (vec![TITLE.to_owned()], vec![]));
    let (_, blamed, _) = play().agent(5, state(4096 | 8192, 0)).passes(8);
    assert_eq!(blamed, []);
    // It was so before the test.
    let (_, blamed, _) = Play::testing().agent(3, state(512, 0)).agent(5, state(512, 0)).passes(8);
    assert_eq!(blamed, []);
}

#[test]
fn what_the_guest_did_not_send_and_the_console_lacks_is_a_complaint() {
    let (_, blamed, _) = Play::testing().records(5, 0, &["a"]).agent(6, state(0, 5)).passes(8);
    assert_eq!(blamed, COMPLAINT);
}

/// Its first line came while the host let the guest starve or not; that the rest was read later does not
/// change it.
#[test]
fn a_stall_is_the_hosts_by_when_it_began() {
    let starved = |starves_first: bool| {
        let mut play = Play::testing();
        let mut waited_ms = 0;
        for second in 4..28 {
            let starves = starves_first == (second < 14);
            waited_ms += if starves { 1000 } else { 0 };
            let vcpus = vec![ThreadTimes { waited_ms, ..ThreadTimes::default() }];
            let times = HostTimes { at_ms: second * 1000, devices: ThreadTimes::default(), vcpus };
            play = play.tell(second, Input::Answer(Answer::Times(times))).heartbeats(second + 1);
            if second == 13 {
                play = play.console(
                    second,
                    "[   13.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [md0_raid1:9]",
                );
            }
        }
        let stack = "[   13.000001] RIP: 0010:raid1d+0x1/0x2 [raid1]\n[   13.000002] Call Trace:\n[   13.000003]  <TASK>\n\
                     [   13.000004]  md_thread+0x1/0x2 [md_mod]\n[   13.000005]  </TASK>";
        let play = play.console(28, stack).finished(28, Exit::Code(0)).tell(28, Input::Ended(VmEnd::Clean));
        let starved: Vec<_> = play
            .events
            .iter()
            .filter_map(|event| match event {
                Event::KernelReported { report, .. } => Some(report.starved),
                _ => None,
            })
            .collect();
        assert_eq!(starved.len(), 1);
        starved[0]
    };
    assert!(starved(true), "it was waiting for the host when the watchdog spoke");
    assert!(!starved(false), "it had all its time until then");
}

#[test]
fn an_oops_that_the_test_survives_is_recorded_beside_its_pass() {
    let play = Play::testing()
        .console(5, "[   10.0] BUG: kernel NULL pointer dereference, address: 0")
        .finished(10, Exit::Code(0))
        .tell(11, Input::Ended(VmEnd::Clean));
    let told: Vec<_> = play.events.iter().filter_map(reported).collect();
    assert_eq!(told, ["BUG: kernel NULL pointer dereference"]);
    assert_eq!(play.state.finish(play.now, 0).0, Outcome::Pass);
}

/// The agent sends the same log a second time, with other stamps even.
#[test]
fn a_report_of_the_kernels_is_recorded_once() {
    let line = "md/raid1:md0: Disk failure on vdc, disabling device.";
    let record = |seq| kmsg(seq, 0, line);
    let play = Play::testing()
        .console(5, &format!("[   10.0] {line}"))
        .agent(5, record(1))
        .console(6, &format!("[   11.0] {line}"))
        .agent(6, record(2))
        .finished(10, Exit::Code(0))
        .tell(11, Input::Ended(VmEnd::Clean));
    let told: Vec<_> = play.events.iter().filter_map(reported).collect();
    assert_eq!(told, ["md/raid1: disk failure, device disabled"]);
}

#[test]
fn a_crash_is_named_by_the_function_that_faulted() {
    let play = Play::testing()
        .console(5, "[   10.0] BUG: kernel NULL pointer dereference, address: 0000000000000008")
        .console(5, "[   10.0] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI")
        .console(5, "[   10.0] RIP: 0010:md_run+0x12/0x34 [md_mod]")
        .console(5, "[   10.1] Kernel panic - not syncing: Fatal exception");
    let title = "BUG: kernel NULL pointer dereference in md_run".to_owned();
    assert_eq!(play.outcome(VmEnd::Clean), Outcome::KernelCrash { title });
}

#[test]
fn lost_kernel_log_records_are_counted() {
    let record = |seq| kmsg(seq, 0, "x");
    let play = Play::testing().agent(4, record(5)).agent(4, record(6)).agent(4, record(10));
    let play = play.tell(5, Input::Ended(VmEnd::Killed));
    assert_eq!(play.state.finish(play.now, 0).1.kmsg_lost, 3);
}

#[test]
fn a_record_of_several_lines_is_several_lines() {
    let line = crate::guest::session::kernel_log_line(1_500_000, "one\\x0atwo \\x5c_SB_ \\x1b[2J");
    assert_eq!(line, "[    1.500000] one\n[    1.500000] two \\_SB_ \\x1b[2J\n");
}
