//! The order of runs in a folder. Their names contain the time, for people; but after a wrong clock is set
//! back, the newest run has an old name. So each also has a number, in a file of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Name of that file, in a run's folder.
const FILE: &str = ".order";

/// Gives the new folder `dir` in `out` the next number. Two folders made at the same time may get the same
/// number; then their names decide.
pub(crate) fn note(out: &Path, dir: &Path) -> io::Result<()> {
    let others = fs::read_dir(out)?.flatten().filter_map(|entry| number(&entry.path()));
    fs::write(dir.join(FILE), format!("{}\n", others.max().unwrap_or(0).saturating_add(1)))
}

/// Sorts folders of runs, the oldest first. Folders without a number are older than any with one.
pub fn sort(dirs: &mut [PathBuf]) {
    dirs.sort_by_cached_key(|dir| {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (number(dir), key(&name))
    });
}

fn number(dir: &Path) -> Option<u64> {
    fs::read_to_string(dir.join(FILE)).ok()?.trim().parse().ok()
}

/// The time in a name, without the text before it, and the counter after it: `shell-2026-01-02T03-04-05Z-10`.
fn key(name: &str) -> (String, u32) {
    let from = name.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
    match name[from..].split_once('Z') {
        Some((time, more)) => (time.to_owned(), more.trim_start_matches('-').parse().unwrap_or(1)),
        None => (name[from..].to_owned(), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dirs: &[PathBuf]) -> Vec<String> {
        dirs.iter().map(|dir| dir.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_run_old() {
        let out = tempfile::tempdir().unwrap();
        // In order of creation: two without numbers, then one by a clock that is a year ahead, then others by
        // a right one.
        let came = [
            ("2026-01-01T00-00-00Z", false),
            ("shell-2026-01-02T00-00-00Z", false),
            ("2027-01-03T00-00-00Z", true),
            ("2026-01-03T00-00-00Z", true),
            ("shell-2026-01-03T00-00-01Z", true),
        ];
        for (name, is_noted) in came {
            fs::create_dir(out.path().join(name)).unwrap();
            if is_noted {
                note(out.path(), &out.path().join(name)).unwrap();
            }
        }
        let mut dirs: Vec<_> = fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        sort(&mut dirs);
        assert_eq!(names(&dirs), came.map(|(name, _)| name));
        fs::write(dirs[4].join(FILE), "damaged").unwrap();
        sort(&mut dirs);
        assert_eq!(
            names(&dirs)[2],
            "shell-2026-01-03T00-00-01Z",
            "by its name, among those without a number"
        );
    }

    #[test]
    fn the_tenth_of_a_second_comes_after_the_second() {
        let name = |more: &str| PathBuf::from(format!("/none/2026-01-01T00-00-00Z{more}"));
        let mut dirs = ["-10", "-2", ""].map(name);
        sort(&mut dirs);
        assert_eq!(dirs, ["", "-2", "-10"].map(name));
    }
}
