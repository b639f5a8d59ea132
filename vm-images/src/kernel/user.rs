//! Kernels that the user brings: built from a tree or a commit with our config, or taken as somebody else
//! built them.
//!
//! Each becomes a kernel proper, which is booted, and an image of all its modules, which the running guest is
//! given ([`crate::kernel::replacement`]). Two kernels whose kernel proper is the same to the byte are one
//! machine with one snapshot, whatever their modules are. A user's tree is only read: it is copied to a build
//! folder, in which later builds go on.

use std::fs;
use std::path::Path;

use crate::build::enclosure::{Enclosure, EnclosureError};
use crate::build::error::io_error;
use crate::build::failure::SourceFailure;
use crate::build::files::{Entries, digest_of, entries_of, entries_since};
use crate::build::git::Commit;
use crate::build::handover::{self, Links};
use crate::build::listing::{all_files, git_files, unreadable};
use crate::build::origin::Origin;
use crate::build::workshop::{Workshop, write};
use crate::kernel::bootable::Kernel;
use crate::kernel::bzimage;
use crate::kernel::error::{KernelError, UserKernelError};
use crate::kernel::files::{is_made, is_wanted};
use crate::kernel::modules;
use crate::kernel::replacement;
use crate::kernel::version::tree_version;
use crate::spec::KernelSpec;
use crate::spec::revision::Revision;
use crate::spec::user::{UserSource, UserSpec};
use crate::store::Artifact;
use crate::store::digest::Digest;

/// Script that builds a kernel, in the root with compilers.
const RECIPE: &str = include_str!("../../recipes/kernel.sh");
/// The config of every kernel that is built here.
const CONFIG: &str = include_str!("../../kconfig/base.config");
/// The part of the config that `,lockdep` adds.
const LOCKDEP: &str = include_str!("../../kconfig/lockdep.config");

/// Kind of the artifacts that are built or taken here.
const KIND: &str = "own-kernel";

/// Room on the disk for built kernels, bytes: each edit makes another one, of 50 MB.
const BUILT_BYTES_MAX: u64 = 4 << 30;
/// Room that a first build takes, MiB: a copy of the source, object files, results.
const FIRST_BUILD_MIB: u64 = 3072;
/// Room that each further build takes, MiB.
const NEXT_BUILD_MIB: u64 = 512;

/// Files that every kernel tree has that can be built and tested here.
const MARKS: [&str; 4] = ["Makefile", "Kconfig", "arch/x86/Makefile", "drivers/md/md.c"];

/// Folders that a build may not write to: the source, so that it cannot change what the next build finds
/// there.
const SEALED: [&str; 1] = ["src"];

/// A source as it was when it was looked at.
struct Source<'h> {
    /// The source as messages name it.
    title: String,
    origin: Origin<'h>,
    files: Entries,
    /// A name by which exactly this source is found again.
    exact: UserSource,
    makefile: String,
}

/// The kernel that `named` means.
pub(crate) fn make(workshop: &Workshop<'_>, named: &UserSpec) -> Result<Kernel, KernelError> {
    let (built, exact) = match named {
        UserSpec::Image { image, modules } => installed(workshop, image, modules)?,
        UserSpec::Source { source, lockdep } => {
            let scratch = workshop.scratch("git")?;
            let source = match source {
                UserSource::Tree(path) => tree(workshop, path)?,
                UserSource::Commit(revision) => committed(workshop, revision, scratch.path())?,
            };
            let built = built(workshop, &source, *lockdep)?;
            (built, UserSpec::Source { source: source.exact, lockdep: *lockdep })
        }
    };
    workshop.store.touch(&built);
    let file = built.path("release");
    let release = fs::read_to_string(&file).map_err(io_error("read", &file))?.trim().to_owned();
    let artifact = kernel_proper(workshop, &built, &release)?;
    let (spec, exact_spec) = (KernelSpec::User(named.clone()), KernelSpec::User(exact));
    let replacement = Some(replacement::of_all(workshop, &artifact, &release, &built)?);
    Ok(Kernel { spec, exact_spec, release, package_version: None, artifact, replacement })
}

