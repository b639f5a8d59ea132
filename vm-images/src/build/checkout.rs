//! A user's checkout of LVM2 or mdadm: which of its files count, a digest of them, and a copy to build from.
//!
//! Reads the checkout and never writes to it, not even git's index. Builds nothing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::build::files::{self, Kind, leads_elsewhere};
use crate::build::git;
use crate::host::{Call, Host, HostError};
use crate::images::ImageError;
use crate::store::digest::Digest;

/// What can be built from a checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Project {
    /// LVM2, with libdevmapper and its tests.
    Lvm2,
    /// mdadm, with its tests.
    Mdadm,
}

/// Folders to build from instead of Debian's source packages, as a command line names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// LVM2's.
    pub lvm2: Option<PathBuf>,
    /// mdadm's.
    pub mdadm: Option<PathBuf>,
}

/// A checkout as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Checkout {
    /// What it is of.
    pub project: Project,
    /// Where it is, absolute.
    pub dir: PathBuf,
    /// Of names, kinds and content of the files that count. Not of their times.
    pub digest: Digest,
    /// Its commit as git describes it, with `-dirty` if anything is not committed; `None` without git.
    pub commit: Option<String>,
    /// What it says its version is.
    version: Option<String>,
    /// Relative to `dir`, sorted.
    files: Vec<PathBuf>,
}

/// What is wrong with a checkout: the user's to mend, never the host's fault.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// Its folder cannot be used.
    #[error("failed to use `{}` for {}: {error}", path.display(), project.option())]
    NoFolder {
        /// What it should be of.
        project: Project,
        /// As the user named it.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is something else.
    #[error(
        "`{}` is no source tree of {}: it has no `{missing}`; {} wants the top folder of a git work tree or \
         of an unpacked source",
        dir.display(), project.title(), project.option()
    )]
    Foreign {
        /// What it should be of.
        project: Project,
        /// The folder.
        dir: PathBuf,
        /// What it lacks.
        missing: &'static str,
    },
    /// It has a `.git` that git does not like.
    #[error("git cannot tell which files of checkout `{}` count: {error}", dir.display())]
    Git {
        /// The folder.
        dir: PathBuf,
        /// What git said.
        error: HostError,
    },
    /// A file of it cannot be read.
    #[error("failed to read `{}` of checkout `{}`: {error}", file.display(), dir.display())]
    Unreadable {
        /// The folder.
        dir: PathBuf,
        /// Relative to it.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It was edited while we copied it.
    #[error("checkout `{}` changed while it was copied; run again", dir.display())]
    Changed {
        /// The folder.
        dir: PathBuf,
    },
    /// It does not build.
    #[error("{} does not build from checkout `{}`; log: {}\n{lines}", project.title(), dir.display(), log.display())]
    Build {
        /// What did not build.
        project: Project,
        /// The folder.
        dir: PathBuf,
        /// All that the build printed.
        log: PathBuf,
        /// What matters of it.
        lines: String,
    },
}

impl Project {
    /// All of them.
    pub const ALL: [Project; 2] = [Project::Lvm2, Project::Mdadm];

    /// Name of its source package.
    pub fn name(self) -> &'static str {
        match self {
            Project::Lvm2 => "lvm2",
            Project::Mdadm => "mdadm",
        }
    }

    /// As people write it.
    fn title(self) -> &'static str {
        match self {
            Project::Lvm2 => "LVM2",
            Project::Mdadm => "mdadm",
        }
    }

    /// The option that names its checkout.
    fn option(self) -> &'static str {
        match self {
            Project::Lvm2 => "--lvm2-src",
            Project::Mdadm => "--mdadm-src",
        }
    }

    /// Kind of the artifacts that are built from its checkouts: apart from those of packages, because
    /// there is a new one with every edit.
    pub(crate) fn checkout_kind(self) -> &'static str {
        match self {
            Project::Lvm2 => "lvm2-checkout",
            Project::Mdadm => "mdadm-checkout",
        }
    }

    /// What every source tree of it has, and nothing else has all of.
    fn marks(self) -> &'static [&'static str] {
        match self {
            Project::Lvm2 => &["configure", "WHATS_NEW", "test/shell"],
            Project::Mdadm => &["mdadm.h", "Makefile", "tests"],
        }
    }

    fn version_in(self, dir: &Path) -> Option<String> {
        let read = |name| fs::read_to_string(dir.join(name)).ok();
        let version = match self {
            Project::Lvm2 => lvm2_version(&read("VERSION")?)?.to_owned(),
            Project::Mdadm => mdadm_version(&read("ReadMe.c")?)?.to_owned(),
        };
        let is_sane = |c: char| c.is_ascii_alphanumeric() || "().-_+~".contains(c);
        (version.len() <= 40 && version.chars().all(is_sane)).then_some(version)
    }
}

/// `2.03.31(2) (2025-02-27)` → `2.03.31(2)`.
fn lvm2_version(text: &str) -> Option<&str> {
    text.split_whitespace().next()
}

