//! Makes a git repository with a known first bad commit from a kernel's real drivers/md. Its commits are
//! edits that do not change what the modules do, in several files and on a merged branch. One adds a bug, and
//! others near it do not build, or fail in another way.
//!
//! Only for trying searches: `cargo xtask bench commits` makes it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use vm_images::build::git;
use vm_images::host::{Host, quick};
use vm_images::kernel::plant::Plant;

/// Files that are edited in turn.
const FILES: [&str; 7] = ["raid1.c", "md.c", "raid10.c", "dm-raid.c", "raid5.c", "md-bitmap.c", "md.h"];
/// File that the branch edits.
const SIDE: &str = "raid0.c";
/// Numbers of commits on the main line and on the branch.
const N_COMMITS: usize = 32;
const N_SIDE: usize = 4;
/// Commits where the branch begins and where it is merged.
const BRANCH: (usize, usize) = (12, 26);
/// First and last of the commits that do not build, and of those that fail in another way.
const BROKEN: (usize, usize) = (8, 10);
const CRASHES: (usize, usize) = (15, 17);
/// The first commit with the bug. It contains nothing else, so a revert of it applies to all that follow.
const CULPRIT: usize = 22;

/// The plants of such a repository.
pub(crate) struct Plants {
    /// The bug that is searched for, such as e3.
    pub(crate) bug: Plant,
    pub(crate) broken: Plant,
    pub(crate) crash: Plant,
    /// The bug, half mended.
    pub(crate) half: Plant,
}

/// Reads a plant from its file.
pub(crate) fn read_plant(path: &Path) -> Result<Plant> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    Plant::parse(&text).map_err(|error| anyhow::anyhow!("plant `{}` is damaged: {error}", path.display()))
}

/// Makes the repository in `dir` from the Makefile and drivers/md of `source`. The tags `good`, `bad` and
/// `culprit` are for a search, `series-base` and `series` for a bug that is made and then mended in two
/// steps.
pub(crate) fn make(host: &Host, source: &Path, dir: &Path, plants: &Plants) -> Result<()> {
    let graph = Maker { host, source, dir: dir.to_owned() };
    fs::create_dir_all(dir.join(".git")).with_context(|| format!("failed to make `{}`", dir.display()))?;
    graph.git(&["init", "--quiet", "--initial-branch=main"])?;
    let md = dir.join("drivers/md");
    fs::create_dir_all(&md).with_context(|| format!("failed to make `{}`", md.display()))?;
    fs::copy(source.join("Makefile"), dir.join("Makefile")).context("the source has no Makefile")?;
    for entry in fs::read_dir(source.join("drivers/md")).context("the source has no drivers/md")? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), md.join(entry.file_name()))?;
        }
    }
    graph.commit("md of the kernel's own source")?;
    graph.git(&["tag", "good"])?;
    for n in 1..=N_COMMITS {
        let is_in = |(first, last): (usize, usize)| (first..=last).contains(&n);
        let file = FILES[n % FILES.len()];
        let active: Vec<&Plant> = [
            is_in(BROKEN).then_some(&plants.broken),
            is_in(CRASHES).then_some(&plants.crash),
            (n >= CULPRIT).then_some(&plants.bug),
        ]
        .into_iter()
        .flatten()
        .collect();
        graph.write(n, &active)?;
        graph.commit(&format!("md: note change {n} in {file}"))?;
        if n == CULPRIT {
            graph.git(&["tag", "culprit"])?;
        }
        if n == BRANCH.0 {
            graph.git(&["branch", "side"])?;
        }
        if n == BRANCH.1 {
            graph.branch()?;
        }
    }
    graph.git(&["tag", "bad"])?;
    graph.git(&["checkout", "--quiet", "-b", "series-of-three", "good"])?;
    graph.git(&["tag", "series-base"])?;
    for (title, active) in [
        ("md: leave a sync thread that must wait at once", vec![&plants.bug]),
        ("md: say that such a sync thread is done", vec![&plants.half]),
        ("md: let such a sync thread end as all others do", vec![]),
    ] {
        graph.write(0, &active)?;
        graph.commit(title)?;
    }
    graph.git(&["tag", "series"])?;
    graph.git(&["checkout", "--quiet", "main"])
}

struct Maker<'h> {
    host: &'h Host,
    source: &'h Path,
    dir: PathBuf,
}