/// A tree as it is now.
fn tree(workshop: &Workshop<'_>, path: &Path) -> Result<Source<'static>, KernelError> {
    let dir =
        path.canonicalize().map_err(|error| UserKernelError::Unusable { path: path.to_owned(), error })?;
    check_marks(&format!("`{}`", dir.display()), |mark| dir.join(mark).is_file())?;
    workshop.progress.step(&format!("looking at kernel tree `{}`", dir.display()));
    let is_git = dir.join(".git").exists();
    let mut files = match is_git {
        true => git_files(workshop.host, &dir, &workshop.store.temporary().join("git.log"))?,
        false => all_files(&dir)?,
    };
    files.retain(|file| is_wanted(file) && (is_git || !is_made(file)));
    let known = workshop
        .store
        .root()
        .join("known-files")
        .join(Digest::of_bytes(dir.as_os_str().as_encoded_bytes()).short());
    let files = entries_since(&dir, &files, &known).map_err(unreadable(&dir))?;
    let makefile = fs::read_to_string(dir.join("Makefile")).unwrap_or_default();
    let version = tree_version(&makefile).map(|version| format!(" ({version})")).unwrap_or_default();
    let title = format!("the kernel of `{}`{version}", dir.display());
    Ok(Source { title, files, exact: UserSource::Tree(dir.clone()), origin: Origin::Folder(dir), makefile })
}

/// A commit of a tree.
fn committed<'h>(
    workshop: &Workshop<'h>,
    revision: &Revision,
    scratch: &Path,
) -> Result<Source<'h>, KernelError> {
    let commit = Commit::find(workshop.host, revision, scratch)?;
    let folder = commit.prefix.clone();
    let mut files = commit.files(&folder, true)?;
    let from = format!("commit {} of `{}`", commit.short(), commit.path.display());
    check_marks(&from, |mark| files.contains_key(Path::new(mark)))?;
    files.retain(|file, _| is_wanted(file));
    let makefile = commit.file(&format!("{folder}Makefile"))?.unwrap_or_default();
    let makefile = String::from_utf8_lossy(&makefile).into_owned();
    let version = tree_version(&makefile).map(|version| format!(" ({version})")).unwrap_or_default();
    let title = format!("the kernel of {} (\"{}\"){version}", commit.short(), commit.subject);
    let exact = UserSource::Commit(commit.revision());
    Ok(Source { title, files, exact, origin: Origin::Commit { commit, folder }, makefile })
}

/// Builds a kernel: `vmlinux`, `config`, `release`, `modules/RELEASE` and `debug/NAME.ko`.
fn built(workshop: &Workshop<'_>, source: &Source<'_>, lockdep: bool) -> Result<Artifact, KernelError> {
    let root = workshop.compilers()?;
    let config = format!("{CONFIG}{}", if lockdep { LOCKDEP } else { "" });
    let compiler = compiler_for(&source.makefile);
    let digest = digest_of(&source.files);
    let inputs = [
        ("compilers", root.digest.as_str()),
        ("compiler", compiler),
        ("config", &config),
        ("recipe", RECIPE),
        ("sources", digest.as_str()),
        ("from", workshop.tuning.way_of_building()),
    ];
    workshop.built_from_source(KIND, BUILT_BYTES_MAX, &inputs, |dir| {
        let scratch = workshop.scratch("build")?;
        let mut folder = workshop.build_folder(&inputs[..4], &scratch)?;
        check_room(workshop, if folder.is_empty() { FIRST_BUILD_MIB } else { NEXT_BUILD_MIB })?;
        let first = if folder.is_empty() { " for the first time, which takes minutes" } else { "" };
        workshop.progress.step(&format!("building {} with {compiler}{first}", source.title));
        let ours = [("recipe.sh", RECIPE), ("kconfig", config.as_str())];
        source.origin.put_into(&mut folder, "src", &source.files, &ours)?;
        let (inside, log) = (folder.path(), dir.join("log"));
        let trust = workshop.trust_of_sources();
        let enclosure = Enclosure::new(workshop.host, &root.path("root"), &inside, &log, trust)?;
        enclosure.give(&inside, &SEALED)?;
        folder.begin()?;
        let call = ["bash", "/mnt/recipe.sh", compiler];
        if let Err(error) = enclosure.run(&inside, &SEALED, &call, &log) {
            let EnclosureError::Host(error) = error else { return Err(error.into()) };
            let Some(failure) = SourceFailure::of(&error) else { return Err(error.into()) };
            let SourceFailure { log, lines } = failure.kept(workshop.store, digest.short());
            // The object files so far can be used again: make removes those that it did not finish.
            folder.built()?;
            let lines = lines.replace("/mnt/src/", &source.origin.prefix());
            let title = source.title.clone();
            return Err(UserKernelError::Build { title, compiler, log, lines }.into());
        }
        let out = inside.join("out");
        handover::clean(&out, Links::Refused)?;
        for name in ["vmlinux", "config", "release", "modules", "debug"] {
            let (from, to) = (out.join(name), dir.join(name));
            fs::rename(&from, &to).map_err(io_error("move what was built to", &to))?;
        }
        folder.built()?;
        let release = dir.join("release");
        let text = fs::read_to_string(&release).map_err(io_error("read", &release))?;
        let release = checked_release(text.trim(), &source.title)?;
        Ok(replacement::index_modules(workshop, &dir.join("modules"), release, &log)?)
    })
}

