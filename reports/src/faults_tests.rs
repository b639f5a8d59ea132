//! What each class of reports makes of a test, and the words that move it.

use protocol::evidence::TaskStack;

use super::*;

fn report(kind: ReportKind, title: &str, frames: &[&str]) -> KernelReport {
    KernelReport {
        kind,
        title: title.to_owned(),
        alt_titles: vec![],
        corrupted: false,
        frames: frames.iter().map(|&frame| frame.to_owned()).collect(),
        causes: vec![],
        starved: false,
    }
}

#[test]
fn a_warning_is_a_failure_where_md_or_dm_is_in_it() {
    let weigh = |report: &KernelReport| Policy::default().severity_of(report);
    let warning = |title: &str, frames: &[&str]| weigh(&report(ReportKind::Warning, title, frames));
    assert_eq!(warning("WARNING in foo", &["foo+0x1/0x2", "bar+0x1/0x2"]), Severity::Complaint);
    assert_eq!(warning("WARNING in foo", &["foo+0x1/0x2", "raid_map+0x1/0x2 [dm_raid]"]), Severity::Failure);
    assert_eq!(warning("WARNING in md_stop", &[]), Severity::Failure, "its stack is cut");
    assert_eq!(warning("KCSAN: data-race in foo / raid5d", &[]), Severity::Failure);
    // What stalls is named by its cause.
    let mut stall = report(ReportKind::WorkqueueStall, "workqueue lockup", &[]);
    assert_eq!(weigh(&stall), Severity::Complaint);
    stall.causes = vec![TaskStack {
        pid: 5,
        comm: "kworker/0:1".to_owned(),
        of_test: false,
        state: 'R',
        still_ms: 0,
        frames: vec!["md_start_sync+0x1/0x2 [md_mod]".to_owned()],
    }];
    assert_eq!(weigh(&stall), Severity::Failure);
}

#[test]
fn a_stall_of_a_guest_that_the_host_kept_waiting_is_a_complaint() {
    let mut lockup = report(ReportKind::Lockup, "soft lockup in raid5d", &["raid5d+0x1/0x2 [raid456]"]);
    assert_eq!(Policy::default().severity_of(&lockup), Severity::Crash);
    lockup.starved = true;
    assert_eq!(Policy::default().severity_of(&lockup), Severity::Complaint);
    let all = Policy::of(&["complaints".to_owned()], false).unwrap();
    assert_eq!(all.severity_of(&lockup), Severity::Failure, "who asks for all of them gets all of them");
}

/// The damage is a test's own, and below a mirror nobody reads it.
#[test]
fn changed_data_that_was_refused_is_a_complaint() {
    let weigh = |title: &str| Policy::default().severity_of(&report(ReportKind::Corruption, title, &[]));
    assert_eq!(weigh("dm-integrity: checksum failed"), Severity::Complaint);
    assert_eq!(weigh("ext4: checksum error"), Severity::Corruption);
}

#[test]
fn a_suspected_leak_is_no_crash() {
    let leak = report(ReportKind::Bug, "memory leak found by kmemleak", &[]);
    assert_eq!(Policy::default().severity_of(&leak), Severity::Complaint);
    let bug = report(ReportKind::Bug, "BUG: Bad page state", &[]);
    assert_eq!(Policy::default().severity_of(&bug), Severity::Crash);
}

#[test]
fn each_class_has_a_name_that_moves_it() {
    for class in FaultClass::all() {
        let down = Policy::of(&[format!("no-{class}")], false).unwrap();
        assert_eq!(down.severity_of_class(class, true), Severity::Complaint, "{class}");
        let up = Policy::of(&[class.to_string()], false).unwrap();
        assert!(up.severity_of_class(class, false) <= Severity::Failure, "{class}");
    }
    let kinds = FaultClass::all().filter(|class| matches!(class, FaultClass::Report(_))).count();
    assert_eq!(kinds, KINDS.len());
}

#[test]
fn a_word_that_is_no_class_is_told_with_those_that_are() {
    assert!(
        Policy::of(&["no-complaints".to_owned()], false)
            .unwrap_err()
            .starts_with("`no-complaints` is what holds")
    );
    let error = Policy::of(&["warnings".to_owned()], false).unwrap_err();
    assert!(
        error.starts_with("there is no class `warnings`; there are complaints (all of them), panic, oops"),
        "{error}"
    );
}
