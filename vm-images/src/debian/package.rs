//! Files of a Debian archive: what the lock file pins and what the mirror is asked for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::debian::mirror::Mirror;
use crate::store::digest::Digest;

/// One of Debian's archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Archive {
    /// The main one.
    Debian,
    /// The security archive.
    Security,
}

impl Archive {
    /// Its base on this mirror.
    pub fn base(self, mirror: &Mirror) -> &str {
        match self {
            Archive::Debian => &mirror.debian,
            Archive::Security => &mirror.security,
        }
    }
}

/// One file of an archive, pinned by its digest. In the lock file it is one line:
/// `name version archive path size sha256`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RemoteFile {
    /// Package, binary or source.
    pub name: String,
    /// Version, with its epoch.
    pub version: String,
    /// The archive that it lies in.
    pub archive: Archive,
    /// Path below the archive's base, as the index gives it.
    pub path: String,
    /// Size, bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: Digest,
}

impl RemoteFile {
    /// Its address on this mirror.
    pub fn url(&self, mirror: &Mirror) -> String {
        // Only the path is escaped: the base may be of any transport, `mirror+file:` among them.
        format!("{}/{}", self.archive.base(mirror), self.path.replace('+', "%2b"))
    }

    /// The last component of its path.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Its name in the store: unique by content, readable by people.
    pub fn stored_name(&self) -> String {
        format!("{}-{}", self.sha256.short(), self.file_name())
    }
}

impl fmt::Display for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let archive = match self.archive {
            Archive::Debian => "debian",
            Archive::Security => "security",
        };
        write!(f, "{} {} {archive} {} {} {}", self.name, self.version, self.path, self.size, self.sha256)
    }
}

impl FromStr for RemoteFile {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<_> = line.split(' ').collect();
        let [name, version, archive, path, size, sha256] = words[..] else {
            return Err(format!("`{line}` is not `name version archive path size sha256`"));
        };
        let archive = match archive {
            "debian" => Archive::Debian,
            "security" => Archive::Security,
            _ => return Err(format!("`{archive}` is no archive: expected `debian` or `security`")),
        };
        if path.starts_with('/') || path.split('/').any(|part| part == ".." || part.is_empty()) {
            return Err(format!("`{path}` is no path in an archive"));
        }
        Ok(RemoteFile {
            name: name.to_owned(),
            version: version.to_owned(),
            archive,
            path: path.to_owned(),
            size: size.parse().map_err(|_| format!("`{size}` is no size"))?,
            sha256: Digest::try_from(sha256.to_owned())?,
        })
    }
}

impl TryFrom<String> for RemoteFile {
    type Error = String;

    fn try_from(line: String) -> Result<Self, String> {
        line.parse()
    }
}

impl From<RemoteFile> for String {
    fn from(file: RemoteFile) -> String {
        file.to_string()
    }
}

/// The files of one package index (`Packages`), paragraph by paragraph: only the fields that we use.
///
/// Debian policy 5.1 gives the syntax; the index has one value a line for each of these fields.
pub fn parse_index(text: &str, archive: Archive, mut keep: impl FnMut(&str) -> bool) -> Vec<RemoteFile> {
    let mut found = Vec::new();
    for paragraph in text.split("\n\n") {
        let Some(name) = paragraph.strip_prefix("Package: ").and_then(|rest| rest.lines().next()) else {
            continue;
        };
        if !keep(name) {
            continue;
        }
        let field =
            |wanted: &str| paragraph.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(": "));
        let file = || {
            Some(RemoteFile {
                name: name.to_owned(),
                version: field("Version")?.to_owned(),
                archive,
                path: field("Filename")?.to_owned(),
                size: field("Size")?.parse().ok()?,
                sha256: Digest::try_from(field("SHA256")?.to_owned()).ok()?,
            })
        };
        found.extend(file());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "kmod 34.2-2 debian pool/main/k/kmod/kmod_34.2-2_amd64.deb 123 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_line_round_trips() {
        assert_eq!(LINE.parse::<RemoteFile>().unwrap().to_string(), LINE);
    }

    #[test]
    fn a_path_that_leaves_the_archive_is_refused() {
        assert!(LINE.replace("pool/main", "../..").parse::<RemoteFile>().is_err());
        assert!(LINE.replace("pool/main", "/etc").parse::<RemoteFile>().is_err());
    }

    #[test]
    fn an_index_is_read() {
        let text = "Package: a\nVersion: 1\nFilename: pool/a.deb\nSize: 3\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nDescription: x\n  y\n\nPackage: b\nVersion: 2\n";
        let files = parse_index(text, Archive::Security, |_| true);
        assert_eq!(files.len(), 1, "a paragraph without a file is passed over");
        assert_eq!((files[0].name.as_str(), files[0].size), ("a", 3));
    }
}
