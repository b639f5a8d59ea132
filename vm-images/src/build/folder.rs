//! Build folders that are kept for the next build, so that only what has changed since is built again.
//!
//! Make compares times. So a source file keeps its time while its content stays, and gets a new time with any
//! other content, an older content included. The state in which a build left its folder is written down. A
//! folder that is not in that state any more, because a build was killed, somebody was in it, or the clock
//! went back, is emptied. A lock lets one process in at a time. Deliberately not here: what is built, and by
//! which commands.
//!
//! The code of a build may be a stranger's. It can leave links where folders were: nothing is written through
//! a link. It can also write to its own source: such a folder is emptied, because the next build would take
//! that source for its own. Its object files are used again: sources that are built in one folder are not
//! kept apart from each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::build::error::{BuildError, io_error};
use crate::build::files::{Changes, Entries, Entry, Kind, changes, content};
use crate::host::Cancel;
use crate::host::progress::Progress;
use crate::host::tree::remove_tree;
use crate::store::Store;
use crate::store::digest::Digest;

/// Kind of these folders in the store.
pub(crate) const KIND: &str = "build";
/// File with the [`State`] in which a build left its folder; beside the folder proper.
const STATE: &str = "state.json";
/// The folder proper.
const WORK: &str = "work";
/// Version of [`State`].
const FORMAT: u32 = 1;

/// The state in which a build left its folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    format: u32,
    /// The source files that were put there.
    sources: Entries,
    /// Size and time of all files.
    files: BTreeMap<PathBuf, Stamp>,
}

/// Size, and time in seconds and nanoseconds.
type Stamp = (u64, i64, i64);

/// Takes the content of a file, with the file's index among those that are asked for.
pub(crate) type Take<'t> = &'t mut dyn FnMut(usize, &[u8]) -> Result<(), BuildError>;

/// A folder to build in. Others wait until it is dropped.
#[derive(Debug)]
pub(crate) struct BuildFolder {
    top: PathBuf,
    /// The source files that are in it.
    sources: Entries,
    /// The source files as they were when a build began.
    began: BTreeMap<PathBuf, Identity>,
    _lock: Option<File>,
}

/// Inode, and when it last changed, which nobody can set.
type Identity = (u64, i64, i64);

