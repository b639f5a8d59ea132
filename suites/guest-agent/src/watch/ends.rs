//! Waits that the kernel ends by itself: for IO that dm-delay holds back, and for a thin pool without space.
//! A thread of its own asks with dmsetup, and only while a task stands still.
//!
//! Deliberately not here: the timeouts of disks ([`crate::watch::disks`]).

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::process::spawn::output_of;

/// How often the thread looks whether somebody wants to know.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often dmsetup is asked again, while somebody wants to know.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Devices that are kept.
const DEVICES_MAX: usize = 512;

/// Time within which a wait for a dm device ends, milliseconds, by the device's name.
pub(crate) type EndsMs = BTreeMap<String, u64>;

/// The newest answers.
pub(crate) struct Ends {
    shared: Arc<Mutex<Looked>>,
}

#[derive(Default)]
struct Looked {
    /// When something last stood.
    wanted: Option<Instant>,
    found: EndsMs,
}

impl Ends {
    /// Begins to watch.
    pub(crate) fn watch() -> Self {
        let shared = Arc::new(Mutex::new(Looked::default()));
        let of_thread = Arc::clone(&shared);
        // Without it, samples are poorer.
        let _ = std::thread::Builder::new().name("ends".into()).spawn(move || {
            let mut asked: Option<Instant> = None;
            loop {
                let stands = |looked: &Looked| looked.wanted.is_some_and(|at| at.elapsed() < 2 * LOOK_EVERY);
                let is_wanted = of_thread.lock().is_ok_and(|looked| stands(&looked));
                if is_wanted && asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
                    let found = ask();
                    asked = Some(Instant::now());
                    if let Ok(mut looked) = of_thread.lock() {
                        looked.found = found;
                    }
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Ends { shared }
    }

    /// The newest that is known; it is asked again only while something stands.
    pub(crate) fn newest(&self, something_stands: bool) -> EndsMs {
        let Ok(mut looked) = self.shared.lock() else { return EndsMs::new() };
        if something_stands {
            looked.wanted = Some(Instant::now());
        }
        looked.found.clone()
    }
}

fn ask() -> EndsMs {
    let mut found = EndsMs::new();
    let mut note = |(name, ms): (String, u64)| {
        if found.len() < DEVICES_MAX {
            let longest = found.entry(name).or_default();
            *longest = ms.max(*longest);
        }
    };
    // dmsetup is asked only if a module is loaded that makes such devices.
    if fs::exists("/sys/module/dm_delay").unwrap_or(false) {
        let table = output_of(&["dmsetup", "table", "--target", "delay"]);
        table.unwrap_or_default().lines().filter_map(delay_of).for_each(&mut note);
    }
    let timeout = fs::read_to_string("/sys/module/dm_thin_pool/parameters/no_space_timeout");
    if let Some(timeout_s) = timeout.ok().and_then(|text| text.trim().parse().ok()) {
        let status = output_of(&["dmsetup", "status", "--noflush", "--target", "thin-pool"]);
        let lines = status.unwrap_or_default();
        lines.lines().filter_map(|line| no_space_of(line, timeout_s)).for_each(&mut note);
    }
    found
}

/// The longest of a delay target's delays (delay.rst):
/// `NAME: START LENGTH delay DEVICE OFFSET DELAY [… [… ]]`, of reads, writes and flushes.
fn delay_of(line: &str) -> Option<(String, u64)> {
    let (name, table) = line.split_once(": ")?;
    let words: Vec<_> = table.split_whitespace().collect();
    if words.get(2) != Some(&"delay") {
        return None;
    }
    let longest = words.get(3..)?.chunks_exact(3).filter_map(|path| path[2].parse::<u64>().ok()).max()?;
    Some((name.to_owned(), longest))
}

/// A pool without space that makes its users wait (thin-provisioning.rst) does so for `no_space_timeout`
/// seconds, then fails them (dm-thin.c, `do_no_space_timeout`); 0 is for ever.
fn no_space_of(line: &str, timeout_s: u64) -> Option<(String, u64)> {
    let (name, status) = line.split_once(": ")?;
    let words: Vec<_> = status.split_whitespace().collect();
    let waits = words.contains(&"out_of_data_space") && words.contains(&"queue_if_no_space");
    (waits && timeout_s > 0).then(|| (name.to_owned(), timeout_s.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_read_from_tables() {
        let found = |line| delay_of(line).map(|(_, ms)| ms);
        assert_eq!(delay_of("x: 0 8192 delay 1:0 0 10000"), Some(("x".to_owned(), 10_000)));
        assert_eq!(found("x: 0 8192 delay 1:0 0 0 1:0 0 500"), Some(500));
        assert_eq!(found("x: 0 8192 delay 1:0 0 0 1:0 0 500 1:0 0 700"), Some(700));
        assert_eq!(found("x: 0 8192 linear 1:0 0"), None);
        assert_eq!(found("No devices found"), None);
    }

    #[test]
    fn a_pool_without_space_ends_its_users_waits() {
        let pool = |mode: &str, words: &str| {
            format!(
                "vg-pool-tpool: 0 1024 thin-pool 0 12/1024 16/16 - {mode} discard_passdown {words} - 1024"
            )
        };
        let ends = |line: String, timeout_s| no_space_of(&line, timeout_s).map(|(_, ms)| ms);
        assert_eq!(ends(pool("out_of_data_space", "queue_if_no_space"), 60), Some(60_000));
        assert_eq!(ends(pool("out_of_data_space", "queue_if_no_space"), 0), None, "for ever");
        assert_eq!(ends(pool("out_of_data_space", "error_if_no_space"), 60), None);
        assert_eq!(ends(pool("rw", "queue_if_no_space"), 60), None);
    }
}
