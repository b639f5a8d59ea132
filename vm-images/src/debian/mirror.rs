//! Finds the Debian mirror in the host's own package configuration.
//!
//! Pure: [`find`] is given the texts of the source lists. No mirror is ever written into this
//! project; what the host uses is what we use, unless the user names another.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Debian's archives are, as this host reaches them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Base of the main archive (`…/debian`), no slash at the end.
    pub debian: String,
    /// Base of the security archive (`…/debian-security`).
    pub security: String,
    /// File of keys that both are signed with.
    pub keyring: PathBuf,
    /// Where it was found: the source list, or `--mirror`.
    pub from: String,
    /// Options of the host's lists that would weaken signatures, and are not taken over; one line each.
    pub left_out: Vec<String>,
}

/// Why there is no mirror.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// No list of the host names a Debian archive.
    #[error(
        "no Debian mirror in {}: give one with --mirror URL (…/debian), or run in the Debian container of README.md",
        places.join(", ")
    )]
    NotFound {
        /// The places that were looked at.
        places: Vec<String>,
    },
    /// The archive's keys are missing.
    #[error("no archive keys at {}: install the package debian-archive-keyring", places.join(", "))]
    NoKeyring {
        /// The places that were looked at.
        places: Vec<String>,
    },
}

/// One source of packages, from either format.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
    signed_by: Option<String>,
    /// Options that say to believe what is not signed, or old: `trusted=yes`.
    weak: Vec<String>,
}

/// Options of sources.list(5) that accept what nobody signed if they are on, as both formats spell them.
const WEAK_IF_ON: [&str; 4] = ["trusted", "allow-insecure", "allow-weak", "allow-downgrade-to-insecure"];
/// Options of sources.list(5) that accept old or misdated lists if they are off.
const WEAK_IF_OFF: [&str; 2] = ["check-valid-until", "check-date"];

/// True if an option weakens what is believed.
fn is_weak(name: &str, value: &str) -> bool {
    let is_one_of = |names: &[&str]| names.iter().any(|one| one.eq_ignore_ascii_case(name));
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(value));
    is_one_of(&WEAK_IF_ON) && is(&["yes", "true", "with", "on", "enable", "1"])
        || is_one_of(&WEAK_IF_OFF) && is(&["no", "false", "without", "off", "disable", "0"])
}

/// Where Debian keeps the archive's keys, newest name first.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg"];

impl Mirror {
    /// Finds the host's mirror, or takes `given` as the base of the main archive.
    pub fn detect(given: Option<&str>) -> Result<Self, MirrorError> {
        Self::detect_in(Path::new("/etc/apt"), given)
    }

    fn detect_in(etc_apt: &Path, given: Option<&str>) -> Result<Self, MirrorError> {
        let lists = read_lists(etc_apt);
        let found = find(&lists);
        let keyring = found
            .as_ref()
            .and_then(|(_, source)| source.signed_by.as_deref())
            .into_iter()
            .chain(KEYRINGS)
            .map(PathBuf::from)
            .find(|path| path.is_file())
            .ok_or_else(|| MirrorError::NoKeyring { places: KEYRINGS.map(str::to_owned).to_vec() })?;
        let (debian, from) = match (given, found) {
            (Some(given), _) => (given.trim_end_matches('/').to_owned(), "--mirror".to_owned()),
            (None, Some((list, source))) => (source.uri, list),
            (None, None) => {
                let places = vec![
                    etc_apt.join("sources.list").display().to_string(),
                    etc_apt.join("sources.list.d").display().to_string(),
                ];
                return Err(MirrorError::NotFound { places });
            }
        };
        let security = match given {
            Some(_) => security_beside(&debian),
            None => find_security(&lists).unwrap_or_else(|| security_beside(&debian)),
        };
        Ok(Mirror { debian, security, keyring, from, left_out: left_out(&lists) })
    }
}

fn read_lists(etc_apt: &Path) -> Vec<(String, String)> {
    let mut paths = vec![etc_apt.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc_apt.join("sources.list.d")) {
        let mut parts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        paths.extend(parts.into_iter().filter(|path| {
            path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
        }));
    }
    paths
        .into_iter()
        .filter_map(|path| Some((path.display().to_string(), fs::read_to_string(&path).ok()?)))
        .collect()
}

