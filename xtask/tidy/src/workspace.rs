//! The packages of the workspace, by their manifests.

use anyhow::{Context, Result};

use crate::tree::{Tree, join};

/// A package of this workspace.
#[derive(Debug)]
pub struct Member {
    /// Name, as other manifests have it.
    pub name: String,
    /// Folder below the top of the work tree.
    pub folder: String,
    /// Contents of its `Cargo.toml`.
    pub manifest: toml::Table,
}

impl Member {
    /// Path of the package's manifest.
    pub fn manifest_path(&self) -> String {
        join(&self.folder, "Cargo.toml")
    }
}

/// All packages that the workspace's `Cargo.toml` names.
///
/// # Errors
///
/// A manifest that is missing, or that doesn't parse.
pub fn members(tree: &Tree) -> Result<Vec<Member>> {
    let top = manifest(tree, "Cargo.toml")?;
    let folders = top
        .get("workspace")
        .and_then(|workspace| workspace.get("members"))
        .and_then(toml::Value::as_array)
        .context("`Cargo.toml` names no members")?;
    folders.iter().filter_map(toml::Value::as_str).map(|folder| member(tree, folder)).collect()
}

/// The package whose manifest lies in `folder`.
///
/// # Errors
///
/// A manifest that is missing, that doesn't parse, or that is no package's.
pub fn member(tree: &Tree, folder: &str) -> Result<Member> {
    let path = join(folder, "Cargo.toml");
    let manifest = manifest(tree, &path)?;
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(toml::Value::as_str)
        .with_context(|| format!("`{path}` names no package"))?
        .to_owned();
    Ok(Member { name, folder: folder.to_owned(), manifest })
}

fn manifest(tree: &Tree, path: &str) -> Result<toml::Table> {
    let text = tree.text(path).with_context(|| format!("there is no `{path}`"))?;
    toml::from_str(text).with_context(|| format!("failed to parse `{path}`"))
}
