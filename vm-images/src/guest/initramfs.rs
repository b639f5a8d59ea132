//! The initramfs: the guest agent as `/init`, and the modules that it loads to reach the root.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cpio::newc::{Builder, ModeFileType, trailer};

use crate::build::error::{BuildError, io_error};
use crate::build::workshop::Workshop;
use crate::store::Artifact;
use crate::store::digest::Digest;

/// Folder of the modules, in the initramfs. The agent loads them in the order of their names.
const MODULES: &str = "md-regress/modules";

/// The initramfs of the kernel in `kernel`: `initramfs.cpio`, with `agent` as `/init`.
pub(crate) fn make(workshop: &Workshop<'_>, kernel: &Artifact, agent: &Path) -> Result<Artifact, BuildError> {
    let agent_digest = Digest::of_file(agent).map_err(io_error("read the guest agent", agent))?;
    let inputs =
        [("kernel", kernel.digest.as_str()), ("agent", agent_digest.as_str()), ("recipe", "initramfs 2")];
    workshop.artifact("initramfs", &inputs, |dir| {
        let boot = kernel.path("boot");
        let mut files: Vec<_> = fs::read_dir(&boot)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>())
            .map_err(io_error("read", &boot))?;
        files.sort();
        let out = dir.join("initramfs.cpio");
        write(&out, agent, &files).map_err(io_error("write", &out))
    })
}

/// Writes an initramfs to `out`: `agent` as `/init`, `modules` in the order given.
fn write(out: &Path, agent: &Path, modules: &[PathBuf]) -> io::Result<()> {
    let mut archive = io::BufWriter::new(File::create(out)?);
    for (idx, folder) in ["md-regress", MODULES, "dev", "proc", "sys"].into_iter().enumerate() {
        let entry = Builder::new(folder)
            .ino(u32::try_from(idx).unwrap_or_default() + 1)
            .mode(0o755)
            .set_mode_file_type(ModeFileType::Directory);
        entry.write(&mut archive, 0).finish()?;
    }
    // The kernel opens the console for the agent before anything is mounted, and Rust's runtime
    // wants a null device if it could not.
    for (name, major, minor, inode) in [("dev/console", 5, 1, 10), ("dev/null", 1, 3, 11)] {
        let entry = Builder::new(name)
            .ino(inode)
            .mode(0o600)
            .rdev_major(major)
            .rdev_minor(minor)
            .set_mode_file_type(ModeFileType::Char);
        entry.write(&mut archive, 0).finish()?;
    }
    add_file(&mut archive, "init", agent, 0o755, 100)?;
    for (idx, module) in (0u32..).zip(modules) {
        let file = module.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        add_file(&mut archive, &format!("{MODULES}/{idx:02}-{file}"), module, 0o644, 101 + idx)?;
    }
    trailer(&mut archive)?;
    io::Write::flush(&mut archive)
}

fn add_file(archive: &mut impl io::Write, name: &str, from: &Path, mode: u32, inode: u32) -> io::Result<()> {
    let mut file = File::open(from)?;
    let size = file.metadata()?.len();
    let size = u32::try_from(size)
        .map_err(|_| io::Error::other(format!("`{}` is too large for an initramfs", from.display())))?;
    let mut entry = Builder::new(name)
        .ino(inode)
        .mode(mode)
        .set_mode_file_type(ModeFileType::Regular)
        .write(archive, size);
    io::copy(&mut file, &mut entry)?;
    entry.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_agent_and_modules_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["agent", "b.ko", "a.ko"] {
            std::fs::write(path(name), name).unwrap();
        }
        write(&path("out"), &path("agent"), &[path("b.ko"), path("a.ko")]).unwrap();
        let mut rest = File::open(path("out")).unwrap();
        let mut seen = Vec::new();
        loop {
            let mut reader = cpio::NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut content = String::new();
            io::Read::read_to_string(&mut reader, &mut content).unwrap();
            seen.push((reader.entry().name().to_owned(), content));
            rest = reader.finish().unwrap();
        }
        let files: Vec<_> = seen.iter().filter(|(_, content)| !content.is_empty()).collect();
        let name = |idx: usize| files[idx].0.as_str();
        assert_eq!(
            (name(0), name(1), name(2)),
            ("init", "md-regress/modules/00-b.ko", "md-regress/modules/01-a.ko")
        );
    }
}
