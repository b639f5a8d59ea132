//! Keeps the files that a guest brings back. Their names in the guest never become paths here: a
//! file is its number.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use protocol::wire::Message;

/// Bytes kept of all files of an attempt, whatever the guest sends.
const MAX_BYTES: u64 = 128 << 20;
/// Files kept of an attempt.
const MAX_FILES: u32 = 1000;

/// The folder of one attempt's files.
#[derive(Debug)]
pub(crate) struct Collected {
    folder: PathBuf,
    open: Option<(u32, File)>,
    bytes: u64,
}

impl Collected {
    /// Files will go to `folder`, which is made when the first one comes.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Collected { folder, open: None, bytes: 0 }
    }

    /// Takes a message of the files port.
    pub(crate) fn take(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::FileStart { file_idx, .. } if file_idx < MAX_FILES => {
                fs::create_dir_all(&self.folder)?;
                let file = File::create(self.folder.join(file_idx.to_string()))?;
                self.open = Some((file_idx, file));
            }
            Message::FileData { file_idx, data, .. } => {
                if let Some((open_idx, file)) = &mut self.open
                    && *open_idx == file_idx
                    && self.bytes < MAX_BYTES
                {
                    self.bytes += data.len() as u64;
                    file.write_all(&data)?;
                }
            }
            Message::FileEnd { .. } => self.open = None,
            _ => {}
        }
        Ok(())
    }
}
