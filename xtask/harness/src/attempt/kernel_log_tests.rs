//! Recorded streams, by one way, by both, and with what goes wrong on either.

use super::*;
use crate::console::REPORTS_MAX;
use proptest::prelude::*;

/// What is put in, one line or record after the other.
#[derive(Clone, Debug)]
enum In {
    Console(String),
    Record { seq: u64, at_us: u64, facility: u8, left_out: u64, text: String },
    End(u64),
}

fn read(inputs: &[In]) -> (KernelLog, Vec<KernelReport>) {
    let mut log = KernelLog::default();
    let mut told = Vec::new();
    for input in inputs {
        match input {
            In::Console(line) => told.extend(log.console(line).reports),
            In::Record { seq, at_us, facility, left_out, text } => {
                let (seq, at_us, facility, left_out) = (*seq, *at_us, *facility, *left_out);
                told.extend(log.record(&LogRecord { seq, at_us, facility, caller: None, left_out, text }));
            }
            In::End(end) => log.ends_at(*end),
        }
    }
    told.extend(log.finish());
    (log, told)
}

fn titles(inputs: &[In]) -> Vec<String> {
    read(inputs).1.into_iter().map(|report| report.title).collect()
}

fn losses(inputs: &[In]) -> Vec<Blame> {
    read(inputs).0.losses().into_iter().map(|(blame, _)| blame).collect()
}

fn console(log: &str) -> Vec<In> {
    log.lines().map(|line| In::Console(line.to_owned())).collect()
}

/// The same as the agent sends it, numbered from `seq` on.
fn records(seq: u64, facility: u8, log: &str) -> Vec<In> {
    let record = |(seq, line): (u64, &str)| {
        let (at_us, text) = stamped(line).expect("a stamp");
        In::Record {
            seq,
            at_us,
            facility,
            left_out: 0,
            text: text.strip_prefix(' ').unwrap_or(text).to_owned(),
        }
    };
    (seq..).zip(log.lines()).map(record).collect()
}

/// One after the other in turn.
fn in_turn(left: &[In], right: &[In]) -> Vec<In> {
    let longest = left.len().max(right.len());
    (0..longest).flat_map(|idx| left.get(idx).into_iter().chain(right.get(idx)).cloned()).collect()
}

fn join(parts: &[&[In]]) -> Vec<In> {
    parts.concat()
}

const BOOT: &str = "[    0.000000] Linux version 6.12.117
[    0.000000] Command line: console=ttyS0
[    1.000001] md: raid1 personality registered for level 1";

const WARNING: &str = "[   60.000001] ------------[ cut here ]------------
[   60.000002] WARNING: CPU: 0 PID: 300 at drivers/md/raid10.c:1150 regular_request_wait+0x1a0/0x1d0 [raid10]
[   60.000003] Modules linked in: raid10
[   60.000004] Call Trace:
[   60.000005]  <TASK>
[   60.000006]  raid10_write_request+0x82/0x560 [raid10]
[   60.000007]  raid10_make_request+0x12a/0x1a0 [raid10]
[   60.000008]  </TASK>
[   60.000009] ---[ end trace 0000000000000000 ]---";

const OOPS: &str = "[   90.000001] BUG: kernel NULL pointer dereference, address: 0000000000000008
[   90.000002] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI
[   90.000003] RIP: 0010:md_run+0x12/0x34 [md_mod]
[   90.000004] Call Trace:
[   90.000005]  <TASK>
[   90.000006]  md_run+0x12/0x34 [md_mod]
[   90.000007]  raid_ctr+0x1/0x2 [dm_raid]
[   90.000008]  </TASK>
[   90.000009] Kernel panic - not syncing: Fatal exception";

const AFTER: &str = "[   80.000001] md: md0: data-check done.
[   80.000002] md: md0 stopped.";

const WARNED: &str = "WARNING in regular_request_wait";
const FAULTED: &str = "BUG: kernel NULL pointer dereference in md_run";

fn log(parts: &[&str]) -> String {
    parts.join("\n")
}

