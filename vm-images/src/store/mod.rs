//! The artifact store: a cache folder of things built once, named by the digest of their inputs.
//!
//! An artifact is a folder that never changes after it appears. It is built beside
//! (`tmp/…`) and renamed into place, so nobody sees half of one; a lock per artifact makes a
//! second run wait for the first instead of building twice. What one `xtask` process writes
//! before the rename lies in one temporary folder, removed when the process ends, however it ends
//! ([`crate::host::janitor`]).

pub mod digest;
pub(crate) mod shared_fs;
pub mod space;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::Cancel;
use crate::host::progress::Progress;
use crate::host::tree::remove_tree;
use crate::store::digest::Digest;

/// The name of the environment variable that moves the store.
pub const STORE_VARIABLE: &str = "MD_REGRESS_STORE";

/// Name of the file that says what an artifact is made of.
pub(crate) const MANIFEST: &str = "artifact.json";

/// Why the store could not give an artifact.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder of the store cannot be used.
    #[error("failed to use the store at `{}`: {source}; name a writable folder by --store or {STORE_VARIABLE}", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another host may use the same folder without either seeing the other's locks.
    #[error(
        "the store at `{}` is not safe: {why}, where the locks of one host are not seen by another; name a folder on \
         a disk of this machine by --store or {STORE_VARIABLE}, or on NFS with locks (nfs(5): no nolock, no local_lock)",
        path.display()
    )]
    Shared {
        /// The folder.
        path: PathBuf,
        /// The file system that it lies on.
        why: String,
    },
    /// Neither the variable nor a home is set.
    #[error("no place for the store: set {STORE_VARIABLE}, XDG_CACHE_HOME or HOME")]
    NoPlace,
    /// A file within the store cannot be used.
    #[error("failed to {what} `{}`: {source}{}", path.display(), full_hint(source))]
    Io {
        /// The step that failed, as a verb: `lock`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The run was cancelled while waiting.
    #[error("interrupted")]
    Cancelled,
}

fn full_hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::StorageFull {
        "; the disk is full (whatever is in the store may be deleted, and is made again when needed)"
    } else {
        ""
    }
}

/// The store of one user on one machine, and this process's temporary folder in it.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Held locked while this process lives, so that a later one can tell that we are gone.
    _alive: File,
    temporary: PathBuf,
    /// Folders of the artifacts that were asked for ([`Self::asked_for_by`]).
    asked_for: Mutex<BTreeSet<PathBuf>>,
}

/// The inputs of an artifact and the files that it must hold; written into it as `artifact.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    kind: String,
    digest: Digest,
    inputs: BTreeMap<String, String>,
    /// Size of each regular file at the artifact's top level: a cheap check for damage.
    files: BTreeMap<String, u64>,
}

/// A complete artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The artifact's folder.
    pub dir: PathBuf,
    /// Digest of what it was made from.
    pub digest: Digest,
}

impl Artifact {
    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Store {
    /// The folder of the store, unless the user names another.
    pub fn default_root() -> Result<PathBuf, StoreError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        variable("XDG_CACHE_HOME")
            .map(|cache| cache.join("md-regress"))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/md-regress")))
            .ok_or(StoreError::NoPlace)
    }

    /// Opens the store, makes its folders, and removes what dead processes left behind.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Unusable { path: root.to_owned(), source };
        for dir in ["locks", "tmp", "files"] {
            fs::create_dir_all(root.join(dir)).map_err(unusable)?;
        }
        let root = root.canonicalize().map_err(unusable)?;
        if let Some(why) = shared_fs::why_not(&root) {
            return Err(StoreError::Shared { path: root, why });
        }
        sweep(&root.join("tmp"));
        let temporary =
            tempfile::Builder::new().prefix("run-").tempdir_in(root.join("tmp")).map_err(unusable)?;
        // Locked before it has its name: a sweeping process never sees it unlocked while we live.
        let unnamed = temporary.path().join(".alive-new");
        let alive = File::create(&unnamed).map_err(unusable)?;
        alive.lock().map_err(unusable)?;
        fs::rename(&unnamed, temporary.path().join(".alive")).map_err(unusable)?;
        let temporary = temporary.keep();
        Ok(Store { root, _alive: alive, temporary, asked_for: Mutex::default() })
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// This process's temporary folder, on the store's file system.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Downloaded files, named by their own digest.
    pub fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// The artifact of `kind` made from `inputs`, if it is there and whole.
    pub fn find<'a>(
        &self,
        kind: &str,
        inputs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Option<Artifact> {
        let digest = Digest::of_inputs(inputs);
        let dir = self.place(kind, &digest);
        is_whole(&dir).then(|| self.handed_out(Artifact { dir, digest }))
    }

    /// Notes down that an artifact was asked for.
    fn handed_out(&self, artifact: Artifact) -> Artifact {
        let mut all = self.asked_for.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(artifact.dir.clone());
        artifact
    }

