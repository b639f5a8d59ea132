//! Fuzzes the files that a guest sends to the host's disk: names never become paths, and sizes are bounded at
//! every moment.

use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::attempt::{Watched, Word};
use super::costly;
use super::hostile::files_message;
use crate::guest::capped_log::CappedLog;
use crate::guest::files::Collected;

/// Maximum total size of kept files in this test, bytes.
const MAX_BYTES: u64 = 5000;

/// Relative names and sizes of all files in a folder and below.
fn files_in(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(
                files_in(&entry.path()).into_iter().map(|(below, size)| (format!("{name}/{below}"), size)),
            );
        } else {
            found.push((name, entry.metadata().unwrap().len()));
        }
    }
    found
}

proptest! {
    #![proptest_config(costly(4))]

    #[test]
    fn files_stay_in_their_folder_and_within_their_bytes(
        messages in proptest::collection::vec(files_message(), 0..60),
        n_storm in 0..40_u32,
    ) {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("attempt")).unwrap();
        let mut kept = Collected::new(top.path().join("attempt/files"), MAX_BYTES);
        let mut watched = Watched::collecting();
        let storm = Word::Storm { n_files: n_storm };
        let words = messages.into_iter().map(Word::Files).chain([storm]);
        for word in words {
            watched.say(Duration::from_millis(1), &word)?;
            for message in watched.files.drain(..) {
                kept.take(&message).unwrap();
            }
        }
        let files = files_in(top.path());
        for (name, _) in &files {
            let number = name.strip_prefix("attempt/files/").and_then(|number| number.parse::<u32>().ok());
            prop_assert!(number.is_some_and(|number| number < 1000), "{}", name);
        }
        prop_assert!(files.iter().map(|(_, size)| size).sum::<u64>() <= MAX_BYTES);
    }

    #[test]
    fn a_log_never_takes_more_room_than_it_may(
        pieces in proptest::collection::vec((any::<u8>(), 0..2000_usize), 0..40),
        cap in 20..3000_u64,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = CappedLog::create(&folder.path().join("log"), cap).unwrap();
        let mut n_bytes = 0;
        for (byte, n_times) in pieces {
            log.write(&vec![byte; n_times]).unwrap();
            n_bytes += n_times as u64;
            let size: u64 = files_in(folder.path()).iter().map(|(_, size)| size).sum();
            prop_assert!(size <= 2 * cap + 2, "{} bytes with a cap of {}", size, cap);
            prop_assert_eq!(size + log.dropped(), n_bytes);
        }
        let dropped = log.close().unwrap();
        let files = files_in(folder.path());
        prop_assert_eq!(files.len(), 1);
        let note = if dropped > 0 { 60 } else { 0 };
        prop_assert!(files[0].1 <= 2 * cap + 2 + note);
    }
}