#[test]
fn the_same_log_by_either_way_or_both_says_the_same() {
    let whole = log(&[BOOT, WARNING, AFTER, OOPS]);
    let (left, right) = (console(&whole), records(0, 0, &whole));
    let alone = read(&left).1;
    assert_eq!(alone.iter().map(|report| report.title.as_str()).collect::<Vec<_>>(), [WARNED, FAULTED]);
    for inputs in [
        right.clone(),
        join(&[&left, &right]),
        join(&[&right, &left]),
        in_turn(&left, &right),
        in_turn(&right, &left),
    ] {
        let (both, told) = read(&inputs);
        assert_eq!(told, alone);
        assert_eq!(both.fatal_title(), Some(FAULTED));
        assert_eq!(both.losses(), []);
    }
}

#[test]
fn a_muted_console_hides_nothing() {
    let whole = log(&[BOOT, WARNING, AFTER]);
    for printed in [BOOT.to_owned(), log(&[BOOT, &WARNING.lines().take(3).collect::<Vec<_>>().join("\n")])] {
        let inputs = join(&[&console(&printed), &records(0, 0, &whole)]);
        assert_eq!(titles(&inputs), [WARNED]);
        assert_eq!(losses(&inputs), []);
        assert_eq!(titles(&in_turn(&console(&printed), &records(0, 0, &whole))), [WARNED]);
    }
}

#[test]
fn a_panic_is_read_to_its_end_though_the_agent_is_dead() {
    let whole = log(&[BOOT, WARNING, OOPS]);
    let n_lines = whole.lines().count();
    // The agent goes at every place, and its last records come before or after the console's lines.
    for n_records in 0..n_lines {
        let sent = &records(0, 0, &whole)[..n_records];
        for inputs in [
            join(&[sent, &console(&whole)]),
            join(&[&console(&whole), sent]),
            in_turn(&console(&whole), sent),
        ] {
            let (both, told) = read(&inputs);
            assert_eq!(
                told.iter().map(|report| report.title.as_str()).collect::<Vec<_>>(),
                [WARNED, FAULTED]
            );
            assert!(
                told.iter().all(|report| !report.corrupted && report.frames.len() >= 2),
                "{n_records} {told:#?}"
            );
            assert_eq!(both.fatal_title(), Some(FAULTED));
            assert_eq!(both.losses(), []);
        }
    }
}

#[test]
fn what_one_lacks_is_read_from_the_other() {
    let whole = log(&[BOOT, WARNING, AFTER]);
    let n_lines = whole.lines().count();
    let (left, right) = (console(&whole), records(0, 0, &whole));
    for hole in 1..n_lines - 1 {
        for n_lost in 1..n_lines - hole {
            let holed = join(&[&right[..hole], &right[hole + n_lost..]]);
            for inputs in [join(&[&left, &holed]), in_turn(&left, &holed)] {
                let (both, told) = read(&inputs);
                assert_eq!(told.len(), 1, "{hole} {n_lost}");
                assert_eq!(told[0].title, WARNED);
                assert!(!told[0].corrupted);
                assert_eq!((both.losses(), both.n_missing()), (vec![], n_lost as u64));
            }
            let holed = join(&[&left[..hole], &left[hole + n_lost..]]);
            let (both, told) = read(&join(&[&holed, &right]));
            assert_eq!((told.len(), both.losses()), (1, vec![]), "{hole} {n_lost}");
            // The console comes after all records: nothing is lost, and nothing told twice.
            let holed = join(&[&right[..hole], &right[hole + n_lost..]]);
            let (both, told) = read(&join(&[&holed, &left]));
            assert_eq!(both.losses(), [], "{hole} {n_lost}");
            let titles: BTreeSet<_> = told.iter().map(|report| &report.title).collect();
            assert_eq!(titles.len(), told.len());
            assert!(titles.iter().any(|title| title.starts_with("WARNING")), "{hole} {n_lost}");
        }
    }
}