/// The source that is Debian's own main archive: a suite by a Debian name, component `main`. Vendors use
/// such names too (`stable main`), so a source that is signed with the archive's keys or lies under
/// `…/debian` goes before one that merely has the suite.
fn find(lists: &[(String, String)]) -> Option<(String, Source)> {
    let all = || {
        lists
            .iter()
            .flat_map(|(name, text)| parse(name, text).into_iter().map(move |source| (name.clone(), source)))
    };
    let is_signed = |source: &Source| {
        source.signed_by.as_ref().is_some_and(|keys| keys.contains("debian-archive-keyring"))
    };
    let ranks: [&dyn Fn(&Source) -> bool; 3] =
        [&is_signed, &|source| source.uri.ends_with("/debian"), &|source| {
            !["stable", "oldstable", "testing", "unstable"].contains(&source.suite.as_str())
        }];
    ranks.iter().find_map(|rank| all().find(|(_, source)| is_debian_suite(&source.suite) && rank(source)))
}

fn find_security(lists: &[(String, String)]) -> Option<String> {
    lists.iter().find_map(|(name, text)| {
        let is_security =
            |source: &Source| source.suite.strip_suffix("-security").is_some_and(is_debian_suite);
        parse(name, text).into_iter().find(is_security).map(|source| source.uri)
    })
}

/// The weak options in the host's sources of Debian, which are not taken over; one line each.
fn left_out(lists: &[(String, String)]) -> Vec<String> {
    let mut all = Vec::new();
    for (name, text) in lists {
        for source in parse(name, text) {
            let suite = source.suite.split('-').next().unwrap_or_default();
            if is_debian_suite(suite) {
                let line =
                    |option: &String| format!("{option} of {name} would weaken how packages are verified");
                all.extend(source.weak.iter().map(line));
            }
        }
    }
    all.dedup();
    all
}

/// Debian's mirrors keep the security archive beside the main one, under this name.
fn security_beside(debian: &str) -> String {
    format!("{debian}-security")
}

fn is_debian_suite(suite: &str) -> bool {
    const SUITES: [&str; 9] =
        ["bookworm", "trixie", "forky", "sid", "stable", "oldstable", "testing", "unstable", "bullseye"];
    SUITES.contains(&suite)
}

fn parse(name: &str, text: &str) -> Vec<Source> {
    if name.ends_with(".sources") { parse_deb822(text) } else { parse_one_line(text) }
}

/// `deb [options] uri suite component…` (sources.list(5)).
fn parse_one_line(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(mut rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t'])) else {
            continue;
        };
        rest = rest.trim_start();
        let (mut signed_by, mut weak) = (None, Vec::new());
        if let Some((options, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
            let is_weak =
                |option: &&str| option.split_once('=').is_some_and(|(name, value)| is_weak(name, value));
            weak = options.split_whitespace().filter(is_weak).map(str::to_owned).collect();
            rest = after;
        }
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        if words.any(|component| component == "main") {
            sources.push(source(uri, suite, signed_by, &weak));
        }
    }
    sources
}

/// Paragraphs of `Types`, `URIs`, `Suites`, `Components`, `Signed-By`, `Enabled`.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let without_comments: String =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    for paragraph in without_comments.split("\n\n") {
        let field = |wanted: &str| -> Vec<&str> {
            let mut words = Vec::new();
            let mut inside = false;
            for line in paragraph.lines() {
                if line.starts_with([' ', '\t']) {
                    if inside {
                        words.extend(line.split_whitespace());
                    }
                } else if let Some((name, value)) = line.split_once(':') {
                    inside = name.trim().eq_ignore_ascii_case(wanted);
                    if inside {
                        words.extend(value.split_whitespace());
                    }
                }
            }
            words
        };
        let disabled =
            field("Enabled").first().is_some_and(|word| ["no", "false", "off", "0"].contains(word));
        if disabled || !field("Types").contains(&"deb") || !field("Components").contains(&"main") {
            continue;
        }
        // A key written into the paragraph itself begins with PGP's header, not with a path.
        let signed_by = field("Signed-By").first().copied().filter(|path| path.starts_with('/'));
        let weak: Vec<_> = [&WEAK_IF_ON[..], &WEAK_IF_OFF]
            .concat()
            .into_iter()
            .filter_map(|name| Some((name, *field(name).first()?)))
            .filter(|(name, value)| is_weak(name, value))
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        for uri in field("URIs") {
            for suite in field("Suites") {
                sources.push(source(uri, suite, signed_by, &weak));
            }
        }
    }
    sources
}

