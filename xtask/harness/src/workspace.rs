//! The work tree that this program was built from, and paths as they are shown and recorded.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Top folder of the work tree that this program was built from.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("xtask/harness lies in the workspace")
}

/// The cargo that started this program, or else the one in the PATH.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Path of the lock file `artifacts.lock`.
pub fn lock_file() -> PathBuf {
    workspace().join("vm-images/artifacts.lock")
}

/// The absolute form of a path.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The path relative to the current directory, if that is shorter.
pub fn shown_path(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
