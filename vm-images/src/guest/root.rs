//! Turns unpacked packages into a guest's root, by doing as much of the work of maintainer scripts as tests
//! need.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::debian::unpack::link;

/// Input of a guest image's digest: change it with the code below.
pub(crate) const RECIPE: &str = "guest-root 5";

/// Folders that no test reads; left out of the image.
pub(crate) const LEFT_OUT: [&str; 9] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/i18n",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/lib/x86_64-linux-gnu/gconv",
    "boot",
];

/// Finishes the root in `tree`.
pub(crate) fn finish(tree: &Path) -> io::Result<()> {
    // base-passwd's script copies its masters; udev's rules and tests name these groups.
    for name in ["passwd", "group"] {
        let master = tree.join(format!("usr/share/base-passwd/{name}.master"));
        if !fs::symlink_metadata(&master)?.is_file() {
            return Err(io::Error::other(format!("`{}` is no file", master.display())));
        }
        fs::write(file_in(tree, &format!("etc/{name}"))?, fs::read(master)?)?;
    }
    for (target, name) in [
        // update-alternatives would have made these
        ("gawk", "usr/bin/awk"),
        ("which.debianutils", "usr/bin/which"),
        ("vim.tiny", "usr/bin/vi"),
        ("less", "usr/bin/pager"),
        ("../proc/self/mounts", "etc/mtab"),
    ] {
        link(tree, target, name)?;
    }
    for (name, text) in [
        ("hostname", "md-regress\n"),
        ("hosts", "127.0.0.1 localhost md-regress\n::1 localhost\n"),
        ("fstab", ""),
        ("machine-id", "6d642d726567726573732d6775657374\n"),
        ("ld.so.conf", "/usr/lib/x86_64-linux-gnu\n/usr/lib\n"),
    ] {
        fs::write(file_in(tree, &format!("etc/{name}"))?, text)?;
    }
    for folder in ["dev", "proc", "sys", "run", "tmp", "mnt", "root", "usr/lib/modules", "var/tmp", "var/log"]
    {
        folder_in(tree, Path::new(folder))?;
    }
    Ok(())
}

/// Makes room for a file in `tree` and gives its path: all folders of it are real ones of the tree, and no
/// file has its name. A checkout may have installed links that lead out of the tree, and we may be root.
pub(crate) fn file_in(tree: &Path, name: &str) -> io::Result<PathBuf> {
    let name = Path::new(name);
    folder_in(tree, name.parent().unwrap_or(Path::new("")))?;
    let path = tree.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(path),
    }
}

/// Makes a folder in `tree`, and what is above it there; an error if one of them is something else.
fn folder_in(tree: &Path, name: &Path) -> io::Result<()> {
    let mut path = tree.to_owned();
    for component in name.components() {
        let Component::Normal(word) = component else {
            return Err(io::Error::other(format!("`{}` is no folder of a root", name.display())));
        };
        path.push(word);
        match fs::symlink_metadata(&path) {
            Ok(data) if data.is_dir() => {}
            Ok(_) => return Err(io::Error::other(format!("`{}` is no folder", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&path)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_is_written_through_a_link() {
        let (tree, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (tree, host) = (tree.path(), host.path());
        fs::create_dir(tree.join("etc")).unwrap();
        fs::write(host.join("passwd"), "the host's").unwrap();
        symlink(host.join("passwd"), tree.join("etc/passwd")).unwrap();
        fs::write(file_in(tree, "etc/passwd").unwrap(), "the guest's").unwrap();
        assert_eq!(fs::read_to_string(host.join("passwd")).unwrap(), "the host's");
        assert_eq!(fs::read_to_string(tree.join("etc/passwd")).unwrap(), "the guest's");
        symlink(host, tree.join("var")).unwrap();
        assert!(file_in(tree, "var/new").is_err() && folder_in(tree, Path::new("var/log")).is_err());
        assert_eq!(fs::read_dir(host).unwrap().count(), 1);
    }
}
