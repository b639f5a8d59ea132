//! Puts the reports of a run into its folder. A report is there in full or not at all: it is
//! written beside its place and then renamed.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::judge::judged::Judged;
use crate::record::RunRecord;
use crate::render::{junit, mail, summary, verdicts_json};

/// Where the reports are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenReports {
    /// For CI servers.
    pub junit: PathBuf,
    /// For people.
    pub summary: PathBuf,
    /// For scripts.
    pub verdicts: PathBuf,
}

/// Why a report is not there.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It could not be made.
    #[error(transparent)]
    Junit(#[from] junit::JunitError),
    /// It could not be written.
    #[error(
        "failed to write `{path}`: {cause}; what happened is safe in events.jsonl beside it",
        path = .path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// `report.txt` at most: a run in which everything fails has one cause.
const MAILS_MAX: usize = 200;

/// Writes `junit.xml`, `summary.md` and `verdicts.json` into `dir`, which exists, and `report.txt` into the
/// folder of each attempt that went wrong. Earlier ones are replaced.
pub fn write_all(dir: &Path, record: &RunRecord, judged: &[Judged]) -> Result<WrittenReports, WriteError> {
    let junit = junit::render(record, judged)?;
    let written = WrittenReports {
        junit: write_file(dir.join("junit.xml"), &junit)?,
        summary: write_file(dir.join("summary.md"), &summary::render(record, judged))?,
        verdicts: write_file(dir.join("verdicts.json"), &verdicts_json::render(record, judged))?,
    };
    let wrong = judged.iter().filter_map(|judged| {
        let attempt = record.attempt(judged.attempt?)?;
        mail::is_due(judged).then_some((judged, attempt))
    });
    for (judged, attempt) in wrong.take(MAILS_MAX) {
        if let Some(folder) = folder_within(dir, &attempt.dir) {
            let made = fs::create_dir_all(&folder);
            made.map_err(|cause| WriteError::Io { path: folder.clone(), cause })?;
            write_file(folder.join("report.txt"), &mail::render(record, judged, attempt))?;
        }
    }
    Ok(written)
}

/// An attempt's folder; none if its name, which comes from a file, leads elsewhere.
fn folder_within(dir: &Path, name: &str) -> Option<PathBuf> {
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    (!name.is_empty() && !name.contains('\0') && Path::new(name).components().all(is_plain))
        .then(|| dir.join(name))
}

fn write_file(path: PathBuf, text: &str) -> Result<PathBuf, WriteError> {
    match write_whole(&path, text) {
        Ok(()) => Ok(path),
        Err(cause) => Err(WriteError::Io { path, cause }),
    }
}

/// Writes a file whole or not at all: a reader, or a power cut, finds the old text or the new one.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    // Readable as far as the umask allows: a CI server collects it as another user.
    let mut file = tempfile::Builder::new()
        .prefix(".report-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)?;
    file.write_all(text.as_bytes())?;
    // Without it, a power cut after the rename can leave an empty file in place of an older report.
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::judge;
    use crate::judge::known_issues::KnownIssues;
    use crate::testing;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn reports_replace_earlier_ones_and_leave_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (record, judged) = testing::sample();
        fs::write(dir.path().join("junit.xml"), "old").unwrap();
        let written = write_all(dir.path(), &record, &judged).unwrap();
        assert!(fs::read_to_string(&written.junit).unwrap().starts_with("<?xml"));
        assert!(fs::read_to_string(&written.summary).unwrap().starts_with("# "));
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["attempts", "junit.xml", "summary.md", "verdicts.json"]);
        let mails = fs::read_dir(dir.path().join("attempts")).unwrap();
        let mut of: Vec<_> = mails.map(|entry| entry.unwrap().path()).collect();
        of.sort();
        // Two failures and a hang; neither what passed or skipped, nor what the host failed.
        assert_eq!(of.len(), 3, "{of:?}");
        let mail = fs::read_to_string(of[1].join("report.txt")).unwrap();
        assert!(mail.starts_with("Subject: lvm2:shell/integrity-caching.sh"), "{mail}");
    }

    #[test]
    fn a_folder_that_leads_elsewhere_gets_nothing() {
        for name in ["", "..", "a/../../b", "/etc", "./a", "a\0"] {
            assert_eq!(folder_within(Path::new("out"), name), None, "{name:?}");
        }
        assert_eq!(folder_within(Path::new("out"), "6.1/x"), Some(PathBuf::from("out/6.1/x")));
    }

    /// The reports of these bytes of an events.jsonl, by name.
    fn reports_of(events: &[u8]) -> BTreeMap<PathBuf, Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        fs::write(&path, events).unwrap();
        let record = crate::read_events(&path).unwrap().into_record();
        write_all(
            dir.path(),
            &record,
            &judge(&record, &testing::sample_expectations(), &KnownIssues::default()),
        )
        .unwrap();
        fs::remove_file(path).unwrap();
        let all = |dir: &Path| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
        // An attempt's folder is `attempts/N`.
        let mails = all(&dir.path().join("attempts")).collect::<Vec<_>>().into_iter();
        let files = all(dir.path()).chain(mails.flat_map(|folder| all(&folder).collect::<Vec<_>>()));
        let files = files.filter(|path| path.is_file());
        files
            .map(|path| (path.strip_prefix(dir.path()).unwrap().to_owned(), fs::read(&path).unwrap()))
            .collect()
    }

    proptest! {
        /// Nothing but the events and the expectations goes into a report: no time, no folder, no
        /// order of a hash. Also of a run that was cut anywhere after its first line.
        #[test]
        fn the_same_events_give_the_same_reports_to_the_byte(
            events in proptest::collection::vec(testing::any_record(), 0..40),
            cut in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            let lines = testing::sample_events().into_iter().take(1).chain(events);
            let lines: Vec<_> = lines.map(|line| serde_json::to_string(&line).unwrap() + "\n").collect();
            let mut bytes = lines.concat().into_bytes();
            if let Some(cut) = cut {
                let after_first = bytes.len() - lines[0].len();
                bytes.truncate(lines[0].len() + cut.index(after_first + 1));
            }
            let first = reports_of(&bytes);
            prop_assert!(first.len() >= 3);
            prop_assert!(first == reports_of(&bytes));
        }
    }

    #[test]
    fn a_missing_folder_is_named() {
        let (record, judged) = testing::sample();
        let error = write_all(Path::new("/nowhere"), &record, &judged).unwrap_err().to_string();
        assert!(error.starts_with("failed to write `/nowhere/junit.xml`: "), "{error}");
    }
}