/// `#define VERSION "4.4"` → `4.4`.
fn mdadm_version(text: &str) -> Option<&str> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("#define VERSION"))?;
    line.split('"').nth(1)
}

impl Sources {
    /// The folder that was named for `project`.
    pub fn of(&self, project: Project) -> Option<&Path> {
        match project {
            Project::Lvm2 => self.lvm2.as_deref(),
            Project::Mdadm => self.mdadm.as_deref(),
        }
    }

    /// True if a folder was named for the project of this name.
    pub fn has(&self, name: &str) -> bool {
        Project::ALL.into_iter().any(|project| project.name() == name && self.of(project).is_some())
    }

    /// Looks at all that were named. What git complains of goes to `log`.
    pub fn look_at(&self, host: &Host, log: &Path) -> Result<Vec<Checkout>, ImageError> {
        let named = Project::ALL.into_iter().filter_map(|project| Some((project, self.of(project)?)));
        named.map(|(project, dir)| Checkout::look_at(host, project, dir, log)).collect()
    }
}

impl Checkout {
    /// Finds out what the checkout of `project` in `dir` holds now. What git complains of goes to `log`.
    pub fn look_at(host: &Host, project: Project, dir: &Path, log: &Path) -> Result<Self, ImageError> {
        let dir = dir.canonicalize().map_err(|error| CheckoutError::NoFolder {
            project,
            path: dir.to_owned(),
            error,
        })?;
        if let Some(missing) = project.marks().iter().find(|mark| !dir.join(mark).exists()) {
            return Err(CheckoutError::Foreign { project, dir, missing }.into());
        }
        // A work tree of its own, not a folder that happens to lie in somebody else's.
        let git = dir.join(".git").exists().then(|| Git { host, dir: &dir, log });
        let files = match &git {
            Some(git) => git.files()?,
            None => all_files(&dir)?,
        };
        let digest = digest_of(&dir, &files).map_err(unreadable(&dir))?;
        let commit = match &git {
            Some(git) => git.commit()?,
            None => None,
        };
        let version = project.version_in(&dir);
        Ok(Checkout { project, dir, digest, commit, version, files })
    }

    /// Its version, and which checkout it is: `2.03.31(2)+checkout v2_03_31-5-g0a1b2c-dirty`.
    pub fn version(&self) -> String {
        self.version_as(self.commit.as_deref().unwrap_or(self.digest.short()))
    }

    /// The same by its content alone: what may be written into an artifact, which outlives the commit.
    pub(crate) fn version_by_content(&self) -> String {
        self.version_as(self.digest.short())
    }

    fn version_as(&self, which: &str) -> String {
        format!("{}+checkout {which}", self.version.as_deref().unwrap_or("unknown"))
    }

    /// Copies the files that count into the new folder `to`, all with the same time: make must go by what
    /// there is, not by the order in which files were checked out or copied.
    pub(crate) fn copy_to(&self, to: &Path) -> Result<(), ImageError> {
        copy_files(&self.dir, &self.files, &self.digest, to)
    }

    /// Why its build failed, if that is the checkout's doing.
    pub(crate) fn blame(&self, error: HostError) -> ImageError {
        let HostError::Failed { log, .. } = &error else { return error.into() };
        let text = fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if HOST_IS_TO_BLAME.iter().any(|words| text.contains(words)) {
            return error.into();
        }
        let lines = telling_lines(&text).into_iter().map(|line| format!("  | {line}\n")).collect();
        let (project, dir, log) = (self.project, self.dir.clone(), log.clone());
        CheckoutError::Build { project, dir, log, lines }.into()
    }
}

/// What compilers print when it is the host that fails.
pub(crate) const HOST_IS_TO_BLAME: [&str; 6] = [
    "No space left on device",
    "Cannot allocate memory",
    "Killed signal terminated program",
    // The linker, which has nobody to say so for it.
    "Error 137",
    "Disk quota exceeded",
    "Input/output error",
];

/// How many lines of a failed build are shown.
const N_LINES_SHOWN: usize = 12;
/// How much of each, in characters: a compiler's call may take a page.
const N_CHARS_SHOWN: usize = 200;

/// The lines of a failed build that say why: from the first error on, because other jobs of make go on
/// printing after it; the last ones if none looks like an error.
pub(crate) fn telling_lines(text: &str) -> Vec<String> {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tells = |line: &&str| {
        [" error: ", "undefined reference to", "ERROR: modpost"].iter().any(|words| line.contains(words))
    };
    let last = lines.len().saturating_sub(N_LINES_SHOWN);
    let from = lines.iter().position(tells).unwrap_or(last);
    let clipped = |line: &str| match line.char_indices().nth(N_CHARS_SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    };
    lines.into_iter().skip(from).take(N_LINES_SHOWN).map(clipped).collect()
}

