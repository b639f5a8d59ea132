//! The configuration that apt runs with here, instead of the host's. Pure: gives texts.

use std::path::{Path, PathBuf};

use crate::debian::mirror::Mirror;
use crate::debian::package::Archive;

/// The text of `sources.list`: the packages of `suites` of `mirror`, their source packages, or both.
pub(crate) fn sources_list(
    mirror: &Mirror,
    suites: &[(Archive, &str)],
    with_packages: bool,
    with_sources: bool,
) -> String {
    let keyring = mirror.keyring.display();
    let mut list = String::new();
    for (archive, suite) in suites {
        let base = archive.base(mirror);
        if with_packages {
            list += &format!("deb [arch=amd64 signed-by={keyring}] {base} {suite} main\n");
        }
        if with_sources {
            list += &format!("deb-src [signed-by={keyring}] {base} {suite} main\n");
        }
    }
    list
}

/// The text of `apt.conf`: all state is kept in `folder`; `acquire` is the part that is taken over from the
/// host.
pub(crate) fn configuration(folder: &Path, acquire: &str) -> String {
    let quoted = |path: PathBuf| format!("\"{}\"", path.display());
    let mut conf = acquire.to_owned();
    for (name, value) in [
        ("Dir::Etc::Main", "\"/dev/null\"".to_owned()),
        ("Dir::Etc::Parts", "\"/dev/null\"".to_owned()),
        ("Dir::Etc::SourceList", quoted(folder.join("sources.list"))),
        ("Dir::Etc::SourceParts", "\"/dev/null\"".to_owned()),
        ("Dir::Etc::Preferences", "\"/dev/null\"".to_owned()),
        ("Dir::Etc::PreferencesParts", "\"/dev/null\"".to_owned()),
        ("Dir::State", quoted(folder.join("state"))),
        ("Dir::State::Status", quoted(folder.join("status"))),
        ("Dir::Cache", quoted(folder.join("cache"))),
        ("APT::Architecture", "\"amd64\"".to_owned()),
        ("APT::Architectures", "{ \"amd64\"; }".to_owned()),
        // The folders are ours, so root need not become `_apt`, who may not see them.
        ("APT::Sandbox::User", "\"root\"".to_owned()),
        ("Acquire::ForceHash", "\"SHA256\"".to_owned()),
        ("Acquire::Languages", "\"none\"".to_owned()),
        ("Acquire::GzipIndexes", "\"false\"".to_owned()),
        ("Acquire::Retries", "\"3\"".to_owned()),
        // Else a network that fails is only a warning, and old lists are taken for new ones.
        ("APT::Update::Error-Mode", "\"any\"".to_owned()),
        ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "\"false\"".to_owned()),
        ("Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled", "\"false\"".to_owned()),
        ("Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled", "\"false\"".to_owned()),
    ] {
        conf += &format!("{name} {value};\n");
    }
    conf
}
