//! A user's kernel repository, as far as a search reads it: revisions, the commits between them, and each
//! commit's changes.
//!
//! The user's work tree, index, HEAD, refs and objects are never written to. New commits (a revert, a series
//! from a mailbox) are made in a repository of our own, [`Scratch`], which borrows the user's objects.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use vm_images::build::git;
use vm_images::host::{Call, Host, HostError, quick};
use xshell::{Cmd, Shell};

use super::graph::{BadGraph, Graph};
use super::mailbox;
use super::state::{SearchEnd, short, shown_paths};
use crate::error::usage;

/// File that a kernel tree must have to be tested here.
const MD: &str = "drivers/md/md.c";

/// A user's git repository.
#[derive(Clone, Debug)]
pub struct Repository<'h> {
    host: &'h Host,
    /// Top folder of its work tree.
    pub top: PathBuf,
    /// Folder of ours for the output of git.
    scratch: PathBuf,
}

impl<'h> Repository<'h> {
    /// Opens the repository that `path` lies in.
    pub fn open(host: &'h Host, path: &Path, scratch: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(usage(anyhow::anyhow!(
                "there is no folder `{}`; name a kernel tree",
                path.display()
            )));
        }
        let here = Repository { host, top: path.to_owned(), scratch: scratch.to_owned() };
        match quick::read_bytes(in_english(&here.shell()?).args(["rev-parse", "--show-toplevel"])) {
            Ok(top) => Ok(Repository { top: path_from(top), ..here }),
            Err(HostError::Failed { tail, .. }) => Err(usage(anyhow::anyhow!(
                "`{}` is in no git work tree: {}; a search goes through a repository's commits",
                path.display(),
                said(&tail)
            ))),
            Err(error) => Err(error.into()),
        }
    }

    fn shell(&self) -> Result<Shell, HostError> {
        self.host.shell(&self.top)
    }

    /// The output of a git command that finishes at once.
    fn ask<A: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = A>) -> Result<String, HostError> {
        quick::read(in_english(&self.shell()?).args(words))
    }

    /// A call of git, for a command that may take long.
    fn call(&self) -> Call<'h> {
        git::call(self.host, &self.top).env("LC_ALL", "C")
    }

    /// The output of a git command that may take long: it walks the commits, or reads trees, which a partial
    /// clone may have to fetch.
    fn read<A: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = A>) -> Result<String, HostError> {
        self.answer(self.call().args(words))
    }

    fn answer(&self, call: Call<'_>) -> Result<String, HostError> {
        let log = tempfile::Builder::new().prefix("git-").tempfile_in(&self.scratch);
        let log = log.map_err(|source| HostError::Log { path: self.scratch.clone(), source })?;
        call.read(log.path())
    }

    /// Resolves `rev` to a commit.
    pub fn commit(&self, rev: &str) -> Result<SearchEnd> {
        let wanted = format!("{rev}^{{commit}}");
        match self.ask(["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]) {
            Ok(id) => {
                let id = id.trim().to_owned();
                let title = self.ask(["log", "-1", "--format=%s", &id, "--"])?;
                Ok(SearchEnd { name: rev.to_owned(), id, title: title.trim_end_matches('\n').to_owned() })
            }
            Err(HostError::Failed { .. }) => Err(usage(anyhow::anyhow!(
                "`{}` has no commit `{rev}`; fetch it first, if it is somebody else's",
                self.top.display()
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns an error unless `commit` has md.
    pub fn check_md(&self, commit: &SearchEnd) -> Result<()> {
        match self.read(["cat-file", "-e", &format!("{}:{MD}", commit.id)]) {
            Ok(_) => Ok(()),
            Err(HostError::Failed { .. }) => Err(usage(anyhow::anyhow!(
                "commit {} (`{}`) of `{}` has no {MD}: is that a kernel tree?",
                short(&commit.id),
                commit.name,
                self.top.display()
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns an error unless `old` is an ancestor of `new`.
    pub fn check_ancestor(&self, old: &SearchEnd, new: &SearchEnd, terms: (&str, &str)) -> Result<()> {
        match self.read(["merge-base", "--is-ancestor", &old.id, &new.id]) {
            Ok(_) => return Ok(()),
            Err(HostError::Failed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let (of_old, of_new) = terms;
        let (old_name, new_name) = (&old.name, &new.name);
        if self.read(["merge-base", "--is-ancestor", &new.id, &old.id]).is_ok() {
            let what_to_do = match of_old {
                "base" => "are they the wrong way round?",
                "bad" => "if the bug came later, leave --find-fix out",
                _ => "if the bug was there before and is gone, search for what mended it, with --find-fix",
            };
            return Err(usage(anyhow::anyhow!(
                "{of_new} `{new_name}` is an ancestor of {of_old} `{old_name}`, and must come after it; {what_to_do}"
            )));
        }
        let hint = match self.read(["merge-base", &old.id, &new.id]) {
            Ok(base) => {
                format!("they part at {}; test that one, or give it as --{of_old}", short(base.trim()))
            }
            Err(_) => "they have no ancestor in common".to_owned(),
        };
        Err(usage(anyhow::anyhow!("{of_old} `{old_name}` is no ancestor of {of_new} `{new_name}`: {hint}")))
    }

    /// The commits after `old` up to `new` that touch `paths`, or all if that is empty.
    pub fn graph(&self, old: &SearchEnd, new: &SearchEnd, paths: &[String]) -> Result<Graph> {
        let not_old = format!("^{}", old.id);
        let mut words = vec!["rev-list", "--topo-order", "--reverse", "--parents", "--format=%s"];
        words.extend([new.id.as_str(), not_old.as_str(), "--"]);
        words.extend(paths.iter().map(String::as_str));
        let listed = Graph::parse(&self.read(&words)?);
        listed.map_err(|error| match error {
            BadGraph::Empty(_) if paths.is_empty() => {
                usage(anyhow::anyhow!("`{}` and `{}` are the same commit", old.name, new.name))
            }
            BadGraph::Empty(_) => usage(anyhow::anyhow!(
                "no commit between `{}` and `{}` touches {}",
                old.name,
                new.name,
                shown_paths(paths)
            )),
            error @ (BadGraph::Line(_) | BadGraph::Loose(_)) => error.into(),
        })
    }

    /// The output of `git show --stat` for a commit.
    pub fn show(&self, id: &str) -> Result<String> {
        Ok(self.read(["show", "--stat", "--format=medium", "--no-color", id, "--"])?)
    }

    /// Full ids of a commit's parents.
    pub(crate) fn parents(&self, id: &str) -> Result<Vec<String>> {
        let line = self.ask(["rev-list", "--parents", "-1", id, "--"])?;
        Ok(line.split_whitespace().skip(1).map(str::to_owned).collect())
    }

    fn path_of(&self, what: &str) -> Result<PathBuf> {
        let path = quick::read_bytes(in_english(&self.shell()?).args(["rev-parse", "--git-path", what]))?;
        Ok(self.top.join(path_from(path)))
    }
}

/// Git in the folder of `shell`, with its words in English: [`said`] reads them.
fn in_english(shell: &Shell) -> Cmd<'_> {
    git::quick_call(shell).env("LC_ALL", "C")
}

/// A path that git printed on a line of its own.
fn path_from(mut line: Vec<u8>) -> PathBuf {
    line.pop_if(|byte| *byte == b'\n');
    PathBuf::from(OsString::from_vec(line))
}

/// A repository of our own that borrows another's objects. It has an index but no work tree.
#[derive(Debug)]
pub struct Scratch<'h> {
    repository: Repository<'h>,
}

/// Why a commit was not made in a [`Scratch`].
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The change does not apply, in git's words.
    #[error("{0}")]
    DoesNotApply(String),
    /// Any other error.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl From<HostError> for ScratchError {
    fn from(error: HostError) -> Self {
        ScratchError::Failed(error.into())
    }
}

impl<'h> Scratch<'h> {
    /// Creates one in `dir`, which must be ours and stay as long as its commits are used.
    pub fn create(of: &Repository<'h>, dir: &Path) -> Result<Self> {
        let failed = || format!("failed to make a repository in `{}`", dir.display());
        fs::create_dir_all(dir).with_context(failed)?;
        let dir = dir.canonicalize().with_context(failed)?;
        let repository = Repository { host: of.host, top: dir.clone(), scratch: of.scratch.clone() };
        repository.ask(["init", "--quiet"]).with_context(failed)?;
        let borrowed = [of.path_of("objects")?.as_os_str().as_bytes(), b"\n"].concat();
        fs::write(dir.join(".git/objects/info/alternates"), borrowed).with_context(failed)?;
        // In a shallow clone the oldest commits lack their parents; this repository has to know that, too.
        let shallow = of.path_of("shallow")?;
        if shallow.is_file() {
            fs::copy(shallow, dir.join(".git/shallow")).with_context(failed)?;
        }
        Ok(Scratch { repository })
    }

    /// Folder of this repository.
    pub fn dir(&self) -> &Path {
        &self.repository.top
    }

    /// Makes a commit that is `tip` with `culprit` reverted; returns its id.
    pub fn revert(&self, culprit: &str, tip: &str) -> Result<String, ScratchError> {
        let parents = self.repository.parents(culprit)?;
        let [parent] = &parents[..] else {
            return Err(ScratchError::DoesNotApply(
                "it is a merge, which is not taken back as a whole".into(),
            ));
        };
        self.repository.read(["read-tree", tip])?;
        let patch = self.dir().join(".git/culprit.patch");
        let diff = self.repository.call().args(["diff-tree", "-p", "--binary", "--full-index"]);
        let diff = diff.arg(option("--output=", &patch)).args([parent, culprit]);
        self.repository.answer(diff)?;
        self.apply(&patch, &["--reverse"])?;
        let message = format!("Revert {}", short(culprit));
        self.commit(tip, ["-m", &message], &[])
    }

    /// Applies the mails of `mbox` on `base`; returns the ids of the commits in the order of the series.
    pub fn apply_mailbox(&self, base: &str, mbox: &Path) -> Result<Vec<String>, ScratchError> {
        let mails = self.dir().join(".git/mails");
        fs::create_dir_all(&mails).context("failed to make a folder for mails")?;
        let out = option("-o", &mails);
        let mbox = mbox.canonicalize().with_context(|| format!("failed to read `{}`", mbox.display()));
        let mbox = mbox.map_err(usage)?;
        let n = match self.repository.ask(["mailsplit".as_ref(), out.as_os_str(), mbox.as_os_str()]) {
            Err(HostError::Failed { .. }) => {
                return Err(ScratchError::DoesNotApply(
                    "it is no mailbox, as git format-patch writes it".into(),
                ));
            }
            came => came?,
        };
        let n: usize = n.trim().parse().context("git mailsplit did not say how many mails there are")?;
        self.repository.read(["read-tree", base])?;
        let (mut tip, mut made) = (base.to_owned(), Vec::new());
        let heads: Result<Vec<_>> = (1..=n)
            .map(|number| {
                let mail = mails.join(format!("{number:04}"));
                let text = fs::read(&mail).with_context(|| format!("failed to read mail {number}"))?;
                Ok(mailbox::head(&String::from_utf8_lossy(&text)))
            })
            .collect();
        let order = mailbox::order(&heads?)
            .map_err(|missing| ScratchError::DoesNotApply(format!("{missing} is not in it")))?;
        for number in order.into_iter().map(|idx| idx + 1) {
            let file = |name: &str| mails.join(format!("{number:04}{name}"));
            let (mail, message, patch) = (file(""), file(".message"), file(".patch"));
            let call = self.repository.call().arg("mailinfo").args([&message, &patch]).stdin_file(&mail);
            let info = self.repository.answer(call)?;
            let field =
                |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let subject = field("Subject: ");
            let is_patch = fs::read_to_string(&patch)
                .is_ok_and(|text| text.contains("\ndiff --git ") || text.contains("\n--- "));
            if !is_patch {
                // This mail is a cover letter.
                continue;
            }
            self.apply(&patch, &[]).map_err(|error| match error {
                ScratchError::DoesNotApply(why) => {
                    ScratchError::DoesNotApply(format!("mail {number} (\"{subject}\"): {why}"))
                }
                failed @ ScratchError::Failed(_) => failed,
            })?;
            let body = fs::read_to_string(&message).unwrap_or_default();
            fs::write(&message, format!("{subject}\n\n{body}"))
                .context("failed to write a commit's message")?;
            let author = [
                ("GIT_AUTHOR_NAME", field("Author: ")),
                ("GIT_AUTHOR_EMAIL", field("Email: ")),
                ("GIT_AUTHOR_DATE", field("Date: ")),
            ];
            tip = self.commit(&tip, ["-F".as_ref(), message.as_os_str()], &author)?;
            made.push(tip.clone());
        }
        Ok(made)
    }

    fn apply(&self, patch: &Path, words: &[&str]) -> Result<(), ScratchError> {
        let call = self.repository.call().args(["apply", "--cached", "--3way"]).args(words).arg(patch);
        match self.repository.answer(call) {
            Ok(_) => Ok(()),
            Err(HostError::Failed { tail, .. }) => Err(ScratchError::DoesNotApply(said(&tail))),
            Err(error) => Err(error.into()),
        }
    }

    fn commit<A: AsRef<OsStr>>(
        &self,
        parent: &str,
        message: impl IntoIterator<Item = A>,
        author: &[(&str, &str)],
    ) -> Result<String, ScratchError> {
        let tree = self.repository.ask(["write-tree"])?;
        let shell = self.repository.shell()?;
        let mut call = in_english(&shell).args(["commit-tree", tree.trim(), "-p", parent]).args(message);
        // A fixed author and date: no configuration of git is needed, and the same change gives the same
        // commit id.
        for (name, value) in
            [("NAME", "md-regress"), ("EMAIL", "md-regress@localhost"), ("DATE", "1700000000 +0000")]
        {
            let given = author.iter().find(|(of, value)| of.ends_with(name) && !value.is_empty());
            call = call.env(format!("GIT_AUTHOR_{name}"), given.map_or(value, |(_, value)| value));
            call = call.env(format!("GIT_COMMITTER_{name}"), value);
        }
        Ok(quick::read(call)?.trim().to_owned())
    }
}

/// An option of git with a path right behind its name.
fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

/// The output of git in one line.
fn said(tail: &str) -> String {
    let lines = tail.lines().map(|line| line.trim_start_matches([' ', '|']).trim());
    let telling = |line: &&str| !line.is_empty();
    let line = lines.clone().find(|line| line.starts_with("error: ") || line.starts_with("fatal: "));
    let line = line.or_else(|| lines.clone().find(telling)).unwrap_or("git said nothing");
    line.trim_start_matches("error: ").trim_start_matches("fatal: ").to_owned()
}

#[cfg(test)]
#[path = "git_tests.rs"]
pub(crate) mod tests;
