//! Turns unpacked packages into a guest's root: what maintainer scripts would have done, as far as
//! tests need it.

use std::fs;
use std::io;
use std::path::Path;

use crate::unpack::link;

/// Part of the digest of guest images: change it with the code below.
pub(crate) const RECIPE: &str = "guest-root 3";

/// What no test reads; left out of the image.
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
        fs::copy(tree.join(format!("usr/share/base-passwd/{name}.master")), tree.join("etc").join(name))?;
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
        fs::write(tree.join("etc").join(name), text)?;
    }
    for folder in ["dev", "proc", "sys", "run", "tmp", "mnt", "root", "usr/lib/modules", "var/tmp", "var/log"]
    {
        fs::create_dir_all(tree.join(folder))?;
    }
    Ok(())
}
