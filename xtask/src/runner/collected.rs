//! Keeps the files that a guest brings back. Their names in the guest never become paths here: a
//! file is its number. Which messages make sense is decided in [`super::attempt`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use protocol::wire::Message;

/// Bytes kept of all files of an attempt, whatever the guest sends.
const MAX_BYTES: u64 = 128 << 20;

/// The folder of one attempt's files.
#[derive(Debug)]
pub(crate) struct Collected {
    folder: PathBuf,
    open: Option<File>,
    bytes: u64,
}

impl Collected {
    /// Files will go to `folder`, which is made when the first one comes.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Collected { folder, open: None, bytes: 0 }
    }

    /// Takes a message of the files port.
    pub(crate) fn take(&mut self, message: &Message) -> io::Result<()> {
        if let Message::FileStart { file_idx, .. } = message {
            fs::create_dir_all(&self.folder)?;
            self.open = Some(File::create(self.folder.join(file_idx.to_string()))?);
        } else if let Message::FileData { data, .. } = message
            && let Some(file) = &mut self.open
            && self.bytes < MAX_BYTES
        {
            self.bytes += data.len() as u64;
            file.write_all(data)?;
        }
        Ok(())
    }
}
