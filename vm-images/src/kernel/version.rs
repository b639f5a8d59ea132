//! The version of Linux that a source tree is of. Pure.

/// The version that a kernel tree's `Makefile` says: `6.12.95`.
pub(crate) fn tree_version(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        let line = makefile
            .lines()
            .take(20)
            .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))?;
        Some(line.trim()).filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let (version, patch) = (value("VERSION")?, value("PATCHLEVEL")?);
    let sub = value("SUBLEVEL").filter(|sub| *sub != "0").map(|sub| format!(".{sub}")).unwrap_or_default();
    Some(format!("{version}.{patch}{sub}"))
}

/// True if a package of that version was made of this version of Linux.
pub(crate) fn is_version_of(version: &str, package: &str) -> bool {
    package.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '~', '+']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trees_version_is_read_and_compared() {
        let makefile = "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\n";
        assert_eq!(tree_version(makefile).as_deref(), Some("6.12.117"));
        assert_eq!(tree_version("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 0\n").as_deref(), Some("7.3"));
        assert!(is_version_of("6.12.117", "6.12.117-1~deb12u1"));
        assert!(!is_version_of("6.12.11", "6.12.117-1"));
    }
}
