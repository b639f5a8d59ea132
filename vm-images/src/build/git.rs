//! Commits of a user's git repository that kernels are built from: which one is meant, its files, and their
//! content.
//!
//! Only the repository's objects are read: never the work tree, the index or HEAD (but where a revision names
//! it).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use xshell::{Cmd, Shell};

use crate::build::files::{Entries, Entry, Kind, leads_elsewhere};
use crate::host::{Call, Host, HostError, quick};
use crate::spec::revision::Revision;

/// Number of blobs that are asked for at once: git's answer is held in memory.
const N_BLOBS_AT_ONCE: usize = 2000;

/// Why a commit cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The folder is in no repository, or in one that git refuses.
    #[error("`{}` is not in a git repository that git reads: {why}", path.display())]
    NoRepository {
        /// The folder as the user named it.
        path: PathBuf,
        /// Git's error.
        why: String,
    },
    /// No such commit.
    #[error(
        "the repository of `{}` has no commit `{rev}`; `git -C {} log` shows what there is (fetch it first, if it \
         is somebody else's)", path.display(), path.display()
    )]
    NoCommit {
        /// The folder as the user named it.
        path: PathBuf,
        /// The revision.
        rev: String,
    },
    /// A file or object of a commit cannot be read.
    #[error("git cannot read commit {commit} of `{}`: {why}", path.display())]
    Unreadable {
        /// The folder as the user named it.
        path: PathBuf,
        /// Its full id.
        commit: String,
        /// Git's error.
        why: String,
    },
    /// The receiver of the contents stopped with an error of its own.
    #[error("interrupted")]
    Stopped,
    /// Git could not be run.
    #[error(transparent)]
    Host(HostError),
    /// A file of ours cannot be used.
    #[error("failed to use `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

/// Variables that git sets when a hook runs us; they may name another repository.
const OF_A_HOOK: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"];
/// Keeps git from refreshing the index.
const NO_LOCKS: (&str, &str) = ("GIT_OPTIONAL_LOCKS", "0");
/// Keep git from starting a daemon, and gpg.
const SETTINGS: [&str; 4] = ["-c", "core.fsmonitor=false", "-c", "log.showSignature=false"];

/// A call of git in `dir`, for a command that may take long: one that walks the history, or reads trees or
/// the work tree. Git is kept from writing what the command does not ask for.
pub fn call<'h>(host: &'h Host, dir: &Path) -> Call<'h> {
    let call = OF_A_HOOK.into_iter().fold(host.call("git").dir(dir), Call::without_env);
    call.env(NO_LOCKS.0, NO_LOCKS.1).args(SETTINGS)
}

/// [`call`] in the folder of `shell`, for a command that finishes at once ([`mod@quick`]).
pub fn quick_call(shell: &Shell) -> Cmd<'_> {
    let git = OF_A_HOOK.into_iter().fold(shell.cmd("git"), Cmd::env_remove);
    git.env(NO_LOCKS.0, NO_LOCKS.1).args(SETTINGS)
}

/// A commit of a user's repository.
#[derive(Clone, Debug)]
pub struct Commit<'h> {
    host: &'h Host,
    /// Folder for git's input and for its complaints.
    scratch: PathBuf,
    /// Folder in the repository, absolute.
    pub path: PathBuf,
    /// `path` below the repository's top, `drivers/md/`, or empty.
    pub prefix: String,
    /// Its full id.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
}

