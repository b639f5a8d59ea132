//! The packages that Debian publishes of a kernel to build with: its headers, and its source.

use std::fs;
use std::path::Path;

use crate::build::error::{BuildError, io_error};
use crate::build::workshop::Workshop;
use crate::debian::package::RemoteFile;
use crate::debian::pins::{Group, lines};
use crate::debian::unpack::unpack;
use crate::kernel::bootable::Kernel;
use crate::kernel::error::{KernelError, ModuleError};
use crate::store::Artifact;

/// The part of the source that Debian's `kernel` was built from that overlays need: `tree/Makefile` and
/// `tree/drivers/md`.
pub(crate) fn source(workshop: &Workshop<'_>, kernel: &Kernel) -> Result<Artifact, BuildError> {
    let group = Group::KernelSource {
        release: kernel.release.clone(),
        version: kernel.package_version.clone().unwrap_or_default(),
    };
    workshop.pins.make(&group, |files| {
        let inputs = [("files", lines(files)), ("recipe", "kernel source 1".to_owned())];
        let inputs = inputs.each_ref().map(|(name, value)| (*name, value.as_str()));
        workshop.artifact("kernel-source", &inputs, |dir| unpack_source(workshop, dir, files))
    })
}

fn unpack_source(workshop: &Workshop<'_>, dir: &Path, files: &[RemoteFile]) -> Result<(), BuildError> {
    let packages = workshop.apt.fetch(files)?;
    let name = files.first().map_or("", |file| file.name.as_str());
    let version = files.first().map_or("", |file| file.version.as_str());
    workshop.progress.step(&format!("unpacking drivers/md of {name} {version}"));
    let work = workshop.scratch("kernel-source")?;
    let (root, log, tree) = (work.path().join("root"), dir.join("log"), dir.join("tree"));
    fs::create_dir(&root).map_err(io_error("create", &root))?;
    fs::create_dir(&tree).map_err(io_error("create", &tree))?;
    unpack(workshop.host, &packages, &root, &log)?;
    let call =
        workshop.host.call("tar").args(["--extract", "--xz", "--no-same-owner", "--strip-components=1"]);
    let call = call.arg("--directory").arg(&tree).arg("--file");
    let call = call.arg(root.join("usr/src").join(format!("{name}.tar.xz")));
    Ok(call.args([format!("{name}/Makefile"), format!("{name}/drivers/md")]).run(&log)?)
}

/// The root that modules of `kernel` are built in: compilers, and in `/usr/src` the kernel's headers.
pub(crate) fn root(workshop: &Workshop<'_>, kernel: &Kernel) -> Result<Artifact, KernelError> {
    let Some(version) = kernel.package_version.clone() else {
        return Err(ModuleError::NoHeaders { kernel: Box::new(kernel.spec.clone()) }.into());
    };
    let compilers = workshop.compilers()?;
    let group = Group::Headers { release: kernel.release.clone(), version };
    let root = workshop.pins.make(&group, |files| {
        let inputs = [
            ("files", lines(files)),
            ("compilers", compilers.digest.to_string()),
            ("recipe", "headers 1".to_owned()),
        ];
        let inputs = inputs.each_ref().map(|(name, value)| (*name, value.as_str()));
        workshop.artifact("headers", &inputs, |dir| unpack_headers(workshop, dir, &compilers, kernel, files))
    })?;
    Ok(root)
}

fn unpack_headers(
    workshop: &Workshop<'_>,
    dir: &Path,
    compilers: &Artifact,
    kernel: &Kernel,
    files: &[RemoteFile],
) -> Result<(), BuildError> {
    let packages = workshop.apt.fetch(files)?;
    workshop.progress.step(&format!("unpacking the headers of {}", kernel.release));
    let (root, log) = (dir.join("root"), dir.join("log"));
    // Made of hard links: neither root is ever written to.
    workshop.host.call("cp").arg("-al").arg(compilers.path("root")).arg(&root).run(&log)?;
    Ok(unpack(workshop.host, &packages, &root, &log)?)
}
