//! Sets of source files, by name, kind and content, and the changes that make one set out of another. Pure,
//! but for looking at a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::store::digest::Digest;

/// Files by their path, relative to a folder.
pub(crate) type Entries = BTreeMap<PathBuf, Entry>;

/// A file, as far as it counts for a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its kind.
    pub(crate) kind: Kind,
    /// Tells its content from any other: a digest, or git's id of the blob.
    pub(crate) id: String,
}

/// The kind of a file; of its mode only this counts, as for git.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// An ordinary file.
    Plain,
    /// A program.
    Executable,
    /// A symbolic link; its target is its content.
    Link,
}

impl Kind {
    /// The kind of the file at `path`; `None` if there is none, or something that is no file.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        let data = match fs::symlink_metadata(path) {
            Ok(data) => data,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Ok(match data.file_type() {
            kind if kind.is_symlink() => Some(Kind::Link),
            kind if kind.is_file() && data.permissions().mode() & 0o100 != 0 => Some(Kind::Executable),
            kind if kind.is_file() => Some(Kind::Plain),
            _ => None,
        })
    }

    /// Its name, as digests are made of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Executable => "executable",
            Kind::Link => "link",
        }
    }

    /// The permissions of such a file.
    pub(crate) fn mode(self) -> u32 {
        match self {
            Kind::Plain | Kind::Link => 0o644,
            Kind::Executable => 0o755,
        }
    }
}

/// The bytes that count of a file.
pub(crate) fn content(path: &Path, kind: Kind) -> io::Result<Vec<u8>> {
    match kind {
        Kind::Plain | Kind::Executable => fs::read(path),
        Kind::Link => Ok(fs::read_link(path)?.as_os_str().as_bytes().to_vec()),
    }
}

/// The `files` of `dir` as they are now; those that do not exist are left out. The error names a file that
/// cannot be read.
pub(crate) fn entries_of(dir: &Path, files: &[PathBuf]) -> Result<Entries, (PathBuf, io::Error)> {
    let mut entries = Entries::new();
    for file in files {
        let path = dir.join(file);
        let at = |error| (file.clone(), error);
        let Some(kind) = Kind::of(&path).map_err(at)? else { continue };
        let id = Digest::of_bytes(&content(&path, kind).map_err(at)?).to_string();
        entries.insert(file.clone(), Entry { kind, id });
    }
    Ok(entries)
}

/// [`entries_of`], but a file that has not been touched since the last look is not read again. `known` is a
/// file of ours with the results of that look: a cache, which may be lost.
pub(crate) fn entries_since(
    dir: &Path,
    files: &[PathBuf],
    known: &Path,
) -> Result<Entries, (PathBuf, io::Error)> {
    let before: BTreeMap<PathBuf, (Stamp, String)> =
        fs::read(known).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let began = i64::try_from(began.as_secs()).unwrap_or(i64::MAX);
    let (mut entries, mut now) = (Entries::new(), BTreeMap::new());
    for file in files {
        let path = dir.join(file);
        let at = |error| (file.clone(), error);
        let Some(kind) = Kind::of(&path).map_err(at)? else { continue };
        let stamp = Stamp::of(&path).map_err(at)?;
        let id = match before.get(file) {
            Some((then, id)) if *then == stamp => id.clone(),
            Some(_) | None => Digest::of_bytes(&content(&path, kind).map_err(at)?).to_string(),
        };
        // A file that was written a moment ago may be written again within the same tick of the clock.
        if stamp.changed_s < began - RECENT_S {
            now.insert(file.clone(), (stamp, id.clone()));
        }
        entries.insert(file.clone(), Entry { kind, id });
    }
    if now != before
        && let Some(parent) = known.parent()
        && let Ok(bytes) = serde_json::to_vec(&now)
    {
        let beside = known.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::create_dir_all(parent)
            .and_then(|()| fs::write(&beside, bytes))
            .and_then(|()| fs::rename(&beside, known));
    }
    Ok(entries)
}

/// A file that was changed within this many seconds may change again without its times showing it.
const RECENT_S: i64 = 3;

/// Values that change when a file is written, or another takes its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed_s: i64,
    changed_ns: i64,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let data = fs::symlink_metadata(path)?;
        Ok(Stamp {
            size: data.len(),
            inode: data.ino(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed_s: data.ctime(),
            changed_ns: data.ctime_nsec(),
        })
    }
}

