//! The memory of a guest that is saved: a file of ours in the host's memory while the guest runs, and a
//! sparse file of the store's afterwards. Guests that are restored map that privately, so that nothing is
//! read before it is wanted, and what none of them writes is in the host's memory once.
//!
//! It lies in the host's memory first so that a full disk is our error, and none that the guest meets while
//! it boots.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, SeekFrom};
use rustix::io::Errno;

/// How it is kept: part of a machine's identity.
pub(super) const FORMAT: &str = "memory 1: beside the state";

const PAGE: usize = 4096;
const CHUNK: usize = 64 * PAGE;

/// The file with the memory that belongs to `state`.
pub(super) fn beside(state: &Path) -> PathBuf {
    state.with_file_name("memory")
}

/// A new file in the host's memory.
pub(super) fn create() -> Result<File> {
    let make = |flags| rustix::fs::memfd_create("md-regress guest", MemfdFlags::CLOEXEC | flags);
    // Some hosts refuse what could be executed (`vm.memfd_noexec`), those before 6.3 do not know the flag.
    let file = match make(MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => make(MemfdFlags::empty()),
        made => made,
    };
    Ok(file.context("failed to make room for a guest's memory")?.into())
}

/// Copies what is not zero of `memory` to a new file.
pub(super) fn copy(memory: &File, to: &Path) -> Result<()> {
    let created = File::options().write(true).create_new(true).mode(0o600).open(to);
    let copied = created.and_then(|file| copy_pages(memory, &file));
    copied.with_context(|| format!("failed to save a guest's memory in `{}`", to.display()))
}

fn copy_pages(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < length {
        at = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // None after it.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = rustix::fs::seek(from, SeekFrom::Hole(at))?;
        while at < hole {
            let n = usize::try_from(hole - at).unwrap_or(CHUNK).min(CHUNK);
            from.read_exact_at(&mut buffer[..n], at)?;
            write_pages(&buffer[..n], to, at)?;
            at += n as u64;
        }
    }
    Ok(())
}

/// Writes neighbours that are not zero in one go.
fn write_pages(chunk: &[u8], to: &File, at: u64) -> io::Result<()> {
    let is_zero = |page: &[u8]| *page == [0; PAGE][..page.len()];
    let mut offset = at;
    for run in chunk.chunks(PAGE).collect::<Vec<_>>().chunk_by(|one, next| is_zero(one) == is_zero(next)) {
        let length: usize = run.iter().map(|page| page.len()).sum();
        if !is_zero(run[0]) {
            to.write_all_at(&run.concat(), offset)?;
        }
        offset += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_copy_is_the_same_and_has_the_holes() {
        let dir = tempfile::tempdir().unwrap();
        let memory = create().unwrap();
        memory.set_len(8 << 20).unwrap();
        let mut lot = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let page = [lot.u8(..); PAGE];
            memory.write_all_at(&page, lot.u64(0..1024) * PAGE as u64).unwrap();
        }
        // Looked at, and zero all the same.
        memory.write_all_at(&vec![0; 4 << 20], 4 << 20).unwrap();
        memory.write_all_at(b"end", (8 << 20) - 3).unwrap();
        let state = dir.path().join("state");
        copy(&memory, &beside(&state)).unwrap();
        let copied = File::open(dir.path().join("memory")).unwrap();
        let all = |file: &File| {
            let mut bytes = vec![0; 8 << 20];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(all(&memory) == all(&copied));
        assert_eq!(copied.metadata().unwrap().len(), 8 << 20);
        assert!(copied.metadata().unwrap().blocks() * 512 < 2 << 20);
        // Nothing is written over.
        assert!(copy(&memory, &beside(&state)).is_err());
    }
}