/// A kernel that somebody else built, as an artifact in the form of those that are built here.
fn installed(
    workshop: &Workshop<'_>,
    image: &Path,
    modules: &Path,
) -> Result<(Artifact, UserSpec), KernelError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |error| UserKernelError::Unusable { path, error }
    };
    let (image, modules) =
        (image.canonicalize().map_err(unusable(image))?, modules.canonicalize().map_err(unusable(modules))?);
    let bytes = fs::read(&image).map_err(unusable(&image))?;
    let release = bzimage::release(&bytes).ok_or_else(|| UserKernelError::NoImage { path: image.clone() })?;
    let below = |folder: &str| modules.join(folder).join(&release);
    let is_modules_of_release = modules.file_name().is_some_and(|name| name == release.as_str());
    let itself = is_modules_of_release.then(|| modules.clone());
    let tree = [below("lib/modules"), below("usr/lib/modules"), below("")].into_iter().chain(itself);
    let tree =
        tree.into_iter().find(|tree| tree.join("kernel").is_dir() || tree.join("modules.order").is_file());
    let no_modules = || UserKernelError::NoModules { path: modules.clone(), release: release.clone() };
    let tree = tree.ok_or_else(no_modules)?;
    // `build` and `source` are links to folders, and no modules.
    let mut files = all_files(&tree)?;
    files.retain(|file| {
        file.starts_with("kernel")
            || file.starts_with("updates")
            || file.starts_with("extra")
            || file.to_string_lossy().starts_with("modules.")
    });
    let entries = entries_of(&tree, &files).map_err(unreadable(&tree))?;
    let (image_digest, digest) = (Digest::of_bytes(&bytes), digest_of(&entries));
    let inputs = [("image", image_digest.as_str()), ("modules", digest.as_str()), ("recipe", "installed 1")];
    let built = workshop.artifact::<KernelError>(KIND, &inputs, |dir| {
        workshop.store.shrink(KIND, BUILT_BYTES_MAX);
        workshop.progress.step(&format!("taking kernel {release} from `{}`", image.display()));
        let to = dir.join("modules").join(&release);
        for file in entries.keys() {
            let (from, to) = (tree.join(file), to.join(file));
            let parent = to.parent().unwrap_or(dir);
            fs::create_dir_all(parent).map_err(io_error("create", parent))?;
            fs::copy(&from, &to).map_err(io_error("copy", &from))?;
        }
        modules::decompress(&to).map_err(io_error("decompress the modules in", &to))?;
        replacement::index_modules(workshop, &dir.join("modules"), &release, &dir.join("log"))?;
        if let Some(elf) = bzimage::vmlinux(&bytes) {
            write(&dir.join("vmlinux"), &elf)?;
        }
        write(&dir.join("vmlinuz"), &bytes)?;
        Ok(write(&dir.join("release"), release.as_bytes())?)
    })?;
    Ok((built, UserSpec::Image { image, modules }))
}

