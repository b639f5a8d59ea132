//! Asks the arrays how far their resync, recovery, check or reshape is: md's through sysfs, dm-raid's by the
//! status of their target.
//!
//! Deliberately not here: which threads there are, and what standing still means.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use protocol::sample::{SYNCS_MAX, Sample, Sync};

use crate::process::spawn::output_of;

/// How often the arrays are asked how far their sync threads are.
const SYNCS_EVERY: Duration = Duration::from_secs(5);
/// Longest name of a dm device that is kept.
const NAME_MAX: usize = 64;

/// The positions of all sync threads, read by a thread of its own: each answer may wait for a lock that a
/// hang holds, and meanwhile samples go on without positions.
pub(crate) struct Syncs {
    shared: Arc<Mutex<Looked>>,
}

#[derive(Default)]
struct Looked {
    /// There is a sync thread: without one, nobody asks.
    wanted: bool,
    found: Vec<Sync>,
    at: Option<Instant>,
}

impl Syncs {
    /// Begins to watch.
    pub(crate) fn watch() -> Self {
        let shared = Arc::new(Mutex::new(Looked::default()));
        let of_thread = Arc::clone(&shared);
        // Without it, samples are poorer.
        let _ = std::thread::Builder::new().name("syncs".into()).spawn(move || {
            loop {
                if of_thread.lock().is_ok_and(|looked| looked.wanted) {
                    let found = syncs();
                    if let Ok(mut looked) = of_thread.lock() {
                        looked.found = found;
                        looked.at = Some(Instant::now());
                    }
                }
                std::thread::sleep(SYNCS_EVERY);
            }
        });
        Syncs { shared }
    }

    /// The newest that is known, if `sample` shows a sync thread.
    pub(crate) fn newest(&self, sample: &Sample) -> Vec<Sync> {
        let Ok(mut looked) = self.shared.lock() else { return vec![] };
        looked.wanted = sample.tasks.iter().any(|task| is_sync(&task.comm));
        let is_fresh = looked.at.is_some_and(|at| at.elapsed() < 3 * SYNCS_EVERY);
        if looked.wanted && is_fresh { looked.found.clone() } else { vec![] }
    }
}

/// True for the name of a thread of a resync, recovery, check or reshape.
pub(crate) fn is_sync(comm: &str) -> bool {
    ["_resync", "_reshape", "_recover"].iter().any(|end| comm.ends_with(end))
}

fn syncs() -> Vec<Sync> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let Ok(array) = entry.file_name().into_string() else { continue };
        let read = |name| fs::read_to_string(entry.path().join("md").join(name)).unwrap_or_default();
        if array.starts_with("md") {
            let sync = sync_of_md(array, read("sync_action").trim(), read("sync_completed").trim());
            let is_capped = read("sync_max").trim().parse::<u64>().is_ok();
            found.extend(sync.map(|sync| Sync { is_capped, ..sync }));
        }
    }
    // Does not flush, and has the thread that waits for it to itself.
    let status = output_of(&["dmsetup", "status", "--noflush", "--target", "raid"]);
    found.extend(status.unwrap_or_default().lines().filter_map(sync_of_dm));
    found.truncate(SYNCS_MAX);
    found
}

/// The position of an array of md, by `sync_action` and `sync_completed` (md.rst): `resync`, `1024 / 8192`;
/// `none` and `delayed` are no position.
fn sync_of_md(array: String, action: &str, completed: &str) -> Option<Sync> {
    let position = completed.split(' ').next().and_then(|word| word.parse().ok());
    let should_move = position.is_some() && !matches!(action, "" | "idle" | "frozen");
    Some(Sync { array, position: position.unwrap_or_default(), should_move, is_capped: false })
}

/// The position of an array of dm-raid, by its target's status (dm-raid.rst):
/// `NAME: START LENGTH raid TYPE N HEALTH DONE/ALL ACTION …`.
fn sync_of_dm(line: &str) -> Option<Sync> {
    let (array, status) = line.split_once(": ")?;
    let mut words = status.split_whitespace().skip(2);
    if words.next()? != "raid" {
        return None;
    }
    let (done, all) = words.nth(3)?.split_once('/')?;
    let action = words.next()?;
    let should_move = done != all && !matches!(action, "idle" | "frozen");
    let array = array.chars().take(NAME_MAX).collect();
    Some(Sync { array, position: done.parse().ok()?, should_move, is_capped: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_read_where_the_array_tells_of_it() {
        let sync = |array: &str, position, should_move| Sync {
            array: array.into(),
            position,
            should_move,
            is_capped: false,
        };
        let md = |action, completed| sync_of_md("md0".into(), action, completed).unwrap();
        assert_eq!(md("resync", "1024 / 8192"), sync("md0", 1024, true));
        assert_eq!(md("frozen", "1024 / 8192"), sync("md0", 1024, false));
        assert_eq!(md("resync", "delayed"), sync("md0", 0, false));
        assert_eq!(md("idle", "none"), sync("md0", 0, false));
        let dm = sync_of_dm("vg-lv: 0 16384 raid raid5_ls 3 aaa 128/8192 resync 0 0 -");
        assert_eq!(dm, Some(sync("vg-lv", 128, true)));
        let dm = sync_of_dm("vg-lv: 0 16384 raid raid5_ls 3 AAA 8192/8192 idle 0 0 -");
        assert_eq!(dm, Some(sync("vg-lv", 8192, false)));
        assert_eq!(sync_of_dm("No devices found"), None);
        assert_eq!(sync_of_dm("x: 0 20480 linear "), None);
    }
}
