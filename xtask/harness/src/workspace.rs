//! The work tree that the program was built from, and paths as they are shown and kept.

use std::path::{Path, PathBuf};

/// Top of the work tree that this program was built from.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("xtask/harness lies in the workspace")
}

/// The lock file.
pub fn lock_file() -> PathBuf {
    workspace().join("vm-images/artifacts.lock")
}

/// A path that is the same from whatever folder it is read.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Relative to where the user stands, if that is shorter.
pub fn shown_path(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