    /// Does `work`, and gives the folders of all artifacts that were asked for in it: what a store must hold
    /// in which the same can be done without a mirror. Other work of this process must rest meanwhile.
    pub fn asked_for_by<T>(&self, work: impl FnOnce() -> T) -> (T, Vec<PathBuf>) {
        let take = || std::mem::take(&mut *self.asked_for.lock().unwrap_or_else(PoisonError::into_inner));
        take();
        let done = work();
        (done, take().into_iter().collect())
    }

    /// Gives the artifact of `kind` made from `inputs`; `build` makes it, in the empty folder that it is
    /// given, if it is not there yet.
    pub fn artifact<E: From<StoreError>>(
        &self,
        kind: &str,
        inputs: &[(&str, &str)],
        progress: &dyn Progress,
        cancel: &Cancel,
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Artifact, E> {
        let digest = Digest::of_inputs(inputs.iter().copied());
        let dir = self.place(kind, &digest);
        let artifact = Artifact { dir: dir.clone(), digest: digest.clone() };
        if is_whole(&dir) {
            return Ok(self.handed_out(artifact));
        }
        let _lock = self.lock(&format!("{kind}-{}", digest.short()), progress, cancel)?;
        // Somebody else may have built it while we waited.
        if is_whole(&dir) {
            return Ok(self.handed_out(artifact));
        }
        if dir.exists() {
            progress.note(&format!("`{}` is damaged; building it again", dir.display()));
            remove_tree(&dir).map_err(io_error("remove", &dir))?;
        }
        let building = tempfile::Builder::new()
            .prefix(&format!("{kind}-"))
            .tempdir_in(&self.temporary)
            .map_err(io_error("make a folder in", &self.temporary))?;
        let content = building.path().join("content");
        fs::create_dir(&content).map_err(io_error("create", &content))?;
        build(&content)?;
        write_manifest(&content, kind, &digest, inputs).map_err(io_error("write a manifest in", &content))?;
        // Whole on the disk, not only in memory, before it can be seen: a power cut must not leave a
        // name without its content.
        File::open(&content)
            .and_then(|folder| Ok(rustix::fs::syncfs(folder)?))
            .map_err(io_error("write out", &content))?;
        let parent = self.root.join(kind);
        fs::create_dir_all(&parent).map_err(io_error("create", &parent))?;
        fs::rename(&content, &dir).map_err(io_error("rename into place", &dir))?;
        Ok(self.handed_out(artifact))
    }

    /// Takes the lock `name`, waiting for another process that has it.
    pub fn lock(&self, name: &str, progress: &dyn Progress, cancel: &Cancel) -> Result<File, StoreError> {
        let path = self.root.join("locks").join(name);
        let file = File::create(&path).map_err(io_error("create", &path))?;
        let mut said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {
                    if !said {
                        progress.step(&format!("waiting for another md-regress that prepares {name}"));
                        said = true;
                    }
                    cancel.check().map_err(|_| StoreError::Cancelled)?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
            }
        }
    }

    pub(crate) fn place(&self, kind: &str, digest: &Digest) -> PathBuf {
        self.root.join(kind).join(digest.short())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = remove_tree(&self.temporary);
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { what, path, source }
}

fn write_manifest(dir: &Path, kind: &str, digest: &Digest, inputs: &[(&str, &str)]) -> io::Result<()> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.insert(entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len());
        }
    }
    let inputs = inputs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let manifest = Manifest { kind: kind.to_owned(), digest: digest.clone(), inputs, files };
    fs::write(dir.join(MANIFEST), serde_json::to_vec_pretty(&manifest)?)
}

fn is_whole(dir: &Path) -> bool {
    let Ok(bytes) = fs::read(dir.join(MANIFEST)) else { return false };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return false };
    manifest.files.iter().all(|(name, &size)| {
        fs::symlink_metadata(dir.join(name)).is_ok_and(|file| file.is_file() && file.len() == size)
    })
}

/// The state of a lock file.
#[derive(Debug)]
pub(crate) enum Held {
    /// Nobody held the lock: it is ours now, until the file is closed.
    Free(File),
    /// Another process holds it.
    Taken,
    /// There is no such file.
    Missing,
}

/// Asks for the lock of `file`. An error says nothing about who holds it.
pub(crate) fn look_at_lock(file: &Path) -> io::Result<Held> {
    // Open for writing: NFS turns flock(2) into a lock on the whole file, which takes a file that is open for
    // writing.
    match File::options().read(true).write(true).open(file) {
        Ok(file) => match file.try_lock() {
            Ok(()) => Ok(Held::Free(file)),
            Err(TryLockError::WouldBlock) => Ok(Held::Taken),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Held::Missing),
        Err(error) => Err(error),
    }
}

