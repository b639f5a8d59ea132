//! The bench that everything is made on: the host's programs, the store, the packages and the roots made of
//! them.
//!
//! Knows how an artifact is made from inputs, not which artifacts there are: those are in [`crate::kernel`]
//! and [`crate::guest`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::build::enclosure::Trust;
use crate::build::error::{BuildError, io_error};
use crate::build::folder::BuildFolder;
use crate::build::tools::Tools;
use crate::debian::apt::Apt;
use crate::debian::lock::Lock;
use crate::debian::pins::{Group, Pins, lines};
use crate::debian::unpack::{link, unpack};
use crate::host::Host;
use crate::host::progress::Progress;
use crate::host::tree::remove_tree;
use crate::store::{Artifact, Store, StoreError};

/// Settings of a bench for how things are built; a run leaves them at their defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildTuning {
    /// True if a user's source is built in an empty folder, even if an artifact of it exists: to compare with
    /// builds that go on where the last one ended.
    pub from_nothing: bool,
}

impl BuildTuning {
    /// The input of an artifact that tells builds from nothing from those that go on.
    pub(crate) fn way_of_building(self) -> &'static str {
        if self.from_nothing { "nothing" } else { "what there is" }
    }
}

/// The means by which artifacts are made.
#[derive(Debug)]
pub(crate) struct Workshop<'a> {
    pub(crate) host: &'a Host,
    pub(crate) store: &'a Store,
    pub(crate) apt: &'a Apt<'a>,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) pins: Pins<'a>,
    pub(crate) tuning: BuildTuning,
    /// Whether a stranger's source is built even where it reaches more than it should (`--trust-source`).
    pub(crate) trusts_sources: bool,
}

impl<'a> Workshop<'a> {
    /// A workshop for the files that `lock` pins.
    pub(crate) fn new(
        host: &'a Host,
        store: &'a Store,
        apt: &'a Apt<'a>,
        lock: Lock,
        progress: &'a dyn Progress,
    ) -> Self {
        let pins = Pins::new(apt, store, lock, progress);
        Workshop { host, store, apt, progress, pins, tuning: BuildTuning::default(), trusts_sources: false }
    }

    /// How far the code of a user's tree, commit or checkout is trusted: a patch in it may be anybody's.
    pub(crate) fn trust_of_sources(&self) -> Trust {
        if self.trusts_sources { Trust::Trusted } else { Trust::Stranger }
    }

    /// The artifact of `kind` made from `inputs`; `build` makes it in the empty folder that it is given.
    pub(crate) fn artifact<E: From<StoreError>>(
        &self,
        kind: &str,
        inputs: &[(&str, &str)],
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Artifact, E> {
        self.store.artifact(kind, inputs, self.progress, self.host.cancel(), build)
    }

    /// The artifact of `kind` built from a user's source. Each edit makes another one, so all of a kind
    /// together take at most `bytes_max` of the disk.
    pub(crate) fn built_from_source<E: From<StoreError>>(
        &self,
        kind: &str,
        bytes_max: u64,
        inputs: &[(&str, &str)],
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Artifact, E> {
        let mut kind = kind.to_owned();
        if self.tuning.from_nothing {
            kind += "-from-nothing";
            self.store.remove(&kind, inputs.iter().copied());
        }
        self.artifact(&kind, inputs, |dir| {
            self.store.shrink(&kind, bytes_max);
            build(dir)
        })
    }

    /// The folder for builds with these `inputs` in common; an empty one in `scratch` if the bench wants
    /// that.
    pub(crate) fn build_folder(
        &self,
        inputs: &[(&str, &str)],
        scratch: &Scratch,
    ) -> Result<BuildFolder, BuildError> {
        match self.tuning.from_nothing {
            true => BuildFolder::fresh(scratch.path()),
            false => BuildFolder::open(self.store, inputs, self.progress, self.host.cancel()),
        }
    }

    /// A new folder of scratch space, whose name begins with `name`.
    pub(crate) fn scratch(&self, name: &str) -> Result<Scratch, BuildError> {
        let at = self.store.temporary();
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(at);
        folder.map(|folder| Scratch(folder.keep())).map_err(io_error("make a folder in", at))
    }

    /// The root of QEMU and of the makers of images.
    pub(crate) fn tools(&self) -> Result<Tools, BuildError> {
        let artifact = self.root("tools", |_| Ok(()))?;
        Ok(Tools::new(artifact.path("root")))
    }

    /// The root with compilers and headers that LVM2 and mdadm are built in.
    pub(crate) fn build_root(&self) -> Result<Artifact, BuildError> {
        self.root("build", |root| {
            // base-files' script makes it; enclosures need it.
            fs::create_dir_all(root.join("mnt"))?;
            link(root, "gawk", "usr/bin/awk")?;
            link(root, "gcc", "usr/bin/cc")?;
            link(root, "g++", "usr/bin/c++")
        })
    }

    /// The root with compilers that kernels and modules are built in.
    pub(crate) fn compilers(&self) -> Result<Artifact, BuildError> {
        self.root("kbuild", |root| {
            // base-files' script makes it; enclosures need it.
            fs::create_dir_all(root.join("mnt"))?;
            link(root, "gawk", "usr/bin/awk")
        })
    }

    fn root(
        &self,
        name: &'static str,
        finish: impl Fn(&Path) -> io::Result<()>,
    ) -> Result<Artifact, BuildError> {
        self.pins.make(&Group::Root(name), |files| {
            let list = lines(files);
            self.artifact(name, &[("files", &list), ("recipe", "root 2")], |dir| {
                let packages = self.apt.fetch(files)?;
                self.progress.step(&format!("unpacking the {name} root's {} packages", packages.len()));
                let root = dir.join("root");
                fs::create_dir(&root).map_err(io_error("create", &root))?;
                unpack(self.host, &packages, &root, &dir.join("log"))?;
                finish(&root).map_err(io_error("finish the root in", &root))
            })
        })
    }
}

/// A folder of scratch space that goes when it is dropped, read-only folders and all.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.0);
    }
}

/// Writes a file of ours.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    fs::write(path, bytes).map_err(io_error("write", path))
}
