//! The two projects that are built for the guest: LVM2 and mdadm.

use std::fs;
use std::path::Path;

/// A project that is built from Debian's source package or from a user's checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Project {
    /// LVM2, with libdevmapper and its tests.
    Lvm2,
    /// mdadm, with its tests.
    Mdadm,
}

impl Project {
    /// All projects.
    pub const ALL: [Project; 2] = [Project::Lvm2, Project::Mdadm];

    /// Name of its source package.
    pub fn name(self) -> &'static str {
        match self {
            Project::Lvm2 => "lvm2",
            Project::Mdadm => "mdadm",
        }
    }

    /// Its name as people write it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Project::Lvm2 => "LVM2",
            Project::Mdadm => "mdadm",
        }
    }

    /// The option that names its checkout.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Project::Lvm2 => "--lvm2-src",
            Project::Mdadm => "--mdadm-src",
        }
    }

    /// Kind of the artifacts that are built from its checkouts: apart from those of packages, because
    /// there is a new one with every edit.
    pub(crate) fn checkout_kind(self) -> &'static str {
        match self {
            Project::Lvm2 => "lvm2-checkout",
            Project::Mdadm => "mdadm-checkout",
        }
    }

    /// Kind of the artifacts that its source packages are unpacked to.
    pub(crate) fn source_kind(self) -> &'static str {
        match self {
            Project::Lvm2 => "lvm2-source",
            Project::Mdadm => "mdadm-source",
        }
    }

    /// Files and folders that every source tree of it has, and no other tree has all of.
    pub(crate) fn marks(self) -> &'static [&'static str] {
        match self {
            Project::Lvm2 => &["configure", "WHATS_NEW", "test/shell"],
            Project::Mdadm => &["mdadm.h", "Makefile", "tests"],
        }
    }

    /// The version that the source tree in `dir` states.
    pub(crate) fn version_in(self, dir: &Path) -> Option<String> {
        let read = |name| fs::read_to_string(dir.join(name)).ok();
        let version = match self {
            Project::Lvm2 => lvm2_version(&read("VERSION")?)?.to_owned(),
            Project::Mdadm => mdadm_version(&read("ReadMe.c")?)?.to_owned(),
        };
        let is_sane = |c: char| c.is_ascii_alphanumeric() || "().-_+~".contains(c);
        (version.len() <= 40 && version.chars().all(is_sane)).then_some(version)
    }
}

/// `2.03.31(2) (2025-02-27)` → `2.03.31(2)`.
fn lvm2_version(text: &str) -> Option<&str> {
    text.split_whitespace().next()
}

/// `#define VERSION "4.4"` → `4.4`.
fn mdadm_version(text: &str) -> Option<&str> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("#define VERSION"))?;
    line.split('"').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(lvm2_version("2.03.31(2) (2025-02-27)\n"), Some("2.03.31(2)"));
        assert_eq!(lvm2_version(""), None);
        assert_eq!(mdadm_version("#ifndef VERSION\n#define VERSION \"4.4\"\n"), Some("4.4"));
        assert_eq!(mdadm_version("char Version[] = VERS;\n"), None);
    }
}
