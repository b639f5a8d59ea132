//! A kernel that is ready to boot, and the files of it.

use std::fs;
use std::path::PathBuf;

use crate::build::error::io_error;
use crate::kernel::error::KernelError;
use crate::kernel::modules::NAMES_FILE;
use crate::kernel::replacement::Replacement;
use crate::spec::KernelSpec;
use crate::store::Artifact;
use crate::store::digest::Digest;

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The kernel as the user named it.
    pub spec: KernelSpec,
    /// Exactly this kernel again, as a user would name it.
    pub exact_spec: KernelSpec,
    /// `uname -r`.
    pub release: String,
    /// Version of its package, if it came from one.
    pub package_version: Option<String>,
    /// The files to boot: `vmlinuz` or `vmlinux`, `config`, `modules.txt`, `modules.squashfs` and
    /// `boot/NN-name.ko`.
    pub artifact: Artifact,
    /// Modules that take the place of its own once its guest runs.
    pub replacement: Option<Replacement>,
}

impl Kernel {
    /// The file to boot: the kernel proper (`vmlinux`), or its compressed image if that could not be
    /// unpacked.
    pub fn image(&self) -> PathBuf {
        let vmlinux = self.artifact.path("vmlinux");
        if vmlinux.is_file() { vmlinux } else { self.artifact.path("vmlinuz") }
    }

    /// Digest of the files to boot and of the modules that take the place of its own.
    pub fn digest(&self) -> Digest {
        match &self.replacement {
            None => self.artifact.digest.clone(),
            Some(replacement) => Digest::of_inputs([
                ("kernel", self.artifact.digest.as_str()),
                ("modules", replacement.digest().as_str()),
            ]),
        }
    }

    /// Folders with debug information of the modules and kernels that were built here.
    pub fn debug_info(&self) -> Vec<PathBuf> {
        let replaced = self.replacement.iter().map(Replacement::debug_info);
        replaced.chain([self.artifact.path("debug")]).filter(|folder| folder.is_dir()).collect()
    }

    /// Those of `modules` that it has neither as modules nor built in.
    pub fn lacks<'m>(&self, modules: &'m [String]) -> Result<Vec<&'m str>, KernelError> {
        let list = match &self.replacement {
            Some(replacement) => replacement.names(),
            None => self.artifact.path(NAMES_FILE),
        };
        let text = fs::read_to_string(&list).map_err(io_error("read", &list))?;
        let has = |module: &str| text.lines().any(|name| name == module.replace('-', "_"));
        Ok(modules.iter().map(String::as_str).filter(|module| !has(module)).collect())
    }
}
