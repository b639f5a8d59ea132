//! Tasks that the kernel itself reports as hung.

use super::*;

#[test]
fn a_hung_task_counts_while_nothing_else_moves() {
    // It waits for a daemon that stands; its own polling takes a new program each time.
    let stands = |n: u64, reported_at: u64, prints_every: u64| {
        let mut progress = progress();
        (0..n).find_map(|n| {
            if n == reported_at {
                progress.kernel_reports_hung();
            }
            if prints_every > 0 && n % prints_every == 0 {
                progress.spoke();
            }
            let polled = task(100 + n as u32, &format!("program{n}"), 'S', 1);
            let tasks = vec![task(1, "bash", 'S', 5 + n), polled, task(9, "md0_raid5", 'D', 7)];
            Some((n, progress.take(sample(n, tasks))?.kind))
        })
    };
    assert_eq!(stands(300, 120, 0), Some((120, HangKind::HungTask)));
    assert_eq!(stands(300, 120, 10), None, "the test goes on: a complaint, not a hang");
    assert_eq!(stands(300, 400, 0), None, "the kernel has not said so");
}

#[test]
fn a_silence_is_a_hung_task_if_the_kernel_says_so() {
    let mut progress = progress();
    for n in 0..30 {
        progress.take(sample(n, vec![task(9, "md0_raid5", 'D', 7)]));
    }
    assert_eq!(progress.kind_of_silence(), HangKind::NoOutput);
    progress.kernel_reports_hung();
    assert_eq!(progress.kind_of_silence(), HangKind::HungTask);
}

#[test]
fn an_old_report_is_of_an_old_wait() {
    let found = |reported_at: u64, went_on_at: u64| {
        let mut progress = progress();
        (0..600).find_map(|n| {
            if n == reported_at {
                progress.kernel_reports_hung();
            }
            // Reading ends 60 samples later; nobody says what it waits for.
            let mut dd = TaskSample { storage: None, ..reader(2, "dd", "") };
            dd.slices = 9 + u64::from(n >= went_on_at) + n / 60;
            let busy = TaskSample { user_ms: n * 50, ..task(100 + n as u32, &format!("step{n}"), 'S', 1) };
            Some((n, progress.take(sample(n, vec![POLLED(n), busy, dd]))?.kind))
        })
    };
    assert_eq!(found(50, 1000), Some((50, HangKind::HungTask)));
    assert_eq!(found(5, 6), None, "it went on a moment later");
}
