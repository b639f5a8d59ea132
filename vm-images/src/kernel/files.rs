//! Chooses the files of a kernel tree that our build of it reads. Pure.
//!
//! The others, two thirds of a tree, are neither copied nor compared, and a commit that changes only those is
//! not built again.

use std::ffi::OsStr;
use std::path::Path;

/// Directories of which only Kconfig and Makefile are read, because our config builds nothing in them.
const NOT_BUILT: [&str; 12] = [
    "Documentation",
    "LICENSES",
    "drivers/accel",
    "drivers/gpu",
    "drivers/infiniband",
    "drivers/media",
    "drivers/net/ethernet",
    "drivers/net/wireless",
    "drivers/staging",
    "samples",
    "sound",
    "tools/perf",
];

/// Directories of which nothing is read at all.
const NOT_READ: [&str; 1] = ["tools/testing"];

/// True for a file that the build of an x86 kernel with our config reads.
pub(crate) fn is_wanted(file: &Path) -> bool {
    if NOT_READ.iter().any(|folder| file.starts_with(folder)) {
        return false;
    }
    let mut parts = file.iter();
    let is_foreign = parts.next() == Some(OsStr::new("arch"))
        && parts.next().is_some_and(|arch| arch != "x86" && arch != "Kconfig");
    // Kconfig files of other architectures are read as well: `crypto/Kconfig` includes them.
    if is_foreign {
        return says_what_is_built(file);
    }
    !NOT_BUILT.iter().any(|folder| file.starts_with(folder)) || says_what_is_built(file)
}

fn says_what_is_built(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    ["Kconfig", "Kbuild", "Makefile"].iter().any(|prefix| name.starts_with(prefix))
}

/// True for a file that a build in the tree itself left there. Where there is git, git knows better.
pub(crate) fn is_made(file: &Path) -> bool {
    const FOLDERS: [&str; 4] = ["include/config", "include/generated", "arch/x86/include/generated", ".git"];
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let extension = file.extension().unwrap_or_default();
    FOLDERS.iter().any(|folder| file.starts_with(folder))
        || ["o", "ko", "a", "cmd", "mod", "order", "symvers"].iter().any(|made| extension == *made)
        || name.ends_with(".mod.c")
        || [".config", ".config.old", "vmlinux", "System.map"].contains(&name.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_built_is_not_wanted() {
        for file in [
            "drivers/md/md.c",
            "arch/x86/Makefile",
            "arch/Kconfig",
            "arch/arm/crypto/Kconfig",
            "drivers/gpu/drm/Kconfig",
            "sound/Makefile",
            "tools/objtool/check.c",
            "Documentation/Kconfig",
        ] {
            assert!(is_wanted(Path::new(file)), "{file}");
        }
        for file in [
            "drivers/gpu/drm/drm_drv.c",
            "arch/arm64/mm/fault.c",
            "tools/testing/selftests/Makefile",
            "Documentation/admin-guide/md.rst",
        ] {
            assert!(!is_wanted(Path::new(file)), "{file}");
        }
    }

    #[test]
    fn leftovers_are_known() {
        for file in
            [".config", "drivers/md/md.o", "drivers/md/.md.o.cmd", "include/config/auto.conf", "vmlinux"]
        {
            assert!(is_made(Path::new(file)), "{file}");
        }
        for file in ["drivers/md/md.c", "include/linux/kconfig.h", "scripts/mod/modpost.c"] {
            assert!(!is_made(Path::new(file)), "{file}");
        }
    }
}
