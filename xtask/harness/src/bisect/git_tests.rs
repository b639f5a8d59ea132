//! Tests on toy repositories, with the real git.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use vm_images::host::Cancel;

/// Content of every file, and its time if that matters.
type Looks = BTreeMap<PathBuf, (Vec<u8>, Option<std::time::SystemTime>)>;

/// A repository with drivers/md, and a way to see every change to it.
pub(crate) struct Toy {
    pub(crate) host: Host,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) scratch: tempfile::TempDir,
}

impl Toy {
    pub(crate) fn new() -> Toy {
        Toy::named("toy")
    }

    /// One in folders whose names begin with `name`.
    fn named(name: impl AsRef<OsStr>) -> Toy {
        let folder = || tempfile::Builder::new().prefix(name.as_ref()).tempdir().unwrap();
        let toy = Toy { host: Host::new(Cancel::default()), dir: folder(), scratch: folder() };
        toy.git(&["init", "--quiet", "--initial-branch=main"]);
        toy
    }

    pub(crate) fn git(&self, words: &[&str]) -> String {
        let shell = self.host.shell(self.dir.path()).unwrap();
        // Automatic maintenance would go on writing in the background.
        let mut call = in_english(&shell).args(["-c", "maintenance.auto=false", "-c", "gc.auto=0"]);
        for (name, value) in [("NAME", "A U Thor"), ("EMAIL", "author@example.org")] {
            call = call.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
        }
        quick::read(call.args(words)).unwrap()
    }

