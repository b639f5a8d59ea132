//! Folders of runs: where they are, how a new one is named and made, and which one a name refers to.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::error::usage;
use crate::run::order;
use crate::workspace::{shown_path, workspace};

/// Folder of runs unless the user names another.
pub fn default_runs() -> PathBuf {
    workspace().join("reports/out")
}

/// The folder that the user means: a bare name is looked up among the runs first. Links are resolved here, so
/// that `latest` stays the same run when the next one begins.
pub fn find_run(named: &Path, runs: &Path) -> Result<PathBuf> {
    let mut components = named.components();
    let is_name = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    let places = if is_name { vec![runs.join(named), named.to_owned()] } else { vec![named.to_owned()] };
    for place in &places {
        match fs::canonicalize(place) {
            Ok(folder) if folder.is_dir() => return Ok(folder),
            Ok(file) => {
                return Err(usage(anyhow!(
                    "`{}` is no folder; name the folder of a run, the one that holds events.jsonl",
                    shown_path(&file)
                )));
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error).with_context(|| format!("failed to find `{}`", place.display())),
        }
    }
    let named = named.display();
    Err(usage(if is_name {
        let newest = newest_runs(runs);
        let known = match newest.as_slice() {
            [] => "there are no runs: `cargo xtask test` makes one".to_owned(),
            names => format!("the newest are {}", names.join(", ")),
        };
        anyhow!("no run `{named}` in `{}`, and no such folder; {known}", shown_path(runs))
    } else {
        anyhow!("there is no folder `{named}`; name the folder of a run, or a run in `{}`", shown_path(runs))
    }))
}

/// Names of a few runs, the newest first.
fn newest_runs(runs: &Path) -> Vec<String> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    let is_run = |entry: &fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.path().join("events.jsonl").is_file()
    };
    let mut dirs: Vec<_> = entries.filter(is_run).map(|entry| entry.path()).collect();
    order::sort(&mut dirs);
    let names = dirs.iter().rev().filter_map(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()));
    names.take(3).collect()
}

/// Makes the folder of a new run, named by the time.
pub(crate) fn create_run(out: &Path) -> Result<PathBuf> {
    let dir = create_folder(out, "")?;
    link_latest(out, &dir);
    Ok(dir)
}

/// Makes a folder in `out`, named `prefix` and the time.
pub fn create_folder(out: &Path, prefix: &str) -> Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("failed to create output folder `{}`", out.display()))?;
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]-[minute]-[second]Z");
    let time = time::OffsetDateTime::now_utc().format(format).context("failed to write the time")?;
    let name = format!("{prefix}{time}");
    for n in 1..1000 {
        let dir = out.join(if n == 1 { name.clone() } else { format!("{name}-{n}") });
        match fs::create_dir(&dir) {
            Ok(()) => {
                let noted = order::note(out, &dir);
                noted.with_context(|| format!("failed to write into `{}`", dir.display()))?;
                return Ok(dir);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("failed to create `{}`", dir.display()));
            }
        }
    }
    bail!("no free name for `{name}` in `{}`", out.display())
}

/// Points the link `latest` to the newest run. It is a convenience, so an error is ignored.
fn link_latest(out: &Path, run_dir: &Path) {
    let new = out.join(format!(".latest-{}", std::process::id()));
    if let Some(name) = run_dir.file_name()
        && std::os::unix::fs::symlink(name, &new).is_ok()
        && fs::rename(&new, out.join("latest")).is_err()
    {
        let _ = fs::remove_file(&new);
    }
}
