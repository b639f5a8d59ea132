//! Tests of checkouts: what counts, what does not, what is none, and what a failed build says.

use super::*;
use crate::host::{Cancel, quick};
use std::fs::read_to_string;

/// A tree that looks like mdadm's.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("mdadm.h", "#define X 1\n"),
        ("Makefile", "all:\n"),
        ("ReadMe.c", "#ifndef VERSION\n#define VERSION \"4.4\"\n#endif\n"),
        ("tests/00raid0", "true\n"),
        (".gitignore", "*.o\n"),
    ] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn host() -> Host {
    Host::new(Cancel::default())
}

fn git(dir: &Path, args: &[&str]) {
    let shell = quick::shell(dir).unwrap();
    let me = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"];
    quick::read(shell.cmd("git").args(me).args(args)).unwrap();
}

fn git_tree() -> tempfile::TempDir {
    let dir = tree();
    git(dir.path(), &["init", "--quiet"]);
    git(dir.path(), &["add", "--all"]);
    git(dir.path(), &["commit", "--quiet", "--message", "all"]);
    dir
}

fn look_at(dir: &Path) -> Result<Checkout, BuildError> {
    let log = tempfile::NamedTempFile::new().unwrap();
    Checkout::look_at(&host(), Project::Mdadm, dir, log.path())
}

fn digest(dir: &Path) -> Digest {
    look_at(dir).unwrap().digest
}

/// Whether doing something to a tree makes another checkout of it.
fn check_changes(tree: &Path, what: &str, expect: bool, act: impl FnOnce(&Path)) {
    let before = digest(tree);
    act(tree);
    assert_eq!(digest(tree) != before, expect, "{what}");
}

#[test]
fn content_counts_and_times_do_not() {
    for dir in [tree(), git_tree()] {
        let tree = dir.path();
        check_changes(tree, "an edit", true, |tree| {
            fs::write(tree.join("mdadm.h"), "#define X 2\n").unwrap()
        });
        check_changes(tree, "a touch", false, |tree| {
            let file = File::open(tree.join("mdadm.h")).unwrap();
            file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
        });
        check_changes(tree, "a new file", true, |tree| fs::write(tree.join("tests/01mine"), "").unwrap());
        check_changes(tree, "another mode", true, |tree| {
            fs::set_permissions(tree.join("tests/01mine"), Permissions::from_mode(0o755)).unwrap();
        });
        check_changes(tree, "another name", true, |tree| {
            fs::rename(tree.join("tests/01mine"), tree.join("tests/02mine")).unwrap();
        });
        check_changes(tree, "a link", true, |tree| symlink("02mine", tree.join("tests/03mine")).unwrap());
        check_changes(tree, "a file less", true, |tree| fs::remove_file(tree.join("tests/00raid0")).unwrap());
    }
}

#[test]
fn what_git_ignores_does_not_count() {
    let dir = git_tree();
    let object = |tree: &Path| fs::write(tree.join("mdadm.o"), "x").unwrap();
    check_changes(dir.path(), "an object", false, object);
    check_changes(dir.path(), "a commit", false, |tree| {
        git(tree, &["commit", "--quiet", "--allow-empty", "--message", "more"]);
    });
    // Where git is not asked, nobody knows what is an object.
    let dir = tree();
    check_changes(dir.path(), "an object", true, object);
}

#[test]
fn the_version_tells_the_commit_and_whether_it_is_all() {
    let dir = git_tree();
    git(dir.path(), &["tag", "--annotate", "--message", "4.4", "mdadm-4.4"]);
    assert_eq!(look_at(dir.path()).unwrap().version(), "4.4+checkout mdadm-4.4");
    fs::write(dir.path().join("tests/01mine"), "").unwrap();
    assert_eq!(look_at(dir.path()).unwrap().version(), "4.4+checkout mdadm-4.4-dirty");
    let dir = tree();
    let checkout = look_at(dir.path()).unwrap();
    assert_eq!(checkout.version(), format!("4.4+checkout {}", checkout.digest.short()));
    assert_eq!(checkout.commit, None);
}

#[test]
fn a_tree_without_a_commit_will_do() {
    let dir = tree();
    git(dir.path(), &["init", "--quiet"]);
    let checkout = look_at(dir.path()).unwrap();
    assert_eq!((checkout.commit, checkout.files.len()), (None, 5));
}