/// The files to boot: the kernel proper, the modules that are needed to reach the guest's root, and an empty
/// image for the others.
fn kernel_proper(workshop: &Workshop<'_>, built: &Artifact, release: &str) -> Result<Artifact, KernelError> {
    let names: Vec<_> =
        ["vmlinux", "vmlinuz"].into_iter().filter(|name| built.path(name).is_file()).collect();
    let image = built.path(names.first().copied().unwrap_or("vmlinux"));
    let image_digest = Digest::of_file(&image).map_err(io_error("read", &image))?;
    let boot = replacement::boot_modules(built, release)?;
    let entries =
        entries_of(&built.path("modules"), &boot).map_err(|(file, error)| io_error("read", &file)(error))?;
    let boot_digest = digest_of(&entries);
    let inputs = [
        ("image", image_digest.as_str()),
        ("release", release),
        ("boot modules", boot_digest.as_str()),
        ("recipe", "kernel proper 1"),
    ];
    workshop.artifact("kernel-own", &inputs, |dir| {
        let log = dir.join("log");
        for name in &names {
            workshop.host.call("cp").arg("-al").arg(built.path(name)).arg(dir.join(name)).run(&log)?;
        }
        let to = dir.join("boot");
        fs::create_dir(&to).map_err(io_error("create", &to))?;
        for (idx, module) in boot.iter().enumerate() {
            let file = module.file_name().unwrap_or_default().to_string_lossy();
            let (from, to) = (built.path("modules").join(module), to.join(format!("{idx:02}-{file}")));
            fs::copy(&from, &to).map_err(io_error("copy to", &to))?;
        }
        let work = workshop.scratch("modules")?;
        let library = work.path().join("modules");
        let empty = library.join(release);
        fs::create_dir_all(&empty).map_err(io_error("create", &empty))?;
        Ok(workshop
            .tools()?
            .squashfs(workshop.host, &library, &dir.join("modules.squashfs"), &[])
            .run(&log)?)
    })
}

/// Refuses a build for which the disk has no room.
fn check_room(workshop: &Workshop<'_>, needed_mib: u64) -> Result<(), KernelError> {
    let path = workshop.store.root();
    let disk =
        rustix::fs::statvfs(path).map_err(|error| io_error("look at the room of", path)(error.into()))?;
    let free_mib = (disk.f_bavail * disk.f_frsize) >> 20;
    if free_mib < needed_mib {
        let path = path.to_owned();
        return Err(UserKernelError::DiskTooSmall { path, needed_mib, free_mib }.into());
    }
    Ok(())
}

/// The release that a build states for its kernel, if it is a valid one: it becomes the name of a folder.
fn checked_release<'r>(release: &'r str, title: &str) -> Result<&'r str, UserKernelError> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte);
    // A kernel's own limit (Makefile, uts_len).
    if release.len() <= 64
        && release.starts_with(|c: char| c.is_ascii_digit())
        && release.bytes().all(is_name)
    {
        return Ok(release);
    }
    let (title, release) = (title.to_owned(), release.chars().take(80).collect());
    Err(UserKernelError::BadRelease { title, release })
}

fn check_marks(from: &str, has: impl Fn(&str) -> bool) -> Result<(), UserKernelError> {
    match MARKS.into_iter().find(|mark| !has(mark)) {
        Some(missing) => Err(UserKernelError::Foreign { from: from.to_owned(), missing }),
        None => Ok(()),
    }
}

/// The compiler of the root for a kernel of this version: older ones do not build with newer compilers.
fn compiler_for(makefile: &str) -> &'static str {
    let version = tree_version(makefile).unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if version >= (6, 6) { "gcc-14" } else { "gcc-12" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_kernels_get_an_older_compiler() {
        let of = |patchlevel: u32| {
            compiler_for(&format!("VERSION = 6\nPATCHLEVEL = {patchlevel}\nSUBLEVEL = 0\n"))
        };
        assert_eq!([of(1), of(5), of(6), of(12)], ["gcc-12", "gcc-12", "gcc-14", "gcc-14"]);
        assert_eq!(compiler_for("VERSION = 7\nPATCHLEVEL = 0\n"), "gcc-14");
    }

    #[test]
    fn a_release_is_no_path() {
        for release in ["6.12.95-md-regress", "7.0.0-rc1+", "6.1.192"] {
            assert_eq!(checked_release(release, "x").unwrap(), release);
        }
        for release in ["", "../../etc", "/etc", "6.12/..", "6.12\n", &"6".repeat(65), "..", "."] {
            assert!(checked_release(release, "x").is_err(), "{release}");
        }
    }

    #[test]
    fn what_is_no_tree_is_named() {
        let error = check_marks("`/x`", |mark| mark != "drivers/md/md.c").unwrap_err();
        assert_eq!(error.to_string(), "`/x` is no kernel tree with md: it has no drivers/md/md.c");
    }
}
