//! Keeps the files that a guest brings back. Their names in the guest never become paths here: a
//! file is its number. Which messages make sense is decided in [`super::attempt`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use protocol::wire::Message;

/// The folder of one attempt's files.
#[derive(Debug)]
pub(crate) struct Collected {
    folder: PathBuf,
    open: Option<File>,
    /// Bytes that may still be kept.
    bytes_left: u64,
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
