//! What the guards are told: `xtask/tidy/tidy.toml` and `xtask/tidy/floors.toml`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::tree::Tree;

/// Where the settings are, for messages that say where to mend.
pub const FILE: &str = "xtask/tidy/tidy.toml";
/// Where the floors are.
pub const FLOORS_FILE: &str = "xtask/tidy/floors.toml";

/// Floors of a package from the lowest to the highest, each a list of modules.
pub type Floors = Vec<Vec<String>>;

/// Both files.
#[derive(Debug, Default)]
pub struct Settings {
    /// Name of a guard -> true if it holds.
    pub guards: BTreeMap<String, bool>,
    /// Package -> packages of the workspace that it may depend on.
    pub dependencies: BTreeMap<String, Vec<String>>,
    /// Path of a file -> most bytes that it may have.
    pub sizes: BTreeMap<String, usize>,
    /// Files that are cited although the repository doesn't hold them.
    pub elsewhere: Vec<Elsewhere>,
    /// Package, or `package::module` -> its floors.
    pub floors: BTreeMap<String, Floors>,
}

/// A cited file, or several, that this repository rightly doesn't hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// The citation: as it is written, all below a folder (ends with `/`), or with `*` for any part of a
    /// name.
    pub path: String,
    /// Where the file is.
    pub reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    guards: BTreeMap<String, bool>,
    #[serde(default)]
    dependencies: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    sizes: BTreeMap<String, usize>,
    #[serde(default)]
    elsewhere: Vec<Elsewhere>,
}

impl Settings {
    /// Reads both files.
    ///
    /// # Errors
    ///
    /// One of them is missing, or doesn't say what it should.
    pub fn read(tree: &Tree) -> Result<Settings> {
        let file: File = parse(tree, FILE)?;
        Ok(Settings {
            guards: file.guards,
            dependencies: file.dependencies,
            sizes: file.sizes,
            elsewhere: file.elsewhere,
            floors: parse(tree, FLOORS_FILE)?,
        })
    }
}

fn parse<T: serde::de::DeserializeOwned>(tree: &Tree, path: &str) -> Result<T> {
    let text = tree.text(path).with_context(|| format!("there is no `{path}`"))?;
    toml::from_str(text).with_context(|| format!("failed to parse `{path}`"))
}
