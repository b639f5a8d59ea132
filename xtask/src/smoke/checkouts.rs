//! Checkouts: the guest has the contents of a user's tree; a tree that does not build is the user's to mend.
//! With mdadm, because it builds in seconds.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::run::{self, Options};
use harness::session::Session;
use reports::Verdict;
use vm_images::build::checkout::Sources;
use vm_images::build::error::{BuildError, CheckoutError};
use vm_images::build::project::Project;
use vm_images::error::ImageError;

use super::{Scratch, options, run_with};

pub(super) fn mdadm(session: &Session) -> Result<()> {
    let out = Scratch::new(session)?;
    let tree = out.0.join("my mdadm");
    unpack_mdadm(session, &tree)?;
    let edit = |file: &str, change: &dyn Fn(String) -> String| -> Result<()> {
        let path = tree.join(file);
        let text = fs::read_to_string(&path)?;
        let changed = change(text.clone());
        ensure!(changed != text, "nothing to change in `{file}`");
        Ok(fs::write(&path, changed)?)
    };
    edit("ReadMe.c", &|text| text.replace("#define VERSION \"", "#define VERSION \"mine-"))?;
    fs::write(tree.join("tests/99mine"), "true\n")?;
    // The script prints the version of mdadm in the guest, and checks that the checkout's tests are there.
    let script = out.0.join("ask.sh");
    fs::write(&script, "mdadm --version 2>&1 && test -f /usr/share/mdadm-testsuite/tests/99mine\n")?;
    let options = Options {
        sources: Sources { mdadm: Some(tree.clone()), ..Sources::default() },
        scripts: vec![script],
        ..options(&out, "lvm2", &[])?
    };
    let ran = run_with(session, &options)?;
    let judged = ran.judged.first().context("nothing was judged")?;
    ensure!(judged.verdict == Verdict::Passed, "{} {}", judged.verdict, judged.explanation());
    let attempt = ran.record.attempts.first().context("nothing was tried")?;
    let said = fs::read_to_string(ran.dir.join(&attempt.dir).join("output.log"))?;
    ensure!(said.contains("mdadm - vmine-"), "the guest's mdadm is not the checkout's: {said}");
    let image = ran.record.image.as_ref().context("the record knows of no guest image")?;
    let version = image.versions.get("mdadm").map(String::as_str).unwrap_or_default();
    ensure!(version.starts_with("mine-") && version.contains("+checkout "), "recorded as {version}");
    let command = reports::render::words::reproduce::command(&ran.record, attempt).unwrap_or_default();
    let expect =
        format!("--mdadm-src {}", reports::render::words::reproduce::shell_line(&[tree.to_string_lossy()]));
    ensure!(command.contains(&expect), "the reproduce command lacks the checkout: {command}");

    edit("util.c", &|text| text + "int broken_on_purpose = ;\n")?;
    let error = match run::run(session, &options) {
        Ok(_) => anyhow::bail!("a checkout that cannot build was built"),
        Err(error) => error,
    };
    ensure!(
        matches!(
            error.downcast_ref(),
            Some(ImageError::Build(BuildError::Checkout(CheckoutError::Build { .. })))
        ),
        "a checkout that does not build is not blamed: {error:#}"
    );
    ensure!(error.to_string().contains("broken_on_purpose"), "the error does not say why: {error}");
    Ok(())
}

/// Unpacks upstream's tree as an ordinary folder.
pub(super) fn unpack_mdadm(session: &Session, to: &Path) -> Result<()> {
    let apt = session.apt()?;
    let files = session.images(&apt)?.source_package(Project::Mdadm)?;
    let is_upstreams = |path: &&std::path::PathBuf| path.to_string_lossy().contains(".orig.tar.");
    let archive = files.iter().find(is_upstreams).context("the source package has no upstream archive")?;
    fs::create_dir(to)?;
    let call = session.host.call("tar").arg("--extract").arg("--file").arg(archive);
    let call = call.args(["--strip-components=1", "--directory"]).arg(to);
    Ok(call.run(&session.store.temporary().join("unpack.log"))?)
}
