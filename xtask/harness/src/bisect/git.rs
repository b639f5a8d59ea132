//! A user's kernel repository, as far as a search reads it: revisions, what lies between them, what a commit changes.
//!
//! The work tree, the index, HEAD, refs and objects of the user's are never written to. What has to be made (a commit
//! taken back, a series from a mailbox) is made in a repository of our own, [`Scratch`], which borrows the user's objects.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use vm_images::host::{Call, Host, HostError};

use super::graph::{BadGraph, Graph};
use super::mailbox;
use super::state::{End, short, shown_paths};
use crate::error::usage;

/// What makes a kernel tree one that can be tested here.
const MD: &str = "drivers/md/md.c";

/// A repository.
#[derive(Clone, Debug)]
pub struct Repository<'h> {
    host: &'h Host,
    /// Its top folder.
    pub top: PathBuf,
    /// Folder of ours for what git says.
    scratch: PathBuf,
}

impl<'h> Repository<'h> {
    /// The one that `path` lies in.
    pub fn open(host: &'h Host, path: &Path, scratch: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(usage(anyhow::anyhow!(
                "there is no folder `{}`; name a kernel tree",
                path.display()
            )));
        }
        let here = Repository { host, top: path.to_owned(), scratch: scratch.to_owned() };
        match here.read(&["rev-parse", "--show-toplevel"]) {
            Ok(top) => Ok(Repository { top: PathBuf::from(top.trim_end_matches('\n')), ..here }),
            Err(HostError::Failed { tail, .. }) => Err(usage(anyhow::anyhow!(
                "`{}` is in no git work tree: {}; a search goes through a repository's commits",
                path.display(),
                said(&tail)
            ))),
            Err(error) => Err(error.into()),
        }
    }

    fn call(&self, words: &[&str]) -> Call<'h> {
        call(self.host, &self.top).args(words)
    }

    fn read(&self, words: &[&str]) -> Result<String, HostError> {
        let log = tempfile::Builder::new().prefix("git-").tempfile_in(&self.scratch);
        let log = log.map_err(|source| HostError::Log { path: self.scratch.clone(), source })?;
        self.call(words).read(log.path())
    }

    /// The commit that `rev` names.
    pub fn commit(&self, rev: &str) -> Result<End> {
        let wanted = format!("{rev}^{{commit}}");
        match self.read(&["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]) {
            Ok(id) => {
                let id = id.trim().to_owned();
                let title = self.read(&["log", "-1", "--format=%s", &id, "--"])?;
                Ok(End { name: rev.to_owned(), id, title: title.trim_end_matches('\n').to_owned() })
            }
            Err(HostError::Failed { .. }) => Err(usage(anyhow::anyhow!(
                "`{}` has no commit `{rev}`; fetch it first, if it is somebody else's",
                self.top.display()
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// An error unless `commit` has md.
    pub fn check_md(&self, commit: &End) -> Result<()> {
        match self.read(&["cat-file", "-e", &format!("{}:{MD}", commit.id)]) {
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

    /// An error unless `old` is an ancestor of `new`.
    pub fn check_ancestor(&self, old: &End, new: &End, terms: (&str, &str)) -> Result<()> {
        match self.read(&["merge-base", "--is-ancestor", &old.id, &new.id]) {
            Ok(_) => return Ok(()),
            Err(HostError::Failed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let (of_old, of_new) = terms;
        let (old_name, new_name) = (&old.name, &new.name);
        if self.read(&["merge-base", "--is-ancestor", &new.id, &old.id]).is_ok() {
            let what_to_do = match of_old {
                "base" => "are they the wrong way round?",
                "bad" => "if the bug came later, leave --find-fix out",
                _ => "if the bug was there before and is gone, search for what mended it, with --find-fix",
            };
            return Err(usage(anyhow::anyhow!(
                "{of_new} `{new_name}` is an ancestor of {of_old} `{old_name}`, and must come after it; {what_to_do}"
            )));
        }
        let hint = match self.read(&["merge-base", &old.id, &new.id]) {
            Ok(base) => {
                format!("they part at {}; test that one, or give it as --{of_old}", short(base.trim()))
            }
            Err(_) => "they have no ancestor in common".to_owned(),
        };
        Err(usage(anyhow::anyhow!("{of_old} `{old_name}` is no ancestor of {of_new} `{new_name}`: {hint}")))
    }

    /// What lies after `old`, up to `new`, as far as it touches `paths`.
    pub fn graph(&self, old: &End, new: &End, paths: &[String]) -> Result<Graph> {
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

    /// What `git show --stat` says of a commit.
    pub fn show(&self, id: &str) -> Result<String> {
        Ok(self.read(&["show", "--stat", "--format=medium", "--no-color", id, "--"])?)
    }

    /// Its parents.
    pub(crate) fn parents(&self, id: &str) -> Result<Vec<String>> {
        let line = self.read(&["rev-list", "--parents", "-1", id, "--"])?;
        Ok(line.split_whitespace().skip(1).map(str::to_owned).collect())
    }

    fn path_of(&self, what: &str) -> Result<PathBuf> {
        let path = self.read(&["rev-parse", "--git-path", what])?;
        Ok(self.top.join(path.trim_end_matches('\n')))
    }
}

/// git in `dir`, deaf to what the caller's environment says of another repository.
fn call<'h>(host: &'h Host, dir: &Path) -> Call<'h> {
    let mut call = host.call("git").dir(dir);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"] {
        call = call.without_env(name);
    }
    // The first lest it writes to the index, the second lest it starts a daemon.
    call.env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C").args(["-c", "core.fsmonitor=false"])
}

/// A repository of our own that borrows another's objects. It has no work tree: an index is enough.
#[derive(Debug)]
pub struct Scratch<'h> {
    repository: Repository<'h>,
}

/// Why something was not made in a [`Scratch`].
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The change does not fit.
    #[error("{0}")]
    DoesNotApply(String),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl From<HostError> for ScratchError {
    fn from(error: HostError) -> Self {
        ScratchError::Failed(error.into())
    }
}

impl<'h> Scratch<'h> {
    /// One in `dir`, which is ours and stays as long as its commits are wanted.
    pub fn create(of: &Repository<'h>, dir: &Path) -> Result<Self> {
        let failed = || format!("failed to make a repository in `{}`", dir.display());
        fs::create_dir_all(dir).with_context(failed)?;
        let dir = dir.canonicalize().with_context(failed)?;
        let repository = Repository { host: of.host, top: dir.clone(), scratch: of.scratch.clone() };
        repository.read(&["init", "--quiet"]).with_context(failed)?;
        let borrowed = format!("{}\n", of.path_of("objects")?.display());
        fs::write(dir.join(".git/objects/info/alternates"), borrowed).with_context(failed)?;
        // A shallow clone lacks what its oldest commits come from, and must say so here, too.
        let shallow = of.path_of("shallow")?;
        if shallow.is_file() {
            fs::copy(shallow, dir.join(".git/shallow")).with_context(failed)?;
        }
        Ok(Scratch { repository })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.repository.top
    }

    /// A commit that is `tip` without what `culprit` did.
    pub fn revert(&self, culprit: &str, tip: &str) -> Result<String, ScratchError> {
        let parents = self.repository.parents(culprit)?;
        let [parent] = &parents[..] else {
            return Err(ScratchError::DoesNotApply(
                "it is a merge, which is not taken back as a whole".into(),
            ));
        };
        self.repository.read(&["read-tree", tip])?;
        let patch = self.dir().join(".git/culprit.patch");
        let file = format!("--output={}", patch.display());
        self.repository.read(&["diff-tree", "-p", "--binary", "--full-index", &file, parent, culprit])?;
        self.apply(&patch, &["--reverse"])?;
        let message = format!("Revert {}", short(culprit));
        self.commit(tip, &["-m", &message], &[])
    }

    /// The commits that `mbox` makes on `base`, in the order of the series.
    pub fn apply_mailbox(&self, base: &str, mbox: &Path) -> Result<Vec<String>, ScratchError> {
        let mails = self.dir().join(".git/mails");
        fs::create_dir_all(&mails).context("failed to make a folder for mails")?;
        let out = format!("-o{}", mails.display());
        let mbox = mbox.canonicalize().with_context(|| format!("failed to read `{}`", mbox.display()));
        let mbox = mbox.map_err(usage)?;
        let n = match self.repository.read(&["mailsplit", &out, &mbox.to_string_lossy()]) {
            Err(HostError::Failed { .. }) => {
                return Err(ScratchError::DoesNotApply(
                    "it is no mailbox, as git format-patch writes it".into(),
                ));
            }
            came => came?,
        };
        let n: usize = n.trim().parse().context("git mailsplit did not say how many mails there are")?;
        self.repository.read(&["read-tree", base])?;
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
            let words = ["-c", r#"git mailinfo "$1" "$2" <"$3""#, "sh"];
            let log = file(".log");
            let call = self.repository.host.call("sh").dir(self.dir()).args(words);
            let info = call.args([&message, &patch, &mail]).read(&log)?;
            let field =
                |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let subject = field("Subject: ");
            let is_patch = fs::read_to_string(&patch)
                .is_ok_and(|text| text.contains("\ndiff --git ") || text.contains("\n--- "));
            if !is_patch {
                // A cover letter.
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
            tip = self.commit(&tip, &["-F", &message.to_string_lossy()], &author)?;
            made.push(tip.clone());
        }
        Ok(made)
    }

    fn apply(&self, patch: &Path, words: &[&str]) -> Result<(), ScratchError> {
        let patch = patch.to_string_lossy();
        let all = [&["apply", "--cached", "--3way"], words, &[&patch]].concat();
        match self.repository.read(&all) {
            Ok(_) => Ok(()),
            Err(HostError::Failed { tail, .. }) => Err(ScratchError::DoesNotApply(said(&tail))),
            Err(error) => Err(error.into()),
        }
    }

    fn commit(
        &self,
        parent: &str,
        message: &[&str],
        author: &[(&str, &str)],
    ) -> Result<String, ScratchError> {
        let tree = self.repository.read(&["write-tree"])?;
        let mut call = self.repository.call(&["commit-tree", tree.trim(), "-p", parent]).args(message);
        // Nobody's configuration is needed, and the same change makes the same commit.
        for (name, value) in
            [("NAME", "md-regress"), ("EMAIL", "md-regress@localhost"), ("DATE", "1700000000 +0000")]
        {
            let given = author.iter().find(|(of, value)| of.ends_with(name) && !value.is_empty());
            call = call.env(format!("GIT_AUTHOR_{name}"), given.map_or(value, |(_, value)| value));
            call = call.env(format!("GIT_COMMITTER_{name}"), value);
        }
        Ok(call.read(&self.dir().join(".git/commit.log"))?.trim().to_owned())
    }
}

/// git's own words, in a line.
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
