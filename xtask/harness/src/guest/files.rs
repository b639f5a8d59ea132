//! The files that a guest brings back: which messages about them make sense ([`FileList`], pure), and
//! their bytes on the disk ([`Collected`]). Their names in the guest never become paths here: a file is
//! its number.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use protocol::event::CollectedFile;
use protocol::wire::{Message, Request};
use reports::text::printable;

/// Files that come back: those in `$MD_REGRESS_FILES`, and core dumps.
const PATTERNS: [&str; 3] =
    ["/run/md-regress/files/*", "/run/md-regress/files/*/*", "/run/md-regress/files/*/*/*"];
/// Most files that come back.
const FILES_MAX: u32 = 1000;
/// Most bytes of all files that come back.
const BYTES_WANTED: u64 = 64 << 20;
/// Longest path, characters.
const PATH_MAX: usize = 1000;

/// The files that have come back so far, by name.
#[derive(Debug)]
pub(crate) struct FileList {
    attempt: u32,
    pub(crate) files: Vec<CollectedFile>,
    /// The newest file has not ended yet.
    is_open: bool,
}

/// The meaning of a message on the files port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileMessage {
    /// A part of a file, to be kept.
    Part,
    /// The end: all has come, but for so many files.
    All {
        /// Files that were left in the guest.
        n_left_out: u32,
    },
    /// The message makes no sense.
    Garbage,
}

impl FileList {
    /// Nothing has come yet.
    pub(crate) fn new(attempt: u32) -> Self {
        FileList { attempt, files: Vec::new(), is_open: false }
    }

    /// Asks for them.
    pub(crate) fn request(&self) -> Request {
        let patterns = PATTERNS.map(str::to_owned).to_vec();
        Request::Collect { attempt: self.attempt, patterns, max_bytes: BYTES_WANTED }
    }

    /// Takes a message of the files port.
    pub(crate) fn take(&mut self, message: &Message) -> FileMessage {
        match message {
            Message::Collected { attempt, n_left_out, .. } if *attempt == self.attempt => {
                FileMessage::All { n_left_out: *n_left_out }
            }
            // In order, so that a file's number is its place in the list.
            Message::FileStart { attempt, file_idx, path, size }
                if *attempt == self.attempt
                    && usize::try_from(*file_idx) == Ok(self.files.len())
                    && *file_idx < FILES_MAX =>
            {
                let path = path.chars().take(PATH_MAX).collect();
                let error = Some("cut off".into());
                self.is_open = true;
                self.files.push(CollectedFile { file_idx: *file_idx, path, size: *size, error });
                FileMessage::Part
            }
            Message::FileData { attempt, file_idx, .. } if self.is_open(*attempt, *file_idx) => {
                FileMessage::Part
            }
            Message::FileEnd { attempt, file_idx, error } if self.is_open(*attempt, *file_idx) => {
                self.is_open = false;
                if let Some(file) = self.files.last_mut() {
                    file.error = error.as_deref().map(|error| error.chars().take(PATH_MAX).collect());
                }
                FileMessage::Part
            }
            Message::Hello { .. }
            | Message::Started { .. }
            | Message::Output { .. }
            | Message::Finished(_)
            | Message::Kmsg { .. }
            | Message::KernelState { .. }
            | Message::Heartbeat { .. }
            | Message::FileStart { .. }
            | Message::FileData { .. }
            | Message::FileEnd { .. }
            | Message::Collected { .. }
            | Message::Sample(_)
            | Message::Evidence { .. }
            | Message::Diagnosed { .. }
            | Message::Shell(_)
            | Message::Refused { .. }
            | Message::Note { .. } => FileMessage::Garbage,
        }
    }

    fn is_open(&self, attempt: u32, file_idx: u32) -> bool {
        attempt == self.attempt
            && self.is_open
            && self.files.last().is_some_and(|file| file.file_idx == file_idx)
    }
}

/// The folder of one attempt's files.
#[derive(Debug)]
pub(crate) struct Collected {
    folder: PathBuf,
    open: Option<File>,
    /// Bytes that may still be kept.
    bytes_left: u64,
}

/// Names of the files in the guest, by number: text for people, whatever the names hold.
pub(crate) fn names(files: &[CollectedFile]) -> String {
    let line = |file: &CollectedFile| {
        let error = file.error.as_ref().map(|error| format!("  ({})", printable(error))).unwrap_or_default();
        format!("{}  {}  {} bytes{error}\n", file.file_idx, printable(&file.path), file.size)
    };
    files.iter().map(line).collect()
}

impl Collected {
    /// Files will go to `folder`, which is made when the first one comes; at most `max_bytes` of all of
    /// them are kept, whatever the guest sends.
    pub(crate) fn new(folder: PathBuf, max_bytes: u64) -> Self {
        Collected { folder, open: None, bytes_left: max_bytes }
    }

    /// Takes a message of the files port.
    pub(crate) fn take(&mut self, message: &Message) -> io::Result<()> {
        if let Message::FileStart { file_idx, .. } = message {
            fs::create_dir_all(&self.folder)?;
            self.open = Some(File::create(self.folder.join(file_idx.to_string()))?);
        } else if let Message::FileData { data, .. } = message
            && let Some(file) = &mut self.open
        {
            let room = usize::try_from(self.bytes_left).unwrap_or(usize::MAX).min(data.len());
            file.write_all(&data[..room])?;
            self.bytes_left -= room as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: the last piece went beyond the cap.
    #[test]
    fn not_a_byte_more_is_kept_than_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Collected::new(folder.path().join("files"), 7);
        for file_idx in 0..3 {
            let start = Message::FileStart { attempt: 1, file_idx, path: "../../x".into(), size: u64::MAX };
            kept.take(&start).unwrap();
            kept.take(&Message::FileData { attempt: 1, file_idx, data: vec![b'x'; 4] }).unwrap();
        }
        let sizes =
            ["0", "1", "2"].map(|name| fs::metadata(folder.path().join("files").join(name)).unwrap().len());
        assert_eq!(sizes, [4, 3, 0]);
    }
}
