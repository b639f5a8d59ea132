//! Folders that are removed whole, whatever permissions the packages in them came with.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Removes a tree, also when packages made some of its folders read-only.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    let first = fs::remove_dir_all(dir);
    if first.as_ref().err().is_none_or(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    for entry in walkdir::WalkDir::new(dir).into_iter().flatten().filter(|entry| entry.file_type().is_dir()) {
        let _ = fs::set_permissions(entry.path(), Permissions::from_mode(0o700));
    }
    fs::remove_dir_all(dir)
}