#[test]
fn what_both_lack_is_lost() {
    let kmsg = join(&[&records(0, 0, BOOT), &records(500, 0, AFTER)]);
    assert_eq!(losses(&kmsg), [Blame::Kernel]);
    let (log, _) = read(&join(&[&console(BOOT), &kmsg, &console(AFTER)]));
    let [(Blame::Kernel, words)] = &log.losses()[..] else { panic!("{:?}", log.losses()) };
    assert!(words.contains("lacks 497 messages") && words.contains("1.000001 and 80.000001 s"), "{words}");
    // As the console says of itself, and has some.
    let dropped = log_with_drop(497 - 9);
    assert_eq!(losses(&join(&[&console(&dropped), &kmsg])), [Blame::Kernel]);
    // A report that the hole is in takes nothing from behind it.
    let first: String = WARNING.lines().take(3).collect::<Vec<_>>().join("\n");
    let stray = "[   80.000001] Call Trace:\n[   80.000002]  other_function+0x1/0x2\n";
    let (_, told) = read(&join(&[&records(0, 0, &first), &records(100, 0, stray)]));
    assert_eq!((told.len(), told[0].frames.len()), (1, 0));
}

fn log_with_drop(n: u64) -> String {
    log(&[BOOT, WARNING, &format!("** {n} printk messages dropped **"), AFTER])
}

#[test]
fn what_the_console_dropped_is_lost_if_the_other_has_it_not() {
    let whole = log(&[BOOT, WARNING, AFTER]);
    assert_eq!(losses(&console(&log_with_drop(123))), [Blame::Kernel]);
    let stamped = log(&[BOOT, "[   60.000003] ** 123 printk messages dropped **", AFTER]);
    let (both, _) = read(&console(&stamped));
    assert!(both.losses()[0].1.contains("dropped 123 messages after 1.000001 s"), "{:?}", both.losses());
    for inputs in [
        join(&[&records(0, 0, &whole), &console(&log_with_drop(123))]),
        join(&[&console(&log_with_drop(123)), &records(0, 0, &whole)]),
        in_turn(&console(&log_with_drop(123)), &records(0, 0, &whole)),
        join(&[&console(&stamped), &records(0, 0, &whole)]),
    ] {
        assert_eq!(losses(&inputs), []);
    }
}

#[test]
fn what_the_agent_left_out_is_our_doing_if_the_console_has_it() {
    let mut kmsg = join(&[&records(0, 0, BOOT), &records(3 + 9, 0, AFTER)]);
    let In::Record { left_out, .. } = &mut kmsg[3] else { panic!() };
    *left_out = 9;
    assert_eq!(losses(&kmsg), [Blame::Kernel], "nobody has it");
    let both = join(&[&console(&log(&[BOOT, WARNING, AFTER])), &kmsg]);
    assert_eq!((losses(&both), titles(&both)), (vec![Blame::Harness], vec![WARNED.to_owned()]));
    let said = read(&both).0.losses();
    assert!(
        said[0].1.contains("left out 9 messages") && said[0].1.contains("the console has all of it"),
        "{said:?}"
    );
    // What has not come at all, and was announced.
    assert_eq!(losses(&join(&[&records(0, 0, BOOT), &[In::End(7)]])), [Blame::Kernel]);
    assert_eq!(losses(&join(&[&records(0, 0, BOOT), &[In::End(3)]])), []);
}

/// Somebody's output between the letters: the console's title is wrong, and the other's is not.
#[test]
fn what_is_mangled_on_the_console_is_told_once_and_whole() {
    let mangled = log(&[BOOT, WARNING, AFTER])
        .replace("regular_request_wait+0x1a0/0x1d0", "regular_re[   60.000001] quest_wait")
        .replace("  raid10_write_request", "33% ...\n  raid10_wr")
        .replace("raid10_make_request", "raid5_make_request");
    let alone = titles(&console(&mangled));
    assert_ne!(alone, [WARNED]);
    let kmsg = records(0, 0, &log(&[BOOT, WARNING, AFTER]));
    for inputs in [
        join(&[&console(&mangled), &kmsg]),
        join(&[&kmsg, &console(&mangled)]),
        in_turn(&console(&mangled), &kmsg),
    ] {
        let (_, told) = read(&inputs);
        assert_eq!(told.iter().map(|report| report.title.as_str()).collect::<Vec<_>>(), [WARNED]);
        assert!(!told[0].corrupted);
        assert_eq!(told[0].frames.len(), 2);
    }
}

