//! Reads `/proc/mdstat` in a thread of its own: the read takes locks of each array, and while a hang holds
//! one, samples go on with the last answer.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::sample::EVERY_MS;

/// Hashes of `/proc/mdstat` as it was last answered, without what the clock alone changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mdstat {
    /// Hash of the whole file.
    pub(crate) all: u64,
    /// Hash of each array's paragraph, by the array's name.
    pub(crate) arrays: BTreeMap<String, u64>,
}

/// Begins to read, once a second.
pub(crate) fn watch() -> Arc<Mutex<Mdstat>> {
    let newest = Arc::new(Mutex::new(Mdstat::default()));
    let of_thread = Arc::clone(&newest);
    // Without it, samples are poorer.
    let _ = std::thread::Builder::new().name("mdstat".into()).spawn(move || {
        loop {
            let found = parse(&fs::read_to_string("/proc/mdstat").unwrap_or_default());
            if let Ok(mut newest) = of_thread.lock() {
                *newest = found;
            }
            std::thread::sleep(Duration::from_millis(EVERY_MS));
        }
    });
    newest
}

/// Hashes the file without `finish=` and `speed=`: they are derived from the clock (md.c, `status_resync`),
/// and go on changing while a resync stands still.
fn parse(text: &str) -> Mdstat {
    let mut arrays: BTreeMap<String, DefaultHasher> = BTreeMap::new();
    let mut all = DefaultHasher::new();
    let mut array = String::new();
    for line in text.lines() {
        // `md0 : active …` begins a paragraph, whose other lines are indented.
        if !line.starts_with(' ') {
            array = line.split_once(" : ").map_or("", |(name, _)| name).to_owned();
        }
        let derived = |word: &&str| word.starts_with("finish=") || word.starts_with("speed=");
        for word in line.split_whitespace().filter(|word| !derived(word)) {
            word.hash(&mut all);
            if array.starts_with("md") {
                word.hash(arrays.entry(array.clone()).or_default());
            }
        }
    }
    Mdstat {
        all: all.finish(),
        arrays: arrays.into_iter().map(|(name, hash)| (name, hash.finish())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_array_advances_by_itself() {
        let text = |done: u32, speed: u32, other: &str| {
            format!(
                "Personalities : [raid1] [raid6] \nmd1 : active raid5 dm-2[2] dm-1[1] dm-0[0]\n      2048 blocks {other}\n      \n\
                 md0 : active raid1 ram1[1] ram0[0]\n      4096 blocks [2/2] [UU]\n      [=>....]  resync = {done}% ({done}/4096) finish=0.1min speed={speed}K/sec\n      \nunused devices: <none>\n"
            )
        };
        let (first, later) = (parse(&text(5, 100, "x")), parse(&text(5, 200, "x")));
        assert_eq!(first, later, "only the clock has moved");
        let moved = parse(&text(6, 100, "x"));
        assert!(moved.all != first.all && moved.arrays["md0"] != first.arrays["md0"]);
        assert_eq!(moved.arrays["md1"], first.arrays["md1"]);
        assert_eq!(first.arrays.len(), 2);
    }
}
