//! Versions of a source package that the mirror offers, and the one that is meant. Pure.

use crate::debian::kernels::compare_versions;

/// The versions of source package `name` in the text of a `Sources` list.
pub(crate) fn versions_in(list: &str, name: &str) -> Vec<String> {
    let stanzas = list.split("\n\n");
    let field = |stanza: &str, key: &str| {
        let line = stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    };
    stanzas
        .filter(|stanza| field(stanza, "Package").as_deref() == Some(name))
        .filter_map(|stanza| field(stanza, "Version"))
        .collect()
}

/// The newest of `offered` that `wanted` names: the whole version, or upstream's part of it (`4.6` of
/// `4.6-2`).
pub(crate) fn choose_version<'a>(offered: &'a [String], wanted: &str) -> Option<&'a str> {
    let is_meant = |version: &&String| {
        version.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '+', '~']))
    };
    offered.iter().filter(is_meant).max_by(|a, b| compare_versions(a, b)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "Package: mdadm\nBinary: mdadm\nVersion: 4.4-11\nFiles:\n Version: 9\n\n\
                        Package: mdadm-x\nVersion: 5.0-1\n\nPackage: mdadm\nVersion: 4.6-2\n";

    #[test]
    fn versions_are_those_of_the_package_alone() {
        assert_eq!(versions_in(LIST, "mdadm"), ["4.4-11", "4.6-2"]);
        assert_eq!(versions_in("", "mdadm"), Vec::<String>::new());
    }

    #[test]
    fn a_version_is_meant_as_a_whole_or_by_upstreams_part() {
        let offered = ["4.4-9", "4.4-11", "4.4.1-1", "4.4-11+deb13u1", "4.60-1"].map(str::to_owned);
        assert_eq!(choose_version(&offered, "4.4"), Some("4.4-11+deb13u1"));
        assert_eq!(choose_version(&offered, "4.4-9"), Some("4.4-9"));
        assert_eq!(choose_version(&offered, "4.4-1"), None);
        assert_eq!(choose_version(&offered, "4.6"), None);
    }
}