impl BuildFolder {
    /// The folder for builds with these `inputs` (compilers, headers, commands) in common: as the last build
    /// left it, or empty.
    pub(crate) fn open(
        store: &Store,
        inputs: &[(&str, &str)],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Self, BuildError> {
        let digest = Digest::of_inputs(inputs.iter().copied());
        let lock = store.lock(&format!("{KIND}-{}", digest.short()), progress, cancel)?;
        let top = store.root().join(KIND).join(digest.short());
        let mut folder =
            BuildFolder { top, sources: Entries::new(), began: BTreeMap::new(), _lock: Some(lock) };
        match folder.as_it_was_left() {
            Some(state) => folder.sources = state.sources,
            None => {
                if folder.top.exists() {
                    progress.note(&format!(
                        "build folder `{}` is not as a build left it; building from nothing",
                        folder.top.display()
                    ));
                    remove_tree(&folder.top).map_err(io_error("remove", &folder.top))?;
                }
                folder.make()?;
            }
        }
        Ok(folder)
    }

    /// An empty folder at `parent` that nobody else uses, to build from nothing.
    pub(crate) fn fresh(parent: &Path) -> Result<Self, BuildError> {
        let folder = BuildFolder {
            top: parent.to_owned(),
            sources: Entries::new(),
            began: BTreeMap::new(),
            _lock: None,
        };
        folder.make()?;
        Ok(folder)
    }

    /// Makes the folder so that no other user can look into it: a build may leave programs that run with our
    /// rights.
    fn make(&self) -> Result<(), BuildError> {
        let work = self.path();
        fs::create_dir_all(&work).map_err(io_error("create", &work))?;
        fs::set_permissions(&self.top, Permissions::from_mode(0o700)).map_err(io_error("close", &self.top))
    }

    /// The folder proper.
    pub(crate) fn path(&self) -> PathBuf {
        self.top.join(WORK)
    }

    /// True if nothing was built in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Makes its source files those of `wanted`. `fetch` is called with the files to be written, and passes
    /// on the content of each with its index.
    ///
    /// Until [`Self::built`] is called, whoever opens the folder next finds it in no known state, and empties
    /// it.
    pub(crate) fn put(
        &mut self,
        wanted: &Entries,
        fetch: impl FnOnce(&[(&Path, &Entry)], Take<'_>) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        self.forget()?;
        let work = self.path();
        let mut there = std::mem::take(&mut self.sources);
        if !are_folders(&work, there.keys().chain(wanted.keys())) {
            remove_tree(&work).map_err(io_error("remove", &work))?;
            there = Entries::new();
            self.make()?;
        }
        let Changes { write, remove } = changes(&there, wanted);
        for file in remove {
            let path = work.join(file);
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
        if !write.is_empty() {
            fetch(&write, &mut |idx, bytes| {
                let (file, entry) = write[idx];
                let path = work.join(file);
                put_file(&path, entry.kind, bytes).map_err(io_error("write", &path))
            })?;
        }
        self.sources = wanted.clone();
        Ok(())
    }

    /// Notes the identities of the source files just before the build, for [`Self::built`] to compare.
    pub(crate) fn begin(&mut self) -> Result<(), BuildError> {
        self.began = self.identities().map_err(io_error("look at the source in", &self.path()))?;
        Ok(())
    }

    fn identities(&self) -> io::Result<BTreeMap<PathBuf, Identity>> {
        let work = self.path();
        let mut all = BTreeMap::new();
        for file in self.sources.keys() {
            let data = match fs::symlink_metadata(work.join(file)) {
                Ok(data) => data,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            all.insert(file.clone(), (data.ino(), data.ctime(), data.ctime_nsec()));
        }
        Ok(all)
    }

    /// Writes down the state in which the build left the folder, successful or not. If it changed its own
    /// source, nothing is written down, and the next build begins from nothing.
    pub(crate) fn built(&self) -> Result<(), BuildError> {
        let work = self.path();
        if self.identities().map_err(io_error("look at the source in", &work))? != self.began {
            return Ok(());
        }
        let files = stamps(&work).map_err(io_error("look at", &work))?;
        let state = State { format: FORMAT, sources: self.sources.clone(), files };
        let (path, beside) = (self.top.join(STATE), self.top.join("state.new"));
        let bytes = serde_json::to_vec(&state).map_err(io::Error::other);
        let write = |bytes: Vec<u8>| fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, &path));
        bytes.and_then(write).map_err(io_error("write", &path))
    }

    /// The state that was written down, if the folder is still in it and no file is from the future.
    fn as_it_was_left(&self) -> Option<State> {
        let state: State = serde_json::from_slice(&fs::read(self.top.join(STATE)).ok()?).ok()?;
        if state.format != FORMAT || stamps(&self.path()).ok()? != state.files {
            return None;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        state.files.values().all(|&(_, seconds, _)| seconds <= now).then_some(state)
    }

    fn forget(&self) -> Result<(), BuildError> {
        let path = self.top.join(STATE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// True if every ancestor of `files` below `work` is a folder, or does not exist yet.
fn are_folders<'f>(work: &Path, files: impl Iterator<Item = &'f PathBuf>) -> bool {
    let folders: BTreeSet<&Path> = files.flat_map(|file| file.ancestors().skip(1)).collect();
    folders.into_iter().all(|folder| match fs::symlink_metadata(work.join(folder)) {
        Ok(data) => data.is_dir(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    })
}

/// Writes a file, unless it has this content: then it keeps its time.
fn put_file(path: &Path, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let there = Kind::of(path)?;
    if there == Some(kind) && content(path, kind)? == bytes {
        return Ok(());
    }
    if there.is_some() {
        fs::remove_file(path)?;
    } else if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    if kind == Kind::Link {
        return symlink(std::ffi::OsStr::from_bytes(bytes), path);
    }
    fs::write(path, bytes)?;
    fs::set_permissions(path, Permissions::from_mode(kind.mode()))?;
    // The kernel's clock for files advances every few milliseconds: an object may have been built since its
    // last tick.
    File::open(path)?.set_times(FileTimes::new().set_modified(SystemTime::now()))
}

fn stamps(dir: &Path) -> io::Result<BTreeMap<PathBuf, Stamp>> {
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry?;
        if entry.file_type().is_dir() {
            continue;
        }
        let data = entry.metadata()?;
        let file = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        all.insert(file.to_owned(), (data.len(), data.mtime(), data.mtime_nsec()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::progress::Silent;

    struct Bench {
        _root: tempfile::TempDir,
        store: Store,
    }

    impl Bench {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let store = Store::open(root.path()).unwrap();
            Bench { _root: root, store }
        }

        fn open(&self) -> BuildFolder {
            BuildFolder::open(&self.store, &[("headers", "1")], &Silent, &Cancel::default()).unwrap()
        }

        /// Puts `files`, and gives those that were fetched.
        fn put(&self, folder: &mut BuildFolder, files: &[(&str, &str)]) -> Vec<String> {
            let wanted: Entries = files
                .iter()
                .map(|(file, text)| {
                    let id = Digest::of_bytes(text.as_bytes()).to_string();
                    (PathBuf::from(file), Entry { kind: Kind::Plain, id })
                })
                .collect();
            let mut fetched = Vec::new();
            folder
                .put(&wanted, |names, each| {
                    for (idx, (name, _)) in names.iter().enumerate() {
                        let name = name.to_str().unwrap();
                        fetched.push(name.to_owned());
                        let text = files.iter().find(|(file, _)| *file == name).unwrap().1;
                        each(idx, text.as_bytes())?;
                    }
                    Ok(())
                })
                .unwrap();
            folder.begin().unwrap();
            fetched
        }
    }

    fn time(folder: &BuildFolder, name: &str) -> SystemTime {
        fs::metadata(folder.path().join(name)).unwrap().modified().unwrap()
    }

    #[test]
    fn what_stays_keeps_its_time_and_what_changes_gets_a_new_one() {
        let bench = Bench::new();
        let mut folder = bench.open();
        assert_eq!(bench.put(&mut folder, &[("md.c", "one"), ("md.h", "h")]), ["md.c", "md.h"]);
        fs::write(folder.path().join("md.o"), "object").unwrap();
        let (source, header, object) = (time(&folder, "md.c"), time(&folder, "md.h"), time(&folder, "md.o"));
        folder.built().unwrap();
        drop(folder);

        let mut folder = bench.open();
        assert_eq!(bench.put(&mut folder, &[("md.c", "two"), ("md.h", "h")]), ["md.c"]);
        assert_eq!(time(&folder, "md.h"), header);
        assert_eq!(time(&folder, "md.o"), object);
        let second = time(&folder, "md.c");
        assert!(second > source && second > object, "make must build it again");
        folder.built().unwrap();
        // Back to older content: that is a change as well.
        assert_eq!(bench.put(&mut folder, &[("md.c", "one")]), ["md.c"]);
        assert!(time(&folder, "md.c") > second);
        assert!(!folder.path().join("md.h").exists());
    }

    #[test]
    fn a_folder_that_is_not_as_it_was_left_is_emptied() {
        let spoil: [fn(&BuildFolder); 4] = [
            |folder| fs::write(folder.path().join("md.o"), "obj").unwrap(),
            |folder| fs::remove_file(folder.path().join("md.o")).unwrap(),
            |folder| fs::write(folder.top.join(STATE), "{").unwrap(),
            |folder| {
                let later = SystemTime::now() + Duration::from_secs(3600);
                let file = File::options().append(true).open(folder.path().join("md.o")).unwrap();
                file.set_modified(later).unwrap();
                folder.built().unwrap();
            },
        ];
        for spoil in spoil {
            let bench = Bench::new();
            let mut folder = bench.open();
            bench.put(&mut folder, &[("md.c", "one")]);
            fs::write(folder.path().join("md.o"), "object").unwrap();
            folder.built().unwrap();
            drop(folder);
            assert!(!bench.open().is_empty());
            spoil(&bench.open());
            let folder = bench.open();
            assert!(folder.is_empty() && !folder.path().join("md.o").exists());
        }
    }

    #[test]
    fn a_build_that_was_killed_is_not_gone_on_with() {
        let bench = Bench::new();
        let mut folder = bench.open();
        bench.put(&mut folder, &[("md.c", "one")]);
        folder.built().unwrap();
        bench.put(&mut folder, &[("md.c", "two")]);
        fs::write(folder.path().join("md.o"), "half").unwrap();
        drop(folder);
        assert!(bench.open().is_empty());
    }

    #[test]
    fn a_build_that_changed_its_source_is_not_gone_on_with() {
        let bench = Bench::new();
        let mut folder = bench.open();
        bench.put(&mut folder, &[("md.c", "one")]);
        let source = folder.path().join("md.c");
        let then = fs::metadata(&source).unwrap().modified().unwrap();
        fs::write(&source, "two").unwrap();
        File::options().append(true).open(&source).unwrap().set_modified(then).unwrap();
        folder.built().unwrap();
        drop(folder);
        let mut folder = bench.open();
        assert!(folder.is_empty());
        assert_eq!(bench.put(&mut folder, &[("md.c", "one")]), ["md.c"]);
        assert_eq!(fs::read_to_string(folder.path().join("md.c")).unwrap(), "one");
    }

    #[test]
    fn nothing_is_written_through_a_link_that_a_build_left() {
        let bench = Bench::new();
        let host = tempfile::tempdir().unwrap();
        let mut folder = bench.open();
        bench.put(&mut folder, &[("src/md.c", "one"), ("src/md.h", "h")]);
        fs::rename(folder.path().join("src"), host.path().join("src")).unwrap();
        symlink(host.path().join("src"), folder.path().join("src")).unwrap();
        folder.built().unwrap();
        drop(folder);
        let mut folder = bench.open();
        bench.put(&mut folder, &[("src/md.c", "two"), ("src/new.c", "n")]);
        assert_eq!(fs::read_to_string(host.path().join("src/md.c")).unwrap(), "one");
        assert!(!host.path().join("src/new.c").exists() && !folder.path().join("src").is_symlink());
        assert_eq!(fs::read_to_string(folder.path().join("src/md.c")).unwrap(), "two");
    }

    #[test]
    fn one_at_a_time() {
        let bench = Bench::new();
        let folder = bench.open();
        let mode = fs::metadata(&folder.top).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700, "nobody else runs what a build has made");
        let cancel = Cancel::default();
        cancel.cancel();
        let second = BuildFolder::open(&bench.store, &[("headers", "1")], &Silent, &cancel);
        assert!(second.is_err(), "it waits until it is cancelled");
        drop(folder);
        bench.open();
    }
}
