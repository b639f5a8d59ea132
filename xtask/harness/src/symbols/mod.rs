//! Maps frames of backtraces to source lines, where debug information is available: that of an overlay
//! kernel, or in folders that the user names. Nothing is ever downloaded for it.

mod debug_info;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use object::read::ReadCache;
use protocol::event::LocatedFrame;
use protocol::evidence::ReportKind;
use reports::RunRecord;
use walkdir::WalkDir;

use debug_info::{DebugInfo, Frame};

/// Maximum number of files looked at in a folder; a kernel tree has about 100,000.
const FILES_MAX: usize = 500_000;
/// Maximum depth to which a folder is searched.
const DEPTH_MAX: usize = 16;

/// Folders that may hold `vmlinux` and modules with debug information, and the kernel release wanted.
#[derive(Clone, Debug)]
pub struct DebugFiles {
    /// The folders; the first that has a file is used.
    pub folders: Vec<PathBuf>,
    /// Release of the kernel (`uname -r`); files of other releases are ignored.
    pub release: String,
}

/// Result of looking for lines.
#[derive(Debug, Default)]
pub struct Located {
    /// Frames whose lines were found.
    pub frames: Vec<LocatedFrame>,
    /// Reasons why others were not found, where the user should know.
    pub remarks: Vec<String>,
}

/// Finds the source lines of all frames of a kernel in a run's record.
pub fn locate(record: &RunRecord, kernel_idx: u32, files: &DebugFiles) -> Located {
    let mut located = Located::default();
    let frames = frames_of(record, kernel_idx);
    if frames.is_empty() || files.folders.is_empty() {
        return located;
    }
    let mut by_module: BTreeMap<Option<&str>, Vec<(&str, Frame<'_>, bool)>> = BTreeMap::new();
    for (text, is_exact) in &frames {
        if let Some(frame) = Frame::parse(text) {
            by_module.entry(frame.module).or_default().push((text, frame, *is_exact));
        }
    }
    let index = files.index(by_module.keys().copied());
    for (module, frames) in by_module {
        let Some(path) = index.get(&module) else { continue };
        match read(path) {
            Ok(info) => located.frames.extend(frames.iter().filter_map(|(text, frame, is_exact)| {
                let places = info.locate(frame, *is_exact)?;
                Some(LocatedFrame { frame: (*text).to_owned(), places })
            })),
            Err(error) => located.remarks.push(format!("no lines from `{}`: {error:#}", path.display())),
        }
    }
    if index.is_empty() {
        let folders: Vec<_> = files.folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
        located.remarks.push(format!("no debug information of {} in {}", files.release, folders.join(", ")));
    }
    located
}

/// All frames of a kernel in a record, and whether each is the address that faulted rather than a return
/// address.
fn frames_of(record: &RunRecord, kernel_idx: u32) -> BTreeMap<&str, bool> {
    let mut frames: BTreeMap<&str, bool> = BTreeMap::new();
    for attempt in record.attempts.iter().filter(|attempt| attempt.kernel_idx == kernel_idx) {
        let of_tasks = attempt.stacks.iter().flat_map(|stack| &stack.frames);
        let unanswered = attempt.storage.iter().flat_map(|state| &state.unanswered);
        for frame in of_tasks.chain(unanswered.flat_map(|asked| &asked.frames)) {
            frames.entry(frame).or_default();
        }
        for report in &attempt.kernel_reports {
            let is_fault = matches!(report.kind, ReportKind::Oops | ReportKind::Warning | ReportKind::Bug);
            for (idx, frame) in report.frames.iter().enumerate() {
                *frames.entry(frame).or_default() |= is_fault && idx == 0;
            }
        }
    }
    frames
}

fn read(path: &Path) -> anyhow::Result<DebugInfo> {
    // A kernel with debug information takes nearly a gigabyte, of which only some parts are read.
    let cache = ReadCache::new(File::open(path)?);
    Ok(DebugInfo::parse(&cache)?)
}

impl DebugFiles {
    /// Path of the file of each module, and of the kernel itself, where the folders have them.
    fn index<'m>(
        &self,
        modules: impl Iterator<Item = Option<&'m str>>,
    ) -> BTreeMap<Option<&'m str>, PathBuf> {
        let wanted: Vec<_> = modules.collect();
        let mut index = BTreeMap::new();
        for folder in &self.folders {
            let files = WalkDir::new(folder).max_depth(DEPTH_MAX).into_iter().flatten().take(FILES_MAX);
            for file in files.filter(|file| file.file_type().is_file()) {
                let Some(name) = file.file_name().to_str() else { continue };
                let found = wanted.iter().find(|module| is_file_of(name, **module, &self.release));
                if let Some(module) = found
                    && is_of_release(file.path(), &self.release)
                {
                    index.entry(*module).or_insert_with(|| file.into_path());
                }
            }
        }
        index
    }
}

/// True for the names under which distributions and kernel trees keep a module, or the kernel.
fn is_file_of(name: &str, module: Option<&str>, release: &str) -> bool {
    let name = name.strip_suffix(".debug").unwrap_or(name);
    match module {
        Some(module) => {
            name.strip_suffix(".ko").is_some_and(|name| name.replace('-', "_") == module.replace('-', "_"))
        }
        None => name == "vmlinux" || name.strip_prefix("vmlinux-") == Some(release),
    }
}

/// False for a file in the folder of another release, `lib/modules/OTHER/…`.
fn is_of_release(path: &Path, release: &str) -> bool {
    let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    let of = parts.windows(3).find(|parts| parts[0] == "lib" && parts[1] == "modules").map(|parts| parts[2]);
    of.is_none_or(|of| of == release)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_are_found_as_distributions_keep_them() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            "usr/lib/debug/boot/vmlinux-6.12.1",
            "usr/lib/debug/lib/modules/6.12.0/kernel/drivers/md/md-mod.ko",
            "usr/lib/debug/lib/modules/6.12.1/kernel/drivers/md/md-mod.ko.debug",
            "tree/drivers/md/raid1.ko",
            "tree/drivers/md/raid1.ko.xz",
            "tree/drivers/md/raid1.o",
        ];
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let wanted = [None, Some("md_mod"), Some("raid1"), Some("raid456")];
        let debug = DebugFiles { folders: vec![dir.path().to_owned()], release: "6.12.1".to_owned() };
        let index = debug.index(wanted.into_iter());
        let found: Vec<_> = index
            .iter()
            .map(|(module, path)| (*module, path.strip_prefix(dir.path()).unwrap().to_str().unwrap()))
            .collect();
        assert_eq!(found, [(None, files[0]), (Some("md_mod"), files[2]), (Some("raid1"), files[3])]);
    }
}
