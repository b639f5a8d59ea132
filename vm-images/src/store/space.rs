//! Measures and reduces the room that the store takes on the disk.
//!
//! Whatever is removed is made again when it is needed. Deliberately not here: which kinds are removed, apart
//! from keeping one within bounds ([`Store::shrink`]).

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::host::tree::remove_tree;
use crate::store::digest::Digest;
use crate::store::{Artifact, Held, MANIFEST, Store, StoreError, look_at_lock};

impl Store {
    /// Notes that an artifact was used now.
    pub fn touch(&self, artifact: &Artifact) {
        // Best effort: at worst it is removed before one that is used less.
        let _ = File::options()
            .append(true)
            .open(artifact.path(MANIFEST))
            .and_then(|manifest| manifest.set_modified(SystemTime::now()));
    }

    /// Removes artifacts of `kind` until they take `max_bytes` of the disk at most.
    pub fn shrink(&self, kind: &str, max_bytes: u64) {
        let entries = fs::read_dir(self.root().join(kind)).into_iter().flatten().flatten();
        let mut all: Vec<_> = entries.map(|entry| Kept::look_at(entry.path())).collect();
        all.sort_by_key(|kept| kept.used);
        let mut bytes: u64 = all.iter().map(|kept| kept.bytes).sum();
        for kept in all {
            if bytes <= max_bytes {
                break;
            }
            self.make_vanish(&kept.dir);
            bytes -= kept.bytes;
        }
    }

    /// The content of the store: artifacts by kind, and the folders for other things (`files`, `logs`, …).
    pub fn inventory(&self) -> Vec<Stock> {
        let entries = fs::read_dir(self.root()).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut all: Vec<_> = folders
            .map(|entry| {
                let dir = entry.path();
                let n_items = fs::read_dir(&dir).map_or(0, |entries| entries.flatten().count());
                Stock {
                    kind: entry.file_name().to_string_lossy().into_owned(),
                    n_items,
                    bytes: bytes_of(&dir),
                }
            })
            .collect();
        all.sort_by(|a, b| a.kind.cmp(&b.kind));
        all
    }

    /// Removes everything of `kind`.
    pub fn remove_all(&self, kind: &str) {
        let entries = fs::read_dir(self.root().join(kind)).into_iter().flatten().flatten();
        for entry in entries {
            self.make_vanish(&entry.path());
        }
    }

    /// Other processes that have the store open now.
    pub fn n_others(&self) -> Result<usize, StoreError> {
        let entries = fs::read_dir(self.root().join("tmp")).into_iter().flatten().flatten();
        let others = entries.filter(|entry| entry.path() != self.temporary());
        let mut n_others = 0;
        for entry in others {
            let path = entry.path().join(".alive");
            match look_at_lock(&path) {
                Ok(Held::Taken) => n_others += 1,
                Ok(Held::Free(_) | Held::Missing) => {}
                Err(source) => return Err(StoreError::Io { what: "lock", path, source }),
            }
        }
        Ok(n_others)
    }

    /// Removes the artifact of `kind` made from `inputs`, if there is one.
    pub fn remove<'a>(&self, kind: &str, inputs: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.make_vanish(&self.place(kind, &Digest::of_inputs(inputs)));
    }

    /// Moves a folder away at once, so that nobody sees half of it, and then removes it.
    fn make_vanish(&self, dir: &Path) {
        let Ok(away) = tempfile::Builder::new().prefix("removed-").tempdir_in(self.temporary()) else {
            return;
        };
        let away = away.keep();
        // Best effort: an artifact that stays is whole, and is looked at again next time.
        let _ = fs::rename(dir, away.join("artifact"));
        let _ = remove_tree(&away);
    }
}

/// Things of one kind in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stock {
    /// `guest`, `kernel`, `snapshots`, …; the folder's name.
    pub kind: String,
    /// Number of files and folders in it.
    pub n_items: usize,
    /// Room that they take on the disk, bytes.
    pub bytes: u64,
}

/// Room that a tree takes on the disk, bytes: for sparse files it is less than their length.
pub fn bytes_of(dir: &Path) -> u64 {
    let files = walkdir::WalkDir::new(dir).into_iter().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.blocks() * 512)).sum()
}

struct Kept {
    dir: PathBuf,
    used: SystemTime,
    bytes: u64,
}

impl Kept {
    fn look_at(dir: PathBuf) -> Self {
        let used = fs::metadata(dir.join(MANIFEST)).and_then(|data| data.modified());
        Kept { used: used.unwrap_or(SystemTime::UNIX_EPOCH), bytes: bytes_of(&dir), dir }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Cancel;
    use crate::host::progress::Silent;
    use std::time::Duration;

    fn make(store: &Store, name: &str) -> Artifact {
        let build = |dir: &Path| {
            fs::write(dir.join("file"), vec![1; 100_000]).unwrap();
            Ok::<_, StoreError>(())
        };
        store.artifact("kind", &[("name", name)], &Silent, &Cancel::default(), build).unwrap()
    }

    #[test]
    fn the_least_recently_used_goes() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let all = ["a", "b", "c"].map(|name| make(&store, name));
        for (age, artifact) in [(30, &all[0]), (20, &all[1]), (10, &all[2])] {
            let manifest = File::options().append(true).open(artifact.path(MANIFEST)).unwrap();
            manifest.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        store.touch(&all[0]);
        store.shrink("kind", 250_000);
        let left: Vec<_> = all.iter().map(|artifact| artifact.dir.exists()).collect();
        assert_eq!(left, [true, false, true]);
        store.shrink("kind", 250_000);
        assert!(all[2].dir.exists(), "what is within bounds stays");
        store.remove("kind", [("name", "a")]);
        assert!(store.find("kind", [("name", "a")]).is_none());
        let stock = store.inventory().into_iter().find(|stock| stock.kind == "kind").unwrap();
        assert!(stock.n_items == 1 && stock.bytes >= 100_000, "{stock:?}");
        store.remove_all("kind");
        assert!(!all[2].dir.exists());
    }

    #[test]
    fn who_else_is_there() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.n_others().unwrap(), 0);
        let other = Store::open(root.path()).unwrap();
        assert_eq!(store.n_others().unwrap(), 1);
        drop(other);
        assert_eq!(store.n_others().unwrap(), 0);
    }
}