/// The kernel's lines begin behind words that had no end.
#[test]
fn words_without_an_end_before_a_line_hide_nothing() {
    let prefixed = OOPS.replacen("[   90", "progress 33% ... [   90", 1);
    assert_eq!(titles(&join(&[&console(&prefixed), &records(0, 0, OOPS)])), [FAULTED]);
}

#[test]
fn what_a_test_writes_is_no_report() {
    let user = log(&[WARNING, &OOPS.replace("[   90.", "[   61.")]);
    let (before, after) = (records(0, 0, BOOT), records(50, 0, AFTER));
    let kmsg = join(&[&before, &records(3, 1, &user), &records(21, 0, AFTER)]);
    let all = console(&log(&[BOOT, &user, AFTER]));
    for inputs in [kmsg.clone(), join(&[&all, &kmsg]), join(&[&kmsg, &all]), in_turn(&all, &kmsg)] {
        let (both, told) = read(&inputs);
        assert_eq!(told, []);
        assert_eq!(both.fatal_title(), None);
        assert!(both.is_users("Kernel panic - not syncing: Fatal exception"));
        assert!(!both.is_users("md: md0 stopped."));
    }
    // The same by the newest of all records.
    let last = join(&[&before, &records(3, 1, &user)]);
    assert_eq!(titles(&join(&[&console(&log(&[BOOT, &user])), &last])), [] as [&str; 0]);
    // And straight to the console, with a stamp or without.
    let bare = user.lines().map(|line| line.split_once("] ").unwrap().1).collect::<Vec<_>>().join("\n");
    let kmsg = join(&[&before, &records(3, 0, AFTER)]);
    for forged in [&user, &bare] {
        let all = console(&log(&[BOOT, forged, AFTER]));
        for inputs in [join(&[&all, &kmsg]), join(&[&kmsg, &all])] {
            assert_eq!(titles(&inputs), [] as [&str; 0]);
        }
    }
    // At the very end: all of the log had come by then.
    let end = [In::End(3), In::End(3)];
    assert_eq!(titles(&join(&[&before, &console(&bare), &end])), [] as [&str; 0]);
    assert_eq!(titles(&join(&[&before, &end, &console(BOOT), &console(&bare)])), [] as [&str; 0]);
    // Of a kernel whose lines bear no stamps, these may be its last.
    assert_eq!(titles(&join(&[&before, &end, &console(&bare)])), [WARNED, FAULTED]);
    // Of a guest whose agent has gone, nobody knows.
    assert_eq!(titles(&join(&[&before, &console(&bare)])), [WARNED, FAULTED]);
    assert_eq!(titles(&join(&[&before, &after, &console(&user)])).len(), 2, "in a gap");
}

/// A kernel without `CONFIG_PRINTK_TIME`.
#[test]
fn a_console_without_stamps_is_matched_by_its_words() {
    let whole = log(&[BOOT, WARNING, OOPS]);
    let bare: String = whole.lines().map(|line| line.split_once("] ").unwrap().1.to_owned() + "\n").collect();
    let (left, right) = (console(&bare), records(0, 0, &whole));
    for inputs in [join(&[&left, &right]), join(&[&right, &left]), in_turn(&left, &right)] {
        assert_eq!(titles(&inputs), [WARNED, FAULTED]);
    }
    for n_records in 0..right.len() {
        assert_eq!(titles(&join(&[&right[..n_records], &left])), [WARNED, FAULTED], "{n_records}");
        assert_eq!(
            titles(&join(&[&[In::End(3)], &right[..n_records], &left])),
            [WARNED, FAULTED],
            "{n_records}"
        );
    }
}

#[test]
fn a_record_of_several_lines_is_several_on_the_console() {
    let line = "BUG: kernel NULL pointer dereference, address: 0\\x0aRIP: 0010:md_run+0x12/0x34 [md_mod]\\x0aCall Trace:";
    let kmsg = [In::Record { seq: 0, at_us: 5_000_000, facility: 0, left_out: 0, text: line.to_owned() }];
    let shown: String = unescaped(line).lines().map(|line| format!("[    5.000000] {line}\n")).collect();
    assert_eq!(titles(&join(&[&console(&shown), &kmsg])), [FAULTED]);
    assert_eq!(titles(&kmsg), [FAULTED]);
    let (log, _) = read(&join(&[&kmsg, &console(&shown)]));
    assert_eq!(log.losses.ahead, 0);
}

