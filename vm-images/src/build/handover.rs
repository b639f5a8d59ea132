//! Takes over the output of an enclosed program, as plain files and folders that belong to us.
//!
//! The output may be a stranger's work, and we read, move and write it, often as root. So nothing may be left
//! in it that leads elsewhere or gives rights: no set-user-ID bit, no device, no hard link through which
//! somebody may still write, and where only files are expected, no symbolic link.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// The treatment of symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They are kept: a guest follows them, we never do.
    Kept,
    /// They are an error: there is no reason for any.
    Refused,
}

/// Why an output is not taken.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// It holds something that no build makes.
    #[error("what was built has {what} at `{}`: not taken", path.display())]
    Odd {
        /// That thing, in words.
        what: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// A file of it cannot be changed or moved.
    #[error("failed to take `{}` of what was built: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Moves the file or folder `from` to `to`. An enclosed program has made it, and no process may still write
/// to it.
pub fn take(from: &Path, to: &Path, links: Links) -> Result<(), HandoverError> {
    clean(from, links)?;
    fs::rename(from, to).map_err(|source| HandoverError::Io { path: from.to_owned(), source })
}

/// Makes everything in a tree ours and plain; an error names what cannot be.
pub(crate) fn clean(tree: &Path, links: Links) -> Result<(), HandoverError> {
    // WalkDir follows a link that it starts with.
    if tree.is_symlink() {
        return Err(HandoverError::Odd { what: "a link", path: tree.to_owned() });
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for entry in walkdir::WalkDir::new(tree) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(tree).to_owned();
            HandoverError::Io { path, source: error.into() }
        })?;
        let path = entry.path();
        let at = |source| HandoverError::Io { path: path.to_owned(), source };
        let odd = |what| Err(HandoverError::Odd { what, path: path.to_owned() });
        let data = fs::symlink_metadata(path).map_err(at)?;
        let kind = data.file_type();
        if kind.is_symlink() {
            match links {
                Links::Kept => lchown(path, Some(uid), Some(gid)).map_err(at)?,
                Links::Refused => return odd("a link"),
            }
            continue;
        }
        let mode = match (kind.is_dir(), kind.is_file()) {
            (true, _) => 0o755,
            // Readable for us, without set-user-ID and the like, and not writable for others.
            (_, true) => data.mode() & 0o755 | 0o400,
            (false, false) => return odd("a device, pipe or socket"),
        };
        if kind.is_file() && data.nlink() > 1 {
            fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at)?;
            unshare(path).map_err(at)?;
        }
        if data.uid() != uid || data.gid() != gid {
            lchown(path, Some(uid), Some(gid)).map_err(at)?;
        }
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at)?;
    }
    Ok(())
}

/// Replaces a file by a copy: a later build could write to it through another hard link.
pub(crate) fn unshare(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let copy = tempfile::NamedTempFile::new_in(folder)?;
    let times = fs::metadata(path)?;
    io::copy(&mut fs::File::open(path)?, &mut copy.as_file())?;
    copy.as_file().set_modified(times.modified()?)?;
    copy.as_file().set_permissions(times.permissions())?;
    copy.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("out/sub")).unwrap();
        top
    }

    #[test]
    fn rights_and_other_names_are_lost_on_the_way() {
        let top = tree();
        let (out, to) = (top.path().join("out"), top.path().join("taken"));
        let (program, other) = (out.join("sub/program"), top.path().join("kept-for-later"));
        fs::write(&program, "one").unwrap();
        fs::write(out.join("text"), "text").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o6755)).unwrap();
        fs::set_permissions(out.join("text"), Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(out.join("sub"), Permissions::from_mode(0o3777)).unwrap();
        fs::hard_link(&program, &other).unwrap();
        take(&out, &to, Links::Refused).unwrap();
        let mode = |name: &str| fs::metadata(to.join(name)).unwrap().mode() & 0o7777;
        assert_eq!([mode("sub/program"), mode("text"), mode("sub")], [0o755, 0o644, 0o755]);
        fs::write(&other, "two").unwrap();
        assert_eq!(fs::read_to_string(to.join("sub/program")).unwrap(), "one");
        assert!(!out.exists());
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let top = tree();
        let out = top.path().join("out");
        symlink("/etc/passwd", out.join("release")).unwrap();
        let error = take(&out, &top.path().join("taken"), Links::Refused).unwrap_err().to_string();
        assert!(error.contains("a link") && error.contains("out/release"), "{error}");
        assert!(out.exists(), "nothing was moved");
        clean(&out, Links::Kept).unwrap();
        assert!(out.join("release").is_symlink());
        // The folder itself may be a link.
        symlink("/etc", top.path().join("all")).unwrap();
        assert!(take(&top.path().join("all"), &top.path().join("taken"), Links::Refused).is_err());
        let fifo = out.join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        assert!(clean(&out, Links::Kept).unwrap_err().to_string().contains("pipe"));
    }
}
