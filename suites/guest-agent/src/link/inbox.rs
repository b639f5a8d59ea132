//! Files that the harness gives a test: they land in one folder, on a tmpfs, under plain names.
//!
//! Deliberately not here: what they mean. Written by the first process itself: memory does not make it wait.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use protocol::wire::INBOX;

/// Appends to a file; one of another length than `offset` is refused, so that no piece is lost or doubled.
pub(crate) fn put(name: &str, mode: u32, offset: u64, data: &[u8]) -> Result<(), String> {
    put_in(Path::new(INBOX), name, mode, offset, data)
}

fn put_in(inbox: &Path, name: &str, mode: u32, offset: u64, data: &[u8]) -> Result<(), String> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(format!("`{name}` is no plain file name"));
    }
    let path = inbox.join(name);
    let written = || -> io::Result<Option<u64>> {
        fs::create_dir_all(inbox)?;
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let mut file = options.open(&path)?;
        let length = file.metadata()?.len();
        if length != offset {
            return Ok(Some(length));
        }
        file.write_all(data)?;
        file.set_permissions(Permissions::from_mode(mode & 0o777))?;
        Ok(None)
    };
    match written() {
        Ok(None) => Ok(()),
        Ok(Some(length)) => Err(format!("`{name}` has {length} bytes, not {offset}")),
        Err(error) => Err(format!("cannot write `{name}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_a_file() {
        let folder = std::env::temp_dir().join(format!("inbox-{}", std::process::id()));
        put_in(&folder, "a", 0o755, 0, b"one ").unwrap();
        put_in(&folder, "a", 0o755, 4, b"two").unwrap();
        assert_eq!(fs::read(folder.join("a")).unwrap(), b"one two");
        assert_eq!(fs::metadata(folder.join("a")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(put_in(&folder, "a", 0o755, 4, b"two").unwrap_err(), "`a` has 7 bytes, not 4");
        for name in ["", ".", "..", "a/b", "../a"] {
            assert!(put_in(&folder, name, 0o755, 0, b"").unwrap_err().contains("no plain file name"));
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