/// Copies `files` of `dir` into the new folder `to`; an error if they are not those of `digest`.
pub(crate) fn copy_files(
    dir: &Path,
    files: &[PathBuf],
    digest: &Digest,
    to: &Path,
) -> Result<(), ImageError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| ImageError::Io { what: "copy a checkout to", path, source }
    };
    fs::create_dir(to).map_err(at(to))?;
    for file in files {
        let (from, to) = (dir.join(file), to.join(file));
        // What is gone by now shows in the digest below.
        let Some(kind) = Kind::of(&from).map_err(|error| unreadable(dir)((file.clone(), error)))? else {
            continue;
        };
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        copy(kind, &from, &to).map_err(at(&to))?;
    }
    // They may have been edited since they were looked at, and what is built must be what it is called.
    let copied = digest_of(to, files).map_err(unreadable(to))?;
    if copied == *digest { Ok(()) } else { Err(CheckoutError::Changed { dir: dir.to_owned() }.into()) }
}

/// What git says of a work tree.
struct Git<'a> {
    host: &'a Host,
    dir: &'a Path,
    log: &'a Path,
}

impl Git<'_> {
    fn call(&self, command: &str) -> Call<'_> {
        git::call(self.host, self.dir, command)
    }

    fn blame(&self, error: HostError) -> ImageError {
        match error {
            error @ HostError::Failed { .. } => CheckoutError::Git { dir: self.dir.to_owned(), error }.into(),
            error @ (HostError::Cancelled | HostError::NotStarted { .. } | HostError::Log { .. }) => {
                error.into()
            }
        }
    }

    /// Files that are tracked, or not ignored. Repositories within it are not followed: neither LVM2 nor
    /// mdadm has any.
    fn files(&self) -> Result<Vec<PathBuf>, ImageError> {
        let call = self.call("ls-files").args(["-z", "--cached", "--others", "--exclude-standard"]);
        let list = call.read_bytes(self.log).map_err(|error| self.blame(error))?;
        let names: BTreeSet<_> = list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).collect();
        let paths = names.into_iter().map(|name| PathBuf::from(OsStr::from_bytes(name)));
        keep_files(self.dir, paths)
    }

    /// Like `git describe --dirty`, which would write to the index, and does not count new files.
    fn commit(&self) -> Result<Option<String>, ImageError> {
        let commit = match self.call("describe").args(["--always", "--abbrev=12"]).read(self.log) {
            Ok(commit) => commit.trim().to_owned(),
            // There is no commit yet.
            Err(HostError::Failed { .. }) => return Ok(None),
            Err(error) => return Err(self.blame(error)),
        };
        let status = self.call("status").arg("--porcelain").read(self.log);
        let is_dirty = !status.map_err(|error| self.blame(error))?.is_empty();
        Ok(Some(if is_dirty { format!("{commit}-dirty") } else { commit }))
    }
}

/// Files of a work tree that are tracked, or not ignored.
pub(crate) fn git_files(host: &Host, dir: &Path, log: &Path) -> Result<Vec<PathBuf>, ImageError> {
    Git { host, dir, log }.files()
}

/// All files of a folder that git knows nothing of.
pub(crate) fn all_files(dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let mut paths = Vec::new();
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.map_err(|error| {
            let file = error.path().unwrap_or(dir).to_owned();
            unreadable(dir)((file, error.into()))
        })?;
        paths.extend(entry.path().strip_prefix(dir).ok().map(Path::to_owned));
    }
    paths.sort();
    keep_files(dir, paths.into_iter())
}

/// Without what is not there (deleted, and still in the index), folders, sockets and the like.
fn keep_files(dir: &Path, paths: impl Iterator<Item = PathBuf>) -> Result<Vec<PathBuf>, ImageError> {
    let mut files = Vec::new();
    for path in paths {
        match Kind::of(&dir.join(&path)) {
            Ok(Some(_)) => files.push(path),
            Ok(None) => {}
            Err(error) => return Err(unreadable(dir)((path, error)).into()),
        }
    }
    match leads_elsewhere(files.iter().map(PathBuf::as_path)) {
        None => Ok(files),
        Some(path) => {
            let error = io::Error::other("its path leads elsewhere, through a link or `..`");
            Err(unreadable(dir)((path.to_owned(), error)).into())
        }
    }
}

/// Copies one file; all copies have the same time.
fn copy(kind: Kind, from: &Path, to: &Path) -> io::Result<()> {
    if kind == Kind::Link {
        return symlink(fs::read_link(from)?, to);
    }
    fs::copy(from, to)?;
    fs::set_permissions(to, Permissions::from_mode(kind.mode()))?;
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::open(to)?.set_times(FileTimes::new().set_modified(then))
}

/// Digest of names, kinds and content.
pub(crate) fn digest_of(dir: &Path, files: &[PathBuf]) -> Result<Digest, (PathBuf, io::Error)> {
    Ok(files::digest_of(&files::entries_of(dir, files)?))
}

pub(crate) fn unreadable(dir: &Path) -> impl Fn((PathBuf, io::Error)) -> CheckoutError {
    move |(file, error)| CheckoutError::Unreadable { dir: dir.to_owned(), file, error }
}

#[cfg(test)]
#[path = "checkout_tests.rs"]
mod tests;
