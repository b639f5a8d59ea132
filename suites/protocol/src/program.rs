//! A program that runs in the guest, a test's or a shell's: what is prepared for it, and how it ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A program to run in the guest, and everything that is prepared for it first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Program and arguments; the program is looked up in the guest's `PATH`.
    pub argv: Vec<String>,
    /// Working directory in the guest.
    pub cwd: String,
    /// Its whole environment, beside `PATH`, `HOME`, `TERM` and `LANG`.
    pub env: BTreeMap<String, String>,
    /// Directories to make first (mode 0755, with parents).
    pub make_dirs: Vec<String>,
    /// Modules to load first. One that does not exist is no error: the test says what it lacks.
    pub load_modules: Vec<String>,
    /// Serial numbers of disks to wait for; their device nodes are in `MD_REGRESS_DISKS`, in this order.
    pub disks: Vec<String>,
    /// Modules that take the place of the kernel's, before any of them is loaded. The program starts only
    /// with these in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<ReplacedModules>,
}

/// Modules on a disk of their own that take the place of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedModules {
    /// Serial number of the disk: a squashfs image, to be laid over `/usr/lib/modules`.
    pub serial: String,
    /// All of them: none may be loaded yet, and each must be found with its build id.
    pub modules: Vec<ModuleFile>,
    /// Name of the one that is loaded at once, so that the kernel itself says which it has.
    pub probe: String,
}

/// A module's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleFile {
    /// The module's name as the kernel has it, `md_mod`.
    pub name: String,
    /// Path below `/usr/lib/modules`.
    pub path: String,
    /// Its build id, hexadecimal.
    pub build_id: String,
}

/// A module that the kernel has loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModule {
    /// The module's name as the kernel has it.
    pub name: String,
    /// Its build id as the kernel has it, hexadecimal.
    pub build_id: String,
}

/// The errno of [`Exit::NotStarted`] where the kernel refuses to load a module that takes the place of its
/// own (`ENOPKG`, which nothing else gives).
pub const MODULE_REFUSED: i32 = 65;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It could not be started: this errno.
    NotStarted(i32),
}