impl<'h> Commit<'h> {
    /// The commit that `revision` names in the repository that its path lies in. `scratch` is a folder of
    /// ours.
    pub fn find(host: &'h Host, revision: &Revision, scratch: &Path) -> Result<Self, GitError> {
        let Revision { path, rev } = revision;
        let nowhere = |why: String| GitError::NoRepository { path: path.to_owned(), why };
        let path = &path.canonicalize().map_err(|error| nowhere(error.to_string()))?;
        let shell = host.shell(path).map_err(GitError::Host)?;
        let prefix = match quick::read(quick_call(&shell).args(["rev-parse", "--show-prefix"])) {
            Ok(prefix) => prefix.trim_end_matches('\n').to_owned(),
            Err(HostError::Failed { tail, .. }) => return Err(nowhere(first_words(&tail))),
            Err(error) => return Err(GitError::Host(error)),
        };
        let wanted = format!("{rev}^{{commit}}");
        let words = ["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted];
        let id = match quick::read(quick_call(&shell).args(words)) {
            Ok(id) => id.trim().to_owned(),
            Err(HostError::Failed { .. }) => {
                return Err(GitError::NoCommit { path: path.clone(), rev: rev.clone() });
            }
            Err(error) => return Err(GitError::Host(error)),
        };
        let scratch = scratch.to_owned();
        let mut commit = Commit { host, scratch, path: path.clone(), prefix, id, subject: String::new() };
        let title = quick::read(quick_call(&shell).args(["log", "-1", "--format=%s", &commit.id, "--"]));
        commit.subject = title.map_err(|error| commit.blame(error))?.trim().chars().take(100).collect();
        Ok(commit)
    }

    /// Exactly this commit again, as a user would name it.
    pub(crate) fn revision(&self) -> Revision {
        Revision { path: self.path.clone(), rev: self.id.clone() }
    }

    /// The first 12 digits of its id, as the kernel's own people write it.
    pub fn short(&self) -> &str {
        &self.id[..self.id.len().min(12)]
    }

    /// Its files below `folder` (from the repository's top, `drivers/md/`, empty for all), named from there.
    /// Submodules are left out.
    pub(crate) fn files(&self, folder: &str, deep: bool) -> Result<Entries, GitError> {
        let mut listing = call(self.host, &self.path).args(["ls-tree", "-z", "--full-tree"]);
        if deep {
            listing = listing.arg("-r");
        }
        listing = listing.arg(&self.id);
        if !folder.is_empty() {
            listing = listing.arg("--").arg(folder);
        }
        let bytes = self.bytes(listing)?;
        let entries = bytes.split(|&byte| byte == 0).filter_map(|line| parse_entry(line, folder));
        let entries: Entries = entries.collect();
        match leads_elsewhere(entries.keys().map(PathBuf::as_path)) {
            None => Ok(entries),
            Some(path) => Err(self.unreadable(format!("its path `{}` leads elsewhere", path.display()))),
        }
    }

    /// The content of a file, from the repository's top; `None` if there is none.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Vec<u8>>, GitError> {
        let Some(entry) = self.files(name, false)?.into_values().next() else { return Ok(None) };
        let mut found = None;
        self.contents(&[&entry.id], |_, bytes| {
            found = Some(bytes.to_vec());
            Ok(())
        })?;
        Ok(found)
    }

    /// Calls `each` with the index and the content of each of the blobs `ids`.
    pub(crate) fn contents(
        &self,
        ids: &[&str],
        mut each: impl FnMut(usize, &[u8]) -> Result<(), GitError>,
    ) -> Result<(), GitError> {
        let asked = self.scratch.join("blobs");
        let io = |error| GitError::Io { path: asked.clone(), error };
        for (chunk_idx, chunk) in ids.chunks(N_BLOBS_AT_ONCE).enumerate() {
            let lines: String = chunk.iter().map(|id| format!("{id}\n")).collect();
            fs::write(&asked, lines).map_err(io)?;
            let ask = call(self.host, &self.path).args(["cat-file", "--batch"]).stdin_file(&asked);
            let answer = self.bytes(ask)?;
            let mut rest = answer.as_slice();
            for (idx, id) in chunk.iter().enumerate() {
                let (content, after) =
                    parse_blob(rest).ok_or_else(|| self.unreadable(format!("blob {id} is missing")))?;
                each(chunk_idx * N_BLOBS_AT_ONCE + idx, content)?;
                rest = after;
            }
        }
        Ok(())
    }

    fn bytes(&self, call: Call<'_>) -> Result<Vec<u8>, GitError> {
        call.read_bytes(&self.scratch.join("git.log")).map_err(|error| self.blame(error))
    }

    fn blame(&self, error: HostError) -> GitError {
        match error {
            HostError::Failed { tail, .. } => self.unreadable(first_words(&tail)),
            other => GitError::Host(other),
        }
    }

    fn unreadable(&self, why: String) -> GitError {
        GitError::Unreadable { path: self.path.clone(), commit: self.id.clone(), why }
    }
}

/// The last line of what a program said, as the tail of its log has it.
fn first_words(tail: &str) -> String {
    let line = tail.lines().last().unwrap_or_default();
    line.trim_start_matches([' ', '|']).to_owned()
}

/// A line of `git ls-tree -z`: `100644 blob 1234…\tdrivers/md/md.c`.
fn parse_entry(line: &[u8], folder: &str) -> Option<(PathBuf, Entry)> {
    let tab = line.iter().position(|&byte| byte == b'\t')?;
    let (words, path) = (std::str::from_utf8(&line[..tab]).ok()?, &line[tab + 1..]);
    let mut words = words.split(' ');
    let kind = match words.next()? {
        "120000" => Kind::Link,
        "100755" => Kind::Executable,
        mode if mode.starts_with("100") => Kind::Plain,
        _ => return None,
    };
    let id = words.nth(1)?.to_owned();
    let below = path.strip_prefix(folder.as_bytes()).filter(|below| !below.is_empty()).unwrap_or(path);
    Some((PathBuf::from(OsStr::from_bytes(below)), Entry { kind, id }))
}

/// The next answer of `git cat-file --batch`: a line `ID blob SIZE`, the content, a newline.
fn parse_blob(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let mut words = std::str::from_utf8(&bytes[..end]).ok()?.split(' ').skip(1);
    if words.next()? != "blob" {
        return None;
    }
    let size: usize = words.next()?.parse().ok()?;
    let rest = &bytes[end + 1..];
    Some((rest.get(..size)?, rest.get(size + 1..)?))
}

#[cfg(test)]
#[path = "git_tests.rs"]
mod tests;