fn source(uri: &str, suite: &str, signed_by: Option<&str>, weak: &[String]) -> Source {
    Source {
        uri: uri.trim_end_matches('/').to_owned(),
        suite: suite.trim_end_matches('/').to_owned(),
        signed_by: signed_by.map(str::to_owned),
        weak: weak.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, debian: Option<&str>, security: Option<&str>) {
        let lists = [(name.to_owned(), text.to_owned())];
        assert_eq!(find(&lists).map(|(_, source)| source.uri).as_deref(), debian, "{text}");
        assert_eq!(find_security(&lists).as_deref(), security, "{text}");
    }

    #[test]
    fn deb822_lists() {
        let text = "Types: deb\n# a comment\nURIs: http://m.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\nTypes: deb\nURIs: http://s.example/debian-security/\nSuites: bookworm-security\nComponents: main\n";
        check("a.sources", text, Some("http://m.example/debian"), Some("http://s.example/debian-security"));
    }

    #[test]
    fn a_disabled_paragraph_and_foreign_archives_are_passed_over() {
        let text = "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: sid\nComponents: main\n\nTypes: deb\nURIs: https://vendor.example/node\nSuites: nodistro\nComponents: main\n";
        check("a.sources", text, None, None);
    }

    #[test]
    fn a_vendors_stable_main_is_not_debian() {
        let vendor = "deb https://vendor.example/apt stable main\ndeb https://other.example bookworm main\n";
        let debian = "deb http://m.example/debian bookworm main\n";
        check("a.list", &format!("{vendor}{debian}"), Some("http://m.example/debian"), None);
        check("a.list", "deb https://vendor.example/apt stable main\n", None, None);
        check(
            "a.list",
            "deb mirror+file:/etc/apt/mirrors/x.list bookworm main\n",
            Some("mirror+file:/etc/apt/mirrors/x.list"),
            None,
        );
    }

    #[test]
    fn continued_fields_and_inline_keys() {
        let text = "Types: deb deb-src\nURIs: http://m.example/debian\nSuites:\n trixie\n trixie-updates\nComponents: main contrib\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n";
        let sources = parse("a.sources", text);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].signed_by, None);
    }

    #[test]
    fn one_line_lists() {
        let text = "# deb http://old.example/debian sid main\ndeb-src http://m.example/debian sid main\ndeb [arch=amd64 signed-by=/k.gpg] http://m.example/debian/ trixie main # why\ndeb http://m.example/debian-security trixie-security main\n";
        check(
            "sources.list",
            text,
            Some("http://m.example/debian"),
            Some("http://m.example/debian-security"),
        );
        assert_eq!(parse("sources.list", text)[0].signed_by.as_deref(), Some("/k.gpg"));
    }

    #[test]
    fn what_weakens_signatures_is_said() {
        let check = |name: &str, text: &str, expect: &[&str]| {
            let said = left_out(&[(name.to_owned(), text.to_owned())]);
            let expect: Vec<_> = expect
                .iter()
                .map(|option| format!("{option} of {name} would weaken how packages are verified"))
                .collect();
            assert_eq!(said, expect, "{text}");
        };
        let line = |options: &str| format!("deb [{options}] http://m.example/debian trixie-updates main\n");
        check("a.list", &line("arch=amd64 trusted=yes"), &["trusted=yes"]);
        check(
            "a.list",
            &line("allow-insecure=yes check-valid-until=no"),
            &["allow-insecure=yes", "check-valid-until=no"],
        );
        check("a.list", &line("trusted=no check-valid-until=yes signed-by=/k.gpg"), &[]);
        check("a.list", "deb [trusted=yes] https://vendor.example/apt nodistro main\n", &[]);
        let paragraph = "Types: deb\nURIs: http://m.example/debian\nSuites: sid\nComponents: main\n";
        check("a.sources", &format!("{paragraph}Trusted: yes\nAllow-Weak: no\n"), &["trusted: yes"]);
        check("a.sources", &format!("{paragraph}Check-Valid-Until: no\n"), &["check-valid-until: no"]);
        check("a.sources", paragraph, &[]);
    }

    #[test]
    fn a_given_mirror_wins() {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("sources.list.d")).unwrap();
        let keyring = etc.path().join("keys.gpg");
        fs::write(&keyring, "").unwrap();
        let list = format!("deb [signed-by={}] http://m.example/debian sid main\n", keyring.display());
        fs::write(etc.path().join("sources.list"), list).unwrap();
        let mirror = Mirror::detect_in(etc.path(), Some("http://other.example/debian/")).unwrap();
        assert_eq!(mirror.debian, "http://other.example/debian");
        assert_eq!(mirror.security, "http://other.example/debian-security");
        assert_eq!(mirror.keyring, keyring);
    }
}
