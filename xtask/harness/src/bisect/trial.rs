//! Trials: one kernel, built if necessary, tested by the same pipeline as `cargo xtask test`.

use std::path::Path;

use anyhow::{Context, Result};
use protocol::event::Script;
use reports::Judged;
use reports::record::RunEnd;
use vm_images::error::Fault;
use vm_images::host::progress::Progress;
use vm_images::spec::debian::DebianSpec;
use vm_images::spec::revision::Revision;
use vm_images::spec::user::UserSource;
use vm_images::spec::{KernelSpec, Overlay};

use super::observe::{NothingKnown, Sighting, Trial};
use super::state::KernelSource;
use crate::error::usage;
use crate::run::finished::FinishedRun;
use crate::run::script_record;
use crate::run::{self, Options};
use crate::session::Session;

/// Tests subjects of a search. Besides [`Trials`] only tests implement it.
pub trait Tester {
    /// Tests the subject with this id. An error says nothing of the subject.
    fn test(&mut self, id: &str) -> Result<Trial>;
}

/// Tests subjects on real kernels.
pub struct Trials<'s> {
    /// Session that the trials run in.
    pub session: &'s Session,
    /// Where the kernels come from.
    pub source: KernelSource,
    /// Options of each run; `kernels` is replaced by the subject's.
    pub options: Options,
    /// The user's own scripts as they were when the search began; their copies are in `dir`.
    pub scripts: &'s [Script],
    /// Folder of the search.
    pub dir: &'s Path,
}

impl Tester for Trials<'_> {
    fn test(&mut self, id: &str) -> Result<Trial> {
        // Users edit a script during a long search; trials of two versions would be trials of two tests.
        script_record::check_unchanged(self.scripts, self.dir)?;
        let trial = run(self.session, &self.options, spec(&self.source, id))?;
        script_record::check_unchanged(self.scripts, self.dir)?;
        Ok(trial)
    }
}

/// The kernel of a subject: a published build by its release, or a commit by its id.
pub fn spec(source: &KernelSource, id: &str) -> KernelSpec {
    let revision = |tree: &Path| Revision { path: tree.to_owned(), rev: id.to_owned() };
    match source {
        KernelSource::Published => DebianSpec::Exact { release: id.to_owned() }.into(),
        KernelSource::Commits { tree, overlay: Some(base), .. } => {
            KernelSpec::overlaid(base.clone(), Overlay::Commit(revision(tree)))
        }
        KernelSource::Commits { tree, overlay: None, .. } => {
            KernelSpec::built_from(UserSource::Commit(revision(tree)))
        }
    }
}

/// The exact kernel that overlays of a search are built on, so that all of them are built on the same.
pub fn pinned(session: &Session, overlay: &DebianSpec) -> Result<DebianSpec> {
    let apt = session.apt()?;
    let kernel = session.images(&apt)?.kernel(&overlay.clone().into())?;
    session.terminal.end_step();
    Ok(DebianSpec::Exact { release: kernel.release })
}

/// Tests one kernel; once more if the harness or the host failed.
pub fn run(session: &Session, options: &Options, kernel: KernelSpec) -> Result<Trial> {
    match run_once(session, options, kernel.clone()) {
        Err(error) if is_infra(&error) => {
            session.terminal.note(&format!("{error:#}; trying once more"));
            run_once(session, options, kernel)
        }
        came => came,
    }
}

/// True if the host failed during an attempt, which may not happen again. An error before the first attempt
/// would.
pub fn is_infra(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<NothingKnown>(), Some(NothingKnown::Infra(_)))
}

fn run_once(session: &Session, options: &Options, kernel: KernelSpec) -> Result<Trial> {
    let options = Options { kernels: vec![kernel], ..options.clone() };
    let ran = match run::run(session, &options) {
        Ok(Some(ran)) => ran,
        Ok(None) => {
            return Err(usage(anyhow::anyhow!("no test is selected; -E, --script or names select some")));
        }
        Err(error) if is_of_source(&error) => return Ok(Trial::Unbuildable { error: format!("{error:#}") }),
        Err(error) => return Err(error),
    };
    trial_of(&ran)
}

/// The trial made of a run; an error if the host, the harness or the user ended it.
fn trial_of(ran: &FinishedRun) -> Result<Trial> {
    if ran.record.end != RunEnd::Finished {
        return Err(NothingKnown::Interrupted.into());
    }
    // Each try counts on its own: the worst of several need not be the failure that is searched for.
    let tries = ran.judged.iter().flat_map(Judged::each_try);
    let seen: Result<Vec<_>, _> = tries.map(|judged| Sighting::of(&ran.record, &judged)).collect();
    let seen =
        seen.with_context(|| format!("nothing is known of this kernel; logs: `{}`", ran.dir.display()))?;
    Ok(Trial::Ran { run: ran.dir.display().to_string(), seen })
}

/// True for an error in the kernel's source: another commit may be fine.
fn is_of_source(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| Fault::of(cause) == Some(Fault::Source))
}

/// Returns an error unless the disk of `path` has `needed_mib` MiB free.
pub fn check_room(path: &Path, needed_mib: u64) -> Result<()> {
    let disk = rustix::fs::statvfs(path)
        .with_context(|| format!("failed to ask for the room of the disk of `{}`", path.display()))?;
    let free_mib = (disk.f_bavail * disk.f_frsize) >> 20;
    if free_mib >= needed_mib {
        return Ok(());
    }
    Err(usage(anyhow::anyhow!(
        "the disk of `{}` is too small for a search: that takes {needed_mib} MiB, and {free_mib} MiB are left; \
         `cargo xtask clean` frees some, --store names another place",
        path.display()
    )))
}

/// Growth of the store during a search, MiB (estimate).
pub fn room_needed_mib(source: &KernelSource, n_steps: u32) -> u64 {
    match source {
        // Modules of each step, and cached build folders, which the store limits.
        KernelSource::Commits { overlay: Some(_), .. } => 2048,
        KernelSource::Commits { overlay: None, .. } => 6144,
        KernelSource::Published => 300 * u64::from(n_steps + 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_kernels_as_a_user_would_name_them() {
        let commits = |overlay: Option<&str>| {
            let overlay = overlay.map(|base| base.parse().unwrap());
            KernelSource::Commits { tree: "/no/linux".into(), overlay, paths: vec![] }
        };
        for (source, id, text) in [
            (KernelSource::Published, "6.12.107+deb13-cloud-amd64", "deb:6.12.107+deb13-cloud-amd64"),
            (commits(Some("deb:6.12")), "0a1b", "deb:6.12+md:/no/linux@0a1b"),
            (commits(None), "0a1b", "git:/no/linux@0a1b"),
        ] {
            let kernel = spec(&source, id);
            assert_eq!(kernel.to_string(), text);
            assert_eq!(text.parse::<KernelSpec>().unwrap(), kernel);
        }
    }
}