/// Finds, among paths that are to be written below one folder, one that would end up elsewhere: it has `..`,
/// or lies below another path of the set, which may be a link. Git's own commands make no such tree, but
/// others can.
pub(crate) fn leads_elsewhere<'p>(paths: impl Iterator<Item = &'p Path>) -> Option<&'p Path> {
    let all: BTreeSet<&Path> = paths.collect();
    let is_odd = |path: &&Path| {
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        !is_plain || path.ancestors().skip(1).any(|above| all.contains(above))
    };
    all.iter().copied().find(is_odd)
}

/// Digest of the names, kinds and contents.
pub(crate) fn digest_of(entries: &Entries) -> Digest {
    let mut list = Vec::new();
    for (file, entry) in entries {
        // A name may hold anything but a zero byte.
        list.extend_from_slice(file.as_os_str().as_bytes());
        list.extend_from_slice(format!("\0{} {}\n", entry.kind.name(), entry.id).as_bytes());
    }
    Digest::of_bytes(&list)
}

/// The changes that make one set of files out of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes<'e> {
    /// Files to be written: new or changed ones.
    pub(crate) write: Vec<(&'e Path, &'e Entry)>,
    /// Files to be removed.
    pub(crate) remove: Vec<&'e Path>,
}

/// The changes that make `wanted` out of `there`.
pub(crate) fn changes<'e>(there: &'e Entries, wanted: &'e Entries) -> Changes<'e> {
    let differs = |(file, entry): &(&PathBuf, &Entry)| there.get(*file) != Some(*entry);
    let gone = |file: &&PathBuf| !wanted.contains_key(*file);
    Changes {
        write: wanted.iter().filter(differs).map(|(file, entry)| (file.as_path(), entry)).collect(),
        remove: there.keys().filter(gone).map(PathBuf::as_path).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(files: &[(&str, &str)]) -> Entries {
        let entry = |id: &str| Entry { kind: Kind::Plain, id: id.to_owned() };
        files.iter().map(|(file, id)| (PathBuf::from(file), entry(id))).collect()
    }

    #[test]
    fn only_what_differs_is_written() {
        let there = entries(&[("a.c", "1"), ("b.c", "1"), ("old.c", "1")]);
        let mut wanted = entries(&[("a.c", "1"), ("b.c", "2"), ("new.c", "1")]);
        let found = changes(&there, &wanted);
        let written: Vec<_> = found.write.iter().map(|(file, _)| file.to_str().unwrap()).collect();
        assert_eq!(written, ["b.c", "new.c"]);
        assert_eq!(found.remove, [Path::new("old.c")]);
        wanted.get_mut(Path::new("a.c")).unwrap().kind = Kind::Executable;
        assert_eq!(changes(&there, &wanted).write.len(), 3, "a mode is a change, too");
        assert_eq!(changes(&there, &there), Changes::default());
    }

    #[test]
    fn what_is_known_is_what_is_there() {
        let (dir, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let known = store.path().join("known/files");
        let files = [PathBuf::from("a"), PathBuf::from("none")];
        for text in ["one", "two", "three"] {
            fs::write(dir.path().join("a"), text).unwrap();
            let since = entries_since(dir.path(), &files, &known).unwrap();
            assert_eq!(since, entries_of(dir.path(), &files).unwrap());
            assert_eq!(since.len(), 1);
        }
        fs::create_dir_all(known.parent().unwrap()).unwrap();
        fs::write(&known, "{").unwrap();
        assert_eq!(entries_since(dir.path(), &files, &known).unwrap().len(), 1);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_found() {
        let check = |paths: &[&str], expect: Option<&str>| {
            assert_eq!(leads_elsewhere(paths.iter().map(Path::new)), expect.map(Path::new), "{paths:?}");
        };
        check(&["Makefile", "drivers/md/md.c", "drivers/md/md.h", "drivers/md.c"], None);
        check(&["a", "../b"], Some("../b"));
        check(&["a/../../b"], Some("a/../../b"));
        check(&["/etc/passwd"], Some("/etc/passwd"));
        // A link, and a file in the folder of the same name.
        check(&["a", "a/passwd"], Some("a/passwd"));
        check(&["a", "b", "a/c/d"], Some("a/c/d"));
    }

    #[test]
    fn a_digest_tells_names_kinds_and_content() {
        let one = entries(&[("a", "1"), ("b", "2")]);
        let digests: Vec<_> = [
            one.clone(),
            entries(&[("a", "1"), ("b", "3")]),
            entries(&[("a", "1"), ("c", "2")]),
            entries(&[("a", "1")]),
        ]
        .iter()
        .map(digest_of)
        .collect();
        assert_eq!(digests[0], digest_of(&one));
        assert!(digests[1..].iter().all(|digest| *digest != digests[0]));
    }
}