#[test]
fn caller_ids_go_to_who_reads() {
    let mut log = KernelLog::default();
    let mut seq = 0;
    let mut say = |caller: &'static str, text: &'static str| {
        seq += 1;
        log.record(&LogRecord { seq, at_us: seq, facility: 0, caller: Some(caller), left_out: 0, text })
    };
    say("T300", "WARNING: CPU: 0 PID: 300 at drivers/md/md.c:1 md_start+0x1/0x2 [md_mod]");
    say("T300", "Call Trace:");
    say("T5", " other_function+0x1/0x2");
    say("T300", " md_run+0x1/0x2 [md_mod]");
    let told = say("T300", "---[ end trace 0000000000000000 ]---");
    assert_eq!(told[0].frames, ["md_run+0x1/0x2 [md_mod]"]);
}

/// The agent is silent while the console goes on and on, then catches up.
#[test]
fn a_flood_is_bounded_and_no_report_is_lost_or_told_twice() {
    let flood = |from: usize| -> String {
        (0..3 * WAITING_MAX)
            .map(|n| format!("[  {:3}.{:06}] md: words\n", from + n / 1_000_000, n % 1_000_000))
            .collect()
    };
    let later = WARNING.replace("[   60.", "[  300.").replace("regular_request_wait", "raid5_run");
    let whole =
        log(&[BOOT, flood(5).trim(), WARNING, flood(200).trim(), &later, "[  301.000000] md: md0 stopped."]);
    let (left, right) = (console(&whole), records(0, 0, &whole));
    let mut log = KernelLog::default();
    for input in &left {
        let In::Console(line) = input else { panic!() };
        log.console(line);
        assert!(log.waiting.len() <= WAITING_MAX && log.waiting_bytes <= WAITING_BYTES_MAX);
    }
    assert_eq!(log.waiting.iter().filter(|line| line.us.is_some()).count(), log.stamps.len());
    let expected = [WARNED, "WARNING in raid5_run"];
    for inputs in [left.clone(), join(&[&left, &right]), join(&[&right, &left])] {
        assert_eq!(titles(&inputs), expected);
    }
}

#[test]
fn a_hung_task_is_heard_of_at_once() {
    let report = "[   60.000001] INFO: task lvm:1 blocked for more than 120 seconds.
[   60.000002] Call Trace:
[   60.000003]  <TASK>
[   60.000004]  md_run+0x1/0x2 [md_mod]
[   60.000005]  </TASK>";
    let mut log = KernelLog::default();
    let heard: Vec<_> = report.lines().map(|line| log.console(line).says_hung).collect();
    assert_eq!(heard, [false, false, false, false, true]);
    let begun: Vec<_> = report.lines().flat_map(|line| log.console(line).begun).collect();
    assert_eq!(begun, [ReportKind::HungTask], "by its first line");
}

/// What turns up late has a title that was told; but it is the first that shows md.
#[test]
fn what_shows_md_is_told_though_it_is_late() {
    let report = |module: &str| {
        let function = format!(" spin_{module}+0x1/0x2 [{module}]");
        let lines =
            ["rcu: INFO: rcu_preempt self-detected stall on CPU", "Call Trace:", " <TASK>", " spin+0x1/0x2"];
        lines.into_iter().map(str::to_owned).chain([function, " </TASK>".to_owned()]).collect::<Vec<_>>()
    };
    let mut log = KernelLog::default();
    let mut titles = Vec::new();
    for module in ["xfs", "md_mod", "md_mod", "xfs"] {
        let mut told = Vec::new();
        for line in report(module) {
            log.read_late(&line, &mut told);
        }
        titles.push(told.len());
        for line in report(module) {
            log.read(None, &line, &mut told);
        }
        assert_eq!(
            told.len(),
            titles[titles.len() - 1],
            "told by the one, {module} is not told by the other"
        );
    }
    assert_eq!(titles, [1, 1, 0, 0]);
}

