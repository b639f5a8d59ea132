//! The roots that are made of Debian's packages, and the packages that each names (`roots.toml`). Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Packages of each root, as data.
const ROOTS: &str = include_str!("../../roots.toml");

/// Names of the roots.
pub(crate) const ROOT_NAMES: [&str; 4] = ["tools", "build", "kbuild", "guest"];
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootPackages {
    packages: Vec<String>,
}

/// The packages that a root is made of, as `roots.toml` names them.
pub fn root_packages(name: &str) -> Vec<String> {
    let roots: BTreeMap<String, RootPackages> =
        toml::from_str(ROOTS).expect("roots.toml is checked by a test");
    roots.into_iter().find(|(root, _)| root == name).map(|(_, root)| root.packages).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_root_has_packages() {
        for name in ROOT_NAMES {
            assert!(!root_packages(name).is_empty(), "{name}");
        }
    }
}
