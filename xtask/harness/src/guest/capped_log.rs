//! A log of bounded size: the head, and as much of the tail. What lies between is counted.
//!
//! Memory stays small however much is written: the tail lives in two files that take turns, and is
//! joined to the head at the end.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A log that keeps its first and its last bytes.
#[derive(Debug)]
pub(crate) struct CappedLog {
    path: PathBuf,
    head: File,
    head_left: u64,
    /// Size at which the tail's files take turns.
    segment: u64,
    /// The newer of the tail's two files, and what it holds.
    tail: Option<File>,
    tail_len: u64,
    /// Bytes in the older one.
    old_len: u64,
    dropped: u64,
}

impl CappedLog {
    /// Creates the log; it keeps `cap` bytes of the beginning and between `cap / 2` and `cap` of
    /// the end.
    pub(crate) fn create(path: &Path, cap: u64) -> io::Result<Self> {
        Ok(CappedLog {
            path: path.to_owned(),
            head: File::create(path)?,
            head_left: cap,
            segment: cap / 2,
            tail: None,
            tail_len: 0,
            old_len: 0,
            dropped: 0,
        })
    }

    /// Appends bytes. They are in the file when this returns.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = usize::try_from(self.head_left).unwrap_or(usize::MAX).min(bytes.len());
        let (first, mut rest) = bytes.split_at(room);
        self.head.write_all(first)?;
        self.head_left -= room as u64;
        while !rest.is_empty() {
            if self.tail.is_none() || self.tail_len >= self.segment {
                self.turn()?;
            }
            let room =
                usize::try_from(self.segment - self.tail_len).unwrap_or(usize::MAX).clamp(1, rest.len());
            let (part, after) = rest.split_at(room);
            if let Some(tail) = &mut self.tail {
                tail.write_all(part)?;
            }
            self.tail_len += part.len() as u64;
            rest = after;
        }
        Ok(())
    }

    /// Bytes that are gone so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Joins head and tail into one file, saying what is missing between them.
    pub(crate) fn close(mut self) -> io::Result<u64> {
        if self.tail.take().is_some() {
            if self.dropped > 0 {
                write!(self.head, "\n[md-regress: {} bytes dropped here]\n", self.dropped)?;
            }
            for part in [self.part("old"), self.part("new")] {
                match File::open(&part) {
                    Ok(mut file) => {
                        io::copy(&mut file, &mut self.head)?;
                        fs::remove_file(&part)?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(self.dropped)
    }

    /// The newer file becomes the older one; what that held is gone.
    fn turn(&mut self) -> io::Result<()> {
        if self.tail.is_some() {
            self.dropped += self.old_len;
            self.old_len = self.tail_len;
            fs::rename(self.part("new"), self.part("old"))?;
        }
        self.tail = Some(File::create(self.part("new"))?);
        self.tail_len = 0;
        Ok(())
    }

    fn part(&self, which: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{which}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(pieces: &[Vec<u8>], cap: u64) -> (Vec<u8>, u64) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = CappedLog::create(&path, cap).unwrap();
        for piece in pieces {
            log.write(piece).unwrap();
        }
        let dropped = log.close().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the log is left");
        (fs::read(&path).unwrap(), dropped)
    }

    proptest! {
        #[test]
        fn head_and_tail_are_kept_and_the_rest_is_counted(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..30),
            cap in 2u64..400,
        ) {
            let all: Vec<u8> = pieces.concat();
            let (kept, dropped) = written(&pieces, cap);
            if dropped == 0 {
                prop_assert_eq!(&kept, &all);
            } else {
                let note = format!("\n[md-regress: {dropped} bytes dropped here]\n");
                let head = usize::try_from(cap).unwrap();
                prop_assert_eq!(&kept[..head], &all[..head]);
                let tail = &kept[head + note.len()..];
                prop_assert_eq!(tail, &all[all.len() - tail.len()..]);
                prop_assert_eq!(head + tail.len() + usize::try_from(dropped).unwrap(), all.len());
                prop_assert!(tail.len() as u64 >= cap / 2 && tail.len() as u64 <= cap);
            }
        }
    }
}