#[test]
fn a_checkout_is_only_read() {
    let dir = git_tree();
    // Its times in the index are now wrong, which git would note there if it were let.
    let file = File::open(dir.path().join("mdadm.h")).unwrap();
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
    let index = || fs::read(dir.path().join(".git/index")).unwrap();
    let before = index();
    look_at(dir.path()).unwrap();
    assert!(index() == before, "git's index was written to");
}

#[test]
fn a_copy_is_what_counts_and_nothing_else() {
    let dir = git_tree();
    for (name, text) in [("mdadm.o", "stale"), ("tests/01mine", "mine")] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    symlink("01mine", dir.path().join("tests/02mine")).unwrap();
    let to = tempfile::tempdir().unwrap();
    let copy = to.path().join("tree");
    look_at(dir.path()).unwrap().copy_to(&copy).unwrap();
    assert_eq!(read_to_string(copy.join("tests/02mine")).unwrap(), "mine");
    assert!(!copy.join("mdadm.o").exists() && !copy.join(".git").exists());
    let time = |name: &str| fs::metadata(copy.join(name)).unwrap().modified().unwrap();
    assert_eq!(time("Makefile"), time("tests/01mine"));
}

#[test]
fn an_edit_while_it_is_copied_is_noticed() {
    for edit in
        [|file: &Path| fs::write(file, "other").unwrap(), |file: &Path| fs::remove_file(file).unwrap()]
    {
        let dir = tree();
        let checkout = look_at(dir.path()).unwrap();
        edit(&dir.path().join("mdadm.h"));
        let to = tempfile::tempdir().unwrap();
        let error = checkout.copy_to(&to.path().join("tree")).unwrap_err();
        assert!(matches!(error, BuildError::Checkout(CheckoutError::Changed { .. })), "{error}");
    }
}

#[test]
fn what_is_no_checkout_is_told() {
    let error = |dir: &Path| look_at(dir).unwrap_err().to_string();
    let missing = error(Path::new("/no/such/folder"));
    assert!(missing.contains("`/no/such/folder` for --mdadm-src: No such file"), "{missing}");
    let empty = tempfile::tempdir().unwrap();
    let foreign = error(empty.path());
    assert!(foreign.contains("is no source tree of mdadm: it has no `mdadm.h`"), "{foreign}");
    let broken = tree();
    fs::write(broken.path().join(".git"), "gitdir: /no/such/folder\n").unwrap();
    let error = look_at(broken.path()).unwrap_err();
    assert!(matches!(error, BuildError::Checkout(CheckoutError::Git { .. })), "{error}");
}

#[test]
fn a_failed_build_is_the_checkouts_doing_unless_the_host_failed() {
    let dir = tree();
    let checkout = look_at(dir.path()).unwrap();
    let blame = |says: &str| {
        let log = tempfile::NamedTempFile::new().unwrap();
        let script = format!("echo '{says}'; exit 2");
        checkout.blame(host().call("sh").args(["-c", &script]).run(log.path()).unwrap_err())
    };
    let theirs = blame("a.c:3:5: error: no x");
    assert!(matches!(theirs, BuildError::Checkout(CheckoutError::Build { .. })), "{theirs}");
    assert!(theirs.to_string().contains("mdadm does not build from checkout"), "{theirs}");
    let ours = blame("a.c:3:5: error: No space left on device");
    assert!(matches!(ours, BuildError::Host(_)), "{ours}");
}

#[test]
fn a_folder_that_became_a_link_is_not_written_through() {
    let (dir, host) = (git_tree(), tempfile::tempdir().unwrap());
    fs::rename(dir.path().join("tests"), host.path().join("tests")).unwrap();
    symlink(host.path().join("tests"), dir.path().join("tests")).unwrap();
    let error = look_at(dir.path()).unwrap_err().to_string();
    // Its `tests` is there, and so is, through it, the file that git still has.
    assert!(error.contains("tests/00raid0") && error.contains("leads elsewhere"), "{error}");
}

#[test]
fn an_unpacked_package_has_the_packages_version() {
    let checkout = look_at(tree().path()).unwrap();
    assert!(checkout.version().starts_with("4.4+checkout "));
    let package = checkout.of_package("4.4-11".to_owned());
    assert_eq!((package.version(), package.version_by_content()), ("4.4-11".into(), "4.4-11".into()));
}
