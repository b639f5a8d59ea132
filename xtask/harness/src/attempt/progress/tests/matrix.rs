//! Each row of the table by itself, and under each circumstance: which row is met, and after how many
//! samples.
//!
//! The snapshot is the whole of it: whoever changes a rule, or adds an exception, sees in its difference
//! which verdicts move (`INSTA_UPDATE=always cargo test -p harness matrix` writes it anew; read what moved
//! before you keep it).

use super::*;
use crate::attempt::progress::rules::{RULES, What};

/// Samples that are played. More than the longest window.
const N_SAMPLES: u64 = 600;

/// Tasks of the sample `n`.
type Scene = fn(n: u64) -> Vec<TaskSample>;

/// A circumstance: changes the sample `n`.
type Circumstance = fn(n: u64, sample: &mut Sample);

fn pid(first: u64, n: u64) -> u32 {
    u32::try_from(first + n).unwrap()
}

/// The test's shell, which waits for its child.
fn waits() -> TaskSample {
    task(1, "bash", 'S', 5)
}

/// A shell that computes, and starts no new program.
fn computes(n: u64) -> TaskSample {
    TaskSample { user_ms: n * 900, frames: vec![], storage: None, ..task(1, "bash", 'R', 5 + n) }
}

/// A program that the test has not had before.
fn step(n: u64) -> TaskSample {
    task(pid(1000, n), &format!("step{n}"), 'S', 1)
}

fn unknown(task: TaskSample) -> TaskSample {
    TaskSample { storage: None, ..task }
}

/// A thread of an array's, or a task, that spends `percent` of its time in md.
fn spins(pid: u32, comm: &str, state: char, n: u64, percent: u64) -> TaskSample {
    TaskSample { sys_ms: n * percent * 10, ..task(pid, comm, state, 7 + n * 50) }
}

fn sync_thread(state: char) -> TaskSample {
    TaskSample { frames: vec!["md_do_sync+0x1/0x2 [md_mod]".to_owned()], ..task(9, "md0_resync", state, 7) }
}

/// For each row of the table, in its order, a scene that no earlier row is met by.
const SCENES: [Scene; 15] = [
    |_| vec![waits(), reader(2, "dd", "md0")],
    |_| vec![waits(), unknown(writer(2))],
    |_| vec![waits(), unknown(reader(2, "dd", "md0"))],
    |n| vec![POLLED(n), unknown(writer(2))],
    |n| vec![computes(n), writer(2)],
    |n| vec![POLLED(n), step(n), writer(2)],
    |n| vec![POLLED(n), unknown(reader(2, "dd", "md0"))],
    |n| vec![computes(n), reader(2, "dd", "md0")],
    |n| vec![POLLED(n), step(n), reader(2, "dd", "md0")],
    |n| vec![POLLED(n), spins(2, "lvm", 'R', n, 90)],
    |n| {
        let (raid5d, reshape) = if n % 2 == 0 { ('R', 'D') } else { ('D', 'R') };
        vec![POLLED(n), spins(8, "md0_raid5", raid5d, n, 48), spins(9, "md0_reshape", reshape, n, 48)]
    },
    |n| vec![POLLED(n), step(n), task(9, "md0_raid5", 'D', 7)],
    |_| vec![waits(), sync_thread('D')],
    |n| vec![POLLED(n), sync_thread('D')],
    |n| vec![POLLED(n), sync_thread('S')],
];

/// A thread of the kernel's that stands in this function.
fn kernel_thread(comm: &str, frame: &str) -> TaskSample {
    TaskSample { of_test: false, frames: vec![frame.to_owned()], ..task(900, comm, 'I', 1) }
}

fn each_storage(sample: &mut Sample, change: impl Fn(&mut Storage)) {
    sample.tasks.iter_mut().filter_map(|task| task.storage.as_mut()).for_each(change);
}