impl Maker<'_> {
    /// Writes the work tree after `n` edits, with the plants in `active`.
    fn write(&self, n: usize, active: &[&Plant]) -> Result<()> {
        for file in FILES {
            let from = self.source.join("drivers/md").join(file);
            let mut text =
                fs::read_to_string(&from).with_context(|| format!("failed to read `{}`", from.display()))?;
            for plant in active.iter().filter(|plant| plant.files().contains(&file)) {
                text = plant.apply(file, &text).with_context(|| format!("a plant does not fit {file}"))?;
            }
            let noted = |number: &usize| FILES[number % FILES.len()] == file && *number != CULPRIT;
            for number in (1..=n).filter(noted) {
                text.push_str(&note(file, number));
            }
            fs::write(self.dir.join("drivers/md").join(file), text)?;
        }
        Ok(())
    }

    /// Makes the branch, and merges it into the commit that is checked out.
    fn branch(&self) -> Result<()> {
        self.git(&["checkout", "--quiet", "side"])?;
        let path = self.dir.join("drivers/md").join(SIDE);
        for number in 1..=N_SIDE {
            let text = fs::read_to_string(&path)? + &note(SIDE, 100 + number);
            fs::write(&path, text)?;
            self.commit(&format!("md/raid0: note change {number} of the branch"))?;
        }
        self.git(&["checkout", "--quiet", "main"])?;
        self.git(&["merge", "--quiet", "--no-ff", "-m", "Merge the branch of raid0", "side"])
    }

    fn commit(&self, title: &str) -> Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "-m", title])
    }

    fn git(&self, words: &[&str]) -> Result<()> {
        let shell = self.host.shell(&self.dir)?;
        let mut call = git::quick_call(&shell);
        // Fixed authors and dates, so that the commit ids are the same everywhere.
        for role in ["AUTHOR", "COMMITTER"] {
            call = call.env(format!("GIT_{role}_NAME"), "md-regress");
            call = call.env(format!("GIT_{role}_EMAIL"), "md-regress@localhost");
            call = call.env(format!("GIT_{role}_DATE"), "1700000000 +0000");
        }
        quick::read(call.args(["-c", "commit.gpgsign=false"]).args(words))?;
        Ok(())
    }
}

/// An edit that changes a file's modules but not what they do.
fn note(file: &str, number: usize) -> String {
    if file.ends_with(".h") {
        format!("\n/* change {number} */\n")
    } else {
        format!("\nMODULE_INFO(md_regress_change, \"{number}\");\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness::bisect::git::Repository;
    use harness::workspace::workspace;
    use vm_images::host::Cancel;

    #[test]
    fn the_plants_are_read_and_their_commits_are_as_it_is_said_to_be() {
        let host = Host::new(Cancel::default());
        let (source, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let md = source.path().join("drivers/md");
        fs::create_dir_all(&md).unwrap();
        fs::write(source.path().join("Makefile"), "VERSION = 6\n").unwrap();
        for file in FILES.into_iter().chain([SIDE]) {
            fs::write(md.join(file), format!("/* {file} */\n")).unwrap();
        }
        fs::write(
            md.join("md.c"),
            "void md_new_event(void)\n{\n\tatomic_inc(&md_event_count);\n}\n\
             int md_run(struct mddev *mddev)\n{\n\tif (list_empty(&mddev->disks))\n\t\treturn 0;\n}\n\
             void md_do_sync(struct md_thread *thread)\n{\n\
             \tif (test_bit(MD_RECOVERY_WAIT, &mddev->recovery) ||\n\t    !md_is_rdwr(mddev)) {\n\t}\n}\n",
        )
        .unwrap();
        let planted = workspace().join("suites/planted");
        let of = |name: &str| read_plant(&planted.join(name)).unwrap();
        let plants = Plants {
            bug: of("plants/e3.toml"),
            broken: of("edits/broken.toml"),
            crash: of("edits/crash.toml"),
            half: of("edits/e3-half.toml"),
        };
        make(&host, source.path(), made.path(), &plants).unwrap();
        let repository = Repository::open(&host, made.path(), source.path()).unwrap();
        let rev = |name: &str| repository.commit(name).unwrap();
        let graph = repository.graph(&rev("good"), &rev("bad"), &[]).unwrap();
        // With the branch's commits, and their merge.
        assert_eq!(graph.n_subjects(), N_COMMITS + N_SIDE + 1);
        assert!(graph.subjects().iter().any(|subject| subject.id == rev("culprit").id));
        let git = |words: &[&str]| {
            let made = Maker { host: &host, source: source.path(), dir: made.path().to_owned() };
            made.git(words)
        };
        git(&["checkout", "--quiet", "--detach", "bad"]).unwrap();
        git(&["revert", "--no-edit", "culprit"]).unwrap();
        let series = repository.graph(&rev("series-base"), &rev("series"), &[]).unwrap();
        assert_eq!(series.n_subjects(), 3);
    }
}
