//! Loading modules, also those that take the place of the kernel's own.
//!
//! Replacements are laid over the kernel's modules before any of them is loaded, and their build ids are
//! checked: a test of other modules than the report says would be worse than none. All of it is done by a
//! test's launcher, so that a mount or a module's start that never ends is the test's, not the agent's.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::Stdio;

use protocol::program::{LoadedModule, MODULE_REFUSED, ModuleFile, ReplacedModules};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::paths::{MODPROBE, MODULES};
use crate::process::spawn;
use crate::serial::find_disks;

/// Where the image is mounted.
const IMAGE: &str = "/run/md-regress/modules";

/// Bytes of a module that its build id is looked for in, before the rest is.
const HEAD_MAX: u64 = 4096;

/// A failure as launchers report it: the error, and the action that could not be done.
type Failure = (io::Error, String);

/// Replacements as words of a command line: serial number, probe, then name, path and build id of each
/// module.
pub(crate) fn words(replaced: &ReplacedModules) -> Vec<String> {
    let files =
        replaced.modules.iter().flat_map(|ModuleFile { name, path, build_id }| [name, path, build_id]);
    [&replaced.serial, &replaced.probe].into_iter().chain(files).cloned().collect()
}

/// Reads the [`words`] of a command line.
pub(crate) fn parse(words: &[String]) -> Option<ReplacedModules> {
    let [serial, probe, files @ ..] = words else { return None };
    let modules = files.chunks_exact(3).map(|file| ModuleFile {
        name: file[0].clone(),
        path: file[1].clone(),
        build_id: file[2].clone(),
    });
    Some(ReplacedModules { serial: serial.clone(), probe: probe.clone(), modules: modules.collect() })
}

/// Puts replacements in place, and loads one of them. Returns that one as the kernel has it.
pub(crate) fn replace(replaced: &ReplacedModules) -> Result<LoadedModule, Failure> {
    let refuse = |why: String| (io::Error::from(Errno::IO), format!("use the built modules: {why}"));
    for file in &replaced.modules {
        if Path::new("/sys/module").join(&file.name).exists() {
            return Err(refuse(format!("the kernel has its own {} loaded already", file.name)));
        }
    }
    let nodes = find_disks(std::slice::from_ref(&replaced.serial))?;
    fs::create_dir_all(IMAGE).map_err(|error| (error, format!("make directory {IMAGE}")))?;
    let mount_at = |source: &str, target: &str, kind: &str, data: &str| {
        let data = CString::new(data).unwrap_or_default();
        mount(source, target, kind, MountFlags::RDONLY, data.as_c_str())
            .map_err(|error| (error.into(), format!("mount {source} ({kind}) on {target}")))
    };
    mount_at(&nodes[0], IMAGE, "squashfs", "")?;
    mount_at("overlay", MODULES, "overlay", &format!("lowerdir={IMAGE}:{MODULES}"))?;
    for file in &replaced.modules {
        let path = Path::new(MODULES).join(&file.path);
        let is_it = is_of_build(&path, &file.build_id);
        if !is_it.map_err(|error| (error, format!("read {}", path.display())))? {
            return Err(refuse(format!("{} is not of build {}", path.display(), file.build_id)));
        }
    }
    let name = &replaced.probe;
    load(name)
        .map_err(|why| (io::Error::from_raw_os_error(MODULE_REFUSED), format!("load {name}: {why}")))?;
    let note = format!("/sys/module/{name}/notes/.note.gnu.build-id");
    let bytes = fs::read(&note).map_err(|error| (error, format!("read {note}")))?;
    let build_id = build_id(&bytes).ok_or_else(|| refuse(format!("{note} makes no sense")))?;
    Ok(LoadedModule { name: name.clone(), build_id })
}

/// Loads one module. The error is modprobe's own message.
fn load(module: &str) -> Result<(), String> {
    let output = spawn::command(MODPROBE).args(["--", module]).stdout(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("cannot execute {MODPROBE}: {error}")),
    }
}

/// Loads modules. One that is missing or built in is no error: the test says what it lacks. One
/// that is there and does not load is worth a remark, which is returned, because the test may just skip.
pub(crate) fn load_all(modules: &[String]) -> Option<String> {
    if modules.is_empty() {
        return None;
    }
    // All in one process, which goes on after one that fails.
    let output = spawn::command(MODPROBE).args(["-a", "--"]).args(modules).stdout(Stdio::null()).output();
    match output {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let errors: Vec<&str> = errors.lines().filter(|line| !line.contains(" not found ")).collect();
            (!errors.is_empty()).then(|| errors.join("; "))
        }
        Err(error) => Some(format!("cannot execute {MODPROBE}: {error}")),
    }
}

/// True if a file holds this build id. The file's head is searched first, because linkers put the id there
/// and the guest pays for each byte that is read.
fn is_of_build(path: &Path, build_id: &str) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_MAX).read_to_end(&mut head)?;
    Ok(holds(&head, build_id) || holds(&fs::read(path)?, build_id))
}

/// True if bytes hold this build id; its 20 bytes are random enough to be found nowhere else.
fn holds(bytes: &[u8], build_id: &str) -> bool {
    let wanted: Option<Vec<u8>> = (0..build_id.len() / 2)
        .map(|at| u8::from_str_radix(build_id.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    wanted.is_some_and(|wanted| {
        wanted.len() >= 8 && bytes.windows(wanted.len()).any(|window| window == wanted.as_slice())
    })
}

/// The build id in a note of type `NT_GNU_BUILD_ID`, hexadecimal: three words (length of the name, length of
/// the id, type), the name "GNU" with its NUL, the id.
fn build_id(note: &[u8]) -> Option<String> {
    let word = |at: usize| Some(u32::from_ne_bytes(note.get(at..at + 4)?.try_into().ok()?));
    let length = usize::try_from(word(4)?).ok()?;
    if word(0)? != 4 || word(8)? != 3 || note.get(12..16)? != b"GNU\0" || length < 8 {
        return None;
    }
    Some(note.get(16..16_usize.checked_add(length)?)?.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> ModuleFile {
        ModuleFile { name: name.into(), path: format!("6.12/{name}.ko"), build_id: "00112233445566ff".into() }
    }

    #[test]
    fn words_come_back() {
        let replaced = ReplacedModules {
            serial: "mdr-md".into(),
            probe: "md_mod".into(),
            modules: vec![file("md_mod"), file("raid1")],
        };
        assert_eq!(parse(&words(&replaced)), Some(replaced));
        assert_eq!(parse(&[]), None);
    }

    #[test]
    fn a_file_is_known_by_its_build_id() {
        let id = [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0xff];
        let bytes = [b"\x7fELF...".as_slice(), &id, b"..."].concat();
        assert!(holds(&bytes, "00112233445566ff"));
        assert!(!holds(&bytes, "00112233445566fe"));
        for nonsense in ["", "0011", "not hexadecimal.", "é0112233445566ff"] {
            assert!(!holds(&bytes, nonsense), "{nonsense}");
        }
    }

    #[test]
    fn the_kernels_note_is_read() {
        let note = |length: u32, kind: u32| {
            let words: Vec<u8> = [4, length, kind].into_iter().flat_map(u32::to_ne_bytes).collect();
            [words.as_slice(), b"GNU\0", &[0xab; 20]].concat()
        };
        assert_eq!(build_id(&note(20, 3)), Some("ab".repeat(20)));
        for nonsense in [note(21, 3), note(u32::MAX, 3), note(20, 1), note(2, 3), vec![4, 0, 0]] {
            assert_eq!(build_id(&nonsense), None);
        }
    }
}