const CIRCUMSTANCES: [(&str, Circumstance); 14] = [
    ("nothing else", |_, _| ()),
    ("the host's disk is slow", |_, sample| sample.host_io = 1),
    ("modprobe runs", |_, sample| {
        sample.tasks.push(kernel_thread("kworker/0:0", "call_usermodehelper_exec+0x1/0x2"));
    }),
    ("dm-delay is there", |_, sample| {
        // Nobody says how long it holds requests back.
        sample.tasks.push(kernel_thread("kworker/R-kdelayd", "rescuer_thread+0x1/0x2"));
    }),
    ("the kernel ends it in 20 s", |_, sample| each_storage(sample, |storage| storage.ends_ms = 20_000)),
    ("memory is short", |n, sample| {
        sample.paging = n + 1;
        let waiting = sample.tasks.iter_mut().filter(|task| !task.frames.is_empty());
        waiting.for_each(|task| task.frames.push("do_swap_page+0x1/0x2".to_owned()));
    }),
    ("its device is suspended", |_, sample| each_storage(sample, |storage| storage.is_suspended = true)),
    ("the test sleeps 1 s again and again", |n, sample| sample.tasks.push(sleep(2000 + n, 1000))),
    ("the test sleeps 100 s", |_, sample| sample.tasks.push(sleep(2000, 100_000))),
    ("the test sleeps for longer than it may", |_, sample| sample.tasks.push(sleep(2000, 1_000_000))),
    ("timeout(1) runs", |_, sample| {
        sample.tasks.push(TaskSample { sleeps_ms: Some(100_000), ..task(3, "timeout", 'S', 1) });
    }),
    ("its device does something", |n, sample| each_storage(sample, |storage| storage.done = n)),
    ("another device does something", |n, sample| sample.io_done = n),
    ("the resync moves", |n, sample| sample.syncs[0].position = n),
];

/// The row that is met first, counted from 1, and the sample at which that is.
fn first_met(scene: Scene, change: Circumstance, is_reported: bool) -> Option<(usize, u64)> {
    let mut progress = progress();
    (0..N_SAMPLES).find_map(|n| {
        if is_reported && n == 2 {
            progress.kernel_reports_hung();
        }
        let mut sample = Sample { syncs: vec![sync("md0", 5, true)], ..sample(n, scene(n)) };
        change(n, &mut sample);
        progress.take(sample)?;
        let (rule, _) = progress.first_row_met().expect("a row is met");
        Some((1 + RULES.iter().position(|row| std::ptr::eq(row, rule)).unwrap(), n))
    })
}

fn is_of_reports(row: usize) -> bool {
    RULES[row].what == What::Reported
}

#[test]
fn each_row_is_met_when_its_window_is_full() {
    assert_eq!(SCENES.len(), RULES.len(), "a row without a scene");
    for (row, (scene, rule)) in SCENES.into_iter().zip(RULES).enumerate() {
        let met = first_met(scene, |_, _| (), is_of_reports(row));
        assert_eq!(met, Some((row + 1, rule.samples.into())), "{rule:?}");
    }
}

/// Each line: a circumstance; each column: a row's scene. `12` is the sample at which that row is met, `40/7`
/// the sample at which row 7 is met instead, `-` none in ten minutes.
#[test]
fn matrix() {
    let width = CIRCUMSTANCES.iter().map(|(name, _)| name.len()).max().unwrap();
    let mut text = format!("{:width$} |", "row of the table");
    (1..=RULES.len()).for_each(|row| text += &format!(" {row:>6}"));
    for (name, change) in CIRCUMSTANCES {
        text += &format!("\n{name:width$} |");
        for (row, scene) in SCENES.into_iter().enumerate() {
            let cell = match first_met(scene, change, is_of_reports(row)) {
                Some((met, n)) if met == row + 1 => n.to_string(),
                Some((met, n)) => format!("{n}/{met}"),
                None => "-".to_owned(),
            };
            text += &format!(" {cell:>6}");
        }
    }
    insta::assert_snapshot!("matrix", text);
}