/// Races use up what there is of theirs, which is said once; what comes after them is told.
#[test]
fn what_was_too_much_is_said_once() {
    let mut lines = Vec::new();
    for n in 0..3 * REPORTS_MAX as u64 {
        let race = format!("BUG: KCSAN: data-race in a_{n} / b_{n}");
        for (step, text) in [race.as_str(), " a_b+0x1/0x2", "=========="].into_iter().enumerate() {
            lines.push(as_on_console(1000 * n + step as u64, None, text));
        }
    }
    lines.push(as_on_console(900_000, None, "list_del corruption, 0x1->next is NULL"));
    let mut log = KernelLog::default();
    let mut told: Vec<_> = lines.iter().flat_map(|line| log.console(line).reports).collect();
    told.extend(log.finish());
    assert_eq!(told.len(), REPORTS_MAX + 1);
    assert_eq!(told[REPORTS_MAX].kind, ReportKind::Bug);
    let said = log.losses();
    let cut: Vec<_> = said.iter().filter(|(_, words)| words.contains("left out")).collect();
    let [(Blame::Kernel, words)] = &cut[..] else { panic!("{said:?}") };
    assert!(words.contains("more than 50 different ones of a kind (data-race)"), "{words}");
}

proptest! {
    /// However the two are cut, late or holed: no report twice, none that neither way has, none missed that
    /// one has whole.
    #[test]
    fn any_two_readings_of_a_log_are_one(
        turns in proptest::collection::vec(any::<bool>(), 0..80),
        lost_console in proptest::collection::btree_set(0..22_usize, 0..6),
        n_records in 0..23_usize,
    ) {
        let whole = log(&[BOOT, WARNING, AFTER, OOPS]);
        let mut left: VecDeque<_> = console(&whole).into();
        let mut right: VecDeque<_> = records(0, 0, &whole).into_iter().take(n_records).collect();
        let n_lines = left.len();
        let left_kept: VecDeque<_> = (0..).zip(left.drain(..))
            .filter(|(idx, _)| *idx >= n_records || !lost_console.contains(idx)).map(|(_, line)| line).collect();
        left = left_kept;
        prop_assert!(n_lines == 23);
        let mut inputs = Vec::new();
        for turn in turns {
            inputs.extend(if turn { left.pop_front() } else { right.pop_front() });
        }
        inputs.extend(left);
        inputs.extend(right);
        let (both, told) = read(&inputs);
        let titles: Vec<_> = told.iter().map(|report| report.title.as_str()).collect();
        prop_assert_eq!(titles, [WARNED, FAULTED]);
        prop_assert_eq!(both.losses(), vec![]);
    }

    /// Whatever a guest says: bounded, no title twice.
    #[test]
    fn any_words_are_read_in_bounds(inputs in proptest::collection::vec(anything(), 0..300)) {
        let (both, told) = read(&inputs);
        let titles: BTreeSet<_> = told.iter().map(|report| &report.title).collect();
        prop_assert!(titles.len() == told.len() && told.len() <= REPORTS_MAX);
        prop_assert!(both.losses().len() <= 4 && both.waiting.is_empty() && both.stamps.is_empty());
        prop_assert!(both.n_bare == 0 && both.waiting_bytes == 0);
        for (_, words) in both.losses() {
            prop_assert!(words.len() < 400);
        }
    }
}

fn anything() -> impl Strategy<Value = In> {
    let number = || prop_oneof![6 => 0..40_u64, 1 => Just(u64::MAX), 1 => any::<u64>()];
    let words = proptest::sample::select(vec![
        "BUG: x",
        "BUG: y",
        "Call Trace:",
        " a_b+0x1/0x2",
        "</TASK>",
        "md: x",
        "",
        "\\x0a\\x0aBUG: z",
        "Kernel panic - not syncing: Fatal exception",
        "** 5 printk messages dropped **",
        "\\x",
        "[    0.000007] BUG: q",
        "** 18446744073709551615 printk messages dropped **",
    ]);
    (0..8_u8, number(), number(), number(), words).prop_map(
        |(shape, seq, at_us, left_out, words)| match shape {
            0..3 => In::Console(as_on_console(at_us, None, words)),
            3 => In::Console(words.to_owned()),
            4 => In::End(seq),
            _ => In::Record { seq, at_us, facility: u8::from(shape == 5), left_out, text: words.to_owned() },
        },
    )
}
