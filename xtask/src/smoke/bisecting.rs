//! `bisect-step` under a real `git bisect run`, on real kernels.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::session::Session;
use vm_images::build::git;
use vm_images::host::quick;

use super::Scratch;
use super::other_xtask::OtherXtask;

/// Versions that raid1 reports in the commits from the tag `good` on; those that begin with `b` are bad.
const VERSIONS: [&str; 6] = ["g0", "g1", "g2", "b3", "b4", "b5"];
/// Version in the first bad commit.
const CULPRIT: &str = "b3";
const SCRIPT: &str = "#!/bin/bash\n\
    # md-regress: modules=raid1\n\
    read -r version </sys/module/raid1/version\n\
    [[ $version = g* ]] || { echo \"raid1 is of version $version\"; exit 1; }\n";

/// git names the commit; if the host is at fault it stops and names none.
pub(super) fn step(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let tree = out.0.join("linux");
    let ids = toy(session, &tree)?;
    let script = out.0.join("version.sh");
    fs::write(&script, SCRIPT)?;
    let program = std::env::current_exe()?.display().to_string();
    let (store, runs) =
        (session.store.root().display().to_string(), out.0.join("runs").display().to_string());
    let script = script.display().to_string();
    let common = ["--store", &store, "--overlay", "deb:6.12", "--script", &script, "--out", &runs];
    let git = |words: &[&str]| git(session, &tree, words);
    // Without anybody's defaults, as in every check.
    let bisect_run = |words: &[&str]| {
        let call = session.host.call("git").dir(&tree).args(["bisect", "run", &program, "bisect-step"]);
        let call = call.env("MD_REGRESS_CONFIG", "/dev/null").env("MD_REGRESS_TRUST_SOURCE", "true");
        call.args(words).read(&tree.with_extension("log"))
    };
    let culprit = ids.iter().find(|(version, _)| *version == CULPRIT).context("a toy has its culprit")?;

    git(&["bisect", "start", "bad", "good"])?;
    let before = git(&["rev-parse", "HEAD"])?;
    // git would take an error of ours with a code below 128 for a bad commit.
    for broken in [vec!["--store", "/dev/null/store"], vec!["--no-such-option"]] {
        let words = [&broken[..], &common[2..]].concat();
        let error = bisect_run(&words).err().context("git went on over an error of the host's")?;
        ensure!(error.to_string().contains("129"), "git stopped for another reason: {error}");
        ensure!(git(&["rev-parse", "HEAD"])? == before, "git went on over an error of the host's");
    }
    let said = bisect_run(&common)?;
    ensure!(said.contains(&format!("{} is the first bad commit", culprit.1)), "git found another: {said}");

    let printed =
        OtherXtask::new(session).run(&out, ["bisect-step", "--print", "--overlay", "deb:6.12", "reshape"])?;
    printed.expect(0, &[])?;
    let line = format!("git bisect run {program} bisect-step --overlay=deb:6.12 ");
    ensure!(printed.stdout.starts_with(&line), "the line to paste is wrong: {}", printed.stdout);
    Ok(())
}

/// Makes a repository with the md of the pinned kernel, in which each commit gives raid1 another version.
fn toy(session: &Session, tree: &Path) -> Result<Vec<(&'static str, String)>> {
    let apt = session.apt()?;
    let images = session.images(&apt)?;
    let source = images.kernel_source(&images.kernel(&"deb:6.12".parse()?)?)?.path("tree");
    fs::create_dir_all(tree)?;
    let log = tree.with_extension("log");
    session
        .host
        .call("cp")
        .arg("-r")
        .arg(source.join("Makefile"))
        .arg(source.join("drivers"))
        .arg(tree)
        .run(&log)?;
    git(session, tree, &["init", "--quiet", "--initial-branch=main"])?;
    let raid1 = tree.join("drivers/md/raid1.c");
    let text = fs::read_to_string(&raid1)?;
    let mut ids = Vec::new();
    for version in VERSIONS {
        fs::write(&raid1, format!("{text}\nMODULE_VERSION(\"{version}\");\n"))?;
        git(session, tree, &["add", "--all"])?;
        git(session, tree, &["commit", "--quiet", "-m", version])?;
        ids.push((version, git(session, tree, &["rev-parse", "HEAD"])?.trim().to_owned()));
    }
    git(session, tree, &["tag", "good", "HEAD~5"])?;
    git(session, tree, &["tag", "bad"])?;
    Ok(ids)
}

fn git(session: &Session, tree: &Path, words: &[&str]) -> Result<String> {
    let shell = session.host.shell(tree)?;
    let mut call = git::quick_call(&shell).args(["-c", "commit.gpgsign=false"]).args(words);
    for (name, value) in [("NAME", "md-regress"), ("EMAIL", "md-regress@localhost")] {
        call = call.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    Ok(quick::read(call)?)
}
