//! Kernel modules of a suite's own: builds them for each kernel, and gives them to the tests that want them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use vm_images::host::progress::Progress;
use vm_images::kernel::kbuild::ModuleSources;

use crate::run::prepare::Prepared;
use crate::run::workers::Planned;
use crate::session::Session;
use crate::suite::GivenFile;

/// Builds the modules that `plan` wants (none for most suites), and adds them to its jobs.
pub(crate) fn give(session: &Session, prepared: &Prepared, plan: &mut [Planned]) -> Result<()> {
    if plan.iter().all(|planned| planned.job.own_modules.is_none()) {
        return Ok(());
    }
    let apt = session.apt()?;
    let images = session.images(&apt)?;
    for (kernel_idx, boot) in (0u32..).zip(&prepared.kernels) {
        let mut built: Vec<(&Path, Vec<GivenFile>)> = Vec::new();
        let of_kernel = plan.iter_mut().filter(|planned| planned.attempt.kernel_idx == kernel_idx);
        for planned in of_kernel {
            let Some(folder) = &planned.job.own_modules else { continue };
            let known = built.iter().position(|(of, _)| *of == folder);
            let idx = match known {
                Some(idx) => idx,
                None => {
                    let name = folder.display().to_string();
                    let sources = ModuleSources::folder(&format!("modules of {name}"), "canary", folder)?;
                    let modules = images.build_modules(&boot.kernel, &sources)?;
                    built.push((folder, read(&modules.path(""))?));
                    built.len() - 1
                }
            };
            planned.job.files.extend(built[idx].1.clone());
        }
    }
    session.terminal.end_step();
    Ok(())
}

fn read(folder: &Path) -> Result<Vec<GivenFile>> {
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read `{}`", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "ko") {
            let content = fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push(GivenFile { name, mode: 0o600, content });
        }
    }
    Ok(files)
}
