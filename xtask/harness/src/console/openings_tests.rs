//! Lines that open a report, in the forms of several kernels and architectures, and lines that open none.

use super::*;

fn found(line: &str) -> Option<(ReportKind, String, Option<String>)> {
    opening(line).map(|opening| (opening.kind, opening.words, opening.function))
}

#[test]
fn a_warning_is_known_in_every_form() {
    let named = Some("md_run".to_owned());
    for (line, function) in [
        ("WARNING: CPU: 0 PID: 77 at drivers/md/md.c:12 md_run+0x1/0x2 [md_mod]", &named),
        ("WARNING: CPU: 0 PID: 77 at md_run+0x1/0x2 [md_mod]", &named),
        ("WARNING: CPU: 0 PID: 77 at 0x0", &None),
        ("WARNING: drivers/md/md.c:12 at md_run+0x1/0x2 [md_mod], CPU#1: lvm/77", &named),
        ("WARNING: [a[0] > 1 && b] drivers/md/md.c:12 at md_run+0x1/0x2 [md_mod], CPU#1: lvm/77", &named),
        ("WARNING: at md_run+0x1/0x2 [md_mod], CPU#1: lvm/77", &named),
        ("WARNING: lib/a.c:12 at 0x0, CPU#1: lvm/77", &None),
        // The first letters are lost.
        ("RNING: CPU: 0 PID: 77 at drivers/md/md.c:12 md_run+0x1/0x2 [md_mod]", &named),
        ("G: drivers/md/md.c:12 at md_run+0x1/0x2 [md_mod], CPU#1: lvm/77", &named),
        ("CPU: 0 PID: 77 at drivers/md/md.c:12 md_run+0x1/0x2 [md_mod]", &named),
    ] {
        assert_eq!(found(line), Some((ReportKind::Warning, "WARNING".into(), function.clone())), "{line}");
        assert_eq!(opening(line).unwrap().is_clipped, !line.starts_with("WARNING"), "{line}");
    }
}

#[test]
fn other_lines_open_nothing() {
    for line in [
        "WARNING: at least one device is missing",
        "WARNING: Device /dev/x has size 0",
        "WARNING: PV x at offset 12 is old",
        "CPU: 0 UID: 0 PID: 77 Comm: lvm Not tainted 6.12.0 #1",
        "ING: words",
        "G: words",
        "INFO: task force blocked",
        "INFO: lockdep is turned off.",
        "Internal error: no such device",
        "Oops: that was wrong",
        "memory: words",
        "strange: words",
        "kobject: 'md0': words",
        "rcu: \tHierarchical RCU implementation.",
        "workqueue: round-robin CPU selection forced",
        "usercopy: words",
        "list_of: words",
        "Call Trace:",
    ] {
        assert_eq!(found(line), None, "{line}");
    }
}

#[test]
fn what_is_cut_here_is_named_by_what_is_left_of_its_line() {
    let mut opening = Opening::cut_here();
    opening.take_place("words of a WARN without a place");
    assert_eq!((&opening.file, &opening.function), (&None, &None));
    opening.take_place("ID: 4049 at drivers/md/dm-raid.c:4105 raid_resume+0xee/0x100 [dm_raid]");
    let (file, function) = ("drivers/md/dm-raid.c".to_owned(), "raid_resume".to_owned());
    assert_eq!((opening.file, opening.function), (Some(file), Some(function)));
}

#[test]
fn the_part_that_says_most_names_a_report() {
    let of = |line: &str| opening(line).unwrap();
    let deepened = |lines: &[&str]| {
        let mut first = of(lines[0]);
        lines[1..].iter().for_each(|line| first.deepen(of(line)));
        (first.kind, first.words, first.other_words)
    };
    let warning = "WARNING: lib/refcount.c:28 at refcount_warn_saturate+0x1/0x2, CPU#0: lvm/7";
    let reason = "refcount_t: underflow; use-after-free.";
    let whole =
        (ReportKind::Bug, "refcount_t: underflow; use-after-free".to_owned(), vec!["WARNING".to_owned()]);
    assert_eq!(deepened(&[warning, reason]), whole, "since 7.0");
    assert_eq!(deepened(&[reason, warning]), whole, "before");
    let (kind, words, _) =
        deepened(&["BUG: kernel NULL pointer dereference, address: 8", "Oops: Oops: 0000 [#1] SMP"]);
    assert_eq!((kind, words.as_str()), (ReportKind::Oops, "BUG: kernel NULL pointer dereference"));
    let rust = ["rust_kernel: panicked at a.rs:1:2:", "kernel BUG at rust/helpers/bug.c:7!"];
    assert_eq!(deepened(&rust), (ReportKind::Oops, "kernel BUG".into(), vec!["Rust panic".into()]));
}
