//! Keeps a digest and a copy of each of the user's own scripts with a run. A script may be edited at any
//! time, and results of two versions are results of two tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use protocol::event::Script;
use vm_images::store::digest::Digest;

use crate::error::usage;
use crate::run::choose::ChosenJob;
use crate::run::workers::Planned;
use crate::suite::script;
use crate::workspace::absolute;

/// Folder of the copies, within the folder of a run or a search.
const FOLDER: &str = "scripts";

/// Reads the scripts at `paths`, and keeps a copy of each in `dir`.
pub fn keep(paths: &[PathBuf], dir: &Path) -> Result<Vec<Script>> {
    paths.iter().map(|path| keep_content(path, &read(path)?, dir)).collect()
}

/// Keeps a copy of each script that will run, and changes the plan's reproduce lines to name the copies.
pub(crate) fn keep_planned(
    paths: &[PathBuf],
    jobs: &[ChosenJob],
    plan: &mut [Planned],
    dir: &Path,
) -> Result<Vec<Script>> {
    let content_of = |path: &Path| {
        let name = script::file_name(path);
        let is_of =
            |chosen: &&ChosenJob| chosen.job.id.suite() == script::SUITE && chosen.job.id.name() == name;
        jobs.iter().find(is_of)?.job.files.iter().find(|file| file.name == name)
    };
    let mut kept = Vec::new();
    for path in paths {
        let file = content_of(path).with_context(|| format!("no job runs script `{}`", path.display()))?;
        let script = keep_content(path, &file.content, dir)?;
        let (was, copy) = (script::again(path, None), absolute(dir).join(&script.copy));
        for word in plan.iter_mut().flat_map(|planned| &mut planned.attempt.again) {
            if was.get(1) == Some(word) {
                *word = copy.display().to_string();
            }
        }
        kept.push(script);
    }
    Ok(kept)
}

/// Keeps `content`, read from `path`, in `dir`.
pub(crate) fn keep_content(path: &Path, content: &[u8], dir: &Path) -> Result<Script> {
    let folder = dir.join(FOLDER);
    let name = script::file_name(path);
    let copy = folder.join(&name);
    let write = || {
        fs::create_dir_all(&folder)?;
        fs::write(&copy, content)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))
    };
    write().with_context(|| {
        format!("failed to keep a copy of script `{}` in `{}`", path.display(), dir.display())
    })?;
    Ok(Script {
        path: absolute(path).to_string_lossy().into_owned(),
        digest: Digest::of_bytes(content).to_string(),
        copy: format!("{FOLDER}/{name}"),
    })
}

/// Returns an error if one of `scripts`, whose copies are in `dir`, was edited since.
pub fn check_unchanged(scripts: &[Script], dir: &Path) -> Result<()> {
    for script in scripts {
        let now = match read(Path::new(&script.path)) {
            Ok(content) => Digest::of_bytes(&content).to_string(),
            Err(error) => return Err(usage(changed(script, dir, &format!("{error:#}")))),
        };
        check_digest(script, &now, dir)?;
    }
    Ok(())
}

/// Returns an error if the scripts `is` differ from the scripts `was` that a run was made of, as far as these
/// are known.
pub(crate) fn check_same(was: &[Script], is: &[Script], dir: &Path) -> Result<()> {
    for script in was {
        if let Some(now) = is.iter().find(|now| now.path == script.path) {
            check_digest(script, &now.digest, dir)?;
        }
    }
    Ok(())
}

fn check_digest(script: &Script, now: &str, dir: &Path) -> Result<()> {
    if script.digest == *now {
        return Ok(());
    }
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    let what = format!("its SHA-256 was {}… and is {}…", short(&script.digest), short(now));
    Err(usage(changed(script, dir, &what)))
}

fn changed(script: &Script, dir: &Path, what: &str) -> anyhow::Error {
    let copy = absolute(dir).join(&script.copy);
    let words = ["cp".to_owned(), copy.display().to_string(), script.path.clone()];
    anyhow!(
        "script `{}` is not what it was when this began ({what}), and the results would be of two tests; put it back \
         (`{}`), or begin anew without --resume",
        script.path,
        reports::render::words::reproduce::shell_line(&words)
    )
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read script `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_script_is_refused_and_the_kept_copy_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let (run, path) = (dir.path().join("run"), dir.path().join("my repro.sh"));
        fs::write(&path, "true\n").unwrap();
        let kept = keep(std::slice::from_ref(&path), &run).unwrap();
        assert_eq!(kept[0].copy, "scripts/my_repro.sh");
        check_unchanged(&kept, &run).unwrap();
        fs::write(&path, "false\n").unwrap();
        let error = check_unchanged(&kept, &run).unwrap_err();
        assert!(crate::error::is_users_fault(&error));
        let text = error.to_string();
        let copy = run.join(&kept[0].copy);
        assert!(text.contains("my repro.sh` is not what it was") && text.contains("begin anew"), "{text}");
        assert!(text.contains(&format!("cp {}", copy.display())), "{text}");
        let edited = keep(std::slice::from_ref(&path), &dir.path().join("other")).unwrap();
        assert!(check_same(&kept, &edited, &run).is_err() && check_same(&edited, &edited, &run).is_ok());
        fs::copy(&copy, &path).unwrap();
        check_unchanged(&kept, &run).unwrap();
        fs::remove_file(&path).unwrap();
        let text = check_unchanged(&kept, &run).unwrap_err().to_string();
        assert!(text.contains("failed to read script"), "{text}");
        // The test of the copy has the same name.
        assert_eq!(script::file_name(&copy), script::file_name(&path));
    }

    #[test]
    fn what_was_recorded_without_digests_is_not_refused() {
        check_unchanged(&[], Path::new("/nowhere")).unwrap();
        check_same(&[], &[], Path::new("/nowhere")).unwrap();
    }
}
