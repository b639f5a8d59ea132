//! Commits are read as they are, and nothing of the repository is touched.

use super::*;
use crate::host::Cancel;

struct Repository {
    dir: tempfile::TempDir,
    scratch: tempfile::TempDir,
    host: Host,
}

impl Repository {
    /// A repository with two commits, and edits that are not committed.
    fn new() -> Self {
        let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let repository = Repository { dir, scratch, host: Host::new(Cancel::default()) };
        let folder = repository.dir.path().join("drivers/md");
        fs::create_dir_all(folder.join("bcache")).unwrap();
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        fs::write(folder.join("md.c"), "one").unwrap();
        fs::write(folder.join("bcache/btree.c"), "btree").unwrap();
        std::os::unix::fs::symlink("md.c", folder.join("link.c")).unwrap();
        repository.commit("first");
        fs::write(folder.join("md.c"), "two\n\0").unwrap();
        fs::write(folder.join("md.h"), "").unwrap();
        repository.commit("second");
        fs::write(folder.join("md.c"), "not committed").unwrap();
        repository
    }

    fn git(&self, arguments: &[&str]) {
        let shell = self.host.shell(self.dir.path()).unwrap();
        let git = quick_call(&shell).args(["-c", "user.name=x", "-c", "user.email=x@example.org"]);
        quick::read(git.args(arguments)).unwrap();
    }

    fn commit(&self, subject: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--no-gpg-sign", "-m", subject]);
    }

    fn find(&self, path: &Path, rev: &str) -> Result<Commit<'_>, GitError> {
        let revision = Revision { path: path.to_owned(), rev: rev.to_owned() };
        Commit::find(&self.host, &revision, self.scratch.path())
    }

    /// Names and contents of a commit's files in drivers/md.
    fn files(&self, rev: &str) -> Vec<(String, String)> {
        let commit = self.find(self.dir.path(), rev).unwrap();
        let files = commit.files("drivers/md/", false).unwrap();
        let ids: Vec<_> = files.values().map(|entry| entry.id.as_str()).collect();
        let mut contents = vec![String::new(); ids.len()];
        commit
            .contents(&ids, |idx, bytes| {
                contents[idx] = String::from_utf8(bytes.to_vec()).unwrap();
                Ok(())
            })
            .unwrap();
        let names = files.keys().map(|name| name.to_str().unwrap().to_owned());
        names.zip(contents).collect()
    }
}

fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
}

#[test]
fn a_commits_files_are_read_and_nothing_else() {
    let repository = Repository::new();
    let before: Vec<_> = fs::read(repository.dir.path().join(".git/index")).unwrap();
    assert_eq!(repository.files("HEAD"), pairs(&[("link.c", "md.c"), ("md.c", "two\n\0"), ("md.h", "")]));
    assert_eq!(repository.files("HEAD^"), pairs(&[("link.c", "md.c"), ("md.c", "one")]));
    assert_eq!(fs::read(repository.dir.path().join(".git/index")).unwrap(), before);
    let text = fs::read_to_string(repository.dir.path().join("drivers/md/md.c")).unwrap();
    assert_eq!(text, "not committed");
}

#[test]
fn a_folder_in_a_repository_is_known_by_where_it_lies() {
    let repository = Repository::new();
    let commit = repository.find(&repository.dir.path().join("drivers/md"), "main").unwrap();
    assert_eq!((commit.prefix.as_str(), commit.subject.as_str()), ("drivers/md/", "second"));
    assert_eq!(commit.id.len(), 40);
    assert_eq!(commit.file("drivers/md/md.c").unwrap().unwrap(), b"two\n\0");
    assert_eq!(commit.file("drivers/md/raid7.c").unwrap(), None);
    assert!(commit.files("", true).unwrap().contains_key(Path::new("drivers/md/bcache/btree.c")));
}

#[test]
fn what_is_not_there_is_named() {
    let repository = Repository::new();
    let error = repository.find(repository.dir.path(), "v9.9").unwrap_err();
    assert!(matches!(&error, GitError::NoCommit { rev, .. } if rev == "v9.9"), "{error}");
    // A revision is never taken for an option.
    assert!(matches!(repository.find(repository.dir.path(), "--all"), Err(GitError::NoCommit { .. })));
    let elsewhere = tempfile::tempdir().unwrap();
    let error = repository.find(elsewhere.path(), "HEAD").unwrap_err();
    assert!(matches!(error, GitError::NoRepository { .. }), "{error}");
    assert!(error.to_string().contains("not a git repository"), "{error}");
}

/// git's own commands make no such trees; whoever hands on a repository can.
#[test]
fn a_commit_whose_paths_lead_elsewhere_is_refused() {
    let repository = Repository::new();
    let log = repository.scratch.path().join("log");
    let make = |entries: &str| {
        let input = repository.scratch.path().join("entries");
        fs::write(&input, entries).unwrap();
        let call =
            call(&repository.host, repository.dir.path()).args(["mktree", "--missing"]).stdin_file(&input);
        call.read(&log).unwrap().trim().to_owned()
    };
    let blob = "100644 blob e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    let tree = make(&format!("{blob}\tpasswd\n"));
    let link = "120000 blob e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    for entries in [format!("040000 tree {tree}\t..\n"), format!("{link}\ta\n040000 tree {tree}\ta\n")] {
        let top = make(&entries);
        let words = ["user.name=x", "-c", "user.email=x@example.org", "commit-tree", "-m", "odd", &top];
        let commit = call(&repository.host, repository.dir.path()).arg("-c").args(words).read(&log).unwrap();
        let commit = repository.find(repository.dir.path(), commit.trim()).unwrap();
        let error = commit.files("", true).unwrap_err().to_string();
        assert!(error.contains("leads elsewhere"), "{entries}: {error}");
    }
}
