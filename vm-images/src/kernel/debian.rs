//! Debian's kernels: unpacked from their packages, and laid out as a machine boots them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::error::io_error;
use crate::build::tools::Tools;
use crate::build::workshop::{Workshop, write};
use crate::debian::package::RemoteFile;
use crate::debian::pins::{Group, lines};
use crate::debian::unpack::unpack;
use crate::host::tree::remove_tree;
use crate::kernel::bootable::Kernel;
use crate::kernel::bzimage;
use crate::kernel::error::KernelError;
use crate::kernel::modules::{self, NAMES_FILE};
use crate::spec::debian::DebianSpec;

/// The kernel that `spec` names, made from its packages.
pub(crate) fn make(workshop: &Workshop<'_>, spec: &DebianSpec) -> Result<Kernel, KernelError> {
    let tools = workshop.tools()?;
    workshop.pins.make(&Group::Kernel(spec.clone()), |files| {
        // A kernel without an image package names no release, and fails for want of an image.
        let image = files.iter().find(|file| file.name.starts_with("linux-image-"));
        let release = image.map_or("", |file| file.name.trim_start_matches("linux-image-"));
        let inputs = [("files", lines(files)), ("recipe", "kernel 4".to_owned())];
        let inputs = inputs.each_ref().map(|(name, value)| (*name, value.as_str()));
        let artifact = workshop
            .artifact("kernel", &inputs, |dir| unpack_kernel(workshop, dir, release, files, &tools))?;
        Ok(Kernel {
            spec: spec.clone().into(),
            exact_spec: DebianSpec::Exact { release: release.to_owned() }.into(),
            release: release.to_owned(),
            package_version: image.map(|file| file.version.clone()),
            artifact,
            replacement: None,
        })
    })
}

/// Lays out a kernel in `dir`: `vmlinuz` and `vmlinux`, `config`, `modules.txt`, `modules.squashfs`, `boot/`.
fn unpack_kernel(
    workshop: &Workshop<'_>,
    dir: &Path,
    release: &str,
    files: &[RemoteFile],
    tools: &Tools,
) -> Result<(), KernelError> {
    let packages = workshop.apt.fetch(files)?;
    workshop.progress.step(&format!("unpacking kernel {release}"));
    let work = workshop.scratch("kernel")?;
    let (root, log) = (work.path().join("root"), dir.join("log"));
    fs::create_dir(&root).map_err(io_error("create", &root))?;
    unpack(workshop.host, &packages, &root, &log)?;
    let library = if root.join("usr/lib/modules").is_dir() { "usr/lib/modules" } else { "lib/modules" };
    let tree = root.join(library).join(release);
    // Debian keeps the image under /boot, and since 7.2 beside the modules.
    let take = |candidates: [PathBuf; 2], name: &str, missing| {
        let found = candidates.iter().find(|path| path.is_file());
        let from = found.ok_or_else(|| KernelError::Package { release: release.to_owned(), missing })?;
        fs::copy(from, dir.join(name)).map_err(io_error("copy", from))?;
        Ok::<_, KernelError>(())
    };
    let boot = root.join("boot");
    take([boot.join(format!("vmlinuz-{release}")), tree.join("vmlinuz")], "vmlinuz", "kernel image")?;
    take([boot.join(format!("config-{release}")), tree.join("config")], "config", "configuration")?;
    let image = dir.join("vmlinuz");
    let bytes = fs::read(&image).map_err(io_error("read", &image))?;
    if let Some(elf) = bzimage::vmlinux(&bytes) {
        write(&dir.join("vmlinux"), &elf)?;
    }
    modules::decompress(&tree).map_err(io_error("decompress the modules in", &tree))?;
    // Older packages still use /lib; depmod is given one layout for all.
    if library == "lib/modules" {
        fs::create_dir_all(root.join("usr/lib"))
            .and_then(|()| fs::rename(root.join(library), root.join("usr/lib/modules")))
            .map_err(io_error("move the modules of", &root))?;
    }
    let tree = root.join("usr/lib/modules").join(release);
    let old = root.join("lib");
    if old.is_dir() {
        remove_tree(&old).map_err(io_error("remove", &old))?;
    }
    std::os::unix::fs::symlink("usr/lib", &old).map_err(io_error("link", &old))?;
    tools.call(workshop.host, "usr/sbin/depmod").arg("--basedir").arg(&root).arg(release).run(&log)?;
    let dependencies = tree.join("modules.dep");
    let text = fs::read_to_string(&dependencies).map_err(io_error("read", &dependencies))?;
    let builtin = fs::read_to_string(tree.join("modules.builtin")).unwrap_or_default();
    write(&dir.join(NAMES_FILE), modules::names(&text, &builtin).as_bytes())?;
    let boot = dir.join("boot");
    fs::create_dir(&boot).map_err(io_error("create", &boot))?;
    for (idx, module) in modules::boot_order(&text).iter().enumerate() {
        let file = module.file_name().map(|name| name.to_string_lossy().into_owned());
        let to = boot.join(format!("{idx:02}-{}", file.unwrap_or_default()));
        fs::copy(tree.join(module), &to).map_err(io_error("copy to", &to))?;
    }
    for link in ["build", "source"] {
        let _ = fs::remove_file(tree.join(link));
    }
    let _ = fs::remove_file(tree.join("vmlinuz"));
    workshop.progress.step(&format!("making the module image of {release}"));
    let image = dir.join("modules.squashfs");
    Ok(tools.squashfs(workshop.host, &root.join("usr/lib/modules"), &image, &[]).run(&log)?)
}