    /// Commits files; gives the commit's id.
    pub(crate) fn commit(&self, title: &str, files: &[(&str, &str)]) -> String {
        for (name, text) in files {
            let path = self.dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", title]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    pub(crate) fn open(&self) -> Repository<'_> {
        Repository::open(&self.host, self.dir.path(), self.scratch.path()).unwrap()
    }

    /// Every file with its content and time. Objects have no time here: git updates the time of objects that
    /// it would have written, also in a repository that it borrows from, so that they survive the next
    /// clean-up (object-file.c, `freshen_loose_object`).
    pub(crate) fn looks(&self) -> Looks {
        let files = walkdir::WalkDir::new(self.dir.path()).into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        files
            .map(|entry| {
                let content = fs::read(entry.path()).unwrap();
                let is_object = entry.path().starts_with(self.dir.path().join(".git/objects"));
                let time = (!is_object).then(|| entry.metadata().unwrap().modified().unwrap());
                (entry.path().to_owned(), (content, time))
            })
            .collect()
    }
}

/// Names of the files that differ.
fn differences(before: &Looks, after: &Looks) -> Vec<PathBuf> {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

fn numbered(n: usize) -> String {
    (0..20)
        .map(|line| if line == n { format!("line {line}, edited\n") } else { format!("line {line}\n") })
        .collect()
}

fn error<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert!(error.is::<crate::error::UsageError>(), "{error:#}");
    error.to_string()
}

#[test]
fn what_is_no_repository_is_said() {
    let toy = Toy::new();
    let empty = tempfile::tempdir().unwrap();
    let open = |path: &Path| error(Repository::open(&toy.host, path, toy.scratch.path()));
    assert!(open(empty.path()).contains("is in no git work tree"), "{}", open(empty.path()));
    assert!(open(&empty.path().join("nowhere")).contains("there is no folder"));
}

#[test]
fn ends_that_make_no_sense_are_said() {
    let toy = Toy::new();
    let base = toy.commit("base", &[("README", "x")]);
    let md = toy.commit("md", &[(MD, "x")]);
    toy.git(&["checkout", "--quiet", "-b", "side", &base]);
    let side = toy.commit("side", &[("other", "x")]);
    let repository = toy.open();
    let commit = |id: &str| repository.commit(id).unwrap();
    assert!(error(repository.commit("v6.6")).contains("has no commit `v6.6`"));
    assert!(error(repository.check_md(&commit(&base))).contains("has no drivers/md/md.c"));
    repository.check_md(&commit(&md)).unwrap();
    let terms = ("good", "bad");
    repository.check_ancestor(&commit(&base), &commit(&md), terms).unwrap();
    let parted = error(repository.check_ancestor(&commit(&side), &commit(&md), terms));
    assert!(parted.contains(&format!("they part at {}", short(&base))), "{parted}");
    let turned = error(repository.check_ancestor(&commit(&md), &commit(&base), terms));
    assert!(turned.contains("--find-fix"), "{turned}");
}

#[test]
fn the_history_is_limited_to_paths_and_keeps_merges() {
    let toy = Toy::new();
    let base = toy.commit("base", &[(MD, &numbered(99))]);
    toy.commit("other", &[("fs/x.c", "x")]);
    toy.git(&["checkout", "--quiet", "-b", "side"]);
    toy.commit("raid1", &[("drivers/md/raid1.c", "x")]);
    toy.git(&["checkout", "--quiet", "main"]);
    toy.commit("md", &[(MD, &numbered(1))]);
    toy.git(&["merge", "--quiet", "--no-ff", "-m", "Merge side", "side"]);
    let repository = toy.open();
    let (old, new) = (repository.commit(&base).unwrap(), repository.commit("main").unwrap());
    let titles = |paths: &[&str]| {
        let paths: Vec<_> = paths.iter().map(|&path| path.to_owned()).collect();
        let graph = repository.graph(&old, &new, &paths).unwrap();
        let mut titles: Vec<_> = graph.subjects().iter().map(|subject| subject.title.clone()).collect();
        titles.sort();
        (titles.join(", "), graph.subject(graph.tip()).parents.len())
    };
    assert_eq!(titles(&[]), ("Merge side, md, other, raid1".into(), 2));
    assert_eq!(titles(&["drivers/md"]), ("Merge side, md, raid1".into(), 2));
    assert_eq!(titles(&["fs"]).0, "other");
    let none = error(repository.graph(&old, &new, &["net".to_owned()]));
    assert!(none.contains("touches net"), "{none}");
}

#[test]
fn a_commit_is_taken_back_and_the_users_tree_never_hears_of_it() {
    let toy = Toy::new();
    toy.commit("base", &[(MD, &numbered(99)), ("Makefile", "VERSION = 6\n")]);
    let culprit = toy.commit("break", &[(MD, &numbered(3))]);
    let tip = toy.commit("more", &[(MD, &numbered(3).replace("line 15", "line fifteen"))]);
    // One uncommitted edit and one staged file; both must stay.
    fs::write(toy.dir.path().join(MD), "being edited").unwrap();
    fs::write(toy.dir.path().join("new"), "staged").unwrap();
    toy.git(&["add", "new"]);
    let before = toy.looks();
    let repository = toy.open();
    let folder = toy.scratch.path().join("reverted");
    let scratch = Scratch::create(&repository, &folder).unwrap();
    let commit = scratch.revert(&culprit, &tip).unwrap();
    let made = Repository::open(&toy.host, scratch.dir(), toy.scratch.path()).unwrap();
    let text = made.read(["show", &format!("{commit}:{MD}")]).unwrap();
    assert_eq!(text, numbered(99).replace("line 15", "line fifteen"));
    assert_eq!(made.read(["show", &format!("{commit}:Makefile")]).unwrap(), "VERSION = 6\n");
    assert_eq!(made.parents(&commit).unwrap(), [tip]);
    assert_eq!(differences(&before, &toy.looks()), Vec::<PathBuf>::new());
}

#[test]
fn what_cannot_be_taken_back_is_said() {
    let toy = Toy::new();
    toy.commit("base", &[(MD, &numbered(99))]);
    let culprit = toy.commit("break", &[(MD, &numbered(3))]);
    let tip = toy.commit("rewrite", &[(MD, "all new\n")]);
    let repository = toy.open();
    let scratch = Scratch::create(&repository, &toy.scratch.path().join("reverted")).unwrap();
    match scratch.revert(&culprit, &tip) {
        Err(ScratchError::DoesNotApply(why)) => assert!(!why.is_empty()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_mailbox_becomes_commits() {
    let toy = Toy::new();
    let base = toy.commit("base", &[(MD, &numbered(99))]);
    toy.commit("md: first", &[(MD, &numbered(3))]);
    toy.commit("md: second", &[("drivers/md/raid1.c", "x\n")]);
    let mbox = toy.scratch.path().join("series.mbox");
    let mails = toy.git(&["format-patch", "--stdout", "--cover-letter", &base]);
    fs::write(&mbox, &mails).unwrap();
    toy.git(&["reset", "--quiet", "--hard", &base]);
    let before = toy.looks();
    let repository = toy.open();
    let scratch = Scratch::create(&repository, &toy.scratch.path().join("series")).unwrap();
    let made = scratch.apply_mailbox(&base, &mbox).unwrap();
    let ours = Repository::open(&toy.host, scratch.dir(), toy.scratch.path()).unwrap();
    let titles: Vec<_> = made.iter().map(|id| ours.commit(id).unwrap().title).collect();
    assert_eq!(titles, ["md: first", "md: second"]);
    assert_eq!(ours.read(["log", "-1", "--format=%an", &made[1]]).unwrap().trim(), "A U Thor");
    assert_eq!(ours.read(["show", &format!("{}:{MD}", made[1])]).unwrap(), numbered(3));
    assert_eq!(differences(&before, &toy.looks()), Vec::<PathBuf>::new());
    fs::write(&mbox, mails.replace("line 2\n", "line two\n").replace("index ", "index 0")).unwrap();
    let scratch = Scratch::create(&repository, &toy.scratch.path().join("damaged")).unwrap();
    match scratch.apply_mailbox(&base, &mbox) {
        Err(ScratchError::DoesNotApply(why)) => assert!(why.contains("md: first"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn folders_may_have_names_that_are_no_text() {
    let toy = Toy::named(OsStr::from_bytes(b"a\xff b"));
    let base = toy.commit("base", &[(MD, &numbered(99))]);
    let tip = toy.commit("md: first", &[(MD, &numbered(3))]);
    let mbox = toy.scratch.path().join("series.mbox");
    fs::write(&mbox, toy.git(&["format-patch", "--stdout", &base])).unwrap();
    let repository = toy.open();
    assert_eq!(repository.top, toy.dir.path().canonicalize().unwrap());
    let scratch = Scratch::create(&repository, &toy.scratch.path().join("ours")).unwrap();
    scratch.revert(&tip, &tip).unwrap();
    assert_eq!(scratch.apply_mailbox(&base, &mbox).unwrap().len(), 1);
}