/// Removes the temporary folders of processes that no longer hold their `.alive` lock.
fn sweep(tmp: &Path) {
    let Ok(entries) = fs::read_dir(tmp) else { return };
    // By the clock that gives files their times: a file server has its own.
    let now = tempfile::tempfile_in(tmp).and_then(|file| file.metadata()).and_then(|data| data.modified());
    for entry in entries.flatten() {
        let is_old = || {
            let at = entry.metadata().and_then(|data| data.modified());
            let age = now.as_ref().ok().zip(at.ok()).and_then(|(now, at)| now.duration_since(at).ok());
            age.is_some_and(|age| age > Duration::from_secs(60))
        };
        match look_at_lock(&entry.path().join(".alive")) {
            // Locked until it is gone, so that no other process begins with it, too.
            Ok(Held::Free(lock)) => {
                let _ = remove_tree(&entry.path());
                drop(lock);
            }
            // Between making the folder and naming `.alive` a process owns it without a lock.
            Ok(Held::Missing) if is_old() => {
                let _ = remove_tree(&entry.path());
            }
            // With an error, nothing says that it is left over, whoever's it is.
            Ok(Held::Taken | Held::Missing) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::progress::Silent;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn build_once(store: &Store, built: &AtomicU32) -> Artifact {
        store
            .artifact::<StoreError>("kind", &[("a", "1")], &Silent, &Cancel::default(), |dir| {
                built.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(100));
                fs::write(dir.join("file"), "content").unwrap();
                Ok(())
            })
            .unwrap()
    }

    #[test]
    fn two_at_once_build_it_once() {
        let root = tempfile::tempdir().unwrap();
        let stores = [Store::open(root.path()).unwrap(), Store::open(root.path()).unwrap()];
        let built = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for store in &stores {
                scope.spawn(|| build_once(store, &built));
            }
        });
        assert_eq!(built.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_a_work_asks_for_is_told_whether_it_was_there_or_not() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let built = AtomicU32::new(0);
        for n_built in [1, 1] {
            let (artifact, asked_for) = store.asked_for_by(|| build_once(&store, &built));
            assert_eq!(asked_for, [artifact.dir]);
            assert_eq!(built.load(Ordering::SeqCst), n_built);
        }
        assert!(store.asked_for_by(|| ()).1.is_empty());
    }

    #[test]
    fn a_damaged_artifact_is_built_again() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let built = AtomicU32::new(0);
        let artifact = build_once(&store, &built);
        fs::write(artifact.path("file"), "cut").unwrap();
        build_once(&store, &built);
        assert_eq!(built.load(Ordering::SeqCst), 2);
        assert_eq!(fs::read(artifact.path("file")).unwrap(), b"content");
    }

    #[test]
    fn a_failed_build_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let result = store.artifact::<StoreError>("kind", &[], &Silent, &Cancel::default(), |dir| {
            fs::write(dir.join("file"), "half").unwrap();
            Err(StoreError::Cancelled)
        });
        assert!(result.is_err());
        assert!(store.find("kind", []).is_none());
        assert_eq!(fs::read_dir(store.temporary()).unwrap().count(), 1, "only .alive is left");
    }

    #[test]
    fn the_dead_are_swept_and_the_living_are_not() {
        let root = tempfile::tempdir().unwrap();
        let living = Store::open(root.path()).unwrap();
        let dead = root.path().join("tmp/run-dead");
        fs::create_dir_all(dead.join("tree")).unwrap();
        fs::write(dead.join(".alive"), "").unwrap();
        let other = Store::open(root.path()).unwrap();
        assert!(!dead.exists());
        assert!(living.temporary().exists() && other.temporary().exists());
    }

    #[test]
    fn what_cannot_be_locked_is_not_swept() {
        let root = tempfile::tempdir().unwrap();
        let unclear = root.path().join("tmp/run-unclear");
        // As on NFS an old lock daemon would: an error, and neither held nor free.
        fs::create_dir_all(unclear.join(".alive")).unwrap();
        let store = Store::open(root.path()).unwrap();
        assert!(look_at_lock(&unclear.join(".alive")).is_err());
        assert!(unclear.exists());
        assert!(store.n_others().is_err(), "an error is not another md-regress");
    }

    #[test]
    fn a_lock_is_asked_for_as_nfs_wants_it() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(".alive");
        assert!(matches!(look_at_lock(&file), Ok(Held::Missing)));
        fs::write(&file, "").unwrap();
        let Ok(Held::Free(held)) = look_at_lock(&file) else { panic!("nobody holds it") };
        let flags = rustix::fs::fcntl_getfl(&held).unwrap();
        assert!(
            flags.contains(rustix::fs::OFlags::RDWR),
            "NFS: EBADF for an exclusive lock on a file not open to write"
        );
        assert!(matches!(look_at_lock(&file), Ok(Held::Taken)));
        drop(held);
        assert!(matches!(look_at_lock(&file), Ok(Held::Free(_))));
    }
}
