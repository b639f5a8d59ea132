//! SHA-256 digests: of files, and of the inputs that an artifact is made from.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest, as 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of some bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Digest(hex(&Sha256::digest(bytes)))
    }

    /// The digest of a file's content.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Digest(hex(&hasher.finalize()))),
                n => hasher.update(&buffer[..n]),
            }
        }
    }

    /// The digest of named inputs, in the order given. Lengths are hashed too, so that no two lists of
    /// inputs run into one another.
    pub fn of_inputs<'a>(inputs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut hasher = Sha256::new();
        for (name, value) in inputs {
            for part in [name, value] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        Digest(hex(&hasher.finalize()))
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 16 digits: enough to name an artifact.
    pub fn short(&self) -> &str {
        &self.0[..16]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == 64 && text.chars().all(is_hex) {
            Ok(Digest(text))
        } else {
            Err(format!("`{text}` is no SHA-256 digest"))
        }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_do_not_run_into_one_another() {
        assert_ne!(Digest::of_inputs([("ab", "c")]), Digest::of_inputs([("a", "bc")]));
    }

    #[test]
    fn the_empty_digest_is_the_known_one() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of_bytes(b"").as_str(), empty);
    }
}
